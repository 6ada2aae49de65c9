//! A log, or an excerpt of one, as a single file that travels: written beside the running writer, opened read-only anywhere,
//! brought back to the same positions and hashes.
//!
//! `"ATHLOGF1" | item*`, an item being `tag u8 | length u32 LE | body`:
//!
//! | tag | body |
//! |---|---|
//! | `H` | what the file holds: [`Head`], JSON; always first |
//! | `P` | a large payload; an event behind it names its hash |
//! | `E` | an event's [`frame`], byte for byte as the log keeps it: header, ciphertext, leaf and chain hash |
//! | `L` | leaf hashes, 32 B each, of events that an excerpt leaves out |
//! | `C` | a signed [`Checkpoint`] of the last position, JSON |
//! | `K` | keys, sealed under a passphrase (`keys/backup.rs`); only where they were asked for |
//! | `Z` | BLAKE3 over everything before; always last |
//!
//! The leaves let the chain of an excerpt be followed over what it leaves out, up to the checkpoint: nobody can add to an
//! excerpt, change it or move a piece of it without that being seen.

use super::build::Builder;
use super::checkpoint::Checkpoint;
use super::frame::{self, Frame, GENESIS, Hash, Vouched, link};
use super::verify::VerifyReport;
use super::{LogHandle, STREAM_NAME_MAX};
use crate::files::{hex, sync_folder, unhex};
use crate::retention;
use athena_schemas::envelope::{Record, Seq};
use athena_schemas::id::EventId;
use athena_schemas::ports::{BoxFuture, LogError, LogReader};
use athena_schemas::refusal::{Code, Refusal};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 8] = b"ATHLOGF1";
/// The format written today. Every format ever written stays readable.
const FORMAT: u32 = 1;
/// No item is larger, bytes: an event's payload has at most 16 MiB, keys with very many erasures some more.
const ITEM_MAX: u32 = 256 << 20;
/// Leaves of one item, bytes.
const LEAVES_MAX: usize = 1 << 20;
/// Bytes between two words about how far a reading has come.
const TELL_EVERY: u64 = 1 << 20;

const HEAD: u8 = b'H';
const PAYLOAD: u8 = b'P';
const EVENT: u8 = b'E';
const LEAVES: u8 = b'L';
const CHECKPOINT: u8 = b'C';
const KEYS: u8 = b'K';
const END: u8 = b'Z';

/// Hears how far long work has come: done and total. Answers whether to go on.
pub type Told<'a> = &'a mut dyn FnMut(u64, u64) -> bool;

/// What a file says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Head {
    /// The format of the file.
    pub format: u32,
    /// The position before the first one it accounts for.
    pub after: Seq,
    /// The chain hash there, hexadecimal.
    pub chain: String,
    /// The last position it accounts for.
    pub last: Seq,
    /// How its events were chosen; `None` where all of them are there, and it can be imported.
    pub excerpt: Option<Value>,
    /// When it was made, milliseconds since 1970.
    pub made_ms: u64,
}

/// What is to be written.
pub struct Order<'a> {
    /// Vouches for the last position.
    pub checkpoint: &'a Checkpoint,
    /// Events after this position; 0 for all.
    pub after: Seq,
    /// How events are chosen, in words for whoever opens the file; `None` writes all of them.
    pub excerpt: Option<Value>,
    /// Whether an event belongs to the excerpt.
    pub choice: &'a dyn Fn(&Record) -> bool,
    /// Keys under a passphrase, if they are to go along.
    pub keys: Option<&'a [u8]>,
    /// The time, milliseconds since 1970.
    pub made_ms: u64,
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exported {
    /// Events in the file.
    pub events: u64,
    /// Bytes of the file.
    pub bytes: u64,
}

/// What was brought in.
#[derive(Debug, Clone, PartialEq)]
pub struct Imported {
    /// Its last position, which is the number of its events.
    pub head: Seq,
    /// The chain hash there, hexadecimal.
    pub chain: String,
    /// The checkpoint the file came with.
    pub checkpoint: Option<Checkpoint>,
    /// Keys under a passphrase, where the file holds some.
    pub keys: Option<Vec<u8>>,
}

