//! Ridding the files of what was removed or replaced.

use super::{Backend, Store, StoreError, in_time, keyspaces};
use fjall::{KeyspaceCreateOptions, PersistMode};
use std::time::{Duration, Instant};

/// The keyspace that fills journals, and is empty otherwise.
pub(super) const BALLAST: &str = "ballast";
/// More than a journal of the engine holds, bytes.
const BALLAST_BYTES: usize = 72 << 20;
const BALLAST_STEP: usize = 4 << 20;

/// How long rewriting may wait for the engine.
const SCRUB_PATIENCE: Duration = Duration::from_secs(60);

impl Store {
    /// Rewrites all files so that what was removed or replaced is in none of them. The engine begins a new journal only
    /// behind a full one, so this one is filled; it takes a second, and longer the more rows there are.
    ///
    /// # Errors
    /// When the disk fails or is full, or the engine does not get there in time.
    pub fn scrub(&self) -> Result<(), StoreError> {
        let Backend::Disk(database, _) = &self.backend else { return Ok(()) };
        let ballast = database.keyspace(BALLAST, KeyspaceCreateOptions::default).map_err(StoreError::of)?;
        let keyspaces = keyspaces(database)?;
        let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
        for _ in 0..BALLAST_BYTES / BALLAST_STEP {
            ballast.insert("noise", noise.bytes(BALLAST_STEP)).map_err(StoreError::of)?;
        }
        ballast.remove("noise").map_err(StoreError::of)?;
        database.persist(PersistMode::Buffer).map_err(StoreError::of)?;
        // Every memory is written out behind the full journal, so that the engine begins another and removes this one.
        let deadline = Instant::now() + SCRUB_PATIENCE;
        loop {
            for keyspace in &keyspaces {
                keyspace.rotate_memtable().map_err(StoreError::of)?;
            }
            while keyspaces.iter().any(|keyspace| keyspace.sealed_memtable_count() > 0) {
                database.persist(PersistMode::Buffer).map_err(StoreError::of)?;
                in_time(deadline)?;
            }
            if database.journal_count() == 1 {
                break;
            }
            in_time(deadline)?;
        }
        keyspaces.iter().try_for_each(|keyspace| keyspace.major_compact().map_err(StoreError::of))?;
        // Files that nothing names any more go with the first memory that is written out after a later write.
        for _ in 0..2 {
            ballast.remove("noise").map_err(StoreError::of)?;
            ballast.rotate_memtable_and_wait().map_err(StoreError::of)?;
        }
        Ok(())
    }
}

/// Bytes that do not compress (xorshift; Marsaglia, 2003).
struct Noise(u64);

impl Noise {
    fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(count);
        while bytes.len() < count {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            bytes.extend_from_slice(&self.0.to_le_bytes());
        }
        bytes
    }
}
