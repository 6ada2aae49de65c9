//! Runs: one execution of agent code each, recorded call by call in a stream of its own (`run/<id>`).
//!
//! The record is what makes a run durable and replayable: what the code could observe is a function of [`Started`] and of the
//! order of [`Answered`] and [`TimerFired`]. A run waits ([`Waiting`]) without a process, and ends in [`Finished`] once.

mod answers;
mod events;

pub use answers::{
    Cut, Detail, Divergence, Jail, Judgement, Metrics, Outcome, Privacy, Problem, Replayed, Session, Sizes,
    Step, Summary, Tokens, Violation,
};
pub use events::{
    Answered, BlobKept, Bound, Called, Effect, Failure, Finished, Interrupted, Line, Resumed, SessionExpired,
    SessionRef, Started, StateSaved, Text, TimerFired, TimerSet, Violated, Waiting, Why,
};

use crate::envelope::Seq;
use crate::id::Id;
use crate::layers::common::ten;
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
