//! The second system of consolidation: what the first one is unsure of is put to a language model, where a person configured
//! one. It is asked outside any decision; what it says becomes proposals, which people and agents accept or reject. A model
//! that fails changes nothing: the pass it was asked about was recorded before.

use super::{House, answer};
use crate::config::Reasoner as Settings;
use crate::links::Pinned;
use athena_actors::reasoner::{ANSWER_TOKENS, Failure, Form, Model, Prompt, claims};
use athena_actors::upstream::Ledger;
use athena_actors::upstream::config::expand;
use athena_schemas::context::Context;
use athena_schemas::id::Id;
use athena_schemas::layers::common::{Ack, Paged};
use athena_schemas::layers::consolidation::{
    Accept, Asked, Claim, Doubts, NoteReasoning, Noted, Proposal, Reason, Reasoning, Service, Standing,
};
use athena_schemas::operation::to_json;
use athena_schemas::ports::Answer;
use athena_schemas::refusal::{Code, Refusal};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Most calls of a pass, whatever the settings say.
const CALLS: u32 = 100;
/// After this many failures in a row a pass asks no more.
const FAILURES: u32 = 2;

/// The configured model, its key and its limits.
pub(crate) struct Reasoner {
    model: Model,
    key: String,
    calls: u32,
    tokens: u64,
    vault: Arc<Pinned>,
}

impl Reasoner {
    /// The model of the settings; `None` where there is none.
    ///
    /// # Errors
    /// When the settings name no endpoint that can be asked.
    pub(crate) fn of(settings: &Settings, vault: Arc<Pinned>) -> Result<Option<Self>, Refusal> {
        Ok(model(settings)?.map(|model| Self {
            model,
            key: settings.key.trim().to_owned(),
            calls: settings.calls.min(CALLS),
            tokens: settings.tokens,
            vault,
        }))
    }

    /// The key as it stands now in the environment or the vault.
    async fn key(&self) -> Result<Option<String>, Refusal> {
        if self.key.is_empty() {
            return Ok(None);
        }
        let mut kept = None;
        if let Some(token) = self.key.strip_prefix("${vault:").and_then(|rest| rest.strip_suffix('}')) {
            kept = self.vault.secret("the model of consolidation", token).await;
        }
        expand(&self.key, &|name| kept.clone().or_else(|| std::env::var(name).ok())).map(Some).map_err(
            |name| {
                Refusal::new(Code::Unavailable, format!("the model's key is not there: {name}"))
                    .hint("set the variable where the daemon starts, or keep the key: athena privacy keep")
            },
        )
    }
}

/// The model of the settings, checked; `None` where there is none.
fn model(settings: &Settings) -> Result<Option<Model>, Refusal> {
    if settings.kind.is_empty() {
        return Ok(None);
    }
    let wrong = |field: &str, why: &str| {
        let field = format!("consolidation.model.{field}");
        Refusal::invalid(format!("{field}: {why}")).at(field)
    };
    let form =
        Form::named(&settings.kind).ok_or_else(|| wrong("kind", "not one of ollama, openai, anthropic"))?;
    if settings.model.trim().is_empty() {
        return Err(wrong("model", "it is empty"));
    }
    let timeout = Duration::from_secs(settings.timeout_s.clamp(1, 600));
    let model = Model::new(form, &settings.url, settings.model.trim(), timeout)
        .map_err(|refusal| wrong("url", &refusal.message))?;
    let key = settings.key.trim();
    if !key.is_empty() && !(key.starts_with("${") && key.ends_with('}')) {
        return Err(wrong("key", "a secret has no place in the settings").hint(
            "${VARIABLE} of the environment, or ${vault:TOKEN} with what athena privacy keep answers",
        ));
    }
    if !key.is_empty() && !model.may_have_key() {
        return Err(
            wrong("key", "it could be read on the way").hint("an https address, or one of this machine")
        );
    }
    Ok(Some(model))
}

