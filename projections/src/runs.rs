//! Runs and sessions as people look at them: a row a run, its steps in order, a row a session.
//!
//! The whole record is in the log; long texts are shortened here.

use crate::store::{Batch, Fold, Order, Store, StoreError, Table};
use athena_schemas::envelope::Seq;
use athena_schemas::event::Event;
use athena_schemas::id::Id;
use athena_schemas::layers::common::time;
use athena_schemas::layers::run::{self, Metrics, Started, Status, Step, Text, Violated, Why};
use athena_schemas::layers::store;
use athena_schemas::ports::Recorded;
use athena_schemas::risk::{Limits, Risk};
use athena_schemas::wire::Language;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::ops::Bound;

/// Longest text kept of one parameter, answer or value, bytes.
const SHOWN_MAX: usize = 4 << 10;
/// Longest first line of code in a list, bytes.
const LINE_MAX: usize = 120;

/// A run, as far as the log has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRow {
    /// The run.
    pub run: Id,
    /// Where it belongs.
    pub scope: athena_schemas::context::Scope,
    /// Where it stands.
    pub status: Status,
    /// When it started, milliseconds since 1970.
    pub at_ms: u64,
    /// Who started it.
    pub by: String,
    /// The run whose code started it.
    pub parent: Option<Id>,
    /// Its language.
    pub language: Language,
    /// The session's name.
    pub session: Option<String>,
    /// The code.
    pub code: Text,
    /// BLAKE3 of the code, hex.
    pub code_hash: String,
    /// The input.
    pub input: Text,
    /// What it may use up.
    pub limits: Limits,
    /// How much harm it could do.
    pub risk: Risk,
    /// Why.
    pub reasons: Vec<String>,
    /// The jail's level.
    pub jail: String,
    /// The engine that ran it.
    pub engine: String,
    /// Host calls so far.
    pub calls: u32,
    /// Steps so far.
    pub steps: u32,
    /// The approval it waits for.
    pub approval: Option<Id>,
    /// Why it did not complete.
    pub error: Option<String>,
    /// What it returned.
    pub value: Option<Text>,
    /// What it used up.
    pub metrics: Metrics,
    /// The position of its last event.
    pub seq: Seq,
}

/// A session, as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRow {
    /// Its key.
    pub key: String,
    /// The name its caller gave it.
    pub name: String,
    /// Whom it is bound to.
    pub owner: String,
    /// Where it belongs.
    pub scope: athena_schemas::context::Scope,
    /// Runs that changed its state.
    pub version: u64,
    /// The last of them.
    pub run: Id,
    /// When, milliseconds since 1970.
    pub at_ms: u64,
    /// The state.
    pub state: Text,
}

/// What a run did against its bounds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViolationRow {
    /// The run.
    pub run: Id,
    /// Where it belongs.
    pub scope: athena_schemas::context::Scope,
    /// Its position in the log.
    pub seq: Seq,
    /// When, milliseconds since 1970.
    pub at_ms: u64,
    /// What it was.
    pub violated: Violated,
}

/// The read model of runs and sessions. Clones share their rows.
#[derive(Clone)]
pub struct Runs {
    rows: Table,
    open: Table,
    steps: Table,
    sessions: Table,
    violations: Table,
}

impl Runs {
    /// A run.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn row(&self, run: &Id) -> Result<Option<RunRow>, StoreError> {
        self.rows.row(run.as_str().as_bytes())
    }

    /// At most `limit` runs that `takes` takes, newest first, before `before`. `unfinished`: of those that are not over only.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn list(
        &self,
        before: Option<&Id>,
        unfinished: bool,
        limit: usize,
        takes: impl Fn(&RunRow) -> bool,
    ) -> Result<Vec<RunRow>, StoreError> {
        let mut found = Vec::new();
        let mut failed = None;
        let upper = before.map_or(Bound::Unbounded, |run| Bound::Excluded(run.as_str().into()));
        // Run ids begin with their time.
        let table = if unfinished { &self.open } else { &self.rows };
        table.scan(&[], (Bound::Unbounded, upper), Order::Descending, &mut |key, value| {
            let row = if unfinished { self.rows.row(key) } else { postcard_row(value) };
            match row {
                Ok(Some(row)) if takes(&row) => found.push(row),
                Ok(_) => {}
                Err(error) => failed = Some(error),
            }
            failed.is_none() && found.len() < limit
        })?;
        failed.map_or(Ok(found), Err)
    }

    /// What happened in a run, in order.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn trace(&self, run: &Id) -> Result<Vec<Step>, StoreError> {
        let mut steps = Vec::new();
        self.steps.prefix(&step_prefix(run), &mut |_, value| {
            steps.extend(serde_json::from_slice::<Step>(value));
            true
        })?;
        Ok(steps)
    }

    /// At most `limit` violations that `takes` takes, newest first, before a position.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn violations(
        &self,
        before: Option<Seq>,
        limit: usize,
        takes: impl Fn(&ViolationRow) -> bool,
    ) -> Result<Vec<ViolationRow>, StoreError> {
        let mut found = Vec::new();
        let mut failed = None;
        let upper = before.map_or(Bound::Unbounded, |seq| Bound::Excluded(seq.to_be_bytes().to_vec()));
        self.violations.scan(&[], (Bound::Unbounded, upper), Order::Descending, &mut |_, value| {
            match postcard_row(value) {
                Ok(row) => found.extend(row.filter(&takes)),
                Err(error) => failed = Some(error),
            }
            failed.is_none() && found.len() < limit
        })?;
        failed.map_or(Ok(found), Err)
    }

    /// All sessions, most recently used first.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn sessions(&self) -> Result<Vec<SessionRow>, StoreError> {
        let mut sessions = Vec::new();
        let mut failed = None;
        self.sessions.prefix(&[], &mut |_, value| {
            match postcard_row(value) {
                Ok(row) => sessions.extend(row),
                Err(error) => failed = Some(error),
            }
            failed.is_none()
        })?;
        sessions.sort_by_key(|row: &SessionRow| std::cmp::Reverse(row.at_ms));
        failed.map_or(Ok(sessions), Err)
    }
}

