//! What is intended: tasks, goals with their progress, and what to bring up now.

use super::{cut, missing};
use crate::agenda::{GoalRow, TaskRow, TriggerRow};
use crate::library::Library;
use crate::timeline::Which;
use athena_schemas::context::Context;
use athena_schemas::id::Id;
use athena_schemas::layers::common::Paged;
use athena_schemas::layers::prospective::*;
use athena_schemas::refusal::Refusal;
use std::collections::{HashMap, HashSet};

/// How long a repeating trigger, or one by event, counts as firing: an hour, or its own period if that is shorter.
const WINDOW_MS: i64 = 3_600_000;

impl Library {
    fn all_tasks(&self, cx: &Context) -> Result<Vec<TaskRow>, Refusal> {
        Ok(self.agenda.tasks(cx, &self.items.projects(&cx.scope)?)?)
    }

    /// Why a trigger fires now, if it does.
    fn fires(&self, cx: &Context, row: &TriggerRow, context: &str) -> Result<Option<String>, Refusal> {
        let (body, now) = (&row.body, cx.now_ms as i64);
        if row.head.hidden {
            return Ok(None);
        }
        if let Some(at) = body.at_ms
            && at <= now
        {
            return Ok(Some("its time has come".into()));
        }
        if let Some(every) = body.every_ms.filter(|every| *every > 0) {
            let since = now - row.head.recorded_ms as i64;
            let every = i64::try_from(every).unwrap_or(i64::MAX);
            if since >= every && since % every < WINDOW_MS.min(every) {
                return Ok(Some("its time has come again".into()));
            }
        }
        if let Some(kind) = &body.event_type {
            let which = Which {
                range: Some((now.saturating_sub(WINDOW_MS), i64::MAX)),
                kind: Some(kind.clone()),
                ..Which::default()
            };
            let (rows, _) = self.items.page(cx, &which, 1, None)?;
            if let Some(event) = rows.iter().find(|event| event.head.seq > row.head.seq) {
                return Ok(Some(format!("{} happened: {}", kind, event.body.id)));
            }
        }
        let lower = context.to_lowercase();
        if let Some(text) = &body.matches
            && !lower.is_empty()
            && lower.contains(&text.to_lowercase())
        {
            return Ok(Some(format!("{text:?} was said")));
        }
        if let Some(entity) = &body.entity
            && !lower.is_empty()
            && let Some(found) = self.network(cx)?.named_in(&lower).into_iter().find(|named| named.is(entity))
        {
            return Ok(Some(format!("{} was named", found.name())));
        }
        Ok(None)
    }
}

impl Queries for Library {
    fn get_task(&self, cx: &Context, op: GetTask) -> Result<Task, Refusal> {
        Ok(self.agenda.task(cx, &op.id)?.ok_or_else(|| missing(&op.id))?.item(cx.now_ms as i64))
    }

    fn list_tasks(&self, cx: &Context, op: ListTasks) -> Result<Paged<Task>, Refusal> {
        let now = cx.now_ms as i64;
        let mut rows = self.all_tasks(cx)?;
        rows.retain(|row| {
            op.status.map_or(!row.status.is_final(), |status| row.status == status)
                && (!op.overdue || row.overdue(now))
                && op.goal.as_ref().is_none_or(|goal| row.body.goal.as_ref() == Some(goal))
        });
        sort(&mut rows);
        cut(rows.iter().map(|row| row.item(now)).collect(), op.limit, op.cursor.as_deref())
    }

    fn list_goals(&self, cx: &Context, op: ListGoals) -> Result<Paged<Goal>, Refusal> {
        let goals = self.agenda.goals(cx, &self.items.projects(&cx.scope)?)?;
        let progress = progress(&goals, &self.all_tasks(cx)?);
        let listed = goals
            .iter()
            .filter(|row| op.status.is_none_or(|status| row.status == status))
            .map(|row| {
                let (tasks, done) = progress.get(&row.body.id).copied().unwrap_or_default();
                row.item(tasks, done)
            })
            .collect();
        cut(listed, op.limit, op.cursor.as_deref())
    }

    fn list_triggers(&self, cx: &Context, op: ListTriggers) -> Result<Paged<Trigger>, Refusal> {
        let mut rows = self.agenda.triggers(cx, &self.items.projects(&cx.scope)?)?;
        rows.retain(|row| op.active.is_none_or(|active| active != row.head.hidden));
        rows.sort_by_key(|row| std::cmp::Reverse(row.head.seq));
        cut(rows.iter().map(|row| row.item(None)).collect(), op.limit, op.cursor.as_deref())
    }

    fn pending(&self, cx: &Context, op: Pending) -> Result<Agenda, Refusal> {
        let now = cx.now_ms as i64;
        let mut rows = self.all_tasks(cx)?;
        let done: HashSet<Id> =
            rows.iter().filter(|row| row.status.is_final()).map(|row| row.body.id.clone()).collect();
        rows.retain(|row| {
            !row.status.is_final()
                && row.status != Status::Blocked
                && !row.snoozed(now)
                && row.body.due_ms.is_some_and(|due| due <= now)
                && row.body.depends_on.iter().all(|on| done.contains(on))
        });
        sort(&mut rows);
        let context = op.context.unwrap_or_default();
        let mut fired = Vec::new();
        for row in self.agenda.triggers(cx, &self.items.projects(&cx.scope)?)? {
            if let Some(because) = self.fires(cx, &row, &context)? {
                fired.push(row.item(Some(because)));
            }
        }
        Ok(Agenda { due: rows.iter().map(|row| row.item(now)).collect(), fired })
    }
}

/// The most urgent first, then the ones due first, then the older.
fn sort(rows: &mut [TaskRow]) {
    rows.sort_by_key(|row| {
        (std::cmp::Reverse(row.body.priority), row.body.due_ms.unwrap_or(i64::MAX), row.head.seq)
    });
}

/// Tasks below each goal, those of lesser goals included, and how many of them are done. Dropped tasks do not count.
fn progress(goals: &[GoalRow], tasks: &[TaskRow]) -> HashMap<Id, (u32, u32)> {
    let parents: HashMap<&Id, &Id> =
        goals.iter().filter_map(|row| Some((&row.body.id, row.body.parent.as_ref()?))).collect();
    let mut counts: HashMap<Id, (u32, u32)> = HashMap::new();
    for task in tasks.iter().filter(|task| task.status != Status::Dropped) {
        let mut above = task.body.goal.as_ref();
        let mut steps = 0;
        while let Some(goal) = above.filter(|_| steps <= goals.len()) {
            let count = counts.entry(goal.clone()).or_default();
            count.0 += 1;
            count.1 += u32::from(task.status == Status::Done);
            above = parents.get(goal).copied();
            steps += 1;
        }
    }
    counts
}
