//! Given, when, then for a layer: no actor, no log, the real parser and the real decider.

use crate::decider::Decider;
use athena_schemas::context::Context;
use athena_schemas::envelope::{Author, Family, Meta};
use athena_schemas::id::{CommandId, Id};
use athena_schemas::refusal::Refusal;
use serde_json::Value;

/// A layer in a test: what it decided so far, and the context of what comes next.
pub(crate) struct Layer<D: Decider> {
    pub(crate) cx: Context,
    pub(crate) state: D,
    pub(crate) log: Vec<(Meta, Vec<u8>, athena_schemas::envelope::Kind, u8)>,
    parse: fn(&str, Value) -> D::Command,
    commands: u8,
}

impl<D: Decider> Layer<D> {
    pub(crate) fn new(parse: fn(&str, Value) -> D::Command) -> Self {
        Self { cx: Context::example(), state: D::default(), log: Vec::new(), parse, commands: 0 }
    }

    /// Decides a command and folds its events, as the actor does.
    pub(crate) fn when(&mut self, op: &str, params: Value) -> Result<(Vec<D::Event>, Value), Refusal> {
        self.commands = self.commands.wrapping_add(1);
        let mut cx = Context::new(
            self.cx.now_ms + u64::from(self.commands),
            self.cx.caller.clone(),
            self.cx.scope.clone(),
            CommandId([self.commands; 16]),
        );
        cx.evidence = self.cx.evidence.clone();
        let decision = self.state.decide(&cx, (self.parse)(op, params))?;
        let meta = Meta {
            at_ms: cx.now_ms,
            scope: cx.scope.clone(),
            author: Author {
                party: cx.caller.party,
                channel: cx.caller.channel,
                name: cx.caller.name.clone(),
            },
            command: cx.command,
            run: None,
            key: None,
        };
        for event in &decision.events {
            let (kind, schema, bytes) = event.encode().unwrap();
            self.log.push((meta.clone(), bytes, kind, schema));
            self.state.evolve(&meta, event);
        }
        Ok((decision.events, decision.answer))
    }

    /// The state folded anew from what can still be read: without the events that `holds` says hold something of what the
    /// tombstones behind them erased.
    pub(crate) fn replayed_without(
        &self,
        holds: impl Fn(&D::Event, &dyn Fn(&Id) -> bool) -> bool,
        tombstone: impl Fn(&D::Event) -> Vec<Id>,
    ) -> D {
        let events: Vec<_> = self
            .log
            .iter()
            .filter_map(|(meta, bytes, kind, schema)| {
                Some((meta, D::Event::decode(*kind, *schema, bytes).unwrap()?))
            })
            .collect();
        let mut state = D::default();
        for (n, (meta, event)) in events.iter().enumerate() {
            let erased: Vec<Id> = events.iter().skip(n).flat_map(|(_, later)| tombstone(later)).collect();
            if !holds(event, &|id| erased.contains(id)) {
                state.evolve(meta, event);
            }
        }
        state
    }

    /// The state folded anew from the bytes of all that was recorded.
    pub(crate) fn replayed(&self) -> D {
        let mut state = D::default();
        for (meta, bytes, kind, schema) in &self.log {
            if let Some(event) = D::Event::decode(*kind, *schema, bytes).unwrap() {
                state.evolve(meta, &event);
            }
        }
        state
    }
}
