//! The store layer: a record of what left, what came in and what was erased. The work itself is composed by the root.

use crate::decider::Decider;
use athena_schemas::context::Context;
use athena_schemas::envelope::Meta;
use athena_schemas::layers::store::*;
use athena_schemas::operation::Decision;
use athena_schemas::refusal::Refusal;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Nothing: these are records, no later decision depends on them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {}

impl Decider for State {
    const LAYER: &'static str = LAYER;
    const SNAPSHOT: u32 = 1;
    type Command = Command;
    type Event = Event;

    fn decide(&self, cx: &Context, command: Command) -> Result<Decision<Event, Value>, Refusal> {
        Commands::decide(self, cx, command)
    }

    fn evolve(&mut self, _: &Meta, _: &Event) {}
}

impl Commands for State {
    fn note_export(&self, _: &Context, op: NoteExport) -> Result<Decision<Event, Noted>, Refusal> {
        let event = Exported { path: op.path, count: op.count, sha256: op.sha256 };
        Ok(Decision::one(event, Noted { seq: 0 }))
    }

    fn note_import(&self, _: &Context, op: NoteImport) -> Result<Decision<Event, Noted>, Refusal> {
        Ok(Decision::one(Imported { path: op.path, ids: op.ids }, Noted { seq: 0 }))
    }

    fn note_undo(&self, _: &Context, op: NoteUndo) -> Result<Decision<Event, Noted>, Refusal> {
        let event = Undone { target: op.target, undone: op.undone, by: op.by };
        Ok(Decision::one(event, Noted { seq: 0 }))
    }

    fn note_items_erased(&self, _: &Context, op: NoteItemsErased) -> Result<Decision<Event, Noted>, Refusal> {
        Ok(Decision::one(ItemsErased { ids: op.ids }, Noted { seq: 0 }))
    }

    fn note_erasure(&self, _: &Context, op: NoteErasure) -> Result<Decision<Event, Noted>, Refusal> {
        let event = ScopeErased { scope: op.scope, erased: op.erased, keys: op.keys };
        Ok(Decision::one(event, Noted { seq: 0 }))
    }
}
