//! Intentions: tasks, goals and triggers, as rows by id and, by project, in the order they were made.

use crate::items::{Head, ids_in, project_key};
use crate::store::{Batch, Fold, Order, Store, StoreError, Table};
use athena_schemas::context::Context;
use athena_schemas::event::Event;
use athena_schemas::id::Id;
use athena_schemas::layers::common::time;
use athena_schemas::layers::prospective::{self, Goal, Status, Task, Then, Trigger, When};
use athena_schemas::ports::Recorded;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::ops::Bound;

/// A task's row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskRow {
    /// Where and since when.
    pub head: Head,
    /// The task as it is now.
    pub body: prospective::TaskCreated,
    /// Where it stands.
    pub status: Status,
    /// Not to be brought up before, milliseconds since 1970.
    pub snoozed_until_ms: Option<i64>,
    /// How it ended.
    pub outcome: Option<String>,
}

impl TaskRow {
    /// The task as it is answered.
    pub fn item(&self, now_ms: i64) -> Task {
        let body = self.body.clone();
        Task {
            id: body.id,
            title: body.title,
            status: self.status,
            priority: body.priority,
            created: time(self.head.recorded_ms as i64),
            due: body.due_ms.map(time),
            snoozed_until: self.snoozed_until_ms.filter(|until| *until > now_ms).map(time),
            goal: body.goal,
            depends_on: body.depends_on,
            notes: body.notes,
            outcome: self.outcome.clone(),
            overdue: self.overdue(now_ms),
        }
    }

    /// Its time has passed and it is not done.
    pub fn overdue(&self, now_ms: i64) -> bool {
        !self.status.is_final() && self.body.due_ms.is_some_and(|due| due < now_ms)
    }

    /// Whether it is put off.
    pub fn snoozed(&self, now_ms: i64) -> bool {
        self.snoozed_until_ms.is_some_and(|until| until > now_ms)
    }
}

/// A goal's row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GoalRow {
    /// Where and since when.
    pub head: Head,
    /// The goal as it is now.
    pub body: prospective::GoalCreated,
    /// Where it stands.
    pub status: Status,
}

impl GoalRow {
    /// The goal as it is answered, with how many tasks are below it and how many of them are done.
    pub fn item(&self, tasks: u32, done: u32) -> Goal {
        let body = self.body.clone();
        let progress = match tasks {
            0 if self.status == Status::Done => 1.0,
            0 => 0.0,
            tasks => f64::from(done) / f64::from(tasks),
        };
        Goal {
            id: body.id,
            title: body.title,
            status: self.status,
            parent: body.parent,
            due: body.due_ms.map(time),
            measure: body.measure,
            tasks,
            done,
            progress,
        }
    }
}

/// A trigger's row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TriggerRow {
    /// Where and since when.
    pub head: Head,
    /// The trigger.
    pub body: prospective::TriggerRegistered,
}

impl TriggerRow {
    /// The trigger as it is answered, with why it fires, if it does.
    pub fn item(&self, because: Option<String>) -> Trigger {
        let body = self.body.clone();
        let every = body.every_ms.map(|ms| {
            [(604_800_000, "w"), (86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")]
                .into_iter()
                .find(|(length, _)| ms % length == 0)
                .map_or_else(|| format!("{ms}ms"), |(length, unit)| format!("{}{unit}", ms / length))
        });
        Trigger {
            id: body.id,
            when: When {
                at: body.at_ms.map(time),
                every,
                event_type: body.event_type,
                matches: body.matches,
                entity: body.entity,
            },
            then: Then { task: body.task, note: body.note },
            registered: time(self.head.recorded_ms as i64),
            active: !self.head.hidden,
            because,
        }
    }
}

/// The tables of intentions.
#[derive(Clone)]
pub struct Agenda {
    pub(crate) tasks: Table,
    pub(crate) goals: Table,
    pub(crate) triggers: Table,
    by_project: Table,
}

impl Agenda {
    /// A task, if who asks may see it.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn task(&self, cx: &Context, id: &Id) -> Result<Option<TaskRow>, StoreError> {
        Ok(self.tasks.row::<TaskRow>(id.as_str().as_bytes())?.filter(|row| row.head.visible(cx)))
    }

    /// All tasks of the projects that who asks may see, in the order they were made.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn tasks(&self, cx: &Context, projects: &[[u8; 8]]) -> Result<Vec<TaskRow>, StoreError> {
        let rows: Vec<TaskRow> = self.all(&self.tasks, "ta", projects)?;
        Ok(rows.into_iter().filter(|row| row.head.visible(cx)).collect())
    }

