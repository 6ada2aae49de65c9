//! What lies where: the scopes that hold items.

use crate::library::Library;
use athena_schemas::context::{Context, Scope};
use athena_schemas::layers::common::time;
use athena_schemas::layers::store::*;
use athena_schemas::refusal::Refusal;
use std::collections::BTreeMap;

type Counted = BTreeMap<Scope, (BTreeMap<String, u64>, u64)>;

fn count(counted: &mut Counted, scope: &Scope, layer: &str, recorded_ms: u64) {
    let entry = counted.entry(scope.clone()).or_default();
    *entry.0.entry(layer.to_owned()).or_default() += 1;
    entry.1 = entry.1.max(recorded_ms);
}

impl Queries for Library {
    fn list_scopes(&self, cx: &Context, _: ListScopes) -> Result<Vec<ScopeInfo>, Refusal> {
        let mut counted = Counted::new();
        self.items.each_episode(cx, &mut |row| {
            count(&mut counted, &row.head.scope, "episodic", row.head.recorded_ms);
        })?;
        for row in self.items.all_facts(cx)? {
            count(&mut counted, &row.head.scope, "semantic", row.head.recorded_ms);
        }
        for row in self.agenda.tasks(cx, &self.items.projects(&cx.scope)?)? {
            count(&mut counted, &row.head.scope, "prospective", row.head.recorded_ms);
        }
        for node in &self.network(cx)?.nodes {
            count(&mut counted, &node.row.head.scope, "graph", node.row.head.recorded_ms);
        }
        Ok(counted
            .into_iter()
            .map(|(scope, (items, last))| ScopeInfo { scope, items, last: time(last as i64) })
            .collect())
    }
}
