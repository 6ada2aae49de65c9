//! Bringing in what a file holds, a bounded number of lines ahead of the log: a file's size costs time and no memory.

#![expect(clippy::indexing_slicing, reason = "indexing a JSON value answers null where there is nothing")]

use super::super::{House, answer, reading};
use super::formats::{Brought, Reader, own};
use athena_schemas::context::{Context, Party};
use athena_schemas::id::Id;
use athena_schemas::layers::common::Ack;
use athena_schemas::layers::store::{Command, Import, ImportDone, NoteImport, Rejected};
use athena_schemas::ports::Answer;
use athena_schemas::refusal::Refusal;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use tokio::sync::mpsc;

/// Most items of one command.
const BULK: usize = 1_000;
/// Commands' worth of items that are read ahead.
const AHEAD: usize = 2;
/// Most lines that are told one by one.
const REJECTED: usize = 1_000;

/// What a file brought so far.
#[derive(Default)]
struct Tally {
    added: u64,
    deduped: u64,
    ids: Vec<Id>,
    rejected: Vec<Rejected>,
}

impl Tally {
    fn count(&mut self, id: &Value, known: bool) {
        if known {
            self.deduped += 1;
        } else {
            self.added += 1;
            self.ids.extend(id.as_str().map(Id::from_text));
        }
    }

    fn reject(&mut self, rejected: Rejected) {
        if self.rejected.len() < REJECTED {
            self.rejected.push(rejected);
        }
    }
}

pub(in crate::services) async fn import(house: &House, cx: &Context, op: Import) -> Result<Answer, Refusal> {
    let reader = Reader::new(place(house, cx, &op.path)?, op.format);
    let mut pieces = read_ahead(reader);
    let mut tally = Tally::default();
    // An item's number, and not its line, names the call that brings it: a line may hold several.
    let (mut waiting, mut nth) = (Vec::new(), 0);
    while let Some(piece) = pieces.recv().await {
        let mut brought = Vec::with_capacity(BULK);
        for one in piece? {
            match one {
                Ok(one) => brought.push(one),
                Err(rejected) => tally.reject(rejected),
            }
        }
        if op.dry_run {
            tally.added += brought.len() as u64;
            continue;
        }
        for chunk in brought.chunk_by(|a, b| a.op == b.op) {
            match at_once(house, cx, nth, chunk).await {
                Some(acks) => {
                    for ack in acks {
                        tally.count(&json!(ack.id), ack.deduped_into.is_some());
                    }
                }
                None => waiting.extend((nth..).zip(chunk.iter().cloned())),
            }
            nth += chunk.len() as u64;
        }
    }
    one_by_one(house, cx, waiting, &mut tally).await?;
    let Tally { added, deduped, ids, rejected } = tally;
    let mut seq = None;
    if !ids.is_empty() {
        let note = Command::NoteImport(NoteImport { path: op.path, ids });
        seq = house.note(cx, &cx.scope, note).await?.seq;
    }
    Ok(Answer { seq, ..answer(ImportDone { added, deduped, rejected, seq })? })
}

/// The file's items, some commands' worth at a time; reading stops when nobody takes them any more.
fn read_ahead(mut reader: Reader) -> mpsc::Receiver<Result<Vec<Result<Brought, Rejected>>, Refusal>> {
    let (pieces, taken) = mpsc::channel(AHEAD);
    tokio::task::spawn_blocking(move || {
        loop {
            match reader.take(BULK) {
                Ok(piece) if piece.is_empty() => break,
                piece => {
                    let last = piece.is_err();
                    if pieces.blocking_send(piece).is_err() || last {
                        break;
                    }
                }
            }
        }
    });
    taken
}

/// What no command takes many of, and what a command of many refused: each is told apart from the others.
async fn one_by_one(
    house: &House,
    cx: &Context,
    waiting: Vec<(u64, Brought)>,
    tally: &mut Tally,
) -> Result<(), Refusal> {
    let mut named: HashMap<String, Value> = HashMap::new();
    let mut known = if waiting.iter().any(|(_, one)| NOT_RECOGNISED.contains(&one.op)) {
        marks(house, cx).await?
    } else {
        HashMap::new()
    };
    for (nth, one) in waiting {
        let Some(params) = resolve(&one.params, &named) else {
            tally.reject(Rejected::new(one.line, "it relates something that the file does not name"));
            continue;
        };
        let mark = mark(one.op, &params);
        if let Some(id) = known.get(&mark) {
            named.extend(one.name.map(|name| (name, id.clone())));
            tally.count(id, true);
            continue;
        }
        match house.follow(cx, &format!("import {nth}"), one.op, params).await {
            Ok(done) => {
                let id = done.value.get("id").cloned().unwrap_or_default();
                named.extend(one.name.map(|name| (name, id.clone())));
                if NOT_RECOGNISED.contains(&one.op) {
                    known.insert(mark, id.clone());
                }
                if let Some((op, mut then)) = one.then {
                    then["id"] = id.clone();
                    if let Err(refusal) = house.follow(cx, &format!("import {nth} then"), op, then).await {
                        tally.reject(Rejected::new(one.line, refusal.message));
                    }
                }
                tally.count(&id, done.value.get("deduped_into").is_some() || done.seq.is_none());
            }
            Err(refusal) => tally.reject(Rejected::new(one.line, refusal.message)),
        }
    }
    Ok(())
}

