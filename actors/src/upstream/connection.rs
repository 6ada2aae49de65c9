//! One live connection to a server: the handshake of either era, its tools, its calls, and what it may not ask of us.

#![expect(deprecated, reason = "servers of the older era still ask for sampling and roots; they are told no")]

use super::answer;
use super::config::expand;
use super::definition::{self, Defined};
use super::keeper;
use super::spool::Spools;
use super::stdio::{Program, Stdio, Tail};
use super::web::Web;
use athena_schemas::layers::upstream::{Questions, Server};
use athena_schemas::refusal::{Code, Refusal};
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, ClientCapabilities, ClientConfig, CreateMessageRequestParams,
    CreateMessageResult, ElicitRequestParams, ElicitResult, ElicitationAction, ErrorCode, ErrorData,
    Implementation, InputRequest, InputRequiredResult, InputResponses, ListRootsResult,
    PaginatedRequestParams, ProtocolVersion, SubscriptionFilter,
};
use rmcp::service::{
    ClientInitializeError, ClientLifecycleMode, NotificationContext, Peer, RequestContext, RunningService,
    ServiceError, serve_client_with_lifecycle,
};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::auth::AuthClient;
use rmcp::transport::streamable_http_client::{StreamableHttpClientTransportConfig, StreamableHttpError};
use rmcp::{ClientHandler, RoleClient};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;

