//! The front actor: owns every connection. It takes as many as it may, knows who is at the other end of each, and closes them when
//! it ends. A panic in a request is the answer to that request; a panic in a connection ends that connection; and should the actor
//! itself die, its supervisor starts it again and the clients come back by themselves.

use super::calls;
use super::lines::{Line, Lines, REQUEST_MAX, write_json};
use super::protocol::{Connected, Hello, Mode, PROTOCOL, Status, Welcome};
use super::server::{Busy, Opening, Options};
use crate::mcp;
use crate::mcp::attended::{Attended, Guest, Panics, unwound};
use athena_actors::handle::Slot;
use athena_schemas::context::{Caller, Channel, Party, Scope};
use athena_schemas::ports::Router;
use athena_schemas::refusal::{Code, Refusal};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// How long a new client has for its greeting.
const HELLO_WAIT: Duration = Duration::from_secs(10);
/// The longest greeting, bytes.
const HELLO_MAX: usize = 64 << 10;
/// How long a daemon whose store did not open stays to say why.
const USELESS_STAY: Duration = Duration::from_secs(2);
/// Beyond as many clients as it takes, so many more are greeted and told why they are not taken, or answered that only ask how it
/// is; whoever comes then finds the door shut.
const SPARE: usize = 32;

/// What all connections share.
pub(crate) struct Shared {
    pub(crate) router: Arc<dyn Router>,
    pub(crate) opening: Opening,
    pub(crate) busy: Busy,
    pub(crate) options: Options,
    pub(crate) store: String,
    pub(crate) started: Instant,
    pub(crate) ended: watch::Sender<bool>,
    /// The actor, however often it started.
    pub(crate) front: Slot<Message>,
    pub(crate) counts: Counts,
}

/// What is counted over the daemon's whole life.
#[derive(Default)]
pub(crate) struct Counts {
    accepted: AtomicU64,
    turned_away: AtomicU64,
    pub(super) panics: Panics,
}

/// The actor.
pub(crate) struct Connections;

/// What it is told.
pub(crate) enum Message {
    /// A client has come.
    Accept(UnixStream),
    /// A client has said who it is, and was taken.
    Greeted(u64, Box<Known>),
    /// A client has gone.
    Gone(u64),
    /// Say who is there.
    List(RpcReplyPort<Vec<Connected>>),
    /// The store did not open: stay just long enough to say so.
    Useless,
    /// Look whether anybody still needs the daemon.
    Tick,
    /// Finish what is under way and end.
    Drain,
    /// A defect, as a test injects it: of a connection, or of the actor itself.
    #[cfg(test)]
    Defect { of_the_actor: bool },
}

/// What it knows.
pub(crate) struct State {
    shared: Arc<Shared>,
    open: BTreeMap<u64, Connection>,
    idle: Option<Duration>,
    needed: Instant,
}

/// One connection: its task, which ends with its owner, however that ends, and who is at the other end.
struct Connection {
    task: AbortHandle,
    since: Instant,
    known: Option<Box<Known>>,
}

/// Who is at the other end.
pub(crate) struct Known {
    hello: Hello,
    guest: Arc<Guest>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Actor for Connections {
    type Msg = Message;
    type State = State;
    type Arguments = Arc<Shared>;

    async fn pre_start(
        &self,
        myself: ActorRef<Message>,
        shared: Arc<Shared>,
    ) -> Result<State, ActorProcessingErr> {
        let idle = shared.options.idle;
        let beat = idle.map_or(Duration::from_secs(1), |idle| (idle / 4).min(Duration::from_secs(1)));
        myself.send_interval(beat, || Message::Tick);
        shared.front.fill(myself);
        Ok(State { shared, open: BTreeMap::new(), idle, needed: Instant::now() })
    }

    async fn handle(
        &self,
        myself: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Accept(stream) => state.accept(stream, &myself),
            Message::Greeted(id, known) => {
                if let Some(connection) = state.open.get_mut(&id) {
                    connection.known = Some(known);
                }
            }
            Message::Gone(id) => {
                state.open.remove(&id);
                state.needed = Instant::now();
            }
            Message::List(reply) => drop(reply.send(state.list())),
            Message::Useless => state.idle = Some(USELESS_STAY),
            Message::Tick => state.look(),
            Message::Drain => {
                state.shared.ended.send_replace(true);
            }
            #[cfg(test)]
            Message::Defect { of_the_actor } => {
                assert!(!of_the_actor, "injected into the actor");
                let id = state.shared.counts.accepted.fetch_add(1, Ordering::Relaxed);
                state.own(id, async { panic!("injected into a connection") }, &myself);
            }
        }
        metrics::gauge!("athena_front_connections").set(state.open.len() as f64);
        Ok(())
    }

