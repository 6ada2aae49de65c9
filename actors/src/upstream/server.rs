//! The actor of one upstream server.
//!
//! It owns the connection and nothing else waits for it: starting, listing and closing happen in tasks that report back, calls
//! run in their callers' tasks with the peer it lends them. A server that fails is tried again when it is next needed, each
//! time later (half a second, doubled up to a minute); until then its callers get its last error at once.

use super::catalogue::{Catalogue, Offered};
use super::connection::{Connection, Failure, Offer, START, Signal};
use super::limits::Gates;
use super::spool::Spools;
use super::{Ledger, Settings};
use crate::handle::Slot;
use athena_schemas::layers::upstream::{Health, Note, Observe, Server, Status};
use athena_schemas::refusal::{Code, Refusal};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use rmcp::RoleClient;
use rmcp::service::Peer;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Callers that wait for a start at once.
const WAITING_MAX: usize = 512;
/// The first pause after a failure, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));
/// A server that ran this long is not in a crash loop.
const STABLE: Duration = Duration::from_secs(30);
/// Between two listings of tools that a server asks for.
const RELIST: Duration = Duration::from_millis(500);
/// How long a server may take to answer a ping after a call timed out.
const PING: Duration = Duration::from_secs(5);

/// What readers see of a server, without its mailbox.
pub(super) struct Face {
    pub(super) name: String,
    pub(super) config: Server,
    pub(super) slot: Slot<Message>,
    pub(super) catalogue: RwLock<Arc<Catalogue>>,
    pub(super) status: Mutex<Status>,
    pub(super) calls: AtomicU64,
    pub(super) gates: Gates,
}

