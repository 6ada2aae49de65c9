//! Upstreams: other MCP servers, reached as a client, one supervised actor each.
//!
//! [`Upstreams`] is what everyone else holds. Read in this order: [`server`] (the actor: start, restart, health),
//! [`connection`] (one live connection and what it may not ask), [`stdio`] (the child process, [`keeper`] who ends it, [`scan`] and
//! [`spool`] for answers of any size), [`definition`] (names, pins, hidden instructions), [`pins`] (what the log keeps), [`web`] and `events` (the
//! same over HTTP), `mending` (lists of tools that are not well formed), [`validate`] and [`answer`] (what goes in and what comes out), [`catalogue`] (what is known without asking), [`config`].

pub mod address;
pub mod answer;
pub mod catalogue;
pub mod config;
pub mod connection;
pub mod definition;
mod events;
#[cfg_attr(not(target_os = "linux"), path = "unkept.rs")]
pub mod keeper;
mod limits;
mod mending;
pub mod oauth;
pub mod pins;
pub mod scan;
mod server;
pub mod spool;
pub mod stdio;
pub mod validate;
pub mod web;

use crate::handle::Slot;
use crate::supervisor::Child;
use athena_schemas::layers::upstream::{Health, Note, Observe, Server, Status, ToolStatus, Verdict};
use athena_schemas::ports::BoxFuture;
use athena_schemas::refusal::{Code, Refusal, nearest};
use athena_schemas::surface::{Effect, Tool};
use catalogue::{Catalogue, Offered};
use connection::{Connection, Fault};
use limits::Gates;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent};
use serde_json::{Map, Value};
use server::{Face, Live, Message, ServerActor};
use spool::{Slice, Spools};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;
use tokio::time::Instant;

/// What the gateway needs of the rest of the house.
pub trait Ledger: Send + Sync + 'static {
    /// Compares a server's tools with what is pinned, and records what is new (`upstream/observe`).
    fn observe(&self, observe: Observe) -> BoxFuture<'_, Result<Verdict, Refusal>>;

    /// Records that a server failed or was declined something (`upstream/note`). Its failure is nobody's concern.
    fn note(&self, note: Note) -> BoxFuture<'_, ()>;

    /// A secret of a server's configuration, from the vault.
    fn secret<'a>(&'a self, server: &'a str, name: &'a str) -> BoxFuture<'a, Option<String>>;

    /// A server's OAuth credentials, from the vault. None unless said.
    fn credentials<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Option<String>> {
        Box::pin(async { None })
    }

    /// Keeps a server's OAuth credentials in the vault, or forgets them. Refused unless said.
    fn keep_credentials<'a>(
        &'a self,
        server: &'a str,
        _: Option<String>,
    ) -> BoxFuture<'a, Result<(), Refusal>> {
        Box::pin(async move { Err(Refusal::internal(format!("there is no vault for {server}"))) })
    }
}

pub(crate) struct Settings {
    ledger: Arc<dyn Ledger>,
    /// Where catalogues are kept between starts.
    folder: Option<PathBuf>,
    spools: Spools,
    generation: AtomicU64,
    grants: oauth::Grants,
}

impl Settings {
    fn changed(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
    }
}

/// All upstream servers: what the router, the toolbox and the command line hold.
#[derive(Clone)]
pub struct Upstreams {
    settings: Arc<Settings>,
    faces: Arc<RwLock<BTreeMap<String, Arc<Face>>>>,
    gateway: Slot<Order>,
}

impl Upstreams {
    /// No servers so far. `folder` is where their catalogues are kept between starts.
    pub fn new(ledger: Arc<dyn Ledger>, folder: Option<PathBuf>) -> Self {
        Self::keeping(Spools::default(), ledger, folder)
    }

    /// The same, whose long answers are kept in `spools`.
    fn keeping(spools: Spools, ledger: Arc<dyn Ledger>, folder: Option<PathBuf>) -> Self {
        let settings = Settings {
            ledger,
            folder,
            spools,
            generation: AtomicU64::new(0),
            grants: oauth::Grants::default(),
        };
        Self {
            settings: Arc::new(settings),
            faces: Arc::default(),
            gateway: Slot::new("the gateway to upstream servers"),
        }
    }

