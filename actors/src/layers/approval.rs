//! Approvals: asked once, answered by somebody else, used once, in time.

use crate::decider::Decider;
use athena_schemas::context::Context;
use athena_schemas::envelope::Meta;
use athena_schemas::id::Id;
use athena_schemas::layers::approval::State as Answer;
use athena_schemas::layers::approval::{
    Command, Commands, Denied, Deny, Event, Grant, Granted, LAYER, Redeem, Redeemed, Request, Requested,
    Standing,
};
use athena_schemas::operation::Decision;
use athena_schemas::refusal::{Code, Refusal};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// Most requests one proposer may have waiting: beyond it, asking is a way of wearing a person down.
const WAITING: usize = 20;
/// Most bytes of code or call a person is shown.
const SHOWN_BYTES: usize = 64 << 10;
/// Approvals that are answered are forgotten by the decider beyond this many; the log and the read side keep them.
const KEPT: usize = 10_000;

/// Which approvals there are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    by_id: BTreeMap<Id, Entry>,
    /// What waits or is granted, by what it binds.
    by_binding: BTreeMap<String, Id>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    binding: String,
    run: Option<Id>,
    proposer: String,
    expires_ms: u64,
    standing: Standing,
    reason: Option<String>,
}

impl Entry {
    /// Where it stands at a time: what nobody answered or used in time has expired.
    fn at(&self, now_ms: u64) -> Standing {
        match self.standing {
            Standing::Pending | Standing::Granted if now_ms >= self.expires_ms => Standing::Expired,
            standing => standing,
        }
    }

    fn answer(&self, id: &Id, now_ms: u64) -> Answer {
        Answer {
            id: id.clone(),
            standing: self.at(now_ms),
            reason: self.reason.clone(),
            run: self.run.clone(),
            seq: 0,
        }
    }
}

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
            Event::Requested(e) => {
                let entry = Entry {
                    binding: e.binding.clone(),
                    run: e.run.clone(),
                    proposer: e.proposer.clone(),
                    expires_ms: e.expires_ms,
                    standing: Standing::Pending,
                    reason: None,
                };
                self.by_binding.insert(e.binding.clone(), e.id.clone());
                self.by_id.insert(e.id.clone(), entry);
                if self.by_id.len() > KEPT {
                    self.forget_oldest();
                }
            }
            Event::Granted(e) => self.stand(&e.id, Standing::Granted, None),
            Event::Denied(e) => self.stand(&e.id, Standing::Denied, Some(e.reason.clone())),
            Event::Redeemed(e) => self.stand(&e.id, Standing::Redeemed, None),
        }
    }
}

impl State {
    fn stand(&mut self, id: &Id, standing: Standing, reason: Option<String>) {
        if let Some(entry) = self.by_id.get_mut(id) {
            (entry.standing, entry.reason) = (standing, reason);
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((id, entry)) = self.by_id.pop_first()
            && self.by_binding.get(&entry.binding) == Some(&id)
        {
            self.by_binding.remove(&entry.binding);
        }
    }

    fn get(&self, id: &Id) -> Result<&Entry, Refusal> {
        self.by_id.get(id).ok_or_else(|| {
            Refusal::not_found(format!("there is no approval {id}")).hint("athena approvals list")
        })
    }

    /// What an approval binds.
    ///
    /// # Errors
    /// When there is none.
    pub fn binding(&self, id: &Id) -> Result<String, Refusal> {
        self.get(id).map(|entry| entry.binding.clone())
    }

    /// Where an approval stands at a time.
    ///
    /// # Errors
    /// When there is none.
    pub fn standing(&self, id: &Id, now_ms: u64) -> Result<Answer, Refusal> {
        self.get(id).map(|entry| entry.answer(id, now_ms))
    }

    /// The last approval that was asked for with this binding, and where it stands.
    pub fn asked(&self, binding: &str, now_ms: u64) -> Option<Answer> {
        let id = self.by_binding.get(binding)?;
        self.by_id.get(id).map(|entry| entry.answer(id, now_ms))
    }

    /// An approval that still waits, and whoever answers it: never the one who asked.
    fn answerable(&self, cx: &Context, id: &Id) -> Result<&Entry, Refusal> {
        let entry = self.get(id)?;
        match entry.at(cx.now_ms) {
            Standing::Pending => {}
            Standing::Expired => {
                return Err(Refusal::conflict(format!("{id} has expired"))
                    .hint("have it asked again: execute the code anew"));
            }
            standing => {
                return Err(Refusal::conflict(format!("{id} is {standing:?} already").to_lowercase()));
            }
        }
        if entry.proposer == cx.caller.principal() {
            return Err(Refusal::denied("who asks cannot answer")
                .hint("a person, at the command line: athena approve"));
        }
        Ok(entry)
    }
}

impl Commands for State {
    fn request(&self, cx: &Context, op: Request) -> Result<Decision<Event, Answer>, Refusal> {
        if let Some((id, entry)) =
            self.by_binding.get(&op.binding).and_then(|id| Some((id, self.by_id.get(id)?)))
            && matches!(entry.at(cx.now_ms), Standing::Pending | Standing::Granted)
        {
            return Ok(Decision::nothing(entry.answer(id, cx.now_ms)));
        }
        let proposer = cx.caller.principal();
        let waiting = |entry: &&Entry| entry.proposer == proposer && entry.at(cx.now_ms) == Standing::Pending;
        if self.by_id.values().filter(waiting).count() >= WAITING {
            return Err(Refusal::new(
                Code::LimitExceeded,
                format!("{WAITING} approvals are waiting already"),
            )
            .hint("have a person answer them first: athena approvals list"));
        }
        let mut shown = op.shown;
        if shown.len() > SHOWN_BYTES {
            shown.truncate(shown.floor_char_boundary(SHOWN_BYTES));
            shown.push('…');
        }
        let event = Requested {
            id: cx.mint("ap"),
            binding: op.binding,
            run: op.run,
            level: op.level,
            summary: op.summary,
            reasons: op.reasons,
            shown,
            expires_ms: cx.now_ms.saturating_add(op.ttl_s.saturating_mul(1_000)),
            proposer,
        };
        let answer = Answer {
            id: event.id.clone(),
            standing: Standing::Pending,
            reason: None,
            run: event.run.clone(),
            seq: 0,
        };
        Ok(Decision::one(event, answer))
    }