    async fn post_stop(&self, _: ActorRef<Message>, state: &mut State) -> Result<(), ActorProcessingErr> {
        state.open.clear();
        metrics::gauge!("athena_front_connections").set(0.0);
        Ok(())
    }
}

impl State {
    fn accept(&mut self, stream: UnixStream, front: &ActorRef<Message>) {
        let taken = self.shared.options.clients_max;
        if self.open.len() >= taken.saturating_add(SPARE) {
            self.shared.counts.turn_away();
            return;
        }
        let full = self.open.len() >= taken && !self.make_room();
        let id = self.shared.counts.accepted.fetch_add(1, Ordering::Relaxed);
        metrics::counter!("athena_front_connections_total").increment(1);
        let shared = self.shared.clone();
        self.own(id, async move { serve(id, stream, full, &shared).await }, front);
    }

    /// Closes the session over HTTP that has been quiet for longest, where one has been for long enough. Nobody ends those whose
    /// clients went away without a word; a client that is still there gets another connection with its next request.
    fn make_room(&mut self) -> bool {
        let sessions = self.open.iter().filter_map(|(id, connection)| Some((*id, connection.session()?)));
        let quiet = sessions.filter_map(|(id, guest)| Some((guest.quiet()?, id)));
        let Some((quiet, id)) = quiet.max() else { return false };
        if quiet < self.shared.options.quiet {
            return false;
        }
        tracing::debug!(client = id, "a quiet session makes room");
        self.open.remove(&id);
        true
    }

    /// Takes a connection's work into the actor's charge.
    fn own(
        &mut self,
        id: u64,
        work: impl Future<Output = std::io::Result<()>> + Send + 'static,
        front: &ActorRef<Message>,
    ) {
        let (front, panics) = (front.clone(), self.shared.counts.panics.clone());
        let task = tokio::spawn(async move {
            match unwound(work).await {
                Some(Ok(())) => {}
                Some(Err(error)) => tracing::debug!(client = id, %error, "a connection broke"),
                None => panics.caught("connection"),
            }
            let _ = front.cast(Message::Gone(id));
        });
        self.open.insert(id, Connection { task: task.abort_handle(), since: Instant::now(), known: None });
    }

    fn list(&self) -> Vec<Connected> {
        self.open.iter().filter_map(|(id, connection)| connection.listed(*id)).collect()
    }

    fn look(&mut self) {
        let now = Instant::now();
        let runs = match &*self.shared.opening.borrow() {
            Some(Ok(parts)) => parts.house.active_runs(),
            // A store that is still opening is on its way for somebody.
            None => 1,
            Some(Err(_)) => 0,
        };
        if !self.open.is_empty() || self.shared.busy.count() > 0 || runs > 0 {
            self.needed = now;
        } else if self.idle.is_some_and(|idle| now - self.needed >= idle) {
            self.shared.ended.send_replace(true);
        }
    }
}

impl Connection {
    /// The client of a session over HTTP.
    fn session(&self) -> Option<&Guest> {
        let known = self.known.as_ref()?;
        matches!(known.hello.mode, Mode::HttpSession { .. }).then_some(&*known.guest)
    }

    /// What is told of it; nothing before it was taken.
    fn listed(&self, id: u64) -> Option<Connected> {
        let Known { hello, guest } = &**self.known.as_ref()?;
        let said = guest.said();
        let (mode, caller, profile) = match &hello.mode {
            Mode::Mcp { profile, .. } => {
                let name = said.as_ref().map_or_else(|| "mcp".into(), |said| said.name.clone());
                ("mcp", agent(name, hello.scope.clone()), Some(*profile))
            }
            Mode::HttpSession { name, profile, .. } => {
                ("http", agent(name.clone(), hello.scope.clone()), Some(*profile))
            }
            Mode::AgentCalls => ("agent_calls", agent(hello.client.clone(), hello.scope.clone()), None),
            _ => ("calls", human(hello.scope.clone()), None),
        };
        Some(Connected {
            id,
            mode: mode.into(),
            principal: caller.principal(),
            client: hello.client.clone(),
            project: hello.scope.project.clone(),
            profile,
            protocol: match &hello.mode {
                Mode::HttpSession { protocol, .. } => Some(protocol.clone()),
                _ => said.map(|said| said.protocol),
            },
            requests: guest.requests(),
            age_s: self.since.elapsed().as_secs(),
        })
    }
}

