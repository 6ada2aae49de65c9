//! `athena approvals`, `approve` and `deny`: what waits for a person.

use super::output::{escape, field};
use super::session::Session;
use super::{Done, written};
use serde_json::{Value, json};

/// What waits for a person
#[derive(Debug, clap::Args)]
pub(crate) struct Approvals {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Those that wait, or all
    List {
        /// Answered and expired ones, too
        #[arg(long)]
        all: bool,
    },
    /// One, with all that a yes would bind
    Show {
        /// The approval
        id: String,
    },
}

/// Say yes, once, to exactly what was asked
#[derive(Debug, clap::Args)]
pub(crate) struct Approve {
    /// The approval, or the run that waits for it
    id: String,
    /// Why, for the record
    #[arg(long)]
    note: Option<String>,
}

/// Say no; the reason reaches the agent
#[derive(Debug, clap::Args)]
pub(crate) struct Deny {
    /// The approval, or the run that waits for it
    id: String,
    /// Why
    #[arg(long)]
    reason: String,
}

impl Approvals {
    pub(crate) async fn run(self, session: &Session) -> Done {
        match self.command.unwrap_or(Command::List { all: false }) {
            Command::List { all } => {
                let waiting = session.call("approval/list", json!({ "all": all })).await?;
                let waiting = waiting.as_array().cloned().unwrap_or_default();
                let columns = ["id", "standing", "level", "asked by", "expires", "what"];
                written(session.out.rows(&waiting, &columns, |it| {
                    ["/id", "/standing", "/level", "/requested_by", "/expires", "/summary"]
                        .map(|path| field(it, path))
                        .into()
                }))
            }
            Command::Show { id } => {
                let shown = session.call("approval/show", json!({ "id": id })).await?;
                written(session.out.value(&shown, whole))
            }
        }
    }
}

impl Approve {
    pub(crate) async fn run(self, session: &Session) -> Done {
        let id = approval(session, &self.id).await?;
        let state = session.call("approval/grant", json!({ "id": id, "note": self.note })).await?;
        written(session.out.value(&state, |state| match field(state, "/run") {
            run if run.is_empty() => format!("{id} granted"),
            run => format!("{id} granted; try: athena run resume {run}"),
        }))
    }
}

impl Deny {
    pub(crate) async fn run(self, session: &Session) -> Done {
        let id = approval(session, &self.id).await?;
        let state = session.call("approval/deny", json!({ "id": id, "reason": self.reason })).await?;
        written(session.out.value(&state, |_| format!("{id} denied")))
    }
}

/// The approval that is meant: itself, or the one a run waits for.
async fn approval(session: &Session, id: &str) -> Result<String, athena_schemas::refusal::Refusal> {
    if !id.starts_with("run_") {
        return Ok(id.to_owned());
    }
    let run = session.call("run/show", json!({ "run": id })).await?;
    let approval = field(&run, "/approval");
    if approval.is_empty() {
        let refusal = athena_schemas::refusal::Refusal::conflict(format!("{id} waits for no approval"));
        return Err(refusal.hint(format!("athena run show {id}")));
    }
    Ok(approval)
}

/// Everything that a yes would bind, as a person reads it before saying it.
fn whole(shown: &Value) -> String {
    let mut text = format!(
        "{}  {}  risk {}\nasked by {} at {}, expires {}\n{}",
        field(shown, "/id"),
        field(shown, "/standing"),
        field(shown, "/level"),
        field(shown, "/requested_by"),
        field(shown, "/requested"),
        field(shown, "/expires"),
        field(shown, "/summary"),
    );
    for reason in shown.get("reasons").and_then(Value::as_array).into_iter().flatten() {
        text.push_str(&format!("\n  because {}", field(reason, "")));
    }
    text.push_str("\n\n");
    for line in field(shown, "/shown").lines() {
        text.push_str(&format!("  | {}\n", escape(line)));
    }
    text
}
