//! What is recorded of upstream servers: their configuration and the pins of their tools. A layer like any other: a state and
//! two pure functions.

use crate::decider::Decider;
use crate::upstream::definition::diff;
use athena_schemas::context::Context;
use athena_schemas::envelope::Meta;
use athena_schemas::layers::upstream::{
    Accepted, Added, Command, Commands, Declined, Done, Enrol, Entrust, Entrusted, Event, Failed, Granted,
    Held, LAYER, Note, Observe, Pin, Pinned, Quarantined, Removed, Roster, Server, Settle, Settled, Strike,
    Vanished, Verdict,
};
use athena_schemas::operation::Decision;
use athena_schemas::refusal::Refusal;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// Longest text of a note, bytes.
const NOTE_MAX: usize = 2_000;

/// Why a new name is held: pins go by names, and a poisoned tool could shed its own.
const RENAMED: &str = "name: new, and another tool of this server is gone";

/// The recorded servers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pins {
    servers: BTreeMap<String, Recorded>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Recorded {
    /// JSON of [`Server`]; `None` for a server of a configuration file.
    config: Option<String>,
    /// Tools as they were pinned or accepted.
    pins: BTreeMap<String, Pin>,
    /// Tools that came back changed, as they are now.
    held: BTreeMap<String, Pin>,
    /// Tools that are no longer offered.
    gone: Vec<String>,
    /// The vault's token of its OAuth credentials.
    credentials: Option<String>,
}

impl Recorded {
    fn verdict(&self, offered: &[Pin]) -> Verdict {
        let mut verdict = Verdict::default();
        for found in offered {
            let Some(pin) = self.pins.get(&found.tool) else {
                if self.held.contains_key(&found.tool) {
                    verdict.held.push(Held { tool: found.tool.clone(), diff: vec![RENAMED.into()] });
                }
                continue;
            };
            if pin.digest != found.digest {
                verdict
                    .held
                    .push(Held { tool: found.tool.clone(), diff: diff(&pin.definition, &found.definition) });
            } else if !pin.flags.is_empty() {
                verdict.flagged.insert(pin.tool.clone(), pin.flags.clone());
            }
        }
        verdict
    }
}

impl Commands for Pins {
    fn enrol(&self, _: &Context, op: Enrol) -> Result<Decision<Event, Done>, Refusal> {
        let config =
            serde_json::to_string(&op.config).map_err(|error| Refusal::internal(error.to_string()))?;
        let known = self.servers.get(&op.server).and_then(|server| server.config.as_ref());
        if known == Some(&config) {
            return Ok(Decision::nothing(Done::default()));
        }
        Ok(Decision::one(Added { server: op.server, config }, Done::default()))
    }

    fn strike(&self, _: &Context, op: Strike) -> Result<Decision<Event, Done>, Refusal> {
        if !self.servers.contains_key(&op.server) {
            return Err(Refusal::not_found(format!("there is no upstream {}", op.server))
                .hint("athena upstream list"));
        }
        Ok(Decision::one(Removed { server: op.server }, Done::default()))
    }

    fn observe(&self, _: &Context, op: Observe) -> Result<Decision<Event, Verdict>, Refusal> {
        let none = Recorded::default();
        let known = self.servers.get(&op.server).unwrap_or(&none);
        let gone: Vec<String> = known
            .pins
            .keys()
            .filter(|tool| !known.gone.contains(tool) && !op.tools.iter().any(|found| found.tool == **tool))
            .cloned()
            .collect();
        let renamed = !gone.is_empty() || !known.gone.is_empty();
        let mut events = Vec::new();
        let mut fresh = Vec::new();
        let mut after = known.clone();
        let mut hold = |pinned: &str, found: &Pin, diff: Vec<String>| {
            after.held.insert(found.tool.clone(), found.clone());
            let (server, pinned, found) = (op.server.clone(), pinned.to_owned(), found.clone());
            events.push(Quarantined { server, pinned, found, diff }.into());
        };
        for found in &op.tools {
            let held = known.held.get(&found.tool);
            match known.pins.get(&found.tool) {
                // Back to what it was: no longer held.
                Some(pin) if pin.digest == found.digest => {
                    let back = held.is_some() || known.gone.contains(&found.tool);
                    fresh.extend(back.then(|| pin.clone()));
                }
                _ if held.is_some_and(|held| held.digest == found.digest) => {}
                Some(pin) => hold(&pin.digest, found, diff(&pin.definition, &found.definition)),
                None if renamed || held.is_some() => hold("", found, vec![RENAMED.into()]),
                None => fresh.push(found.clone()),
            }
        }
        after.pins.extend(fresh.iter().map(|pin| (pin.tool.clone(), pin.clone())));
        let verdict = after.verdict(&op.tools);
        if !fresh.is_empty() {
            events.insert(0, Pinned { server: op.server.clone(), tools: fresh }.into());
        }
        if !gone.is_empty() {
            events.push(Vanished { server: op.server, tools: gone }.into());
        }
        Ok(Decision::many(events, verdict))
    }

