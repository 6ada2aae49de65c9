//! Reading by position, beside the writer: a reader takes the store for one page at a time, so that the writer can close
//! and reopen it.

use super::frame;
use super::store::Store;
use athena_schemas::envelope::{Record, Seq};
use athena_schemas::id::EventId;
use athena_schemas::ports::{BoxFuture, LogError, LogReader};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::watch;

/// A page ends when it holds this many bytes of frames, however many records were asked for.
const PAGE_BYTES_MAX: usize = 32 << 20;

/// Where the store is while it is open; otherwise why it is not.
pub(crate) struct Slot {
    store: RwLock<Result<Arc<dyn Store>, LogError>>,
    failures: watch::Sender<u64>,
}

impl Default for Slot {
    fn default() -> Self {
        Self { store: RwLock::new(Err(LogError::Closed)), failures: watch::Sender::new(0) }
    }
}

impl Slot {
    /// The store, for one page.
    pub(crate) fn get(&self) -> Result<Arc<dyn Store>, LogError> {
        self.store.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Closes the store and puts in its place what `open` makes. Readers wait meanwhile; those under way finish their page
    /// first, because the files can only be opened again once nobody holds them.
    pub(crate) fn replace<T>(
        &self,
        open: impl FnOnce() -> Result<(Arc<dyn Store>, T), LogError>,
    ) -> Result<(Arc<dyn Store>, T), LogError> {
        let mut held = self.store.write().unwrap_or_else(PoisonError::into_inner);
        release(&mut held);
        let opened = open();
        *held = opened.as_ref().map(|(store, _)| Arc::clone(store)).map_err(LogError::clone);
        opened
    }

    /// Tells whoever watches that appends may have been lost on the way.
    pub(crate) fn fail(&self) {
        self.failures.send_modify(|count| *count += 1);
    }

    /// Counts the failures.
    pub(crate) fn failures(&self) -> watch::Receiver<u64> {
        self.failures.subscribe()
    }

    /// Closes the store for good.
    pub(crate) fn close(&self) {
        release(&mut self.store.write().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Waits until no reader holds the store, and drops it.
fn release(held: &mut Result<Arc<dyn Store>, LogError>) {
    if let Ok(store) = std::mem::replace(held, Err(LogError::Closed)) {
        while Arc::strong_count(&store) > 1 {
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }
}

/// Reads the log.
pub(crate) struct Reader {
    slot: Arc<Slot>,
    head: watch::Receiver<Seq>,
}

impl Reader {
    pub(crate) fn new(slot: Arc<Slot>, head: watch::Receiver<Seq>) -> Self {
        Self { slot, head }
    }
}

impl LogReader for Reader {
    fn head(&self) -> Seq {
        *self.head.borrow()
    }

    fn read(&self, after: Seq, limit: usize) -> Result<Vec<Record>, LogError> {
        let store = self.slot.get()?;
        // What the writer has not published yet is not shown: it may not be as durable as its append asked.
        let head = self.head();
        let left = usize::try_from(head.saturating_sub(after)).unwrap_or(usize::MAX);
        let limit = limit.min(left);
        let mut records = Vec::with_capacity(limit.min(4096));
        if limit == 0 {
            return Ok(records);
        }
        let (mut expected, mut bytes_read, mut problem) = (after + 1, 0, None);
        store.scan(after, &mut |seq, bytes| match open(&*store, expected, seq, bytes) {
            Ok(record) => {
                bytes_read += record.draft.payload.len() + 256;
                records.push(record);
                expected += 1;
                records.len() < limit && bytes_read < PAGE_BYTES_MAX
            }
            Err(error) => {
                problem = Some(error);
                false
            }
        })?;
        match problem {
            Some(error) => Err(error),
            None if records.is_empty() => Err(missing(expected)),
            None => Ok(records),
        }
    }

    fn read_stream(&self, stream: &str, after: u64, limit: usize) -> Result<Vec<Record>, LogError> {
        let store = self.slot.get()?;
        let head = self.head();
        let mut records = Vec::new();
        let mut bytes_read = 0;
        for (_, seq) in store.stream(&frame::stream_key(stream), after, limit)? {
            if seq > head || bytes_read >= PAGE_BYTES_MAX {
                break;
            }
            let bytes = store.frame(seq)?.ok_or_else(|| missing(seq))?;
            let record = open(&*store, seq, seq, &bytes)?;
            bytes_read += record.draft.payload.len() + 256;
            records.push(record);
        }
        Ok(records)
    }

    fn find(&self, id: EventId) -> Result<Option<Seq>, LogError> {
        let head = self.head();
        Ok(self.slot.get()?.position(&id)?.filter(|seq| *seq <= head))
    }

    fn beyond(&self, after: Seq) -> BoxFuture<'_, Option<Seq>> {
        let mut head = self.head.clone();
        Box::pin(async move { head.wait_for(|head| *head > after).await.ok().map(|head| *head) })
    }
}

/// A frame as a record, its payload fetched where it is a blob.
pub(crate) fn open(store: &dyn Store, expected: Seq, seq: Seq, bytes: &[u8]) -> Result<Record, LogError> {
    if seq != expected {
        return Err(missing(expected));
    }
    let damaged = |cause: String| LogError::Damaged(format!("position {seq}: {cause}"));
    let frame = frame::decode(bytes).map_err(damaged)?;
    let mut record = frame.record;
    if record.seq != seq {
        return Err(damaged(format!("an event of position {} lies here", record.seq)));
    }
    if let Some(blob) = frame.blob {
        let payload = store.blob(&blob.hash)?;
        record.draft.payload = payload.ok_or_else(|| damaged("its payload's blob is missing".into()))?;
    }
    Ok(record)
}

fn missing(seq: Seq) -> LogError {
    LogError::Damaged(format!("position {seq} is missing from the log"))
}
