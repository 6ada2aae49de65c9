//! What the tools do: each is one call of the router.

use super::legacy;
use super::profile::Profile;
use super::snippet::execute_for;
use crate::discreet;
use athena_schemas::context::Caller;
use athena_schemas::ports::{Request, Router};
use athena_schemas::refusal::{Refusal, nearest};
use rmcp::ErrorData;
use rmcp::model::CallToolResult;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// Whoever can make a call of the router.
pub(crate) trait Ask: Sync {
    /// Makes it.
    fn ask(&self, op: &str, params: Value) -> impl Future<Output = Result<Value, Refusal>> + Send;
}

/// One call of a tool by an MCP client.
pub(crate) struct Asked {
    /// The one way in.
    pub(crate) router: Arc<dyn Router>,
    /// Who asks.
    pub(crate) caller: Caller,
    /// What makes a retry safe.
    pub(crate) key: Option<String>,
}

impl Asked {
    /// For what follows from the same call: the key is its first part's alone.
    pub(crate) fn again(&self) -> Self {
        Self { router: self.router.clone(), caller: self.caller.clone(), key: None }
    }
}

impl Ask for Asked {
    async fn ask(&self, op: &str, params: Value) -> Result<Value, Refusal> {
        let request = Request { idempotency_key: self.key.clone(), ..Request::new(op, params) };
        self.router.call(&self.caller, request).await.map(|answer| answer.value)
    }
}

/// Calls a tool of the profile. What goes wrong inside is an answer that the model can read; only a name that means nothing is
/// an error of the protocol.
pub(crate) async fn call(
    asked: &impl Ask,
    profile: Profile,
    name: &str,
    params: Value,
) -> Result<CallToolResult, ErrorData> {
    if !profile.tools().iter().any(|tool| tool.name == name) {
        return not_a_tool(profile, name, &params);
    }
    if let Some(older) = legacy::find(name) {
        let mut result = shown(asked.ask(older.name, params).await.map(|value| listed("result", value)));
        result.meta = Some(older.note());
        return Ok(result);
    }
    Ok(shown(answer(asked, name, params).await))
}

/// An answer as a client gets it.
pub(super) fn shown(answer: Result<Value, Refusal>) -> CallToolResult {
    let answer = answer.map(|mut value| {
        super::defang::defang(&mut value);
        value
    });
    match answer {
        Ok(value) if went_wrong(&value) => CallToolResult::structured_error(value),
        Ok(value) => CallToolResult::structured(value),
        Err(refusal) => refused(&refusal),
    }
}

/// What a tool answers, for MCP and the command line alike: always an object.
///
/// # Errors
/// What was refused.
pub(crate) async fn answer(asked: &impl Ask, name: &str, params: Value) -> Result<Value, Refusal> {
    match name {
        "execute" => asked.ask("run/execute", params).await,
        "search" => search(asked, &params).await,
        "recall" => recall(asked, &params).await,
        "remember" => remember(asked, &params).await,
        "run_skill" => asked.ask("procedural/execute", params).await,
        "approve_status" => Ok(listed("approvals", asked.ask("approval/list", params).await?)),
        "audit" => Ok(listed("runs", asked.ask("run/list", params).await?)),
        "privacy_stats" => asked.ask("privacy/stats", params).await,
        _ => Err(Refusal::not_found(format!("there is no tool {name}"))),
    }
}

fn refused(refusal: &Refusal) -> CallToolResult {
    CallToolResult::structured_error(json!({
        "code": refusal.code, "message": refusal.message, "try": refusal.hint,
        "path": refusal.path, "details": refusal.details,
    }))
}

