//! The event log: one writer, group commit, hash chain. The only source of truth.
//!
//! Callers put appends, their replies travelling with them, into a bounded queue; one thread ([`writer`]) drains it, gives
//! every event its place, writes the group with one sync and answers. Readers ([`reader`]) pull by position and never wait
//! for the writer. Read in this order: [`frame`] (an event as bytes), [`store`] (where frames are kept), [`writer`].

pub mod actor;
mod anchor;
mod blobs;
mod build;
mod checkpoint;
mod consumer;
mod dropping;
mod frame;
mod group;
mod journal;
mod open;
mod prepared;
mod reader;
mod snapshots;
pub mod store;
#[cfg(test)]
pub(crate) mod testing;
mod transcript;
mod verify;
mod writer;

pub use checkpoint::{Checkpoint, Signer};
pub use consumer::{Consumer, Lease, Page, Parked};
pub use dropping::{Dropping, Outline};
pub use frame::{GENESIS, Hash};
pub use snapshots::Snapshots;
pub use store::Store;
pub use transcript::{Checked, Exported, Head, Imported, LogFile, Order, Told, import_file, verify_file};
pub use verify::{Finding, VerifyReport, verify_folder};

use athena_schemas::envelope::{Draft, Seq};
use athena_schemas::ports::{LogError, LogReader};
use open::Opener;
use reader::{Reader, Slot};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use writer::{Message, Waiting, Writer};

/// A small fact that says nothing: written so that something was.
const PAUSE_KEY: &[u8] = b"p";

/// The name of a stream, bytes.
pub const STREAM_NAME_MAX: usize = 256;

/// Events whose outlines are read at once.
const OUTLINE_MAX: u64 = 4_096;

/// Where a log lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// In memory; forgotten with the last handle.
    Memory,
    /// In a folder of its own.
    Folder(PathBuf),
}

impl From<&Path> for Location {
    fn from(path: &Path) -> Self {
        Self::Folder(path.into())
    }
}

impl From<PathBuf> for Location {
    fn from(path: PathBuf) -> Self {
        Self::Folder(path)
    }
}

/// What an acknowledgement means in a store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// On disk before the acknowledgement.
    #[default]
    Sync,
    /// Written before the acknowledgement, on disk at most this long after it.
    Interval(Duration),
    /// Written before the acknowledgement; on disk when the system likes. For imports and tests.
    Buffer,
}

/// What one append asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Durability {
    /// As the store's mode says.
    #[default]
    Default,
    /// On disk before the answer, with everything before it, whatever the store's mode: approvals, audit, vault, effects.
    Sync,
    /// Recorded without waiting for the disk. A later synced append makes it durable too.
    Buffered,
}

/// Where a stream must be for an append to happen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Expected {
    /// Anywhere.
    #[default]
    Any,
    /// The stream must not exist.
    NoStream,
    /// The stream must exist.
    Exists,
    /// The stream must be at this version.
    At(u64),
}

/// Events to record: all of them or none.
#[derive(Debug, Clone, Default)]
pub struct Append {
    /// The events, in order. None at all is allowed and waits for everything queued before.
    pub drafts: Vec<Draft>,
    /// Where their stream must be. Anything but [`Expected::Any`] needs all of them to be of one stream.
    pub expected: Expected,
    /// What the acknowledgement means.
    pub durability: Durability,
}

impl Append {
    /// Events at any version, as durable as the store's mode says.
    pub fn new(drafts: Vec<Draft>) -> Self {
        Self { drafts, ..Self::default() }
    }
}

/// Where events were recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// Position of the first; of an empty append, the head.
    pub first: Seq,
    /// Position of the last; of an empty append, the head.
    pub last: Seq,
    /// Whether they are on disk.
    pub durable: bool,
    /// Whether they had been recorded before, under the same ids and with the same content. Nothing was added then.
    pub duplicate: bool,
}

/// Called once with the outcome of an append, on the writer's thread: it must not block.
pub type Reply = Box<dyn FnOnce(Result<Receipt, LogError>) + Send>;

