//! The tools of the first description of Athena, under their names then: for clients and prompts that still use them. Each
//! leads to what replaces it, says so in its description and in every answer, and is counted.

use athena_schemas::aliases::{self, ALIASES, OUTSIDE};
use rmcp::model::{MetaObject, Tool};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// An older tool. The router knows what it is called today and how its parameters are spelt, and counts it.
pub(super) struct Older {
    /// Its name.
    pub(super) name: &'static str,
    /// What to use instead.
    pub(super) instead: String,
}

/// The older tool of a name.
pub(super) fn find(name: &str) -> Option<Older> {
    let alias = aliases::find(name).filter(|alias| alias.old == name)?;
    let instead = match alias.op {
        "run/execute" => "the tool execute".into(),
        "tools/definition" => "the tool search with path and detail full".into(),
        op if op.starts_with("tools/") => "the tool search".into(),
        op => format!("athena.{} in execute", op.replace('/', ".")),
    };
    Some(Older { name: alias.old, instead })
}

/// Every older tool, as a client lists them.
pub(super) fn tools() -> impl Iterator<Item = Tool> {
    OUTSIDE.iter().chain(ALIASES).map(|alias| alias.old).filter_map(find).map(|older| {
        let schema = Map::from_iter([("type".to_owned(), Value::from("object"))]);
        let description = format!("Older name. Use {} instead.", older.instead);
        Tool::new(older.name, description, Arc::new(schema))
    })
}

impl Older {
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
        }
        assert!(find("execute").is_none() && find("semantic/recall_semantic").is_none());
    }
}
