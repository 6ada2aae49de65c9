//! The house: every part in start order, and its orderly end.
//!
//! Start order is dependency order, and the supervisor's rest-for-one rule follows it: log, projectors, layers, tokenizer,
//! upstreams, sandbox pool.

use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::daemon::server::Custody;
use crate::links::{Globals, Outside, Pinned, RunTokens, Worked, effect, own};
use crate::read_side::ReadSide;
use crate::router::{Freshness, Parts, Router};
use crate::services::House;
use crate::services::consolidation::Reasoner;
use crate::services::erasure::Erasure;
use crate::services::retention::Retention;
use crate::toolbox::{Learnt, Toolbox};
use crate::types::Checker;
use athena_actors::dispatch::Layers;
use athena_actors::guard::policy::Policy;
use athena_actors::guard::{Guard, Reach};
use athena_actors::keys::{KeyStore, MasterKey, PayloadSealer, SystemKeyring};
use athena_actors::layer::Snapshots as LayerSnapshots;
use athena_actors::log::{Location, LogHandle, Mode, OpenReport, Options as LogOptions, Phases, Snapshots};
use athena_actors::privacy::Tokenizer;
use athena_actors::run::Runs;
use athena_actors::run::parts::{Catalogued, Parts as RunParts};
use athena_actors::sandbox::deno::Deno;
use athena_actors::sandbox::presets::Preset;
use athena_actors::sandbox::spawn::Spawn;
use athena_actors::sandbox::zygote::{self, Zygote};
use athena_actors::sandbox::{Pool, Sandbox, Settings};
use athena_actors::supervisor::{Child, Policy as Restarts, Supervisor};
use athena_actors::upstream::Upstreams;
use athena_projections::library::{Library, Options as LibraryOptions};
use athena_projections::search::embed::shelf::Shelf;
use athena_schemas::layers::upstream::{Command as UpstreamCommand, Roster, Server};
use athena_schemas::ports::{LogError, LogReader, Sealer, Views};
use athena_schemas::refusal::{Code, Refusal};
use athena_schemas::risk::Risk;
use athena_schemas::surface::Effect;
use ractor::{Actor, ActorRef};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The value and the log lines of an answer, bytes each; what is larger is cut and handed out by a handle.
const ANSWER_BYTES: usize = 24 << 10;

/// What an engine needs beside the heap of a run, mebibytes: the largest, CPython with its library, and what allocators keep.
const ENGINE_MB: u64 = 128;

/// What a Deno needs beyond that: it and its keeper.
const DENO_MB: u64 = 128;

const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

/// How long an orderly end may take before what still runs is left to the next start.
const SHUTDOWN_WAIT: Duration = Duration::from_secs(20);

/// How a store is opened.
pub struct Options {
    /// Its folder; in memory where missing.
    pub folder: Option<PathBuf>,
    /// Its settings.
    pub config: Config,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Where the master key comes from.
    pub master: MasterKey,
    /// Other MCP servers, besides those that were added to the store.
    pub upstreams: BTreeMap<String, Server>,
    /// Whether runs are possible: a program that embeds Athena may not be its own worker.
    pub sandbox: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            folder: None,
            config: Config::default(),
            clock: Arc::new(SystemClock::default()),
            master: MasterKey::default(),
            upstreams: BTreeMap::new(),
            sandbox: true,
        }
    }
}

/// Where the master key comes from: `ATHENA_MASTER_KEY` where it is set, else where the settings say, which is the store's file
/// unless they say otherwise.
///
/// # Errors
/// When the variable is not 64 hexadecimal digits, or the settings name no such place.
pub fn master_key(config: &Config, env: impl Fn(&str) -> Option<String>) -> Result<MasterKey, Refusal> {
    match (env("ATHENA_MASTER_KEY"), config.keys.master.as_str()) {
        (Some(text), _) => MasterKey::from_hex(&text),
        (None, "file") => Ok(MasterKey::File),
        (None, "keyring") => Ok(MasterKey::Keyring(SystemKeyring::default())),
        (None, other) => Err(Refusal::invalid(format!("keys.master is {other:?}")).hint("file or keyring")),
    }
}

/// The servers of `upstreams.json` in the folder of settings, in the ordinary `mcpServers` form.
///
/// # Errors
/// When the file is not JSON, or a server in it is not well formed.
pub fn configured(folders: &crate::config::Folders) -> Result<BTreeMap<String, Server>, Refusal> {
    let file = folders.config.join("upstreams.json");
    let Ok(text) = std::fs::read_to_string(&file) else { return Ok(BTreeMap::new()) };
    let unreadable = |error: String| Refusal::invalid(format!("{}: {error}", file.display()));
    let config = serde_json::from_str(&text).map_err(|error| unreadable(error.to_string()))?;
    athena_actors::upstream::config::servers(&config).map_err(|refusal| unreadable(refusal.to_string()))
}

