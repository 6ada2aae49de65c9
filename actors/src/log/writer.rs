//! The one writer: a thread that drains the queue, gives every event its place, writes the group with one sync and answers.
//!
//! Group commit needs no timer: while one group is being synced the next one gathers in the queue. What fails to be
//! written is settled by opening the store anew and looking: either the group is there, or nothing of it is.

use super::anchor::Mark;
use super::frame::{self, GENESIS, Hash, Place};
use super::group::{Group, Ids, Known, Outcome};
use super::open::{Opened, Opener};
use super::prepared::Prepared;
use super::reader::Slot;
use super::store::{Entry, Store, StoreError, disk};
use super::{Append, Durability, Expected, Mode, OpenReport, Options, Reply, STREAM_NAME_MAX};
use athena_schemas::envelope::{Draft, Seq};
use athena_schemas::ports::LogError;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// A group holds at most this many events …
const GROUP_EVENTS_MAX: usize = 512;
/// … or this many bytes of payload, whichever comes first.
const GROUP_BYTES_MAX: usize = 1 << 20;
/// Heads of streams kept in memory; beyond it, all are forgotten and read again.
const STREAMS_MAX: usize = 16_384;
/// The anchor is synced at most this long after it was written.
const ANCHOR_SYNC: Duration = Duration::from_secs(1);

/// Called when the writer has ended or failed to end cleanly.
pub(crate) type Closed = Box<dyn FnOnce(Result<(), LogError>) + Send>;

/// Hears on the writer's thread how far work has come, done and total: it must not block.
pub(crate) type Heard = Box<dyn FnMut(u64, u64) + Send>;

/// What the queue carries.
pub(crate) enum Message {
    /// Events to record.
    Append(Waiting, Reply),
    /// What takes the place of frames whose payload is dropped.
    Drop(Vec<(Seq, Vec<u8>)>, Reply),
    /// Small facts to keep.
    Meta(Vec<(Vec<u8>, Option<Vec<u8>>)>, Reply),
    /// Rewrite what is kept, on this thread.
    Compact(Heard, Closed),
    /// Write out everything and end.
    Close(Closed),
}

/// An append as its caller's thread made it ready.
pub(crate) struct Waiting {
    events: Vec<Prepared>,
    expected: Expected,
    durability: Durability,
}

impl Waiting {
    /// Makes an append ready.
    ///
    /// # Errors
    /// As [`Prepared::new`].
    pub(crate) fn new(append: Append) -> Result<Self, LogError> {
        let Append { drafts, expected, durability } = append;
        let events = drafts.into_iter().map(Prepared::new).collect::<Result<_, _>>();
        Ok(Self { events: events.map_err(LogError::Limit)?, expected, durability })
    }
}

impl Message {
    /// Answers without doing anything.
    pub(crate) fn refuse(self, error: &LogError) {
        match self {
            Self::Append(_, reply) | Self::Drop(_, reply) | Self::Meta(_, reply) => {
                answer(reply, Err(error.clone()))
            }
            Self::Compact(_, closed) | Self::Close(closed) => closed(Err(error.clone())),
        }
    }

    /// Events and bytes it adds to a group.
    fn weight(&self) -> (usize, usize) {
        match self {
            Self::Append(append, _) => {
                (append.events.len(), append.events.iter().map(|event| event.size).sum())
            }
            Self::Drop(stubs, _) => (stubs.len(), 0),
            _ => (1, 0),
        }
    }
}

/// Where a stream is.
#[derive(Debug, Clone, Copy)]
struct StreamHead {
    /// Its name as the index has it: hashed once, not with every event.
    key: [u8; 16],
    version: u64,
    leaf: Hash,
}

