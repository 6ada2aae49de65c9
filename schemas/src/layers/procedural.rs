//! The procedural layer: how to do things, as code. Versions are kept for ever; what ran well is measured.

use crate::context::Scope;
use crate::id::Id;
use crate::layers::common::{Ack, Hit, Object, Origin, Paged, Range, Time, fifty, ten};
pub use crate::layers::common::{Moved, Relocate};
use crate::operation::{Audience, Operation, Traits};
use crate::risk::Risk;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

crate::layer! {
    procedural {
        commands {
            learn: Learn,
            rollback: Rollback,
            record_outcome: RecordOutcome,
            archive: Archive,
            note_execution: NoteExecution,
            relocate: Relocate,
        }
        queries {
            get: Get,
            list: List,
            search: Search,
            suggest: Suggest,
            docs: Docs,
            versions: Versions,
            diff: Diff,
            effectiveness: Effectiveness,
            extract: Extract,
        }
        services { execute: Execute }
    }
}

crate::events! {
    /// What happens in the procedural layer.
    procedural {
        Learned = 0x0301 "learned" v 1 {},
        Executed = 0x0302 "executed" v 1 {},
        OutcomeRecorded = 0x0303 "outcome_recorded" v 1 {},
        Archived = 0x0304 "archived" v 1 {},
        Relocated = 0x0305 "relocated" v 1 {},
    }
}

/// A language of procedures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Language {
    /// TypeScript.
    #[serde(rename = "ts", alias = "typescript")]
    TypeScript,
    /// JavaScript.
    #[serde(rename = "js", alias = "javascript")]
    JavaScript,
    /// Python.
    #[serde(rename = "py", alias = "python")]
    Python,
}

impl Language {
    /// The ending of its files.
    pub fn ending(self) -> &'static str {
        match self {
            Self::TypeScript => "ts",
            Self::JavaScript => "js",
            Self::Python => "py",
        }
    }
}

/// The name of a version's content: BLAKE3 over language and code, 16 bytes, hexadecimal.
pub fn content_hash(language: Language, code: &str) -> String {
    let mut hasher = blake3::Hasher::new_derive_key("athena procedure");
    hasher.update(language.ending().as_bytes()).update(&[0]).update(code.as_bytes());
    hasher.finalize().to_hex().chars().take(32).collect()
}

// ── Commands ────────────────────────────────────────────────────────────────────────────────────────────────────────────

/// Learn a procedure: code under a name, found as `/skills/<name>`. The same name again makes a new version. The code is
/// analysed first; what could never run is refused, with the reason.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Learn {
    /// Its name: lower-case letters, digits and `_`, at most 64.
    pub name: String,
    /// Its code; `input` holds the arguments, the returned value is its output. At most 256 KiB.
    pub code: String,
    /// Its language.
    pub language: Language,
    /// What it does and when to use it, in a sentence or two.
    pub description: String,
    /// JSON Schema of its arguments.
    #[serde(default)]
    #[schemars(schema_with = "crate::operation::any")]
    pub params: Value,
    /// Words to find it by.
    #[serde(default)]
    pub tags: Vec<String>,
    /// A group of procedures.
    #[serde(default)]
    pub category: Option<String>,
}

/// What was learned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Lesson {
    /// The procedure.
    pub id: Id,
    /// The version, from 1.
    pub version: u32,
    /// The name of this version's content.
    pub commit: String,
    /// How much harm the code can do: what the analysis says, and no less than the operations it names. The guard judges it
    /// again before it runs.
    pub risk: Risk,
    /// Why, worst first, at most ten; each with its line.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
    /// Position in the log.
    pub seq: u64,
    /// Set where the newest version is the same already: nothing was added.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unchanged: bool,
}

/// What the analysis says of a procedure's code before it is learned; evidence of the decision.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judgement {
    /// How much harm the code can do.
    pub level: Risk,
    /// Why, worst first.
    pub reasons: Vec<String>,
}

