//! One daemon per store, seen from outside: the socket, the relay, and what happens when a daemon dies.
//!
//! The store behind the socket is a double that remembers keys, so that these tests are about the daemon alone.

use athena::config::Folders;
use athena::daemon::attach::{Attach, greeting};
use athena::daemon::protocol::{Hello, Mode};
use athena::daemon::server::{Closing, Custody, House, Options};
use athena::daemon::{Client, Parts, Place, Server, relay};
use athena::mcp::Profile;
use athena_schemas::context::{Caller, Scope};
use athena_schemas::envelope::{Draft, Record, Seq};
use athena_schemas::id::EventId;
use athena_schemas::ports::{Answer, BoxFuture, LogError, LogReader, Opened, Request, Router, Sealer};
use athena_schemas::refusal::{Code, Refusal};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(20);

/// Stores what it is told, once per key; `double/hang` never answers.
#[derive(Default)]
pub(crate) struct Double {
    stored: Mutex<HashMap<String, Value>>,
    hung: tokio::sync::Notify,
}

impl Router for Double {
    fn call<'a>(&'a self, caller: &'a Caller, request: Request) -> BoxFuture<'a, Result<Answer, Refusal>> {
        Box::pin(async move {
            match request.op.as_str() {
                "double/hang" => {
                    self.hung.notify_one();
                    std::future::pending().await
                }
                "double/panic" => panic!("a defect"),
                _ if request.params["content"] == "a defect" => panic!("a defect"),
                "double/who" => Ok(Answer { value: json!(caller), seq: None }),
                _ => {
                    let key =
                        format!("{}:{}", caller.principal(), request.idempotency_key.unwrap_or_default());
                    let mut stored = self.stored.lock().unwrap();
                    let next = stored.len() + 1;
                    let value =
                        stored.entry(key).or_insert_with(|| json!({ "id": next, "did": request.params }));
                    Ok(Answer { value: value.clone(), seq: Some(next as u64) })
                }
            }
        })
    }
}

/// A log without events.
struct Empty;

impl LogReader for Empty {
    fn head(&self) -> Seq {
        0
    }
    fn read(&self, _: Seq, _: usize) -> Result<Vec<Record>, LogError> {
        Ok(Vec::new())
    }
    fn read_stream(&self, _: &str, _: u64, _: usize) -> Result<Vec<Record>, LogError> {
        Ok(Vec::new())
    }
    fn find(&self, _: EventId) -> Result<Option<Seq>, LogError> {
        Ok(None)
    }
    fn beyond(&self, _: Seq) -> BoxFuture<'_, Option<Seq>> {
        Box::pin(async { None })
    }
}

impl Sealer for Empty {
    fn seal(&self, draft: Draft) -> Result<Draft, Refusal> {
        Ok(draft)
    }
    fn open(&self, draft: &Draft) -> Result<Opened, Refusal> {
        Ok(Opened::Plain(draft.payload.clone()))
    }
}

impl House for Empty {
    fn active_runs(&self) -> usize {
        0
    }
    fn compare(&self) -> BoxFuture<'_, Result<Value, Refusal>> {
        Box::pin(async { Ok(json!([])) })
    }
    fn custody(&self) -> Option<Custody> {
        None
    }
}

fn place(folder: &Path) -> Place {
    Place::of(&Folders::find(Some(folder.join("store")), |_| None).unwrap()).unwrap()
}

pub(crate) fn options() -> Options {
    Options { idle: None, ..Options::default() }
}

/// A daemon in this process.
pub(crate) async fn daemon(
    folder: &Path,
    options: Options,
    router: Arc<Double>,
) -> JoinHandle<Result<(), Refusal>> {
    let server = Server::bind(place(folder), options).await.unwrap();
    let parts = Parts { router, log: Arc::new(Empty), sealer: Arc::new(Empty), house: Arc::new(Empty) };
    tokio::spawn(server.run(async move {
        let closing: Closing = Box::pin(async {});
        Ok((parts, closing))
    }))
}