impl Counts {
    fn turn_away(&self) {
        self.turned_away.fetch_add(1, Ordering::Relaxed);
        metrics::counter!("athena_front_turned_away_total").increment(1);
    }
}

/// One connection: who is it, what does it want, serve it.
async fn serve(id: u64, stream: UnixStream, full: bool, shared: &Arc<Shared>) -> std::io::Result<()> {
    let peer = stream.peer_cred()?.uid();
    let (read, mut out) = stream.into_split();
    let mut welcome = Welcome {
        athena: PROTOCOL,
        version: shared.options.version.clone(),
        pid: std::process::id(),
        refused: None,
        status: None,
    };
    let mut lines = Lines::new(read, HELLO_MAX);
    let hello = match tokio::time::timeout(HELLO_WAIT, lines.next()).await {
        Ok(Ok(Line::Text(text))) => serde_json::from_slice::<Hello>(&text).map_err(|_| stranger()),
        _ => Err(stranger()),
    };
    let hello = match hello.and_then(|hello| admit(hello, peer, full)) {
        Ok(hello) => hello,
        Err(refusal) => {
            if refusal.code == Code::LimitExceeded {
                shared.counts.turn_away();
            }
            welcome.refused = Some(refusal);
            return write_json(&mut out, &welcome).await;
        }
    };
    let guest = Arc::new(Guest::default());
    if !matches!(hello.mode, Mode::Status | Mode::Drain) {
        // Before the client is answered, so that whoever asks after that finds it in the list.
        let known = Box::new(Known { hello: hello.clone(), guest: guest.clone() });
        let _ = shared.front.cast(Message::Greeted(id, known));
    }
    match hello.mode {
        Mode::Status => {
            welcome.status = Some(status(shared).await);
            write_json(&mut out, &welcome).await
        }
        Mode::Drain => {
            write_json(&mut out, &welcome).await?;
            let _ = shared.front.cast(Message::Drain);
            Ok(())
        }
        Mode::Calls => {
            write_json(&mut out, &welcome).await?;
            calls::serve(lines.limited(REQUEST_MAX), out, human(hello.scope), &guest, shared.clone()).await
        }
        agents @ (Mode::AgentCalls | Mode::HttpSession { .. }) => {
            write_json(&mut out, &welcome).await?;
            let name = match agents {
                Mode::HttpSession { name, .. } => name,
                _ => hello.client,
            };
            let caller = agent(name, hello.scope);
            calls::serve(lines.limited(REQUEST_MAX), out, caller, &guest, shared.clone()).await
        }
        Mode::Mcp { front, profile } => {
            write_json(&mut out, &welcome).await?;
            let secret = mcp::http::token(&std::path::Path::new(&shared.store).join("front.key"))
                .map_err(|refusal| std::io::Error::other(refusal.to_string()))?;
            let front = mcp::Front::new(shared.router.clone(), profile, hello.scope, front)
                .asking(shared.router.clone(), &secret);
            speak_mcp(lines, out, Attended::new(front, guest, shared.counts.panics.clone())).await
        }
    }
}

/// MCP over the rest of the connection.
async fn speak_mcp(
    lines: Lines<OwnedReadHalf>,
    out: OwnedWriteHalf,
    front: Attended<mcp::Front>,
) -> std::io::Result<()> {
    use rmcp::ServiceExt;
    match Box::pin(front.serve((lines.into_inner(), out))).await {
        Ok(running) => {
            let _ = running.waiting().await;
        }
        Err(e) => tracing::debug!(error = %e, "an MCP client went away before it was greeted"),
    }
    Ok(())
}

fn admit(hello: Hello, peer: u32, full: bool) -> Result<Hello, Refusal> {
    if peer != nix::unistd::getuid().as_raw() {
        return Err(Refusal::denied("this store belongs to another user"));
    }
    if matches!(hello.mode, Mode::Drain | Mode::Status) {
        return Ok(hello);
    }
    if hello.athena != PROTOCOL {
        let message = format!("the daemon speaks protocol {PROTOCOL}, this client {}", hello.athena);
        return Err(Refusal::new(Code::Unavailable, message).hint("athena daemon stop"));
    }
    if full {
        return Err(no_room());
    }
    Ok(hello)
}

