//! The read side as the house handles it: driven, compared with the log, built anew.

use crate::router::Freshness;
use athena_actors::feed::Feed;
use athena_actors::handle::Slot;
use athena_actors::projector::{Projector, ProjectorArgs, ProjectorMessage, gather};
use athena_actors::supervisor::Child;
use athena_projections::library::{Library, Options as LibraryOptions};
use athena_projections::store::StoreError;
use athena_schemas::envelope::Seq;
use athena_schemas::ports::{LogReader, Projection, ProjectionError, Sealer};
use athena_schemas::refusal::{Code, Refusal, nearest};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use tokio::sync::{oneshot, watch};

/// One projection, compared with its rebuilt self.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Compared {
    /// Its name.
    pub projection: &'static str,
    /// The position both stand at.
    pub seq: Seq,
    /// Digest of the live one.
    pub live: String,
    /// Digest of the rebuilt one.
    pub rebuilt: String,
    /// Whether they are equal.
    pub equal: bool,
}

/// All projections of a store and those who drive them.
pub struct ReadSide {
    /// The answers.
    pub library: Arc<Library>,
    feed: Arc<Feed>,
    reader: Arc<dyn LogReader>,
    driven: Vec<Driven>,
    /// The furthest position that anybody waits for.
    wanted: Arc<watch::Sender<Seq>>,
}

struct Driven {
    name: &'static str,
    slot: Slot<ProjectorMessage>,
    sight: watch::Receiver<Seq>,
    built: watch::Receiver<Option<Seq>>,
}

impl ReadSide {
    /// The read side over a log, and its projectors' places in the supervision tree.
    pub fn new(library: Library, reader: Arc<dyn LogReader>, sealer: Arc<dyn Sealer>) -> (Self, Vec<Child>) {
        let feed = Arc::new(Feed::new(reader.clone(), sealer));
        let (mut children, mut driven) = (Vec::new(), Vec::new());
        let wanted = Arc::new(watch::Sender::default());
        let (tell, due) = watch::channel(0);
        tokio::spawn(gather(reader.clone(), wanted.subscribe(), tell));
        for projection in library.projections() {
            let name = projection.name();
            let (seen, sight) = watch::channel(projection.position());
            let (tell_built, built) = watch::channel(None);
            let slot = Slot::new("a projection");
            let args = ProjectorArgs {
                feed: feed.clone(),
                projection: Arc::new(Mutex::new(projection)),
                seen,
                due: due.clone(),
                built: tell_built,
                turn: Arc::default(),
                slot: slot.clone(),
            };
            // All of them at once: what they have not seen is then read and decoded once for all.
            children.push(Child::actor(name, || Projector, move || args.clone()).beside());
            driven.push(Driven { name, slot, sight, built });
        }
        (Self { library: Arc::new(library), feed, reader, driven, wanted }, children)
    }

    /// How far the projections have come, for whoever waits for them.
    pub fn freshness(&self) -> Freshness {
        Freshness::new(self.driven.iter().map(|one| one.sight.clone()).collect(), self.wanted.clone())
    }

    /// Events each projection has not seen yet.
    pub fn lag(&self) -> BTreeMap<String, u64> {
        let head = self.reader.head();
        self.driven
            .iter()
            .map(|one| (one.name.to_owned(), head.saturating_sub(*one.sight.borrow())))
            .collect()
    }

    /// Events that those have not seen yet which are being built anew.
    pub fn rebuilding(&self) -> BTreeMap<String, u64> {
        let head = self.reader.head();
        let left = |one: &Driven| {
            let built = *one.built.borrow();
            built.map(|at| (one.name.to_owned(), head.saturating_sub(at)))
        };
        self.driven.iter().filter_map(left).collect()
    }

    /// Lets nobody begin or go on with reading the log.
    pub fn close(&self) {
        self.feed.close();
    }

    /// Waits until every projection has seen a position.
    ///
    /// # Errors
    /// While a projection is down.
    pub async fn reached(&self, seq: Seq) -> Result<(), Refusal> {
        self.freshness().want(seq);
        for one in &self.driven {
            one.sight.clone().wait_for(|at| *at >= seq).await.map_err(|_| one.slot.down())?;
        }
        Ok(())
    }

    /// Forgets what was read of the log and may have been erased since.
    pub fn forget_pages(&self) {
        self.feed.forget();
        self.library.forget_past();
    }

