//! The items themselves: bodies of episodes and facts by id, with their scope and standing, and the indexes that lists,
//! sessions and conflicts are read from.
//!
//! What erasing removes here is what a rebuild would not find: the row, its index entries, its conflicts, and what it did to
//! others (a fact that an erased one superseded stands again).

use crate::claims;
use crate::store::{Batch, Fold, Order, Store, StoreError, Table};
use athena_schemas::context::{Context, Scope};
use athena_schemas::envelope::Seq;
use athena_schemas::event::Event;
use athena_schemas::id::Id;
use athena_schemas::layers::common::{Forgetting, Prov, Source, confidence, time};
use athena_schemas::layers::episodic::{self, Episode};
use athena_schemas::layers::semantic::{self, Fact, How, Standing, conflict_id};
use athena_schemas::ports::Recorded;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::ops::Bound;

/// Most confidence values kept of one fact.
const SURENESS: usize = 64;

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
        if self.closed_ms.is_some_and(|closed| closed > known_ms) {
            self.reopen();
            self.standing = Standing::Current;
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
        self.open_to_ms = self.body.valid_to_ms;
        self.body.valid_to_ms = Some(self.body.valid_to_ms.map_or(from_ms, |to| to.min(from_ms)));
    }

    /// Undoes the end of being current, as if nothing had taken its place.
    fn reopen(&mut self) {
        if self.superseded_by.take().is_some() {
            self.body.valid_to_ms = self.open_to_ms.take();
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

fn pair_key(one: &Id, other: &Id) -> Vec<u8> {
    [one.as_str().as_bytes(), &[0], other.as_str().as_bytes()].concat()
}

/// Two facts that seem to contradict each other, the earlier recorded first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clash {
    /// Its id.
    pub id: Id,
    /// The earlier fact.
    pub first: FactRow,
    /// The later fact.
    pub second: FactRow,
    /// What they differ in.
    pub reason: String,
}

impl Items {
    /// The tables in a store.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn open(store: &Store) -> Result<Self, StoreError> {
        Ok(Self {
            episodes: store.table("episodes")?,
            by_time: store.table("episodes_by_time")?,
            by_session: store.table("episodes_by_session")?,
            facts: store.table("facts")?,
            by_recorded: store.table("facts_by_recorded")?,
            claims: store.table("claims")?,
            settled: store.table("conflicts_settled")?,
            projects: store.table("projects")?,
        })
    }

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

    /// The open conflicts of a claim: with every current fact that says something else of the same thing, seen by who asks.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn clashes(&self, cx: &Context, row: &FactRow) -> Result<Vec<Clash>, StoreError> {
        let Some(claim) = claims::claim(&row.body.content) else { return Ok(Vec::new()) };
        let mut clashes = Vec::new();
        for other in self.claimants(cx, &claim_prefix(&row.head.scope, &claim))? {
            clashes.extend(self.clash(&other, row)?);
        }
        Ok(clashes)
    }

    /// The current facts of one claim's subject and relation, seen by who asks, in the order they were recorded.
    fn claimants(&self, cx: &Context, about: &[u8]) -> Result<Vec<FactRow>, StoreError> {
        let mut ids = Vec::new();
        self.claims.prefix(about, &mut |_, id| {
            ids.push(Id::from_text(String::from_utf8_lossy(id).into_owned()));
            true
        })?;
        let mut rows = Vec::with_capacity(ids.len());
        for id in ids {
            rows.extend(self.fact(cx, &id)?);
        }
        Ok(rows)
    }

    fn clash(&self, one: &FactRow, other: &FactRow) -> Result<Option<Clash>, StoreError> {
        let (a, b) = (&one.body.id, &other.body.id);
        let (Some(claim), Some(counter)) =
            (claims::claim(&one.body.content), claims::claim(&other.body.content))
        else {
            return Ok(None);
        };
        if a == b || !claim.contradicts(&counter) || !one.overlaps(other) || self.is_settled(a, b)? {
            return Ok(None);
        }
        let (first, second) = if one.head.seq <= other.head.seq { (one, other) } else { (other, one) };
        Ok(Some(Clash {
            id: conflict_id(a, b),
            first: first.clone(),
            second: second.clone(),
            reason: format!("both say what {} {}", claim.subject, claim.relation),
        }))
    }

    fn is_settled(&self, one: &Id, other: &Id) -> Result<bool, StoreError> {
        Ok(self.settled.get(&pair_key(one, other))?.is_some())
    }

    /// All open conflicts that who asks may see, claim by claim.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn all_clashes(&self, cx: &Context) -> Result<Vec<Clash>, StoreError> {
        let mut several: Vec<Vec<u8>> = Vec::new();
        for project in self.projects(&cx.scope)? {
            let mut last: Vec<u8> = Vec::new();
            self.claims.prefix(&project, &mut |key, _| {
                let about = key.get(..16).unwrap_or(key);
                if last == about && several.last() != Some(&last) {
                    several.push(about.to_vec());
                }
                last = about.to_vec();
                true
            })?;
        }
        let mut clashes = Vec::new();
        for about in several {
            let rows = self.claimants(cx, &about)?;
            for (i, one) in rows.iter().enumerate() {
                for other in rows.iter().skip(i + 1) {
                    clashes.extend(self.clash(one, other)?);
                }
            }
        }
        Ok(clashes)
    }

    /// The current facts that new content would contradict, seen by who asks.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn contradictions(&self, cx: &Context, content: &str) -> Result<Vec<FactRow>, StoreError> {
        let Some(claim) = claims::claim(content) else { return Ok(Vec::new()) };
        let mut rows = self.claimants(cx, &claim_prefix(&cx.scope, &claim))?;
        rows.retain(|row| claims::claim(&row.body.content).is_some_and(|other| other.contradicts(&claim)));
        Ok(rows)
    }

    /// Visits every episode that who asks may see, oldest first within each project.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn each_episode(&self, cx: &Context, visit: &mut dyn FnMut(EpisodeRow)) -> Result<(), StoreError> {
        for project in self.projects(&cx.scope)? {
            let mut failed = None;
            let open = (Bound::Unbounded, Bound::Unbounded);
            ids_in(&self.by_time, &project, open, Order::Ascending, &mut |_, id| {
                match self.episode(cx, &id) {
                    Ok(row) => row.into_iter().for_each(&mut *visit),
                    Err(error) => failed = Some(error),
                }
                failed.is_none()
            })?;
            failed.map_or(Ok(()), Err)?;
        }
        Ok(())
    }

    /// Every fact that who asks may see, whatever became of it.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn all_facts(&self, cx: &Context) -> Result<Vec<FactRow>, StoreError> {
        let mut rows = Vec::new();
        for project in self.projects(&cx.scope)? {
            let mut failed = None;
            let open = (Bound::Unbounded, Bound::Unbounded);
            ids_in(&self.by_recorded, &project, open, Order::Ascending, &mut |_, id| {
                match self.fact(cx, &id) {
                    Ok(row) => rows.extend(row),
                    Err(error) => failed = Some(error),
                }
                failed.is_none()
            })?;
            failed.map_or(Ok(()), Err)?;
        }
        Ok(rows)
    }

    fn enter_project(&self, batch: &mut Batch, scope: &Scope) -> Result<(), StoreError> {
        let key = project_key(scope);
        if batch.get(&self.projects, &key)?.is_none() {
            batch.put_row(&self.projects, key, &scope.project)?;
        }
        Ok(())
    }

    fn fold_episodic(
        &self,
        batch: &mut Batch,
        event: &episodic::Event,
        recorded: &Recorded,
    ) -> Result<(), StoreError> {
        match event {
            episodic::Event::Remembered(event) => {
                let row = EpisodeRow { head: Head::of(recorded), body: event.clone() };
                self.index_episode(batch, &row);
                batch.put_row(&self.episodes, event.id.as_str(), &row)
            }
            episodic::Event::Annotated(event) => {
                self.change(batch, &self.episodes, &event.id, |row: &mut EpisodeRow| annotate(row, event))
            }
            episodic::Event::Forgotten(event) => {
                for id in &event.ids {
                    match event.mode {
                        Forgetting::Hide => {
                            self.change(batch, &self.episodes, id, |row: &mut EpisodeRow| {
                                row.head.hidden = true
                            })?;
                        }
                        Forgetting::Erase => {
                            if let Some(row) =
                                batch.row::<EpisodeRow>(&self.episodes, id.as_str().as_bytes())?
                            {
                                self.unindex_episode(batch, &row);
                                batch.remove(&self.episodes, id.as_str());
                            }
                        }
                    }
                }
                Ok(())
            }
            episodic::Event::Restored(event) => event.ids.iter().try_for_each(|id| {
                self.change(batch, &self.episodes, id, |row: &mut EpisodeRow| row.head.hidden = false)
            }),
            episodic::Event::Relocated(event) => {
                self.enter_project(batch, &event.to)?;
                for id in &event.ids {
                    if let Some(mut row) = batch.row::<EpisodeRow>(&self.episodes, id.as_str().as_bytes())? {
                        self.unindex_episode(batch, &row);
                        row.head.scope = event.to.clone();
                        self.index_episode(batch, &row);
                        batch.put_row(&self.episodes, id.as_str(), &row)?;
                    }
                }
                Ok(())
            }
        }
    }

    fn index_episode(&self, batch: &mut Batch, row: &EpisodeRow) {
        batch.put(&self.by_time, time_key(row), row.body.id.as_str());
        if let Some(key) = session_key(row) {
            batch.put(&self.by_session, key, row.body.id.as_str());
        }
    }

    fn unindex_episode(&self, batch: &mut Batch, row: &EpisodeRow) {
        batch.remove(&self.by_time, time_key(row));
        if let Some(key) = session_key(row) {
            batch.remove(&self.by_session, key);
        }
    }

    fn change<T: Serialize + DeserializeOwned>(
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

    fn fold_semantic(
        &self,
        batch: &mut Batch,
        event: &semantic::Event,
        recorded: &Recorded,
    ) -> Result<(), StoreError> {
        let now = recorded.record.draft.meta.at_ms;
        match event {
            semantic::Event::Stored(event) => self.stored(batch, event, recorded),
            semantic::Event::Retracted(event) => self.restand(batch, &event.id, |row| {
                row.close(Standing::Retracted, now, Some(event.reason.clone()));
            }),
            semantic::Event::Reinforced(event) => {
                self.change(batch, &self.facts, &event.id, |row: &mut FactRow| {
                    row.body.log_odds = event.log_odds;
                    if row.sureness.len() == SURENESS {
                        row.sureness.remove(1);
                    }
                    row.sureness.push((now, event.log_odds));
                    let known = &mut row.body.origin.events;
                    known.extend(
                        event.evidence.iter().filter(|id| !known.contains(id)).cloned().collect::<Vec<_>>(),
                    );
                })
            }
            semantic::Event::ConflictResolved(event) => self.resolved(batch, event, now),
            semantic::Event::Discarded(event) => event.ids.iter().try_for_each(|id| match event.mode {
                Forgetting::Hide => {
                    self.change(batch, &self.facts, id, |row: &mut FactRow| row.head.hidden = true)
                }
                Forgetting::Erase => self.erase_fact(batch, id),
            }),
            semantic::Event::Restored(event) => event.ids.iter().try_for_each(|id| {
                self.change(batch, &self.facts, id, |row: &mut FactRow| row.head.hidden = false)
            }),
            semantic::Event::Relocated(event) => {
                self.enter_project(batch, &event.to)?;
                for id in &event.ids {
                    if let Some(mut row) = batch.row::<FactRow>(&self.facts, id.as_str().as_bytes())? {
                        self.unindex_fact(batch, &row);
                        row.head.scope = event.to.clone();
                        self.index_fact(batch, &row);
                        batch.put_row(&self.facts, id.as_str(), &row)?;
                    }
                }
                Ok(())
            }
        }
    }

    fn stored(
        &self,
        batch: &mut Batch,
        event: &semantic::Stored,
        recorded: &Recorded,
    ) -> Result<(), StoreError> {
        let head = Head::of(recorded);
        let now = head.recorded_ms;
        let from = event.valid_from_ms.unwrap_or(now as i64);
        for old in &event.supersedes {
            self.restand(batch, old, |row| row.supersede(&event.id, from, now, event.reason.clone()))?;
        }
        let row = FactRow {
            head,
            body: event.clone(),
            standing: Standing::Current,
            superseded_by: None,
            closed_ms: None,
            open_to_ms: None,
            reason: None,
            sureness: vec![(now, event.log_odds)],
        };
        self.index_fact(batch, &row);
        batch.put_row(&self.facts, event.id.as_str(), &row)
    }

    fn resolved(
        &self,
        batch: &mut Batch,
        event: &semantic::ConflictResolved,
        now: u64,
    ) -> Result<(), StoreError> {
        let why = Some(format!("conflict with {}", event.keep));
        match event.how {
            How::Supersede => {
                self.restand(batch, &event.other, |row| row.supersede(&event.keep, now as i64, now, why))
            }
            How::Retract => self.restand(batch, &event.other, |row| row.close(Standing::Retracted, now, why)),
            How::BothTrue => {
                batch.put(&self.settled, pair_key(&event.keep, &event.other), event.other.as_str());
                batch.put(&self.settled, pair_key(&event.other, &event.keep), event.keep.as_str());
                Ok(())
            }
        }
    }

    /// Changes what became of a fact, and with it whether its claim counts.
    fn restand(
        &self,
        batch: &mut Batch,
        id: &Id,
        change: impl FnOnce(&mut FactRow),
    ) -> Result<(), StoreError> {
        let Some(mut row) = batch.row::<FactRow>(&self.facts, id.as_str().as_bytes())? else { return Ok(()) };
        change(&mut row);
        self.index_claim(batch, &row);
        batch.put_row(&self.facts, id.as_str(), &row)
    }

    fn index_claim(&self, batch: &mut Batch, row: &FactRow) {
        if let Some(claim) = claims::claim(&row.body.content) {
            let about = claim_prefix(&row.head.scope, &claim);
            let key = [about.as_slice(), &row.head.seq.to_be_bytes()].concat();
            if row.current() {
                batch.put(&self.claims, key, row.body.id.as_str());
            } else {
                batch.remove(&self.claims, key);
            }
        }
    }

    fn index_fact(&self, batch: &mut Batch, row: &FactRow) {
        batch.put(&self.by_recorded, recorded_key(&row.head), row.body.id.as_str());
        self.index_claim(batch, row);
    }

    fn unindex_fact(&self, batch: &mut Batch, row: &FactRow) {
        batch.remove(&self.by_recorded, recorded_key(&row.head));
        if let Some(claim) = claims::claim(&row.body.content) {
            let about = claim_prefix(&row.head.scope, &claim);
            batch.remove(&self.claims, [about.as_slice(), &row.head.seq.to_be_bytes()].concat());
        }
    }

    fn erase_fact(&self, batch: &mut Batch, id: &Id) -> Result<(), StoreError> {
        for (_, other) in batch.rows(&self.settled, &pair_key(id, &Id::from_text("")))? {
            let other = Id::from_text(String::from_utf8_lossy(&other).into_owned());
            batch.remove(&self.settled, pair_key(id, &other));
            batch.remove(&self.settled, pair_key(&other, id));
        }
        let Some(row) = batch.row::<FactRow>(&self.facts, id.as_str().as_bytes())? else { return Ok(()) };
        self.unindex_fact(batch, &row);
        batch.remove(&self.facts, id.as_str());
        for old in &row.body.supersedes {
            self.restand(batch, old, |row| {
                if row.superseded_by.as_ref() == Some(id) {
                    row.reopen();
                }
            })?;
        }
        Ok(())
    }
}

