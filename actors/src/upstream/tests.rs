//! Servers that misbehave, met through the handle that everyone else holds. The server is `tests/support/hostile.py`.

use super::pins::Pins;
use super::*;
use crate::decider::Decider;
use crate::supervisor::{Policy, Supervisor};
use athena_schemas::context::{Channel, Context, Party, Scope};
use athena_schemas::envelope::{Author, Meta};
use athena_schemas::layers::upstream::{Commands, Settle};
use serde_json::json;
use std::path::{Path, PathBuf};

/// The layer without a log: what it decides is folded at once.
#[derive(Default)]
pub(super) struct Book {
    pins: Mutex<Pins>,
    pub(super) notes: Mutex<Vec<Note>>,
}

impl Book {
    fn fold(pins: &mut Pins, events: &[athena_schemas::layers::upstream::Event]) {
        let author = Author { party: Party::System, channel: Channel::Internal, name: String::new() };
        let command = Context::example().command;
        let meta = Meta { at_ms: 0, scope: Scope::default(), author, command, run: None, key: None };
        events.iter().for_each(|event| pins.evolve(&meta, event));
    }

    fn accept(&self, server: &str) -> Vec<String> {
        let mut pins = self.pins.lock().unwrap();
        let settle = Settle { server: server.into(), tool: None };
        let decision = Commands::settle(&*pins, &Context::example(), settle).unwrap();
        Self::fold(&mut pins, &decision.events);
        decision.answer.accepted.into_iter().flat_map(|held| held.diff).collect()
    }
}

impl Ledger for Book {
    fn observe(&self, observe: Observe) -> BoxFuture<'_, Result<Verdict, Refusal>> {
        let mut pins = self.pins.lock().unwrap();
        let decision = Commands::observe(&*pins, &Context::example(), observe);
        if let Ok(decision) = &decision {
            Self::fold(&mut pins, &decision.events);
        }
        Box::pin(async { decision.map(|decision| decision.answer) })
    }

    fn note(&self, note: Note) -> BoxFuture<'_, ()> {
        self.notes.lock().unwrap().push(note);
        Box::pin(async {})
    }

    fn secret<'a>(&'a self, _: &'a str, name: &'a str) -> BoxFuture<'a, Option<String>> {
        Box::pin(async move { (name == "KEY").then(|| "from the vault".to_string()) })
    }
}

pub(super) struct Gate {
    pub(super) upstreams: Upstreams,
    pub(super) book: Arc<Book>,
    root: ActorRef<()>,
    pub(super) folder: tempfile::TempDir,
}

impl Gate {
    pub(super) async fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let book = Arc::new(Book::default());
        // What never ends need not fill a disk to be seen.
        let spools = Spools::holding(128 << 20);
        let upstreams = Upstreams::keeping(spools, book.clone(), Some(folder.path().join("upstreams")));
        let (root, _) =
            Actor::spawn(None, Supervisor, (vec![upstreams.child()], Policy::default())).await.unwrap();
        Self { upstreams, book, root, folder }
    }

    fn flag(&self) -> PathBuf {
        self.folder.path().join("flag")
    }

    pub(super) fn add(&self, name: &str, mode: &str, change: impl FnOnce(&mut Server)) {
        let mut server = hostile(mode, &self.flag());
        change(&mut server);
        self.upstreams.configure(name, server).unwrap();
    }

    pub(super) async fn call(&self, op: &str, arguments: Value) -> Result<Value, Refusal> {
        let (server, tool) = op.split_once('/').unwrap();
        self.upstreams.call(server, tool, arguments).await
    }

    pub(super) async fn close(self) {
        self.root.stop_and_wait(None, None).await.unwrap();
    }
}

fn hostile(mode: &str, flag: &Path) -> Server {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/support/hostile.py");
    Server {
        command: Some("python3".into()),
        args: vec![script.into(), "--mode".into(), mode.into(), "--flag".into(), flag.display().to_string()],
        ..Server::default()
    }
}

