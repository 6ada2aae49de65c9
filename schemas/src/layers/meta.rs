//! The meta layer: what is known, how well, how recently, and who used it. Knowing what one does not know.

use crate::context::{Channel, Party};
use crate::envelope::Seq;
use crate::id::Id;
use crate::layers::common::{Ack, Hit, Layer, Paged, Prov, Range, Time, fifty, ten};
use crate::layers::semantic::Fact;
use crate::operation::{Audience, Operation, Traits};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

crate::layer! {
    meta {
        commands { rate: Rate, advise: Advise }
        queries {
            coverage: Coverage,
            gaps: Gaps,
            confidence: Confidence,
            expertise: Expertise,
            quality: Quality,
            load: Load,
            usage: Usage,
            explain: Explain,
            access_log: AccessLog,
            staleness: Staleness,
            stats: Stats,
            audit: Audit,
        }
    }
}

crate::events! {
    /// What happens in the meta layer.
    meta {
        Rated = 0x0601 "rated" v 1 {},
        Advised = 0x0602 "advised" v 1 {},
    }
}

// ── Commands ────────────────────────────────────────────────────────────────────────────────────────────────────────────

/// Say whether an item was useful. Ratings show in `quality`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// The item, of any layer.
    pub id: Id,
    /// Whether it helped.
    pub useful: bool,
    /// Why.
    #[serde(default)]
    pub note: Option<String>,
}

impl Operation for Rate {
    type Returns = Ack;
    const TRAITS: Traits = Traits {
        sensitive: true,
        evidence: true,
        cost: 3,
        tags: &["feedback", "useful", "thumbs"],
        example: r#"{"id": "$id", "useful": true}"#,
        ..Traits::DEFAULT
    };
}

/// Record which tools were named in answer to a search, so that what then worked can be learned.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Advise {
    /// The stems of the question's words, at most 12.
    pub words: Vec<String>,
    /// The tools that were named, best first, at most 8.
    pub ops: Vec<String>,
}

impl Operation for Advise {
    /// Whether there was anything to record.
    type Returns = bool;
    const TRAITS: Traits = Traits {
        audience: Audience::System,
        example: r#"{"words": ["issu"], "ops": ["github/create_issue"]}"#,
        ..Traits::DEFAULT
    };
}

// ── Queries ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

/// See what is known about a topic: how much, in which layers, over which time.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Coverage {
    /// The topic, in plain words.
    pub topic: String,
}

/// What is known about a topic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Covered {
    /// How many items of each layer are about it; at most 1,000 are looked at.
    pub by_layer: BTreeMap<String, u32>,
    /// The share of the words of the topic that the best item holds, from 0 to 1, rarer words counting more.
    pub density: f64,
    /// From the first item to the last.
    pub span: Range,
    /// When the last one was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Time>,
}

impl Operation for Coverage {
    type Returns = Covered;
    const TRAITS: Traits =
        Traits { cost: 3, tags: &["know", "topic"], example: r#"{"topic": "kettle"}"#, ..Traits::DEFAULT };
}

/// Find what is missing: questions that found little, entities nothing is said about, facts that open conflicts put in doubt.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Gaps {
    /// At most this many, up to 1,000.
    #[serde(default = "ten")]
    pub limit: u32,
}

/// What kind of thing is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GapKind {
    /// A question found little (since the store was opened).
    WeakAnswer,
    /// Nothing is said about an entity.
    BareEntity,
    /// A fact does not say since when it has been true.
    UndatedFact,
    /// Two facts contradict each other.
    OpenConflict,
}

/// Something that is missing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Gap {
    /// What kind of thing.
    pub kind: GapKind,
    /// What it is about: the question, or the item's text.
    pub about: String,
    /// The item.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Id>,
    /// How often it was met.
    pub times: u32,
}

impl Operation for Gaps {
    type Returns = Vec<Gap>;
    const TRAITS: Traits = Traits {
        sensitive: true,
        cost: 5,
        tags: &["missing", "unknown", "ask"],
        example: r#"{"limit": 5}"#,
        ..Traits::DEFAULT
    };
}

/// Estimate whether memory can answer a question, before one answers from it. Below 0.3, say that it is not known.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Confidence {
    /// The question.
    pub query: String,
}

/// Whether a question can be answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Answerable {
    /// From 0 (not known) to 1 (known).
    pub answerable: f64,
    /// Why.
    pub reasons: Vec<String>,
}

impl Operation for Confidence {
    type Returns = Answerable;
    const TRAITS: Traits = Traits {
        sensitive: true,
        cost: 2,
        tags: &["know", "sure", "hallucination"],
        example: r#"{"query": "where is the kettle?"}"#,
        ..Traits::DEFAULT
    };
}

