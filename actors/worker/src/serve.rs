//! A worker from its first instruction to its last.
#![expect(unsafe_code, reason = "the socket arrives as a bare descriptor")]

use crate::cpython::{self, Interpreter};
use crate::engines::deno::{self, Deno};
use crate::engines::monty::Monty;
use crate::engines::quickjs::{self, QuickJs};
use crate::engines::{Engine, Outcome};
use crate::host::{self, Host};
use crate::jail::{self, Layers, Level, Plan, SOCKET};
use crate::wire::{Link, LinkError};
use crate::{analysis, memory, process, source, wire, zygote};
use athena_schemas::wire::{FRAME_MAX, FaultKind, Finish, FromWorker, Job, Language, Ready, ToWorker};
use std::cell::RefCell;
use std::io::Read;
use std::os::fd::FromRawFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;

/// Runs a worker; never returns.
///
/// # What the parent provides
///
/// * Arguments: `__worker` (first, already consumed or not), then any of `--level full|seccomp|none` (the highest to try for;
///   `full`), `--least full|seccomp|none` (the lowest to run code at; `seccomp`. `none` means hostile code is kept in by
///   nothing but its language), `--address-space-mb N` (1024), `--cpu-s N` (600), `--zygote yes|no` (`no`; with `yes` the
///   process makes workers instead of being one, and descriptor 3 is a socket of packets: see `zygote.rs`), `--python
///   PROGRAM:PREFIX` (such a zygote that is a CPython), `--deno PROGRAM:LOADER:LIBRARY:…` (a worker that keeps a Deno; it
///   waits for one byte on its socket first, until it stands where it shall), `--deno-open yes` (with every permission and
///   global of Deno's: for attacks on its jail).
/// * Descriptor 3: one end of a Unix stream socketpair. Every other descriptor is closed.
/// * An empty environment. The worker clears what it finds, but the kernel keeps the first copy readable to its own process.
/// * A thread to be forked from that lives as long as the worker may: the kernel kills the worker when that thread ends.
///
/// # How it ends
///
/// With 0 after its job or when the socket closes; [`crate::JAIL_FAILED`] where the jail cannot be shut as far as `--least`;
/// [`crate::OUT_OF_MEMORY`]; [`crate::FORBIDDEN`] after a frame that names the system call; [`crate::ABORTED`];
/// [`crate::USAGE`]; 128 + N (or by the signal itself below level `full`, or when a zygote made it) when signal N ended it:
/// SIGKILL and SIGXCPU are a limit, SIGSEGV an engine's failure, SIGSYS (31) a forbidden call that could not be named.
pub fn main(args: impl Iterator<Item = String>) -> ! {
    let Some(Asked { plan, zygote, interpreter, deno }) = asked(args) else { process::exit(process::USAGE) };
    memory::end_when_full();
    // An engine that panics must not write: there is nowhere to, and the fault says what happened.
    std::panic::set_hook(Box::new(|_| {}));
    jail::prepare();
    if let Some(interpreter) = interpreter {
        cpython::enter(&plan, &interpreter);
    }
    // Libraries look around when first used (processors, the stack's end in /proc). They must see what is there now.
    let Ok(mut engines) = Engines::warm() else { process::exit(process::JAIL_FAILED) };
    if let Some(deno) = deno {
        keep(&plan, &deno, engines);
    }
    let mut layers = if zygote { zygote::workers(&plan) } else { jail::enter(&plan) };
    jail::shut(&plan, &mut layers);
    if layers.level() < plan.least {
        process::exit(process::JAIL_FAILED);
    }
    let ready = ready(layers.level().as_str(), &layers, &engines);
    // SAFETY: descriptor 3 is the socket by contract, and nothing else here owns it.
    let link = Link::new(unsafe { UnixStream::from_raw_fd(SOCKET) });
    serve(link, &mut engines, ready)
}

