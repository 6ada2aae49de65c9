//! `athena forget`: hides memories, or erases them for ever.

use super::output::field;
use super::session::Session;
use super::{Done, written};
use athena_schemas::refusal::{Code, Refusal};
use serde_json::{Value, json};

/// Forget memories by id: hidden, or with --purge erased for ever
#[derive(Debug, clap::Args)]
pub(crate) struct Forget {
    /// Their ids, such as ep_… or fa_…
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
    /// Destroy the content for ever; nothing brings it back
    #[arg(long)]
    purge: bool,
    /// Only say what would be forgotten
    #[arg(long)]
    dry_run: bool,
}

impl Forget {
    pub(crate) async fn run(self, session: &Session) -> Done {
        let (events, facts): (Vec<String>, Vec<String>) =
            self.ids.iter().cloned().partition(|id| id.starts_with("ep_"));
        if let Some(other) = facts.iter().find(|id| !id.starts_with("fa_")) {
            return Err(Refusal::invalid(format!("{other} is neither an event nor a fact"))
                .hint("ids begin with ep_ or fa_; athena recall shows them"));
        }
        if self.dry_run {
            let found = json!({ "would_forget": self.ids, "purge": self.purge });
            return written(session.out.value(&found, |_| format!("would forget {}", self.ids.join(", "))));
        }
        if self.purge && !session.confirm(&format!("Erase {} for ever?", self.ids.join(", ")))? {
            return Err(Refusal::new(Code::Cancelled, "nothing was erased"));
        }
        let mode = if self.purge { "erase" } else { "hide" };
        let mut answers = Vec::new();
        if !events.is_empty() {
            let params = json!({ "sel": { "ids": events }, "mode": mode });
            answers.push(session.call("episodic/forget", params).await?);
        }
        if !facts.is_empty() {
            answers.push(session.call("semantic/discard", json!({ "ids": facts, "mode": mode })).await?);
        }
        let counted =
            |answer: &Value| ["matched", "changed"].iter().find_map(|name| answer.get(*name)?.as_u64());
        let count: u64 = answers.iter().filter_map(counted).sum();
        let seq = answers.iter().filter_map(|answer| answer.get("seq")?.as_u64()).max();
        let done = json!({ "forgotten": count, "mode": mode, "seq": seq });
        written(session.out.value(&done, |done| {
            format!("{} forgotten ({mode}) at position {}", field(done, "/forgotten"), field(done, "/seq"))
        }))
    }
}
