//! The store on disk: one fjall database for the log alone, so that its journal holds nothing else.
//!
//! Four keyspaces, all written with every group of appends (a keyspace that idles would pin old journals):
//! `log` position → frame; `stm` stream key and version → position; `ids` event id → position; `meta` small facts.
//! Journal compression is off: fjall verifies compressed entries by compressing them again, so an upgrade of the
//! compressor could make a journal unreadable.

use super::{Batch, Caps, Store, StoreError, Visit};
use crate::log::blobs::Blobs;
use crate::log::frame::{self, Hash};
use athena_schemas::envelope::Seq;
use athena_schemas::id::EventId;
use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What this store promises.
pub(crate) const CAPS: Caps = Caps {
    fsync_on_ack: true,
    gapless: true,
    multi_stream_atomic: true,
    dedup_forever: true,
    max_event: 16 << 20,
    max_batch: 4096,
};

/// Journals are kept below this many bytes (fjall's minimum): a start after a crash reads them all.
const JOURNAL_MAX: u64 = 64 << 20;

/// Bytes that each index of the log keeps in memory before it writes them out; the log itself keeps the engine's own 64 MiB. Less
/// (16 and 4 MiB) made appends a tenth slower, the engine's own for each lets a server that only runs grow by 256 MiB.
const INDEX_MEMTABLE: u64 = 16 << 20;

/// About what an event takes in memory beside its frame: three rows, each a node of a list.
const INDEX_BYTES: usize = 400;

/// Bytes of blocks that were read and are kept. The log is read in order; what is looked up is mostly an id that is not there.
const CACHE: u64 = 16 << 20;

/// Blocks of the log are large, because it is mostly read in order.
const LOG_BLOCK: u32 = 16 << 10;

/// How long writing out memory may take.
const FLUSH_PATIENCE: Duration = Duration::from_secs(30);

/// The key in `meta` that every group writes: how far the log was synced when the group was written. A group found behind
/// damage thereby proves that what is damaged had been on disk.
pub(crate) const SYNCED_KEY: &[u8] = b"g";

/// The fjall database and the folder of blobs beside it.
pub(crate) struct Disk {
    folder: PathBuf,
    database: Database,
    log: Keyspace,
    streams: Keyspace,
    ids: Keyspace,
    meta: Keyspace,
    blobs: Blobs,
    gathered: AtomicU64,
}

impl Disk {
    /// Opens the database in `folder/db`, creating it. Look over its journal first.
    ///
    /// # Errors
    /// When it is locked, damaged or the disk fails.
    pub(crate) fn open(folder: &Path) -> Result<Self, StoreError> {
        let database = Database::builder(folder.join("db"))
            .journal_compression(CompressionType::None)
            .max_journaling_size(JOURNAL_MAX)
            .cache_size(CACHE)
            .worker_threads(1)
            .open()
            .map_err(|error| convert(&error))?;
        let keyspace = |name: &str, options: fn() -> KeyspaceCreateOptions| {
            database.keyspace(name, options).map_err(|error| convert(&error))
        };
        let log = keyspace("log", || {
            KeyspaceCreateOptions::default()
                .expect_point_read_hits(true)
                .data_block_size_policy(fjall::config::BlockSizePolicy::all(LOG_BLOCK))
        })?;
        let index = || KeyspaceCreateOptions::default().max_memtable_size(INDEX_MEMTABLE);
        let streams = keyspace("stm", index)?;
        let ids = keyspace("ids", index)?;
        let meta = keyspace("meta", index)?;
        let blobs = Blobs::new(folder.join("blobs"));
        let gathered = AtomicU64::new(0);
        Ok(Self { folder: folder.into(), database, log, streams, ids, meta, blobs, gathered })
    }

    fn keyspaces(&self) -> [&Keyspace; 4] {
        [&self.log, &self.streams, &self.ids, &self.meta]
    }
}

impl Store for Disk {
    fn caps(&self) -> Caps {
        CAPS
    }