fn client(folder: &Path) -> Client {
    Client::new(Attach::to(place(folder)), Hello { scope: Scope::project("p"), ..greeting(Mode::Calls) })
}

#[tokio::test]
async fn calls_are_answered_by_a_person_s_caller_in_the_greeting_s_scope() {
    let folder = tempfile::tempdir().unwrap();
    let _daemon = daemon(folder.path(), options(), Arc::default()).await;
    let who = client(folder.path()).request(Request::new("double/who", Value::Null)).await.unwrap().value;
    assert_eq!((&who["party"], &who["channel"]), (&json!("human"), &json!("cli")));
    assert_eq!(who["scope"]["project"], "p");
    assert_eq!(who["holds"]["project"], Value::Null);
}

#[tokio::test]
async fn an_agent_over_the_socket_holds_its_project_and_no_more_and_cannot_read_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let _daemon = daemon(folder.path(), options(), Arc::default()).await;
    let hello = Hello { scope: Scope::project("p"), ..greeting(Mode::AgentCalls) };
    let client = Client::new(Attach::to(place(folder.path())), hello);
    let who = client.request(Request::new("double/who", Value::Null)).await.unwrap().value;
    assert_eq!((&who["party"], &who["holds"]["project"]), (&json!("agent"), &json!("p")));
    let refusal = client.request(Request::new("log/read", Value::Null)).await.unwrap_err();
    assert_eq!(refusal.code, Code::NotFound);
}

#[tokio::test]
async fn one_connection_s_panic_is_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let _daemon = daemon(folder.path(), options(), Arc::default()).await;
    let (broken, sound) = (client(folder.path()), client(folder.path()));
    let refusal = broken.request(Request::new("double/panic", Value::Null)).await.unwrap_err();
    assert_eq!(refusal.code, Code::Internal);
    assert!(sound.request(Request::new("double/store", json!({}))).await.is_ok());
}

#[tokio::test]
async fn the_socket_is_the_owner_s_alone_and_strangers_are_shown_out() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let place = place(folder.path());
    let _daemon = daemon(folder.path(), options(), Arc::default()).await;
    assert_eq!(std::fs::metadata(&place.socket).unwrap().permissions().mode() & 0o777, 0o600);
    let stream = tokio::net::UnixStream::connect(&place.socket).await.unwrap();
    let (read, mut write) = stream.into_split();
    write.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut line = String::new();
    timeout(PATIENCE, BufReader::new(read).read_line(&mut line)).await.unwrap().unwrap();
    let welcome: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(welcome["refused"]["code"], "invalid");
}

#[tokio::test]
async fn as_many_clients_as_allowed_and_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let few = Options { clients_max: 2, ..options() };
    let _daemon = daemon(folder.path(), few, Arc::default()).await;
    let (one, two, three) = (client(folder.path()), client(folder.path()), client(folder.path()));
    one.request(Request::new("double/store", json!({}))).await.unwrap();
    two.request(Request::new("double/store", json!({}))).await.unwrap();
    let refusal = three.request(Request::new("double/store", json!({}))).await.unwrap_err();
    assert_eq!(refusal.code, Code::LimitExceeded);
}

#[tokio::test]
async fn it_ends_when_idle_but_not_while_somebody_is_connected() {
    let folder = tempfile::tempdir().unwrap();
    let soon = Options { idle: Some(Duration::from_millis(200)), ..options() };
    let mut running = daemon(folder.path(), soon, Arc::default()).await;
    let client = client(folder.path());
    client.request(Request::new("double/store", json!({}))).await.unwrap();
    assert!(timeout(Duration::from_millis(900), &mut running).await.is_err(), "it left its client");
    drop(client);
    timeout(PATIENCE, running).await.unwrap().unwrap().unwrap();
    assert!(!place(folder.path()).socket.exists());
}

