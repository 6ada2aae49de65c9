//! The episodic layer: what happened. Content is never edited; annotations are events of their own.

use super::check;
use super::placing::{moved, put_back};
use super::shelf::{Digest, Shelf, digest};
use crate::decider::Decider;
use athena_schemas::context::{Context, Scope};
use athena_schemas::envelope::Meta;
use athena_schemas::id::Id;
use athena_schemas::layers::common::{Ack, Forgetting, millis};
use athena_schemas::layers::episodic::*;
use athena_schemas::operation::Decision;
use athena_schemas::refusal::Refusal;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::HashMap;

/// Which episodes there are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    shelf: Shelf<()>,
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
        match event {
            Event::Remembered(event) => {
                let seen = likeness(&meta.scope, event);
                self.shelf.put(&event.id, &meta.scope, Some(seen), ());
            }
            Event::Annotated(_) => {}
            Event::Forgotten(event) => self.shelf.forget(&event.ids, event.mode),
            Event::Restored(event) => self.shelf.restore(&event.ids),
            Event::Relocated(event) => self.shelf.relocate(&event.ids, &event.to),
            Event::Reverted(event) => {
                for past in &event.items {
                    let to = past.to.as_ref();
                    self.shelf.revert(&past.id, to.map(|to| &to.scope), to.is_none_or(|to| to.hidden));
                }
            }
        }
    }
}

/// Equal where scope, session, content and minute are.
fn likeness(scope: &Scope, event: &Remembered) -> Digest {
    let minute = event.time_ms.div_euclid(60_000).to_le_bytes();
    let session = event.session.as_deref().unwrap_or("");
    digest("athena episode", scope, &[session.as_bytes(), event.content.as_bytes(), &minute])
}

/// An episode as it would be recorded, checked but for its duplicates.
fn remembered(cx: &Context, op: Remember) -> Result<Remembered, Refusal> {
    let time_ms = match &op.time {
        Some(time) => millis(time).map_err(|refusal| refusal.at("time"))?,
        None => cx.now_ms as i64,
    };
    Ok(Remembered {
        id: cx.mint("ep"),
        content: check::text("content", op.content)?,
        kind: check::word("type", op.kind.unwrap_or_else(|| "event".into()))?,
        time_ms,
        session: op
            .session
            .or_else(|| cx.scope.session.clone())
            .map(|session| check::word("session", session))
            .transpose()?,
        outcome: op.outcome,
        importance: check::per_mille("importance", op.importance.unwrap_or(0.5))?,
        tags: check::tags("tags", op.tags)?,
        meta: check::meta("meta", &op.meta)?,
        origin: check::origin(cx, op.prov),
        untrusted: op.untrusted,
    })
}

impl Commands for State {
    fn remember(&self, cx: &Context, op: Remember) -> Result<Decision<Event, Ack>, Refusal> {
        let event = remembered(cx, op)?;
        Ok(match self.shelf.duplicate("ep", &cx.scope, &likeness(&cx.scope, &event), |()| true) {
            Some(first) => Decision::nothing(Ack::duplicate(first)),
            None => {
                let ack = Ack::of(event.id.clone());
                Decision::one(event, ack)
            }
        })
    }

    fn bulk_remember(&self, cx: &Context, op: BulkRemember) -> Result<Decision<Event, Vec<Ack>>, Refusal> {
        check::count("events", op.events.len(), BULK)?;
        let mut fresh: HashMap<Digest, Id> = HashMap::with_capacity(op.events.len());
        let mut events = Vec::with_capacity(op.events.len());
        let mut acks = Vec::with_capacity(op.events.len());
        for (i, one) in op.events.into_iter().enumerate() {
            let event =
                remembered(cx, one).map_err(|refusal| check::under(&format!("events[{i}]"), refusal))?;
            let like = likeness(&cx.scope, &event);
            let first =
                fresh.get(&like).cloned().or_else(|| self.shelf.duplicate("ep", &cx.scope, &like, |()| true));
            acks.push(match first {
                Some(first) => Ack::duplicate(first),
                None => {
                    fresh.insert(like, event.id.clone());
                    let ack = Ack::of(event.id.clone());
                    events.push(event.into());
                    ack
                }
            });
        }
        Ok(Decision::many(events, acks))
    }

    fn annotate(&self, cx: &Context, op: Annotate) -> Result<Decision<Event, Ack>, Refusal> {
        self.shelf.get(cx, &op.id)?;
        let patch = op.patch;
        let event = Annotated {
            id: op.id.clone(),
            outcome: patch.outcome,
            importance: patch.importance.map(|i| check::per_mille("patch.importance", i)).transpose()?,
            add_tags: check::tags("patch.add_tags", patch.add_tags)?,
            remove_tags: check::tags("patch.remove_tags", patch.remove_tags)?,
            meta: check::meta("patch.meta", &patch.meta)?,
        };
        let says_nothing = event.outcome.is_none()
            && event.importance.is_none()
            && event.add_tags.is_empty()
            && event.remove_tags.is_empty()
            && event.meta.is_empty();
        if says_nothing {
            return Err(Refusal::invalid("the patch changes nothing").at("patch"));
        }
        Ok(Decision::one(event, Ack::of(op.id)))
    }

