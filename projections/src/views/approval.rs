//! Answers of the approvals.

use super::missing;
use crate::library::Library;
use athena_schemas::context::Context;
use athena_schemas::layers::approval::{Approval, List, Queries, Show, Standing};
use athena_schemas::refusal::Refusal;

impl Queries for Library {
    fn list(&self, cx: &Context, op: List) -> Result<Vec<Approval>, Refusal> {
        let takes = |row: &crate::approvals::Row| {
            row.seen_from(&cx.scope) && (op.all || row.standing(cx.now_ms) == Standing::Pending)
        };
        Ok(self.approvals.newest(takes)?.iter().map(|row| row.item(cx.now_ms)).collect())
    }

    fn show(&self, cx: &Context, op: Show) -> Result<Approval, Refusal> {
        let row = self.approvals.get(&op.id)?.filter(|row| row.seen_from(&cx.scope));
        row.map(|row| row.item(cx.now_ms)).ok_or_else(|| missing(&op.id))
    }
}
