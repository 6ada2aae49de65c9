//! The pool: some workers warm, a bounded number in use, and a fair queue with a limit in front.
//!
//! Callers take from the shelf directly, without a message; the pool's actor only refills it and throws out what died. So a
//! restart of the actor is invisible, and handing out a worker costs a lock and a pop.

use super::spawn::{Process, Spawn};
use super::{Channel, Worker};
use crate::handle::Slot;
use athena_schemas::refusal::{Code, Refusal};
use athena_schemas::wire::{FromWorker, Namespace, Ready, ToWorker};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long a worker may take to shut its jail and warm its engines.
const START: Duration = Duration::from_secs(10);
/// How often idle workers are looked at.
const HEALTH: Duration = Duration::from_secs(5);
/// The pause after a worker that did not start.
const BACKOFF: Duration = Duration::from_millis(500);

/// The pause before a worker is made, or one that is done is ended, while others stand ready: the answer of the run that gave up
/// its place leaves first.
const LULL: Duration = Duration::from_millis(3);

/// How many of everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Workers kept warm.
    pub warm: usize,
    /// Runs at once; runs started by runs have as many places of their own, so that parents cannot starve their children.
    pub concurrent: usize,
    /// Runs that may wait for a place.
    pub queue: usize,
    /// How long they may wait.
    pub patience: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { warm: 4, concurrent: 64, queue: 256, patience: Duration::from_secs(30) }
    }
}

/// Hands out workers. Cheap to clone.
#[derive(Clone)]
pub struct Sandbox {
    shared: Arc<Shared>,
}

struct Shared {
    settings: Settings,
    spawn: Arc<dyn Spawn>,
    python: Option<Arc<dyn Spawn>>,
    deno: Option<Arc<dyn Spawn>>,
    shelf: Mutex<VecDeque<Idle>>,
    /// Processes whose runs have answered, or are about to.
    left: Mutex<Vec<Done>>,
    places: Arc<Semaphore>,
    nested: Arc<Semaphore>,
    waiting: AtomicUsize,
    busy: AtomicUsize,
    /// The globals that runs had last.
    globals: RwLock<Arc<[Namespace]>>,
    pool: Slot<Message>,
}

/// A warm worker on the shelf. Dropping it ends it.
pub struct Idle {
    channel: Channel,
    process: Box<dyn Process>,
    ready: Ready,
    prepared: Arc<[Namespace]>,
}

/// A place among the runs that are at work. Giving it up makes the pool refill.
pub struct Place {
    shared: Arc<Shared>,
    /// The process that did the work, until it is ended.
    left: Mutex<Option<Done>>,
    _permit: OwnedSemaphorePermit,
}

/// A process whose job is done, and that has not ended yet.
pub(super) struct Done {
    pub(super) process: Box<dyn Process>,
    /// What it waits at.
    pub(super) _socket: Option<OwnedFd>,
}

impl Place {
    /// Takes in a process that is done.
    pub(super) fn leave(&self, done: Done) {
        *self.left.lock().unwrap_or_else(PoisonError::into_inner) = Some(done);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let busy = self.shared.busy.fetch_sub(1, Ordering::Relaxed) - 1;
        metrics::gauge!("athena_sandbox_workers_busy").set(busy as f64);
        if let Some(done) = self.left.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            self.shared.left().push(done);
        }
        self.shared.refill();
    }
}

impl Sandbox {
    /// A sandbox that makes its workers with `spawn`. Warm ones come once [`Pool`] runs.
    pub fn new(settings: Settings, spawn: Arc<dyn Spawn>) -> Self {
        Self::with_engines(settings, spawn, None, None)
    }