/// The writer's state. Everything in it can be read from the store again.
pub(crate) struct Writer {
    opener: Opener,
    mode: Mode,
    slot: Arc<Slot>,
    head: watch::Sender<Seq>,
    /// `None` while the store cannot be opened.
    opened: Option<Opened>,
    streams: HashMap<String, StreamHead>,
    /// The map of the group before, whose room serves the next one.
    ids: Ids,
    /// When what was written without a sync must be synced.
    sync_due: Option<Instant>,
    anchor_due: Option<Instant>,
    /// The disk was full: try a probe before the next write.
    full: bool,
}

impl Writer {
    /// Opens the store.
    pub(crate) fn open(
        mut opener: Opener,
        options: &Options,
        slot: Arc<Slot>,
    ) -> Result<(Self, watch::Receiver<Seq>, OpenReport), LogError> {
        let (_, (opened, report)) =
            slot.replace(|| opener.open().map(|(o, r)| (Arc::clone(&o.store), (o, r))))?;
        let (head, seen) = watch::channel(report.head);
        let writer = Self {
            opener,
            mode: options.mode,
            slot,
            head,
            opened: Some(opened),
            streams: HashMap::new(),
            ids: Ids::default(),
            sync_due: None,
            anchor_due: None,
            full: false,
        };
        Ok((writer, seen, report))
    }

    /// Works until the queue is gone or a close arrives.
    pub(crate) fn run(mut self, queue: &Receiver<Message>) {
        let mut closing = None;
        while closing.is_none() {
            let Some(first) = self.wait(queue) else { break };
            let (mut events, mut bytes) = first.weight();
            let mut messages = vec![first];
            while events < GROUP_EVENTS_MAX && bytes < GROUP_BYTES_MAX {
                let Ok(next) = queue.try_recv() else { break };
                let (more_events, more_bytes) = next.weight();
                events += more_events;
                bytes += more_bytes;
                messages.push(next);
            }
            closing = self.handle(messages);
        }
        for message in queue.try_iter() {
            message.refuse(&LogError::Closed);
        }
        let result = self.end();
        if let Some(closed) = closing {
            closed(result);
        }
    }

    /// The next message; meanwhile syncs what is due. `None` when no handle is left.
    fn wait(&mut self, queue: &Receiver<Message>) -> Option<Message> {
        loop {
            let due = [self.sync_due, self.anchor_due].into_iter().flatten().min();
            let Some(due) = due else { return queue.recv().ok() };
            match queue.recv_timeout(due.saturating_duration_since(Instant::now())) {
                Ok(message) => return Some(message),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => self.sync_what_is_due(),
            }
        }
    }

    fn sync_what_is_due(&mut self) {
        let now = Instant::now();
        if self.sync_due.is_some_and(|due| due <= now) {
            self.sync_due = None;
            // Nobody waits for this one: a failure shows in the next append, which opens the store anew.
            if let Err(error) = self.sync() {
                tracing::error!(%error, "the log could not be synced");
            }
        }
        if self.anchor_due.is_some_and(|due| due <= now) {
            self.anchor_due = None;
            if let Some(anchor) = self.opened.as_mut().and_then(|opened| opened.anchor.as_mut()) {
                anchor.sync();
            }
        }
    }

    /// Handles messages in order; appends between two others form a group. Answers the close, if one came.
    fn handle(&mut self, messages: Vec<Message>) -> Option<Closed> {
        let mut group = Group::over(std::mem::take(&mut self.ids));
        let mut closing = None;
        for message in messages {
            match message {
                _ if closing.is_some() => message.refuse(&LogError::Closed),
                Message::Append(append, reply) => self.join(&mut group, append, reply),
                Message::Meta(facts, reply) => {
                    group.batch.meta.extend(facts);
                    self.join_unplaced(&mut group, reply, false);
                }
                Message::Drop(stubs, reply) => {
                    group.batch.stubs.extend(stubs);
                    self.join_unplaced(&mut group, reply, true);
                }
                Message::Compact(mut told, closed) => {
                    self.commit(std::mem::take(&mut group));
                    closed(self.compact(&mut *told));
                }
                Message::Close(closed) => closing = Some(closed),
            }
        }
        self.commit(group);
        closing
    }

