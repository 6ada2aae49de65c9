//! The rag layer: retrieval over all memory layers, one step at a time or as a whole, and what it learns from its use.

use crate::id::Id;
use crate::layers::common::{Hit, Layer, Range, Signals, Time, ten};
use crate::operation::{Operation, Traits, any};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::borrow::Cow;

crate::layer! {
    rag {
        commands { feedback: Feedback }
        queries {
            retrieve: Retrieve,
            bm25_search: Bm25Search,
            vector_search: VectorSearch,
            hybrid_search: HybridSearch,
            graph_search: GraphSearch,
            plan_query: PlanQuery,
            expand_query: ExpandQuery,
            hyde: Hyde,
            rerank: Rerank,
            pack: Pack,
            explain: Explain,
        }
    }
}

crate::events! {
    /// What happens in the rag layer.
    rag {
        Judged = 0x0801 "judged" v 1 {},
    }
}

/// Most ids that one `rerank` or `feedback` names.
pub const IDS: usize = 200;
/// Most tokens that one `pack` may fill.
pub const BUDGET: u32 = 100_000;

/// An item of any layer, as its own layer answers it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Item(pub Value);

impl JsonSchema for Item {
    fn schema_name() -> Cow<'static, str> {
        "Item".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        any(generator)
    }
}

/// Something found in any layer.
pub type AnyHit = Hit<Item>;

/// How to search.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// Plan the query, then everything there is.
    #[default]
    Auto,
    /// Words only.
    Bm25,
    /// Meaning only.
    Vector,
    /// Words and meaning, without their surroundings.
    Hybrid,
    /// From the entities that the query names to what speaks of them.
    Graph,
}

/// Find what fits a question, over all layers, best first. Start here; the other operations are its steps.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Retrieve {
    /// What to look for, in plain words; a question is fine.
    pub query: String,
    /// In these layers; in all if not said.
    #[serde(default)]
    pub layers: Vec<Layer>,
    /// At most this many, up to 1,000.
    #[serde(default = "ten")]
    pub limit: u32,
    /// How to search.
    #[serde(default)]
    pub strategy: Strategy,
    /// Only what happened in this span.
    #[serde(default)]
    pub range: Option<Range>,
    /// Only what has all of these tags.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Only of this session.
    #[serde(default)]
    pub session: Option<String>,
    /// Only episodes of this type.
    #[serde(default, rename = "type")]
    pub kind: Option<String>,
    /// Also what is no longer true.
    #[serde(default)]
    pub include_superseded: bool,
}

impl Operation for Retrieve {
    type Returns = Vec<AnyHit>;
    const TRAITS: Traits = Traits {
        sensitive: true,
        cost: 2,
        tags: &["search", "recall", "find", "remember", "question"],
        example: r#"{"query": "where is the kettle?", "limit": 5, "layers": ["episodic", "semantic"]}"#,
        ..Traits::DEFAULT
    };
}

/// Search by words alone: exact names, numbers and identifiers.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Bm25Search {
    /// The words; no syntax.
    pub query: String,
    /// In these layers; in all if not said.
    #[serde(default)]
    pub layers: Vec<Layer>,
    /// At most this many, up to 1,000.
    #[serde(default = "ten")]
    pub limit: u32,
}

impl Operation for Bm25Search {
    type Returns = Vec<AnyHit>;
    const TRAITS: Traits = Traits {
        sensitive: true,
        cost: 2,
        tags: &["keyword", "lexical", "full text"],
        example: r#"{"query": "kettle"}"#,
        ..Traits::DEFAULT
    };
}

/// A text, or a vector of the model in use.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum TextOrVector {
    /// A text, to be embedded.
    Text(String),
    /// A vector.
    Vector(Vec<f32>),
}

/// Search by meaning alone, near a text or a vector. Needs a model; refused where none is installed.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VectorSearch {
    /// A text, or a vector of the model in use.
    pub query: TextOrVector,
    /// In these layers; in all if not said.
    #[serde(default)]
    pub layers: Vec<Layer>,
    /// At most this many, up to 1,000.
    #[serde(default = "ten")]
    pub limit: u32,
}

impl Operation for VectorSearch {
    type Returns = Vec<AnyHit>;
    const TRAITS: Traits = Traits {
        sensitive: true,
        cost: 2,
        tags: &["embedding", "semantic", "similar"],
        example: r#"{"query": "boiling water"}"#,
        ..Traits::DEFAULT
    };
}

