//! A clean end of the read side's store, noted for the next beginning.
//!
//! The engine replays its journal with every start, up to 64 MiB of it, also where all of that is in its tables already; it was
//! nine tenths of what opening the read models computed. So at the end everything is written out, and a note says how far the
//! journal reached then. Where it reaches no further at the next beginning, nothing was written since, and it is emptied
//! before the engine sees it. The file itself stays: without one the engine would count from the start again.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const NOTE: &str = "written-out";

/// Bytes looked at together.
const STEP: usize = 1 << 20;

/// Notes that all of the journal is in the tables. Nothing if there is more than one journal: the engine then goes on with it.
pub(crate) fn note(folder: &Path) -> io::Result<()> {
    let journals = journals(folder)?;
    let [journal] = journals.as_slice() else { return Ok(()) };
    fs::write(folder.join(NOTE), told(journal, reach(journal)?))
}

/// Empties the journal where a note says that all of it is in the tables. The note is good for once. Answers whether it did.
pub(crate) fn empty_journal(folder: &Path) -> io::Result<bool> {
    let note = match fs::read_to_string(folder.join(NOTE)) {
        Ok(note) => note,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    let journals = journals(folder)?;
    let [journal] = journals.as_slice() else {
        fs::remove_file(folder.join(NOTE))?;
        return Ok(false);
    };
    let good = note == told(journal, reach(journal)?);
    if good {
        let file = File::options().write(true).open(journal)?;
        file.set_len(0)?;
        file.sync_all()?;
    }
    fs::remove_file(folder.join(NOTE))?;
    Ok(good)
}

fn told(journal: &Path, reach: u64) -> String {
    format!("{} {reach}", journal.file_name().unwrap_or_default().display())
}

fn journals(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "jnl") {
            found.push(path);
        }
    }
    Ok(found)
}

/// Where the zeros begin that a journal was allocated with, bytes from its start: a group of entries ends with other bytes.
fn reach(journal: &Path) -> io::Result<u64> {
    let file = File::open(journal)?;
    let mut end = file.metadata()?.len();
    let mut bytes = vec![0; STEP];
    while end > 0 {
        let length = usize::try_from(end).unwrap_or(STEP).min(STEP);
        let Some(part) = bytes.get_mut(..length) else { break };
        file.read_exact_at(part, end - length as u64)?;
        if let Some(last) = part.iter().rposition(|byte| *byte != 0) {
            return Ok(end - (length - last - 1) as u64);
        }
        end -= length as u64;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::super::Store;
    use super::*;

    fn rows(folder: &Path) -> Vec<(Vec<u8>, Vec<u8>)> {
        let (store, mut rows) = (Store::open(folder).unwrap(), Vec::new());
        for name in ["one", "two"] {
            let visit = &mut |key: &[u8], value: &[u8]| {
                rows.push((key.to_vec(), value.to_vec()));
                true
            };
            store.table(name).unwrap().prefix(b"", visit).unwrap();
        }
        rows
    }

    fn put(store: &Store, n: u8) {
        let mut batch = store.batch();
        for name in ["one", "two"] {
            batch.put(&store.table(name).unwrap(), vec![n], vec![n; 100]);
        }
        batch.commit().unwrap();
    }

    #[test]
    fn what_was_written_out_is_there_without_its_journal_again_and_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        for round in 0..4_u8 {
            let store = Store::open(path).unwrap();
            put(&store, round);
            store.write_out().unwrap();
            drop(store);
            assert!(path.join(NOTE).exists());
            assert_eq!(rows(path).len(), 2 * (usize::from(round) + 1));
            assert!(!path.join(NOTE).exists(), "a note is good for once");
            let reached: Vec<u64> =
                journals(path).unwrap().iter().map(|journal| reach(journal).unwrap()).collect();
            assert_eq!(reached, [0], "round {round}");
        }
    }

    #[test]
    fn what_came_after_the_note_is_not_lost() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        put(&store, 1);
        store.write_out().unwrap();
        put(&store, 2);
        store.persist().unwrap();
        drop(store);
        assert_eq!(rows(folder.path()).len(), 4);
    }
}
