//! What a language model proposes about clusters that the first system was unsure of: asked for, recorded with its sources, and
//! accepted or turned down by somebody.

use crate::id::Id;
use crate::layers::common::{Ack, Paged, Time, fifty};
use crate::operation::{Audience, Operation, Traits};
use crate::risk::Risk;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Turn a proposal down. It is not offered again; its sources stay as they are.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reject {
    /// The proposal.
    pub id: Id,
}

impl Operation for Reject {
    type Returns = Ack;
    const TRAITS: Traits = Traits {
        evidence: true,
        tags: &["proposal", "decline", "dismiss"],
        example: r#"{"id": "$proposal"}"#,
        ..Traits::DEFAULT
    };
}

/// Record that a proposal became a fact. `accept` calls it.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Judge {
    /// The proposal.
    pub id: Id,
    /// The fact.
    pub fact: Id,
}

impl Operation for Judge {
    type Returns = Ack;
    const TRAITS: Traits = Traits {
        audience: Audience::System,
        evidence: true,
        example: r#"{"id": "$proposal", "fact": "fa_0"}"#,
        ..Traits::DEFAULT
    };
}

/// Most proposals one pass records.
pub const PROPOSALS: usize = 100;
/// Most bytes of a proposal's text.
pub const PROPOSAL_BYTES: usize = 500;
/// Most sources of a proposal.
pub const PROPOSAL_SOURCES: usize = 20;

/// Record what a language model proposed about unsure clusters. `reason` calls it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NoteReasoning {
    /// The pass whose clusters it was asked about.
    pub of: Id,
    /// What was asked how, and how it went.
    pub asked: Asked,
    /// What it proposed, at most 100.
    pub claims: Vec<Claim>,
}

/// What a language model says together with what it rests on.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// One sentence, at most 500 bytes.
    pub content: String,
    /// The events it rests on: at least one, at most 20.
    pub sources: Vec<Id>,
    /// How sure the model says it is, from 0 to 1.
    pub confidence: f64,
}

/// How a language model was asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Asked {
    /// The form of its endpoint and its name, such as `ollama/llama3.2`.
    pub model: String,
    /// The version of the prompt.
    pub prompt: u16,
    /// Calls made.
    pub calls: u32,
    /// Calls of them that failed, or whose answer was not of the form asked for.
    pub failed: u32,
    /// Claims that were dropped: they cited nothing or something unknown, were too long, or spoke to a model.
    pub dropped: u32,
    /// Tokens sent, as the model counts them; by our own count where it says nothing.
    pub tokens_in: u64,
    /// Tokens answered, likewise.
    pub tokens_out: u64,
}

/// What was recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Noted {
    /// The pass, for `proposals` and `undo`.
    pub run: Id,
    /// The proposals, in the order given.
    pub proposals: Vec<Id>,
    /// Position in the log.
    pub seq: u64,
}

impl Operation for NoteReasoning {
    type Returns = Noted;
    const TRAITS: Traits = Traits {
        audience: Audience::System,
        example: r#"{"of": "$run", "asked": {"model": "ollama/example", "prompt": 1, "calls": 1, "failed": 0,
            "dropped": 0, "tokens_in": 300, "tokens_out": 40},
            "claims": [{"content": "the tea is in the red tin", "sources": ["$id"], "confidence": 0.7}]}"#,
        ..Traits::DEFAULT
    };
}

/// Ask the configured language model what the events of unsure clusters say together. Only clusters whose cohesion is below
/// 0.4 are sent, at most 20 events of each, secrets as tokens; every answer becomes a proposal with its sources, to be
/// accepted or rejected. Without a model (`[consolidation.model]` in the settings) only a `dry_run` is answered.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reason {
    /// The pass whose clusters are meant; the last one in this scope that found any, if not said.
    #[serde(default)]
    pub run: Option<Id>,
    /// Only say what would be sent; nothing leaves this machine.
    #[serde(default)]
    pub dry_run: bool,
}

impl Operation for Reason {
    type Returns = Reasoning;
    const TRAITS: Traits = Traits {
        risk: Risk::Medium,
        sensitive: true,
        cost: 100,
        tags: &["llm", "model", "summarise", "reflect", "ollama", "openai", "anthropic", "insight"],
        example: r#"{"dry_run": true}"#,
        ..Traits::DEFAULT
    };
}

