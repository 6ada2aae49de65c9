//! One execution, from a worker to an answer: judge, record the start, drive, and see what to make of the end.

use super::drive::{Ended, Stop, drive};
use super::finish::{End, waiting};
use super::host::{Beyond, Live, World};
use super::parts::{Decided, Submission, Verdict};
use super::past::Watched;
use super::record::{Recorder, hash};
use super::session::Held;
use super::tape::{Archive, Tape};
use super::{Inner, alarm, language, meta};
use crate::sandbox::{self, Worker};
use athena_schemas::context::{Caller, Context};
use athena_schemas::id::Id;
use athena_schemas::layers::run::{
    Bound, Doubt, Engine, Execute, Outcome, Resumed, Started, Status, Violated, Waiting, Why,
};
use athena_schemas::refusal::{Code, Refusal};
use athena_schemas::risk::Limits;
use athena_schemas::wire::{Assessment, Fault, FaultKind, Language};
use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;
use tokio_util::sync::CancellationToken;

/// The largest source a worker is shown at all, bytes; the tier's limit is checked by the judge's verdict.
const SOURCE_MAX: usize = 4 << 20;

/// This build, as records name it.
const BUILD: &str = env!("CARGO_PKG_VERSION");

/// A run that may start: its record, the worker that judged it and the session it holds.
pub(super) struct Attempt {
    pub(super) run: Id,
    pub(super) tape: Tape,
    pub(super) recorder: Recorder,
    pub(super) worker: Worker,
    pub(super) session: Option<Held>,
    pub(super) doubt: Option<Doubt>,
    pub(super) begun: Instant,
}

/// Code after the worker and the tokenizer have looked at it.
struct Looked {
    code: String,
    input: String,
    tokenized: u32,
    assessment: Assessment,
}

impl Inner {
    /// A new run.
    pub(super) async fn fresh(
        &self,
        cx: &Context,
        run: Id,
        op: Execute,
        parent: Option<Id>,
        cancel: &CancellationToken,
    ) -> Result<Outcome, Refusal> {
        let begun = Instant::now();
        let code = op.code.as_deref().unwrap_or_default();
        if code.len() > SOURCE_MAX {
            return Err(too_long(code.len(), SOURCE_MAX as u64));
        }
        let language = op.language.unwrap_or_else(|| language::detect(code));
        let mut worker = self.worker(parent.is_some(), cancel).await?;
        let mut looked = self.look(cx, &mut worker, language, code, &op.input).await?;
        if let Some(fault) = self.mistyped(cx, op.check, language, &looked, cancel).await? {
            // Like code that does not parse, it asks for nothing and is not run.
            looked.assessment.syntax = Some(fault);
        }
        match op.engine {
            Some(Engine::Deno) if language == Language::Python => {
                return Err(Refusal::invalid("Deno runs TypeScript and JavaScript, and this is Python")
                    .at("engine")
                    .hint("say what its language is, or leave the engine out"));
            }
            Some(Engine::Deno) => worker = self.parts.sandbox.deno(worker).await?,
            None if looked.assessment.beyond.is_some() => worker = self.parts.sandbox.python(worker).await,
            None => {}
        }
        let mut session = match &op.session {
            Some(name) => Some(self.hold(cx, name, cancel).await?),
            None => None,
        };
        let submission = Submission {
            run: &run,
            parent: parent.as_ref(),
            language,
            code: &looked.code,
            session: op.session.as_deref(),
        };
        let verdict = match &looked.assessment.syntax {
            // What does not parse asks for nothing.
            Some(_) => Verdict::Allow { limits: Limits::BALANCED },
            None => self.parts.judge.judge(cx, &looked.assessment, submission).await?,
        };
        let tier = match &verdict {
            Verdict::Allow { limits } | Verdict::Ask { limits, .. } => *limits,
            Verdict::Deny { .. } => Limits::BALANCED,
        };
        if code.len() as u64 > tier.source_bytes {
            return Err(too_long(code.len(), tier.source_bytes));
        }
        let limits = op.limits.unwrap_or_default().lower(tier);
        let mut recorder = self.recorder(&run, meta(cx), 0);
        if let Some(session) = &mut session {
            session.expire_idle(&mut recorder, self.parts.session_idle_ms)?;
        }
        let tape = self.begin(
            cx,
            &run,
            parent,
            language,
            &looked,
            limits,
            session.as_ref(),
            &worker,
            &mut recorder,
        )?;
        let doubt = None;
        let attempt = Attempt { run, tape, recorder, worker, session, doubt, begun };
        match (looked.assessment.syntax, verdict) {
            (Some(fault), _) => self.finish(cx, attempt, None, End::fault(fault)).await,
            (None, Verdict::Deny { message }) => {
                metrics::counter!("athena_runs_denied").increment(1);
                self.finish(cx, attempt, None, End::of(Status::Denied, "Denied", &message)).await
            }
            (None, Verdict::Ask { approval, message, .. }) => {
                wait(attempt, Waiting { call: 0, why: Why::Approval(approval), message }).await
            }
            (None, Verdict::Allow { .. }) => {
                let watched = self.watched(&attempt.run, &attempt.tape).await?;
                self.go(cx, attempt, watched, cancel).await
            }
        }
    }