    /// The same, with an interpreter for what of Python the workers' own engine cannot run, and a Deno for who asks for it.
    pub fn with_engines(
        settings: Settings,
        spawn: Arc<dyn Spawn>,
        python: Option<Arc<dyn Spawn>>,
        deno: Option<Arc<dyn Spawn>>,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                settings,
                spawn,
                python,
                deno,
                shelf: Mutex::default(),
                left: Mutex::default(),
                places: Arc::new(Semaphore::new(settings.concurrent)),
                nested: Arc::new(Semaphore::new(settings.concurrent)),
                waiting: AtomicUsize::new(0),
                busy: AtomicUsize::new(0),
                globals: RwLock::new(Arc::new([])),
                pool: Slot::new("the sandbox pool"),
            }),
        }
    }

    /// A worker for one run, warm where there is one. Waits for a place in order of arrival.
    ///
    /// # Errors
    /// [`Code::LimitExceeded`] when the queue is full or the wait too long; [`Code::Unavailable`] when no worker starts.
    pub async fn worker(&self) -> Result<Worker, Refusal> {
        self.take(&self.shared.places).await
    }

    /// A worker for a run started by another run.
    ///
    /// # Errors
    /// As [`worker`](Self::worker).
    pub async fn nested(&self) -> Result<Worker, Refusal> {
        self.take(&self.shared.nested).await
    }

    /// A CPython in the place of a worker that has run nothing yet. Where there is none, the worker is given back.
    pub async fn python(&self, worker: Worker) -> Worker {
        let Some(python) = &self.shared.python else { return worker };
        match self.shared.start(&**python).await {
            Ok(Idle { channel, process, ready, .. }) => worker.replaced(channel, process, ready),
            Err(why) => {
                tracing::debug!(why, "no interpreter of the host");
                worker
            }
        }
    }

    /// A Deno in the place of a worker that has run nothing yet.
    ///
    /// # Errors
    /// [`Code::Denied`] where the settings permit none; [`Code::Unavailable`] with what it lacks where it does not start.
    pub async fn deno(&self, worker: Worker) -> Result<Worker, Refusal> {
        let Some(deno) = &self.shared.deno else {
            return Err(Refusal::new(Code::Denied, "the settings permit no Deno")
                .at("engine")
                .hint("set sandbox.deno to the program, or leave the engine out"));
        };
        match self.shared.start(&**deno).await {
            Ok(Idle { channel, process, ready, .. }) => Ok(worker.replaced(channel, process, ready)),
            Err(why) => Err(Refusal::new(Code::Unavailable, format!("Deno runs nothing here: {why}"))
                .at("engine")
                .hint("athena sandbox doctor; without namespaces there is no Deno, the built-in engine needs none")),
        }
    }

    /// The globals of runs to come: workers are prepared with them while they wait.
    pub fn expect(&self, globals: &Arc<[Namespace]>) {
        if !Arc::ptr_eq(&self.shared.globals(), globals) {
            *self.shared.globals.write().unwrap_or_else(PoisonError::into_inner) = globals.clone();
        }
    }

    /// Warm workers at this moment.
    pub fn idle(&self) -> usize {
        self.shared.shelf().len()
    }

    /// Workers in use at this moment.
    pub fn busy(&self) -> usize {
        self.shared.busy.load(Ordering::Relaxed)
    }

    async fn take(&self, places: &Arc<Semaphore>) -> Result<Worker, Refusal> {
        let asked = Instant::now();
        let place = self.shared.place(places).await?;
        let idle = loop {
            let next = self.shared.shelf().pop_front();
            match next {
                Some(idle) if idle.channel.is_quiet() => break idle,
                Some(_) => metrics::counter!("athena_sandbox_workers_lost").increment(1),
                None => {
                    metrics::counter!("athena_sandbox_cold_starts").increment(1);
                    break self.shared.start(&*self.shared.spawn).await.map_err(|why| {
                        Refusal::new(Code::Unavailable, format!("no sandbox worker: {why}"))
                            .hint("athena doctor")
                    })?;
                }
            }
        };
        // Making the next one costs as much as a short run, so it is put off until this one is over: unless nothing is left.
        if self.idle() == 0 {
            self.shared.refill();
        }
        metrics::histogram!("athena_sandbox_wait_seconds").record(asked.elapsed().as_secs_f64());
        let Idle { channel, process, ready, prepared } = idle;
        Ok(Worker { channel, process: Some(process), ready, prepared, place: Arc::new(place) })
    }
}

impl Idle {
    /// Gives it the globals that its run will probably have; one that cannot take them is found out when it is taken.
    fn prepare(&mut self, globals: Arc<[Namespace]>) {
        if !globals.is_empty() && self.channel.send(&ToWorker::Prepare(globals.to_vec())).is_ok() {
            self.prepared = globals;
        }
    }
}

