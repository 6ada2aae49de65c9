//! Large payloads, one file each, named by the hash of their (sealed) bytes. The frame binds the hash, so the chain covers them.

use super::frame::Hash;
use super::store::StoreError;
use super::store::disk::convert_io;
use crate::files::{hex, sync_folder, write_durably};
use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::PathBuf;

/// Payloads above this many bytes become blobs.
pub(crate) const INLINE_MAX: usize = 64 << 10;

/// A folder of blobs: `ab/cdef…`.
pub(crate) struct Blobs {
    folder: PathBuf,
}

impl Blobs {
    /// Creates nothing until the first blob arrives.
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Writes a blob; on disk when this returns. Writing one that is there costs nothing.
    pub(crate) fn put(&self, hash: &Hash, bytes: &[u8]) -> io::Result<()> {
        let path = self.path(hash);
        if fs::metadata(&path).is_ok_and(|found| found.len() == bytes.len() as u64) {
            return Ok(());
        }
        let folder = path.parent().unwrap_or(&self.folder);
        fs::create_dir_all(folder)?;
        write_durably(&path, bytes)?;
        sync_folder(&self.folder)
    }

    /// Reads a blob and checks that it is the one asked for; `None` where there is none.
    pub(crate) fn get(&self, hash: &Hash) -> Result<Option<Vec<u8>>, StoreError> {
        match fs::read(self.path(hash)) {
            Ok(bytes) if blake3::hash(&bytes).as_bytes() == hash => Ok(Some(bytes)),
            Ok(_) => Err(StoreError::Damaged(format!("blob {} is not what was written", hex(hash)))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(convert_io(&error)),
        }
    }

    /// Whether there was never one.
    pub(crate) fn is_empty(&self) -> bool {
        !self.folder.exists()
    }

    /// Removes all but the named ones, and what was never finished. Answers how many.
    pub(crate) fn keep(&self, named: &HashSet<Hash>) -> io::Result<u64> {
        let named: HashSet<PathBuf> = named.iter().map(|hash| self.path(hash)).collect();
        let mut removed = 0;
        for folder in fs::read_dir(&self.folder)? {
            let folder = folder?.path();
            if !folder.is_dir() {
                continue;
            }
            for file in fs::read_dir(&folder)? {
                let path = file?.path();
                if !named.contains(&path) {
                    fs::remove_file(&path)?;
                    removed += 1;
                }
            }
        }
        Ok(removed)
    }

    fn path(&self, hash: &Hash) -> PathBuf {
        let name = hex(hash);
        let (folder, file) = name.split_at(2);
        self.folder.join(folder).join(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_reads_back_and_a_changed_one_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::new(folder.path().join("blobs"));
        let bytes = vec![7; 100_000];
        let hash = *blake3::hash(&bytes).as_bytes();
        assert_eq!(blobs.get(&hash).unwrap(), None);
        blobs.put(&hash, &bytes).unwrap();
        blobs.put(&hash, &bytes).unwrap();
        assert_eq!(blobs.get(&hash).unwrap(), Some(bytes.clone()));
        fs::write(blobs.path(&hash), vec![8; 100_000]).unwrap();
        assert!(matches!(blobs.get(&hash), Err(StoreError::Damaged(_))));
    }
}
