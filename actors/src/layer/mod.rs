//! The one generic actor behind the memory layers: barrier, replay, decide, evolve, seal, append.
//!
//! The reply travels with the events: the layer hands them to the log and takes its next command; whoever called is answered
//! by the log's writer once they are on disk. Three rules keep that honest:
//!
//! * **Barrier before replay.** A predecessor may have died with appends in the log's queue; a replay that did not wait for
//!   them would decide on a state that lacks them.
//! * **`catch_unwind` round `decide` only.** It takes `&State`, so a panic cannot have spoilt it: the one command is refused
//!   and its neighbours in the mailbox live.
//! * **A failed append spoils the state**, which has evolved already: the layer replays before it decides again.

mod recent;

use self::recent::{Recent, Remembered};
use crate::decider::Decider;
use crate::handle::Slot;
use crate::log::{Append, Durability, Expected, LogHandle};
use athena_schemas::context::Context;
use athena_schemas::envelope::{Draft, Meta, Record, Seq};
use athena_schemas::operation::Decision;
use athena_schemas::ports::{Answer, LogError, LogReader, Sealer};
use athena_schemas::refusal::{Code, Refusal};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use serde_json::Value;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// How many records a replay reads at once.
const PAGE: usize = 1_024;

/// A snapshot of the state is written after this many events since the last one, or an eighth of all, whichever is more:
/// what snapshots cost stays in proportion to what happens, and what a start replays to what it would without them.
const SNAPSHOT_EVERY: u64 = 50_000;
const SNAPSHOT_SHARE: u64 = 8;

/// On an orderly close one is worth writing after this many, or a hundredth of all.
const SNAPSHOT_ON_CLOSE: u64 = 1_000;
const SNAPSHOT_SHARE_ON_CLOSE: u64 = 100;

/// Where an answer goes.
pub type Reply = oneshot::Sender<Result<Answer, Refusal>>;

/// What a layer is sent.
pub enum LayerMessage<D: Decider> {
    /// A command, with its admission permit: held until the command has left the mailbox, which bounds all mailboxes at once.
    Decide(Box<Context>, D::Command, Reply, Option<OwnedSemaphorePermit>),
    /// Answers with the serialized state: for digests and tests.
    Inspect(oneshot::Sender<Vec<u8>>),
    /// Shows the state to one who needs a little of it; the mailbox waits meanwhile.
    Look(Box<dyn FnOnce(&D) + Send>),
    /// Something was erased: no snapshot and no remembered answer from before may stay; with `replay`, the state is folded
    /// from the log anew as well.
    Renew {
        /// Whether what was erased is still in the state: a fold of the tombstone took single items out of it, but a scope
        /// that was erased as a whole has no tombstones.
        replay: bool,
        /// Told when it is done.
        done: oneshot::Sender<Result<(), Refusal>>,
    },
}

/// What a layer needs of the house.
pub struct LayerArgs<D: Decider> {
    /// The log.
    pub log: LogHandle,
    /// Seals what it appends.
    pub sealer: Arc<dyn Sealer>,
    /// Where its callers find it.
    pub slot: Slot<LayerMessage<D>>,
    /// Where snapshots of its state are kept; `None` for none.
    pub snapshots: Option<Arc<dyn Snapshots>>,
}

impl<D: Decider> Clone for LayerArgs<D> {
    fn clone(&self) -> Self {
        Self {
            log: self.log.clone(),
            sealer: self.sealer.clone(),
            slot: self.slot.clone(),
            snapshots: self.snapshots.clone(),
        }
    }
}

/// A place for states that are dear to replay. Disposable: whatever it cannot give is replayed.
pub trait Snapshots: Send + Sync {
    /// The newest snapshot of `name` and the stream version it stands at.
    fn load(&self, name: &str, shape: u32) -> Option<(u64, Vec<u8>)>;

    /// Keeps a snapshot. Failure is not an error: the next start replays.
    fn save(&self, name: &str, shape: u32, version: u64, bytes: Vec<u8>);

    /// Removes the snapshot of `name`, and keeps none of a version below `before` from now on.
    ///
    /// # Errors
    /// When the disk fails: the snapshot may still be there.
    fn discard(&self, name: &str, before: u64) -> std::io::Result<()>;
}

/// The generic actor.
pub struct Layer<D>(PhantomData<fn() -> D>);

impl<D> Default for Layer<D> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

