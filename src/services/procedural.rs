//! Procedures as code: judged when they are learned, run in the sandbox when they are called, which is recorded.

use super::{House, answer};
use athena_actors::guard::reasons;
use athena_schemas::context::Context;
use athena_schemas::layers::procedural::{
    Execute, Executing, Judgement, Language, Learn, Procedure, Service,
};
use athena_schemas::layers::run;
use athena_schemas::operation::to_json;
use athena_schemas::ports::Answer;
use athena_schemas::refusal::{Code, Refusal};
use athena_schemas::wire::Language as Wire;
use serde_json::{Value, json};

pub(super) async fn call(house: &House, cx: Context, service: Service) -> Result<Answer, Refusal> {
    match service {
        Service::Execute(op) => execute(house, &cx, op).await,
    }
}

/// The run is the caller's own, under the caller's limits and the guard's judgement; only the record of it is the house's.
async fn execute(house: &House, cx: &Context, op: Execute) -> Result<Answer, Refusal> {
    let wanted = json!({"name": op.name, "version": op.version});
    let found = house.follow(cx, "get", "procedural/get", wanted).await?.value;
    let procedure: Procedure = parsed(found)?;
    let version = procedure.info.version;
    if op.dry_run {
        let output = json!({"code": procedure.code, "risk": procedure.info.risk});
        return answer(Executing { ok: true, output, logs: Vec::new(), duration_ms: 0, run: None, version });
    }
    let started: run::Execute = parsed(json!({
        "code": procedure.code,
        "language": procedure.info.language.ending(),
        "input": op.args,
    }))?;
    crate::tokens::warm().await;
    let outcome = house.runs.execute(cx, started, cx.caller.run.clone()).await?;
    let ok = outcome.status == run::Status::Completed;
    let duration_ms = outcome.metrics.wall_us / 1_000;
    let note = json!({
        "name": op.name,
        "version": version,
        "run": outcome.run,
        "ok": ok,
        "duration_ms": duration_ms,
    });
    let noted = house.follow(cx, "note", "procedural/note_execution", note).await?;
    let output = match outcome.error {
        Some(problem) => json!({"status": outcome.status, "error": problem}),
        None if ok => outcome.value,
        None => json!({"status": outcome.status, "approval": outcome.approval}),
    };
    let done = Executing { ok, output, logs: outcome.logs, duration_ms, run: Some(outcome.run), version };
    Ok(Answer { seq: noted.seq, ..answer(done)? })
}

/// What the analysis says of code that is to be learned. Where no worker starts, nothing is said, and nothing could run it.
pub(super) async fn judged(house: &House, cx: &Context, op: &Learn) -> Result<Option<Value>, Refusal> {
    if !house.workers {
        return Ok(None);
    }
    let language = match op.language {
        Language::TypeScript => Wire::TypeScript,
        Language::JavaScript => Wire::JavaScript,
        Language::Python => Wire::Python,
    };
    let assessment = match house.runs.assess(cx, language, &op.code).await {
        Ok(assessment) => assessment,
        Err(refusal) if refusal.code == Code::Denied => return Err(refusal.at("code")),
        Err(refusal) => {
            tracing::warn!(%refusal, name = op.name, "a procedure was learned without being looked at");
            return Ok(None);
        }
    };
    house.guard.keep(&assessment)?;
    let mut reasons = reasons(&assessment);
    reasons.extend(assessment.syntax.as_ref().map(|fault| format!("it does not parse: {}", fault.message)));
    Ok(Some(to_json(Judgement { level: assessment.level, reasons })?))
}

fn parsed<T: serde::de::DeserializeOwned>(value: Value) -> Result<T, Refusal> {
    serde_json::from_value(value)
        .map_err(|error| Refusal::internal(format!("a procedure does not read: {error}")))
}
