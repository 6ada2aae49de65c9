//! `athena forget`: hides memories, or erases them for ever.

use super::output::field;
use super::session::Session;
use super::{Done, written};
use athena_schemas::id::Id;
use athena_schemas::refusal::{Code, Refusal};
use serde_json::{Value, json};

/// Forget memories by id: hidden, or with --purge erased for ever
#[derive(Debug, clap::Args)]
pub(crate) struct Forget {
    /// Their ids: episodes (ep_…), facts (fa_…), tasks (ta_…), goals (go_…), triggers (tr_…), entities (en_…); with --purge
    /// edges (ed_…) and procedures (pr_…) as well
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
        let calls = calls(&self.ids, self.purge)?;
        if self.dry_run {
            let found = json!({ "would_forget": self.ids, "purge": self.purge });
            return written(session.out.value(&found, |_| format!("would forget {}", self.ids.join(", "))));
        }
        if self.purge && !session.confirm(&format!("Erase {} for ever?", self.ids.join(", ")))? {
            return Err(Refusal::new(Code::Cancelled, "nothing was erased"));
        }
        let mode = if self.purge { "erase" } else { "hide" };
        let mut answers = Vec::new();
        for (op, params) in calls {
            answers.push(session.call(op, params).await?);
        }
        // What changes one item says which; what changes several says how many.
        let counted = |answer: &Value| {
            ["matched", "changed"].iter().find_map(|name| answer.get(*name)?.as_u64()).unwrap_or(1)
        };
        let count: u64 = answers.iter().map(counted).sum();
        let seq = answers.iter().filter_map(|answer| answer.get("seq")?.as_u64()).max();
        let done = json!({ "forgotten": count, "mode": mode, "seq": seq });
        written(session.out.value(&done, |done| {
            format!("{} forgotten ({mode}) at position {}", field(done, "/forgotten"), field(done, "/seq"))
        }))
    }
}

/// The calls that forget these items, each layer's own.
fn calls(ids: &[String], purge: bool) -> Result<Vec<(&'static str, Value)>, Refusal> {
    if purge {
        let known = ["ep", "fa", "ta", "go", "tr", "en", "ed", "pr"];
        return match ids.iter().find(|id| !known.contains(&Id::from_text(id.as_str()).prefix())) {
            Some(id) => Err(no_memory(id)),
            None => Ok(vec![("store/erase_items", json!({ "ids": ids }))]),
        };
    }
    let (mut episodes, mut facts, mut calls) = (Vec::new(), Vec::new(), Vec::new());
    for id in ids {
        match Id::from_text(id.as_str()).prefix() {
            "ep" => episodes.push(id),
            "fa" => facts.push(id),
            "ta" => {
                calls.push(("prospective/update_task", json!({ "id": id, "patch": { "status": "dropped" } })))
            }
            "go" => {
                calls.push(("prospective/update_goal", json!({ "id": id, "patch": { "status": "dropped" } })))
            }
            "tr" => calls.push(("prospective/remove_trigger", json!({ "id": id }))),
            "en" => calls.push(("graph/delete_entity", json!({ "id": id }))),
            "ed" => {
                return Err(Refusal::invalid(format!(
                    "{id} is an edge: it ends at a time and is not hidden"
                ))
                .hint("athena call graph/invalidate_edge, or --purge to erase it"));
            }
            "pr" => {
                return Err(Refusal::invalid(format!("{id} is a procedure: it is archived by its name"))
                    .hint("athena call procedural/archive, or --purge to erase it"));
            }
            _ => return Err(no_memory(id)),
        }
    }
    if !episodes.is_empty() {
        calls.push(("episodic/forget", json!({ "sel": { "ids": episodes }, "mode": "hide" })));
    }
    if !facts.is_empty() {
        calls.push(("semantic/discard", json!({ "ids": facts, "mode": "hide" })));
    }
    Ok(calls)
}

/// Why an id cannot be forgotten, and what to do instead.
fn no_memory(id: &str) -> Refusal {
    if id.starts_with("run_") {
        return Refusal::invalid(format!("{id} is the record of a run, no memory")).hint(
            "it goes with the memories it quotes when those are erased; athena undo takes back what it did",
        );
    }
    Refusal::invalid(format!("{id} is no memory's id"))
        .hint("ids begin with ep_, fa_, ta_, go_, tr_, en_, ed_ or pr_; athena recall shows them")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_has_its_layer_s_own_way_or_a_reason() {
        let ops = |ids: &[&str], purge: bool| -> Result<Vec<&'static str>, Refusal> {
            let ids: Vec<String> = ids.iter().map(|id| (*id).to_owned()).collect();
            Ok(calls(&ids, purge)?.into_iter().map(|(op, _)| op).collect())
        };
        let hidden = ops(&["ta_1", "ep_1", "tr_1", "en_1", "fa_1", "ep_2"], false).unwrap();
        let expected = [
            "prospective/update_task",
            "prospective/remove_trigger",
            "graph/delete_entity",
            "episodic/forget",
            "semantic/discard",
        ];
        assert_eq!(hidden, expected);
        assert_eq!(ops(&["ta_1", "ed_1", "pr_1", "ep_1"], true).unwrap(), ["store/erase_items"]);
        assert_eq!(ops(&["ta_1", "run_1"], true).unwrap_err().code, Code::Invalid);
        for id in ["ed_1", "pr_1", "run_1", "nonsense"] {
            let refusal = ops(&[id], false).unwrap_err();
            assert!(refusal.code == Code::Invalid && !refusal.hint.is_empty(), "{refusal}");
        }
    }
}
