//! `athena serve`: MCP over stdio, relayed to the store's daemon, or over HTTP. Stdout carries JSON-RPC and nothing else.

use super::Done;
use super::session::Session;
use crate::daemon::client::random_name;
use crate::daemon::protocol::{Hello, Mode};
use crate::daemon::server::Closing;
use crate::daemon::{Client, Place, relay};
use crate::mcp::conformance::Fixtures;
use crate::mcp::{Front, Profile, http};
use athena_schemas::ports::Router;
use athena_schemas::refusal::{Code, Refusal};
use rmcp::ServiceExt;
use std::net::SocketAddr;
use std::sync::Arc;
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
        relay::run(&session.attach()?, &hello, tokio::io::stdin(), tokio::io::stdout()).await?;
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
            return conformance(listener, address, end).await;
        }
        let place = Place::of(&session.folders)?;
        let token_file = place.store.join("http.token");
        let door = http::Door::at(address, &self.allow_host, Some(http::token(&token_file)?));
        session
            .out
            .note(&format!("MCP at http://{address}/mcp; the bearer token is in {}", token_file.display()));
        let Ways { router, people, closing } = self.ways(session).await?;
        let secret = http::token(&place.store.join("front.key"))?;
        let scope = self.hello(session, Mode::Calls, "http").scope;
        let front = Front::new(router, self.profile, scope, String::new()).asking(people, &secret);
        let served = http::serve(listener, door, move || front.another(random_name()), end).await;
        if let Some(closing) = closing {
            closing.await;
        }
        served.map(|()| 0)
    }

    /// The ways to the store: through its daemon, or in this process.
    async fn ways(&self, session: &Session) -> Result<Ways, Refusal> {
        if self.no_daemon {
            let (parts, closing) = super::store::open(session.folders.clone(), session.config()?).await?;
            return Ok(Ways { people: parts.router.clone(), router: parts.router, closing: Some(closing) });
        }
        let client = |mode| {
            let hello = self.hello(session, mode, "http");
            session.attach().map(|attach| Arc::new(Client::new(attach, hello)))
        };
        // What a person answers goes another way than what an agent asks.
        Ok(Ways { router: client(Mode::AgentCalls)?, people: client(Mode::Calls)?, closing: None })
    }

    /// Everything in this process, for one client.
    async fn alone(&self, session: &Session) -> Done {
        let place = Place::of(&session.folders)?;
        let secret = http::token(&place.store.join("front.key"))?;
        let Ways { router, people, closing } = self.ways(session).await?;
        let scope = self.hello(session, Mode::Calls, "serve").scope;
        let front = Front::new(router, self.profile, scope, random_name()).asking(people, &secret);
        match front.serve((tokio::io::stdin(), tokio::io::stdout())).await {
            Ok(running) => drop(running.waiting().await),
            Err(error) => tracing::debug!(%error, "the client went away before it was greeted"),
        }
        if let Some(closing) = closing {
            closing.await;
        }
        Ok(0)
    }
}

/// How calls reach the store.
struct Ways {
    router: Arc<dyn Router>,
    people: Arc<dyn Router>,
    /// What closes the store, where this process has it open.
    closing: Option<Closing>,
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
async fn conformance(listener: tokio::net::TcpListener, address: SocketAddr, end: CancellationToken) -> Done {
    if !address.ip().is_loopback() {
        return Err(Refusal::invalid("the conformance fixtures are served to this machine alone")
            .hint("--http 127.0.0.1:0"));
    }
    let fixtures = Fixtures::default();
    http::serve(listener, http::Door::at(address, &[], None), move || fixtures.clone(), end).await?;
    Ok(0)
}

/// Ends the server on Ctrl-C.
async fn interrupted(end: CancellationToken) {
    if tokio::signal::ctrl_c().await.is_ok() {
        end.cancel();
    }
}
