//! The daemon: holds the store's lock, answers on its socket, ends when nobody has needed it for a while.
//!
//! The socket answers before the store is open, so that a client's `initialize` waits for nothing; calls wait for the store.

use super::connections::{Connections, Counts, Message, Shared};
pub use super::custody::Custody;
use super::place::Place;
use athena_actors::handle::Slot;
use athena_actors::supervisor::{Child, Policy, Supervisor};
use athena_schemas::context::Caller;
use athena_schemas::ports::{Answer, BoxFuture, LogReader, Request, Router, Sealer};
use athena_schemas::refusal::{Code, Refusal};
use nix::fcntl::{Flock, FlockArg};
use ractor::Actor;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::time::Instant;

/// How long a starting daemon waits for the lock of one that is ending.
const LOCK_WAIT: Duration = Duration::from_secs(30);
/// How long a draining daemon waits for the calls under way.
const DRAIN_WAIT: Duration = Duration::from_secs(20);

/// What a daemon serves: an opened store.
#[derive(Clone)]
pub struct Parts {
    /// The one way in.
    pub router: Arc<dyn Router>,
    /// The log, for people who read it.
    pub log: Arc<dyn LogReader>,
    /// Opens the log's payloads.
    pub sealer: Arc<dyn Sealer>,
    /// The rest of it.
    pub house: Arc<dyn House>,
}

/// What the daemon asks of the whole store.
pub trait House: Send + Sync {
    /// Runs at work, which keep the daemon alive.
    fn active_runs(&self) -> usize;

    /// Each projection's digest beside that of one rebuilt from position 0.
    fn compare(&self) -> BoxFuture<'_, Result<serde_json::Value, Refusal>>;

    /// The log's writer and the keys, for what only their holder can do; a double has none.
    fn custody(&self) -> Option<Custody>;
}

/// What closes the store, once nothing needs it.
pub type Closing = BoxFuture<'static, ()>;

/// A store that is opening, then open, or refused.
pub(crate) type Opening = watch::Receiver<Option<Result<Parts, Refusal>>>;

/// How a daemon behaves.
#[derive(Debug, Clone)]
pub struct Options {
    /// Ends after so long without clients and calls; never when `None`.
    pub idle: Option<Duration>,
    /// At most this many clients at once.
    pub clients_max: usize,
    /// Where there is no room, a session of MCP over HTTP makes some once it has asked nothing for so long.
    pub quiet: Duration,
    /// What it says its version is.
    pub version: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            idle: Some(Duration::from_secs(600)),
            clients_max: 64,
            quiet: Duration::from_secs(60),
            version: env!("CARGO_PKG_VERSION").into(),
        }
    }
}

/// A daemon that holds the lock and the socket of its store.
pub struct Server {
    place: Place,
    options: Options,
    listener: UnixListener,
    _lock: Flock<File>,
}

