//! What is put on record of the graph.

use crate::context::Scope;
use crate::id::Id;
use crate::layers::common::{self, Imaged, Origin};
use serde::{Deserialize, Serialize};

/// An entity was added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntityAdded {
    /// The entity.
    pub id: Id,
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: String,
    /// Other names.
    pub aliases: Vec<String>,
    /// Data, JSON; empty for none.
    pub attrs: String,
}

/// An entity was changed; what is missing stays as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntityUpdated {
    /// The entity.
    pub id: Id,
    /// Its name; the old one stays as an alias.
    pub name: Option<String>,
    /// What it is.
    pub kind: Option<String>,
    /// Names to add.
    pub add_aliases: Vec<String>,
    /// Data to set, JSON; empty for none.
    pub attrs: String,
}

/// Entities became one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntitiesMerged {
    /// The one that stays.
    pub keep: Id,
    /// The ones that became it.
    pub merged: Vec<Id>,
}

/// An entity became two.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntitySplit {
    /// The one that was split.
    pub id: Id,
    /// The new one, or the one a merge had taken in.
    pub into: Id,
    /// Its name.
    pub name: String,
    /// The edges that are its.
    pub edges: Vec<Id>,
}

/// Two entities were linked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdgeAdded {
    /// The edge.
    pub id: Id,
    /// Whose relation.
    pub from: Id,
    /// Which.
    pub relation: String,
    /// To whom.
    pub to: Id,
    /// True from this time on, milliseconds since 1970.
    pub valid_from_ms: Option<i64>,
    /// True until this time, milliseconds since 1970.
    pub valid_to_ms: Option<i64>,
    /// How strong, thousandths.
    pub weight: u16,
    /// Where it came from.
    pub origin: Origin,
}

/// An edge has held only until a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdgeInvalidated {
    /// The edge.
    pub id: Id,
    /// Until when, milliseconds since 1970.
    pub valid_to_ms: i64,
    /// Why.
    pub reason: Option<String>,
}

/// An entity was deleted, with its edges.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntityDeleted {
    /// The entity.
    pub id: Id,
}

/// A deleted entity was brought back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntityRestored {
    /// The entity.
    pub id: Id,
}

/// Entities were put into another scope, with their edges.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relocated {
    /// The entities.
    pub ids: Vec<Id>,
    /// Where they belong.
    pub to: Scope,
}

/// A part of the graph as it stood.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Image {
    /// An entity.
    Entity {
        /// Where it belongs.
        scope: Scope,
        /// Its names and attributes.
        entity: EntityAdded,
        /// The entity that a merge made it part of.
        into: Option<Id>,
        /// Whether it is deleted.
        deleted: bool,
    },
    /// An edge.
    Edge {
        /// What it joins, and how long it holds.
        edge: EdgeAdded,
        /// When it was recorded that it holds no longer, milliseconds since 1970.
        closed_ms: Option<u64>,
        /// The end of its validity before that.
        open_to_ms: Option<i64>,
        /// Why.
        reason: Option<String>,
        /// Whether it was taken back.
        hidden: bool,
    },
}

impl Imaged for Image {
    const EXAMPLE: &'static str = r#"{"items": [{"id": "en_0", "to": null}]}"#;
}

/// Put items back as they stood: how changes are undone.
pub type Revert = common::Revert<Image>;

/// Items stand again as they stood before.
pub type Reverted = common::Reverted<Image>;

crate::undo! {
    EntityAdded(it) => Undo::items([&it.id]),
    EntityUpdated(it) => Undo::items([&it.id]),
    EntitiesMerged(it) => Undo::items(&it.merged),
    EntitySplit(it) => Undo::items([&it.id, &it.into].into_iter().chain(&it.edges)),
    EdgeAdded(it) => Undo::items([&it.id]),
    EdgeInvalidated(it) => Undo::items([&it.id]),
    EntityDeleted(it) => Undo::items([&it.id]),
    EntityRestored(it) => Undo::items([&it.id]),
    Relocated(it) => Undo::items(&it.ids),
}