    fn settle(&self, _: &Context, op: Settle) -> Result<Decision<Event, Settled>, Refusal> {
        let none = Recorded::default();
        let known = self.servers.get(&op.server).unwrap_or(&none);
        let wanted = |tool: &String| op.tool.as_ref().is_none_or(|one| one == tool);
        let mut tools = Vec::new();
        let mut accepted = Vec::new();
        for (tool, pin) in known.pins.iter().filter(|(tool, _)| wanted(tool)) {
            let found = known.held.get(tool).unwrap_or(pin);
            let mut lines = diff(&pin.definition, &found.definition);
            lines.extend(found.flags.iter().map(|flag| format!("flagged: {flag}")));
            if !lines.is_empty() {
                tools.push(Pin { flags: Vec::new(), ..found.clone() });
                accepted.push(Held { tool: tool.clone(), diff: lines });
            }
        }
        let new = |tool: &String| wanted(tool) && !known.pins.contains_key(tool);
        for (tool, found) in known.held.iter().filter(|(tool, _)| new(tool)) {
            let lines = std::iter::once(RENAMED.to_owned());
            let lines = lines.chain(found.flags.iter().map(|flag| format!("flagged: {flag}"))).collect();
            tools.push(Pin { flags: Vec::new(), ..found.clone() });
            accepted.push(Held { tool: tool.clone(), diff: lines });
        }
        if tools.is_empty() {
            let what = op.tool.map_or(op.server.clone(), |tool| format!("{}/{tool}", op.server));
            return Err(Refusal::not_found(format!("nothing of {what} waits to be accepted"))
                .hint(format!("athena upstream test {} looks again", op.server)));
        }
        Ok(Decision::one(Accepted { server: op.server, tools }, Settled { accepted, seq: 0 }))
    }

    fn note(&self, _: &Context, op: Note) -> Result<Decision<Event, Done>, Refusal> {
        let end =
            (0..=NOTE_MAX.min(op.what.len())).rev().find(|end| op.what.is_char_boundary(*end)).unwrap_or(0);
        let what = op.what.get(..end).unwrap_or_default().to_string();
        Ok(match op.declined {
            Some(method) => Decision::one(Declined { server: op.server, method, what }, Done::default()),
            None => Decision::one(Failed { server: op.server, what }, Done::default()),
        })
    }

    fn entrust(&self, _: &Context, op: Entrust) -> Result<Decision<Event, Done>, Refusal> {
        let known = self.servers.get(&op.server).and_then(|server| server.credentials.as_ref());
        if known == op.credentials.as_ref() {
            return Ok(Decision::nothing(Done::default()));
        }
        Ok(Decision::one(Granted { server: op.server, credentials: op.credentials }, Done::default()))
    }

    fn entrusted(&self, _: &Context, op: Entrusted) -> Result<Decision<Event, Option<String>>, Refusal> {
        let known = self.servers.get(&op.server);
        Ok(Decision::nothing(known.and_then(|server| server.credentials.clone())))
    }

    fn roster(&self, _: &Context, _: Roster) -> Result<Decision<Event, BTreeMap<String, Server>>, Refusal> {
        let mut servers = BTreeMap::new();
        for (name, recorded) in &self.servers {
            if let Some(config) = &recorded.config {
                let server = serde_json::from_str(config)
                    .map_err(|error| Refusal::internal(format!("the configuration of {name}: {error}")))?;
                servers.insert(name.clone(), server);
            }
        }
        Ok(Decision::nothing(servers))
    }
}