    fn grant(&self, cx: &Context, op: Grant) -> Result<Decision<Event, Answer>, Refusal> {
        let entry = self.answerable(cx, &op.id)?;
        let answer = Answer { standing: Standing::Granted, ..entry.answer(&op.id, cx.now_ms) };
        let event = Granted {
            id: op.id,
            binding: entry.binding.clone(),
            approver: cx.caller.principal(),
            note: super::check::maybe_text("note", op.note)?,
        };
        Ok(Decision::one(event, answer))
    }

    fn deny(&self, cx: &Context, op: Deny) -> Result<Decision<Event, Answer>, Refusal> {
        let entry = self.answerable(cx, &op.id)?;
        let reason = super::check::text("reason", op.reason)?;
        let answer = Answer {
            standing: Standing::Denied,
            reason: Some(reason.clone()),
            ..entry.answer(&op.id, cx.now_ms)
        };
        Ok(Decision::one(Denied { id: op.id, approver: cx.caller.principal(), reason }, answer))
    }

    fn redeem(&self, cx: &Context, op: Redeem) -> Result<Decision<Event, Answer>, Refusal> {
        let entry = self.get(&op.id)?;
        if entry.binding != op.binding {
            return Err(Refusal::denied(format!("{} was given for something else", op.id))
                .hint("what was approved must be done unchanged"));
        }
        match entry.at(cx.now_ms) {
            Standing::Granted => {
                let answer = Answer { standing: Standing::Redeemed, ..entry.answer(&op.id, cx.now_ms) };
                Ok(Decision::one(Redeemed { id: op.id }, answer))
            }
            // Whoever asks how it stands is told; nothing happens.
            _ => Ok(Decision::nothing(entry.answer(&op.id, cx.now_ms))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::testing::Layer;
    use athena_schemas::context::{Channel, Party};
    use athena_schemas::layers::approval::{Call, parse};
    use serde_json::json;

    fn layer() -> Layer<State> {
        Layer::new(|name, params| match parse(name, params).unwrap().unwrap() {
            Call::Command(command) => command,
            other => panic!("{other:?} is no command"),
        })
    }

    fn ask(layer: &mut Layer<State>, binding: &str) -> Result<Value, Refusal> {
        let params = json!({"binding": binding, "level": "HIGH", "summary": "s", "shown": "c", "ttl_s": 900});
        layer.when("request", params).map(|(_, answer)| answer)
    }

    fn person(layer: &mut Layer<State>) {
        (layer.cx.caller.party, layer.cx.caller.channel) = (Party::Human, Channel::Cli);
    }

    #[test]
    fn an_approval_is_asked_once_granted_by_another_and_used_once() {
        let mut layer = layer();
        let asked = ask(&mut layer, "aa").unwrap();
        assert_eq!(ask(&mut layer, "aa").unwrap()["id"], asked["id"]);
        let own = layer.when("grant", json!({"id": asked["id"]})).unwrap_err();
        assert_eq!(own.code, Code::Denied);
        person(&mut layer);
        layer.when("grant", json!({"id": asked["id"]})).unwrap();
        let (_, used) = layer.when("redeem", json!({"id": asked["id"], "binding": "aa"})).unwrap();
        assert_eq!(used["standing"], "redeemed");
        let (events, again) = layer.when("redeem", json!({"id": asked["id"], "binding": "aa"})).unwrap();
        assert!(events.is_empty());
        assert_eq!(again["standing"], "redeemed");
        assert_eq!(layer.replayed(), layer.state);
    }

    #[test]
    fn stride_t09_what_was_approved_must_be_done_unchanged() {
        let mut layer = layer();
        let asked = ask(&mut layer, "aa").unwrap();
        person(&mut layer);
        layer.when("grant", json!({"id": asked["id"]})).unwrap();
        let changed = layer.when("redeem", json!({"id": asked["id"], "binding": "ab"})).unwrap_err();
        assert_eq!(changed.code, Code::Denied);
    }

    /// The proposer answers its own question: neither its yes nor its no counts.
    #[test]
    fn stride_s11() {
        let mut layer = layer();
        let asked = ask(&mut layer, "aa").unwrap();
        for (op, params) in
            [("grant", json!({"id": asked["id"]})), ("deny", json!({"id": asked["id"], "reason": "mine"}))]
        {
            assert_eq!(layer.when(op, params).unwrap_err().code, Code::Denied, "{op}");
        }
        assert_eq!(layer.replayed(), layer.state);
    }

    /// Somebody denies having approved: the event says who, through what, how much harm, and exactly what was shown and bound.
    #[test]
    fn stride_r01() {
        let mut layer = layer();
        let asked = ask(&mut layer, "aa").unwrap();
        person(&mut layer);
        let (granted, _) = layer.when("grant", json!({"id": asked["id"], "note": "go on"})).unwrap();
        let [Event::Granted(granted)] = &granted[..] else { panic!("{granted:?}") };
        assert_eq!((granted.approver.as_str(), granted.binding.as_str()), ("human/cli/example", "aa"));
        let (meta, ..) = layer.log.last().unwrap();
        assert_eq!((meta.author.party, meta.author.channel), (Party::Human, Channel::Cli));
        let (_, bytes, kind, schema) = &layer.log[0];
        let Some(Event::Requested(requested)) =
            <Event as athena_schemas::envelope::Family>::decode(*kind, *schema, bytes).unwrap()
        else {
            panic!("no request")
        };
        assert_eq!(
            (requested.proposer.as_str(), requested.shown.as_str(), requested.level.as_str()),
            ("agent/mcp/example", "c", "HIGH")
        );
    }

    /// The clock is turned back to stretch the time an approval is good for: what has expired once stays so, because an answer
    /// is judged by the time of the decision, and that never goes back.
    #[test]
    fn stride_r11() {
        let mut layer = layer();
        let asked = ask(&mut layer, "aa").unwrap();
        person(&mut layer);
        layer.when("grant", json!({"id": asked["id"]})).unwrap();
        layer.cx.now_ms += 900_001;
        let (_, late) = layer.when("redeem", json!({"id": asked["id"], "binding": "aa"})).unwrap();
        assert_eq!(late["standing"], "expired", "granted, and not used in time");
    }

    #[test]
    fn what_nobody_answers_in_time_is_no() {
        let mut layer = layer();
        let asked = ask(&mut layer, "aa").unwrap();
        person(&mut layer);
        layer.cx.now_ms += 900_001;
        assert_eq!(layer.when("grant", json!({"id": asked["id"]})).unwrap_err().code, Code::Conflict);
        let (_, state) = layer.when("redeem", json!({"id": asked["id"], "binding": "aa"})).unwrap();
        assert_eq!(state["standing"], "expired");
        assert_ne!(ask(&mut layer, "aa").unwrap()["id"], asked["id"]);
    }

    #[test]
    fn a_denial_carries_its_reason() {
        let mut layer = layer();
        let asked = ask(&mut layer, "aa").unwrap();
        person(&mut layer);
        assert!(layer.when("deny", json!({"id": asked["id"], "reason": " "})).is_err());
        layer.when("deny", json!({"id": asked["id"], "reason": "wrong folder"})).unwrap();
        let (_, state) = layer.when("redeem", json!({"id": asked["id"], "binding": "aa"})).unwrap();
        assert_eq!((&state["standing"], &state["reason"]), (&json!("denied"), &json!("wrong folder")));
    }

    #[test]
    fn stride_d15_a_person_is_not_worn_down() {
        let mut layer = layer();
        for n in 0..WAITING {
            ask(&mut layer, &format!("{n:04}")).unwrap();
        }
        assert_eq!(ask(&mut layer, "one more").unwrap_err().code, Code::LimitExceeded);
    }
}
