//! Runs: agent code executed, recorded call by call, resumed after anything, replayed exactly.
//!
//! Read in this order: [`Runs`] (what the router calls), `attempt` (one execution from worker to answer), `drive` (the worker's
//! frames), `host` (the record first, then the living router), `record` and `tape` (writing and reading the record), `replay`,
//! `session`, `output`. [`parts`] holds the traits the house implements.
//!
//! Architecture invariant: what code can observe is a function of its record. The clock moves only with an answer, answers
//! come in recorded order, randomness comes from the recorded seed.

mod attempt;
mod drive;
mod finish;
mod host;
mod language;
mod output;
pub mod parts;
mod past;
mod record;
mod replay;
mod session;
mod tape;
#[cfg(test)]
mod tests;

pub use drive::GRACE;
pub use language::detect;
pub use parts::{Asked, Decided, Effects, Judge, Parts, Submission, Surface, Tokenize, Types, Verdict};
#[cfg(test)]
pub(crate) use record::blob_id as text_id;
pub(crate) use record::text_ids;

use athena_schemas::context::{Caller, Context, Party};
use athena_schemas::id::{CommandId, Id};
use athena_schemas::layers::run::{
    Cancel, Cancelled, Execute, Expire, Expired, Interrupted, Outcome, Replay, Replayed, Resume,
    SessionExpired, Status, Violated, Why,
};
use athena_schemas::ports::{Request, Router};
use athena_schemas::refusal::{Code, Refusal};
use athena_schemas::wire::{Assessment, Language, Namespace};
use past::Line;
use record::Recorder;
use serde_json::{Value, json};
use session::Sessions;
use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use tape::{Archive, Tape};
use tokio_util::sync::CancellationToken;

/// The name of the error of a run whose types did not fit.
pub const TYPE_ERROR: &str = "TypeCheckError";
/// Unfinished runs looked for after a start.
const UNFINISHED_MAX: u32 = 10_000;

/// The engine of runs. Cheap to clone.
#[derive(Clone)]
pub struct Runs {
    inner: Arc<Inner>,
}

struct Inner {
    parts: Parts,
    /// Weak, because the router holds the engine.
    router: OnceLock<Weak<dyn Router>>,
    sessions: Sessions,
    active: Mutex<HashMap<Id, Active>>,
    /// The globals that runs had last, as records have them.
    written: Mutex<Option<Arc<Written>>>,
}

/// Globals as records have them.
struct Written {
    globals: Arc<[Namespace]>,
    json: String,
    hash: String,
}

/// A run at work in this process.
struct Active {
    cancel: CancellationToken,
    over: CancellationToken,
    line: Line,
    /// What started it, or made it go on: the same command again waits for its record.
    command: CommandId,
}

impl Runs {
    /// Forgets the states of sessions that are kept in memory: something in them was erased.
    pub fn forget(&self) {
        self.inner.sessions.forget();
    }

    /// An engine; give it its router with [`connect`](Self::connect) before the first run.
    pub fn new(parts: Parts) -> Self {
        Self {
            inner: Arc::new(Inner {
                parts,
                router: OnceLock::new(),
                sessions: Sessions::default(),
                active: Mutex::default(),
                written: Mutex::default(),
            }),
        }
    }

    /// Gives the engine the router its runs call. The first one counts.
    pub fn connect(&self, router: &Arc<dyn Router>) {
        let _ = self.inner.router.set(Arc::downgrade(router));
    }

    /// What static analysis says of code that is not to run now. It is looked at where it would run: in a worker.
    ///
    /// # Errors
    /// [`Code::Denied`] where the code takes the analysis down with it; when there is no
    /// worker.
    pub async fn assess(&self, cx: &Context, language: Language, code: &str) -> Result<Assessment, Refusal> {
        let sandbox = &self.inner.parts.sandbox;
        // What a run's code asks for must not wait for the place that run has.
        let worker = if cx.caller.run.is_some() { sandbox.nested().await } else { sandbox.worker().await };
        worker?.analyze(language, code).await
    }

