//! Items as they stood: read from the log for those who undo, and put back by the events that do.
//!
//! An image holds what can change of an item. Texts of episodes and facts never change and are not in it, so no copy of them
//! survives their erasure.

use crate::agenda::{Agenda, GoalRow, TaskRow, TriggerRow};
use crate::items::{EpisodeRow, FactRow, Items, pair_key};
use crate::network::{EdgeRow, EntityRow, Graph};
use crate::store::{Batch, Fold, Store, StoreError};
use athena_schemas::envelope::Seq;
use athena_schemas::event::Event;
use athena_schemas::id::Id;
use athena_schemas::layers::common::{Layer, Past};
use athena_schemas::layers::prospective::Thing;
use athena_schemas::layers::{episodic, graph, prospective, semantic};
use athena_schemas::operation::to_json;
use athena_schemas::ports::{LogReader, Recorded, Sealer};
use athena_schemas::refusal::Refusal;
use athena_schemas::undo::{Undo, Undoable};
use serde_json::Value;
use std::collections::HashSet;
use std::sync::Arc;

/// Records read at once.
const PAGE: usize = 512;

/// Items of one layer, each as it stood just before its position, in the form the layer's `revert` takes them. The layer's events
/// are read once.
///
/// # Errors
/// When the log cannot be read.
pub fn before(
    log: &dyn LogReader,
    sealer: &dyn Sealer,
    layer: Layer,
    wanted: &[(Id, Seq)],
) -> Result<Value, Refusal> {
    let store = Store::memory();
    match layer {
        Layer::Episodic => {
            let items = Items::open(&store)?;
            look_back(log, sealer, layer, wanted, &store, &items, |id| {
                Ok(items.episodes.row::<EpisodeRow>(key(id))?.map(|row| row.image()))
            })
        }
        Layer::Semantic => {
            let items = Items::open(&store)?;
            look_back(log, sealer, layer, wanted, &store, &items, |id| {
                let Some(row) = items.facts.row::<FactRow>(key(id))? else { return Ok(None) };
                row.image(&items).map(Some)
            })
        }
        Layer::Prospective => {
            let agenda = Agenda::open(&store)?;
            look_back(log, sealer, layer, wanted, &store, &agenda, |id| agenda.image(id))
        }
        Layer::Graph => {
            let graph = Graph::open(&store)?;
            look_back(log, sealer, layer, wanted, &store, &graph, |id| graph.image(id))
        }
        Layer::Procedural => Err(Refusal::internal("procedures are rolled back, not put back")),
    }
}

fn key(id: &Id) -> &[u8] {
    id.as_str().as_bytes()
}

/// Folds the events that touch any of these items, and takes each item's image when its position is reached.
fn look_back<T: serde::Serialize>(
    log: &dyn LogReader,
    sealer: &dyn Sealer,
    layer: Layer,
    wanted: &[(Id, Seq)],
    store: &Store,
    fold: &impl Fold,
    image: impl Fn(&Id) -> Result<Option<T>, StoreError>,
) -> Result<Value, Refusal> {
    let ids: HashSet<&Id> = wanted.iter().map(|(id, _)| id).collect();
    let mut due: Vec<&(Id, Seq)> = wanted.iter().collect();
    due.sort_by_key(|(_, seq)| std::cmp::Reverse(*seq));
    let mut images = Vec::with_capacity(due.len());
    let mut take = |due: &mut Vec<&(Id, Seq)>, reached: Seq| -> Result<(), StoreError> {
        while let Some((id, _)) = due.pop_if(|(_, seq)| *seq <= reached) {
            images.push(Past { id: id.clone(), to: image(id)? });
        }
        Ok(())
    };
    let mut version = 0;
    'all: loop {
        let records = log.read_stream(layer.as_str(), version, PAGE)?;
        let Some(last) = records.last() else { break };
        version = last.version;
        for record in records {
            take(&mut due, record.seq)?;
            if due.is_empty() {
                break 'all;
            }
            let Some(event) = record.event::<Event>(sealer)? else { continue };
            if touched(&event).iter().any(|id| ids.contains(id)) {
                let recorded = Recorded { record: Arc::new(record), event: None };
                let mut batch = store.batch();
                fold.fold(&mut batch, &event, &recorded)?;
                batch.commit()?;
            }
        }
    }
    take(&mut due, Seq::MAX)?;
    to_json(images)
}

