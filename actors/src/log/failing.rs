//! A disk that fails on demand: what a failed sync or a full disk leads to, and that a retry by id makes it good.

use super::frame::Hash;
use super::open::{Opened, Opener};
use super::store::{Batch, Caps, Store, StoreError, Visit};
use super::testing::draft;
use super::*;
use athena_schemas::id::EventId;
use proptest::prelude::*;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// How a write fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// Nothing was written.
    Lost,
    /// It was written, synced even; the answer was an error all the same.
    Written,
    /// There was no room.
    Full,
    /// It does not.
    None,
}

/// What is to fail, and how often the store was opened and let go of.
#[derive(Default)]
pub(crate) struct Faults {
    plan: Mutex<VecDeque<Fault>>,
    opened: AtomicUsize,
    dropped: AtomicUsize,
}

impl Faults {
    /// The fault of the next write, if it is one of `kinds`.
    fn next(&self) -> Fault {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner).pop_front().unwrap_or(Fault::None)
    }

    fn plan(&self, faults: &[Fault]) {
        self.plan.lock().unwrap().extend(faults);
    }

    fn left(&self) -> usize {
        self.plan.lock().unwrap().len()
    }

    /// Wraps what was opened.
    pub(crate) fn wrap(self: &Arc<Self>, opened: Opened) -> Opened {
        self.opened.fetch_add(1, Ordering::SeqCst);
        Opened { store: Arc::new(Failing { store: opened.store, faults: Arc::clone(self) }), ..opened }
    }
}

struct Failing {
    store: Arc<dyn Store>,
    faults: Arc<Faults>,
}

