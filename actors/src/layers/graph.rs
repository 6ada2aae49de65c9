//! The graph layer: one entity under all its names, edges that are closed and never deleted, merges that can be undone.

use super::check;
use super::placing::{moved, put_back};
use super::shelf::{Digest, Shelf, digest};
use crate::decider::Decider;
use athena_schemas::context::{Context, Scope};
use athena_schemas::envelope::Meta;
use athena_schemas::id::Id;
use athena_schemas::layers::common::{Ack, Past, millis};
use athena_schemas::layers::graph::*;
use athena_schemas::operation::Decision;
use athena_schemas::refusal::Refusal;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// Most aliases one entity is given at once.
const ALIASES: usize = 32;
/// Most entities one merge takes in.
const MERGED: usize = 100;

/// Which entities and edges there are, and under which names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    entities: Shelf<Entity>,
    edges: Shelf<Edge>,
    /// Digest of scope and folded name → entity.
    names: BTreeMap<Digest, Id>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Entity {
    /// Digests of its names.
    names: Vec<Digest>,
    /// The one it was merged into.
    into: Option<Id>,
    deleted: bool,
    edges: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Edge {
    from: Id,
    to: Id,
    valid_from_ms: Option<i64>,
}

fn name_digest(scope: &Scope, name: &str) -> Digest {
    digest("athena entity", scope, &[folded(name).as_bytes()])
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
            Event::EntityAdded(e) => {
                self.entities.put(&e.id, &meta.scope, None, Entity::default());
                self.call(&meta.scope, &e.id, std::iter::once(&e.name).chain(&e.aliases));
            }
            Event::EntityUpdated(e) => self.call(&meta.scope, &e.id, e.name.iter().chain(&e.add_aliases)),
            Event::EntitiesMerged(e) => self.merged(&e.keep, &e.merged),
            Event::EntitySplit(e) => self.split(&meta.scope, e),
            Event::EdgeAdded(e) => {
                let edge = Edge { from: e.from.clone(), to: e.to.clone(), valid_from_ms: e.valid_from_ms };
                self.edges.put(&e.id, &meta.scope, None, edge);
                for end in [&e.from, &e.to] {
                    if let Some(entity) = self.entities.entry(end) {
                        entity.edges += 1;
                    }
                }
            }
            Event::EdgeInvalidated(_) => {}
            Event::EntityDeleted(e) => self.deleted(&e.id, true),
            Event::EntityRestored(e) => self.deleted(&e.id, false),
            Event::Relocated(e) => self.entities.relocate(&e.ids, &e.to),
            Event::Reverted(e) => e.items.iter().for_each(|past| self.put_back(past)),
        }
    }
}

/// Folds.
impl State {
    fn call<'a>(&mut self, scope: &Scope, id: &Id, names: impl Iterator<Item = &'a String>) {
        for name in names {
            let digest = name_digest(scope, name);
            self.names.insert(digest, id.clone());
            if let Some(entity) = self.entities.entry(id)
                && !entity.names.contains(&digest)
            {
                entity.names.push(digest);
            }
        }
    }

    fn merged(&mut self, keep: &Id, merged: &[Id]) {
        for id in merged {
            let Some(entity) = self.entities.entry(id) else { continue };
            entity.into = Some(keep.clone());
            let (names, edges) = (entity.names.clone(), entity.edges);
            for name in &names {
                self.names.insert(*name, keep.clone());
            }
            if let Some(kept) = self.entities.entry(keep) {
                kept.edges += edges;
            }
        }
    }

    fn split(&mut self, scope: &Scope, event: &EntitySplit) {
        let moved = event.edges.len() as u32;
        match self.entities.entry(&event.into) {
            Some(back) => (back.into, back.edges) = (None, moved),
            None => {
                let entity = Entity { edges: moved, ..Entity::default() };
                self.entities.put(&event.into, scope, None, entity);
            }
        }
        if let Some(entity) = self.entities.entry(&event.id) {
            entity.edges = entity.edges.saturating_sub(moved);
            let name = name_digest(scope, &event.name);
            entity.names.retain(|known| *known != name);
        }
        self.call(scope, &event.into, std::iter::once(&event.name));
    }

    /// What a name leads to follows the names an entity has again. (Counts of edges are only told before a deletion, and are
    /// let be.)
    fn put_back(&mut self, past: &Past<Image>) {
        let id = &past.id;
        match &past.to {
            None => {
                self.deleted(id, true);
                self.edges.revert(id, None, true);
            }
            Some(Image::Edge { hidden, .. }) => self.edges.revert(id, None, *hidden),
            Some(Image::Entity { scope, entity, into, deleted }) => {
                self.entities.revert(id, Some(scope), false);
                self.names.retain(|_, named| named != id);
                if let Some(known) = self.entities.entry(id) {
                    known.names.clear();
                    (known.into, known.deleted) = (into.clone(), *deleted);
                }
                self.call(scope, id, std::iter::once(&entity.name).chain(&entity.aliases));
            }
        }
    }

    fn deleted(&mut self, id: &Id, deleted: bool) {
        if let Some(entity) = self.entities.entry(id) {
            entity.deleted = deleted;
        }
    }
}

