//! Older names of operations, from the first description of Athena and from peers: what they are called today and how their
//! parameters are spelt now. The router takes them, counts them, and says what replaces them.

use serde_json::{Map, Value, json};

/// An older name.
#[derive(Debug, Clone, Copy)]
pub struct Alias {
    /// What it was called.
    pub old: &'static str,
    /// What it is called.
    pub op: &'static str,
    /// Parameters that have another name: old, new.
    pub renamed: &'static [(&'static str, &'static str)],
}

/// Every older name there is.
pub const ALIASES: &[Alias] = &[
    Alias {
        old: "remember_episodic",
        op: "episodic/remember",
        renamed: &[("event", "content"), ("text", "content"), ("event_type", "type")],
    },
    Alias { old: "recall_episodic", op: "episodic/recall", renamed: &[("text", "query"), ("k", "limit")] },
    Alias { old: "query_temporal", op: "episodic/query_temporal", renamed: &[("query", "expr")] },
    Alias {
        old: "remember_semantic",
        op: "semantic/store",
        renamed: &[("fact", "content"), ("text", "content")],
    },
    Alias {
        old: "store_semantic",
        op: "semantic/store",
        renamed: &[("fact", "content"), ("text", "content")],
    },
    Alias { old: "recall_semantic", op: "semantic/search", renamed: &[("text", "query"), ("k", "limit")] },
    Alias {
        old: "create_entity",
        op: "graph/add_entity",
        renamed: &[("entity_type", "type"), ("attributes", "attrs")],
    },
    Alias {
        old: "link_entities",
        op: "graph/add_edge",
        renamed: &[("source", "from"), ("target", "to"), ("relation_type", "relation")],
    },
    Alias { old: "search_graph", op: "graph/search_graph", renamed: &[("text", "query"), ("depth", "hops")] },
    Alias { old: "get_communities", op: "graph/get_communities", renamed: &[("min_members", "min_size")] },
    Alias {
        old: "execute_procedure",
        op: "procedural/execute",
        renamed: &[("procedure", "name"), ("arguments", "args")],
    },
    Alias {
        old: "learn_procedure",
        op: "procedural/learn",
        renamed: &[("source", "code"), ("lang", "language")],
    },
    Alias {
        old: "rollback_procedure",
        op: "procedural/rollback",
        renamed: &[("version", "to"), ("procedure", "name")],
    },
    Alias { old: "recall_procedural", op: "procedural/suggest", renamed: &[] },
    Alias {
        old: "create_task",
        op: "prospective/create_task",
        renamed: &[("content", "title"), ("due_at", "due")],
    },
    Alias { old: "create_goal", op: "prospective/create_goal", renamed: &[("name", "title")] },
    Alias { old: "get_cognitive_load", op: "meta/load", renamed: &[] },
    // Of the reference memory server, where a call means the same.
    Alias { old: "read_graph", op: "graph/read_graph", renamed: &[] },
    Alias { old: "open_nodes", op: "graph/read_graph", renamed: &[] },
    Alias { old: "search_nodes", op: "graph/search_entities", renamed: &[] },
    Alias { old: "retrieve", op: "rag/retrieve", renamed: &[("text", "query"), ("k", "limit")] },
];

/// Older names of what lies outside the catalogue of operations, or is a tool of the front today.
pub const OUTSIDE: &[Alias] = &[
    Alias {
        old: "execute_memory_code",
        op: "run/execute",
        renamed: &[("lang", "language"), ("script", "code")],
    },
    Alias { old: "execute_code", op: "run/execute", renamed: &[("lang", "language"), ("script", "code")] },
    Alias { old: "discover_apis", op: "tools/search", renamed: &[("task", "query"), ("category", "path")] },
    Alias { old: "search_apis", op: "tools/search", renamed: &[("task", "query")] },
    Alias {
        old: "get_api_docs",
        op: "tools/definition",
        renamed: &[("api", "path"), ("name", "path"), ("api_name", "path")],
    },
    Alias {
        old: "find_apis_for_task",
        op: "tools/find_apis_for_task",
        renamed: &[("query", "task"), ("task_description", "task")],
    },
];