impl LogHandle {
    /// Writes the log into a file that must not exist yet; mode 0600, on disk when this returns. Checks every event on the way:
    /// a damaged log is not passed on as a good one. The writer goes on meanwhile.
    ///
    /// # Errors
    /// [`Code::Conflict`] where the file exists, [`Code::Integrity`] where an event is not what was written,
    /// [`Code::Cancelled`] when `told` answers no, or the disk fails.
    pub fn export(&self, path: &Path, order: &Order<'_>, told: Told<'_>) -> Result<Exported, Refusal> {
        if path.exists() {
            return Err(Refusal::conflict(format!("{} exists already", path.display())).hint("another name"));
        }
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".part");
        let part = path.with_file_name(name);
        let written = self.write_file(&part, order, told).and_then(|exported| {
            fs::rename(&part, path).map_err(|error| unwritable(path, &error))?;
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            sync_folder(folder.unwrap_or(Path::new("."))).map_err(|error| unwritable(path, &error))?;
            Ok(exported)
        });
        if written.is_err() {
            // What is left of it only takes room; the error that matters is the first one.
            let _ = fs::remove_file(&part);
        }
        written
    }

    fn write_file(&self, path: &Path, order: &Order<'_>, told: Told<'_>) -> Result<Exported, Refusal> {
        let failed = |error: io::Error| unwritable(path, &error);
        let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(path);
        let mut sink = Sink {
            out: BufWriter::with_capacity(1 << 20, file.map_err(failed)?),
            sum: blake3::Hasher::new(),
        };
        let (after, last) = (order.after, order.checkpoint.seq);
        let mut chain = self.chain_at(after)?;
        let head = Head {
            format: FORMAT,
            after,
            chain: hex(&chain),
            last,
            excerpt: order.excerpt.clone(),
            made_ms: order.made_ms,
        };
        sink.write(MAGIC).map_err(failed)?;
        sink.json(HEAD, &head).map_err(failed)?;
        let (mut at, mut events, mut leaves) = (after, 0, Vec::new());
        while at < last {
            for (seq, bytes) in self.frames(at, last)? {
                let frame = frame::verify(&bytes, &chain).map_err(|cause| damaged(seq, &cause))?;
                (at, chain) = (seq, frame.record.chain);
                let chosen = order.excerpt.is_none() || (order.choice)(&frame.record);
                if !chosen {
                    leaves.extend_from_slice(&frame.record.leaf);
                }
                if !leaves.is_empty() && (chosen || leaves.len() >= LEAVES_MAX) {
                    sink.item(LEAVES, &std::mem::take(&mut leaves)).map_err(failed)?;
                }
                if chosen {
                    if let Some(blob) = frame.blob {
                        let payload = self.blob(&blob.hash)?;
                        let payload = payload.ok_or_else(|| damaged(seq, "its payload's blob is missing"))?;
                        sink.item(PAYLOAD, &payload).map_err(failed)?;
                    }
                    sink.item(EVENT, &bytes).map_err(failed)?;
                    events += 1;
                }
            }
            if !told(at - after, last - after) {
                return Err(given_up());
            }
        }
        if !leaves.is_empty() {
            sink.item(LEAVES, &leaves).map_err(failed)?;
        }
        sink.json(CHECKPOINT, order.checkpoint).map_err(failed)?;
        if let Some(keys) = order.keys {
            sink.item(KEYS, keys).map_err(failed)?;
        }
        let bytes = sink.end().map_err(failed)?;
        Ok(Exported { events, bytes })
    }
}

/// Makes a log out of a file, in a folder that holds none or an empty one: same positions, same hashes.
///
/// # Errors
/// [`Code::Integrity`] where the file is cut off or damaged, which names the positions; nothing is left behind then.
/// [`Code::Invalid`] for an excerpt and for what is no such file; [`Code::Conflict`] where the folder holds events;
/// [`Code::Unavailable`] while a daemon has it open.
pub fn import_file(path: &Path, folder: &Path, told: Told<'_>) -> Result<Imported, Refusal> {
    let mut builder: Option<Builder> = None;
    let walked = walk(path, None, told, &mut |met| match met {
        Met::Head(head) if head.excerpt.is_some() || head.after > 0 => {
            Err(Refusal::invalid(format!("{} is an excerpt; no log can be made of it", path.display()))
                .hint(format!("athena log --file {} tail", path.display())))
        }
        Met::Head(_) => {
            builder = Some(Builder::create(folder)?);
            Ok(())
        }
        Met::Payload { hash, bytes, .. } => {
            builder.as_mut().map_or(Ok(()), |builder| builder.payload(&hash, bytes))
        }
        Met::Event { frame, bytes, .. } => {
            builder.as_mut().map_or(Ok(()), |builder| builder.add(&frame, bytes.to_vec()))
        }
    })?;
    walked.report.refuse()?;
    let builder = builder.ok_or_else(|| Refusal::internal("a file without a head was not refused"))?;
    let (head, chain) = builder.finish(walked.checkpoint.as_ref())?;
    Ok(Imported { head, chain: hex(&chain), checkpoint: walked.checkpoint, keys: walked.keys })
}

