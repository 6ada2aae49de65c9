//! The consolidation layer: what stands out of many memories, found without a language model. A pass looks at what was remembered
//! since the last one and records what it found: clusters, recurring sequences, near-duplicates, sentences worth keeping as
//! facts, events whose strength is gone. It holds ids and numbers and no text, it replaces nothing, and it can be previewed
//! and undone.

mod proposals;

pub use proposals::{
    Accept, Asked, Claim, Doubts, Judge, Judged, Note, NoteReasoning, Noted, PROPOSAL_BYTES,
    PROPOSAL_SOURCES, PROPOSALS, Proposal, Proposals, Proposed, Reason, Reasoned, Reasoning, Reject,
    Standing, Unsure,
};

use crate::id::Id;
use crate::layers::common::{Ack, Layer, Paged, Range, Time, fifty};
use crate::operation::{Audience, Operation, Traits};
use crate::risk::Risk;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

crate::layer! {
    consolidation {
        commands {
            consolidate: Consolidate,
            dedupe: Dedupe,
            decay: Decay,
            undo: Undo,
            pin: Pin,
            configure: Configure,
            reject: Reject,
            judge: Judge,
            note_reasoning: NoteReasoning,
        }
        queries {
            preview: Preview,
            status: Status,
            history: History,
            clusters: Clusters,
            patterns: Patterns,
            extract_facts: ExtractFacts,
            due: Due,
            proposals: Proposals,
            unsure: Unsure,
        }
        services {
            reason: Reason,
            accept: Accept,
        }
    }
}

crate::events! {
    /// What happens in the consolidation layer.
    consolidation {
        Pinned = 0x0701 "pinned" v 1 {},
        Consolidated = 0x0702 "consolidated" v 1 {},
        Undone = 0x0703 "undone" v 1 {},
        Configured = 0x0704 "configured" v 1 {},
        Reasoned = 0x0705 "reasoned" v 1 {},
        Proposed = 0x0706 "proposed" v 1 {},
        Judged = 0x0707 "judged" v 1 {},
    }
}

/// How thorough a pass is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// Sessions, recurring sequences, exact duplicates.
    Fast,
    /// And clusters, near-duplicates and sentences worth keeping. Nothing becomes harder to find.
    #[default]
    Balanced,
    /// And decay: events whose strength is gone are no longer found by searches.
    Thorough,
}

/// What kind of pass it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// All that its strategy names.
    Consolidate,
    /// Duplicates only.
    Dedupe,
    /// Forgetting only.
    Decay,
    /// A language model's proposals only.
    Reason,
}

// ── Commands ────────────────────────────────────────────────────────────────────────────────────────────────────────────

/// Go through what was remembered since the last pass and record what stands out, at most 100,000 events at once. Events are
/// never changed or replaced; `undo` takes the whole pass back.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Consolidate {
    /// How thorough; `balanced` if not said.
    #[serde(default)]
    pub strategy: Option<Strategy>,
    /// Look at the events recorded in this many hours, whether a pass has seen them or not.
    #[serde(default)]
    pub lookback_hours: Option<u32>,
}

impl Operation for Consolidate {
    type Returns = Run;
    const TRAITS: Traits = Traits {
        evidence: true,
        cost: 50,
        tags: &["sleep", "dream", "summarise", "organise", "reflect"],
        example: r#"{"strategy": "balanced"}"#,
        ..Traits::DEFAULT
    };
}

/// Link items that say nearly the same. Nothing is merged or removed.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Dedupe {
    /// `episodic` or `semantic`; `episodic` if not said.
    #[serde(default)]
    pub layer: Option<Layer>,
    /// How much alike, from 0.5 to 1; 0.85 if not said.
    #[serde(default)]
    pub threshold: Option<f64>,
    /// Only count.
    #[serde(default)]
    pub dry_run: bool,
}

/// What was linked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Deduped {
    /// How many groups of items that say nearly the same.
    pub groups: u32,
    /// The pass, for `undo`; missing where nothing was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<Id>,
    /// Position in the log; missing where nothing was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
}

impl Operation for Dedupe {
    type Returns = Deduped;
    const TRAITS: Traits = Traits {
        evidence: true,
        cost: 20,
        tags: &["duplicate", "similar", "clean"],
        example: r#"{"layer": "episodic", "dry_run": true}"#,
        ..Traits::DEFAULT
    };
}