    /// Runs code, or goes on with a run that waited. `parent` is the run whose code asked for it. Dropping the future cancels
    /// the run.
    ///
    /// # Errors
    /// When the run could not begin or could not be recorded; whatever the code itself does is in the outcome.
    pub async fn execute(&self, cx: &Context, op: Execute, parent: Option<Id>) -> Result<Outcome, Refusal> {
        match (&op.run, &op.code) {
            (Some(_), Some(_)) => {
                return Err(Refusal::invalid("give either code or a run to go on with, not both").at("run"));
            }
            (Some(run), None) => {
                return self.resume(cx, Resume { run: run.clone(), uncertain: None }).await;
            }
            (None, None) => return Err(Refusal::invalid("there is no code").at("code")),
            (None, Some(_)) => {}
        }
        // The same command again is the same run.
        if let Some(run) = self.inner.started_by(cx.command)? {
            return self.resume(cx, Resume { run, uncertain: None }).await;
        }
        let run = cx.mint("run");
        let line = self.inner.line(&run, parent.as_ref())?;
        let (cx, id) = (again(cx), run.clone());
        self.within(run, cx.command, line, move |inner, cancel| async move {
            inner.fresh(&cx, id, op, parent, &cancel).await
        })
        .await
    }

    /// Goes on with a run that was interrupted, approved, or is in doubt. A run that is over answers as it did.
    ///
    /// # Errors
    /// [`Code::NotFound`], [`Code::Conflict`] while it is at work, or when it could not be recorded.
    pub async fn resume(&self, cx: &Context, op: Resume) -> Result<Outcome, Refusal> {
        let tape = self.inner.tape(cx, &op.run)?;
        if let Some(finished) = &tape.finished {
            return self.inner.recorded(&tape, finished);
        }
        let line = self.inner.line(&op.run, tape.started.parent.as_ref())?;
        let cx = again(cx);
        self.within(op.run.clone(), cx.command, line, move |inner, cancel| async move {
            inner.resumed(&cx, tape, op.uncertain, &cancel).await
        })
        .await
    }

    /// Stops a run: its worker is killed, its upstream calls are cancelled.
    ///
    /// # Errors
    /// [`Code::NotFound`], or when the end could not be recorded.
    pub async fn cancel(&self, cx: &Context, op: Cancel) -> Result<Cancelled, Refusal> {
        let tape = self.inner.tape(cx, &op.run)?;
        let active = {
            let active = self.inner.active.lock().unwrap_or_else(PoisonError::into_inner);
            active.get(&op.run).map(|run| (run.cancel.clone(), run.over.clone()))
        };
        match active {
            Some((cancel, over)) => {
                cancel.cancel();
                over.cancelled().await;
            }
            None if tape.status().is_final() => {}
            None => self.inner.give_up(&tape, &op.run).await?,
        }
        Ok(Cancelled { status: self.inner.tape(cx, &op.run)?.status(), run: op.run })
    }

    /// Re-executes a run from its record, offline.
    ///
    /// # Errors
    /// [`Code::NotFound`], [`Code::Integrity`], or when there is no worker.
    pub async fn replay(&self, cx: &Context, op: Replay) -> Result<Replayed, Refusal> {
        let tape = self.inner.tape(cx, &op.run)?;
        self.inner.replay(cx, tape, op).await
    }

    /// Forgets the state of a session.
    ///
    /// # Errors
    /// When it could not be recorded.
    pub async fn expire(&self, cx: &Context, op: Expire) -> Result<Expired, Refusal> {
        let key = op.session;
        if !key.starts_with("ses_") {
            return Err(Refusal::invalid(format!("{key:?} is no session's key"))
                .at("session")
                .hint("run/sessions lists them"));
        }
        let reader = self.inner.parts.log.reader();
        let archive = Archive { reader: &*reader, sealer: &*self.inner.parts.sealer };
        let mut state = self.inner.sessions.turn(archive, &cx.scope, &key).await?;
        let existed = state.as_ref().is_some_and(|state| state.json != "{}");
        if existed {
            let mut recorder = self.inner.recorder(&Id::from_text(key.clone()), meta(cx), 0);
            recorder.push_beside(&session::stream(&key), SessionExpired { key: key.clone() })?;
            // Whatever becomes of the append, the next run asks the log.
            *state = None;
            recorder.commit(true).await?;
        }
        Ok(Expired { session: key, existed })
    }

