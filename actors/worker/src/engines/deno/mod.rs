//! TypeScript and JavaScript on the host's Deno: oxc makes the module that runs, as for the built-in engine, and Deno runs it in a
//! process below this one ([`Held`]).
//!
//! The two speak JSON over the engine's input and output. The engine asks, this process answers: calls and timers get their
//! number, randomness comes from the run's seed, and once the engine has nothing ready to run it asks for the next answer. So what
//! the code observes is a function of the frames, as everywhere. What the engine says is believed no more than agent code is.
//!
//! Nothing inside the engine stops it, so its keeper does: at the limits of wall and CPU time, and of memory, which it looks at
//! every [`LOOK`].

mod modules;

use super::quickjs::faults::{Places, out_of_memory, placed};
use super::quickjs::natives::{Tools, operation};
use super::quickjs::{BRIDGE, CONSOLE, CRYPTO};
use super::{Engine, Outcome, SharedHost};
use crate::host::{self, fault};
use crate::jail::{Held, Layers, Plan, Program};
use crate::process;
use crate::source::script;
use athena_schemas::wire::{FRAME_MAX, Fault, FaultKind, Job};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::wait::WaitStatus;
use serde::{Deserialize, Serialize};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often the engine's memory and time are looked at.
const LOOK: Duration = Duration::from_millis(25);
/// How long it may take to start.
const START: Duration = Duration::from_secs(10);
/// What an engine touches for itself once it works, beside what it had when it was ready, bytes: its code, its compiler.
const OWN: u64 = 48 << 20;
/// The largest heap that V8 is told of, mebibytes. It counts only part of what code can take; the watch counts all.
const HEAP_MB: u32 = 2048;
/// Random numbers that are sent at once.
const DRAWN: usize = 256;

/// What is asked for: the program, and whether code gets all that Deno has. That is for attacks on the jail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    program: Program,
    pub(crate) open: bool,
}

/// Reads `PROGRAM:LOADER:LIBRARY:…`.
pub(crate) fn parse(value: &str) -> Option<Asked> {
    let absolute = |path: &str| Path::new(path).is_absolute().then(|| PathBuf::from(path));
    let mut paths = value.split(':').map(absolute);
    let (file, loader) = (paths.next()??, paths.next()??);
    let program = Program { file, loader, libraries: paths.collect::<Option<_>>()? };
    Some(Asked { program, open: false })
}

/// What the engine says.
#[derive(Debug, Deserialize)]
#[serde(tag = "say", rename_all = "lowercase")]
enum Said {
    Ready { deno: String, v8: String },
    Call { op: String, params: String, options: String },
    Timer { after_ms: f64 },
    Log { level: String, text: String },
    Floats,
    Bytes { count: u32 },
    Operation { path: String },
    Missing { path: String, name: String },
    Idle { over: bool },
    Done { value: String, state: Option<String> },
    Failed { name: String, message: String, stack: String, state: Option<String> },
}

/// What it is answered.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Told {
    Run(Box<Run>),
    Begun { call: u32 },
    Floats { floats: Vec<f64> },
    Bytes { bytes: Vec<u8> },
    Text { text: String },
    Answer { call: u32, ok: bool, json: String, clock: u64, elapsed: u64 },
    Finish { finish: bool },
}

/// One run, as the engine is told it.
#[derive(Debug, Serialize)]
struct Run {
    open: bool,
    clock: u64,
    tree: String,
    input: String,
    state: String,
    main: String,
    names: Vec<(String, String)>,
}

/// How a run ended, and its state where that could be told.
type End = (Result<String, Fault>, Option<String>);

/// Deno, at work in its jail.
pub(crate) struct Deno {
    held: Held,
    open: bool,
    version: String,
    /// Its memory when it was ready, bytes.
    base: u64,
    inbox: Vec<u8>,
    tools: Tools,
    places: Places,
}

