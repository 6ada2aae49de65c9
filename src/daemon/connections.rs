//! The front actor: owns every connection. A panic in one ends that one.

use super::calls;
use super::lines::{Line, Lines, REQUEST_MAX, write_json};
use super::protocol::{Hello, Mode, PROTOCOL, Status, Welcome};
use super::server::{Busy, Opening, Options};
use crate::mcp;
use athena_schemas::context::{Caller, Channel, Party, Scope};
use athena_schemas::ports::Router;
use athena_schemas::refusal::{Code, Refusal};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use std::collections::HashMap;
use std::sync::Arc;
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

/// What all connections share.
pub(crate) struct Shared {
    pub(crate) router: Arc<dyn Router>,
    pub(crate) opening: Opening,
    pub(crate) busy: Busy,
    pub(crate) options: Options,
    pub(crate) store: String,
    pub(crate) started: Instant,
    pub(crate) ended: watch::Sender<bool>,
}

/// The actor.
pub(crate) struct Connections;

/// What it is told.
pub(crate) enum Message {
    /// A client has come.
    Accept(UnixStream),
    /// A client has gone.
    Gone(u64),
    /// The store did not open: stay just long enough to say so.
    Useless,
    /// Look whether anybody still needs the daemon.
    Tick,
    /// Finish what is under way and end.
    Drain,
}

/// What it knows.
pub(crate) struct State {
    shared: Arc<Shared>,
    open: HashMap<u64, Connection>,
    next: u64,
    idle: Option<Duration>,
    needed: Instant,
    count: watch::Sender<usize>,
}

/// A connection's task: ends with its owner, however that ends.
struct Connection(AbortHandle);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
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
        Ok(State {
            shared,
            open: HashMap::new(),
            next: 0,
            idle,
            needed: Instant::now(),
            count: watch::channel(0).0,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Accept(stream) => state.accept(stream, myself),
            Message::Gone(id) => {
                state.open.remove(&id);
                state.needed = Instant::now();
            }
            Message::Useless => state.idle = Some(USELESS_STAY),
            Message::Tick => state.look(),
            Message::Drain => {
                state.shared.ended.send_replace(true);
            }
        }
        state.count.send_replace(state.open.len());
        Ok(())
    }
}

impl State {
    fn accept(&mut self, stream: UnixStream, front: ActorRef<Message>) {
        let id = self.next;
        self.next += 1;
        let full = self.open.len() >= self.shared.options.clients_max;
        let shared = self.shared.clone();
        let clients = self.count.subscribe();
        let end = front.clone();
        let connection = tokio::spawn(async move {
            if let Err(e) = serve(stream, full, &shared, &front, &clients).await {
                tracing::debug!(client = id, error = %e, "a connection broke");
            }
        });
        self.open.insert(id, Connection(connection.abort_handle()));
        tokio::spawn(async move {
            if connection.await.is_err_and(|e| e.is_panic()) {
                tracing::error!(client = id, "a connection panicked; the others are not touched");
            }
            let _ = end.cast(Message::Gone(id));
        });
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

/// One connection: who is it, what does it want, serve it.
async fn serve(
    stream: UnixStream,
    full: bool,
    shared: &Arc<Shared>,
    front: &ActorRef<Message>,
    clients: &watch::Receiver<usize>,
) -> std::io::Result<()> {
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
    let hello = hello.and_then(|hello| admit(hello, peer, full));
    let hello = match hello {
        Ok(hello) => hello,
        Err(refusal) => {
            welcome.refused = Some(refusal);
            return write_json(&mut out, &welcome).await;
        }
    };
    match hello.mode {
        Mode::Status => {
            welcome.status = Some(status(shared, clients.borrow().saturating_sub(1)));
            write_json(&mut out, &welcome).await
        }
        Mode::Drain => {
            write_json(&mut out, &welcome).await?;
            let _ = front.cast(Message::Drain);
            Ok(())
        }
        Mode::Calls => {
            write_json(&mut out, &welcome).await?;
            calls::serve(lines.limited(REQUEST_MAX), out, human(hello.scope), shared.clone()).await
        }
        Mode::AgentCalls => {
            write_json(&mut out, &welcome).await?;
            let caller = agent(hello.client, hello.scope);
            calls::serve(lines.limited(REQUEST_MAX), out, caller, shared.clone()).await
        }
        Mode::Mcp { front, profile } => {
            write_json(&mut out, &welcome).await?;
            speak_mcp(lines, out, front, profile, hello.scope, shared).await
        }
    }
}

/// MCP over the rest of the connection.
async fn speak_mcp(
    lines: Lines<OwnedReadHalf>,
    out: OwnedWriteHalf,
    name: String,
    profile: mcp::Profile,
    scope: Scope,
    shared: &Arc<Shared>,
) -> std::io::Result<()> {
    use rmcp::ServiceExt;
    let secret = mcp::http::token(&std::path::Path::new(&shared.store).join("front.key"))
        .map_err(|refusal| std::io::Error::other(refusal.to_string()))?;
    let front =
        mcp::Front::new(shared.router.clone(), profile, scope, name).asking(shared.router.clone(), &secret);
    match front.serve((lines.into_inner(), out)).await {
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
        let message = "as many clients as the daemon takes are connected";
        return Err(Refusal::new(Code::LimitExceeded, message).hint("close one, or retry"));
    }
    Ok(hello)
}

fn stranger() -> Refusal {
    Refusal::invalid("that is not how Athena's clients greet").hint("athena serve")
}

fn status(shared: &Shared, clients: usize) -> Status {
    Status {
        store: shared.store.clone(),
        clients,
        calls: shared.busy.count(),
        uptime_s: shared.started.elapsed().as_secs(),
        idle_s: shared.options.idle.map_or(0, |idle| idle.as_secs()),
        open: matches!(&*shared.opening.borrow(), Some(Ok(_))),
        resident_bytes: resident(),
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
}