/// Whether an outcome of `execute` is one that the model must look at.
fn went_wrong(value: &Value) -> bool {
    let status = value.get("status").and_then(Value::as_str);
    value.get("run").is_some()
        && !matches!(status, Some("completed" | "approval_required" | "uncertain" | "running"))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Search {
    query: Option<String>,
    path: Option<String>,
    #[serde(default = "brief")]
    detail: String,
    r#in: Option<String>,
    #[serde(default = "eight")]
    limit: u32,
}

/// `search`: by intent where there is a query, else what lies at a path.
async fn search(asked: &impl Ask, params: &Value) -> Result<Value, Refusal> {
    let Search { query, path, detail, r#in, limit } = parse("search", params)?;
    match (query, path) {
        (Some(query), path) => {
            let mut params = json!({ "query": query, "detail": detail, "limit": limit });
            set(&mut params, "in", r#in.map(Value::from));
            set(&mut params, "path", path.map(Value::from));
            let found = asked.ask("tools/search", params).await?;
            Ok(listed("results", found))
        }
        (None, Some(path)) if path.ends_with('/') || is_folder(&path) => {
            let found = asked.ask("files/list", json!({ "path": path })).await?;
            Ok(listed("entries", found))
        }
        (None, Some(path)) => {
            let found = asked.ask("tools/definition", json!({ "path": path, "detail": detail })).await?;
            Ok(if found.is_object() { found } else { json!({ "definition": found }) })
        }
        (None, None) => Ok(listed("entries", asked.ask("files/list", json!({ "path": "/" })).await?)),
    }
}

/// `/mcp-servers`, `/mcp-servers/github` and `/skills` are folders; what has a longer path or an ending is a file.
fn is_folder(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let file = parts.last().is_some_and(|last| last.contains('.'));
    match parts.first() {
        None => true,
        Some(&"skills") => !file && parts.len() == 1,
        Some(&"mcp-servers") => {
            !file && (parts.len() <= 2 || (parts.len() == 3 && parts.get(1) == Some(&"athena")))
        }
        Some(_) => false,
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Recall {
    query: String,
    layers: Option<Vec<String>>,
    #[serde(default = "eight")]
    limit: u32,
    as_of: Option<String>,
}

async fn recall(asked: &impl Ask, params: &Value) -> Result<Value, Refusal> {
    let Recall { query, layers, limit, as_of } = parse("recall", params)?;
    let mut params = json!({ "query": query, "limit": limit });
    set(&mut params, "layers", layers.map(Value::from));
    // As far as was known then: what happened up to that time.
    set(&mut params, "range", as_of.map(|to| json!({ "to": to })));
    Ok(listed("hits", asked.ask("rag/retrieve", params).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Remember {
    content: String,
    layer: Option<String>,
    r#type: Option<String>,
    #[serde(default)]
    tags: Vec<String>,
    confidence: Option<f64>,
}

/// `remember`: the layer decides which operation it is; what that layer has no use for is refused, not dropped.
async fn remember(asked: &impl Ask, params: &Value) -> Result<Value, Refusal> {
    let Remember { content, layer, r#type, tags, confidence } = parse("remember", params)?;
    let layer = layer.as_deref().unwrap_or("episodic");
    let (op, text, fields): (_, _, &[&str]) = match layer {
        "episodic" => ("episodic/remember", "content", &["type", "tags"]),
        "semantic" => ("semantic/store", "content", &["tags", "confidence"]),
        "prospective" => ("prospective/create_task", "title", &[]),
        other => {
            return Err(Refusal::invalid(format!("remember does not write to the layer {other}"))
                .at("layer")
                .hint("episodic, semantic or prospective; the other layers through execute"));
        }
    };
    let mut params = json!({ text: content });
    let given = [
        ("type", r#type.map(Value::from)),
        ("tags", (!tags.is_empty()).then(|| Value::from(tags))),
        ("confidence", confidence.map(Value::from)),
    ];
    for (name, value) in given {
        if value.is_some() && !fields.contains(&name) {
            return Err(Refusal::invalid(format!("the layer {layer} keeps no {name}"))
                .at(name)
                .hint(format!("leave {name} out, or call {op} through execute")));
        }
        set(&mut params, name, value);
    }
    asked.ask(op, params).await
}

/// The answer to a name that is no tool of the profile.
fn not_a_tool(profile: Profile, name: &str, params: &Value) -> Result<CallToolResult, ErrorData> {
    if let Some(execute) = execute_for(name, params) {
        let refusal = Refusal::not_found(format!("{name} is a function inside the sandbox, not a tool"))
            .hint(format!("call the tool execute with {execute}"))
            .with(json!({ "tool": "execute", "arguments": execute }));
        return Ok(refused(&discreet::refusal(refusal)));
    }
    let names = profile.tools().iter().map(|tool| tool.name.as_ref());
    let near = nearest(name, names.clone());
    let hint = if near.is_empty() { names.collect::<Vec<_>>() } else { near };
    let name = discreet::text(name);
    Err(ErrorData::invalid_params(format!("there is no tool {name}; try: {}", hint.join(", ")), None))
}

fn parse<T: serde::de::DeserializeOwned>(tool: &str, params: &Value) -> Result<T, Refusal> {
    serde_json::from_value(params.clone()).map_err(|e| {
        Refusal::invalid(format!("{tool}: {e}")).hint(format!("see the schema of the tool {tool}"))
    })
}

/// Structured content must be an object: a list becomes one with a single field.
fn listed(name: &str, value: Value) -> Value {
    if value.is_object() { value } else { Value::Object(Map::from_iter([(name.to_owned(), value)])) }
}

fn set(params: &mut Value, name: &str, value: Option<Value>) {
    if let (Some(value), Some(object)) = (value, params.as_object_mut()) {
        object.insert(name.to_owned(), value);
    }
}

fn eight() -> u32 {
    8
}

fn brief() -> String {
    "brief".into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use athena_schemas::ports::{Answer, BoxFuture};
    use std::sync::Mutex;

    /// Answers every call with what it was asked.
    #[derive(Default)]
    struct Echo(Mutex<Vec<Request>>);

    impl Router for Echo {
        fn call<'a>(&'a self, _: &'a Caller, request: Request) -> BoxFuture<'a, Result<Answer, Refusal>> {
            self.0.lock().unwrap().push(request.clone());
            Box::pin(async move { Ok(Answer { value: json!([request.op, request.params]), seq: None }) })
        }
    }

    async fn ask(name: &str, params: Value) -> (Result<CallToolResult, ErrorData>, Vec<Request>) {
        ask_in(Profile::Default, name, params).await
    }

    async fn ask_in(
        profile: Profile,
        name: &str,
        params: Value,
    ) -> (Result<CallToolResult, ErrorData>, Vec<Request>) {
        let router = Arc::new(Echo::default());
        let asked = Asked { router: router.clone(), caller: Caller::system(), key: Some("k/1".into()) };
        let answer = call(&asked, profile, name, params).await;
        let calls = router.0.lock().unwrap().clone();
        (answer, calls)
    }

    #[tokio::test]
    async fn an_older_tool_leads_to_its_successor_and_says_so() {
        let (answer, calls) =
            ask_in(Profile::Legacy, "execute_memory_code", json!({"code": "1", "lang": "ts"})).await;
        assert_eq!(calls[0].op, "execute_memory_code", "the router knows it, respells and counts it");
        let note = serde_json::to_value(answer.unwrap().meta).unwrap();
        assert_eq!(note["deprecated"]["replacement"], "the tool execute");
        let (answer, calls) = ask_in(Profile::Legacy, "recall_semantic", json!({"text": "kettle"})).await;
        assert_eq!(calls[0].op, "recall_semantic");
        assert!(answer.unwrap().meta.is_some());
        let (_, calls) = ask("execute_memory_code", json!({"code": "1"})).await;
        assert!(calls.is_empty(), "only where the profile is chosen");
    }

    #[tokio::test]
    async fn each_tool_is_one_call_under_the_request_s_key() {
        for (tool, params, op) in [
            ("execute", json!({"code": "return 1"}), "run/execute"),
            ("search", json!({"query": "issues"}), "tools/search"),
            ("search", json!({"path": "/mcp-servers/github"}), "files/list"),
            ("search", json!({"path": "/mcp-servers/github/create_issue.ts"}), "tools/definition"),
            ("search", json!({"path": "github/create_issue"}), "tools/definition"),
            ("recall", json!({"query": "kettle"}), "rag/retrieve"),
            ("remember", json!({"content": "x", "type": "decision"}), "episodic/remember"),
            ("remember", json!({"content": "x", "layer": "semantic", "confidence": 0.5}), "semantic/store"),
        ] {
            let (answer, calls) = ask(tool, params).await;
            assert_eq!(answer.unwrap().is_error, Some(false));
            assert_eq!(calls.len(), 1);
            assert_eq!(calls[0].op, op);
            assert_eq!(calls[0].idempotency_key.as_deref(), Some("k/1"));
        }
    }

    #[tokio::test]
    async fn structured_content_is_always_an_object() {
        let (answer, _) = ask("recall", json!({"query": "kettle"})).await;
        assert!(answer.unwrap().structured_content.unwrap()["hits"].is_array());
    }

    #[tokio::test]
    async fn a_sandbox_function_called_as_a_tool_is_told_the_execute_call() {
        let (answer, calls) = ask("semantic_search", json!({"query": "kettle"})).await;
        let answer = answer.unwrap();
        assert_eq!(answer.is_error, Some(true));
        let said = answer.structured_content.unwrap();
        assert_eq!(
            said["details"]["arguments"]["code"],
            r#"return await athena.semantic.search({"query":"kettle"});"#
        );
        assert!(calls.is_empty());
    }

    #[tokio::test]
    async fn what_a_layer_has_no_use_for_is_refused() {
        let (answer, calls) = ask("remember", json!({"content": "x", "confidence": 0.5})).await;
        assert_eq!(answer.unwrap().structured_content.unwrap()["path"], "confidence");
        assert!(calls.is_empty());
        let (answer, _) = ask("nonsense", json!({})).await;
        assert!(answer.unwrap_err().message.contains("execute, search, recall, remember"));
    }
}