/// What a check of a file found.
#[derive(Debug, Clone)]
pub struct Checked {
    /// What the file says of itself.
    pub head: Head,
    /// What is wrong with it.
    pub report: VerifyReport,
    /// The checkpoint it came with: compare its key with the one you trust.
    pub checkpoint: Option<Checkpoint>,
    /// Whether keys came along.
    pub keys: bool,
}

/// Checks a file: every hash, every link, its checkpoint and one kept elsewhere.
///
/// # Errors
/// When there is no such file, or it is none of ours. What is wrong with the data is not an error but a finding.
pub fn verify_file(path: &Path, checkpoint: Option<&Checkpoint>, told: Told<'_>) -> Result<Checked, Refusal> {
    let walked = walk(path, checkpoint, told, &mut |_| Ok(()))?;
    let keys = walked.keys.is_some();
    Ok(Checked { head: walked.head, report: walked.report, checkpoint: walked.checkpoint, keys })
}

/// An open file: a log that can be read and never written.
pub struct LogFile {
    file: File,
    head: Head,
    checkpoint: Option<Checkpoint>,
    keys: Option<Vec<u8>>,
    /// Where each event lies, positions ascending.
    events: Vec<Place>,
    ids: HashMap<EventId, Seq>,
    streams: HashMap<[u8; 16], Vec<Place>>,
    payloads: HashMap<Hash, (u64, u32)>,
}

/// Where an event lies.
#[derive(Debug, Clone, Copy)]
struct Place {
    seq: Seq,
    version: u64,
    at: u64,
    length: u32,
}

impl LogFile {
    /// Opens a file, after checking all of it.
    ///
    /// # Errors
    /// [`Code::Integrity`] where it is damaged or cut off; [`Code::Invalid`] where it is none of ours.
    pub fn open(path: &Path, told: Told<'_>) -> Result<Self, Refusal> {
        let (mut events, mut ids) = (Vec::new(), HashMap::new());
        let mut streams: HashMap<[u8; 16], Vec<Place>> = HashMap::new();
        let mut payloads = HashMap::new();
        let walked = walk(path, None, told, &mut |met| {
            match met {
                Met::Head(_) => {}
                Met::Payload { hash, bytes, at } => {
                    payloads.insert(hash, (at, bytes.len() as u32));
                }
                Met::Event { frame, bytes, at } => {
                    let record = &frame.record;
                    let length = bytes.len() as u32;
                    let place = Place { seq: record.seq, version: record.version, at, length };
                    events.push(place);
                    ids.insert(record.draft.id, record.seq);
                    streams.entry(frame::stream_key(&record.draft.stream)).or_default().push(place);
                }
            }
            Ok(())
        })?;
        walked.report.refuse()?;
        let file = File::open(path).map_err(|error| unreadable(path, &error))?;
        let Walked { head, checkpoint, keys, .. } = walked;
        Ok(Self { file, head, checkpoint, keys, events, ids, streams, payloads })
    }

    /// What it says of itself.
    pub fn about(&self) -> &Head {
        &self.head
    }

    /// The checkpoint it came with.
    pub fn checkpoint(&self) -> Option<&Checkpoint> {
        self.checkpoint.as_ref()
    }

    /// Keys under a passphrase, where some came along.
    pub fn keys(&self) -> Option<&[u8]> {
        self.keys.as_deref()
    }

    fn bytes(&self, at: u64, length: u32) -> Result<Vec<u8>, LogError> {
        let mut bytes = vec![0; length as usize];
        self.file.read_exact_at(&mut bytes, at).map_err(|error| LogError::Io(error.to_string()))?;
        Ok(bytes)
    }

    fn record(&self, place: Place) -> Result<Record, LogError> {
        let damaged = |cause: String| LogError::Damaged(format!("position {}: {cause}", place.seq));
        let frame = frame::decode(&self.bytes(place.at, place.length)?).map_err(damaged)?;
        let mut record = frame.record;
        if let Some(blob) = frame.blob {
            let (at, length) =
                self.payloads.get(&blob.hash).ok_or_else(|| damaged("its payload is missing".into()))?;
            record.draft.payload = self.bytes(*at, *length)?;
        }
        Ok(record)
    }
}

