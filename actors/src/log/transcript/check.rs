//! Reading a file from its beginning to its end, every hash and link checked on the way: for a check, for an import.

use super::{
    CHECKPOINT, END, EVENT, FORMAT, HEAD, Head, Item, KEYS, LEAVES, MAGIC, PAYLOAD, Source, TELL_EVERY, Told,
    given_up, unreadable,
};
use crate::files::{hex, unhex};
use crate::log::build::Builder;
use crate::log::frame::{self, Frame, GENESIS, Hash, Vouched, link};
use crate::log::verify::VerifyReport;
use crate::log::{Checkpoint, STREAM_NAME_MAX};
use crate::retention;
use athena_schemas::envelope::Seq;
use athena_schemas::refusal::{Code, Refusal};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::io::BufReader;
use std::os::unix::fs::FileExt;
use std::path::Path;

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

/// What a walk over a file meets, each checked; nothing any more once something was wrong.
pub(super) enum Met<'a> {
    Head(&'a Head),
    Payload { hash: Hash, bytes: &'a [u8], at: u64 },
    Event { frame: Frame, bytes: &'a [u8], at: u64 },
}

/// What a walk over a whole file came to.
pub(super) struct Walked {
    pub(super) head: Head,
    pub(super) report: VerifyReport,
    pub(super) checkpoint: Option<Checkpoint>,
    pub(super) keys: Option<Vec<u8>>,
}

/// Reads a file from its beginning to its end and checks it on the way.
pub(super) fn walk(
    path: &Path,
    elsewhere: Option<&Checkpoint>,
    told: Told<'_>,
    meet: &mut dyn FnMut(Met<'_>) -> Result<(), Refusal>,
) -> Result<Walked, Refusal> {
    let file = File::open(path).map_err(|error| unreadable(path, &error))?;
    let again = file.try_clone().map_err(|error| unreadable(path, &error))?;
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
    let mut walk = Walk::new(&head, again, elsewhere)?;
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
    /// Events whose payload was dropped and for which nothing has vouched yet. In an excerpt what vouches may have been left out.
    unvouched: BTreeSet<Seq>,
    /// Where events lie whose payload may have been dropped: their place, bytes from the file's start, and their length.
    places: HashMap<Seq, (u64, usize)>,
    /// To look at them again.
    file: File,
    whole: bool,
    report: VerifyReport,
    checkpoint: Option<Checkpoint>,
    keys: Option<Vec<u8>>,
}

impl<'a> Walk<'a> {
    fn new(head: &Head, file: File, elsewhere: Option<&'a Checkpoint>) -> Result<Self, Refusal> {
        let chain = unhex(&head.chain)
            .ok_or_else(|| Refusal::new(Code::Integrity, "the file's first part names no chain hash"))?;
        let mut walk = Self {
            expected: head.after + 1,
            last: head.last,
            chain,
            elsewhere,
            payloads: HashSet::new(),
            unvouched: BTreeSet::new(),
            places: HashMap::new(),
            file,
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
                        self.vouch(&frame, at, body.len());
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

    /// Takes note of an event that has lost its payload or may lose it, or of the record that vouches for some.
    fn vouch(&mut self, frame: &Frame, at: u64, length: usize) {
        let seq = frame.record.seq;
        if frame.stub {
            self.report.dropped += 1;
            self.unvouched.insert(seq);
        }
        if retention::is_of_runs(&frame.record.draft.stream) {
            self.places.insert(seq, (at, length));
        }
        let Ok(Some(retired)) = retention::retired(&frame.record) else { return };
        let positions: Vec<Seq> = retired.positions().take_while(|dropped| *dropped < seq).collect();
        let (mut vouched, mut complete) = (Vouched::default(), true);
        for dropped in &positions {
            match self.left_of(*dropped) {
                Some(stub) => vouched.add(&stub),
                None => complete = false,
            }
        }
        if complete && vouched.digest() == retired.digest {
            for dropped in positions {
                self.unvouched.remove(&dropped);
            }
        } else if complete || self.whole {
            self.report.add(seq, seq, "what is left of dropped payloads is not what it vouches for");
        }
    }

    /// What is left of an event without its payload, or would be: it is on record before it is dropped, so the file may still
    /// hold the payload. `None` for what an excerpt left out.
    fn left_of(&self, seq: Seq) -> Option<Vec<u8>> {
        let (at, length) = *self.places.get(&seq)?;
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, at).ok()?;
        frame::stub(&bytes).ok()
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
        for seq in std::mem::take(&mut self.unvouched).into_iter().filter(|_| self.whole) {
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