    /// The supervised child that runs them. Servers configured before it starts are started with it.
    pub fn child(&self) -> Child {
        let upstreams = self.clone();
        Child::actor("upstreams", || Gateway, move || upstreams.clone())
    }

    /// Adds a server, or replaces its configuration. Its process starts when it is first needed.
    ///
    /// # Errors
    /// When its name is not allowed.
    pub fn configure(&self, name: &str, config: Server) -> Result<(), Refusal> {
        definition::server_name(name).map_err(|why| Refusal::invalid(why).at("server"))?;
        let known = self.settings.folder.as_deref().and_then(|folder| Catalogue::load(folder, name, &config));
        let transport = if config.command.is_some() { "stdio" } else { "http" };
        let count = |catalogue: &Catalogue, held: bool| {
            catalogue.tools.iter().filter(|tool| tool.held.is_some() == held).count() as u32
        };
        let catalogue = known.unwrap_or_default();
        let status = Status {
            server: name.into(),
            transport: transport.into(),
            health: if config.disabled { Health::Disabled } else { Health::Idle },
            tools: count(&catalogue, false),
            held: count(&catalogue, true),
            refused: catalogue.refused.clone(),
            ..Status::default()
        };
        let face = Arc::new(Face {
            name: name.into(),
            slot: Slot::new("an upstream server"),
            catalogue: RwLock::new(Arc::new(catalogue)),
            status: Mutex::new(status),
            calls: AtomicU64::new(0),
            gates: Gates::of(name, &config),
            config,
        });
        self.write().insert(name.into(), face);
        self.settings.changed();
        // Before the gateway runs there is nobody to tell; it reads the table when it starts.
        let _ = self.gateway.cast(Order::Run(name.into()));
        Ok(())
    }

    /// Removes a server and ends its process.
    ///
    /// # Errors
    /// When there is no such server.
    pub fn remove(&self, name: &str) -> Result<(), Refusal> {
        self.write().remove(name).ok_or_else(|| self.unknown(name))?;
        self.settings.changed();
        if let Some(folder) = &self.settings.folder {
            catalogue::forget(folder, name);
        }
        let _ = self.gateway.cast(Order::End(name.into()));
        Ok(())
    }

    /// Starts, in the background, every server of whose tools nothing is known yet.
    pub fn warm(&self) {
        for face in self.read().values().filter(|face| !face.catalogue().known) {
            let _ = self.gateway.cast(Order::Warm(face.name.clone()));
        }
    }

    /// The names of the servers.
    pub fn names(&self) -> Vec<String> {
        self.read().keys().cloned().collect()
    }

    /// A number that grows whenever any tool changes: what was built from [`Upstreams::tools`] is stale after that.
    pub fn generation(&self) -> u64 {
        self.settings.generation.load(Ordering::Acquire)
    }

    /// Every tool that can be called, as a model may see it.
    pub fn tools(&self) -> Vec<Tool> {
        let catalogues: Vec<_> =
            self.read().values().filter(|face| !face.config.disabled).map(|face| face.catalogue()).collect();
        catalogues
            .iter()
            .flat_map(|catalogue| &catalogue.tools)
            .filter(|offered| offered.held.is_none())
            .map(|offered| offered.shown())
            .collect()
    }

    /// Every tool with what is pinned, held or flagged, for people.
    pub fn listing(&self, server: Option<&str>) -> Vec<ToolStatus> {
        let faces: Vec<_> = self
            .read()
            .values()
            .filter(|face| server.is_none_or(|name| face.name == name))
            .cloned()
            .collect();
        faces
            .iter()
            .flat_map(|face| {
                face.catalogue().tools.iter().map(|offered| tool_status(offered)).collect::<Vec<_>>()
            })
            .collect()
    }