    /// Lets go of the memory that a burst has left: pages of the log, and rows that are written out.
    ///
    /// # Errors
    /// When the disk fails.
    pub(crate) fn let_go(&self) -> Result<(), StoreError> {
        self.feed.forget();
        self.library.store.let_go()
    }

    /// Makes everything durable and rewrites the files so that what was removed is in none of them.
    ///
    /// # Errors
    /// While a projection is down, or when the disk fails.
    pub async fn scrub(&self) -> Result<(), Refusal> {
        for one in &self.driven {
            let (reply, done) = oneshot::channel();
            one.slot.cast(ProjectorMessage::Scrub(reply))?;
            done.await.map_err(|_| one.slot.down())??;
        }
        let library = self.library.clone();
        tokio::task::spawn_blocking(move || library.store.scrub())
            .await
            .map_err(|error| Refusal::internal(format!("the read models were not rewritten: {error}")))??;
        Ok(())
    }

    /// The log's head.
    pub fn head(&self) -> Seq {
        self.reader.head()
    }

    /// Each projection with the digest of its live content and of one built anew from position 0, both at one position.
    ///
    /// # Errors
    /// When the log cannot be read or a projection's store fails.
    pub async fn compare(&self) -> Result<Vec<Compared>, Refusal> {
        let mut compared = Vec::new();
        for one in &self.driven {
            let (reply, live) = oneshot::channel();
            one.slot.cast(ProjectorMessage::Digest(reply))?;
            let (live, seq) = live.await.map_err(|_| one.slot.down())??;
            let (feed, name) = (self.feed.clone(), one.name);
            let rebuilt = tokio::task::spawn_blocking(move || rebuilt(&feed, name, seq))
                .await
                .map_err(|error| Refusal::internal(format!("a rebuild failed: {error}")))??;
            let (live, rebuilt) = (hex(&live), hex(&rebuilt));
            compared.push(Compared { projection: name, seq, equal: live == rebuilt, live, rebuilt });
        }
        Ok(compared)
    }

    /// Builds one projection anew, or all of them, beside those that answer meanwhile; answers which, and the position they stand at.
    ///
    /// # Errors
    /// [`Code::NotFound`] where there is none of that name; [`Code::Unavailable`] where the disk has no room for both; when the log cannot be read or a projection's store fails.
    pub async fn rebuild(&self, only: Option<&str>) -> Result<(Vec<String>, Seq), Refusal> {
        if let Some(wanted) = only
            && !self.driven.iter().any(|one| one.name == wanted)
        {
            let near = nearest(wanted, self.driven.iter().map(|one| one.name)).join(", ");
            return Err(Refusal::not_found(format!("there is no read model {wanted}")).hint(near));
        }
        let library = self.library.clone();
        tokio::task::spawn_blocking(move || library.store.room_beside())
            .await
            .map_err(|error| Refusal::internal(format!("the rebuild did not begin: {error}")))?
            .map_err(|error| {
                let why = format!("there is no room to build read models beside those that answer: {error}");
                Refusal::new(Code::Unavailable, why).hint("make room on the disk; nothing was changed")
            })?;
        // All at once: the log is then opened and decoded once for those that keep up with each other.
        let mut under_way = Vec::new();
        for one in self.driven.iter().filter(|one| only.is_none_or(|wanted| wanted == one.name)) {
            let (reply, done) = oneshot::channel();
            one.slot.cast(ProjectorMessage::Rebuild(reply))?;
            under_way.push((one, done));
        }
        let (mut names, mut position) = (Vec::new(), Seq::MAX);
        for (one, done) in under_way {
            position = position.min(done.await.map_err(|_| one.slot.down())??);
            names.push(one.name.to_owned());
        }
        Ok((names, position))
    }
}

fn hex(bytes: &[u8; 32]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Builds one projection anew, in memory, up to a position.
fn rebuilt(feed: &Feed, name: &str, seq: Seq) -> Result<[u8; 32], Refusal> {
    let failed = |error: ProjectionError| Refusal::new(Code::Unavailable, error.to_string());
    let library = Library::open(LibraryOptions::default()).map_err(failed)?;
    let mut fresh: Box<dyn Projection> = library
        .projections()
        .into_iter()
        .find(|projection| projection.name() == name)
        .ok_or_else(|| Refusal::internal(format!("there is no projection {name}")))?;
    feed.drive(&mut *fresh, seq, |_| {})?;
    fresh.flush().map_err(failed)?;
    fresh.digest().map_err(failed)
}
