//! What a client is told that calls a function of the sandbox as if it were a tool: the exact call that works.

use athena_schemas::catalog;
use serde_json::{Value, json};

/// The functions that code has besides the operations.
const GLOBALS: &[&str] = &["callMCPTool", "searchTools", "readToolDefinition", "readdir", "readFile"];

/// The arguments of the `execute` call that does what a call of `name` with `params` meant; `None` where `name` means nothing
/// in the sandbox either.
pub(crate) fn execute_for(name: &str, params: &Value) -> Option<Value> {
    let bare = name.strip_prefix("functions.").unwrap_or(name);
    if GLOBALS.contains(&bare) {
        return Some(code(&format!("return await {bare}({});", arguments(params))));
    }
    let bare = ["athena.", "athena/", "athena__", "athena_"]
        .iter()
        .find_map(|prefix| bare.strip_prefix(prefix))
        .unwrap_or(bare);
    if let Some((layer, operation)) = operation(bare) {
        return Some(code(&format!("return await athena.{layer}.{operation}({});", spelt(params))));
    }
    // Any other qualified name can only be a tool of an upstream server.
    let (server, tool) = ["/", "__", "."].iter().find_map(|dot| bare.split_once(dot))?;
    let path = Value::from(format!("{server}/{tool}"));
    Some(code(&format!("return await callMCPTool({path}, {});", spelt(params))))
}

/// Layer and name of the operation that `name` spells: `semantic/search`, `semantic.search`, `semantic__search`,
/// `semantic_search`, or the bare name where only one layer has it.
fn operation(name: &str) -> Option<(&'static str, &'static str)> {
    let spelling = |entry: &&athena_schemas::operation::Entry| {
        ["/", ".", "__", "_"].iter().any(|dot| {
            name.strip_prefix(entry.layer)
                .and_then(|rest| rest.strip_prefix(dot))
                .is_some_and(|rest| rest == entry.name)
        })
    };
    if let Some(entry) = catalog::entries().find(spelling) {
        return Some((entry.layer, entry.name));
    }
    let mut named = catalog::entries().filter(|entry| entry.name == name);
    match (named.next(), named.next()) {
        (Some(entry), None) => Some((entry.layer, entry.name)),
        _ => None,
    }
}

fn code(code: &str) -> Value {
    json!({ "code": code })
}

/// One object, as every operation takes it.
fn spelt(params: &Value) -> String {
    if params.is_null() { "{}".into() } else { params.to_string() }
}

/// Positional arguments, where the client spelt them in one of the ways models do.
fn arguments(params: &Value) -> String {
    let Some(object) = params.as_object() else { return spelt(params) };
    object.values().map(Value::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snippet(name: &str, params: Value) -> Option<String> {
        execute_for(name, &params).map(|call| call["code"].as_str().unwrap().to_owned())
    }

    #[test]
    fn every_spelling_of_an_operation_gets_the_call_that_works() {
        let expected = r#"return await athena.semantic.search({"query":"kettle"});"#;
        for name in [
            "semantic/search",
            "semantic.search",
            "semantic_search",
            "athena.semantic.search",
            "athena__semantic__search",
            "functions.athena.semantic.search",
        ] {
            assert_eq!(snippet(name, json!({"query": "kettle"})).as_deref(), Some(expected), "{name}");
        }
    }

    #[test]
    fn globals_and_upstream_tools_are_spelt_out_too() {
        assert_eq!(
            snippet("readdir", json!({"path": "/"})).as_deref(),
            Some(r#"return await readdir("/");"#)
        );
        assert_eq!(
            snippet("github.create_issue", json!({"title": "x"})).as_deref(),
            Some(r#"return await callMCPTool("github/create_issue", {"title":"x"});"#)
        );
        assert_eq!(snippet("nonsense", json!({})), None);
    }
}
