//! Where frames are kept: the trait, what its implementations can do, and the batch they write at once.
//!
//! Nothing above this line knows a storage engine. Two implementations stand beside it, [`disk`] and [`memory`]; a
//! distributed one would state weaker [`Caps`] and fit behind the same trait, for nothing here needs an atomic write over
//! several streams except to keep a caller's own batch whole.

pub(crate) mod disk;
pub(crate) mod memory;

use super::frame::{self, Bytes, Hash};
use athena_schemas::envelope::Seq;
use athena_schemas::id::EventId;
use athena_schemas::ports::LogError;
use memory::Memory;
use std::collections::HashSet;
use std::sync::Arc;

/// What a store promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    /// What was acknowledged as durable survives the loss of power.
    pub fsync_on_ack: bool,
    /// Positions have no gaps.
    pub gapless: bool,
    /// All events of a batch or none, also over several streams.
    pub multi_stream_atomic: bool,
    /// Event ids are remembered for ever, not for a time.
    pub dedup_forever: bool,
    /// The largest payload, bytes.
    pub max_event: usize,
    /// The largest batch of one caller, events.
    pub max_batch: usize,
}

/// Why a store did not do as asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// No room.
    #[error("no space left: {0}")]
    Full(String),
    /// Refuses all writes since one failed; must be opened anew.
    #[error("the store takes no writes since one failed")]
    Poisoned,
    /// Its bytes are not what was written.
    #[error("{0}")]
    Damaged(String),
    /// Somebody else has it open.
    #[error("the store is in use by another process")]
    Locked,
    /// The disk failed.
    #[error("{0}")]
    Io(String),
}

impl From<StoreError> for LogError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Full(text) => Self::Full(text),
            StoreError::Damaged(text) => Self::Damaged(text),
            StoreError::Poisoned | StoreError::Locked | StoreError::Io(_) => Self::Io(error.to_string()),
        }
    }
}

/// One event to write.
#[derive(Debug)]
pub struct Entry {
    /// Its position.
    pub seq: Seq,
    /// Its stream, as [`stream_key`](super::frame::stream_key).
    pub stream: [u8; 16],
    /// Its version in the stream.
    pub version: u64,
    /// Its id.
    pub id: EventId,
    /// Its frame.
    pub frame: Bytes,
}

/// What is written at once: all of it or nothing.
#[derive(Debug, Default)]
pub struct Batch {
    /// Events, positions ascending.
    pub events: Vec<Entry>,
    /// What takes the place of frames whose payload is dropped.
    pub stubs: Vec<(Seq, Vec<u8>)>,
    /// Small facts about the log: consumers, checkpoints. `None` removes.
    pub meta: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Batch {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty() && self.stubs.is_empty() && self.meta.is_empty()
    }
}

/// Visits frames in order; `false` ends the scan.
pub type Visit<'a> = &'a mut dyn FnMut(Seq, &[u8]) -> bool;

/// A place for frames. Written by one thread, read by many.
pub trait Store: Send + Sync {
    /// What it promises.
    fn caps(&self) -> Caps;

    /// Writes a batch; with `sync`, it and everything before it is on disk when this returns.
    ///
    /// # Errors
    /// After an error, whether the batch was written is known only once the store has been opened anew.
    fn commit(&self, batch: &Batch, sync: bool) -> Result<(), StoreError>;

    /// Makes everything written so far durable.
    ///
    /// # Errors
    /// When the disk fails.
    fn sync(&self) -> Result<(), StoreError>;

    /// Bytes that were written since memory was last [written out](Self::begin_write_out).
    fn gathered(&self) -> u64;

    /// Begins to write out what is held in memory, and does not wait for it.
    ///
    /// # Errors
    /// When the disk fails.
    fn begin_write_out(&self) -> Result<(), StoreError>;

    /// The last position and its chain hash.
    ///
    /// # Errors
    /// When the disk fails or the data is damaged.
    fn last(&self) -> Result<Option<(Seq, Hash)>, StoreError>;

    /// Visits the frames after a position.
    ///
    /// # Errors
    /// When the disk fails or the data is damaged.
    fn scan(&self, after: Seq, visit: Visit<'_>) -> Result<(), StoreError>;

    /// The frame at a position.
    ///
    /// # Errors
    /// When the disk fails or the data is damaged.
    fn frame(&self, seq: Seq) -> Result<Option<Vec<u8>>, StoreError>;

    /// Positions of at most `limit` events of a stream after a version, ascending.
    ///
    /// # Errors
    /// When the disk fails or the data is damaged.
    fn stream(&self, stream: &[u8; 16], after: u64, limit: usize) -> Result<Vec<(u64, Seq)>, StoreError>;

    /// Version and position of the last event of a stream.
    ///
    /// # Errors
    /// When the disk fails or the data is damaged.
    fn stream_last(&self, stream: &[u8; 16]) -> Result<Option<(u64, Seq)>, StoreError>;

    /// The position of an event.
    ///
    /// # Errors
    /// When the disk fails or the data is damaged.
    fn position(&self, id: &EventId) -> Result<Option<Seq>, StoreError>;

    /// Small facts whose key starts with `prefix`, ascending.
    ///
    /// # Errors
    /// When the disk fails or the data is damaged.
    fn meta(&self, prefix: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>, StoreError>;

    /// Keeps a large payload under the hash of its bytes. Durable when this returns.
    ///
    /// # Errors
    /// When the disk fails or is full.
    fn put_blob(&self, hash: &Hash, bytes: &[u8]) -> Result<(), StoreError>;

    /// A large payload.
    ///
    /// # Errors
    /// When the disk fails or the bytes are not those of the hash.
    fn blob(&self, hash: &Hash) -> Result<Option<Vec<u8>>, StoreError>;

    /// Whether there seems to be room again for `bytes` more.
    fn has_room(&self, bytes: usize) -> bool;

    /// Rewrites what it keeps without what was replaced. `told` hears how many bytes of how many are through, as far as that is
    /// known.
    ///
    /// # Errors
    /// When the disk fails or is full.
    fn compact(&self, told: &mut dyn FnMut(u64, u64)) -> Result<(), StoreError>;

    /// Removes large payloads that no event names; answers how many. Only while nothing is written.
    ///
    /// # Errors
    /// When the disk fails or the data is damaged.
    fn sweep(&self) -> Result<u64, StoreError>;

    /// Writes out what it holds in memory, so that the next opening is fast.
    ///
    /// # Errors
    /// When the disk fails or is full.
    fn flush(&self) -> Result<(), StoreError>;
}

/// The large payloads that events name.
fn named_blobs(store: &dyn Store) -> Result<HashSet<Hash>, StoreError> {
    let (mut named, mut problem) = (HashSet::new(), None);
    store.scan(0, &mut |seq, bytes| {
        match frame::decode(bytes) {
            Ok(frame) => named.extend(frame.blob.map(|blob| blob.hash)),
            Err(cause) => problem = Some(StoreError::Damaged(format!("position {seq}: {cause}"))),
        }
        problem.is_none()
    })?;
    problem.map_or(Ok(named), Err)
}

impl dyn Store {
    /// A store in memory: for tests and for `--conformance`. It forgets everything when dropped.
    pub fn memory() -> Arc<dyn Store> {
        Arc::new(Memory::default())
    }
}
