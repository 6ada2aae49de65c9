//! Entities and their relations: rows by id, and the part of them a caller may see as one graph in memory.
//!
//! A merge is a pointer (`into`) that is followed when the graph is built, so undoing it is dropping the pointer.

use crate::items::{Head, ids_in, project_key};
use crate::store::{Batch, Fold, Order, Store, StoreError, Table};
use athena_schemas::context::Context;
use athena_schemas::event::Event;
use athena_schemas::id::Id;
use athena_schemas::layers::common::{Object, time};
use athena_schemas::layers::graph::{self, Edge, Entity};
use athena_schemas::ports::Recorded;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::ops::Bound;

/// An entity's row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntityRow {
    /// Where and since when.
    pub head: Head,
    /// The entity as it is now.
    pub body: graph::EntityAdded,
    /// The entity that a merge made it part of.
    pub into: Option<Id>,
}

/// An edge's row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdgeRow {
    /// Where and since when.
    pub head: Head,
    /// The edge as it is now.
    pub body: graph::EdgeAdded,
    /// When it was recorded that it holds no longer, milliseconds since 1970.
    pub closed_ms: Option<u64>,
    /// The end of its validity before that.
    pub open_to_ms: Option<i64>,
    /// Why.
    pub reason: Option<String>,
    /// The end of its validity over time: recorded when, until when.
    pub ends: Vec<(u64, Option<i64>)>,
}

/// Ends kept of one edge; the first one always.
const ENDS: usize = 16;

impl EdgeRow {
    /// The ends of its validity as far as its last change tells.
    pub(crate) fn known_ends(&self) -> Vec<(u64, Option<i64>)> {
        match self.closed_ms {
            Some(closed) => {
                vec![(self.head.recorded_ms, self.open_to_ms), (closed, self.body.valid_to_ms)]
            }
            None => vec![(self.head.recorded_ms, self.body.valid_to_ms)],
        }
    }

    /// Whether it held at a time, as far as was known at another.
    pub fn holds(&self, valid_ms: i64, known_ms: u64) -> bool {
        let known = self.ends.iter().rev().find(|(at, _)| *at <= known_ms);
        let to = known.map_or(self.body.valid_to_ms, |(_, to)| *to);
        self.head.recorded_ms <= known_ms
            && self.body.valid_from_ms.is_none_or(|from| from <= valid_ms)
            && to.is_none_or(|to| valid_ms < to)
    }
}

/// The tables of the graph.
#[derive(Clone)]
pub struct Graph {
    pub(crate) entities: Table,
    pub(crate) edges: Table,
    by_project: Table,
    version: Table,
}

