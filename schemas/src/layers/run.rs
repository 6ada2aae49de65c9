//! Runs: one execution of agent code each, recorded call by call in a stream of its own (`run/<id>`).
//!
//! The record is what makes a run durable and replayable: what the code could observe is a function of [`Started`] and of the
//! order of [`Answered`] and [`TimerFired`]. A run waits ([`Waiting`]) without a process, and ends in [`Finished`] once.

use crate::context::Scope;
use crate::envelope::Seq;
use crate::id::Id;
use crate::layers::common::{Time, ten};
use crate::operation::{Audience, Operation, Traits};
use crate::risk::{Limits, Risk};
use crate::wire::Language;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

crate::layer! {
    run {
        commands { }
        queries { list: List, show: Show, sessions: Sessions, violations: Violations }
        services { execute: Execute, resume: Resume, cancel: Cancel, replay: Replay, expire: Expire }
    }
}

crate::events! {
    /// What happens in a run and to the state of its session.
    run {
        Started = 0x1001 "started" v 1 {},
        Called = 0x1002 "called" v 1 {},
        Answered = 0x1003 "answered" v 1 {},
        TimerSet = 0x1004 "timer_set" v 1 {},
        TimerFired = 0x1005 "timer_fired" v 1 {},
        Waiting = 0x1006 "waiting" v 1 {},
        Resumed = 0x1007 "resumed" v 1 {},
        Interrupted = 0x1008 "interrupted" v 1 {},
        Violated = 0x1009 "violated" v 1 {},
        Finished = 0x100a "finished" v 1 {},
        BlobKept = 0x100b "blob_kept" v 1 {},
        StateSaved = 0x100c "state_saved" v 1 {},
        SessionExpired = 0x100d "session_expired" v 1 {},
    }
}

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Its worker is at work.
    Running,
    /// It gave its value.
    Completed,
    /// It threw, or did not parse.
    Failed,
    /// Its time was up.
    TimedOut,
    /// Its heap was full.
    OutOfMemory,
    /// Policy or a person said no.
    Denied,
    /// A person must say yes; then it goes on.
    ApprovalRequired,
    /// Whether an upstream call happened is not known; a person must say whether to repeat it.
    Uncertain,
    /// Its caller or a person stopped it.
    Cancelled,
    /// Its daemon died; it can be resumed.
    Interrupted,
    /// The jail killed it.
    Violated,
}

impl Status {
    /// Whether the run is over for good.
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Running | Self::ApprovalRequired | Self::Uncertain | Self::Interrupted)
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Operations

/// Run TypeScript, JavaScript or Python in the sandbox, or go on with a run that waited. `athena.*` and every tool are
/// callable from the code; top-level `await` and `return` work.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Execute {
    /// The source.
    pub code: Option<String>,
    /// Its language; detected where missing.
    pub language: Option<Language>,
    /// The `input` global, any JSON.
    #[serde(default)]
    #[schemars(schema_with = "crate::operation::any")]
    pub input: Value,
    /// Keeps `session.state` between runs of the same name.
    pub session: Option<String>,
    /// Instead of code: a run that waited or was interrupted.
    pub run: Option<Id>,
    /// Check TypeScript's types first, and run nothing where they do not fit; the settings decide where missing.
    pub check: Option<bool>,
    /// Runs TypeScript and JavaScript on another engine than the built-in one; none does by itself.
    pub engine: Option<Engine>,
    /// Lowers the limits; they cannot be raised.
    pub limits: Option<Wanted>,
}

/// An engine that a request may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// The host's Deno, where the settings permit it.
    Deno,
}

/// Limits as a request states them. They lower the tier's and never raise them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// Wall time, milliseconds.
    pub wall_ms: Option<u64>,
    /// CPU time, milliseconds.
    pub cpu_ms: Option<u64>,
    /// Heap, mebibytes.
    pub memory_mb: Option<u32>,
    /// Host calls.
    pub calls: Option<u32>,
}

impl Wanted {
    /// `limits`, lowered to what was asked for.
    #[must_use]
    pub fn lower(self, limits: Limits) -> Limits {
        limits.min(Limits {
            wall_ms: self.wall_ms.unwrap_or(u64::MAX),
            cpu_ms: self.cpu_ms.unwrap_or(u64::MAX),
            memory_mb: self.memory_mb.unwrap_or(u32::MAX),
            calls: self.calls.unwrap_or(u32::MAX),
            ..limits
        })
    }
}