/// Let events fade whose strength is gone: searches no longer find them, lists and `get` still do. Strength halves with age,
/// slower for what matters or was rated useful. Decisions, pinned events and events that a fact rests on never fade, nor
/// does anything recorded in the last 30 days.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Decay {
    /// Only count.
    #[serde(default)]
    pub dry_run: bool,
}

/// What faded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Decayed {
    /// How many events are on the way: their strength is below 0.3.
    pub weakened: u32,
    /// How many faded.
    pub archived: u32,
    /// The pass, for `undo`; missing where nothing was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<Id>,
    /// Position in the log; missing where nothing was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
}

impl Operation for Decay {
    type Returns = Decayed;
    const TRAITS: Traits = Traits {
        evidence: true,
        cost: 20,
        tags: &["forget", "fade", "old", "archive"],
        example: r#"{"dry_run": true}"#,
        ..Traits::DEFAULT
    };
}

/// Take back all that a pass recorded: its links, its clusters, its fading. Its line in `history` stays.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Undo {
    /// The pass.
    pub run: Id,
}

impl Operation for Undo {
    type Returns = Ack;
    const TRAITS: Traits = Traits {
        evidence: true,
        cost: 5,
        tags: &["revert", "restore"],
        example: r#"{"run": "$run"}"#,
        ..Traits::DEFAULT
    };
}

/// Pin an item, so that no forgetting by age touches it (one that has faded is found again); or unpin it.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    /// The item.
    pub id: Id,
    /// Whether it is to be pinned.
    pub pinned: bool,
}

impl Operation for Pin {
    type Returns = Ack;
    const TRAITS: Traits = Traits {
        tags: &["keep", "protect", "important"],
        example: r#"{"id": "$id", "pinned": true}"#,
        ..Traits::DEFAULT
    };
}

/// Say when passes run by themselves in this scope, and how they forget. What is not said stays as it is.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Configure {
    /// Hours between two passes, up to 8,760; 0 for never. 24 at first.
    #[serde(default)]
    pub every_hours: Option<u32>,
    /// How thorough they are; `balanced` at first, which forgets nothing.
    #[serde(default)]
    pub strategy: Option<Strategy>,
    /// Half-life of an event of middling importance, 1 to 3,650 days; 30 at first.
    #[serde(default)]
    pub half_life_days: Option<u32>,
    /// Events fade below this strength, from 0 to 0.5; 0.05 at first.
    #[serde(default)]
    pub fade_below: Option<f64>,
}

impl Operation for Configure {
    type Returns = Settled;
    const TRAITS: Traits = Traits {
        risk: Risk::Medium,
        tags: &["schedule", "nightly", "half-life", "settings"],
        example: r#"{"every_hours": 12, "half_life_days": 60}"#,
        ..Traits::DEFAULT
    };
}

/// The settings of a scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Settings {
    /// Hours between two passes; 0 for never.
    pub every_hours: u32,
    /// How thorough they are.
    pub strategy: Strategy,
    /// Half-life of an event of middling importance, days.
    pub half_life_days: u32,
    /// Events fade below this strength, thousandths.
    pub fade_below_milli: u16,
}

impl Default for Settings {
    fn default() -> Self {
        Self { every_hours: 24, strategy: Strategy::Balanced, half_life_days: 30, fade_below_milli: 50 }
    }
}

/// The settings as they are now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Settled {
    /// The settings.
    pub settings: Settings,
    /// Position in the log.
    pub seq: u64,
}

// ── Services ────────────────────────────────────────────────────────────────────────────────────────────────────────────

// ── Queries ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

/// See what `consolidate` would record now. Nothing is changed.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Preview {
    /// How thorough; `balanced` if not said.
    #[serde(default)]
    pub strategy: Option<Strategy>,
    /// Look at the events recorded in this many hours, whether a pass has seen them or not.
    #[serde(default)]
    pub lookback_hours: Option<u32>,
}

impl Operation for Preview {
    type Returns = RunPlan;
    const TRAITS: Traits = Traits {
        sensitive: true,
        cost: 50,
        tags: &["dry run", "what if"],
        example: r#"{"strategy": "thorough"}"#,
        ..Traits::DEFAULT
    };
}

/// See what a pass found: the one named, or the last. At most 50 of each kind are shown; what was erased since is not.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Status {
    /// The pass; the last one in this scope, if not said.
    #[serde(default)]
    pub run: Option<Id>,
}

impl Operation for Status {
    type Returns = Examined;
    const TRAITS: Traits = Traits {
        sensitive: true,
        cost: 3,
        tags: &["show", "result", "last"],
        example: r#"{"run": "$run"}"#,
        ..Traits::DEFAULT
    };
}

