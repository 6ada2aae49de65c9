//! Calls that become tasks where the client can follow them.

use super::rounds::Step;
use super::{Fixtures, failed, read, said};
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ClientCapabilities, InputRequest,
};
use rmcp::service::RequestContext;
use rmcp::task_manager::{TaskContext, TaskExit};
use rmcp::{ErrorData, RoleServer};
use serde_json::{Value, json};
use std::time::Duration;

/// How long the failing jobs work before they fail.
const WORK: Duration = Duration::from_secs(1);

/// Whether a tool may or must become a task.
pub(super) fn is_job(name: &str) -> bool {
    let jobs =
        ["greet", "slow_compute", "failing_job", "protocol_error_job", "confirm_delete", "multi_input"];
    jobs.contains(&name) || name == "test_tool_with_task"
}

impl Fixtures {
    pub(super) async fn job(
        &self,
        name: &str,
        request: CallToolRequestParams,
        context: &RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let argument = |field: &str| request.arguments.as_ref().and_then(|given| given.get(field)).cloned();
        let follows = context.client_capabilities().is_some_and(|client| client.supports_tasks());
        let seconds = argument("seconds").and_then(|seconds| seconds.as_f64()).unwrap_or(0.0);
        match name {
            "greet" => {
                let who = argument("name").and_then(|name| name.as_str().map(str::to_owned));
                Ok(CallToolResponse::Complete(said(format!("Hello, {}!", who.unwrap_or_default()))))
            }
            "slow_compute" if !follows || seconds <= 0.0 => {
                compute(seconds).await.map(CallToolResponse::Complete)
            }
            _ if !follows => Err(ErrorData::missing_required_client_capability(
                ClientCapabilities::builder().enable_tasks().build(),
            )),
            "slow_compute" => Ok(self.jobs.follow(compute(seconds))),
            "failing_job" => Ok(self.jobs.follow(async {
                tokio::time::sleep(WORK).await;
                Ok(failed("the job failed"))
            })),
            "protocol_error_job" => Ok(self.jobs.follow(async {
                tokio::time::sleep(WORK).await;
                Err(ErrorData::internal_error("the job broke", None))
            })),
            "confirm_delete" => Ok(self.jobs.begin(|task| Box::pin(ask(task, &["confirm"])))),
            "multi_input" => Ok(self.jobs.begin(|task| Box::pin(ask(task, &["first", "second"])))),
            _ => {
                let answers = request.input_responses.as_ref();
                match self.rounds.step(name, answers, request.request_state.as_deref(), context)? {
                    Step::Ask(required) => Ok(CallToolResponse::InputRequired(required)),
                    Step::Done(answers) => {
                        let given = json!(answers).to_string();
                        Ok(self.jobs.follow(async move { Ok(said(given)) }))
                    }
                }
            }
        }
    }
}

async fn compute(seconds: f64) -> Result<CallToolResult, ErrorData> {
    tokio::time::sleep(Duration::from_secs_f64(seconds.clamp(0.0, 60.0))).await;
    Ok(said(format!("computed for {seconds} s")))
}

/// Asks the client under each key at once and waits for all answers.
async fn ask(task: TaskContext, keys: &'static [&'static str]) -> Result<CallToolResult, TaskExit> {
    let mut waiting = tokio::task::JoinSet::new();
    for key in keys {
        let request: InputRequest = read(&json!({
            "method": "elicitation/create",
            "params": {
                "mode": "form", "message": format!("Please answer {key}"),
                "requestedSchema": { "type": "object", "properties": { "confirm": { "type": "boolean" } } },
            },
        }))
        .map_err(TaskExit::Error)?;
        let task = task.clone();
        waiting.spawn(async move { task.request_input(*key, request).await });
    }
    let mut answers: Vec<Value> = Vec::new();
    while let Some(answer) = waiting.join_next().await {
        let answer = answer.map_err(|e| TaskExit::Error(ErrorData::internal_error(e.to_string(), None)))?;
        answers.push(answer?);
    }
    Ok(said(json!(answers).to_string()))
}
