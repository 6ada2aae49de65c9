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
use crate::layers::approval::State as Approvals;
use crate::run::parts::{Asked, Decided, Judge, Submission, Verdict};
use crate::sandbox::presets::Preset;
use crate::supervisor::Child;
use athena_schemas::catalog;
use athena_schemas::context::{Context, Party};
use athena_schemas::id::Id;
use athena_schemas::layers::approval::{Command, Redeem, Request, Standing, State};
use athena_schemas::ports::BoxFuture;
use athena_schemas::refusal::{Code, Refusal};
use athena_schemas::risk::Risk;
use athena_schemas::wire::{Assessment, Reason};
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
    approvals: LayerHandle<Approvals>,
    policy: Policy,
    preset: Preset,
    ttl_s: u64,
    reaches: Reaches,
    watch: Slot<Message>,
}

impl Guard {
    /// A guard that asks through `approvals`; a question that nobody answers within `ttl_s` seconds is a no.
    pub fn new(
        approvals: LayerHandle<Approvals>,
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

    /// Decides on code that is to be kept: what would be refused each time it runs is refused now. What a person would be asked
    /// about is asked when it runs.
    ///
    /// # Errors
    /// [`Code::Denied`] with the reasons.
    pub fn keep(&self, assessment: &Assessment) -> Result<(), Refusal> {
        let Stance::Deny(why) = self.policy.on_code(assessment.level) else { return Ok(()) };
        metrics::counter!("athena_risk_decisions_total", "level" => assessment.level.as_str(), "decision" => "unlearned")
            .increment(1);
        let reasons = reasons(assessment);
        Err(Refusal::denied(format!("it would never run: {}", reasons.first().cloned().unwrap_or(why)))
            .at("code")
            .hint("say it without; athena guard assess shows every finding")
            .with(json!({"level": assessment.level, "reasons": reasons})))
    }

    async fn stance(&self, cx: &Context, op: &str, params: &Value) -> Result<(Stance, bool), Refusal> {
        let (risk, step) = self.step(op, params);
        let traced = match (step, &cx.caller.run) {
            (None, _) => Traced::default(),
            (Some(step), Some(run)) => self.trace(run, step).await?.ok_or_else(over)?,
            (Some(_), None) => return Err(over()),
        };
        Ok((self.policy.on_call(op, risk, traced.flow), traced.untrusted))
    }

    /// How much harm a call can do by itself, and what it adds to what its run has touched.
    fn step(&self, op: &str, params: &Value) -> (Risk, Option<Step>) {
        if let Some(entry) = catalog::find(op) {
            let rehearsal = params.get("dry_run") == Some(&Value::Bool(true));
            let risk = if rehearsal { Risk::Low } else { entry.traits.risk };
            let private = entry.traits.sensitive && !entry.mutating();
            return (risk, Some(Step::Memory { private }));
        }
        match op.split_once('/').map_or(op, |(layer, _)| layer) {
            layer if catalog::is_layer(layer) => (Risk::Low, None),
            "files" | "tools" | "results" => (Risk::Low, None),
            _ => {
                let reach = (self.reaches)(op);
                (reach.risk, Some(Step::tool(op, reach, params)))
            }
        }
    }

    async fn trace(&self, run: &Id, step: Step) -> Result<Option<Traced>, Refusal> {
        let (reply, traced) = oneshot::channel();
        self.watch.cast(Message::Step { run: run.clone(), step, reply })?;
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
        // What a person answered about exactly this call of this run, they need not be asked again. A yes counts once.
        let (of, now_ms) = (bound.clone(), cx.now_ms);
        let before = self.approvals.look(move |state| state.asked(&of, now_ms)).await?;
        if let Some(Decided::Denied { reason }) = before.map(decided) {
            return Err(Refusal::denied(format!("{op}: {reason}")));
        }
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
        // What was asked before and is used up is asked anew, by another command.
        let asking = self.house(cx, &format!("ask {} at {}", request.binding, cx.now_ms));
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
        let answer: State = serde_json::from_value(value)
            .map_err(|error| Refusal::internal(format!("an approval does not read: {error}")))?;
        Ok(match answer.standing {
            // Not yet used means not yet answered, or answered this very moment.
            Standing::Granted => Decided::Pending,
            _ => decided(answer),
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

    fn enter<'a>(&'a self, run: &'a Id, root: &'a Id) -> BoxFuture<'a, Result<bool, Refusal>> {
        Box::pin(async move {
            let (reply, known) = oneshot::channel();
            self.watch.cast(Message::Enter { run: run.clone(), root: root.clone(), reply })?;
            known.await.map_err(|_| self.watch.down())
        })
    }

    fn recall(&self, run: &Id, asked: &[Asked]) -> Result<(), Refusal> {
        let step = |Asked { op, params }: &Asked| {
            let params = serde_json::from_str(params).unwrap_or_default();
            self.step(op, &params).1
        };
        self.watch.cast(Message::Recall { run: run.clone(), steps: asked.iter().filter_map(step).collect() })
    }

    fn leave(&self, run: &Id) {
        if self.watch.cast(Message::Leave { run: run.clone() }).is_err() {
            // A guard that starts again knows of no run at work, so there is nothing to take back.
            tracing::debug!(%run, "the guard was not there when a run left");
        }
    }

    fn decided<'a>(
        &'a self,
        cx: &'a Context,
        approval: &'a Id,
        used: bool,
    ) -> BoxFuture<'a, Result<Decided, Refusal>> {
        Box::pin(async move {
            let (id, now_ms) = (approval.clone(), cx.now_ms);
            if !used {
                return Ok(decided(self.approvals.look(move |state| state.standing(&id, now_ms)).await??));
            }
            // A run resumes exactly what is on record, so what the approval binds is what is about to be done.
            let bound = self.approvals.look(move |state| state.binding(&id)).await??;
            self.redeem(cx, approval, bound).await
        })
    }
}

/// What an approval's standing means to who waits for it.
fn decided(answer: State) -> Decided {
    let denied = |reason: &str| Decided::Denied { reason: reason.to_owned() };
    match answer.standing {
        Standing::Granted | Standing::Redeemed => Decided::Approved,
        Standing::Pending => Decided::Pending,
        Standing::Expired => denied("nobody answered in time"),
        Standing::Denied => denied(answer.reason.as_deref().unwrap_or("a person said no")),
    }
}

/// Why code was judged as it was, worst first, each with its line.
pub fn reasons(assessment: &Assessment) -> Vec<String> {
    let told = |reason: &Reason| format!("{} (line {})", reason.message, reason.line);
    assessment.reasons.iter().take(10).map(told).collect()
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

fn over() -> Refusal {
    Refusal::new(Code::Cancelled, "the run that makes this call is not at work any more")
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