    /// Something that takes no place of its own in the log: its answer names the head.
    fn join_unplaced(&self, group: &mut Group, reply: Reply, sync: bool) {
        let head = group.last().unwrap_or_else(|| self.last());
        group.outcomes.push((reply, Outcome::Placed { first: head, last: head, sync }));
    }

    /// Nothing is being appended meanwhile, so a large payload that no event names never will be.
    fn compact(&self, told: &mut dyn FnMut(u64, u64)) -> Result<(), LogError> {
        let store = self.store()?;
        store.compact(told)?;
        match store.sweep()? {
            0 => {}
            removed => tracing::info!(removed, "large payloads that no event names were removed"),
        }
        Ok(())
    }

    fn store(&self) -> Result<Arc<dyn Store>, LogError> {
        self.opened.as_ref().map(|opened| Arc::clone(&opened.store)).ok_or(LogError::Closed)
    }

    fn last(&self) -> Seq {
        self.opened.as_ref().map_or(0, |opened| opened.head)
    }

    /// Checks an append and gives its events their places in the group; a refused one leaves the group as it was.
    fn join(&mut self, group: &mut Group, append: Waiting, reply: Reply) {
        let outcome = match self.ready(&append).and_then(|()| self.place(group, append)) {
            Ok(outcome) => outcome,
            Err(error) => Outcome::Refused(error),
        };
        group.outcomes.push((reply, outcome));
    }

    /// Sees to it that the store can be written: opens it where it is not open, probes where the disk was full.
    fn ready(&mut self, append: &Waiting) -> Result<(), LogError> {
        if self.opened.is_none() {
            self.reopen()?;
        }
        if self.full && !append.events.is_empty() {
            let bytes = append.events.iter().map(|event| event.size + 1024).sum();
            if !self.store()?.has_room(bytes) {
                return Err(LogError::Full("there was no room, and there still is none".into()));
            }
            self.full = false;
        }
        Ok(())
    }

    fn place(&mut self, group: &mut Group, append: Waiting) -> Result<Outcome, LogError> {
        let sync = match append.durability {
            Durability::Sync => true,
            Durability::Buffered => false,
            Durability::Default => self.mode == Mode::Sync && !append.events.is_empty(),
        };
        let store = self.store()?;
        let Some(first) = append.events.first() else {
            let head = group.last().unwrap_or_else(|| self.last());
            return Ok(Outcome::Placed { first: head, last: head, sync });
        };
        check_limits(&append, store.caps().max_event, store.caps().max_batch)?;
        if let Some(known) = self.known(&*store, group, &append.events)? {
            return Ok(Outcome::Known { known, sync });
        }
        let head = self.stream_head(&*store, &first.stream)?;
        let fits = match append.expected {
            Expected::Any => true,
            Expected::NoStream => head.version == 0,
            Expected::Exists => head.version > 0,
            Expected::At(version) => head.version == version,
        };
        if !fits {
            return Err(LogError::Conflict { stream: first.stream.clone(), actual: head.version });
        }
        // On disk before the frames that name them.
        for (blob, payload) in append.events.iter().filter_map(|event| event.blob.as_ref()) {
            store.put_blob(&blob.hash, payload)?;
        }
        let from = group.batch.events.len();
        let placed = self.encode(&*store, group, append.events, head, sync);
        if placed.is_err() {
            group.batch.events.truncate(from);
        }
        placed
    }