fn claim_prefix(scope: &Scope, claim: &claims::Claim) -> Vec<u8> {
    let whose = format!("{:?}{:?}{}\n{}", scope.user, scope.agent, claim.subject, claim.relation);
    [project_key(scope), hash8("athena claim", whose.as_bytes())].concat()
}

fn annotate(row: &mut EpisodeRow, event: &episodic::Annotated) {
    let body = &mut row.body;
    body.outcome = event.outcome.or(body.outcome);
    body.importance = event.importance.unwrap_or(body.importance);
    body.tags.retain(|tag| !event.remove_tags.contains(tag));
    for tag in &event.add_tags {
        if !body.tags.contains(tag) {
            body.tags.push(tag.clone());
        }
    }
    let patch: athena_schemas::layers::common::Object = serde_json::from_str(&event.meta).unwrap_or_default();
    if !patch.is_empty() {
        let mut meta: athena_schemas::layers::common::Object =
            serde_json::from_str(&body.meta).unwrap_or_default();
        for (key, value) in patch {
            if value.is_null() {
                meta.remove(&key);
            } else {
                meta.insert(key, value);
            }
        }
        body.meta = if meta.is_empty() { String::new() } else { serde_json::Value::Object(meta).to_string() };
    }
}

impl Fold for Items {
    const NAME: &'static str = "items";
    const VERSION: u32 = 1;

