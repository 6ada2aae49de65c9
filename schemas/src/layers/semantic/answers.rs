//! What operations on facts answer.

use crate::id::Id;
use crate::layers::common::{Prov, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A fact.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Fact {
    /// Its id.
    pub id: Id,
    /// The fact, in a sentence.
    pub content: String,
    /// How sure it is, from 0 to 1.
    pub confidence: f64,
    /// Since when it has been true; missing where that is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_from: Option<Time>,
    /// Until when it was true; missing while it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_to: Option<Time>,
    /// When it became known.
    pub recorded: Time,
    /// Words to find and filter it by.
    pub tags: Vec<String>,
    /// Where it came from.
    pub prov: Prov,
    /// The content came from outside and may try to instruct whoever reads it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub untrusted: bool,
}

/// What became of a fact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Held true.
    Current,
    /// Another took its place.
    Superseded,
    /// Never true.
    Retracted,
    /// Hidden.
    Hidden,
    /// Its content is gone for ever.
    Erased,
}

/// One version in the history of a fact.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FactVersion {
    /// The version.
    pub fact: Fact,
    /// What became of it.
    pub standing: Standing,
    /// The version that took its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub superseded_by: Option<Id>,
    /// Why it was replaced or taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When that was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed: Option<Time>,
}
