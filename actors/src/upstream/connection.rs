//! One live connection to a server: the handshake of either era, its tools, its calls, and what it may not ask of us.

#![expect(deprecated, reason = "servers of the older era still ask for sampling and roots; they are told no")]

use super::answer;
use super::config::expand;
use super::definition::{self, Defined};
use super::spool::Spools;
use super::stdio::{INLINE_MAX, Program, Stdio, Tail};
use athena_schemas::layers::upstream::Server;
use athena_schemas::refusal::{Code, Refusal};
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, ClientCapabilities, ClientConfig, CreateMessageRequestParams,
    CreateMessageResult, ElicitRequestParams, ElicitResult, ElicitationAction, ErrorCode, ErrorData,
    Implementation, ListRootsResult, PaginatedRequestParams, ProtocolVersion, SubscriptionFilter,
};
use rmcp::service::{
    ClientLifecycleMode, NotificationContext, Peer, RequestContext, RunningService, ServiceError,
    serve_client_with_lifecycle,
};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::{ClientHandler, RoleClient};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;

/// How long a server may take from its start to its list of tools.
pub const START: Duration = Duration::from_secs(60);
/// Pages of `tools/list` that are read.
const PAGES_MAX: usize = 50;
/// Tools of one server that are offered.
pub const TOOLS_MAX: usize = 1_000;

/// What a connection reports of its own accord.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signal {
    /// Its list of tools changed.
    ToolsChanged,
    /// Its process ended.
    Gone,
    /// It asked for something it does not get: the method, and what it wanted in short.
    Declined(&'static str, String),
}

/// Our side: it declares no capability and gives nothing away.
#[derive(Debug)]
pub struct Policy {
    signals: UnboundedSender<Signal>,
    /// Methods declined so far: each is reported once a connection, so that a server cannot fill the log.
    reported: Mutex<BTreeSet<&'static str>>,
}

impl Policy {
    fn decline(&self, method: &'static str, what: &str) -> ErrorData {
        if self.reported.lock().unwrap_or_else(PoisonError::into_inner).insert(method) {
            let _ = self.signals.send(Signal::Declined(method, answer::cut(what, 300).to_string()));
        }
        ErrorData::new(ErrorCode::INVALID_REQUEST, "declined by the policy of this client", None)
    }
}

impl ClientHandler for Policy {
    async fn create_message(
        &self,
        params: CreateMessageRequestParams,
        _: RequestContext<RoleClient>,
    ) -> Result<CreateMessageResult, ErrorData> {
        let what = params.system_prompt.as_deref().unwrap_or("a completion").to_string();
        Err(self.decline("sampling/createMessage", &what))
    }

    async fn list_roots(&self, _: RequestContext<RoleClient>) -> Result<ListRootsResult, ErrorData> {
        Err(self.decline("roots/list", "the folders of this project"))
    }

    async fn create_elicitation(
        &self,
        params: ElicitRequestParams,
        _: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        let what = serde_json::to_value(&params).ok();
        let message = what.as_ref().and_then(|what| what.get("message")?.as_str()).unwrap_or("an answer");
        let _ = self.decline("elicitation/create", message);
        Ok(ElicitResult::new(ElicitationAction::Decline))
    }

    async fn on_tool_list_changed(&self, _: NotificationContext<RoleClient>) {
        let _ = self.signals.send(Signal::ToolsChanged);
    }

    fn get_info(&self) -> ClientConfig {
        ClientConfig::new(
            ClientCapabilities::default(),
            Implementation::new("athena", env!("CARGO_PKG_VERSION")),
        )
    }
}

/// A live connection.
pub struct Connection {
    service: RunningService<RoleClient, Policy>,
    spools: Spools,
    /// The child process, where there is one.
    pub pid: Option<u32>,
    /// What it wrote to stderr.
    pub tail: Tail,
    /// What it calls itself.
    pub implementation: Option<String>,
    /// The negotiated version.
    pub protocol: Option<String>,
}

/// What a server offers.
#[derive(Debug, Clone, Default)]
pub struct Offer {
    /// Tools that can be offered.
    pub tools: Vec<Defined>,
    /// Tools that cannot, with the reason.
    pub refused: BTreeMap<String, String>,
}

/// Why there is no connection, with what the server wrote to stderr.
#[derive(Debug, Clone)]
pub struct Failure {
    /// What happened.
    pub why: String,
    /// The last lines of stderr.
    pub stderr: Vec<String>,
}