    fn fold(&self, batch: &mut Batch, event: &Event, recorded: &Recorded) -> Result<(), StoreError> {
        // Items of every layer are listed by project.
        if matches!(recorded.record.draft.kind.family(), 1..=5) {
            self.enter_project(batch, &recorded.record.draft.meta.scope)?;
        }
        match event {
            Event::Episodic(event) => self.fold_episodic(batch, event, recorded),
            Event::Semantic(event) => self.fold_semantic(batch, event, recorded),
            _ => Ok(()),
        }
    }

    fn fold_erased(&self, batch: &mut Batch, recorded: &Recorded) -> Result<(), StoreError> {
        // Families 1 to 5 hold items: a project stays known when its last item is erased.
        match recorded.record.draft.kind.family() {
            1..=5 => self.enter_project(batch, &recorded.record.draft.meta.scope),
            _ => Ok(()),
        }
    }

    fn tables(&self) -> Vec<Table> {
        [
            &self.episodes,
            &self.by_time,
            &self.by_session,
            &self.facts,
            &self.by_recorded,
            &self.claims,
            &self.settled,
            &self.projects,
        ]
        .map(Table::clone)
        .to_vec()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Fed, id};
    use athena_schemas::layers::common::Origin;
    use proptest::prelude::*;

    fn stored(n: u64, content: &str, supersedes: Vec<Id>) -> semantic::Event {
        semantic::Event::Stored(semantic::Stored {
            id: id("fa", n),
            content: content.into(),
            log_odds: 1_000_000,
            valid_from_ms: None,
            valid_to_ms: None,
            tags: vec![],
            origin: Origin::default(),
            untrusted: false,
            supersedes,
            reason: None,
            similar: vec![],
            conflicts: vec![],
        })
    }