impl Graph {
    /// The position of the last event that changed the graph.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn version(&self) -> Result<u64, StoreError> {
        Ok(self.version.row(b"last")?.unwrap_or(0))
    }

    /// An entity's row, whatever became of it.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn entity(&self, id: &Id) -> Result<Option<EntityRow>, StoreError> {
        self.entities.row(id.as_str().as_bytes())
    }

    /// An edge by its id.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn edge(&self, id: &Id) -> Result<Option<EdgeRow>, StoreError> {
        self.edges.row(id.as_str().as_bytes())
    }

    /// The edges that begin or end at an entity itself, hidden ones included.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn edges_of(&self, entity: &Id, projects: &[[u8; 8]]) -> Result<Vec<Id>, StoreError> {
        let edges: Vec<EdgeRow> = self.all(&self.edges, "ed", projects)?;
        let at = |row: &EdgeRow| row.body.from == *entity || row.body.to == *entity;
        Ok(edges.into_iter().filter(at).map(|row| row.body.id).collect())
    }

    /// The part of the graph that who asks may see.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn network(&self, cx: &Context, projects: &[[u8; 8]]) -> Result<Network, StoreError> {
        let entities: Vec<EntityRow> = self.all(&self.entities, "en", projects)?;
        let edges: Vec<EdgeRow> = self.all(&self.edges, "ed", projects)?;
        let seen = |head: &Head| cx.scope.covers(&head.scope);
        Ok(Network::new(
            entities.into_iter().filter(|row| seen(&row.head)).collect(),
            edges.into_iter().filter(|row| seen(&row.head) && !row.head.hidden).collect(),
        ))
    }

    fn all<T: DeserializeOwned>(
        &self,
        table: &Table,
        prefix: &str,
        projects: &[[u8; 8]],
    ) -> Result<Vec<T>, StoreError> {
        let mut rows = Vec::new();
        for project in projects {
            let mut failed = None;
            let key = [&project[..], prefix.as_bytes()].concat();
            let open = (Bound::Unbounded, Bound::Unbounded);
            ids_in(&self.by_project, &key, open, Order::Ascending, &mut |_, id| {
                match table.row(id.as_str().as_bytes()) {
                    Ok(row) => rows.extend(row),
                    Err(error) => failed = Some(error),
                }
                failed.is_none()
            })?;
            failed.map_or(Ok(()), Err)?;
        }
        Ok(rows)
    }

    pub(crate) fn change<T: Serialize + DeserializeOwned>(
        &self,
        batch: &mut Batch,
        table: &Table,
        id: &Id,
        change: impl FnOnce(&mut T),
    ) -> Result<(), StoreError> {
        if let Some(mut row) = batch.row::<T>(table, id.as_str().as_bytes())? {
            change(&mut row);
            batch.put_row(table, id.as_str(), &row)?;
        }
        Ok(())
    }

    fn enter(&self, batch: &mut Batch, row: &EntityRow) -> Result<(), StoreError> {
        batch.put(&self.by_project, place(&row.body.id, &row.head), row.body.id.as_str());
        batch.put_row(&self.entities, row.body.id.as_str(), row)
    }

    fn split(
        &self,
        batch: &mut Batch,
        event: &graph::EntitySplit,
        recorded: &Recorded,
    ) -> Result<(), StoreError> {
        let Some(mut from) = batch.row::<EntityRow>(&self.entities, event.id.as_str().as_bytes())? else {
            return Ok(());
        };
        let into = match batch.row::<EntityRow>(&self.entities, event.into.as_str().as_bytes())? {
            Some(row) => EntityRow { into: None, ..row },
            None => EntityRow {
                head: Head { scope: from.head.scope.clone(), ..Head::of(recorded) },
                body: graph::EntityAdded {
                    id: event.into.clone(),
                    name: event.name.clone(),
                    kind: from.body.kind.clone(),
                    aliases: Vec::new(),
                    attrs: String::new(),
                },
                into: None,
            },
        };
        from.body.aliases.retain(|alias| *alias != event.name);
        batch.put_row(&self.entities, event.id.as_str(), &from)?;
        self.enter(batch, &into)?;
        event.edges.iter().try_for_each(|edge| {
            self.change(batch, &self.edges, edge, |row: &mut EdgeRow| {
                for end in [&mut row.body.from, &mut row.body.to] {
                    if *end == event.id {
                        *end = event.into.clone();
                    }
                }
            })
        })
    }

    pub(crate) fn relocate(&self, batch: &mut Batch, event: &graph::Relocated) -> Result<(), StoreError> {
        for id in &event.ids {
            let Some(mut row) = batch.row::<EntityRow>(&self.entities, id.as_str().as_bytes())? else {
                continue;
            };
            let old = project_key(&row.head.scope);
            batch.remove(&self.by_project, place(id, &row.head));
            row.head.scope = event.to.clone();
            self.enter(batch, &row)?;
            for (key, edge) in batch.rows(&self.by_project, &[&old[..], b"ed"].concat())? {
                let Some(mut row) = batch.row::<EdgeRow>(&self.edges, &edge)? else { continue };
                if row.body.from == *id || row.body.to == *id {
                    batch.remove(&self.by_project, key);
                    row.head.scope = event.to.clone();
                    batch.put(&self.by_project, place(&row.body.id, &row.head), edge.clone());
                    batch.put_row(&self.edges, edge, &row)?;
                }
            }
        }
        Ok(())
    }
}

