//! The one door of agent code: calls, timers and log lines go out, answers come in.
//!
//! Everything the code can learn of the world passes here in a single order: calls are numbered in the order the code makes
//! them, answers are handed over in the order their frames arrive, and the clock moves only when one is.

use crate::process::cpu_time;
use crate::wire::{Link, LinkError};
use athena_schemas::risk::Limits;
use athena_schemas::wire::{Fault, FaultKind, Finish, FromWorker, ToWorker};
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// What came back for a call or a timer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Which call.
    pub(crate) call: u32,
    /// JSON: the value, or the refusal.
    pub(crate) result: Result<String, String>,
    /// The run's clock from now on, milliseconds since 1970.
    clock_ms: u64,
}

impl Answer {
    /// Which call, and what came back.
    pub(crate) fn into_parts(self) -> (u32, Result<String, String>) {
        (self.call, self.result)
    }
}

/// What is being waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Open {
    Call,
    Timer,
}

/// The worker's end of one run.
#[derive(Debug)]
pub(crate) struct Host {
    link: Link,
    limits: Limits,
    deadline: Instant,
    cpu_deadline: Duration,
    started_ms: u64,
    clock_ms: u64,
    last_call: u32,
    log_left: u64,
    open: BTreeMap<u32, Open>,
    arrived: VecDeque<Answer>,
    doomed: Option<Fault>,
}

impl Host {
    /// The host side of a run that starts now.
    pub(crate) fn new(link: Link, limits: Limits, clock_ms: u64) -> Self {
        Self {
            link,
            limits,
            deadline: Instant::now() + Duration::from_millis(limits.wall_ms),
            cpu_deadline: cpu_time() + Duration::from_millis(limits.cpu_ms),
            started_ms: clock_ms,
            clock_ms,
            last_call: 0,
            log_left: limits.log_bytes,
            open: BTreeMap::new(),
            arrived: VecDeque::new(),
            doomed: None,
        }
    }

    /// The run's clock, milliseconds since 1970.
    pub(crate) fn clock_ms(&self) -> u64 {
        self.clock_ms
    }

    /// How far the run's clock has moved, milliseconds.
    pub(crate) fn elapsed_ms(&self) -> u64 {
        self.clock_ms.saturating_sub(self.started_ms)
    }

    /// Sends a call; its number, or why the run is over.
    pub(crate) fn call(&mut self, op: String, params: String, options: String) -> Result<u32, Fault> {
        let call = self.number(Open::Call)?;
        self.send(&FromWorker::Call { call, op, params, options })?;
        Ok(call)
    }

    /// Asks to be woken; the timer's number, or why the run is over.
    pub(crate) fn timer(&mut self, after_ms: u64) -> Result<u32, Fault> {
        let call = self.number(Open::Timer)?;
        self.send(&FromWorker::Timer { call, after_ms })?;
        Ok(call)
    }

    /// Sends a console line, as long as the run's allowance lasts; the first line beyond it is a warning that says so.
    pub(crate) fn log(&mut self, level: &str, text: String) -> Result<(), Fault> {
        if self.log_left == 0 {
            return Ok(());
        }
        let (level, text) = match self.log_left.checked_sub(text.len() as u64 + 1) {
            Some(left) => {
                self.log_left = left;
                (level.to_owned(), text)
            }
            None => {
                self.log_left = 0;
                let note = format!(
                    "console output beyond {} bytes is dropped; return the value instead",
                    self.limits.log_bytes
                );
                ("warn".to_owned(), note)
            }
        };
        self.send(&FromWorker::Log { level, text })
    }

    /// Whether answers to calls (timers do not count) are still due.
    pub(crate) fn calls_open(&self) -> bool {
        self.open.values().any(|open| *open == Open::Call)
    }

    /// Whether anything is still due.
    pub(crate) fn waiting(&self) -> bool {
        !self.open.is_empty()
    }

    /// The next answer, in the order of arrival.
    pub(crate) fn next(&mut self) -> Result<Answer, Fault> {
        let answer = match self.arrived.pop_front() {
            Some(answer) => answer,
            None => self.receive()?,
        };
        Ok(self.hand_over(answer))
    }

    /// The answer to this call; those that arrive before it keep their order for [`Self::next`].
    pub(crate) fn wait_for(&mut self, call: u32) -> Result<Answer, Fault> {
        loop {
            let answer = self.receive()?;
            if answer.call == call {
                return Ok(self.hand_over(answer));
            }
            self.arrived.push_back(answer);
        }
    }

    /// Ends the run: nothing more can be sent, and engines stop at their next check.
    pub(crate) fn doom(&mut self, fault: Fault) -> Fault {
        self.doomed.get_or_insert(fault).clone()
    }

    /// Why the run is over, if it is; also looks at both clocks.
    pub(crate) fn verdict(&mut self) -> Option<Fault> {
        if self.doomed.is_none() {
            if Instant::now() >= self.deadline {
                self.doomed = Some(timed_out("wall time", self.limits.wall_ms));
            } else if cpu_time() >= self.cpu_deadline {
                self.doomed = Some(timed_out("CPU time", self.limits.cpu_ms));
            }
        }
        self.doomed.clone()
    }

    /// Whether the run is known to be over, without a look at the clocks.
    pub(crate) fn over(&self) -> bool {
        self.doomed.is_some()
    }