    fn remembered(n: u64, time_ms: i64) -> episodic::Event {
        episodic::Event::Remembered(episodic::Remembered {
            id: id("ep", n),
            content: format!("event {n}"),
            kind: "message".into(),
            time_ms,
            session: Some(format!("s{}", n % 2)),
            outcome: None,
            importance: 500,
            tags: vec![],
            meta: String::new(),
            origin: Origin::default(),
            untrusted: false,
        })
    }

    #[test]
    fn superseding_closes_and_erasing_reopens() {
        let mut fed = Fed::new();
        fed.feed(10, stored(1, "the kettle is red", vec![]));
        fed.feed(20, stored(2, "the kettle is blue", vec![id("fa", 1)]));
        let row = fed.library.items.fact(&fed.cx(30), &id("fa", 1)).unwrap().unwrap();
        assert_eq!((row.standing, row.body.valid_to_ms), (Standing::Superseded, Some(20)));
        assert_eq!(row.superseded_by, Some(id("fa", 2)));
        assert!(row.clone().known_at(5).is_none());
        assert!(row.clone().known_at(15).unwrap().current());
        fed.feed(
            40,
            semantic::Event::Discarded(semantic::Discarded {
                ids: vec![id("fa", 2)],
                mode: Forgetting::Erase,
            }),
        );
        let row = fed.library.items.fact(&fed.cx(50), &id("fa", 1)).unwrap().unwrap();
        assert_eq!((row.standing, row.body.valid_to_ms), (Standing::Current, None));
    }