    /// All goals, likewise.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn goals(&self, cx: &Context, projects: &[[u8; 8]]) -> Result<Vec<GoalRow>, StoreError> {
        let rows: Vec<GoalRow> = self.all(&self.goals, "go", projects)?;
        Ok(rows.into_iter().filter(|row| row.head.visible(cx)).collect())
    }

    /// All triggers, removed ones included, likewise.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn triggers(&self, cx: &Context, projects: &[[u8; 8]]) -> Result<Vec<TriggerRow>, StoreError> {
        let rows: Vec<TriggerRow> = self.all(&self.triggers, "tr", projects)?;
        Ok(rows.into_iter().filter(|row| cx.scope.covers(&row.head.scope)).collect())
    }

    /// A task as it is kept.
    pub(crate) fn task_row(&self, key: &[u8]) -> Result<Option<TaskRow>, StoreError> {
        self.tasks.row(key)
    }

    /// A goal as it is kept.
    pub(crate) fn goal_row(&self, key: &[u8]) -> Result<Option<GoalRow>, StoreError> {
        self.goals.row(key)
    }

    fn all<T: DeserializeOwned>(
        &self,
        table: &Table,
        prefix: &str,
        projects: &[[u8; 8]],
    ) -> Result<Vec<T>, StoreError> {
        let mut rows = Vec::new();
        for project in projects {
            let mut failed = None;
            let key = [&project[..], prefix.as_bytes()].concat();
            let open = (Bound::Unbounded, Bound::Unbounded);
            ids_in(&self.by_project, &key, open, Order::Ascending, &mut |_, id| {
                match table.row(id.as_str().as_bytes()) {
                    Ok(row) => rows.extend(row),
                    Err(error) => failed = Some(error),
                }
                failed.is_none()
            })?;
            failed.map_or(Ok(()), Err)?;
        }
        Ok(rows)
    }

    fn table(&self, id: &Id) -> &Table {
        match id.prefix() {
            "go" => &self.goals,
            "tr" => &self.triggers,
            _ => &self.tasks,
        }
    }

    fn enter<T: Serialize>(
        &self,
        batch: &mut Batch,
        id: &Id,
        head: &Head,
        row: &T,
    ) -> Result<(), StoreError> {
        batch.put(&self.by_project, place(id, head), id.as_str());
        batch.put_row(self.table(id), id.as_str(), row)
    }

    pub(crate) fn change<T: Serialize + DeserializeOwned>(
        &self,
        batch: &mut Batch,
        id: &Id,
        change: impl FnOnce(&mut T),
    ) -> Result<(), StoreError> {
        let table = self.table(id);
        if let Some(mut row) = batch.row::<T>(table, id.as_str().as_bytes())? {
            change(&mut row);
            batch.put_row(table, id.as_str(), &row)?;
        }
        Ok(())
    }

    pub(crate) fn relocate(
        &self,
        batch: &mut Batch,
        id: &Id,
        event: &prospective::Relocated,
    ) -> Result<(), StoreError> {
        let moved = |batch: &mut Batch, head: &mut Head| {
            batch.remove(&self.by_project, place(id, head));
            head.scope = event.to.clone();
        };
        let key = id.as_str().as_bytes();
        match id.prefix() {
            "go" => {
                let Some(mut row) = batch.row::<GoalRow>(&self.goals, key)? else { return Ok(()) };
                moved(batch, &mut row.head);
                self.enter(batch, id, &row.head, &row)
            }
            "tr" => {
                let Some(mut row) = batch.row::<TriggerRow>(&self.triggers, key)? else { return Ok(()) };
                moved(batch, &mut row.head);
                self.enter(batch, id, &row.head, &row)
            }
            _ => {
                let Some(mut row) = batch.row::<TaskRow>(&self.tasks, key)? else { return Ok(()) };
                moved(batch, &mut row.head);
                self.enter(batch, id, &row.head, &row)
            }
        }
    }
}

