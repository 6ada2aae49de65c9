//! Procedures: every version of every one, and how their runs turned out.

use crate::items::{Head, project_key};
use crate::store::{Batch, Fold, Store, StoreError, Table};
use athena_schemas::context::Context;
use athena_schemas::event::Event;
use athena_schemas::id::Id;
use athena_schemas::layers::common::time;
use athena_schemas::layers::procedural::{self, Effect, Learned, ProcedureInfo, content_hash};
use athena_schemas::ports::Recorded;
use serde::{Deserialize, Serialize};

/// Durations kept of one procedure.
const DURATIONS: usize = 100;

/// A procedure's row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcedureRow {
    /// Where, and since when.
    pub head: Head,
    /// The newest version.
    pub newest: Learned,
    /// Hidden from search and files.
    pub archived: bool,
    /// How often it ran.
    pub runs: u64,
    /// How often it did what was wanted.
    pub good: u64,
    /// How long the last runs took, milliseconds, oldest first.
    pub took_ms: Vec<u64>,
    /// When it ran last, milliseconds since 1970.
    pub last_ms: Option<u64>,
}

/// What is said about a version, whatever the newest is.
pub fn info(version: &Learned, archived: bool) -> ProcedureInfo {
    ProcedureInfo {
        id: version.id.clone(),
        name: version.name.clone(),
        description: version.description.clone(),
        language: version.language,
        version: version.version,
        commit: content_hash(version.language, &version.code),
        risk: version.risk,
        tags: version.tags.clone(),
        category: version.category.clone(),
        archived,
    }
}

/// The lower bound of a share at 95 % (Wilson, 1927): what few trials cannot inflate.
pub fn wilson_low(good: u64, all: u64) -> f64 {
    if all == 0 {
        return 0.0;
    }
    const Z: f64 = 1.96;
    let (n, p) = (all as f64, good as f64 / all as f64);
    let centre = p + Z * Z / (2.0 * n);
    let margin = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    ((centre - margin) / (1.0 + Z * Z / n)).max(0.0)
}

impl ProcedureRow {
    /// How well it works.
    pub fn effect(&self) -> Effect {
        let mut took = self.took_ms.clone();
        took.sort_unstable();
        Effect {
            runs: self.runs,
            success_rate: (self.runs > 0).then(|| self.good as f64 / self.runs as f64),
            wilson_low: (wilson_low(self.good, self.runs) * 1e4).round() / 1e4,
            p50_ms: took.get(took.len().saturating_sub(1) / 2).copied().unwrap_or(0),
            last: self.last_ms.map(|at| time(at as i64)),
        }
    }
}

/// A version's row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionRow {
    /// When it was learned, milliseconds since 1970.
    pub recorded_ms: u64,
    /// Who taught it.
    pub by: String,
    /// The version.
    pub body: Learned,
}

/// The tables of procedures.
#[derive(Clone)]
pub struct Procedures {
    procedures: Table,
    versions: Table,
    names: Table,
    runs: Table,
}

fn name_key(project: [u8; 8], name: &str) -> Vec<u8> {
    [&project[..], name.as_bytes()].concat()
}

fn version_key(id: &Id, version: u32) -> Vec<u8> {
    [id.as_str().as_bytes(), &[0], &version.to_be_bytes()].concat()
}

impl Procedures {
    fn row(&self, cx: &Context, id: &[u8]) -> Result<Option<ProcedureRow>, StoreError> {
        Ok(self.procedures.row::<ProcedureRow>(id)?.filter(|row| row.head.visible(cx)))
    }