impl Connection {
    /// Starts or reaches the server and shakes hands. `secrets` holds the values of the variables in its configuration.
    ///
    /// # Errors
    /// Why not, with its stderr.
    pub async fn open(
        server: &Server,
        secrets: &BTreeMap<String, String>,
        spools: Spools,
        signals: UnboundedSender<Signal>,
    ) -> Result<Self, Failure> {
        let policy = Policy { signals, reported: Mutex::default() };
        let bare = |why: String| Failure { why, stderr: Vec::new() };
        let (service, pid, tail) = match (&server.command, &server.url) {
            (Some(_), _) => {
                let program = program(server, secrets).map_err(bare)?;
                let (stdio, tail) = Stdio::spawn(&program, spools.clone(), Some(policy.signals.clone()))
                    .map_err(|error| bare(format!("{} cannot be started: {error}", program.command)))?;
                let pid = stdio.id();
                let service = match handshake(policy, stdio).await {
                    Ok(service) => service,
                    Err(why) => return Err(Failure { why, stderr: tail.last_words().await }),
                };
                (service, pid, tail)
            }
            (None, Some(url)) => {
                let config = http(url, server, secrets).map_err(bare)?;
                let transport = StreamableHttpClientTransport::from_config(config);
                (handshake(policy, transport).await.map_err(bare)?, None, Tail::default())
            }
            (None, None) => return Err(bare("its configuration has neither command nor url".into())),
        };
        let info = service.peer().peer_info();
        let implementation = info
            .as_ref()
            .and_then(|info| info.server_info.as_ref())
            .map(|server| format!("{} {}", answer::cut(&server.name, 100), answer::cut(&server.version, 40)));
        let protocol = info.map(|info| info.protocol_version.to_string());
        let connection = Self { service, spools, pid, tail, implementation, protocol };
        connection.listen();
        Ok(connection)
    }

    /// In the newer era, changes are only told to those who listen.
    fn listen(&self) {
        if self.protocol.as_deref() != Some(ProtocolVersion::V_2026_07_28.as_str()) {
            return;
        }
        let peer = self.peer();
        let signals = self.service.service().signals.clone();
        tokio::spawn(async move {
            let filter = SubscriptionFilter::builder().tools_list_changed().build();
            let Ok(mut subscription) = peer.listen(filter).await else { return };
            while let Ok(Some(_)) = subscription.next().await {
                if signals.send(Signal::ToolsChanged).is_err() {
                    return;
                }
            }
        });
    }

    /// The peer, for calls.
    pub fn peer(&self) -> Peer<RoleClient> {
        self.service.peer().clone()
    }

    /// Whether the other side is gone.
    pub fn is_closed(&self) -> bool {
        self.service.is_closed() || self.service.peer().is_transport_closed()
    }

    /// The tools, page by page, with limits.
    ///
    /// # Errors
    /// Why they cannot be listed.
    pub async fn offer(peer: Peer<RoleClient>, server: String) -> Result<Offer, String> {
        let mut offer = Offer::default();
        let mut taken = BTreeSet::new();
        let mut cursor: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let params = PaginatedRequestParams::default().with_cursor(cursor.clone());
            let page = peer.list_tools(Some(params)).await.map_err(|error| format!("tools/list: {error}"))?;
            for tool in &page.tools {
                let sent = serde_json::to_value(tool).unwrap_or_default();
                let read = definition::read(&server, &sent, &mut taken);
                match read {
                    Ok(defined) if offer.tools.len() < TOOLS_MAX => offer.tools.push(defined),
                    Ok(defined) => {
                        offer.refused.insert(defined.tool.name, format!("more than {TOOLS_MAX} tools"));
                        return Ok(offer);
                    }
                    Err((name, why)) => {
                        offer.refused.insert(name, why);
                    }
                }
            }
            // A cursor that does not move would be read for ever.
            if page.next_cursor.is_none() || page.next_cursor == cursor {
                return Ok(offer);
            }
            cursor = page.next_cursor;
        }
        Ok(offer)
    }

    /// Calls a tool by the name the server gave it.
    ///
    /// # Errors
    /// When the server refuses, fails, is gone or wants something first.
    pub async fn call(
        peer: Peer<RoleClient>,
        policy: UnboundedSender<Signal>,
        spools: Spools,
        op: &str,
        wire: String,
        arguments: Map<String, Value>,
    ) -> Result<Value, Fault> {
        let params = CallToolRequestParams::new(wire).with_arguments(arguments);
        match peer.call_tool_once(params).await {
            Ok(CallToolResponse::Complete(result)) => answer::value(op, result, &spools).map_err(Fault::Tool),
            Ok(CallToolResponse::InputRequired(_)) => {
                let _ = policy
                    .send(Signal::Declined("input_required", format!("{op} wants an answer from a person")));
                Err(Fault::Tool(Refusal::new(
                    Code::Upstream,
                    format!("{op} asks a person for something before it goes on, which policy declines"),
                )))
            }
            Ok(_) => Err(Fault::Tool(Refusal::new(
                Code::Upstream,
                format!("{op} answered with a task, which was not asked for"),
            ))),
            Err(ServiceError::McpError(error)) => {
                let words = answer::cut(&error.message, 4_000).to_string();
                Err(Fault::Tool(Refusal::new(Code::Upstream, format!("{op}: {words}"))))
            }
            Err(ServiceError::TransportClosed | ServiceError::TransportSend(_)) => Err(Fault::Gone),
            Err(error) => Err(Fault::Tool(Refusal::new(Code::Upstream, format!("{op}: {error}")))),
        }
    }

    /// The kept answers.
    pub fn spools(&self) -> Spools {
        self.spools.clone()
    }

    /// Ends it: stdin closed, then the process asked, then killed.
    pub async fn close(mut self) {
        let _ = self.service.close_with_timeout(Duration::from_secs(3)).await;
    }
}

