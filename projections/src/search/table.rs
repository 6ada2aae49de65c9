//! What is known of every document, in memory: who may see it, when, by whom, in which session. Everything but text and vectors.
//!
//! A document's number is its row, given in order of arrival and never reused; an edited document gets a new row. About 200
//! bytes a row.

use super::document::Document;
use super::plan::Form;
use athena_schemas::context::Scope;
use athena_schemas::id::Id;
use athena_schemas::layers::common::Layer;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::hash::Hash;

/// Number of a document.
pub type Row = u32;

/// The group of a row that is no longer there.
const GONE: u32 = u32::MAX;
/// No session, no actor.
pub const NONE: u32 = u32::MAX;

/// Names as numbers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(bound(deserialize = "T: Deserialize<'de> + Eq + Hash"))]
pub struct Names<T> {
    numbers: HashMap<T, u32>,
    names: Vec<T>,
}

impl<T> Default for Names<T> {
    fn default() -> Self {
        Self { numbers: HashMap::new(), names: Vec::new() }
    }
}

impl<T: Eq + Hash + Clone> Names<T> {
    fn number(&mut self, name: &T) -> u32 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let number = self.names.len() as u32;
        self.numbers.insert(name.clone(), number);
        self.names.push(name.clone());
        number
    }

    /// The number of a name, if any document has it.
    pub fn find<Q: ?Sized + Eq + Hash>(&self, name: &Q) -> Option<u32>
    where
        T: std::borrow::Borrow<Q>,
    {
        self.numbers.get(name).copied()
    }

    /// The name behind a number.
    pub fn name(&self, number: u32) -> Option<&T> {
        self.names.get(number as usize)
    }

    /// All names, by number.
    pub fn all(&self) -> &[T] {
        &self.names
    }
}

/// What is known of one document.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Facts {
    /// The item.
    pub id: Id,
    /// When, milliseconds since 1970.
    pub at_ms: i64,
    /// Position of the event that made it.
    pub order: u64,
    /// True from this time on.
    pub valid_from: i64,
    /// True until this time.
    pub valid_to: i64,
    /// Number of its session, or [`NONE`].
    pub session: u32,
    /// Number of its type.
    pub kind: u32,
    /// Number of its actor, or [`NONE`].
    pub actor: u32,
    /// Number of index terms.
    pub terms: u32,
    /// What its form says of it.
    pub form: Form,
    /// Numbers of its tags.
    pub tags: Box<[u32]>,
    /// Confidence in thousandths.
    pub confidence: u16,
    /// Another item took its place.
    pub superseded: bool,
    /// Forgotten.
    pub hidden: bool,
    /// Faded.
    pub faded: bool,
    /// Digest of the whole document.
    fingerprint: [u8; 16],
}

impl Facts {
    fn nothing() -> Self {
        Self {
            id: Id::from_text(String::new()),
            at_ms: 0,
            order: 0,
            valid_from: 0,
            valid_to: 0,
            session: NONE,
            kind: NONE,
            actor: NONE,
            terms: 0,
            form: Form::default(),
            tags: Box::default(),
            confidence: 0,
            superseded: false,
            hidden: true,
            faded: false,
            fingerprint: [0; 16],
        }
    }
}

/// Documents of one scope and layer: what a search admits or does not, as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Group {
    /// Where they belong.
    pub scope: Scope,
    /// Their layer.
    pub layer: Layer,
}

/// How much a group holds.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Size {
    /// Documents.
    pub documents: u64,
    /// Index terms over all of them.
    pub terms: u64,
}

/// All documents there are.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Table {
    groups_of: Vec<u32>,
    /// What a search asks of every posting, apart from the rest of what is known: it is walked by the hundred thousand.
    lengths: Vec<u32>,
    ordinary: Vec<bool>,
    facts: Vec<Facts>,
    rows: HashMap<[u8; 16], Row>,
    groups: Names<Group>,
    sizes: Vec<Size>,
    sessions: Names<(Scope, String)>,
    members: Vec<Vec<Row>>,
    /// Types.
    pub kinds: Names<String>,
    /// Actors, in lower case.
    pub actors: Names<String>,
    /// Tags.
    pub tags: Names<String>,
    /// The groups in which an actor ever spoke.
    speaks_in: HashMap<u32, Vec<u32>>,
}