/// Runs a worker that keeps a Deno. Where that cannot be held it says why.
fn keep(plan: &Plan, asked: &deno::Asked, mut engines: Engines) -> ! {
    // SAFETY: descriptor 3 is the socket by contract, and nothing else here owns it.
    let mut socket = unsafe { UnixStream::from_raw_fd(SOCKET) };
    if socket.read_exact(&mut [0]).is_err() {
        process::exit(0);
    }
    let held = Deno::start(plan, asked).and_then(|(mut deno, mut layers)| {
        deno.shut(plan, &mut layers)?;
        Ok((deno, layers))
    });
    let mut link = Link::new(socket);
    match held {
        Ok((deno, layers)) => {
            engines.deno = Some(deno);
            let ready = ready(WIDE, &layers, &engines);
            serve(link, &mut engines, ready)
        }
        Err(text) => {
            let _ = link.send(&FromWorker::Log { level: "error".into(), text });
            process::exit(process::JAIL_FAILED)
        }
    }
}

/// The level of a jail whose filter forbids by a list, behind namespaces and a root of libraries.
const WIDE: &str = "wide";

fn ready(level: &str, layers: &Layers, engines: &Engines) -> Ready {
    Ready { level: level.to_owned(), layers: layers.names(), engines: engines.versions() }
}

/// What the arguments ask for.
#[derive(Default)]
struct Asked {
    plan: Plan,
    zygote: bool,
    interpreter: Option<Interpreter>,
    deno: Option<deno::Asked>,
}

/// Reads the arguments; none where they make no sense.
fn asked(args: impl Iterator<Item = String>) -> Option<Asked> {
    let mut asked = Asked::default();
    let plan = &mut asked.plan;
    let mut args = args.skip_while(|arg| arg == crate::WORKER);
    while let Some(name) = args.next() {
        let value = args.next()?;
        match name.as_str() {
            "--level" => plan.level = Level::parse(&value)?,
            "--least" => plan.least = Level::parse(&value)?,
            "--address-space-mb" => plan.address_space = value.parse::<u64>().ok()?.checked_mul(1 << 20)?,
            "--cpu-s" => plan.cpu_s = value.parse().ok()?,
            "--zygote" => asked.zygote = value == "yes",
            "--deno" => asked.deno = Some(deno::parse(&value)?),
            "--deno-open" => asked.deno.as_mut()?.open = value == "yes",
            "--python" => asked.interpreter = Some(cpython::parse(&value)?),
            _ => return None,
        }
    }
    Some(asked)
}

/// The engines of a worker.
struct Engines {
    quickjs: QuickJs,
    monty: Monty,
    /// The host's, in the place of the one for its languages.
    deno: Option<Deno>,
}

impl Engines {
    /// Creates every engine and lets it do what it will later be forbidden to.
    fn warm() -> Result<Self, String> {
        let quickjs = QuickJs::new()?;
        source::script::emit_run(Language::TypeScript, "const warm: number = 1; warm")
            .map_err(|fault| fault.message)?;
        // The parser asks where its stack ends, which glibc reads from /proc the first time.
        source::python::parse("warm = [1 + 2 * (3 - f(4))]").map_err(|fault| fault.message)?;
        Ok(Self { quickjs, monty: Monty::new()?, deno: None })
    }

    /// Does once, with code of ours, what every run does. A worker is a copy of a process, and the first touch of each page costs
    /// it more than small code takes to run: what is touched here nobody's code has to wait for. (Python shares most of it.)
    fn rehearse(&mut self) {
        let assessment = analysis::assess(Language::TypeScript, quickjs::REHEARSAL);
        debug_assert!(assessment.syntax.is_none(), "{assessment:?}");
        let rehearsed = self.quickjs.rehearse();
        debug_assert!(rehearsed.is_ok(), "{rehearsed:?}");
    }

    fn versions(&self) -> Vec<String> {
        match &self.deno {
            Some(deno) => vec![deno.version()],
            None => vec![self.quickjs.version(), self.monty.version()],
        }
    }

    /// The engine for a job.
    fn choose(&mut self, language: Language) -> &mut dyn Engine {
        match (language, &mut self.deno) {
            (Language::Python, _) => &mut self.monty,
            (_, Some(deno)) => deno,
            (_, None) => &mut self.quickjs,
        }
    }
}