/// An open store with everything that works on it.
pub struct System {
    router: Arc<Router>,
    log: LogHandle,
    sealer: Arc<dyn Sealer>,
    keys: Arc<KeyStore>,
    layers: Layers,
    read_side: Arc<ReadSide>,
    runs: Arc<Runs>,
    upstreams: Upstreams,
    toolbox: Arc<Toolbox>,
    opened: OpenReport,
    folder: Option<PathBuf>,
    clock: Arc<dyn Clock>,
    phases: Phases,
    root: ActorRef<()>,
    done: tokio::sync::Mutex<Option<tokio::task::JoinHandle<()>>>,
    /// Finishes the erasures and retirements that a crash cut off.
    settling: tokio::sync::Mutex<Option<tokio::task::JoinHandle<()>>>,
    _temporary: Option<Temporary>,
}

impl System {
    /// Opens a store and starts every part.
    ///
    /// # Errors
    /// [`Code::Integrity`] when the log is damaged, [`Code::Unavailable`] when another process has it open.
    pub async fn open(options: Options) -> Result<Self, Refusal> {
        let temporary = if options.folder.is_none() { Some(Temporary::new(&*options.clock)?) } else { None };
        let ground = blocking({
            let folder = options.folder.clone();
            let keys = folder.clone().or_else(|| temporary.as_ref().map(|t| t.0.clone()));
            let (config, master) = (options.config.clone(), options.master);
            move || Ground::open(folder, keys.unwrap_or_default(), &config, master)
        })
        .await??;
        let Ground { log, opened, keys, sealer, library, mut phases } = ground;
        let (reader, clock) = (log.reader(), options.clock);
        let (read_side, mut children) = ReadSide::new(library, reader.clone(), sealer.clone());
        let read_side = Arc::new(read_side);

        let layers = Layers::default();
        let tokenizer = Tokenizer::new(log.clone(), keys.clone(), sealer.clone());
        let ledger = Arc::new(Pinned {
            pins: layers.upstream.clone(),
            clock: clock.clone(),
            tokenizer: tokenizer.clone(),
        });
        let model = &options.config.consolidation.model;
        let reasoner = Reasoner::of(model, ledger.clone())?;
        let reasons = reasoner.is_some() && model.scheduled;
        let catalogues = options.folder.as_ref().map(|folder| folder.join("upstreams"));
        let upstreams = Upstreams::new(ledger, catalogues);
        let guard = Arc::new(guard(&layers, &options.config, &upstreams)?);
        let router = Router::new(Parts {
            layers: layers.clone(),
            views: read_side.library.clone() as Arc<dyn Views>,
            freshness: read_side.freshness(),
            reader: reader.clone(),
            tokenizer: tokenizer.clone(),
            guard: guard.clone(),
            clock: clock.clone(),
        });
        let sandbox = sandbox(&options.config.sandbox)?;
        let learnt = Arc::new(Learnt(read_side.library.clone()));
        let worked = Arc::new(Worked::new(layers.meta.clone(), read_side.library.clone()));
        let toolbox = Arc::new(Toolbox::with_skills(upstreams.clone(), learnt).advised_by(worked));
        sandbox.expect(&toolbox.namespaces());
        let runs = Arc::new(Runs::new(RunParts {
            log: log.clone(),
            sealer: sealer.clone(),
            sandbox: sandbox.clone(),
            judge: guard.clone(),
            tokenize: Arc::new(RunTokens(tokenizer.clone())),
            types: {
                let settings = &options.config.sandbox;
                Arc::new(Checker::new(toolbox.clone(), settings.checker.clone(), settings.type_check))
            },
            effects: {
                let upstreams = upstreams.clone();
                Arc::new(Catalogued(move |op: &str| effect(&upstreams, op)))
            },
            surface: Arc::new(Globals(toolbox.clone())),
            clock: {
                let clock = clock.clone();
                Arc::new(move || clock.now_ms())
            },
            count: crate::tokens::count,
            answer_bytes: ANSWER_BYTES,
            session_idle_ms: options.config.sandbox.session_days.saturating_mul(DAY_MS),
        }));
        let port: Arc<dyn athena_schemas::ports::Router> = router.clone();
        runs.connect(&port);
        let outside = Outside {
            toolbox: toolbox.clone(),
            upstreams: upstreams.clone(),
            tokenizer: tokenizer.clone(),
            runs: runs.clone(),
        };
        let erasure = Arc::new(Erasure::new(
            log.clone(),
            sealer.clone(),
            keys.clone(),
            layers.clone(),
            read_side.clone(),
            tokenizer.clone(),
            runs.clone(),
        ));
        let house = House {
            erasure: erasure.clone(),
            retention: Retention::new(&options.config.retention),
            layers: layers.clone(),
            log: log.clone(),
            keys: keys.clone(),
            sealer: sealer.clone(),
            read_side: read_side.clone(),
            folder: options
                .folder
                .clone()
                .or_else(|| temporary.as_ref().map(|t| t.0.clone()))
                .unwrap_or_default(),
            runs: runs.clone(),
            workers: options.sandbox,
            guard: guard.clone(),
            tokenizer: tokenizer.clone(),
            upstreams: upstreams.clone(),
            reasoner,
            router: Arc::downgrade(&router),
        };
        router.complete(Arc::new(outside), Arc::new(house));

        let snapshots = options.folder.as_ref().map(|folder| {
            Arc::new(Snapshots::new(folder.join("snapshots"), &log, &keys)) as Arc<dyn LayerSnapshots>
        });
        children.extend(layers.children(&log, &sealer, snapshots.as_ref()));
        children.push(tokenizer.child());
        children.push(guard.child());
        children.push(upstreams.child());
        if options.sandbox {
            let pool = sandbox.clone();
            children.push(Child::actor("sandbox", || Pool, move || pool.clone()));
        }
        let starts: Arc<Mutex<Phases>> = Arc::default();
        let noted = starts.clone();
        let note = move |name: &str, took| {
            noted.lock().unwrap_or_else(PoisonError::into_inner).push((format!("start: {name}"), took));
        };
        let children: Vec<Child> = children.into_iter().map(|child| child.timed(note.clone())).collect();
        let (root, done) = Actor::spawn(None, Supervisor, (children, Restarts::default()))
            .await
            .map_err(|error| Refusal::new(Code::Unavailable, format!("the store does not start: {error}")))?;

        phases.append(&mut starts.lock().unwrap_or_else(PoisonError::into_inner));
        let mut system = Self {
            router,
            log,
            sealer,
            keys,
            layers,
            read_side,
            runs,
            upstreams,
            toolbox,
            opened,
            folder: options.folder.clone(),
            clock: clock.clone(),
            phases,
            root,
            done: tokio::sync::Mutex::new(Some(done)),
            settling: tokio::sync::Mutex::default(),
            _temporary: temporary,
        };
        let begun = Instant::now();
        system.enrol(options.upstreams, &*clock).await?;
        system.recover_runs(system.read_side.freshness()).await?;
        system.phases.push(("servers and runs taken up".into(), begun.elapsed()));
        // An erasure or retirement that a crash cut off is finished, beside the rest.
        let log = system.log.clone();
        let settling = tokio::spawn(async move {
            if let Err(refusal) = erasure.settle().await {
                tracing::warn!(%refusal, "an erasure is not finished");
            }
            if let Err(refusal) = athena_actors::retention::settle(&log).await {
                tracing::warn!(%refusal, "what was retired is not all dropped");
            }
        });
        *system.settling.get_mut() = Some(settling);
        tokio::spawn(crate::schedule::consolidation(Arc::downgrade(&system.router), reasons));
        tokio::spawn(crate::schedule::retention(Arc::downgrade(&system.router)));
        let read_side = Arc::downgrade(&system.read_side);
        tokio::spawn(crate::schedule::write_out(system.log.clone(), read_side));
        Ok(system)
    }

