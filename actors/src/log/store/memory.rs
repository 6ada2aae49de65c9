//! The store in memory.

use super::{Batch, Caps, Store, StoreError, Visit};
use crate::log::frame::{self, Hash};
use athena_schemas::envelope::Seq;
use athena_schemas::id::EventId;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

/// Keeps everything in collections behind one lock; clones share them.
#[derive(Default, Clone)]
pub(crate) struct Memory(Arc<RwLock<Shelves>>);

#[derive(Default)]
struct Shelves {
    frames: Vec<Vec<u8>>,
    streams: HashMap<[u8; 16], Vec<Seq>>,
    ids: HashMap<EventId, Seq>,
    meta: BTreeMap<Vec<u8>, Vec<u8>>,
    blobs: HashMap<Hash, Vec<u8>>,
}

impl Memory {
    fn read(&self) -> RwLockReadGuard<'_, Shelves> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for Memory {
    fn caps(&self) -> Caps {
        Caps { fsync_on_ack: false, ..super::disk::CAPS }
    }

    fn commit(&self, batch: &Batch, _: bool) -> Result<(), StoreError> {
        let mut shelves = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for entry in &batch.events {
            shelves.streams.entry(entry.stream).or_default().push(entry.seq);
            shelves.ids.insert(entry.id, entry.seq);
            shelves.frames.push(entry.frame.to_vec());
        }
        for (seq, stub) in &batch.stubs {
            let index = usize::try_from(*seq).unwrap_or(usize::MAX).checked_sub(1);
            if let Some(frame) = index.and_then(|index| shelves.frames.get_mut(index)) {
                frame.clone_from(stub);
            }
        }
        for (key, value) in &batch.meta {
            match value {
                Some(value) => shelves.meta.insert(key.clone(), value.clone()),
                None => shelves.meta.remove(key),
            };
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn gathered(&self) -> u64 {
        0
    }

    fn begin_write_out(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn last(&self) -> Result<Option<(Seq, Hash)>, StoreError> {
        let shelves = self.read();
        let Some(last) = shelves.frames.last() else { return Ok(None) };
        let (_, chain) = frame::hashes(last).map_err(StoreError::Damaged)?;
        Ok(Some((shelves.frames.len() as Seq, chain)))
    }

    fn scan(&self, after: Seq, visit: Visit<'_>) -> Result<(), StoreError> {
        // In pages, so that no lock is held while somebody looks at them.
        const PAGE: usize = 256;
        let mut seq = after;
        loop {
            let start = usize::try_from(seq).unwrap_or(usize::MAX);
            let page: Vec<Vec<u8>> = self.read().frames.iter().skip(start).take(PAGE).cloned().collect();
            for bytes in &page {
                seq += 1;
                if !visit(seq, bytes) {
                    return Ok(());
                }
            }
            if page.len() < PAGE {
                return Ok(());
            }
        }
    }

    fn frame(&self, seq: Seq) -> Result<Option<Vec<u8>>, StoreError> {
        let index = usize::try_from(seq).unwrap_or(usize::MAX).checked_sub(1);
        Ok(index.and_then(|index| self.read().frames.get(index).cloned()))
    }

    fn stream(&self, stream: &[u8; 16], after: u64, limit: usize) -> Result<Vec<(u64, Seq)>, StoreError> {
        let start = usize::try_from(after).unwrap_or(usize::MAX);
        Ok(self.read().streams.get(stream).map_or_else(Vec::new, |positions| {
            (after + 1..).zip(positions.iter().copied().skip(start)).take(limit).collect()
        }))
    }

    fn stream_last(&self, stream: &[u8; 16]) -> Result<Option<(u64, Seq)>, StoreError> {
        let shelves = self.read();
        let positions = shelves.streams.get(stream);
        Ok(positions.and_then(|all| all.last().map(|last| (all.len() as u64, *last))))
    }

    fn position(&self, id: &EventId) -> Result<Option<Seq>, StoreError> {
        Ok(self.read().ids.get(id).copied())
    }

    fn meta(&self, prefix: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>, StoreError> {
        let shelves = self.read();
        let found = shelves.meta.range(prefix.to_vec()..).take_while(|(key, _)| key.starts_with(prefix));
        Ok(found.map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    fn put_blob(&self, hash: &Hash, bytes: &[u8]) -> Result<(), StoreError> {
        self.0.write().unwrap_or_else(PoisonError::into_inner).blobs.insert(*hash, bytes.to_vec());
        Ok(())
    }

    fn blob(&self, hash: &Hash) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.read().blobs.get(hash).cloned())
    }

    fn has_room(&self, _: usize) -> bool {
        true
    }

    fn compact(&self, _: &mut dyn FnMut(u64, u64)) -> Result<(), StoreError> {
        Ok(())
    }

    fn sweep(&self) -> Result<u64, StoreError> {
        let named = super::named_blobs(self)?;
        let blobs = &mut self.0.write().unwrap_or_else(PoisonError::into_inner).blobs;
        let before = blobs.len();
        blobs.retain(|hash, _| named.contains(hash));
        Ok((before - blobs.len()) as u64)
    }

    fn flush(&self) -> Result<(), StoreError> {
        Ok(())
    }
}