/// Answers frames until the job is done or nobody asks any more. Nothing is dropped at the end, it is exited from.
fn serve(mut link: Link, engines: &mut Engines, ready: Ready) -> ! {
    let mut reply = link.send(&FromWorker::Ready(ready));
    // Always, and not only while nobody asks: all code begins in the same engine.
    engines.rehearse();
    let mut prepared = Vec::new();
    loop {
        let frame = reply.and_then(|()| link.receive::<ToWorker>(None));
        reply = match frame {
            Ok(ToWorker::Analyze { language, code }) => {
                link.send(&FromWorker::Analysis(Box::new(analysis::assess(language, &code))))
            }
            Ok(ToWorker::Prepare(namespaces)) => {
                engines.quickjs.prepare(&namespaces);
                prepared = namespaces;
                Ok(())
            }
            Ok(ToWorker::Run(mut job)) => {
                if job.prepared {
                    job.namespaces = prepared;
                }
                run(link, engines, &job)
            }
            // An answer to nothing.
            Ok(ToWorker::Answer { .. }) => Ok(()),
            Err(LinkError::Closed) => process::exit(0),
            Err(_) => process::exit(process::USAGE),
        }
    }
}

/// Runs the job, sends how it ended, and ends.
fn run(link: Link, engines: &mut Engines, job: &Job) -> ! {
    jail::limit_cpu(Duration::from_millis(job.limits.cpu_ms));
    let cpu_before = process::cpu_time();
    let heap_before = process::peak_memory();
    let host = Rc::new(RefCell::new(Host::new(link, job.limits, job.clock_ms)));
    let (engine, outcome) = execute(engines, job, &host);
    let used = process::cpu_time().saturating_sub(cpu_before) + process::cpu_time_below();
    let finish = Finish {
        result: outcome.result,
        state: outcome.state,
        cpu_us: u64::try_from(used.as_micros()).unwrap_or(u64::MAX),
        heap_bytes: process::peak_memory().saturating_sub(heap_before),
        engine,
    };
    let sent = host.borrow_mut().done(fitting(finish, job));
    process::exit(if sent.is_ok() { 0 } else { process::USAGE })
}

fn execute(engines: &mut Engines, job: &Job, host: &crate::engines::SharedHost) -> (String, Outcome) {
    let refused = |fault| Outcome { result: Err(fault), state: job.state.clone() };
    if let Err(fault) = source::within(&job.code, job.limits.source_bytes) {
        return (String::new(), refused(fault));
    }
    let engine = engines.choose(job.language);
    let version = engine.version();
    memory::arm((job.limits.memory_mb as usize) << 20, last_words(job, &version));
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| engine.run(job, host)));
    let outcome = outcome.unwrap_or_else(|_| {
        let message = "the engine failed on this code; nothing outside the run is affected";
        refused(host::fault(FaultKind::Thrown, "EngineError", message))
    });
    (version, outcome)
}

/// The frame that says the heap is full, ready to be sent by an allocator that has nothing left.
fn last_words(job: &Job, engine: &str) -> Vec<u8> {
    let message = "the run filled its heap; hold less at once, or raise limits.memory_mb";
    let finish = Finish {
        result: Err(host::fault(FaultKind::OutOfMemory, "MemoryError", message)),
        state: job.state.clone(),
        cpu_us: job.limits.cpu_ms.saturating_mul(1_000),
        heap_bytes: u64::from(job.limits.memory_mb) << 20,
        engine: engine.to_owned(),
    };
    wire::frame(&FromWorker::Done(Box::new(finish)), Vec::new()).unwrap_or_default()
}

/// A finish that a frame can carry. The server cuts values over `limits.result_bytes` into previews; only what could never
/// reach it fails here.
fn fitting(mut finish: Finish, job: &Job) -> Finish {
    const SHARE: usize = FRAME_MAX as usize / 2 - (64 << 10);
    let over = |what: &str, bytes: usize| {
        let message = format!(
            "the {what} has {bytes} bytes, more than the {SHARE} a run can hand back; store it with a call"
        );
        host::fault(FaultKind::Limit, "LimitError", message)
    };
    if let Ok(value) = &finish.result
        && value.len() > SHARE
    {
        finish.result = Err(over("value", value.len()));
    }
    if finish.state.len() > SHARE {
        finish.result = Err(over("session state", finish.state.len()));
        finish.state.clone_from(&job.state);
    }
    if let Err(fault) = &mut finish.result {
        shorten(&mut fault.message);
        shorten(&mut fault.stack);
        shorten(&mut fault.name);
    }
    finish
}

/// Cuts a text that nobody will read to its end.
fn shorten(text: &mut String) {
    const LONGEST: usize = 16 << 10;
    if text.len() > LONGEST {
        text.truncate(text.floor_char_boundary(LONGEST));
        text.push('…');
    }
}
