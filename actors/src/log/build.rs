//! A log built out of frames that were written before: by an import, a backup, a look at the past. Positions, hashes and
//! links stay what they are; what does not follow from what came before is refused.
//!
//! It is built in a folder beside its place and put there in one step when it is whole, so that a refused or cut-off attempt
//! leaves nothing.

use super::anchor::{Anchor, Mark};
use super::checkpoint::{self, Checkpoint};
use super::frame::{self, Frame, GENESIS, Hash};
use super::open::{Opener, io, open_database};
use super::store::disk::Disk;
use super::store::{Batch, Entry, Store};
use super::transcript::Told;
use super::{Location, LogHandle, journal};
use crate::files::sync_folder;
use athena_schemas::envelope::Seq;
use athena_schemas::id::EventId;
use athena_schemas::ports::LogError;
use athena_schemas::refusal::{Code, Refusal};
use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Events written at once …
const BATCH_EVENTS: usize = 512;
/// … or this many bytes, whichever comes first.
const BATCH_BYTES: usize = 1 << 20;
/// Bytes of frames that are read at once.
const PAGE_BYTES: usize = 4 << 20;

/// A log that is being built.
pub(crate) struct Builder {
    folder: PathBuf,
    /// Holds the folder's lock.
    _opener: Opener,
    site: Site,
    store: Disk,
    batch: Batch,
    bytes: usize,
    fresh: HashSet<EventId>,
    head: Seq,
    chain: Hash,
    streams: HashMap<[u8; 16], (u64, Hash)>,
}

/// Where it is built; gone when dropped.
struct Site(PathBuf);