    /// How long the run may still take.
    pub(crate) fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Whether an answer is there, or comes within this long.
    pub(crate) fn ready(&self, patience: Duration) -> bool {
        !self.arrived.is_empty() || self.link.ready(patience)
    }

    /// Sends the last frame.
    pub(crate) fn done(&mut self, finish: Finish) -> Result<(), LinkError> {
        self.link.send(&FromWorker::Done(Box::new(finish)))?;
        // To end takes the kernel longer than most runs take, and the processor that this one is on would be where the answer is
        // waited for: it is put off until nobody needs this worker any more.
        self.link.closed();
        Ok(())
    }

    fn number(&mut self, open: Open) -> Result<u32, Fault> {
        if let Some(fault) = &self.doomed {
            return Err(fault.clone());
        }
        if self.last_call >= self.limits.calls {
            let message = format!(
                "the run made more than {} calls (timers count); fetch more per call, or raise limits.calls",
                self.limits.calls
            );
            return Err(self.doom(fault(FaultKind::Limit, "LimitError", message)));
        }
        self.last_call += 1;
        self.open.insert(self.last_call, open);
        Ok(self.last_call)
    }

    fn hand_over(&mut self, answer: Answer) -> Answer {
        self.open.remove(&answer.call);
        self.clock_ms = self.clock_ms.max(answer.clock_ms);
        answer
    }

    fn send(&mut self, frame: &FromWorker) -> Result<(), Fault> {
        match self.link.send(frame) {
            Ok(()) => Ok(()),
            Err(LinkError::TooLong(length)) => Err(self.doom(fault(
                FaultKind::Limit,
                "LimitError",
                format!("one call or log line holds {length} bytes, more than a frame can carry; send less at once"),
            ))),
            Err(_) => leave(),
        }
    }

    fn receive(&mut self) -> Result<Answer, Fault> {
        if let Some(fault) = &self.doomed {
            return Err(fault.clone());
        }
        match self.link.receive::<ToWorker>(Some(self.deadline)) {
            Ok(ToWorker::Answer { call, result, clock_ms }) => Ok(Answer { call, result, clock_ms }),
            Err(LinkError::TimedOut) => Err(self.doom(timed_out("wall time", self.limits.wall_ms))),
            // A second job, or a socket that failed or closed: nobody is left to run for.
            Ok(ToWorker::Analyze { .. } | ToWorker::Prepare(_) | ToWorker::Run(_)) | Err(_) => leave(),
        }
    }
}

/// Ends the process: its server is gone, or does not keep to the protocol.
fn leave() -> ! {
    crate::process::exit(0)
}

/// A fault without a place.
pub(crate) fn fault(kind: FaultKind, name: &str, message: impl Into<String>) -> Fault {
    Fault { kind, name: name.to_owned(), message: message.into(), line: 0, column: 0, stack: String::new() }
}

/// The end of a run whose time of this kind is up.
pub(crate) fn timed_out(clock: &str, limit_ms: u64) -> Fault {
    let message =
        format!("the run used up its {clock} of {limit_ms} ms; do less per run, or raise the limit");
    fault(FaultKind::TimedOut, "TimeoutError", message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    fn host(limits: Limits) -> (Host, Link) {
        let (a, b) = UnixStream::pair().unwrap();
        (Host::new(Link::new(a), limits, 1_000), Link::new(b))
    }

    fn reply(server: &mut Link, call: u32, clock_ms: u64) {
        server.send(&ToWorker::Answer { call, result: Ok(call.to_string()), clock_ms }).unwrap();
    }

    #[test]
    fn answers_keep_their_order_around_a_blocking_wait() {
        let (mut host, mut server) = host(Limits::BALANCED);
        for _ in 0..3 {
            host.call("files/module".into(), "{}".into(), String::new()).unwrap();
        }
        reply(&mut server, 2, 1_010);
        reply(&mut server, 1, 1_020);
        reply(&mut server, 3, 1_030);
        assert_eq!(host.wait_for(3).unwrap().call, 3);
        assert_eq!((host.next().unwrap().call, host.next().unwrap().call), (2, 1));
        assert_eq!((host.clock_ms(), host.elapsed_ms()), (1_030, 30));
        assert!(!host.waiting());
    }

    #[test]
    fn the_call_limit_ends_the_run() {
        let (mut host, _server) = host(Limits { calls: 1, ..Limits::BALANCED });
        host.call("a/b".into(), "{}".into(), String::new()).unwrap();
        let fault = host.timer(5).unwrap_err();
        assert_eq!(fault.kind, FaultKind::Limit);
        assert_eq!(host.verdict(), Some(fault));
    }

    #[test]
    fn logs_end_with_one_note() {
        let (mut host, mut server) = host(Limits { log_bytes: 10, ..Limits::BALANCED });
        for text in ["12345", "67890", "more"] {
            host.log("log", text.into()).unwrap();
        }
        drop(host);
        let mut seen = Vec::new();
        while let Ok(FromWorker::Log { level, text }) = server.receive(None) {
            seen.push((level, text));
        }
        assert_eq!(seen.len(), 2);
        assert_eq!(seen[0], ("log".into(), "12345".into()));
        assert_eq!(seen[1].0, "warn");
    }

    #[test]
    fn waiting_ends_at_the_wall_limit() {
        let (mut host, _server) = host(Limits { wall_ms: 5, ..Limits::BALANCED });
        host.timer(60_000).unwrap();
        assert_eq!(host.next().unwrap_err().kind, FaultKind::TimedOut);
    }
}
