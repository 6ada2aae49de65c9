//! The one generic actor that drives a projection: it pulls from the log by position. Catch-up, live and rebuild are one path.
//!
//! The log publishes only its head. A projector that is behind reads pages until it is not; the pages are opened and decoded
//! once and shared among the projectors that ask for them ([`Feed`]).

use crate::feed::{Feed, failed};
use athena_schemas::envelope::Seq;
use athena_schemas::ports::{LogReader, Projection};
use athena_schemas::refusal::Refusal;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{oneshot, watch};

/// After this many events a projection is made durable; what a crash loses of it is read from the log again.
const FLUSH_EVERY: Seq = 20_000;

/// How long events that nobody waits for gather before the projectors are told: all of them wake each time, and one pass over
/// many events costs little more than over one.
const GATHER: Duration = Duration::from_millis(5);

/// Tells projectors how far there is something to see, in `due`: at once where `wanted` says that somebody waits for it, else
/// when events have gathered. Ends with the log, or when nobody is left to tell.
pub async fn gather(reader: Arc<dyn LogReader>, mut wanted: watch::Receiver<Seq>, due: watch::Sender<Seq>) {
    let mut told = 0;
    while reader.beyond(told).await.is_some() {
        // An error is that nobody can wait any more: the house is closing.
        let _ = tokio::time::timeout(GATHER, wanted.wait_for(|wanted| *wanted > told)).await;
        told = reader.head();
        if due.send(told).is_err() {
            break;
        }
    }
}

/// What a projector is sent.
pub enum ProjectorMessage {
    /// The head has moved.
    Pull,
    /// Make everything durable and say the digest and position.
    Digest(oneshot::Sender<Result<([u8; 32], Seq), Refusal>>),
    /// Catch up, make everything durable and rid the files of what was removed.
    Scrub(oneshot::Sender<Result<(), Refusal>>),
    /// Read the log again into another one, beside this one which goes on meanwhile, and go over to that. Answers its position.
    Rebuild(oneshot::Sender<Result<Seq, Refusal>>),
}

/// A projection that its projector and its restarts share.
pub type Shared = Arc<Mutex<Box<dyn Projection>>>;

/// What a projector needs of the house.
#[derive(Clone)]
pub struct ProjectorArgs {
    /// The log, decoded.
    pub feed: Arc<Feed>,
    /// What it drives.
    pub projection: Shared,
    /// Where it says how far it has come.
    pub seen: watch::Sender<Seq>,
    /// How far there is something to see; see [`gather`].
    pub due: watch::Receiver<Seq>,
    /// Where it says how far the one has come that is being built beside it.
    pub built: watch::Sender<Option<Seq>>,
    /// Whose turn it is to build.
    pub turn: Arc<tokio::sync::Mutex<()>>,
    /// Where its callers find it.
    pub slot: crate::handle::Slot<ProjectorMessage>,
}

/// The generic actor.
pub struct Projector;

impl Actor for Projector {
    type Msg = ProjectorMessage;
    type State = ProjectorArgs;
    type Arguments = ProjectorArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        args: ProjectorArgs,
    ) -> Result<ProjectorArgs, ActorProcessingErr> {
        // The stored position may be that of other code: then what it holds is rebuilt, in `catch_up`.
        catch_up(&args).await?;
        args.slot.fill(myself.clone());
        let (mut due, seen) = (args.due.clone(), args.seen.subscribe());
        tokio::spawn(async move {
            loop {
                let at = *seen.borrow();
                if due.wait_for(|due| *due > at).await.is_err()
                    || myself.cast(ProjectorMessage::Pull).is_err()
                {
                    break;
                }
                // One message is enough however many events are waiting: the next is sent when this one is done.
                let mut moved = seen.clone();
                if moved.wait_for(|now| *now > at).await.is_err() {
                    break;
                }
            }
        });
        Ok(args)
    }

    async fn handle(
        &self,
        _: ActorRef<Self::Msg>,
        message: ProjectorMessage,
        args: &mut ProjectorArgs,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            ProjectorMessage::Pull => catch_up(args).await?,
            ProjectorMessage::Digest(reply) => {
                catch_up(args).await?;
                let projection = args.projection.clone();
                let digest = tokio::task::spawn_blocking(move || {
                    let mut projection = projection.lock().unwrap_or_else(PoisonError::into_inner);
                    projection.flush().map_err(failed)?;
                    projection.digest().map(|digest| (digest, projection.position())).map_err(failed)
                });
                let _ = reply.send(digest.await?);
            }
            ProjectorMessage::Scrub(reply) => {
                catch_up(args).await?;
                let projection = args.projection.clone();
                let scrubbed = tokio::task::spawn_blocking(move || {
                    projection.lock().unwrap_or_else(PoisonError::into_inner).scrub().map_err(failed)
                });
                let _ = reply.send(scrubbed.await?);
            }
            ProjectorMessage::Rebuild(reply) => {
                let args = args.clone();
                tokio::spawn(async move {
                    // Whoever asked may have gone; it is done all the same.
                    let _ = reply.send(rebuild(args).await);
                });
            }
        }
        Ok(())
    }

    async fn post_stop(
        &self,
        _: ActorRef<Self::Msg>,
        args: &mut ProjectorArgs,
    ) -> Result<(), ActorProcessingErr> {
        let projection = args.projection.clone();
        tokio::task::spawn_blocking(move || {
            projection.lock().unwrap_or_else(PoisonError::into_inner).flush()
        })
        .await??;
        Ok(())
    }
}

