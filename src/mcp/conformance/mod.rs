//! What the official conformance suite expects of a server under test: its tools, resources and prompts, kept as data in
//! `fixtures.json`, behind the same HTTP front as the product. Served by the hidden `athena serve --conformance` alone.

#![expect(deprecated, reason = "the suite covers logging, sampling and roots of the older protocol too")]

pub mod client;
mod jobs;
mod rounds;

use super::jobs::Jobs;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, CancelTaskParams, CompleteRequestParams,
    CompleteResult, CompletionInfo, ContentBlock, CreateMessageRequestParams, ElicitRequestParams,
    GetPromptRequestParams, GetPromptResponse, GetTaskParams, GetTaskResult, Implementation,
    ListPromptsResult, ListResourceTemplatesResult, ListResourcesResult, ListToolsResult, LoggingLevel,
    LoggingMessageNotificationParam, PaginatedRequestParams, ProgressNotificationParam,
    ReadResourceRequestParams, ReadResourceResponse, ReadResourceResult, ServerCapabilities, ServerConfig,
    SetLevelRequestParams, SubscribeRequestParams, SubscriptionFilter, Tool, UnsubscribeRequestParams,
    UpdateTaskParams,
};
use rmcp::service::{RequestContext, SubscriptionContext};
use rmcp::{ErrorData, RoleServer, ServerHandler};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tokio::sync::broadcast;

/// How long the fixtures wait where the suite asks for a pause.
const PAUSE: Duration = Duration::from_millis(50);
/// What pollers of a task are told to wait, milliseconds.
const POLL_MS: u64 = 100;

static DATA: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("fixtures.json")).unwrap_or_default());

/// The server under test.
#[derive(Clone)]
pub struct Fixtures {
    jobs: Jobs,
    rounds: Arc<rounds::Rounds>,
    changes: broadcast::Sender<Change>,
}

/// A list that has changed, as far as subscribers are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Tools,
    Prompts,
}

impl Default for Fixtures {
    fn default() -> Self {
        Self { jobs: Jobs::new(POLL_MS), rounds: Arc::default(), changes: broadcast::channel(16).0 }
    }
}

/// A value of the data as a type of the protocol.
fn read<T: DeserializeOwned>(value: &Value) -> Result<T, ErrorData> {
    serde_json::from_value(value.clone())
        .map_err(|e| ErrorData::internal_error(format!("the fixture: {e}"), None))
}

/// A result that says it is the whole of it, as the stateless protocol asks; older peers are not shown it.
fn complete(result: &Value) -> Value {
    let mut result = result.clone();
    if let Some(object) = result.as_object_mut() {
        object.insert("resultType".into(), "complete".into());
    }
    result
}

fn at(path: &str) -> &'static Value {
    DATA.pointer(path).unwrap_or(&Value::Null)
}

fn said(text: impl Into<String>) -> CallToolResult {
    CallToolResult::success(vec![ContentBlock::text(text.into())])
}

fn failed(text: impl Into<String>) -> CallToolResult {
    CallToolResult::error(vec![ContentBlock::text(text.into())])
}

