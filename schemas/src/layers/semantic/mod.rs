//! The semantic layer: facts, add-only, with confidence, validity and provenance. Nothing a write does removes a fact:
//! likeness and contradiction are reported, and what replaces what is an explicit, audited decision.

mod answers;
mod events;

pub use answers::{Fact, FactVersion, Standing};
pub use events::{
    ConflictResolved, Discarded, Image, Reinforced, Relocated, Restored, Retracted, Revert, Reverted, Stored,
};

use crate::id::Id;
use crate::layers::common::{Ack, Forgetting, Hit, Paged, Prov, Time, fifty, ten};
pub use crate::layers::common::{Moved, PutBack, Relocate};
use crate::operation::{Audience, Operation, Traits};
use crate::risk::Risk;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

crate::layer! {
    semantic {
        commands {
            store: Store,
            bulk_store: BulkStore,
            supersede: Supersede,
            retract: Retract,
            resolve_conflict: ResolveConflict,
            merge: Merge,
            reinforce: Reinforce,
            discard: Discard,
            restore: Restore,
            relocate: Relocate,
            revert: Revert,
        }
        queries {
            search: Search,
            get: Get,
            list: List,
            history: History,
            as_of: AsOf,
            find_similar: FindSimilar,
            find_conflicts: FindConflicts,
        }
    }
}

crate::events! {
    /// What happens in the semantic layer.
    semantic {
        Stored = 0x0201 "stored" v 1 {},
        Retracted = 0x0202 "retracted" v 1 {},
        Reinforced = 0x0203 "reinforced" v 1 {},
        ConflictResolved = 0x0204 "conflict_resolved" v 1 {},
        Discarded = 0x0205 "discarded" v 1 {},
        Restored = 0x0206 "restored" v 1 {},
        Relocated = 0x0207 "relocated" v 1 {},
        Reverted = 0x0208 "reverted" v 1 {},
    }
}

/// Most facts one `bulk_store` takes.
pub const BULK: usize = 1_000;

/// The id of the conflict between two facts: the same whichever is named first.
pub fn conflict_id(a: &Id, b: &Id) -> Id {
    let (first, second) = if a <= b { (a, b) } else { (b, a) };
    let mut hasher = blake3::Hasher::new_derive_key("athena conflict");
    hasher.update(first.as_str().as_bytes()).update(&[0]).update(second.as_str().as_bytes());
    let mut bytes = [0; 16];
    hasher.finalize_xof().fill(&mut bytes);
    Id::new("co", 0, u128::from_le_bytes(bytes))
}

/// What a new version takes over from the facts it replaces; evidence for `supersede` and `merge`, as JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inherited {
    /// Their tags, united.
    pub tags: Vec<String>,
    /// The items they were derived from, united.
    pub events: Vec<Id>,
    /// Whether one of them came from outside.
    pub untrusted: bool,
}

// ── Commands ────────────────────────────────────────────────────────────────────────────────────────────────────────────

/// Store a fact. Nothing is overwritten: an equal fact returns its id; likeness and contradiction are reported.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Store {
    /// The fact, in a sentence; at most 64 KiB.
    pub content: String,
    /// How sure it is, from 0 to 1; 0.8 if not said.
    #[serde(default)]
    pub confidence: Option<f64>,
    /// Since when it has been true; open, if not said.
    #[serde(default)]
    pub valid_from: Option<Time>,
    /// Until when it was true; open, if not said.
    #[serde(default)]
    pub valid_to: Option<Time>,
    /// Words to find and filter it by.
    #[serde(default)]
    pub tags: Vec<String>,
    /// The fact it takes the place of.
    #[serde(default)]
    pub supersedes: Option<Id>,
    /// What to do where similar facts exist; `link` if not said.
    #[serde(default)]
    pub on_similar: OnSimilar,
    /// Where it came from, if not from the caller.
    #[serde(default)]
    pub prov: Option<Prov>,
    /// The content came from outside (a web page, a mail) and may try to instruct whoever reads it.
    #[serde(default)]
    pub untrusted: bool,
}

/// What to do where similar facts exist.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnSimilar {
    /// Add it and say nothing.
    Add,
    /// Add it, linked to the similar ones, and report them.
    #[default]
    Link,
    /// Refuse it and name the similar ones.
    Reject,
}

impl Operation for Store {
    type Returns = Ack;
    const TRAITS: Traits = Traits {
        sensitive: true,
        evidence: true,
        cost: 5,
        tags: &["add", "save", "learn", "know", "remember_semantic"],
        example: r#"{"content": "the kettle is in the cupboard", "confidence": 0.9, "tags": ["kitchen"]}"#,
        ..Traits::DEFAULT
    };
}

/// Store up to 1,000 facts at once: all of them or none.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BulkStore {
    /// The facts, each as `store` takes them.
    pub facts: Vec<Store>,
}

