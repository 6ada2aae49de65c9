//! The log, opened and decoded once for all read models.
//!
//! Decoding is dear (a key is derived, a payload deciphered and parsed), and there are a dozen read models. Whoever asks for a page
//! first decodes it; whoever asks meanwhile waits for that. Read models that catch up together are kept within a few pages of each
//! other, or the quick ones would run ahead and the slow ones find that their pages are gone.

use athena_schemas::envelope::{Draft, Record, Seq};
use athena_schemas::event::{Event, is_readable};
use athena_schemas::ports::{LogReader, Projection, ProjectionError, Recorded, Sealer};
use athena_schemas::refusal::{Code, Refusal};
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How many records a page holds at most.
const PAGE: usize = 1_024;

/// How many decoded pages are kept for the projectors that are a little behind.
const PAGES: usize = 8;

/// How far a read model may be ahead of one that catches up with it, in positions: what that one needs next is still kept.
const AHEAD: Seq = (PAGE * (PAGES - 2)) as Seq;

/// How much farther apart two may be before they count as on their ways by themselves: one that is made anew while the others
/// stand near the head holds up nobody.
const COMPANY: Seq = 4 * AHEAD;

/// How long one waits for a slower one before it goes on and decodes for itself.
const PATIENCE: Duration = Duration::from_secs(2);

/// The log, opened and decoded.
pub struct Feed {
    reader: Arc<dyn LogReader>,
    sealer: Arc<dyn Sealer>,
    pages: Mutex<Pages>,
    /// A page was decoded, or somebody came farther or left.
    changed: Condvar,
    closed: AtomicBool,
}

/// Decoded pages, each with the position it follows, and who reads where.
#[derive(Default)]
struct Pages {
    kept: VecDeque<(Seq, Arc<[Recorded]>)>,
    /// How often they were forgotten: a page whose decoding began before is not kept any more.
    forgotten: u64,
    /// The pages that somebody is decoding, by the position they follow.
    decoding: Vec<Seq>,
    /// Where those are that catch up, by their number.
    travellers: BTreeMap<u64, Seq>,
    /// The number of the next one.
    next: u64,
}

impl Pages {
    /// A short page may have grown since: only one that reaches the head of now, or is full, still serves.
    fn fresh(&self, after: Seq, head: Seq) -> Option<Arc<[Recorded]>> {
        let is_whole =
            |page: &[Recorded]| page.len() == PAGE || page.last().is_some_and(|last| last.record.seq >= head);
        self.kept.iter().find(|(at, page)| *at == after && is_whole(page)).map(|(_, page)| Arc::clone(page))
    }

    /// Whether somebody who will want the same pages is too far behind.
    fn leads(&self, at: Seq) -> bool {
        self.travellers.values().any(|other| (AHEAD + 1..COMPANY).contains(&at.saturating_sub(*other)))
    }

    fn keep(&mut self, after: Seq, page: &Arc<[Recorded]>) {
        self.kept.retain(|(at, _)| *at != after);
        if self.kept.len() >= PAGES {
            self.kept.pop_front();
        }
        self.kept.push_back((after, Arc::clone(page)));
    }
}

/// One who catches up; it leaves however its way ends.
struct Traveller<'a> {
    feed: &'a Feed,
    number: u64,
}

impl<'a> Traveller<'a> {
    fn new(feed: &'a Feed, at: Seq) -> Self {
        let mut pages = feed.lock();
        let number = pages.next;
        pages.next += 1;
        pages.travellers.insert(number, at);
        Self { feed, number }
    }

    /// Says how far it has come, and waits, bounded, while others are too far behind.
    fn at(&self, position: Seq) {
        let deadline = Instant::now() + PATIENCE;
        let mut pages = self.feed.lock();
        pages.travellers.insert(self.number, position);
        self.feed.changed.notify_all();
        while pages.leads(position) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = self.feed.changed.wait_timeout(pages, left);
            pages = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Traveller<'_> {
    fn drop(&mut self) {
        self.feed.lock().travellers.remove(&self.number);
        self.feed.changed.notify_all();
    }
}

/// A page that this one is decoding; however that ends, others need not wait any more.
struct Decoding<'a> {
    feed: &'a Feed,
    after: Seq,
}

