//! The items themselves: bodies of episodes and facts by id, with their scope and standing, and the indexes that lists,
//! sessions and conflicts are read from.
//!
//! What erasing removes here is what a rebuild would not find: the row, its index entries, its conflicts, and what it did to
//! others (a fact that an erased one superseded stands again).

mod conflicts;
mod fold;
mod tallies;
#[cfg(test)]
mod tests;

pub use conflicts::Clash;
pub use tallies::What;

use crate::store::{Order, StoreError, Table};
use athena_schemas::context::{Context, Scope};
use athena_schemas::envelope::Seq;
use athena_schemas::id::Id;
use athena_schemas::layers::common::{Prov, Source, confidence, time};
use athena_schemas::layers::episodic::{self, Episode};
use athena_schemas::layers::semantic::{self, Fact, Standing};
use athena_schemas::ports::Recorded;
use serde::{Deserialize, Serialize};
use std::ops::Bound;

/// What every row says of its item, whatever its layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Position of the event that made it.
    pub seq: Seq,
    /// When that was recorded, milliseconds since 1970.
    pub recorded_ms: u64,
    /// Where it belongs.
    pub scope: Scope,
    /// The run whose code made it.
    pub run: Option<Id>,
    /// Whether it is hidden.
    pub hidden: bool,
}

impl Head {
    /// The head of a new item.
    pub fn of(recorded: &Recorded) -> Self {
        let record = &recorded.record;
        Self {
            seq: record.seq,
            recorded_ms: record.draft.meta.at_ms,
            scope: record.draft.meta.scope.clone(),
            run: record.draft.meta.run.clone(),
            hidden: false,
        }
    }

    /// Whether who asks may see it.
    pub fn visible(&self, cx: &Context) -> bool {
        !self.hidden && cx.scope.covers(&self.scope)
    }
}

/// An episode's row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpisodeRow {
    /// Where and since when.
    pub head: Head,
    /// The episode as it was recorded and annotated since.
    pub body: episodic::Remembered,
}

impl EpisodeRow {
    /// The episode as it is answered.
    pub fn item(&self) -> Episode {
        let body = &self.body;
        Episode {
            id: body.id.clone(),
            content: body.content.clone(),
            kind: body.kind.clone(),
            time: time(body.time_ms),
            session: body.session.clone(),
            outcome: body.outcome,
            importance: f64::from(body.importance) / 1e3,
            tags: body.tags.clone(),
            meta: serde_json::from_str(&body.meta).unwrap_or_default(),
            untrusted: body.untrusted,
        }
    }
}

/// A fact's row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FactRow {
    /// Where and since when.
    pub head: Head,
    /// The fact as it was recorded; `valid_to_ms` and `log_odds` as they are now.
    pub body: semantic::Stored,
    /// What became of it.
    pub standing: Standing,
    /// The fact that took its place.
    pub superseded_by: Option<Id>,
    /// When it stopped being current.
    pub closed_ms: Option<u64>,
    /// When something took its place; it may have been retracted since.
    pub superseded_ms: Option<u64>,
    /// The end of its validity before it was closed.
    pub open_to_ms: Option<i64>,
    /// Why.
    pub reason: Option<String>,
    /// Its confidence over time: recorded when, log-odds in millionths.
    pub sureness: Vec<(u64, i32)>,
}

impl FactRow {
    /// The fact as it is answered.
    pub fn item(&self) -> Fact {
        let body = &self.body;
        Fact {
            id: body.id.clone(),
            content: body.content.clone(),
            confidence: confidence(body.log_odds),
            valid_from: body.valid_from_ms.map(time),
            valid_to: body.valid_to_ms.map(time),
            recorded: time(self.head.recorded_ms as i64),
            tags: body.tags.clone(),
            prov: body.origin.clone().into(),
            untrusted: body.untrusted,
        }
    }

    /// Whether it is held true.
    pub fn current(&self) -> bool {
        self.standing == Standing::Current
    }

    /// The row as it was at a time of recording; `None` where it was not there or not held true (ever) at that time.
    pub fn known_at(mut self, known_ms: u64) -> Option<Self> {
        if self.head.recorded_ms > known_ms {
            return None;
        }
        let later = |at: Option<u64>| at.is_some_and(|at| at > known_ms);
        if self.standing == Standing::Retracted && later(self.closed_ms) {
            let superseded = self.superseded_by.is_some();
            self.standing = if superseded { Standing::Superseded } else { Standing::Current };
            self.closed_ms = self.superseded_ms;
        }
        if later(self.superseded_ms) {
            self.reopen();
        }
        if let Some((_, log_odds)) = self.sureness.iter().rev().find(|(at, _)| *at <= known_ms) {
            self.body.log_odds = *log_odds;
        }
        (self.standing != Standing::Retracted).then_some(self)
    }

    /// Whether it is said to be true at a time.
    pub fn valid_at(&self, at_ms: i64) -> bool {
        self.body.valid_from_ms.is_none_or(|from| from <= at_ms)
            && self.body.valid_to_ms.is_none_or(|to| at_ms < to)
    }

