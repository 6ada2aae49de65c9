//! A file as a log that can be read and never written.

use super::check::{Met, Walked, walk};
use super::{Head, Told, unreadable};
use crate::log::Checkpoint;
use crate::log::frame::{self, Hash};
use athena_schemas::envelope::{Record, Seq};
use athena_schemas::id::EventId;
use athena_schemas::ports::{BoxFuture, LogError, LogReader};
use athena_schemas::refusal::Refusal;
use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// An open file: a log that can be read and never written.
pub struct LogFile {
    file: File,
    head: Head,
    checkpoint: Option<Checkpoint>,
    keys: Option<Vec<u8>>,
    /// Where each event lies, positions ascending.
    pub(super) events: Vec<Place>,
    ids: HashMap<EventId, Seq>,
    streams: HashMap<[u8; 16], Vec<Place>>,
    payloads: HashMap<Hash, (u64, u32)>,
}

/// Where an event lies.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    seq: Seq,
    version: u64,
    pub(super) at: u64,
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