impl Operation for Execute {
    type Returns = Outcome;
    const TRAITS: Traits = Traits {
        risk: Risk::Medium,
        sensitive: true,
        cost: 10,
        tags: &["code", "script", "run"],
        example: r#"{"code": "return 1 + 1", "language": "javascript"}"#,
        ..Traits::DEFAULT
    };
}

/// Go on with a run that was interrupted, approved, or is uncertain: it is re-executed from its record and goes on live
/// where the record ends. No recorded call is made again.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Resume {
    /// The run.
    pub run: Id,
    /// What to do about an upstream call whose outcome is not known.
    pub uncertain: Option<Doubt>,
}

/// What to do about a call whose outcome is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Doubt {
    /// Make the call again: it may happen twice.
    Repeat,
    /// Tell the code that the outcome is unknown; the call is not made again.
    Fail,
}

impl Operation for Resume {
    type Returns = Outcome;
    const TRAITS: Traits = Traits {
        risk: Risk::Medium,
        audience: Audience::Human,
        sensitive: true,
        cost: 10,
        example: r#"{"run": "run_01k9zq3v8m5x2r7t4w6y1b0c9d"}"#,
        ..Traits::DEFAULT
    };
}

/// Stop a run: its worker is killed and its upstream calls are cancelled. What it has done stays done.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cancel {
    /// The run.
    pub run: Id,
}

impl Operation for Cancel {
    type Returns = Cancelled;
    const TRAITS: Traits = Traits {
        audience: Audience::Human,
        example: r#"{"run": "run_01k9zq3v8m5x2r7t4w6y1b0c9d"}"#,
        ..Traits::DEFAULT
    };
}

/// A run after the wish to cancel it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Cancelled {
    /// The run.
    pub run: Id,
    /// Where it stands now.
    pub status: Status,
}

/// Re-execute a run offline from its record, with no upstream and no memory touched, and say whether it did the same.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Replay {
    /// The run.
    pub run: Id,
    /// Give the trace: calls, values and log lines.
    #[serde(default)]
    pub step: bool,
    /// Stop after this call.
    pub until: Option<u32>,
}

impl Operation for Replay {
    type Returns = Replayed;
    const TRAITS: Traits = Traits {
        audience: Audience::Human,
        sensitive: true,
        example: r#"{"run": "run_01k9zq3v8m5x2r7t4w6y1b0c9d", "step": true}"#,
        ..Traits::DEFAULT
    };
}

/// Forget the state of a session. Its runs stay on record.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Expire {
    /// The session's key, as `run/sessions` lists it.
    pub session: String,
}

impl Operation for Expire {
    type Returns = Expired;
    const TRAITS: Traits =
        Traits { audience: Audience::Human, example: r#"{"session": "ses_1"}"#, ..Traits::DEFAULT };
}

/// What expiring a session did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Expired {
    /// The session's key.
    pub session: String,
    /// Whether it had any state.
    pub existed: bool,
}

/// List runs, newest first.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct List {
    /// Only runs that stand here.
    pub status: Option<Status>,
    /// Only runs of the session of this name.
    pub session: Option<String>,
    /// Only runs before this one.
    pub before: Option<Id>,
    /// At most this many.
    #[serde(default = "ten")]
    pub limit: u32,
}

impl Operation for List {
    type Returns = Vec<Summary>;
    const TRAITS: Traits =
        Traits { audience: Audience::Human, example: r#"{"limit": 5}"#, ..Traits::DEFAULT };
}

/// Show a run with its record: code, calls, answers, log lines and end.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Show {
    /// The run.
    pub run: Id,
}

impl Operation for Show {
    type Returns = Detail;
    const TRAITS: Traits = Traits {
        audience: Audience::Human,
        sensitive: true,
        example: r#"{"run": "run_01k9zq3v8m5x2r7t4w6y1b0c9d"}"#,
        ..Traits::DEFAULT
    };
}

/// List sessions and their state, most recently used first.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sessions {
    /// Only this one, with its state.
    pub session: Option<String>,
    /// At most this many.
    #[serde(default = "ten")]
    pub limit: u32,
}

impl Operation for Sessions {
    type Returns = Vec<Session>;
    const TRAITS: Traits = Traits { audience: Audience::Human, sensitive: true, ..Traits::DEFAULT };
}

