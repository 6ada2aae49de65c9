//! The meta layer: ratings, and which tools were named to whom. What they add up to is the read side's.

use super::check;
use crate::decider::Decider;
use athena_schemas::context::Context;
use athena_schemas::envelope::Meta;
use athena_schemas::layers::common::Ack;
use athena_schemas::layers::meta::*;
use athena_schemas::operation::Decision;
use athena_schemas::refusal::Refusal;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Nothing: whether an item exists is evidence, and every rating counts.
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
    fn rate(&self, cx: &Context, op: Rate) -> Result<Decision<Event, Ack>, Refusal> {
        if !cx.evidence.matched.contains(&op.id) {
            return Err(Refusal::not_found(format!("there is no {} in this scope", op.id))
                .hint("recall or search names the ids there are"));
        }
        let note = check::maybe_text("note", op.note)?;
        let ack = Ack::of(op.id.clone());
        Ok(Decision::one(Rated { id: op.id, useful: op.useful, note }, ack))
    }

    fn advise(&self, _: &Context, op: Advise) -> Result<Decision<Event, bool>, Refusal> {
        // Plain words alone: what carries digits or marks may name a person or a thing, and helps nobody else.
        let plain = |word: &String| word.len() <= WORD_BYTES && word.chars().all(char::is_alphabetic);
        let mut words: Vec<String> = op.words.into_iter().filter(plain).collect();
        words.sort();
        words.dedup();
        words.truncate(WORDS_MAX);
        let ops: Vec<String> = op.ops.into_iter().take(TOOLS_MAX).collect();
        if words.is_empty() || ops.is_empty() {
            return Ok(Decision::nothing(false));
        }
        Ok(Decision::one(Advised { words, ops }, true))
    }
}

/// Words of one search that are kept, and their length in bytes.
const WORDS_MAX: usize = 12;
const WORD_BYTES: usize = 32;
/// Tools of one answer that are kept.
const TOOLS_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::testing::Layer;
    use athena_schemas::id::Id;
    use athena_schemas::refusal::Code;
    use serde_json::json;

    #[test]
    fn of_a_search_plain_words_and_the_first_tools_are_kept() {
        let mut layer = Layer::<State>::new(|name, params| match parse(name, params).unwrap().unwrap() {
            Call::Command(command) => command,
            other => panic!("{other:?} is no command"),
        });
        let long = "x".repeat(40);
        let ops: Vec<String> = (0..20).map(|n| format!("kit/tool{n}")).collect();
        let advice =
            json!({"words": ["mail", "EMAIL_tk_k7f3a9cq2m", "4111", "kettl", "mail", long], "ops": ops});
        let (events, answer) = layer.when("advise", advice).unwrap();
        let kept = Advised { words: vec!["kettl".into(), "mail".into()], ops: ops[..8].to_vec() };
        assert_eq!((events, answer), (vec![Event::from(kept)], json!(true)));
        for nothing in [json!({"words": ["1"], "ops": ["a/b"]}), json!({"words": ["a"], "ops": []})] {
            let (events, answer) = layer.when("advise", nothing).unwrap();
            assert_eq!((events.len(), answer), (0, json!(false)));
        }
    }

    #[test]
    fn only_what_may_be_seen_is_rated() {
        let mut layer = Layer::<State>::new(|name, params| match parse(name, params).unwrap().unwrap() {
            Call::Command(command) => command,
            other => panic!("{other:?} is no command"),
        });
        let rating = json!({"id": "fa_1", "useful": true, "note": " "});
        assert_eq!(layer.when("rate", rating.clone()).unwrap_err().code, Code::NotFound);
        layer.cx.evidence.matched = vec![Id::from_text("fa_1")];
        let (events, _) = layer.when("rate", rating).unwrap();
        assert_eq!(events, [Event::from(Rated { id: Id::from_text("fa_1"), useful: true, note: None })]);
    }
}
