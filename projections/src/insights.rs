//! What consolidation has recorded and what of it counts: links, clusters, fading, pins and settings. Undoing a pass takes its
//! rows out again, so that the tables are what they would be without it; that it happened is told by [`crate::passes`].

use crate::items::Head;
use crate::store::{Batch, Fold, Store, StoreError, Table, decode};
use athena_schemas::context::{Context, Scope};
use athena_schemas::envelope::Seq;
use athena_schemas::event::Event;
use athena_schemas::id::Id;
use athena_schemas::layers::consolidation::{self, Consolidated, Kind, Settings};
use athena_schemas::ports::Recorded;
use serde::{Deserialize, Serialize};

/// A pass that counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PassRow {
    /// Where and when.
    pub head: Head,
    /// What it found.
    pub body: Consolidated,
}

/// The tables of what counts.
#[derive(Clone)]
pub struct Insights {
    passes: Table,
    /// `item 0 item 0 pass`, both ways round.
    links: Table,
    /// `item 0 pass`.
    faded: Table,
    /// `item 0 digest of the scope`.
    pins: Table,
    settings: Table,
}

fn parts(ids: &[&Id]) -> Vec<u8> {
    let mut key = Vec::new();
    for id in ids {
        key.extend(id.as_str().as_bytes());
        key.push(0);
    }
    key
}

fn scope_key(scope: &Scope) -> Vec<u8> {
    format!("{:?}", (&scope.project, &scope.user, &scope.agent, &scope.session)).into_bytes()
}

fn any(table: &Table, prefix: &[u8]) -> Result<bool, StoreError> {
    let mut any = false;
    table.prefix(prefix, &mut |_, _| {
        any = true;
        false
    })?;
    Ok(any)
}

impl Insights {
    /// A pass that counts, if who asks may see it.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn pass(&self, cx: &Context, run: &Id) -> Result<Option<PassRow>, StoreError> {
        Ok(self.passes.row::<PassRow>(run.as_str().as_bytes())?.filter(|row| row.head.visible(cx)))
    }

    /// The last position that a whole pass over all that who asks may see has looked at.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn seen_upto(&self, cx: &Context) -> Result<Seq, StoreError> {
        Ok(self.last(cx)?.map_or(0, |(upto, _)| upto))
    }

    /// How far whole passes over all that who asks may see have come, and when the last one was.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn last(&self, cx: &Context) -> Result<Option<(Seq, u64)>, StoreError> {
        let mut last: Option<(Seq, u64)> = None;
        let mut failed = None;
        self.passes.prefix(&[], &mut |_, row| {
            match decode::<PassRow>(row) {
                // A pass in a wider scope saw what this one holds.
                Ok(row) if row.head.scope.covers(&cx.scope) && row.body.kind == Kind::Consolidate => {
                    let (upto, at) = last.unwrap_or_default();
                    last = Some((upto.max(row.body.findings.upto), at.max(row.head.recorded_ms)));
                }
                Ok(_) => {}
                Err(error) => failed = Some(error),
            }
            failed.is_none()
        })?;
        failed.map_or(Ok(last), Err)
    }

    /// The last pass in what who asks may see that found clusters.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn last_with_clusters(&self, cx: &Context) -> Result<Option<PassRow>, StoreError> {
        let mut last: Option<PassRow> = None;
        let mut failed = None;
        self.passes.prefix(&[], &mut |_, row| {
            match decode::<PassRow>(row) {
                Ok(row) => {
                    let newer = last.as_ref().is_none_or(|last| last.head.seq < row.head.seq);
                    if newer && row.head.visible(cx) && !row.body.findings.clusters.is_empty() {
                        last = Some(row);
                    }
                }
                Err(error) => failed = Some(error),
            }
            failed.is_none()
        })?;
        failed.map_or(Ok(last), Err)
    }

    /// Whether two items are linked as saying nearly the same.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn linked(&self, one: &Id, other: &Id) -> Result<bool, StoreError> {
        any(&self.links, &parts(&[one, other]))
    }

    /// Whether an event has faded.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn faded(&self, id: &Id) -> Result<bool, StoreError> {
        any(&self.faded, &parts(&[id]))
    }

    /// The events that would be found again without a pass.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn back_without(&self, row: &PassRow) -> Result<Vec<Id>, StoreError> {
        let mut back = Vec::new();
        for id in &row.body.findings.faded {
            let (mut here, mut elsewhere) = (false, false);
            let own = parts(&[id, &row.body.run]);
            self.faded.prefix(&parts(&[id]), &mut |key, _| {
                if key == own {
                    here = true
                } else {
                    elsewhere = true
                }
                true
            })?;
            if here && !elsewhere {
                back.push(id.clone());
            }
        }
        Ok(back)
    }

    /// Whether an item is pinned, by whomever.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn pinned(&self, id: &Id) -> Result<bool, StoreError> {
        any(&self.pins, &parts(&[id]))
    }

    /// The settings of a scope: its own, else those of its project, else those of the store.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn settings(&self, scope: &Scope) -> Result<Settings, StoreError> {
        let project = Scope { project: scope.project.clone(), ..Scope::default() };
        for scope in [scope, &project, &Scope::default()] {
            if let Some(settings) = self.settings.row(&scope_key(scope))? {
                return Ok(settings);
            }
        }
        Ok(Settings::default())
    }

    fn recorded(
        &self,
        batch: &mut Batch,
        event: &Consolidated,
        recorded: &Recorded,
    ) -> Result<(), StoreError> {
        let run = &event.run;
        for link in &event.findings.links {
            batch.put(&self.links, parts(&[&link.one, &link.other, run]), link.likeness.to_be_bytes());
            batch.put(&self.links, parts(&[&link.other, &link.one, run]), link.likeness.to_be_bytes());
        }
        for id in &event.findings.faded {
            batch.put(&self.faded, parts(&[id, run]), Vec::new());
        }
        let row = PassRow { head: Head::of(recorded), body: event.clone() };
        batch.put_row(&self.passes, run.as_str(), &row)
    }

    fn undone(&self, batch: &mut Batch, run: &Id) -> Result<(), StoreError> {
        let Some(row) = batch.row::<PassRow>(&self.passes, run.as_str().as_bytes())? else { return Ok(()) };
        for link in &row.body.findings.links {
            batch.remove(&self.links, parts(&[&link.one, &link.other, run]));
            batch.remove(&self.links, parts(&[&link.other, &link.one, run]));
        }
        for id in &row.body.findings.faded {
            batch.remove(&self.faded, parts(&[id, run]));
        }
        batch.remove(&self.passes, run.as_str());
        Ok(())
    }
}

