//! Export and import: memories as files people can read, and what they bring from elsewhere.
//!
//! Importing the same file again adds nothing: layers recognise what they have. Everything goes through the router, and so
//! through the tokenizer.

#![expect(clippy::indexing_slicing, reason = "indexing a JSON value answers null where there is nothing")]

use super::{House, answer};
use athena_schemas::context::{Context, Party};
use athena_schemas::layers::common::Ack;
use athena_schemas::layers::store::{Export, ExportDone, Format, Import, ImportDone, Rejected};
use athena_schemas::ports::Answer;
use athena_schemas::refusal::{Code, Refusal};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Items asked for at once.
const PAGE: u32 = 500;
/// Most items of one command.
const BULK: usize = 1_000;
/// Most bytes of a file that is imported.
const IMPORT_BYTES: u64 = 256 << 20;
/// Most lines that are told one by one.
const REJECTED: usize = 1_000;

/// What is listed of each layer: the operation and its name in a line.
const LISTED: [(&str, &str); 2] = [("episodic", "episodic/list_events"), ("semantic", "semantic/list")];

pub(super) async fn export(house: &House, cx: &Context, op: Export) -> Result<Answer, Refusal> {
    let wanted = op.scope.clone().unwrap_or_default();
    let scope = cx.scope.narrow(&wanted).or_else(|| cx.caller.holds.narrow(&wanted));
    let scope =
        scope.ok_or_else(|| Refusal::denied("this scope lies outside what the caller holds").at("scope"))?;
    let (mut text, mut count) = (String::new(), 0u64);
    for (layer, list) in LISTED {
        let mut cursor = Value::Null;
        loop {
            let mut params = json!({"limit": PAGE});
            if !cursor.is_null() {
                params["cursor"] = cursor.take();
            }
            if layer == "episodic"
                && let Some(range) = &op.range
            {
                params["range"] = serde_json::to_value(range).unwrap_or_default();
            }
            let page = house.follow_at(cx, &scope, &format!("{list} {count}"), list, params).await?.value;
            for item in page.get("items").and_then(Value::as_array).into_iter().flatten() {
                line(&mut text, op.format, layer, item)?;
                count += 1;
            }
            match page.get("next") {
                Some(next) if next.is_string() => cursor = next.clone(),
                _ => break,
            }
        }
    }
    let ending = if op.format == Format::Markdown { "md" } else { "jsonl" };
    let folder = house.folder.join("exports");
    let path = folder.join(format!("{}-{count}.{ending}", cx.now_ms));
    let sha256: String = Sha256::digest(text.as_bytes()).iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    write(folder, path.clone(), text).await?;
    let path = path.display().to_string();
    house
        .follow(cx, "noted", "store/note_export", json!({"path": path, "count": count, "sha256": sha256}))
        .await?;
    answer(ExportDone { path, count, sha256 })
}

fn line(text: &mut String, format: Format, layer: &str, item: &Value) -> Result<(), Refusal> {
    match format {
        Format::Jsonl => text.push_str(&json!({"layer": layer, "item": item}).to_string()),
        Format::Markdown => {
            let content = item.get("content").and_then(Value::as_str).unwrap_or_default();
            let _ = write!(text, "- {}", content.replace('\n', "\n  "));
        }
        Format::ServerMemory | Format::Mem0 => {
            return Err(Refusal::invalid("exports are written as jsonl or markdown").at("format"));
        }
    }
    text.push('\n');
    Ok(())
}

async fn write(folder: PathBuf, path: PathBuf, text: String) -> Result<(), Refusal> {
    let written = tokio::task::spawn_blocking(move || {
        std::fs::create_dir_all(&folder)?;
        std::fs::write(&path, text)
    });
    let failed = |error: &dyn std::fmt::Display| {
        Refusal::new(Code::Unavailable, format!("the export cannot be written: {error}"))
    };
    written.await.map_err(|error| failed(&error))?.map_err(|error| failed(&error))
}

/// One thing of a file, as the call that brings it in.
struct Brought {
    line: u64,
    op: &'static str,
    params: Value,
}

