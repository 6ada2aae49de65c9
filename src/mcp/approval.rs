//! Asking the person behind a client, where the client can ask: a question of its own in the older era of the protocol, and
//! `input_required` with a retry in the newer one. What is critical is never asked here, only at the command line; and where
//! nobody answers, the run goes on waiting there.

use super::handler::Front;
use super::tools::{Ask, Asked};
use athena_schemas::context::{Caller, Party};
use athena_schemas::refusal::Refusal;
use rmcp::model::{
    CallToolRequestParams, CallToolResult, ElicitRequestParams, ElicitationAction, InputRequest,
    InputRequests, InputRequiredResult, ProtocolVersion, SealOptions,
};
use rmcp::service::{ElicitationMode, RequestContext};
use rmcp::{ErrorData, RoleServer};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// How long a question stays open, before the call answers that the run waits. Clients give calls about a minute.
const ASK_WAIT: Duration = Duration::from_secs(45);
/// Nobody reads and declines within this time: a client that does so declines by itself.
const READING: Duration = Duration::from_millis(200);
/// How long sealed state is good for: as long as an approval.
const STATE_TTL: Duration = Duration::from_secs(15 * 60);
/// Questions within one call.
const ROUNDS: usize = 8;
/// Code or call that a person is shown, bytes; the command line shows all of it.
const SHOWN_BYTES: usize = 2_000;
/// The key of the one question.
const KEY: &str = "approval";

/// What travels through the client, sealed: which run waits for which approval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pending {
    run: String,
    approval: String,
}

/// What a person said.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    Yes,
    No(String),
    Nothing,
}

/// What comes of a call that may have to ask.
pub(super) enum Step {
    Done(CallToolResult),
    Ask(InputRequiredResult),
}

impl Pending {
    /// The approval a result waits for, where a client may be asked: not what is critical.
    fn of(result: &CallToolResult) -> Option<Self> {
        let value = result.structured_content.as_ref()?;
        let text = |path: &str| value.pointer(path).and_then(Value::as_str).map(str::to_owned);
        let asks = text("/status")? == "approval_required" && text("/risk/level")? != "CRITICAL";
        Some(Self { run: text("/run")?, approval: text("/approval")? }).filter(|_| asks)
    }
}

impl Front {
    /// The run that a retry goes on with, after what the person said is recorded; `None` for a call that is no retry.
    ///
    /// # Errors
    /// When the state is not what was sealed for this client.
    pub(super) async fn retried(
        &self,
        request: &CallToolRequestParams,
        context: &RequestContext<RoleServer>,
    ) -> Result<Option<Value>, ErrorData> {
        let Some(state) = &request.request_state else { return Ok(None) };
        let pending: Pending = self.seal.open_json_with(state, &self.bound(context)).map_err(|_| {
            ErrorData::invalid_params("the request state is not what was sealed for this client", None)
        })?;
        let said = request.input_responses.as_ref().and_then(|answers| answers.get(KEY));
        let said = said.map_or(Said::Nothing, heard);
        // Answered meanwhile at the command line: then that counts, and going on shows it.
        let _ = self.answer(&pending, said, context).await;
        Ok(Some(json!({ "run": pending.run })))
    }

    /// Asks about a result that waits, as often as it takes; a result that waits for nothing passes through.
    pub(super) async fn settled(
        &self,
        mut result: CallToolResult,
        asked: &Asked,
        context: &RequestContext<RoleServer>,
    ) -> Result<Step, ErrorData> {
        for _ in 0..ROUNDS {
            let Some(pending) = Pending::of(&result) else { break };
            let modern = context.protocol_version().is_some_and(|v| v >= ProtocolVersion::V_2026_07_28);
            if modern {
                let can = context.client_capabilities().is_some_and(|client| client.elicitation.is_some());
                if !can {
                    break;
                }
                return self.input_required(&pending, context).await.map(Step::Ask);
            }
            if !context.peer.supported_elicitation_modes().contains(&ElicitationMode::Form) {
                break;
            }
            let said = self.elicit(&pending, context).await;
            if said == Said::Nothing || self.answer(&pending, said, context).await.is_err() {
                break;
            }
            let resumed = asked.again().ask("run/execute", json!({ "run": pending.run })).await;
            result = super::tools::shown(resumed);
        }
        Ok(Step::Done(result))
    }

    async fn input_required(
        &self,
        pending: &Pending,
        context: &RequestContext<RoleServer>,
    ) -> Result<InputRequiredResult, ErrorData> {
        let broken = |e: &dyn std::fmt::Display| ErrorData::internal_error(e.to_string(), None);
        let question = self.question(pending, context).await;
        let request: InputRequest =
            serde_json::from_value(json!({ "method": "elicitation/create", "params": question }))
                .map_err(|e| broken(&e))?;
        let bound = self.bound(context);
        let options = SealOptions::new().associated_data(&bound).ttl(STATE_TTL);
        let state = self.seal.seal_json_with(pending, &options).map_err(|e| broken(&e))?;
        Ok(InputRequiredResult::new(Some(InputRequests::from([(KEY.to_owned(), request)])), Some(state)))
    }