/// What each signal may weigh, from 0 to 10; missing ones stay as they are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SignalWeights {
    /// Words.
    #[serde(default)]
    pub bm25: Option<f64>,
    /// Meaning.
    #[serde(default)]
    pub vector: Option<f64>,
    /// Entities that lead to it.
    #[serde(default)]
    pub graph: Option<f64>,
    /// How recent it is.
    #[serde(default)]
    pub recency: Option<f64>,
}

/// Search by words and meaning with weights of one's own.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HybridSearch {
    /// What to look for.
    pub query: String,
    /// What each signal weighs.
    #[serde(default)]
    pub weights: SignalWeights,
    /// In these layers; in all if not said.
    #[serde(default)]
    pub layers: Vec<Layer>,
    /// At most this many, up to 1,000.
    #[serde(default = "ten")]
    pub limit: u32,
}

impl Operation for HybridSearch {
    type Returns = Vec<AnyHit>;
    const TRAITS: Traits = Traits {
        sensitive: true,
        cost: 2,
        tags: &["weights", "fusion"],
        example: r#"{"query": "kettle", "weights": {"bm25": 1, "recency": 0.5}}"#,
        ..Traits::DEFAULT
    };
}

/// Search from what the query names to what speaks of the same names, one or two steps on.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GraphSearch {
    /// What to look for.
    pub query: String,
    /// How many steps, 1 or 2.
    #[serde(default = "one")]
    pub hops: u32,
    /// In these layers; in all if not said.
    #[serde(default)]
    pub layers: Vec<Layer>,
    /// At most this many, up to 1,000.
    #[serde(default = "ten")]
    pub limit: u32,
}

fn one() -> u32 {
    1
}

impl Operation for GraphSearch {
    type Returns = Vec<AnyHit>;
    const TRAITS: Traits = Traits {
        sensitive: true,
        cost: 3,
        tags: &["multi-hop", "entities", "related"],
        example: r#"{"query": "kettle", "hops": 2}"#,
        ..Traits::DEFAULT
    };
}

/// Show how a query is understood: its parts, its time, the names in it and the layers that fit.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanQuery {
    /// The query.
    pub query: String,
    /// What "now" means; the present if not said.
    #[serde(default)]
    pub now: Option<Time>,
}

/// How a query is understood.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Plan {
    /// What is asked, part by part.
    pub sub_queries: Vec<String>,
    /// The time it names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<Range>,
    /// The names in it.
    pub entities: Vec<String>,
    /// The layers that fit, most likely first.
    pub layers: Vec<Layer>,
    /// It asks for all of something, so the answer may be spread over many items.
    pub list: bool,
}

impl Operation for PlanQuery {
    type Returns = Plan;
    const TRAITS: Traits = Traits {
        sensitive: true,
        tags: &["decompose", "understand"],
        example: r#"{"query": "what did Ann and Bob buy last week?", "now": "2026-11-24T09:00:00Z"}"#,
        ..Traits::DEFAULT
    };
}

/// Find other words for a query in what was found for it.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExpandQuery {
    /// The query.
    pub query: String,
    /// How many queries, up to 20.
    #[serde(default = "five")]
    pub n: u32,
}

fn five() -> u32 {
    5
}

impl Operation for ExpandQuery {
    type Returns = Vec<String>;
    const TRAITS: Traits = Traits {
        sensitive: true,
        cost: 2,
        tags: &["synonyms", "relevance feedback"],
        example: r#"{"query": "kettle", "n": 3}"#,
        ..Traits::DEFAULT
    };
}

/// Search with a drafted answer instead of the question. Without a reasoner the draft is the query and the words found for it.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hyde {
    /// The question.
    pub query: String,
    /// A draft of the answer, if the caller has one: it is searched with.
    #[serde(default)]
    pub draft: Option<String>,
    /// At most this many, up to 1,000.
    #[serde(default = "ten")]
    pub limit: u32,
}

/// Who wrote the draft.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Drafter {
    /// The caller.
    Caller,
    /// No reasoner is available: the query was expanded by its own results.
    Unavailable,
}

/// What a drafted answer found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Drafted {
    /// What was searched with.
    pub draft: String,
    /// Who wrote it.
    pub drafter: Drafter,
    /// What was found.
    pub hits: Vec<AnyHit>,
}

