//! `athena sandbox`: what agent code may use up, and how it is held on this machine.

use super::output::field;
use super::session::Session;
use super::{Done, written};
use athena_actors::sandbox::Worker;
use athena_actors::sandbox::presets::{NAMES, Preset};
use athena_schemas::refusal::{Code, Refusal};
use athena_schemas::risk::Risk;
use serde_json::{Value, json};

/// What agent code may use up, and how it is held here
#[derive(Debug, clap::Args)]
pub(crate) struct Sandbox {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// The presets, with the limits of a run of low risk
    Presets,
    /// The limits at each risk; of the preset in use, another one, or a TOML file, which is validated
    Show {
        /// A preset's name, or the path of a TOML file
        preset: Option<String>,
    },
    /// The layers of the jail that hold on this machine, and the engines that start in it
    Doctor,
}

impl Sandbox {
    pub(crate) async fn run(self, session: &Session) -> Done {
        match self.command {
            Command::Presets => {
                let presets = NAMES.iter().map(|name| Preset::named(name)).collect::<Result<Vec<_>, _>>()?;
                limits(
                    session,
                    "preset",
                    presets.iter().map(|preset| (preset.name.clone(), preset, Risk::Low)),
                )
            }
            Command::Show { preset } => {
                let name = match preset {
                    Some(name) => name,
                    None => session.config()?.sandbox.preset,
                };
                let preset = Preset::load(&name)?;
                let risks = [Risk::Low, Risk::Medium, Risk::High, Risk::Critical];
                limits(session, "risk", risks.into_iter().map(|risk| (risk.to_string(), &preset, risk)))
            }
            Command::Doctor => doctor(session).await,
        }
    }
}

/// Limits as a table: a row a preset, or a row a risk.
fn limits<'a>(
    session: &Session,
    first: &'static str,
    rows: impl Iterator<Item = (String, &'a Preset, Risk)>,
) -> Done {
    const COLUMNS: [&str; 7] =
        ["wall_ms", "cpu_ms", "memory_mb", "calls", "result_bytes", "source_bytes", "log_bytes"];
    let rows = rows
        .map(|(name, preset, risk)| {
            let mut row = serde_json::to_value(preset.at(risk))
                .map_err(|error| Refusal::internal(format!("the limits cannot be shown: {error}")))?;
            if let Some(row) = row.as_object_mut() {
                row.insert(first.into(), json!(name));
            }
            Ok(row)
        })
        .collect::<Result<Vec<Value>, Refusal>>()?;
    let columns: Vec<&str> = std::iter::once(first).chain(COLUMNS).collect();
    let cells = |row: &Value| columns.iter().map(|name| field(row, &format!("/{name}"))).collect();
    written(session.out.rows(&rows, &columns, cells))
}

/// Starts a worker of each kind, as a run would, and says how it is held.
async fn doctor(session: &Session) -> Done {
    let config = session.config()?.sandbox;
    let sandbox = crate::system::sandbox(&config)?;
    let worker = sandbox.worker().await?;
    let mut rows = vec![held("built in", &worker)];
    let level = worker.ready().level.clone();
    let python = sandbox.python(worker).await;
    rows.push(if python.is_python() {
        held("python of the host", &python)
    } else {
        json!({"kind": "python of the host", "level": "", "layers": "", "engines": "",
            "try": "install python3, or name one in sandbox.python"})
    });
    rows.push(match sandbox.deno(python).await {
        Ok(deno) => held("Deno of the host", &deno),
        Err(refusal) => json!({"kind": "Deno of the host", "level": "", "layers": "", "engines": "",
            "try": format!("{}; {}", refusal.message, refusal.hint)}),
    });
    rows.push(match crate::types::find(&config.checker) {
        Ok(program) => {
            json!({"kind": "types of TypeScript", "level": "", "layers": "", "engines": program.display().to_string()})
        }
        Err(refusal) => {
            json!({"kind": "types of TypeScript", "level": "", "layers": "", "engines": "", "try": refusal.hint})
        }
    });
    let cells = |row: &Value| {
        ["kind", "level", "engines", "layers"].map(|name| field(row, &format!("/{name}"))).into()
    };
    written(session.out.rows(&rows, &["worker", "level", "engines", "layers"], cells))?;
    if level == "none" {
        session.out.refusal(
            &Refusal::new(Code::Unavailable, "nothing but the language keeps hostile code in here")
                .hint("a kernel with seccomp, or a virtual machine around it"),
        );
        return Ok(1);
    }
    Ok(0)
}

fn held(kind: &str, worker: &Worker) -> Value {
    let ready = worker.ready();
    json!({
        "kind": kind,
        "level": ready.level,
        "engines": ready.engines.join(", "),
        "layers": ready.layers.join(" "),
    })
}