impl Decider for Pins {
    const LAYER: &'static str = LAYER;
    const SNAPSHOT: u32 = 2;
    type Command = Command;
    type Event = Event;

    fn decide(&self, cx: &Context, command: Command) -> Result<Decision<Event, Value>, Refusal> {
        Commands::decide(self, cx, command)
    }

    fn evolve(&mut self, _: &Meta, event: &Event) {
        match event {
            Event::Added(added) => {
                self.servers.entry(added.server.clone()).or_default().config = Some(added.config.clone());
            }
            Event::Removed(removed) => {
                self.servers.remove(&removed.server);
            }
            Event::Pinned(Pinned { server, tools }) | Event::Accepted(Accepted { server, tools }) => {
                let known = self.servers.entry(server.clone()).or_default();
                for pin in tools {
                    known.held.remove(&pin.tool);
                    known.gone.retain(|tool| *tool != pin.tool);
                    known.pins.insert(pin.tool.clone(), pin.clone());
                }
            }
            Event::Quarantined(changed) => {
                let known = self.servers.entry(changed.server.clone()).or_default();
                known.gone.retain(|tool| *tool != changed.found.tool);
                known.held.insert(changed.found.tool.clone(), changed.found.clone());
            }
            Event::Vanished(vanished) => {
                let known = self.servers.entry(vanished.server.clone()).or_default();
                known.gone.extend(vanished.tools.iter().cloned());
            }
            Event::Granted(granted) => {
                self.servers.entry(granted.server.clone()).or_default().credentials =
                    granted.credentials.clone();
            }
            Event::Failed(_) | Event::Declined(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use athena_schemas::context::{Channel, Party, Scope};
    use athena_schemas::envelope::Author;

    fn pin(tool: &str, description: &str) -> Pin {
        let definition = format!(r#"{{"description":"{description}","name":"{tool}"}}"#);
        Pin {
            tool: tool.into(),
            digest: blake3::hash(definition.as_bytes()).to_string(),
            definition,
            flags: Vec::new(),
        }
    }

    fn meta() -> Meta {
        Meta {
            at_ms: 0,
            scope: Scope::default(),
            author: Author { party: Party::System, channel: Channel::Internal, name: String::new() },
            command: Context::example().command,
            run: None,
            key: None,
        }
    }

    fn look(pins: &mut Pins, tools: &[Pin]) -> (Vec<Event>, Verdict) {
        let observe = Observe { server: "s".into(), tools: tools.to_vec() };
        let decision = Commands::observe(pins, &Context::example(), observe).unwrap();
        decision.events.iter().for_each(|event| pins.evolve(&meta(), event));
        (decision.events, decision.answer)
    }

    #[test]
    fn what_is_first_seen_is_pinned_and_seeing_it_again_says_nothing() {
        let mut pins = Pins::default();
        let (events, verdict) = look(&mut pins, &[pin("read", "a"), pin("write", "b")]);
        assert!(matches!(&events[..], [Event::Pinned(pinned)] if pinned.tools.len() == 2));
        assert_eq!(verdict, Verdict::default());
        assert_eq!(look(&mut pins, &[pin("read", "a"), pin("write", "b")]).0, []);
    }

    #[test]
    fn a_changed_tool_is_held_until_accepted_and_its_neighbours_are_not() {
        let mut pins = Pins::default();
        look(&mut pins, &[pin("read", "a"), pin("write", "b")]);
        let (events, verdict) = look(&mut pins, &[pin("read", "evil"), pin("write", "b"), pin("new", "c")]);
        assert!(matches!(&events[..], [Event::Pinned(new), Event::Quarantined(changed)]
            if new.tools[0].tool == "new" && changed.diff == [r#"description: "a" -> "evil""#]));
        assert_eq!(verdict.held.iter().map(|held| held.tool.as_str()).collect::<Vec<_>>(), ["read"]);
        // Looking again records nothing more and still holds it.
        let (events, verdict) = look(&mut pins, &[pin("read", "evil"), pin("write", "b"), pin("new", "c")]);
        assert_eq!((events.len(), verdict.held.len()), (0, 1));
        let settle = Settle { server: "s".into(), tool: Some("read".into()) };
        let decision = Commands::settle(&pins, &Context::example(), settle.clone()).unwrap();
        decision.events.iter().for_each(|event| pins.evolve(&meta(), event));
        assert_eq!(
            look(&mut pins, &[pin("read", "evil"), pin("write", "b"), pin("new", "c")]).1,
            Verdict::default()
        );
        assert!(Commands::settle(&pins, &Context::example(), settle).is_err());
    }

    #[test]
    fn a_tool_that_vanishes_cannot_come_back_as_something_else() {
        let mut pins = Pins::default();
        look(&mut pins, &[pin("read", "a")]);
        assert!(matches!(&look(&mut pins, &[]).0[..], [Event::Vanished(_)]));
        assert_eq!(look(&mut pins, &[]).0, []);
        let (events, verdict) = look(&mut pins, &[pin("read", "evil")]);
        assert!(matches!(&events[..], [Event::Quarantined(_)]));
        assert_eq!(verdict.held.len(), 1);
        // Back to what was pinned: free again.
        assert!(matches!(&look(&mut pins, &[pin("read", "a")]).0[..], [Event::Pinned(_)]));
    }

    /// A rename defeats pins that go by names: the old tool is gone, a poisoned one has a new name. The new name is held until
    /// a person accepts it, also when it comes a look later; a name that is merely added is not.
    #[test]
    fn stride_t10() {
        let held = |verdict: &Verdict| verdict.held.iter().map(|it| it.tool.clone()).collect::<Vec<_>>();
        for at_once in [true, false] {
            let mut pins = Pins::default();
            look(&mut pins, &[pin("read", "a"), pin("write", "b")]);
            assert_eq!(
                held(&look(&mut pins, &[pin("read", "a"), pin("write", "b"), pin("add", "c")]).1),
                [""; 0]
            );
            if !at_once {
                look(&mut pins, &[pin("write", "b"), pin("add", "c")]);
            }
            let renamed = [pin("write", "b"), pin("add", "c"), pin("read_file", "evil")];
            for _ in 0..2 {
                assert_eq!(held(&look(&mut pins, &renamed).1), ["read_file"], "at once: {at_once}");
            }
            let settle = Settle { server: "s".into(), tool: Some("read_file".into()) };
            let decision = Commands::settle(&pins, &Context::example(), settle).unwrap();
            assert_eq!(decision.answer.accepted[0].diff, [RENAMED]);
            decision.events.iter().for_each(|event| pins.evolve(&meta(), event));
            assert_eq!(held(&look(&mut pins, &renamed).1), [""; 0]);
        }
    }

    #[test]
    fn a_flag_is_lifted_by_a_person_only() {
        let mut pins = Pins::default();
        let flagged = Pin { flags: vec!["hidden characters".into()], ..pin("read", "a") };
        assert_eq!(look(&mut pins, std::slice::from_ref(&flagged)).1.flagged.len(), 1);
        let decision =
            Commands::settle(&pins, &Context::example(), Settle { server: "s".into(), tool: None }).unwrap();
        assert_eq!(decision.answer.accepted[0].diff, ["flagged: hidden characters"]);
        decision.events.iter().for_each(|event| pins.evolve(&meta(), event));
        assert_eq!(look(&mut pins, &[flagged]).1, Verdict::default());
    }

    #[test]
    fn servers_are_enrolled_once_and_struck() {
        let mut pins = Pins::default();
        let config = Server { command: Some("x".into()), ..Server::default() };
        let enrol = Enrol { server: "s".into(), config: config.clone() };
        let decision = Commands::enrol(&pins, &Context::example(), enrol.clone()).unwrap();
        decision.events.iter().for_each(|event| pins.evolve(&meta(), event));
        assert_eq!(Commands::enrol(&pins, &Context::example(), enrol).unwrap().events, []);
        let roster = Commands::roster(&pins, &Context::example(), Roster {}).unwrap().answer;
        assert_eq!(roster["s"], config);
        assert!(Commands::strike(&pins, &Context::example(), Strike { server: "t".into() }).is_err());
    }
}
