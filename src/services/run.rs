//! `run/*`: execute, resume, cancel, replay, expire.

use super::{House, answer};
use crate::tokens;
use athena_schemas::context::Context;
use athena_schemas::layers::run::Service;
use athena_schemas::ports::Answer;
use athena_schemas::refusal::Refusal;

pub(super) async fn call(house: &House, cx: Context, service: Service) -> Result<Answer, Refusal> {
    let runs = &house.runs;
    if matches!(service, Service::Execute(_) | Service::Resume(_)) {
        // What a run costs is counted in tokens.
        tokens::warm().await;
    }
    match service {
        Service::Execute(op) => answer(runs.execute(&cx, op, None).await?),
        Service::Resume(op) => answer(runs.resume(&cx, op).await?),
        Service::Cancel(op) => answer(runs.cancel(&cx, op).await?),
        Service::Replay(op) => answer(runs.replay(&cx, op).await?),
        Service::Expire(op) => answer(runs.expire(&cx, op).await?),
    }
}