/// List what runs did against the bounds of their jail, newest first: forbidden system calls, full memory, time that was up,
/// floods, denied calls.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Violations {
    /// Only against this bound.
    pub bound: Option<Bound>,
    /// Only those that look like an attempt to carry data out.
    #[serde(default)]
    pub exfiltration: bool,
    /// Only those before this position in the log.
    pub before: Option<Seq>,
    /// At most this many.
    #[serde(default = "ten")]
    pub limit: u32,
}

impl Operation for Violations {
    type Returns = Vec<Violation>;
    const TRAITS: Traits =
        Traits { audience: Audience::Human, example: r#"{"limit": 5}"#, ..Traits::DEFAULT };
}

// ---------------------------------------------------------------------------------------------------------------------
// Answers

/// What `execute` answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Outcome {
    /// The run.
    pub run: Id,
    /// How it ended, or what it waits for.
    pub status: Status,
    /// What it returned; a preview where `cut` is set.
    #[schemars(schema_with = "crate::operation::any")]
    pub value: Value,
    /// Console lines; levels other than `log` stand in front as `[warn] …`.
    pub logs: Vec<String>,
    /// Why it did not complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Problem>,
    /// Where the value was too large: how to read the rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut: Option<Cut>,
    /// The approval it waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Id>,
    /// What the guard said.
    pub risk: Judgement,
    /// What the tokenizer did.
    pub privacy: Privacy,
    /// How it was held.
    pub sandbox: Jail,
    /// What it used up.
    pub metrics: Metrics,
}

/// Why a run did not complete, placed in the agent's source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// The error's type, such as `TypeError`.
    #[serde(rename = "type")]
    pub name: String,
    /// What it says.
    pub message: String,
    /// Line in the source, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// Column in the source, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
    /// The stack, in the source.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub stack: String,
    /// What to try.
    #[serde(rename = "try", default, skip_serializing_if = "String::is_empty")]
    pub hint: String,
}

/// A value too large for the answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Cut {
    /// The whole, for `results.read(handle, {offset, length})` in code.
    pub handle: String,
    /// Its size as JSON, bytes.
    pub bytes: u64,
    /// How much of it is shown, bytes.
    pub shown: u64,
}

/// What the guard said of the code.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Judgement {
    /// How much harm it can do.
    pub level: Risk,
    /// Why, worst first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
}

/// What the tokenizer replaced.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Privacy {
    /// Sensitive values replaced in code and input.
    pub r#in: u32,
    /// Sensitive values replaced in value, logs and error.
    pub out: u32,
}

/// How the run was held.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Jail {
    /// `full`, `seccomp`, `reduced`; empty where no worker was used.
    pub level: String,
    /// The engine, such as `quickjs`.
    pub engine: String,
}

/// What a run used up, and what the same calls would have cost as direct tool calls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Metrics {
    /// Wall time from request to answer, microseconds.
    pub wall_us: u64,
    /// Time in the worker, microseconds.
    pub worker_us: u64,
    /// CPU time of the worker, microseconds.
    pub cpu_us: u64,
    /// Peak engine heap, bytes.
    pub heap_bytes: u64,
    /// Host calls.
    pub calls: u32,
    /// The value's size before and after the output pipeline, bytes.
    pub bytes: Sizes,
    /// Tokens of a model's context.
    pub tokens: Tokens,
}

/// Sizes before and after, bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Sizes {
    /// As the code returned it.
    pub before: u64,
    /// As the caller got it.
    pub after: u64,
}

/// Tokens of a model's context (o200k).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Tokens {
    /// What the same calls would have cost as direct tool calls: every parameter written and every answer read.
    pub direct: u64,
    /// What this run cost: code written, value and logs read.
    pub code: u64,
}

/// What a replay found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Replayed {
    /// The run.
    pub run: Id,
    /// Whether it did the same, as far as it was asked to go.
    pub identical: bool,
    /// How the record ends.
    pub status: Status,
    /// The first thing that differed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub divergence: Option<Divergence>,
    /// Calls compared.
    pub calls: u32,
    /// What happened, in order; with `step` only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trace: Vec<Step>,
    /// What it returned.
    #[serde(default)]
    #[schemars(schema_with = "crate::operation::any")]
    pub value: Value,
}

/// The first thing in which a replay differs from its record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Divergence {
    /// At which call; 0 for the end.
    pub call: u32,
    /// What the record says.
    pub expected: String,
    /// What the replay did.
    pub got: String,
}

