//! The prospective layer: what is intended. Tasks, goals, and triggers that say when to think of them.
//!
//! A trigger notifies, it never executes: what fired is answered by `pending`.

mod answers;
mod events;

pub use answers::{Agenda, Goal, Task, Trigger};
pub use events::{
    GoalCreated, GoalUpdated, Image, Relocated, Revert, Reverted, TaskCreated, TaskUpdated, Thing,
    TriggerRegistered, TriggerRemoved,
};

use crate::id::Id;
use crate::layers::common::{Ack, Paged, Time, fifty};
pub use crate::layers::common::{Moved, PutBack, Relocate};
use crate::operation::{Audience, Operation, Traits};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

crate::layer! {
    prospective {
        commands {
            create_task: CreateTask,
            update_task: UpdateTask,
            snooze_task: SnoozeTask,
            finish_task: FinishTask,
            create_goal: CreateGoal,
            update_goal: UpdateGoal,
            register_trigger: RegisterTrigger,
            remove_trigger: RemoveTrigger,
            relocate: Relocate,
            revert: Revert,
        }
        queries {
            get_task: GetTask,
            list_tasks: ListTasks,
            list_goals: ListGoals,
            list_triggers: ListTriggers,
            pending: Pending,
        }
        services { complete_task: CompleteTask }
    }
}

crate::events! {
    /// What happens in the prospective layer.
    prospective {
        TaskCreated = 0x0401 "task_created" v 1 {},
        TaskUpdated = 0x0402 "task_updated" v 1 {},
        GoalCreated = 0x0403 "goal_created" v 1 {},
        GoalUpdated = 0x0404 "goal_updated" v 1 {},
        TriggerRegistered = 0x0405 "trigger_registered" v 1 {},
        TriggerRemoved = 0x0406 "trigger_removed" v 1 {},
        Relocated = 0x0407 "relocated" v 1 {},
        Reverted = 0x0408 "reverted" v 1 {},
    }
}

/// Where a task or a goal stands.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Not begun.
    #[default]
    Open,
    /// Begun.
    Active,
    /// Waiting for something else.
    Blocked,
    /// Done.
    Done,
    /// Given up.
    Dropped,
}

impl Status {
    /// Whether nothing is left to do.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Done | Self::Dropped)
    }

    /// Whether a task may go from here to there. What is done or dropped can only be opened again.
    pub fn may_become(self, next: Self) -> bool {
        !self.is_final() || next == Self::Open || next == self
    }
}

// ── Commands ────────────────────────────────────────────────────────────────────────────────────────────────────────────

/// Create a task: something that is to be done.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateTask {
    /// What is to be done, in a line.
    pub title: String,
    /// By when.
    #[serde(default)]
    pub due: Option<Time>,
    /// The goal it serves.
    #[serde(default)]
    pub goal: Option<Id>,
    /// How urgent: 0 (some day) to 3 (now); 1 if not said.
    #[serde(default)]
    pub priority: Option<u8>,
    /// Tasks that must be done before it.
    #[serde(default)]
    pub depends_on: Vec<Id>,
    /// Anything else worth knowing.
    #[serde(default)]
    pub notes: Option<String>,
}

impl Operation for CreateTask {
    type Returns = Ack;
    const TRAITS: Traits = Traits {
        sensitive: true,
        cost: 5,
        tags: &["todo", "reminder", "intention", "plan"],
        example: r#"{"title": "buy a new kettle", "due": "2026-12-01", "priority": 2}"#,
        ..Traits::DEFAULT
    };
}

/// Change a task: any field of the patch that is given. What is done or dropped can only be opened again.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateTask {
    /// The task.
    pub id: Id,
    /// What to change.
    pub patch: TaskPatch,
}

/// A change to a task.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TaskPatch {
    /// What is to be done.
    #[serde(default)]
    pub title: Option<String>,
    /// By when.
    #[serde(default)]
    pub due: Option<Time>,
    /// Where it stands.
    #[serde(default)]
    pub status: Option<Status>,
    /// How urgent: 0 to 3.
    #[serde(default)]
    pub priority: Option<u8>,
    /// The goal it serves.
    #[serde(default)]
    pub goal: Option<Id>,
    /// Tasks that must be done before it.
    #[serde(default)]
    pub depends_on: Option<Vec<Id>>,
    /// Anything else worth knowing.
    #[serde(default)]
    pub notes: Option<String>,
}

