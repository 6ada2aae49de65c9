//! What is put on record of tasks, goals and triggers.

use super::Status;
use crate::context::Scope;
use crate::id::Id;
use crate::layers::common::{self, Imaged};
use serde::{Deserialize, Serialize};

/// A task was created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskCreated {
    /// The task.
    pub id: Id,
    /// What is to be done.
    pub title: String,
    /// By when, milliseconds since 1970.
    pub due_ms: Option<i64>,
    /// The goal it serves.
    pub goal: Option<Id>,
    /// How urgent: 0 to 3.
    pub priority: u8,
    /// Tasks that must be done before it.
    pub depends_on: Vec<Id>,
    /// Anything else worth knowing.
    pub notes: Option<String>,
}

/// A task was changed; what is missing stays as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskUpdated {
    /// The task.
    pub id: Id,
    /// What is to be done.
    pub title: Option<String>,
    /// By when, milliseconds since 1970.
    pub due_ms: Option<i64>,
    /// Where it stands.
    pub status: Option<Status>,
    /// How urgent.
    pub priority: Option<u8>,
    /// The goal it serves.
    pub goal: Option<Id>,
    /// Tasks that must be done before it.
    pub depends_on: Option<Vec<Id>>,
    /// Anything else worth knowing.
    pub notes: Option<String>,
    /// Not to be brought up before, milliseconds since 1970.
    pub snoozed_until_ms: Option<i64>,
    /// How it ended.
    pub outcome: Option<String>,
}

/// A goal was created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GoalCreated {
    /// The goal.
    pub id: Id,
    /// What is to be reached.
    pub title: String,
    /// The greater goal it serves.
    pub parent: Option<Id>,
    /// By when, milliseconds since 1970.
    pub due_ms: Option<i64>,
    /// How one will know that it is reached.
    pub measure: Option<String>,
}

/// A goal was changed; what is missing stays as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GoalUpdated {
    /// The goal.
    pub id: Id,
    /// What is to be reached.
    pub title: Option<String>,
    /// The greater goal it serves.
    pub parent: Option<Id>,
    /// By when, milliseconds since 1970.
    pub due_ms: Option<i64>,
    /// How one will know that it is reached.
    pub measure: Option<String>,
    /// Where it stands.
    pub status: Option<Status>,
}

/// A trigger was registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TriggerRegistered {
    /// The trigger.
    pub id: Id,
    /// At this time, once, milliseconds since 1970.
    pub at_ms: Option<i64>,
    /// Again and again, milliseconds.
    pub every_ms: Option<u64>,
    /// When an event of this type is remembered.
    pub event_type: Option<String>,
    /// When this text occurs in the context.
    pub matches: Option<String>,
    /// When this entity is named in the context.
    pub entity: Option<Id>,
    /// The task it brings up.
    pub task: Option<Id>,
    /// The note it brings up.
    pub note: Option<String>,
}

/// A trigger was removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TriggerRemoved {
    /// The trigger.
    pub id: Id,
}

/// Items were put into another scope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relocated {
    /// The items.
    pub ids: Vec<Id>,
    /// Where they belong.
    pub to: Scope,
}

/// An intention as it stood.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Where it belongs.
    pub scope: Scope,
    /// What it is.
    pub thing: Thing,
}

/// A task, goal or trigger as it stood.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Thing {
    /// A task.
    Task {
        /// Its content.
        task: TaskCreated,
        /// Where it stands.
        status: Status,
        /// Not to be brought up before, milliseconds since 1970.
        snoozed_until_ms: Option<i64>,
        /// How it ended.
        outcome: Option<String>,
    },
    /// A goal.
    Goal {
        /// Its content.
        goal: GoalCreated,
        /// Where it stands.
        status: Status,
    },
    /// A trigger; it never changes.
    Trigger {
        /// Whether it still fires.
        active: bool,
    },
}

impl Imaged for Image {
    const EXAMPLE: &'static str = r#"{"items": [{"id": "ta_0", "to": null}]}"#;
}

/// Put items back as they stood: how changes are undone.
pub type Revert = common::Revert<Image>;

/// Items stand again as they stood before.
pub type Reverted = common::Reverted<Image>;

crate::undo! {
    TaskCreated(it) => Undo::items([&it.id]),
    TaskUpdated(it) => Undo::items([&it.id]),
    GoalCreated(it) => Undo::items([&it.id]),
    GoalUpdated(it) => Undo::items([&it.id]),
    TriggerRegistered(it) => Undo::items([&it.id]),
    TriggerRemoved(it) => Undo::items([&it.id]),
    Relocated(it) => Undo::items(&it.ids),
}