impl Operation for Hyde {
    type Returns = Drafted;
    const TRAITS: Traits = Traits {
        sensitive: true,
        cost: 3,
        tags: &["hypothetical", "draft"],
        example: r#"{"query": "where is the kettle?", "draft": "The kettle is in the cupboard."}"#,
        ..Traits::DEFAULT
    };
}

/// Put items one already has in the order in which they fit a query.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rerank {
    /// The query.
    pub query: String,
    /// The items, at most 200.
    pub ids: Vec<Id>,
}

impl Operation for Rerank {
    type Returns = Vec<AnyHit>;
    const TRAITS: Traits = Traits {
        sensitive: true,
        cost: 2,
        tags: &["order", "sort"],
        example: r#"{"query": "kettle", "ids": ["$id"]}"#,
        ..Traits::DEFAULT
    };
}

/// Fill a budget with what fits a question: deduplicated, in the order of time, cited.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pack {
    /// The question.
    pub query: String,
    /// At most this many tokens, up to 100,000; a token is counted as four bytes.
    pub budget_tokens: u32,
    /// In these layers; in all if not said.
    #[serde(default)]
    pub layers: Vec<Layer>,
}

/// What a line of a packed text stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Citation {
    /// Its mark in the text, such as 3 for `[3]`.
    pub mark: u32,
    /// The item.
    pub id: Id,
    /// When it happened or was recorded.
    pub time: Time,
}

/// Context for a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Packed {
    /// One line an item: `[1] 2026-11-20 Ann: …`.
    pub text: String,
    /// Tokens used.
    pub used: u32,
    /// What the lines stand for.
    pub citations: Vec<Citation>,
}

impl Operation for Pack {
    type Returns = Packed;
    const TRAITS: Traits = Traits {
        sensitive: true,
        cost: 3,
        tags: &["context", "prompt", "cite", "tokens"],
        example: r#"{"query": "where is the kettle?", "budget_tokens": 500}"#,
        ..Traits::DEFAULT
    };
}

/// Show why an item stands where it stands for a query.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Explain {
    /// The query.
    pub query: String,
    /// The item.
    pub id: Id,
}

/// Why an item stands where it stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Explained {
    /// Its place, from 1; missing where it is not among the first 1,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rank: Option<u32>,
    /// Its score.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
    /// What each signal added.
    pub signals: Signals,
    /// The words of the query that it has.
    pub matched: Vec<String>,
    /// Those it has not.
    pub missing: Vec<String>,
    /// How the query was understood.
    pub plan: Plan,
}

impl Operation for Explain {
    type Returns = Explained;
    const TRAITS: Traits = Traits {
        sensitive: true,
        cost: 2,
        tags: &["why", "score", "signals"],
        example: r#"{"query": "kettle", "id": "$id"}"#,
        ..Traits::DEFAULT
    };
}

/// Say which of the items found were used and which were not; later searches of the project weigh their signals accordingly.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Feedback {
    /// The query they were found for.
    pub query: String,
    /// Those that helped, at most 200.
    pub used: Vec<Id>,
    /// Those that did not, at most 200.
    #[serde(default)]
    pub unused: Vec<Id>,
}

/// What was learned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Learned {
    /// How many signals told the used from the unused.
    pub signals: u32,
    /// Position in the log.
    pub seq: u64,
}

impl Operation for Feedback {
    type Returns = Learned;
    const TRAITS: Traits = Traits {
        sensitive: true,
        evidence: true,
        tags: &["learn", "rate", "relevance"],
        example: r#"{"query": "kettle", "used": ["$id"]}"#,
        ..Traits::DEFAULT
    };
}

/// A signal whose weight is learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Signal {
    /// Words.
    Words,
    /// Meaning.
    Meaning,
    /// What stands beside it.
    Neighbours,
    /// The rest of its session.
    Session,
    /// By the one whom the query names.
    Actor,
}

/// How much more of a signal the used items had than the unused ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lesson {
    /// The signal.
    pub signal: Signal,
    /// The difference in parts of a thousand of the score, from -1,000 to 1,000.
    pub gain: i16,
}

/// Items found were judged by their use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judged {
    /// The query.
    pub query: String,
    /// Those that helped.
    pub used: Vec<Id>,
    /// Those that did not.
    pub unused: Vec<Id>,
    /// What told them apart at the time.
    pub lessons: Vec<Lesson>,
}

crate::undo! { Judged(_) => Undo::never("every judgement counts; judge again: rag/feedback") }