    fn overlaps(&self, other: &Self) -> bool {
        let begins_before_end = |a: &Self, b: &Self| match (a.body.valid_from_ms, b.body.valid_to_ms) {
            (Some(from), Some(to)) => from < to,
            _ => true,
        };
        begins_before_end(self, other) && begins_before_end(other, self)
    }

    fn close(&mut self, standing: Standing, at_ms: u64, reason: Option<String>) {
        self.standing = standing;
        self.closed_ms = Some(at_ms);
        self.reason = reason;
    }

    fn supersede(&mut self, by: &Id, from_ms: i64, at_ms: u64, reason: Option<String>) {
        self.close(Standing::Superseded, at_ms, reason);
        self.superseded_by = Some(by.clone());
        self.superseded_ms = Some(at_ms);
        self.open_to_ms = self.body.valid_to_ms;
        self.body.valid_to_ms = Some(self.body.valid_to_ms.map_or(from_ms, |to| to.min(from_ms)));
    }

    /// Undoes the end of being current, as if nothing had taken its place.
    fn reopen(&mut self) {
        if self.superseded_by.take().is_some() {
            self.body.valid_to_ms = self.open_to_ms.take();
            self.superseded_ms = None;
        }
        if self.standing == Standing::Superseded {
            self.standing = Standing::Current;
            self.closed_ms = None;
            self.reason = None;
        }
    }
}

/// The tables of items.
#[derive(Clone)]
pub struct Items {
    pub(crate) episodes: Table,
    pub(crate) by_time: Table,
    pub(crate) by_session: Table,
    pub(crate) by_position: Table,
    pub(crate) tallies: Table,
    pub(crate) facts: Table,
    pub(crate) by_recorded: Table,
    pub(crate) claims: Table,
    pub(crate) settled: Table,
    pub(crate) projects: Table,
}

/// The first eight bytes of every index key: the project, so that no scan leaves it.
pub fn project_key(scope: &Scope) -> [u8; 8] {
    match &scope.project {
        Some(project) => hash8("athena project", project.as_bytes()),
        None => [0; 8],
    }
}

pub(crate) fn hash8(domain: &str, bytes: &[u8]) -> [u8; 8] {
    let mut out = [0; 8];
    blake3::Hasher::new_derive_key(domain).update(bytes).finalize_xof().fill(&mut out);
    out
}

/// A time as bytes that sort as it does, also before 1970.
pub fn sortable(at_ms: i64) -> [u8; 8] {
    ((at_ms as u64) ^ (1 << 63)).to_be_bytes()
}

fn time_key(row: &EpisodeRow) -> Vec<u8> {
    [project_key(&row.head.scope), sortable(row.body.time_ms), row.head.seq.to_be_bytes()].concat()
}

/// Where the episodes of a session lie in their order.
pub(crate) fn session_prefix(project: [u8; 8], session: &str) -> Vec<u8> {
    [project, hash8("athena session", session.as_bytes())].concat()
}

fn session_key(row: &EpisodeRow) -> Option<Vec<u8>> {
    let session = row.body.session.as_deref()?;
    let mut key = session_prefix(project_key(&row.head.scope), session);
    key.extend(sortable(row.body.time_ms));
    key.extend(row.head.seq.to_be_bytes());
    Some(key)
}

fn recorded_key(head: &Head) -> Vec<u8> {
    [project_key(&head.scope), head.seq.to_be_bytes()].concat()
}