pub(super) async fn call(house: &House, cx: Context, service: Service) -> Result<Answer, Refusal> {
    match service {
        Service::Reason(op) => reason(house, &cx, op).await,
        Service::Accept(op) => accept(house, &cx, op).await,
    }
}

async fn reason(house: &House, cx: &Context, op: Reason) -> Result<Answer, Refusal> {
    let doubts: Doubts = read(house, cx, "consolidation/unsure", json!({"run": op.run})).await?;
    let questions = questions(house, cx, &doubts).await?;
    crate::tokens::warm().await;
    let reasoner = house.reasoner.as_ref();
    let mut done = Reasoning {
        run: None,
        of: doubts.of.clone(),
        unsure: doubts.unsure,
        asked: Asked {
            model: reasoner.map(|reasoner| reasoner.model.label()).unwrap_or_default(),
            prompt: claims::PROMPT,
            ..Asked::default()
        },
        proposals: Vec::new(),
        seq: None,
    };
    if op.dry_run {
        for question in &questions {
            done.asked.calls += 1;
            done.asked.tokens_in += tokens(&question.prompt);
        }
        return answer(done);
    }
    let reasoner = reasoner.ok_or_else(|| {
        Refusal::new(Code::Unavailable, "no language model is configured").hint(
            "[consolidation.model] kind, url and model in the user's config.toml; docs/consolidation.md",
        )
    })?;
    let Some(of) = doubts.of.filter(|_| !questions.is_empty()) else { return answer(done) };
    let (claims, asked, failure) = ask(reasoner, &questions, done.asked).await?;
    done.asked = asked;
    if done.asked.calls == done.asked.failed {
        let why =
            failure.map_or_else(|| "no call fits the budget of tokens".to_owned(), |why| why.to_string());
        return Err(Refusal::new(Code::Unavailable, why).hint("what the pass found stands; try again later"));
    }
    let note = to_json(NoteReasoning { of, asked: done.asked.clone(), claims })?;
    let noted = house.follow(cx, "noted", "consolidation/note_reasoning", note).await?;
    let Noted { run, .. } = parsed(noted.value)?;
    let page: Paged<Proposal> =
        read(house, cx, "consolidation/proposals", json!({"run": run, "limit": 1_000})).await?;
    (done.run, done.seq, done.proposals) = (Some(run), noted.seq, page.items);
    Ok(Answer { seq: noted.seq, ..answer(done)? })
}

/// What is asked about one cluster, and the ids an answer may cite.
struct Question {
    prompt: Prompt,
    known: BTreeSet<Id>,
}

/// The questions about the clusters. Whatever was stored, secrets in it leave as tokens.
async fn questions(house: &House, cx: &Context, doubts: &Doubts) -> Result<Vec<Question>, Refusal> {
    let mut questions = Vec::with_capacity(doubts.clusters.len());
    for notes in &doubts.clusters {
        let known = notes.iter().map(|note| note.id.clone()).collect();
        let (notes, _) = house.tokenizer.tokenize(cx, to_json(notes)?).await?;
        questions.push(Question { prompt: claims::prompt(&notes), known });
    }
    Ok(questions)
}