impl LogReader for LogFile {
    fn head(&self) -> Seq {
        self.head.last
    }

    fn read(&self, after: Seq, limit: usize) -> Result<Vec<Record>, LogError> {
        let from = self.events.partition_point(|place| place.seq <= after);
        self.events.iter().skip(from).take(limit).map(|place| self.record(*place)).collect()
    }

    fn read_stream(&self, stream: &str, after: u64, limit: usize) -> Result<Vec<Record>, LogError> {
        let places = self.streams.get(&frame::stream_key(stream)).map_or(&[][..], Vec::as_slice);
        let from = places.partition_point(|place| place.version <= after);
        places.iter().skip(from).take(limit).map(|place| self.record(*place)).collect()
    }

    fn find(&self, id: EventId) -> Result<Option<Seq>, LogError> {
        Ok(self.ids.get(&id).copied())
    }

    fn beyond(&self, _: Seq) -> BoxFuture<'_, Option<Seq>> {
        Box::pin(async { None })
    }
}

impl std::fmt::Debug for LogFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogFile").field("head", &self.head).finish_non_exhaustive()
    }
}

/// What a walk over a file meets, each checked; nothing any more once something was wrong.
enum Met<'a> {
    Head(&'a Head),
    Payload { hash: Hash, bytes: &'a [u8], at: u64 },
    Event { frame: Frame, bytes: &'a [u8], at: u64 },
}

/// What a walk over a whole file came to.
struct Walked {
    head: Head,
    report: VerifyReport,
    checkpoint: Option<Checkpoint>,
    keys: Option<Vec<u8>>,
}

/// Reads a file from its beginning to its end and checks it on the way.
fn walk(
    path: &Path,
    elsewhere: Option<&Checkpoint>,
    told: Told<'_>,
    meet: &mut dyn FnMut(Met<'_>) -> Result<(), Refusal>,
) -> Result<Walked, Refusal> {
    let file = File::open(path).map_err(|error| unreadable(path, &error))?;
    let total = file.metadata().map_err(|error| unreadable(path, &error))?.len();
    let mut source =
        Source { from: BufReader::with_capacity(64 << 10, file), at: 0, sum: blake3::Hasher::new() };
    let unknown = || {
        Refusal::invalid(format!("{} is not a log file of Athena", path.display()))
            .hint("athena log export FILE makes one")
    };
    let mut magic = [0; 8];
    source.read(&mut magic).map_err(|error| unreadable(path, &error))?.then_some(()).ok_or_else(unknown)?;
    if magic != *MAGIC {
        return Err(unknown());
    }
    let head = match source.item().map_err(|error| unreadable(path, &error))? {
        Item::Whole { tag: HEAD, body, .. } => serde_json::from_slice::<Head>(&body).ok(),
        _ => None,
    };
    let head = head.ok_or_else(|| {
        Refusal::new(Code::Integrity, format!("{}: its first part cannot be read", path.display()))
    })?;
    if head.format > FORMAT {
        return Err(Refusal::invalid(format!("{} was written by a newer Athena", path.display())));
    }
    let mut walk = Walk::new(&head, elsewhere)?;
    meet(Met::Head(&head))?;
    let mut tell_at = 0;
    loop {
        if source.at >= tell_at {
            tell_at = source.at + TELL_EVERY;
            if !told(source.at, total) {
                return Err(given_up());
            }
        }
        let sum = *source.sum.finalize().as_bytes();
        match source.item().map_err(|error| unreadable(path, &error))? {
            Item::Whole { tag: END, body, .. } => {
                walk.end(&sum, &body, source.at == total);
                break;
            }
            Item::Whole { tag, body, at } => walk.item(tag, body, at, meet)?,
            Item::Cut => {
                walk.lost("the file is cut off; missing");
                break;
            }
            Item::Nonsense(at) => {
                walk.lost(&format!("the file is damaged at byte {at}; missing from there on"));
                break;
            }
        }
    }
    told(total, total);
    let Walk { report, checkpoint, keys, .. } = walk;
    Ok(Walked { head, report, checkpoint, keys })
}

/// What a walk knows on its way.
struct Walk<'a> {
    expected: Seq,
    last: Seq,
    chain: Hash,
    elsewhere: Option<&'a Checkpoint>,
    payloads: HashSet<Hash>,
    /// What is left of events whose payload was dropped, until something vouches for it. In an excerpt what vouches may have
    /// been left out.
    stubs: BTreeMap<Seq, Vec<u8>>,
    whole: bool,
    report: VerifyReport,
    checkpoint: Option<Checkpoint>,
    keys: Option<Vec<u8>>,
}

impl<'a> Walk<'a> {
    fn new(head: &Head, elsewhere: Option<&'a Checkpoint>) -> Result<Self, Refusal> {
        let chain = unhex(&head.chain)
            .ok_or_else(|| Refusal::new(Code::Integrity, "the file's first part names no chain hash"))?;
        let mut walk = Self {
            expected: head.after + 1,
            last: head.last,
            chain,
            elsewhere,
            payloads: HashSet::new(),
            stubs: BTreeMap::new(),
            whole: head.excerpt.is_none() && head.after == 0,
            report: VerifyReport { head: head.after, ..VerifyReport::default() },
            checkpoint: None,
            keys: None,
        };
        if head.after == 0 && chain != GENESIS {
            walk.report.note(None, "its first part begins with another chain".into());
        }
        Ok(walk)
    }

    fn item(
        &mut self,
        tag: u8,
        body: Vec<u8>,
        at: u64,
        meet: &mut dyn FnMut(Met<'_>) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        match tag {
            PAYLOAD => {
                let hash = *blake3::hash(&body).as_bytes();
                self.payloads.insert(hash);
                if self.report.is_clean() {
                    meet(Met::Payload { hash, bytes: &body, at })?;
                }
            }
            EVENT => {
                let seq = self.expected;
                match self.event(&body) {
                    Ok(frame) => {
                        self.vouch(&frame, &body);
                        if self.report.is_clean() {
                            meet(Met::Event { frame, bytes: &body, at })?;
                        }
                    }
                    Err(cause) => self.report.add(seq, seq, cause),
                }
                self.report.events += 1;
                // What follows is judged by what this one says, so that one flipped bit is one finding.
                let chain = frame::hashes(&body).map_or(self.chain, |(_, chain)| chain);
                self.step(chain);
            }
            LEAVES => {
                let (leaves, rest) = body.as_chunks::<32>();
                if !rest.is_empty() {
                    self.report.add(self.expected, self.last, "its leaf hashes cannot be read");
                }
                for leaf in leaves {
                    self.step(link(&self.chain, leaf));
                }
            }
            CHECKPOINT => match serde_json::from_slice(&body) {
                Ok(checkpoint) => self.checkpoint = Some(checkpoint),
                Err(error) => self.report.note(None, format!("its checkpoint cannot be read: {error}")),
            },
            KEYS => self.keys = Some(body),
            _ => self.report.note(None, format!("a part of it is of no known kind (byte {at})")),
        }
        Ok(())
    }

    fn event(&self, bytes: &[u8]) -> Result<Frame, String> {
        let frame = frame::verify(bytes, &self.chain)?;
        if frame.record.seq != self.expected {
            return Err(format!("the event of position {} lies here", frame.record.seq));
        }
        if frame.record.draft.stream.len() > STREAM_NAME_MAX {
            return Err("its stream's name is too long".into());
        }
        match frame.blob {
            Some(blob) if !self.payloads.contains(&blob.hash) => {
                Err("its payload is missing or not the one that was recorded".into())
            }
            _ => Ok(frame),
        }
    }

    /// Takes note of an event without its payload, or of the record that vouches for some.
    fn vouch(&mut self, frame: &Frame, bytes: &[u8]) {
        let seq = frame.record.seq;
        if frame.stub {
            self.report.dropped += 1;
            self.stubs.insert(seq, bytes.to_vec());
        }
        let Ok(Some(retired)) = retention::retired(&frame.record) else { return };
        let (mut vouched, mut complete) = (Vouched::default(), true);
        for dropped in retired.positions() {
            match self.stubs.remove(&dropped) {
                Some(stub) => vouched.add(&stub),
                // Still there when the file was written, or left out of an excerpt.
                None => complete = false,
            }
        }
        if complete && vouched.digest() != retired.digest {
            self.report.add(seq, seq, "what is left of dropped payloads is not what it vouches for");
        }
    }

    /// On to the next position; a checkpoint kept elsewhere is compared in passing.
    fn step(&mut self, chain: Hash) {
        self.chain = chain;
        let here = self.elsewhere.filter(|checkpoint| checkpoint.seq == self.expected);
        if here.is_some_and(|checkpoint| checkpoint.chain != hex(&chain)) {
            self.report.add(1, self.expected, "rewritten: the checkpoint vouches for another history");
        }
        self.report.head = self.expected;
        self.expected += 1;
    }

    /// What could have followed is not there.
    fn lost(&mut self, what: &str) {
        if self.expected <= self.last {
            self.report.add(self.expected, self.last, what);
        } else {
            self.report.note(None, format!("{what}: its last part"));
        }
    }

    fn end(&mut self, sum: &Hash, body: &[u8], is_last: bool) {
        if self.expected != self.last + 1 {
            self.lost("missing");
        }
        for seq in std::mem::take(&mut self.stubs).into_keys().filter(|_| self.whole) {
            self.report.add(seq, seq, "its payload was dropped, and nothing on record says so");
        }
        self.report.chain = hex(&self.chain);
        match &self.checkpoint {
            None => self.report.note(None, "it has no checkpoint".into()),
            Some(checkpoint) if !checkpoint.is_signed() => {
                self.report.note(None, "its checkpoint's signature does not fit it".into());
            }
            Some(checkpoint)
                if (checkpoint.seq, &checkpoint.chain) != (self.report.head, &self.report.chain) =>
            {
                self.report.note(None, "its checkpoint vouches for another history".into());
            }
            Some(_) => {}
        }
        if let Some(elsewhere) = self.elsewhere {
            if !elsewhere.is_signed() {
                self.report.note(None, "the checkpoint's signature does not fit it".into());
            } else if elsewhere.seq > self.report.head {
                self.report.add(
                    self.expected,
                    elsewhere.seq,
                    "the checkpoint vouches for them and they are missing",
                );
            }
        }
        if self.report.is_clean() && (body != sum || !is_last) {
            self.report.note(None, "the file as a whole is not what was written".into());
        }
    }
}

/// Where items come from.
struct Source<R> {
    from: R,
    at: u64,
    sum: blake3::Hasher,
}

/// What lies at a place.
enum Item {
    /// An item; where its body begins.
    Whole { tag: u8, body: Vec<u8>, at: u64 },
    /// The end of the file, in the middle of something or before the last item.
    Cut,
    /// No item; the byte.
    Nonsense(u64),
}

impl<R: Read> Source<R> {
    /// Fills `bytes`; `false` where the file ends before.
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<bool> {
        match self.from.read_exact(bytes) {
            Ok(()) => {
                self.at += bytes.len() as u64;
                self.sum.update(bytes);
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn item(&mut self) -> io::Result<Item> {
        let begins = self.at;
        let mut front = [0; 5];
        if !self.read(&mut front)? {
            return Ok(Item::Cut);
        }
        let [tag, length @ ..] = front;
        let length = u32::from_le_bytes(length);
        if !tag.is_ascii_uppercase() || length > ITEM_MAX {
            return Ok(Item::Nonsense(begins));
        }
        let at = self.at;
        // A length that lies is not believed before the bytes are there.
        let mut body = Vec::new();
        let read = self.from.by_ref().take(length.into()).read_to_end(&mut body)?;
        self.at += read as u64;
        self.sum.update(&body);
        if read < length as usize {
            return Ok(Item::Cut);
        }
        Ok(Item::Whole { tag, body, at })
    }
}

/// Where items go.
struct Sink {
    out: BufWriter<File>,
    sum: blake3::Hasher,
}

impl Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sum.update(bytes);
        self.out.write_all(bytes)
    }

    fn item(&mut self, tag: u8, body: &[u8]) -> io::Result<()> {
        let length = u32::try_from(body.len()).ok().filter(|length| *length <= ITEM_MAX);
        let length = length.ok_or_else(|| io::Error::other("a part of the log is too large for a file"))?;
        self.write(&[tag])?;
        self.write(&length.to_le_bytes())?;
        self.write(body)
    }

    fn json(&mut self, tag: u8, value: &impl Serialize) -> io::Result<()> {
        self.item(tag, &serde_json::to_vec(value)?)
    }

    /// The last item, and the disk. Answers the bytes written.
    fn end(mut self) -> io::Result<u64> {
        let sum = *self.sum.finalize().as_bytes();
        self.item(END, &sum)?;
        let file = self.out.into_inner()?;
        file.sync_all()?;
        Ok(file.metadata()?.len())
    }
}

fn damaged(seq: Seq, cause: &str) -> Refusal {
    Refusal::new(Code::Integrity, format!("position {seq}: {cause}")).hint("athena log verify")
}

fn given_up() -> Refusal {
    Refusal::new(Code::Cancelled, "given up; nothing was left behind")
}

fn unwritable(path: &Path, error: &io::Error) -> Refusal {
    let code = if error.kind() == io::ErrorKind::StorageFull { Code::StorageFull } else { Code::Unavailable };
    Refusal::new(code, format!("{} cannot be written: {error}", path.display()))
}

fn unreadable(path: &Path, error: &io::Error) -> Refusal {
    let code = if error.kind() == io::ErrorKind::NotFound { Code::NotFound } else { Code::Unavailable };
    Refusal::new(code, format!("{}: {error}", PathBuf::from(path).display()))
}

#[cfg(test)]
mod tests {
    use super::super::testing::draft;
    use super::super::{Append, Options, Signer};
    use super::*;

    /// A log of `events` events, every tenth with a large payload.
    async fn filled(folder: &Path, events: u64) -> LogHandle {
        let (log, _) = LogHandle::open(folder, Options::default()).unwrap();
        let drafts = (1..=events).map(|n| {
            let payload = if n % 10 == 0 { vec![n as u8; 100_000] } else { vec![n as u8; 40] };
            draft(if n % 3 == 0 { "episodic" } else { "semantic" }, n, &payload)
        });
        log.commit(Append::new(drafts.collect())).await.unwrap();
        log
    }

    async fn export(log: &LogHandle, path: &Path, of: Option<&str>) -> Exported {
        let checkpoint = log.checkpoint(&Signer::new(&[7; 32]), 1_000).await.unwrap();
        let wanted = of.map(str::to_owned);
        let choice = move |record: &Record| wanted.as_ref().is_none_or(|of| record.draft.stream == *of);
        let order = Order {
            checkpoint: &checkpoint,
            after: 0,
            excerpt: of.map(|of| serde_json::json!({ "stream": of })),
            choice: &choice,
            keys: None,
            made_ms: 1_000,
        };
        log.export(path, &order, &mut |_, _| true).unwrap()
    }

    #[tokio::test]
    async fn a_log_comes_back_from_its_file_with_the_same_positions_and_hashes() {
        let folder = tempfile::tempdir().unwrap();
        let log = filled(&folder.path().join("log"), 43).await;
        let path = folder.path().join("all.athenalog");
        let told = export(&log, &path, None).await;
        assert_eq!((told.events, told.bytes), (43, fs::metadata(&path).unwrap().len()));
        let records = log.reader().read(0, 100).unwrap();
        let open = LogFile::open(&path, &mut |_, _| true).unwrap();
        assert_eq!(open.read(0, 100).unwrap(), records);
        assert_eq!(
            open.read_stream("episodic", 2, 3).unwrap(),
            log.reader().read_stream("episodic", 2, 3).unwrap()
        );
        assert_eq!(open.find(records[6].draft.id).unwrap(), Some(7));
        let other = folder.path().join("other");
        let imported = import_file(&path, &other, &mut |_, _| true).unwrap();
        assert_eq!((imported.head, imported.chain), (43, hex(&records[42].chain)));
        let (again, report) = LogHandle::open(other.as_path(), Options::default()).unwrap();
        assert!(report.anchored && report.cut.is_none(), "{report:?}");
        assert_eq!(again.reader().read(0, 100).unwrap(), records);
        assert!(again.verify(imported.checkpoint.as_ref()).unwrap().is_clean());
        // It goes on as the first one would, and knows its events again.
        let next = vec![draft("semantic", 44, b"next")];
        let (a, b) = (
            log.commit(Append::new(next.clone())).await.unwrap(),
            again.commit(Append::new(next)).await.unwrap(),
        );
        assert_eq!(a, b);
        assert_eq!(log.reader().read(43, 1).unwrap(), again.reader().read(43, 1).unwrap());
        assert!(again.commit(Append::new(vec![draft("semantic", 1, &[1; 40])])).await.unwrap().duplicate);
        again.close().await.unwrap();
        let refusal = import_file(&path, &other, &mut |_, _| true).unwrap_err();
        assert_eq!(refusal.code, Code::Conflict, "{refusal}");
    }

    #[tokio::test]
    async fn an_excerpt_is_followed_up_to_the_checkpoint_and_is_no_log() {
        let folder = tempfile::tempdir().unwrap();
        let log = filled(&folder.path().join("log"), 43).await;
        let path = folder.path().join("some.athenalog");
        assert_eq!(export(&log, &path, Some("episodic")).await.events, 14);
        let checked = verify_file(&path, None, &mut |_, _| true).unwrap();
        assert!(checked.report.is_clean() && checked.report.head == 43, "{checked:?}");
        let open = LogFile::open(&path, &mut |_, _| true).unwrap();
        assert!(open.read(0, 100).unwrap().iter().all(|record| record.seq % 3 == 0));
        assert_eq!((open.head(), open.read(4, 1).unwrap()[0].seq), (43, 6));
        let refusal = import_file(&path, &folder.path().join("new"), &mut |_, _| true).unwrap_err();
        assert_eq!(refusal.code, Code::Invalid, "{refusal}");
        let later = Signer::new(&[7; 32]).sign(50, &[1; 32], 1);
        let checked = verify_file(&path, Some(&later), &mut |_, _| true).unwrap();
        assert_eq!(checked.report.findings[0].last, Some(50));
    }

    #[tokio::test]
    async fn no_byte_of_a_file_can_change_and_no_cut_goes_unnoticed() {
        let folder = tempfile::tempdir().unwrap();
        let log = filled(&folder.path().join("log"), 4).await;
        for (name, of) in [("all", None), ("some", Some("episodic"))] {
            let path = folder.path().join(name);
            export(&log, &path, of).await;
            let bytes = fs::read(&path).unwrap();
            let target = folder.path().join("changed");
            let check = |bytes: &[u8], what: String| {
                fs::write(&target, bytes).unwrap();
                let noticed = match verify_file(&target, None, &mut |_, _| true) {
                    Err(refusal) => matches!(refusal.code, Code::Integrity | Code::Invalid),
                    Ok(checked) => !checked.report.is_clean(),
                };
                assert!(noticed, "{name}: {what} went unnoticed");
            };
            for at in 0..bytes.len() {
                let mut changed = bytes.clone();
                changed[at] ^= 1 << (at % 8);
                check(&changed, format!("a change at byte {at}"));
            }
            for at in (0..bytes.len()).step_by(3) {
                check(&bytes[..at], format!("a cut at byte {at}"));
            }
            for at in (0..bytes.len()).step_by(bytes.len() / 8) {
                let new = folder.path().join("new");
                fs::write(&target, &bytes[..at]).unwrap();
                assert!(import_file(&target, &new, &mut |_, _| true).is_err(), "{name}, cut at {at}");
                assert!(!new.join("db").exists(), "{name}, cut at {at}: something was left behind");
            }
        }
    }

    #[tokio::test]
    async fn damage_and_cuts_name_their_positions() {
        let folder = tempfile::tempdir().unwrap();
        let log = filled(&folder.path().join("log"), 9).await;
        let path = folder.path().join("all");
        export(&log, &path, None).await;
        let bytes = fs::read(&path).unwrap();
        let open = LogFile::open(&path, &mut |_, _| true).unwrap();
        let fifth = open.events[4];
        let mut changed = bytes.clone();
        changed[fifth.at as usize + 60] ^= 4;
        fs::write(&path, &changed).unwrap();
        let report = verify_file(&path, None, &mut |_, _| true).unwrap().report;
        assert_eq!((report.findings[0].first, report.findings[0].last), (Some(5), Some(5)), "{report:?}");
        fs::write(&path, &bytes[..fifth.at as usize + 10]).unwrap();
        let report = verify_file(&path, None, &mut |_, _| true).unwrap().report;
        assert_eq!((report.findings[0].first, report.findings[0].last), (Some(5), Some(9)), "{report:?}");
        let refusal = import_file(&path, &folder.path().join("new"), &mut |_, _| true).unwrap_err();
        assert!(refusal.code == Code::Integrity && refusal.message.contains("positions 5 to 9"), "{refusal}");
    }

    #[tokio::test]
    async fn a_copy_up_to_a_position_is_the_log_as_it_stood() {
        let folder = tempfile::tempdir().unwrap();
        let log = filled(&folder.path().join("log"), 43).await;
        let past = folder.path().join("past");
        log.copy_to(&past, 30, None, &mut |_, _| true).unwrap();
        let (copy, report) = LogHandle::open(past.as_path(), Options::default()).unwrap();
        assert_eq!(report.head, 30);
        assert!(copy.verify(None).unwrap().is_clean());
        assert_eq!(copy.reader().read(0, 100).unwrap(), log.reader().read(0, 30).unwrap());
        copy.close().await.unwrap();
        let mut calls = 0;
        let given_up = log.copy_to(&folder.path().join("none"), 43, None, &mut |_, _| {
            calls += 1;
            false
        });
        assert_eq!((given_up.unwrap_err().code, calls), (Code::Cancelled, 1));
        assert!(!folder.path().join("none/db").exists());
    }
}