    /// How the servers are.
    pub fn status(&self) -> Vec<Status> {
        self.read().values().map(|face| status(face)).collect()
    }

    /// Starts a server if it does not run, and lists its tools again.
    ///
    /// # Errors
    /// When it does not run or cannot be asked.
    pub async fn refresh(&self, server: &str) -> Result<Status, Refusal> {
        let face = self.face(server)?;
        ask(&face, Message::Relist).await??;
        Ok(status(&face))
    }

    /// Begins to be granted access to a server by OAuth: the address a person opens.
    ///
    /// # Errors
    /// When it is not reached over HTTP, or grants no access in this way.
    pub async fn begin_grant(&self, server: &str, wanted: oauth::Wanted) -> Result<String, Refusal> {
        let face = self.face(server)?;
        let Some(url) = face.config.url.as_ref().filter(|_| face.config.command.is_none()) else {
            return Err(Refusal::invalid(format!(
                "{server} is a program of this machine; OAuth is for HTTP"
            )));
        };
        let secrets = server::secrets(&*self.settings.ledger, server, &face.config).await;
        let url = connection::address(url, &secrets).map_err(Refusal::invalid)?;
        self.settings.grants.begin(self.settings.ledger.clone(), server, &url, wanted).await
    }

    /// Finishes it with the address that the browser was sent to, and starts the server anew.
    ///
    /// # Errors
    /// When none waits, or the answer is not to what was asked.
    pub async fn finish_grant(&self, server: &str, callback: &str) -> Result<(), Refusal> {
        self.settings.grants.finish(server, callback).await?;
        self.face(server)?;
        let _ = self.gateway.cast(Order::Run(server.into()));
        Ok(())
    }

    /// What a call of `server/tool` leaves behind; a write where nothing is known.
    pub fn effect(&self, op: &str) -> Effect {
        let found = op.split_once('/').and_then(|(server, tool)| {
            let catalogue = self.face(server).ok()?.catalogue();
            catalogue.find(tool).map(|offered| offered.tool.effect())
        });
        found.unwrap_or(Effect::Write)
    }

    /// The tool of an op, as a model may see it.
    pub fn tool(&self, op: &str) -> Option<Tool> {
        let (server, tool) = op.split_once('/')?;
        let catalogue = self.face(server).ok()?.catalogue();
        catalogue.find(tool).map(|offered| offered.shown())
    }

    /// The argument paths at which a tool gets real values instead of tokens. None by default.
    pub fn reveal_paths(&self, server: &str, tool: &str) -> Vec<String> {
        self.face(server).map(|face| config::reveal_paths(&face.config, tool)).unwrap_or_default()
    }

    /// A slice of an answer that was too large to hand over: `limit` bytes of the text behind `handle` from `offset`.
    ///
    /// # Errors
    /// When it is no longer kept.
    pub async fn slice(&self, handle: &str, offset: u64, limit: u64) -> Result<Slice, Refusal> {
        let (spools, handle) = (self.settings.spools.clone(), handle.to_string());
        tokio::task::spawn_blocking(move || spools.slice(&handle, offset, limit))
            .await
            .map_err(|error| Refusal::internal(error.to_string()))?
    }

