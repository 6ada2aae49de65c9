//! Memories as files that people can read.

#![expect(clippy::indexing_slicing, reason = "indexing a JSON value answers null where there is nothing")]

use super::super::{House, answer, reading};
use athena_schemas::context::Context;
use athena_schemas::layers::store::{Command, Export, ExportDone, Format, NoteExport};
use athena_schemas::ports::Answer;
use athena_schemas::refusal::{Code, Refusal};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::PathBuf;

/// Items asked for at once.
const PAGE: u32 = 500;

/// What is listed of the layers of texts: the operation and its name in a line. The rest is
/// [`portable`](athena_projections::library::Library::portable).
const LISTED: [(&str, &str); 2] = [("episodic", "episodic/list_events"), ("semantic", "semantic/list")];

pub(in crate::services) async fn export(house: &House, cx: &Context, op: Export) -> Result<Answer, Refusal> {
    let wanted = op.scope.clone().unwrap_or_default();
    let scope = cx.scope.narrow(&wanted).or_else(|| cx.caller.holds.narrow(&wanted));
    let scope =
        scope.ok_or_else(|| Refusal::denied("this scope lies outside what the caller holds").at("scope"))?;
    let (folder, at_ms, format) = (house.folder.join("exports"), cx.now_ms, op.format);
    let mut written = blocking(move || Written::begin(folder, at_ms, format)).await?;
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
            let label = format!("{list} {}", written.count);
            let mut page = house.follow_at(cx, &scope, &label, list, params).await?.value;
            let items = page.get_mut("items").map(Value::take).unwrap_or_default();
            written = blocking(move || {
                items.as_array().into_iter().flatten().try_for_each(|item| written.add(layer, item))?;
                Ok(written)
            })
            .await?;
            match page.get("next") {
                Some(next) if next.is_string() => cursor = next.clone(),
                _ => break,
            }
        }
    }
    // What has no time of its own belongs to no range of time.
    if op.range.is_none() {
        house.read_side.reached(house.read_side.head()).await?;
        let (library, cx) = (house.read_side.library.clone(), reading(cx, &scope));
        written = blocking(move || {
            library.portable(&cx, &mut |layer, item| written.add(layer, &item))?;
            Ok(written)
        })
        .await?;
    }
    let (path, count, sha256) = blocking(move || written.end()).await?;
    let note = NoteExport { path: path.clone(), count, sha256: sha256.clone() };
    house.note(cx, &cx.scope, Command::NoteExport(note)).await?;
    answer(ExportDone { path, count, sha256 })
}

/// A file while it is written, item by item. Where it is not finished, nothing is left of it.
struct Written {
    folder: PathBuf,
    part: PathBuf,
    /// What it is called without the number of its items.
    at_ms: u64,
    format: Format,
    out: BufWriter<File>,
    sum: Sha256,
    count: u64,
}

impl Written {
    fn begin(folder: PathBuf, at_ms: u64, format: Format) -> Result<Self, Refusal> {
        let part = folder.join(format!("{at_ms}.part"));
        let open = || {
            std::fs::create_dir_all(&folder)?;
            File::options().write(true).create_new(true).open(&part)
        };
        let out = BufWriter::new(open().map_err(unwritable)?);
        Ok(Self { folder, part, at_ms, format, out, sum: Sha256::new(), count: 0 })
    }

    fn add(&mut self, layer: &str, item: &Value) -> Result<(), Refusal> {
        let mut text = String::new();
        line(&mut text, self.format, layer, item)?;
        self.sum.update(&text);
        self.count += 1;
        self.out.write_all(text.as_bytes()).map_err(unwritable)
    }

    /// Puts it in its place: its path, how many items it has, and its SHA-256 in hexadecimal.
    fn end(mut self) -> Result<(String, u64, String), Refusal> {
        let ending = if self.format == Format::Markdown { "md" } else { "jsonl" };
        let path = self.folder.join(format!("{}-{}.{ending}", self.at_ms, self.count));
        let mut close = || {
            self.out.flush()?;
            self.out.get_ref().sync_all()?;
            std::fs::rename(&self.part, &path)
        };
        close().map_err(unwritable)?;
        let digest = std::mem::take(&mut self.sum).finalize();
        Ok((
            path.display().to_string(),
            self.count,
            digest.iter().map(|byte| format!("{byte:02x}")).collect(),
        ))
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        // Of a finished one there is none.
        let _ = std::fs::remove_file(&self.part);
    }
}

fn unwritable(error: io::Error) -> Refusal {
    let code = if error.kind() == io::ErrorKind::StorageFull { Code::StorageFull } else { Code::Unavailable };
    Refusal::new(code, format!("the export cannot be written: {error}"))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Refusal::internal(format!("the export failed: {error}")))?
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
