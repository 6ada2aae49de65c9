//! Opening a log so that nothing acknowledged is missing, or refusing to.
//!
//! 1. Look over the journal ([`journal`]): a torn tail is cut and reported, damage in what had been synced refuses.
//! 2. Let fjall open its database.
//! 3. Compare with the anchor ([`anchor`]): a head below what was durable refuses.
//! 4. Check the chain from the anchor on.

use super::anchor::{self, Anchor, Found, Mark};
use super::frame::{self, GENESIS, Hash};
use super::journal::{self, Journal, Tail};
use super::store::{Store, StoreError, disk, disk::Disk, memory::Memory};
use super::{Cut, Location, OpenReport, Phases};
use crate::files;
use athena_schemas::envelope::Seq;
use athena_schemas::ports::LogError;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// A part of the chain shorter than this, events, is not worth a thread.
const CHECK_ALONE: Seq = 4_096;

/// Events before the anchor that are checked as well.
const CHECK_BEFORE: Seq = 64;

const WHAT_TO_DO: &str =
    "`athena log verify` names every damaged position; restore the store's folder from a backup";

/// An open store and how far it is.
pub(crate) struct Opened {
    /// The store.
    pub(crate) store: Arc<dyn Store>,
    /// Its last position.
    pub(crate) head: Seq,
    /// The chain hash there.
    pub(crate) chain: Hash,
    /// The last position known to be on disk.
    pub(crate) synced: Seq,
    /// The anchor; a store in memory has none.
    pub(crate) anchor: Option<Anchor>,
}

/// Opens a store, again and again if need be; holds the folder's lock meanwhile.
pub(crate) enum Opener {
    /// A store in memory: always the same one.
    Memory(Memory),
    /// A folder, locked as long as this lives.
    Folder {
        /// The folder.
        folder: PathBuf,
        /// Holds the lock.
        _lock: File,
    },
    /// One whose store fails on demand.
    #[cfg(test)]
    Failing {
        /// What is opened.
        inner: Box<Opener>,
        /// What is to fail.
        faults: Arc<super::failing::Faults>,
    },
}

impl Opener {
    /// Takes the folder's lock, creating the folder.
    ///
    /// # Errors
    /// When another process holds the lock or the disk fails.
    pub(crate) fn new(location: Location) -> Result<Self, LogError> {
        match location {
            Location::Memory => Ok(Self::Memory(Memory::default())),
            Location::Folder(folder) => {
                std::fs::create_dir_all(&folder).map_err(|error| io(&error))?;
                let lock = files::lock(&folder.join("lock")).map_err(|error| io(&error))?;
                Ok(Self::Folder { folder, _lock: lock.ok_or(StoreError::Locked)? })
            }
        }
    }

    /// Opens the store.
    ///
    /// # Errors
    /// When something acknowledged is missing or changed, or the disk fails.
    pub(crate) fn open(&mut self) -> Result<(Opened, OpenReport), LogError> {
        match self {
            Self::Memory(store) => {
                let (head, chain) = store.last()?.unwrap_or((0, GENESIS));
                let store = Arc::new(store.clone());
                let report = OpenReport { head, chain, anchored: true, ..OpenReport::default() };
                Ok((Opened { store, head, chain, synced: head, anchor: None }, report))
            }
            Self::Folder { folder, .. } => open_folder(folder),
            #[cfg(test)]
            Self::Failing { inner, faults } => {
                inner.open().map(|(opened, report)| (faults.wrap(opened), report))
            }
        }
    }

    /// Empties the journal of a store that was written out and closed, so that the next opening has nothing to replay.
    ///
    /// # Errors
    /// When the disk fails.
    pub(crate) fn tidy(&self) -> Result<(), LogError> {
        let Self::Folder { folder, .. } = self else { return Ok(()) };
        let journals = journal::survey(&folder.join("db")).map_err(|error| io(&error))?;
        // The file itself stays: without one, fjall would count its own sequence from the start.
        journals
            .last()
            .map_or(Ok(()), |active| journal::cut(&active.path, 0).map(drop))
            .map_err(|error| io(&error))
    }
}

