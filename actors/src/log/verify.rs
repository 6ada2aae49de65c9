//! Checking a whole log: every hash, every link, every index, and a checkpoint kept elsewhere. It never repairs.
//!
//! A folder is checked through a copy whose tables are hard links, because opening a database changes its journal; the
//! folder itself is only read. So it works beside a running daemon, and on a store that refuses to open.

use super::Cut;
use super::anchor::{self, Found};
use super::checkpoint::Checkpoint;
use super::dropping;
use super::frame::{self, Frame, GENESIS, Hash};
use super::journal::{self, Journal, Tail};
use super::open::{check_files, io, judge, open_database};
use super::store::Store;
use crate::files::hex;
use crate::retention;
use athena_schemas::envelope::{Record, Seq};
use athena_schemas::ports::LogError;
use athena_schemas::refusal::{Code, Refusal};
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// Findings that are told one by one.
const FINDINGS_MAX: usize = 1000;

/// Something that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// The first position it concerns; `None` where it concerns no event in particular.
    pub first: Option<Seq>,
    /// The last position it concerns.
    pub last: Option<Seq>,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.first, self.last) {
            (Some(first), Some(last)) if first == last => write!(f, "position {first}: {}", self.what),
            (Some(first), Some(last)) => write!(f, "positions {first} to {last}: {}", self.what),
            _ => write!(f, "the log: {}", self.what),
        }
    }
}

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct VerifyReport {
    /// Events that could be read.
    pub events: u64,
    /// The last position.
    pub head: Seq,
    /// Its chain hash, hexadecimal.
    pub chain: String,
    /// Bytes of a torn tail: not damage, cut on the next opening.
    pub torn_bytes: u64,
    /// Events whose payload was dropped on record.
    pub dropped: u64,
    /// What is wrong, at most a thousand.
    pub findings: Vec<Finding>,
}

impl VerifyReport {
    /// Whether everything is as it was written.
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }

    /// Refuses with the first of what is wrong.
    ///
    /// # Errors
    /// [`Code::Integrity`] where anything is.
    pub fn refuse(&self) -> Result<(), Refusal> {
        let Some(first) = self.findings.first() else { return Ok(()) };
        let more = match self.findings.len() - 1 {
            0 => String::new(),
            more => format!(", and {more} more findings"),
        };
        Err(Refusal::new(Code::Integrity, format!("{first}{more}"))
            .hint("athena log verify names all of them"))
    }

    pub(super) fn add(&mut self, first: Seq, last: Seq, what: impl Into<String>) {
        self.note(Some((first, last)), what.into());
    }

    pub(super) fn note(&mut self, at: Option<(Seq, Seq)>, what: String) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(Finding {
                first: at.map(|(first, _)| first),
                last: at.map(|(_, last)| last),
                what,
            });
        }
    }
}

/// Checks a log's folder without opening it.
///
/// # Errors
/// When there is no log, or the copy cannot be made. What is wrong with the data is not an error but a finding.
pub fn verify_folder(folder: &Path, checkpoint: Option<&Checkpoint>) -> Result<VerifyReport, LogError> {
    let database = folder.join("db");
    if !database.is_dir() {
        return Err(LogError::Io(format!("there is no log in {}", folder.display())));
    }
    let mark = match anchor::read(&folder.join("anchor")).map_err(|error| io(&error))? {
        Found::Mark(mark) => Some(mark),
        Found::Missing | Found::Unreadable => None,
    };
    let mut report = VerifyReport::default();
    if mark.is_some_and(|mark| mark.synced > 0)
        && let Err(error) = check_files(folder)
    {
        report.note(None, error.to_string());
        return Ok(report);
    }
    let copy = Copy::make(folder).map_err(|error| io(&error))?;
    let journals = journal::survey(&copy.0.join("db")).map_err(|error| io(&error))?;
    match judge(&journals, mark.as_ref()) {
        Ok(Some((path, Cut { at, bytes, .. }))) => {
            report.torn_bytes = bytes;
            journal::cut(&path, at).map_err(|error| io(&error))?;
        }
        Ok(None) => {}
        Err(error) => {
            report.note(None, error.to_string());
            // What is whole before the damage and in the tables is checked all the same.
            cut_all(&journals)?;
        }
    }
    match open_database(&copy.0) {
        Err(error) => report.note(None, error.to_string()),
        Ok(store) => {
            // Where the end cannot be read, the anchor says where it was.
            let head = match store.last() {
                Ok(last) => last.map_or(0, |(seq, _)| seq),
                Err(error) => {
                    report.note(None, format!("the end of the log cannot be read: {error}"));
                    mark.map_or(0, |mark| mark.head)
                }
            };
            check(&store, head, &mut report);
            if let Some(mark) = mark.filter(|mark| mark.synced > head) {
                report.add(head + 1, mark.synced, "acknowledged as durable and missing");
            }
            check_anchor(&store, mark, head, &mut report);
            if let Some(checkpoint) = checkpoint {
                check_checkpoint(&store, head, checkpoint, &mut report);
            }
        }
    }
    Ok(report)
}