fn postcard_row<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<Option<T>, StoreError> {
    crate::store::decode(bytes).map(Some)
}

fn step_prefix(run: &Id) -> Vec<u8> {
    [run.as_str().as_bytes(), b"/"].concat()
}

/// A text for people: shortened, or named by its handle.
pub(crate) fn readable(text: &Text) -> Value {
    match text {
        Text::Inline(text) if text.len() <= SHOWN_MAX => {
            serde_json::from_str(text).unwrap_or_else(|_| json!(text))
        }
        Text::Inline(text) => {
            let start = text.get(..text.floor_char_boundary(SHOWN_MAX)).unwrap_or_default();
            json!(format!("{start}… ({} bytes)", text.len()))
        }
        Text::Blob { hash, bytes } => json!({"handle": format!("res_{hash}"), "bytes": bytes}),
    }
}

/// Source code for people: whole where it is in place.
pub(crate) fn source(text: &Text) -> String {
    match text {
        Text::Inline(text) => text.clone(),
        Text::Blob { hash, bytes } => format!("res_{hash} ({bytes} bytes)"),
    }
}

/// The first line of code that says something.
pub(crate) fn first_line(code: &Text) -> String {
    let Text::Inline(code) = code else { return source(code) };
    let line = code.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    line.get(..line.floor_char_boundary(LINE_MAX)).unwrap_or_default().to_owned()
}

impl Fold for Runs {
    const NAME: &'static str = "runs";
    const VERSION: u32 = 2;

    fn open(store: &Store) -> Result<Self, StoreError> {
        Ok(Self {
            rows: store.table("runs")?,
            open: store.table("runs_open")?,
            steps: store.table("run_steps")?,
            sessions: store.table("sessions")?,
            violations: store.table("run_violations")?,
        })
    }

    fn fold(&self, batch: &mut Batch, event: &Event, recorded: &Recorded) -> Result<(), StoreError> {
        let event = match event {
            Event::Run(event) => event,
            Event::Store(store::Event::Retired(retired)) => return self.retire(batch, retired, recorded),
            _ => return Ok(()),
        };
        match event {
            run::Event::StateSaved(saved) => {
                let row = SessionRow {
                    key: saved.key.clone(),
                    name: saved.name.clone(),
                    owner: saved.owner.clone(),
                    scope: recorded.record.draft.meta.scope.clone(),
                    version: saved.version,
                    run: saved.run.clone(),
                    at_ms: recorded.record.draft.meta.at_ms,
                    state: saved.state.clone(),
                };
                batch.put_row(&self.sessions, saved.key.as_bytes(), &row)
            }
            run::Event::SessionExpired(expired) => {
                batch.remove(&self.sessions, expired.key.as_bytes());
                Ok(())
            }
            run::Event::BlobKept(_) => Ok(()),
            run::Event::Started(started) => self.put(batch, begun(started, recorded)),
            event => {
                let Some(run) = recorded.record.draft.stream.strip_prefix("run/") else { return Ok(()) };
                // A run whose start was erased is nobody's to see.
                let Some(row) = batch.row::<RunRow>(&self.rows, run.as_bytes())? else { return Ok(()) };
                self.step(batch, row, event, recorded)
            }
        }
    }

    fn tables(&self) -> Vec<Table> {
        vec![
            self.rows.clone(),
            self.open.clone(),
            self.steps.clone(),
            self.sessions.clone(),
            self.violations.clone(),
        ]
    }
}