pub(super) async fn import(house: &House, cx: &Context, op: Import) -> Result<Answer, Refusal> {
    let path = place(house, cx, &op.path)?;
    let format = op.format.unwrap_or_else(|| guess(&path));
    let text = tokio::task::spawn_blocking(move || read(&path))
        .await
        .map_err(|error| Refusal::internal(error.to_string()))??;
    let (brought, mut rejected) = parse(&text, format);
    let (mut added, mut deduped, mut ids) = (0u64, 0u64, Vec::new());
    let mut named: HashMap<String, Value> = HashMap::new();
    let mut waiting: Vec<&Brought> = Vec::new();
    for chunk in brought.chunk_by(|a, b| a.op == b.op).flat_map(|same| same.chunks(BULK)) {
        if op.dry_run {
            break;
        }
        match at_once(house, cx, chunk).await {
            Some(acks) => {
                for ack in acks {
                    if ack.deduped_into.is_some() {
                        deduped += 1;
                    } else {
                        added += 1;
                        ids.push(json!(ack.id));
                    }
                }
            }
            None => waiting.extend(chunk),
        }
    }
    for one in waiting {
        let params = match resolve(&one.params, &named) {
            Some(params) => params,
            None => {
                reject(&mut rejected, one.line, "it relates something that the file does not name");
                continue;
            }
        };
        match house.follow(cx, &format!("import {}", one.line), one.op, params).await {
            Ok(done) => {
                let id = done.value.get("id").cloned().unwrap_or_default();
                if let Some(name) = one.params.get("name").and_then(Value::as_str) {
                    named.insert(name.to_owned(), id.clone());
                }
                if done.value.get("deduped_into").is_some() || done.seq.is_none() {
                    deduped += 1;
                } else {
                    added += 1;
                    ids.push(id);
                }
            }
            Err(refusal) => reject(&mut rejected, one.line, &refusal.message),
        }
    }
    let mut seq = None;
    if op.dry_run {
        added = brought.len() as u64;
    } else if !ids.is_empty() {
        seq = house.follow(cx, "noted", "store/note_import", json!({"path": op.path, "ids": ids})).await?.seq;
    }
    Ok(Answer { seq, ..answer(ImportDone { added, deduped, rejected, seq })? })
}

