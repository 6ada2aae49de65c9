//! The guard (CARS: contextual autonomy with risk-based safeguards): what a verdict on code or on a call leads to.
//!
//! Static analysis informs and never grants: the jail is the boundary, and the decision falls at the call. LOW and MEDIUM run
//! within their tier's limits; HIGH waits for a person; CRITICAL is refused unless an operator's policy names it. Approvals
//! are events of their own layer ([`crate::layers::approval`]); the guard asks and redeems, people answer elsewhere.

pub mod policy;
mod taint;
mod watch;

use crate::handle::Slot;
use crate::layer::LayerHandle;
use crate::layers::approval::State;
use crate::run::parts::{Decided, Judge, Submission, Verdict};
use crate::sandbox::presets::Preset;
use crate::supervisor::Child;
use athena_schemas::catalog;
use athena_schemas::context::{Context, Party};
use athena_schemas::id::Id;
use athena_schemas::layers::approval::{Command, Redeem, Request, Standing};
use athena_schemas::ports::BoxFuture;
use athena_schemas::refusal::{Code, Refusal};
use athena_schemas::risk::Risk;
use athena_schemas::wire::Assessment;
use policy::{Policy, Stance};
use serde_json::{Value, json};
use std::sync::Arc;
use taint::{Step, Traced};
use tokio::sync::oneshot;
use watch::{Message, Watch};

/// Most bytes of a summary.
const SUMMARY_BYTES: usize = 300;

/// What a call of another server's tool can do, as the gateway knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reach {
    /// How much harm it can do.
    pub risk: Risk,
    /// Whether it can change something.
    pub writes: bool,
    /// Whether what it is given may leave this machine: it says so, or it does not say that it stays.
    pub outbound: bool,
    /// Whether it says so.
    pub declared: bool,
}

/// Tells what calls of other servers' tools can do.
pub type Reaches = Arc<dyn Fn(&str) -> Reach + Send + Sync>;

/// The guard.
pub struct Guard {
    approvals: LayerHandle<State>,
    policy: Policy,
    preset: Preset,
    ttl_s: u64,
    reaches: Reaches,
    watch: Slot<Message>,
}

impl Guard {
    /// A guard that asks through `approvals`; a question that nobody answers within `ttl_s` seconds is a no.
    pub fn new(
        approvals: LayerHandle<State>,
        policy: Policy,
        preset: Preset,
        ttl_s: u64,
        reaches: Reaches,
    ) -> Self {
        Self { approvals, policy, preset, ttl_s, reaches, watch: Slot::new("guard") }
    }

    /// The guard's place in the supervision tree.
    pub fn child(&self) -> Child {
        let slot = self.watch.clone();
        Child::actor("guard", || Watch, move || slot.clone())
    }

    /// Decides on one call of agent code, at the moment of the call. People and fronts are judged by their audience alone.
    /// Answers whether what the call stores may have come from outside: its run has had content of another server's.
    ///
    /// # Errors
    /// [`Code::Denied`] by policy; [`Code::ApprovalRequired`] with `{approval}` where a person must say yes first.
    pub async fn permit(&self, cx: &Context, op: &str, params: &Value) -> Result<bool, Refusal> {
        if cx.caller.party != Party::Code {
            return Ok(false);
        }
        let (stance, untrusted) = self.stance(cx, op, params).await?;
        match stance {
            Stance::Allow => Ok(untrusted),
            Stance::Deny(why) => {
                metrics::counter!("athena_risk_decisions_total", "level" => "call", "decision" => "denied")
                    .increment(1);
                Err(Refusal::denied(format!("{op}: {why}")).hint("a person can allow it in the policy"))
            }
            Stance::Ask(risk, why) => {
                self.ask_for_call(cx, op, params, risk, why).await?;
                Ok(untrusted)
            }
        }
    }

    async fn stance(&self, cx: &Context, op: &str, params: &Value) -> Result<(Stance, bool), Refusal> {
        let (risk, traced) = match catalog::find(op) {
            Some(entry) => {
                let rehearsal = params.get("dry_run") == Some(&Value::Bool(true));
                let risk = if rehearsal { Risk::Low } else { entry.traits.risk };
                let private = entry.traits.sensitive && !entry.mutating();
                (risk, self.trace(cx, Step::Memory { private }).await?)
            }
            None if catalog::is_layer(op.split('/').next().unwrap_or_default()) => {
                (Risk::Low, Traced::default())
            }
            None if matches!(op.split_once('/'), Some(("files" | "tools" | "results", _))) => {
                (Risk::Low, Traced::default())
            }
            None => {
                let reach = (self.reaches)(op);
                (reach.risk, self.trace(cx, Step::tool(op, reach, params)).await?)
            }
        };
        Ok((self.policy.on_call(op, risk, traced.flow), traced.untrusted))
    }

    async fn trace(&self, cx: &Context, step: Step) -> Result<Traced, Refusal> {
        let Some(run) = cx.caller.run.clone() else { return Ok(Traced::default()) };
        let (reply, traced) = oneshot::channel();
        self.watch.cast(Message { run, step, reply })?;
        traced.await.map_err(|_| self.watch.down())
    }