/// The items an event changes.
pub fn touched(event: &Event) -> Vec<Id> {
    match event.undo() {
        Undo::Items(ids) => ids,
        _ => Vec::new(),
    }
}

impl EpisodeRow {
    fn image(&self) -> episodic::Image {
        episodic::Image {
            scope: self.head.scope.clone(),
            hidden: self.head.hidden,
            outcome: self.body.outcome,
            importance: self.body.importance,
            tags: self.body.tags.clone(),
            meta: self.body.meta.clone(),
        }
    }
}

impl FactRow {
    fn image(&self, items: &Items) -> Result<semantic::Image, StoreError> {
        let mut settled = Vec::new();
        items.settled.prefix(&pair_key(&self.body.id, &Id::from_text("")), &mut |_, other| {
            settled.push(Id::from_text(String::from_utf8_lossy(other).into_owned()));
            true
        })?;
        Ok(semantic::Image {
            scope: self.head.scope.clone(),
            hidden: self.head.hidden,
            standing: self.standing,
            superseded_by: self.superseded_by.clone(),
            closed_ms: self.closed_ms,
            valid_to_ms: self.body.valid_to_ms,
            open_to_ms: self.open_to_ms,
            reason: self.reason.clone(),
            log_odds: self.body.log_odds,
            sureness: self.sureness.clone(),
            evidence: self.body.origin.events.clone(),
            settled,
        })
    }
}

impl Items {
    pub(crate) fn put_back_episode(
        &self,
        batch: &mut Batch,
        past: &Past<episodic::Image>,
    ) -> Result<(), StoreError> {
        let Some(to) = &past.to else { return self.hide_episode(batch, &past.id, true) };
        let Some(mut row) = batch.row::<EpisodeRow>(&self.episodes, key(&past.id))? else { return Ok(()) };
        self.unindex_episode(batch, &row)?;
        self.enter_project(batch, &to.scope)?;
        (row.head.scope, row.head.hidden) = (to.scope.clone(), to.hidden);
        (row.body.outcome, row.body.importance) = (to.outcome, to.importance);
        (row.body.tags, row.body.meta) = (to.tags.clone(), to.meta.clone());
        self.index_episode(batch, &row)?;
        batch.put_row(&self.episodes, past.id.as_str(), &row)
    }

    pub(crate) fn put_back_fact(
        &self,
        batch: &mut Batch,
        past: &Past<semantic::Image>,
    ) -> Result<(), StoreError> {
        let Some(to) = &past.to else { return self.hide_fact(batch, &past.id, true) };
        let Some(mut row) = batch.row::<FactRow>(&self.facts, key(&past.id))? else { return Ok(()) };
        self.unindex_fact(batch, &row)?;
        self.enter_project(batch, &to.scope)?;
        (row.head.scope, row.head.hidden) = (to.scope.clone(), to.hidden);
        (row.standing, row.superseded_by) = (to.standing, to.superseded_by.clone());
        (row.closed_ms, row.open_to_ms, row.reason) = (to.closed_ms, to.open_to_ms, to.reason.clone());
        row.superseded_ms = to.superseded_by.as_ref().and(row.superseded_ms.or(to.closed_ms));
        (row.body.valid_to_ms, row.body.log_odds) = (to.valid_to_ms, to.log_odds);
        (row.sureness, row.body.origin.events) = (to.sureness.clone(), to.evidence.clone());
        self.index_fact(batch, &row)?;
        self.settle_only(batch, &past.id, &to.settled)?;
        batch.put_row(&self.facts, past.id.as_str(), &row)
    }

    /// The conflicts of a fact that are settled are these and no others.
    fn settle_only(&self, batch: &mut Batch, id: &Id, settled: &[Id]) -> Result<(), StoreError> {
        for (_, other) in batch.rows(&self.settled, &pair_key(id, &Id::from_text("")))? {
            let other = Id::from_text(String::from_utf8_lossy(&other).into_owned());
            batch.remove(&self.settled, pair_key(id, &other));
            batch.remove(&self.settled, pair_key(&other, id));
        }
        for other in settled {
            batch.put(&self.settled, pair_key(id, other), other.as_str());
            batch.put(&self.settled, pair_key(other, id), id.as_str());
        }
        Ok(())
    }
}