/// A running layer.
pub struct Running<D: Decider> {
    state: D,
    /// Version of the layer's stream that the state stands at.
    version: u64,
    snapshot_at: u64,
    args: LayerArgs<D>,
    recent: Recent,
    /// Set by the log's writer when an append failed after the state had evolved.
    spoilt: Arc<AtomicBool>,
}

impl<D: Decider> Actor for Layer<D> {
    type Msg = LayerMessage<D>;
    type State = Running<D>;
    type Arguments = LayerArgs<D>;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        args: LayerArgs<D>,
    ) -> Result<Running<D>, ActorProcessingErr> {
        let mut running = Running {
            state: D::default(),
            version: 0,
            snapshot_at: 0,
            args,
            recent: Recent::default(),
            spoilt: Arc::default(),
        };
        running.replay().await?;
        running.args.slot.fill(myself);
        Ok(running)
    }

    async fn handle(
        &self,
        _: ActorRef<Self::Msg>,
        message: Self::Msg,
        running: &mut Running<D>,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            LayerMessage::Decide(cx, command, reply, permit) => {
                running.mend().await?;
                running.take(*cx, command, reply);
                drop(permit);
            }
            LayerMessage::Inspect(reply) => {
                let _ = reply.send(postcard::to_stdvec(&running.state)?);
            }
            LayerMessage::Look(look) => {
                running.mend().await?;
                look(&running.state);
            }
            LayerMessage::Renew { replay, done } => {
                let discarded = running.renew();
                if replay {
                    running.replay().await?;
                }
                let _ = done.send(discarded);
            }
        }
        Ok(())
    }

    async fn post_stop(
        &self,
        _: ActorRef<Self::Msg>,
        running: &mut Running<D>,
    ) -> Result<(), ActorProcessingErr> {
        // What is still on its way to disk must not stand in a snapshot as if it were there.
        if running.args.log.barrier().await.is_ok()
            && !running.spoilt.load(Ordering::SeqCst)
            && let Some(save) = running.due(SNAPSHOT_ON_CLOSE, SNAPSHOT_SHARE_ON_CLOSE)
        {
            tokio::task::spawn_blocking(save).await?;
        }
        Ok(())
    }
}

impl<D: Decider> Running<D> {
    /// A state that is ahead of the log is forgotten before anything is made of it.
    async fn mend(&mut self) -> Result<(), ActorProcessingErr> {
        if self.spoilt.swap(false, Ordering::SeqCst) {
            self.replay().await?;
        }
        Ok(())
    }

    /// Rebuilds the state from the newest snapshot and the log behind it.
    async fn replay(&mut self) -> Result<(), ActorProcessingErr> {
        self.args.log.barrier().await?;
        let (args, reader) = (self.args.clone(), self.args.log.reader());
        let (state, version, from) = tokio::task::spawn_blocking(move || {
            let (mut version, mut state) = args
                .snapshots
                .as_ref()
                .and_then(|kept| kept.load(D::LAYER, D::SNAPSHOT))
                .and_then(|(version, bytes)| Some((version, postcard::from_bytes::<D>(&bytes).ok()?)))
                .unwrap_or_default();
            let from = version;
            version = fold(&mut state, version, Seq::MAX, &*reader, &*args.sealer)?;
            Ok::<_, Refusal>((state, version, from))
        })
        .await??;
        (self.state, self.version, self.snapshot_at) = (state, version, from);
        Ok(())
    }

    /// Decides one command; its reply goes with the events to the log.
    fn take(&mut self, cx: Context, command: D::Command, reply: Reply) {
        match self.recall(&cx) {
            Ok(None) => {}
            Ok(Some(earlier)) => return earlier.subscribe(reply),
            Err(refusal) => return drop(reply.send(Err(refusal))),
        }
        // `decide` only reads, so a panic in it cannot have spoilt the state.
        let decided = catch_unwind(AssertUnwindSafe(|| self.state.decide(&cx, command))).unwrap_or_else(|_| {
            metrics::counter!("athena_decide_panics_total", "layer" => D::LAYER).increment(1);
            tracing::error!(layer = D::LAYER, command = %cx.command, "a command panicked and was refused");
            Err(Refusal::internal(format!("{}: this command failed inside Athena; nothing was recorded", D::LAYER))
                .hint("athena doctor; the log has the details"))
        });
        let decision = match decided {
            Ok(decision) if decision.events.is_empty() => {
                return drop(reply.send(Ok(Answer { value: decision.answer, seq: None })));
            }
            Ok(decision) => decision,
            Err(refusal) => return drop(reply.send(Err(refusal))),
        };
        match self.drafts(&cx, &decision) {
            Ok(drafts) => self.append(&cx, decision, drafts, reply),
            Err(refusal) => drop(reply.send(Err(refusal))),
        }
    }