    /// A run that was begun before.
    pub(super) async fn resumed(
        &self,
        cx: &Context,
        tape: Tape,
        doubt: Option<Doubt>,
        cancel: &CancellationToken,
    ) -> Result<Outcome, Refusal> {
        let begun = Instant::now();
        let run = tape.started.run.clone();
        if let Some(Waiting { why: Why::Approval(approval), message, call }) = &tape.waiting {
            match self.parts.judge.decided(cx, approval, *call == 0).await? {
                Decided::Approved => {}
                Decided::Pending => return Ok(waiting(&tape, Some(approval.clone()), message, begun)),
                // A call's refusal is for the code to hear; a run's is its end.
                Decided::Denied { .. } if *call > 0 => {}
                Decided::Denied { reason } => {
                    let attempt = self.attempt(cx, run, tape, None, begun, cancel).await?;
                    return self.finish(cx, attempt, None, End::of(Status::Denied, "Denied", &reason)).await;
                }
            }
        }
        if let (Some(call), None) = (tape.in_doubt(), doubt) {
            let message = in_doubt(&tape, call);
            if tape.status() == Status::Uncertain {
                return Ok(waiting(&tape, None, &message, begun));
            }
            let attempt = self.attempt(cx, run, tape, None, begun, cancel).await?;
            return wait(attempt, Waiting { call, why: Why::Uncertain, message }).await;
        }
        let mut attempt = self.attempt(cx, run, tape, doubt, begun, cancel).await?;
        // While the record still says which call it waits with: that one is judged as it is made.
        let watched = self.watched(&attempt.run, &attempt.tape).await?;
        attempt.recorder.push(Resumed { uncertain: doubt, build: BUILD.into() })?;
        // On disk before anything leaves again: another crash must find the run in doubt where it is.
        attempt.recorder.commit(true).await?;
        attempt.tape.waiting = None;
        attempt.tape.interrupted = false;
        self.go(cx, attempt, watched, cancel).await
    }

    async fn attempt(
        &self,
        cx: &Context,
        run: Id,
        tape: Tape,
        doubt: Option<Doubt>,
        begun: Instant,
        cancel: &CancellationToken,
    ) -> Result<Attempt, Refusal> {
        let worker = self.worker_again(&tape, cancel).await?;
        let session = match &tape.started.session {
            // Its own session, whoever resumes it.
            Some(session) => {
                let owner = tape.caller();
                Some(self.hold_as(&owner, &tape.meta.scope, &session.name, cancel).await?)
            }
            None => None,
        };
        let recorder = self.recorder(
            &run,
            athena_schemas::envelope::Meta { command: tape.meta.command, ..meta(cx) },
            tape.version,
        );
        let recorder = recorder.scoped(tape.meta.scope.clone());
        Ok(Attempt { run, tape, recorder, worker, session, doubt, begun })
    }

    /// Drives the worker and makes something of the end.
    async fn go(
        &self,
        cx: &Context,
        attempt: Attempt,
        watched: Watched,
        cancel: &CancellationToken,
    ) -> Result<Outcome, Refusal> {
        let Attempt { run, tape, recorder, mut worker, session, doubt, begun } = attempt;
        let live = Live {
            router: self.router()?,
            caller: tape.code_caller(),
            run: run.clone(),
            effects: self.parts.effects.clone(),
            clock: self.parts.clock.clone(),
            count: self.parts.count,
            recorder,
            doubt,
        };
        let jail = worker.ready().level.clone();
        // Kept until the run has answered: the worker that comes after it can wait that long.
        let _place = worker.place();
        let mut world = World::new(&tape, Beyond::Live(Box::new(live)));
        let started = Instant::now();
        let ended = drive(&mut worker, tape.job(), &tape.namespaces, &mut world, cancel).await;
        let worker_us = micros(started);
        match &ended {
            Ended::Done(_) => worker.leave(),
            _ => drop(worker),
        }
        drop(watched);
        if let Some(violated) = violated(&ended) {
            alarm(&run, &violated);
            if let Some(recorder) = world.recorder() {
                recorder.push(violated)?;
            }
        }
        let end = match ended {
            Ended::Done(finish) => End::done(*finish),
            Ended::Died(death) => End::died(&death, &tape.started.limits),
            Ended::Stopped(Stop::Cancelled) => End::of(Status::Cancelled, "Cancelled", "it was cancelled"),
            Ended::Stopped(Stop::Diverged(found)) => End::of(
                Status::Failed,
                "Divergence",
                &format!(
                    "at call {} the record has {}, the code did {}",
                    found.call, found.expected, found.got
                ),
            ),
            Ended::Stopped(Stop::Broken(refusal)) => return Err(refusal),
            Ended::Stopped(Stop::PlayedOut) => return Err(Refusal::internal("a living run was played out")),
            Ended::Stopped(Stop::Approval { call, approval, message }) => {
                let (recorder, _) = world.into_parts()?;
                return hold_back(tape, recorder, call, approval, message, begun).await;
            }
        };
        let (recorder, seen) = world.into_parts()?;
        let over = End { worker_us, jail, ..end };
        self.settle(cx, run, tape, recorder, seen, session, over, begun).await
    }