impl Fold for Insights {
    const NAME: &'static str = "insights";
    const VERSION: u32 = 1;

    fn open(store: &Store) -> Result<Self, StoreError> {
        Ok(Self {
            passes: store.table("insight_passes")?,
            links: store.table("insight_links")?,
            faded: store.table("insight_faded")?,
            pins: store.table("insight_pins")?,
            settings: store.table("insight_settings")?,
        })
    }

    fn fold(&self, batch: &mut Batch, event: &Event, recorded: &Recorded) -> Result<(), StoreError> {
        let Event::Consolidation(event) = event else { return Ok(()) };
        let scope = &recorded.record.draft.meta.scope;
        match event {
            consolidation::Event::Consolidated(event) => self.recorded(batch, event, recorded),
            consolidation::Event::Undone(event) => self.undone(batch, &event.run),
            consolidation::Event::Pinned(event) => {
                let mut key = parts(&[&event.id]);
                key.extend(crate::items::hash8("athena pin", &scope_key(scope)));
                if !event.pinned {
                    batch.remove(&self.pins, key);
                    return Ok(());
                }
                batch.put(&self.pins, key, Vec::new());
                // What is pinned has not faded.
                for (key, _) in batch.rows(&self.faded, &parts(&[&event.id]))? {
                    batch.remove(&self.faded, key);
                }
                Ok(())
            }
            consolidation::Event::Configured(event) => {
                batch.put_row(&self.settings, scope_key(scope), &event.settings)
            }
            consolidation::Event::Reasoned(_)
            | consolidation::Event::Proposed(_)
            | consolidation::Event::Judged(_) => Ok(()),
        }
    }

    fn tables(&self) -> Vec<Table> {
        [&self.passes, &self.links, &self.faded, &self.pins, &self.settings].map(Table::clone).to_vec()
    }
}