impl State {
    /// An entity that stands: there, not deleted, not merged away.
    fn standing(&self, cx: &Context, id: &Id) -> Result<&Entity, Refusal> {
        let entity = self.entities.get(cx, id)?;
        if let Some(into) = &entity.into {
            return Err(Refusal::conflict(format!("{id} was merged into {into}")).hint(format!("use {into}")));
        }
        if entity.deleted {
            return Err(Refusal::not_found(format!("{id} was deleted")).hint("a person can restore it"));
        }
        Ok(entity)
    }

    /// The entity that goes by a name, if one does.
    fn named(&self, cx: &Context, name: &str) -> Option<&Id> {
        let id = self.names.get(&name_digest(&cx.scope, name))?;
        self.standing(cx, id).is_ok().then_some(id)
    }

    fn aliases(field: &str, aliases: Vec<String>) -> Result<Vec<String>, Refusal> {
        if aliases.len() > ALIASES {
            check::count(field, aliases.len(), ALIASES)?;
        }
        aliases
            .into_iter()
            .enumerate()
            .map(|(i, alias)| check::word(&format!("{field}[{i}]"), alias))
            .collect()
    }
}

impl Commands for State {
    fn add_entity(&self, cx: &Context, op: AddEntity) -> Result<Decision<Event, Ack>, Refusal> {
        let name = check::word("name", op.name)?;
        let kind = check::word("type", op.kind)?;
        let aliases = Self::aliases("aliases", op.aliases)?;
        let attrs = check::meta("attrs", &op.attrs)?;
        let known = std::iter::once(&name).chain(&aliases).find_map(|name| self.named(cx, name)).cloned();
        let Some(id) = known else {
            let event = EntityAdded { id: cx.mint("en"), name, kind, aliases, attrs };
            let ack = Ack::of(event.id.clone());
            return Ok(Decision::one(event, ack));
        };
        // It is there already: what is new about it completes it.
        let add_aliases: Vec<String> =
            std::iter::once(name).chain(aliases).filter(|name| self.named(cx, name) != Some(&id)).collect();
        if add_aliases.is_empty() && attrs.is_empty() {
            return Ok(Decision::nothing(Ack::duplicate(id)));
        }
        let event = EntityUpdated { id: id.clone(), name: None, kind: None, add_aliases, attrs };
        Ok(Decision::one(event, Ack::duplicate(id)))
    }