    async fn worker(&self, nested: bool, cancel: &CancellationToken) -> Result<Worker, Refusal> {
        let sandbox = &self.parts.sandbox;
        let worker = async { if nested { sandbox.nested().await } else { sandbox.worker().await } };
        tokio::select! {
            worker = worker => worker,
            () = cancel.cancelled() => Err(cancelled()),
        }
    }

    /// A worker with the engine that the run began on.
    pub(super) async fn worker_again(
        &self,
        tape: &Tape,
        cancel: &CancellationToken,
    ) -> Result<Worker, Refusal> {
        let worker = self.worker(tape.started.parent.is_some(), cancel).await?;
        let began_on = |kind: fn(&str) -> bool| tape.started.engines.iter().any(|engine| kind(engine));
        if began_on(sandbox::is_deno) {
            return self.parts.sandbox.deno(worker).await;
        }
        if !began_on(sandbox::is_python) {
            return Ok(worker);
        }
        let worker = self.parts.sandbox.python(worker).await;
        if worker.is_python() {
            return Ok(worker);
        }
        let engine = tape.started.engines.join(", ");
        Err(Refusal::new(Code::Unavailable, format!("the run began on {engine}, which does not start here"))
            .hint("install python3, or name one in sandbox.python"))
    }

    async fn hold(&self, cx: &Context, name: &str, cancel: &CancellationToken) -> Result<Held, Refusal> {
        self.hold_as(&cx.caller, &cx.scope, name, cancel).await
    }

    async fn hold_as(
        &self,
        caller: &Caller,
        scope: &athena_schemas::context::Scope,
        name: &str,
        cancel: &CancellationToken,
    ) -> Result<Held, Refusal> {
        let reader = self.parts.log.reader();
        let archive = Archive { reader: &*reader, sealer: &*self.parts.sealer };
        tokio::select! {
            held = self.sessions.hold(archive, caller, scope, name) => held,
            () = cancel.cancelled() => Err(cancelled()),
        }
    }

    /// What is wrong with the types of code that parses, where they are to be checked.
    async fn mistyped(
        &self,
        cx: &Context,
        wanted: Option<bool>,
        language: Language,
        looked: &Looked,
        cancel: &CancellationToken,
    ) -> Result<Option<Fault>, Refusal> {
        let types = &self.parts.types;
        if looked.assessment.syntax.is_some() || !wanted.unwrap_or_else(|| types.always()) {
            return Ok(None);
        }
        if language != Language::TypeScript {
            // A setting is for the code that it fits.
            let asked = wanted.map(|_| {
                Refusal::invalid(format!("types are checked of TypeScript, and this is {language:?}"))
                    .at("check")
                    .hint("say that its language is typescript, or leave check out")
            });
            return asked.map_or(Ok(None), Err);
        }
        tokio::select! {
            fault = types.check(cx, &looked.code) => fault,
            () = cancel.cancelled() => Err(cancelled()),
        }
    }

    /// Analysis and tokenizing. Where tokens changed the code, what will run is what was judged.
    async fn look(
        &self,
        cx: &Context,
        worker: &mut Worker,
        language: Language,
        code: &str,
        input: &serde_json::Value,
    ) -> Result<Looked, Refusal> {
        let tokenize = &self.parts.tokenize;
        let mut assessment = worker.analyze(language, code).await?;
        let (code, in_code) = match &assessment.syntax {
            // It will not run; its record must hold no sensitive value all the same.
            Some(_) => tokenize.text(cx, code).await?,
            None => tokenize.code(cx, code, &assessment.literals).await?,
        };
        if in_code > 0 {
            // Where it does not parse, the fault keeps the place the agent knows.
            let fault = assessment.syntax.take();
            assessment = worker.analyze(language, &code).await?;
            assessment.syntax = fault.or(assessment.syntax);
        }
        let (input, in_input) = tokenize.json(cx, input.clone()).await?;
        Ok(Looked { code, input: input.to_string(), tokenized: in_code + in_input, assessment })
    }

