//! `store/*`: what is done across the layers.

use super::{House, answer, reading, transfer};
use crate::files::bytes_below;
use athena_schemas::context::{Caller, Context, Scope};
use athena_schemas::id::Id;
use athena_schemas::layers::common::Layer;
use athena_schemas::layers::store::{
    Command, Condition, EraseItems, EraseScope, ErasureDone, ItemsErasedDone, Move, MoveDone, NoteErasure,
    NoteItemsErased, RebuildDone, Service, Verified, confirmation,
};
use athena_schemas::ports::Answer;
use athena_schemas::refusal::{Code, Refusal};
use serde_json::{Value, json};

pub(super) async fn call(house: &House, cx: Context, service: Service) -> Result<Answer, Refusal> {
    match service {
        Service::Export(op) => transfer::export(house, &cx, op).await,
        Service::Import(op) => transfer::import(house, &cx, op).await,
        Service::EraseScope(op) => erase(house, &cx, op).await,
        Service::EraseItems(op) => erase_items(house, &cx, op).await,
        Service::Move(op) => relocate(house, &cx, op).await,
        Service::Verify(_) => verify(house).await,
        Service::Rebuild(op) => {
            let (projections, seq) = house.read_side.rebuild(op.projection.as_deref()).await?;
            answer(RebuildDone { projections, seq })
        }
        Service::Health(_) => answer(condition(house)),
        Service::Undo(op) => super::undo::undo(house, &cx, op).await,
        Service::Retain(op) => super::retention::call(house, &cx, op).await,
    }
}

/// Every hash and link of the log, then every read model against one built anew.
async fn verify(house: &House) -> Result<Answer, Refusal> {
    let log = house.log.clone();
    let report = tokio::task::spawn_blocking(move || log.verify(None))
        .await
        .map_err(|error| Refusal::internal(format!("the check failed: {error}")))??;
    let first_bad = report.findings.iter().filter_map(|finding| finding.first).min();
    let mut ok = report.is_clean();
    if ok {
        ok = house.read_side.compare().await?.iter().all(|one| one.equal);
    }
    answer(Verified { ok, events: report.events, first_bad })
}

fn condition(house: &House) -> Condition {
    let lag = house.read_side.lag();
    let mut problems: Vec<String> = Vec::new();
    if let Some((name, behind)) = lag.iter().find(|(_, behind)| **behind > 10_000) {
        problems.push(format!("read model {name} is {behind} events behind"));
    }
    Condition {
        ok: problems.is_empty(),
        head: house.read_side.head(),
        lag,
        rebuilding: house.read_side.rebuilding(),
        model: house.read_side.library.finder.model(),
        disk_bytes: bytes_below(&house.folder),
        problems,
    }
}

/// The keys go first: from then on nothing can be read, whatever happens to the rest.
async fn erase(house: &House, cx: &Context, op: EraseScope) -> Result<Answer, Refusal> {
    let wanted = confirmation(&op.scope);
    if op.confirm != wanted {
        return Err(Refusal::denied("the confirmation does not fit")
            .at("confirm")
            .hint(format!("type {wanted:?}")));
    }
    if op.scope.agent.is_some() || op.scope.session.is_some() {
        return Err(Refusal::invalid("keys belong to projects and to persons within them")
            .at("scope")
            .hint("erase a project or a user; forget episodes of a session"));
    }
    let scope = cx.scope.narrow(&op.scope).or_else(|| cx.caller.holds.narrow(&op.scope));
    let scope =
        scope.ok_or_else(|| Refusal::denied("this scope lies outside what the caller holds").at("scope"))?;
    let mut keys = 0;
    for subject in house.keys.subjects().into_iter().filter(|subject| belongs(subject, &scope)) {
        keys += house.keys.destroy(&subject)?.len() as u64;
    }
    let noted = Command::NoteErasure(NoteErasure { scope, erased: keys, keys });
    let seq = house.note(cx, &Scope::default(), noted).await?.seq.unwrap_or(0);
    house.erasure.renew_all().await?;
    answer(ErasureDone { erased: keys, seq })
}

/// Most items of one erasure.
const ERASED: usize = 1_000;