impl Table {
    /// Adds a document under a number that is not taken. Numbers before it that were never given stay empty.
    pub fn insert(&mut self, row: Row, document: &Document, terms: u32, fingerprint: [u8; 16]) {
        let group = self.groups.number(&Group { scope: document.scope.clone(), layer: document.layer });
        self.sizes.resize(self.groups.all().len(), Size::default());
        if let Some(size) = self.sizes.get_mut(group as usize) {
            size.documents += 1;
            size.terms += u64::from(terms);
        }
        let session = document.session.as_ref().map_or(NONE, |name| {
            self.sessions.number(&(Scope { session: None, ..document.scope.clone() }, name.clone()))
        });
        let facts = Facts {
            id: document.id.clone(),
            at_ms: document.at_ms,
            order: document.order,
            valid_from: document.valid_from.unwrap_or(i64::MIN),
            valid_to: document.valid_to.unwrap_or(i64::MAX),
            session,
            kind: self.kinds.number(&document.kind),
            actor: document.actor.as_ref().map_or(NONE, |actor| self.actors.number(&actor.to_lowercase())),
            terms,
            form: Form::of(&document.text),
            tags: document.tags.iter().map(|tag| self.tags.number(tag)).collect(),
            confidence: document.confidence,
            superseded: document.superseded.is_some(),
            faded: document.faded,
            hidden: document.hidden || document.retracted,
            fingerprint,
        };
        if facts.actor != NONE {
            let groups = self.speaks_in.entry(facts.actor).or_default();
            if !groups.contains(&group) {
                groups.push(group);
            }
        }
        self.reserve_rows(row as usize + 1);
        self.rows.insert(key(&facts.id), row);
        let place = (facts.at_ms, facts.order);
        if let (Some(length), Some(ordinary)) =
            (self.lengths.get_mut(row as usize), self.ordinary.get_mut(row as usize))
        {
            *length = facts.terms;
            *ordinary = !facts.hidden && !facts.faded && !facts.superseded && facts.valid_to == i64::MAX;
        }
        if let (Some(of), Some(known)) =
            (self.groups_of.get_mut(row as usize), self.facts.get_mut(row as usize))
        {
            *of = group;
            *known = facts;
        }
        self.join(session, row, place);
    }

    /// Makes sure that at least this many numbers count as given.
    pub fn reserve_rows(&mut self, rows: usize) {
        if rows > self.facts.len() {
            self.facts.resize_with(rows, Facts::nothing);
            self.groups_of.resize(rows, GONE);
            self.lengths.resize(rows, 0);
            self.ordinary.resize(rows, false);
        }
    }

    fn join(&mut self, session: u32, row: Row, place: (i64, u64)) {
        if session == NONE {
            return;
        }
        self.members.resize_with(self.sessions.all().len(), Vec::new);
        let facts = &self.facts;
        if let Some(members) = self.members.get_mut(session as usize) {
            let before = |other: &Row| {
                facts
                    .get(*other as usize)
                    .is_some_and(|f| (f.at_ms, f.order, *other) < (place.0, place.1, row))
            };
            let at = if members.last().is_none_or(before) {
                members.len()
            } else {
                members.partition_point(before)
            };
            members.insert(at, row);
        }
    }

    /// Takes a document away; its row if it was there.
    pub fn remove(&mut self, id: &Id) -> Option<Row> {
        let row = self.rows.remove(&key(id))?;
        let group = self.groups_of.get_mut(row as usize)?;
        let facts = self.facts.get(row as usize)?;
        if let Some(size) = self.sizes.get_mut(*group as usize) {
            size.documents -= 1;
            size.terms -= u64::from(facts.terms);
        }
        *group = GONE;
        if let Some(members) = self.members.get_mut(facts.session as usize) {
            members.retain(|member| *member != row);
        }
        Some(row)
    }

