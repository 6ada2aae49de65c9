//! What operations on tasks, goals and triggers answer.

use super::{Status, Then, When};
use crate::id::Id;
use crate::layers::common::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Task {
    /// Its id.
    pub id: Id,
    /// What is to be done.
    pub title: String,
    /// Where it stands.
    pub status: Status,
    /// How urgent: 0 to 3.
    pub priority: u8,
    /// When it was created.
    pub created: Time,
    /// By when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<Time>,
    /// Not to be brought up before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snoozed_until: Option<Time>,
    /// The goal it serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub goal: Option<Id>,
    /// Tasks that must be done before it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<Id>,
    /// Anything else worth knowing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notes: Option<String>,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// Its time has passed and it is not done.
    pub overdue: bool,
}

/// A goal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Goal {
    /// Its id.
    pub id: Id,
    /// What is to be reached.
    pub title: String,
    /// Where it stands.
    pub status: Status,
    /// The greater goal it serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Id>,
    /// By when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<Time>,
    /// How one will know that it is reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measure: Option<String>,
    /// Tasks below it, those of lesser goals included.
    pub tasks: u32,
    /// How many of them are done.
    pub done: u32,
    /// The share that is done, from 0 to 1.
    pub progress: f64,
}

/// A trigger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Trigger {
    /// Its id.
    pub id: Id,
    /// When it fires.
    pub when: When,
    /// What it brings up.
    pub then: Then,
    /// When it was registered.
    pub registered: Time,
    /// Whether it can still fire.
    pub active: bool,
    /// Why it fires now, in answers of `pending`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
}

/// What to bring up now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Agenda {
    /// Tasks that are due and may be begun.
    pub due: Vec<Task>,
    /// Triggers that fire.
    pub fired: Vec<Trigger>,
}