    fn update_entity(&self, cx: &Context, op: UpdateEntity) -> Result<Decision<Event, Ack>, Refusal> {
        self.standing(cx, &op.id)?;
        let patch = op.patch;
        let event = EntityUpdated {
            id: op.id.clone(),
            name: patch.name.map(|name| check::word("patch.name", name)).transpose()?,
            kind: patch.kind.map(|kind| check::word("patch.type", kind)).transpose()?,
            add_aliases: Self::aliases("patch.add_aliases", patch.add_aliases)?,
            attrs: check::meta("patch.attrs", &patch.attrs)?,
        };
        if event.name.is_none()
            && event.kind.is_none()
            && event.add_aliases.is_empty()
            && event.attrs.is_empty()
        {
            return Err(Refusal::invalid("the patch changes nothing").at("patch"));
        }
        for name in event.name.iter().chain(&event.add_aliases) {
            if let Some(other) = self.named(cx, name).filter(|other| **other != op.id) {
                return Err(Refusal::conflict(format!("{other} goes by that name already"))
                    .at("patch")
                    .hint("merge_entities"));
            }
        }
        Ok(Decision::one(event, Ack::of(op.id)))
    }

    fn merge_entities(&self, cx: &Context, op: MergeEntities) -> Result<Decision<Event, Ack>, Refusal> {
        check::count("merge", op.merge.len(), MERGED)?;
        self.standing(cx, &op.keep).map_err(|refusal| refusal.at("keep"))?;
        let mut merged: Vec<Id> = Vec::with_capacity(op.merge.len());
        for (i, id) in op.merge.into_iter().enumerate() {
            self.standing(cx, &id).map_err(|refusal| refusal.at(format!("merge[{i}]")))?;
            if id == op.keep {
                return Err(
                    Refusal::invalid("an entity cannot be merged into itself").at(format!("merge[{i}]"))
                );
            }
            if !merged.contains(&id) {
                merged.push(id);
            }
        }
        Ok(Decision::one(EntitiesMerged { keep: op.keep.clone(), merged }, Ack::of(op.keep)))
    }

    fn split_entity(&self, cx: &Context, op: SplitEntity) -> Result<Decision<Event, Ack>, Refusal> {
        self.standing(cx, &op.id)?;
        let name = check::word("name", op.name)?;
        if let Some(other) = self.named(cx, &name).filter(|other| **other != op.id) {
            return Err(Refusal::conflict(format!("{other} goes by that name already")).at("name"));
        }
        check::count("edges", op.edges.len(), check::ITEMS)?;
        for (i, id) in op.edges.iter().enumerate() {
            let edge = self.edges.get(cx, id).map_err(|refusal| refusal.at(format!("edges[{i}]")))?;
            let its = |end: &Id| {
                *end == op.id || self.entities.get(cx, end).is_ok_and(|e| e.into.as_ref() == Some(&op.id))
            };
            if !its(&edge.from) && !its(&edge.to) {
                return Err(
                    Refusal::invalid(format!("{id} is no edge of {}", op.id)).at(format!("edges[{i}]"))
                );
            }
        }
        // What a merge took in under this name comes back as itself.
        let into =
            self.names.get(&name_digest(&cx.scope, &name)).filter(|_| self.named(cx, &name) == Some(&op.id));
        let before = into.and_then(|_| self.merged_under(cx, &op.id, &name));
        let event =
            EntitySplit { id: op.id, into: before.unwrap_or_else(|| cx.mint("en")), name, edges: op.edges };
        let ack = Ack::of(event.into.clone());
        Ok(Decision::one(event, ack))
    }

    fn add_edge(&self, cx: &Context, op: AddEdge) -> Result<Decision<Event, Ack>, Refusal> {
        self.standing(cx, &op.from).map_err(|refusal| refusal.at("from"))?;
        self.standing(cx, &op.to).map_err(|refusal| refusal.at("to"))?;
        let moment = |field: &str, time: &Option<String>| {
            time.as_deref().map(|time| millis(time).map_err(|refusal| refusal.at(field))).transpose()
        };
        let (valid_from_ms, valid_to_ms) =
            (moment("valid_from", &op.valid_from)?, moment("valid_to", &op.valid_to)?);
        if valid_from_ms.zip(valid_to_ms).is_some_and(|(from, to)| from >= to) {
            return Err(Refusal::invalid("the edge ends before it begins").at("valid_to"));
        }
        let weight = check::per_mille("weight", op.weight.unwrap_or(1.0))?;
        if weight == 0 {
            return Err(Refusal::invalid("an edge of no weight says nothing").at("weight"));
        }
        let event = EdgeAdded {
            id: cx.mint("ed"),
            from: op.from,
            relation: check::word("relation", op.relation)?,
            to: op.to,
            valid_from_ms,
            valid_to_ms,
            weight,
            origin: check::origin(cx, op.prov),
        };
        let ack = Ack::of(event.id.clone());
        Ok(Decision::one(event, ack))
    }

