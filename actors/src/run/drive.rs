//! One worker and one host until the job is over: the three clocks' outermost, the numbering of calls, and who is to blame.

use super::tape::Told;
use crate::sandbox::{Broken, Death, Exit, Worker, calls};
use athena_schemas::id::Id;
use athena_schemas::layers::run::{Bound, Divergence, Status};
use athena_schemas::refusal::Refusal;
use athena_schemas::wire::{Finish, FromWorker, Job, Namespace, ToWorker};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// What a worker gets beyond its limit to stop by itself, before it is killed.
pub const GRACE: Duration = Duration::from_millis(50);
/// How long a worker that closed its socket may take to leave with its own exit status.
const LEAVING: Duration = Duration::from_millis(200);
/// A run at work for this long is put on record, so that it is seen; a shorter one is recorded once, as a whole.
const SEEN_AFTER: Duration = Duration::from_millis(20);
/// What the log's own note about its end may take beyond the limit, bytes.
const LOG_SLACK: u64 = 1 << 10;

/// Why a run stopped before its code did.
#[derive(Debug)]
pub(crate) enum Stop {
    /// Somebody cancelled it.
    Cancelled,
    /// A person must say yes to this call.
    Approval {
        /// The call.
        call: u32,
        /// What the person answers.
        approval: Id,
        /// What is asked.
        message: String,
    },
    /// The code did something else than its record says.
    Diverged(Divergence),
    /// The record, or the part asked for, is played out.
    PlayedOut,
    /// The record could not be written; nothing may leave any more.
    Broken(Refusal),
}

/// How driving a worker ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The code came to its end, good or bad.
    Done(Box<Finish>),
    /// The worker died.
    Died(Death),
    /// It was stopped from outside.
    Stopped(Stop),
}

/// The world, as seen by running code.
pub(crate) trait Host: Send {
    /// The code makes a call.
    fn called(&mut self, call: u32, op: String, params: String, options: String) -> Result<(), Stop>;
    /// The code sets a timer.
    fn timer(&mut self, call: u32, after_ms: u64) -> Result<(), Stop>;
    /// The code prints a line.
    fn logged(&mut self, level: String, text: String);
    /// The run takes a while.
    fn lasts(&mut self);
    /// What the code is told next; waits while there is nothing. Cancel-safe.
    fn next(&mut self) -> impl Future<Output = Result<Told, Stop>> + Send;
    /// The code has come to its end: whether that is all right.
    fn done(&mut self) -> Result<(), Stop>;
}

/// Runs `job` on `worker` against `host`. A worker that did not come to its end by itself is to be dropped at once.
pub(crate) async fn drive(
    worker: &mut Worker,
    job: Job,
    globals: &Arc<[Namespace]>,
    host: &mut impl Host,
    cancel: &CancellationToken,
) -> Ended {
    let mut bounds =
        Bounds { calls: 0, calls_max: job.limits.calls, log_left: job.limits.log_bytes + LOG_SLACK };
    let begun = Instant::now();
    let deadline = begun + Duration::from_millis(job.limits.wall_ms) + GRACE;
    if let Err(broken) = worker.start(job, globals) {
        return lost(worker, broken).await;
    }
    let late = tokio::time::sleep_until(deadline);
    let lasting = tokio::time::sleep_until(begun + SEEN_AFTER);
    tokio::pin!(late, lasting);
    let mut seen = false;
    loop {
        let frame = tokio::select! {
            // What the worker said comes before what it is told, so that the record is in the order of what happened.
            biased;
            () = cancel.cancelled() => return Ended::Stopped(Stop::Cancelled),
            () = &mut late => return Ended::Died(worker.end(Duration::ZERO).await.read(true)),
            () = &mut lasting, if !seen => {
                seen = true;
                host.lasts();
                continue;
            }
            frame = worker.next() => frame,
            told = host.next() => {
                let sent = match told {
                    Ok(Told { call, result, clock_ms }) => worker.send(&ToWorker::Answer { call, result, clock_ms }),
                    Err(stop) => return Ended::Stopped(stop),
                };
                match sent {
                    Ok(()) => continue,
                    Err(broken) => return lost(worker, broken).await,
                }
            }
        };
        let handled = match frame {
            Ok(FromWorker::Call { call, op, params, options }) => match bounds.call(call) {
                Ok(()) => host.called(call, op, params, options),
                Err(broken) => return lost(worker, broken).await,
            },
            Ok(FromWorker::Timer { call, after_ms }) => match bounds.call(call) {
                Ok(()) => host.timer(call, after_ms),
                Err(broken) => return lost(worker, broken).await,
            },
            Ok(FromWorker::Log { level, text }) => match bounds.log(&text) {
                Ok(()) => {
                    host.logged(level, text);
                    Ok(())
                }
                Err(broken) => return lost(worker, broken).await,
            },
            Ok(FromWorker::Done(finish)) => {
                return match host.done() {
                    Ok(()) => Ended::Done(finish),
                    Err(stop) => Ended::Stopped(stop),
                };
            }
            Ok(FromWorker::Trapped { call }) => {
                return Ended::Died(calls::forbidden(call));
            }
            Ok(FromWorker::Ready(_) | FromWorker::Analysis(_)) => {
                return lost(worker, Broken::Protocol("a frame out of its time".into())).await;
            }
            Err(broken) => return lost(worker, broken).await,
        };
        if let Err(stop) = handled {
            return Ended::Stopped(stop);
        }
    }
}

/// What the worker keeps to by itself; one that does not is no longer ours.
struct Bounds {
    calls: u32,
    calls_max: u32,
    log_left: u64,
}

impl Bounds {
    fn call(&mut self, call: u32) -> Result<(), Broken> {
        self.calls += 1;
        if call != self.calls {
            return Err(Broken::Protocol(format!("call {call} after call {}", self.calls - 1)));
        }
        if call > self.calls_max {
            return Err(Broken::Protocol(format!("a flood of calls, more than {}", self.calls_max)));
        }
        Ok(())
    }

    fn log(&mut self, text: &str) -> Result<(), Broken> {
        match self.log_left.checked_sub(text.len() as u64 + 1) {
            Some(left) => {
                self.log_left = left;
                Ok(())
            }
            None => Err(Broken::Protocol("a flood of console output".into())),
        }
    }
}

/// The end of a worker that is gone or cannot be believed.
async fn lost(worker: &mut Worker, broken: Broken) -> Ended {
    match broken {
        Broken::Closed => Ended::Died(match worker.end(LEAVING).await {
            Exit::Code(0) => Death {
                status: Status::Violated,
                bound: Bound::Protocol,
                detail: "left without a word".into(),
            },
            exit => exit.read(false),
        }),
        Broken::Protocol(detail) | Broken::Full(detail) => {
            Ended::Died(Death { status: Status::Violated, bound: Bound::Protocol, detail })
        }
    }
}