/// One step of a run, for people.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Step {
    /// A host call.
    Call {
        /// Its number.
        call: u32,
        /// The operation.
        op: String,
        /// Its parameters.
        #[schemars(schema_with = "crate::operation::any")]
        params: Value,
    },
    /// Its answer.
    Answer {
        /// The call's number.
        call: u32,
        /// Whether it succeeded.
        ok: bool,
        /// The value or the refusal.
        #[schemars(schema_with = "crate::operation::any")]
        value: Value,
        /// The run's clock from here on.
        clock: Time,
    },
    /// A timer went off.
    Timer {
        /// Its number.
        call: u32,
        /// The run's clock from here on.
        clock: Time,
    },
    /// A console line.
    Log {
        /// Its level.
        level: String,
        /// Its text.
        text: String,
    },
    /// It waited, went on, was interrupted or broke out of its bounds.
    Note {
        /// What happened.
        text: String,
    },
}

/// A run in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Summary {
    /// The run.
    pub run: Id,
    /// Where it stands.
    pub status: Status,
    /// When it started.
    pub started: Time,
    /// Who started it.
    pub by: String,
    /// Its language.
    pub language: Language,
    /// The session's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// The run whose code started it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Id>,
    /// How much harm it could do.
    pub risk: Risk,
    /// Host calls so far.
    pub calls: u32,
    /// Wall time, microseconds; 0 while it is not over.
    pub wall_us: u64,
    /// The first line of the code.
    pub code: String,
    /// The approval it waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Id>,
    /// Why it did not complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A run with its record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Detail {
    /// The run in short.
    #[serde(flatten)]
    pub summary: Summary,
    /// The whole code.
    pub source: String,
    /// BLAKE3 of the code, hex.
    pub code_hash: String,
    /// The input.
    #[schemars(schema_with = "crate::operation::any")]
    pub input: Value,
    /// Its limits.
    pub limits: Limits,
    /// What the guard said.
    pub reasons: Vec<String>,
    /// How it was held.
    pub sandbox: Jail,
    /// What happened, in order.
    pub trace: Vec<Step>,
    /// What it returned, or a handle to it.
    #[schemars(schema_with = "crate::operation::any")]
    pub value: Value,
    /// What it used up.
    pub metrics: Metrics,
}

/// A session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Session {
    /// Its key.
    pub key: String,
    /// The name its caller gave it.
    pub name: String,
    /// Whom it is bound to.
    pub owner: String,
    /// Runs that changed its state.
    pub version: u64,
    /// The last of them.
    pub run: Id,
    /// When that was.
    pub at: Time,
    /// The state's size as JSON, bytes.
    pub bytes: u64,
    /// The state; only where one session was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::operation::any")]
    pub state: Option<Value>,
}

/// What a run did against its bounds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Violation {
    /// The run.
    pub run: Id,
    /// Its position in the log.
    pub seq: Seq,
    /// When it was recorded.
    pub at: Time,
    /// Which bound.
    pub bound: Bound,
    /// What was seen: the system call, the operation, the size.
    pub detail: String,
    /// Whether it looks like an attempt to carry data out.
    pub exfiltration: bool,
}

// ---------------------------------------------------------------------------------------------------------------------
// Events

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

crate::undo! {
    Started(_) => Undo::Record,
    Called(it) => match it.effect {
        Effect::ReadOnly | Effect::Command => Undo::Record,
        Effect::Idempotent | Effect::Unknown => Undo::never(format!("{} was called: what it did lies outside Athena", it.op)),
    },
    Answered(_) => Undo::Record,
    TimerSet(_) => Undo::Record,
    TimerFired(_) => Undo::Record,
    Waiting(_) => Undo::Record,
    Resumed(_) => Undo::Record,
    Interrupted(_) => Undo::Record,
    Violated(_) => Undo::Record,
    Finished(_) => Undo::Record,
    BlobKept(_) => Undo::Record,
    StateSaved(_) => Undo::never("the session's state was saved; a later run of the session can set it anew"),
    SessionExpired(_) => Undo::never("the session's state was let go"),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_lowers_limits_and_never_raises_them() {
        let wanted = Wanted { wall_ms: Some(10), memory_mb: Some(4096), ..Wanted::default() };
        let limits = wanted.lower(Limits::BALANCED);
        assert_eq!(limits, Limits { wall_ms: 10, ..Limits::BALANCED });
    }

    #[test]
    fn only_an_end_is_final() {
        for status in [Status::Running, Status::ApprovalRequired, Status::Uncertain, Status::Interrupted] {
            assert!(!status.is_final(), "{status:?}");
        }
        assert!(Status::Completed.is_final() && Status::Denied.is_final() && Status::Violated.is_final());
    }
}
