//! `privacy/*`: what people may see of the vault.

use super::{House, answer};
use athena_schemas::context::{Context, Scope};
use athena_schemas::layers::privacy::{Keep, Kept, Service};
use athena_schemas::ports::Answer;
use athena_schemas::refusal::Refusal;

pub(super) async fn call(house: &House, cx: Context, service: Service) -> Result<Answer, Refusal> {
    match service {
        Service::Reveal(op) => answer(house.tokenizer.reveal_to_person(&cx, &op.text, &op.purpose).await?),
        Service::Keep(op) => answer(keep(house, &cx, &op).await?),
        Service::Stats(_) => answer(house.tokenizer.counts(&cx.scope)),
    }
}

/// What the router replaced by tokens of the caller's project is put back first: the store's own vault keeps the secret itself.
async fn keep(house: &House, cx: &Context, op: &Keep) -> Result<Kept, Refusal> {
    if op.text.trim().is_empty() {
        return Err(Refusal::invalid("there is nothing to keep").at("text"));
    }
    let plain =
        house.tokenizer.reveal(cx, op.text.as_str().into(), &[String::new()], "kept in the vault").await?;
    let secret = plain.as_str().unwrap_or(&op.text).trim();
    let own = Context::new(cx.now_ms, cx.caller.clone(), Scope::default(), cx.command.child("vault"));
    Ok(Kept { reference: format!("${{vault:{}}}", house.tokenizer.keep(&own, secret).await?) })
}