    /// Marks what a daemon that died left unfinished. Which runs those are the read side knows, once it has seen all of the
    /// log: a list from before would leave a run at work for ever, so a read side that is behind is waited for, beside.
    async fn recover_runs(&self, freshness: Freshness) -> Result<(), Refusal> {
        let head = self.log.reader().head();
        if freshness.reached(head).await {
            return self.runs.recover().await.map(drop);
        }
        let runs = self.runs.clone();
        tokio::spawn(async move {
            while !freshness.reached(head).await {
                tracing::warn!(head, "the read side is behind; unfinished runs are marked when it is not");
            }
            if let Err(refusal) = runs.recover().await {
                tracing::warn!(%refusal, "unfinished runs are not marked");
            }
        });
        Ok(())
    }

    /// The servers that were added to the store, and those of the configuration.
    async fn enrol(&self, configured: BTreeMap<String, Server>, clock: &dyn Clock) -> Result<(), Refusal> {
        let roster = UpstreamCommand::Roster(Roster {});
        let known = self.layers.upstream.decide(own(clock), roster, None).await?.value;
        let known: BTreeMap<String, Server> =
            serde_json::from_value(known).map_err(|error| Refusal::internal(error.to_string()))?;
        for (name, server) in known.into_iter().chain(configured) {
            if let Err(refusal) = self.upstreams.configure(&name, server) {
                tracing::warn!(name, %refusal, "an upstream server was left out");
            }
        }
        self.upstreams.warm();
        Ok(())
    }

