//! The table on disk, so that a start need not read every document again.
//!
//! The file may be older than the index, never another index's: it is taken up, and what differs is read from the index, row by
//! row. It is written now and then, for it is written as a whole; it is sealed by a hash, and whatever is wrong with it means
//! to read all documents as if there were none.

use super::lexicon::Committed;
use super::table::{Row, Table};
use super::{Search, VERSION, fingerprint, store};
use athena_schemas::ports::ProjectionError;
use std::path::PathBuf;
use tantivy::TantivyError;

/// Its name.
pub(super) const FILE: &str = "table.bin";
/// Rows since it was last written before it is written again: so many, or an eighth of all.
const WORTH: usize = 10_000;
const SHARE: usize = 8;

impl Search {
    fn table_file(&self) -> Option<PathBuf> {
        Some(self.place.as_ref()?.folder().join(FILE))
    }

    /// Whether the table differs enough from what is kept of it.
    pub(super) fn is_table_due(&self) -> bool {
        let rows = self.finder.read().table.len();
        self.place.is_some() && !self.forgot && rows.saturating_sub(self.kept_rows) >= WORTH.max(rows / SHARE)
    }

    /// Writes the table of what was just committed.
    pub(super) fn keep_table(&mut self) -> Result<(), ProjectionError> {
        let Some(path) = self.table_file() else { return Ok(()) };
        let (bytes, rows) = {
            let state = self.finder.read();
            (postcard::to_stdvec(&(VERSION, &state.table)).map_err(store)?, state.table.len())
        };
        let beside = path.with_extension("new");
        let sum = blake3::hash(&bytes);
        std::fs::write(&beside, [bytes.as_slice(), sum.as_bytes()].concat()).map_err(store)?;
        std::fs::rename(&beside, &path).map_err(store)?;
        self.kept_rows = rows;
        Ok(())
    }

    /// Removes the file. Names in the table outlive their documents, so after an erasure none is written until the next start
    /// has made the table anew.
    pub(super) fn forget_table(&mut self) -> Result<(), ProjectionError> {
        (self.forgot, self.kept_rows) = (true, 0);
        match self.table_file().map(std::fs::remove_file) {
            Some(Err(error)) if error.kind() != std::io::ErrorKind::NotFound => Err(store(error)),
            _ => Ok(()),
        }
    }
}

/// The table of what is committed: from the file, as far as it serves, and from the documents. Answers also how many rows the
/// file had.
pub(super) fn table(path: Option<PathBuf>, committed: &Committed) -> Result<(Table, usize), TantivyError> {
    let mut table = path.and_then(read).unwrap_or_default();
    let kept_rows = table.len();
    let mut alive = vec![false; kept_rows];
    for row in committed.alive() {
        if let Some(is) = alive.get_mut(row as usize) {
            *is = true;
        }
    }
    for (row, alive) in (0..).zip(&alive) {
        if !alive {
            table.drop_row(row);
        }
    }
    let known: Vec<bool> = (0..kept_rows as Row).map(|row| table.facts(row).is_some()).collect();
    let is_new = |row: Row| !known.get(row as usize).copied().unwrap_or(false);
    committed.documents(&is_new, &mut |row, terms, document, body| {
        table.insert(row, &document, terms, fingerprint(body));
    })?;
    Ok((table, kept_rows))
}

fn read(path: PathBuf) -> Option<Table> {
    let bytes = std::fs::read(path).ok()?;
    let (body, sum) = bytes.split_last_chunk::<32>()?;
    if blake3::hash(body).as_bytes() != sum {
        return None;
    }
    let (version, rest) = postcard::take_from_bytes::<u32>(body).ok()?;
    let (table, rest) = (version == VERSION).then(|| postcard::take_from_bytes::<Table>(rest).ok())??;
    rest.is_empty().then_some(table)
}