pub(crate) fn pair_key(one: &Id, other: &Id) -> Vec<u8> {
    [one.as_str().as_bytes(), &[0], other.as_str().as_bytes()].concat()
}
impl Items {
    /// An episode, if who asks may see it.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn episode(&self, cx: &Context, id: &Id) -> Result<Option<EpisodeRow>, StoreError> {
        let row: Option<EpisodeRow> = self.episodes.row(id.as_str().as_bytes())?;
        Ok(row.filter(|row| row.head.visible(cx)))
    }

    /// A fact, if who asks may see it, whatever became of it.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn fact(&self, cx: &Context, id: &Id) -> Result<Option<FactRow>, StoreError> {
        let row: Option<FactRow> = self.facts.row(id.as_str().as_bytes())?;
        Ok(row.filter(|row| row.head.visible(cx)))
    }

    /// The projects a caller may look into, by their keys.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn projects(&self, scope: &Scope) -> Result<Vec<[u8; 8]>, StoreError> {
        if scope.project.is_some() {
            return Ok(vec![project_key(scope)]);
        }
        let mut keys = Vec::new();
        self.projects.prefix(&[], &mut |key, _| {
            keys.extend(<[u8; 8]>::try_from(key).ok());
            true
        })?;
        Ok(keys)
    }

    /// The projects there are; nothing for what belongs to none.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn project_names(&self) -> Result<Vec<Option<String>>, StoreError> {
        let (mut names, mut failed) = (Vec::new(), None);
        self.projects.prefix(&[], &mut |_, name| {
            match crate::store::decode(name) {
                Ok(name) => names.push(name),
                Err(error) => failed = Some(error),
            }
            failed.is_none()
        })?;
        failed.map_or(Ok(names), Err)
    }

    /// Visits every episode that who asks may see, oldest first within each project.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn each_episode(&self, cx: &Context, visit: &mut dyn FnMut(EpisodeRow)) -> Result<(), StoreError> {
        for project in self.projects(&cx.scope)? {
            let open = (Bound::Unbounded, Bound::Unbounded);
            self.episodes_in(cx, &self.by_time, &project, open, Order::Ascending, &mut |row| {
                visit(row);
                true
            })?;
        }
        Ok(())
    }

    /// The episodes that who asks may see in the order they were recorded, after a position, as far as `visit` wants them.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn recorded_after(
        &self,
        cx: &Context,
        after: Seq,
        visit: &mut dyn FnMut(EpisodeRow) -> bool,
    ) -> Result<(), StoreError> {
        for project in self.projects(&cx.scope)? {
            let from = Bound::Excluded([&project[..], &after.to_be_bytes()].concat());
            self.episodes_in(
                cx,
                &self.by_position,
                &project,
                (from, Bound::Unbounded),
                Order::Ascending,
                visit,
            )?;
        }
        Ok(())
    }

    /// The episodes recorded since a time, newest first, as far as `visit` wants them.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn recorded_since(
        &self,
        cx: &Context,
        since_ms: u64,
        visit: &mut dyn FnMut(EpisodeRow) -> bool,
    ) -> Result<(), StoreError> {
        for project in self.projects(&cx.scope)? {
            let open = (Bound::Unbounded, Bound::Unbounded);
            self.episodes_in(cx, &self.by_position, &project, open, Order::Descending, &mut |row| {
                row.head.recorded_ms >= since_ms && visit(row)
            })?;
        }
        Ok(())
    }

    /// Visits the episodes an index of one project holds, as far as `visit` wants them.
    pub(crate) fn episodes_in(
        &self,
        cx: &Context,
        index: &Table,
        prefix: &[u8],
        bounds: (Bound<Vec<u8>>, Bound<Vec<u8>>),
        order: Order,
        visit: &mut dyn FnMut(EpisodeRow) -> bool,
    ) -> Result<(), StoreError> {
        let mut failed = None;
        ids_in(index, prefix, bounds, order, &mut |_, id| match self.episode(cx, &id) {
            Ok(row) => row.is_none_or(&mut *visit),
            Err(error) => {
                failed = Some(error);
                false
            }
        })?;
        failed.map_or(Ok(()), Err)
    }

    /// When the first and the last episode that who asks may see happened.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn span(&self, cx: &Context) -> Result<Option<(i64, i64)>, StoreError> {
        let mut span: Option<(i64, i64)> = None;
        for project in self.projects(&cx.scope)? {
            for order in [Order::Ascending, Order::Descending] {
                let open = (Bound::Unbounded, Bound::Unbounded);
                self.episodes_in(cx, &self.by_time, &project, open, order, &mut |row| {
                    let at = row.body.time_ms;
                    span = Some(span.map_or((at, at), |(first, last)| (first.min(at), last.max(at))));
                    false
                })?;
            }
        }
        Ok(span)
    }

    /// Every fact that who asks may see, whatever became of it.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn all_facts(&self, cx: &Context) -> Result<Vec<FactRow>, StoreError> {
        let mut rows = Vec::new();
        for project in self.projects(&cx.scope)? {
            self.facts_in(cx, &project, Seq::MAX, Order::Ascending, &mut |row| {
                rows.push(row);
                true
            })?;
        }
        Ok(rows)
    }

    /// Visits the facts of one project recorded before a position, as far as `visit` wants them.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn facts_in(
        &self,
        cx: &Context,
        project: &[u8; 8],
        before: Seq,
        order: Order,
        visit: &mut dyn FnMut(FactRow) -> bool,
    ) -> Result<(), StoreError> {
        let mut failed = None;
        let until = Bound::Excluded([&project[..], &before.to_be_bytes()].concat());
        ids_in(&self.by_recorded, project, (Bound::Unbounded, until), order, &mut |_, id| match self
            .fact(cx, &id)
        {
            Ok(row) => row.is_none_or(&mut *visit),
            Err(error) => {
                failed = Some(error);
                false
            }
        })?;
        failed.map_or(Ok(()), Err)
    }
}

/// The ids an index holds between two keys of one project, in order, as far as `visit` wants them.
pub(crate) fn ids_in(
    table: &Table,
    prefix: &[u8],
    bounds: (Bound<Vec<u8>>, Bound<Vec<u8>>),
    order: Order,
    visit: &mut dyn FnMut(&[u8], Id) -> bool,
) -> Result<(), StoreError> {
    table.scan(prefix, bounds, order, &mut |key, id| {
        visit(key, Id::from_text(String::from_utf8_lossy(id).into_owned()))
    })
}

/// Provenance of something that says nothing of it.
pub fn unsaid() -> Prov {
    Prov { source: Source::Agent, ..Prov::default() }
}