    #[test]
    fn conflicts_are_open_until_decided() {
        let mut fed = Fed::new();
        fed.feed(10, stored(1, "the port is 8080", vec![]));
        fed.feed(20, stored(2, "the port is 9090", vec![]));
        fed.feed(30, stored(3, "Ana likes tea", vec![]));
        let cx = fed.cx(40);
        let clashes = fed.library.items.all_clashes(&cx).unwrap();
        assert_eq!(clashes.len(), 1);
        assert_eq!((&clashes[0].first.body.id, &clashes[0].second.body.id), (&id("fa", 1), &id("fa", 2)));
        fed.feed(
            50,
            semantic::Event::ConflictResolved(semantic::ConflictResolved {
                conflict: clashes[0].id.clone(),
                keep: id("fa", 2),
                other: id("fa", 1),
                how: How::BothTrue,
            }),
        );
        assert_eq!(fed.library.items.all_clashes(&cx).unwrap(), []);
    }

    #[test]
    fn no_index_leaks_into_another_project() {
        let mut fed = Fed::new();
        fed.feed(10, remembered(1, 10));
        fed.feed(10, stored(1, "the port is 8080", vec![]));
        fed.scope = Scope::project("other");
        fed.feed(20, stored(2, "the port is 9090", vec![]));
        let cx = fed.cx(30);
        assert_eq!(fed.library.items.episode(&cx, &id("ep", 1)).unwrap(), None);
        assert_eq!(fed.library.items.all_clashes(&cx).unwrap(), []);
        assert_eq!(fed.library.items.all_facts(&cx).unwrap().len(), 1);
        fed.scope = Scope::default();
        let cx = fed.cx(30);
        assert_eq!(fed.library.items.all_facts(&cx).unwrap().len(), 2);
        assert_eq!(fed.library.items.all_clashes(&cx).unwrap(), [], "two projects may differ");
    }