    fn commit(&self, batch: &Batch, sync: bool) -> Result<(), StoreError> {
        let mode = if sync { PersistMode::SyncData } else { PersistMode::Buffer };
        let items = 3 * batch.events.len() + batch.stubs.len() + batch.meta.len();
        let mut write = OwnedWriteBatch::with_capacity(self.database.clone(), items).durability(Some(mode));
        let mut bytes = 0;
        for entry in &batch.events {
            bytes += entry.frame.len() + INDEX_BYTES;
            let seq = entry.seq.to_be_bytes();
            write.insert(&self.log, seq, &*entry.frame);
            write.insert(&self.streams, stream_version(&entry.stream, entry.version), seq);
            write.insert(&self.ids, entry.id.0, seq);
        }
        for (seq, stub) in &batch.stubs {
            write.insert(&self.log, seq.to_be_bytes(), stub.as_slice());
        }
        for (key, value) in &batch.meta {
            match value {
                Some(value) => write.insert(&self.meta, key.as_slice(), value.as_slice()),
                None => write.remove(&self.meta, key.as_slice()),
            }
        }
        write.commit().map_err(|error| convert(&error))?;
        self.gathered.fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(())
    }

    fn gathered(&self) -> u64 {
        self.gathered.load(Ordering::Relaxed)
    }

    fn begin_write_out(&self) -> Result<(), StoreError> {
        self.gathered.store(0, Ordering::Relaxed);
        for keyspace in self.keyspaces() {
            keyspace.rotate_memtable().map_err(|error| convert(&error))?;
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.database.persist(PersistMode::SyncData).map_err(|error| convert(&error))
    }

    fn last(&self) -> Result<Option<(Seq, Hash)>, StoreError> {
        let Some(guard) = self.log.last_key_value() else { return Ok(None) };
        let (key, value) = guard.into_inner().map_err(|error| convert(&error))?;
        let (_, chain) = frame::hashes(&value).map_err(StoreError::Damaged)?;
        Ok(Some((position(&key)?, chain)))
    }

    fn scan(&self, after: Seq, visit: Visit<'_>) -> Result<(), StoreError> {
        for guard in self.log.range(after.saturating_add(1).to_be_bytes()..) {
            let (key, value) = guard.into_inner().map_err(|error| convert(&error))?;
            if !visit(position(&key)?, &value) {
                break;
            }
        }
        Ok(())
    }

    fn frame(&self, seq: Seq) -> Result<Option<Vec<u8>>, StoreError> {
        let found = self.log.get(seq.to_be_bytes()).map_err(|error| convert(&error))?;
        Ok(found.map(|value| value.to_vec()))
    }

    fn stream(&self, stream: &[u8; 16], after: u64, limit: usize) -> Result<Vec<(u64, Seq)>, StoreError> {
        let range = stream_version(stream, after.saturating_add(1))..=stream_version(stream, u64::MAX);
        self.streams.range(range).take(limit).map(version_and_position).collect()
    }

    fn stream_last(&self, stream: &[u8; 16]) -> Result<Option<(u64, Seq)>, StoreError> {
        self.streams.prefix(stream).next_back().map(version_and_position).transpose()
    }

    fn position(&self, id: &EventId) -> Result<Option<Seq>, StoreError> {
        let found = self.ids.get(id.0).map_err(|error| convert(&error))?;
        found.map(|value| position(&value)).transpose()
    }

    fn meta(&self, prefix: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>, StoreError> {
        let mut found = Vec::new();
        for guard in self.meta.prefix(prefix) {
            let (key, value) = guard.into_inner().map_err(|error| convert(&error))?;
            found.push((key.to_vec(), value.to_vec()));
        }
        Ok(found)
    }

    fn put_blob(&self, hash: &Hash, bytes: &[u8]) -> Result<(), StoreError> {
        self.blobs.put(hash, bytes).map_err(|error| convert_io(&error))
    }

    fn blob(&self, hash: &Hash) -> Result<Option<Vec<u8>>, StoreError> {
        self.blobs.get(hash)
    }

    fn has_room(&self, bytes: usize) -> bool {
        let probe = self.folder.join("probe");
        let written = std::fs::write(&probe, vec![1; bytes.saturating_add(64 << 10)]);
        let removed = std::fs::remove_file(&probe);
        written.is_ok() && removed.is_ok()
    }

    fn compact(&self, told: &mut dyn FnMut(u64, u64)) -> Result<(), StoreError> {
        self.flush()?;
        let sizes = self.keyspaces().map(Keyspace::disk_space);
        let (mut done, total) = (0, sizes.iter().sum());
        for (keyspace, size) in self.keyspaces().into_iter().zip(sizes) {
            told(done, total);
            keyspace.major_compact().map_err(|error| convert(&error))?;
            done += size;
        }
        told(total, total);
        Ok(())
    }

    fn sweep(&self) -> Result<u64, StoreError> {
        if self.blobs.is_empty() {
            return Ok(0);
        }
        let named = super::named_blobs(self)?;
        self.blobs.keep(&named).map_err(|error| convert_io(&error))
    }

    fn flush(&self) -> Result<(), StoreError> {
        self.begin_write_out()?;
        // fjall's own waiting never ends when the disk is full, so this one looks for that.
        let deadline = Instant::now() + FLUSH_PATIENCE;
        while self.keyspaces().iter().any(|keyspace| keyspace.sealed_memtable_count() > 0) {
            self.database.persist(PersistMode::Buffer).map_err(|error| convert(&error))?;
            if Instant::now() > deadline {
                return Err(StoreError::Io(format!(
                    "writing out memory took longer than {FLUSH_PATIENCE:?}"
                )));
            }
            std::thread::park_timeout(Duration::from_millis(2));
        }
        Ok(())
    }
}

fn stream_version(stream: &[u8; 16], version: u64) -> [u8; 24] {
    let mut key = [0; 24];
    let (name, number) = key.split_at_mut(16);
    name.copy_from_slice(stream);
    number.copy_from_slice(&version.to_be_bytes());
    key
}

fn position(bytes: &[u8]) -> Result<Seq, StoreError> {
    let bytes = bytes.try_into().map_err(|_| StoreError::Damaged("a position is not 8 bytes long".into()))?;
    Ok(Seq::from_be_bytes(bytes))
}

fn version_and_position(guard: fjall::Guard) -> Result<(u64, Seq), StoreError> {
    let (key, value) = guard.into_inner().map_err(|error| convert(&error))?;
    Ok((position(key.get(16..).unwrap_or_default())?, position(&value)?))
}

/// Sorts the engine's errors: what is a full disk, what is damage, what is neither.
pub(crate) fn convert(error: &fjall::Error) -> StoreError {
    match error {
        fjall::Error::Poisoned => StoreError::Poisoned,
        fjall::Error::Locked => StoreError::Locked,
        fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error)) => match error.kind() {
            io::ErrorKind::NotFound => StoreError::Damaged("a file of the storage engine is missing".into()),
            // Seeking to before the start, by what a cut file says of itself.
            io::ErrorKind::InvalidInput | io::ErrorKind::Other => {
                StoreError::Damaged(format!("the storage engine cannot read its own files: {error}"))
            }
            _ => convert_io(error),
        },
        other => StoreError::Damaged(format!("the storage engine cannot read its own files: {other:?}")),
    }
}