/// List the passes, newest first, undone ones included.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct History {
    /// At most this many, up to 1,000.
    #[serde(default = "fifty")]
    pub limit: u32,
    /// `next` of the page before.
    #[serde(default)]
    pub cursor: Option<String>,
}

impl Operation for History {
    type Returns = Paged<Run>;
    const TRAITS: Traits =
        Traits { tags: &["runs", "list", "past"], example: r#"{"limit": 5}"#, ..Traits::DEFAULT };
}

/// Group events that belong together: by rare words and names they share, and by standing beside each other in a session.
/// Looks at the newest 20,000.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Clusters {
    /// Only events of this time.
    #[serde(default)]
    pub range: Option<Range>,
}

impl Operation for Clusters {
    type Returns = Vec<Cluster>;
    const TRAITS: Traits =
        Traits { sensitive: true, cost: 20, tags: &["topics", "themes", "group"], ..Traits::DEFAULT };
}

/// Find sequences of event types that recur over sessions, with the sessions that hold them (PrefixSpan; Pei et al. 2001).
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Patterns {
    /// Only events of this time.
    #[serde(default)]
    pub range: Option<Range>,
    /// Held by at least this many sessions, 2 or more; 3 if not said.
    #[serde(default)]
    pub min_support: Option<u32>,
    /// At most this many types, 2 to 12; 6 if not said.
    #[serde(default)]
    pub max_len: Option<u32>,
    /// At most this many others between two types, up to 10; 2 if not said.
    #[serde(default)]
    pub gap: Option<u32>,
}

impl Operation for Patterns {
    type Returns = Vec<Pattern>;
    const TRAITS: Traits =
        Traits { cost: 5, tags: &["sequence", "habit", "workflow", "recurring"], ..Traits::DEFAULT };
}

/// Find the sentences of events that say most. A proposal only: what is worth keeping goes to the semantic layer, with
/// `prov.events` naming its source.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExtractFacts {
    /// From which events.
    #[serde(default)]
    pub sel: Chosen,
}

/// Which events.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Chosen {
    /// These, at most 1,000.
    #[serde(default)]
    pub ids: Vec<Id>,
    /// Those of this time, the newest 20,000 of them.
    #[serde(default)]
    pub range: Option<Range>,
}

impl Operation for ExtractFacts {
    type Returns = Vec<Candidate>;
    const TRAITS: Traits = Traits {
        sensitive: true,
        cost: 20,
        tags: &["distil", "sentences", "candidates"],
        example: r#"{"sel": {"ids": ["$id"]}}"#,
        ..Traits::DEFAULT
    };
}

/// Which scopes are due for a pass of their own.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Due {}

/// A scope that is due, and what its settings ask for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DueScope {
    /// The scope.
    pub scope: crate::context::Scope,
    /// How thorough.
    pub strategy: Strategy,
}

impl Operation for Due {
    type Returns = Vec<DueScope>;
    const TRAITS: Traits = Traits { audience: Audience::System, ..Traits::DEFAULT };
}

// ── Answers ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

/// A pass, counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Run {
    /// The pass, for `status` and `undo`; missing where there was nothing to record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<Id>,
    /// What kind of pass.
    pub kind: Kind,
    /// How thorough.
    pub strategy: Strategy,
    /// When.
    pub at: Time,
    /// Whether it was taken back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub undone: bool,
    /// What it found.
    pub counts: Counts,
    /// How a language model was asked; only with passes that asked one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<Asked>,
    /// Position in the log; missing where nothing was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
}

/// How much a pass found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Counts {
    /// Events it looked at.
    pub events: u32,
    /// Their sessions: by name, or by half an hour of silence.
    pub sessions: u32,
    /// Groups that belong together.
    pub clusters: u32,
    /// Sequences that recur.
    pub patterns: u32,
    /// Pairs that say nearly the same.
    pub duplicates: u32,
    /// Sentences worth keeping.
    pub candidates: u32,
    /// Events that are on the way to fading.
    pub weakened: u32,
    /// Events that faded.
    pub faded: u32,
    /// Whether more waited than one pass takes; the next one goes on there.
    pub more: bool,
}

/// What a pass found or would find; at most 50 of each kind.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunPlan {
    /// All of it, counted.
    pub counts: Counts,
    /// Groups that belong together, largest first.
    pub clusters: Vec<Cluster>,
    /// Sequences that recur.
    pub patterns: Vec<Pattern>,
    /// Pairs that say nearly the same.
    pub duplicates: Vec<Twins>,
    /// Sentences worth keeping.
    pub candidates: Vec<Candidate>,
    /// Events that fade.
    pub faded: Vec<Id>,
}

