//! A group of appends that share one write and one sync.

use super::frame::Hash;
use super::store::{Batch, Entry};
use super::{Receipt, Reply};
use athena_schemas::envelope::Seq;
use athena_schemas::id::EventId;
use athena_schemas::ports::LogError;
use std::collections::HashMap;

/// What is written at once, and who waits for it.
#[derive(Default)]
pub(crate) struct Group {
    /// What is written.
    pub(crate) batch: Batch,
    /// Position and chain hash after it; `None` while it holds no events.
    pub(crate) tail: Option<(Seq, Hash)>,
    /// Who is answered, in the order they came.
    pub(crate) outcomes: Vec<(Reply, Outcome)>,
    ids: HashMap<EventId, usize>,
}

impl Group {
    /// Takes in the events of one append.
    pub(crate) fn add(&mut self, entries: Vec<Entry>, tail: (Seq, Hash)) {
        for entry in entries {
            self.ids.insert(entry.id, self.batch.events.len());
            self.batch.events.push(entry);
        }
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