impl Shared {
    fn globals(&self) -> Arc<[Namespace]> {
        self.globals.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn shelf(&self) -> std::sync::MutexGuard<'_, VecDeque<Idle>> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn left(&self) -> std::sync::MutexGuard<'_, Vec<Done>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the processes that are done.
    fn clear_up(&self) {
        for done in std::mem::take(&mut *self.left()) {
            drop(done.process.end(Duration::ZERO));
        }
    }

    fn refill(&self) {
        // While the pool's actor restarts nobody refills; it does so when it is back.
        if self.pool.cast(Message::Refill).is_err() {
            self.clear_up();
        }
    }

    /// Waits for a place; the semaphore serves in order of arrival.
    async fn place(self: &Arc<Self>, places: &Arc<Semaphore>) -> Result<Place, Refusal> {
        struct Waiting<'a>(&'a AtomicUsize);
        impl Drop for Waiting<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::Relaxed);
            }
        }
        let full = |message: String| Refusal::new(Code::LimitExceeded, message).hint("retry in a moment");
        let waiting = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        if waiting >= self.settings.queue && places.available_permits() == 0 {
            return Err(full(format!("{waiting} runs are waiting for a sandbox worker already")));
        }
        let permit = match tokio::time::timeout(self.settings.patience, places.clone().acquire_owned()).await
        {
            Ok(Ok(permit)) => permit,
            Ok(Err(_)) => return Err(Refusal::new(Code::Unavailable, "the sandbox is closed")),
            Err(_) => {
                let seconds = self.settings.patience.as_secs();
                return Err(full(format!("no sandbox worker became free within {seconds} s")));
            }
        };
        let busy = self.busy.fetch_add(1, Ordering::Relaxed) + 1;
        metrics::gauge!("athena_sandbox_workers_busy").set(busy as f64);
        Ok(Place { shared: self.clone(), left: Mutex::default(), _permit: permit })
    }

    /// Makes a worker and waits until it is ready.
    async fn start(&self, spawn: &dyn Spawn) -> Result<Idle, String> {
        let begun = Instant::now();
        let spawned = spawn
            .spawn()
            .await
            .map_err(|_| "the spawning thread is gone".to_owned())?
            .map_err(|error| format!("it could not be started: {error}"))?;
        let mut channel = Channel::new(spawned.socket).map_err(|error| error.to_string())?;
        let first = tokio::time::timeout(START, channel.next()).await;
        match first {
            Ok(Ok(FromWorker::Ready(mut ready))) => {
                ready.layers.extend(spawned.layers.iter().map(|&layer| layer.to_owned()));
                metrics::histogram!("athena_sandbox_start_seconds").record(begun.elapsed().as_secs_f64());
                Ok(Idle { channel, process: spawned.process, ready, prepared: Arc::new([]) })
            }
            // It says what it lacks.
            Ok(Ok(FromWorker::Log { text, .. })) => Err(text),
            Ok(Ok(_)) => Err("it did not say that it is ready".into()),
            Ok(Err(broken)) => {
                let exit = spawned.process.end(Duration::from_millis(100)).await;
                Err(format!("{broken} before it was ready ({exit:?})"))
            }
            Err(_) => Err(format!("it was not ready within {} s", START.as_secs())),
        }
    }
}

/// What the pool's actor is told.
#[derive(Debug)]
pub enum Message {
    /// A worker was taken or a place given up.
    Refill,
    /// A worker that was being made is on the shelf, or did not start.
    Made {
        /// Whether it started.
        ok: bool,
    },
    /// Look at the idle ones.
    Health,
}

/// The actor that keeps the shelf full. Start it with the sandbox as its argument.
pub struct Pool;

/// What the actor remembers.
pub struct Refilling {
    sandbox: Sandbox,
    making: usize,
    failed: bool,
    _pulse: tokio::task::JoinHandle<()>,
}

impl Actor for Pool {
    type Msg = Message;
    type State = Refilling;
    type Arguments = Sandbox;

    async fn pre_start(
        &self,
        myself: ActorRef<Message>,
        sandbox: Sandbox,
    ) -> Result<Refilling, ActorProcessingErr> {
        sandbox.shared.pool.fill(myself.clone());
        let _ = myself.cast(Message::Refill);
        let pulse = myself.send_interval(HEALTH, || Message::Health);
        Ok(Refilling { sandbox, making: 0, failed: false, _pulse: pulse })
    }

    async fn handle(
        &self,
        myself: ActorRef<Message>,
        message: Message,
        state: &mut Refilling,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Refill => {}
            Message::Made { ok } => {
                state.making = state.making.saturating_sub(1);
                state.failed = !ok;
            }
            Message::Health => {
                let mut shelf = state.sandbox.shared.shelf();
                let before = shelf.len();
                shelf.retain(|idle| idle.channel.is_quiet());
                metrics::counter!("athena_sandbox_workers_lost").increment((before - shelf.len()) as u64);
            }
        }
        state.refill(&myself);
        Ok(())
    }

    async fn post_stop(&self, _: ActorRef<Message>, state: &mut Refilling) -> Result<(), ActorProcessingErr> {
        state.sandbox.shared.shelf().clear();
        state.sandbox.shared.clear_up();
        Ok(())
    }
}

impl Refilling {
    /// Ends the processes that are done, after a pause where there is one.
    fn clear_up(&self, pause: Option<Duration>) {
        if self.sandbox.shared.left().is_empty() {
            return;
        }
        let shared = self.sandbox.shared.clone();
        tokio::spawn(async move {
            if let Some(pause) = pause {
                tokio::time::sleep(pause).await;
            }
            shared.clear_up();
        });
    }

