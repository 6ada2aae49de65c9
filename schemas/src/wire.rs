//! What the server and a sandbox worker say to each other over their socketpair.
//!
//! A frame is a length (u32, little-endian, at most [`FRAME_MAX`]) and one postcard value. JSON travels as text inside it:
//! the worker is hostile ground, so the server parses what it says with the usual bounds.
//!
//! What code can observe is a function of the frames sent to it: the clock moves only with [`ToWorker::Answer`], randomness
//! comes from the job's seed, and answers and timers arrive in the order they were recorded. That is what makes replay exact.

use crate::risk::{Limits, Risk};
use serde::{Deserialize, Serialize};

/// The largest frame, bytes.
pub const FRAME_MAX: u32 = 16 << 20;

/// A language of agent code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    /// TypeScript.
    #[serde(alias = "ts")]
    TypeScript,
    /// JavaScript.
    #[serde(alias = "js")]
    JavaScript,
    /// Python.
    #[serde(alias = "py")]
    Python,
}

/// Server to worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ToWorker {
    /// Judge code; answered by [`FromWorker::Analysis`].
    Analyze {
        /// Its language.
        language: Language,
        /// The source.
        code: String,
    },
    /// Run code; answered by [`FromWorker::Done`], after any number of calls. A worker runs one job and ends.
    Run(Box<Job>),
    /// The answer to a call or a timer.
    Answer {
        /// Which one.
        call: u32,
        /// JSON: the value, or the refusal.
        result: Result<String, String>,
        /// The run's clock from now on, milliseconds since 1970.
        clock_ms: u64,
    },
    /// The globals that the job will probably have, while nobody waits; not answered.
    Prepare(Vec<Namespace>),
}

/// One execution.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Its language.
    pub language: Language,
    /// The source, as judged.
    pub code: String,
    /// The `input` global, JSON.
    pub input: String,
    /// The `session.state` global, JSON.
    pub state: String,
    /// Where `Math.random`, `crypto.randomUUID` and Python's hash seed come from.
    pub seed: [u8; 32],
    /// The clock at the start, milliseconds since 1970.
    pub clock_ms: u64,
    /// What it may use up.
    pub limits: Limits,
    /// Names under which tools are reachable as globals: `athena` and each upstream server, with the paths of their tools.
    pub namespaces: Vec<Namespace>,
    /// Whether they are those the worker was prepared with, and left out here.
    pub prepared: bool,
}

/// A global object whose members are tools, such as `athena.semantic.search` or `github.create_issue`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Namespace {
    /// The global's name, an identifier.
    pub name: String,
    /// Members: path below the global (`semantic.search`) and the operation it calls (`semantic/search`).
    pub members: Vec<(String, String)>,
}

/// Worker to server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum FromWorker {
    /// The jail is shut and the engines are warm.
    Ready(Ready),
    /// What the code is.
    Analysis(Box<Assessment>),
    /// A host call: `layer/operation`, `server/tool`, or one of the house's own (`files/list`, `files/read`, `files/module`,
    /// `tools/search`, `tools/definition`).
    Call {
        /// Number within the run, from 1, in program order.
        call: u32,
        /// The operation.
        op: String,
        /// Its parameters, JSON.
        params: String,
        /// `{scope, idempotency_key, at_seq}` of the call, JSON; empty where the code gave none.
        options: String,
    },
    /// A timer: answer it after this long. It counts as a call and shares the numbering.
    Timer {
        /// Number within the run.
        call: u32,
        /// Milliseconds from now.
        after_ms: u64,
    },
    /// A console line; before [`Ready`](Self::Ready), why the worker does not start.
    Log {
        /// `log`, `info`, `warn`, `error` or `debug`.
        level: String,
        /// The text.
        text: String,
    },
    /// The end.
    Done(Box<Finish>),
    /// The end, by the kernel: the code got as far as a forbidden system call, which was not made.
    Trapped {
        /// Its number, on this machine's architecture.
        call: u32,
    },
}

/// What a worker can do and how it is held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// The jail's level, such as `full` (namespaces and seccomp), `seccomp`, `wide` (namespaces and a filter that forbids by a
    /// list), `reduced`.
    pub level: String,
    /// The layers that hold.
    pub layers: Vec<String>,
    /// Engine names and versions.
    pub engines: Vec<String>,
}

/// How a run ended, as the worker sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finish {
    /// JSON of the value, or the error.
    pub result: Result<String, Fault>,
    /// `session.state` at the end, JSON.
    pub state: String,
    /// CPU time used, microseconds.
    pub cpu_us: u64,
    /// Peak engine heap, bytes.
    pub heap_bytes: u64,
    /// The engine that ran it, such as `quickjs`, `monty`, `cpython`.
    pub engine: String,
}

/// An error of agent code, placed in the agent's source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// What ended the run.
    pub kind: FaultKind,
    /// The error's type, such as `TypeError`.
    pub name: String,
    /// What it says.
    pub message: String,
    /// Line in the agent's source, from 1; 0 where unknown.
    pub line: u32,
    /// Column in the agent's source, from 1; 0 where unknown.
    pub column: u32,
    /// The stack, in the agent's source.
    pub stack: String,
}

/// What ended a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FaultKind {
    /// It does not parse.
    Syntax,
    /// It threw.
    Thrown,
    /// The wall or CPU time was up.
    TimedOut,
    /// The heap was full.
    OutOfMemory,
    /// A limit of the run: calls, result, logs.
    Limit,
    /// No engine here can run it; the message names the construct.
    Unsupported,
}

/// What static analysis says of code. It informs; it never grants anything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assessment {
    /// How much harm it can do.
    pub level: Risk,
    /// Why, worst first.
    pub reasons: Vec<Reason>,
    /// What it asks for: operations, namespaces and imports it names, such as `semantic/search`, `github/*`.
    pub capabilities: Vec<String>,
    /// Byte ranges of string, template and comment contents: where sensitive values can be replaced by tokens.
    pub literals: Vec<(u32, u32)>,
    /// Where it does not parse.
    pub syntax: Option<Fault>,
    /// What of it the engine in the worker cannot run, or may run otherwise than the language says: an engine that knows
    /// the whole language is to run it, where there is one.
    pub beyond: Option<Fault>,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// Its rule, such as `code-generation`.
    pub rule: String,
    /// How much harm this alone can do.
    pub level: Risk,
    /// What was found, in a sentence.
    pub message: String,
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1.
    pub column: u32,
}