pub(super) async fn until<T>(what: impl Fn() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(value) = what() {
            return value;
        }
        assert!(Instant::now() < deadline, "condition not met in time");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn alive(pid: u32) -> bool {
    // A zombie that its new parent has not reaped yet is dead.
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_is_checked_made_and_answered() {
    let gate = Gate::open().await;
    gate.add("s", "plain", |_| {});
    assert_eq!(
        gate.call("s/echo", json!({"text": "[1]"})).await.unwrap(),
        json!({"content": "[1]", "json": [1]})
    );
    assert_eq!(gate.call("s/structured", Value::Null).await.unwrap(), json!({"content": "whole"}));
    let misfit = gate.call("s/misfit", json!({})).await.unwrap();
    assert!(misfit["$misfit"][0].as_str().unwrap().starts_with("content: "), "{misfit}");
    let refusal = gate.call("s/echo", json!({"text": "x", "n": 0})).await.unwrap_err();
    assert_eq!(refusal.path.as_deref(), Some("n"));
    let refusal = gate.call("s/fail", json!({})).await.unwrap_err();
    assert_eq!(refusal.message, "s/fail: fail failed as asked");
    let refusal = gate.call("s/ecko", json!({})).await.unwrap_err();
    assert!(refusal.hint.starts_with("echo"), "{refusal}");
    assert!(gate.call("t/echo", json!({})).await.unwrap_err().hint.contains('s'));
    assert_eq!(gate.upstreams.effect("s/echo"), Effect::Read);
    assert_eq!(gate.upstreams.effect("s/write"), Effect::Write);
    gate.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stride_e10_a_server_gets_the_environment_it_is_configured_and_no_more() {
    let gate = Gate::open().await;
    gate.add("s", "plain", |server| {
        server.env = BTreeMap::from([("TOKEN".into(), "x-${vault:KEY}".into())]);
    });
    let answer = gate.call("s/environment", json!({})).await.unwrap();
    let seen = answer["json"].as_object().unwrap();
    assert_eq!(seen["TOKEN"], "x-from the vault");
    assert!(seen.contains_key("PATH") && !seen.contains_key("CARGO_MANIFEST_DIR"), "{seen:?}");
    gate.add("u", "plain", |server| {
        server.env = BTreeMap::from([("TOKEN".into(), "${NOT_SET_ANYWHERE}".into())]);
    });
    let refusal = gate.call("u/echo", json!({"text": "x"})).await.unwrap_err();
    assert!(refusal.message.contains("NOT_SET_ANYWHERE"), "{refusal}");
    gate.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_names_the_server_and_its_last_words_and_harms_no_other() {
    let gate = Gate::open().await;
    gate.add("bad", "plain", |_| {});
    gate.add("good", "plain", |_| {});
    gate.call("good/echo", json!({"text": "x"})).await.unwrap();
    let refusal = gate.call("bad/crash", json!({})).await.unwrap_err();
    assert!(
        refusal.message.contains("upstream bad") && refusal.message.contains("last words on stderr"),
        "{refusal}"
    );
    let refusal = gate.call("bad/write", json!({})).await.unwrap_err();
    assert_eq!(
        refusal.code,
        if refusal.message.contains("not known") { Code::Unknown } else { Code::Upstream }
    );
    assert_eq!(gate.call("good/echo", json!({"text": "y"})).await.unwrap()["content"], "y");
    // It comes back by itself.
    let deadline = Instant::now() + Duration::from_secs(20);
    while gate.call("bad/echo", json!({"text": "z"})).await.is_err() {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let failed: Vec<String> = gate.book.notes.lock().unwrap().iter().map(|note| note.what.clone()).collect();
    assert!(failed.iter().any(|what| what.contains("last words")), "{failed:?}");
    gate.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_is_made_again_after_a_crash_and_a_write_is_uncertain() {
    let gate = Gate::open().await;
    gate.add("s", "plain", |_| {});
    assert_eq!(gate.call("s/crash_once", json!({})).await.unwrap()["content"], "alive");
    gate.add("t", "plain", |_| {});
    let refusal = gate.call("t/write", json!({})).await.unwrap_err();
    assert_eq!(refusal.code, Code::Unknown, "{refusal}");
    gate.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stride_d12_a_crash_loop_is_met_with_patience() {
    let gate = Gate::open().await;
    gate.add("s", "crashloop", |_| {});
    for _ in 0..50 {
        let refusal = gate.call("s/echo", json!({})).await.unwrap_err();
        assert!(refusal.message.contains("cannot find my database"), "{refusal}");
    }
    let status = &gate.upstreams.status()[0];
    assert_eq!(status.health, Health::Failing);
    assert!(status.starts < 10, "started {} times", status.starts);
    gate.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stride_d11_a_tool_that_hangs_is_cancelled_and_a_frozen_server_killed() {
    let gate = Gate::open().await;
    gate.add("s", "plain", |server| server.timeout_ms = Some(300));
    gate.call("s/echo", json!({"text": "x"})).await.unwrap();
    let refusal = gate.call("s/hang", json!({})).await.unwrap_err();
    assert_eq!((refusal.code, refusal.message.contains("300 ms")), (Code::LimitExceeded, true), "{refusal}");
    assert_eq!(gate.call("s/echo", json!({"text": "still here"})).await.unwrap()["content"], "still here");
    let pid = gate.upstreams.status()[0].pid.unwrap();
    assert_eq!(gate.call("s/freeze", json!({})).await.unwrap_err().code, Code::Unknown);
    until(|| (!alive(pid)).then_some(())).await;
    until(|| (gate.upstreams.status()[0].health == Health::Failing).then_some(())).await;
    gate.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_and_endless_progress_change_nothing() {
    let gate = Gate::open().await;
    gate.add("s", "plain", |_| {});
    assert_eq!(gate.call("s/garbage", json!({})).await.unwrap()["content"], "between the garbage");
    gate.add("t", "plain", |server| server.timeout_ms = Some(500));
    assert_eq!(gate.call("t/progress", json!({})).await.unwrap_err().code, Code::LimitExceeded);
    assert_eq!(gate.call("s/echo", json!({"text": "x"})).await.unwrap()["content"], "x");
    gate.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_of_100_megabytes_is_a_handle() {
    let gate = Gate::open().await;
    gate.add("s", "plain", |server| server.timeout_ms = Some(300_000));
    let small = gate.call("s/big", json!({"bytes": 1 << 20})).await.unwrap();
    assert_eq!(small["content"].as_str().unwrap().len(), 1 << 20);
    let before = resident();
    let answer = gate.call("s/big", json!({"bytes": 100 << 20})).await.unwrap();
    assert_eq!(answer["bytes"], 100 << 20);
    assert!(answer.to_string().len() < 4_000);
    let grown = resident().saturating_sub(before);
    assert!(grown < 40 << 20, "grew by {grown} bytes");
    let handle = answer["handle"].as_str().unwrap().strip_prefix("/results/").unwrap();
    let slice = gate.upstreams.slice(handle, (100 << 20) - 16, 1 << 20).await.unwrap();
    assert_eq!((slice.text.as_str(), slice.next), ("0123456789abcdef", None));
    gate.close().await;
}

fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stride_i21_what_a_server_asks_for_is_declined_and_recorded() {
    let gate = Gate::open().await;
    gate.add("s", "plain", |_| {});
    let answer = gate.call("s/asks", json!({})).await.unwrap();
    let text = answer["content"].as_str().unwrap();
    assert_eq!(text.matches("declined by the policy").count(), 2, "{text}");
    assert!(text.contains("\"action\": \"decline\""), "{text}");
    gate.call("s/asks", json!({})).await.unwrap();
    let mut declined = until(|| {
        let notes = gate.book.notes.lock().unwrap();
        let declined: Vec<String> = notes.iter().filter_map(|note| note.declined.clone()).collect();
        (declined.len() >= 3).then_some(declined)
    })
    .await;
    declined.sort();
    assert_eq!(declined, ["elicitation/create", "roots/list", "sampling/createMessage"], "once a connection");
    gate.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stride_t08_a_rug_pull_is_held_until_a_person_accepts_it() {
    let gate = Gate::open().await;
    gate.add("s", "rug", |_| {});
    gate.upstreams.refresh("s").await.unwrap();
    assert_eq!(gate.upstreams.tools().len(), 2);
    let generation = gate.upstreams.generation();
    std::fs::write(gate.flag(), "pull").unwrap();
    until(|| (gate.upstreams.tools().len() == 1).then_some(())).await;
    assert!(gate.upstreams.generation() > generation);
    let refusal = gate.call("s/add", json!({})).await.unwrap_err();
    assert_eq!(refusal.code, Code::Denied);
    assert!(
        refusal.message.contains("mails them") && refusal.hint.contains("athena upstream accept s add"),
        "{refusal}"
    );
    assert!(
        gate.call("s/same", json!({})).await.unwrap_err().message.contains("failed as asked"),
        "its neighbour is free"
    );
    let diff = gate.book.accept("s");
    assert!(diff[0].contains("Adds two numbers.\" -> "), "{diff:?}");
    gate.upstreams.refresh("s").await.unwrap();
    assert_eq!(gate.upstreams.tools().len(), 2);
    std::fs::write(gate.flag(), "more").unwrap();
    let names = until(|| {
        let names: Vec<String> = gate.upstreams.tools().into_iter().map(|tool| tool.name).collect();
        names.contains(&"fresh".to_string()).then_some(names)
    })
    .await;
    assert_eq!(
        names,
        ["same", "fresh"],
        "a new tool is there at once, the old form of `add` is a change again"
    );
    gate.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn poisoned_descriptions_are_withheld() {
    let gate = Gate::open().await;
    gate.add("s", "poison", |_| {});
    gate.upstreams.refresh("s").await.unwrap();
    let tools = gate.upstreams.tools();
    assert_eq!(tools.len(), 3);
    assert!(tools[0].description.starts_with("Its description is withheld"), "{}", tools[0].description);
    assert_eq!(tools[2].description, "Reads a file.");
    let status = &gate.upstreams.status()[0];
    assert_eq!((status.tools, status.flagged, status.held), (3, 1, 0));
    let source = athena_schemas::surface::typescript::file(&tools[1]);
    assert!(!source.lines().any(|line| line.trim_start().starts_with("evil")), "{source}");
    gate.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strange_names_are_made_safe_or_not_offered() {
    let gate = Gate::open().await;
    gate.add("s", "names", |_| {});
    gate.upstreams.refresh("s").await.unwrap();
    let names: Vec<String> = gate.upstreams.tools().into_iter().map(|tool| tool.name).collect();
    assert_eq!(
        names,
        ["a_b", "constructor", "__proto__", "delete", "Read", "athena_semantic_search", "good"]
    );
    assert_eq!(gate.upstreams.status()[0].refused.len(), 8, "{:?}", gate.upstreams.status()[0].refused);
    for name in ["athena", "semantic", "files"] {
        assert!(gate.upstreams.configure(name, Server::default()).is_err(), "{name}");
    }
    gate.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tool_that_cannot_be_read_does_not_take_the_others_with_it() {
    let gate = Gate::open().await;
    gate.add("s", "malformed", |_| {});
    gate.upstreams.refresh("s").await.unwrap();
    let names: Vec<String> = gate.upstreams.tools().into_iter().map(|tool| tool.name).collect();
    assert_eq!(names, ["good", "fine"]);
    let refused = &gate.upstreams.status()[0].refused;
    assert!(refused["worse"].contains("not well formed"), "{refused:?}");
    gate.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stride_d14_schema_bombs_and_endless_pages_end() {
    let gate = Gate::open().await;
    gate.add("s", "bomb", |_| {});
    gate.add("p", "pages", |_| {});
    gate.upstreams.refresh("s").await.unwrap();
    let tools = gate.upstreams.tools();
    let names: Vec<&str> = tools.iter().map(|tool| tool.name.as_str()).collect();
    assert_eq!(names, ["chain", "wide", "slow", "self", "remote", "good"]);
    let started = Instant::now();
    for tool in &tools {
        assert!(athena_schemas::surface::typescript::signature(tool).len() < 200_000);
        let _ = gate.call(&tool.op(), json!({"x": format!("{}b", "a".repeat(50))})).await;
    }
    assert!(started.elapsed() < Duration::from_secs(20));
    gate.upstreams.refresh("p").await.unwrap();
    assert_eq!(gate.upstreams.tools().iter().filter(|tool| tool.server == "p").count(), 50);
    gate.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_waits_for_a_server_that_does_not_answer_and_its_tools_are_known_from_last_time() {
    let gate = Gate::open().await;
    gate.add("s", "rug", |_| {});
    gate.upstreams.refresh("s").await.unwrap();
    let folder = gate.folder.path().join("upstreams");
    until(|| folder.join("s.json").exists().then_some(())).await;
    let again = Upstreams::new(Arc::new(Book::default()), Some(folder));
    again.configure("s", hostile("rug", &gate.flag())).unwrap();
    assert_eq!(again.tools().len(), 2, "without a process");
    again.configure("silent", hostile("silent", &gate.flag())).unwrap();
    let (root, _) = Actor::spawn(None, Supervisor, (vec![again.child()], Policy::default())).await.unwrap();
    again.warm();
    assert!(again.call("s", "same", json!({})).await.is_err(), "it fails as it always does, but it ran");
    assert_eq!(
        again.status().iter().map(|status| status.health).collect::<Vec<_>>(),
        [Health::Ready, Health::Starting]
    );
    root.stop_and_wait(None, None).await.unwrap();
    gate.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_process_is_left_behind() {
    let gate = Gate::open().await;
    gate.add("s", "plain", |_| {});
    gate.add("t", "plain", |_| {});
    let child: u32 =
        gate.call("s/children", json!({})).await.unwrap()["content"].as_str().unwrap().parse().unwrap();
    gate.call("t/echo", json!({"text": "x"})).await.unwrap();
    let pids: Vec<u32> = gate.upstreams.status().iter().filter_map(|status| status.pid).collect();
    assert_eq!(pids.len(), 2);
    gate.upstreams.remove("t").unwrap();
    until(|| (!alive(pids[1])).then_some(())).await;
    gate.close().await;
    until(|| (!alive(pids[0]) && !alive(child)).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_are_bounded_in_rate_and_number() {
    let gate = Gate::open().await;
    gate.add("s", "plain", |server| server.per_minute = Some(3));
    for _ in 0..3 {
        gate.call("s/echo", json!({"text": "x"})).await.unwrap();
    }
    let refusal = gate.call("s/echo", json!({"text": "x"})).await.unwrap_err();
    assert_eq!(refusal.code, Code::LimitExceeded, "{refusal}");
    gate.add("t", "plain", |server| (server.concurrency, server.timeout_ms) = (Some(1), Some(400)));
    let hang = gate.call("t/hang", json!({}));
    let echo = gate.call("t/echo", json!({"text": "x"}));
    let (hang, _) = tokio::join!(hang, echo);
    assert!(hang.is_err());
    gate.close().await;
}

/// Speaks the newer era alone; its first start takes longer than the library waits for an answer to the first question.
const SLOW: &str = r#"
import json, os, sys, time
if not os.path.exists(sys.argv[1]):
    open(sys.argv[1], "w").close()
    time.sleep(11)
for line in sys.stdin:
    asked = json.loads(line)
    if "id" not in asked:
        continue
    answer = {"jsonrpc": "2.0", "id": asked["id"]}
    common = {"resultType": "complete", "ttlMs": 0, "cacheScope": "private"}
    results = {
        "server/discover": {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}, **common},
        "tools/list": {"tools": [{"name": "echo", "inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": True}}], **common},
        "tools/call": {"content": [{"type": "text", "text": "here"}], "resultType": "complete"},
    }
    if asked["method"] in results:
        answer["result"] = results[asked["method"]]
    else:
        outdated = asked["method"] == "initialize"
        answer["error"] = {"code": -32022 if outdated else -32601, "message": "no", "data": {"supported": ["2026-07-28"]}}
    print(json.dumps(answer), flush=True)
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_of_the_newer_era_may_be_slow_to_start() {
    let gate = Gate::open().await;
    let args = vec!["-c".into(), SLOW.into(), gate.flag().display().to_string()];
    let server = Server { command: Some("python3".into()), args, ..Server::default() };
    gate.upstreams.configure("s", server).unwrap();
    assert_eq!(gate.call("s/echo", json!({})).await.unwrap(), json!({"content": "here"}));
    assert_eq!(gate.upstreams.status()[0].protocol.as_deref(), Some("2026-07-28"));
    gate.close().await;
}

/// The same over HTTP: `tests/support/hostile_http.py`, and what it says while it runs.
struct Web {
    child: std::process::Child,
    port: u16,
    said: Arc<Mutex<Vec<String>>>,
}

impl Web {
    fn start(arguments: &[&str]) -> Self {
        use std::io::{BufRead, BufReader};
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/support/hostile_http.py");
        let mut command = std::process::Command::new("python3");
        let mut child =
            command.arg(script).args(arguments).stdout(std::process::Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let port = lines.next().unwrap().parse().unwrap();
        lines.next().unwrap();
        let said: Arc<Mutex<Vec<String>>> = Arc::default();
        let heard = said.clone();
        std::thread::spawn(move || lines.for_each(|line| heard.lock().unwrap().push(line)));
        Self { child, port, said }
    }

    fn server(&self) -> Server {
        Server { url: Some(format!("http://127.0.0.1:{}/mcp", self.port)), ..Server::default() }
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_server_over_http_does_the_call_ends_with_a_reason_and_the_next_one_works() {
    let (gate, web) = (Gate::open().await, Web::start(&[]));
    for (tool, reason) in [
        ("endless_body", "at most 128 MiB"),
        ("endless_line", "at most 128 MiB"),
        ("endless_events", "did not answer"),
        ("slow_headers", "did not answer"),
        ("no_answer", "did not answer"),
        ("elsewhere", "redirects to http://127.0.0.1:"),
        ("as_get", "redirects to http://127.0.0.1:"),
        ("around", "redirects to http://127.0.0.1:"),
        ("html", "text/html"),
        ("garbage", ""),
        ("another", "did not answer"),
        ("empty", ""),
        ("late", "503"),
    ] {
        // A server each, so that the pauses of one that fails again and again are not the next one's.
        // What ends by a limit of ours has all the time it takes to get there, on a busy machine too.
        let limited = reason != "did not answer";
        let server = Server { timeout_ms: Some(if limited { 60_000 } else { 5_000 }), ..web.server() };
        gate.upstreams.configure(tool, server).unwrap();
        let refusal = gate.call(&format!("{tool}/{tool}"), json!({})).await.unwrap_err();
        assert!(refusal.message.contains(reason) && refusal.message.len() < 2_000, "{tool}: {refusal}");
        let answer = gate
            .call(&format!("{tool}/echo"), json!({}))
            .await
            .unwrap_or_else(|refusal| panic!("{tool}: {refusal}"));
        assert_eq!(answer, json!({"content": "here"}), "after {tool}");
    }
    assert!(web.said.lock().unwrap().is_empty(), "nobody follows a redirect to another server");
    gate.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_http_too_a_tool_that_cannot_be_read_does_not_take_the_others_with_it() {
    for (arguments, protocol) in [
        (&["--malformed"][..], "2025-11-25"),
        (&["--malformed", "--events"], "2025-11-25"),
        (&["--malformed", "--modern"], "2026-07-28"),
        (&["--malformed", "--modern", "--events"], "2026-07-28"),
    ] {
        let (gate, web) = (Gate::open().await, Web::start(arguments));
        gate.upstreams.configure("w", web.server()).unwrap();
        gate.upstreams.refresh("w").await.unwrap_or_else(|refusal| panic!("{arguments:?}: {refusal}"));
        assert_eq!(gate.call("w/echo", json!({})).await.unwrap(), json!({"content": "here"}));
        let status = &gate.upstreams.status()[0];
        assert_eq!(status.protocol.as_deref(), Some(protocol), "{arguments:?}");
        assert!(status.refused["worse"].contains("not well formed"), "{arguments:?}: {:?}", status.refused);
        assert_eq!(status.tools, 16, "{arguments:?}");
        gate.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_http_too_an_answer_of_100_megabytes_is_a_handle() {
    for arguments in [&[][..], &["--modern"]] {
        let (gate, web) = (Gate::open().await, Web::start(arguments));
        gate.upstreams.configure("w", Server { timeout_ms: Some(300_000), ..web.server() }).unwrap();
        gate.call("w/echo", json!({})).await.unwrap();
        for tool in ["w/big_body", "w/big_event"] {
            let before = resident();
            let answer =
                gate.call(tool, json!({})).await.unwrap_or_else(|refusal| panic!("{tool}: {refusal}"));
            assert_eq!(answer["bytes"], 100 << 20, "{tool}: {answer}");
            assert!(answer.to_string().len() < 4_000);
            let grown = resident().saturating_sub(before);
            assert!(grown < 40 << 20, "{tool}: grew by {grown} bytes");
            let handle = answer["handle"].as_str().unwrap().strip_prefix("/results/").unwrap();
            let slice = gate.upstreams.slice(handle, (100 << 20) - 16, 1 << 20).await.unwrap();
            assert_eq!((slice.text.as_str(), slice.next), ("0123456789abcdef", None), "{tool}");
            assert_eq!(gate.call("w/echo", json!({})).await.unwrap(), json!({"content": "here"}));
        }
        gate.close().await;
    }
}
