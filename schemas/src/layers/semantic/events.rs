//! What is put on record of facts.

use super::{How, Standing};
use crate::context::Scope;
use crate::id::Id;
use crate::layers::common::{self, Forgetting, Imaged, Origin};
use serde::{Deserialize, Serialize};

/// A fact was stored; it may take the place of others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// The fact.
    pub id: Id,
    /// Its text.
    pub content: String,
    /// Its confidence as log-odds, in millionths.
    pub log_odds: i32,
    /// True from this time, milliseconds since 1970; open where missing.
    pub valid_from_ms: Option<i64>,
    /// True until this time.
    pub valid_to_ms: Option<i64>,
    /// Its tags.
    pub tags: Vec<String>,
    /// Where it came from.
    pub origin: Origin,
    /// Came from outside.
    pub untrusted: bool,
    /// The facts whose place it takes; their validity ends where this one's begins, or now.
    pub supersedes: Vec<Id>,
    /// Why it takes their place.
    pub reason: Option<String>,
    /// Facts that resembled it.
    pub similar: Vec<Id>,
    /// Facts that seemed to contradict it.
    pub conflicts: Vec<Id>,
}

/// A fact was taken back: it was never true.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retracted {
    /// The fact.
    pub id: Id,
    /// Why.
    pub reason: String,
}

/// A fact became more or less sure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reinforced {
    /// The fact.
    pub id: Id,
    /// By how much, log-odds in millionths, before the bound.
    pub delta: i32,
    /// Its log-odds now, in millionths.
    pub log_odds: i32,
    /// The items that speak for it.
    pub evidence: Vec<Id>,
}

/// A conflict was decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConflictResolved {
    /// The conflict.
    pub conflict: Id,
    /// The fact that stays.
    pub keep: Id,
    /// The other fact.
    pub other: Id,
    /// What becomes of the other.
    pub how: How,
}

/// Facts were hidden or erased.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Discarded {
    /// The facts.
    pub ids: Vec<Id>,
    /// Hidden or erased.
    pub mode: Forgetting,
}

/// Hidden facts were brought back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// The facts.
    pub ids: Vec<Id>,
}

/// Facts were put into another scope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relocated {
    /// The facts.
    pub ids: Vec<Id>,
    /// Where they belong.
    pub to: Scope,
}

/// What can change of a fact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Where it belongs.
    pub scope: Scope,
    /// Whether it is hidden.
    pub hidden: bool,
    /// What became of it.
    pub standing: Standing,
    /// The fact that took its place.
    pub superseded_by: Option<Id>,
    /// When it stopped being current, milliseconds since 1970.
    pub closed_ms: Option<u64>,
    /// True until this time, milliseconds since 1970.
    pub valid_to_ms: Option<i64>,
    /// The end of its validity before it was closed.
    pub open_to_ms: Option<i64>,
    /// Why it was replaced or taken back.
    pub reason: Option<String>,
    /// Confidence: log-odds in millionths.
    pub log_odds: i32,
    /// Its confidence over time: recorded when, log-odds in millionths.
    pub sureness: Vec<(u64, i32)>,
    /// The items it rests on.
    pub evidence: Vec<Id>,
    /// Facts that are held true beside it, although they seem to contradict it.
    pub settled: Vec<Id>,
}

impl Imaged for Image {
    const EXAMPLE: &'static str = r#"{"items": [{"id": "fa_0", "to": null}]}"#;
}

/// Put items back as they stood: how changes are undone.
pub type Revert = common::Revert<Image>;

/// Items stand again as they stood before.
pub type Reverted = common::Reverted<Image>;

crate::undo! {
    Stored(it) => Undo::items(std::iter::once(&it.id).chain(&it.supersedes)),
    Retracted(it) => Undo::items([&it.id]),
    Reinforced(it) => Undo::items([&it.id]),
    ConflictResolved(it) => Undo::items([&it.keep, &it.other]),
    Discarded(it) => match it.mode {
        Forgetting::Hide => Undo::items(&it.ids),
        Forgetting::Erase => Undo::never("its content was destroyed with its key; nothing brings it back"),
    },
    Restored(it) => Undo::items(&it.ids),
    Relocated(it) => Undo::items(&it.ids),
}