/// Pulls until the head, off the async threads.
async fn catch_up(args: &ProjectorArgs) -> Result<(), Refusal> {
    let args = args.clone();
    let work = tokio::task::spawn_blocking(move || {
        let mut projection = args.projection.lock().unwrap_or_else(PoisonError::into_inner);
        let head = args.feed.head();
        let name = projection.name();
        args.seen.send_replace(projection.position());
        let before = projection.position();
        let outcome = args.feed.drive(&mut **projection, head, |at| {
            args.seen.send_replace(at);
            metrics::gauge!("athena_projection_lag_events", "projection" => name)
                .set(head.saturating_sub(at) as f64);
        });
        args.seen.send_replace(projection.position());
        if projection.position().saturating_sub(before) >= FLUSH_EVERY {
            projection.flush().map_err(failed)?;
        }
        outcome
    });
    work.await.map_err(|error| Refusal::internal(format!("a projection panicked: {error}")))?
}

/// Builds another one and goes over to it, off the async threads. One at a time.
async fn rebuild(args: ProjectorArgs) -> Result<Seq, Refusal> {
    let turn = args.turn.clone().lock_owned().await;
    let work = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        let outcome = build(&args);
        args.built.send_replace(None);
        outcome
    });
    work.await.map_err(|error| Refusal::internal(format!("a rebuild panicked: {error}")))?
}