/// How a log is opened.
#[derive(Debug, Clone)]
pub struct Options {
    /// What an acknowledgement means.
    pub mode: Mode,
    /// Appends that may wait for the writer; more are refused with [`LogError::Limit`].
    pub queue: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { mode: Mode::Sync, queue: 4096 }
    }
}

/// What was found when a log was opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OpenReport {
    /// The last position.
    pub head: Seq,
    /// Its chain hash.
    pub chain: Hash,
    /// The torn tail that was cut off the journal: written when the process or the machine died, and never acknowledged as
    /// durable.
    pub cut: Option<Cut>,
    /// Events that were acknowledged without a sync and lost with the power.
    pub lost_unsynced: u64,
    /// Whether the anchor vouched for the head. Without it the whole chain was checked instead.
    pub anchored: bool,
    /// Events whose hashes were checked on opening.
    pub checked: u64,
    /// What opening did, and how long each part of it took.
    pub phases: Phases,
}

/// Parts of an opening with the time each took, in order; those that go on at the same time overlap.
pub type Phases = Vec<(String, Duration)>;

/// A torn tail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// The journal file.
    pub journal: String,
    /// Where it was cut, bytes from its start.
    pub at: u64,
    /// Bytes cut off.
    pub bytes: u64,
}

/// A log whose lock is held and that is still to be opened.
pub struct Claim(Opener);

impl Claim {
    /// Opens it; see [`LogHandle::open`].
    ///
    /// # Errors
    /// As there.
    pub fn open(self, options: &Options) -> Result<(LogHandle, OpenReport), LogError> {
        LogHandle::start(self.0, options)
    }
}

/// A handle on the log; clones share one writer. When the last one is gone, the writer writes out what it holds and ends.
#[derive(Clone)]
pub struct LogHandle {
    queue: SyncSender<Message>,
    slot: Arc<Slot>,
    head: watch::Receiver<Seq>,
}

impl LogHandle {
    /// Opens a log, creating it where there is none, and starts its writer.
    ///
    /// # Errors
    /// [`LogError::Damaged`] when something acknowledged is missing or changed; [`LogError::Io`] when another process has
    /// it open or the disk fails; [`LogError::Full`] when there is no room.
    pub fn open(location: impl Into<Location>, options: Options) -> Result<(Self, OpenReport), LogError> {
        Self::start(Opener::new(location.into())?, &options)
    }

    /// Takes a log's lock, so that nobody else opens what lies beside it either.
    ///
    /// # Errors
    /// When another process holds it or the disk fails.
    pub fn claim(location: impl Into<Location>) -> Result<Claim, LogError> {
        Opener::new(location.into()).map(Claim)
    }

    fn start(opener: Opener, options: &Options) -> Result<(Self, OpenReport), LogError> {
        let (queue, messages) = sync_channel(options.queue.max(1));
        let slot = Arc::new(Slot::default());
        let (writer, head, report) = Writer::open(opener, options, Arc::clone(&slot))?;
        std::thread::Builder::new()
            .name("athena-log".into())
            .spawn(move || writer.run(&messages))
            .map_err(|error| LogError::Io(format!("the log's writer cannot start: {error}")))?;
        Ok((Self { queue, slot, head }, report))
    }

    /// Queues an append. The reply is called once, on the writer's thread, or here where the queue is full or closed.
    pub fn append(&self, append: Append, reply: Reply) {
        let waiting = match Waiting::new(append) {
            Ok(waiting) => waiting,
            Err(error) => return reply(Err(error)),
        };
        if let Err(refused) = self.queue.try_send(Message::Append(waiting, reply)) {
            let (message, error) = match refused {
                TrySendError::Full(message) => {
                    (message, LogError::Limit("too many appends are waiting".into()))
                }
                TrySendError::Disconnected(message) => (message, LogError::Closed),
            };
            message.refuse(&error);
        }
    }

    /// Records events and waits for the outcome.
    ///
    /// # Errors
    /// See [`LogError`]; after [`LogError::Unknown`], retry with the same ids.
    pub async fn commit(&self, append: Append) -> Result<Receipt, LogError> {
        let (send, outcome) = oneshot::channel();
        self.append(append, Box::new(move |result| drop(send.send(result))));
        outcome.await.unwrap_or(Err(LogError::Closed))
    }