    /// Whether all of the drafts were recorded before, under their ids and with the same content.
    fn known(
        &self,
        store: &dyn Store,
        group: &Group,
        events: &[Prepared],
    ) -> Result<Option<Known>, LogError> {
        let mut positions = Vec::new();
        let mut pending = false;
        for event in events {
            let bytes = match group.find(event.id) {
                Some(entry) => {
                    pending = true;
                    Some((entry.seq, entry.frame.to_vec()))
                }
                None => match store.position(&event.id)? {
                    Some(seq) => store.frame(seq)?.map(|bytes| (seq, bytes)),
                    None => None,
                },
            };
            let Some((seq, bytes)) = bytes else { continue };
            let frame = frame::decode(&bytes)
                .map_err(|cause| LogError::Damaged(format!("position {seq}: {cause}")))?;
            if !same_content(&frame, &event.draft().map_err(LogError::Limit)?) {
                return Err(LogError::IdReused(event.id));
            }
            positions.push((event.id, seq));
        }
        match (positions.first(), positions.last()) {
            (Some((_, first)), Some((_, last))) if positions.len() == events.len() => {
                Ok(Some(Known { first: *first, last: *last, pending }))
            }
            // Part of a batch was recorded before, so the batch is another one.
            (Some((id, _)), _) => Err(LogError::IdReused(*id)),
            _ if repeats(events) => Err(LogError::Limit("an event id occurs twice in one batch".into())),
            _ => Ok(None),
        }
    }

    /// Gives events their places; `head` is where the stream of the first one stands. After an error some of them may have been
    /// added to the batch.
    fn encode(
        &mut self,
        store: &dyn Store,
        group: &mut Group,
        mut events: Vec<Prepared>,
        head: StreamHead,
        sync: bool,
    ) -> Result<Outcome, LogError> {
        let opened = self.opened.as_ref().ok_or(LogError::Closed)?;
        let (mut seq, mut chain) = group.tail.unwrap_or((opened.head, opened.chain));
        let (first, from) = (seq + 1, group.batch.events.len());
        // Nearly always all of them are of one stream, so the others are for a map and this one is not.
        let mut current: Option<(&str, StreamHead)> = None;
        let mut heads: HashMap<&str, StreamHead> = HashMap::new();
        for event in &mut events {
            let Prepared { stream, id, unplaced, .. } = event;
            let head = match current {
                None => head,
                Some((same, head)) if same == stream => head,
                Some((other, left)) => {
                    heads.insert(other, left);
                    match heads.get(stream.as_str()) {
                        Some(head) => *head,
                        None => self.stream_head(store, stream)?,
                    }
                }
            };
            seq += 1;
            let place = Place { seq, version: head.version + 1, previous: head.leaf, chain };
            let encoded = std::mem::take(unplaced).place(&place).map_err(LogError::Limit)?;
            chain = encoded.chain;
            let head = StreamHead { version: place.version, leaf: encoded.leaf, ..head };
            current = Some((stream, head));
            let (stream, version) = (head.key, head.version);
            group.batch.events.push(Entry { seq, stream, version, id: *id, frame: encoded.bytes });
        }
        // Nothing can fail from here on, so the group stays whole.
        for (stream, head) in heads.into_iter().chain(current) {
            match self.streams.get_mut(stream) {
                Some(known) => *known = head,
                None => drop(self.streams.insert(stream.into(), head)),
            }
        }
        group.added(from, (seq, chain));
        Ok(Outcome::Placed { first, last: seq, sync })
    }

    /// Where a stream is, counting what is in the group that is being formed.
    fn stream_head(&mut self, store: &dyn Store, stream: &str) -> Result<StreamHead, LogError> {
        if let Some(head) = self.streams.get(stream) {
            return Ok(*head);
        }
        let key = frame::stream_key(stream);
        let head = match store.stream_last(&key)? {
            None => StreamHead { key, version: 0, leaf: GENESIS },
            Some((version, seq)) => {
                let damaged = |cause: String| LogError::Damaged(format!("position {seq}: {cause}"));
                let bytes = store.frame(seq)?.ok_or_else(|| damaged("it is missing from the log".into()))?;
                StreamHead { key, version, leaf: frame::hashes(&bytes).map_err(damaged)?.0 }
            }
        };
        self.streams.insert(stream.into(), head);
        Ok(head)
    }

