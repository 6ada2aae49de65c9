//! The prospective layer: tasks and goals with a checked life, and triggers that only notify.

use super::check;
use super::placing::{moved, put_back};
use super::shelf::Shelf;
use crate::decider::Decider;
use athena_schemas::context::Context;
use athena_schemas::envelope::Meta;
use athena_schemas::id::Id;
use athena_schemas::layers::common::{Ack, Past, millis};
use athena_schemas::layers::prospective::*;
use athena_schemas::operation::Decision;
use athena_schemas::refusal::Refusal;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Most tasks one task depends on.
const DEPENDS_ON: usize = 32;
/// How far dependencies and parents are followed when a circle is looked for.
const FOLLOWED: usize = 10_000;
/// The shortest and longest period of a trigger, milliseconds: a minute to a year.
const PERIODS_MS: std::ops::RangeInclusive<u64> = 60_000..=366 * 86_400_000;

/// What there is to do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    tasks: Shelf<Task>,
    goals: Shelf<Goal>,
    triggers: Shelf<()>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Task {
    title: String,
    status: Status,
    depends_on: Vec<Id>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Goal {
    status: Status,
    parent: Option<Id>,
}

impl Decider for State {
    const LAYER: &'static str = LAYER;
    const SNAPSHOT: u32 = 1;
    type Command = Command;
    type Event = Event;

    fn decide(&self, cx: &Context, command: Command) -> Result<Decision<Event, Value>, Refusal> {
        Commands::decide(self, cx, command)
    }

    fn evolve(&mut self, meta: &Meta, event: &Event) {
        match event {
            Event::TaskCreated(e) => {
                let task =
                    Task { title: e.title.clone(), status: Status::Open, depends_on: e.depends_on.clone() };
                self.tasks.put(&e.id, &meta.scope, None, task);
            }
            Event::TaskUpdated(e) => {
                if let Some(task) = self.tasks.entry(&e.id) {
                    task.status = e.status.unwrap_or(task.status);
                    if let Some(title) = &e.title {
                        task.title.clone_from(title);
                    }
                    if let Some(depends_on) = &e.depends_on {
                        task.depends_on.clone_from(depends_on);
                    }
                }
            }
            Event::GoalCreated(e) => {
                self.goals.put(
                    &e.id,
                    &meta.scope,
                    None,
                    Goal { status: Status::Open, parent: e.parent.clone() },
                );
            }
            Event::GoalUpdated(e) => {
                if let Some(goal) = self.goals.entry(&e.id) {
                    goal.status = e.status.unwrap_or(goal.status);
                    if e.parent.is_some() {
                        goal.parent.clone_from(&e.parent);
                    }
                }
            }
            Event::TriggerRegistered(e) => self.triggers.put(&e.id, &meta.scope, None, ()),
            Event::TriggerRemoved(e) => {
                self.triggers
                    .forget(std::slice::from_ref(&e.id), athena_schemas::layers::common::Forgetting::Erase);
            }
            Event::Relocated(e) => {
                self.tasks.relocate(&e.ids, &e.to);
                self.goals.relocate(&e.ids, &e.to);
                self.triggers.relocate(&e.ids, &e.to);
            }
            Event::Reverted(e) => e.items.iter().for_each(|past| self.put_back(past)),
        }
    }
}

impl State {
    fn put_back(&mut self, past: &Past<Image>) {
        let id = &past.id;
        let scope = past.to.as_ref().map(|to| &to.scope);
        let Some(scope) = scope else {
            self.tasks.revert(id, None, true);
            self.goals.revert(id, None, true);
            self.triggers.revert(id, None, true);
            return;
        };
        match past.to.as_ref().map(|to| &to.thing) {
            Some(Thing::Task { task, status, .. }) => {
                let (title, depends_on) = (task.title.clone(), task.depends_on.clone());
                self.tasks.put(id, scope, None, Task { title, status: *status, depends_on });
            }
            Some(Thing::Goal { goal, status }) => {
                self.goals.put(id, scope, None, Goal { status: *status, parent: goal.parent.clone() });
            }
            Some(Thing::Trigger { active: true }) => self.triggers.put(id, scope, None, ()),
            Some(Thing::Trigger { active: false }) | None => self.triggers.revert(id, None, true),
        }
    }
}

impl Commands for State {
    fn create_task(&self, cx: &Context, op: CreateTask) -> Result<Decision<Event, Ack>, Refusal> {
        if let Some(goal) = &op.goal {
            self.goals.get(cx, goal).map_err(|refusal| refusal.at("goal"))?;
        }
        let id = cx.mint("ta");
        let event = TaskCreated {
            title: check::text("title", op.title)?,
            due_ms: moment("due", op.due.as_deref())?,
            goal: op.goal,
            priority: priority(op.priority)?.unwrap_or(1),
            depends_on: self.dependencies(cx, &id, op.depends_on)?,
            notes: check::maybe_text("notes", op.notes)?,
            id,
        };
        let ack = Ack::of(event.id.clone());
        Ok(Decision::one(event, ack))
    }

    fn update_task(&self, cx: &Context, op: UpdateTask) -> Result<Decision<Event, Ack>, Refusal> {
        let task = self.tasks.get(cx, &op.id)?;
        let patch = op.patch;
        if let Some(next) = patch.status
            && !task.status.may_become(next)
        {
            return Err(closed(&op.id, task.status).at("patch.status"));
        }
        if let Some(goal) = &patch.goal {
            self.goals.get(cx, goal).map_err(|refusal| refusal.at("patch.goal"))?;
        }
        let event = TaskUpdated {
            title: check::maybe_text("patch.title", patch.title)?,
            due_ms: moment("patch.due", patch.due.as_deref())?,
            status: patch.status,
            priority: priority(patch.priority).map_err(|refusal| refusal.at("patch.priority"))?,
            goal: patch.goal,
            depends_on: patch.depends_on.map(|ids| self.dependencies(cx, &op.id, ids)).transpose()?,
            notes: check::maybe_text("patch.notes", patch.notes)?,
            ..unchanged(op.id.clone())
        };
        if event == unchanged(op.id.clone()) {
            return Err(Refusal::invalid("the patch changes nothing").at("patch"));
        }
        Ok(Decision::one(event, Ack::of(op.id)))
    }

    fn snooze_task(&self, cx: &Context, op: SnoozeTask) -> Result<Decision<Event, Ack>, Refusal> {
        let task = self.tasks.get(cx, &op.id)?;
        if task.status.is_final() {
            return Err(closed(&op.id, task.status));
        }
        let snoozed_until_ms = moment("until", Some(&op.until))?;
        Ok(Decision::one(TaskUpdated { snoozed_until_ms, ..unchanged(op.id.clone()) }, Ack::of(op.id)))
    }

    fn finish_task(&self, cx: &Context, op: FinishTask) -> Result<Decision<Event, Finished>, Refusal> {
        let task = self.tasks.get(cx, &op.id)?;
        if task.status.is_final() {
            return Err(closed(&op.id, task.status));
        }
        let waits = |id: &&Id| self.tasks.get(cx, id).is_ok_and(|before| !before.status.is_final());
        if let Some(before) = task.depends_on.iter().find(waits) {
            return Err(Refusal::conflict(format!("{} depends on {before}, which is not done", op.id))
                .hint(format!("complete {before} first, or update depends_on")));
        }
        let answer = Finished { id: op.id.clone(), seq: 0, title: task.title.clone() };
        let outcome = check::maybe_text("outcome", op.outcome)?;
        Ok(Decision::one(TaskUpdated { status: Some(Status::Done), outcome, ..unchanged(op.id) }, answer))
    }

    fn create_goal(&self, cx: &Context, op: CreateGoal) -> Result<Decision<Event, Ack>, Refusal> {
        if let Some(parent) = &op.parent {
            self.goals.get(cx, parent).map_err(|refusal| refusal.at("parent"))?;
        }
        let event = GoalCreated {
            id: cx.mint("go"),
            title: check::text("title", op.title)?,
            parent: op.parent,
            due_ms: moment("due", op.due.as_deref())?,
            measure: check::maybe_text("measure", op.measure)?,
        };
        let ack = Ack::of(event.id.clone());
        Ok(Decision::one(event, ack))
    }

    fn update_goal(&self, cx: &Context, op: UpdateGoal) -> Result<Decision<Event, Ack>, Refusal> {
        let goal = self.goals.get(cx, &op.id)?;
        let patch = op.patch;
        if let Some(next) = patch.status
            && !goal.status.may_become(next)
        {
            return Err(closed(&op.id, goal.status).at("patch.status"));
        }
        if let Some(parent) = &patch.parent {
            self.goals.get(cx, parent).map_err(|refusal| refusal.at("patch.parent"))?;
            let parents = |id: &Id| {
                self.goals.get(cx, id).ok().and_then(|goal| goal.parent.clone()).into_iter().collect()
            };
            acyclic(&op.id, vec![parent.clone()], parents).map_err(|refusal| refusal.at("patch.parent"))?;
        }
        let event = GoalUpdated {
            id: op.id.clone(),
            title: check::maybe_text("patch.title", patch.title)?,
            parent: patch.parent,
            due_ms: moment("patch.due", patch.due.as_deref())?,
            measure: check::maybe_text("patch.measure", patch.measure)?,
            status: patch.status,
        };
        let nothing = GoalUpdated {
            id: op.id.clone(),
            title: None,
            parent: None,
            due_ms: None,
            measure: None,
            status: None,
        };
        if event == nothing {
            return Err(Refusal::invalid("the patch changes nothing").at("patch"));
        }
        Ok(Decision::one(event, Ack::of(op.id)))
    }

    fn register_trigger(&self, cx: &Context, op: RegisterTrigger) -> Result<Decision<Event, Ack>, Refusal> {
        if op.when == When::default() {
            return Err(Refusal::invalid("the trigger never fires")
                .at("when")
                .hint("at, every, event_type, matches or entity"));
        }
        if op.then == Then::default() {
            return Err(Refusal::invalid("the trigger brings nothing up").at("then").hint("task or note"));
        }
        if let Some(task) = &op.then.task {
            self.tasks.get(cx, task).map_err(|refusal| refusal.at("then.task"))?;
        }
        let word = |field: &str, word: Option<String>| word.map(|word| check::word(field, word)).transpose();
        let event = TriggerRegistered {
            id: cx.mint("tr"),
            at_ms: moment("when.at", op.when.at.as_deref())?,
            every_ms: op.when.every.as_deref().map(period).transpose()?,
            event_type: word("when.event_type", op.when.event_type)?,
            matches: word("when.matches", op.when.matches)?,
            entity: op.when.entity,
            task: op.then.task,
            note: check::maybe_text("then.note", op.then.note)?,
        };
        let ack = Ack::of(event.id.clone());
        Ok(Decision::one(event, ack))
    }

    fn remove_trigger(&self, cx: &Context, op: RemoveTrigger) -> Result<Decision<Event, Ack>, Refusal> {
        self.triggers.get(cx, &op.id)?;
        Ok(Decision::one(TriggerRemoved { id: op.id.clone() }, Ack::of(op.id)))
    }

    fn relocate(&self, cx: &Context, op: Relocate) -> Result<Decision<Event, Moved>, Refusal> {
        let here = |ids: &[Id]| {
            let (goals, triggers) = (&self.goals, &self.triggers);
            [
                self.tasks.visible(cx, ids, false),
                goals.visible(cx, ids, false),
                triggers.visible(cx, ids, false),
            ]
            .concat()
        };
        moved(op, here, |ids, to| Relocated { ids, to }.into())
    }

    fn revert(&self, _: &Context, op: Revert) -> Result<Decision<Event, PutBack>, Refusal> {
        put_back(op)
    }
}

impl State {
    /// Tasks that must be done first: there, few, and not this one by any way round.
    fn dependencies(&self, cx: &Context, of: &Id, ids: Vec<Id>) -> Result<Vec<Id>, Refusal> {
        if ids.len() > DEPENDS_ON {
            return check::count("depends_on", ids.len(), DEPENDS_ON).map(|()| ids);
        }
        for (i, id) in ids.iter().enumerate() {
            self.tasks.get(cx, id).map_err(|refusal| refusal.at(format!("depends_on[{i}]")))?;
        }
        let next = |id: &Id| self.tasks.get(cx, id).map(|task| task.depends_on.clone()).unwrap_or_default();
        acyclic(of, ids.clone(), next).map_err(|refusal| refusal.at("depends_on"))?;
        Ok(ids)
    }
}

/// Refuses a way from `open` back to `start`.
fn acyclic(start: &Id, mut open: Vec<Id>, next: impl Fn(&Id) -> Vec<Id>) -> Result<(), Refusal> {
    let mut seen = std::collections::BTreeSet::new();
    while let Some(id) = open.pop() {
        if &id == start {
            return Err(Refusal::conflict(format!("{start} would wait for itself")));
        }
        if seen.len() < FOLLOWED && seen.insert(id.clone()) {
            open.extend(next(&id));
        }
    }
    Ok(())
}

fn unchanged(id: Id) -> TaskUpdated {
    TaskUpdated {
        id,
        title: None,
        due_ms: None,
        status: None,
        priority: None,
        goal: None,
        depends_on: None,
        notes: None,
        snoozed_until_ms: None,
        outcome: None,
    }
}

fn closed(id: &Id, status: Status) -> Refusal {
    Refusal::conflict(format!("{id} is {status:?} already").to_lowercase())
        .hint("update it to status open first")
}

fn moment(field: &str, time: Option<&str>) -> Result<Option<i64>, Refusal> {
    time.map(|time| millis(time).map_err(|refusal| refusal.at(field))).transpose()
}

fn priority(given: Option<u8>) -> Result<Option<u8>, Refusal> {
    match given {
        Some(high) if high > 3 => {
            Err(Refusal::invalid(format!("priority is {high}, not from 0 to 3")).at("priority"))
        }
        given => Ok(given),
    }
}

/// A period such as `30m`, `12h`, `1d` or `2w`, in milliseconds.
fn period(text: &str) -> Result<u64, Refusal> {
    let refused = || {
        Refusal::invalid(format!("{text:?} is no period"))
            .at("when.every")
            .hint("a number and m, h, d or w: 30m, 12h, 1d, 2w")
    };
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit_ms = match text.get(digits.len()..) {
        Some("m") => 60_000,
        Some("h") => 3_600_000,
        Some("d") => 86_400_000,
        Some("w") => 604_800_000,
        _ => return Err(refused()),
    };
    let ms = digits.parse::<u64>().ok().and_then(|n| n.checked_mul(unit_ms)).ok_or_else(refused)?;
    if PERIODS_MS.contains(&ms) { Ok(ms) } else { Err(refused().hint("from a minute to a year")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::testing::Layer;
    use athena_schemas::refusal::Code;
    use proptest::prelude::*;
    use serde_json::json;

    fn layer() -> Layer<State> {
        Layer::new(|name, params| match parse(name, params).unwrap().unwrap() {
            Call::Command(command) => command,
            other => panic!("{other:?} is no command"),
        })
    }

    fn id(answer: &Value) -> String {
        answer["id"].as_str().unwrap().to_owned()
    }

    #[test]
    fn a_task_lives_from_open_to_done_and_back() {
        let mut layer = layer();
        let task = id(&layer.when("create_task", json!({"title": "kettle", "due": "2026-12-01"})).unwrap().1);
        layer.when("update_task", json!({"id": task, "patch": {"status": "active"}})).unwrap();
        let (_, finished) = layer.when("finish_task", json!({"id": task, "outcome": "it boils"})).unwrap();
        assert_eq!(finished["title"], "kettle");
        let again = layer.when("finish_task", json!({"id": task})).unwrap_err();
        assert_eq!(again.code, Code::Conflict);
        assert!(layer.when("update_task", json!({"id": task, "patch": {"status": "blocked"}})).is_err());
        layer.when("update_task", json!({"id": task, "patch": {"status": "open"}})).unwrap();
        layer.when("finish_task", json!({"id": task})).unwrap();
        assert_eq!(layer.replayed(), layer.state);
    }

    #[test]
    fn a_task_waits_for_what_it_depends_on_and_never_for_itself() {
        let mut layer = layer();
        let first = id(&layer.when("create_task", json!({"title": "water"})).unwrap().1);
        let second =
            id(&layer.when("create_task", json!({"title": "tea", "depends_on": [first]})).unwrap().1);
        let early = layer.when("finish_task", json!({"id": second})).unwrap_err();
        assert!(early.message.contains(&first), "{early}");
        let circle =
            layer.when("update_task", json!({"id": first, "patch": {"depends_on": [second]}})).unwrap_err();
        assert_eq!(circle.path.as_deref(), Some("depends_on"));
        layer.when("finish_task", json!({"id": first})).unwrap();
        layer.when("finish_task", json!({"id": second})).unwrap();
    }

    #[test]
    fn goals_stand_in_a_tree() {
        let mut layer = layer();
        let upper = id(&layer.when("create_goal", json!({"title": "kitchen"})).unwrap().1);
        let lower = id(&layer.when("create_goal", json!({"title": "tea", "parent": upper})).unwrap().1);
        let circle = layer.when("update_goal", json!({"id": upper, "patch": {"parent": lower}})).unwrap_err();
        assert_eq!(circle.code, Code::Conflict);
        assert!(layer.when("create_task", json!({"title": "x", "goal": "go_none"})).is_err());
    }

    #[test]
    fn a_trigger_needs_a_when_and_a_then() {
        let mut layer = layer();
        let refused = |layer: &mut Layer<State>, params: Value| {
            layer.when("register_trigger", params).unwrap_err().path
        };
        assert_eq!(refused(&mut layer, json!({"when": {}, "then": {"note": "n"}})).as_deref(), Some("when"));
        assert_eq!(
            refused(&mut layer, json!({"when": {"matches": "x"}, "then": {}})).as_deref(),
            Some("then")
        );
        assert_eq!(
            refused(&mut layer, json!({"when": {"every": "1y"}, "then": {"note": "n"}})).as_deref(),
            Some("when.every")
        );
        let (events, answer) =
            layer.when("register_trigger", json!({"when": {"every": "12h"}, "then": {"note": "n"}})).unwrap();
        assert!(matches!(&events[..], [Event::TriggerRegistered(e)] if e.every_ms == Some(43_200_000)));
        layer.when("remove_trigger", json!({"id": id(&answer)})).unwrap();
        assert!(layer.when("remove_trigger", json!({"id": id(&answer)})).is_err());
    }

    #[test]
    fn another_scope_sees_nothing() {
        let mut layer = layer();
        let task = id(&layer.when("create_task", json!({"title": "kettle"})).unwrap().1);
        layer.cx.scope = athena_schemas::context::Scope::project("other");
        assert_eq!(layer.when("finish_task", json!({"id": task})).unwrap_err().code, Code::NotFound);
    }

    proptest! {
        #[test]
        fn any_history_replays_to_the_same_state(steps in prop::collection::vec((0u8..7, 0usize..6, 0usize..6), 0..40)) {
            let mut layer = layer();
            let mut ids: Vec<String> = vec!["ta_none".into()];
            for (what, a, b) in steps {
                let (a, b) = (ids[a % ids.len()].clone(), ids[b % ids.len()].clone());
                let outcome = match what {
                    0 => layer.when("create_task", json!({"title": "t"})),
                    1 => layer.when("create_task", json!({"title": "t", "depends_on": [a]})),
                    2 => layer.when("update_task", json!({"id": a, "patch": {"depends_on": [b]}})),
                    3 => layer.when("finish_task", json!({"id": a})),
                    4 => layer.when("create_goal", json!({"title": "g"})),
                    5 => layer.when("update_goal", json!({"id": a, "patch": {"parent": b}})),
                    _ => layer.when("snooze_task", json!({"id": a, "until": "2027-01-01"})),
                };
                if let Ok((_, answer)) = outcome {
                    ids.push(id(&answer));
                }
            }
            prop_assert_eq!(layer.replayed(), layer.state);
        }
    }
}