impl Operation for BulkStore {
    type Returns = Vec<Ack>;
    const TRAITS: Traits = Traits {
        sensitive: true,
        cost: 20,
        tags: &["batch", "import", "many"],
        example: r#"{"facts": [{"content": "tea is in the red tin"}, {"content": "sugar is in the blue tin"}]}"#,
        ..Traits::DEFAULT
    };
}

/// Replace a fact that was true by what is true now: closes the old validity, adds the new, links both.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Supersede {
    /// The fact that is no longer true.
    pub id: Id,
    /// What is true instead.
    pub content: String,
    /// Why.
    #[serde(default)]
    pub reason: Option<String>,
    /// Since when; now, if not said.
    #[serde(default)]
    pub valid_from: Option<Time>,
    /// How sure it is, from 0 to 1; as sure as the old one, if not said.
    #[serde(default)]
    pub confidence: Option<f64>,
}

impl Operation for Supersede {
    type Returns = Ack;
    const TRAITS: Traits = Traits {
        sensitive: true,
        evidence: true,
        cost: 5,
        tags: &["update", "replace", "correct", "change"],
        example: r#"{"id": "$id", "content": "the kettle is on the stove", "reason": "it was moved"}"#,
        ..Traits::DEFAULT
    };
}

/// Take back a fact that was never true: from then on only `history` shows it.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Retract {
    /// The fact.
    pub id: Id,
    /// Why.
    pub reason: String,
}

impl Operation for Retract {
    type Returns = Ack;
    const TRAITS: Traits = Traits {
        sensitive: true,
        cost: 3,
        tags: &["delete", "wrong", "remove"],
        example: r#"{"id": "$id", "reason": "it was a joke"}"#,
        ..Traits::DEFAULT
    };
}

/// How a conflict is resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// The other was true before.
    Supersede,
    /// The other was never true.
    Retract,
    /// Both are true; it is no conflict.
    BothTrue,
}

/// Decide a conflict between two facts.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResolveConflict {
    /// The conflict, as `find_conflicts` named it.
    pub conflict: Id,
    /// The fact to keep.
    pub keep: Id,
    /// What becomes of the other.
    pub how: How,
}

impl Operation for ResolveConflict {
    type Returns = Ack;
    const TRAITS: Traits = Traits {
        evidence: true,
        cost: 3,
        tags: &["contradiction", "decide"],
        example: r#"{"conflict": "$conflict", "keep": "$id", "how": "supersede"}"#,
        ..Traits::DEFAULT
    };
}

/// Make one fact out of several that say the same. The originals are superseded, their provenance and tags united.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Merge {
    /// The facts: 2 to 100.
    pub ids: Vec<Id>,
    /// What the one fact says; the text of the first, if not said.
    #[serde(default)]
    pub content: Option<String>,
}

impl Operation for Merge {
    type Returns = Ack;
    const TRAITS: Traits = Traits {
        sensitive: true,
        evidence: true,
        cost: 5,
        tags: &["combine", "dedupe", "join"],
        example: r#"{"ids": ["$id", "$id2"], "content": "the kettle is in the left cupboard"}"#,
        ..Traits::DEFAULT
    };
}

/// Make a fact more or less sure, in log-odds: +1 takes 0.5 to 0.73, −1 to 0.27. Bounded to 0.001 and 0.999.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reinforce {
    /// The fact.
    pub id: Id,
    /// By how much, from −5 to 5.
    pub delta: f64,
    /// The items that speak for it.
    #[serde(default)]
    pub evidence: Vec<Id>,
}

impl Operation for Reinforce {
    type Returns = Ack;
    const TRAITS: Traits = Traits {
        cost: 3,
        tags: &["confirm", "doubt", "confidence"],
        example: r#"{"id": "$id", "delta": 0.5}"#,
        ..Traits::DEFAULT
    };
}

/// Hide facts from every answer, or erase their content for ever: what undoing and erasing are made of.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Discard {
    /// The facts.
    pub ids: Vec<Id>,
    /// Hide or erase.
    pub mode: Forgetting,
}

/// How many items were changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Changed {
    /// How many.
    pub changed: u32,
    /// Position in the log; missing where nothing was changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
}

impl Operation for Discard {
    type Returns = Changed;
    const TRAITS: Traits = Traits {
        risk: Risk::High,
        audience: Audience::Human,
        cost: 10,
        tags: &["forget", "erase", "hide", "delete"],
        example: r#"{"ids": ["$id"], "mode": "hide"}"#,
        ..Traits::DEFAULT
    };
}

/// Bring hidden facts back.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Restore {
    /// The facts.
    pub ids: Vec<Id>,
}

impl Operation for Restore {
    type Returns = Changed;
    const TRAITS: Traits = Traits {
        audience: Audience::Human,
        tags: &["undo"],
        example: r#"{"ids": ["$id"]}"#,
        ..Traits::DEFAULT
    };
}

// ── Queries ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