impl Deno {
    /// Takes the first step of the jail with it; it is on its way then. The process must have one thread.
    pub(crate) fn start(plan: &Plan, asked: &Asked) -> Result<(Self, Layers), String> {
        let text = format!(
            "const makeConsole =\n{CONSOLE}\nconst makeBridge =\n{BRIDGE}\nconst makeCrypto =\n{CRYPTO}\n{}",
            include_str!("boot.js")
        );
        let heap =
            format!("--v8-flags=--max-old-space-size={HEAP_MB},--disallow-code-generation-from-strings");
        let mut arguments = vec!["deno", "run", "--quiet", "--no-prompt", "--cached-only", "--no-config"];
        arguments.extend(["--no-npm", "--no-remote", "--no-lock", "--no-code-cache"]);
        if asked.open {
            arguments.push("--allow-all");
        }
        let program = modules::program(&text);
        arguments.extend([heap.as_str(), program.as_str()]);
        let arguments: Vec<String> = arguments.into_iter().map(str::to_owned).collect();
        let environment = [
            "LD_LIBRARY_PATH=/lib",
            // Neither is there; without them it would ask who it is.
            "HOME=/",
            "DENO_DIR=/none",
            "NO_COLOR=1",
            "DENO_NO_UPDATE_CHECK=1",
            "TZ=UTC",
        ];
        let (held, layers) = Held::start(plan, &asked.program, &arguments, &environment)?;
        let engine = Self {
            held,
            open: asked.open,
            version: String::new(),
            base: 0,
            inbox: Vec::new(),
            tools: Tools::default(),
            places: Places::default(),
        };
        Ok((engine, layers))
    }

    /// Shuts the jail round this process, and waits until the engine is ready.
    pub(crate) fn shut(&mut self, plan: &Plan, layers: &mut Layers) -> Result<(), String> {
        self.held.shut(plan, layers)?;
        let deadline = Instant::now() + START;
        loop {
            if let Some(said) = self.take()? {
                let Said::Ready { deno, v8 } = said else {
                    return Err("Deno began with something else than that it is ready".into());
                };
                self.version = format!("deno {} (v8 {})", short(&deno), short(&v8));
                self.base = self.held.resident().unwrap_or_default();
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(format!("Deno was not ready within {} s", START.as_secs()));
            }
            if !self.more(LOOK) {
                let ended = self.held.ended();
                let words = self.held.last_words();
                return Err(format!("Deno does not start in the jail ({ended:?}) {}", words.trim()));
            }
        }
    }

    /// From source to JSON.
    fn whole(&mut self, job: &Job, host: &SharedHost) -> Result<End, Fault> {
        let emitted = script::emit_run(job.language, &job.code)?;
        let (main, names) = modules::Modules::new(host, &self.places).link(emitted)?;
        let run = Run {
            open: self.open,
            clock: host.borrow().clock_ms(),
            tree: self.tools.tree(),
            input: job.input.clone(),
            state: job.state.clone(),
            main,
            names: names.into_iter().collect(),
        };
        self.tell(&Told::Run(Box::new(run)));
        loop {
            match self.hear(job, host)? {
                Said::Call { op, params, options } => {
                    let call = host.borrow_mut().call(op, params, options)?;
                    self.tell(&Told::Begun { call });
                }
                Said::Timer { after_ms } => {
                    let after_ms = after_ms.clamp(0.0, f64::from(i32::MAX)) as u64;
                    let call = host.borrow_mut().timer(after_ms)?;
                    self.tell(&Told::Begun { call });
                }
                Said::Log { level, text } => host.borrow_mut().log(&level, text)?,
                Said::Floats => {
                    let floats = (0..DRAWN).map(|_| self.tools.random()).collect();
                    self.tell(&Told::Floats { floats });
                }
                Said::Bytes { count } => self.tell(&Told::Bytes { bytes: self.tools.random_bytes(count) }),
                Said::Operation { path } => self.tell(&Told::Text { text: operation(&path) }),
                Said::Missing { path, name } => {
                    let text = self.tools.missing(&path, &name);
                    self.tell(&Told::Text { text });
                }
                Said::Idle { over } => {
                    let told = self.next(job, host, over)?;
                    self.tell(&told);
                }
                Said::Done { value, state } => return Ok((Ok(value), state)),
                Said::Failed { name, message, stack, state } => {
                    return Ok((Err(placed(name, message, &stack, &self.places)), state));
                }
                Said::Ready { .. } => process::exit(process::USAGE),
            }
        }
    }

    /// What the engine is told when it has nothing to do. `over`: the code has come to its end; calls that nobody awaits are
    /// finished all the same, timers are not.
    fn next(&self, job: &Job, host: &SharedHost, over: bool) -> Result<Told, Fault> {
        if over && !host.borrow().calls_open() {
            return Ok(Told::Finish { finish: true });
        }
        if !host.borrow().waiting() {
            let message = "the code awaits a promise that nothing will ever settle: no call or timer is open";
            return Err(fault(FaultKind::Thrown, "DeadlockError", message));
        }
        while !host.borrow().ready(LOOK.min(host.borrow().left())) {
            self.look(job, host)?;
        }
        let mut host = host.borrow_mut();
        let (call, result) = host.next()?.into_parts();
        let (ok, json) = match result {
            Ok(json) => (true, json),
            Err(json) => (false, json),
        };
        Ok(Told::Answer { call, ok, json, clock: host.clock_ms(), elapsed: host.elapsed_ms() })
    }

