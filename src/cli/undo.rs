//! `athena undo`: takes back what an event, a run, an import or an earlier undo did.

use super::session::Session;
use super::{Done, written};
use athena_schemas::refusal::{Code, Refusal};
use serde_json::{Value, json};

/// Take back what an event, a run, an import or an earlier undo did, by new events
#[derive(Debug, clap::Args)]
pub(crate) struct Undo {
    /// A position of the log, an event's id, a run (run_…), a consolidation pass (co_…), or an item: its last change
    target: String,
    /// Only say what would be taken back
    #[arg(long)]
    dry_run: bool,
    /// Take it back although the same items were changed since; the later changes are lost
    #[arg(long)]
    force: bool,
}

impl Undo {
    pub(crate) async fn run(self, session: &Session) -> Done {
        let params =
            |dry_run: bool| json!({ "target": self.target, "dry_run": dry_run, "force": self.force });
        let rehearsed = session.call("store/undo", params(true)).await?;
        if self.dry_run {
            return written(session.out.value(&rehearsed, |plan| told(plan, "would be undone")));
        }
        let count = rehearsed.get("undone").and_then(Value::as_array).map_or(0, Vec::len);
        if count > 1 {
            session.out.note(&told(&rehearsed, "will be undone"));
            if !session.confirm(&format!("Undo these {count} events?"))? {
                return Err(Refusal::new(Code::Cancelled, "nothing was undone"));
            }
        }
        let done = session.call("store/undo", params(false)).await?;
        written(session.out.value(&done, |done| told(done, "undone")))
    }
}

fn told(plan: &Value, verb: &str) -> String {
    let list = |name: &str| plan.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let text = |event: &Value, name: &str| super::output::field(event, &format!("/{name}"));
    let mut lines = Vec::new();
    for event in list("undone") {
        let by = list_of(&event, "by").join(" ");
        lines.push(format!("{:>7}  {:<26} {by}", text(&event, "seq"), text(&event, "type")));
    }
    for event in list("kept") {
        lines.push(format!(
            "{:>7}  {:<26} stays: {}",
            text(&event, "seq"),
            text(&event, "type"),
            text(&event, "why")
        ));
    }
    let (events, items) = (list("undone").len(), text(plan, "items"));
    let end = match plan.get("seq").and_then(Value::as_u64) {
        Some(seq) => format!("; to do it again: athena undo {seq}"),
        None => String::new(),
    };
    lines.push(format!(
        "{events} event{} {verb}, {items} items as before{end}",
        if events == 1 { "" } else { "s" }
    ));
    lines.join("\n")
}

fn list_of(event: &Value, name: &str) -> Vec<String> {
    let values = event.get(name).and_then(Value::as_array).into_iter().flatten();
    values.filter_map(|value| value.as_str().map(str::to_owned)).collect()
}
