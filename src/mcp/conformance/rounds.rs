//! Calls that need input first: each round asks, the next call answers, the state between them is sealed.

use super::{at, read, said};
use crate::daemon::client::random_name;
use rmcp::ErrorData;
use rmcp::RoleServer;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, ClientCapabilities, GetPromptRequestParams, InputRequests,
    InputRequiredResult, InputResponses, RequestStateCodec,
};
use rmcp::service::RequestContext;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Seals what travels through the client.
pub(super) struct Rounds {
    codec: RequestStateCodec,
}

impl Default for Rounds {
    #[expect(clippy::expect_used, reason = "two names are 48 bytes, more than the least a key may have")]
    fn default() -> Self {
        let key = format!("{}{}", random_name(), random_name());
        Self { codec: RequestStateCodec::try_new(key.into_bytes()).expect("the key is long enough") }
    }
}

/// What is sealed: whose round it is.
#[derive(Serialize, Deserialize)]
struct State {
    name: String,
    round: usize,
}

/// What comes of one call.
pub(super) enum Step {
    /// The client must answer this first.
    Ask(InputRequiredResult),
    /// Everything was answered.
    Done(InputResponses),
}

impl Rounds {
    /// A tool that needs input.
    pub(super) fn tool(
        &self,
        name: &str,
        request: &CallToolRequestParams,
        context: &RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let answers = request.input_responses.as_ref();
        match self.step(name, answers, request.request_state.as_deref(), context)? {
            Step::Ask(required) => Ok(CallToolResponse::InputRequired(required)),
            Step::Done(answers) => {
                let who = answers.values().find_map(|answer| answer.pointer("/content/name")?.as_str());
                let given = json!(answers);
                Ok(CallToolResponse::Complete(said(format!(
                    "Hello, {}! state-ok {given}",
                    who.unwrap_or("you")
                ))))
            }
        }
    }

    /// A prompt that needs input; `None` once it has it.
    pub(super) fn prompt(
        &self,
        name: &str,
        request: &GetPromptRequestParams,
        context: &RequestContext<RoleServer>,
    ) -> Result<Option<InputRequiredResult>, ErrorData> {
        let answers = request.input_responses.as_ref();
        Ok(match self.step(name, answers, request.request_state.as_deref(), context)? {
            Step::Ask(required) => Some(required),
            Step::Done(_) => None,
        })
    }

    /// One call: asks, asks again where an answer is missing or no answer at all, goes on to the next round, or is done.
    pub(super) fn step(
        &self,
        name: &str,
        answers: Option<&InputResponses>,
        state: Option<&str>,
        context: &RequestContext<RoleServer>,
    ) -> Result<Step, ErrorData> {
        let round = match state {
            None => 0,
            Some(sealed) => {
                let state: State = self.codec.open_json(sealed).map_err(|_| {
                    ErrorData::invalid_params("the request state is not what was sealed", None)
                })?;
                if state.name != name {
                    return Err(ErrorData::invalid_params("the request state belongs to another call", None));
                }
                state.round
            }
        };
        let capabilities = context.client_capabilities().unwrap_or_default();
        let Some(asked) = requests(name, round, &capabilities)? else {
            return Err(ErrorData::invalid_params("the request state names no round", None));
        };
        let none = InputResponses::new();
        let answers = answers.unwrap_or(&none);
        if !asked.keys().all(|key| answers.get(key).is_some_and(is_answer)) {
            return self.ask(name, round, asked).map(Step::Ask);
        }
        match requests(name, round + 1, &capabilities)? {
            Some(next) => self.ask(name, round + 1, next).map(Step::Ask),
            None => {
                let wanted = answers.iter().filter(|(key, _)| asked.contains_key(*key));
                Ok(Step::Done(wanted.map(|(key, answer)| (key.clone(), answer.clone())).collect()))
            }
        }
    }

    fn ask(&self, name: &str, round: usize, asked: InputRequests) -> Result<InputRequiredResult, ErrorData> {
        let sealed = at("/rounds").pointer(&format!("/{name}/sealed")).and_then(Value::as_bool);
        let state = match sealed {
            Some(true) => Some(
                self.codec
                    .seal_json(&State { name: name.into(), round })
                    .map_err(|e| ErrorData::internal_error(e.to_string(), None))?,
            ),
            _ => None,
        };
        Ok(InputRequiredResult::new(Some(asked), state))
    }
}

/// What a round asks for, as far as the client has said that it can answer; `None` where there is no such round.
fn requests(
    name: &str,
    round: usize,
    capabilities: &ClientCapabilities,
) -> Result<Option<InputRequests>, ErrorData> {
    let Some(asked) = at("/rounds").pointer(&format!("/{name}/rounds/{round}")) else { return Ok(None) };
    let mut asked: InputRequests = read(asked)?;
    if name == "test_input_required_result_capabilities" {
        let can = serde_json::to_value(capabilities).unwrap_or_default();
        asked.retain(|_, request| {
            let method =
                serde_json::to_value(request).ok().and_then(|r| Some(r.get("method")?.as_str()?.to_owned()));
            let needs =
                method.as_deref().and_then(|method| method.split('/').next()).unwrap_or_default().to_owned();
            can.get(needs).is_some()
        });
    }
    Ok(Some(asked))
}

/// An answer to an elicitation, to sampling, or to a question for roots.
fn is_answer(answer: &Value) -> bool {
    let elicited = answer
        .get("action")
        .and_then(Value::as_str)
        .is_some_and(|action| action != "accept" || answer.get("content").is_some_and(Value::is_object));
    elicited || answer.get("role").is_some() || answer.get("roots").is_some_and(Value::is_array)
}