    /// Reads a result by its handle: the operation `results/read`, `{handle, offset?, length?}`. Without a range it answers
    /// the value, with one a slice of its JSON text.
    ///
    /// # Errors
    /// When the handle is none, or nothing is kept under it in this project.
    pub fn read(&self, cx: &Context, params: Value) -> Result<Value, Refusal> {
        let read = output::Read::parse(params)?;
        let reader = self.inner.parts.log.reader();
        let archive = Archive { reader: &*reader, sealer: &*self.inner.parts.sealer };
        Ok(read.of(&archive.blob(&cx.scope, read.hash()?)?))
    }

    /// Marks what a daemon that died left behind as interrupted; to be called once, when the router answers. Answers how many.
    ///
    /// # Errors
    /// When the runs cannot be listed or the mark cannot be recorded.
    pub async fn recover(&self) -> Result<usize, Refusal> {
        let caller = Caller::system();
        let request = Request::new("run/list", json!({"status": Status::Running, "limit": UNFINISHED_MAX}));
        let listed = self.inner.router()?.call(&caller, request).await?.value;
        let runs = listed.as_array().into_iter().flatten().filter_map(|run| run.get("run")?.as_str());
        let mut interrupted = 0;
        for run in runs.map(Id::from_text) {
            if self.inner.is_active(&run) {
                continue;
            }
            let tape = self.inner.open(&run)?;
            if tape.status() == Status::Running {
                let mut recorder = self.inner.recorder(&run, tape.meta.clone(), tape.version);
                recorder.push(Interrupted { run })?;
                recorder.commit(false).await?;
                interrupted += 1;
            }
        }
        Ok(interrupted)
    }

    /// Runs at work in this process.
    pub fn active(&self) -> usize {
        self.inner.active.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Does `work` for a run in a task of its own, so that it comes to an orderly end even when whoever asked goes away.
    async fn within<F>(
        &self,
        run: Id,
        command: CommandId,
        line: Line,
        work: impl FnOnce(Arc<Inner>, CancellationToken) -> F + Send,
    ) -> Result<Outcome, Refusal>
    where
        F: Future<Output = Result<Outcome, Refusal>> + Send + 'static,
    {
        let cancel = CancellationToken::new();
        let place = Inner::enter(&self.inner, run, command, cancel.clone(), line)?;
        let work = work(self.inner.clone(), cancel.clone());
        let task = tokio::spawn(async move {
            let _place = place;
            work.await
        });
        let gone = cancel.drop_guard();
        let outcome = task.await;
        gone.disarm();
        outcome.map_err(|error| Refusal::internal(format!("the run's task died: {error}")))?
    }
}

/// A run's entry among the active ones.
struct Place {
    inner: Arc<Inner>,
    run: Id,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut active = self.inner.active.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(run) = active.remove(&self.run) {
            run.over.cancel();
        }
    }
}

impl Inner {
    fn enter(
        inner: &Arc<Self>,
        run: Id,
        command: CommandId,
        cancel: CancellationToken,
        line: Line,
    ) -> Result<Place, Refusal> {
        let mut active = inner.active.lock().unwrap_or_else(PoisonError::into_inner);
        // A run is on record a moment after it began: until then its command is what tells it from another.
        let twin = active.iter().find(|(_, run)| run.command == command).map(|(twin, _)| twin.clone());
        if let Some(run) = twin.or_else(|| active.contains_key(&run).then(|| run.clone())) {
            return Err(Refusal::conflict(format!("run {run} is at work already")).hint("athena run list"));
        }
        active.insert(run.clone(), Active { cancel, over: CancellationToken::new(), line, command });
        drop(active);
        Ok(Place { inner: inner.clone(), run })
    }