    async fn elicit(&self, pending: &Pending, context: &RequestContext<RoleServer>) -> Said {
        let question = self.question(pending, context).await;
        let Ok(question) = serde_json::from_value::<ElicitRequestParams>(question) else {
            return Said::Nothing;
        };
        let begun = Instant::now();
        let answer = context.peer.create_elicitation_with_timeout(question, Some(ASK_WAIT)).await;
        let Ok(answer) = answer else { return Said::Nothing };
        if answer.action == ElicitationAction::Decline && begun.elapsed() < READING {
            return Said::Nothing;
        }
        heard(&json!({ "action": answer.action, "content": answer.content }))
    }

    /// The question: what is asked, why, and the code or call itself.
    async fn question(&self, pending: &Pending, context: &RequestContext<RoleServer>) -> Value {
        let approval = self.person(context).ask("approval/show", json!({ "id": pending.approval })).await;
        let approval = approval.unwrap_or_default();
        let text = |path: &str| approval.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
        let reasons = approval.pointer("/reasons").and_then(Value::as_array).into_iter().flatten();
        let reasons: String = reasons.filter_map(Value::as_str).map(|why| format!("\n- {why}")).collect();
        let shown = text("/shown");
        let cut = athena_actors::upstream::answer::cut(&shown, SHOWN_BYTES);
        let more = if cut.len() < shown.len() {
            format!("\n… the rest: athena approvals show {}", pending.approval)
        } else {
            String::new()
        };
        let level = text("/level");
        json!({
            "mode": "form",
            "message": format!("{} ({level} risk){reasons}\n\n{cut}{more}", text("/summary")),
            "requestedSchema": {
                "type": "object",
                "properties": {
                    "decision": { "type": "string", "title": "Decision", "enum": ["approve", "deny"] },
                    "reason": { "type": "string", "title": "Reason", "description": "Reaches the agent" },
                },
                "required": ["decision"],
            },
        })
    }

    async fn answer(
        &self,
        pending: &Pending,
        said: Said,
        context: &RequestContext<RoleServer>,
    ) -> Result<(), Refusal> {
        let person = self.person(context);
        let id = &pending.approval;
        match said {
            Said::Yes => person.ask("approval/grant", json!({ "id": id })).await.map(drop),
            Said::No(reason) => {
                person.ask("approval/deny", json!({ "id": id, "reason": reason })).await.map(drop)
            }
            Said::Nothing => Ok(()),
        }
    }

    /// The person behind the client, for the answer to a question that only a person sees.
    fn person(&self, context: &RequestContext<RoleServer>) -> Asked {
        let caller = Caller { party: Party::Human, ..self.caller(context) };
        Asked { router: self.people.clone(), caller, key: None }
    }

    /// What sealed state is bound to: who was asked, and where.
    fn bound(&self, context: &RequestContext<RoleServer>) -> Vec<u8> {
        let caller = self.caller(context);
        format!("{}\0{}", caller.principal(), caller.scope.vault()).into_bytes()
    }
}

/// What an answer to the question says.
fn heard(answer: &Value) -> Said {
    let text = |path: &str| answer.pointer(path).and_then(Value::as_str);
    let reason = || text("/content/reason").unwrap_or("a person said no").to_owned();
    match (text("/action"), text("/content/decision")) {
        (Some("accept"), Some("approve")) => Said::Yes,
        (Some("accept"), Some("deny")) | (Some("decline"), _) => Said::No(reason()),
        _ => Said::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_yes_is_one() {
        let yes = json!({"action": "accept", "content": {"decision": "approve"}});
        assert_eq!(heard(&yes), Said::Yes);
        for nothing in [
            json!({"action": "accept"}),
            json!({"action": "accept", "content": {"decision": "yes"}}),
            json!({"action": "cancel", "content": {"decision": "approve"}}),
            json!({"content": {"decision": "approve"}}),
            json!(null),
        ] {
            assert_eq!(heard(&nothing), Said::Nothing, "{nothing}");
        }
        let no = json!({"action": "accept", "content": {"decision": "deny", "reason": "wrong repo"}});
        assert_eq!(heard(&no), Said::No("wrong repo".into()));
        assert!(matches!(heard(&json!({"action": "decline"})), Said::No(_)));
    }

    #[test]
    fn what_is_critical_is_not_asked_here() {
        let result = |level: &str| {
            CallToolResult::structured(
                json!({"run": "run_1", "approval": "apr_1", "status": "approval_required",
                "risk": {"level": level}}),
            )
        };
        assert!(Pending::of(&result("HIGH")).is_some());
        assert!(Pending::of(&result("CRITICAL")).is_none());
        assert!(
            Pending::of(&CallToolResult::structured(json!({"run": "run_1", "status": "completed"})))
                .is_none()
        );
    }
}
