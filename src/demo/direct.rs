//! The same work as direct tool calls, done for real by an ordinary MCP client, and counted: everything that would stand in a
//! model's context.

#![expect(clippy::indexing_slicing, reason = "indexing a JSON value answers null where there is nothing")]

use super::{CUSTOMER, TRANSCRIPT};
use crate::tokens;
use athena_schemas::refusal::{Code, Refusal};
use rmcp::ServiceExt;
use rmcp::model::{CallToolRequestParams, Tool};
use rmcp::service::{RoleClient, RunningService};
use rmcp::transport::TokioChildProcess;
use serde_json::{Value, json};
use std::path::Path;
use tokio::process::Command;

/// Tokens of the whole job: the definitions of both servers' tools, every argument written, every answer read.
///
/// # Errors
/// When a sample server does not work.
pub(super) async fn cost(program: &Path) -> Result<usize, Refusal> {
    let documents = connect(program, "documents").await?;
    let customers = connect(program, "customers").await?;
    let mut total = 0;
    for server in [&documents, &customers] {
        total += definitions(&server.list_all_tools().await.map_err(failed)?);
    }
    let (read, spent) = call(&documents, "read_document", json!({ "name": TRANSCRIPT })).await?;
    total += spent;
    let (_, spent) =
        call(&customers, "update_customer", json!({ "id": CUSTOMER, "note": read["content"] })).await?;
    total += spent;
    for server in [documents, customers] {
        let _ = server.cancel().await;
    }
    Ok(total)
}

/// Tokens of tool definitions as a model sees them: name, description and input schema.
pub(super) fn definitions(tools: &[Tool]) -> usize {
    let view: Vec<Value> = tools
        .iter()
        .map(|tool| json!({ "name": tool.name, "description": tool.description, "input_schema": tool.input_schema }))
        .collect();
    tokens::count(&json!(view).to_string())
}

type Server = RunningService<RoleClient, ()>;

async fn connect(program: &Path, name: &str) -> Result<Server, Refusal> {
    let mut command = Command::new(program);
    command.args(["__sample", name]);
    ().serve(TokioChildProcess::new(command).map_err(failed)?).await.map_err(failed)
}

/// One call: what it answered, and the tokens of arguments and answer.
async fn call(server: &Server, tool: &str, arguments: Value) -> Result<(Value, usize), Refusal> {
    let written = tokens::count(&arguments.to_string());
    let request = CallToolRequestParams::new(tool.to_owned())
        .with_arguments(arguments.as_object().cloned().unwrap_or_default());
    let answer = server.call_tool(request).await.map_err(failed)?;
    let value = answer.structured_content.unwrap_or_default();
    let read = tokens::count(&value.to_string());
    Ok((value, written + read))
}

fn failed(error: impl std::fmt::Display) -> Refusal {
    Refusal::new(Code::Upstream, format!("a sample server failed: {error}"))
}