fn place(id: &Id, head: &Head) -> Vec<u8> {
    [&project_key(&head.scope)[..], id.prefix().as_bytes(), &head.seq.to_be_bytes()].concat()
}

impl Fold for Graph {
    const NAME: &'static str = "graph";
    const VERSION: u32 = 2;

    fn open(store: &Store) -> Result<Self, StoreError> {
        Ok(Self {
            entities: store.table("entities")?,
            edges: store.table("edges")?,
            by_project: store.table("graph_by_project")?,
            version: store.table("graph_version")?,
        })
    }

    fn fold(&self, batch: &mut Batch, event: &Event, recorded: &Recorded) -> Result<(), StoreError> {
        let Event::Graph(event) = event else { return Ok(()) };
        batch.put_row(&self.version, *b"last", &recorded.record.seq)?;
        let hide = |batch: &mut Batch, id: &Id, hidden: bool| {
            self.change(batch, &self.entities, id, |row: &mut EntityRow| row.head.hidden = hidden)
        };
        match event {
            graph::Event::EntityAdded(event) => {
                self.enter(batch, &EntityRow { head: Head::of(recorded), body: event.clone(), into: None })
            }
            graph::Event::EntityUpdated(event) => {
                self.change(batch, &self.entities, &event.id, |row: &mut EntityRow| {
                    update(&mut row.body, event)
                })
            }
            graph::Event::EntitiesMerged(event) => event.merged.iter().try_for_each(|id| {
                self.change(batch, &self.entities, id, |row: &mut EntityRow| {
                    row.into = Some(event.keep.clone())
                })
            }),
            graph::Event::EntitySplit(event) => self.split(batch, event, recorded),
            graph::Event::EdgeAdded(event) => {
                let head = Head::of(recorded);
                let ends = vec![(head.recorded_ms, event.valid_to_ms)];
                let row = EdgeRow {
                    head,
                    body: event.clone(),
                    closed_ms: None,
                    open_to_ms: None,
                    reason: None,
                    ends,
                };
                batch.put(&self.by_project, place(&event.id, &row.head), event.id.as_str());
                batch.put_row(&self.edges, event.id.as_str(), &row)
            }
            graph::Event::EdgeInvalidated(event) => {
                let now = recorded.record.draft.meta.at_ms;
                self.change(batch, &self.edges, &event.id, |row: &mut EdgeRow| {
                    row.closed_ms = Some(now);
                    row.open_to_ms = row.body.valid_to_ms;
                    row.body.valid_to_ms = Some(event.valid_to_ms);
                    if row.ends.len() == ENDS {
                        row.ends.remove(1);
                    }
                    row.ends.push((now, Some(event.valid_to_ms)));
                    row.reason = event.reason.clone();
                })
            }
            graph::Event::EntityDeleted(event) => hide(batch, &event.id, true),
            graph::Event::EntityRestored(event) => hide(batch, &event.id, false),
            graph::Event::Relocated(event) => self.relocate(batch, event),
            graph::Event::Reverted(event) => {
                event.items.iter().try_for_each(|past| self.put_back(batch, past))
            }
        }
    }

    fn tables(&self) -> Vec<Table> {
        [&self.entities, &self.edges, &self.by_project, &self.version].map(Table::clone).to_vec()
    }
}

fn update(body: &mut graph::EntityAdded, event: &graph::EntityUpdated) {
    let mut names: Vec<String> = event.add_aliases.clone();
    if let Some(name) = &event.name {
        names.insert(0, std::mem::replace(&mut body.name, name.clone()));
    }
    for name in names {
        if name != body.name && !body.aliases.contains(&name) {
            body.aliases.push(name);
        }
    }
    if let Some(kind) = &event.kind {
        body.kind.clone_from(kind);
    }
    let patch: Object = serde_json::from_str(&event.attrs).unwrap_or_default();
    let mut attrs: Object = serde_json::from_str(&body.attrs).unwrap_or_default();
    for (key, value) in patch {
        if value.is_null() {
            attrs.remove(&key);
        } else {
            attrs.insert(key, value);
        }
    }
    body.attrs = if attrs.is_empty() { String::new() } else { serde_json::Value::Object(attrs).to_string() };
}

