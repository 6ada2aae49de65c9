//! The end of a run: what the worker said becomes what goes on record and what the caller gets.

use super::Inner;
use super::attempt::{Attempt, micros};
use super::host::{Seen, weigh};
use super::output::{self, Shown};
use super::record::{Recorder, hash};
use super::session::Held;
use super::tape::{Archive, Tape};
use crate::sandbox::Death;
use athena_schemas::context::Context;
use athena_schemas::id::Id;
use athena_schemas::layers::run::{
    Failure, Finished, Jail, Judgement, Line, Metrics, Outcome, Privacy, Problem, Sizes, Status, Text, Tokens,
};
use athena_schemas::refusal::Refusal;
use athena_schemas::risk::Limits;
use athena_schemas::wire::{Fault, FaultKind, Finish};
use serde_json::{Value, json};
use std::time::Instant;

/// How a run ended, before the output pipeline.
#[derive(Debug, Clone)]
pub(super) struct End {
    pub(super) status: Status,
    /// JSON.
    pub(super) value: Option<String>,
    pub(super) failure: Option<Failure>,
    /// `session.state`, JSON.
    pub(super) state: Option<String>,
    pub(super) engine: String,
    pub(super) jail: String,
    pub(super) cpu_us: u64,
    pub(super) heap_bytes: u64,
    pub(super) worker_us: u64,
}

impl End {
    /// An end for a reason of ours.
    pub(super) fn of(status: Status, name: &str, message: &str) -> Self {
        Self::failed(status, failure(name, message, hint(status)))
    }

    /// An end by an error of the code.
    pub(super) fn fault(fault: Fault) -> Self {
        let status = match fault.kind {
            FaultKind::TimedOut => Status::TimedOut,
            FaultKind::OutOfMemory => Status::OutOfMemory,
            FaultKind::Syntax | FaultKind::Thrown | FaultKind::Limit | FaultKind::Unsupported => {
                Status::Failed
            }
        };
        let Fault { name, message, line, column, stack, .. } = fault;
        let hint = hint(status).into();
        Self::failed(status, Failure { name, message, line, column, stack, hint })
    }

    /// What the worker said.
    pub(super) fn done(finish: Finish) -> Self {
        let Finish { result, state, cpu_us, heap_bytes, engine } = finish;
        let end = match result {
            Ok(value) => Self { value: Some(value), ..Self::empty(Status::Completed) },
            Err(fault) => Self::fault(fault),
        };
        // What a run that failed did to its state is not kept: its next try starts where this one did.
        let state = (end.status == Status::Completed).then_some(state);
        Self { state, cpu_us, heap_bytes, engine, ..end }
    }

    /// A worker that died.
    pub(super) fn died(death: &Death, limits: &Limits) -> Self {
        let (name, message) = match death.status {
            Status::TimedOut => {
                ("TimeoutError", format!("the time was up ({} ms): {}", limits.wall_ms, death.detail))
            }
            Status::OutOfMemory => {
                ("MemoryError", format!("the memory was full ({} MiB): {}", limits.memory_mb, death.detail))
            }
            _ => ("SandboxViolation", format!("the sandbox ended the run: {}", death.detail)),
        };
        Self::of(death.status, name, &message)
    }

    fn failed(status: Status, failure: Failure) -> Self {
        Self { failure: Some(failure), ..Self::empty(status) }
    }

    fn empty(status: Status) -> Self {
        Self {
            status,
            value: None,
            failure: None,
            state: None,
            engine: String::new(),
            jail: String::new(),
            cpu_us: 0,
            heap_bytes: 0,
            worker_us: 0,
        }
    }
}

/// What a person or a model can do about it.
fn hint(status: Status) -> &'static str {
    match status {
        Status::TimedOut => "do less in one run, or ask for more `limits.wall_ms`",
        Status::OutOfMemory => "work in smaller pieces",
        Status::Violated => {
            "only `athena.*` and the tools are reachable; there are no files, sockets or processes"
        }
        _ => "",
    }
}

fn failure(name: &str, message: &str, hint: &str) -> Failure {
    Failure {
        name: name.into(),
        message: message.into(),
        line: 0,
        column: 0,
        stack: String::new(),
        hint: hint.into(),
    }
}

/// The end of a run that never got back to work.
pub(super) fn ended(status: Status, name: &str, message: &str) -> Finished {
    Finished {
        status,
        value: None,
        error: Some(failure(name, message, "")),
        logs: Vec::new(),
        state: None,
        tokenized: 0,
        engine: String::new(),
        metrics: Metrics::default(),
    }
}