impl Operation for UpdateTask {
    type Returns = Ack;
    const TRAITS: Traits = Traits {
        sensitive: true,
        cost: 3,
        tags: &["todo", "status", "edit"],
        example: r#"{"id": "$id", "patch": {"status": "active"}}"#,
        ..Traits::DEFAULT
    };
}

/// Do not bring a task up again before a time.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SnoozeTask {
    /// The task.
    pub id: Id,
    /// Until when.
    pub until: Time,
}

impl Operation for SnoozeTask {
    type Returns = Ack;
    const TRAITS: Traits = Traits {
        tags: &["later", "postpone", "defer"],
        example: r#"{"id": "$id", "until": "2027-01-01"}"#,
        ..Traits::DEFAULT
    };
}

/// Close a task. `prospective/complete_task` calls it and records the episode.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FinishTask {
    /// The task.
    pub id: Id,
    /// How it ended.
    #[serde(default)]
    pub outcome: Option<String>,
}

impl Operation for FinishTask {
    type Returns = Finished;
    const TRAITS: Traits = Traits {
        audience: Audience::System,
        sensitive: true,
        example: r#"{"id": "$id"}"#,
        ..Traits::DEFAULT
    };
}

/// A closed task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Finished {
    /// The task.
    pub id: Id,
    /// Position in the log.
    pub seq: u64,
    /// What was done, for the episode.
    pub title: String,
}

/// Complete a task, and remember that it was done and how it ended.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CompleteTask {
    /// The task.
    pub id: Id,
    /// How it ended, in a sentence.
    #[serde(default)]
    pub outcome: Option<String>,
}

impl Operation for CompleteTask {
    type Returns = Ack;
    const TRAITS: Traits = Traits {
        sensitive: true,
        cost: 5,
        tags: &["done", "finish", "close", "todo"],
        example: r#"{"id": "$id", "outcome": "it boils"}"#,
        ..Traits::DEFAULT
    };
}

/// Create a goal: what several tasks serve.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateGoal {
    /// What is to be reached, in a line.
    pub title: String,
    /// The greater goal it serves.
    #[serde(default)]
    pub parent: Option<Id>,
    /// By when.
    #[serde(default)]
    pub due: Option<Time>,
    /// How one will know that it is reached.
    #[serde(default)]
    pub measure: Option<String>,
}

impl Operation for CreateGoal {
    type Returns = Ack;
    const TRAITS: Traits = Traits {
        sensitive: true,
        cost: 5,
        tags: &["objective", "target", "plan"],
        example: r#"{"title": "a kitchen that works", "measure": "tea within five minutes"}"#,
        ..Traits::DEFAULT
    };
}

/// Change a goal: any field of the patch that is given.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateGoal {
    /// The goal.
    pub id: Id,
    /// What to change.
    pub patch: GoalPatch,
}

/// A change to a goal.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GoalPatch {
    /// What is to be reached.
    #[serde(default)]
    pub title: Option<String>,
    /// The greater goal it serves.
    #[serde(default)]
    pub parent: Option<Id>,
    /// By when.
    #[serde(default)]
    pub due: Option<Time>,
    /// How one will know that it is reached.
    #[serde(default)]
    pub measure: Option<String>,
    /// Where it stands.
    #[serde(default)]
    pub status: Option<Status>,
}

impl Operation for UpdateGoal {
    type Returns = Ack;
    const TRAITS: Traits = Traits {
        sensitive: true,
        cost: 3,
        tags: &["objective", "edit"],
        example: r#"{"id": "$id", "patch": {"status": "active"}}"#,
        ..Traits::DEFAULT
    };
}

/// Register a trigger: when to think of a task or a note. It notifies through `pending` and never executes anything.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RegisterTrigger {
    /// When: at least one criterion.
    pub when: When,
    /// What to bring up.
    pub then: Then,
}

