//! The engine against scripted workers, a log in memory and a router that remembers every call.

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

// ---------------------------------------------------------------------------------------------------------------------

#[tokio::test]
async fn a_run_answers_and_is_on_record() {
    let house = house();
    let outcome = house.code("log hello\nreturn 2").await;
    assert_eq!((outcome.status, outcome.value.clone()), (Status::Completed, json!(2)));
    assert_eq!(outcome.logs, ["hello"]);
    assert_eq!(outcome.sandbox.engine, "script");
    assert_eq!(house.world.events(&outcome.run), ["run.started", "run.finished"]);
    assert_eq!(house.runs.active(), 0);
    // The same command is the same run.
    let cx = house.cx();
    let op = || Execute { code: Some("return 3".into()), ..Execute::default() };
    let first = house.runs.execute(&cx, op(), None).await.unwrap();
    assert_eq!(house.runs.execute(&cx, op(), None).await.unwrap(), first);
}

#[tokio::test]
async fn calls_go_to_the_router_and_their_answers_to_the_code() {
    let house = house();
    let outcome = house.code("call semantic/search {\"query\":\"x\"}\nwait\nanswers").await;
    assert!(outcome.value[0]["n"].is_number());
    assert_eq!(outcome.metrics.calls, 1);
    assert!(outcome.metrics.tokens.direct > 0 && outcome.metrics.tokens.code > 0);
    assert_eq!(
        house.world.events(&outcome.run),
        ["run.started", "run.called", "run.answered", "run.finished"]
    );
}

#[tokio::test]
async fn code_whose_types_do_not_fit_is_not_run_and_replays_so() {
    let house = house();
    let op = |code: &str, check, language| Execute {
        code: Some(code.into()),
        language: Some(language),
        check,
        ..Execute::default()
    };
    let code = "call semantic/store\nmistyped";
    let wrong = house.execute(op(code, Some(true), Language::TypeScript)).await;
    assert_eq!((wrong.status, wrong.metrics.calls), (Status::Failed, 0));
    let error = wrong.error.clone().unwrap();
    assert_eq!((error.name.as_str(), error.line, error.column), (TYPE_ERROR, Some(1), Some(2)));
    assert_eq!(house.world.reached("semantic/store"), 0);
    assert_eq!(house.world.events(&wrong.run), ["run.started", "run.finished"]);
    assert!(house.replay(&wrong.run).await.identical);
    for check in [None, Some(false)] {
        assert_eq!(house.execute(op(code, check, Language::TypeScript)).await.status, Status::Completed);
    }
    let op = op("return 1", Some(true), Language::JavaScript);
    let refused = house.runs.execute(&house.cx(), op, None).await.unwrap_err();
    assert_eq!((refused.code, refused.path.as_deref()), (Code::Invalid, Some("check")));
}

/// What the code touched before is told from the record to a judge who did not see it: one of another daemon, or one who has
/// forgotten because the run waited.
#[tokio::test]
async fn a_run_that_goes_on_is_judged_by_what_it_did_before() {
    let world = World::new();
    let house = House::new(&world);
    let code = "call semantic/search {\"query\":\"x\"}\nwait\ncall up/read\nwait\ncall up/ask\nwait\nanswers";
    let waits = house.code(code).await;
    assert_eq!(waits.status, Status::ApprovalRequired);
    assert!(house.person.at_work.lock().unwrap().is_empty(), "a run that waits is not at work");
    assert!(house.person.recalled.lock().unwrap().is_empty(), "a new run has no past");
    let later = House::new(&world);
    later.answer(Decided::Approved);
    let done = later.resume(&waits.run, None).await;
    assert_eq!(done.status, Status::Completed, "{done:?}");
    // The call that waited is judged as it is made.
    assert_eq!(later.person.recalled.lock().unwrap()[&waits.run], ["semantic/search", "up/read"]);
    assert!(later.person.at_work.lock().unwrap().is_empty());
}