/// A node: an entity and all that merges made part of it.
#[derive(Debug, Clone)]
pub struct Node {
    /// The entity that stands for it.
    pub row: EntityRow,
    /// The ids it answers to: its own and those merged into it.
    pub ids: Vec<Id>,
    /// The names it goes by, its own first.
    pub names: Vec<String>,
    /// How central it is, from 0 to 1.
    pub importance: f64,
}

impl Node {
    /// Whether an id is its own, or was merged into it.
    pub fn is(&self, id: &Id) -> bool {
        self.ids.contains(id)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.row.body.name
    }

    /// The entity as it is answered.
    pub fn item(&self) -> Entity {
        let body = &self.row.body;
        Entity {
            id: body.id.clone(),
            name: body.name.clone(),
            kind: body.kind.clone(),
            aliases: self.names.iter().skip(1).cloned().collect(),
            attrs: serde_json::from_str(&body.attrs).unwrap_or_default(),
            importance: (self.importance * 1e4).round() / 1e4,
        }
    }
}

/// An edge between two nodes.
#[derive(Debug, Clone)]
pub struct Link {
    /// Its row.
    pub row: EdgeRow,
    /// The node it leaves.
    pub from: usize,
    /// The node it reaches.
    pub to: usize,
}

impl Link {
    /// Its strength, above 0 and up to 1.
    pub fn weight(&self) -> f64 {
        (f64::from(self.row.body.weight) / 1e3).max(1e-3)
    }
}

/// A graph in memory: what one caller may see.
#[derive(Debug, Clone, Default)]
pub struct Network {
    /// The nodes, in the order they were added.
    pub nodes: Vec<Node>,
    /// The edges between different nodes, or from one to itself.
    pub links: Vec<Link>,
    /// For each node, the edges at it and the node at their other end.
    pub at: Vec<Vec<(usize, usize)>>,
    by_id: HashMap<Id, usize>,
}

impl Network {
    /// Follows merges, leaves out what was deleted, and joins edges with their nodes.
    pub fn new(entities: Vec<EntityRow>, edges: Vec<EdgeRow>) -> Self {
        let into: HashMap<Id, Id> =
            entities.iter().filter_map(|row| Some((row.body.id.clone(), row.into.clone()?))).collect();
        let mut network = Self::default();
        for row in entities.iter().filter(|row| row.into.is_none() && !row.head.hidden) {
            network.by_id.insert(row.body.id.clone(), network.nodes.len());
            let mut names = vec![row.body.name.clone()];
            names.extend(row.body.aliases.iter().cloned());
            let ids = vec![row.body.id.clone()];
            network.nodes.push(Node { row: row.clone(), ids, names, importance: 0.0 });
        }
        for row in entities.iter().filter(|row| row.into.is_some()) {
            let Some(at) = network.by_id.get(&resolve(&into, &row.body.id)).copied() else { continue };
            network.by_id.insert(row.body.id.clone(), at);
            if let Some(node) = network.nodes.get_mut(at) {
                node.ids.push(row.body.id.clone());
                for name in std::iter::once(&row.body.name).chain(&row.body.aliases) {
                    if !node.names.contains(name) {
                        node.names.push(name.clone());
                    }
                }
            }
        }
        network.at = vec![Vec::new(); network.nodes.len()];
        for row in edges {
            let end = |id: &Id| network.by_id.get(id).copied();
            let (Some(from), Some(to)) = (end(&row.body.from), end(&row.body.to)) else { continue };
            let number = network.links.len();
            network.links.push(Link { row, from, to });
            for (one, other) in [(from, to), (to, from)] {
                if let Some(at) = network.at.get_mut(one)
                    && !(from == to && at.last() == Some(&(number, other)))
                {
                    at.push((number, other));
                }
            }
        }
        let central = network.rank(&vec![1.0; network.nodes.len()], &|_| true);
        let most = central.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
        for (node, rank) in network.nodes.iter_mut().zip(central) {
            node.importance = rank / most;
        }
        network
    }

