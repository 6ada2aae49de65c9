//! Which passes of consolidation there were, undone ones included: the history that undoing does not take back.

use crate::items::{Head, project_key};
use crate::store::{Batch, Fold, Order, Store, StoreError, Table, decode};
use athena_schemas::context::Context;
use athena_schemas::envelope::Seq;
use athena_schemas::event::Event;
use athena_schemas::id::Id;
use athena_schemas::layers::common::time;
use athena_schemas::layers::consolidation::{self, Asked, Counts, Kind, Run, Strategy};
use athena_schemas::ports::Recorded;
use serde::{Deserialize, Serialize};
use std::ops::Bound;

/// A line of the history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineRow {
    /// Where and when.
    pub head: Head,
    /// The pass.
    pub run: Id,
    /// What kind.
    pub kind: Kind,
    /// How thorough.
    pub strategy: Strategy,
    /// What it found.
    pub counts: Counts,
    /// How a language model was asked.
    pub asked: Option<Asked>,
    /// Whether it was taken back.
    pub undone: bool,
}

impl LineRow {
    /// The pass as it is answered.
    pub fn item(&self) -> Run {
        Run {
            run: Some(self.run.clone()),
            kind: self.kind,
            strategy: self.strategy,
            at: time(self.head.recorded_ms as i64),
            undone: self.undone,
            counts: self.counts,
            asked: self.asked.clone(),
            seq: Some(self.head.seq),
        }
    }
}

/// The tables of the history.
#[derive(Clone)]
pub struct Passes {
    lines: Table,
    places: Table,
}

impl Passes {
    /// A pass, if who asks may see it.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn line(&self, cx: &Context, run: &Id) -> Result<Option<LineRow>, StoreError> {
        let Some(place) = self.places.get(run.as_str().as_bytes())? else { return Ok(None) };
        Ok(self.lines.row::<LineRow>(&place)?.filter(|row| row.head.visible(cx)))
    }

    /// At most `limit` passes recorded before a position, newest first.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn before(
        &self,
        cx: &Context,
        projects: &[[u8; 8]],
        before: Seq,
        limit: usize,
    ) -> Result<Vec<LineRow>, StoreError> {
        let mut rows: Vec<LineRow> = Vec::new();
        let mut failed = None;
        for project in projects {
            let mut taken = 0;
            let until = Bound::Excluded([&project[..], &before.to_be_bytes()].concat());
            self.lines.scan(project, (Bound::Unbounded, until), Order::Descending, &mut |_, row| {
                match decode::<LineRow>(row) {
                    Ok(row) if row.head.visible(cx) => {
                        rows.push(row);
                        taken += 1;
                    }
                    Ok(_) => {}
                    Err(error) => failed = Some(error),
                }
                failed.is_none() && taken < limit
            })?;
        }
        rows.sort_by_key(|row| std::cmp::Reverse(row.head.seq));
        rows.truncate(limit);
        failed.map_or(Ok(rows), Err)
    }
}

impl Passes {
    fn add(&self, batch: &mut Batch, row: &LineRow) -> Result<(), StoreError> {
        let key = [&project_key(&row.head.scope)[..], &row.head.seq.to_be_bytes()].concat();
        batch.put(&self.places, row.run.as_str(), key.clone());
        batch.put_row(&self.lines, key, row)
    }
}

impl Fold for Passes {
    const NAME: &'static str = "passes";
    const VERSION: u32 = 2;

    fn open(store: &Store) -> Result<Self, StoreError> {
        Ok(Self { lines: store.table("passes")?, places: store.table("pass_places")? })
    }

    fn fold(&self, batch: &mut Batch, event: &Event, recorded: &Recorded) -> Result<(), StoreError> {
        match event {
            Event::Consolidation(consolidation::Event::Consolidated(event)) => {
                let row = LineRow {
                    head: Head::of(recorded),
                    run: event.run.clone(),
                    kind: event.kind,
                    strategy: event.strategy,
                    counts: event.findings.counts,
                    asked: None,
                    undone: false,
                };
                self.add(batch, &row)
            }
            Event::Consolidation(consolidation::Event::Reasoned(event)) => {
                let row = LineRow {
                    head: Head::of(recorded),
                    run: event.run.clone(),
                    kind: Kind::Reason,
                    strategy: Strategy::default(),
                    counts: Counts::default(),
                    asked: Some(event.asked.clone()),
                    undone: false,
                };
                self.add(batch, &row)
            }
            Event::Consolidation(consolidation::Event::Undone(event)) => {
                let Some(key) = batch.get(&self.places, event.run.as_str().as_bytes())? else {
                    return Ok(());
                };
                if let Some(mut row) = batch.row::<LineRow>(&self.lines, &key)? {
                    row.undone = true;
                    batch.put_row(&self.lines, key, &row)?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn tables(&self) -> Vec<Table> {
        vec![self.lines.clone(), self.places.clone()]
    }
}