/// An end whose texts hold no sensitive value any more.
pub(super) struct Clean {
    pub(super) value: Option<String>,
    pub(super) failure: Option<Failure>,
    pub(super) lines: Vec<Line>,
    pub(super) state: Option<String>,
    pub(super) tokenized: u32,
}

impl Inner {
    /// Ends a run whose code never ran.
    pub(super) async fn finish(
        &self,
        cx: &Context,
        attempt: Attempt,
        seen: Option<Seen>,
        end: End,
    ) -> Result<Outcome, Refusal> {
        let Attempt { run, tape, recorder, worker, session, begun, .. } = attempt;
        let jail = worker.ready().level.clone();
        drop(worker);
        self.settle(cx, run, tape, recorder, seen.unwrap_or_default(), session, End { jail, ..end }, begun)
            .await
    }

    /// Puts the end on record and answers.
    #[expect(clippy::too_many_arguments, reason = "everything a run was made of meets its end here, once")]
    pub(super) async fn settle(
        &self,
        cx: &Context,
        run: Id,
        tape: Tape,
        mut recorder: Recorder,
        seen: Seen,
        mut session: Option<Held>,
        end: End,
        begun: Instant,
    ) -> Result<Outcome, Refusal> {
        let before = end.value.as_ref().map_or(0, |value| value.len() as u64);
        let clean = self.clean(cx, &end, seen.lines).await?;
        let value = clean.value.as_deref();
        let value = match value {
            Some(value) if value.len() > self.answer_max(&tape) => Some(recorder.kept(value)?),
            Some(value) => Some(recorder.text(value)?),
            None => None,
        };
        let state = clean.state.filter(|state| *state != tape.state);
        let finished = Finished {
            status: end.status,
            value,
            error: clean.failure,
            logs: clean.lines,
            state: state.as_deref().map(|state| recorder.text(state)).transpose()?,
            tokenized: clean.tokenized,
            engine: end.engine,
            metrics: Metrics {
                worker_us: end.worker_us,
                cpu_us: end.cpu_us,
                heap_bytes: end.heap_bytes,
                calls: seen.calls,
                bytes: Sizes { before, after: 0 },
                tokens: Tokens { direct: seen.direct_tokens, code: 0 },
                wall_us: 0,
            },
        };
        let mut outcome = self.outcome(&tape, &finished, clean.value.as_deref(), &end.jail);
        let wall_us = micros(begun);
        let metrics = Metrics { wall_us, ..outcome.metrics };
        outcome.metrics = metrics;
        recorder.push(Finished { metrics, ..finished })?;
        let saves = match (&mut session, &state) {
            (Some(session), Some(state)) => {
                let seen = tape.started.session.as_ref().map_or(0, |session| session.version);
                session.save(&mut recorder, &run, &tape.state, seen, state)?;
                true
            }
            _ => false,
        };
        // Whoever is told that something was done finds it done, whatever happens to the machine.
        let durable = seen.effectful || saves || tape.version > 1;
        if let Err(refusal) = recorder.commit(durable).await {
            if let Some(session) = &mut session {
                session.forget();
            }
            return Err(refusal);
        }
        count(&outcome);
        Ok(outcome)
    }

    /// Replaces sensitive values in everything that leaves the run.
    pub(super) async fn clean(&self, cx: &Context, end: &End, lines: Vec<Line>) -> Result<Clean, Refusal> {
        let parse = |text: &Option<String>| -> Value {
            text.as_deref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
        };
        let failure = end.failure.as_ref();
        let whole = json!([
            parse(&end.value),
            parse(&end.state),
            failure.map(|failure| [&failure.message, &failure.stack]),
            lines.iter().map(|line| line.text.as_str()).collect::<Vec<_>>(),
        ]);
        let (whole, tokenized) = self.parts.tokenize.json(cx, whole).await?;
        let Value::Array(parts) = whole else {
            return Err(Refusal::internal("the tokenizer changed the shape of a value"));
        };
        let mut parts = parts.into_iter();
        let mut next = || parts.next().unwrap_or_default();
        let (value, state, texts, logs) = (next(), next(), next(), next());
        let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
        Ok(Clean {
            value: end.value.as_ref().map(|_| value.to_string()),
            state: end.state.as_ref().map(|_| state.to_string()),
            failure: failure.map(|failure| Failure {
                message: text(texts.get(0)),
                stack: text(texts.get(1)),
                ..failure.clone()
            }),
            lines: lines
                .into_iter()
                .enumerate()
                .map(|(n, line)| Line { text: text(logs.get(n)), ..line })
                .collect(),
            tokenized,
        })
    }