/// Operations whose layers do not recognise an item they have, or complete it anew.
const NOT_RECOGNISED: [&str; 5] = [
    "prospective/create_goal",
    "prospective/create_task",
    "prospective/register_trigger",
    "graph/add_entity",
    "graph/add_edge",
];

/// What recognises such an item: the call that would make it.
fn mark(op: &str, params: &Value) -> String {
    format!("{op} {params}")
}

/// The calls that would make what is there, once the read side has seen all of the log.
async fn marks(house: &House, cx: &Context) -> Result<HashMap<String, Value>, Refusal> {
    house.read_side.reached(house.read_side.head()).await?;
    let (library, cx) = (house.read_side.library.clone(), reading(cx, &cx.scope));
    let look = move || {
        let mut known = HashMap::new();
        library.portable(&cx, &mut |layer, item| {
            let line = json!({ "layer": layer, "item": item });
            for one in own(0, &line).into_iter().flatten().filter(|one| NOT_RECOGNISED.contains(&one.op)) {
                // Nothing is named anew: items refer to what they refer to.
                if let Some(params) = resolve(&one.params, &HashMap::new()) {
                    known.insert(mark(one.op, &params), line["item"]["id"].clone());
                }
            }
            Ok(())
        })?;
        Ok(known)
    };
    tokio::task::spawn_blocking(look).await.map_err(|error| Refusal::internal(error.to_string()))?
}

/// Brings in as many of one kind as go into one command; nothing where there is no such command, or where it refuses them: then
/// each is told apart from the others.
async fn at_once(house: &House, cx: &Context, nth: u64, chunk: &[Brought]) -> Option<Vec<Ack>> {
    let first = chunk.first()?;
    let (op, field) = match first.op {
        "episodic/remember" => ("episodic/bulk_remember", "events"),
        "semantic/store" => ("semantic/bulk_store", "facts"),
        _ => return None,
    };
    let items: Vec<&Value> = chunk.iter().map(|one| &one.params).collect();
    let label = format!("import from {nth}");
    let done = house.follow(cx, &label, op, json!({field: items})).await.ok()?;
    serde_json::from_value(done.value).ok()
}

/// People name any file; agents one of the store's `imports` folder, by its bare name.
fn place(house: &House, cx: &Context, path: &str) -> Result<PathBuf, Refusal> {
    if matches!(cx.caller.party, Party::Human | Party::Host) && Path::new(path).is_absolute() {
        return Ok(path.into());
    }
    if path.is_empty() || path.contains(['/', '\\', '\0']) || path.starts_with('.') {
        return Err(Refusal::denied("only files of the store's imports folder can be imported")
            .at("path")
            .hint("a bare file name; a person can import from anywhere: athena import FILE"));
    }
    Ok(house.folder.join("imports").join(path))
}

/// Puts ids where named things are meant; nothing where the file does not name one. An item that the file does not hold is meant
/// as it is.
fn resolve(params: &Value, named: &HashMap<String, Value>) -> Option<Value> {
    if let Some(name) = params.get("$named").and_then(Value::as_str) {
        return named.get(name).cloned();
    }
    if let Some(id) = params.get("$item") {
        return Some(id.as_str().and_then(|id| named.get(id)).unwrap_or(id).clone());
    }
    Some(match params {
        Value::Object(fields) => Value::Object(
            fields
                .iter()
                .map(|(name, field)| Some((name.clone(), resolve(field, named)?)))
                .collect::<Option<_>>()?,
        ),
        Value::Array(items) => items.iter().map(|item| resolve(item, named)).collect::<Option<_>>()?,
        other => other.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relation_waits_for_the_names_it_relates() {
        let edge = json!({"from": {"$named": "Ana"}, "to": {"$named": "Ben"}, "relation": "knows"});
        assert!(resolve(&edge, &HashMap::new()).is_none());
        let named = HashMap::from([("Ana".to_owned(), json!("en_1")), ("Ben".to_owned(), json!("en_2"))]);
        assert_eq!(resolve(&edge, &named).unwrap()["to"], "en_2");
    }
}