    /// The node of an id.
    pub fn find(&self, id: &Id) -> Option<usize> {
        self.by_id.get(id).copied()
    }

    /// The nodes whose names occur as whole words in a text (in lower case).
    pub fn named_in(&self, lower: &str) -> Vec<&Node> {
        self.nodes
            .iter()
            .filter(|node| node.names.iter().any(|name| occurs(&name.to_lowercase(), lower)))
            .collect()
    }

    /// The edge as it is answered: between the entities that stand for its ends.
    pub fn edge(&self, link: &Link) -> Edge {
        let name = |at: usize, raw: &Id| self.nodes.get(at).map_or(raw, |node| &node.row.body.id).clone();
        let body = &link.row.body;
        Edge {
            id: body.id.clone(),
            from: name(link.from, &body.from),
            to: name(link.to, &body.to),
            relation: body.relation.clone(),
            weight: f64::from(body.weight) / 1e3,
            valid_from: body.valid_from_ms.map(time),
            valid_to: body.valid_to_ms.map(time),
            recorded: time(link.row.head.recorded_ms as i64),
            prov: body.origin.clone().into(),
        }
    }

    /// Personalised PageRank (Page et al. 1999; Haveliwala 2002) by power iteration: how likely a walk that keeps returning to
    /// the seeds is found at each node. Edges count in both directions, by weight. Damping .85, 40 steps.
    pub fn rank(&self, seeds: &[f64], takes: &dyn Fn(&Link) -> bool) -> Vec<f64> {
        const DAMPING: f64 = 0.85;
        let total: f64 = seeds.iter().sum();
        if total <= 0.0 {
            return vec![0.0; self.nodes.len()];
        }
        let start: Vec<f64> = seeds.iter().map(|seed| seed / total).collect();
        let strength: Vec<f64> = self
            .at
            .iter()
            .map(|at| {
                let links = at.iter().filter_map(|(link, _)| self.links.get(*link));
                links.filter(|link| takes(link)).map(Link::weight).sum()
            })
            .collect();
        let mut rank = start.clone();
        for _ in 0..40 {
            let mut next = vec![0.0; rank.len()];
            let mut lost = 0.0;
            for (node, mass) in rank.iter().enumerate() {
                let out = strength.get(node).copied().unwrap_or(0.0);
                if out <= 0.0 {
                    lost += mass;
                    continue;
                }
                for (link, other) in self.at.get(node).into_iter().flatten() {
                    if let (Some(link), Some(next)) = (self.links.get(*link), next.get_mut(*other))
                        && takes(link)
                    {
                        *next += mass * link.weight() / out;
                    }
                }
            }
            for (next, start) in next.iter_mut().zip(&start) {
                *next = DAMPING * (*next + lost * start) + (1.0 - DAMPING) * start;
            }
            rank = next;
        }
        rank
    }
}

fn resolve(into: &HashMap<Id, Id>, id: &Id) -> Id {
    let mut at = id;
    for _ in 0..=into.len() {
        match into.get(at) {
            Some(next) => at = next,
            None => break,
        }
    }
    at.clone()
}

/// Whether a name occurs as whole words.
fn occurs(name: &str, text: &str) -> bool {
    let edge = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric());
    !name.is_empty()
        && text.match_indices(name).any(|(at, found)| {
            let (before, rest) = text.split_at(at);
            edge(before.chars().next_back())
                && edge(rest.get(found.len()..).and_then(|rest| rest.chars().next()))
        })
}