/// The tombstones first: what they ask for is then carried out, now or, after a crash, at the next start. Episodes and facts are
/// erased by their own layers, whose folds know what to do.
async fn erase_items(house: &House, cx: &Context, op: EraseItems) -> Result<Answer, Refusal> {
    if op.ids.is_empty() || op.ids.len() > ERASED {
        return Err(Refusal::invalid(format!("1 to {ERASED} items at once")).at("ids"));
    }
    let of = |layer: Layer| op.ids.iter().filter(|id| Layer::of(id) == Some(layer)).collect::<Vec<_>>();
    let (episodes, facts) = (of(Layer::Episodic), of(Layer::Semantic));
    let own = |id: &Id| matches!(Layer::of(id), Some(Layer::Episodic | Layer::Semantic));
    let wanted: Vec<Id> = op.ids.iter().filter(|id| !own(id)).cloned().collect();
    house.read_side.reached(house.read_side.head()).await?;
    let (library, caller) = (house.read_side.library.clone(), reading(cx, &cx.scope));
    let ids = tokio::task::spawn_blocking(move || {
        let mut ids = Vec::new();
        for id in wanted {
            if !library.holds(&caller, &id)? {
                return Err(Refusal::not_found(format!("there is no {id} in this scope")).at("ids"));
            }
            if id.prefix() == "en" {
                ids.extend(library.edges_of(&caller, &id)?);
            }
            ids.push(id);
        }
        ids.sort();
        ids.dedup();
        Ok::<Vec<Id>, Refusal>(ids)
    })
    .await
    .map_err(|error| Refusal::internal(error.to_string()))??;
    let (mut changed, mut seq) = (ids.len() as u64, 0);
    // Who erased is part of what stays.
    if !ids.is_empty() {
        let noted = Command::NoteItemsErased(NoteItemsErased { ids });
        seq = house.note(cx, &cx.scope, noted).await?.seq.unwrap_or(0);
    }
    let person = Caller { scope: cx.scope.clone(), ..cx.caller.clone() };
    let calls = [
        ("episodic/forget", episodes.is_empty(), json!({"sel": {"ids": episodes}, "mode": "erase"})),
        ("semantic/discard", facts.is_empty(), json!({"ids": facts, "mode": "erase"})),
    ];
    for (op, _, params) in calls.into_iter().filter(|(_, empty, _)| !empty) {
        let done = house.follow_as(cx, &person, op, op, params).await?;
        changed +=
            ["matched", "changed"].iter().find_map(|name| done.value.get(*name)?.as_u64()).unwrap_or(0);
        seq = seq.max(done.seq.unwrap_or(0));
    }
    house.erasure.settle().await?;
    Ok(Answer { seq: Some(seq), ..answer(ItemsErasedDone { changed, seq })? })
}

/// Whether a key's subject (a project, or a person within one) lies in a scope.
fn belongs(subject: &str, scope: &Scope) -> bool {
    let (project, user) =
        subject.split_once('\n').map_or((subject, None), |(project, user)| (project, Some(user)));
    scope.project.as_deref().is_none_or(|wanted| wanted == project)
        && scope.user.as_deref().is_none_or(|wanted| Some(wanted) == user)
}

/// Each layer moves its own.
async fn relocate(house: &House, cx: &Context, op: Move) -> Result<Answer, Refusal> {
    if cx.caller.holds.narrow(&op.to).is_none() {
        return Err(Refusal::denied("the new scope lies outside what the caller holds").at("to"));
    }
    let (mut changed, mut seq) = (0, None);
    for layer in Layer::ALL {
        let ids: Vec<&Id> = op.ids.iter().filter(|id| Layer::of(id) == Some(layer)).collect();
        if ids.is_empty() {
            continue;
        }
        let name = layer.as_str();
        let moved =
            house.follow(cx, name, &format!("{name}/relocate"), json!({"ids": ids, "to": op.to})).await?;
        changed += moved.value.get("matched").and_then(Value::as_u64).unwrap_or(0);
        seq = moved.seq.or(seq);
    }
    if changed == 0 {
        return Err(Refusal::new(Code::NotFound, "none of these items is in this scope").at("ids"));
    }
    Ok(Answer { value: serde_json::to_value(MoveDone { changed, seq }).unwrap_or_default(), seq })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_belongs_to_its_project_and_its_person() {
        let person = Scope { user: Some("u".into()), ..Scope::project("p") };
        assert!(belongs("p", &Scope::project("p")) && belongs("p\nu", &Scope::project("p")));
        assert!(belongs("p\nu", &person) && !belongs("p", &person) && !belongs("q\nu", &person));
    }
}
