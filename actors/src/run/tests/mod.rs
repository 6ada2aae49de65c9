//! The engine against scripted workers, a log in memory and a router that remembers every call.

mod answers;
mod replays;
mod sessions;
mod waits;

use super::parts::{
    Catalogued, Decided, Effects, Judge, Parts, Submission, Surface, Tokenize, Types, Verdict,
};
use super::tape::Archive;
use super::*;
use crate::log::{Location, LogHandle, Options};
use crate::sandbox::scripted::{Peer, Scripted};
use crate::sandbox::{Exit, Sandbox, Settings};
use athena_schemas::context::Scope;
use athena_schemas::envelope::Draft;
use athena_schemas::id::CommandId;
use athena_schemas::layers::run::{Doubt, Effect, Event};
use athena_schemas::ports::{Answer, BoxFuture, Opened, Sealer};
use athena_schemas::risk::{Limits, Risk};
use athena_schemas::wire::{
    Assessment, Fault, FaultKind, FromWorker, Job, Language, Namespace, Reason, ToWorker,
};
use proptest::prelude::*;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

// ---------------------------------------------------------------------------------------------------------------------
// Workers: code is a list of statements, one a line.

fn assess(code: &str) -> Assessment {
    let mut assessment = Assessment { literals: vec![(0, code.len() as u32)], ..Assessment::default() };
    if code.contains("!syntax") {
        assessment.syntax = Some(fault(FaultKind::Syntax, "SyntaxError", "unexpected !"));
    }
    if code.contains("dangerous") {
        assessment.level = Risk::High;
        assessment.reasons.push(Reason {
            rule: "test".into(),
            level: Risk::High,
            message: "it says so".into(),
            line: 1,
            column: 1,
        });
    }
    assessment
}

fn fault(kind: FaultKind, name: &str, message: &str) -> Fault {
    Fault { kind, name: name.into(), message: message.into(), line: 1, column: 2, stack: "at 1:2".into() }
}

/// Executes a job. All it observes goes into `heard`, on which all it does depends.
struct Machine {
    peer: Peer,
    job: Job,
    last: u32,
    open: u32,
    heard: blake3::Hasher,
    answers: Vec<String>,
    clock_ms: u64,
}

impl Machine {
    fn call(&mut self, op: &str, params: String) {
        self.last += 1;
        self.open += 1;
        self.peer.send(&FromWorker::Call { call: self.last, op: op.into(), params, options: String::new() });
    }

    fn wait(&mut self) -> Option<()> {
        let ToWorker::Answer { call, result, clock_ms } = self.peer.recv()? else { panic!("no answer") };
        self.open -= 1;
        self.clock_ms = clock_ms;
        self.heard.update(format!("{call} {result:?} {clock_ms};").as_bytes());
        self.answers.push(result.unwrap_or_else(|refusal| refusal));
        Some(())
    }

    fn log(&mut self, text: String) {
        self.peer.send(&FromWorker::Log { level: "log".into(), text });
    }

    fn draw(&self, n: u8) -> u8 {
        self.heard.finalize().as_bytes()[0] % n
    }

    /// A program that nobody wrote: each step depends on everything heard so far.
    fn wander(&mut self, steps: u32) -> Option<()> {
        for step in 0..steps {
            self.heard.update(&step.to_le_bytes());
            let seen = self.heard.finalize().to_hex()[..8].to_owned();
            match self.draw(8) {
                0 | 1 => self.call("semantic/search", format!("{{\"query\":\"{seen}\"}}")),
                2 => self.call("semantic/store", format!("{{\"content\":\"{seen}\"}}")),
                3 => self.call(
                    ["up/send", "up/put", "up/read"][step as usize % 3],
                    format!("{{\"x\":\"{seen}\"}}"),
                ),
                4 => {
                    self.last += 1;
                    self.open += 1;
                    self.peer.send(&FromWorker::Timer { call: self.last, after_ms: u64::from(step % 3) });
                }
                5 => self.log(seen),
                _ if self.open > 0 => self.wait()?,
                _ => {}
            }
        }
        while self.open > 0 {
            self.wait()?;
        }
        Some(())
    }