    fn refill(&mut self, myself: &ActorRef<Message>) {
        let idle = self.sandbox.idle();
        metrics::gauge!("athena_sandbox_workers_idle").set(idle as f64);
        metrics::gauge!("athena_sandbox_runs_waiting")
            .set(self.sandbox.shared.waiting.load(Ordering::Relaxed) as f64);
        let lull = (idle > 0).then_some(LULL);
        self.clear_up(lull);
        while idle + self.making < self.sandbox.shared.settings.warm {
            self.making += 1;
            let (shared, myself) = (self.sandbox.shared.clone(), myself.clone());
            let pause = if self.failed { Some(BACKOFF) } else { lull };
            tokio::spawn(async move {
                if let Some(pause) = pause {
                    tokio::time::sleep(pause).await;
                }
                let mut made = shared.start(&*shared.spawn).await;
                if let Ok(idle) = &mut made {
                    idle.prepare(shared.globals());
                }
                let ok = made.is_ok();
                match made {
                    Ok(idle) => shared.shelf().push_back(idle),
                    Err(why) => tracing::warn!(why, "a sandbox worker did not start"),
                }
                let _ = myself.cast(Message::Made { ok });
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::scripted::{Scripted, quiet};
    use super::*;
    use athena_schemas::wire::Language;

    async fn pool(settings: Settings) -> (Sandbox, ActorRef<Message>, Arc<Scripted>) {
        let spawn = Arc::new(Scripted::new(quiet));
        let sandbox = Sandbox::new(settings, spawn.clone());
        let (actor, _) = Actor::spawn(None, Pool, sandbox.clone()).await.unwrap();
        (sandbox, actor, spawn)
    }

    async fn until(what: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !what() {
            assert!(Instant::now() < deadline, "it did not come about");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    #[tokio::test]
    async fn the_shelf_is_refilled_and_no_worker_is_used_twice() {
        let (sandbox, _actor, spawn) = pool(Settings { warm: 2, ..Settings::default() }).await;
        until(|| sandbox.idle() == 2).await;
        for _ in 0..5 {
            drop(sandbox.worker().await.unwrap());
        }
        until(|| sandbox.idle() == 2 && spawn.alive() == 2).await;
        assert!(spawn.made() >= 7);
        assert_eq!(sandbox.busy(), 0);
    }

    #[tokio::test]
    async fn a_worker_that_is_done_stays_until_its_place_is_given_up() {
        let (sandbox, _actor, spawn) = pool(Settings { warm: 2, ..Settings::default() }).await;
        until(|| sandbox.idle() == 2).await;
        let (done, mut other) = (sandbox.worker().await.unwrap(), sandbox.worker().await.unwrap());
        let (place, before) = (done.place(), spawn.ended());
        done.leave();
        // Time enough for it to see its end, if it had come.
        for _ in 0..100 {
            other.analyze(Language::JavaScript, "1").await.unwrap();
        }
        assert_eq!(spawn.ended(), before);
        drop(place);
        until(|| spawn.ended() > before).await;
    }

    #[tokio::test]
    async fn a_dead_worker_on_the_shelf_is_not_handed_out() {
        let (sandbox, _actor, spawn) = pool(Settings { warm: 2, ..Settings::default() }).await;
        until(|| sandbox.idle() == 2).await;
        spawn.kill_all();
        let worker = sandbox.worker().await.unwrap();
        assert!(worker.channel.is_quiet());
    }

    #[tokio::test]
    async fn places_are_given_in_order_of_arrival_and_the_queue_has_an_end() {
        let settings = Settings { warm: 0, concurrent: 1, queue: 2, patience: Duration::from_secs(30) };
        let (sandbox, _actor, _spawn) = pool(settings).await;
        let first = sandbox.worker().await.unwrap();
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut waiting = Vec::new();
        for n in 0..2 {
            let (sandbox, order) = (sandbox.clone(), order.clone());
            let shared = sandbox.shared.clone();
            waiting.push(tokio::spawn(async move {
                let worker = sandbox.worker().await.unwrap();
                order.lock().unwrap().push(n);
                drop(worker);
            }));
            until(|| shared.waiting.load(Ordering::Relaxed) == n + 1).await;
        }
        let Err(refusal) = sandbox.worker().await else { panic!("the queue is full") };
        assert_eq!(refusal.code, Code::LimitExceeded);
        drop(first);
        for task in waiting {
            task.await.unwrap();
        }
        assert_eq!(*order.lock().unwrap(), [0, 1]);
        assert_eq!(sandbox.shared.waiting.load(Ordering::Relaxed), 0);
    }
}
