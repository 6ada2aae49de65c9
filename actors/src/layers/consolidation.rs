//! The consolidation layer: which items are pinned.

use crate::decider::Decider;
use athena_schemas::context::{Context, Scope};
use athena_schemas::envelope::Meta;
use athena_schemas::id::Id;
use athena_schemas::layers::common::{Ack, Layer};
use athena_schemas::layers::consolidation::{Command, Commands, Event, LAYER, Pin, Pinned};
use athena_schemas::operation::Decision;
use athena_schemas::refusal::Refusal;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeSet;

/// Most items one scope pins.
const PINNED: usize = 10_000;

/// Which items are pinned, by scope.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    pinned: BTreeSet<(Scope, Id)>,
}

impl Decider for State {
    const LAYER: &'static str = LAYER;
    const SNAPSHOT: u32 = 1;
    type Command = Command;
    type Event = Event;

    fn decide(&self, cx: &Context, command: Command) -> Result<Decision<Event, Value>, Refusal> {
        Commands::decide(self, cx, command)
    }

    fn evolve(&mut self, meta: &Meta, event: &Event) {
        let Event::Pinned(event) = event;
        let place = (meta.scope.clone(), event.id.clone());
        if event.pinned {
            self.pinned.insert(place);
        } else {
            self.pinned.remove(&place);
        }
    }
}

impl Commands for State {
    fn pin(&self, cx: &Context, op: Pin) -> Result<Decision<Event, Ack>, Refusal> {
        if Layer::of(&op.id).is_none() {
            return Err(Refusal::invalid(format!("{} is no memory item", op.id))
                .at("id")
                .hint("ids begin with ep_, fa_, pr_, ta_, go_, tr_, en_ or ed_"));
        }
        let here = |(scope, _): &&(Scope, Id)| *scope == cx.scope;
        if op.pinned == self.pinned.contains(&(cx.scope.clone(), op.id.clone())) {
            return Ok(Decision::nothing(Ack::duplicate(op.id)));
        }
        if op.pinned && self.pinned.iter().filter(here).count() >= PINNED {
            return Err(
                Refusal::conflict(format!("{PINNED} items are pinned already")).hint("unpin some first")
            );
        }
        let ack = Ack::of(op.id.clone());
        Ok(Decision::one(Pinned { id: op.id, pinned: op.pinned }, ack))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::testing::Layer as Tested;
    use athena_schemas::layers::consolidation::{Call, parse};
    use serde_json::json;

    #[test]
    fn an_item_is_pinned_once_and_unpinned() {
        let mut layer: Tested<State> =
            Tested::new(|name, params| match parse(name, params).unwrap().unwrap() {
                Call::Command(command) => command,
                other => panic!("{other:?} is no command"),
            });
        let pin = |pinned: bool| json!({"id": "ep_1", "pinned": pinned});
        assert_eq!(layer.when("pin", pin(true)).unwrap().0.len(), 1);
        assert!(layer.when("pin", pin(true)).unwrap().0.is_empty());
        assert_eq!(layer.when("pin", pin(false)).unwrap().0.len(), 1);
        assert_eq!(layer.state, State::default());
        assert_eq!(layer.replayed(), layer.state);
        assert!(layer.when("pin", json!({"id": "nothing", "pinned": true})).is_err());
    }
}