impl Drop for Site {
    fn drop(&mut self) {
        // What cannot be removed only takes room.
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Builder {
    /// Begins in a log's folder, which it creates and locks.
    ///
    /// # Errors
    /// [`Code::Conflict`] where there are events; [`Code::Unavailable`] while another process has it open.
    pub(crate) fn create(folder: &Path) -> Result<Self, Refusal> {
        let mut opener = Opener::new(Location::Folder(folder.into()))?;
        if folder.join("db").exists() && opener.open()?.1.head > 0 {
            return Err(Refusal::conflict(format!("there is a log in {} already", folder.display()))
                .hint("another store: --store DIR"));
        }
        let site = Site(folder.join("building"));
        let _ = fs::remove_dir_all(&site.0);
        fs::create_dir(&site.0).map_err(failed)?;
        let store = open_database(&site.0)?;
        Ok(Self {
            folder: folder.into(),
            _opener: opener,
            site,
            store,
            batch: Batch::default(),
            bytes: 0,
            fresh: HashSet::new(),
            head: 0,
            chain: GENESIS,
            streams: HashMap::new(),
        })
    }

    /// Keeps a large payload that a later event names.
    ///
    /// # Errors
    /// When the disk fails.
    pub(crate) fn payload(&mut self, hash: &Hash, bytes: &[u8]) -> Result<(), Refusal> {
        Ok(self.store.put_blob(hash, bytes).map_err(LogError::from)?)
    }

    /// Takes the next event, whose hashes have been checked against [`chain`](Self::chain).
    ///
    /// # Errors
    /// [`Code::Integrity`] when it is not the next one of the log and of its stream, or its id is an earlier one's.
    pub(crate) fn add(&mut self, frame: &Frame, bytes: Vec<u8>) -> Result<(), Refusal> {
        let record = &frame.record;
        let seq = self.head + 1;
        let wrong = |what: String| Refusal::new(Code::Integrity, format!("position {seq}: {what}"));
        if record.seq != seq {
            return Err(wrong(format!("the event of position {} lies here", record.seq)));
        }
        let stream = frame::stream_key(&record.draft.stream);
        let (version, leaf) = self.streams.get(&stream).copied().unwrap_or((0, GENESIS));
        if (record.version, frame.previous) != (version + 1, leaf) {
            return Err(wrong(format!("it does not follow event {version} of its stream")));
        }
        let id = record.draft.id;
        if !self.fresh.insert(id) || self.store.position(&id).map_err(LogError::from)?.is_some() {
            return Err(wrong(format!("its id {id} is an earlier event's")));
        }
        self.streams.insert(stream, (record.version, record.leaf));
        (self.head, self.chain) = (seq, record.chain);
        self.bytes += bytes.len();
        self.batch.events.push(Entry { seq, stream, version: record.version, id, frame: bytes.into() });
        if self.batch.events.len() >= BATCH_EVENTS || self.bytes >= BATCH_BYTES {
            self.write()?;
        }
        Ok(())
    }

    /// The chain hash so far.
    pub(crate) fn chain(&self) -> Hash {
        self.chain
    }

    fn write(&mut self) -> Result<(), Refusal> {
        self.fresh.clear();
        self.bytes = 0;
        Ok(self.store.commit(&std::mem::take(&mut self.batch), false).map_err(LogError::from)?)
    }

    /// Puts the log in its place, on disk when this returns. Answers its head and the chain hash there.
    ///
    /// # Errors
    /// When the disk fails; the place holds what it held then, or the whole log.
    pub(crate) fn finish(mut self, checkpoint: Option<&Checkpoint>) -> Result<(Seq, Hash), Refusal> {
        if let Some(checkpoint) = checkpoint {
            self.batch.meta.push(checkpoint::kept(checkpoint)?);
        }
        self.write()?;
        self.store.flush().map_err(LogError::from)?;
        self.store.sync().map_err(LogError::from)?;
        let Self { folder, site, store, head, chain, _opener, .. } = self;
        drop(store);
        if let Some(active) = journal::survey(&site.0.join("db")).map_err(failed)?.last() {
            journal::cut(&active.path, 0).map_err(failed)?;
        }
        for name in ["anchor", "db", "blobs"] {
            let old = folder.join(name);
            let removed = if old.is_dir() { fs::remove_dir_all(&old) } else { fs::remove_file(&old) };
            removed.or_else(|error| missing(&error).then_some(()).ok_or(error)).map_err(failed)?;
        }
        for name in ["blobs", "db"] {
            let built = site.0.join(name);
            if built.exists() {
                fs::rename(&built, folder.join(name)).map_err(failed)?;
            }
        }
        sync_folder(&folder).map_err(failed)?;
        let mut anchor = Anchor::open(&folder.join("anchor")).map_err(failed)?;
        anchor.write(&Mark { head, chain, synced: head });
        anchor.sync();
        Ok((head, chain))
    }
}

impl LogHandle {
    /// Makes a log of its own in another folder out of the events up to a position; each is checked on the way. The writer goes
    /// on meanwhile. Answers the copy's head and the chain hash there.
    ///
    /// # Errors
    /// [`Code::Conflict`] where the folder holds a log, [`Code::Integrity`] where an event is not what was written,
    /// [`Code::Cancelled`] when `told` answers no, or the disk fails. Nothing is left behind then.
    pub fn copy_to(
        &self,
        folder: &Path,
        until: Seq,
        checkpoint: Option<&Checkpoint>,
        told: Told<'_>,
    ) -> Result<(Seq, Hash), Refusal> {
        let until = until.min(*self.head.borrow());
        let mut builder = Builder::create(folder)?;
        let mut after = 0;
        while after < until {
            for (seq, bytes) in self.frames(after, until)? {
                let frame = frame::verify(&bytes, &builder.chain())
                    .map_err(|cause| Refusal::new(Code::Integrity, format!("position {seq}: {cause}")))?;
                if let Some(blob) = frame.blob {
                    let payload = self.blob(&blob.hash)?.ok_or_else(|| {
                        Refusal::new(
                            Code::Integrity,
                            format!("position {seq}: its payload's blob is missing"),
                        )
                    })?;
                    builder.payload(&blob.hash, &payload)?;
                }
                builder.add(&frame, bytes)?;
                after = seq;
            }
            if !told(after, until) {
                return Err(Refusal::new(Code::Cancelled, "given up; nothing was left behind"));
            }
        }
        builder.finish(checkpoint)
    }

    /// Some frames after a position up to another one, in order, without a gap. The store is held for one page only.
    pub(crate) fn frames(&self, after: Seq, until: Seq) -> Result<Vec<(Seq, Vec<u8>)>, LogError> {
        let (mut page, mut bytes, mut expected) = (Vec::new(), 0, after + 1);
        self.slot.get()?.scan(after, &mut |seq, frame| {
            if seq != expected {
                return false;
            }
            expected += 1;
            bytes += frame.len();
            page.push((seq, frame.to_vec()));
            seq < until && bytes < PAGE_BYTES
        })?;
        if page.is_empty() {
            return Err(LogError::Damaged(format!("position {expected} is missing from the log")));
        }
        Ok(page)
    }

    /// A large payload.
    pub(crate) fn blob(&self, hash: &Hash) -> Result<Option<Vec<u8>>, LogError> {
        Ok(self.slot.get()?.blob(hash)?)
    }

    /// The chain hash at a position.
    pub(crate) fn chain_at(&self, seq: Seq) -> Result<Hash, LogError> {
        if seq == 0 {
            return Ok(GENESIS);
        }
        let bytes = self.slot.get()?.frame(seq)?;
        let bytes =
            bytes.ok_or_else(|| LogError::Damaged(format!("position {seq} is missing from the log")))?;
        frame::hashes(&bytes).map(|(_, chain)| chain).map_err(LogError::Damaged)
    }
}

fn missing(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::NotFound
}

#[expect(clippy::needless_pass_by_value, reason = "it stands in map_err")]
fn failed(error: std::io::Error) -> Refusal {
    io(&error).into()
}