    /// The next frame of the engine, while its limits are kept.
    fn hear(&mut self, job: &Job, host: &SharedHost) -> Result<Said, Fault> {
        loop {
            match self.take() {
                Ok(Some(said)) => return Ok(said),
                Ok(None) => {}
                Err(_) => process::exit(process::USAGE),
            }
            let left = host.borrow().left();
            if !self.more(LOOK.min(left)) {
                return Err(self.gone(job));
            }
            self.look(job, host)?;
        }
    }

    /// Whether a limit is passed.
    fn look(&self, job: &Job, host: &SharedHost) -> Result<(), Fault> {
        if let Some(fault) = host.borrow_mut().verdict() {
            return Err(fault);
        }
        if self.held.cpu_time() >= Duration::from_millis(job.limits.cpu_ms) {
            return Err(host.borrow_mut().doom(host::timed_out("CPU time", job.limits.cpu_ms)));
        }
        let limit = self.base + OWN + (u64::from(job.limits.memory_mb) << 20);
        if self.held.resident().is_some_and(|bytes| bytes > limit) {
            return Err(host.borrow_mut().doom(out_of_memory()));
        }
        Ok(())
    }

    /// What the end of the engine by itself means; where it is no end of code, this process ends the same way.
    fn gone(&mut self, job: &Job) -> Fault {
        match self.held.ended() {
            WaitStatus::Signaled(_, Signal::SIGKILL, _) => out_of_memory(),
            WaitStatus::Signaled(_, Signal::SIGXCPU, _) => host::timed_out("CPU time", job.limits.cpu_ms),
            WaitStatus::Signaled(_, signal, _) => {
                let words = self.held.last_words();
                if words.contains("out of memory") || words.contains("heap limit") {
                    return out_of_memory();
                }
                process::exit(128 + signal as i32)
            }
            _ => process::exit(process::ABORTED),
        }
    }

    /// Reads more of what the engine says, if something comes within this long; false where nothing will any more.
    fn more(&mut self, patience: Duration) -> bool {
        let patience = PollTimeout::try_from(patience.as_micros().div_ceil(1_000) as i32);
        let polled = poll(
            &mut [PollFd::new(self.held.link.as_fd(), PollFlags::POLLIN)],
            patience.unwrap_or(PollTimeout::ZERO),
        );
        match polled {
            Ok(0) | Err(nix::errno::Errno::EINTR) => true,
            Ok(_) => {
                let mut bytes = [0; 16 << 10];
                match self.held.link.read(&mut bytes) {
                    Ok(0) | Err(_) => false,
                    Ok(length) => {
                        self.inbox.extend_from_slice(bytes.get(..length).unwrap_or_default());
                        true
                    }
                }
            }
            Err(_) => false,
        }
    }

    /// A whole frame out of what was read.
    fn take(&mut self) -> Result<Option<Said>, String> {
        let Some((head, rest)) = self.inbox.split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_le_bytes(*head);
        if length > FRAME_MAX {
            return Err(format!("a frame of {length} bytes"));
        }
        let Some(body) = rest.get(..length as usize) else { return Ok(None) };
        let said = serde_json::from_slice(body).map_err(|error| error.to_string())?;
        self.inbox.drain(..4 + length as usize);
        Ok(Some(said))
    }

    /// Answers the engine. One that is gone is found out by what it says next.
    fn tell(&mut self, told: &Told) {
        let mut frame = vec![0; 4];
        if serde_json::to_writer(&mut frame, told).is_err() {
            process::exit(process::USAGE);
        }
        let length = (frame.len() - 4) as u32;
        if let Some(head) = frame.first_chunk_mut::<4>() {
            *head = length.to_le_bytes();
        }
        let _ = self.held.link.write_all(&frame);
    }
}

impl Engine for Deno {
    fn version(&self) -> String {
        self.version.clone()
    }

    fn run(&mut self, job: &Job, host: &SharedHost) -> Outcome {
        self.held.limit_cpu(Duration::from_millis(job.limits.cpu_ms));
        self.tools.load(&job.namespaces);
        self.tools.seed(job.seed);
        let (result, state) = self.whole(job, host).unwrap_or_else(|fault| (Err(fault), None));
        // Whatever it still does, it does for nobody.
        self.held.end();
        let result = match host.borrow_mut().verdict() {
            Some(fault) => Err(fault),
            None => result,
        };
        let state = state.unwrap_or_else(|| job.state.clone());
        Outcome { result: result.map_err(|fault| self.tools.explain(fault)), state }
    }
}

/// A version, as records name it.
fn short(version: &str) -> &str {
    version.get(..version.floor_char_boundary(40)).unwrap_or_default()
}