impl Operation for Learn {
    type Returns = Lesson;
    const TRAITS: Traits = Traits {
        risk: Risk::Medium,
        sensitive: true,
        cost: 10,
        tags: &["skill", "save", "function", "learn_procedure"],
        example: r#"{"name": "boil_water", "language": "ts", "code": "return `boiled ${input.litres} l`", "description": "Boils water in the kettle.", "tags": ["kitchen"]}"#,
        ..Traits::DEFAULT
    };
}

/// Make an old version of a procedure the newest again, as a new version.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rollback {
    /// The procedure's name.
    pub name: String,
    /// The version to return to.
    pub to: u32,
    /// Why.
    #[serde(default)]
    pub reason: Option<String>,
}

impl Operation for Rollback {
    type Returns = Ack;
    const TRAITS: Traits = Traits {
        risk: Risk::Medium,
        evidence: true,
        cost: 5,
        tags: &["undo", "revert", "rollback_procedure"],
        example: r#"{"name": "boil_water", "to": 1, "reason": "it was better"}"#,
        ..Traits::DEFAULT
    };
}

/// Say how a run of a procedure turned out in the end. It counts more than that the code did not fail.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RecordOutcome {
    /// The run, as `execute` answered it.
    pub run: Id,
    /// Whether it did what was wanted.
    pub ok: bool,
    /// Why.
    #[serde(default)]
    pub note: Option<String>,
}

impl Operation for RecordOutcome {
    type Returns = Ack;
    const TRAITS: Traits = Traits {
        sensitive: true,
        cost: 3,
        tags: &["feedback", "worked", "failed"],
        example: r#"{"run": "$run", "ok": true}"#,
        ..Traits::DEFAULT
    };
}

/// Hide a procedure from search and files. Its versions are kept; learning it again brings it back.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Archive {
    /// The procedure's name.
    pub name: String,
}

impl Operation for Archive {
    type Returns = Ack;
    const TRAITS: Traits = Traits {
        cost: 3,
        tags: &["remove", "delete", "hide"],
        example: r#"{"name": "boil_water"}"#,
        ..Traits::DEFAULT
    };
}

/// Record that a procedure ran. `execute` calls it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NoteExecution {
    /// The procedure's name.
    pub name: String,
    /// The version that ran.
    pub version: u32,
    /// The run.
    pub run: Id,
    /// Whether it completed.
    pub ok: bool,
    /// How long it took, milliseconds.
    pub duration_ms: u64,
}

impl Operation for NoteExecution {
    type Returns = Ack;
    const TRAITS: Traits = Traits {
        audience: Audience::System,
        example: r#"{"name": "boil_water", "version": 1, "run": "$run", "ok": true, "duration_ms": 3}"#,
        ..Traits::DEFAULT
    };
}

// ── Service ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

/// Run a procedure in the sandbox.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Execute {
    /// The procedure's name.
    pub name: String,
    /// Its arguments; the code sees them as `input`.
    #[serde(default)]
    pub args: Object,
    /// Which version; the newest, if not said.
    #[serde(default)]
    pub version: Option<u32>,
    /// Only say what would run.
    #[serde(default)]
    pub dry_run: bool,
}

/// How a procedure ran.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Executing {
    /// Whether it completed.
    pub ok: bool,
    /// What it returned.
    #[schemars(schema_with = "crate::operation::any")]
    pub output: Value,
    /// What it printed.
    pub logs: Vec<String>,
    /// How long it took, milliseconds.
    pub duration_ms: u64,
    /// The run; missing for a dry run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<Id>,
    /// The version that ran.
    pub version: u32,
}

impl Operation for Execute {
    type Returns = Executing;
    const TRAITS: Traits = Traits {
        risk: Risk::Medium,
        sensitive: true,
        cost: 20,
        tags: &["run", "call", "execute_procedure"],
        example: r#"{"name": "boil_water", "args": {"litres": 1}, "dry_run": true}"#,
        ..Traits::DEFAULT
    };
}

// ── Queries ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

/// Get a procedure: its source and what is said about it.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Get {
    /// Its name.
    pub name: String,
    /// Which version; the newest, if not said.
    #[serde(default)]
    pub version: Option<u32>,
}

