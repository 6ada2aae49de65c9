//! `prospective/complete_task`: closes the task and remembers that it was done.

use super::House;
use athena_schemas::context::Context;
use athena_schemas::layers::prospective::{CompleteTask, Finished, Service};
use athena_schemas::ports::Answer;
use athena_schemas::refusal::Refusal;
use serde_json::json;

pub(super) async fn call(house: &House, cx: Context, service: Service) -> Result<Answer, Refusal> {
    match service {
        Service::CompleteTask(op) => complete(house, &cx, op).await,
    }
}

/// Two commands, each applied once under an id of this one: a crash between them is mended by the retry.
async fn complete(house: &House, cx: &Context, op: CompleteTask) -> Result<Answer, Refusal> {
    let finish = json!({"id": op.id, "outcome": op.outcome});
    let closed = house.follow(cx, "finish", "prospective/finish_task", finish).await?;
    let task: Finished =
        serde_json::from_value(closed.value).map_err(|error| Refusal::internal(error.to_string()))?;
    let ended = op.outcome.as_deref().map_or(String::new(), |outcome| format!(": {outcome}"));
    let episode = json!({
        "content": format!("done: {}{ended}", task.title),
        "type": "task_completed",
        "outcome": "success",
        "meta": {"task": task.id},
    });
    let remembered = house.follow(cx, "remember", "episodic/remember", episode).await?;
    Ok(Answer {
        value: json!({"id": task.id, "seq": remembered.seq.or(closed.seq)}),
        seq: remembered.seq.or(closed.seq),
    })
}