impl Server {
    /// Takes the store's lock, waiting for one that is ending, and binds its socket.
    ///
    /// # Errors
    /// [`Code::Unavailable`] when another process keeps the lock, which it names, or the socket cannot be made.
    pub async fn bind(place: Place, options: Options) -> Result<Self, Refusal> {
        let lock = take_lock(&place).await?;
        // The lock is ours: whatever lies at the socket's path is stale.
        match fs::remove_file(&place.socket) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(no_socket(&place, &e)),
            _ => {}
        }
        let listener = UnixListener::bind(&place.socket).map_err(|e| no_socket(&place, &e))?;
        fs::set_permissions(&place.socket, fs::Permissions::from_mode(0o600))
            .map_err(|e| no_socket(&place, &e))?;
        Ok(Self { place, options, listener, _lock: lock })
    }

    /// Serves the store that `open` opens, until idle, told to drain, or signalled; then closes it.
    ///
    /// # Errors
    /// When the store could not be opened, after everybody who asked has been told.
    pub async fn run<F>(self, open: F) -> Result<(), Refusal>
    where
        F: Future<Output = Result<(Parts, Closing), Refusal>> + Send + 'static,
    {
        let (tell, opening) = watch::channel(None);
        let busy = Busy::default();
        let (ended, mut end) = watch::channel(false);
        let shared = Arc::new(Shared {
            router: Arc::new(Gate { opening: opening.clone(), busy: busy.clone() }),
            opening,
            busy: busy.clone(),
            options: self.options.clone(),
            store: self.place.store.to_string_lossy().into_owned(),
            started: Instant::now(),
            ended,
            front: Slot::new("the front"),
            counts: Counts::default(),
        });
        let connections = shared.front.clone();
        let child = Child::actor("front", || Connections, move || shared.clone());
        let (root, mut front) = Actor::spawn(None, Supervisor, (vec![child], Policy::default()))
            .await
            .map_err(|e| Refusal::internal(format!("the front did not start: {e}")))?;
        let front_ends_with_us = Front(root.clone());
        let store = tokio::spawn(open);
        let opened = tokio::spawn(announce(store, tell, connections.clone()));
        let mut broken = false;
        let mut stop = Signals::new()?;
        loop {
            tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => { let _ = connections.cast(Message::Accept(stream)); }
                    // Out of descriptors: those in use will be given back.
                    Err(e) => { tracing::warn!(error = %e, "a client could not be accepted"); tokio::task::yield_now().await; }
                },
                () = over(&mut end) => break,
                () = stop.received() => break,
                // It died more often than its supervisor puts up with: a front that cannot stand must not look as if it did.
                _ = &mut front => {
                    tracing::error!("the front cannot be kept alive; the daemon ends");
                    broken = true;
                    break;
                }
            }
        }
        // From here on newcomers start their own daemon, which waits for our lock.
        let _ = fs::remove_file(&self.place.socket);
        drop(self.listener);
        busy.quiet(DRAIN_WAIT).await;
        root.stop(None);
        if !broken {
            let _ = front.await;
        }
        drop(front_ends_with_us);
        match opened.await {
            Ok(Ok(closing)) => closing.await,
            Ok(Err(refusal)) => return Err(refusal),
            Err(e) => return Err(Refusal::internal(format!("the store did not open: {e}"))),
        }
        Ok(())
    }
}

/// Resolves once the front actor says that nobody needs the daemon any more.
async fn over(end: &mut watch::Receiver<bool>) {
    let _ = end.wait_for(|ended| *ended).await;
}

/// The front actor, its supervisor and its connections end with the server, however that ends.
struct Front(ractor::ActorRef<()>);

impl Drop for Front {
    fn drop(&mut self) {
        self.0.kill();
    }
}

/// Tells everybody who waits that the store is open, or why it is not.
async fn announce(
    store: tokio::task::JoinHandle<Result<(Parts, Closing), Refusal>>,
    tell: watch::Sender<Option<Result<Parts, Refusal>>>,
    connections: Slot<Message>,
) -> Result<Closing, Refusal> {
    let opened =
        store.await.unwrap_or_else(|e| Err(Refusal::internal(format!("opening the store failed: {e}"))));
    match opened {
        Ok((parts, closing)) => {
            tell.send_replace(Some(Ok(parts)));
            Ok(closing)
        }
        Err(refusal) => {
            tracing::error!(code = ?refusal.code, "the store did not open");
            tell.send_replace(Some(Err(refusal.clone())));
            let _ = connections.cast(Message::Useless);
            Err(refusal)
        }
    }
}

/// The store's lock; waits for a process that is ending.
async fn take_lock(place: &Place) -> Result<Flock<File>, Refusal> {
    let deadline = Instant::now() + LOCK_WAIT;
    let mut file = open_lock(place)?;
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut lock) => {
                let _ = lock.set_len(0);
                let _ = write!(lock, "{}\n{}\n", std::process::id(), place.socket.display());
                return Ok(lock);
            }
            Err((back, nix::errno::Errno::EWOULDBLOCK)) => file = back,
            Err((_, e)) => return Err(no_socket(place, &e.into())),
        }
        if Instant::now() >= deadline {
            return Err(held(place));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn open_lock(place: &Place) -> Result<File, Refusal> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&place.lock)
        .map_err(|e| no_socket(place, &e))
}

