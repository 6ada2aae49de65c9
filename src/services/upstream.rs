//! `upstream/*`: the servers people connect.

use super::{House, answer};
use athena_schemas::catalog::Command;
use athena_schemas::context::Context;
use athena_schemas::layers::upstream::{self as schema, Enrol, Report, Service, Settle, Status, Strike};
use athena_schemas::ports::Answer;
use athena_schemas::refusal::Refusal;
use std::time::Instant;

pub(super) async fn call(house: &House, cx: Context, service: Service) -> Result<Answer, Refusal> {
    match service {
        Service::List(_) => answer(house.upstreams.status()),
        Service::Tools(op) => answer(house.upstreams.listing(op.server.as_deref())),
        Service::Test(op) => test(house, op).await,
        Service::Add(op) => add(house, cx, op).await,
        Service::Remove(op) => {
            house.upstreams.remove(&op.server)?;
            decide(house, cx, schema::Command::Strike(Strike { server: op.server })).await
        }
        Service::Accept(op) => {
            let server = op.server.clone();
            let settled =
                decide(house, cx, schema::Command::Settle(Settle { server: op.server, tool: op.tool }))
                    .await?;
            house.upstreams.refresh(&server).await?;
            Ok(settled)
        }
    }
}

/// Configured first, so that a name that is not allowed is refused; recorded then, so that it is there after a restart.
async fn add(house: &House, cx: Context, op: schema::Add) -> Result<Answer, Refusal> {
    house.upstreams.configure(&op.server, op.config.clone())?;
    decide(house, cx, schema::Command::Enrol(Enrol { server: op.server, config: op.config })).await
}

async fn test(house: &House, op: schema::Test) -> Result<Answer, Refusal> {
    let begun = Instant::now();
    let status: Status = house.upstreams.refresh(&op.server).await?;
    let start_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    let answered = match &op.tool {
        Some(tool) => Some(house.upstreams.call(&op.server, tool, op.arguments).await?),
        None => None,
    };
    answer(Report { status, start_ms, answer: answered })
}

async fn decide(house: &House, cx: Context, command: schema::Command) -> Result<Answer, Refusal> {
    house.layers.decide(cx, Command::Upstream(command), None).await
}