impl ServerHandler for Fixtures {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_tools()
            .enable_tool_list_changed()
            .enable_resources()
            .enable_resources_subscribe()
            .enable_prompts()
            .enable_prompts_list_changed()
            .enable_completions()
            .enable_logging()
            .enable_tasks()
            .build();
        ServerConfig::new(capabilities)
            .with_server_info(Implementation::new("athena-conformance", env!("CARGO_PKG_VERSION")))
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(read(at("/tools"))?))
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        let tools = at("/tools").as_array()?;
        read(tools.iter().find(|tool| tool.get("name").and_then(Value::as_str) == Some(name))?).ok()
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let name = request.name.to_string();
        if let Some(result) = DATA.pointer(&format!("/results/{name}")) {
            return read::<CallToolResult>(&complete(result)).map(CallToolResponse::Complete);
        }
        if jobs::is_job(&name) {
            return self.job(&name, request, &context).await;
        }
        if DATA.pointer(&format!("/rounds/{name}")).is_some() {
            return self.rounds.tool(&name, &request, &context);
        }
        let argument = |field: &str| -> String {
            let value = request.arguments.as_ref().and_then(|arguments| arguments.get(field));
            value.and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let result = match name.as_str() {
            "test_tool_with_logging" => logged(&context, Some(LoggingLevel::Info)).await,
            "test_logging_tool" => logged(&context, context.meta.log_level()).await,
            "test_tool_with_progress" => with_progress(&context).await,
            "test_reconnection" => reconnected(&context).await,
            "test_sampling" => sampled(&context, &argument("prompt")).await,
            "test_missing_capability" => return needs_sampling(&context),
            "test_trigger_tool_change" => self.announce(Change::Tools),
            "test_trigger_prompt_change" => self.announce(Change::Prompts),
            name if DATA.pointer(&format!("/elicits/{name}")).is_some() => {
                elicited(&context, name, &argument("message")).await
            }
            _ => return Err(ErrorData::invalid_params(format!("there is no tool {name}"), None)),
        };
        Ok(CallToolResponse::Complete(result))
    }

    async fn list_resources(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        Ok(ListResourcesResult::with_all_items(read(at("/resources/list"))?))
    }

    async fn list_resource_templates(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        Ok(ListResourceTemplatesResult::with_all_items(read(at("/resources/templates"))?))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let uri = request.uri;
        let fixed = at("/resources/contents").get(&uri).cloned();
        let contents = fixed.or_else(|| {
            let id = uri.strip_prefix("test://template/")?.strip_suffix("/data")?;
            let text = json!({ "id": id, "templateTest": true, "data": format!("Data for ID: {id}") });
            Some(json!({ "uri": uri, "mimeType": "application/json", "text": text.to_string() }))
        });
        let Some(contents) = contents else {
            return Err(ErrorData::resource_not_found("Resource not found", Some(json!({ "uri": uri }))));
        };
        Ok(ReadResourceResponse::Complete(ReadResourceResult::new(vec![read(&contents)?])))
    }

    async fn subscribe(
        &self,
        _: SubscribeRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        Ok(())
    }

    async fn unsubscribe(
        &self,
        _: UnsubscribeRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        Ok(())
    }

    async fn set_level(
        &self,
        _: SetLevelRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        Ok(())
    }

    fn accepted_subscription_filter(&self, requested: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        Some(requested.clone())
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        let mut changes = self.changes.subscribe();
        loop {
            tokio::select! {
                () = context.cancelled() => return Ok(()),
                change = changes.recv() => {
                    // A subscriber is told only of what it asked for; the sink refuses the rest.
                    let _ = match change {
                        Ok(Change::Tools) => context.sink().notify_tool_list_changed().await,
                        Ok(Change::Prompts) => context.sink().notify_prompt_list_changed().await,
                        Err(broadcast::error::RecvError::Lagged(_)) => continue,
                        Err(broadcast::error::RecvError::Closed) => return Ok(()),
                    };
                }
            }
        }
    }

    async fn list_prompts(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        Ok(ListPromptsResult::with_all_items(read(at("/prompts"))?))
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        let name = request.name.clone();
        let Some(messages) = at("/messages").get(&name) else {
            return Err(ErrorData::invalid_params(format!("there is no prompt {name}"), None));
        };
        if DATA.pointer(&format!("/rounds/{name}")).is_some()
            && let Some(required) = self.rounds.prompt(&name, &request, &context)?
        {
            return Ok(GetPromptResponse::InputRequired(required));
        }
        let mut text = messages.to_string();
        for (argument, value) in request.arguments.iter().flatten() {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let quoted = Value::from(value).to_string();
            text = text.replace(&format!("{{{argument}}}"), quoted.trim_matches('"'));
        }
        let messages: Value = serde_json::from_str(&text).unwrap_or_default();
        Ok(GetPromptResponse::Complete(read(&complete(&json!({ "messages": messages })))?))
    }

    async fn complete(
        &self,
        request: CompleteRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        let begun = request.argument.value;
        let values = ["paris", "park", "party"].into_iter().filter(|value| value.starts_with(&begun));
        let completion = CompletionInfo::new(values.map(str::to_owned).collect())
            .map_err(|e| ErrorData::internal_error(e.to_string(), None))?;
        Ok(CompleteResult::new(completion))
    }

    async fn get_task(
        &self,
        request: GetTaskParams,
        _: RequestContext<RoleServer>,
    ) -> Result<GetTaskResult, ErrorData> {
        self.jobs.get(&request)
    }

    async fn update_task(
        &self,
        request: UpdateTaskParams,
        _: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.jobs.update(request)
    }

    async fn cancel_task(
        &self,
        request: CancelTaskParams,
        _: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.jobs.cancel(&request)
    }
}

