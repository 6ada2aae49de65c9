//! What the graph's operations answer.

use crate::id::Id;
use crate::layers::common::{Object, Prov, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An entity.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Entity {
    /// Its id.
    pub id: Id,
    /// Its name.
    pub name: String,
    /// What it is.
    #[serde(rename = "type")]
    pub kind: String,
    /// Other names it goes by.
    pub aliases: Vec<String>,
    /// Anything else worth knowing.
    pub attrs: Object,
    /// How central it is among what is known, from 0 to 1.
    pub importance: f64,
}

/// A relation between two entities.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Edge {
    /// Its id.
    pub id: Id,
    /// Whose relation.
    pub from: Id,
    /// To whom.
    pub to: Id,
    /// Which.
    pub relation: String,
    /// How strong, up to 1.
    pub weight: f64,
    /// True from this time on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_from: Option<Time>,
    /// True until this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_to: Option<Time>,
    /// When it was recorded.
    pub recorded: Time,
    /// Where it came from.
    pub prov: Prov,
}

/// A part of the graph.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SubGraph {
    /// Entities, the most related first.
    pub entities: Vec<Entity>,
    /// Edges among them.
    pub edges: Vec<Edge>,
}

/// A group of entities.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Community {
    /// Its id; stable as long as its members are.
    pub id: Id,
    /// How many entities.
    pub size: u32,
    /// Its most central members, at most ten.
    pub members: Vec<Id>,
    /// The words that tell it from others.
    pub terms: Vec<String>,
}

/// What a community is about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CommunitySummary {
    /// Its most central member, and what it is.
    pub title: String,
    /// The words that tell it from others.
    pub terms: Vec<String>,
    /// Its members, the most central first.
    pub members: Vec<Entity>,
    /// Its strongest relations as sentences.
    pub summary: String,
}
