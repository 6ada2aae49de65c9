//! Snapshots of state that was folded from the log: disposable files beside it that make a start fast. Whoever reads one
//! checks its schema and the chain at its position; a misfit means to fold from the beginning, never to convert.

use super::frame::Hash;
use crate::files::{hex, write_durably};
use athena_schemas::envelope::Seq;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// A state and where it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The version of the state's shape.
    pub schema: u32,
    /// The last position folded into it.
    pub seq: Seq,
    /// The chain hash there: another history has another one.
    pub chain: Hash,
    /// The state.
    pub bytes: Vec<u8>,
}

/// Where snapshots lie.
#[derive(Debug)]
pub enum Snapshots {
    /// In a folder, a file each.
    Folder(PathBuf),
    /// In memory.
    Memory(Mutex<HashMap<String, Snapshot>>),
}

impl Snapshots {
    /// Snapshots in a folder, which is created with the first of them.
    pub fn folder(path: impl Into<PathBuf>) -> Self {
        Self::Folder(path.into())
    }

    /// Snapshots in memory.
    pub fn memory() -> Self {
        Self::Memory(Mutex::default())
    }

    /// Keeps a snapshot in place of the one before of that name.
    ///
    /// # Errors
    /// When the disk fails or is full.
    pub fn put(&self, name: &str, snapshot: &Snapshot) -> io::Result<()> {
        match self {
            Self::Memory(kept) => {
                kept.lock().unwrap_or_else(PoisonError::into_inner).insert(name.into(), snapshot.clone());
                Ok(())
            }
            Self::Folder(folder) => {
                let mut bytes = postcard::to_stdvec(snapshot).map_err(io::Error::other)?;
                let sum = blake3::hash(&bytes);
                bytes.extend_from_slice(sum.as_bytes());
                std::fs::create_dir_all(folder)?;
                write_durably(&path(folder, name), &bytes)
            }
        }
    }

    /// The snapshot of that name and schema. Anything else, a damaged one too, is `None`: it can be made again.
    pub fn get(&self, name: &str, schema: u32) -> Option<Snapshot> {
        let found = match self {
            Self::Memory(kept) => kept.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned(),
            Self::Folder(folder) => {
                let bytes = std::fs::read(path(folder, name)).ok()?;
                let (body, sum) = bytes.split_last_chunk::<32>()?;
                if blake3::hash(body).as_bytes() != sum {
                    return None;
                }
                athena_schemas::envelope::exactly::<Snapshot>(body).ok()
            }
        };
        found.filter(|snapshot| snapshot.schema == schema)
    }
}

/// Names may hold anything; file names are their hashes.
fn path(folder: &std::path::Path, name: &str) -> PathBuf {
    let hash = hex(blake3::hash(name.as_bytes()).as_bytes().get(..16).unwrap_or_default());
    folder.join(format!("{hash}.snapshot"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_reads_back_unless_it_is_stale_or_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let snapshot = Snapshot { schema: 2, seq: 9, chain: [3; 32], bytes: vec![1, 2, 3] };
        for snapshots in [Snapshots::folder(folder.path()), Snapshots::memory()] {
            assert_eq!(snapshots.get("semantic", 2), None);
            snapshots.put("semantic", &snapshot).unwrap();
            assert_eq!(snapshots.get("semantic", 2), Some(snapshot.clone()));
            assert_eq!(snapshots.get("semantic", 3), None);
            assert_eq!(snapshots.get("episodic", 2), None);
        }
        let path = path(folder.path(), "semantic");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[5] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(Snapshots::folder(folder.path()).get("semantic", 2), None);
    }
}
