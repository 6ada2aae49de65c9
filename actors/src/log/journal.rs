//! Looking over fjall's journal before fjall does.
//!
//! fjall 3.1.13 stops at the first batch it cannot read: sometimes it refuses to open although only an unacknowledged tail
//! is torn, sometimes it silently drops everything behind one flipped bit. So the journal is read here first, by the format
//! of that version (a test writes one with fjall and reads it back), and judged:
//!
//! batch = `1 | items u32 | seqno u64`, then per item `2 | type | compression | keyspace u64 | key len u16 | value len u32 |
//! stored len u32 | key | value` or `4 | keyspace u64`, then `3 | xxh3 of the items u64 | "FJL\x03"`; all little-endian.

use super::frame::STUB;
use super::store::disk::SYNCED_KEY;
use athena_schemas::envelope::Seq;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::Xxh3;

/// Ids of the keyspaces, in the order in which the store creates them.
const LOG_KEYSPACE: u64 = 1;
const META_KEYSPACE: u64 = 4;

const TRAILER: &[u8] = b"FJL\x03";
/// No batch of ours has more items; a larger number is not a batch.
const ITEMS_MAX: u32 = 1_000_000;
const BLOCK: usize = 4096;

/// What one batch says about the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Group {
    /// Its first and last position, if it holds events.
    events: Option<(Seq, Seq)>,
    /// How far the log was synced when it was written.
    synced: Option<Seq>,
}

/// One journal file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Journal {
    /// The file.
    pub(crate) path: PathBuf,
    /// The first and last position in its readable front, if there are any.
    pub(crate) events: Option<(Seq, Seq)>,
    /// What comes behind the readable front.
    pub(crate) tail: Tail,
}

/// What lies behind the last batch that can be read in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Tail {
    /// Nothing but zeros.
    Clean,
    /// Bytes that are no batch, from an offset on.
    Torn {
        /// Where they begin.
        at: u64,
        /// How many until the zeros.
        bytes: u64,
        /// The newest proof in it of what had been on disk.
        proof: Option<Proof>,
    },
}

/// A whole batch behind unreadable bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Proof {
    /// Its first position.
    pub(crate) first: Seq,
    /// How far the log had been synced when it was written.
    pub(crate) synced: Seq,
}

/// Reads all journals of a database, oldest first. Nothing is changed.
///
/// # Errors
/// When the disk fails.
pub(crate) fn survey(database: &Path) -> io::Result<Vec<Journal>> {
    let mut found = Vec::new();
    let entries = match std::fs::read_dir(database) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        let number =
            path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse::<u64>().ok());
        if let (Some(number), Some("jnl")) = (number, path.extension().and_then(|ext| ext.to_str())) {
            found.push((number, path));
        }
    }
    found.sort();
    found.into_iter().map(|(_, path)| look_over(path)).collect()
}

fn look_over(path: PathBuf) -> io::Result<Journal> {
    let bytes = std::fs::read(&path)?;
    let data = without_zeros(&bytes);
    let (mut at, mut events) = (0, None);
    while let Some((group, next)) = batch(&bytes, at) {
        if let Some((first, last)) = group.events {
            events = Some(events.map_or((first, last), |(earliest, _)| (earliest, last)));
        }
        at = next;
    }
    let tail = if at >= data.len() {
        Tail::Clean
    } else {
        Tail::Torn { at: at as u64, bytes: (data.len() - at) as u64, proof: proof(data, at) }
    };
    Ok(Journal { path, events, tail })
}

/// Cuts a file at an offset and answers what was cut, so that it can be put back.
///
/// # Errors
/// When the disk fails.
pub(crate) fn cut(path: &Path, at: u64) -> io::Result<Vec<u8>> {
    let bytes = std::fs::read(path)?;
    let start = usize::try_from(at).unwrap_or(usize::MAX);
    let torn = without_zeros(&bytes).get(start..).unwrap_or_default().to_vec();
    let file = File::options().write(true).open(path)?;
    file.set_len(at)?;
    file.sync_all()?;
    Ok(torn)
}

/// Puts back what [`cut`] took.
///
/// # Errors
/// When the disk fails.
pub(crate) fn put_back(path: &Path, at: u64, torn: &[u8]) -> io::Result<()> {
    use std::os::unix::fs::FileExt;
    let file = File::options().write(true).open(path)?;
    file.write_all_at(torn, at)?;
    file.sync_all()
}

/// The newest whole batch with events behind the unreadable bytes at `from`.
fn proof(data: &[u8], from: usize) -> Option<Proof> {
    let mut newest = None;
    let mut at = from + 1;
    while at < data.len() {
        let Some(step) = data.get(at..).and_then(|rest| rest.iter().position(|byte| *byte == 1)) else {
            break;
        };
        at += step;
        let Some((group, next)) = batch(data, at) else {
            at += 1;
            continue;
        };
        if let (Some((first, _)), Some(synced)) = (group.events, group.synced) {
            newest = Some(Proof { first, synced });
        }
        at = next;
    }
    newest
}

/// The bytes up to the last one that is not zero, to the next block.
pub(crate) fn without_zeros(bytes: &[u8]) -> &[u8] {
    const ZEROS: [u8; BLOCK] = [0; BLOCK];
    let mut end = bytes.len();
    for block in bytes.rchunks(BLOCK) {
        if ZEROS.get(..block.len()) != Some(block) {
            break;
        }
        end -= block.len();
    }
    let data = bytes.get(..end).unwrap_or_default();
    let last = data.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    data.get(..last).unwrap_or_default()
}

