//! The semantic layer: facts, add-only, with confidence, validity and provenance.

use crate::id::Id;
use crate::layers::common::{Ack, ten};
use crate::operation::{Operation, Traits};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

crate::layer! {
    semantic {
        commands { store: Store }
        queries { search: Search }
    }
}

crate::events! {
    /// What happens in the semantic layer.
    semantic {
        Stored = 0x0201 "stored" v 1 {},
    }
}

/// Store a fact and return its id. Nothing is overwritten: near-duplicates are linked and reported.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Store {
    /// The fact, in a sentence.
    pub content: String,
    /// Words to find and filter it by.
    #[serde(default)]
    pub tags: Vec<String>,
}

impl Operation for Store {
    type Returns = Ack;
    const TRAITS: Traits = Traits {
        sensitive: true,
        cost: 5,
        example: r#"{"content": "the kettle is in the cupboard"}"#,
        ..Traits::DEFAULT
    };
}

/// Search facts by meaning and keywords, best first.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Search {
    /// What to look for, in plain words.
    pub query: String,
    /// At most this many facts.
    #[serde(default = "ten")]
    pub limit: u32,
}

impl Operation for Search {
    type Returns = Vec<Fact>;
    const TRAITS: Traits =
        Traits { sensitive: true, cost: 2, example: r#"{"query": "kettle"}"#, ..Traits::DEFAULT };
}

/// A fact.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Fact {
    /// Its id.
    pub id: Id,
    /// The fact, in a sentence.
    pub content: String,
    /// Words to find and filter it by.
    pub tags: Vec<String>,
}

/// A fact was stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// The fact.
    pub id: Id,
    /// Its text.
    pub content: String,
    /// Its tags.
    pub tags: Vec<String>,
}
