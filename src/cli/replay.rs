//! `athena replay`: the store rebuilt from its log, as it is or as it stood, compared and made anew; or one run executed again
//! offline.

use super::output::{Style, escape, field, pretty};
use super::session::Session;
use super::{Done, written};
use crate::files::absolute;
use crate::filter::{Edge, edge};
use athena_schemas::envelope::Seq;
use athena_schemas::refusal::{Code, Refusal};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Rebuild from the log: compare, look back, make a store of the past; or execute a run again offline
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what"))]
pub(crate) struct Replay {
    /// Rebuild every projection from position 0 and compare its digest with the live one
    #[arg(long, group = "what", conflicts_with = "until")]
    verify: bool,
    /// Execute this run again from its record, touching nothing
    #[arg(long, group = "what", value_name = "ID")]
    run: Option<String>,
    /// What changed in layers and read models between two positions or times
    #[arg(long, group = "what", value_name = "A..B", conflicts_with = "until")]
    diff: Option<String>,
    /// Make a store in this folder as it stood at --until (or stands now); it has the keys, too
    #[arg(long, group = "what", value_name = "DIR")]
    into: Option<PathBuf>,
    /// Stop at this position or time: every layer and read model as it stood; with --run, after this call
    #[arg(long, value_name = "SEQ|TIME|CALL")]
    until: Option<String>,
    /// Show calls, values and log lines
    #[arg(long, requires = "run")]
    step: bool,
}

impl Replay {
    pub(crate) async fn run(self, session: &Session) -> Done {
        session.only_now("a replay")?;
        match (&self.run, &self.diff, &self.into, &self.until) {
            (Some(run), ..) => self.execute(session, run).await,
            (_, Some(range), ..) => difference(session, range).await,
            (_, _, Some(folder), until) => into(session, folder, until.as_deref()).await,
            _ if self.verify => verify(session).await,
            (.., Some(until)) => standing(session, until).await,
            _ => {
                Err(Refusal::invalid("say what to replay").hint("--verify, --until, --diff, --into or --run"))
            }
        }
    }

    async fn execute(&self, session: &Session, run: &str) -> Done {
        let until: Option<u32> = self
            .until
            .as_deref()
            .map(str::parse)
            .transpose()
            .map_err(|_| Refusal::invalid("with --run, --until is the number of a call").at("--until"))?;
        let params = json!({ "run": run, "step": self.step, "until": until });
        let replayed = session.call("run/replay", params).await?;
        written(session.out.value(&replayed, |replayed| self.told(replayed)))?;
        Ok(exit(replayed.get("identical") == Some(&json!(true))))
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

/// The position that a position or a time names: the last one up to then.
async fn position(session: &Session, text: &str) -> Result<Seq, Refusal> {
    match edge(text)? {
        Edge::Seq(seq) => Ok(seq),
        Edge::Ms(at_ms) => {
            let found = session.call("log/position", json!({ "at_ms": at_ms })).await?;
            Ok(found.get("seq").and_then(Value::as_u64).unwrap_or(0))
        }
    }
}

async fn head(session: &Session) -> Result<Seq, Refusal> {
    let page = session.call("log/read", json!({ "limit": 1, "after": u64::MAX })).await?;
    Ok(page.get("head").and_then(Value::as_u64).unwrap_or(0))
}

/// Every part as it stood.
async fn standing(session: &Session, until: &str) -> Done {
    let seq = position(session, until).await?;
    let parts = session.work("replaying", "log/standing", json!({ "seq": seq })).await?;
    let parts = parts.as_array().cloned().unwrap_or_default();
    written(session.out.rows(&parts, &["part", "kind", "position", "digest"], |it| {
        let digest = field(it, "/digest").chars().take(16).collect();
        vec![field(it, "/part"), field(it, "/kind"), field(it, "/seq"), digest]
    }))
}

/// What changed between two positions.
async fn difference(session: &Session, range: &str) -> Done {
    let (from, to) = range.split_once("..").ok_or_else(|| {
        Refusal::invalid(format!("{range} is no range"))
            .at("--diff")
            .hint("10..25, or 2026-11-20..2026-11-21")
    })?;
    let from = if from.is_empty() { 0 } else { position(session, from).await? };
    let to = if to.is_empty() { head(session).await? } else { position(session, to).await? };
    let found = session.work("replaying", "log/difference", json!({ "from": from, "to": to })).await?;
    written(session.out.value(&found, changes))
}

fn changes(found: &Value) -> String {
    let list = |name: &str| found.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let events = found.get("events").and_then(Value::as_object).cloned().unwrap_or_default();
    let count: u64 = events.values().filter_map(Value::as_u64).sum();
    let mut text = format!("after {} up to {}: {count} events", field(found, "/from"), field(found, "/to"));
    for (kind, count) in &events {
        text.push_str(&format!("\n{count:>9}  {kind}"));
    }
    for item in list("items") {
        let sign = match field(&item, "/change").as_str() {
            "added" => "+",
            "removed" => "-",
            _ => "~",
        };
        let said = field(&item, "/said").split_whitespace().collect::<Vec<_>>().join(" ");
        let said: String = said.chars().take(72).collect();
        text.push_str(&format!("\n{sign} {:<11} {}  {said}", field(&item, "/layer"), field(&item, "/id")));
        for (name, pair) in item.get("fields").and_then(Value::as_object).into_iter().flatten() {
            let side = |at: usize| pair.get(at).map_or_else(String::new, Value::to_string);
            text.push_str(&format!("\n    {name}: {} -> {}", side(0), side(1)));
        }
    }
    let names = |name: &str| {
        let names: Vec<String> = list(name).iter().filter_map(|it| it.as_str().map(str::to_owned)).collect();
        if names.is_empty() { "none".into() } else { names.join(", ") }
    };
    text.push_str(&format!(
        "\nlayers that changed: {}\nread models that changed: {}",
        names("layers"),
        names("models")
    ));
    text
}

/// A store of the past.
async fn into(session: &Session, folder: &Path, until: Option<&str>) -> Done {
    let seq = match until {
        Some(until) => position(session, until).await?,
        None => head(session).await?,
    };
    let params = json!({ "folder": absolute(folder)?, "seq": seq });
    let made = session.work("materialising", "log/materialise", params).await?;
    written(session.out.value(&made, |made| {
        let folder = field(made, "/folder");
        format!(
            "{} events in {folder}, as of position {seq}\nto look at it: athena --store {folder} recall …\nit holds the keys: what \
             is erased here from now on stays readable there; remove it when you are done",
            field(made, "/events"),
            folder = escape(&folder),
        )
    }))
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