    fn is_active(&self, run: &Id) -> bool {
        self.active.lock().unwrap_or_else(PoisonError::into_inner).contains_key(run)
    }

    /// Where a run at work comes from.
    fn line_of(&self, run: &Id) -> Option<Line> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner).get(run).map(|run| run.line.clone())
    }

    /// Globals as records have them: written once for all runs that have the same ones.
    fn surface(&self, globals: &Arc<[Namespace]>) -> Result<Arc<Written>, Refusal> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(same) = written.as_ref().filter(|written| Arc::ptr_eq(&written.globals, globals)) {
            return Ok(same.clone());
        }
        let json = serde_json::to_string(&**globals)
            .map_err(|error| Refusal::internal(format!("the globals: {error}")))?;
        let fresh = Arc::new(Written { globals: globals.clone(), hash: record::hash(&json), json });
        Ok(written.insert(fresh).clone())
    }

    fn router(&self) -> Result<Arc<dyn Router>, Refusal> {
        self.router
            .get()
            .and_then(Weak::upgrade)
            .ok_or_else(|| Refusal::new(Code::Unavailable, "the store is closing").hint("retry"))
    }

    fn recorder(&self, run: &Id, meta: athena_schemas::envelope::Meta, version: u32) -> Recorder {
        let Parts { log, sealer, clock, .. } = &self.parts;
        Recorder::new(log.clone(), sealer.clone(), clock.clone(), run, meta, version)
    }

    fn open(&self, run: &Id) -> Result<Tape, Refusal> {
        let reader = self.parts.log.reader();
        Archive { reader: &*reader, sealer: &*self.parts.sealer }.tape(run)
    }

    /// The record of a run that the caller may see. An agent sees its own.
    fn tape(&self, cx: &Context, run: &Id) -> Result<Tape, Refusal> {
        let missing = || Refusal::not_found(format!("there is no run {run}")).hint("athena run list");
        let tape = self.open(run)?;
        let own = tape.caller().principal() == cx.caller.principal();
        let open = !matches!(cx.caller.party, Party::Agent | Party::Code);
        if !cx.caller.holds.covers(&tape.meta.scope) || !(own || open) {
            return Err(missing());
        }
        Ok(tape)
    }

    /// Ends a run that waits or was interrupted.
    async fn give_up(&self, tape: &Tape, run: &Id) -> Result<(), Refusal> {
        let mut recorder = self.recorder(run, tape.meta.clone(), tape.version);
        let waiting = match tape.waiting.as_ref().map(|waiting| &waiting.why) {
            Some(Why::Approval(_)) => "it waited for an approval",
            Some(Why::Uncertain) => "it waited for a word on an uncertain call",
            None => "it was interrupted",
        };
        recorder.push(finish::ended(
            Status::Cancelled,
            "Cancelled",
            &format!("cancelled while {waiting}"),
        ))?;
        recorder.commit(true).await
    }
}

/// A context of one's own for the same call.
fn again(cx: &Context) -> Context {
    Context::new(cx.now_ms, cx.caller.clone(), cx.scope.clone(), cx.command)
}

fn meta(cx: &Context) -> athena_schemas::envelope::Meta {
    athena_schemas::envelope::Meta::of(cx)
}

/// Counts a violation, and warns where it looks like data on its way out.
fn alarm(run: &Id, violated: &Violated) {
    metrics::counter!("athena_sandbox_violations", "bound" => violated.bound.as_str()).increment(1);
    if violated.exfiltration {
        metrics::counter!("athena_sandbox_exfiltration_alarms").increment(1);
        tracing::warn!(%run, bound = violated.bound.as_str(), "a run may have tried to carry data out");
    }
}