    #[expect(clippy::too_many_arguments, reason = "a start has this many parts, and they meet only here")]
    fn begin(
        &self,
        cx: &Context,
        run: &Id,
        parent: Option<Id>,
        language: Language,
        looked: &Looked,
        limits: Limits,
        session: Option<&Held>,
        worker: &Worker,
        recorder: &mut Recorder,
    ) -> Result<Tape, Refusal> {
        let namespaces = self.parts.surface.namespaces(cx);
        self.parts.sandbox.expect(&namespaces);
        let surface = self.surface(&namespaces)?;
        let state = session.map_or_else(|| "{}".to_owned(), |session| session.state().json);
        let ready = worker.ready();
        let started = Started {
            run: run.clone(),
            parent,
            holds: cx.caller.holds.clone(),
            language,
            code: recorder.text(&looked.code)?,
            code_hash: hash(&looked.code),
            input: recorder.text(&looked.input)?,
            seed: seed(cx),
            clock_ms: (self.parts.clock)(),
            limits,
            session: session.map(Held::reference),
            state: recorder.text(&state)?,
            surface: recorder.kept_as(&surface.hash, &surface.json)?,
            risk: looked.assessment.level,
            reasons: looked.assessment.reasons.iter().map(|reason| reason.message.clone()).collect(),
            capabilities: looked.assessment.capabilities.clone(),
            tokenized: looked.tokenized,
            build: BUILD.into(),
            jail: ready.level.clone(),
            engines: ready.engines.clone(),
        };
        recorder.push(started.clone())?;
        Ok(Tape {
            started,
            meta: meta(cx),
            code: looked.code.clone(),
            input: looked.input.clone(),
            state,
            namespaces,
            asked: BTreeMap::new(),
            told: VecDeque::new(),
            waiting: None,
            interrupted: false,
            finished: None,
            version: 1,
        })
    }
}

/// The bound a run ended at, if it was one.
fn violated(ended: &Ended) -> Option<Violated> {
    let (bound, detail) = match ended {
        Ended::Died(death) => (death.bound, death.detail.clone()),
        Ended::Done(finish) => {
            let fault = finish.result.as_ref().err()?;
            let bound = match fault.kind {
                FaultKind::TimedOut => Bound::Time,
                FaultKind::OutOfMemory => Bound::Memory,
                FaultKind::Limit => Bound::Protocol,
                FaultKind::Syntax | FaultKind::Thrown | FaultKind::Unsupported => return None,
            };
            // What the code said of itself is no detail; only the engine's own limits are told in these words.
            (bound, format!("the engine stopped it: {}", fault.name))
        }
        Ended::Stopped(_) => return None,
    };
    Some(Violated { bound, exfiltration: bound == Bound::Network, detail })
}

/// Ends the process and waits for a person.
async fn wait(mut attempt: Attempt, why: Waiting) -> Result<Outcome, Refusal> {
    let approval = match &why.why {
        Why::Approval(id) => Some(id.clone()),
        Why::Uncertain => None,
    };
    let message = why.message.clone();
    attempt.tape.waiting = Some(why.clone());
    attempt.recorder.push(why)?;
    attempt.recorder.commit(true).await?;
    Ok(waiting(&attempt.tape, approval, &message, attempt.begun))
}

/// Waits at a call.
async fn hold_back(
    mut tape: Tape,
    mut recorder: Recorder,
    call: u32,
    approval: Id,
    message: String,
    begun: Instant,
) -> Result<Outcome, Refusal> {
    let why = Waiting { call, why: Why::Approval(approval.clone()), message: message.clone() };
    tape.waiting = Some(why.clone());
    recorder.push(why)?;
    recorder.commit(true).await?;
    Ok(waiting(&tape, Some(approval), &message, begun))
}

fn in_doubt(tape: &Tape, call: u32) -> String {
    let op = match tape.asked.get(&call) {
        Some(super::tape::Asked::Call { op, .. }) => op.as_str(),
        _ => "a call",
    };
    format!(
        "whether call {call} ({op}) happened is not known, and the tool does not say that it may be repeated"
    )
}

/// 32 bytes that belong to this command: the same code under another id draws other numbers.
fn seed(cx: &Context) -> [u8; 32] {
    let mut seed = [0; 32];
    let (low, high) = seed.split_at_mut(16);
    low.copy_from_slice(&cx.command.random(u32::MAX).to_le_bytes());
    high.copy_from_slice(&cx.command.random(u32::MAX - 1).to_le_bytes());
    seed
}

pub(super) fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}

fn cancelled() -> Refusal {
    Refusal::new(Code::Cancelled, "the run was cancelled before it began")
}

fn too_long(bytes: usize, limit: u64) -> Refusal {
    Refusal::new(Code::LimitExceeded, format!("the code has {bytes} bytes; at most {limit} are run"))
        .at("code")
        .hint("hand data in as `input` instead")
}
