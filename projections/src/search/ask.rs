//! What is asked of search, and what is answered.

use super::plan;
use athena_schemas::context::Scope;
use athena_schemas::id::Id;
use athena_schemas::layers::common::{Layer, Signals};
use athena_schemas::layers::rag::Signal;

/// Most documents one search answers.
pub const MOST: usize = 1_000;

/// Which channels take part.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Strategy {
    /// All there are, with their surroundings.
    #[default]
    Auto,
    /// Words only.
    Bm25,
    /// Meaning only.
    Vector,
    /// Words and meaning, without their surroundings.
    Hybrid,
}

/// What each term may add. Words and meaning weigh z-scores; the rest are parts of the score's range.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weights {
    /// Words.
    pub bm25: f64,
    /// Meaning.
    pub vector: f64,
    /// The one before and the one after, each.
    pub neighbours: f64,
    /// The rest of the session.
    pub session: f64,
    /// By the one whom the query names.
    pub actor: f64,
    /// How much it says by itself.
    pub substance: f64,
    /// New rather than old.
    pub recency: f64,
    /// When the query says.
    pub time: f64,
    /// About an entity that those in the query lead to.
    pub graph: f64,
    /// An answer to one of several things that are asked.
    pub part: f64,
}

impl Weights {
    /// Where there is no model: the surroundings say more.
    pub const WORDS: Self = Self {
        bm25: 1.0,
        vector: 0.0,
        neighbours: 0.5,
        session: 0.5,
        actor: 0.15,
        substance: 0.1,
        recency: 0.0,
        time: 0.3,
        graph: 0.2,
        part: 0.1,
    };
    /// With a static model.
    pub const STATIC: Self = Self { bm25: 0.5, vector: 0.5, neighbours: 0.3, ..Self::WORDS };
    /// With a sentence model, which is worth more than words.
    pub const SENTENCE: Self = Self { bm25: 0.4, vector: 0.6, ..Self::STATIC };

    /// With what the use of earlier answers taught.
    pub(super) fn learned(self, factor: impl Fn(Signal) -> f64) -> Self {
        Self {
            bm25: self.bm25 * factor(Signal::Words),
            vector: self.vector * factor(Signal::Meaning),
            neighbours: self.neighbours * factor(Signal::Neighbours),
            session: self.session * factor(Signal::Session),
            actor: self.actor * factor(Signal::Actor),
            ..self
        }
    }

    /// Fitted to the query: where all of something is asked for, the answer is spread, so that surroundings say less and who
    /// speaks says more.
    pub(super) fn fitted(self, query: &str) -> Self {
        if plan::asks_for_list(query) {
            Self {
                neighbours: self.neighbours * 0.5,
                session: self.session * 0.5,
                actor: self.actor + 0.1,
                ..self
            }
        } else {
            self
        }
    }
}

/// Conditions a document must meet.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Filters {
    /// Happened from the first (inclusive) to the second (exclusive), milliseconds since 1970.
    pub range: Option<(i64, i64)>,
    /// Of this type.
    pub kind: Option<String>,
    /// With all of these tags.
    pub tags: Vec<String>,
    /// At least this confidence, 0 to 1.
    pub min_confidence: Option<f64>,
    /// True at this time, milliseconds since 1970; the present if not said.
    pub valid_at: Option<i64>,
    /// Also what is no longer true.
    pub include_superseded: bool,
    /// Of this session.
    pub session: Option<String>,
    /// Only these.
    pub only: Option<Vec<Id>>,
}

/// A question.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ask {
    /// In plain words; no syntax, nothing in it is a command.
    pub query: String,
    /// Narrows the caller's scope.
    pub scope: Scope,
    /// Of these layers; all where empty.
    pub layers: Vec<Layer>,
    /// Conditions.
    pub filters: Filters,
    /// At most this many, up to [`MOST`].
    pub limit: usize,
    /// Which channels take part.
    pub strategy: Strategy,
    /// What each term may add; chosen by strategy and model where missing.
    pub weights: Option<Weights>,
    /// Search near this vector instead of the query's.
    pub vector: Option<Vec<f32>>,
    /// Names that those in the query lead to, and how closely, 0 to 1.
    pub leads: Vec<(String, f64)>,
}

impl Ask {
    /// The best ten for a query.
    pub fn new(query: impl Into<String>) -> Self {
        Self { query: query.into(), limit: 10, ..Self::default() }
    }
}

/// Something found.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The item.
    pub id: Id,
    /// Its layer.
    pub layer: Layer,
    /// How well it fits; comparable within one answer only.
    pub score: f64,
    /// What the score is made of: what each term added to it.
    pub signals: Signals,
}
