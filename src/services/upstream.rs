//! `upstream/*`: the servers people connect.

use super::{House, answer};
use crate::importers::secrets;
use athena_actors::upstream::oauth::Wanted;
use athena_schemas::catalog::Command;
use athena_schemas::context::{Context, Scope};
use athena_schemas::layers::upstream::{
    self as schema, Enrol, Report, Server, Service, Settle, Status, Strike,
};
use athena_schemas::operation::to_json;
use athena_schemas::ports::Answer;
use athena_schemas::refusal::{Code, Refusal};
use std::time::Instant;

pub(super) async fn call(house: &House, cx: Context, service: Service) -> Result<Answer, Refusal> {
    match service {
        Service::List(_) => answer(house.upstreams.status()),
        Service::Tools(op) => answer(house.upstreams.listing(op.server.as_deref())),
        Service::Test(op) => test(house, op).await,
        Service::Add(op) => add(house, cx, op).await,
        Service::BeginAuth(op) => begin_auth(house, &cx, op).await,
        Service::FinishAuth(op) => {
            let callback = plain(house, &cx, &op.callback, &op.server).await?;
            house.upstreams.finish_grant(&op.server, &callback).await?;
            answer(schema::Done::default())
        }
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
    let config = without_secrets(house, &cx, &op.server, op.config).await?;
    if op.fresh && house.upstreams.names().contains(&op.server) {
        let roster = decide(house, beside(&cx, "roster"), schema::Command::Roster(schema::Roster {})).await?;
        if roster.value.get(&op.server) != Some(&to_json(&config)?) {
            return Err(Refusal::new(
                Code::Conflict,
                format!("there is an upstream {} already, reached in another way", op.server),
            )
            .hint("another name, or athena upstream remove first"));
        }
    }
    house.upstreams.configure(&op.server, config.clone())?;
    let done = decide(house, cx, schema::Command::Enrol(Enrol { server: op.server, config })).await?;
    house.upstreams.warm();
    Ok(done)
}

async fn begin_auth(house: &House, cx: &Context, op: schema::BeginAuth) -> Result<Answer, Refusal> {
    let mut wanted = Wanted {
        redirect: plain(house, cx, &op.redirect, &op.server).await?,
        scopes: op.scopes,
        client_metadata: op.client_metadata,
        ..Wanted::default()
    };
    if let Some(id) = &op.client_id {
        wanted.client_id = Some(plain(house, cx, id, &op.server).await?);
    }
    if let Some(secret) = &op.client_secret {
        wanted.client_secret = Some(plain(house, cx, secret, &op.server).await?);
    }
    answer(schema::Opening { address: house.upstreams.begin_grant(&op.server, wanted).await? })
}

/// What a person wrote, before the router put tokens into it: it is for the authorization server alone.
async fn plain(house: &House, cx: &Context, text: &str, server: &str) -> Result<String, Refusal> {
    let purpose = format!("access to upstream {server}");
    let value = house.tokenizer.reveal(cx, text.into(), &[String::new()], &purpose).await?;
    Ok(value.as_str().unwrap_or(text).to_owned())
}

/// A configuration as it may be recorded: a secret lies in the vault, `${vault:TOKEN}` in its place. A server belongs to no
/// project, so what the router replaced by tokens of the caller's project is put back first and kept in the store's own vault.
async fn without_secrets(
    house: &House,
    cx: &Context,
    server: &str,
    config: Server,
) -> Result<Server, Refusal> {
    let purpose = format!("configuration of upstream {server}");
    let plain = house.tokenizer.reveal(cx, to_json(&config)?, &[String::new()], &purpose).await?;
    let mut config: Server =
        serde_json::from_value(plain).map_err(|error| Refusal::internal(error.to_string()))?;
    let own = beside(cx, "vault");
    let mut kept = Vec::new();
    for secret in secrets::take(server, &mut config) {
        let token = house.tokenizer.keep(&own, &secret.value).await?;
        kept.push((secrets::reference(&secret.name), secrets::reference(&token)));
    }
    for text in secrets::texts(&mut config) {
        if text.contains("${vault:") {
            for (named, token) in &kept {
                *text = text.replace(named, token);
            }
        } else {
            let (masked, _) = house.tokenizer.tokenize_text(&own, text).await?;
            *text = referring(&masked);
        }
    }
    Ok(config)
}

/// The context of a step on the way, in the store's own scope.
fn beside(cx: &Context, step: &str) -> Context {
    Context::new(cx.now_ms, cx.caller.clone(), Scope::default(), cx.command.child(step))
}

/// A text in which every token is a reference to the vault.
fn referring(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut from = 0;
    for (start, end) in athena_actors::privacy::token::find(text) {
        out.push_str(text.get(from..start).unwrap_or_default());
        out.push_str(&secrets::reference(text.get(start..end).unwrap_or_default()));
        from = end;
    }
    out.push_str(text.get(from..).unwrap_or_default());
    out
}

async fn test(house: &House, op: schema::Test) -> Result<Answer, Refusal> {
    let begun = Instant::now();
    let status: Status = house.upstreams.refresh(&op.server).await?;
    let start_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    let answered = match &op.tool {
        Some(tool) => Some(house.upstreams.call(&op.server, tool, op.arguments).await?),
        None => None,
    };
    let mut held = house.upstreams.listing(Some(&op.server));
    held.retain(|tool| !tool.held.is_empty());
    answer(Report { status, start_ms, held, answer: answered })
}

async fn decide(house: &House, cx: Context, command: schema::Command) -> Result<Answer, Refusal> {
    house.layers.decide(cx, Command::Upstream(command), None).await
}
