//! The semantic layer: facts, add-only. What replaces, corrects or strengthens what is always an explicit event.

use super::check;
use super::placing::{moved, put_back};
use super::shelf::{Digest, Shelf, digest};
use crate::decider::Decider;
use athena_schemas::context::{Context, Scope};
use athena_schemas::envelope::Meta;
use athena_schemas::id::Id;
use athena_schemas::layers::common::{Ack, Forgetting, LOG_ODDS_BOUND, log_odds, millis};
use athena_schemas::layers::semantic::*;
use athena_schemas::operation::Decision;
use athena_schemas::refusal::Refusal;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::HashMap;

/// Most facts one `merge` takes.
const MERGED: usize = 100;
/// The confidence of a fact that says nothing about it.
const CONFIDENCE: f64 = 0.8;

/// Which facts there are, how sure, and which still stand.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    shelf: Shelf<Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    log_odds: i32,
    standing: Stand,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Stand {
    Current,
    /// By the fact of this number, whose erasure would undo it; `None` where a decision about a conflict did it.
    Superseded(Option<u128>),
    Retracted,
}

impl Stand {
    fn of(image: &Image) -> Self {
        match image.standing {
            Standing::Superseded => Self::Superseded(image.superseded_by.as_ref().and_then(Id::ulid)),
            Standing::Retracted => Self::Retracted,
            Standing::Current | Standing::Hidden | Standing::Erased => Self::Current,
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

    fn evolve(&mut self, meta: &Meta, event: &Event) {
        match event {
            Event::Stored(event) => {
                let by = Stand::Superseded(event.id.ulid());
                event.supersedes.iter().for_each(|old| self.stand(old, by));
                let entry = Entry { log_odds: event.log_odds, standing: Stand::Current };
                let seen = likeness(&meta.scope, &event.content);
                self.shelf.put(&event.id, &meta.scope, Some(seen), entry);
            }
            Event::Retracted(event) => self.stand(&event.id, Stand::Retracted),
            Event::Reinforced(event) => {
                if let Some(entry) = self.shelf.entry(&event.id) {
                    entry.log_odds = event.log_odds;
                }
            }
            Event::ConflictResolved(event) => match event.how {
                How::Supersede => self.stand(&event.other, Stand::Superseded(None)),
                How::Retract => self.stand(&event.other, Stand::Retracted),
                How::BothTrue => {}
            },
            Event::Discarded(event) => {
                self.shelf.forget(&event.ids, event.mode);
                if event.mode == Forgetting::Erase {
                    self.reopen(&event.ids);
                }
            }
            Event::Restored(event) => self.shelf.restore(&event.ids),
            Event::Relocated(event) => self.shelf.relocate(&event.ids, &event.to),
            Event::Reverted(event) => {
                for past in &event.items {
                    let to = past.to.as_ref();
                    self.shelf.revert(&past.id, to.map(|to| &to.scope), to.is_none_or(|to| to.hidden));
                    if let (Some(entry), Some(to)) = (self.shelf.entry(&past.id), to) {
                        *entry = Entry { log_odds: to.log_odds, standing: Stand::of(to) };
                    }
                }
            }
        }
    }
}

/// Equal where scope and content are, but for white space around it.
fn likeness(scope: &Scope, content: &str) -> Digest {
    digest("athena fact", scope, &[content.trim().as_bytes()])
}

/// A fact as it would be recorded, checked but for what it meets in the store.
fn stored(cx: &Context, op: Store) -> Result<Stored, Refusal> {
    let valid = |field: &str, time: Option<String>| {
        time.map(|time| millis(&time).map_err(|refusal| refusal.at(field))).transpose()
    };
    let valid_from_ms = valid("valid_from", op.valid_from)?;
    let valid_to_ms = valid("valid_to", op.valid_to)?;
    if let (Some(from), Some(to)) = (valid_from_ms, valid_to_ms)
        && from >= to
    {
        return Err(Refusal::invalid("the fact would end before it begins").at("valid_to"));
    }
    Ok(Stored {
        id: cx.mint("fa"),
        content: check::text("content", op.content)?,
        log_odds: log_odds(check::fraction("confidence", op.confidence.unwrap_or(CONFIDENCE))?),
        valid_from_ms,
        valid_to_ms,
        tags: check::tags("tags", op.tags)?,
        origin: check::origin(cx, op.prov),
        untrusted: op.untrusted,
        supersedes: op.supersedes.into_iter().collect(),
        reason: None,
        similar: Vec::new(),
        conflicts: Vec::new(),
    })
}

/// The acknowledgement of a new fact, with what it met.
fn acknowledged(event: &Stored) -> Ack {
    Ack { similar: event.similar.clone(), conflicts: event.conflicts.clone(), ..Ack::of(event.id.clone()) }
}

impl State {
    fn stand(&mut self, id: &Id, standing: Stand) {
        if let Some(entry) = self.shelf.entry(id) {
            entry.standing = standing;
        }
    }

    /// What erased facts had superseded stands again: the events that said so can no longer be read.
    fn reopen(&mut self, erased: &[Id]) {
        let erased: Vec<Option<u128>> = erased.iter().map(Id::ulid).collect();
        for entry in self.shelf.entries() {
            if matches!(entry.standing, Stand::Superseded(Some(by)) if erased.contains(&Some(by))) {
                entry.standing = Stand::Current;
            }
        }
    }

    /// A fact that is still held true.
    fn current(&self, cx: &Context, id: &Id) -> Result<&Entry, Refusal> {
        let entry = self.shelf.get(cx, id)?;
        match entry.standing {
            Stand::Current => Ok(entry),
            Stand::Superseded(_) => Err(Refusal::conflict(format!("{id} was superseded"))
                .hint("semantic/history names the version that took its place")),
            Stand::Retracted => {
                Err(Refusal::conflict(format!("{id} was retracted")).hint("semantic/history"))
            }
        }
    }

    /// The fact that already says this, if it still stands.
    fn equal(&self, cx: &Context, content: &str) -> Option<Id> {
        let id = self.shelf.duplicate("fa", &cx.scope, &likeness(&cx.scope, content), |entry| {
            entry.standing == Stand::Current
        })?;
        self.current(cx, &id).is_ok().then_some(id)
    }

    /// What a version that takes the place of others takes over from them.
    fn inherit(cx: &Context, event: &mut Stored) {
        let inherited: Inherited = cx
            .evidence
            .proposal
            .clone()
            .and_then(|proposal| serde_json::from_value(proposal).ok())
            .unwrap_or_default();
        event.tags = inherited.tags;
        event.origin.events = inherited.events;
        event.untrusted = inherited.untrusted;
    }
}

impl Commands for State {
    fn store(&self, cx: &Context, op: Store) -> Result<Decision<Event, Ack>, Refusal> {
        let on_similar = op.on_similar;
        let mut event = stored(cx, op)?;
        if let Some(equal) = self.equal(cx, &event.content) {
            return Ok(Decision::nothing(Ack::duplicate(equal)));
        }
        for old in &event.supersedes {
            self.current(cx, old).map_err(|refusal| refusal.at("supersedes"))?;
        }
        let met = |id: &Id| !event.supersedes.contains(id) && self.current(cx, id).is_ok();
        let similar: Vec<Id> =
            cx.evidence.similar.iter().map(|(id, _)| id).filter(|id| met(id)).cloned().collect();
        let conflicts: Vec<Id> = cx.evidence.conflicts.iter().filter(|id| met(id)).cloned().collect();
        match on_similar {
            OnSimilar::Add => {}
            OnSimilar::Link => {
                event.similar = similar;
                event.conflicts = conflicts;
            }
            OnSimilar::Reject if similar.is_empty() => {}
            OnSimilar::Reject => {
                let names: Vec<&str> = similar.iter().map(Id::as_str).collect();
                return Err(Refusal::conflict(format!("it resembles {}", names.join(", ")))
                    .hint("read them, then store with on_similar \"add\", or supersede one")
                    .with(serde_json::json!({"similar": similar})));
            }
        }
        let ack = acknowledged(&event);
        Ok(Decision::one(event, ack))
    }

    fn bulk_store(&self, cx: &Context, op: BulkStore) -> Result<Decision<Event, Vec<Ack>>, Refusal> {
        check::count("facts", op.facts.len(), BULK)?;
        let mut fresh: HashMap<Digest, Id> = HashMap::with_capacity(op.facts.len());
        let mut replaced: Vec<Id> = Vec::new();
        let mut events = Vec::with_capacity(op.facts.len());
        let mut acks = Vec::with_capacity(op.facts.len());
        for (i, one) in op.facts.into_iter().enumerate() {
            let at = |refusal| check::under(&format!("facts[{i}]"), refusal);
            let event = stored(cx, one).map_err(at)?;
            let like = likeness(&cx.scope, &event.content);
            if let Some(first) = fresh.get(&like).cloned().or_else(|| self.equal(cx, &event.content)) {
                acks.push(Ack::duplicate(first));
                continue;
            }
            for old in &event.supersedes {
                self.current(cx, old).map_err(|refusal| at(refusal.at("supersedes")))?;
                if replaced.contains(old) {
                    return Err(at(Refusal::conflict(format!("{old} is superseded twice")).at("supersedes")));
                }
                replaced.push(old.clone());
            }
            fresh.insert(like, event.id.clone());
            acks.push(acknowledged(&event));
            events.push(event.into());
        }
        Ok(Decision::many(events, acks))
    }

    fn supersede(&self, cx: &Context, op: Supersede) -> Result<Decision<Event, Ack>, Refusal> {
        let old = self.current(cx, &op.id)?.log_odds;
        let sure = op.confidence.is_some();
        let mut event = stored(
            cx,
            Store {
                content: op.content,
                confidence: op.confidence,
                valid_from: op.valid_from,
                supersedes: Some(op.id.clone()),
                ..Store::default()
            },
        )?;
        if self.equal(cx, &event.content).as_ref() == Some(&op.id) {
            return Err(Refusal::conflict(format!("{} says just that", op.id)).at("content"));
        }
        Self::inherit(cx, &mut event);
        if !sure {
            event.log_odds = old;
        }
        event.valid_from_ms.get_or_insert(cx.now_ms as i64);
        event.reason = check::maybe_text("reason", op.reason)?;
        let ack = acknowledged(&event);
        Ok(Decision::one(event, ack))
    }

    fn retract(&self, cx: &Context, op: Retract) -> Result<Decision<Event, Ack>, Refusal> {
        if self.shelf.get(cx, &op.id)?.standing == Stand::Retracted {
            return Err(Refusal::conflict(format!("{} was retracted before", op.id)));
        }
        let reason = check::text("reason", op.reason)?;
        Ok(Decision::one(Retracted { id: op.id.clone(), reason }, Ack::of(op.id)))
    }

    fn resolve_conflict(&self, cx: &Context, op: ResolveConflict) -> Result<Decision<Event, Ack>, Refusal> {
        let unknown = || {
            Refusal::not_found(format!("there is no conflict {} of {}", op.conflict, op.keep))
                .hint("semantic/find_conflicts names the conflicts there are")
        };
        let other = cx
            .evidence
            .conflicts
            .iter()
            .find(|other| **other != op.keep && conflict_id(other, &op.keep) == op.conflict)
            .cloned()
            .ok_or_else(unknown)?;
        self.current(cx, &op.keep)?;
        self.current(cx, &other)?;
        let ack = Ack::of(op.keep.clone());
        Ok(Decision::one(ConflictResolved { conflict: op.conflict, keep: op.keep, other, how: op.how }, ack))
    }

    fn merge(&self, cx: &Context, op: Merge) -> Result<Decision<Event, Ack>, Refusal> {
        let mut ids: Vec<Id> = Vec::with_capacity(op.ids.len().min(MERGED));
        check::count("ids", op.ids.len(), MERGED)?;
        for id in op.ids {
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        let [first, _, ..] = ids.as_slice() else {
            return Err(Refusal::invalid("a merge takes at least two facts").at("ids"));
        };
        let mut surest = -LOG_ODDS_BOUND;
        for id in &ids {
            surest = surest.max(self.current(cx, id)?.log_odds);
        }
        let content = match check::maybe_text("content", op.content)? {
            Some(content) => content,
            None => cx.evidence.texts.get(first).cloned().ok_or_else(|| {
                Refusal::not_found(format!("the text of {first} is gone")).hint("say content")
            })?,
        };
        let mut event = stored(cx, Store { content, ..Store::default() })?;
        Self::inherit(cx, &mut event);
        for id in &ids {
            if !event.origin.events.contains(id) {
                event.origin.events.push(id.clone());
            }
        }
        event.log_odds = surest;
        event.supersedes = ids;
        event.reason = Some("merged".into());
        let ack = acknowledged(&event);
        Ok(Decision::one(event, ack))
    }

    fn reinforce(&self, cx: &Context, op: Reinforce) -> Result<Decision<Event, Ack>, Refusal> {
        if !(-5.0..=5.0).contains(&op.delta) {
            return Err(Refusal::invalid(format!("delta is {}, not from -5 to 5", op.delta)).at("delta"));
        }
        let before = self.current(cx, &op.id)?.log_odds;
        let delta = (op.delta * 1e6).round() as i32;
        let log_odds = (before + delta).clamp(-LOG_ODDS_BOUND, LOG_ODDS_BOUND);
        let ack = Ack::of(op.id.clone());
        Ok(Decision::one(Reinforced { id: op.id, delta, log_odds, evidence: op.evidence }, ack))
    }

    fn discard(&self, cx: &Context, op: Discard) -> Result<Decision<Event, Changed>, Refusal> {
        check::count("ids", op.ids.len(), check::ITEMS)?;
        let mut ids = self.shelf.visible(cx, &op.ids, false);
        if op.mode == Forgetting::Erase {
            ids.extend(self.shelf.visible(cx, &op.ids, true));
        }
        Ok(changed(ids, |ids| Discarded { ids, mode: op.mode }.into()))
    }

    fn restore(&self, cx: &Context, op: Restore) -> Result<Decision<Event, Changed>, Refusal> {
        check::count("ids", op.ids.len(), check::ITEMS)?;
        Ok(changed(self.shelf.visible(cx, &op.ids, true), |ids| Restored { ids }.into()))
    }

    fn relocate(&self, cx: &Context, op: Relocate) -> Result<Decision<Event, Moved>, Refusal> {
        moved(op, |ids| self.shelf.visible(cx, ids, false), |ids, to| Relocated { ids, to }.into())
    }

    fn revert(&self, _: &Context, op: Revert) -> Result<Decision<Event, PutBack>, Refusal> {
        put_back(op)
    }
}

/// One event over the facts it concerns; none where there is none.
fn changed(ids: Vec<Id>, event: impl FnOnce(Vec<Id>) -> Event) -> Decision<Event, Changed> {
    let changed = ids.len() as u32;
    if ids.is_empty() {
        Decision::nothing(Changed { changed, seq: None })
    } else {
        Decision::one(event(ids), Changed { changed, seq: Some(0) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::testing::Layer;
    use athena_schemas::refusal::Code;
    use proptest::prelude::*;
    use serde_json::json;

    fn layer() -> Layer<State> {
        Layer::new(|name, params| match parse(name, params).unwrap().unwrap() {
            Call::Command(command) => command,
            other => panic!("{other:?} is no command"),
        })
    }

    fn store(layer: &mut Layer<State>, content: &str) -> Id {
        let (_, ack) = layer.when("store", json!({"content": content})).unwrap();
        Id::from_text(ack["id"].as_str().unwrap())
    }

    #[test]
    fn an_equal_fact_is_not_stored_twice_and_a_similar_one_is() {
        let mut layer = layer();
        let first = store(&mut layer, "the kettle is red");
        let (events, ack) = layer.when("store", json!({"content": " the kettle is red\n"})).unwrap();
        assert_eq!((events.len(), ack["deduped_into"].as_str()), (0, Some(first.as_str())));
        layer.cx.evidence.similar = vec![(first.clone(), 0.9), (Id::new("fa", 9, 9), 0.8)];
        layer.cx.evidence.conflicts = vec![first.clone()];
        let (events, ack) = layer.when("store", json!({"content": "the kettle is blue"})).unwrap();
        assert_eq!(ack["similar"], json!([first]), "what does not exist is not reported");
        assert_eq!(ack["conflicts"], json!([first]));
        assert!(matches!(&events[0], Event::Stored(e) if e.conflicts == [first.clone()]));
        let refusal = layer
            .when("store", json!({"content": "the kettle is green", "on_similar": "reject"}))
            .unwrap_err();
        assert_eq!((refusal.code, refusal.details), (Code::Conflict, Some(json!({"similar": [first]}))));
    }

    #[test]
    fn superseding_closes_the_old_and_keeps_its_tags_and_sureness() {
        let mut layer = layer();
        let (_, ack) = layer.when("store", json!({"content": "a", "confidence": 0.6})).unwrap();
        layer.cx.evidence.proposal = Some(json!({"tags": ["t"], "events": ["ep_1"], "untrusted": true}));
        let (events, new) =
            layer.when("supersede", json!({"id": ack["id"], "content": "b", "reason": "moved"})).unwrap();
        let Event::Stored(event) = &events[0] else { panic!("{events:?}") };
        assert_eq!(event.log_odds, log_odds(0.6));
        assert_eq!((event.tags.as_slice(), event.untrusted), (["t".to_owned()].as_slice(), true));
        assert_eq!(event.supersedes, [Id::from_text(ack["id"].as_str().unwrap())]);
        assert!(event.valid_from_ms.is_some());
        let again = layer.when("supersede", json!({"id": ack["id"], "content": "c"})).unwrap_err();
        assert_eq!(again.code, Code::Conflict);
        let same = layer.when("supersede", json!({"id": new["id"], "content": "b"})).unwrap_err();
        assert_eq!(same.path.as_deref(), Some("content"));
    }

    #[test]
    fn confidence_is_bounded() {
        let mut layer = layer();
        let id = store(&mut layer, "a");
        for _ in 0..3 {
            layer.when("reinforce", json!({"id": id, "delta": 5.0})).unwrap();
        }
        let (events, _) = layer.when("reinforce", json!({"id": id, "delta": -1.0})).unwrap();
        assert!(matches!(&events[0], Event::Reinforced(e) if e.log_odds == LOG_ODDS_BOUND - 1_000_000));
        assert_eq!(layer.when("reinforce", json!({"id": id, "delta": 6})).unwrap_err().code, Code::Invalid);
    }

    #[test]
    fn a_conflict_is_resolved_by_its_own_name_only() {
        let mut layer = layer();
        let (a, b) = (store(&mut layer, "a"), store(&mut layer, "b"));
        let conflict = conflict_id(&b, &a);
        assert_eq!(conflict, conflict_id(&a, &b));
        let resolve = json!({"conflict": conflict, "keep": b, "how": "retract"});
        assert_eq!(layer.when("resolve_conflict", resolve.clone()).unwrap_err().code, Code::NotFound);
        layer.cx.evidence.conflicts = vec![a.clone(), b.clone()];
        layer.when("resolve_conflict", resolve).unwrap();
        assert_eq!(
            layer.when("reinforce", json!({"id": a, "delta": 1})).unwrap_err().message,
            format!("{a} was retracted")
        );
        layer.when("reinforce", json!({"id": b, "delta": 1})).unwrap();
    }

    #[test]
    fn merging_keeps_the_text_of_the_first_and_names_its_sources() {
        let mut layer = layer();
        let (a, b) = (store(&mut layer, "a"), store(&mut layer, "b"));
        assert_eq!(layer.when("merge", json!({"ids": [a, a]})).unwrap_err().code, Code::Invalid);
        layer.cx.evidence.texts.insert(a.clone(), "a".into());
        let (events, _) = layer.when("merge", json!({"ids": [a, b]})).unwrap();
        let Event::Stored(event) = &events[0] else { panic!("{events:?}") };
        assert_eq!(
            (event.content.as_str(), event.supersedes.as_slice()),
            ("a", [a.clone(), b.clone()].as_slice())
        );
        assert_eq!(event.origin.events, [a, b]);
    }

    #[test]
    fn a_bulk_knows_its_own_duplicates() {
        let mut layer = layer();
        let (events, acks) = layer
            .when("bulk_store", json!({"facts": [{"content": "a"}, {"content": "a"}, {"content": "b"}]}))
            .unwrap();
        assert_eq!((events.len(), &acks[1]["deduped_into"]), (2, &acks[0]["id"]));
    }

    proptest! {
        #[test]
        fn the_state_is_the_fold_of_its_events(steps in proptest::collection::vec((0_u8..8, 0_u8..6, 0_u8..6), 0..40)) {
            let mut layer = layer();
            let mut ids: Vec<Value> = Vec::new();
            for (what, which, other) in steps {
                let pick = |n: u8| ids.get(n as usize % ids.len().max(1)).cloned().unwrap_or(json!("fa_0"));
                let (some, second) = (pick(which), pick(other));
                let texts = [(Id::from_text(some.as_str().unwrap()), "text".to_owned())];
                layer.cx.evidence.texts = texts.into_iter().collect();
                let answer = match what {
                    0 => layer.when("store", json!({"content": format!("c{which}")})),
                    1 => layer.when("supersede", json!({"id": some, "content": format!("c{other}")})),
                    2 => layer.when("retract", json!({"id": some, "reason": "r"})),
                    3 => layer.when("merge", json!({"ids": [some, second]})),
                    4 => layer.when("reinforce", json!({"id": some, "delta": f64::from(other) - 2.0})),
                    5 => layer.when("discard", json!({"ids": [some], "mode": if other < 3 { "hide" } else { "erase" }})),
                    6 => layer.when("restore", json!({"ids": [some]})),
                    _ => layer.when("relocate", json!({"ids": [some], "to": {"project": format!("p{other}")}})),
                };
                if let Ok((_, answer)) = answer && let Some(id) = answer.get("id") {
                    ids.push(id.clone());
                }
            }
            let readable = layer.replayed_without(|event, erased| match event {
                Event::Stored(event) => erased(&event.id),
                Event::Retracted(event) => erased(&event.id),
                _ => false,
            }, |event| match event {
                Event::Discarded(event) if event.mode == Forgetting::Erase => event.ids.clone(),
                _ => Vec::new(),
            });
            prop_assert_eq!(&layer.replayed(), &layer.state);
            prop_assert_eq!(&readable, &layer.state, "after an erasure the log gives less, and it is enough");
        }
    }
}