    /// What a finished run answers, from its record.
    pub(super) fn recorded(&self, tape: &Tape, finished: &Finished) -> Result<Outcome, Refusal> {
        let reader = self.parts.log.reader();
        let archive = Archive { reader: &*reader, sealer: &*self.parts.sealer };
        let value = match &finished.value {
            Some(text) => Some(archive.text(&tape.meta.scope, text)?),
            None => None,
        };
        let outcome = self.outcome(tape, finished, value.as_deref(), &tape.started.jail);
        Ok(Outcome { metrics: finished.metrics, ..outcome })
    }

    fn outcome(&self, tape: &Tape, finished: &Finished, value: Option<&str>, jail: &str) -> Outcome {
        let limit = self.answer_max(tape);
        let whole_hash = || match &finished.value {
            Some(Text::Blob { hash, .. }) => hash.clone(),
            _ => hash(value.unwrap_or_default()),
        };
        let shown = match value {
            Some(value) => output::show(value, limit, whole_hash),
            None => Shown { value: Value::Null, cut: None, bytes: 0 },
        };
        let logs = output::lines(&finished.logs, limit);
        let count = |text: &str| weigh(self.parts.count, text);
        let code = count(&tape.code)
            + if shown.bytes > 0 { count(&shown.value.to_string()) } else { 0 }
            + logs.iter().map(|line| count(line)).sum::<u64>();
        Outcome {
            run: tape.started.run.clone(),
            status: finished.status,
            value: shown.value,
            logs,
            error: finished.error.as_ref().map(output::problem),
            cut: shown.cut,
            approval: None,
            risk: judgement(tape),
            privacy: Privacy { r#in: tape.started.tokenized, out: finished.tokenized },
            sandbox: Jail { level: jail.to_owned(), engine: finished.engine.clone() },
            metrics: Metrics {
                bytes: Sizes { after: shown.bytes, ..finished.metrics.bytes },
                tokens: Tokens { code, ..finished.metrics.tokens },
                ..finished.metrics
            },
        }
    }

    fn answer_max(&self, tape: &Tape) -> usize {
        usize::try_from(tape.started.limits.result_bytes).unwrap_or(usize::MAX).min(self.parts.answer_bytes)
    }
}

/// The answer of a run that waits for a person.
pub(super) fn waiting(tape: &Tape, approval: Option<Id>, message: &str, begun: Instant) -> Outcome {
    let run = &tape.started.run;
    let hint = match &approval {
        Some(id) => format!("a person: athena approve {id}; then execute {{\"run\": \"{run}\"}}"),
        None => format!("a person: athena run resume {run} --uncertain repeat|fail"),
    };
    let (status, name) = match approval {
        Some(_) => (Status::ApprovalRequired, "ApprovalRequired"),
        None => (Status::Uncertain, "Uncertain"),
    };
    Outcome {
        run: run.clone(),
        status,
        value: Value::Null,
        logs: Vec::new(),
        error: Some(Problem {
            name: name.into(),
            message: message.to_owned(),
            line: None,
            column: None,
            stack: String::new(),
            hint,
        }),
        cut: None,
        approval,
        risk: judgement(tape),
        privacy: Privacy { r#in: tape.started.tokenized, out: 0 },
        sandbox: Jail { level: tape.started.jail.clone(), engine: String::new() },
        metrics: Metrics { wall_us: micros(begun), ..Metrics::default() },
    }
}

fn judgement(tape: &Tape) -> Judgement {
    Judgement { level: tape.started.risk, reasons: tape.started.reasons.clone() }
}

fn count(outcome: &Outcome) {
    let status = serde_json::to_value(outcome.status).ok();
    let status = status.as_ref().and_then(Value::as_str).unwrap_or_default().to_owned();
    metrics::counter!("athena_runs", "status" => status).increment(1);
    metrics::histogram!("athena_run_seconds").record(outcome.metrics.wall_us as f64 / 1e6);
    metrics::histogram!("athena_run_calls").record(f64::from(outcome.metrics.calls));
}