/// One more than may be.
pub(crate) fn no_room() -> Refusal {
    Refusal::new(Code::LimitExceeded, "as many clients as the daemon takes are connected")
        .hint("close one, or retry; more may come with daemon.clients_max in config.toml")
}

fn stranger() -> Refusal {
    Refusal::invalid("that is not how Athena's clients greet").hint("athena serve")
}

async fn status(shared: &Shared) -> Status {
    let (reply, listed) = ractor::concurrency::oneshot();
    let asked = shared.front.cast(Message::List(reply.into()));
    // An actor that is just being started again has no connections.
    let connections = if asked.is_ok() { listed.await.unwrap_or_default() } else { Vec::new() };
    Status {
        store: shared.store.clone(),
        clients: connections.len(),
        calls: shared.busy.count(),
        uptime_s: shared.started.elapsed().as_secs(),
        idle_s: shared.options.idle.map_or(0, |idle| idle.as_secs()),
        open: matches!(&*shared.opening.borrow(), Some(Ok(_))),
        resident_bytes: resident(),
        connections,
        accepted: shared.counts.accepted.load(Ordering::Relaxed),
        turned_away: shared.counts.turned_away.load(Ordering::Relaxed),
        panics: shared.counts.panics.count(),
    }
}

/// Resident memory of this process, where Linux says it.
fn resident() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * 4096)
}

/// A person at the command line: sees every scope, means one.
pub(crate) fn human(scope: Scope) -> Caller {
    let uid = nix::unistd::getuid();
    let name =
        nix::unistd::User::from_uid(uid).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name);
    Caller { party: Party::Human, channel: Channel::Cli, name, holds: Scope::default(), scope, run: None }
}