    fn run(mut self) -> Exit {
        let code = self.job.code.clone();
        let mut state: Value = serde_json::from_str(&self.job.state).unwrap();
        let mut value = "null".to_owned();
        self.heard.update(&self.job.seed);
        self.heard.update(&self.job.clock_ms.to_le_bytes());
        for line in code.lines() {
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            let alive = match word {
                "call" => {
                    let (op, params) = rest.split_once(' ').unwrap_or((rest, "{}"));
                    self.call(op, params.to_owned());
                    Some(())
                }
                "wait" => self.wait(),
                "wander" => self.wander(rest.parse().unwrap()),
                "log" => {
                    self.log(rest.to_owned());
                    Some(())
                }
                "answers" => {
                    value = format!("[{}]", self.answers.join(","));
                    Some(())
                }
                "heard" => {
                    value = format!("\"{}\"", self.heard.finalize().to_hex());
                    Some(())
                }
                "input" => {
                    value = self.job.input.clone();
                    Some(())
                }
                "count" => {
                    let n = state["n"].as_u64().unwrap_or(0) + 1;
                    state["n"] = n.into();
                    value = n.to_string();
                    Some(())
                }
                "return" => {
                    value = rest.to_owned();
                    Some(())
                }
                "throw" => {
                    self.peer.done(Err(fault(FaultKind::Thrown, "Error", rest)), &state.to_string());
                    return Exit::Code(0);
                }
                "hang" => {
                    while self.peer.recv().is_some() {}
                    None
                }
                "die" => return Exit::Signal(rest.parse().unwrap()),
                "flood" => {
                    while self.peer.send(&FromWorker::Log { level: "log".into(), text: "x".repeat(10_000) }) {
                    }
                    None
                }
                "skip" => {
                    self.last += 1;
                    Some(())
                }
                _ => Some(()),
            };
            if alive.is_none() {
                return Exit::Signal(libc::SIGKILL);
            }
        }
        self.peer.done(Ok(value), &state.to_string());
        Exit::Code(0)
    }
}

fn worker(mut peer: Peer) -> Exit {
    let Some(job) = peer.job(assess) else { return Exit::Code(0) };
    let clock_ms = job.clock_ms;
    let heard = blake3::Hasher::new();
    Machine { peer, job, last: 0, open: 0, heard, answers: vec![], clock_ms }.run()
}

// ---------------------------------------------------------------------------------------------------------------------
// The house round the engine.

struct Plain;
impl Sealer for Plain {
    fn seal(&self, draft: Draft) -> Result<Draft, Refusal> {
        Ok(draft)
    }
    fn open(&self, draft: &Draft) -> Result<Opened, Refusal> {
        Ok(Opened::Plain(draft.payload.clone()))
    }
}

/// Knows one sensitive value.
struct OneSecret;
const SECRET: &str = "ada@example.org";
/// After this long without a change a session starts anew.
const IDLE_MS: u64 = 90 * 24 * 60 * 60 * 1_000;
fn masked(text: &str) -> (String, u32) {
    (text.replace(SECRET, "EMAIL_tk_1"), text.matches(SECRET).count() as u32)
}
impl Tokenize for OneSecret {
    fn code<'a>(
        &'a self,
        _: &'a Context,
        code: &'a str,
        literals: &'a [(u32, u32)],
    ) -> BoxFuture<'a, Result<(String, u32), Refusal>> {
        assert!(!literals.is_empty());
        Box::pin(async move { Ok(masked(code)) })
    }
    fn text<'a>(&'a self, _: &'a Context, text: &'a str) -> BoxFuture<'a, Result<(String, u32), Refusal>> {
        Box::pin(async move { Ok(masked(text)) })
    }
    fn json<'a>(&'a self, _: &'a Context, value: Value) -> BoxFuture<'a, Result<(Value, u32), Refusal>> {
        Box::pin(async move {
            let (text, n) = masked(&value.to_string());
            Ok((serde_json::from_str(&text).unwrap(), n))
        })
    }
}