/// When a trigger fires; with several criteria, any of them fires it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct When {
    /// At this time, once.
    #[serde(default)]
    pub at: Option<Time>,
    /// Again and again, from its registration on: a number and a unit, such as `30m`, `12h`, `1d`, `2w`.
    #[serde(default)]
    pub every: Option<String>,
    /// When an event of this type is remembered.
    #[serde(default)]
    pub event_type: Option<String>,
    /// When this text occurs in the context, whatever the case.
    #[serde(default)]
    pub matches: Option<String>,
    /// When this entity is named in the context.
    #[serde(default)]
    pub entity: Option<Id>,
}

/// What a trigger brings up.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Then {
    /// This task.
    #[serde(default)]
    pub task: Option<Id>,
    /// This note.
    #[serde(default)]
    pub note: Option<String>,
}

impl Operation for RegisterTrigger {
    type Returns = Ack;
    const TRAITS: Traits = Traits {
        sensitive: true,
        cost: 5,
        tags: &["remind", "when", "schedule", "notify"],
        example: r#"{"when": {"matches": "kettle"}, "then": {"note": "the new one is in the cupboard"}}"#,
        ..Traits::DEFAULT
    };
}

/// Remove a trigger.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RemoveTrigger {
    /// The trigger.
    pub id: Id,
}

impl Operation for RemoveTrigger {
    type Returns = Ack;
    const TRAITS: Traits =
        Traits { tags: &["remind", "cancel"], example: r#"{"id": "$id"}"#, ..Traits::DEFAULT };
}

// ── Queries ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

/// Get a task by its id.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetTask {
    /// The task.
    pub id: Id,
}

impl Operation for GetTask {
    type Returns = Task;
    const TRAITS: Traits = Traits { sensitive: true, example: r#"{"id": "$id"}"#, ..Traits::DEFAULT };
}

/// List tasks: the most urgent first, then the ones due first.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListTasks {
    /// Only those that stand here; the ones not done, if not said.
    #[serde(default)]
    pub status: Option<Status>,
    /// Only those whose time has passed.
    #[serde(default)]
    pub overdue: bool,
    /// Only those of this goal.
    #[serde(default)]
    pub goal: Option<Id>,
    /// At most this many, up to 1,000.
    #[serde(default = "fifty")]
    pub limit: u32,
    /// `next` of the page before.
    #[serde(default)]
    pub cursor: Option<String>,
}

impl Operation for ListTasks {
    type Returns = Paged<Task>;
    const TRAITS: Traits = Traits {
        sensitive: true,
        tags: &["todo", "agenda", "open"],
        example: r#"{"overdue": false, "limit": 20}"#,
        ..Traits::DEFAULT
    };
}

/// List goals, each with how far its tasks and the goals below it have come.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListGoals {
    /// Only those that stand here.
    #[serde(default)]
    pub status: Option<Status>,
    /// At most this many, up to 1,000.
    #[serde(default = "fifty")]
    pub limit: u32,
    /// `next` of the page before.
    #[serde(default)]
    pub cursor: Option<String>,
}

impl Operation for ListGoals {
    type Returns = Paged<Goal>;
    const TRAITS: Traits = Traits { sensitive: true, tags: &["objective", "progress"], ..Traits::DEFAULT };
}

/// List triggers, newest first.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListTriggers {
    /// Only those that can still fire.
    #[serde(default)]
    pub active: Option<bool>,
    /// At most this many, up to 1,000.
    #[serde(default = "fifty")]
    pub limit: u32,
    /// `next` of the page before.
    #[serde(default)]
    pub cursor: Option<String>,
}

impl Operation for ListTriggers {
    type Returns = Paged<Trigger>;
    const TRAITS: Traits = Traits { sensitive: true, tags: &["remind"], ..Traits::DEFAULT };
}

/// What to bring up now: tasks that are due, and triggers that fire by time, by what happened, or by the context given.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pending {
    /// What is being talked about or worked on.
    #[serde(default)]
    pub context: Option<String>,
}

impl Operation for Pending {
    type Returns = Agenda;
    const TRAITS: Traits = Traits {
        sensitive: true,
        tags: &["todo", "due", "remind", "now"],
        example: r#"{"context": "the kettle is broken"}"#,
        ..Traits::DEFAULT
    };
}