/// A model behind an MCP client: holds its project and no more.
pub(crate) fn agent(name: String, scope: Scope) -> Caller {
    Caller { party: Party::Agent, channel: Channel::Mcp, name, holds: scope.clone(), scope, run: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::attach::greeting;
    use crate::daemon::server::Gate;
    use athena_actors::supervisor::{Child, Policy, Supervisor};
    use tokio::io::{AsyncBufReadExt, BufReader};

    /// Another user of the machine connects to the socket: shown out, whatever the greeting asks for.
    #[test]
    fn stride_s19() {
        let own = nix::unistd::getuid().as_raw();
        for mode in [Mode::Calls, Mode::AgentCalls, Mode::Status, Mode::Drain] {
            assert!(admit(greeting(mode.clone()), own, false).is_ok());
            for other in [own + 1, own.wrapping_add(1_000), 65_534] {
                let refusal = admit(greeting(mode.clone()), other, false).unwrap_err();
                assert_eq!(refusal.code, Code::Denied);
            }
        }
    }

    /// A supervised front whose store never opens.
    struct House {
        shared: Arc<Shared>,
        root: ActorRef<()>,
        _opening: watch::Sender<Option<Result<crate::daemon::Parts, Refusal>>>,
    }

    impl House {
        async fn with(clients_max: usize) -> Self {
            Self::of(Options { idle: None, clients_max, ..Options::default() }).await
        }

        async fn of(options: Options) -> Self {
            let (tell, opening) = watch::channel(None);
            let busy = Busy::default();
            let shared = Arc::new(Shared {
                router: Arc::new(Gate { opening: opening.clone(), busy: busy.clone() }),
                opening,
                busy,
                options,
                store: "store".into(),
                started: Instant::now(),
                ended: watch::channel(false).0,
                front: Slot::new("the front"),
                counts: Counts::default(),
            });
            let given = shared.clone();
            let child = Child::actor("front", || Connections, move || given.clone());
            let (root, _) = Actor::spawn(None, Supervisor, (vec![child], Policy::default())).await.unwrap();
            Self { shared, root, _opening: tell }
        }

        /// A client that greets; the connection and how it was received.
        async fn client(&self, mode: Mode) -> (BufReader<UnixStream>, Option<Welcome>) {
            let (ours, theirs) = UnixStream::pair().unwrap();
            // The actor may just be starting again.
            until(|| self.shared.front.cast(Message::Tick).is_ok()).await;
            self.shared.front.cast(Message::Accept(theirs)).unwrap();
            let mut stream = BufReader::new(ours);
            let _ = write_json(&mut stream, &greeting(mode)).await;
            let mut line = String::new();
            let _ = stream.read_line(&mut line).await;
            (stream, serde_json::from_str(&line).ok())
        }

        async fn status(&self) -> Status {
            self.client(Mode::Status).await.1.unwrap().status.unwrap()
        }
    }

    impl Drop for House {
        fn drop(&mut self) {
            self.root.kill();
        }
    }

    async fn until(holds: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !holds() {
            assert!(Instant::now() < deadline, "the condition is not met");
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_panic_in_one_connection_is_counted_and_ends_that_one_alone() {
        let house = House::with(8).await;
        let (mut other, taken) = house.client(Mode::Calls).await;
        assert!(taken.unwrap().refused.is_none());
        house.shared.front.cast(Message::Defect { of_the_actor: false }).unwrap();
        until(|| house.shared.counts.panics.count() == 1).await;
        let status = house.status().await;
        assert_eq!((status.clients, status.panics, status.connections[0].mode.as_str()), (1, 1, "calls"));
        // The other one is still answered.
        write_json(&mut other, &serde_json::json!({"id": 1, "op": "$cancel"})).await.unwrap();
        write_json(&mut other, &"no call").await.unwrap();
        let mut line = String::new();
        other.read_line(&mut line).await.unwrap();
        assert!(line.contains("not a call"), "{line}");
    }

    #[tokio::test]
    async fn the_actor_s_own_death_closes_its_connections_and_it_starts_again() {
        let house = House::with(8).await;
        let (mut first, _) = house.client(Mode::Calls).await;
        house.shared.front.cast(Message::Defect { of_the_actor: true }).unwrap();
        let mut line = String::new();
        assert_eq!(first.read_line(&mut line).await.unwrap_or(0), 0, "closed, so that the client comes back");
        let (_second, taken) = house.client(Mode::Calls).await;
        assert!(taken.unwrap().refused.is_none());
        assert_eq!(house.status().await.clients, 1);
    }

    #[tokio::test]
    async fn a_quiet_session_makes_room_and_others_do_not() {
        let session = |name: &str| Mode::HttpSession {
            name: name.into(),
            protocol: "2025-11-25".into(),
            profile: mcp::Profile::Default,
        };
        let now = Options { idle: None, clients_max: 2, quiet: Duration::ZERO, ..Options::default() };
        let house = House::of(now).await;
        let (_person, _) = house.client(Mode::Calls).await;
        let (mut first, taken) = house.client(session("first")).await;
        assert!(taken.unwrap().refused.is_none());
        let (_second, taken) = house.client(session("second")).await;
        assert!(taken.unwrap().refused.is_none(), "the first makes room");
        let mut line = String::new();
        assert_eq!(first.read_line(&mut line).await.unwrap_or(0), 0, "its connection is closed");

        // One that spoke just now stays, as does who is no session.
        let house = House::of(Options { idle: None, clients_max: 2, ..Options::default() }).await;
        let (_person, _) = house.client(Mode::Calls).await;
        let (_first, _) = house.client(session("first")).await;
        let refused = house.client(session("second")).await.1.unwrap().refused.unwrap();
        assert_eq!(refused.code, Code::LimitExceeded);
        let house =
            House::of(Options { idle: None, clients_max: 1, quiet: Duration::ZERO, ..Options::default() })
                .await;
        let (_person, _) = house.client(Mode::Calls).await;
        assert!(house.client(session("first")).await.1.unwrap().refused.is_some());
    }

    #[tokio::test]
    async fn one_too_many_is_told_so_and_the_door_shuts_before_the_told_pile_up() {
        let house = House::with(1).await;
        let (_one, taken) = house.client(Mode::Calls).await;
        assert!(taken.unwrap().refused.is_none());
        let (_two, refused) = house.client(Mode::Calls).await;
        let refusal = refused.unwrap().refused.unwrap();
        assert_eq!(refusal.code, Code::LimitExceeded);
        assert!(!refusal.hint.is_empty());
        // Connections that say nothing fill what is spare; the next finds the door shut at once.
        let mut silent = Vec::new();
        for _ in 0..SPARE {
            let (ours, theirs) = UnixStream::pair().unwrap();
            house.shared.front.cast(Message::Accept(theirs)).unwrap();
            silent.push(ours);
        }
        let (_shut, answer) = house.client(Mode::Status).await;
        assert!(answer.is_none());
        drop(silent);
        until(|| house.shared.counts.turned_away.load(Ordering::Relaxed) >= 2).await;
    }
}