fn open_folder(folder: &Path) -> Result<(Opened, OpenReport), LogError> {
    let path = folder.join("anchor");
    let found = anchor::read(&path).map_err(|error| io(&error))?;
    let mark = if let Found::Mark(mark) = found { Some(mark) } else { None };
    if mark.is_some_and(|mark| mark.synced > 0) {
        check_files(folder)?;
    }
    let mut phases = Phases::new();
    let mut since = Instant::now();
    let mut phase =
        |name: &str| phases.push((name.to_owned(), std::mem::replace(&mut since, Instant::now()).elapsed()));
    let journals = journal::survey(&folder.join("db")).map_err(|error| io(&error))?;
    phase("log: journal looked over");
    let torn = judge(&journals, mark.as_ref())?;
    let kept = match &torn {
        Some((path, cut)) => journal::cut(path, cut.at).map_err(|error| io(&error))?,
        None => Vec::new(),
    };
    let opened = open_database(folder).and_then(|store| {
        phase("log: engine");
        let (head, chain) = store.last()?.unwrap_or((0, GENESIS));
        let mut report = OpenReport {
            head,
            chain,
            cut: None,
            anchored: mark.is_some() || head == 0,
            ..OpenReport::default()
        };
        let replayed = journals.iter().filter_map(|journal| journal.events.map(|(first, _)| first)).min();
        compare(&store, mark.as_ref(), replayed, &mut report)?;
        phase("log: chain");
        Ok((store, report))
    });
    let (store, mut report) = match (opened, torn) {
        (Ok((store, report)), torn) => (store, OpenReport { cut: torn.map(|(_, cut)| cut), ..report }),
        (Err(error), None) => return Err(error),
        (Err(error), Some((path, cut))) => {
            // A refusal leaves every byte as it was found.
            journal::put_back(&path, cut.at, &kept).map_err(|error| io(&error))?;
            return Err(error);
        }
    };
    if let Some(cut) = &report.cut {
        tracing::warn!(
            journal = cut.journal,
            at = cut.at,
            bytes = cut.bytes,
            "a torn tail was cut off the log's journal"
        );
    }
    let (head, chain) = (report.head, report.chain);
    report.lost_unsynced = mark.map_or(0, |mark| mark.head.saturating_sub(head));
    // Opening has synced the journal, so all there is is on disk.
    let mut anchor = Anchor::open(&path).map_err(|error| io(&error))?;
    anchor.write(&Mark { head, chain, synced: head });
    anchor.sync();
    report.phases = phases;
    let opened = Opened { store: Arc::new(store), head, chain, synced: head, anchor: Some(anchor) };
    Ok((opened, report))
}

/// Sees to it that the files are there without which fjall would take a keyspace, or all of it, for new: it would remove
/// what is left of the old one.
pub(crate) fn check_files(folder: &Path) -> Result<(), LogError> {
    let needed =
        (0..=4).map(|keyspace| format!("db/keyspaces/{keyspace}/current")).chain(["db/version".into()]);
    for name in needed {
        if !folder.join(&name).is_file() {
            return Err(LogError::Damaged(format!(
                "the file {name} is missing, and with it all positions. {WHAT_TO_DO}"
            )));
        }
    }
    Ok(())
}

/// Tells a torn tail, which is cut, from damage in what had been synced, which refuses.
pub(crate) fn judge(journals: &[Journal], mark: Option<&Mark>) -> Result<Option<(PathBuf, Cut)>, LogError> {
    let known = journals.iter().filter_map(|journal| journal.events.map(|(_, last)| last)).max();
    for (place, journal) in journals.iter().enumerate() {
        let Tail::Torn { at, bytes, proof } = &journal.tail else { continue };
        let name = journal.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let from = known.map_or(1, |last| last + 1);
        // A journal is synced as a whole before its successor is begun.
        if place + 1 < journals.len() {
            let from = journal.events.map_or(1, |(_, last)| last + 1);
            return Err(damaged(&name, *at, &format!("positions from {from} on")));
        }
        let proven = proof.map_or(0, |proof| {
            let lost = known.map_or(proof.first.saturating_sub(1), |last| last + 1);
            if proof.synced >= lost { proof.synced } else { 0 }
        });
        let anchored =
            mark.map_or(0, |mark| if known.is_some_and(|last| last < mark.synced) { mark.synced } else { 0 });
        let to = proven.max(anchored);
        if to > 0 {
            return Err(damaged(&name, *at, &format!("positions {} to {to}", from.min(to))));
        }
        return Ok(Some((journal.path.clone(), Cut { journal: name, at: *at, bytes: *bytes })));
    }
    Ok(None)
}

