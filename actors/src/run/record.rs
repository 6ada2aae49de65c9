//! Writing a run's record: sealed at once, appended in batches, on disk when an effect demands it.
//!
//! Nothing a run has done matters to the world until its first effect, so until then its events wait in memory and are
//! appended without waiting for the disk. The log is one sequence with one writer: whatever is synced carries with it all
//! that was appended before. So a memory command, which is synced as itself, needs the events before it appended, no more.

use crate::log::{Append, Durability, LogHandle, Receipt};
use athena_schemas::context::Scope;
use athena_schemas::envelope::{Draft, Family, Meta};
use athena_schemas::id::{CommandId, EventId, Id};
use athena_schemas::layers::run::{BlobKept, Event, Text};
use athena_schemas::ports::{LogError, LogReader, Sealer};
use athena_schemas::refusal::Refusal;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::oneshot;

/// Events that may wait in memory.
const BUFFERED_MAX: usize = 32;
/// Bytes that may wait in memory.
const BUFFERED_BYTES_MAX: usize = 64 << 10;
/// Texts above this many bytes are kept once, under the hash of their content.
const INLINE_MAX: usize = 16 << 10;

/// A text that was kept is named by runs that begin within this time, milliseconds; later ones keep it anew. Shorter than
/// [anything is retired](crate::retention::YOUNGEST_MS).
pub(crate) const REUSED_MS: u64 = 24 * 60 * 60 * 1_000;

/// The outcome of an append that is under way.
pub(crate) type Pending = oneshot::Receiver<Result<Receipt, LogError>>;

/// The stream of a run.
pub(crate) fn stream(run: &Id) -> String {
    format!("run/{run}")
}

/// Writes the record of one run.
pub(crate) struct Recorder {
    log: LogHandle,
    sealer: Arc<dyn Sealer>,
    clock: Arc<dyn Fn() -> u64 + Send + Sync>,
    stream: String,
    meta: Meta,
    /// Events of the stream so far. The n-th event's id follows from n, so that one lost in a crash may be written again.
    version: u32,
    drafts: Vec<Draft>,
    bytes: usize,
    /// The first append that failed; from then on nothing leaves any more.
    failed: Arc<Mutex<Option<LogError>>>,
}

impl Recorder {
    /// A recorder that goes on after `version` events.
    pub(crate) fn new(
        log: LogHandle,
        sealer: Arc<dyn Sealer>,
        clock: Arc<dyn Fn() -> u64 + Send + Sync>,
        run: &Id,
        meta: Meta,
        version: u32,
    ) -> Self {
        let stream = stream(run);
        let meta = Meta { run: Some(run.clone()), key: None, ..meta };
        Self {
            log,
            sealer,
            clock,
            stream,
            meta,
            version,
            drafts: Vec::new(),
            bytes: 0,
            failed: Arc::default(),
        }
    }

    /// The one clock.
    pub(crate) fn now_ms(&self) -> u64 {
        (self.clock)()
    }

    /// Adds an event to the record.
    pub(crate) fn push(&mut self, event: impl Into<Event>) -> Result<(), Refusal> {
        let id = self.meta.command.event(self.version);
        let draft = self.draft(&self.stream, id, &event.into())?;
        self.version += 1;
        self.bytes += draft.payload.len();
        self.drafts.push(draft);
        if self.drafts.len() >= BUFFERED_MAX || self.bytes >= BUFFERED_BYTES_MAX {
            self.flush();
        }
        Ok(())
    }

    /// Adds an event of another stream, all or none with what is waiting.
    pub(crate) fn push_beside(&mut self, stream: &str, event: impl Into<Event>) -> Result<(), Refusal> {
        let id = self.meta.command.child(stream).event(self.version);
        let draft = self.draft(stream, id, &event.into())?;
        self.drafts.push(draft);
        Ok(())
    }

    /// Appends what waits, without waiting for anything.
    pub(crate) fn flush(&mut self) {
        if !self.drafts.is_empty() {
            drop(self.append(Durability::Buffered));
        }
    }

    /// Appends what waits and syncs it with everything before it. The append is queued when this returns.
    pub(crate) fn sync(&mut self) -> Pending {
        self.append(Durability::Sync)
    }