/// How long a server may take from its start to its list of tools.
pub const START: Duration = Duration::from_secs(60);
/// Pages of `tools/list` that are read.
const PAGES_MAX: usize = 50;
/// How often a tool may ask before it goes on.
const ROUNDS_MAX: usize = 8;
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
    questions: Questions,
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
        if let (Questions::Defaults, Some(content)) = (self.questions, what.as_ref().and_then(defaults)) {
            return Ok(ElicitResult::new(ElicitationAction::Accept).with_content(content));
        }
        let message = what.as_ref().and_then(|what| what.get("message")?.as_str()).unwrap_or("an answer");
        let _ = self.decline("elicitation/create", message);
        Ok(ElicitResult::new(ElicitationAction::Decline))
    }

    async fn on_tool_list_changed(&self, _: NotificationContext<RoleClient>) {
        let _ = self.signals.send(Signal::ToolsChanged);
    }

    fn get_info(&self) -> ClientConfig {
        // Who is never answered is not told that it may ask.
        let capabilities = match self.questions {
            Questions::Decline => ClientCapabilities::default(),
            Questions::Defaults => ClientCapabilities::builder().enable_elicitation().build(),
        };
        ClientConfig::new(capabilities, Implementation::new("athena", env!("CARGO_PKG_VERSION")))
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
#[derive(Debug, Clone, Default)]
pub struct Failure {
    /// What happened.
    pub why: String,
    /// The last lines of stderr.
    pub stderr: Vec<String>,
    /// What a server over HTTP said that wants to know who asks.
    pub challenge: Option<String>,
    /// It was greeted in a version of the protocol that it does not speak.
    pub outdated: bool,
}

impl Connection {
    /// Starts or reaches the server and shakes hands. `secrets` holds the values of the variables in its configuration.
    ///
    /// # Errors
    /// Why not, with its stderr.
    pub async fn open(
        server: &Server,
        secrets: &BTreeMap<String, String>,
        access: Option<AuthClient<Web>>,
        spools: Spools,
        signals: UnboundedSender<Signal>,
    ) -> Result<Self, Failure> {
        let (heard, questions) = (signals.clone(), server.questions);
        let policy = || Policy { signals: heard.clone(), reported: Mutex::default(), questions };
        let bare = |why: String| Failure { why, ..Failure::default() };
        let (service, pid, tail) = match (&server.command, &server.url) {
            (Some(_), _) => {
                let program = program(server, secrets).map_err(bare)?;
                let (service, pid, tail) = start(&program, policy, &spools, &signals).await?;
                // It has answered, so it is there, behind its keeper.
                let pid = pid
                    .map(|pid| if keeper::possible() { keeper::server_of(pid).unwrap_or(pid) } else { pid });
                (service, pid, tail)
            }
            (None, Some(url)) => {
                let config = http(url, server, secrets).map_err(bare)?;
                super::address::check(&config.uri).await.map_err(bare)?;
                let kept = spools.clone();
                let service = match reach(policy(), access.clone(), config.clone(), kept, either()).await {
                    // It answers what it does not know as if it did: then in the older way.
                    Err(failure) if failure.why.contains(PUZZLED) => {
                        reach(policy(), access, config, spools.clone(), ClientLifecycleMode::Initialize).await
                    }
                    reached => reached,
                };
                (service?, None, Tail::default())
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
    pub async fn offer(peer: Peer<RoleClient>, server: String) -> Result<Offer, Failure> {
        let mut offer = Offer::default();
        let mut taken = BTreeSet::new();
        let mut cursor: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let params = PaginatedRequestParams::default().with_cursor(cursor.clone());
            let page = peer.list_tools(Some(params)).await.map_err(|error| unlisted(&error))?;
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

    /// Calls a tool by the name the server gave it. What it asks in between is answered by policy.
    ///
    /// # Errors
    /// When the server refuses, fails, is gone or wants something first.
    pub async fn call(
        peer: Peer<RoleClient>,
        policy: UnboundedSender<Signal>,
        spools: Spools,
        questions: Questions,
        op: &str,
        wire: String,
        arguments: Map<String, Value>,
    ) -> Result<Value, Fault> {
        let mut params = CallToolRequestParams::new(wire).with_arguments(arguments);
        let mut answered = peer.call_tool_once(params.clone()).await;
        for _ in 0..ROUNDS_MAX {
            let Ok(CallToolResponse::InputRequired(asked)) = &answered else { break };
            let Some(answers) = answers(questions, asked) else { break };
            (params.input_responses, params.request_state) = (Some(answers), asked.request_state.clone());
            answered = peer.call_tool_once(params.clone()).await;
        }
        match answered {
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
            Err(error) if challenge(&error).is_some() => {
                Err(Fault::Challenged(challenge(&error).unwrap_or_default()))
            }
            Err(error) if unread(&error).is_some() => Err(Fault::Unread(unread(&error).unwrap_or_default())),
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

/// What a failure says of a server that wants to know who asks.
pub const UNAUTHORIZED: &str = "it asks for authorization: ";

/// Why a call has no answer.
#[derive(Debug)]
pub enum Fault {
    /// The tool or the server said no.
    Tool(Refusal),
    /// The server wants to know who asks, or wants more than was granted: what it said.
    Challenged(String),
    /// The server answered this call over HTTP with what is no answer; others it may answer.
    Unread(String),
    /// The connection is gone.
    Gone,
}

/// What was wrong with an answer over HTTP, where there was one at all.
fn unread(error: &ServiceError) -> Option<String> {
    let ServiceError::TransportSend(error) = error else { return None };
    let mut at: Option<&(dyn std::error::Error + 'static)> = Some(error);
    let refused = loop {
        let here = at?;
        match here.downcast_ref::<StreamableHttpError<reqwest::Error>>() {
            Some(refused) => break refused,
            None => at = here.source(),
        }
    };
    // Errors name what they are made of only one by one.
    let mut source = match refused {
        StreamableHttpError::Client(error) if error.is_connect() || error.is_timeout() => return None,
        StreamableHttpError::Client(error) => std::error::Error::source(error),
        refused => std::error::Error::source(refused),
    };
    let mut words = vec![refused.to_string()];
    while let Some(cause) = source {
        let said = cause.to_string();
        if !words.iter().any(|known| known.contains(&said)) {
            words.push(said);
        }
        source = cause.source();
    }
    Some(answer::cut(&words.join(": "), 600).to_owned())
}

/// Why tools cannot be listed.
fn unlisted(error: &ServiceError) -> Failure {
    let challenge = challenge(error);
    let why = if challenge.is_some() { UNAUTHORIZED } else { "" };
    Failure { why: format!("tools/list: {why}{error}"), challenge, ..Failure::default() }
}

/// The library's words for an answer to the newer era's first question that is none.
const PUZZLED: &str = "expect initialized";

/// Whichever era of the protocol a server speaks.
fn either() -> ClientLifecycleMode {
    ClientLifecycleMode::Auto {
        preferred_versions: vec![ProtocolVersion::V_2026_07_28],
        legacy_version: Some(ProtocolVersion::V_2025_11_25),
    }
}

/// Starts a program and shakes hands with it, in whichever era it speaks. The library asks in the newer one first and, after ten
/// seconds without an answer, in the older one. A server that was only slow to start and speaks the newer one alone is started once
/// more and asked for nothing else.
async fn start(
    program: &Program,
    policy: impl Fn() -> Policy,
    spools: &Spools,
    signals: &UnboundedSender<Signal>,
) -> Result<(RunningService<RoleClient, Policy>, Option<u32>, Tail), Failure> {
    let newer = ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] };
    let (mut lifecycle, mut newer) = (either(), Some(newer));
    loop {
        let spawned = Stdio::spawn(program, spools.clone(), Some(signals.clone()));
        let (stdio, tail) = spawned.map_err(|error| Failure {
            why: format!("{} cannot be started: {error}", program.command),
            ..Failure::default()
        })?;
        let pid = stdio.id();
        match (handshake(policy(), stdio, lifecycle).await, newer.take()) {
            (Ok(service), _) => return Ok((service, pid, tail)),
            (Err(failure), Some(newer)) if failure.outdated => lifecycle = newer,
            (Err(failure), _) => {
                let stderr = tail.last_words().await;
                return Err(match keeper::failure(&stderr) {
                    Some(why) => Failure { why, ..Failure::default() },
                    None => Failure { stderr, ..failure },
                });
            }
        }
    }
}

async fn reach(
    policy: Policy,
    access: Option<AuthClient<Web>>,
    config: StreamableHttpClientTransportConfig,
    spools: Spools,
    lifecycle: ClientLifecycleMode,
) -> Result<RunningService<RoleClient, Policy>, Failure> {
    let failed = |why| Failure { why, ..Failure::default() };
    match access {
        Some(client) => {
            let transport = StreamableHttpClientTransport::with_client(client, config);
            handshake(policy, transport, lifecycle).await
        }
        None => {
            let client = Web::new(spools).map_err(failed)?;
            let transport = StreamableHttpClientTransport::with_client(client, config);
            handshake(policy, transport, lifecycle).await
        }
    }
}

async fn handshake<T>(
    policy: Policy,
    transport: T,
    lifecycle: ClientLifecycleMode,
) -> Result<RunningService<RoleClient, Policy>, Failure>
where
    T: rmcp::transport::Transport<RoleClient> + 'static,
{
    match tokio::time::timeout(START, serve_client_with_lifecycle(policy, transport, lifecycle)).await {
        Ok(Ok(service)) => Ok(service),
        Ok(Err(error)) => {
            let challenge = challenge(&error);
            let words = error.to_string();
            // The library's words for a grant that cannot be renewed.
            let stale = ["uthorization required", "refresh"].iter().any(|word| words.contains(word));
            let why = if stale || challenge.is_some() { UNAUTHORIZED } else { "" };
            let why = format!("the handshake failed: {why}{}", answer::cut(&words, 500));
            let outdated = matches!(&error, ClientInitializeError::JsonRpcError(said) if said.code == ErrorCode::UNSUPPORTED_PROTOCOL_VERSION);
            Err(Failure { why, challenge, outdated, ..Failure::default() })
        }
        Err(_) => {
            let why = format!("it did not answer within {} s", START.as_secs());
            Err(Failure { why, ..Failure::default() })
        }
    }
}

/// What a server over HTTP said with its 401 or 403, wherever in an error it is.
fn challenge(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    if let Some(ClientInitializeError::TransportError { error, .. }) = error.downcast_ref() {
        return challenge(error);
    }
    if let Some(ServiceError::TransportSend(error)) = error.downcast_ref() {
        return challenge(error);
    }
    if let Some(refused) = error.downcast_ref::<StreamableHttpError<reqwest::Error>>()
        && let Some(words) = refused.auth_challenge()
    {
        return Some(words.to_owned());
    }
    challenge(error.source()?)
}

/// The answers to what a tool asks before it goes on; `None` where policy has none to one of it.
fn answers(questions: Questions, asked: &InputRequiredResult) -> Option<InputResponses> {
    let Some(requests) = &asked.input_requests else {
        // Nothing is asked: only the state is to come back.
        return Some(InputResponses::new());
    };
    let answer = |request: &InputRequest| {
        let request = serde_json::to_value(request).ok()?;
        let elicits = request.get("method").and_then(Value::as_str) == Some("elicitation/create");
        let content = elicits.then(|| defaults(request.get("params")?)).flatten();
        content.map(|content| json!({ "action": "accept", "content": content }))
    };
    match questions {
        Questions::Decline => None,
        Questions::Defaults => {
            requests.iter().map(|(key, request)| Some((key.clone(), answer(request)?))).collect()
        }
    }
}

/// What a form says are its defaults, where everything it needs has one.
fn defaults(question: &Value) -> Option<Value> {
    let schema = question.get("requestedSchema")?;
    let fields = schema.get("properties")?.as_object()?;
    let given: Map<String, Value> = fields
        .iter()
        .filter_map(|(name, field)| Some((name.clone(), field.get("default")?.clone())))
        .collect();
    let mut needed = schema.get("required").and_then(Value::as_array).into_iter().flatten();
    needed.all(|name| name.as_str().is_some_and(|name| given.contains_key(name))).then(|| given.into())
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
    Ok(StreamableHttpClientTransportConfig::with_uri(full(url)?)
        .custom_headers(headers)
        .reinit_on_expired_session(true))
}

/// The address of a server, its variables replaced.
///
/// # Errors
/// The name of a variable that is not set.
pub fn address(url: &str, secrets: &BTreeMap<String, String>) -> Result<String, String> {
    let lookup = |name: &str| secrets.get(name).cloned().or_else(|| std::env::var(name).ok());
    expand(url, &lookup).map_err(|name| format!("the variable {name} of its configuration is not set"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_answered_by_its_defaults_or_not_at_all() {
        let form = |fields: Value, needed: Value| json!({"message": "?", "requestedSchema": {"type": "object", "properties": fields, "required": needed}});
        let fields = json!({"name": {"type": "string", "default": "x"}, "age": {"type": "integer", "default": 7}, "note": {"type": "string"}});
        assert_eq!(defaults(&form(fields.clone(), json!(["name"]))), Some(json!({"name": "x", "age": 7})));
        assert_eq!(defaults(&form(fields, json!(["note"]))), None);
        assert_eq!(defaults(&json!({"mode": "url", "url": "https://example.com"})), None);
    }

    #[test]
    fn what_a_tool_asks_before_it_goes_on_is_answered_by_policy() {
        let asked = |requests: Value| -> InputRequiredResult {
            serde_json::from_value(
                json!({"resultType": "input_required", "inputRequests": requests, "requestState": "s"}),
            )
            .unwrap()
        };
        let form = json!({"method": "elicitation/create", "params": {"mode": "form", "message": "?", "requestedSchema": {
            "type": "object", "properties": {"ok": {"type": "boolean", "default": true}}}}});
        let one = asked(json!({"a": form}));
        assert_eq!(answers(Questions::Decline, &one), None);
        let given = answers(Questions::Defaults, &one).unwrap();
        assert_eq!(given["a"], json!({"action": "accept", "content": {"ok": true}}));
        let roots = asked(json!({"a": form, "b": {"method": "roots/list"}}));
        assert_eq!(answers(Questions::Defaults, &roots), None);
    }
}