impl Agenda {
    /// Tasks and goals are hidden by nothing but having been taken back: then they are not there.
    fn image(&self, id: &Id) -> Result<Option<prospective::Image>, StoreError> {
        Ok(match id.prefix() {
            "go" => self.goals.row::<GoalRow>(key(id))?.filter(|row| !row.head.hidden).map(|row| {
                prospective::Image {
                    scope: row.head.scope,
                    thing: Thing::Goal { goal: row.body, status: row.status },
                }
            }),
            "tr" => self.triggers.row::<TriggerRow>(key(id))?.map(|row| prospective::Image {
                scope: row.head.scope,
                thing: Thing::Trigger { active: !row.head.hidden },
            }),
            _ => self.tasks.row::<TaskRow>(key(id))?.filter(|row| !row.head.hidden).map(|row| {
                prospective::Image {
                    scope: row.head.scope,
                    thing: Thing::Task {
                        task: row.body,
                        status: row.status,
                        snoozed_until_ms: row.snoozed_until_ms,
                        outcome: row.outcome,
                    },
                }
            }),
        })
    }

    pub(crate) fn put_back(
        &self,
        batch: &mut Batch,
        past: &Past<prospective::Image>,
    ) -> Result<(), StoreError> {
        let id = &past.id;
        if let Some(to) = &past.to {
            let to = to.scope.clone();
            self.relocate(batch, id, &prospective::Relocated { ids: vec![id.clone()], to })?;
        }
        match past.to.as_ref().map(|to| &to.thing) {
            Some(Thing::Task { task, status, snoozed_until_ms, outcome }) => {
                self.change(batch, id, |row: &mut TaskRow| {
                    (row.head.hidden, row.body, row.status) = (false, task.clone(), *status);
                    (row.snoozed_until_ms, row.outcome) = (*snoozed_until_ms, outcome.clone());
                })
            }
            Some(Thing::Goal { goal, status }) => self.change(batch, id, |row: &mut GoalRow| {
                (row.head.hidden, row.body, row.status) = (false, goal.clone(), *status);
            }),
            Some(Thing::Trigger { active }) => {
                self.change(batch, id, |row: &mut TriggerRow| row.head.hidden = !active)
            }
            None => match id.prefix() {
                "go" => self.change(batch, id, |row: &mut GoalRow| row.head.hidden = true),
                "tr" => self.change(batch, id, |row: &mut TriggerRow| row.head.hidden = true),
                _ => self.change(batch, id, |row: &mut TaskRow| row.head.hidden = true),
            },
        }
    }
}

impl Graph {
    fn image(&self, id: &Id) -> Result<Option<graph::Image>, StoreError> {
        Ok(match id.prefix() {
            "ed" => self.edges.row::<EdgeRow>(key(id))?.map(|row| graph::Image::Edge {
                edge: row.body,
                closed_ms: row.closed_ms,
                open_to_ms: row.open_to_ms,
                reason: row.reason,
                hidden: row.head.hidden,
            }),
            _ => self.entity(id)?.map(|row| graph::Image::Entity {
                scope: row.head.scope,
                entity: row.body,
                into: row.into,
                deleted: row.head.hidden,
            }),
        })
    }

    pub(crate) fn put_back(&self, batch: &mut Batch, past: &Past<graph::Image>) -> Result<(), StoreError> {
        let id = &past.id;
        match &past.to {
            Some(graph::Image::Edge { edge, closed_ms, open_to_ms, reason, hidden }) => {
                self.change(batch, &self.edges, id, |row: &mut EdgeRow| {
                    (row.body, row.closed_ms, row.open_to_ms) = (edge.clone(), *closed_ms, *open_to_ms);
                    row.ends = row.known_ends();
                    (row.reason, row.head.hidden) = (reason.clone(), *hidden);
                })
            }
            Some(graph::Image::Entity { scope, entity, into, deleted }) => {
                let elsewhere = batch
                    .row::<EntityRow>(&self.entities, key(id))?
                    .is_some_and(|row| row.head.scope != *scope);
                if elsewhere {
                    self.relocate(batch, &graph::Relocated { ids: vec![id.clone()], to: scope.clone() })?;
                }
                self.change(batch, &self.entities, id, |row: &mut EntityRow| {
                    (row.body, row.into, row.head.hidden) = (entity.clone(), into.clone(), *deleted);
                })
            }
            None if id.prefix() == "ed" => {
                self.change(batch, &self.edges, id, |row: &mut EdgeRow| row.head.hidden = true)
            }
            None => self.change(batch, &self.entities, id, |row: &mut EntityRow| row.head.hidden = true),
        }
    }
}