    /// Waits until everything queued before is recorded; answers the head. A restarted layer does so before it replays.
    ///
    /// # Errors
    /// When the log is closed or refuses writes.
    pub async fn barrier(&self) -> Result<Seq, LogError> {
        self.commit(Append { durability: Durability::Buffered, ..Append::default() })
            .await
            .map(|receipt| receipt.last)
    }

    /// Waits until everything queued before is on disk; answers the head.
    ///
    /// # Errors
    /// When the log is closed or the disk fails.
    pub async fn sync(&self) -> Result<Seq, LogError> {
        self.commit(Append { durability: Durability::Sync, ..Append::default() })
            .await
            .map(|receipt| receipt.last)
    }

    /// Bytes that were written since memory was last written out by [`Self::begin_write_out`]. 0 while the log is not open.
    pub fn gathered(&self) -> u64 {
        self.slot.get().map_or(0, |store| store.gathered())
    }

    /// Begins to write out what is held in memory, and does not wait for it: it has been safe in the journal from the start.
    ///
    /// # Errors
    /// When the log is closed or the disk fails.
    pub fn begin_write_out(&self) -> Result<(), LogError> {
        Ok(self.slot.get()?.begin_write_out()?)
    }

    /// Lets go of the memory of what was written out: for readers of older snapshots the engine keeps it until something that was
    /// written later is written out as well. For a pause.
    ///
    /// # Errors
    /// When the log is closed or the disk fails.
    pub async fn let_go(&self) -> Result<(), LogError> {
        self.remember(vec![(PAUSE_KEY.to_vec(), Some(Vec::new()))]).await?;
        self.begin_write_out()
    }

    /// Writes out what is held in memory and ends the writer, so that the next opening is fast. Other handles get
    /// [`LogError::Closed`] from then on.
    ///
    /// # Errors
    /// When the disk fails; what was acknowledged is safe all the same.
    pub async fn close(&self) -> Result<(), LogError> {
        let (send, outcome) = oneshot::channel();
        let closing = Message::Close(Box::new(move |result| drop(send.send(result))));
        let queue = self.queue.clone();
        // A full queue is waited for, off the runtime's threads.
        let sent = tokio::task::spawn_blocking(move || queue.send(closing).is_ok()).await.unwrap_or(false);
        if sent { outcome.await.unwrap_or(Ok(())) } else { Ok(()) }
    }

    /// Rewrites what is kept without what was replaced, and removes large payloads that no event names (a process died
    /// between writing one and its event). On the writer's thread: appends wait meanwhile.
    ///
    /// # Errors
    /// When the disk fails or is full.
    pub async fn compact(&self) -> Result<(), LogError> {
        self.compact_telling(|_, _| {}).await
    }

    /// The same; `told` hears on the writer's thread how many bytes of how many are through, and must not block.
    ///
    /// # Errors
    /// When the disk fails or is full.
    pub async fn compact_telling(&self, told: impl FnMut(u64, u64) + Send + 'static) -> Result<(), LogError> {
        let (send, outcome) = oneshot::channel();
        let message = Message::Compact(Box::new(told), Box::new(move |result| drop(send.send(result))));
        self.queue.try_send(message).map_err(|_| LogError::Closed)?;
        outcome.await.unwrap_or(Err(LogError::Closed))
    }

    /// Makes everything durable, signs the head and keeps the checkpoint. Keep a copy elsewhere as well.
    ///
    /// # Errors
    /// When the log is closed or the disk fails.
    pub async fn checkpoint(&self, signer: &Signer, at_ms: u64) -> Result<Checkpoint, LogError> {
        let seq = self.sync().await?;
        let chain = self.chain_at(seq)?;
        let checkpoint = signer.sign(seq, &chain, at_ms);
        self.remember(vec![checkpoint::kept(&checkpoint)?]).await?;
        Ok(checkpoint)
    }