/// Asks a person about what is dangerous.
#[derive(Default)]
struct Person {
    answer: Mutex<Option<Decided>>,
    /// Runs at work, each with its outermost.
    at_work: Mutex<Vec<(Id, Id)>>,
    /// What it was told of runs that went on.
    recalled: Mutex<HashMap<Id, Vec<String>>>,
}
impl Judge for Person {
    fn judge<'a>(
        &'a self,
        cx: &'a Context,
        assessment: &'a Assessment,
        submission: Submission<'a>,
    ) -> BoxFuture<'a, Result<Verdict, Refusal>> {
        let limits = Limits { wall_ms: 2_000, calls: 200, ..Limits::BALANCED };
        let verdict = if submission.code.contains("forbidden") {
            Verdict::Deny { message: "never".into() }
        } else if assessment.level >= Risk::High {
            Verdict::Ask { approval: cx.mint("apr"), limits, message: "may it?".into() }
        } else {
            Verdict::Allow { limits }
        };
        Box::pin(async move { Ok(verdict) })
    }
    fn enter<'a>(&'a self, run: &'a Id, root: &'a Id) -> BoxFuture<'a, Result<bool, Refusal>> {
        let mut at_work = self.at_work.lock().unwrap();
        let known = at_work.iter().any(|(_, of)| of == root);
        at_work.push((run.clone(), root.clone()));
        Box::pin(async move { Ok(known) })
    }
    fn recall(&self, run: &Id, asked: &[parts::Asked]) -> Result<(), Refusal> {
        let calls = asked.iter().map(|asked| asked.op.clone());
        self.recalled.lock().unwrap().entry(run.clone()).or_default().extend(calls);
        Ok(())
    }
    fn leave(&self, run: &Id) {
        self.at_work.lock().unwrap().retain(|(at_work, _)| at_work != run);
    }
    fn decided<'a>(&'a self, _: &'a Context, _: &'a Id, _: bool) -> BoxFuture<'a, Result<Decided, Refusal>> {
        let answer = self.answer.lock().unwrap().clone().unwrap_or(Decided::Pending);
        Box::pin(async move { Ok(answer) })
    }
}

/// Finds fault with what says that it is wrongly typed.
struct Strict;
impl Types for Strict {
    fn always(&self) -> bool {
        false
    }
    fn check<'a>(&'a self, _: &'a Context, code: &'a str) -> BoxFuture<'a, Result<Option<Fault>, Refusal>> {
        let wrong = code.contains("mistyped").then(|| fault(FaultKind::Syntax, TYPE_ERROR, "TS2322: no"));
        Box::pin(async move { Ok(wrong) })
    }
}

struct Globals;
impl Surface for Globals {
    fn namespaces(&self, _: &Context) -> Arc<[Namespace]> {
        Arc::new([parts::athena_namespace()])
    }
}

/// What outlives a crash of the engine: the log, and everybody else's systems.
struct World {
    log: LogHandle,
    /// Every call that reached the other side: operation and idempotency key.
    reached: Mutex<Vec<(String, String)>>,
    /// Answers of commands by their key, as the log's deduplication gives them.
    commands: Mutex<HashMap<String, Value>>,
    time: AtomicU64,
    counter: AtomicU64,
}

impl World {
    fn new() -> Arc<Self> {
        let (log, _) = LogHandle::open(Location::Memory, Options::default()).unwrap();
        Arc::new(Self {
            log,
            reached: Mutex::default(),
            commands: Mutex::default(),
            time: AtomicU64::new(1_000_000),
            counter: AtomicU64::new(0),
        })
    }

    fn reached(&self, op: &str) -> usize {
        self.reached.lock().unwrap().iter().filter(|(reached, _)| reached == op).count()
    }

    fn events(&self, run: &Id) -> Vec<&'static str> {
        use athena_schemas::envelope::Family;
        let records = self.log.reader().read_stream(&record::stream(run), 0, 10_000).unwrap();
        records.iter().map(|r| r.event::<Event>(&Plain).unwrap().unwrap().name()).collect()
    }
}

struct Remembering {
    world: Arc<World>,
    approve: Arc<Person>,
}

