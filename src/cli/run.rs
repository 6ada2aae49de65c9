//! `athena run`: runs and their records.

use super::exec::report;
use super::output::{escape, field, pretty};
use super::session::Session;
use super::{Done, written};
use serde_json::{Value, json};

/// List, show, resume and cancel runs
#[derive(Debug, clap::Args)]
pub(crate) struct Run {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Runs, newest first
    List {
        /// Only with this status, such as running or approval_required
        #[arg(long)]
        status: Option<String>,
        /// Only of this session
        #[arg(long)]
        session: Option<String>,
        /// At most this many
        #[arg(short = 'n', long, default_value_t = 20)]
        limit: u32,
    },
    /// A run with its record
    Show {
        /// The run
        id: String,
    },
    /// Go on with a run that was interrupted or has been approved
    Resume {
        /// The run
        id: String,
        /// What to do about a call whose outcome is not known
        #[arg(long, value_parser = ["repeat", "fail"])]
        uncertain: Option<String>,
    },
    /// Stop a run; what it has done stays done
    Cancel {
        /// The run
        id: String,
    },
}

impl Run {
    pub(crate) async fn run(self, session: &Session) -> Done {
        match self.command {
            Command::List { status, session: name, limit } => {
                let mut params = json!({ "limit": limit });
                put(&mut params, "status", status);
                put(&mut params, "session", name);
                let runs = session.call("run/list", params).await?;
                let runs = runs.as_array().cloned().unwrap_or_default();
                written(session.out.rows(&runs, &["run", "status", "language", "started", "code"], |run| {
                    vec![
                        field(run, "/run"),
                        field(run, "/status"),
                        field(run, "/language"),
                        field(run, "/started"),
                        field(run, "/code"),
                    ]
                }))
            }
            Command::Show { id } => {
                let detail = session.call("run/show", json!({ "run": id })).await?;
                written(session.out.value(&detail, record))
            }
            Command::Resume { id, uncertain } => {
                let mut params = json!({ "run": id });
                put(&mut params, "uncertain", uncertain);
                report(&session.out, &session.call("run/resume", params).await?)
            }
            Command::Cancel { id } => {
                let cancelled = session.call("run/cancel", json!({ "run": id })).await?;
                written(
                    session
                        .out
                        .value(&cancelled, |it| format!("{} {}", field(it, "/run"), field(it, "/status"))),
                )
            }
        }
    }
}

/// A run's record as people read it: the code as it stands, the rest as JSON.
fn record(detail: &Value) -> String {
    let mut rest = detail.clone();
    let code = rest.as_object_mut().and_then(|object| object.shift_remove("code"));
    match code.as_ref().and_then(Value::as_str) {
        Some(code) => format!("{}\n\n{}", escape(code.trim_end()), pretty(&rest)),
        None => pretty(detail),
    }
}

fn put(params: &mut Value, name: &str, value: Option<String>) {
    if let (Some(value), Some(object)) = (value, params.as_object_mut()) {
        object.insert(name.to_owned(), value.into());
    }
}