/// A pass and what it found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Examined {
    /// The pass.
    pub run: Run,
    /// What it found; nothing where it was undone.
    pub found: RunPlan,
}

/// Events that belong together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Cluster {
    /// The words that stand out in it: frequent in it, rare elsewhere.
    pub terms: Vec<String>,
    /// Its events, at most 100.
    pub members: Vec<Id>,
    /// How many events it has.
    pub size: u32,
    /// How well they hang together, from 0 to 1.
    pub cohesion: f64,
}

/// A sequence that recurs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Pattern {
    /// The event types, in order.
    pub types: Vec<String>,
    /// How many sessions hold it.
    pub support: u32,
    /// The share of all sessions that hold it, at least, by Wilson's bound at 95 %.
    pub share_low: f64,
    /// The events of one session that hold it.
    pub example: Vec<Id>,
}

/// Two items that say nearly the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Twins {
    /// The earlier.
    pub one: Id,
    /// The later.
    pub other: Id,
    /// How much alike, from 0 to 1.
    pub likeness: f64,
}

/// A sentence worth keeping.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Candidate {
    /// The sentence.
    pub content: String,
    /// The events it comes from.
    pub sources: Vec<Id>,
    /// How much it says: rare words, names and numbers count. Comparable within one answer.
    pub worth: f64,
}

// ── Events ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

/// An item was pinned or unpinned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pinned {
    /// The item.
    pub id: Id,
    /// Whether it is pinned now.
    pub pinned: bool,
}

/// A pass recorded what it found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Consolidated {
    /// The pass.
    pub run: Id,
    /// What kind of pass.
    pub kind: Kind,
    /// How thorough.
    pub strategy: Strategy,
    /// What it found.
    pub findings: Findings,
}

/// What a pass finds: ids and numbers only, so that no text outlives its erasure here. The read side proposes it, the layer
/// checks and records it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Findings {
    /// All of it, counted.
    pub counts: Counts,
    /// The last position it looked at.
    pub upto: u64,
    /// Groups that belong together, largest first.
    pub clusters: Vec<Grouped>,
    /// Sequences that recur.
    pub patterns: Vec<Recurring>,
    /// Pairs that say nearly the same.
    pub links: Vec<Linked>,
    /// Sentences worth keeping.
    pub candidates: Vec<Span>,
    /// Events that fade.
    pub faded: Vec<Id>,
}

/// Events that belong together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grouped {
    /// Its events, at most 100.
    pub members: Vec<Id>,
    /// How many it has.
    pub size: u32,
    /// How well they hang together, thousandths.
    pub cohesion: u16,
}

/// A sequence that recurs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recurring {
    /// The event types, in order.
    pub types: Vec<String>,
    /// How many sessions hold it.
    pub support: u32,
    /// The events of one session that hold it.
    pub example: Vec<Id>,
}

/// Two items that say nearly the same, the earlier first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Linked {
    /// The earlier.
    pub one: Id,
    /// The later.
    pub other: Id,
    /// How much alike, thousandths.
    pub likeness: u16,
}

/// A part of an event's content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// The event.
    pub source: Id,
    /// From this byte.
    pub from: u32,
    /// To before this byte.
    pub to: u32,
    /// How much it says, thousandths.
    pub worth: u32,
}

/// A pass was taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Undone {
    /// The pass.
    pub run: Id,
    /// The events that searches find again.
    pub back: Vec<Id>,
}

/// The settings of a scope were changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Configured {
    /// All of them, as they are now.
    pub settings: Settings,
}

crate::undo! {
    Pinned(it) => Undo::Call {
        op: "consolidation/pin",
        params: serde_json::json!({"id": it.id, "pinned": !it.pinned}),
    },
    Consolidated(it) => Undo::Call { op: "consolidation/undo", params: serde_json::json!({"run": it.run}) },
    Undone(_) => Undo::never("run the pass again: consolidation/consolidate"),
    Configured(_) => Undo::never("configure it anew: consolidation/configure"),
    Reasoned(it) => Undo::Call { op: "consolidation/undo", params: serde_json::json!({"run": it.run}) },
    Proposed(_) => Undo::never("undo its pass: consolidation/undo; or turn it down: consolidation/reject"),
    Judged(_) => Undo::never("retract the fact: semantic/retract"),
}
