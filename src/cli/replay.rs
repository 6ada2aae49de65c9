//! `athena replay`: projections rebuilt from the log and compared, or one run executed again offline.

use super::output::{Style, field, pretty};
use super::session::Session;
use super::{Done, written};
use athena_schemas::refusal::Code;
use serde_json::{Value, json};

/// Rebuild from the log and compare, or execute a run again offline
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true))]
pub(crate) struct Replay {
    /// Rebuild every projection from position 0 and compare its digest with the live one
    #[arg(long, group = "what")]
    verify: bool,
    /// Execute this run again from its record, touching nothing
    #[arg(long, group = "what", value_name = "ID")]
    run: Option<String>,
    /// Stop after this call
    #[arg(long, requires = "run", value_name = "CALL")]
    until: Option<u32>,
    /// Show calls, values and log lines
    #[arg(long, requires = "run")]
    step: bool,
}

impl Replay {
    pub(crate) async fn run(self, session: &Session) -> Done {
        match &self.run {
            Some(run) => {
                let params = json!({ "run": run, "step": self.step, "until": self.until });
                let replayed = session.call("run/replay", params).await?;
                written(session.out.value(&replayed, |replayed| self.told(replayed)))?;
                Ok(exit(replayed.get("identical") == Some(&json!(true))))
            }
            None => verify(session).await,
        }
    }

    fn told(&self, replayed: &Value) -> String {
        let mut text = if replayed.get("identical") == Some(&json!(true)) {
            format!("identical: {} calls, ended {}", field(replayed, "/calls"), field(replayed, "/status"))
        } else {
            format!(
                "diverged at call {}\n  recorded: {}\n  now:      {}",
                field(replayed, "/divergence/call"),
                field(replayed, "/divergence/expected"),
                field(replayed, "/divergence/got"),
            )
        };
        if self.step {
            for step in replayed.get("trace").and_then(Value::as_array).into_iter().flatten() {
                text.push_str(&format!("\n  {step}"));
            }
            text.push_str(&format!("\n{}", pretty(replayed.get("value").unwrap_or(&Value::Null))));
        }
        text
    }
}

async fn verify(session: &Session) -> Done {
    let compared = session.call("log/compare", Value::Null).await?;
    let compared = compared.as_array().cloned().unwrap_or_default();
    written(session.out.rows(&compared, &["projection", "position", "digest", "rebuilt"], |it| {
        let equal = it.get("equal") == Some(&json!(true));
        let short = |path: &str| field(it, path).chars().take(16).collect::<String>();
        let rebuilt = if equal { "equal".into() } else { short("/rebuilt") };
        vec![field(it, "/projection"), field(it, "/seq"), short("/live"), rebuilt]
    }))?;
    let all = !compared.is_empty() && compared.iter().all(|it| it.get("equal") == Some(&json!(true)));
    if !session.out.json && all {
        session.out.note(&session.out.paint(Style::Good, "every rebuilt projection equals the live one"));
    }
    Ok(exit(all))
}

fn exit(equal: bool) -> u8 {
    if equal { 0 } else { Code::Integrity.exit() }
}