    /// Takes a document out by its row.
    pub fn drop_row(&mut self, row: Row) {
        let Some(id) = self.facts(row).map(|facts| facts.id.clone()) else { return };
        let current = self.rows.get(&key(&id)).copied();
        // Another row may have taken its place; that one stays.
        self.rows.insert(key(&id), row);
        self.remove(&id);
        if let Some(current) = current.filter(|current| *current != row) {
            self.rows.insert(key(&id), current);
        }
    }

    /// The row of an item.
    pub fn find(&self, id: &Id) -> Option<Row> {
        self.rows.get(&key(id)).copied()
    }

    /// What is known of a row; `None` where it is no longer there.
    pub fn facts(&self, row: Row) -> Option<&Facts> {
        let group = self.groups_of.get(row as usize)?;
        if *group == GONE { None } else { self.facts.get(row as usize) }
    }

    /// Number of index terms of a row.
    pub fn length(&self, row: Row) -> u32 {
        self.lengths.get(row as usize).copied().unwrap_or(0)
    }

    /// Whether nothing special is known of a row: current, not forgotten, true without end.
    pub fn is_ordinary(&self, row: Row) -> bool {
        self.ordinary.get(row as usize).copied().unwrap_or(false)
    }

    /// Scope and layer of a row.
    pub fn group(&self, row: Row) -> Option<&Group> {
        self.groups.name(*self.groups_of.get(row as usize)?)
    }

    /// The group of every row, in order; a number beyond [`Table::groups`] where the row is no longer there.
    pub fn groups_of(&self) -> &[u32] {
        &self.groups_of
    }

    /// Every scope and layer, with how much each holds.
    pub fn groups(&self) -> impl Iterator<Item = (&Group, Size)> {
        self.groups.all().iter().zip(self.sizes.iter().copied())
    }

    /// How many numbers have been given.
    pub fn len(&self) -> usize {
        self.facts.len()
    }

    /// Whether no number has been given.
    pub fn is_empty(&self) -> bool {
        self.facts.is_empty()
    }

    /// How many documents there are.
    pub fn documents(&self) -> usize {
        self.rows.len()
    }

    /// The rows of a session in order.
    pub fn session(&self, session: u32) -> &[Row] {
        self.members.get(session as usize).map_or(&[], Vec::as_slice)
    }

    /// Place of a row in its session.
    pub fn place(&self, row: Row) -> Option<(&[Row], usize)> {
        let facts = self.facts(row)?;
        let members = self.session(facts.session);
        let at = members.partition_point(|other| {
            self.facts
                .get(*other as usize)
                .is_some_and(|f| (f.at_ms, f.order, *other) < (facts.at_ms, facts.order, row))
        });
        (members.get(at) == Some(&row)).then_some((members, at))
    }

    /// The numbers of the sessions of that name, over all scopes.
    pub fn sessions_named(&self, name: &str) -> Vec<u32> {
        self.sessions
            .all()
            .iter()
            .enumerate()
            .filter(|(_, (_, n))| n == name)
            .map(|(n, _)| n as u32)
            .collect()
    }

    /// Whether somebody of that name, in lower case, speaks where `scope` may look.
    pub fn is_actor(&self, scope: &Scope, name: &str) -> bool {
        let groups = self.actors.find(name).and_then(|actor| self.speaks_in.get(&actor));
        groups
            .into_iter()
            .flatten()
            .filter_map(|group| self.groups.name(*group))
            .any(|group| scope.covers(&group.scope))
    }

    /// A digest over all documents, whatever the order they arrived in.
    pub fn digest(&self) -> [u8; 32] {
        let mut all: Vec<&[u8; 16]> = self
            .rows
            .values()
            .filter_map(|row| self.facts.get(*row as usize))
            .map(|facts| &facts.fingerprint)
            .collect();
        all.sort_unstable();
        let mut hasher = blake3::Hasher::new();
        for fingerprint in all {
            hasher.update(fingerprint);
        }
        *hasher.finalize().as_bytes()
    }
}

fn key(id: &Id) -> [u8; 16] {
    let mut key = [0; 16];
    blake3::Hasher::new().update(id.as_str().as_bytes()).finalize_xof().fill(&mut key);
    key
}