/// Asks one question after the other until the budget is spent. The last failure comes with what was claimed.
async fn ask(
    reasoner: &Reasoner,
    questions: &[Question],
    mut asked: Asked,
) -> Result<(Vec<Claim>, Asked, Option<Failure>), Refusal> {
    let key = reasoner.key().await?;
    let (mut claimed, mut spent, mut in_a_row, mut failure) = (Vec::new(), 0, 0, None);
    for question in questions.iter().take(reasoner.calls as usize) {
        let sent = tokens(&question.prompt);
        if spent + sent + u64::from(ANSWER_TOKENS) > reasoner.tokens || in_a_row == FAILURES {
            break;
        }
        asked.calls += 1;
        let reply = reasoner.model.ask(key.as_deref(), &question.prompt).await.and_then(|reply| {
            let got = crate::tokens::count(&reply.text) as u64;
            // Whatever it says of itself, the budget counts at least what went over the wire.
            asked.tokens_in += reply.tokens_in.unwrap_or(sent);
            asked.tokens_out += reply.tokens_out.unwrap_or(got);
            spent += reply.tokens_in.unwrap_or(0).max(sent) + reply.tokens_out.unwrap_or(0).max(got);
            claims::read(&reply.text, &question.known).ok_or(Failure::Form("its claims are not in it"))
        });
        match reply {
            Ok((kept, dropped)) => {
                in_a_row = 0;
                asked.dropped += dropped;
                claimed.extend(kept);
            }
            Err(why) => {
                tracing::warn!(model = asked.model, %why, "a language model gave no answer");
                in_a_row += 1;
                asked.failed += 1;
                failure = Some(why);
            }
        }
    }
    metrics::counter!("athena_reasoner_calls_total", "outcome" => "ok")
        .increment(u64::from(asked.calls - asked.failed));
    metrics::counter!("athena_reasoner_calls_total", "outcome" => "failed")
        .increment(u64::from(asked.failed));
    Ok((claimed, asked, failure))
}

fn tokens(prompt: &Prompt) -> u64 {
    (crate::tokens::count(&prompt.system) + crate::tokens::count(&prompt.user)) as u64
}

/// Stores the fact, then records that the proposal became it: whoever is cut off between the two asks again and comes to the
/// same fact.
async fn accept(house: &House, cx: &Context, op: Accept) -> Result<Answer, Refusal> {
    let page: Paged<Proposal> = read(house, cx, "consolidation/proposals", json!({"id": op.id})).await?;
    let proposal = page.items.into_iter().next().ok_or_else(|| {
        Refusal::not_found(format!("there is no proposal {} in this scope", op.id))
            .at("id")
            .hint("consolidation/proposals names those there are")
    })?;
    if proposal.standing != Standing::Pending {
        return Err(Refusal::conflict(format!("{} was decided on before", op.id)).at("id"));
    }
    let prov = json!({
        "source": "consolidation", "events": proposal.sources, "actor": cx.caller.name, "model": proposal.model,
    });
    let fact = json!({
        "content": op.content.unwrap_or(proposal.content), "confidence": proposal.confidence, "prov": prov,
    });
    let stored: Ack = parsed(house.follow(cx, "fact", "semantic/store", fact).await?.value)?;
    let fact = stored.deduped_into.clone().unwrap_or_else(|| stored.id.clone());
    let judged = json!({"id": op.id, "fact": fact});
    let seq = house.follow(cx, "judged", "consolidation/judge", judged).await?.seq;
    Ok(Answer { seq, ..answer(Ack { id: fact, seq: seq.unwrap_or(stored.seq), ..stored })? })
}

async fn read<T: DeserializeOwned>(
    house: &House,
    cx: &Context,
    op: &str,
    params: Value,
) -> Result<T, Refusal> {
    parsed(house.follow(cx, op, op, params).await?.value)
}

fn parsed<T: DeserializeOwned>(value: Value) -> Result<T, Refusal> {
    serde_json::from_value(value).map_err(|error| Refusal::internal(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(kind: &str, url: &str, key: &str) -> Settings {
        Settings {
            kind: kind.into(),
            url: url.into(),
            model: "m".into(),
            key: key.into(),
            ..Settings::default()
        }
    }

    #[test]
    fn settings_that_cannot_be_meant_are_refused_with_their_field() {
        let field = |settings: Settings| model(&settings).err().and_then(|refusal| refusal.path);
        let https = "https://example.org/v1";
        assert_eq!(field(settings("gpt", https, "")), Some("consolidation.model.kind".into()));
        assert_eq!(field(settings("openai", "example", "")), Some("consolidation.model.url".into()));
        assert_eq!(field(settings("openai", https, "sk-1234")), Some("consolidation.model.key".into()));
        assert_eq!(
            field(settings("openai", "http://example.org", "${KEY}")),
            Some("consolidation.model.key".into())
        );
        assert_eq!(field(settings("openai", https, "${KEY}")), None);
        assert_eq!(field(settings("", "", "")), None);
    }
}
