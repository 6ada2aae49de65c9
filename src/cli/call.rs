//! `athena call`: any operation, one at a time or a request a line.

use super::output::pretty;
use super::session::Session;
use super::{Done, written};
use athena_schemas::context::Scope;
use athena_schemas::envelope::Seq;
use athena_schemas::ports::Request;
use athena_schemas::refusal::Refusal;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};

/// Call any operation: `athena call semantic/search '{"query": "kettle"}'`
#[derive(Debug, clap::Args)]
pub(crate) struct Call {
    /// The operation, such as semantic/search
    #[arg(required_unless_present = "jsonl", value_name = "LAYER/OPERATION")]
    op: Option<String>,
    /// Its parameters, an object; - reads them from stdin
    #[arg(default_value = "{}", value_name = "JSON|-")]
    params: String,
    /// Two calls with the same key are one call
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Read a request a line, {"id"?, "op", "params", "scope"?}, and answer each with a line
    #[arg(long, conflicts_with_all = ["op", "key"])]
    jsonl: bool,
}

/// A request on a line.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    #[serde(default)]
    id: Option<Value>,
    op: String,
    #[serde(default)]
    params: Value,
    #[serde(default)]
    scope: Option<Scope>,
    #[serde(default, alias = "idempotency_key")]
    key: Option<String>,
    #[serde(default)]
    at_seq: Option<Seq>,
}

impl Call {
    pub(crate) async fn run(self, session: &Session) -> Done {
        if self.jsonl {
            return lines(session).await;
        }
        let text = if self.params == "-" { stdin_text().await? } else { self.params };
        let params = json_object(&text)?;
        let request =
            Request { idempotency_key: self.key, ..Request::new(self.op.unwrap_or_default(), params) };
        let answer = session.answer(request).await?;
        written(session.out.value(&answer.value, pretty))
    }
}

/// A request a line in, an answer a line out, in order, each sent off at once.
async fn lines(session: &Session) -> Done {
    let mut input = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = input.next_line().await.map_err(unreadable)? {
        if line.trim().is_empty() {
            continue;
        }
        let (id, answer) = match serde_json::from_str::<Line>(&line) {
            Err(e) => {
                let id = serde_json::from_str::<Value>(&line).ok().and_then(|value| value.get("id").cloned());
                let hint = r#"{"id"?, "op", "params"?, "scope"?}"#;
                (id, Err(Refusal::invalid(format!("not a request: {e}")).hint(hint)))
            }
            Ok(Line { id, op, params, scope, key, at_seq }) => {
                let request = Request { op, params, scope, idempotency_key: key, at_seq };
                (id, session.answer(request).await)
            }
        };
        let mut out = json!({});
        if let (Some(id), Some(object)) = (id, out.as_object_mut()) {
            object.insert("id".into(), id);
        }
        if let Some(object) = out.as_object_mut() {
            object.insert("ok".into(), answer.is_ok().into());
            match answer {
                Ok(answer) => object.insert("result".into(), answer.value),
                Err(refusal) => object.insert("error".into(), json!(refusal)),
            };
        }
        written(session.out.json_line(&out))?;
    }
    Ok(0)
}

/// An argument that must be a JSON object.
///
/// # Errors
/// When it is not; the message says where.
pub(crate) fn json_object(text: &str) -> Result<Value, Refusal> {
    let hint = r#"an object, such as '{"query": "kettle"}'"#;
    let value: Value = serde_json::from_str(text)
        .map_err(|e| Refusal::invalid(format!("the parameters are not JSON: {e}")).hint(hint))?;
    if value.is_object() {
        Ok(value)
    } else {
        Err(Refusal::invalid("the parameters are not an object").hint(hint))
    }
}

/// All of stdin.
///
/// # Errors
/// When it is not text.
pub(crate) async fn stdin_text() -> Result<String, Refusal> {
    let mut text = String::new();
    tokio::io::stdin().read_to_string(&mut text).await.map_err(unreadable)?;
    Ok(text)
}

pub(crate) fn unreadable(error: std::io::Error) -> Refusal {
    Refusal::invalid(format!("stdin cannot be read: {error}"))
}