#[tokio::test]
async fn sensitive_values_are_tokens_on_record_and_in_the_answer() {
    let house = house();
    let op = Execute {
        code: Some(format!("log {SECRET}\ncall up/secret\nwait\ninput")),
        input: json!({"to": SECRET}),
        ..Execute::default()
    };
    let outcome = house.execute(op).await;
    assert_eq!(outcome.value, json!({"to": "EMAIL_tk_1"}));
    assert_eq!(outcome.logs, ["EMAIL_tk_1"]);
    assert_eq!(outcome.privacy.r#in, 2);
    let record = house.world.log.reader().read_stream(&record::stream(&outcome.run), 0, 1).unwrap();
    let Some(Event::Started(started)) = record[0].event::<Event>(&Plain).unwrap() else { panic!() };
    assert!(!format!("{started:?}").contains(SECRET));
}

#[tokio::test]
async fn what_goes_wrong_is_said_and_counted() {
    let house = house();
    let cases = [
        ("throw it broke", Status::Failed, "Error"),
        ("!syntax", Status::Failed, "SyntaxError"),
        ("die 31", Status::Violated, "SandboxViolation"),
        ("die 9", Status::OutOfMemory, "MemoryError"),
        ("flood", Status::Violated, "SandboxViolation"),
        ("skip\ncall a/b", Status::Violated, "SandboxViolation"),
        ("forbidden", Status::Denied, "Denied"),
    ];
    for (code, status, name) in cases {
        let outcome = house.code(code).await;
        let error = outcome.error.clone().unwrap();
        assert_eq!((outcome.status, error.name.as_str()), (status, name), "{code}");
        let violated = house.world.events(&outcome.run).contains(&"run.violated");
        assert_eq!(violated, matches!(status, Status::Violated | Status::OutOfMemory), "{code}");
        assert_eq!(house.code("return 1").await.value, json!(1), "the next run is right");
    }
}

#[tokio::test]
async fn a_worker_that_does_not_stop_is_killed_at_its_deadline() {
    let house = house();
    let op = Execute {
        code: Some("call semantic/search\nwait\nhang".into()),
        limits: Some(athena_schemas::layers::run::Wanted { wall_ms: Some(30), ..Default::default() }),
        ..Execute::default()
    };
    let outcome = house.execute(op).await;
    assert_eq!(outcome.status, Status::TimedOut);
    assert!(house.replay(&outcome.run).await.identical);
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while house.spawn.alive() > 0 {
        assert!(std::time::Instant::now() < deadline, "no worker is left behind");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_large_value_is_cut_and_its_handle_reads_all_of_it() {
    let house = house();
    let outcome = house.code("call up/large\nwait\nanswers").await;
    let cut = outcome.cut.clone().unwrap();
    assert_eq!(cut.bytes, 100_004);
    assert!(outcome.value.to_string().len() < 2_500);
    let whole = house.runs.read(&house.cx(), json!({"handle": cut.handle})).unwrap();
    assert_eq!(whole[0].as_str().unwrap().len(), 100_000);
    let elsewhere = Context::new(1, house.cx().caller, Scope::project("other"), CommandId([0; 16]));
    assert_eq!(house.runs.read(&elsewhere, json!({"handle": cut.handle})).unwrap_err().code, Code::NotFound);
    assert!(house.replay(&outcome.run).await.identical);
}

#[tokio::test]
async fn a_dangerous_run_waits_for_a_yes_without_a_process() {
    let house = house();
    let outcome = house.code("return \"dangerous\"").await;
    assert_eq!(outcome.status, Status::ApprovalRequired);
    assert!(outcome.approval.is_some() && house.spawn.alive() <= 1 && house.runs.active() == 0);
    assert_eq!(house.resume(&outcome.run, None).await.status, Status::ApprovalRequired);
    house.answer(Decided::Approved);
    let again = Execute { run: Some(outcome.run.clone()), ..Execute::default() };
    assert_eq!(house.execute(again).await.value, json!("dangerous"));

    let other = house.code("return \"dangerous\"").await;
    house.answer(Decided::Denied { reason: "no".into() });
    assert_eq!(house.resume(&other.run, None).await.status, Status::Denied);
    assert!(house.replay(&other.run).await.identical);
}

#[tokio::test]
async fn an_approval_in_the_middle_ends_the_process_and_nothing_is_done_twice() {
    let house = house();
    let outcome = house
        .code("call semantic/store\nwait\ncall up/send\nwait\ncall up/ask\nwait\ncall up/send\nwait\nanswers")
        .await;
    assert_eq!((outcome.status, outcome.approval.unwrap().as_str()), (Status::ApprovalRequired, "apr_call"));
    // Another engine, days later.
    let later = House::new(&house.world);
    later.answer(Decided::Approved);
    let end = later.resume(&outcome.run, None).await;
    assert_eq!(end.status, Status::Completed, "{:?}", end.error);
    assert_eq!(house.world.reached("up/send"), 2);
    assert_eq!(house.world.reached("semantic/store"), 1);
    assert_eq!(house.world.reached("up/ask"), 1);
    assert!(later.replay(&outcome.run).await.identical);
}

#[tokio::test]
async fn a_no_in_the_middle_is_for_the_code_to_hear() {
    let house = house();
    let outcome = house.code("call up/ask\nwait\nanswers").await;
    house.answer(Decided::Denied { reason: "too much".into() });
    let end = house.resume(&outcome.run, None).await;
    assert_eq!((end.status, &end.value[0]["code"]), (Status::Completed, &json!("denied")));
    assert!(house.world.events(&outcome.run).contains(&"run.violated"));
}

#[tokio::test]
async fn a_cancelled_run_stops_its_worker_and_its_calls() {
    let house = house();
    let cx = house.cx();
    let op = Execute { code: Some("call up/never\nwait".into()), ..Execute::default() };
    let run = cx.mint("run");
    let cx = again(&cx);
    let (outcome, cancelled) = tokio::join!(house.runs.execute(&cx, op, None), async {
        while house.world.counter.load(Ordering::SeqCst) < 2 {
            tokio::task::yield_now().await;
        }
        house.runs.cancel(&house.cx(), Cancel { run: run.clone() }).await.unwrap()
    });
    assert_eq!(outcome.unwrap().status, Status::Cancelled);
    assert_eq!(cancelled.status, Status::Cancelled);
}

#[tokio::test]
async fn a_caller_that_goes_away_cancels_its_run() {
    let house = house();
    let cx = house.cx();
    let op = Execute { code: Some("hang".into()), ..Execute::default() };
    let run = again(&cx).mint("run");
    tokio::select! {
        _ = house.runs.execute(&cx, op, None) => panic!("it hangs"),
        () = async { while house.spawn.made() == 0 || house.runs.active() == 0 { tokio::task::yield_now().await } } => {}
    }
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while house.runs.active() > 0 {
        assert!(std::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // It was cancelled before or after its start was recorded.
    let events = house.world.events(&run);
    assert!(events.is_empty() || events.last() == Some(&"run.finished"), "{events:?}");
}

#[tokio::test]
async fn runs_of_a_session_take_turns_and_its_state_lasts() {
    let house = Arc::new(house());
    let mut tasks = Vec::new();
    for _ in 0..20 {
        let house = house.clone();
        tasks
            .push(tokio::spawn(async move { house.session("call semantic/search\nwait\ncount", "s").await }));
    }
    for task in tasks {
        assert_eq!(task.await.unwrap().status, Status::Completed);
    }
    assert_eq!(house.session("count", "s").await.value, json!(21));
    assert_eq!(house.session("count", "other").await.value, json!(1));
    // A restart, and another caller.
    let later = House::new(&house.world);
    assert_eq!(later.session("count", "s").await.value, json!(22));
    let mut cx = later.cx();
    cx.caller.name = "somebody else".into();
    let op = Execute { code: Some("count".into()), session: Some("s".into()), ..Execute::default() };
    assert_eq!(later.runs.execute(&cx, op, None).await.unwrap().value, json!(1));
}

#[tokio::test]
async fn a_session_that_nobody_used_for_long_starts_anew_and_says_so() {
    let world = World::new();
    let house = House::new(&world);
    house.session("count", "s").await;
    assert_eq!(house.session("count", "s").await.value, json!(2));
    world.time.fetch_add(IDLE_MS + 1, Ordering::SeqCst);
    assert_eq!(house.session("count", "s").await.value, json!(1));
    // The log says the same to whoever comes later.
    assert_eq!(House::new(&world).session("count", "s").await.value, json!(2));
}

#[tokio::test]
async fn a_session_that_expired_starts_anew() {
    let house = house();
    let run = house.session("count", "s").await.run;
    let key = house.runs.inner.open(&run).unwrap().started.session.unwrap().key;
    let expired = house.runs.expire(&house.cx(), Expire { session: key }).await.unwrap();
    assert!(expired.existed);
    assert_eq!(House::new(&house.world).session("count", "s").await.value, json!(1));
    assert_eq!(house.session("count", "s").await.value, json!(2));
}

#[tokio::test]
async fn a_run_that_waited_merges_into_what_others_made_of_the_state() {
    let house = house();
    house.session("count", "s").await;
    let waiting = house.session("call up/ask\nwait\nreturn 1", "s").await;
    assert_eq!(house.session("count", "s").await.value, json!(2));
    house.answer(Decided::Approved);
    assert_eq!(house.resume(&waiting.run, None).await.status, Status::Completed);
    assert_eq!(house.session("count", "s").await.value, json!(3));
}

#[tokio::test]
async fn another_agent_does_not_find_the_run() {
    let house = house();
    let outcome = house.code("return 1").await;
    let mut cx = house.cx();
    cx.caller.name = "somebody else".into();
    let refused =
        house.runs.resume(&cx, Resume { run: outcome.run.clone(), uncertain: None }).await.unwrap_err();
    assert_eq!(refused.code, Code::NotFound);
    cx.caller.party = Party::Human;
    assert!(house.runs.resume(&cx, Resume { run: outcome.run, uncertain: None }).await.is_ok());
}

#[tokio::test]
async fn a_tampered_record_is_a_named_divergence() {
    let house = house();
    let outcome = house.code("call semantic/search {\"query\":\"x\"}\nwait\nanswers").await;
    let mut tape = house.runs.inner.open(&outcome.run).unwrap();
    tape.code = "call semantic/search {\"query\":\"y\"}\nwait\nanswers".into();
    let op = Replay { run: outcome.run.clone(), step: false, until: None };
    let found = house.runs.inner.replay(&house.cx(), tape, op.clone()).await.unwrap().divergence.unwrap();
    assert_eq!(found.call, 1);
    assert!(found.expected.contains("\"x\"") && found.got.contains("\"y\""));

    let mut tape = house.runs.inner.open(&outcome.run).unwrap();
    tape.told[0].result = Ok("7".into());
    let found = house.runs.inner.replay(&house.cx(), tape, op).await.unwrap().divergence.unwrap();
    assert_eq!((found.call, found.got.as_str()), (0, "value [7]"));
}

#[tokio::test]
async fn a_replay_stops_where_it_is_asked_to() {
    let house = house();
    let outcome = house.code("call semantic/search\nwait\ncall semantic/search\nwait\nreturn 1").await;
    let op = Replay { run: outcome.run, step: true, until: Some(1) };
    let replayed = house.runs.replay(&house.cx(), op).await.unwrap();
    assert!(replayed.identical);
    let steps = serde_json::to_value(&replayed.trace).unwrap();
    assert_eq!((steps[0]["kind"].as_str(), steps[1]["kind"].as_str()), (Some("call"), Some("answer")));
    assert!(steps.as_array().unwrap().len() <= 3, "{steps}");
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// Whatever a program does with what it hears, and however answers race, its record replays it.
    #[test]
    fn every_program_replays_identically(steps in 0_u32..80, salt in any::<u32>(), session in any::<bool>()) {
        runtime().block_on(async {
            let house = house();
            let code = format!("wander {steps}\ncount\nheard\n// {salt}");
            let session = session.then(|| "s".to_owned());
            let outcome = house.execute(Execute { code: Some(code), session, ..Execute::default() }).await;
            assert_eq!(outcome.status, Status::Completed, "{:?}", outcome.error);
            let replayed = house.replay(&outcome.run).await;
            assert!(replayed.identical, "{:?}", replayed.divergence);
            assert_eq!(replayed.value, outcome.value);
            assert_eq!(replayed.calls, outcome.metrics.calls);
        });
    }

    /// A daemon that dies at any moment, again and again: the run ends, every memory command is applied once, and no call
    /// that may not be repeated is.
    #[test]
    fn a_run_survives_any_number_of_deaths(salt in any::<u32>(), deaths in prop::collection::vec(0_u64..12, 1..4),) {
        let world = World::new();
        let code = format!("wander 60\nheard\n// {salt}");
        let cx = House::new(&world).cx();
        let op = Execute { code: Some(code), ..Execute::default() };
        for after_ms in deaths {
            let engine = runtime();
            let house = House::new(&world);
            engine.block_on(async {
                house.runs.recover().await.unwrap();
                let (runs, again, op) = (house.runs.clone(), again(&cx), op.clone());
                // Never dropped: a caller that goes away would cancel the run, and a dead daemon has no callers.
                let asked = Box::leak(Box::new(Box::pin(async move { runs.execute(&again, op, None).await })));
                let _ = tokio::time::timeout(Duration::from_millis(after_ms), asked).await;
            });
            // Every task is dropped where it stands; what is still in the log's queue is written.
            engine.shutdown_timeout(Duration::from_secs(60));
            runtime().block_on(world.log.barrier()).unwrap();
        }
        runtime().block_on(async {
            let house = House::new(&world);
            house.runs.recover().await.unwrap();
            let again = again(&cx);
            let mut outcome = house.runs.execute(&again, op.clone(), None).await.unwrap();
            if outcome.status == Status::Uncertain {
                outcome = house.resume(&outcome.run, Some(Doubt::Fail)).await;
            }
            assert_eq!(outcome.status, Status::Completed, "{outcome:?}");
            let reached = world.reached.lock().unwrap().clone();
            let mut once = std::collections::HashSet::new();
            for (op, key) in reached.iter().filter(|(op, _)| matches!(op.as_str(), "semantic/store" | "up/send")) {
                assert!(once.insert(key.clone()), "{op} {key} happened twice");
            }
            let replayed = house.replay(&outcome.run).await;
            assert!(replayed.identical, "{:?}", replayed.divergence);
        });
    }
}

#[test]
fn effects_follow_the_catalogue() {
    let effects = Catalogued(upstream);
    assert_eq!(effects.effect("semantic/search"), Effect::ReadOnly);
    assert_eq!(effects.effect("semantic/store"), Effect::Command);
    assert_eq!(effects.effect("files/read"), Effect::ReadOnly);
    assert_eq!(effects.effect("up/put"), Effect::Idempotent);
    assert_eq!(effects.effect("nobody/knows"), Effect::Unknown);
    assert!(parts::athena_namespace().members.iter().all(|(_, op)| !op.starts_with("run/")));
}

#[test]
fn a_record_is_read_back_as_it_was_written() {
    let world = World::new();
    runtime().block_on(async {
        let house = House::new(&world);
        let outcome = house.code("call semantic/store\nwait\nreturn 5").await;
        let reader = world.log.reader();
        let archive = Archive { reader: &*reader, sealer: &Plain };
        let tape = archive.tape(&outcome.run).unwrap();
        assert_eq!((tape.asked.len(), tape.told.len(), tape.version), (1, 1, 4));
        assert!(tape.clock_ms() > tape.started.clock_ms);
        assert_eq!(tape.status(), Status::Completed);
        assert_eq!(archive.tape(&Id::from_text("run_none")).unwrap_err().code, Code::NotFound);
    });
}