    #[test]
    fn pages_follow_each_other_without_gap_or_repeat() {
        let mut fed = Fed::new();
        for n in 1..=23 {
            fed.feed(n, remembered(n, (n as i64 % 5) - 2));
        }
        let cx = fed.cx(30);
        let (mut all, mut before) = (Vec::new(), None);
        loop {
            let (rows, next) = fed.library.items.page(&cx, &Default::default(), 4, before).unwrap();
            all.extend(rows.iter().map(|row| (row.body.time_ms, row.head.seq)));
            if next.is_none() {
                break;
            }
            before = next;
        }
        assert_eq!(all.len(), 23);
        assert!(all.windows(2).all(|pair| pair[0] > pair[1]), "{all:?}");
    }

    proptest! {
        #[test]
        fn a_rebuild_finds_what_is_there_and_nothing_that_was_erased(
            steps in proptest::collection::vec((0_u8..9, 1_u64..6, 1_u64..6), 0..30),
        ) {
            let mut fed = Fed::new();
            let mut erased: Vec<Id> = Vec::new();
            for (n, (what, one, other)) in steps.into_iter().enumerate() {
                let (at, fresh) = (100 + n as u64, 100 + n as u64);
                let (a, b) = (id("fa", 100 + one), id("fa", 100 + other));
                let cx = fed.cx(at);
                let stands = |id: &Id| fed.library.items.fact(&cx, id).unwrap().is_some_and(|row| row.current());
                let event: Event = match what {
                    0 => stored(fresh, &format!("the port is {other}"), vec![]).into(),
                    1 if stands(&a) => stored(fresh, &format!("the port is {other}"), vec![a]).into(),
                    2 => remembered(fresh, one as i64).into(),
                    3 => semantic::Event::Retracted(semantic::Retracted { id: a, reason: "r".into() }).into(),
                    4 if a != b && stands(&a) && stands(&b) => semantic::Event::ConflictResolved(semantic::ConflictResolved {
                        conflict: conflict_id(&a, &b), keep: a, other: b,
                        how: if one < 3 { How::BothTrue } else { How::Retract },
                    }).into(),
                    5 if fed.library.items.fact(&cx, &a).unwrap().is_some() => {
                        erased.push(a.clone());
                        semantic::Event::Discarded(semantic::Discarded { ids: vec![a], mode: Forgetting::Erase }).into()
                    }
                    6 if fed.library.items.episode(&cx, &id("ep", 100 + one)).unwrap().is_some() => {
                        let ep = id("ep", 100 + one);
                        erased.push(ep.clone());
                        episodic::Event::Forgotten(episodic::Forgotten { ids: vec![ep], mode: Forgetting::Erase }).into()
                    }
                    7 => semantic::Event::Relocated(semantic::Relocated { ids: vec![b], to: Scope::project("q") }).into(),
                    _ => episodic::Event::Forgotten(episodic::Forgotten { ids: vec![id("ep", 100 + other)], mode: Forgetting::Hide }).into(),
                };
                fed.feed(at, event);
            }
            let items = |digests: Vec<(&'static str, [u8; 32])>| digests.into_iter().find(|(name, _)| *name == "items");
            prop_assert_eq!(items(fed.rebuilt(|_| false)), items(fed.digests()));
            let shredded = |event: &Event| match event {
                Event::Semantic(semantic::Event::Stored(event)) => erased.contains(&event.id),
                Event::Episodic(episodic::Event::Remembered(event)) => erased.contains(&event.id),
                _ => false,
            };
            prop_assert_eq!(items(fed.rebuilt(shredded)), items(fed.digests()));
        }
    }
}