impl Runs {
    fn put(&self, batch: &mut Batch, row: RunRow) -> Result<(), StoreError> {
        let key = row.run.as_str().as_bytes().to_vec();
        if row.status.is_final() {
            batch.remove(&self.open, key.clone());
        } else {
            batch.put(&self.open, key.clone(), Vec::new());
        }
        batch.put_row(&self.rows, key, &row)
    }

    /// What a run was told is gone, so its steps cannot be told any more, here as in a model that is built anew.
    fn retire(
        &self,
        batch: &mut Batch,
        retired: &store::Retired,
        recorded: &Recorded,
    ) -> Result<(), StoreError> {
        let at = time(i64::try_from(recorded.record.draft.meta.at_ms).unwrap_or(i64::MAX));
        for run in &retired.runs {
            let Some(mut row) = batch.row::<RunRow>(&self.rows, run.as_str().as_bytes())? else { continue };
            for (key, _) in batch.rows(&self.steps, &step_prefix(run))? {
                batch.remove(&self.steps, key);
            }
            let note = Step::Note { text: format!("its record was retired on {at}: its steps are gone") };
            let key = [&step_prefix(run)[..], &0_u32.to_be_bytes()].concat();
            batch.put(&self.steps, key, serde_json::to_vec(&note).unwrap_or_default());
            row.steps = 1;
            self.put(batch, row)?;
        }
        Ok(())
    }

    fn step(
        &self,
        batch: &mut Batch,
        mut row: RunRow,
        event: &run::Event,
        recorded: &Recorded,
    ) -> Result<(), StoreError> {
        row.seq = recorded.record.seq;
        let mut steps = Vec::new();
        match event {
            run::Event::Called(called) => {
                row.calls += 1;
                let (call, op) = (called.call, called.op.clone());
                steps.push(Step::Call { call, op, params: readable(&called.params) });
            }
            run::Event::Answered(answered) => {
                let (ok, text) = match &answered.result {
                    Ok(text) => (true, text),
                    Err(text) => (false, text),
                };
                let clock = clock(answered.clock_ms);
                steps.push(Step::Answer { call: answered.call, ok, value: readable(text), clock });
            }
            run::Event::TimerFired(fired) => {
                steps.push(Step::Timer { call: fired.call, clock: clock(fired.clock_ms) });
            }
            run::Event::Waiting(waiting) => {
                (row.status, row.approval) = match &waiting.why {
                    Why::Approval(approval) => (Status::ApprovalRequired, Some(approval.clone())),
                    Why::Uncertain => (Status::Uncertain, None),
                };
                steps.push(Step::Note { text: format!("waits: {}", waiting.message) });
            }
            run::Event::Resumed(_) => {
                (row.status, row.approval) = (Status::Running, None);
                steps.push(Step::Note { text: "goes on".into() });
            }
            run::Event::Interrupted(_) => {
                row.status = Status::Interrupted;
                steps.push(Step::Note { text: "interrupted: its daemon died".into() });
            }
            run::Event::Violated(violated) => {
                let Recorded { record, .. } = recorded;
                let violation = ViolationRow {
                    run: row.run.clone(),
                    scope: row.scope.clone(),
                    seq: record.seq,
                    at_ms: record.draft.meta.at_ms,
                    violated: violated.clone(),
                };
                batch.put_row(&self.violations, record.seq.to_be_bytes(), &violation)?;
                let text =
                    format!("ran against its bounds ({}): {}", violated.bound.as_str(), violated.detail);
                steps.push(Step::Note { text });
            }
            run::Event::Finished(finished) => {
                (row.status, row.approval) = (finished.status, None);
                row.error = finished.error.as_ref().map(|error| format!("{}: {}", error.name, error.message));
                row.value.clone_from(&finished.value);
                row.engine.clone_from(&finished.engine);
                row.metrics = finished.metrics;
                let line =
                    |line: &run::Line| Step::Log { level: line.level.clone(), text: line.text.clone() };
                steps.extend(finished.logs.iter().map(line));
            }
            run::Event::TimerSet(_)
            | run::Event::Started(_)
            | run::Event::BlobKept(_)
            | run::Event::StateSaved(_)
            | run::Event::SessionExpired(_) => {}
        }
        for step in steps {
            let key = [&step_prefix(&row.run)[..], &row.steps.to_be_bytes()].concat();
            batch.put(&self.steps, key, serde_json::to_vec(&step).unwrap_or_default());
            row.steps += 1;
        }
        self.put(batch, row)
    }
}

fn clock(at_ms: u64) -> String {
    time(i64::try_from(at_ms).unwrap_or(i64::MAX))
}