/// Lets fjall open its files; what it panics over is damage.
pub(crate) fn open_database(folder: &Path) -> Result<Disk, LogError> {
    match catch_unwind(AssertUnwindSafe(|| Disk::open(folder))) {
        Ok(Ok(store)) => Ok(store),
        Ok(Err(StoreError::Damaged(text))) => Err(LogError::Damaged(format!("{text}; {WHAT_TO_DO}"))),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => {
            Err(LogError::Damaged(format!("the storage engine cannot read its own files; {WHAT_TO_DO}")))
        }
    }
}

/// Compares what was opened with the anchor and checks the chain from there on, and over all that was replayed from the
/// journal: fjall skips a batch whose sequence number, which no checksum covers, was changed.
fn compare(
    store: &dyn Store,
    mark: Option<&Mark>,
    replayed: Option<Seq>,
    report: &mut OpenReport,
) -> Result<(), LogError> {
    let head = report.head;
    if let Some(mark) = mark {
        if head < mark.synced {
            return Err(LogError::Damaged(format!(
                "positions {} to {} were acknowledged as durable and are missing; the log ends at {head}. {WHAT_TO_DO}",
                head + 1,
                mark.synced
            )));
        }
        if mark.head > 0 && mark.head <= head {
            let found = store.frame(mark.head)?.and_then(|bytes| frame::hashes(&bytes).ok());
            if found.map(|(_, chain)| chain) != Some(mark.chain) {
                return Err(LogError::Damaged(format!(
                    "position {} is not the event that was acknowledged there. {WHAT_TO_DO}",
                    mark.head
                )));
            }
        }
    }
    // Without an anchor nothing vouches for the rest: all of it is checked.
    let anchored = mark.map_or(0, |mark| mark.head.min(head).saturating_sub(CHECK_BEFORE));
    let from = replayed.map_or(anchored, |first| anchored.min(first.saturating_sub(1)));
    report.checked = check_chain(store, from, head)?;
    Ok(())
}

/// Checks that the events after `from` up to `head` are all there and follow from each other. Answers how many.
///
/// In as many parts as there are processors: each begins with the chain hash of the event before it, which is checked as
/// the last one of the part before.
fn check_chain(store: &dyn Store, from: Seq, head: Seq) -> Result<u64, LogError> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let part = (head - from).div_ceil(processors).max(CHECK_ALONE);
    std::thread::scope(|scope| {
        let mut parts = Vec::new();
        let mut start = from;
        while head - start > part {
            let end = start + part;
            parts.push(scope.spawn(move || check_part(store, start, end)));
            start = end;
        }
        let mut outcome = check_part(store, start, head);
        // The first of several problems is the one to tell.
        for part in parts.into_iter().rev() {
            let checked = part.join().unwrap_or_else(|_| Err(LogError::Io("the check panicked".into())));
            outcome = checked.and(outcome);
        }
        outcome
    })?;
    Ok(head - from)
}

fn check_part(store: &dyn Store, from: Seq, to: Seq) -> Result<(), LogError> {
    let at = |seq: Seq, cause: &str| LogError::Damaged(format!("position {seq}: {cause}. {WHAT_TO_DO}"));
    let mut chain = match from {
        0 => GENESIS,
        seq => {
            let bytes = store.frame(seq)?.ok_or_else(|| at(seq, "it is missing from the log"))?;
            frame::hashes(&bytes).map_err(|cause| at(seq, &cause))?.1
        }
    };
    let (mut expected, mut problem) = (from + 1, None);
    if from == to {
        return Ok(());
    }
    store.scan(from, &mut |seq, bytes| {
        if seq != expected {
            problem = Some(at(expected, "it is missing from the log"));
            return false;
        }
        match frame::verify(bytes, &chain) {
            Ok(frame) if frame.record.seq == seq => chain = frame.record.chain,
            Ok(frame) => {
                problem = Some(at(seq, &format!("an event of position {} lies here", frame.record.seq)))
            }
            Err(cause) => problem = Some(at(seq, &cause)),
        }
        expected += 1;
        problem.is_none() && seq < to
    })?;
    match problem {
        Some(error) => Err(error),
        None if expected != to + 1 => Err(at(expected, "it is missing from the log")),
        None => Ok(()),
    }
}

fn damaged(journal: &str, at: u64, positions: &str) -> LogError {
    LogError::Damaged(format!(
        "the journal {journal} is damaged at byte {at}, in what had been synced: {positions} are affected. {WHAT_TO_DO}"
    ))
}

pub(crate) fn io(error: &std::io::Error) -> LogError {
    disk::convert_io(error).into()
}