    /// The first answer to this command, where it was given before: from memory, else from the log.
    fn recall(&self, cx: &Context) -> Result<Option<Remembered>, Refusal> {
        if let Some(remembered) = self.recent.get(cx.command) {
            return Ok(Some(remembered));
        }
        if !cx.keyed {
            return Ok(None);
        }
        let reader = self.args.log.reader();
        let Some(first) = reader.find(cx.command.event(0))? else { return Ok(None) };
        let record: Option<Record> = reader.read(first - 1, 1)?.pop();
        let body = record.map(|record| record.body(&*self.args.sealer)).transpose()?.flatten();
        let Some(answer) = body.and_then(|body| body.answer) else {
            return Err(Refusal::conflict("this command was done before, and its answer has been erased")
                .hint("use a new idempotency key"));
        };
        let value = serde_json::from_str(&answer).map_err(|error| Refusal::internal(error.to_string()))?;
        // A command's events are appended together: the last one's position is the answer's.
        let mut last = first;
        while reader.find(cx.command.event(event_number(last + 1 - first)))? == Some(last + 1) {
            last += 1;
        }
        Ok(Some(Remembered::done(Answer { value: placed(value, last), seq: Some(last) })))
    }

    /// The decision's events, sealed. The command's answer rides with the first one.
    fn drafts(&self, cx: &Context, decision: &Decision<D::Event, Value>) -> Result<Vec<Draft>, Refusal> {
        let mut answer = cx.keyed.then(|| decision.answer.to_string());
        let mut drafts = Vec::with_capacity(decision.events.len());
        for (n, event) in decision.events.iter().enumerate() {
            let id = cx.command.event(event_number(n as u64));
            let draft = Draft::of(D::LAYER, id, Meta::of(cx), event, answer.take())
                .map_err(|error| Refusal::internal(error.to_string()))?;
            drafts.push(self.args.sealer.seal(draft)?);
        }
        Ok(drafts)
    }

    fn append(
        &mut self,
        cx: &Context,
        decision: Decision<D::Event, Value>,
        drafts: Vec<Draft>,
        reply: Reply,
    ) {
        let meta = Meta::of(cx);
        for event in &decision.events {
            self.state.evolve(&meta, event);
        }
        self.version += drafts.len() as u64;
        let remembered = self.recent.begin(cx.command);
        remembered.subscribe(reply);
        let (spoilt, answer, due) =
            (self.spoilt.clone(), decision.answer, self.due(SNAPSHOT_EVERY, SNAPSHOT_SHARE));
        let done = Box::new(move |outcome: Result<crate::log::Receipt, LogError>| match outcome {
            Ok(receipt) => {
                remembered
                    .settle(Ok(Answer { value: placed(answer, receipt.last), seq: Some(receipt.last) }));
                // All up to this append is on disk, so a snapshot of it may be, too.
                if let Some(save) = due.filter(|_| !spoilt.load(Ordering::SeqCst)) {
                    std::thread::spawn(save);
                }
            }
            Err(error) => {
                spoilt.store(true, Ordering::SeqCst);
                remembered.settle(Err(error.into()));
            }
        });
        self.args
            .log
            .append(Append { drafts, expected: Expected::Any, durability: Durability::Default }, done);
    }

    /// Forgets the snapshots and answers from before an erasure.
    fn renew(&mut self) -> Result<(), Refusal> {
        self.recent = Recent::default();
        let Some(kept) = &self.args.snapshots else { return Ok(()) };
        self.snapshot_at = 0;
        kept.discard(D::LAYER, self.version).map_err(|error| {
            Refusal::new(Code::Unavailable, format!("a snapshot could not be removed: {error}"))
                .hint("remove the folder `snapshots` of the store; it is made anew")
        })
    }

    /// A snapshot to save, where enough has happened since the last one.
    fn due(&mut self, every: u64, share: u64) -> Option<impl FnOnce() + Send + 'static> {
        let enough = every.max(self.version / share);
        let kept = self.args.snapshots.clone().filter(|_| self.version - self.snapshot_at >= enough)?;
        self.snapshot_at = self.version;
        let (state, version) = (self.state.clone(), self.version);
        Some(move || {
            if let Ok(bytes) = postcard::to_stdvec(&state) {
                kept.save(D::LAYER, D::SNAPSHOT, version, bytes);
            }
        })
    }
}

