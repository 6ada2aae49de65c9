//! `athena serve`: MCP over stdio, relayed to the store's daemon, or over HTTP. Stdout carries JSON-RPC and nothing else.

use super::Done;
use super::session::Session;
use crate::daemon::attach::Attach;
use crate::daemon::client::random_name;
use crate::daemon::connections::no_room;
use crate::daemon::protocol::{Hello, Mode};
use crate::daemon::server::Closing;
use crate::daemon::{Client, Place, relay, stdio};
use crate::mcp::conformance::Fixtures;
use crate::mcp::reception::{Reception, Visitor};
use crate::mcp::{Front, Profile, http};
use athena_schemas::context::Caller;
use athena_schemas::ports::{Answer, BoxFuture, Request, Router};
use athena_schemas::refusal::{Code, Refusal};
use rmcp::ServiceExt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// Serve MCP over stdio (for an MCP client to start) or HTTP
#[derive(Debug, clap::Args)]
pub(crate) struct Serve {
    /// Which tools the client is shown
    #[arg(long, value_enum, default_value_t, env = "ATHENA_PROFILE")]
    profile: Profile,
    /// The project whose memory is meant [default: the git root above the working folder, else the folder]
    #[arg(long, value_name = "NAME", env = "ATHENA_PROJECT")]
    project: Option<String>,
    /// Serve streamable HTTP at http://ADDR/mcp instead of stdio; a bearer token is always asked for
    #[arg(long, value_name = "ADDR")]
    http: Option<SocketAddr>,
    /// End an HTTP session after so many seconds without a message
    #[arg(long, value_name = "SECONDS", requires = "http", default_value_t = http::SESSION_IDLE.as_secs(),
          value_parser = clap::value_parser!(u64).range(1..))]
    session_idle: u64,
    /// Open the store in this process; nobody else can use it meanwhile
    #[arg(long)]
    no_daemon: bool,
    /// Serve the fixtures of the official conformance suite instead of a store
    #[arg(long, hide = true, requires = "http")]
    conformance: bool,
    /// Also answer to this Host, such as athena.local:7777; may be given again
    #[arg(long, value_name = "HOST", requires = "http")]
    allow_host: Vec<String>,
}

impl Serve {
    /// Whether it passes on what a client and the store's daemon say to each other, and does nothing else.
    pub(crate) fn is_relay(&self) -> bool {
        self.http.is_none() && !self.no_daemon
    }

    pub(crate) async fn run(self, session: &Session) -> Done {
        match self.http {
            None if self.no_daemon => self.alone(session).await,
            None => self.stdio(session).await,
            Some(address) => self.http(session, address).await,
        }
    }

    fn hello(&self, session: &Session, mode: Mode, client: &str) -> Hello {
        let mut hello = Hello { client: client.into(), ..session.hello(mode) };
        if self.project.is_some() {
            hello.scope.project.clone_from(&self.project);
        }
        hello
    }

    async fn stdio(&self, session: &Session) -> Done {
        let mode = Mode::Mcp { front: random_name(), profile: self.profile };
        let hello = self.hello(session, mode, "serve");
        relay::run(&session.attach()?, &hello, stdio::input(), stdio::output()).await?;
        Ok(0)
    }

    async fn http(&self, session: &Session, address: SocketAddr) -> Done {
        beyond_this_machine(address, &self.allow_host)?;
        let listener = tokio::net::TcpListener::bind(address).await.map_err(|e| {
            Refusal::new(Code::Unavailable, format!("{address} cannot be listened at: {e}"))
                .hint("another port, such as --http 127.0.0.1:0")
        })?;
        let address = listener.local_addr().map_err(|e| Refusal::internal(e.to_string()))?;
        let end = CancellationToken::new();
        tokio::spawn(interrupted(end.clone()));
        if self.conformance {
            session.out.note(&format!("the conformance fixtures at http://{address}/mcp; no token"));
            return conformance(listener, address, self.idle(), end).await;
        }
        let place = Place::of(&session.folders)?;
        let token_file = place.store.join("http.token");
        let door = http::Door::at(address, &self.allow_host, Some(http::token(&token_file)?));
        session
            .out
            .note(&format!("MCP at http://{address}/mcp; the bearer token is in {}", token_file.display()));
        let (reception, people, closing) = self.reception(session).await?;
        let secret = http::token(&place.store.join("front.key"))?;
        let scope = self.hello(session, Mode::Calls, "http").scope;
        let front = Front::received(reception, self.profile, scope).asking(people, &secret);
        let another = move || front.another(random_name());
        let served = http::serve(listener, door, self.idle(), another, end).await;
        if let Some(closing) = closing {
            closing.await;
        }
        served.map(|()| 0)
    }

    fn idle(&self) -> Duration {
        Duration::from_secs(self.session_idle)
    }