impl Drop for Decoding<'_> {
    fn drop(&mut self) {
        self.feed.lock().decoding.retain(|at| *at != self.after);
        self.feed.changed.notify_all();
    }
}

impl Feed {
    /// A feed over a log.
    pub fn new(reader: Arc<dyn LogReader>, sealer: Arc<dyn Sealer>) -> Self {
        Self {
            reader,
            sealer,
            pages: Mutex::default(),
            changed: Condvar::new(),
            closed: AtomicBool::new(false),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The log's head.
    pub fn head(&self) -> Seq {
        self.reader.head()
    }

    /// Lets nobody go on: whoever is in the middle of a long way ends after its page.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// Forgets the pages it keeps: something in them was erased.
    pub fn forget(&self) {
        let mut pages = self.lock();
        pages.kept.clear();
        pages.forgotten += 1;
        // Whoever asks from now on does not wait for one who may have read with a key that is destroyed.
        pages.decoding.clear();
        drop(pages);
        self.changed.notify_all();
    }

    /// The next page after a position; empty at the head.
    ///
    /// # Errors
    /// When the disk fails, or an event is of a kind or version this build does not know.
    pub fn page(&self, after: Seq) -> Result<Arc<[Recorded]>, Refusal> {
        let head = self.reader.head();
        let mut pages = self.lock();
        loop {
            if let Some(page) = pages.fresh(after, head) {
                return Ok(page);
            }
            if !pages.decoding.contains(&after) {
                break;
            }
            pages = self.changed.wait(pages).unwrap_or_else(PoisonError::into_inner);
        }
        pages.decoding.push(after);
        let forgotten = pages.forgotten;
        drop(pages);
        let _decoding = Decoding { feed: self, after };
        let page: Arc<[Recorded]> = self
            .reader
            .read(after, PAGE)?
            .into_iter()
            .map(|record| self.decode(record))
            .collect::<Result<Vec<_>, _>>()?
            .into();
        let mut pages = self.lock();
        // What was opened with a key that has been destroyed since must not be handed to a rebuild that comes later.
        if pages.forgotten == forgotten {
            pages.keep(after, &page);
        }
        drop(pages);
        Ok(page)
    }

    /// A payload that cannot be opened or read is passed over, counted and reported: one bad event must not stop the rest.
    /// A *kind* that is unknown is another matter: the log was written by a newer build, and to go on would be to lie.
    fn decode(&self, record: Record) -> Result<Recorded, Refusal> {
        let Draft { kind, schema, .. } = record.draft;
        if !is_readable(kind, schema) {
            let what = format!(
                "position {}: kind {:#06x} version {schema} was written by a newer build",
                record.seq, kind.0
            );
            return Err(
                Refusal::new(Code::Integrity, what).hint("use the newer athena that wrote this store")
            );
        }
        let event = record.event::<Event>(&*self.sealer).unwrap_or_else(|refusal| {
            metrics::counter!("athena_projection_parked_events_total").increment(1);
            tracing::error!(seq = record.seq, %refusal, "an event could not be read and was passed over");
            None
        });
        Ok(Recorded { record: Arc::new(record), event })
    }

    /// Applies all that a projection has not seen, page by page, up to `until`.
    ///
    /// # Errors
    /// When the log cannot be read or the projection's store fails; [`Code::Unavailable`] when it was closed.
    pub fn drive(
        &self,
        projection: &mut dyn Projection,
        until: Seq,
        mut progress: impl FnMut(Seq),
    ) -> Result<(), Refusal> {
        let traveller = Traveller::new(self, projection.position());
        while projection.position() < until {
            if self.closed.load(Ordering::Acquire) {
                return Err(Refusal::new(Code::Unavailable, "the store is closing").hint("open it again"));
            }
            traveller.at(projection.position());
            let page = self.page(projection.position())?;
            if page.is_empty() {
                break;
            }
            let wanted = page.partition_point(|recorded| recorded.record.seq <= until);
            projection.apply(page.get(..wanted).unwrap_or(&page)).map_err(failed)?;
            progress(projection.position());
        }
        Ok(())
    }
}

/// What a read model's failure is to whoever waits for it.
pub(crate) fn failed(error: ProjectionError) -> Refusal {
    Refusal::new(Code::Unavailable, error.to_string()).hint("athena replay --verify; athena doctor")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::testing::draft;
    use crate::log::{Append, Location, LogHandle, Options};
    use athena_schemas::envelope::Kind;
    use athena_schemas::ports::{Opened, same};
    use std::sync::atomic::AtomicUsize;
    use std::sync::mpsc;

    /// An unknown kind that may be ignored: its payload is opened all the same.
    const IGNORABLE: Kind = Kind(0xff01);

    async fn log_of(count: u32, kind: Kind) -> LogHandle {
        let log = LogHandle::open(Location::Memory, Options::default()).unwrap().0;
        for from in (0..count).step_by(256) {
            let numbers = from..count.min(from + 256);
            let drafts = numbers.map(|n| Draft { kind, ..draft("test", n.into(), b"") }).collect();
            log.commit(Append::new(drafts)).await.unwrap();
        }
        log
    }

    /// Opens payloads when told to, and counts.
    #[derive(Default)]
    struct Gate {
        entered: Mutex<Option<mpsc::SyncSender<()>>>,
        leave: Mutex<Option<mpsc::Receiver<()>>>,
        opened: AtomicUsize,
    }

    impl Gate {
        /// One that says when the first payload is to be opened, and waits until it may be.
        fn shut() -> (Arc<Self>, mpsc::Receiver<()>, mpsc::SyncSender<()>) {
            let (entered, has_entered) = mpsc::sync_channel(1);
            let (may_leave, leave) = mpsc::sync_channel(1);
            let gate = Self {
                entered: Mutex::new(Some(entered)),
                leave: Mutex::new(Some(leave)),
                opened: AtomicUsize::default(),
            };
            (Arc::new(gate), has_entered, may_leave)
        }

        fn opened(&self) -> usize {
            self.opened.load(Ordering::SeqCst)
        }
    }

    impl Sealer for Gate {
        fn seal(&self, draft: Draft) -> Result<Draft, Refusal> {
            Ok(draft)
        }

        fn open(&self, draft: &Draft) -> Result<Opened, Refusal> {
            if let Some(entered) = self.entered.lock().unwrap().take() {
                entered.send(()).unwrap();
                self.leave.lock().unwrap().take().unwrap().recv().unwrap();
            }
            self.opened.fetch_add(1, Ordering::SeqCst);
            Ok(Opened::Plain(draft.payload.clone()))
        }
    }

    /// An erasure forgets the pages while somebody is decoding one with the keys there were: it is not kept for others.
    #[tokio::test]
    async fn a_page_whose_decoding_began_before_an_erasure_is_not_shared_after_it() {
        let log = log_of(3, IGNORABLE).await;
        let (gate, has_entered, may_leave) = Gate::shut();
        let feed = Arc::new(Feed::new(log.reader(), gate.clone()));
        let slow = std::thread::spawn({
            let feed = feed.clone();
            move || feed.page(0).unwrap().len()
        });
        has_entered.recv().unwrap();
        feed.forget();
        may_leave.send(()).unwrap();
        assert_eq!((slow.join().unwrap(), gate.opened()), (3, 3));
        feed.page(0).unwrap();
        assert_eq!(gate.opened(), 6, "decoded anew");
        feed.page(0).unwrap();
        assert_eq!(gate.opened(), 6, "and that one is kept");
    }

    #[tokio::test]
    async fn a_log_of_a_newer_build_is_refused() {
        let log = log_of(1, Kind(0x7f01)).await;
        let feed = Feed::new(log.reader(), Arc::new(Gate::default()));
        assert_eq!(feed.page(0).unwrap_err().code, Code::Integrity);
    }

    /// Two ask for a page at once: one decodes it, the other waits for that.
    #[tokio::test]
    async fn a_page_that_is_being_decoded_is_waited_for() {
        let log = log_of(3, IGNORABLE).await;
        let (gate, has_entered, may_leave) = Gate::shut();
        let feed = Feed::new(log.reader(), gate.clone());
        std::thread::scope(|scope| {
            let one = scope.spawn(|| feed.page(0).unwrap().len());
            has_entered.recv().unwrap();
            let other = scope.spawn(|| feed.page(0).unwrap().len());
            may_leave.send(()).unwrap();
            assert_eq!((one.join().unwrap(), other.join().unwrap()), (3, 3));
        });
        assert_eq!(gate.opened(), 3);
    }

    /// Takes nothing in.
    struct Reader {
        position: Seq,
        /// Says that it is on its way and waits until it may go on, once.
        halt: Option<(mpsc::Sender<()>, mpsc::Receiver<()>)>,
    }

    impl Projection for Reader {
        fn name(&self) -> &'static str {
            "reader"
        }

        fn version(&self) -> u32 {
            1
        }

        fn position(&self) -> Seq {
            self.position
        }

        fn apply(&mut self, batch: &[Recorded]) -> Result<(), ProjectionError> {
            if let Some((begun, go)) = self.halt.take() {
                begun.send(()).unwrap();
                go.recv().unwrap();
            }
            self.position = batch.last().unwrap().record.seq;
            Ok(())
        }

        fn flush(&mut self) -> Result<(), ProjectionError> {
            Ok(())
        }

        fn beside(&self) -> Result<Box<dyn Projection>, ProjectionError> {
            Ok(Box::new(Self { position: 0, halt: None }))
        }

        fn adopt(&mut self, built: Box<dyn Projection>) -> Result<(), ProjectionError> {
            *self = *same(built)?;
            Ok(())
        }

        fn digest(&self) -> Result<[u8; 32], ProjectionError> {
            Ok([0; 32])
        }
    }

    #[tokio::test]
    async fn a_quick_read_model_stays_with_a_slow_one_so_that_every_page_is_decoded_once() {
        let events = 3 * AHEAD;
        let log = log_of(events as u32, IGNORABLE).await;
        let gate = Arc::new(Gate::default());
        let feed = Feed::new(log.reader(), gate.clone());
        let (begun, has_begun) = mpsc::channel();
        let (may_go, go) = mpsc::channel();
        let read = |mut reader: Reader, told: &dyn Fn(Seq)| {
            feed.drive(&mut reader, events, told).unwrap();
            assert_eq!(reader.position, events);
        };
        std::thread::scope(|scope| {
            scope.spawn(|| read(Reader { position: 0, halt: Some((begun, go)) }, &|_| ()));
            has_begun.recv().unwrap();
            let quick = Reader { position: 0, halt: None };
            read(quick, &|at| {
                if at == AHEAD {
                    may_go.send(()).unwrap();
                }
            });
        });
        assert_eq!(gate.opened(), events as usize);
    }

    #[test]
    fn only_company_is_waited_for() {
        let travellers = BTreeMap::from([(0, 10 * AHEAD)]);
        let pages = Pages { travellers, ..Pages::default() };
        assert!(!pages.leads(11 * AHEAD), "near enough");
        assert!(pages.leads(11 * AHEAD + 1));
        assert!(!pages.leads(10 * AHEAD + COMPANY), "on a way of its own");
        assert!(!pages.leads(9 * AHEAD), "ahead of this one");
    }
}
