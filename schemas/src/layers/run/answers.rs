//! What the operations on runs answer.

use super::{Bound, Status};
use crate::envelope::Seq;
use crate::id::Id;
use crate::layers::common::Time;
use crate::risk::{Limits, Risk};
use crate::wire::Language;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

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
