//! The rag layer: what was found is judged by its use. The state is empty; what a judgement teaches is folded by the read side.

use super::check;
use crate::decider::Decider;
use athena_schemas::context::Context;
use athena_schemas::envelope::Meta;
use athena_schemas::layers::rag::*;
use athena_schemas::operation::Decision;
use athena_schemas::refusal::Refusal;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Nothing: a judgement depends on nothing that was judged before.
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

    fn evolve(&mut self, _: &Meta, event: &Event) {
        match event {
            Event::Judged(_) => {}
        }
    }
}

impl Commands for State {
    fn feedback(&self, cx: &Context, op: Feedback) -> Result<Decision<Event, Learned>, Refusal> {
        let query = check::text("query", op.query)?;
        for (field, ids) in [("used", &op.used), ("unused", &op.unused)] {
            if !ids.is_empty() {
                check::count(field, ids.len(), IDS)?;
            }
        }
        if op.used.is_empty() && op.unused.is_empty() {
            return Err(Refusal::invalid("neither `used` nor `unused` names an item").at("used"));
        }
        if let Some(both) = op.used.iter().find(|id| op.unused.contains(id)) {
            return Err(Refusal::invalid(format!("{both} cannot be both used and unused")).at("unused"));
        }
        let lessons: Vec<Lesson> = match &cx.evidence.proposal {
            Some(proposal) => serde_json::from_value(proposal.clone())
                .map_err(|error| Refusal::internal(format!("the read side's lessons do not fit: {error}")))?,
            None => Vec::new(),
        };
        let learned = Learned { signals: lessons.len() as u32, seq: 0 };
        let judged = Judged { query, used: op.used, unused: op.unused, lessons };
        Ok(Decision::one(judged, learned))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Layer;
    use super::*;
    use serde_json::json;

    fn layer() -> Layer<State> {
        Layer::new(|op, params| match parse(op, params) {
            Some(Ok(Call::Command(command))) => command,
            other => panic!("{op} is no command of this layer: {other:?}"),
        })
    }

    #[test]
    fn a_judgement_is_recorded_with_what_the_read_side_saw() {
        let mut rag = layer();
        rag.cx.evidence.proposal = Some(json!([{"signal": "Words", "gain": 120}]));
        let (events, answer) =
            rag.when("feedback", json!({"query": "kettle", "used": ["ep_1"], "unused": ["ep_2"]})).unwrap();
        assert_eq!(answer, json!({"signals": 1, "seq": 0}));
        let Event::Judged(judged) = &events[0];
        assert_eq!(judged.lessons, [Lesson { signal: Signal::Words, gain: 120 }]);
    }

    #[test]
    fn a_judgement_must_name_items_and_not_contradict_itself() {
        let mut rag = layer();
        assert_eq!(
            rag.when("feedback", json!({"query": "kettle", "used": []})).unwrap_err().path.as_deref(),
            Some("used")
        );
        let (events, _) = rag.when("feedback", json!({"query": "kettle", "used": ["ep_1"]})).unwrap();
        assert_eq!(events.len(), 1, "what was not used need not be named");
        let both = rag.when("feedback", json!({"query": "kettle", "used": ["ep_1"], "unused": ["ep_1"]}));
        assert_eq!(both.unwrap_err().path.as_deref(), Some("unused"));
        let many: Vec<String> = (0..=IDS).map(|n| format!("ep_{n}")).collect();
        assert!(rag.when("feedback", json!({"query": "kettle", "used": many})).is_err());
    }
}
