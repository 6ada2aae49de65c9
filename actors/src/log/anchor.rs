//! The anchor: a small file beside the log that says how far it had come, so that nothing acknowledged can go missing unseen.
//!
//! It is written after every group without a sync, so it survives the death of the process; it is synced at least every
//! second and on closing, so after a power cut it is at most that much older. Two slots are written in turn: a torn write
//! leaves the other one.

use super::frame::Hash;
use athena_schemas::envelope::Seq;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Bytes from one slot to the next: they never share a disk sector.
const SLOT: u64 = 4096;

/// How far a log had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    /// The last position acknowledged.
    pub(crate) head: Seq,
    /// Its chain hash.
    pub(crate) chain: Hash,
    /// The last position known to be on disk.
    pub(crate) synced: Seq,
}

/// The open file.
pub(crate) struct Anchor {
    file: File,
    turn: u64,
    dirty: bool,
}

/// What the file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// There is none.
    Missing,
    /// Neither slot can be read.
    Unreadable,
    /// The newest readable slot.
    Mark(Mark),
}

/// Reads the newest mark.
///
/// # Errors
/// When the disk fails.
pub(crate) fn read(path: &Path) -> io::Result<Found> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Missing),
        Err(error) => return Err(error),
    };
    Ok(newest(&bytes).map_or(Found::Unreadable, |(_, mark)| Found::Mark(mark)))
}

impl Anchor {
    /// Opens the file, creating it.
    ///
    /// # Errors
    /// When the disk fails or is full.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        let turn = newest(&std::fs::read(path)?).map_or(0, |(turn, _)| turn);
        Ok(Self { file, turn, dirty: false })
    }

    /// Notes how far the log has come. A failure is not an error: the anchor is then only older, and the next write tries again.
    pub(crate) fn write(&mut self, mark: &Mark) {
        self.turn += 1;
        let at = (self.turn % 2) * SLOT;
        match self.file.write_all_at(&encode(self.turn, mark), at) {
            Ok(()) => self.dirty = true,
            Err(error) => tracing::warn!(%error, "the log's anchor could not be written"),
        }
    }

    /// Makes it durable.
    pub(crate) fn sync(&mut self) {
        if std::mem::take(&mut self.dirty)
            && let Err(error) = self.file.sync_data()
        {
            tracing::warn!(%error, "the log's anchor could not be synced");
        }
    }
}

fn encode(turn: u64, mark: &Mark) -> [u8; 88] {
    let mut bytes = [0; 88];
    let (body, sum) = bytes.split_at_mut(56);
    let mut fields = body.chunks_exact_mut(8);
    for number in [turn, mark.head, mark.synced] {
        if let Some(field) = fields.next() {
            field.copy_from_slice(&number.to_le_bytes());
        }
    }
    for (field, part) in fields.zip(mark.chain.chunks_exact(8)) {
        field.copy_from_slice(part);
    }
    sum.copy_from_slice(blake3::hash(body).as_bytes());
    bytes
}

fn newest(bytes: &[u8]) -> Option<(u64, Mark)> {
    let slots = [bytes, bytes.get(usize::try_from(SLOT).ok()?..).unwrap_or_default()];
    slots.into_iter().filter_map(decode).max_by_key(|(turn, _)| *turn)
}

fn decode(slot: &[u8]) -> Option<(u64, Mark)> {
    let (body, sum) = slot.get(..88)?.split_at(56);
    if blake3::hash(body).as_bytes() != sum {
        return None;
    }
    let number = |at: usize| Some(u64::from_le_bytes(body.get(at..at + 8)?.try_into().ok()?));
    let mark = Mark { head: number(8)?, synced: number(16)?, chain: body.get(24..56)?.try_into().ok()? };
    Some((number(0)?, mark))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_mark_wins_and_a_torn_one_leaves_the_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("anchor");
        assert_eq!(read(&path).unwrap(), Found::Missing);
        let mark = |n: u8| Mark { head: n.into(), chain: [n; 32], synced: 1 };
        let mut anchor = Anchor::open(&path).unwrap();
        for n in 1..=5 {
            anchor.write(&mark(n));
            assert_eq!(read(&path).unwrap(), Found::Mark(mark(n)));
        }
        anchor.sync();
        // The fifth write went to the second slot; tear it.
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[4096 + 30] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(read(&path).unwrap(), Found::Mark(mark(4)));
        bytes[30] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(read(&path).unwrap(), Found::Unreadable);
    }
}