/// Search facts by meaning and words, best first. Superseded and retracted facts are left out.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Search {
    /// What to look for, in plain words.
    pub query: String,
    /// Only facts at least this sure, from 0 to 1.
    #[serde(default)]
    pub min_confidence: Option<f64>,
    /// Only facts true at this time.
    #[serde(default)]
    pub valid_at: Option<Time>,
    /// Only facts with all of these tags.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Also facts that others have replaced.
    #[serde(default)]
    pub include_superseded: bool,
    /// At most this many, up to 1,000.
    #[serde(default = "ten")]
    pub limit: u32,
}

impl Operation for Search {
    type Returns = Vec<Hit<Fact>>;
    const TRAITS: Traits = Traits {
        sensitive: true,
        cost: 2,
        tags: &["find", "recall", "know", "recall_semantic"],
        example: r#"{"query": "kettle", "limit": 5}"#,
        ..Traits::DEFAULT
    };
}

/// Get one fact by its id, whatever became of it.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Get {
    /// The fact.
    pub id: Id,
}

impl Operation for Get {
    type Returns = Fact;
    const TRAITS: Traits = Traits { sensitive: true, example: r#"{"id": "$id"}"#, ..Traits::DEFAULT };
}

/// The order of a list of facts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Latest recorded first.
    #[default]
    Recorded,
    /// Surest first.
    Confidence,
}

/// Browse current facts.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct List {
    /// Only facts with all of these tags.
    #[serde(default)]
    pub tags: Vec<String>,
    /// In which order.
    #[serde(default)]
    pub order: Order,
    /// At most this many, up to 1,000.
    #[serde(default = "fifty")]
    pub limit: u32,
    /// `next` of the page before.
    #[serde(default)]
    pub cursor: Option<String>,
}

impl Operation for List {
    type Returns = Paged<Fact>;
    const TRAITS: Traits = Traits {
        sensitive: true,
        cost: 2,
        tags: &["browse", "all"],
        example: r#"{"limit": 5}"#,
        ..Traits::DEFAULT
    };
}

/// Get the whole chain of versions a fact belongs to, oldest first, with who changed it and why.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct History {
    /// Any fact of the chain.
    pub id: Id,
}

impl Operation for History {
    type Returns = Vec<FactVersion>;
    const TRAITS: Traits = Traits {
        sensitive: true,
        tags: &["versions", "audit", "changes"],
        example: r#"{"id": "$id"}"#,
        ..Traits::DEFAULT
    };
}

/// Search facts as they were true at one time and known at another.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AsOf {
    /// What to look for, in plain words.
    pub query: String,
    /// True at this time.
    pub valid_at: Time,
    /// Known at this time; now, if not said.
    #[serde(default)]
    pub known_at: Option<Time>,
    /// At most this many, up to 1,000.
    #[serde(default = "ten")]
    pub limit: u32,
}

impl Operation for AsOf {
    type Returns = Vec<Hit<Fact>>;
    const TRAITS: Traits = Traits {
        sensitive: true,
        cost: 3,
        tags: &["past", "bitemporal", "then"],
        example: r#"{"query": "kettle", "valid_at": "2026-11-20T12:00:00Z"}"#,
        ..Traits::DEFAULT
    };
}

/// Find facts that resemble a text: a preview of what `store` would report.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FindSimilar {
    /// The text.
    pub content: String,
    /// Least likeness, from 0 to 1; 0.6 if not said.
    #[serde(default)]
    pub threshold: Option<f64>,
    /// At most this many, up to 1,000.
    #[serde(default = "ten")]
    pub limit: u32,
}

impl Operation for FindSimilar {
    type Returns = Vec<Hit<Fact>>;
    const TRAITS: Traits = Traits {
        sensitive: true,
        cost: 2,
        tags: &["duplicate", "like"],
        example: r#"{"content": "the kettle is in the cupboard"}"#,
        ..Traits::DEFAULT
    };
}

/// Find facts that seem to contradict each other: about the same thing, saying something else, both held true at one time.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FindConflicts {
    /// Only conflicts of this fact.
    #[serde(default)]
    pub id: Option<Id>,
    /// At most this many, up to 1,000.
    #[serde(default = "fifty")]
    pub limit: u32,
    /// `next` of the page before.
    #[serde(default)]
    pub cursor: Option<String>,
}

/// Two facts that cannot well both be true.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Conflict {
    /// The conflict, for `resolve_conflict`.
    pub id: Id,
    /// The two facts, the earlier recorded first.
    pub facts: Vec<Fact>,
    /// What they differ in.
    pub reason: String,
}

impl Operation for FindConflicts {
    type Returns = Paged<Conflict>;
    const TRAITS: Traits = Traits {
        sensitive: true,
        cost: 3,
        tags: &["contradiction", "inconsistent"],
        example: r#"{"limit": 5}"#,
        ..Traits::DEFAULT
    };
}
