//! What lies where: the scopes that hold items.

use crate::items::What;
use crate::library::Library;
use crate::store::Order;
use athena_schemas::context::{Context, Scope};
use athena_schemas::layers::common::time;
use athena_schemas::layers::store::*;
use athena_schemas::refusal::Refusal;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

type Counted = BTreeMap<Scope, (BTreeMap<String, u64>, u64)>;

fn count(counted: &mut Counted, scope: &Scope, layer: &str, items: u64, recorded_ms: u64) {
    let entry = counted.entry(scope.clone()).or_default();
    *entry.0.entry(layer.to_owned()).or_default() += items;
    entry.1 = entry.1.max(recorded_ms);
}

impl Queries for Library {
    fn list_scopes(&self, cx: &Context, _: ListScopes) -> Result<Vec<ScopeInfo>, Refusal> {
        let mut counted = Counted::new();
        for (what, layer) in [(What::Type, "episodic"), (What::Fact, "semantic")] {
            for (scope, _, items) in self.items.tallies(cx, what)? {
                count(&mut counted, &scope, layer, items, 0);
            }
        }
        self.last_recorded(cx, &mut counted)?;
        for row in self.agenda.tasks(cx, &self.items.projects(&cx.scope)?)? {
            count(&mut counted, &row.head.scope, "prospective", 1, row.head.recorded_ms);
        }
        for node in &self.network(cx)?.nodes {
            count(&mut counted, &node.row.head.scope, "graph", 1, node.row.head.recorded_ms);
        }
        Ok(counted
            .into_iter()
            .map(|(scope, (items, last))| ScopeInfo { scope, items, last: time(last as i64) })
            .collect())
    }
}

impl Library {
    /// When the last episode and the last fact of each scope were recorded: read backwards until every scope was met.
    fn last_recorded(&self, cx: &Context, counted: &mut Counted) -> Result<(), Refusal> {
        for project in self.items.projects(&cx.scope)? {
            let of_project =
                |scope: &&Scope| crate::items::project_key(scope) == project && cx.scope.covers(scope);
            let scopes: BTreeSet<Scope> = counted.keys().filter(of_project).cloned().collect();
            let holds = |counted: &Counted, layer: &str| -> BTreeSet<Scope> {
                let held =
                    |scope: &&Scope| counted.get(*scope).is_some_and(|(items, _)| items.contains_key(layer));
                scopes.iter().filter(held).cloned().collect()
            };
            let (mut episodic, mut semantic) = (holds(counted, "episodic"), holds(counted, "semantic"));
            let mut met = |open: &mut BTreeSet<Scope>, head: &crate::items::Head| {
                if open.remove(&head.scope)
                    && let Some((_, last)) = counted.get_mut(&head.scope)
                {
                    *last = (*last).max(head.recorded_ms);
                }
                !open.is_empty()
            };
            let bounds = (Bound::Unbounded, Bound::Unbounded);
            if !episodic.is_empty() {
                let index = &self.items.by_position;
                self.items.episodes_in(cx, index, &project, bounds, Order::Descending, &mut |row| {
                    met(&mut episodic, &row.head)
                })?;
            }
            if !semantic.is_empty() {
                self.items.facts_in(cx, &project, u64::MAX, Order::Descending, &mut |row| {
                    met(&mut semantic, &row.head)
                })?;
            }
        }
        Ok(())
    }
}