/// The older name behind a call: bare, or with its layer (`semantic/recall_semantic`). A current name is none.
pub fn find(op: &str) -> Option<&'static Alias> {
    if crate::catalog::find(op).is_some() {
        return None;
    }
    let name = op.rsplit('/').next().unwrap_or(op);
    let layer = op.split_once('/').map(|(layer, _)| layer);
    let fits = |alias: &&Alias| {
        alias.old == name && layer.is_none_or(|layer| alias.op.split('/').next() == Some(layer))
    };
    ALIASES.iter().chain(OUTSIDE).filter(|alias| alias.op != op).find(fits)
}

impl Alias {
    /// The parameters as they are spelt today. A new spelling that is there already wins.
    pub fn params(&self, params: Value) -> Value {
        let Value::Object(given) = params else { return params };
        let mut fields = Map::with_capacity(given.len());
        for (name, value) in given {
            let new = self.renamed.iter().find(|(old, _)| *old == name).map_or(name.as_str(), |(_, new)| new);
            if new == name || !fields.contains_key(new) {
                fields.insert(new.to_owned(), value);
            }
        }
        // `recall_procedural(task, tags)` became `suggest({context: {task, tags}})`.
        if self.op == "procedural/suggest" && !fields.contains_key("context") {
            let task = fields.remove("task").or_else(|| fields.remove("query")).unwrap_or_default();
            let tags = fields.remove("tags").unwrap_or_else(|| json!([]));
            fields.insert("context".into(), json!({"task": task, "tags": tags}));
        }
        Value::Object(fields)
    }

    /// What to say to whoever used it.
    pub fn note(&self) -> String {
        format!("{} is now {}", self.old, self.op)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn an_older_name_leads_to_an_operation_and_hides_none() {
        let mut seen = HashSet::new();
        for alias in ALIASES {
            assert!(seen.insert(alias.old), "{} is listed twice", alias.old);
            assert!(crate::catalog::find(alias.op).is_some(), "{} leads to no operation", alias.old);
            assert!(crate::catalog::find(alias.old).is_none());
        }
    }

    #[test]
    fn tools_of_the_first_description_lead_to_those_of_today() {
        let respelt = |old: &str, params: Value| {
            let alias = find(old).unwrap();
            (alias.op, alias.params(params))
        };
        let docs = respelt("get_api_docs", json!({"name": "semantic/store", "path": "x"}));
        assert_eq!(docs, ("tools/definition", json!({"path": "x"})));
        assert_eq!(
            respelt("execute_memory_code", json!({"script": "1"})),
            ("run/execute", json!({"code": "1"}))
        );
        assert!(find("tools/find_apis_for_task").is_none() && find("run/execute").is_none());
        assert!(OUTSIDE.iter().all(|alias| ALIASES.iter().all(|other| other.old != alias.old)));
    }

    #[test]
    fn parameters_are_respelt() {
        let alias = find("recall_semantic").unwrap();
        assert_eq!(alias.params(json!({"text": "kettle", "k": 3})), json!({"query": "kettle", "limit": 3}));
        assert_eq!(alias.params(json!({"query": "a", "text": "b"})), json!({"query": "a"}));
        let suggest = find("procedural/recall_procedural").unwrap();
        assert_eq!(suggest.params(json!({"task": "tea"})), json!({"context": {"task": "tea", "tags": []}}));
        assert!(find("semantic/search").is_none());
        assert!(find("graph/recall_semantic").is_none());
        assert!(find("graph/search_graph").is_none(), "a name that is current is no older name");
        assert_eq!(find("search_graph").unwrap().op, "graph/search_graph");
    }
}