/// The process that holds a store's lock, where one does.
pub fn holder(place: &Place) -> Option<u32> {
    let mut file = OpenOptions::new().read(true).write(true).open(&place.lock).ok()?;
    let mut pid = String::new();
    file.read_to_string(&mut pid).ok()?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(_) => None,
        Err(_) => pid.lines().next()?.parse().ok(),
    }
}

/// The refusal that names the process which holds the store and does not answer.
pub fn held(place: &Place) -> Refusal {
    let who = holder(place).map_or_else(|| "another process".into(), |pid| format!("process {pid}"));
    Refusal::new(
        Code::Unavailable,
        format!("the store {} is held by {who}, which does not answer", place.store.display()),
    )
    .hint("athena daemon stop --force, or wait until that process is done")
}

fn no_socket(place: &Place, error: &std::io::Error) -> Refusal {
    Refusal::new(Code::Unavailable, format!("{} cannot be used: {error}", place.socket.display()))
        .hint("athena doctor")
}

/// Counts calls under way.
#[derive(Debug, Clone, Default)]
pub(crate) struct Busy(Arc<BusyState>);

#[derive(Debug, Default)]
struct BusyState {
    count: AtomicUsize,
    changed: tokio::sync::Notify,
}

/// One call under way, until dropped.
pub(crate) struct BusyGuard(Arc<BusyState>);

impl Busy {
    pub(crate) fn enter(&self) -> BusyGuard {
        self.0.count.fetch_add(1, Ordering::SeqCst);
        BusyGuard(self.0.clone())
    }

    pub(crate) fn count(&self) -> usize {
        self.0.count.load(Ordering::SeqCst)
    }

    /// Waits until no call is under way, at most `patience`.
    async fn quiet(&self, patience: Duration) {
        let wait = async {
            loop {
                let changed = self.0.changed.notified();
                if self.count() == 0 {
                    return;
                }
                changed.await;
            }
        };
        if tokio::time::timeout(patience, wait).await.is_err() {
            tracing::warn!(calls = self.count(), "calls were still under way when the daemon ended");
        }
    }
}

impl Drop for BusyGuard {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::SeqCst);
        self.0.changed.notify_waiters();
    }
}

/// The router before the store is open: calls wait for it.
pub(crate) struct Gate {
    pub(crate) opening: Opening,
    pub(crate) busy: Busy,
}

impl Router for Gate {
    fn call<'a>(&'a self, caller: &'a Caller, request: Request) -> BoxFuture<'a, Result<Answer, Refusal>> {
        Box::pin(async move {
            let _under_way = self.busy.enter();
            let parts = opened(self.opening.clone()).await?;
            parts.router.call(caller, request).await
        })
    }
}

/// The store, once it is open.
pub(crate) async fn opened(mut opening: Opening) -> Result<Parts, Refusal> {
    let state = opening.wait_for(Option::is_some).await;
    match state.as_deref() {
        Ok(Some(opened)) => opened.clone(),
        _ => Err(Refusal::new(Code::Unavailable, "the store is closing").hint("retry")),
    }
}

/// SIGTERM and SIGINT.
struct Signals {
    term: tokio::signal::unix::Signal,
    int: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> Result<Self, Refusal> {
        use tokio::signal::unix::{SignalKind, signal};
        let take = |kind| signal(kind).map_err(|e| Refusal::internal(format!("signals: {e}")));
        Ok(Self { term: take(SignalKind::terminate())?, int: take(SignalKind::interrupt())? })
    }

    async fn received(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }
}
