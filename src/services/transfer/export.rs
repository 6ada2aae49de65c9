//! Memories as files that people can read.

#![expect(clippy::indexing_slicing, reason = "indexing a JSON value answers null where there is nothing")]

use super::super::{House, answer, reading};
use athena_schemas::context::Context;
use athena_schemas::layers::store::{Export, ExportDone, Format};
use athena_schemas::ports::Answer;
use athena_schemas::refusal::{Code, Refusal};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::path::PathBuf;

/// Items asked for at once.
const PAGE: u32 = 500;

/// What is listed of the layers of texts: the operation and its name in a line. The rest is [`portable`].
const LISTED: [(&str, &str); 2] = [("episodic", "episodic/list_events"), ("semantic", "semantic/list")];

pub(in crate::services) async fn export(house: &House, cx: &Context, op: Export) -> Result<Answer, Refusal> {
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
    // What has no time of its own belongs to no range of time.
    if op.range.is_none() {
        for item in portable(house, &reading(cx, &scope)).await? {
            let layer = item["layer"].as_str().unwrap_or_default();
            line(&mut text, op.format, layer, &item["item"])?;
            count += 1;
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

/// Entities, edges, goals, tasks, triggers and procedures, once the read side has seen all of the log.
pub(super) async fn portable(house: &House, cx: &Context) -> Result<Vec<Value>, Refusal> {
    house.read_side.reached(house.read_side.head()).await?;
    let (library, cx) = (house.read_side.library.clone(), reading(cx, &cx.scope));
    tokio::task::spawn_blocking(move || library.portable(&cx))
        .await
        .map_err(|error| Refusal::internal(error.to_string()))?
}

pub(super) fn line(text: &mut String, format: Format, layer: &str, item: &Value) -> Result<(), Refusal> {
    match format {
        Format::Jsonl => text.push_str(&json!({"layer": layer, "item": item}).to_string()),
        Format::Markdown => {
            let _ = write!(text, "- {}", said(item).replace('\n', "\n  "));
        }
        Format::ServerMemory | Format::Mem0 => {
            return Err(Refusal::invalid("exports are written as jsonl or markdown").at("format"));
        }
    }
    text.push('\n');
    Ok(())
}

/// An item in a line for people.
fn said(item: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    if item["relation"].is_string() {
        return format!("{} {} {}", text(&item["from"]), text(&item["relation"]), text(&item["to"]));
    }
    if item["when"].is_object() {
        let brings =
            if item["then"]["note"].is_string() { &item["then"]["note"] } else { &item["then"]["task"] };
        return format!("{} (when {})", text(brings), item["when"]);
    }
    let said =
        ["content", "title", "name"].into_iter().map(|name| text(&item[name])).find(|said| !said.is_empty());
    let said = said.unwrap_or_default();
    if item["status"].is_string() { format!("{said} ({})", text(&item["status"])) } else { said }
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