    async fn ask_for_call(
        &self,
        cx: &Context,
        op: &str,
        params: &Value,
        risk: Risk,
        why: String,
    ) -> Result<(), Refusal> {
        let run = cx.caller.run.clone();
        let text = params.to_string();
        let run_text = run.as_ref().map_or("", Id::as_str);
        let bound = binding(&["call", run_text, op, &text]);
        let request = Request {
            binding: bound.clone(),
            run,
            level: risk,
            summary: short(format!("{op}: {why}")),
            reasons: vec![why.clone()],
            shown: format!("{op} {text}"),
            ttl_s: self.ttl_s,
        };
        let asked = self.ask(cx, request).await?;
        match self.redeem(cx, &asked, bound).await? {
            Decided::Approved => Ok(()),
            Decided::Denied { reason } => Err(Refusal::denied(format!("{op}: {reason}"))),
            Decided::Pending => {
                Err(Refusal::new(Code::ApprovalRequired, format!("{op} needs a person's yes: {why}"))
                    .hint(format!("a person: athena approve {asked}"))
                    .with(json!({"approval": asked})))
            }
        }
    }

    async fn ask(&self, cx: &Context, request: Request) -> Result<Id, Refusal> {
        let asking = self.house(cx, &format!("ask {}", request.binding));
        let answer = self.approvals.decide(asking, Command::Request(request), None).await?;
        metrics::counter!("athena_risk_decisions_total", "level" => "high", "decision" => "asked")
            .increment(1);
        answer
            .value
            .get("id")
            .and_then(Value::as_str)
            .map(Id::from_text)
            .ok_or_else(|| Refusal::internal("an approval without an id"))
    }

    async fn redeem(&self, cx: &Context, id: &Id, binding: String) -> Result<Decided, Refusal> {
        let asking = self.house(cx, &format!("redeem {id}"));
        let command = Command::Redeem(Redeem { id: id.clone(), binding });
        let value = self.approvals.decide(asking, command, None).await?.value;
        let standing =
            value.get("standing").cloned().and_then(|s| serde_json::from_value::<Standing>(s).ok());
        let reason = || value.get("reason").and_then(Value::as_str).unwrap_or("a person said no").to_owned();
        Ok(match standing {
            Some(Standing::Redeemed) => Decided::Approved,
            Some(Standing::Pending | Standing::Granted) => Decided::Pending,
            Some(Standing::Expired) => Decided::Denied { reason: "nobody answered in time".into() },
            Some(Standing::Denied) | None => Decided::Denied { reason: reason() },
        })
    }

    /// The same moment and place, with an id of its own for what the guard itself does.
    fn house(&self, cx: &Context, label: &str) -> Context {
        Context::new(cx.now_ms, cx.caller.clone(), cx.scope.clone(), cx.command.child(label))
    }
}

impl Judge for Guard {
    fn judge<'a>(
        &'a self,
        cx: &'a Context,
        assessment: &'a Assessment,
        submission: Submission<'a>,
    ) -> BoxFuture<'a, Result<Verdict, Refusal>> {
        Box::pin(async move {
            let limits = self.preset.at(assessment.level);
            let why = assessment.reasons.first().map_or_else(
                || format!("judged {}", assessment.level),
                |reason| format!("{} (line {})", reason.message, reason.line),
            );
            let decision = |name: &'static str| {
                let level = assessment.level.as_str();
                metrics::counter!("athena_risk_decisions_total", "level" => level, "decision" => name)
                    .increment(1);
            };
            match self.policy.on_code(assessment.level) {
                Stance::Allow => {
                    decision("allowed");
                    Ok(Verdict::Allow { limits })
                }
                Stance::Deny(_) => {
                    decision("denied");
                    tracing::warn!(run = %submission.run, level = %assessment.level, "code was refused");
                    Ok(Verdict::Deny { message: why })
                }
                Stance::Ask(level, _) => {
                    let request = Request {
                        binding: code_binding(&submission),
                        run: Some(submission.run.clone()),
                        level,
                        summary: short(why.clone()),
                        reasons: assessment
                            .reasons
                            .iter()
                            .take(10)
                            .map(|r| format!("{}: {}", r.rule, r.message))
                            .collect(),
                        shown: submission.code.to_owned(),
                        ttl_s: self.ttl_s,
                    };
                    let approval = self.ask(cx, request).await?;
                    Ok(Verdict::Ask { approval, limits, message: why })
                }
            }
        })
    }

    fn decided<'a>(&'a self, cx: &'a Context, approval: &'a Id) -> BoxFuture<'a, Result<Decided, Refusal>> {
        Box::pin(async move {
            let bound = self.approvals_binding(cx, approval).await?;
            self.redeem(cx, approval, bound).await
        })
    }
}

impl Guard {
    /// What an approval binds, read off the layer: a run resumes exactly what is on record, so the record's binding is it.
    async fn approvals_binding(&self, _: &Context, approval: &Id) -> Result<String, Refusal> {
        let state: State = postcard::from_bytes(&self.approvals.inspect().await?)
            .map_err(|error| Refusal::internal(format!("the approvals cannot be read: {error}")))?;
        state.binding(approval)
    }
}

fn code_binding(submission: &Submission<'_>) -> String {
    let language = format!("{:?}", submission.language);
    binding(&["code", submission.run.as_str(), &language, submission.session.unwrap_or(""), submission.code])
}

/// A hash over exactly what is asked: each part with its length, in BLAKE3's key-derivation mode.
fn binding(parts: &[&str]) -> String {
    let mut hasher = blake3::Hasher::new_derive_key("athena approval");
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

fn short(mut text: String) -> String {
    if text.len() > SUMMARY_BYTES {
        text.truncate(text.floor_char_boundary(SUMMARY_BYTES));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binding_tells_parts_apart() {
        assert_ne!(binding(&["ab", "c"]), binding(&["a", "bc"]));
        assert_eq!(binding(&["a"]), binding(&["a"]));
    }
}