    fn invalidate_edge(&self, cx: &Context, op: InvalidateEdge) -> Result<Decision<Event, Ack>, Refusal> {
        let edge = self.edges.get(cx, &op.id)?;
        let valid_to_ms = millis(&op.valid_to).map_err(|refusal| refusal.at("valid_to"))?;
        if edge.valid_from_ms.is_some_and(|from| from >= valid_to_ms) {
            return Err(Refusal::invalid("the edge would end before it begins").at("valid_to"));
        }
        let reason = check::maybe_text("reason", op.reason)?;
        Ok(Decision::one(EdgeInvalidated { id: op.id.clone(), valid_to_ms, reason }, Ack::of(op.id)))
    }

    fn delete_entity(&self, cx: &Context, op: DeleteEntity) -> Result<Decision<Event, Deleted>, Refusal> {
        let edges = self.standing(cx, &op.id)?.edges;
        Ok(if op.dry_run {
            Decision::nothing(Deleted { edges, seq: None })
        } else {
            Decision::one(EntityDeleted { id: op.id }, Deleted { edges, seq: Some(0) })
        })
    }

    fn restore_entity(&self, cx: &Context, op: RestoreEntity) -> Result<Decision<Event, Ack>, Refusal> {
        if !self.entities.get(cx, &op.id)?.deleted {
            return Err(Refusal::conflict(format!("{} is not deleted", op.id)));
        }
        Ok(Decision::one(EntityRestored { id: op.id.clone() }, Ack::of(op.id)))
    }

    fn relocate(&self, cx: &Context, op: Relocate) -> Result<Decision<Event, Moved>, Refusal> {
        moved(op, |ids| self.entities.visible(cx, ids, false), |ids, to| Relocated { ids, to }.into())
    }

    fn revert(&self, _: &Context, op: Revert) -> Result<Decision<Event, PutBack>, Refusal> {
        put_back(op)
    }
}