impl Face {
    pub(super) fn catalogue(&self) -> Arc<Catalogue> {
        self.catalogue.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn update(&self, change: impl FnOnce(&mut Status)) {
        change(&mut self.status.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// What a caller gets lent.
#[derive(Clone)]
pub(super) struct Live {
    pub(super) peer: Peer<RoleClient>,
    pub(super) signals: UnboundedSender<Signal>,
    pub(super) spools: Spools,
    pub(super) generation: u64,
}

pub(super) enum Message {
    /// Lend the connection, starting the server if need be.
    Lend(RpcReplyPort<Result<Live, Refusal>>),
    /// Start in the background if nothing is known of its tools.
    Warm,
    /// A start ended.
    Opened(u64, Box<Result<(Connection, Offer), Failure>>),
    /// The connection reports something.
    Signalled(u64, Signal),
    /// A listing ended.
    Listed(u64, Result<Offer, String>),
    /// A caller found the connection gone, or unresponsive.
    Suspect(u64, &'static str),
    /// List again and judge again, whatever the cache says.
    Relist(RpcReplyPort<Result<(), Refusal>>),
    /// A ping after a suspicion failed.
    Hanging(u64),
}

enum Phase {
    Idle,
    Starting(JoinHandle<()>),
    Ready(Box<Connection>, Instant),
    Failing(Instant, Failure),
}

pub(super) struct ServerActor {
    pub(super) face: Arc<Face>,
    pub(super) settings: Arc<Settings>,
}

pub(super) struct State {
    phase: Phase,
    generation: u64,
    failures: u32,
    waiting: Vec<RpcReplyPort<Result<Live, Refusal>>>,
    relisting: Vec<RpcReplyPort<Result<(), Refusal>>>,
    listing: bool,
    again: bool,
    signals: Option<UnboundedSender<Signal>>,
}

impl Actor for ServerActor {
    type Msg = Message;
    type State = State;
    type Arguments = ();

    async fn pre_start(&self, myself: ActorRef<Message>, (): ()) -> Result<State, ActorProcessingErr> {
        self.face.slot.fill(myself);
        let health = if self.face.config.disabled { Health::Disabled } else { Health::Idle };
        self.face.update(|status| status.health = health);
        Ok(State {
            phase: Phase::Idle,
            generation: 0,
            failures: 0,
            waiting: Vec::new(),
            relisting: Vec::new(),
            listing: false,
            again: false,
            signals: None,
        })
    }

    async fn handle(
        &self,
        me: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Lend(reply) => self.lend(&me, state, reply),
            Message::Warm => {
                if matches!(state.phase, Phase::Idle) && !self.face.config.disabled {
                    self.start(&me, state);
                }
            }
            Message::Opened(generation, outcome) if generation == state.generation => match *outcome {
                Ok((connection, offer)) => self.opened(&me, state, connection, offer).await,
                Err(failure) => self.failed(state, failure).await,
            },
            Message::Signalled(generation, signal) if generation == state.generation => match signal {
                Signal::ToolsChanged => self.relist(&me, state),
                Signal::Gone => self.gone(state, "its process ended").await,
                Signal::Declined(method, what) => {
                    tracing::info!(
                        server = self.face.name,
                        method,
                        "an upstream asked for something policy does not give"
                    );
                    self.note(Some(method), what).await;
                }
            },
            Message::Listed(generation, outcome) if generation == state.generation => {
                self.listed(&me, state, outcome).await;
            }
            Message::Suspect(generation, why) if generation == state.generation => {
                self.suspect(&me, state, why).await
            }
            Message::Hanging(generation) if generation == state.generation => {
                self.gone(state, "it stopped answering").await;
            }
            Message::Relist(reply) => {
                state.relisting.push(reply);
                match state.phase {
                    Phase::Ready(..) => self.relist(&me, state),
                    Phase::Starting(_) => {}
                    Phase::Idle | Phase::Failing(..) => self.start(&me, state),
                }
            }
            // Of a connection that is no longer ours.
            Message::Opened(_, outcome) => {
                if let Ok((connection, _)) = *outcome {
                    tokio::spawn(connection.close());
                }
            }
            Message::Signalled(..) | Message::Listed(..) | Message::Suspect(..) | Message::Hanging(_) => {}
        }
        Ok(())
    }

    async fn post_stop(&self, _: ActorRef<Message>, state: &mut State) -> Result<(), ActorProcessingErr> {
        match std::mem::replace(&mut state.phase, Phase::Idle) {
            Phase::Starting(task) => task.abort(),
            Phase::Ready(connection, _) => connection.close().await,
            Phase::Idle | Phase::Failing(..) => {}
        }
        self.face.update(|status| (status.health, status.pid) = (Health::Idle, None));
        Ok(())
    }
}

impl ServerActor {
    fn lend(&self, me: &ActorRef<Message>, state: &mut State, reply: RpcReplyPort<Result<Live, Refusal>>) {
        if self.face.config.disabled {
            let refusal =
                Refusal::denied(format!("the upstream {} is disabled in its configuration", self.face.name));
            let _ = reply.send(Err(refusal));
            return;
        }
        if let (Some(live), Phase::Ready(connection, _)) = (self.live(state), &state.phase)
            && !connection.is_closed()
        {
            let _ = reply.send(Ok(live));
            return;
        }
        if let Phase::Failing(until, failure) = &state.phase
            && Instant::now() < *until
        {
            let _ = reply.send(Err(self.down(failure)));
            return;
        }
        if state.waiting.len() >= WAITING_MAX {
            let refusal = Refusal::new(
                Code::LimitExceeded,
                format!("{WAITING_MAX} calls wait for {} already", self.face.name),
            );
            let _ = reply.send(Err(refusal.hint("retry later")));
            return;
        }
        state.waiting.push(reply);
        if !matches!(state.phase, Phase::Starting(_)) {
            self.start(me, state);
        }
    }

    fn live(&self, state: &State) -> Option<Live> {
        let Phase::Ready(connection, _) = &state.phase else { return None };
        Some(Live {
            peer: connection.peer(),
            signals: state.signals.clone()?,
            spools: connection.spools(),
            generation: state.generation,
        })
    }

    fn start(&self, me: &ActorRef<Message>, state: &mut State) {
        if let Phase::Ready(connection, _) = std::mem::replace(&mut state.phase, Phase::Idle) {
            tokio::spawn(connection.close());
        }
        state.generation += 1;
        state.listing = false;
        let generation = state.generation;
        let (signals, mut incoming) = unbounded_channel();
        state.signals = Some(signals.clone());
        let forward = me.clone();
        tokio::spawn(async move {
            while let Some(signal) = incoming.recv().await {
                if forward.cast(Message::Signalled(generation, signal)).is_err() {
                    return;
                }
            }
        });
        self.face.update(|status| {
            status.health = Health::Starting;
            status.starts += 1;
        });
        let (face, settings, me) = (self.face.clone(), self.settings.clone(), me.clone());
        state.phase = Phase::Starting(tokio::spawn(async move {
            let outcome = open(&face, &settings, signals).await;
            let _ = me.cast(Message::Opened(generation, Box::new(outcome)));
        }));
    }

    async fn opened(&self, me: &ActorRef<Message>, state: &mut State, connection: Connection, offer: Offer) {
        if let Err(refusal) = self.judge(offer).await {
            let stderr = connection.tail.lines();
            tokio::spawn(connection.close());
            self.failed(
                state,
                Failure {
                    why: format!("its tools could not be recorded: {refusal}"),
                    stderr,
                    ..Failure::default()
                },
            )
            .await;
            return;
        }
        metrics::gauge!("athena_upstream_up", "server" => self.face.name.clone()).set(1.0);
        self.face.update(|status| {
            status.health = Health::Ready;
            status.pid = connection.pid;
            status.implementation.clone_from(&connection.implementation);
            status.protocol.clone_from(&connection.protocol);
            status.error = None;
            status.stderr.clear();
        });
        state.phase = Phase::Ready(Box::new(connection), Instant::now());
        for reply in std::mem::take(&mut state.waiting) {
            if let Some(live) = self.live(state) {
                let _ = reply.send(Ok(live));
            }
        }
        for reply in std::mem::take(&mut state.relisting) {
            let _ = reply.send(Ok(()));
        }
        // A change that was announced while it was being listed.
        if std::mem::take(&mut state.again) {
            self.relist(me, state);
        }
    }

    /// Compares what is offered with what is pinned, shows the result and keeps it for next time.
    async fn judge(&self, offer: Offer) -> Result<(), Refusal> {
        let observe = Observe {
            server: self.face.name.clone(),
            tools: offer.tools.iter().map(|defined| defined.pin.clone()).collect(),
        };
        let verdict = self.settings.ledger.observe(observe).await?;
        let catalogue = Arc::new(Catalogue::new(&self.face.config, offer, &verdict));
        self.face.update(|status| {
            let count = |wanted: &dyn Fn(&Offered) -> bool| {
                catalogue.tools.iter().filter(|tool| wanted(tool)).count() as u32
            };
            status.tools = count(&|tool| tool.held.is_none());
            status.held = count(&|tool| tool.held.is_some());
            status.flagged = count(&|tool| !tool.flagged.is_empty());
            status.refused.clone_from(&catalogue.refused);
        });
        *self.face.catalogue.write().unwrap_or_else(PoisonError::into_inner) = catalogue.clone();
        self.settings.changed();
        if let Some(folder) = self.settings.folder.clone() {
            let name = self.face.name.clone();
            tokio::task::spawn_blocking(move || {
                if let Err(error) = catalogue.save(&folder, &name) {
                    tracing::warn!(server = name, %error, "the catalogue could not be kept for next time");
                }
            });
        }
        Ok(())
    }

    async fn failed(&self, state: &mut State, failure: Failure) {
        let pause = PAUSE.0.saturating_mul(1 << state.failures.min(8)).min(PAUSE.1);
        state.failures += 1;
        tracing::warn!(server = self.face.name, why = failure.why, "an upstream failed");
        metrics::gauge!("athena_upstream_up", "server" => self.face.name.clone()).set(0.0);
        self.face.update(|status| {
            status.health = Health::Failing;
            status.pid = None;
            status.error = Some(failure.why.clone());
            status.stderr.clone_from(&failure.stderr);
        });
        let refusal = self.down(&failure);
        for reply in std::mem::take(&mut state.waiting) {
            let _ = reply.send(Err(refusal.clone()));
        }
        for reply in std::mem::take(&mut state.relisting) {
            let _ = reply.send(Err(refusal.clone()));
        }
        let what = match failure.stderr.last() {
            Some(last) => format!("{}; stderr: {last}", failure.why),
            None => failure.why.clone(),
        };
        state.phase = Phase::Failing(Instant::now() + pause, failure);
        self.note(None, what).await;
    }

    async fn gone(&self, state: &mut State, why: &'static str) {
        let (connection, since) = match std::mem::replace(&mut state.phase, Phase::Idle) {
            Phase::Ready(connection, since) => (connection, since),
            // The end of a process that never got ready is told twice: its start has failed already, and its pause stands.
            other => {
                state.phase = other;
                return;
            }
        };
        if since.elapsed() >= STABLE {
            state.failures = 0;
        }
        let failure =
            Failure { why: why.into(), stderr: connection.tail.last_words().await, ..Failure::default() };
        tokio::spawn(connection.close());
        self.failed(state, failure).await;
        // What ran well may start again at once; a crash loop waits.
        if state.failures == 1
            && let Phase::Failing(until, _) = &mut state.phase
        {
            *until = Instant::now();
        }
    }

    async fn suspect(&self, me: &ActorRef<Message>, state: &mut State, why: &'static str) {
        let Phase::Ready(connection, _) = &state.phase else { return };
        if connection.is_closed() {
            self.gone(state, why).await;
            return;
        }
        let (peer, me, generation) = (connection.peer(), me.clone(), state.generation);
        tokio::spawn(async move {
            // Any answer will do: `tools/list` is one that every server knows, in both eras.
            let answered = tokio::time::timeout(PING, peer.list_tools(None)).await;
            if !matches!(answered, Ok(Ok(_) | Err(rmcp::ServiceError::McpError(_)))) {
                let _ = me.cast(Message::Hanging(generation));
            }
        });
    }

    fn relist(&self, me: &ActorRef<Message>, state: &mut State) {
        let Phase::Ready(connection, _) = &state.phase else {
            state.again = true;
            return;
        };
        if std::mem::replace(&mut state.listing, true) {
            state.again = true;
            return;
        }
        let (peer, name, me, generation) =
            (connection.peer(), self.face.name.clone(), me.clone(), state.generation);
        tokio::spawn(async move {
            let started = Instant::now();
            let outcome = match tokio::time::timeout(START, Connection::offer(peer, name)).await {
                Ok(listed) => listed.map_err(|failure| failure.why),
                Err(_) => Err("tools/list took too long".into()),
            };
            let _ = me.cast(Message::Listed(generation, outcome));
            // Spaced, however often the server asks.
            tokio::time::sleep_until(started + RELIST).await;
        });
    }

    async fn listed(&self, me: &ActorRef<Message>, state: &mut State, outcome: Result<Offer, String>) {
        state.listing = false;
        let outcome = match outcome {
            Ok(offer) => self.judge(offer).await,
            Err(why) => Err(Refusal::new(Code::Upstream, format!("{}: {why}", self.face.name))),
        };
        if let Err(refusal) = &outcome {
            tracing::warn!(server = self.face.name, %refusal, "its tools could not be listed again");
        }
        for reply in std::mem::take(&mut state.relisting) {
            let _ = reply.send(outcome.clone());
        }
        if std::mem::take(&mut state.again) {
            let me = me.clone();
            let generation = state.generation;
            tokio::spawn(async move {
                tokio::time::sleep(RELIST).await;
                let _ = me.cast(Message::Signalled(generation, Signal::ToolsChanged));
            });
        }
    }

    fn down(&self, failure: &Failure) -> Refusal {
        down(&self.face.name, failure)
    }

    async fn note(&self, declined: Option<&str>, what: String) {
        let note = Note { server: self.face.name.clone(), declined: declined.map(str::to_string), what };
        self.settings.ledger.note(note).await;
    }
}

/// The refusal of a server that does not run: it names the server and shows the end of its stderr.
pub(super) fn down(server: &str, failure: &Failure) -> Refusal {
    let mut message = format!("the upstream {server} does not run: {}", failure.why);
    let tail: Vec<&str> = failure.stderr.iter().rev().take(5).rev().map(String::as_str).collect();
    if !tail.is_empty() {
        message.push_str("; its stderr ends: ");
        message.push_str(&tail.join(" ⏎ "));
    }
    let hint = if failure.why.contains(super::connection::UNAUTHORIZED) { "auth" } else { "test" };
    Refusal::new(Code::Upstream, message).hint(format!("athena upstream {hint} {server}"))
}

async fn open(
    face: &Face,
    settings: &Settings,
    signals: UnboundedSender<Signal>,
) -> Result<(Connection, Offer), Failure> {
    let secrets = secrets(&*settings.ledger, &face.name, &face.config).await;
    let bare = |why: String| Failure { why, ..Failure::default() };
    let access = match &face.config.url {
        Some(url) if face.config.command.is_none() => {
            let url = super::connection::address(url, &secrets).map_err(bare)?;
            super::oauth::client(settings.ledger.clone(), &face.name, &url, settings.spools.clone())
                .await
                .map_err(bare)?
        }
        _ => None,
    };
    let connection =
        Connection::open(&face.config, &secrets, access, settings.spools.clone(), signals).await?;
    let listing = Connection::offer(connection.peer(), face.name.clone());
    match tokio::time::timeout(START, listing).await {
        Ok(Ok(offer)) => Ok((connection, offer)),
        outcome => {
            let failure = match outcome {
                Ok(Err(failure)) => failure,
                _ => bare("tools/list took too long".into()),
            };
            let stderr = connection.tail.lines();
            tokio::spawn(connection.close());
            Err(Failure { stderr, ..failure })
        }
    }
}

/// The values of the vault that a configuration names as `${vault:NAME}`.
pub(super) async fn secrets(ledger: &dyn Ledger, server: &str, config: &Server) -> BTreeMap<String, String> {
    let mut wanted = std::collections::BTreeSet::new();
    let texts = config.env.values().chain(config.headers.values()).chain(&config.args);
    let texts = texts.chain(&config.url).chain(&config.command).chain(&config.cwd);
    for text in texts {
        for part in text.split("${vault:").skip(1) {
            wanted.extend(part.split_once('}').map(|(name, _)| format!("vault:{name}")));
        }
    }
    let mut found = BTreeMap::new();
    for name in wanted {
        let key = name.strip_prefix("vault:").unwrap_or(&name);
        if let Some(value) = ledger.secret(server, key).await {
            found.insert(name, value);
        }
    }
    found
}