/// See which topics memory knows most about, by tag.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Expertise {
    /// At most this many topics, up to 1,000.
    #[serde(default = "ten")]
    pub limit: u32,
}

/// What is known of one topic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Topic {
    /// The tag.
    pub topic: String,
    /// Current facts with it.
    pub facts: u32,
    /// Procedures with it.
    pub procedures: u32,
    /// The share of its events with an outcome that succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub success: Option<f64>,
}

impl Operation for Expertise {
    type Returns = Vec<Topic>;
    const TRAITS: Traits =
        Traits { cost: 5, tags: &["topics", "skills"], example: r#"{"limit": 5}"#, ..Traits::DEFAULT };
}

/// See how good an item is: its confidence, use, ratings, age, conflicts and strength.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Quality {
    /// The item.
    pub id: Id,
}

/// How good an item is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Assessment {
    /// How sure it is, where it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<f64>,
    /// How often it was in an answer since the store was opened.
    pub uses: u32,
    /// Ratings: useful, not useful.
    pub ratings: (u32, u32),
    /// Its age in days.
    pub age_days: f64,
    /// Open conflicts.
    pub conflicts: u32,
    /// From 0 (forgotten) to 1 (fresh): a forgetting curve with a half-life of 30 days, longer for what matters and what was
    /// rated useful.
    pub strength: f64,
}

impl Operation for Quality {
    type Returns = Assessment;
    const TRAITS: Traits =
        Traits { tags: &["score", "health"], example: r#"{"id": "$id"}"#, ..Traits::DEFAULT };
}

/// See how much is open: tasks, what was used lately, events that no consolidation has seen.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Load {}

/// How much is open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Burden {
    /// Tasks that are neither done nor dropped.
    pub open_tasks: u64,
    /// Items in answers of the last hour.
    pub working_set: u64,
    /// Events since the last consolidation.
    pub unconsolidated_events: u64,
}

impl Operation for Load {
    type Returns = Burden;
    const TRAITS: Traits = Traits { cost: 2, tags: &["get_cognitive_load", "busy"], ..Traits::DEFAULT };
}

/// See which operations and tools were called, how often and how fast, and by which older names, since the store was opened; and
/// what came of the tools that searches named.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Usage {
    /// Only calls of this time.
    #[serde(default)]
    pub range: Option<Range>,
}

/// How one operation was used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Used {
    /// The operation.
    pub op: String,
    /// How often.
    pub calls: u64,
    /// Half of the calls took at most this long, milliseconds.
    pub p50_ms: f64,
    /// 99 of 100 calls took at most this long, milliseconds.
    pub p99_ms: f64,
    /// How many were refused.
    pub errors: u64,
    /// How many came by an older name, by that name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub older_names: BTreeMap<String, u64>,
    /// What came of the tools it named, over the whole life of the project: for searches of tools.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recommended: Option<Recommended>,
}

/// What came of the tools that searches named, as far as it is known: a search that no run followed says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Recommended {
    /// Searches that named tools.
    pub given: u64,
    /// Those after which the run called one of them with success.
    pub followed: u64,
    /// Those after which the run called only others with success.
    pub missed: u64,
    /// The share of followed ones among those of which it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f64>,
}

impl Operation for Usage {
    type Returns = Vec<Used>;
    const TRAITS: Traits = Traits { tags: &["statistics", "latency", "calls"], ..Traits::DEFAULT };
}

/// Trace an item back to the events and items it came from.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Explain {
    /// The item.
    pub id: Id,
}

/// Where an item came from: a node of its provenance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProvenanceTree {
    /// The item.
    pub id: Id,
    /// Its layer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<Layer>,
    /// Its text; missing where it is gone or not to be seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// Where it says it came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prov: Option<Prov>,
    /// The position of the event that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// When that was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recorded: Option<Time>,
    /// The run whose code made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<Id>,
    /// The items it was derived from or took the place of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<ProvenanceTree>,
}

impl Operation for Explain {
    type Returns = ProvenanceTree;
    const TRAITS: Traits = Traits {
        sensitive: true,
        cost: 2,
        tags: &["provenance", "source", "why", "where from"],
        example: r#"{"id": "$id"}"#,
        ..Traits::DEFAULT
    };
}

/// See who had an item in an answer lately: the last 16 times since the store was opened. What a run read is in its record.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AccessLog {
    /// The item.
    pub id: Id,
}

/// One reading of an item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Access {
    /// When.
    pub at: Time,
    /// Who, as the runtime saw it.
    pub by: String,
    /// With which operation.
    pub op: String,
    /// The run whose code read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<Id>,
}