fn build(args: &ProjectorArgs) -> Result<Seq, Refusal> {
    let lock = || args.projection.lock().unwrap_or_else(PoisonError::into_inner);
    let mut built = lock().beside().map_err(failed)?;
    let drive = |built: &mut dyn Projection, until| {
        args.feed.drive(built, until, |at| {
            args.built.send_replace(Some(at));
        })
    };
    // The second time over what came during the first, and what little is left then while the one that answers waits.
    for _ in 0..2 {
        drive(&mut *built, args.feed.head())?;
    }
    let mut live = lock();
    drive(&mut *built, live.position())?;
    live.adopt(built).map_err(failed)?;
    args.seen.send_replace(live.position());
    Ok(live.position())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handle::Slot;
    use crate::log::testing::draft;
    use crate::log::{Append, Location, LogHandle, Options};
    use athena_schemas::envelope::{Draft, Kind};
    use athena_schemas::ports::{Opened, ProjectionError, Recorded, Sealer, same};

    struct Clear;

    impl Sealer for Clear {
        fn seal(&self, draft: Draft) -> Result<Draft, Refusal> {
            Ok(draft)
        }

        fn open(&self, draft: &Draft) -> Result<Opened, Refusal> {
            Ok(Opened::Plain(draft.payload.clone()))
        }
    }

    /// Keeps the positions it was shown.
    #[derive(Default)]
    struct Positions {
        seen: Vec<Seq>,
        /// What the next one that is built beside it does with its first page.
        halt: Mutex<Option<Halt>>,
        halts: Option<Halt>,
    }

    /// Says that it is on its way, and waits until it may go on.
    type Halt = (oneshot::Sender<()>, std::sync::mpsc::Receiver<()>);

    impl Projection for Positions {
        fn name(&self) -> &'static str {
            "positions"
        }

        fn version(&self) -> u32 {
            1
        }

        fn position(&self) -> Seq {
            self.seen.last().copied().unwrap_or(0)
        }

        fn apply(&mut self, batch: &[Recorded]) -> Result<(), ProjectionError> {
            if let Some((begun, go_on)) = self.halts.take() {
                begun.send(()).unwrap();
                go_on.recv().unwrap();
            }
            self.seen.extend(batch.iter().map(|recorded| recorded.record.seq));
            Ok(())
        }

        fn flush(&mut self) -> Result<(), ProjectionError> {
            Ok(())
        }

        fn beside(&self) -> Result<Box<dyn Projection>, ProjectionError> {
            Ok(Box::new(Self { halts: self.halt.lock().unwrap().take(), ..Self::default() }))
        }

        fn adopt(&mut self, built: Box<dyn Projection>) -> Result<(), ProjectionError> {
            *self = *same(built)?;
            Ok(())
        }

        fn digest(&self) -> Result<[u8; 32], ProjectionError> {
            Ok(*blake3::hash(format!("{:?}", self.seen).as_bytes()).as_bytes())
        }
    }

    async fn record(log: &LogHandle, from: u32, count: u32, kind: Kind) {
        let drafts = (from..from + count).map(|n| Draft { kind, ..draft("test", n.into(), b"") });
        log.commit(Append::new(drafts.collect())).await.unwrap();
    }

    async fn start(log: &LogHandle, projection: Positions) -> ProjectorArgs {
        let (due, told) = watch::channel(0);
        tokio::spawn(gather(log.reader(), watch::channel(0).1, due));
        let args = ProjectorArgs {
            feed: Arc::new(Feed::new(log.reader(), Arc::new(Clear))),
            projection: Arc::new(Mutex::new(Box::new(projection))),
            seen: watch::channel(0).0,
            due: told,
            built: watch::channel(None).0,
            turn: Arc::default(),
            slot: Slot::new("positions"),
        };
        Actor::spawn(None, Projector, args.clone()).await.unwrap();
        args
    }

    #[tokio::test]
    async fn the_one_that_answers_goes_on_while_another_is_built_and_a_second_wish_waits() {
        let log = LogHandle::open(Location::Memory, Options::default()).unwrap().0;
        record(&log, 0, 300, IGNORABLE).await;
        let (begun, has_begun) = oneshot::channel();
        let (go_on, may_go_on) = std::sync::mpsc::channel();
        let projection = Positions { halt: Mutex::new(Some((begun, may_go_on))), ..Positions::default() };
        let args = start(&log, projection).await;
        let ask = || {
            let (reply, rebuilt) = oneshot::channel();
            args.slot.cast(ProjectorMessage::Rebuild(reply)).unwrap();
            rebuilt
        };
        let (first, mut second) = (ask(), ask());
        has_begun.await.unwrap();
        record(&log, 300, 5, IGNORABLE).await;
        args.seen.subscribe().wait_for(|at| *at == 305).await.unwrap();
        assert!(second.try_recv().is_err());
        go_on.send(()).unwrap();
        assert_eq!(first.await.unwrap().unwrap(), 305);
        assert_eq!(second.await.unwrap().unwrap(), 305);
        assert_eq!(*args.built.borrow(), None);
    }

    /// An unknown kind that may be ignored: the projection sees the position and no event.
    const IGNORABLE: Kind = Kind(0xff01);

    #[tokio::test]
    async fn catch_up_live_and_rebuild_see_every_position_once() {
        let log = LogHandle::open(Location::Memory, Options::default()).unwrap().0;
        record(&log, 0, 300, IGNORABLE).await;
        record(&log, 300, 300, IGNORABLE).await;
        let args = start(&log, Positions::default()).await;
        assert_eq!(*args.seen.borrow(), 600);
        for n in 0..50 {
            record(&log, 600 + n, 1, IGNORABLE).await;
        }
        args.seen.subscribe().wait_for(|at| *at == 650).await.unwrap();
        let (reply, digest) = oneshot::channel();
        args.slot.cast(ProjectorMessage::Digest(reply)).unwrap();
        let live = digest.await.unwrap().unwrap();
        let (reply, rebuilt) = oneshot::channel();
        args.slot.cast(ProjectorMessage::Rebuild(reply)).unwrap();
        assert_eq!(rebuilt.await.unwrap().unwrap(), 650);
        let (reply, digest) = oneshot::channel();
        args.slot.cast(ProjectorMessage::Digest(reply)).unwrap();
        assert_eq!(digest.await.unwrap().unwrap(), live);
        assert_eq!(live.1, 650);
    }
}