    /// Appends what waits and waits for it; `durable`: for the disk too.
    pub(crate) async fn commit(&mut self, durable: bool) -> Result<(), Refusal> {
        let durability = if durable { Durability::Sync } else { Durability::Buffered };
        let outcome = self.append(durability).await;
        outcome.unwrap_or(Err(LogError::Closed)).map_err(Refusal::from)?;
        self.check()
    }

    /// Whether everything so far was recorded.
    pub(crate) fn check(&self) -> Result<(), Refusal> {
        match &*self.failed.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error.clone().into()),
            None => Ok(()),
        }
    }

    /// Records under another scope than the meta's.
    pub(crate) fn scoped(mut self, scope: Scope) -> Self {
        self.meta.scope = scope;
        self
    }

    /// A text on record: in place where it is small, else kept once under its hash.
    pub(crate) fn text(&mut self, text: &str) -> Result<Text, Refusal> {
        if text.len() <= INLINE_MAX { Ok(Text::Inline(text.to_owned())) } else { self.kept(text) }
    }

    /// A text kept under its hash, whatever its size: once, and once more where what was kept is old. Old texts may be retired,
    /// and one that a run has just begun to need must not be.
    pub(crate) fn kept(&mut self, text: &str) -> Result<Text, Refusal> {
        self.kept_as(&hash(text), text)
    }

    /// The same, for a text whose [`hash`] is known.
    pub(crate) fn kept_as(&mut self, hash: &str, text: &str) -> Result<Text, Refusal> {
        let (reader, now) = (self.log.reader(), self.now_ms());
        let mut generation = 0;
        let unkept = loop {
            let id = blob_id(self.meta.scope.vault(), hash, generation);
            let Some(seq) = reader.find(id)? else { break Some(id) };
            let mut fresh = false;
            self.log.outline(seq - 1, &mut |kept| {
                fresh = !kept.dropped && now.saturating_sub(kept.at_ms) < REUSED_MS;
                false
            })?;
            if fresh {
                break None;
            }
            generation += 1;
        };
        if let Some(id) = unkept {
            let kept = BlobKept { hash: hash.to_owned(), text: text.to_owned() };
            let draft = self.draft("run/blobs", id, &kept.into())?;
            let failed = self.failed.clone();
            let append =
                Append { drafts: vec![draft], durability: Durability::Buffered, ..Append::default() };
            self.log.append(
                append,
                Box::new(move |outcome| match outcome {
                    // Another run kept the same content at the same moment.
                    Ok(_) | Err(LogError::IdReused(_)) => {}
                    Err(error) => note(&failed, error),
                }),
            );
        }
        Ok(Text::Blob { hash: hash.to_owned(), bytes: text.len() as u64 })
    }

    fn append(&mut self, durability: Durability) -> Pending {
        let (send, outcome) = oneshot::channel();
        let failed = self.failed.clone();
        self.bytes = 0;
        let append = Append { drafts: std::mem::take(&mut self.drafts), durability, ..Append::default() };
        self.log.append(
            append,
            Box::new(move |outcome| {
                if let Err(error) = &outcome {
                    note(&failed, error.clone());
                }
                let _ = send.send(outcome);
            }),
        );
        outcome
    }

    fn draft(&self, stream: &str, id: EventId, event: &Event) -> Result<Draft, Refusal> {
        let meta = Meta { at_ms: (self.clock)(), ..self.meta.clone() };
        let draft = Draft::of(stream, id, meta, event, None)
            .map_err(|error| Refusal::internal(format!("{}: {error}", event.name())))?;
        self.sealer.seal(draft)
    }
}

fn note(failed: &Mutex<Option<LogError>>, error: LogError) {
    failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
}

/// BLAKE3, hex.
pub(crate) fn hash(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex().to_string()
}

/// The ids of the events that kept a text, each time it was.
pub(crate) fn text_ids(reader: &dyn LogReader, vault: &str, hash: &str) -> Result<Vec<EventId>, Refusal> {
    let mut ids = Vec::new();
    for generation in 0.. {
        let id = blob_id(vault, hash, generation);
        if reader.find(id)?.is_none() {
            break;
        }
        ids.push(id);
    }
    Ok(ids)
}

/// The id of the event that keeps a text, the first time or a later one: one per vault, so that a handle of one project opens
/// nothing in another.
pub(crate) fn blob_id(vault: &str, hash: &str, generation: u32) -> EventId {
    CommandId::from_key(&format!("blob/{vault}"), hash).event(generation)
}