    /// The one way in.
    pub fn router(&self) -> Arc<dyn athena_schemas::ports::Router> {
        self.router.clone()
    }

    /// The log, for those who read it.
    pub fn log(&self) -> Arc<dyn LogReader> {
        self.log.reader()
    }

    /// Opens the log's payloads.
    pub fn sealer(&self) -> Arc<dyn Sealer> {
        self.sealer.clone()
    }

    /// What is done to the store as a whole.
    pub fn custody(&self) -> Custody {
        let (folder, clock) = (self.folder.clone(), self.clock.clone());
        Custody { log: self.log.clone(), keys: self.keys.clone(), folder, clock }
    }

    /// The keys.
    pub fn keys(&self) -> &Arc<KeyStore> {
        &self.keys
    }

    /// The virtual files and discovery.
    pub fn toolbox(&self) -> &Arc<Toolbox> {
        &self.toolbox
    }

    /// The read side.
    pub fn read_side(&self) -> &Arc<ReadSide> {
        &self.read_side
    }

    /// What was found when the log was opened.
    pub fn opened(&self) -> &OpenReport {
        &self.opened
    }

    /// What opening did, and how long each part of it took. Parts that start at the same time overlap.
    pub fn phases(&self) -> &Phases {
        &self.phases
    }

    /// Runs at work.
    pub fn active_runs(&self) -> usize {
        self.runs.active()
    }

    /// Ends every part in reverse order; what is under way is finished, what was acknowledged is on disk.
    pub async fn shutdown(&self) {
        // It reads the log and may write keys and events: what it needs goes after it.
        if let Some(mut settling) = self.settling.lock().await.take()
            && tokio::time::timeout(SHUTDOWN_WAIT, &mut settling).await.is_err()
        {
            settling.abort();
            tracing::warn!("what was erased or retired is not all settled; the next start goes on with it");
        }
        self.root.stop(None);
        // A read model that is far behind, or one that is being built anew, does not hold up the end.
        self.read_side.close();
        if let Some(done) = self.done.lock().await.take()
            && tokio::time::timeout(SHUTDOWN_WAIT, done).await.is_err()
        {
            tracing::warn!("some parts did not end in time");
        }
        // Nobody writes any more, so the next opening need not replay what the read models have.
        let library = self.read_side.library.clone();
        if let Ok(Err(error)) = blocking(move || library.store.write_out()).await {
            tracing::warn!(%error, "the read models were not written out; the next start replays their journal");
        }
        if let Err(error) = self.log.close().await {
            tracing::warn!(%error, "the log did not close cleanly; the next start looks it over");
        }
        // A call that nobody waits for any more may still hold them for a moment.
        self.keys.close();
    }
}

/// What lies on disk: opened off the async threads.
struct Ground {
    log: LogHandle,
    opened: OpenReport,
    keys: Arc<KeyStore>,
    sealer: Arc<dyn Sealer>,
    library: Library,
    phases: Phases,
}

