//! Replay: the code again, in a new worker, told what it was told then, with nothing behind it.

use super::drive::{Ended, Stop, drive};
use super::finish::{Clean, End};
use super::host::{Beyond, Offline, World};
use super::tape::{Archive, Tape};
use super::{Inner, TYPE_ERROR};
use crate::sandbox::{is_deno, is_python};
use athena_schemas::context::Context;
use athena_schemas::layers::run::{Divergence, Finished, Replay, Replayed, Status};
use athena_schemas::refusal::Refusal;
use athena_schemas::wire::Job;
use tokio_util::sync::CancellationToken;

/// A replay gets this many times the limits of its run: the machine may be slower today, and limits cannot be observed.
const LENIENCY: u64 = 4;

impl Inner {
    pub(super) async fn replay(&self, cx: &Context, tape: Tape, op: Replay) -> Result<Replayed, Refusal> {
        let status = tape.status();
        let replayed = |divergence: Option<Divergence>, world: Option<World>, value| Replayed {
            run: op.run.clone(),
            identical: divergence.is_none(),
            status,
            divergence,
            calls: world.as_ref().map_or(0, |world| world.calls),
            trace: world.and_then(|world| world.trace).unwrap_or_default(),
            value,
        };
        let mut worker = self.parts.sandbox.worker().await?;
        if never_ran(&tape) {
            let assessment = worker.analyze(tape.started.language, &tape.code).await?;
            let divergence = match (assessment.syntax, status) {
                // The types that did not fit were those of the tools of that time.
                (None, Status::Failed) if mistyped(&tape) => None,
                (None, Status::Failed) => Some(end_differs("a syntax error", "code that parses")),
                (Some(fault), Status::Denied) => Some(end_differs("code that parses", &fault.message)),
                _ => None,
            };
            return Ok(replayed(divergence, None, serde_json::Value::Null));
        }
        let other = |engine: &String| is_python(engine) || is_deno(engine);
        let mut worker = match tape.started.engines.iter().any(other) {
            true => self.worker_again(&tape, &CancellationToken::new()).await?,
            false => worker,
        };
        let whole = matches!(status, Status::Completed | Status::Failed) && !by_us(&tape);
        let mut world = World::new(&tape, Beyond::Offline(Offline { until: op.until, whole }));
        world.trace = op.step.then(Vec::new);
        let job = lenient(tape.job());
        let never = CancellationToken::new();
        let ended = drive(&mut worker, job, &tape.namespaces, &mut world, &never).await;
        let clean = match ended {
            Ended::Stopped(Stop::PlayedOut) => {
                return Ok(replayed(None, Some(world), serde_json::Value::Null));
            }
            Ended::Stopped(Stop::Diverged(divergence)) => {
                return Ok(replayed(Some(divergence), Some(world), serde_json::Value::Null));
            }
            Ended::Stopped(Stop::Broken(refusal)) => return Err(refusal),
            Ended::Stopped(Stop::Cancelled | Stop::Approval { .. }) => {
                return Err(Refusal::internal("a replay was stopped from outside"));
            }
            Ended::Died(death) if whole => {
                let got = format!("the worker died: {}", death.detail);
                let divergence = end_differs(&describe(tape.finished.as_ref()), &got);
                return Ok(replayed(Some(divergence), Some(world), serde_json::Value::Null));
            }
            // A run that was killed is killed again.
            Ended::Died(_) => return Ok(replayed(None, Some(world), serde_json::Value::Null)),
            Ended::Done(finish) => {
                let end = End::done(*finish);
                let lines = std::mem::take(&mut world.lines);
                (self.clean(cx, &end, lines).await?, end.status)
            }
        };
        let divergence = match (&tape.finished, whole) {
            (Some(finished), true) => self.compare(&tape, finished, &clean.0, clean.1)?,
            // What ended it then came from outside: only its calls can be compared.
            _ => None,
        };
        let value = clean.0.value.as_deref().and_then(|value| serde_json::from_str(value).ok());
        Ok(replayed(divergence, Some(world), value.unwrap_or_default()))
    }