    /// Calls a tool. Dropping the future cancels the call at the server.
    ///
    /// # Errors
    /// Invalid arguments with their path; unknown, held or failing tools; a server that does not run, named, with the end of
    /// its stderr; [`Code::Unknown`] where a call that may have changed something has no answer.
    pub async fn call(&self, server: &str, tool: &str, arguments: Value) -> Result<Value, Refusal> {
        let face = self.face(server)?;
        let op = format!("{server}/{tool}");
        let known = face.catalogue();
        if let Some(offered) = known.find(tool) {
            admit(offered, &op, &arguments)?;
        }
        let limit = face.gates.timeout(tool);
        let deadline = Instant::now() + limit;
        let _leave = face.gates.pass(tool, deadline).await?;
        let mut attempts = 0;
        loop {
            attempts += 1;
            let live = match tokio::time::timeout_at(
                deadline.max(Instant::now() + connection::START),
                ask(&face, Message::Lend),
            )
            .await
            {
                Ok(lent) => lent??,
                Err(_) => return Err(late(&op, limit, Effect::Read)),
            };
            let catalogue = face.catalogue();
            let offered = catalogue.find(tool).ok_or_else(|| unknown_tool(&catalogue, server, tool))?.clone();
            admit(&offered, &op, &arguments)?;
            let effect = offered.tool.effect();
            // The time of a start is not the call's.
            let deadline = if attempts == 1 { deadline.max(Instant::now() + limit) } else { deadline };
            match once(&face, &live, &offered, &op, &arguments, deadline).await {
                Outcome::Value(value) => return Ok(value),
                Outcome::Refused(refusal) => return Err(refusal),
                Outcome::Late => return Err(late(&op, limit, effect)),
                // It never wrote anything: once more, on a new process.
                Outcome::Gone if effect == Effect::Read && attempts == 1 => {}
                Outcome::Gone => return Err(gone(&face, &op, effect).await),
            }
        }
    }

    fn face(&self, server: &str) -> Result<Arc<Face>, Refusal> {
        self.read().get(server).cloned().ok_or_else(|| self.unknown(server))
    }