    fn forget(&self, cx: &Context, op: Forget) -> Result<Decision<Event, Forgot>, Refusal> {
        if op.sel.ids.is_empty() && op.sel.range.is_none() && op.sel.tags.is_empty() {
            return Err(Refusal::invalid("the selection names no criterion")
                .at("sel")
                .hint("ids, range or tags; store/erase_scope erases a whole scope"));
        }
        let mut ids = self.shelf.visible(cx, &cx.evidence.matched, false);
        if op.mode == Forgetting::Erase {
            ids.extend(self.shelf.visible(cx, &op.sel.ids, true));
        }
        changed(ids, op.dry_run, |ids| Forgotten { ids, mode: op.mode }.into())
    }

    fn restore(&self, cx: &Context, op: Restore) -> Result<Decision<Event, Forgot>, Refusal> {
        check::count("ids", op.ids.len(), check::ITEMS)?;
        changed(self.shelf.visible(cx, &op.ids, true), false, |ids| Restored { ids }.into())
    }

    fn relocate(&self, cx: &Context, op: Relocate) -> Result<Decision<Event, Moved>, Refusal> {
        moved(op, |ids| self.shelf.visible(cx, ids, false), |ids, to| Relocated { ids, to }.into())
    }

    fn revert(&self, _: &Context, op: Revert) -> Result<Decision<Event, PutBack>, Refusal> {
        put_back(op)
    }
}