#[tokio::test]
async fn a_newer_client_has_an_older_daemon_make_place() {
    let folder = tempfile::tempdir().unwrap();
    let older = Options { version: "0.0.1".into(), ..options() };
    let old = daemon(folder.path(), older, Arc::default()).await;
    let path = folder.path().to_path_buf();
    // Waits for the lock of the older one, as a daemon that a client starts does.
    let new = tokio::spawn(async move {
        let server = Server::bind(place(&path), options()).await.unwrap();
        let parts = Parts {
            router: Arc::<Double>::default(),
            log: Arc::new(Empty),
            sealer: Arc::new(Empty),
            house: Arc::new(Empty),
        };
        server.run(async move { Ok((parts, Box::pin(async {}) as Closing)) }).await
    });
    let attach = Attach::to(place(folder.path()));
    let newer = greeting(Mode::Calls);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let mut version = String::new();
    while version != newer.version && tokio::time::Instant::now() < deadline {
        if let Ok(attached) = attach.greet(&newer).await {
            version.clone_from(&attached.welcome.version);
            if version == "0.0.1" {
                attach.greet(&greeting(Mode::Drain)).await.unwrap();
            }
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(version, newer.version);
    timeout(PATIENCE, old).await.unwrap().unwrap().unwrap();
    new.abort();
}

#[tokio::test]
async fn a_store_that_does_not_open_says_why_to_whoever_asks() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::bind(place(folder.path()), options()).await.unwrap();
    let running = tokio::spawn(
        server.run(async { Err(Refusal::new(Code::Integrity, "position 7 is not what was written")) }),
    );
    let refusal = client(folder.path()).request(Request::new("double/store", json!({}))).await.unwrap_err();
    assert_eq!(
        (refusal.code, refusal.message.as_str()),
        (Code::Integrity, "position 7 is not what was written")
    );
    assert_eq!(timeout(PATIENCE, running).await.unwrap().unwrap().unwrap_err().code, Code::Integrity);
}

/// An MCP client on the relay's streams.
struct Stdio {
    input: DuplexStream,
    output: tokio::io::Lines<BufReader<DuplexStream>>,
    relay: JoinHandle<Result<(), Refusal>>,
}

impl Stdio {
    fn start(folder: &Path) -> Self {
        let (input, relay_in) = tokio::io::duplex(1 << 20);
        let (relay_out, output) = tokio::io::duplex(1 << 20);
        let attach = Attach::to(place(folder));
        let mode = Mode::Mcp { front: "f".into(), profile: Profile::Default };
        let hello = Hello { scope: Scope::project("p"), client: "serve".into(), ..greeting(mode) };
        let relay = tokio::spawn(async move { relay::run(&attach, &hello, relay_in, relay_out).await });
        Self { input, output: BufReader::new(output).lines(), relay }
    }

    async fn say(&mut self, message: Value) {
        self.input.write_all(format!("{message}\n").as_bytes()).await.unwrap();
    }

    async fn hear(&mut self) -> Value {
        let line = timeout(PATIENCE, self.output.next_line()).await.unwrap().unwrap().unwrap();
        serde_json::from_str(&line).unwrap()
    }

    async fn initialize(&mut self) -> Value {
        self.say(json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
            "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}}))
            .await;
        let answer = self.hear().await;
        self.say(json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await;
        answer
    }

    async fn remember(&mut self, id: u64) {
        self.say(json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {
            "name": "remember", "arguments": {"content": format!("note {id}")}}}))
            .await;
    }
}

#[tokio::test]
async fn a_client_lists_the_tools_and_calls_one_over_stdio() {
    let folder = tempfile::tempdir().unwrap();
    let _daemon = daemon(folder.path(), options(), Arc::default()).await;
    let mut stdio = Stdio::start(folder.path());
    let init = stdio.initialize().await;
    assert_eq!(init["result"]["serverInfo"]["name"], "athena");
    stdio.say(json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"})).await;
    let tools = stdio.hear().await;
    assert_eq!(tools["result"]["tools"].as_array().unwrap().len(), 4);
    stdio.remember(2).await;
    let answer = stdio.hear().await;
    assert_eq!(answer["result"]["structuredContent"]["did"]["content"], "note 2");
    drop(stdio.input);
    timeout(PATIENCE, stdio.relay).await.unwrap().unwrap().unwrap();
}

/// How the daemon is, as `athena daemon status` asks.
async fn status(folder: &Path) -> athena::daemon::protocol::Status {
    Attach::to(place(folder)).greet(&greeting(Mode::Status)).await.unwrap().welcome.status.unwrap()
}

#[tokio::test]
async fn a_panic_in_a_tool_is_an_answer_and_its_connection_and_the_others_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let _daemon = daemon(folder.path(), options(), Arc::default()).await;
    let (mut broken, mut sound) = (Stdio::start(folder.path()), Stdio::start(folder.path()));
    broken.initialize().await;
    sound.initialize().await;
    broken
        .say(json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
            "name": "remember", "arguments": {"content": "a defect"}}}))
        .await;
    let answer = broken.hear().await;
    assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!(1), &json!(-32603)), "{answer}");
    for client in [&mut broken, &mut sound] {
        client.remember(2).await;
        assert_eq!(client.hear().await["result"]["structuredContent"]["did"]["content"], "note 2");
    }
}