fn place(id: &Id, head: &Head) -> Vec<u8> {
    [&project_key(&head.scope)[..], id.prefix().as_bytes(), &head.seq.to_be_bytes()].concat()
}

fn set<T: Clone>(field: &mut T, said: &Option<T>) {
    if let Some(said) = said {
        *field = said.clone();
    }
}

impl Fold for Agenda {
    const NAME: &'static str = "agenda";
    const VERSION: u32 = 1;

    fn open(store: &Store) -> Result<Self, StoreError> {
        Ok(Self {
            tasks: store.table("tasks")?,
            goals: store.table("goals")?,
            triggers: store.table("triggers")?,
            by_project: store.table("intentions_by_project")?,
        })
    }

    fn fold(&self, batch: &mut Batch, event: &Event, recorded: &Recorded) -> Result<(), StoreError> {
        let Event::Prospective(event) = event else { return Ok(()) };
        match event {
            prospective::Event::TaskCreated(event) => {
                let row = TaskRow {
                    head: Head::of(recorded),
                    body: event.clone(),
                    status: Status::Open,
                    snoozed_until_ms: None,
                    outcome: None,
                };
                self.enter(batch, &event.id, &row.head, &row)
            }
            prospective::Event::TaskUpdated(event) => self.change(batch, &event.id, |row: &mut TaskRow| {
                set(&mut row.body.title, &event.title);
                set(&mut row.status, &event.status);
                set(&mut row.body.priority, &event.priority);
                set(&mut row.body.depends_on, &event.depends_on);
                row.body.due_ms = event.due_ms.or(row.body.due_ms);
                row.body.goal = event.goal.clone().or(row.body.goal.take());
                row.body.notes = event.notes.clone().or(row.body.notes.take());
                row.snoozed_until_ms = event.snoozed_until_ms.or(row.snoozed_until_ms);
                row.outcome = event.outcome.clone().or(row.outcome.take());
            }),
            prospective::Event::GoalCreated(event) => {
                let row = GoalRow { head: Head::of(recorded), body: event.clone(), status: Status::Open };
                self.enter(batch, &event.id, &row.head, &row)
            }
            prospective::Event::GoalUpdated(event) => self.change(batch, &event.id, |row: &mut GoalRow| {
                set(&mut row.body.title, &event.title);
                set(&mut row.status, &event.status);
                row.body.parent = event.parent.clone().or(row.body.parent.take());
                row.body.due_ms = event.due_ms.or(row.body.due_ms);
                row.body.measure = event.measure.clone().or(row.body.measure.take());
            }),
            prospective::Event::TriggerRegistered(event) => {
                let row = TriggerRow { head: Head::of(recorded), body: event.clone() };
                self.enter(batch, &event.id, &row.head, &row)
            }
            prospective::Event::TriggerRemoved(event) => {
                self.change(batch, &event.id, |row: &mut TriggerRow| row.head.hidden = true)
            }
            prospective::Event::Reverted(event) => {
                event.items.iter().try_for_each(|past| self.put_back(batch, past))
            }
            prospective::Event::Relocated(event) => {
                event.ids.iter().try_for_each(|id| self.relocate(batch, id, event))
            }
        }
    }

    fn tables(&self) -> Vec<Table> {
        [&self.tasks, &self.goals, &self.triggers, &self.by_project].map(Table::clone).to_vec()
    }
}