    /// The checkpoints kept in the store, oldest first.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn checkpoints(&self) -> Result<Vec<Checkpoint>, LogError> {
        let kept = self.slot.get()?.meta(b"c")?;
        kept.iter()
            .map(|(_, text)| {
                serde_json::from_slice(text).map_err(|error| LogError::Damaged(error.to_string()))
            })
            .collect()
    }

    /// Checks every event against its hashes, the indexes and a checkpoint, beside the running writer.
    ///
    /// # Errors
    /// When the disk fails. What is wrong with the data is not an error but a finding.
    pub fn verify(&self, checkpoint: Option<&Checkpoint>) -> Result<VerifyReport, LogError> {
        let head = *self.head.borrow();
        Ok(verify::verify_store(&*self.slot.get()?, head, checkpoint))
    }

    /// Visits what is known of every event without its payload, after a position, ascending, until `visit` says `false`.
    ///
    /// # Errors
    /// When the disk fails or the data is damaged.
    pub fn outline(&self, after: Seq, visit: &mut dyn FnMut(&Outline) -> bool) -> Result<(), LogError> {
        let (head, mut at, mut wanted) = (*self.head.borrow(), after, true);
        while wanted && at < head {
            // For a while at a time, so that the writer can close the store and open it anew.
            let (store, from) = (self.slot.get()?, at);
            dropping::outline(&*store, from, head, &mut |event| {
                at = event.seq;
                wanted = visit(event);
                wanted && at < from + OUTLINE_MAX
            })?;
            if at == from {
                break;
            }
        }
        Ok(())
    }

    /// What would take the place of the events at these positions, and what vouches for it. Changes nothing.
    ///
    /// # Errors
    /// When the disk fails or there is no such event.
    pub fn prepare_drop(&self, positions: &[Seq]) -> Result<Dropping, LogError> {
        dropping::prepare(&*self.slot.get()?, positions)
    }

    /// Drops payloads, on disk when this returns. What says so must be on record before: see
    /// [`retention`](crate::retention). Done twice it is done once.
    ///
    /// # Errors
    /// When the disk fails: all of them may be dropped then, or none.
    pub async fn drop_payloads(&self, dropping: Dropping) -> Result<(), LogError> {
        let (send, outcome) = oneshot::channel();
        let message = Message::Drop(dropping.into_stubs(), Box::new(move |result| drop(send.send(result))));
        self.queue.try_send(message).map_err(|_| LogError::Limit("too many appends are waiting".into()))?;
        outcome.await.unwrap_or(Err(LogError::Closed)).map(drop)
    }

    /// A durable consumer: where it is, who works for it, what it could not digest. Created with its first change.
    pub fn consumer(&self, name: impl Into<String>) -> Consumer {
        Consumer::new(self.clone(), name.into())
    }

    /// Whether the log fell over and had to be opened anew: changes with every such event.
    pub(crate) fn failures(&self) -> watch::Receiver<u64> {
        self.slot.failures()
    }

    /// Small facts under a prefix.
    pub(crate) fn recall(&self, prefix: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>, LogError> {
        Ok(self.slot.get()?.meta(prefix)?)
    }

    /// Keeps small facts; they become durable with the next synced append.
    pub(crate) async fn remember(&self, facts: Vec<(Vec<u8>, Option<Vec<u8>>)>) -> Result<(), LogError> {
        let (send, outcome) = oneshot::channel();
        let message = Message::Meta(facts, Box::new(move |result| drop(send.send(result))));
        self.queue.try_send(message).map_err(|_| LogError::Limit("too many appends are waiting".into()))?;
        outcome.await.unwrap_or(Err(LogError::Closed)).map(drop)
    }

    /// Reads by position, never through the queue.
    pub fn reader(&self) -> Arc<dyn LogReader> {
        Arc::new(Reader::new(Arc::clone(&self.slot), self.head.clone()))
    }
}

impl std::fmt::Debug for LogHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogHandle").field("head", &*self.head.borrow()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod failing;
#[cfg(test)]
mod stride;
#[cfg(test)]
mod tampering;
#[cfg(test)]
mod tests;