impl Drop for Failing {
    fn drop(&mut self) {
        self.faults.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

impl Failing {
    fn fail(&self, write: impl Fn() -> Result<(), StoreError>) -> Result<(), StoreError> {
        match self.faults.next() {
            Fault::None => write(),
            Fault::Lost => Err(StoreError::Io("injected: the sync failed".into())),
            Fault::Written => write().and(Err(StoreError::Io("injected: the sync failed".into()))),
            Fault::Full => Err(StoreError::Full("injected".into())),
        }
    }
}

impl Store for Failing {
    fn caps(&self) -> Caps {
        self.store.caps()
    }

    fn commit(&self, batch: &Batch, sync: bool) -> Result<(), StoreError> {
        if sync { self.fail(|| self.store.commit(batch, true)) } else { self.store.commit(batch, false) }
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.fail(|| self.store.sync())
    }

    fn gathered(&self) -> u64 {
        self.store.gathered()
    }

    fn begin_write_out(&self) -> Result<(), StoreError> {
        self.store.begin_write_out()
    }

    fn last(&self) -> Result<Option<(Seq, Hash)>, StoreError> {
        self.store.last()
    }

    fn scan(&self, after: Seq, visit: Visit<'_>) -> Result<(), StoreError> {
        self.store.scan(after, visit)
    }

    fn frame(&self, seq: Seq) -> Result<Option<Vec<u8>>, StoreError> {
        self.store.frame(seq)
    }

    fn stream(&self, stream: &[u8; 16], after: u64, limit: usize) -> Result<Vec<(u64, Seq)>, StoreError> {
        self.store.stream(stream, after, limit)
    }

    fn stream_last(&self, stream: &[u8; 16]) -> Result<Option<(u64, Seq)>, StoreError> {
        self.store.stream_last(stream)
    }

    fn position(&self, id: &EventId) -> Result<Option<Seq>, StoreError> {
        self.store.position(id)
    }

    fn meta(&self, prefix: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>, StoreError> {
        self.store.meta(prefix)
    }

    fn put_blob(&self, hash: &Hash, bytes: &[u8]) -> Result<(), StoreError> {
        self.store.put_blob(hash, bytes)
    }

    fn blob(&self, hash: &Hash) -> Result<Option<Vec<u8>>, StoreError> {
        self.store.blob(hash)
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.store.has_room(bytes)
    }

    fn compact(&self, told: &mut dyn FnMut(u64, u64)) -> Result<(), StoreError> {
        self.store.compact(told)
    }

    fn sweep(&self) -> Result<u64, StoreError> {
        self.store.sweep()
    }

    fn flush(&self) -> Result<(), StoreError> {
        self.store.flush()
    }
}

fn open(folder: &Path, mode: Mode) -> (LogHandle, Arc<Faults>) {
    let faults = Arc::new(Faults::default());
    let inner = Opener::new(Location::Folder(folder.into())).unwrap();
    let opener = Opener::Failing { inner: Box::new(inner), faults: Arc::clone(&faults) };
    (LogHandle::start(opener, &Options { mode, ..Options::default() }).unwrap().0, faults)
}

#[tokio::test]
async fn a_failed_sync_is_unknown_drops_every_handle_and_a_retry_by_id_settles_it() {
    for (fault, duplicate) in [(Fault::Lost, false), (Fault::Written, true)] {
        let folder = tempfile::tempdir().unwrap();
        let (log, faults) = open(folder.path(), Mode::Sync);
        let first = log.commit(Append::new(vec![draft("a", 1, b"one")])).await.unwrap();
        let reader = log.reader();
        let mut failures = log.failures();
        failures.mark_unchanged();
        faults.plan(&[fault]);
        let append = Append::new(vec![draft("a", 2, b"two"), draft("b", 3, b"three")]);
        let unknown = log.commit(append.clone()).await;
        assert!(matches!(unknown, Err(LogError::Unknown(_))), "{fault:?}: {unknown:?}");
        assert_eq!(faults.opened.load(Ordering::SeqCst), 2, "opened anew");
        assert_eq!(faults.dropped.load(Ordering::SeqCst), 1, "and the old one let go of");
        assert!(failures.has_changed().unwrap(), "what is built on the log is told");
        // What was acknowledged before is there, through readers from before too.
        assert_eq!(reader.read(0, 1).unwrap()[0].draft.payload, b"one");
        let again = log.commit(append.clone()).await.unwrap();
        assert_eq!(again, Receipt { first: first.last + 1, last: first.last + 2, durable: true, duplicate });
        assert_eq!(reader.read(0, 10).unwrap().len(), 3, "once");
        assert!(log.verify(None).unwrap().is_clean());
        log.close().await.unwrap();
        let (log, report) = LogHandle::open(folder.path(), Options::default()).unwrap();
        assert_eq!((report.head, report.cut), (3, None));
        log.close().await.unwrap();
    }
}

#[tokio::test]
async fn everyone_in_a_group_whose_sync_failed_is_told_and_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let (log, faults) = open(folder.path(), Mode::Sync);
    log.commit(Append::new(vec![draft("a", 1, b"one")])).await.unwrap();
    // The first reply holds the writer until the others wait together in the queue.
    let (go, wait) = std::sync::mpsc::channel();
    log.append(Append::new(vec![draft("a", 2, b"x")]), Box::new(move |_| wait.recv().unwrap()));
    assert_eq!(log.reader().beyond(1).await, Some(2), "it is written, and its reply holds the writer");
    let (told, outcomes) = std::sync::mpsc::channel();
    for n in 3..=6 {
        let told = told.clone();
        log.append(
            Append::new(vec![draft("a", n, b"x")]),
            Box::new(move |result| told.send((n, result)).unwrap()),
        );
    }
    faults.plan(&[Fault::Lost]);
    go.send(()).unwrap();
    let failed: Vec<u64> = (3..=6)
        .map(|_| outcomes.recv().unwrap())
        .filter_map(|(n, result)| matches!(result, Err(LogError::Unknown(_))).then_some(n))
        .collect();
    assert_eq!(failed, [3, 4, 5, 6]);
    assert_eq!(log.commit(Append::new(vec![draft("a", 7, b"x")])).await.unwrap().last, 3);
    log.close().await.unwrap();
}

#[tokio::test]
async fn in_interval_mode_an_acknowledgement_says_so_and_the_disk_follows() {
    let folder = tempfile::tempdir().unwrap();
    let (log, faults) = open(folder.path(), Mode::Interval(Duration::from_millis(5)));
    let receipt = log.commit(Append::new(vec![draft("a", 1, b"one")])).await.unwrap();
    assert!(!receipt.durable);
    let durable = async || log.commit(Append::default()).await.unwrap().durable;
    tokio::time::timeout(Duration::from_secs(30), async {
        while !durable().await {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("it is synced by itself");
    // What must be durable waits for the disk whatever the mode.
    let sync = Append { durability: Durability::Sync, ..Append::new(vec![draft("a", 2, b"two")]) };
    assert!(log.commit(sync).await.unwrap().durable);
    // A sync that nobody waits for fails: the log is opened anew, all it had is there, and its dependants start again.
    let mut failures = log.failures();
    failures.mark_unchanged();
    faults.plan(&[Fault::Lost]);
    log.commit(Append::new(vec![draft("a", 3, b"three")])).await.unwrap();
    tokio::time::timeout(Duration::from_secs(30), failures.changed()).await.expect("it is noticed").unwrap();
    assert_eq!(faults.left(), 0);
    let receipt = log.commit(Append::new(vec![draft("a", 3, b"three")])).await.unwrap();
    assert!(receipt.duplicate, "the file had it");
    assert!(log.verify(None).unwrap().is_clean());
    log.close().await.unwrap();
}

#[tokio::test]
async fn a_full_disk_is_no_unknown_and_goes_on_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let (log, faults) = open(folder.path(), Mode::Sync);
    faults.plan(&[Fault::Full]);
    let append = Append::new(vec![draft("a", 1, b"one")]);
    assert!(matches!(log.commit(append.clone()).await, Err(LogError::Full(_))));
    assert!(!log.commit(append).await.unwrap().duplicate);
    log.close().await.unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 40, ..ProptestConfig::default() })]
    /// Whatever fails in whatever order: who retries by id until it is answered finds every event once and in order.
    #[test]
    fn retries_by_id_make_any_failures_good(
        plan in prop::collection::vec(
            prop_oneof![3 => Just(Fault::None), 1 => Just(Fault::Lost), 1 => Just(Fault::Written), 1 => Just(Fault::Full)], 0..12),
        events in 1..12_u64,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let folder = tempfile::tempdir().unwrap();
            let (log, faults) = open(folder.path(), Mode::Sync);
            faults.plan(&plan);
            for n in 1..=events {
                let append = Append::new(vec![draft("a", n, &n.to_le_bytes())]);
                let tries = plan.len() + 1;
                let mut outcome = log.commit(append.clone()).await;
                for _ in 0..tries {
                    if outcome.is_ok() {
                        break;
                    }
                    outcome = log.commit(append.clone()).await;
                }
                assert_eq!(outcome.unwrap().last, n);
            }
            let records = log.reader().read(0, 100).unwrap();
            let payloads: Vec<_> = records.iter().map(|record| record.draft.payload.clone()).collect();
            assert_eq!(payloads, (1..=events).map(|n| n.to_le_bytes().to_vec()).collect::<Vec<_>>());
            assert!(log.verify(None).unwrap().is_clean());
            // Closing may fail with what is left of the plan; opening then settles it.
            let _ = log.close().await;
            let (log, report) = LogHandle::open(folder.path(), Options::default()).unwrap();
            assert_eq!(report.head, events);
            log.close().await.unwrap();
        });
    }
}