/// Checks an open store up to `head`.
pub(crate) fn verify_store(store: &dyn Store, head: Seq, checkpoint: Option<&Checkpoint>) -> VerifyReport {
    let mut report = VerifyReport::default();
    check(store, head, &mut report);
    if let Some(checkpoint) = checkpoint {
        check_checkpoint(store, head, checkpoint, &mut report);
    }
    report
}

/// What the walk knows on its way.
struct Walk<'a> {
    store: &'a dyn Store,
    expected: Seq,
    /// `None` behind a gap, where the chain before is not known.
    chain: Option<Hash>,
    streams: HashMap<[u8; 16], (u64, Hash)>,
    /// Streams of which an event is missing: their next one cannot be judged.
    broken: bool,
    /// Events whose payload was dropped and for which nothing has vouched yet.
    unvouched: BTreeSet<Seq>,
}

fn check(store: &dyn Store, head: Seq, report: &mut VerifyReport) {
    report.head = head;
    let mut walk = Walk {
        store,
        expected: 1,
        chain: Some(GENESIS),
        streams: HashMap::new(),
        broken: false,
        unvouched: BTreeSet::new(),
    };
    let mut stride = 1;
    while walk.expected <= head {
        let from = walk.expected;
        let scanned = store.scan(from - 1, &mut |seq, bytes| {
            walk.visit(seq, bytes, report);
            walk.expected <= head
        });
        let Err(error) = scanned else { break };
        // Something here cannot be read at all: go on behind it, in growing steps.
        stride = if walk.expected > from { 1 } else { stride * 2 };
        let last = (walk.expected + stride - 1).min(head);
        report.add(walk.expected, last, format!("cannot be read: {error}"));
        walk.skip_to(last + 1);
    }
    if walk.expected <= head {
        report.add(walk.expected, head, "missing");
    }
    for seq in std::mem::take(&mut walk.unvouched) {
        report.add(seq, seq, "its payload was dropped, and nothing on record says so");
    }
    report.chain = hex(&walk.chain.unwrap_or(GENESIS));
}

impl Walk<'_> {
    fn skip_to(&mut self, seq: Seq) {
        (self.expected, self.chain, self.broken) = (seq, None, true);
    }

    fn visit(&mut self, seq: Seq, bytes: &[u8], report: &mut VerifyReport) {
        if seq > self.expected {
            report.add(self.expected, seq - 1, "missing");
            self.skip_to(seq);
        }
        self.expected = seq + 1;
        report.events += 1;
        let before = self.chain;
        self.chain = frame::hashes(bytes).ok().map(|(_, chain)| chain);
        let frame = match before {
            Some(before) => frame::verify(bytes, &before),
            None => frame::decode(bytes),
        };
        match frame {
            Err(cause) => {
                report.add(seq, seq, cause);
                self.broken = true;
            }
            Ok(frame) if frame.record.seq != seq => {
                report.add(seq, seq, format!("the event of position {} lies here", frame.record.seq));
            }
            Ok(frame) => {
                self.check_places(seq, &frame, report);
                self.vouch(seq, &frame.record, report);
            }
        }
    }

    /// What a record of dropped payloads vouches for: the hash over what is left of them is the one it holds.
    fn vouch(&mut self, seq: Seq, record: &Record, report: &mut VerifyReport) {
        let Ok(Some(retired)) = retention::retired(record) else { return };
        let positions: Vec<Seq> = retired.positions().take_while(|dropped| *dropped < seq).collect();
        match dropping::prepare(self.store, &positions) {
            Ok(left) if left.digest == retired.digest => {
                for dropped in positions {
                    self.unvouched.remove(&dropped);
                }
            }
            Ok(_) => report.add(
                positions.first().copied().unwrap_or(seq),
                positions.last().copied().unwrap_or(seq),
                format!("what is left of dropped payloads is not what position {seq} vouches for"),
            ),
            Err(error) => report.add(seq, seq, error.to_string()),
        }
    }

    /// Its place in its stream, its entries in the indexes, its blob.
    fn check_places(&mut self, seq: Seq, frame: &Frame, report: &mut VerifyReport) {
        let (record, stream) = (&frame.record, frame::stream_key(&frame.record.draft.stream));
        let (version, leaf) = self.streams.get(&stream).copied().unwrap_or((0, GENESIS));
        if (record.version, frame.previous) != (version + 1, leaf) && !self.broken {
            report.add(seq, seq, format!("it does not follow event {version} of its stream"));
        }
        self.streams.insert(stream, (record.version, record.leaf));
        match self.store.position(&record.draft.id) {
            Ok(Some(found)) if found == seq => {}
            Ok(_) => report.add(seq, seq, "the index of event ids does not lead to it"),
            Err(error) => report.add(seq, seq, format!("the index of event ids: {error}")),
        }
        match self.store.stream(&stream, record.version - 1, 1) {
            Ok(found) if found == [(record.version, seq)] => {}
            Ok(_) => report.add(seq, seq, "the index of its stream does not lead to it"),
            Err(error) => report.add(seq, seq, format!("the index of its stream: {error}")),
        }
        if frame.stub {
            self.unvouched.insert(seq);
            report.dropped += 1;
        } else if let Some(blob) = frame.blob {
            match self.store.blob(&blob.hash) {
                Ok(Some(_)) => {}
                Ok(None) => report.add(seq, seq, "its payload's blob is missing"),
                Err(error) => report.add(seq, seq, error.to_string()),
            }
        }
    }
}