/// One event over the items that matched; none where nothing did, or where it is a rehearsal.
fn changed(
    ids: Vec<Id>,
    dry_run: bool,
    event: impl FnOnce(Vec<Id>) -> Event,
) -> Result<Decision<Event, Forgot>, Refusal> {
    let matched = ids.len() as u32;
    if !ids.is_empty() {
        check::count("ids", ids.len(), check::ITEMS)?;
    }
    Ok(if ids.is_empty() || dry_run {
        Decision::nothing(Forgot { matched, seq: None })
    } else {
        Decision::one(event(ids), Forgot { matched, seq: Some(0) })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::testing::Layer;
    use athena_schemas::refusal::Code;
    use proptest::prelude::*;
    use serde_json::json;

    fn layer() -> Layer<State> {
        Layer::new(parse_command)
    }

    fn parse_command(name: &str, params: Value) -> Command {
        match parse(name, params).unwrap().unwrap() {
            Call::Command(command) => command,
            other => panic!("{other:?} is no command"),
        }
    }

    #[test]
    fn what_is_remembered_is_recorded_whole() {
        let mut layer = layer();
        let (events, answer) = layer
            .when(
                "remember",
                json!({"content": "it broke", "type": "error", "time": "1970-01-01T00:01:00Z", "session": "s",
                       "outcome": "failure", "importance": 0.9, "tags": ["a", "a"], "meta": {"k": 1}}),
            )
            .unwrap();
        let Event::Remembered(event) = &events[0] else { panic!("{events:?}") };
        assert_eq!(
            (event.content.as_str(), event.kind.as_str(), event.time_ms, event.importance),
            ("it broke", "error", 60_000, 900)
        );
        assert_eq!((event.tags.as_slice(), event.meta.as_str()), (["a".to_owned()].as_slice(), r#"{"k":1}"#));
        assert_eq!(event.origin.actor.as_deref(), Some("example"));
        assert_eq!(answer, json!({"id": event.id, "seq": 0}));
    }

    #[test]
    fn the_same_content_in_the_same_minute_is_the_same_episode() {
        let mut layer = layer();
        let at = |time: &str| json!({"content": "hello", "time": time});
        let (_, first) = layer.when("remember", at("2026-11-20T10:00:00Z")).unwrap();
        let (events, again) = layer.when("remember", at("2026-11-20T10:00:59Z")).unwrap();
        assert_eq!((events.len(), &again["deduped_into"]), (0, &first["id"]));
        let (events, _) = layer.when("remember", at("2026-11-20T10:01:00Z")).unwrap();
        assert_eq!(events.len(), 1);
        layer.cx.scope = Scope::project("other");
        let (events, _) = layer.when("remember", at("2026-11-20T10:00:00Z")).unwrap();
        assert_eq!(events.len(), 1, "another scope is another memory");
    }

    #[test]
    fn a_bulk_is_all_or_none_and_names_the_culprit() {
        let mut layer = layer();
        let bad = json!({"events": [{"content": "a"}, {"content": " "}]});
        assert_eq!(layer.when("bulk_remember", bad).unwrap_err().path.as_deref(), Some("events[1].content"));
        let (events, answer) = layer
            .when("bulk_remember", json!({"events": [{"content": "a"}, {"content": "b"}, {"content": "a"}]}))
            .unwrap();
        assert_eq!(events.len(), 2);
        assert_eq!(answer[2]["deduped_into"], answer[0]["id"]);
        let many: Vec<Value> = (0..=BULK).map(|i| json!({"content": i.to_string()})).collect();
        assert_eq!(
            layer.when("bulk_remember", json!({"events": many})).unwrap_err().code,
            Code::LimitExceeded
        );
    }

    #[test]
    fn what_lies_outside_the_scope_does_not_exist() {
        let mut layer = layer();
        let (_, ack) = layer.when("remember", json!({"content": "mine"})).unwrap();
        layer.cx.scope = Scope::project("other");
        let patch = json!({"id": ack["id"], "patch": {"importance": 1.0}});
        assert_eq!(layer.when("annotate", patch).unwrap_err().code, Code::NotFound);
        layer.cx.evidence.matched = vec![Id::from_text(ack["id"].as_str().unwrap())];
        let (events, answer) =
            layer.when("forget", json!({"sel": {"ids": [ack["id"]]}, "mode": "erase"})).unwrap();
        assert_eq!((events.len(), answer), (0, json!({"matched": 0})));
    }

    #[test]
    fn hidden_episodes_come_back_and_erased_ones_do_not() {
        let mut layer = layer();
        let (_, ack) = layer.when("remember", json!({"content": "a"})).unwrap();
        let id = Id::from_text(ack["id"].as_str().unwrap());
        layer.cx.evidence.matched = vec![id.clone()];
        let sel = json!({"ids": [id]});
        let (events, answer) =
            layer.when("forget", json!({"sel": sel, "mode": "hide", "dry_run": true})).unwrap();
        assert_eq!((events.len(), answer), (0, json!({"matched": 1})));
        layer.when("forget", json!({"sel": sel, "mode": "hide"})).unwrap();
        let patch = json!({"id": id, "patch": {"importance": 1.0}});
        assert_eq!(layer.when("annotate", patch.clone()).unwrap_err().code, Code::NotFound);
        assert_eq!(layer.when("restore", json!({"ids": [id]})).unwrap().1, json!({"matched": 1, "seq": 0}));
        layer.when("annotate", patch.clone()).unwrap();
        layer.when("forget", json!({"sel": sel, "mode": "erase"})).unwrap();
        assert_eq!(layer.when("annotate", patch).unwrap_err().code, Code::NotFound);
        assert_eq!(layer.when("restore", json!({"ids": [id]})).unwrap().1, json!({"matched": 0}));
        let (events, _) = layer.when("remember", json!({"content": "a"})).unwrap();
        assert_eq!(events.len(), 1, "what was erased may be remembered anew");
    }

    #[test]
    fn an_empty_selection_is_no_selection() {
        let refusal = layer().when("forget", json!({"sel": {}, "mode": "hide"})).unwrap_err();
        assert_eq!(refusal.path.as_deref(), Some("sel"));
    }

    proptest! {
        #[test]
        fn the_state_is_the_fold_of_its_events(steps in proptest::collection::vec((0_u8..5, 0_u8..6, 0_u8..2), 0..40)) {
            let mut layer = layer();
            let mut ids: Vec<Value> = Vec::new();
            for (what, which, mode) in steps {
                let some = ids.get(which as usize % ids.len().max(1)).cloned().unwrap_or(json!("ep_0"));
                layer.cx.evidence.matched = vec![Id::from_text(some.as_str().unwrap())];
                let mode = if mode == 0 { "hide" } else { "erase" };
                let answer = match what {
                    0 => layer.when("remember", json!({"content": format!("c{which}")})),
                    1 => layer.when("annotate", json!({"id": some, "patch": {"add_tags": ["t"]}})),
                    2 => layer.when("forget", json!({"sel": {"ids": [some]}, "mode": mode})),
                    3 => layer.when("restore", json!({"ids": [some]})),
                    _ => layer.when("relocate", json!({"ids": [some], "to": {"project": format!("p{which}")}})),
                };
                if let Ok((_, answer)) = answer && let Some(id) = answer.get("id") {
                    ids.push(id.clone());
                }
            }
            let readable = layer.replayed_without(|event, erased| match event {
                Event::Remembered(event) => erased(&event.id),
                Event::Annotated(event) => erased(&event.id),
                _ => false,
            }, |event| match event {
                Event::Forgotten(event) if event.mode == Forgetting::Erase => event.ids.clone(),
                _ => Vec::new(),
            });
            prop_assert_eq!(&layer.replayed(), &layer.state);
            prop_assert_eq!(&readable, &layer.state, "after an erasure the log gives less, and it is enough");
        }
    }
}