impl Ground {
    fn open(
        folder: Option<PathBuf>,
        keys: PathBuf,
        config: &Config,
        master: MasterKey,
    ) -> Result<Self, Refusal> {
        let location =
            folder.as_ref().map_or(Location::Memory, |folder| Location::Folder(folder.join("log")));
        let mode = match config.log.durability.as_str() {
            "sync" => Mode::Sync,
            "interval" => Mode::Interval(Duration::from_millis(config.log.interval_ms.clamp(1, 1_000))),
            "buffer" => Mode::Buffer,
            other => {
                return Err(
                    Refusal::invalid(format!("log.durability is {other:?}")).hint("sync, interval or buffer")
                );
            }
        };
        // The log's lock is the store's: nothing else is touched before it is held. Then the log is looked over while the
        // read models open.
        let opener = LogHandle::claim(location)?;
        let models = folder.as_ref().map(|folder| Shelf::new(folder.join("models"))).unwrap_or_default();
        let model = models.resolve(config.model.dir.as_deref())?;
        let views = folder.map(|folder| folder.join("views"));
        let read = || Library::open(LibraryOptions { folder: views.clone(), model: model.clone() });
        let (log, library) = std::thread::scope(|scope| {
            let log = scope.spawn(|| opener.open(&LogOptions { mode, ..LogOptions::default() }));
            let library = read().or_else(|error| {
                // Nothing is true but what is in the log: read models that do not open are made anew from it.
                let Some(views) = &views else { return Err(error) };
                tracing::warn!(%error, "the read models do not open; they are built anew from the log");
                let _ = std::fs::remove_dir_all(views);
                read()
            });
            let log = log.join().unwrap_or_else(|_| Err(LogError::Io("opening the log panicked".into())));
            (log, library)
        });
        let (log, opened) = log?;
        let mut phases = opened.phases.clone();
        phases.extend(library.as_ref().map(|library| library.phases.clone()).unwrap_or_default());
        let begun = Instant::now();
        let keys = Arc::new(KeyStore::open(&keys.join("keys"), master)?);
        phases.push(("keys".into(), begun.elapsed()));
        let sealer: Arc<dyn Sealer> = Arc::new(PayloadSealer::new(keys.clone()));
        let library = library
            .map_err(|error| Refusal::new(Code::Unavailable, error.to_string()).hint("athena doctor"))?
            .with_log(log.reader(), sealer.clone());
        Ok(Self { log, opened, keys, sealer, library, phases })
    }
}

fn guard(layers: &Layers, config: &Config, upstreams: &Upstreams) -> Result<Guard, Refusal> {
    let upstreams = upstreams.clone();
    let reaches = Arc::new(move |op: &str| {
        let tool = upstreams.tool(op);
        let open_world = tool.as_ref().and_then(|tool| tool.annotations.open_world_hint);
        Reach {
            risk: tool.as_ref().map_or(Risk::Medium, |tool| tool.risk),
            writes: upstreams.effect(op) != Effect::Read,
            // MCP takes a tool for one of the open world unless it says otherwise.
            outbound: open_world != Some(false),
            declared: open_world == Some(true) || tool.is_none(),
        }
    });
    Ok(Guard::new(
        layers.approval.clone(),
        Policy::default(),
        Preset::load(&config.sandbox.preset)?,
        config.approvals.ttl_s,
        reaches,
    ))
}

/// The sandbox as the settings want it; its processes come with the first run, or with the pool.
pub(crate) fn sandbox(config: &crate::config::Sandbox) -> Result<Sandbox, Refusal> {
    let mut arguments = Vec::new();
    if config.allow_weak {
        arguments.extend(["--least".to_owned(), "none".to_owned()]);
    }
    let workers = zygote::Settings { arguments, grouped: run_memory(config)? };
    let unstarted = |error| Refusal::new(Code::Unavailable, format!("the sandbox does not start: {error}"));
    let python: Option<Arc<dyn Spawn>> = match config.python.as_str() {
        "" => None,
        name => Some(Arc::new(Zygote::python(workers.clone(), name.into()).map_err(unstarted)?)),
    };
    let deno: Option<Arc<dyn Spawn>> = match config.deno.as_str() {
        "" => None,
        name => {
            let grouped = workers.grouped.map(|bytes| bytes + (DENO_MB << 20));
            let workers = zygote::Settings { grouped, ..workers.clone() };
            Some(Arc::new(Deno::new(workers, name.into()).map_err(unstarted)?))
        }
    };
    let spawn = Arc::new(Zygote::new(workers).map_err(unstarted)?);
    let settings = Settings { warm: config.warm, concurrent: config.concurrent, ..Settings::default() };
    Ok(Sandbox::with_engines(settings, spawn, python, deno))
}

/// What a run's control group gives it, where groups are wanted: the heap that any run may have, and room for its engine.
fn run_memory(config: &crate::config::Sandbox) -> Result<Option<u64>, Refusal> {
    if !config.cgroup {
        return Ok(None);
    }
    let heap = u64::from(Preset::load(&config.preset)?.at(Risk::Low).memory_mb);
    Ok(Some((heap + ENGINE_MB) << 20))
}

/// The folder of a store in memory: its keys have to lie somewhere, and go with it.
struct Temporary(PathBuf);

impl Temporary {
    fn new(clock: &dyn Clock) -> Result<Self, Refusal> {
        let name: String = clock.random().iter().map(|byte| format!("{byte:02x}")).collect();
        let folder = std::env::temp_dir().join(format!("athena-{name}"));
        std::fs::create_dir_all(&folder)
            .map_err(|error| Refusal::new(Code::Unavailable, format!("no folder for keys: {error}")))?;
        Ok(Self(folder))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Refusal::internal(format!("opening failed: {error}")))
}