fn chain_at(store: &dyn Store, seq: Seq) -> Option<Hash> {
    if seq == 0 {
        return Some(GENESIS);
    }
    let bytes = store.frame(seq).ok().flatten()?;
    frame::hashes(&bytes).ok().map(|(_, chain)| chain)
}

fn check_anchor(store: &dyn Store, mark: Option<anchor::Mark>, head: Seq, report: &mut VerifyReport) {
    match mark {
        Some(mark) if mark.head <= head && chain_at(store, mark.head) != Some(mark.chain) => {
            report.add(mark.head, mark.head, "not the event that was acknowledged there");
        }
        None if head > 0 => report.note(None, "the anchor is missing or cannot be read".into()),
        _ => {}
    }
}

fn check_checkpoint(store: &dyn Store, head: Seq, checkpoint: &Checkpoint, report: &mut VerifyReport) {
    if !checkpoint.is_signed() {
        report.note(None, "the checkpoint's signature does not fit it".into());
    } else if checkpoint.seq > head {
        report.add(
            head + 1,
            checkpoint.seq,
            "rolled back: the checkpoint vouches for them and they are missing",
        );
    } else if chain_at(store, checkpoint.seq).map(|chain| hex(&chain)).as_ref() != Some(&checkpoint.chain) {
        report.add(1, checkpoint.seq, "rewritten: the checkpoint vouches for another history");
    }
}

fn cut_all(journals: &[Journal]) -> Result<(), LogError> {
    for journal in journals {
        if let Tail::Torn { at, .. } = journal.tail {
            journal::cut(&journal.path, at).map_err(|error| io(&error))?;
        }
    }
    Ok(())
}

/// A copy of a store's files, removed when dropped.
struct Copy(PathBuf);

impl Copy {
    fn make(folder: &Path) -> std::io::Result<Self> {
        let name = format!("verify-{}-{:?}", std::process::id(), std::thread::current().id());
        let beside = folder.join(name.replace(['(', ')'], ""));
        // Where the store is read-only or full, the copy goes to the system's folder.
        let copy = match fs::create_dir(&beside) {
            Ok(()) => Self(beside),
            Err(_) => {
                let elsewhere = std::env::temp_dir().join(name.replace(['(', ')'], ""));
                fs::create_dir(&elsewhere)?;
                Self(elsewhere)
            }
        };
        copy_tree(&folder.join("db"), &copy.0.join("db"))?;
        let blobs = folder.join("blobs");
        if blobs.is_dir() {
            copy_tree(&blobs, &copy.0.join("blobs"))?;
        }
        Ok(copy)
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        // What cannot be removed is left for the next one to see; the report matters more.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Copies a folder: tables and blobs, which never change, as hard links where that is possible.
fn copy_tree(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            copy_tree(&source, &target)?;
        } else if !never_changes(&source) || fs::hard_link(&source, &target).is_err() {
            match copy_sparse(&source, &target) {
                // Compacted away meanwhile.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                copied => copied?,
            }
        }
    }
    Ok(())
}

/// Copies a file; a journal without the zeros at its end that it was allocated with.
fn copy_sparse(from: &Path, to: &Path) -> std::io::Result<()> {
    match from.extension() {
        Some(extension) if extension == "jnl" => fs::write(to, journal::without_zeros(&fs::read(from)?)),
        _ => fs::copy(from, to).map(drop),
    }
}

/// Tables and blobs are written once; journals, locks and version files are not.
fn never_changes(path: &Path) -> bool {
    let folder = path.parent().and_then(Path::file_name).and_then(|name| name.to_str());
    folder == Some("tables") || path.components().any(|part| part.as_os_str() == "blobs")
}