impl Operation for Get {
    type Returns = Procedure;
    const TRAITS: Traits = Traits {
        sensitive: true,
        tags: &["source", "code"],
        example: r#"{"name": "boil_water"}"#,
        ..Traits::DEFAULT
    };
}

/// List procedures by name.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct List {
    /// Only those with all of these tags.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Only those of this group.
    #[serde(default)]
    pub category: Option<String>,
    /// At most this many, up to 1,000.
    #[serde(default = "fifty")]
    pub limit: u32,
    /// `next` of the page before.
    #[serde(default)]
    pub cursor: Option<String>,
}

impl Operation for List {
    type Returns = Paged<ProcedureInfo>;
    const TRAITS: Traits =
        Traits { tags: &["skills", "browse"], example: r#"{"limit": 5}"#, ..Traits::DEFAULT };
}

/// Search procedures by name, description, tags and the identifiers in their code.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Search {
    /// What to look for.
    pub query: String,
    /// At most this many, up to 1,000.
    #[serde(default = "ten")]
    pub limit: u32,
}

impl Operation for Search {
    type Returns = Vec<Hit<ProcedureInfo>>;
    const TRAITS: Traits =
        Traits { cost: 2, tags: &["find", "skill"], example: r#"{"query": "water"}"#, ..Traits::DEFAULT };
}

/// Suggest procedures for a task: those that fit it, that worked, and that were used lately.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Suggest {
    /// What is to be done.
    pub context: Situation,
}

/// What is to be done.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Situation {
    /// The task, in plain words.
    pub task: String,
    /// Only procedures with one of these tags.
    #[serde(default)]
    pub tags: Vec<String>,
}

impl Operation for Suggest {
    type Returns = Vec<Hit<ProcedureInfo>>;
    const TRAITS: Traits = Traits {
        cost: 2,
        tags: &["recall_procedural", "how to", "skill"],
        example: r#"{"context": {"task": "make tea"}}"#,
        ..Traits::DEFAULT
    };
}

/// Read how to use a procedure: its call, its arguments, how well it works, its history.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Docs {
    /// Its name.
    pub name: String,
}

impl Operation for Docs {
    type Returns = String;
    const TRAITS: Traits =
        Traits { tags: &["help", "manual"], example: r#"{"name": "boil_water"}"#, ..Traits::DEFAULT };
}

/// List the versions of a procedure, newest first.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Versions {
    /// Its name.
    pub name: String,
}

impl Operation for Versions {
    type Returns = Vec<Version>;
    const TRAITS: Traits =
        Traits { tags: &["history", "git"], example: r#"{"name": "boil_water"}"#, ..Traits::DEFAULT };
}

/// Compare two versions of a procedure, as a unified diff.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Diff {
    /// Its name.
    pub name: String,
    /// The version before.
    pub a: u32,
    /// The version after.
    pub b: u32,
}

impl Operation for Diff {
    type Returns = String;
    const TRAITS: Traits = Traits {
        sensitive: true,
        tags: &["compare"],
        example: r#"{"name": "boil_water", "a": 1, "b": 1}"#,
        ..Traits::DEFAULT
    };
}

/// See how well a procedure works.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Effectiveness {
    /// Its name.
    pub name: String,
}

/// How well a procedure works.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Effect {
    /// How often it ran.
    pub runs: u64,
    /// The share that did what was wanted; missing before the first run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub success_rate: Option<f64>,
    /// The lower bound of that share at 95 % (Wilson 1927): what may be relied on.
    pub wilson_low: f64,
    /// Half of the last 100 runs took at most this long, milliseconds.
    pub p50_ms: u64,
    /// When it ran last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Time>,
}

impl Operation for Effectiveness {
    type Returns = Effect;
    const TRAITS: Traits =
        Traits { tags: &["success", "quality"], example: r#"{"name": "boil_water"}"#, ..Traits::DEFAULT };
}

/// Find candidates for procedures: sequences of events that keep coming back. Nothing is stored.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Extract {
    /// Only events of this time.
    #[serde(default)]
    pub lookback: Option<Range>,
    /// In how many sessions at least; 3 if not said.
    #[serde(default)]
    pub min_support: Option<u32>,
}