/// What asking a language model led to, or would.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Reasoning {
    /// The pass, for `proposals` and `undo`; missing where nothing was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<Id>,
    /// The pass whose clusters were looked at; missing where none has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<Id>,
    /// How many clusters of it are unsure.
    pub unsure: u32,
    /// How the model was asked; in a rehearsal how it would be, with the tokens that would be sent.
    pub asked: Asked,
    /// What it proposed.
    pub proposals: Vec<Proposal>,
    /// Position in the log; missing where nothing was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
}

/// Make a fact of a proposal, with the proposal's sources as its own. The fact is an ordinary one: `semantic/retract` says that
/// it was wrong.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Accept {
    /// The proposal.
    pub id: Id,
    /// The fact in better words; the proposal's own, if not said.
    #[serde(default)]
    pub content: Option<String>,
}

impl Operation for Accept {
    type Returns = Ack;
    const TRAITS: Traits = Traits {
        risk: Risk::Medium,
        sensitive: true,
        cost: 5,
        tags: &["proposal", "confirm", "keep"],
        example: r#"{"id": "$proposal"}"#,
        ..Traits::DEFAULT
    };
}

/// List what language models proposed, newest first, with what it rests on. A proposal whose sources are gone is not shown.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Proposals {
    /// Only this one.
    #[serde(default)]
    pub id: Option<Id>,
    /// Only those of this pass.
    #[serde(default)]
    pub run: Option<Id>,
    /// Only these; the pending ones if not said and neither `id` nor `run` is.
    #[serde(default)]
    pub standing: Option<Standing>,
    /// At most this many, up to 1,000.
    #[serde(default = "fifty")]
    pub limit: u32,
    /// `next` of the page before.
    #[serde(default)]
    pub cursor: Option<String>,
}

impl Operation for Proposals {
    type Returns = Paged<Proposal>;
    const TRAITS: Traits = Traits {
        sensitive: true,
        tags: &["llm", "pending", "review", "insight"],
        example: r#"{"limit": 5}"#,
        ..Traits::DEFAULT
    };
}

/// What became of a proposal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Nobody has decided.
    Pending,
    /// It is a fact now.
    Accepted,
    /// It was turned down.
    Rejected,
}

/// What a language model proposed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Proposal {
    /// For `accept` and `reject`.
    pub id: Id,
    /// The pass.
    pub run: Id,
    /// What it says.
    pub content: String,
    /// The events it rests on.
    pub sources: Vec<Id>,
    /// How sure the model says it is, from 0 to 1.
    pub confidence: f64,
    /// The model.
    pub model: String,
    /// When.
    pub at: Time,
    /// What became of it.
    pub standing: Standing,
    /// The fact it became.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fact: Option<Id>,
}

/// Find the clusters of a pass that a language model would be asked about, with the texts it would see.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Unsure {
    /// The pass; the last one in this scope that found clusters, if not said.
    #[serde(default)]
    pub run: Option<Id>,
}

impl Operation for Unsure {
    type Returns = Doubts;
    const TRAITS: Traits =
        Traits { audience: Audience::System, sensitive: true, cost: 20, ..Traits::DEFAULT };
}

/// Clusters that hang together loosely.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Doubts {
    /// The pass they are of; missing where none has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<Id>,
    /// All of them, counted.
    pub unsure: u32,
    /// The largest of them, at most 10.
    pub clusters: Vec<Vec<Note>>,
}

/// An event as a language model sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Note {
    /// The event.
    pub id: Id,
    /// When it happened.
    pub time: Time,
    /// What it says, at most 600 bytes.
    pub content: String,
}

/// A language model was asked about the unsure clusters of a pass. What it proposed follows, an event each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reasoned {
    /// This pass.
    pub run: Id,
    /// The pass whose clusters it was asked about.
    pub of: Id,
    /// How.
    pub asked: Asked,
}

/// A language model proposed something. The text is its own; it is erased with any of its sources.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposed {
    /// The pass.
    pub run: Id,
    /// The proposal.
    pub id: Id,
    /// What it says.
    pub content: String,
    /// The events it rests on.
    pub sources: Vec<Id>,
    /// How sure the model says it is, thousandths.
    pub confidence: u16,
}

/// A proposal was decided on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judged {
    /// The proposal.
    pub id: Id,
    /// The fact it became; missing where it was turned down.
    pub fact: Option<Id>,
}