impl Router for Remembering {
    fn call<'a>(&'a self, caller: &'a Caller, request: Request) -> BoxFuture<'a, Result<Answer, Refusal>> {
        Box::pin(async move {
            if request.op == "run/list" {
                let mut runs = Vec::new();
                for record in self.world.log.reader().read(0, 100_000).unwrap() {
                    if let Ok(Some(Event::Started(started))) = record.event::<Event>(&Plain) {
                        runs.push(json!({"run": started.run}));
                    }
                }
                return Ok(Answer { value: runs.into(), seq: None });
            }
            assert_eq!(caller.party, Party::Code);
            assert!(caller.run.is_some());
            let key = request.idempotency_key.clone().unwrap();
            // Answers come in any order.
            let n = self.world.counter.fetch_add(1, Ordering::SeqCst);
            for _ in 0..(n * 7 % 5) {
                tokio::task::yield_now().await;
            }
            if n.is_multiple_of(3) {
                tokio::time::sleep(Duration::from_millis(n % 2)).await;
            }
            match request.op.as_str() {
                "up/ask" => match self.approve.answer.lock().unwrap().clone() {
                    None | Some(Decided::Pending) => {
                        return Err(Refusal::new(Code::ApprovalRequired, "may it send?")
                            .with(json!({"approval": "apr_call"})));
                    }
                    Some(Decided::Denied { reason }) => return Err(Refusal::denied(reason)),
                    Some(Decided::Approved) => {}
                },
                "up/never" => std::future::pending().await,
                "up/forbidden" => return Err(Refusal::denied("no such thing for code")),
                _ => {}
            }
            if request.op == "semantic/store" {
                // As the layer does: one command, one answer, however often it is sent.
                let mut commands = self.world.commands.lock().unwrap();
                if let Some(value) = commands.get(&key) {
                    return Ok(Answer { value: value.clone(), seq: None });
                }
                commands.insert(key.clone(), json!({"id": n}));
            }
            self.world.reached.lock().unwrap().push((request.op.clone(), key));
            let value = match request.op.as_str() {
                "up/large" => json!("y".repeat(100_000)),
                "up/secret" => json!(SECRET),
                _ => json!({"n": n}),
            };
            Ok(Answer { value, seq: None })
        })
    }
}

struct House {
    runs: Runs,
    world: Arc<World>,
    person: Arc<Person>,
    spawn: Arc<Scripted>,
    _router: Arc<dyn Router>,
}

fn upstream(op: &str) -> Effect {
    match op {
        "up/read" => Effect::ReadOnly,
        "up/put" => Effect::Idempotent,
        _ => Effect::Unknown,
    }
}

impl House {
    fn new(world: &Arc<World>) -> Self {
        let spawn = Arc::new(Scripted::new(worker));
        let person = Arc::new(Person::default());
        let clock = world.clone();
        let runs = Runs::new(Parts {
            log: world.log.clone(),
            sealer: Arc::new(Plain),
            sandbox: Sandbox::new(Settings { warm: 0, ..Settings::default() }, spawn.clone()),
            judge: person.clone(),
            tokenize: Arc::new(OneSecret),
            types: Arc::new(Strict),
            effects: Arc::new(Catalogued(upstream)),
            surface: Arc::new(Globals),
            clock: Arc::new(move || clock.time.fetch_add(1, Ordering::SeqCst)),
            count: str::len,
            answer_bytes: 1_000,
            session_idle_ms: IDLE_MS,
        });
        let router: Arc<dyn Router> = Arc::new(Remembering { world: world.clone(), approve: person.clone() });
        runs.connect(&router);
        Self { runs, world: world.clone(), person, spawn, _router: router }
    }

    fn cx(&self) -> Context {
        let mut cx = Context::example();
        let n = self.world.counter.fetch_add(1, Ordering::SeqCst);
        cx.command = CommandId::from_key("test", &n.to_string());
        cx
    }

    async fn execute(&self, op: Execute) -> Outcome {
        self.runs.execute(&self.cx(), op, None).await.unwrap()
    }

    async fn code(&self, code: &str) -> Outcome {
        self.execute(Execute {
            code: Some(code.into()),
            language: Some(Language::JavaScript),
            ..Execute::default()
        })
        .await
    }

    async fn session(&self, code: &str, session: &str) -> Outcome {
        let op = Execute { code: Some(code.into()), session: Some(session.into()), ..Execute::default() };
        self.execute(op).await
    }

    async fn resume(&self, run: &Id, uncertain: Option<Doubt>) -> Outcome {
        self.runs.resume(&self.cx(), Resume { run: run.clone(), uncertain }).await.unwrap()
    }

    async fn replay(&self, run: &Id) -> Replayed {
        let op = Replay { run: run.clone(), step: true, until: None };
        self.runs.replay(&self.cx(), op).await.unwrap()
    }

    fn answer(&self, answer: Decided) {
        *self.person.answer.lock().unwrap() = Some(answer);
    }
}

fn house() -> House {
    House::new(&World::new())
}