/// What could become a procedure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Candidate {
    /// A name for it.
    pub name: String,
    /// The types of events, in order.
    pub steps: Vec<String>,
    /// In how many sessions it occurs.
    pub support: u32,
    /// Events that show it, from one session.
    pub example: Vec<Id>,
}

impl Operation for Extract {
    type Returns = Vec<Candidate>;
    const TRAITS: Traits = Traits {
        cost: 10,
        tags: &["mine", "pattern", "workflow"],
        example: r#"{"min_support": 2}"#,
        ..Traits::DEFAULT
    };
}

/// A procedure with its source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Procedure {
    /// What is said about it.
    #[serde(flatten)]
    pub info: ProcedureInfo,
    /// Its source.
    pub code: String,
    /// JSON Schema of its arguments.
    #[schemars(schema_with = "crate::operation::any")]
    pub params: Value,
}

/// What is said about a procedure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProcedureInfo {
    /// Its id.
    pub id: Id,
    /// Its name.
    pub name: String,
    /// What it does.
    pub description: String,
    /// Its language.
    pub language: Language,
    /// The version.
    pub version: u32,
    /// The name of this version's content.
    pub commit: String,
    /// The highest risk of the operations it names.
    pub risk: Risk,
    /// Words to find it by.
    pub tags: Vec<String>,
    /// Its group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    /// Hidden from search and files.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub archived: bool,
}

/// One version of a procedure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Version {
    /// Its number.
    pub version: u32,
    /// The name of its content.
    pub commit: String,
    /// When it was learned.
    pub recorded: Time,
    /// Who taught it.
    pub by: String,
    /// Why, where it was a rollback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

// ── Events ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

/// A version of a procedure was learned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Learned {
    /// The procedure.
    pub id: Id,
    /// Its name.
    pub name: String,
    /// The version, from 1.
    pub version: u32,
    /// Its code.
    pub code: String,
    /// Its language.
    pub language: Language,
    /// What it does.
    pub description: String,
    /// JSON Schema of its arguments, JSON; empty for none.
    pub params: String,
    /// Words to find it by.
    pub tags: Vec<String>,
    /// Its group.
    pub category: Option<String>,
    /// The highest risk of the operations it names.
    pub risk: Risk,
    /// Where it came from.
    pub origin: Origin,
    /// The version it goes back to.
    pub rollback_to: Option<u32>,
    /// Why.
    pub reason: Option<String>,
}

/// A procedure ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Executed {
    /// The procedure.
    pub id: Id,
    /// The version.
    pub version: u32,
    /// The run.
    pub run: Id,
    /// Whether it completed.
    pub ok: bool,
    /// How long it took, milliseconds.
    pub duration_ms: u64,
}

/// Somebody said how a run turned out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutcomeRecorded {
    /// The run.
    pub run: Id,
    /// Whether it did what was wanted.
    pub ok: bool,
    /// Why.
    pub note: Option<String>,
}

/// A procedure was hidden.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Archived {
    /// The procedure.
    pub id: Id,
}

/// Procedures were put into another scope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relocated {
    /// The procedures.
    pub ids: Vec<Id>,
    /// Where they belong.
    pub to: Scope,
}

crate::undo! {
    Learned(it) => match it.version {
        1 => Undo::Call { op: "procedural/archive", params: serde_json::json!({"name": it.name}) },
        version => Undo::Call {
            op: "procedural/rollback",
            params: serde_json::json!({"name": it.name, "to": version - 1, "reason": "undone"}),
        },
    },
    Executed(_) => Undo::Record,
    OutcomeRecorded(_) => Undo::never("an outcome counts; record another with procedural/record_outcome"),
    Archived(_) => Undo::never("learn the procedure again: procedural/versions has its code"),
    Relocated(_) => Undo::never("move it back: store/move"),
}