impl Operation for AccessLog {
    type Returns = Vec<Access>;
    const TRAITS: Traits =
        Traits { tags: &["audit", "read", "who"], example: r#"{"id": "$id"}"#, ..Traits::DEFAULT };
}

/// List facts that should be checked before they are relied on, the stalest first.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Staleness {
    /// Least staleness, from 0 to 1; 0.5 if not said.
    #[serde(default)]
    pub threshold: Option<f64>,
    /// At most this many, up to 1,000.
    #[serde(default = "fifty")]
    pub limit: u32,
    /// `next` of the page before.
    #[serde(default)]
    pub cursor: Option<String>,
}

impl Operation for Staleness {
    type Returns = Paged<Hit<Fact>>;
    const TRAITS: Traits = Traits {
        sensitive: true,
        cost: 3,
        tags: &["old", "outdated", "recheck"],
        example: r#"{"threshold": 0.1, "limit": 5}"#,
        ..Traits::DEFAULT
    };
}

/// Count what is kept: items by layer, sizes, and how far the read models are.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Stats {}

/// What is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Inventory {
    /// Items of each layer in this scope.
    pub items: BTreeMap<String, u64>,
    /// Documents that search knows, over all scopes.
    pub documents: u64,
    /// The model texts are embedded with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Bytes of the read models' rows on disk.
    pub disk_bytes: u64,
    /// The last position of the log that each read model has seen.
    pub positions: BTreeMap<String, u64>,
}

impl Operation for Stats {
    type Returns = Inventory;
    const TRAITS: Traits = Traits { cost: 2, tags: &["count", "size", "overview"], ..Traits::DEFAULT };
}

/// See who did what: what each author recorded, and one by one what people answer for: approvals, values given out, how runs began and
/// ended, broken bounds, other servers and their tools, erasures. Not for agents.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Audit {
    /// Only this time. What authors recorded is counted by whole days (UTC).
    #[serde(default)]
    pub range: Option<Range>,
    /// Only this author, by name.
    #[serde(default)]
    pub actor: Option<String>,
    /// Only this run; authors are then not counted.
    #[serde(default)]
    pub run: Option<Id>,
    /// At most this many entries, the newest, up to 10,000.
    #[serde(default = "thousand")]
    pub limit: u32,
}

fn thousand() -> u32 {
    1_000
}

/// What an entry of the audit is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Concern {
    /// A person was asked, or answered.
    Approval,
    /// A value behind a token was given out, or somebody tried.
    Disclosure,
    /// A run began, waited or ended.
    Run,
    /// A run ran against a bound.
    Violation,
    /// Another server or its tools.
    Upstream,
    /// Something was erased for ever, undone, exported or imported.
    Content,
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditEntry {
    /// Its position in the log.
    pub seq: Seq,
    /// When.
    pub at: Time,
    /// What it is about.
    pub concern: Concern,
    /// The event, such as `approval.granted`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What kind of party.
    pub party: Party,
    /// Which door.
    pub via: Channel,
    /// The author.
    pub actor: String,
    /// The project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// The run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<Id>,
    /// What happened; sensitive values are tokens. Empty where it was erased.
    pub text: String,
}

/// What one author recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Deeds {
    /// What kind of party.
    pub party: Party,
    /// Which door.
    pub via: Channel,
    /// The author.
    pub actor: String,
    /// How many events.
    pub events: u64,
    /// How many of each type.
    pub types: BTreeMap<String, u64>,
    /// The first.
    pub first: Time,
    /// The last.
    pub last: Time,
}

/// Who did what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditReport {
    /// Authors, the busiest first.
    pub authors: Vec<Deeds>,
    /// How many entries there are of each concern.
    pub concerns: BTreeMap<Concern, u64>,
    /// The newest entries, newest first.
    pub entries: Vec<AuditEntry>,
    /// How many entries there are in all.
    pub total: u64,
}

impl Operation for Audit {
    type Returns = AuditReport;
    const TRAITS: Traits = Traits {
        audience: Audience::Human,
        sensitive: true,
        cost: 5,
        tags: &["who", "report", "compliance", "history"],
        example: r#"{"limit": 10}"#,
        ..Traits::DEFAULT
    };
}

// ── Events ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

/// An item was rated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rated {
    /// The item.
    pub id: Id,
    /// Whether it helped.
    pub useful: bool,
    /// Why.
    pub note: Option<String>,
}

/// Tools were named in answer to a search for them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advised {
    /// The stems of the question's words.
    pub words: Vec<String>,
    /// The tools, best first.
    pub ops: Vec<String>,
}

crate::undo! {
    Rated(_) => Undo::never("every rating counts; rate it again: meta/rate"),
    Advised(_) => Undo::Record,
}