    /// Writes a group, publishes its head, answers everyone.
    fn commit(&mut self, mut group: Group) {
        if group.outcomes.is_empty() {
            return;
        }
        let sync = group.outcomes.iter().any(|(_, outcome)| outcome.wants_sync());
        let written = self.write(&mut group, sync);
        if written.is_err() {
            // Heads of streams may count events that were not recorded.
            self.streams.clear();
        } else if self.streams.len() > STREAMS_MAX {
            self.streams.clear();
        }
        let durable = self.sync_due.is_none() && self.opened.as_ref().is_some_and(|o| o.synced == o.head);
        for (reply, outcome) in group.outcomes {
            answer(reply, outcome.result(&written, durable));
        }
        self.ids = group.ids;
    }

    fn write(&mut self, group: &mut Group, sync: bool) -> Result<(), LogError> {
        if group.batch.is_empty() {
            return if sync { self.sync() } else { Ok(()) };
        }
        if let Some(opened) = &self.opened {
            let synced = opened.synced.to_be_bytes().to_vec();
            group.batch.meta.push((disk::SYNCED_KEY.to_vec(), Some(synced)));
        }
        self.write_or_settle(group, sync)?;
        if let (Some(opened), Some((seq, chain))) = (&mut self.opened, group.tail) {
            (opened.head, opened.chain) = (seq, chain);
        }
        self.written(sync);
        self.head.send_if_modified(|head| {
            let last = group.last().unwrap_or(*head);
            std::mem::replace(head, last) != last
        });
        Ok(())
    }

    /// Notes what is durable now and what will have to be synced.
    fn written(&mut self, sync: bool) {
        let Some(opened) = &mut self.opened else { return };
        let now = Instant::now();
        if sync {
            opened.synced = opened.head;
            self.sync_due = None;
        } else if let Mode::Interval(at_most) = self.mode {
            self.sync_due.get_or_insert(now + at_most);
        } else if self.mode == Mode::Sync {
            // Recorded without waiting: still on disk soon, whether or not a synced append follows.
            self.sync_due.get_or_insert(now + ANCHOR_SYNC);
        }
        if let Some(anchor) = &mut opened.anchor {
            anchor.write(&Mark { head: opened.head, chain: opened.chain, synced: opened.synced });
            self.anchor_due.get_or_insert(now + ANCHOR_SYNC);
        }
    }

    fn sync(&mut self) -> Result<(), LogError> {
        let store = self.store()?;
        if self.opened.as_ref().is_some_and(|opened| opened.synced == opened.head) {
            return Ok(());
        }
        match store.sync() {
            Ok(()) => {
                self.written(true);
                Ok(())
            }
            Err(error) => {
                drop(store);
                self.reopen()?;
                // What had been acknowledged without a sync may be gone, and others have built on it.
                self.slot.fail();
                Err(LogError::Unknown(error.to_string()))
            }
        }
    }

    /// Writes the group. After a failure the store is opened anew, and what it then holds decides the answer.
    fn write_or_settle(&mut self, group: &Group, sync: bool) -> Result<(), LogError> {
        let before = self.last();
        let mut retried = false;
        loop {
            let Err(error) = self.store()?.commit(&group.batch, sync) else { return Ok(()) };
            tracing::error!(%error, "the log could not be written; opening it anew");
            self.reopen().map_err(|reopening| LogError::Unknown(format!("{error}; {reopening}")))?;
            let recorded = group.tail.is_some_and(|(seq, _)| self.last() >= seq);
            match error {
                // A write that failed and is there all the same was completed on closing, and opening synced it.
                StoreError::Full(_) if recorded => return Ok(()),
                StoreError::Full(text) if self.last() == before => {
                    self.full = true;
                    return Err(LogError::Full(text));
                }
                // Refused before anything was written, because of an earlier failure in the background.
                StoreError::Poisoned if !retried && self.last() == before => retried = true,
                other => {
                    self.slot.fail();
                    return Err(LogError::Unknown(other.to_string()));
                }
            }
        }
    }