    /// Who gives HTTP sessions their ways to the store, through its daemon or in this process; the way of what people answer,
    /// which is another than that of what agents ask; and what closes the store, where this process has it open.
    async fn reception(
        &self,
        session: &Session,
    ) -> Result<(Arc<dyn Reception>, Arc<dyn Router>, Option<Closing>), Refusal> {
        if self.no_daemon {
            let config = session.config()?;
            let places = Arc::new(Semaphore::new(config.daemon.clients_max.max(1)));
            let (parts, closing) = super::store::open(session.folders.clone(), config).await?;
            let indoors = Indoors { router: parts.router.clone(), places };
            return Ok((Arc::new(indoors), parts.router, Some(closing)));
        }
        let (attach, hello) = (session.attach()?, self.hello(session, Mode::AgentCalls, "http"));
        let people = Client::new(attach.clone(), self.hello(session, Mode::Calls, "http"));
        let shared = Arc::new(Client::new(attach.clone(), hello.clone()));
        Ok((Arc::new(Daemons { attach, hello, shared }), Arc::new(people), None))
    }

    /// Everything in this process, for one client.
    async fn alone(&self, session: &Session) -> Done {
        let place = Place::of(&session.folders)?;
        let secret = http::token(&place.store.join("front.key"))?;
        let (parts, closing) = super::store::open(session.folders.clone(), session.config()?).await?;
        let scope = self.hello(session, Mode::Calls, "serve").scope;
        let people = parts.router.clone();
        let front = Front::new(parts.router, self.profile, scope, random_name()).asking(people, &secret);
        match front.serve((tokio::io::stdin(), tokio::io::stdout())).await {
            Ok(running) => drop(running.waiting().await),
            Err(error) => tracing::debug!(%error, "the client went away before it was greeted"),
        }
        closing.await;
        Ok(0)
    }
}

/// Sessions of a store that a daemon serves: each has a connection of its own, which the daemon's front owns.
struct Daemons {
    attach: Attach,
    hello: Hello,
    shared: Arc<Client>,
}

impl Reception for Daemons {
    fn admit(&self, visitor: Visitor) -> BoxFuture<'_, Result<Arc<dyn Router>, Refusal>> {
        let Visitor { name, protocol, profile } = visitor;
        let hello = Hello { mode: Mode::HttpSession { name, protocol, profile }, ..self.hello.clone() };
        Box::pin(async move {
            let client = Client::new(self.attach.clone(), hello);
            client.connect().await?;
            Ok(Arc::new(client) as Arc<dyn Router>)
        })
    }

    fn open(&self) -> Arc<dyn Router> {
        self.shared.clone()
    }
}

/// Sessions of a store that this process has open: as many as a daemon would take.
struct Indoors {
    router: Arc<dyn Router>,
    places: Arc<Semaphore>,
}

/// The way of one of them, which holds its place.
struct Held {
    router: Arc<dyn Router>,
    _place: OwnedSemaphorePermit,
}

impl Reception for Indoors {
    fn admit(&self, _: Visitor) -> BoxFuture<'_, Result<Arc<dyn Router>, Refusal>> {
        Box::pin(async move {
            let place = self.places.clone().try_acquire_owned().map_err(|_| no_room())?;
            Ok(Arc::new(Held { router: self.router.clone(), _place: place }) as Arc<dyn Router>)
        })
    }

    fn open(&self) -> Arc<dyn Router> {
        self.router.clone()
    }
}

impl Router for Held {
    fn call<'a>(&'a self, caller: &'a Caller, request: Request) -> BoxFuture<'a, Result<Answer, Refusal>> {
        self.router.call(caller, request)
    }
}

/// Whoever serves more than this machine says in so many words what the server is called there: an address that slipped into the
/// settings opens nothing.
fn beyond_this_machine(address: SocketAddr, names: &[String]) -> Result<(), Refusal> {
    if address.ip().is_loopback() || !names.is_empty() {
        return Ok(());
    }
    Err(Refusal::denied(format!("{address} can be reached from other machines"))
        .hint("--http 127.0.0.1:0, or name what it is called there: --allow-host HOST:PORT"))
}

/// The fixtures of the conformance suite: no store, no token, and therefore this machine alone.
async fn conformance(
    listener: tokio::net::TcpListener,
    address: SocketAddr,
    idle: Duration,
    end: CancellationToken,
) -> Done {
    if !address.ip().is_loopback() {
        return Err(Refusal::invalid("the conformance fixtures are served to this machine alone")
            .hint("--http 127.0.0.1:0"));
    }
    let fixtures = Fixtures::default();
    http::serve(listener, http::Door::at(address, &[], None), idle, move || fixtures.clone(), end).await?;
    Ok(0)
}

/// Ends the server on Ctrl-C.
async fn interrupted(end: CancellationToken) {
    if tokio::signal::ctrl_c().await.is_ok() {
        end.cancel();
    }
}