/// Brings in as many of one kind as go into one command; nothing where there is no such command, or where it refuses them: then
/// each is told apart from the others.
async fn at_once(house: &House, cx: &Context, chunk: &[Brought]) -> Option<Vec<Ack>> {
    let first = chunk.first()?;
    let (op, field) = match first.op {
        "episodic/remember" => ("episodic/bulk_remember", "events"),
        "semantic/store" => ("semantic/bulk_store", "facts"),
        _ => return None,
    };
    let items: Vec<&Value> = chunk.iter().map(|one| &one.params).collect();
    let label = format!("import from {}", first.line);
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

fn guess(path: &Path) -> Format {
    match path.extension().and_then(|ending| ending.to_str()) {
        Some("md" | "markdown") => Format::Markdown,
        _ if path.file_name().is_some_and(|name| name.to_string_lossy().contains("memory")) => {
            Format::ServerMemory
        }
        _ => Format::Jsonl,
    }
}

fn read(path: &Path) -> Result<String, Refusal> {
    let failed =
        |error: std::io::Error| Refusal::not_found(format!("{}: {error}", path.display())).at("path");
    let length = std::fs::metadata(path).map_err(failed)?.len();
    if length > IMPORT_BYTES {
        return Err(Refusal::new(
            Code::LimitExceeded,
            format!("the file has {length} bytes; at most {IMPORT_BYTES}"),
        ));
    }
    std::fs::read_to_string(path).map_err(failed)
}

fn reject(rejected: &mut Vec<Rejected>, line: u64, why: &str) {
    if rejected.len() < REJECTED {
        rejected.push(Rejected { line, why: why.to_owned() });
    }
}

fn parse(text: &str, format: Format) -> (Vec<Brought>, Vec<Rejected>) {
    let (mut brought, mut rejected) = (Vec::new(), Vec::new());
    if format == Format::Mem0 {
        match serde_json::from_str::<Value>(text) {
            Ok(dump) => {
                let results = dump.get("results").or(Some(&dump)).and_then(Value::as_array);
                let memories = results.into_iter().flatten().filter_map(|one| one.get("memory")?.as_str());
                brought.extend(memories.enumerate().map(|(n, memory)| fact(n as u64 + 1, memory)));
            }
            Err(error) => reject(&mut rejected, error.line() as u64, &error.to_string()),
        }
        return (brought, rejected);
    }
    for (n, raw) in text.lines().enumerate() {
        let (number, raw) = (n as u64 + 1, raw.trim());
        if raw.is_empty() {
            continue;
        }
        if format == Format::Markdown {
            let said = raw.trim_start_matches(['-', '*', '+', ' ']);
            if !raw.starts_with('#') && !said.is_empty() {
                brought.push(fact(number, said));
            }
            continue;
        }
        match serde_json::from_str::<Value>(raw) {
            Ok(value) => {
                let one = if format == Format::ServerMemory {
                    server_memory(number, &value)
                } else {
                    own(number, &value)
                };
                match one {
                    Some(calls) => brought.extend(calls),
                    None => reject(&mut rejected, number, "it is none of the things this format holds"),
                }
            }
            Err(error) => reject(&mut rejected, number, &format!("not JSON: {error}")),
        }
    }
    (brought, rejected)
}

fn fact(line: u64, content: &str) -> Brought {
    Brought { line, op: "semantic/store", params: json!({"content": content, "prov": {"source": "import"}}) }
}

/// A line of our own export.
fn own(line: u64, value: &Value) -> Option<Vec<Brought>> {
    let item = value.get("item")?;
    let content = item.get("content")?;
    let pick = |names: &[&str], mut params: Value| {
        for name in names {
            if let Some(field) = item.get(*name).filter(|field| !field.is_null()) {
                params[*name] = field.clone();
            }
        }
        params
    };
    let base = json!({"content": content, "prov": {"source": "import"}});
    Some(vec![match value.get("layer")?.as_str()? {
        "episodic" => {
            let names = ["type", "time", "session", "outcome", "importance", "tags", "meta"];
            Brought { line, op: "episodic/remember", params: pick(&names, base) }
        }
        "semantic" => {
            Brought { line, op: "semantic/store", params: pick(&["confidence", "valid_from", "tags"], base) }
        }
        _ => return None,
    }])
}

/// A line of the reference memory server: an entity with observations, or a relation.
fn server_memory(line: u64, value: &Value) -> Option<Vec<Brought>> {
    let text = |names: [&str; 2]| names.iter().find_map(|name| value.get(*name)?.as_str());
    if value.get("type")?.as_str()? == "relation" {
        let (from, to) = (text(["from", "from_id"])?, text(["to", "to_id"])?);
        let relation = text(["relationType", "relation_type"])?;
        return Some(vec![Brought {
            line,
            op: "graph/add_edge",
            params: json!({"from": {"$named": from}, "to": {"$named": to}, "relation": relation, "prov": {"source": "import"}}),
        }]);
    }
    let name = text(["name", "entityName"])?;
    let kind = text(["entityType", "entity_type"]).unwrap_or("thing");
    let mut calls =
        vec![Brought { line, op: "graph/add_entity", params: json!({"name": name, "type": kind}) }];
    let observations =
        value.get("observations").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    calls.extend(observations.map(|said| fact(line, &format!("{name}: {said}"))));
    Some(calls)
}

/// Puts the ids of named things where they are meant.
fn resolve(params: &Value, named: &HashMap<String, Value>) -> Option<Value> {
    let mut params = params.clone();
    for field in ["from", "to"] {
        if let Some(name) = params.get(field).and_then(|field| field.get("$named")?.as_str()) {
            let id = named.get(name)?.clone();
            params[field] = id;
        }
    }
    Some(params)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_server_s_lines_become_entities_facts_and_edges() {
        let text = r#"{"type":"entity","name":"Ana","entityType":"person","observations":["likes tea"]}
{"type":"relation","from":"Ana","to":"Ben","relationType":"knows"}
nonsense"#;
        let (brought, rejected) = parse(text, Format::ServerMemory);
        let ops: Vec<&str> = brought.iter().map(|one| one.op).collect();
        assert_eq!(ops, ["graph/add_entity", "semantic/store", "graph/add_edge"]);
        assert_eq!(rejected.iter().map(|one| one.line).collect::<Vec<_>>(), [3]);
        assert!(resolve(&brought[2].params, &HashMap::new()).is_none());
        let named = HashMap::from([("Ana".to_owned(), json!("en_1")), ("Ben".to_owned(), json!("en_2"))]);
        assert_eq!(resolve(&brought[2].params, &named).unwrap()["to"], "en_2");
    }

    #[test]
    fn an_export_comes_back() {
        let item = json!({"content": "c", "type": "note", "time": "2026-01-01T00:00:00Z", "tags": ["t"], "id": "ep_1"});
        let mut text = String::new();
        line(&mut text, Format::Jsonl, "episodic", &item).unwrap();
        let (brought, rejected) = parse(&text, Format::Jsonl);
        assert!(rejected.is_empty());
        assert_eq!((brought[0].op, &brought[0].params["time"]), ("episodic/remember", &item["time"]));
    }

    #[test]
    fn markdown_is_its_items_without_headings() {
        let (brought, _) = parse("# Kitchen\n\n- the kettle is red\n* tea\nplain\n", Format::Markdown);
        assert_eq!(
            brought.iter().map(|one| one.params["content"].as_str().unwrap()).collect::<Vec<_>>(),
            ["the kettle is red", "tea", "plain"]
        );
    }
}