    /// The first difference between two ends.
    fn compare(
        &self,
        tape: &Tape,
        then: &Finished,
        now: &Clean,
        status: Status,
    ) -> Result<Option<Divergence>, Refusal> {
        let reader = self.parts.log.reader();
        let archive = Archive { reader: &*reader, sealer: &*self.parts.sealer };
        let text = |text: &Option<_>| match text {
            Some(text) => archive.text(&tape.meta.scope, text).map(Some),
            None => Ok(None),
        };
        let differs = |what: &str, then: &str, now: &str| {
            Ok(Some(end_differs(&format!("{what} {then}"), &format!("{what} {now}"))))
        };
        if then.status != status {
            return differs("status", &format!("{:?}", then.status), &format!("{status:?}"));
        }
        let value = text(&then.value)?;
        if value != now.value {
            let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".into());
            return differs("value", &shown(&value), &shown(&now.value));
        }
        if then.error.as_ref().map(|e| (&e.name, &e.message, e.line, e.column))
            != now.failure.as_ref().map(|e| (&e.name, &e.message, e.line, e.column))
        {
            let shown = |error: Option<&_>| error.map_or_else(|| "none".into(), |e| format!("{e:?}"));
            return differs("error", &shown(then.error.as_ref()), &shown(now.failure.as_ref()));
        }
        let lines = |lines: &[athena_schemas::layers::run::Line]| -> Vec<String> {
            lines.iter().map(|line| format!("[{}] {}", line.level, line.text)).collect()
        };
        let (logs, logs_now) = (lines(&then.logs), lines(&now.lines));
        if logs != logs_now {
            let at = logs.iter().zip(&logs_now).take_while(|(then, now)| then == now).count();
            let shown = |lines: &[String]| lines.get(at).cloned().unwrap_or_else(|| "missing".into());
            return differs(&format!("log line {}", at + 1), &shown(&logs), &shown(&logs_now));
        }
        let state =
            text(&then.state)?.or_else(|| (then.status == Status::Completed).then(|| tape.state.clone()));
        if state != now.state {
            let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".into());
            return differs("session.state", &shown(&state), &shown(&now.state));
        }
        Ok(None)
    }
}

/// Whether the code never got to a worker: it did not parse, or was denied.
fn never_ran(tape: &Tape) -> bool {
    tape.finished.as_ref().is_some_and(|finished| {
        finished.engine.is_empty() && finished.metrics.worker_us == 0 && finished.status != Status::Cancelled
    })
}

/// Whether it failed by our doing, not by its own.
fn by_us(tape: &Tape) -> bool {
    let error = tape.finished.as_ref().and_then(|finished| finished.error.as_ref());
    error.is_some_and(|error| error.name == "Divergence")
}

/// Whether its types did not fit.
fn mistyped(tape: &Tape) -> bool {
    let error = tape.finished.as_ref().and_then(|finished| finished.error.as_ref());
    error.is_some_and(|error| error.name == TYPE_ERROR)
}

fn lenient(job: Job) -> Job {
    let mut limits = job.limits;
    limits.wall_ms = limits.wall_ms.saturating_mul(LENIENCY);
    limits.cpu_ms = limits.cpu_ms.saturating_mul(LENIENCY);
    Job { limits, ..job }
}

fn end_differs(expected: &str, got: &str) -> Divergence {
    const SHOWN: usize = 400;
    let short = |text: &str| match text.get(..text.floor_char_boundary(SHOWN)) {
        Some(start) if start.len() < text.len() => format!("{start}…"),
        _ => text.to_owned(),
    };
    Divergence { call: 0, expected: short(expected), got: short(got) }
}

fn describe(finished: Option<&Finished>) -> String {
    finished.map_or_else(|| "no end".into(), |finished| format!("status {:?}", finished.status))
}