pub(crate) fn convert_io(error: &io::Error) -> StoreError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            StoreError::Full(error.to_string())
        }
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData => StoreError::Damaged(error.to_string()),
        _ => StoreError::Io(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Entry;
    use super::*;
    use crate::log::PAUSE_KEY;
    use fjall::AbstractTree;

    /// Bytes of rows in memory, those among them that only readers of older snapshots could still want.
    fn held(disk: &Disk) -> u64 {
        disk.keyspaces()
            .map(|keyspace| keyspace.tree.get_version_history_lock().memtable_size_sum())
            .iter()
            .sum()
    }

    /// As [`LogHandle::let_go`](crate::log::LogHandle::let_go) has it done.
    #[test]
    fn what_is_written_out_is_held_until_something_later_is() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::open(folder.path()).unwrap();
        let entry = |seq: u64| Entry {
            seq,
            stream: [1; 16],
            version: seq,
            id: EventId([seq as u8; 16]),
            frame: vec![7; 2_000].into(),
        };
        let events = (1..=100).map(entry).collect();
        disk.commit(&Batch { events, ..Batch::default() }, false).unwrap();
        assert!(held(&disk) > 200_000);
        disk.flush().unwrap();
        let meta = vec![(PAUSE_KEY.to_vec(), Some(Vec::new()))];
        disk.commit(&Batch { meta, ..Batch::default() }, false).unwrap();
        disk.begin_write_out().unwrap();
        assert!(held(&disk) < 1_000, "{} bytes", held(&disk));
        assert_eq!(disk.frame(100).unwrap(), Some(vec![7; 2_000]));
    }
}
