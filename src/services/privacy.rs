//! `privacy/*`: what people may see of the vault.

use super::{House, answer};
use athena_schemas::context::Context;
use athena_schemas::layers::privacy::Service;
use athena_schemas::ports::Answer;
use athena_schemas::refusal::Refusal;

pub(super) async fn call(house: &House, cx: Context, service: Service) -> Result<Answer, Refusal> {
    match service {
        Service::Reveal(op) => answer(house.tokenizer.reveal_to_person(&cx, &op.text, &op.purpose).await?),
        Service::Stats(_) => answer(house.tokenizer.counts(&cx.scope)),
    }
}
