//! What an export holds beside the texts of episodes and facts: entities and edges, goals, tasks, triggers, procedures. Each as
//! it is answered, and what others refer to before those who do, so that an import can make them again in one pass.

use crate::library::Library;
use athena_schemas::context::{Context, Scope};
use athena_schemas::id::Id;
use athena_schemas::operation::to_json;
use athena_schemas::refusal::Refusal;
use serde_json::Value;
use std::collections::HashSet;

impl Library {
    /// Visits all of it that who asks may see, each with its layer.
    ///
    /// # Errors
    /// When the disk fails, or what `visit` refuses with.
    pub fn portable(
        &self,
        cx: &Context,
        visit: &mut dyn FnMut(&'static str, Value) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let projects = self.items.projects(&cx.scope)?;
        let network = self.graph.network(cx, &projects)?;
        for node in &network.nodes {
            visit("graph", to_json(node.item())?)?;
        }
        for link in &network.links {
            visit("graph", to_json(network.edge(link))?)?;
        }
        let goals = self.agenda.goals(cx, &projects)?;
        for row in ordered(goals, |row| &row.body.id, |row| row.body.parent.iter().collect()) {
            visit("prospective", to_json(row.item(0, 0))?)?;
        }
        let tasks = self.agenda.tasks(cx, &projects)?;
        for row in ordered(tasks, |row| &row.body.id, |row| row.body.depends_on.iter().collect()) {
            visit("prospective", to_json(row.item(cx.now_ms as i64))?)?;
        }
        let triggers = self.agenda.triggers(cx, &projects)?;
        for row in triggers.iter().filter(|row| !row.head.hidden) {
            visit("prospective", to_json(row.item(None))?)?;
        }
        for row in self.procedures.all(cx, &projects)?.iter().filter(|row| !row.archived) {
            let mut item = to_json(crate::procedures::info(&row.newest, false))?;
            if let Some(item) = item.as_object_mut() {
                item.insert("code".into(), row.newest.code.clone().into());
                let params = serde_json::from_str(&row.newest.params).unwrap_or(Value::Null);
                item.insert("params".into(), params);
            }
            visit("procedural", item)?;
        }
        Ok(())
    }

    /// Whether there is such an item, hidden or not, and who asks may see it.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn holds(&self, cx: &Context, id: &Id) -> Result<bool, Refusal> {
        let projects = self.items.projects(&cx.scope)?;
        let key = id.as_str().as_bytes();
        let covers = |scope: &Scope| cx.scope.covers(scope);
        Ok(match id.prefix() {
            "ta" => self.agenda.task_row(key)?.is_some_and(|row| covers(&row.head.scope)),
            "go" => self.agenda.goal_row(key)?.is_some_and(|row| covers(&row.head.scope)),
            "tr" => self.agenda.triggers(cx, &projects)?.iter().any(|row| row.body.id == *id),
            "en" => self.graph.entity(id)?.is_some_and(|row| covers(&row.head.scope)),
            "ed" => self.graph.edge(id)?.is_some_and(|row| covers(&row.head.scope)),
            "pr" => self.procedures.by_id(cx, id)?.is_some(),
            _ => false,
        })
    }

    /// The edges of an entity, ended ones included.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn edges_of(&self, cx: &Context, entity: &Id) -> Result<Vec<Id>, Refusal> {
        let projects = self.items.projects(&cx.scope)?;
        Ok(self.graph.edges_of(entity, &projects)?)
    }
}

/// Rows so that each comes after those it needs. Cycles, which the layers refuse, would be cut anywhere.
fn ordered<T>(rows: Vec<T>, id: impl Fn(&T) -> &Id, needs: impl Fn(&T) -> Vec<&Id>) -> Vec<T> {
    let mut open: Vec<Option<T>> = rows.into_iter().map(Some).collect();
    let mut left: HashSet<Id> = open.iter().flatten().map(|row| id(row).clone()).collect();
    let mut sorted = Vec::with_capacity(open.len());
    while !left.is_empty() {
        let before = left.len();
        for slot in &mut open {
            let ready = slot.as_ref().is_some_and(|row| needs(row).iter().all(|id| !left.contains(*id)));
            if ready && let Some(row) = slot.take() {
                left.remove(id(&row));
                sorted.push(row);
            }
        }
        if left.len() == before {
            sorted.extend(open.iter_mut().filter_map(Option::take));
            break;
        }
    }
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_needed_comes_first_and_a_cycle_loses_nothing() {
        let id = |n: u32| Id::from_text(format!("ta_{n}"));
        let rows = |pairs: &[(u32, &[u32])]| -> Vec<(Id, Vec<Id>)> {
            pairs.iter().map(|(n, on)| (id(*n), on.iter().map(|n| id(*n)).collect())).collect()
        };
        let sorted = |pairs: &[(u32, &[u32])]| -> Vec<Id> {
            let sorted = ordered(rows(pairs), |row| &row.0, |row| row.1.iter().collect());
            sorted.into_iter().map(|row| row.0).collect()
        };
        assert_eq!(sorted(&[(1, &[3]), (2, &[]), (3, &[2, 9])]), [id(2), id(3), id(1)]);
        assert_eq!(sorted(&[(1, &[2]), (2, &[1]), (3, &[])]).len(), 3);
    }
}