    /// A procedure by its id, if who asks may see it.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn by_id(&self, cx: &Context, id: &Id) -> Result<Option<ProcedureRow>, StoreError> {
        self.row(cx, id.as_str().as_bytes())
    }

    /// A procedure by its name in one of the projects, if who asks may see it.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn named(
        &self,
        cx: &Context,
        projects: &[[u8; 8]],
        name: &str,
    ) -> Result<Option<ProcedureRow>, StoreError> {
        for project in projects {
            if let Some(id) = self.names.get(&name_key(*project, name))?
                && let Some(row) = self.row(cx, &id)?
            {
                return Ok(Some(row));
            }
        }
        Ok(None)
    }

    /// All procedures of the projects that who asks may see, by name.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn all(&self, cx: &Context, projects: &[[u8; 8]]) -> Result<Vec<ProcedureRow>, StoreError> {
        let mut ids: Vec<Vec<u8>> = Vec::new();
        for project in projects {
            self.names.prefix(project, &mut |_, id| {
                ids.push(id.to_vec());
                true
            })?;
        }
        let mut rows = Vec::with_capacity(ids.len());
        for id in ids {
            rows.extend(self.row(cx, &id)?);
        }
        Ok(rows)
    }

    /// One version of a procedure.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn version(&self, id: &Id, version: u32) -> Result<Option<VersionRow>, StoreError> {
        self.versions.row(&version_key(id, version))
    }

    /// All versions of a procedure, oldest first.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn versions(&self, row: &ProcedureRow) -> Result<Vec<VersionRow>, StoreError> {
        let mut versions = Vec::new();
        for version in 1..=row.newest.version {
            versions.extend(self.version(&row.newest.id, version)?);
        }
        Ok(versions)
    }

    fn learned(&self, batch: &mut Batch, event: &Learned, recorded: &Recorded) -> Result<(), StoreError> {
        let id = event.id.as_str();
        let row = match batch.row::<ProcedureRow>(&self.procedures, id.as_bytes())? {
            Some(row) => ProcedureRow { newest: event.clone(), archived: false, ..row },
            None => ProcedureRow {
                head: Head::of(recorded),
                newest: event.clone(),
                archived: false,
                runs: 0,
                good: 0,
                took_ms: Vec::new(),
                last_ms: None,
            },
        };
        let meta = &recorded.record.draft.meta;
        let version =
            VersionRow { recorded_ms: meta.at_ms, by: meta.author.name.clone(), body: event.clone() };
        batch.put_row(&self.versions, version_key(&event.id, event.version), &version)?;
        batch.put(&self.names, name_key(project_key(&row.head.scope), &event.name), id);
        batch.put_row(&self.procedures, id, &row)
    }

    fn change(
        &self,
        batch: &mut Batch,
        id: &Id,
        change: impl FnOnce(&mut ProcedureRow),
    ) -> Result<(), StoreError> {
        if let Some(mut row) = batch.row::<ProcedureRow>(&self.procedures, id.as_str().as_bytes())? {
            change(&mut row);
            batch.put_row(&self.procedures, id.as_str(), &row)?;
        }
        Ok(())
    }
}

impl Fold for Procedures {
    const NAME: &'static str = "procedures";
    const VERSION: u32 = 1;

    fn open(store: &Store) -> Result<Self, StoreError> {
        Ok(Self {
            procedures: store.table("procedures")?,
            versions: store.table("procedure_versions")?,
            names: store.table("procedure_names")?,
            runs: store.table("procedure_runs")?,
        })
    }

    fn fold(&self, batch: &mut Batch, event: &Event, recorded: &Recorded) -> Result<(), StoreError> {
        let Event::Procedural(event) = event else { return Ok(()) };
        match event {
            procedural::Event::Learned(event) => self.learned(batch, event, recorded),
            procedural::Event::Executed(event) => {
                batch.put_row(&self.runs, event.run.as_str(), &(&event.id, event.ok))?;
                self.change(batch, &event.id, |row| {
                    row.runs += 1;
                    row.good += u64::from(event.ok);
                    if row.took_ms.len() == DURATIONS {
                        row.took_ms.remove(0);
                    }
                    row.took_ms.push(event.duration_ms);
                    row.last_ms = Some(recorded.record.draft.meta.at_ms);
                })
            }
            procedural::Event::OutcomeRecorded(event) => {
                let run: Option<(Id, bool)> = batch.row(&self.runs, event.run.as_str().as_bytes())?;
                let Some((id, before)) = run.filter(|(_, before)| *before != event.ok) else { return Ok(()) };
                batch.put_row(&self.runs, event.run.as_str(), &(&id, event.ok))?;
                self.change(batch, &id, |row| {
                    row.good = if before { row.good.saturating_sub(1) } else { row.good + 1 };
                })
            }
            procedural::Event::Archived(event) => self.change(batch, &event.id, |row| row.archived = true),
            procedural::Event::Relocated(event) => event.ids.iter().try_for_each(|id| {
                let mut moved = None;
                self.change(batch, id, |row| {
                    let before = name_key(project_key(&row.head.scope), &row.newest.name);
                    row.head.scope = event.to.clone();
                    moved = Some((before, name_key(project_key(&event.to), &row.newest.name)));
                })?;
                if let Some((before, after)) = moved {
                    batch.remove(&self.names, before);
                    batch.put(&self.names, after, id.as_str());
                }
                Ok(())
            }),
        }
    }

    fn tables(&self) -> Vec<Table> {
        [&self.procedures, &self.versions, &self.names, &self.runs].map(Table::clone).to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_trials_do_not_inflate_the_bound() {
        assert_eq!(wilson_low(0, 0), 0.0);
        assert!(wilson_low(1, 1) < wilson_low(10, 10));
        assert!((wilson_low(90, 100) - 0.8256).abs() < 1e-3);
    }
}
