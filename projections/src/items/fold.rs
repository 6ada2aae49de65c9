//! How events become rows of episodes and facts, their indexes and their tallies.

use super::conflicts::claim_prefix;
use super::tallies::{What, tally};
use super::{EpisodeRow, FactRow, Head, Items, pair_key, project_key, recorded_key, session_key, time_key};
use crate::claims;
use crate::store::{Batch, Fold, Store, StoreError, Table};
use athena_schemas::context::Scope;
use athena_schemas::event::Event;
use athena_schemas::id::Id;
use athena_schemas::layers::common::{Forgetting, Object};
use athena_schemas::layers::episodic;
use athena_schemas::layers::semantic::{self, How, Standing};
use athena_schemas::ports::Recorded;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Most confidence values kept of one fact.
const SURENESS: usize = 64;

impl Items {
    pub(crate) fn enter_project(&self, batch: &mut Batch, scope: &Scope) -> Result<(), StoreError> {
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
                self.index_episode(batch, &row)?;
                batch.put_row(&self.episodes, event.id.as_str(), &row)
            }
            episodic::Event::Annotated(event) => {
                self.change(batch, &self.episodes, &event.id, |row: &mut EpisodeRow| annotate(row, event))
            }
            episodic::Event::Forgotten(event) => {
                for id in &event.ids {
                    match event.mode {
                        Forgetting::Hide => {
                            self.hide_episode(batch, id, true)?;
                        }
                        Forgetting::Erase => {
                            if let Some(row) =
                                batch.row::<EpisodeRow>(&self.episodes, id.as_str().as_bytes())?
                            {
                                self.unindex_episode(batch, &row)?;
                                batch.remove(&self.episodes, id.as_str());
                            }
                        }
                    }
                }
                Ok(())
            }
            episodic::Event::Restored(event) => {
                event.ids.iter().try_for_each(|id| self.hide_episode(batch, id, false))
            }
            episodic::Event::Reverted(event) => {
                event.items.iter().try_for_each(|past| self.put_back_episode(batch, past))
            }
            episodic::Event::Relocated(event) => {
                self.enter_project(batch, &event.to)?;
                for id in &event.ids {
                    if let Some(mut row) = batch.row::<EpisodeRow>(&self.episodes, id.as_str().as_bytes())? {
                        self.unindex_episode(batch, &row)?;
                        row.head.scope = event.to.clone();
                        self.index_episode(batch, &row)?;
                        batch.put_row(&self.episodes, id.as_str(), &row)?;
                    }
                }
                Ok(())
            }
        }
    }

    pub(crate) fn index_episode(&self, batch: &mut Batch, row: &EpisodeRow) -> Result<(), StoreError> {
        batch.put(&self.by_time, time_key(row), row.body.id.as_str());
        batch.put(&self.by_position, recorded_key(&row.head), row.body.id.as_str());
        if let Some(key) = session_key(row) {
            batch.put(&self.by_session, key, row.body.id.as_str());
        }
        self.tally_episode(batch, row, true)
    }

    pub(crate) fn unindex_episode(&self, batch: &mut Batch, row: &EpisodeRow) -> Result<(), StoreError> {
        batch.remove(&self.by_time, time_key(row));
        batch.remove(&self.by_position, recorded_key(&row.head));
        if let Some(key) = session_key(row) {
            batch.remove(&self.by_session, key);
        }
        self.tally_episode(batch, row, false)
    }

    fn tally_episode(&self, batch: &mut Batch, row: &EpisodeRow, more: bool) -> Result<(), StoreError> {
        if row.head.hidden {
            return Ok(());
        }
        tally(batch, &self.tallies, What::Type, &row.head.scope, &row.body.kind, more)?;
        match &row.body.session {
            Some(session) => tally(batch, &self.tallies, What::Session, &row.head.scope, session, more),
            None => Ok(()),
        }
    }

    pub(crate) fn hide_episode(&self, batch: &mut Batch, id: &Id, hidden: bool) -> Result<(), StoreError> {
        let Some(mut row) = batch.row::<EpisodeRow>(&self.episodes, id.as_str().as_bytes())? else {
            return Ok(());
        };
        // Hidden rows are not counted: out before it is hidden, in after it is shown.
        self.tally_episode(batch, &row, false)?;
        row.head.hidden = hidden;
        self.tally_episode(batch, &row, true)?;
        batch.put_row(&self.episodes, id.as_str(), &row)
    }

    fn tally_fact(&self, batch: &mut Batch, row: &FactRow, more: bool) -> Result<(), StoreError> {
        if row.head.hidden {
            return Ok(());
        }
        tally(batch, &self.tallies, What::Fact, &row.head.scope, "", more)
    }

    pub(crate) fn hide_fact(&self, batch: &mut Batch, id: &Id, hidden: bool) -> Result<(), StoreError> {
        let Some(mut row) = batch.row::<FactRow>(&self.facts, id.as_str().as_bytes())? else { return Ok(()) };
        self.tally_fact(batch, &row, false)?;
        row.head.hidden = hidden;
        self.tally_fact(batch, &row, true)?;
        batch.put_row(&self.facts, id.as_str(), &row)
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
                Forgetting::Hide => self.hide_fact(batch, id, true),
                Forgetting::Erase => self.erase_fact(batch, id),
            }),
            semantic::Event::Restored(event) => {
                event.ids.iter().try_for_each(|id| self.hide_fact(batch, id, false))
            }
            semantic::Event::Reverted(event) => {
                event.items.iter().try_for_each(|past| self.put_back_fact(batch, past))
            }
            semantic::Event::Relocated(event) => {
                self.enter_project(batch, &event.to)?;
                for id in &event.ids {
                    if let Some(mut row) = batch.row::<FactRow>(&self.facts, id.as_str().as_bytes())? {
                        self.unindex_fact(batch, &row)?;
                        row.head.scope = event.to.clone();
                        self.index_fact(batch, &row)?;
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
            superseded_ms: None,
            open_to_ms: None,
            reason: None,
            sureness: vec![(now, event.log_odds)],
        };
        self.index_fact(batch, &row)?;
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

    pub(crate) fn index_fact(&self, batch: &mut Batch, row: &FactRow) -> Result<(), StoreError> {
        batch.put(&self.by_recorded, recorded_key(&row.head), row.body.id.as_str());
        self.index_claim(batch, row);
        self.tally_fact(batch, row, true)
    }

    pub(crate) fn unindex_fact(&self, batch: &mut Batch, row: &FactRow) -> Result<(), StoreError> {
        batch.remove(&self.by_recorded, recorded_key(&row.head));
        if let Some(claim) = claims::claim(&row.body.content) {
            let about = claim_prefix(&row.head.scope, &claim);
            batch.remove(&self.claims, [about.as_slice(), &row.head.seq.to_be_bytes()].concat());
        }
        self.tally_fact(batch, row, false)
    }

    fn erase_fact(&self, batch: &mut Batch, id: &Id) -> Result<(), StoreError> {
        for (_, other) in batch.rows(&self.settled, &pair_key(id, &Id::from_text("")))? {
            let other = Id::from_text(String::from_utf8_lossy(&other).into_owned());
            batch.remove(&self.settled, pair_key(id, &other));
            batch.remove(&self.settled, pair_key(&other, id));
        }
        let Some(row) = batch.row::<FactRow>(&self.facts, id.as_str().as_bytes())? else { return Ok(()) };
        self.unindex_fact(batch, &row)?;
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
    let patch: Object = serde_json::from_str(&event.meta).unwrap_or_default();
    if !patch.is_empty() {
        let mut meta: Object = serde_json::from_str(&body.meta).unwrap_or_default();
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
    const VERSION: u32 = 3;

    fn open(store: &Store) -> Result<Self, StoreError> {
        Ok(Self {
            episodes: store.table("episodes")?,
            by_time: store.table("episodes_by_time")?,
            by_session: store.table("episodes_by_session")?,
            by_position: store.table("episodes_by_position")?,
            tallies: store.table("tallies")?,
            facts: store.table("facts")?,
            by_recorded: store.table("facts_by_recorded")?,
            claims: store.table("claims")?,
            settled: store.table("conflicts_settled")?,
            projects: store.table("projects")?,
        })
    }

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
            &self.by_position,
            &self.tallies,
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