impl State {
    /// The entity that a merge into `keep` took in and that had this name of its own.
    fn merged_under(&self, cx: &Context, keep: &Id, name: &str) -> Option<Id> {
        let name = name_digest(&cx.scope, name);
        self.entities
            .find(cx, "en", |entity| entity.into.as_ref() == Some(keep) && entity.names.contains(&name))
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

    fn id(answer: &Value) -> String {
        answer["id"].as_str().unwrap().to_owned()
    }

    fn add(layer: &mut Layer<State>, name: &str) -> String {
        id(&layer.when("add_entity", json!({"name": name, "type": "person"})).unwrap().1)
    }

    #[test]
    fn one_entity_goes_by_all_its_names() {
        let mut layer = layer();
        let ana = id(&layer
            .when("add_entity", json!({"name": "Ana", "type": "person", "aliases": ["A. Q."]}))
            .unwrap()
            .1);
        let (events, again) = layer.when("add_entity", json!({"name": "a.  q.", "type": "person"})).unwrap();
        assert!(events.is_empty());
        assert_eq!((id(&again), again["deduped_into"].as_str()), (ana.clone(), Some(&*ana)));
        let (events, _) =
            layer.when("add_entity", json!({"name": "ANA", "type": "person", "aliases": ["Anita"]})).unwrap();
        assert!(matches!(&events[..], [Event::EntityUpdated(e)] if e.add_aliases == ["Anita"]));
        assert_eq!(add(&mut layer, "anita"), ana);
    }

    #[test]
    fn a_name_belongs_to_one() {
        let mut layer = layer();
        add(&mut layer, "Ana");
        let ben = add(&mut layer, "Ben");
        let refused = layer.when("update_entity", json!({"id": ben, "patch": {"name": "ana"}})).unwrap_err();
        assert_eq!((refused.code, refused.hint.as_str()), (Code::Conflict, "merge_entities"));
    }

    #[test]
    fn a_merge_is_undone_by_a_split() {
        let mut layer = layer();
        let (ana, anna, ben) = (add(&mut layer, "Ana"), add(&mut layer, "Anna"), add(&mut layer, "Ben"));
        let edge =
            id(&layer.when("add_edge", json!({"from": anna, "relation": "knows", "to": ben})).unwrap().1);
        layer.when("merge_entities", json!({"keep": ana, "merge": [anna]})).unwrap();
        assert_eq!(add(&mut layer, "Anna"), ana);
        let gone = layer.when("add_edge", json!({"from": anna, "relation": "knows", "to": ben})).unwrap_err();
        assert!(gone.hint.contains(&ana), "{gone}");
        let (_, back) =
            layer.when("split_entity", json!({"id": ana, "edges": [edge], "name": "Anna"})).unwrap();
        assert_eq!(id(&back), anna);
        assert_eq!(add(&mut layer, "Anna"), anna);
        assert_eq!(layer.replayed(), layer.state);
    }

    #[test]
    fn an_edge_begins_before_it_ends() {
        let mut layer = layer();
        let (ana, ben) = (add(&mut layer, "Ana"), add(&mut layer, "Ben"));
        let edge = json!({"from": ana, "relation": "knows", "to": ben, "valid_from": "2026-01-01", "valid_to": "2025-01-01"});
        assert_eq!(layer.when("add_edge", edge).unwrap_err().path.as_deref(), Some("valid_to"));
        let edge = json!({"from": ana, "relation": "knows", "to": ben, "valid_from": "2026-01-01"});
        let edge = id(&layer.when("add_edge", edge).unwrap().1);
        assert!(layer.when("invalidate_edge", json!({"id": edge, "valid_to": "2025-01-01"})).is_err());
        layer
            .when("invalidate_edge", json!({"id": edge, "valid_to": "2026-06-01", "reason": "moved"}))
            .unwrap();
    }

    #[test]
    fn a_deletion_is_rehearsed_done_and_undone() {
        let mut layer = layer();
        let (ana, ben) = (add(&mut layer, "Ana"), add(&mut layer, "Ben"));
        layer.when("add_edge", json!({"from": ana, "relation": "knows", "to": ben})).unwrap();
        let (events, answer) = layer.when("delete_entity", json!({"id": ana, "dry_run": true})).unwrap();
        assert!(events.is_empty());
        assert_eq!(answer, json!({"edges": 1}));
        layer.when("delete_entity", json!({"id": ana})).unwrap();
        assert_eq!(
            layer.when("update_entity", json!({"id": ana, "patch": {"name": "x"}})).unwrap_err().code,
            Code::NotFound
        );
        layer.when("restore_entity", json!({"id": ana})).unwrap();
        layer.when("update_entity", json!({"id": ana, "patch": {"name": "x"}})).unwrap();
    }

    proptest! {
        #[test]
        fn any_history_replays_to_the_same_state(steps in prop::collection::vec((0u8..6, 0usize..5, 0usize..5), 0..40)) {
            let mut layer = layer();
            let names = ["Ana", "Ben", "Cem", "Dia", "Eli"];
            for (what, a, b) in steps {
                let (x, y) = (add(&mut layer, names[a]), add(&mut layer, names[b]));
                let _ = match what {
                    0 => layer.when("add_edge", json!({"from": x, "relation": "knows", "to": y})),
                    1 => layer.when("merge_entities", json!({"keep": x, "merge": [y]})),
                    2 => layer.when("delete_entity", json!({"id": x})),
                    3 => layer.when("restore_entity", json!({"id": x})),
                    4 => layer.when("update_entity", json!({"id": x, "patch": {"add_aliases": [names[b]]}})),
                    _ => layer.when("update_entity", json!({"id": x, "patch": {"name": format!("{} {b}", names[a])}})),
                };
            }
            prop_assert_eq!(layer.replayed(), layer.state);
        }
    }
}