    fn unknown(&self, server: &str) -> Refusal {
        let names = self.names();
        let near = nearest(server, names.iter().map(String::as_str));
        let hint = if near.is_empty() { "athena upstream list".into() } else { near.join(", ") };
        Refusal::not_found(format!("there is no upstream {server}")).hint(hint)
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<String, Arc<Face>>> {
        self.faces.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, BTreeMap<String, Arc<Face>>> {
        self.faces.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How one attempt ended.
enum Outcome {
    Value(Value),
    Refused(Refusal),
    Late,
    Gone,
}

async fn once(
    face: &Face,
    live: &Live,
    offered: &Offered,
    op: &str,
    arguments: &Value,
    deadline: Instant,
) -> Outcome {
    let fields: Map<String, Value> = arguments.as_object().cloned().unwrap_or_default();
    let (peer, signals, spools) = (live.peer.clone(), live.signals.clone(), live.spools.clone());
    face.calls.fetch_add(1, Ordering::Relaxed);
    let started = Instant::now();
    let questions = face.config.questions;
    let call = Connection::call(peer, signals, spools, questions, op, offered.tool.wire.clone(), fields);
    let answered = tokio::time::timeout_at(deadline, call).await;
    metrics::histogram!("mcp.client.operation.duration", "server" => face.name.clone())
        .record(started.elapsed().as_secs_f64());
    match answered {
        Ok(Ok(value)) => Outcome::Value(marked(offered, value)),
        Ok(Err(Fault::Tool(refusal))) => Outcome::Refused(refusal),
        Ok(Err(Fault::Challenged(_))) => Outcome::Refused(
            Refusal::new(Code::Upstream, format!("{op}: the server wants access that was not granted"))
                .hint(format!("a person: athena upstream auth {}", face.name)),
        ),
        Ok(Err(Fault::Unread(why))) => Outcome::Refused(match offered.tool.effect() {
            Effect::Read => Refusal::new(Code::Upstream, format!("{op}: its answer cannot be used: {why}")),
            Effect::Idempotent | Effect::Write => Refusal::new(
                Code::Unknown,
                format!("{op}: its answer cannot be used, and whether it took effect is not known: {why}"),
            )
            .hint("look before you repeat it"),
        }),
        Ok(Err(Fault::Gone)) => {
            let _ = face.slot.cast(Message::Suspect(live.generation, "its process ended"));
            Outcome::Gone
        }
        Err(_) => {
            let _ = face.slot.cast(Message::Suspect(live.generation, "it stopped answering"));
            Outcome::Late
        }
    }
}

/// Whether a call may be made at all.
fn admit(offered: &Offered, op: &str, arguments: &Value) -> Result<(), Refusal> {
    if let Some(diff) = &offered.held {
        let tool = &offered.tool;
        return Err(Refusal::denied(format!(
            "{op} is held: its definition changed since it was pinned ({})",
            diff.join("; ")
        ))
        .hint(format!("a person accepts it with: athena upstream accept {} {}", tool.server, tool.name)));
    }
    if !(arguments.is_object() || arguments.is_null()) {
        return Err(Refusal::invalid(format!("{op} takes one object")).hint(format!("{op}({{…}})")));
    }
    let none = Value::Object(Map::new());
    offered.input().arguments(op, if arguments.is_null() { &none } else { arguments })
}

/// An answer that is not what its schema promises says so, where it is an object.
fn marked(offered: &Offered, mut value: Value) -> Value {
    let Some(checker) = offered.output() else { return value };
    let misfits = checker.misfits(&value);
    if !misfits.is_empty()
        && let Some(fields) = value.as_object_mut()
        && !fields.contains_key("handle")
    {
        metrics::counter!("athena_upstream_misfits_total", "server" => offered.tool.server.clone())
            .increment(1);
        let list = misfits
            .into_iter()
            .map(|(path, why)| if path.is_empty() { why } else { format!("{path}: {why}") });
        fields.insert("$misfit".into(), list.collect());
    }
    value
}

fn late(op: &str, limit: Duration, effect: Effect) -> Refusal {
    let limit = limit.as_millis();
    match effect {
        Effect::Read => Refusal::new(
            Code::LimitExceeded,
            format!("{op} did not answer within {limit} ms and was cancelled"),
        )
        .hint("ask for less, or raise the server's or the tool's `timeout_ms`"),
        Effect::Idempotent | Effect::Write => Refusal::new(
            Code::Unknown,
            format!("{op} did not answer within {limit} ms; whether it took effect is not known"),
        )
        .hint("look before you repeat it, or raise the server's `timeout_ms`"),
    }
}

async fn gone(face: &Face, op: &str, effect: Effect) -> Refusal {
    // The actor learns of it in a moment and then knows the last words.
    let deadline = Instant::now() + Duration::from_millis(500);
    let mut now = status(face);
    while now.health == Health::Ready && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(5)).await;
        now = status(face);
    }
    let ended = match face.config.command {
        Some(_) => "its connection ended",
        None => "its connection ended before it answered",
    };
    let failure = connection::Failure {
        why: now.error.unwrap_or_else(|| ended.into()),
        stderr: now.stderr,
        ..connection::Failure::default()
    };
    let refusal = server::down(&face.name, &failure);
    match effect {
        Effect::Read => refusal,
        Effect::Idempotent | Effect::Write => Refusal::new(
            Code::Unknown,
            format!("{op} has no answer, and whether it took effect is not known: {}", refusal.message),
        )
        .hint("look before you repeat it"),
    }
}

fn unknown_tool(catalogue: &Catalogue, server: &str, tool: &str) -> Refusal {
    let names: Vec<&str> = catalogue.tools.iter().map(|offered| offered.tool.name.as_str()).collect();
    let near = nearest(tool, names.iter().copied());
    let refused =
        catalogue.refused.get(tool).map(|why| format!("; it is not offered: {why}")).unwrap_or_default();
    let hint = if near.is_empty() { format!("readdir(\"/mcp-servers/{server}\")") } else { near.join(", ") };
    Refusal::not_found(format!("{server} has no tool {tool}{refused}")).hint(hint)
}

fn status(face: &Face) -> Status {
    let mut status = face.status.lock().unwrap_or_else(PoisonError::into_inner).clone();
    status.calls = face.calls.load(Ordering::Relaxed);
    status
}

fn tool_status(offered: &Offered) -> ToolStatus {
    ToolStatus {
        op: offered.tool.op(),
        description: offered.tool.description.clone(),
        risk: offered.tool.risk,
        digest: offered.pin.digest.clone(),
        held: offered.held.clone().unwrap_or_default(),
        flagged: offered.flagged.clone(),
    }
}

/// Asks the actor of a server. It may be about to start, or to start again: that is waited for.
async fn ask<T: Send + 'static>(
    face: &Face,
    message: impl Fn(RpcReplyPort<T>) -> Message,
) -> Result<T, Refusal> {
    let deadline = Instant::now() + STOP;
    loop {
        let (reply, answer) = ractor::concurrency::oneshot();
        if face.slot.cast(message(reply.into())).is_ok()
            && let Ok(answer) = answer.await
        {
            return Ok(answer);
        }
        if Instant::now() >= deadline {
            return Err(face.slot.down());
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// What the gateway is told.
enum Order {
    Run(String),
    Warm(String),
    End(String),
}

/// Supervises the server actors one by one: a server that dies harms no other.
struct Gateway;

struct Running {
    upstreams: Upstreams,
    actors: BTreeMap<String, ActorCell>,
}

impl Actor for Gateway {
    type Msg = Order;
    type State = Running;
    type Arguments = Upstreams;

    async fn pre_start(
        &self,
        me: ActorRef<Order>,
        upstreams: Upstreams,
    ) -> Result<Running, ActorProcessingErr> {
        let mut running = Running { upstreams: upstreams.clone(), actors: BTreeMap::new() };
        for name in upstreams.names() {
            running.run(&me, &name).await?;
        }
        upstreams.gateway.fill(me);
        Ok(running)
    }

    async fn handle(
        &self,
        me: ActorRef<Order>,
        order: Order,
        running: &mut Running,
    ) -> Result<(), ActorProcessingErr> {
        match order {
            Order::Run(name) => {
                running.end(&name).await;
                running.run(&me, &name).await?;
            }
            Order::Warm(name) => {
                if let Some(face) = running.upstreams.read().get(&name) {
                    let _ = face.slot.cast(Message::Warm);
                }
            }
            Order::End(name) => running.end(&name).await,
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        me: ActorRef<Order>,
        event: SupervisionEvent,
        running: &mut Running,
    ) -> Result<(), ActorProcessingErr> {
        let (dead, why) = match event {
            SupervisionEvent::ActorFailed(cell, error) => (cell, error.to_string()),
            SupervisionEvent::ActorTerminated(cell, _, reason) => (cell, reason.unwrap_or_default()),
            _ => return Ok(()),
        };
        let name = running
            .actors
            .iter()
            .find(|(_, cell)| cell.get_id() == dead.get_id())
            .map(|(name, _)| name.clone());
        if let Some(name) = name {
            tracing::error!(server = name, why, "the actor of an upstream died; starting it again");
            metrics::counter!("athena_actor_restarts_total", "actor" => format!("upstream/{name}"))
                .increment(1);
            running.run(&me, &name).await?;
        }
        Ok(())
    }

    async fn post_stop(&self, _: ActorRef<Order>, running: &mut Running) -> Result<(), ActorProcessingErr> {
        // All at once: each may take its grace.
        let names: Vec<ActorCell> = std::mem::take(&mut running.actors).into_values().collect();
        let stops = names
            .into_iter()
            .map(|cell| tokio::spawn(async move { cell.stop_and_wait(None, Some(STOP)).await }));
        for stop in stops.collect::<Vec<_>>() {
            let _ = stop.await;
        }
        Ok(())
    }
}

/// How long a server's end may take.
const STOP: Duration = Duration::from_secs(4);

impl Running {
    async fn run(&mut self, me: &ActorRef<Order>, name: &str) -> Result<(), ActorProcessingErr> {
        let Some(face) = self.upstreams.read().get(name).cloned() else { return Ok(()) };
        let actor = ServerActor { face, settings: self.upstreams.settings.clone() };
        let (actor, _) = Actor::spawn_linked(None, actor, (), me.get_cell()).await?;
        self.actors.insert(name.into(), actor.get_cell());
        Ok(())
    }

    async fn end(&mut self, name: &str) {
        if let Some(cell) = self.actors.remove(name) {
            let _ = cell.stop_and_wait(None, Some(STOP)).await;
        }
    }
}

#[cfg(test)]
mod stride;
#[cfg(test)]
mod tests;