impl Fixtures {
    fn announce(&self, change: Change) -> CallToolResult {
        let _ = self.changes.send(change);
        said("announced")
    }
}

/// Three lines of log, where somebody wants them.
async fn logged(context: &RequestContext<RoleServer>, level: Option<LoggingLevel>) -> CallToolResult {
    for line in ["Tool execution started", "Tool processing data", "Tool execution completed"] {
        if let Some(level) = level {
            let line = LoggingMessageNotificationParam::new(level, json!(line));
            let _ = context.peer.notify_logging_message(line).await;
        }
        tokio::time::sleep(PAUSE).await;
    }
    said("logged")
}

async fn with_progress(context: &RequestContext<RoleServer>) -> CallToolResult {
    let token = context.meta.get_progress_token();
    for progress in [0.0, 50.0, 100.0] {
        if let Some(token) = &token {
            let progress = ProgressNotificationParam::new(token.clone(), progress).with_total(100.0);
            let _ = context.peer.notify_progress(progress).await;
        }
        tokio::time::sleep(PAUSE).await;
    }
    said("done")
}

/// The client's stream may break while this waits; the answer is kept for when it is back.
async fn reconnected(context: &RequestContext<RoleServer>) -> CallToolResult {
    let token = context.meta.get_progress_token();
    if let Some(token) = token {
        let _ = context.peer.notify_progress(ProgressNotificationParam::new(token, 1.0)).await;
    }
    tokio::time::sleep(PAUSE * 2).await;
    said("Reconnection test completed")
}

async fn sampled(context: &RequestContext<RoleServer>, prompt: &str) -> CallToolResult {
    let request = json!({
        "messages": [{ "role": "user", "content": { "type": "text", "text": prompt } }], "maxTokens": 100,
    });
    let request = match read::<CreateMessageRequestParams>(&request) {
        Ok(request) => request,
        Err(e) => return failed(e.message),
    };
    match context.peer.create_message(request).await {
        Ok(answer) => said(format!("LLM response: {}", json!(answer.message.content))),
        Err(e) => failed(format!("the client cannot sample: {e}")),
    }
}

async fn elicited(context: &RequestContext<RoleServer>, name: &str, message: &str) -> CallToolResult {
    let mut request = at("/elicits").get(name).cloned().unwrap_or_default();
    if let (false, Some(object)) = (message.is_empty(), request.as_object_mut()) {
        object.insert("message".into(), json!(message));
    }
    let request = match read::<ElicitRequestParams>(&request) {
        Ok(request) => request,
        Err(e) => return failed(e.message),
    };
    match context.peer.create_elicitation(request).await {
        Ok(answer) => {
            let content = answer.content.unwrap_or_default();
            let action = json!(answer.action);
            said(format!(
                "Elicitation completed: action={}, content={content}",
                action.as_str().unwrap_or_default()
            ))
        }
        Err(e) => failed(format!("the client cannot be asked: {e}")),
    }
}

/// A tool that needs what the client has not declared.
fn needs_sampling(context: &RequestContext<RoleServer>) -> Result<CallToolResponse, ErrorData> {
    let can = context.client_capabilities().is_some_and(|client| client.sampling.is_some());
    if can {
        return Ok(CallToolResponse::Complete(said("the client can sample")));
    }
    Err(ErrorData::missing_required_client_capability(read(&json!({ "sampling": {} }))?))
}
