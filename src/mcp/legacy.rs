//! The tools of the first description of Athena, under their names then: for clients and prompts that still use them. Each
//! leads to what replaces it, says so in its description and in every answer, and is counted.

use athena_schemas::aliases::{self, ALIASES};
use rmcp::model::{MetaObject, Tool};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// Tools that became tools of another name: old, new operation, what to call instead, parameters that were respelt.
const TOOLS: &[(&str, &str, &str, &[(&str, &str)])] = &[
    ("execute_memory_code", "run/execute", "the tool execute", &[("lang", "language"), ("script", "code")]),
    ("execute_code", "run/execute", "the tool execute", &[("lang", "language"), ("script", "code")]),
    ("discover_apis", "tools/search", "the tool search", &[("task", "query"), ("category", "path")]),
    ("search_apis", "tools/search", "the tool search", &[("task", "query")]),
    (
        "get_api_docs",
        "tools/definition",
        "the tool search with path and detail full",
        &[("api", "path"), ("name", "path"), ("api_name", "path")],
    ),
    (
        "find_apis_for_task",
        "tools/find_apis_for_task",
        "the tool search",
        &[("query", "task"), ("task_description", "task")],
    ),
];

/// An older tool with the call that replaces it.
pub(super) struct Older {
    /// Its name.
    pub(super) name: &'static str,
    /// The operation it leads to; the router knows the older names of operations itself.
    op: &'static str,
    /// What to use instead.
    pub(super) instead: String,
    renamed: &'static [(&'static str, &'static str)],
}

/// The older tool of a name.
pub(super) fn find(name: &str) -> Option<Older> {
    if let Some((name, op, instead, renamed)) = TOOLS.iter().find(|(old, ..)| *old == name) {
        return Some(Older { name, op, instead: (*instead).to_owned(), renamed });
    }
    let alias = aliases::find(name).filter(|alias| alias.old == name)?;
    let instead = format!("athena.{} in execute", alias.op.replace('/', "."));
    Some(Older { name: alias.old, op: alias.old, instead, renamed: &[] })
}

/// Every older tool, as a client lists them.
pub(super) fn tools() -> impl Iterator<Item = Tool> {
    TOOLS.iter().map(|(old, ..)| *old).chain(ALIASES.iter().map(|alias| alias.old)).filter_map(find).map(
        |older| {
            let schema = Map::from_iter([("type".to_owned(), Value::from("object"))]);
            let description = format!("Older name. Use {} instead.", older.instead);
            Tool::new(older.name, description, Arc::new(schema))
        },
    )
}

impl Older {
    /// The call that replaces it. Counts the use.
    pub(super) fn call(&self, params: Value) -> (&'static str, Value) {
        if self.op != self.name {
            metrics::counter!("athena_older_names_total", "name" => self.name).increment(1);
            tracing::info!(old = self.name, new = self.op, "a tool was called by an older name");
        }
        let Value::Object(given) = params else { return (self.op, params) };
        let mut fields = Map::with_capacity(given.len());
        for (name, value) in given {
            let new = self.renamed.iter().find(|(old, _)| *old == name).map_or(name.as_str(), |(_, new)| new);
            if new == name || !fields.contains_key(new) {
                fields.insert(new.to_owned(), value);
            }
        }
        (self.op, Value::Object(fields))
    }

    /// What an answer says of its tool.
    pub(super) fn note(&self) -> MetaObject {
        let replaced = json!({ "tool": self.name, "replacement": self.instead });
        MetaObject(Map::from_iter([("deprecated".to_owned(), replaced)]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_older_tool_leads_somewhere_and_says_where() {
        let names: Vec<String> = tools().map(|tool| tool.name.to_string()).collect();
        assert!(names.len() >= 20 && names.contains(&"execute_memory_code".to_owned()), "{names:?}");
        for tool in tools() {
            let older = find(&tool.name).unwrap();
            assert!(tool.description.unwrap().contains(&older.instead));
            let (op, _) = older.call(json!({}));
            let known = athena_schemas::catalog::find(op).is_some() || aliases::find(op).is_some();
            assert!(known || op.starts_with("tools/"), "{op}");
        }
        assert!(find("execute").is_none() && find("semantic/recall_semantic").is_none());
    }

    #[test]
    fn parameters_are_respelt_and_new_spellings_win() {
        let (op, params) = find("get_api_docs").unwrap().call(json!({"name": "semantic/store", "path": "x"}));
        assert_eq!((op, params), ("tools/definition", json!({"path": "x"})));
        assert_eq!(find("execute_memory_code").unwrap().call(json!({"script": "1"})).1, json!({"code": "1"}));
    }
}