/// Folds what happened after `version` of a layer's stream, up to a position of the log, into its state. Answers the version it
/// then stands at.
fn fold<D: Decider>(
    state: &mut D,
    mut version: u64,
    until: Seq,
    reader: &dyn LogReader,
    sealer: &dyn Sealer,
) -> Result<u64, Refusal> {
    loop {
        let page = reader.read_stream(D::LAYER, version, PAGE)?;
        if page.is_empty() {
            return Ok(version);
        }
        for record in &page {
            if record.seq > until {
                return Ok(version);
            }
            version = record.version;
            if let Some(event) = record.event::<D::Event>(sealer)? {
                state.evolve(&record.draft.meta, &event);
            }
        }
    }
}

/// A layer's state as it stood at a position, folded from the log and serialized.
///
/// # Errors
/// When the log cannot be read.
pub fn folded<D: Decider>(
    reader: &dyn LogReader,
    sealer: &dyn Sealer,
    until: Seq,
) -> Result<Vec<u8>, Refusal> {
    let mut state = D::default();
    fold(&mut state, 0, until, reader, sealer)?;
    postcard::to_stdvec(&state).map_err(|error| Refusal::internal(error.to_string()))
}

/// The number of a command's event; a command has far fewer than fit.
fn event_number(n: u64) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// Fills every field `seq` that is 0 with the position, however deep.
fn placed(mut value: Value, seq: u64) -> Value {
    fn walk(value: &mut Value, seq: u64) {
        match value {
            Value::Object(fields) => fields.iter_mut().for_each(|(name, field)| {
                if name == "seq" && field.as_u64() == Some(0) {
                    *field = seq.into();
                } else {
                    walk(field, seq);
                }
            }),
            Value::Array(items) => items.iter_mut().for_each(|item| walk(item, seq)),
            _ => {}
        }
    }
    walk(&mut value, seq);
    value
}

/// What callers of a layer hold.
pub struct LayerHandle<D: Decider>(pub Slot<LayerMessage<D>>);

impl<D: Decider> Clone for LayerHandle<D> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<D: Decider> Default for LayerHandle<D> {
    fn default() -> Self {
        Self(Slot::new(D::LAYER))
    }
}

impl<D: Decider> LayerHandle<D> {
    /// Forgets what was kept of the state beside the log; see [`LayerMessage::Renew`].
    ///
    /// # Errors
    /// While the layer is restarting, or when the disk fails.
    pub async fn renew(&self, replay: bool) -> Result<(), Refusal> {
        let (done, finished) = oneshot::channel();
        self.0.cast(LayerMessage::Renew { replay, done })?;
        finished.await.map_err(|_| self.0.down())?
    }

    /// Has a command decided, and answers once its events are on disk.
    ///
    /// # Errors
    /// When the layer refuses, the log cannot take the events, or whether it did is not known.
    pub async fn decide(
        &self,
        cx: Context,
        command: D::Command,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Result<Answer, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.0.cast(LayerMessage::Decide(Box::new(cx), command, reply, permit))?;
        answer.await.unwrap_or_else(|_| {
            Err(Refusal::new(Code::Unknown, format!("{} ended before it answered", D::LAYER))
                .hint("retry with the same idempotency key: it will not be done twice"))
        })
    }

    /// What `read` finds in the state as it is decided upon: what is still on its way to the disk counts. `read` is to be short,
    /// because the layer decides nothing meanwhile.
    ///
    /// # Errors
    /// While the layer is restarting.
    pub async fn look<T: Send + 'static>(
        &self,
        read: impl FnOnce(&D) -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let (reply, found) = oneshot::channel();
        let look = move |state: &D| drop(reply.send(read(state)));
        self.0.cast(LayerMessage::Look(Box::new(look)))?;
        found.await.map_err(|_| self.0.down())
    }

    /// The serialized state, for digests and tests.
    ///
    /// # Errors
    /// While the layer is restarting.
    pub async fn inspect(&self) -> Result<Vec<u8>, Refusal> {
        let (reply, state) = oneshot::channel();
        self.0.cast(LayerMessage::Inspect(reply))?;
        state.await.map_err(|_| self.0.down())
    }
}

#[cfg(test)]
mod tests;