/// The batch at an offset and the offset behind it; `None` where there is no whole one.
fn batch(bytes: &[u8], at: usize) -> Option<(Group, usize)> {
    let mut cursor = Cursor { bytes, at };
    if cursor.byte()? != 1 {
        return None;
    }
    let items = cursor.u32()?;
    cursor.skip(8)?;
    if items == 0 || items > ITEMS_MAX {
        return None;
    }
    let mut group = Group::default();
    let body = cursor.at;
    for _ in 0..items {
        item(&mut cursor, &mut group)?;
    }
    let mut sum = Xxh3::new();
    sum.update(bytes.get(body..cursor.at)?);
    let whole =
        cursor.byte()? == 3 && cursor.u64()? == sum.digest() && cursor.take(TRAILER.len())? == TRAILER;
    whole.then_some((group, cursor.at))
}

fn item(cursor: &mut Cursor<'_>, group: &mut Group) -> Option<()> {
    match cursor.byte()? {
        2 => {
            cursor.skip(2)?;
            let keyspace = cursor.u64()?;
            let key_len = usize::from(u16::from_le_bytes(cursor.take(2)?.try_into().ok()?));
            cursor.skip(4)?;
            let value_len = usize::try_from(cursor.u32()?).ok()?;
            let key = cursor.take(key_len)?;
            let value = cursor.take(value_len)?;
            if keyspace == LOG_KEYSPACE && value.first() == Some(&STUB) {
                // Nothing new: the payload of an event that was recorded long ago is dropped.
            } else if keyspace == LOG_KEYSPACE {
                let seq = Seq::from_be_bytes(key.try_into().ok()?);
                group.events = Some(group.events.map_or((seq, seq), |(first, _)| (first, seq)));
            } else if keyspace == META_KEYSPACE && key == SYNCED_KEY {
                group.synced = value.try_into().ok().map(Seq::from_be_bytes);
            }
            Some(())
        }
        4 => cursor.skip(8),
        _ => None,
    }
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(len)?)?;
        self.at += len;
        Some(taken)
    }

    fn skip(&mut self, len: usize) -> Option<()> {
        self.take(len).map(drop)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::frame::{Place, encode};
    use crate::log::store::{Batch, Entry, Store, disk::Disk};
    use crate::log::testing::draft;

    /// Three groups as the writer writes them, by the real fjall; the bytes of its journal.
    fn written() -> (tempfile::TempDir, PathBuf, Vec<u8>) {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::open(folder.path()).unwrap();
        for n in 1..=3_u64 {
            let draft = draft("semantic", n, b"some payload");
            let place = Place { seq: n, version: n, previous: [0; 32], chain: [0; 32] };
            let frame = encode(&draft, &place, None).unwrap().bytes;
            let entry = Entry { seq: n, stream: [1; 16], version: n, id: draft.id, frame };
            let meta = vec![(SYNCED_KEY.to_vec(), Some((n - 1).to_be_bytes().to_vec()))];
            disk.commit(&Batch { events: vec![entry], meta, ..Batch::default() }, true).unwrap();
        }
        drop(disk);
        let path = folder.path().join("db/0.jnl");
        let bytes = std::fs::read(&path).unwrap();
        (folder, path, bytes)
    }

    fn look(path: &Path, bytes: &[u8]) -> Journal {
        std::fs::write(path, bytes).unwrap();
        let mut journals = survey(path.parent().unwrap()).unwrap();
        assert_eq!(journals.len(), 1);
        journals.remove(0)
    }

    #[test]
    fn what_fjall_writes_is_understood() {
        let (_folder, path, bytes) = written();
        let journal = look(&path, &bytes);
        assert_eq!((journal.events, journal.tail), (Some((1, 3)), Tail::Clean));
    }

    #[test]
    fn any_flipped_bit_is_seen_and_proven_unless_it_is_in_the_last_group() {
        let (_folder, path, bytes) = written();
        let len = without_zeros(&bytes).len();
        let ends: Vec<usize> =
            std::iter::successors(batch(&bytes, 0), |(_, at)| batch(&bytes, *at)).map(|(_, at)| at).collect();
        assert_eq!(ends.len(), 3);
        assert_eq!(ends[2], len);
        for at in 0..len {
            let mut flipped = bytes[..len].to_vec();
            flipped[at] ^= 1 << (at % 8);
            // The sequence number of a batch is fjall's own and has no checksum there; the chain does not depend on it.
            let in_seqno = [0, ends[0], ends[1]].iter().any(|start| (start + 5..start + 13).contains(&at));
            let journal = look(&path, &flipped);
            match journal.tail {
                Tail::Clean => assert!(in_seqno, "byte {at} changed unnoticed"),
                Tail::Torn { proof, .. } => {
                    let last_good = journal.events.map_or(0, |(_, last)| last);
                    let proven = proof.is_some_and(|proof| proof.synced > last_good);
                    assert_eq!(proven, at < ends[1], "byte {at}");
                }
            }
        }
    }

    #[test]
    fn a_torn_tail_is_cut_and_can_be_put_back() {
        let (_folder, path, bytes) = written();
        let len = without_zeros(&bytes).len();
        let torn = &bytes[..len - 20];
        let Tail::Torn { at, bytes: lost, proof: None } = look(&path, torn).tail else {
            panic!("it is torn")
        };
        let kept = cut(&path, at).unwrap();
        assert_eq!(kept.len() as u64, lost);
        let journal = survey(path.parent().unwrap()).unwrap().remove(0);
        assert_eq!((journal.events, journal.tail), (Some((1, 2)), Tail::Clean));
        put_back(&path, at, &kept).unwrap();
        assert_eq!(without_zeros(&std::fs::read(&path).unwrap()), without_zeros(torn));
    }
}
