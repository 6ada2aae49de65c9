//! A group of appends that share one write and one sync.

use super::frame::Hash;
use super::store::{Batch, Entry};
use super::{Receipt, Reply};
use athena_schemas::envelope::Seq;
use athena_schemas::id::EventId;
use athena_schemas::ports::LogError;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// What is written at once, and who waits for it.
#[derive(Default)]
pub(crate) struct Group {
    /// What is written.
    pub(crate) batch: Batch,
    /// Position and chain hash after it; `None` while it holds no events.
    pub(crate) tail: Option<(Seq, Hash)>,
    /// Who is answered, in the order they came.
    pub(crate) outcomes: Vec<(Reply, Outcome)>,
    /// Where the event of an id stands.
    pub(crate) ids: Ids,
}

/// Where events stand in a group, by their ids.
pub(crate) type Ids = HashMap<EventId, usize, BuildHasherDefault<FirstBytes>>;

/// Ids are hashes themselves, so their first bytes are as good as any hash of them.
#[derive(Default)]
pub(crate) struct FirstBytes(u64);

impl Hasher for FirstBytes {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.first_chunk().map_or(0, |first| u64::from_le_bytes(*first));
    }

    /// All ids are of one length.
    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

impl Group {
    /// An empty group over a map that another has left behind.
    pub(crate) fn over(mut ids: Ids) -> Self {
        ids.clear();
        Self { ids, ..Self::default() }
    }

    /// Takes in the events of one append, those from an index on.
    pub(crate) fn added(&mut self, from: usize, tail: (Seq, Hash)) {
        let added = self.batch.events.iter().enumerate().skip(from);
        self.ids.extend(added.map(|(index, entry)| (entry.id, index)));
        self.tail = Some(tail);
    }

    /// The event of that id.
    pub(crate) fn find(&self, id: EventId) -> Option<&Entry> {
        self.ids.get(&id).and_then(|index| self.batch.events.get(*index))
    }

    /// Its last position.
    pub(crate) fn last(&self) -> Option<Seq> {
        self.tail.map(|(seq, _)| seq)
    }
}

/// Events that were recorded before.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known {
    pub(crate) first: Seq,
    pub(crate) last: Seq,
    /// By an append of the same group, so not yet written.
    pub(crate) pending: bool,
}

/// What became of an append, up to the write.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It has its place in the group.
    Placed { first: Seq, last: Seq, sync: bool },
    /// It is there already.
    Known { known: Known, sync: bool },
    /// It was refused.
    Refused(LogError),
}

impl Outcome {
    /// Whether its answer waits for the disk.
    pub(crate) fn wants_sync(&self) -> bool {
        matches!(self, Self::Placed { sync: true, .. } | Self::Known { sync: true, .. })
    }

    /// The answer, once the group was written or not.
    pub(crate) fn result(self, written: &Result<(), LogError>, durable: bool) -> Result<Receipt, LogError> {
        let (first, last, duplicate, depends) = match self {
            Self::Refused(error) => return Err(error),
            Self::Placed { first, last, .. } => (first, last, false, true),
            Self::Known { known, sync } => (known.first, known.last, true, known.pending || sync),
        };
        match written {
            Err(error) if depends => Err(error.clone()),
            _ => Ok(Receipt { first, last, durable, duplicate }),
        }
    }
}