#[tokio::test]
async fn the_front_knows_who_is_connected() {
    let folder = tempfile::tempdir().unwrap();
    let _daemon = daemon(folder.path(), options(), Arc::default()).await;
    let mut stdio = Stdio::start(folder.path());
    stdio.initialize().await;
    let caller = client(folder.path());
    caller.request(Request::new("double/store", json!({}))).await.unwrap();
    let refusal = caller.request(Request::new("double/panic", Value::Null)).await.unwrap_err();
    assert_eq!(refusal.code, Code::Internal);
    let status = status(folder.path()).await;
    assert_eq!((status.clients, status.accepted, status.turned_away, status.panics), (2, 3, 0, 1));
    let [mcp, calls] = &status.connections[..] else { panic!("{:?}", status.connections) };
    assert_eq!(
        (mcp.mode.as_str(), mcp.principal.as_str(), mcp.client.as_str()),
        ("mcp", "agent/mcp/t", "serve")
    );
    assert_eq!((mcp.profile, mcp.protocol.as_deref()), (Some(Profile::Default), Some("2025-11-25")));
    assert_eq!((mcp.project.as_deref(), mcp.requests), (Some("p"), 1));
    assert_eq!((calls.mode.as_str(), calls.client.as_str(), calls.requests), ("calls", "cli", 2));
    assert!(calls.principal.starts_with("human/cli/") && calls.protocol.is_none());
    drop(stdio);
    drop(caller);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while self::status(folder.path()).await.clients > 0 {
        assert!(tokio::time::Instant::now() < deadline, "they are listed although they went");
    }
}

#[tokio::test]
async fn the_relay_outlives_its_daemon_and_a_repeated_request_is_the_same_command() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(Double::default());
    let first = daemon(folder.path(), options(), store.clone()).await;
    let mut stdio = Stdio::start(folder.path());
    stdio.initialize().await;
    stdio.remember(1).await;
    assert_eq!(stdio.hear().await["result"]["structuredContent"]["id"], 1);

    // The daemon dies like a killed one: no goodbye, its lock and socket free.
    first.abort();
    let _ = first.await;
    let second = daemon(folder.path(), options(), store.clone()).await;
    stdio.remember(2).await;
    let answer = stdio.hear().await;
    assert_eq!((&answer["id"], &answer["result"]["structuredContent"]["id"]), (&json!(2), &json!(2)));
    assert_eq!(store.stored.lock().unwrap().len(), 2);
    second.abort();
}