/// Why a call has no answer.
#[derive(Debug)]
pub enum Fault {
    /// The tool or the server said no.
    Tool(Refusal),
    /// The connection is gone.
    Gone,
}

async fn handshake<T>(policy: Policy, transport: T) -> Result<RunningService<RoleClient, Policy>, String>
where
    T: rmcp::transport::Transport<RoleClient> + 'static,
{
    let lifecycle = ClientLifecycleMode::Auto {
        preferred_versions: vec![ProtocolVersion::V_2026_07_28],
        legacy_version: Some(ProtocolVersion::V_2025_11_25),
    };
    match tokio::time::timeout(START, serve_client_with_lifecycle(policy, transport, lifecycle)).await {
        Ok(Ok(service)) => Ok(service),
        Ok(Err(error)) => Err(format!("the handshake failed: {}", answer::cut(&error.to_string(), 500))),
        Err(_) => Err(format!("it did not answer within {} s", START.as_secs())),
    }
}

/// The program of a server, its variables replaced.
fn program(server: &Server, secrets: &BTreeMap<String, String>) -> Result<Program, String> {
    let lookup = |name: &str| secrets.get(name).cloned().or_else(|| std::env::var(name).ok());
    let full = |text: &str| {
        expand(text, &lookup).map_err(|name| format!("the variable {name} of its configuration is not set"))
    };
    let mut env: BTreeMap<String, String> = super::config::ENVIRONMENT
        .iter()
        .filter_map(|name| Some(((*name).to_string(), std::env::var(name).ok()?)))
        .collect();
    for (name, value) in &server.env {
        env.insert(name.clone(), full(value)?);
    }
    Ok(Program {
        command: full(server.command.as_deref().unwrap_or_default())?,
        args: server.args.iter().map(|arg| full(arg)).collect::<Result<_, _>>()?,
        env,
        cwd: server.cwd.as_deref().map(full).transpose()?.map(PathBuf::from),
    })
}

fn http(
    url: &str,
    server: &Server,
    secrets: &BTreeMap<String, String>,
) -> Result<StreamableHttpClientTransportConfig, String> {
    let lookup = |name: &str| secrets.get(name).cloned().or_else(|| std::env::var(name).ok());
    let full = |text: &str| {
        expand(text, &lookup).map_err(|name| format!("the variable {name} of its configuration is not set"))
    };
    let mut headers = std::collections::HashMap::new();
    for (name, value) in &server.headers {
        let header = name.parse().map_err(|_| format!("{name} is no header name"))?;
        let value = full(value)?.parse().map_err(|_| format!("the value of header {name} cannot be sent"))?;
        headers.insert(header, value);
    }
    let mut config = StreamableHttpClientTransportConfig::with_uri(full(url)?)
        .custom_headers(headers)
        .max_sse_event_size(INLINE_MAX)
        .reinit_on_expired_session(true);
    if let Some(token) = secrets.get(super::OAUTH) {
        config = config.auth_header(token.clone());
    }
    Ok(config)
}