fn begun(started: &Started, recorded: &Recorded) -> RunRow {
    let meta = &recorded.record.draft.meta;
    RunRow {
        run: started.run.clone(),
        scope: meta.scope.clone(),
        status: Status::Running,
        at_ms: meta.at_ms,
        by: meta.author.name.clone(),
        parent: started.parent.clone(),
        language: started.language,
        session: started.session.as_ref().map(|session| session.name.clone()),
        code: started.code.clone(),
        code_hash: started.code_hash.clone(),
        input: started.input.clone(),
        limits: started.limits,
        risk: started.risk,
        reasons: started.reasons.clone(),
        jail: started.jail.clone(),
        engine: String::new(),
        calls: 0,
        steps: 0,
        approval: None,
        error: None,
        value: None,
        metrics: Metrics::default(),
        seq: recorded.record.seq,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Fed, id, started};
    use athena_schemas::layers::run::{
        Answered, Called, Effect, Event, Finished, Interrupted, List, Queries, SessionExpired, Sessions,
        Show, StateSaved, Waiting,
    };

    fn finished(status: Status) -> Finished {
        Finished {
            status,
            value: Some(Text::Inline("1".into())),
            error: None,
            logs: vec![run::Line { after: 1, level: "log".into(), text: "hi".into() }],
            state: None,
            tokenized: 0,
            engine: "quickjs".into(),
            metrics: Metrics { wall_us: 7, ..Metrics::default() },
        }
    }

    fn of(fed: &mut Fed, run: &Id, event: impl Into<Event>) {
        fed.feed_to(&format!("run/{run}"), 1_000, event.into());
    }

    #[test]
    fn a_run_is_listed_where_it_stands_and_shown_with_its_steps() {
        let mut fed = Fed::new();
        let (first, second) = (id("run", 1), id("run", 2));
        for run in [&first, &second] {
            of(&mut fed, run, started(run));
        }
        let called = Called {
            call: 1,
            op: "semantic/search".into(),
            params: Text::Inline("{}".into()),
            options: String::new(),
            effect: Effect::ReadOnly,
        };
        of(&mut fed, &first, called);
        of(&mut fed, &first, Answered { call: 1, result: Ok(Text::Inline("[]".into())), clock_ms: 5 });
        let why = Waiting { call: 2, why: Why::Approval(id("apr", 1)), message: "may it?".into() };
        of(&mut fed, &first, why);
        of(&mut fed, &second, Interrupted { run: second.clone() });
        let cx = fed.cx(2_000);
        let list = |status| {
            let op = List { status, limit: 10, ..List::default() };
            let runs = Queries::list(&fed.library, &cx, op).unwrap();
            runs.into_iter().map(|run| (run.run, run.status)).collect::<Vec<_>>()
        };
        assert_eq!(
            list(None),
            [(second.clone(), Status::Interrupted), (first.clone(), Status::ApprovalRequired)]
        );
        assert_eq!(list(Some(Status::Interrupted)).len(), 1);
        assert_eq!(list(Some(Status::Running)).len(), 0);

        of(&mut fed, &first, finished(Status::Completed));
        let shown = Queries::show(&fed.library, &cx, Show { run: first.clone() }).unwrap();
        assert_eq!(
            (shown.summary.status, shown.summary.calls, shown.summary.approval),
            (Status::Completed, 1, None)
        );
        assert_eq!((shown.summary.code.as_str(), shown.value), ("return 1", json!(1)));
        let kinds: Vec<String> = shown
            .trace
            .iter()
            .map(|step| serde_json::to_value(step).unwrap()["kind"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(kinds, ["call", "answer", "note", "log"]);
        assert!(Queries::show(&fed.library, &cx, Show { run: id("run", 9) }).is_err());
        assert_eq!(fed.digests(), fed.rebuilt(|_| false));
    }

    #[test]
    fn a_session_is_listed_until_it_expires() {
        let mut fed = Fed::new();
        let saved = StateSaved {
            key: "ses_1".into(),
            name: "s".into(),
            owner: "agent/mcp/example".into(),
            version: 1,
            run: id("run", 1),
            state: Text::Inline("{\"n\":1}".into()),
        };
        fed.feed_to("run/ses_1", 5, Event::from(saved));
        let cx = fed.cx(10);
        let sessions = |fed: &Fed, session: Option<&str>| {
            let op = Sessions { session: session.map(Into::into), limit: 10 };
            Queries::sessions(&fed.library, &cx, op).unwrap()
        };
        assert_eq!((sessions(&fed, None)[0].state.clone(), sessions(&fed, None)[0].bytes), (None, 7));
        assert_eq!(sessions(&fed, Some("s"))[0].state, Some(json!({"n": 1})));
        assert!(sessions(&fed, Some("t")).is_empty());
        fed.feed_to("run/ses_1", 6, Event::from(SessionExpired { key: "ses_1".into() }));
        assert!(sessions(&fed, None).is_empty());
    }
}
