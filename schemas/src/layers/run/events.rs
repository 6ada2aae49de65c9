//! What is put on record of a run.

use super::{Doubt, Metrics, Status};
use crate::context::Scope;
use crate::id::Id;
use crate::risk::{Limits, Risk};
use crate::wire::Language;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A text on record: small ones in place, large ones by their content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Text {
    /// In place.
    Inline(String),
    /// In a [`BlobKept`] of this hash (BLAKE3, hex).
    Blob {
        /// The hash.
        hash: String,
        /// The size, bytes.
        bytes: u64,
    },
}

/// Code was handed in and judged. Whether it also ran is for later events to say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// The run.
    pub run: Id,
    /// The run whose code started it (a procedure that executes another).
    pub parent: Option<Id>,
    /// What its caller could see at most, and so what its calls can; the scope of the event is what they mean by default.
    pub holds: Scope,
    /// The language.
    pub language: Language,
    /// The source; sensitive values in its literals are tokens.
    pub code: Text,
    /// BLAKE3 of that source, hex.
    pub code_hash: String,
    /// The `input` global, JSON.
    pub input: Text,
    /// Where randomness and ids come from.
    pub seed: [u8; 32],
    /// The clock at the start, milliseconds since 1970.
    pub clock_ms: u64,
    /// What it may use up.
    pub limits: Limits,
    /// The session whose state it sees.
    pub session: Option<SessionRef>,
    /// `session.state` at the start, JSON.
    pub state: Text,
    /// The globals and their members, JSON.
    pub surface: Text,
    /// How much harm the guard thinks it can do.
    pub risk: Risk,
    /// Why, worst first.
    pub reasons: Vec<String>,
    /// What it asks for.
    pub capabilities: Vec<String>,
    /// Sensitive values replaced in code and input.
    pub tokenized: u32,
    /// The build that recorded it.
    pub build: String,
    /// The jail's level.
    pub jail: String,
    /// The engines at hand, with their versions.
    pub engines: Vec<String>,
}

/// A session as a run sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRef {
    /// Its key.
    pub key: String,
    /// The name its caller gave it.
    pub name: String,
    /// How many runs had changed its state.
    pub version: u64,
}

/// What a call can do to the world: what must be on disk before it leaves, and whether it may be repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Effect {
    /// Changes nothing.
    ReadOnly,
    /// A command of ours: carries an id, applied once however often it is sent.
    Command,
    /// Somebody else's, and said to be the same done twice as once.
    Idempotent,
    /// Somebody else's, and done twice it may happen twice.
    Unknown,
}

/// The code made a host call. On disk before the call leaves where its effect demands it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Called {
    /// Its number within the run.
    pub call: u32,
    /// The operation.
    pub op: String,
    /// Its parameters, JSON.
    pub params: Text,
    /// Its options, JSON; empty where there were none.
    pub options: String,
    /// What it can do.
    pub effect: Effect,
}

/// The code was answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answered {
    /// The call.
    pub call: u32,
    /// The value or the refusal, JSON, as the code sees it.
    pub result: Result<Text, Text>,
    /// The run's clock from here on.
    pub clock_ms: u64,
}

/// The code set a timer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimerSet {
    /// Its number; timers share the numbering of calls.
    pub call: u32,
    /// After how long it goes off, milliseconds.
    pub after_ms: u64,
}

/// A timer went off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimerFired {
    /// The timer.
    pub call: u32,
    /// The run's clock from here on.
    pub clock_ms: u64,
}

/// The run ended its process and waits for a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// The call it waits at; 0 before the first.
    pub call: u32,
    /// What for.
    pub why: Why,
    /// In a sentence.
    pub message: String,
}

/// What a run waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Why {
    /// A person's yes.
    Approval(Id),
    /// A person's word on a call whose outcome is not known.
    Uncertain,
}

/// The run goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resumed {
    /// What was decided about the call whose outcome was not known; `None` where there was none.
    pub uncertain: Option<Doubt>,
    /// The build that goes on.
    pub build: String,
}

/// The run's daemon died and another one found it unfinished.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interrupted {
    /// The run.
    pub run: Id,
}

/// What kind of bound the code ran against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// A forbidden system call on files.
    File,
    /// A forbidden system call on sockets.
    Network,
    /// A forbidden system call on processes, or any other one.
    Process,
    /// More memory than it had.
    Memory,
    /// More time than it had, without stopping when told.
    Time,
    /// Bytes that are not the protocol, or too many of them.
    Protocol,
    /// Calls it may not make.
    Call,
}

impl Bound {
    /// As it is printed and counted.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Network => "network",
            Self::Process => "process",
            Self::Memory => "memory",
            Self::Time => "time",
            Self::Protocol => "protocol",
            Self::Call => "call",
        }
    }
}

/// The code ran against a bound of the jail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violated {
    /// Which.
    pub bound: Bound,
    /// What was seen: the signal, the operation, the size.
    pub detail: String,
    /// Whether it looks like an attempt to carry data out.
    pub exfiltration: bool,
}

/// The run is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finished {
    /// How.
    pub status: Status,
    /// What it returned, JSON.
    pub value: Option<Text>,
    /// Why it did not complete.
    pub error: Option<Failure>,
    /// Console lines.
    pub logs: Vec<Line>,
    /// `session.state` at the end, JSON; `None` where it was not changed.
    pub state: Option<Text>,
    /// Sensitive values replaced in value, logs and error.
    pub tokenized: u32,
    /// The engine that ran it.
    pub engine: String,
    /// What it used up.
    pub metrics: Metrics,
}

/// Why a run did not complete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The error's type.
    pub name: String,
    /// What it says.
    pub message: String,
    /// Line in the source, from 1; 0 where unknown.
    pub line: u32,
    /// Column in the source, from 1; 0 where unknown.
    pub column: u32,
    /// The stack.
    pub stack: String,
    /// What to try.
    pub hint: String,
}

/// A console line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// How many answers and timers the code had been given before it.
    pub after: u32,
    /// Its level.
    pub level: String,
    /// Its text.
    pub text: String,
}

/// A large text was kept under its content's hash, once per scope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobKept {
    /// BLAKE3, hex.
    pub hash: String,
    /// The text.
    pub text: String,
}

/// A run changed the state of its session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateSaved {
    /// The session's key.
    pub key: String,
    /// The name its caller gave it.
    pub name: String,
    /// Whom it is bound to.
    pub owner: String,
    /// How many runs have changed it, this one included.
    pub version: u64,
    /// The run.
    pub run: Id,
    /// The whole state, JSON.
    pub state: Text,
}

/// The state of a session was forgotten.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionExpired {
    /// The session's key.
    pub key: String,
}