    /// Drops every handle on the store and opens it anew, with all checks of an opening.
    fn reopen(&mut self) -> Result<(), LogError> {
        self.opened = None;
        self.streams.clear();
        self.sync_due = None;
        let opener = &mut self.opener;
        let (_, (opened, report)) =
            self.slot.replace(|| opener.open().map(|(o, r)| (Arc::clone(&o.store), (o, r))))?;
        self.opened = Some(opened);
        self.head.send_if_modified(|head| std::mem::replace(head, report.head) != report.head);
        Ok(())
    }

    /// Syncs, writes out memory and lets go of the files.
    fn end(mut self) -> Result<(), LogError> {
        let mut result = self.sync();
        if let Some(mut opened) = self.opened.take() {
            result = result.and(opened.store.flush().map_err(LogError::from));
            if let Some(anchor) = &mut opened.anchor {
                anchor.sync();
            }
        }
        self.slot.close();
        result.and_then(|()| self.opener.tidy())
    }
}

/// Answers a caller; what its callback panics with is not the writer's end.
fn answer(reply: Reply, result: Result<super::Receipt, LogError>) {
    if catch_unwind(AssertUnwindSafe(|| reply(result))).is_err() {
        tracing::error!("a caller of the log panicked over its answer");
    }
}

fn check_limits(append: &Waiting, event_max: usize, batch_max: usize) -> Result<(), LogError> {
    let events = &append.events;
    if events.len() > batch_max {
        return Err(LogError::Limit(format!("{} events at once; at most {batch_max}", events.len())));
    }
    let first = events.first().map_or("", |event| event.stream.as_str());
    if append.expected != Expected::Any && events.iter().any(|event| event.stream != first) {
        return Err(LogError::Limit("an expected version needs all events to be of one stream".into()));
    }
    for event in events {
        if event.size > event_max {
            let size = event.size;
            return Err(LogError::Limit(format!("an event of {size} bytes; at most {event_max}")));
        }
        if event.stream.is_empty() || event.stream.len() > STREAM_NAME_MAX {
            return Err(LogError::Limit(format!("a stream's name has 1 to {STREAM_NAME_MAX} bytes")));
        }
    }
    Ok(())
}

/// Whether a recorded event says the same as a draft. Its time may differ: a retry is decided again, later.
fn same_content(frame: &frame::Frame, draft: &Draft) -> bool {
    let (old, new) = (&frame.record.draft, draft);
    let payload = match &frame.named {
        Some(blob) => blob.hash == *blake3::hash(&new.payload).as_bytes(),
        None if frame.stub => fills(frame, &new.payload),
        None => old.payload == new.payload,
    };
    let (a, b) = (&old.meta, &new.meta);
    payload
        && (&old.stream, old.kind, old.schema) == (&new.stream, new.kind, new.schema)
        && (&a.scope, &a.author, a.command, &a.run, &a.key)
            == (&b.scope, &b.author, b.command, &b.run, &b.key)
}

/// Whether this is the payload that was dropped from a stub: with it, the leaf is made again.
fn fills(stub: &frame::Frame, payload: &[u8]) -> bool {
    let record = &stub.record;
    let place = Place { seq: record.seq, version: record.version, previous: stub.previous, chain: GENESIS };
    let whole = Draft { payload: payload.to_vec(), ..record.draft.clone() };
    frame::encode(&whole, &place, None).is_ok_and(|encoded| encoded.leaf == record.leaf)
}

fn repeats(events: &[Prepared]) -> bool {
    if events.len() < 2 {
        return false;
    }
    let mut ids: Vec<_> = events.iter().map(|event| event.id).collect();
    ids.sort_unstable();
    ids.windows(2).any(|pair| matches!(pair, [a, b] if a == b))
}
