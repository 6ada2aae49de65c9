//! The log as people read it: statistics, events with their opened payloads, and the ones to come.

use super::connections::Shared;
use super::custody;
use super::protocol::{Call, Reply};
use super::server::{Parts, opened};
use crate::filter::{Filter, position_at};
use athena_schemas::envelope::{Record, Seq};
use athena_schemas::event::{Event, kind_name};
use athena_schemas::ports::{LogReader, Sealer};
use athena_schemas::refusal::{Code, Refusal};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tokio::sync::mpsc;

/// Events in one answer at most.
const PAGE_MAX: usize = 1_000;

/// Whether the daemon answers this itself.
pub(crate) fn is_ours(op: &str) -> bool {
    matches!(op, "log/stats" | "log/read" | "log/follow" | "log/position" | "log/compare")
        || custody::is_ours(op)
}

/// Where to read on, and what to pass over.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Select {
    /// Positions after this one.
    after: Seq,
    /// At most so many events.
    limit: Option<usize>,
    /// Which events.
    filter: Filter,
    /// Events of one stream, such as `run/<id>`.
    stream: Option<String>,
    /// For `log/position`: the time, milliseconds since 1970.
    at_ms: Option<u64>,
    /// Events whose line contains this text.
    text: Option<String>,
}

/// Answers one of the daemon's own operations; a stream sends all but its last answer to `more`.
pub(crate) async fn answer(
    call: &Call,
    shared: &Shared,
    more: &mpsc::Sender<Reply>,
) -> Result<Value, Refusal> {
    let parts = opened(shared.opening.clone()).await?;
    let params = if call.params.is_null() { json!({}) } else { call.params.clone() };
    match call.op.as_str() {
        "log/compare" => parts.house.compare().await,
        "log/follow" => follow(call.id, &parts, select(&call.op, params)?, more).await,
        op if custody::is_ours(op) => custody::answer(call, &parts, more).await,
        op => {
            let op = op.to_owned();
            blocking(move || read(&op, params, &*parts.log, Some(&*parts.sealer))).await
        }
    }
}

/// Answers a question about a log, which is the store's or a file's. Without keys, what is sealed stays so.
pub(crate) fn read(
    op: &str,
    params: Value,
    log: &dyn LogReader,
    sealer: Option<&dyn Sealer>,
) -> Result<Value, Refusal> {
    let select = select(op, params)?;
    match op {
        "log/stats" => stats(log, &select),
        "log/position" => {
            let at_ms =
                select.at_ms.ok_or_else(|| Refusal::invalid("log/position takes {at_ms}").at("at_ms"))?;
            Ok(json!({ "seq": position_at(log, at_ms)? }))
        }
        _ => page(log, sealer, &select),
    }
}

fn select(op: &str, params: Value) -> Result<Select, Refusal> {
    serde_json::from_value(params).map_err(|e| Refusal::invalid(format!("{op}: {e}")))
}

pub(super) async fn blocking(
    work: impl FnOnce() -> Result<Value, Refusal> + Send + 'static,
) -> Result<Value, Refusal> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|e| Err(Refusal::internal(format!("reading the log failed: {e}"))))
}

fn stats(log: &dyn LogReader, select: &Select) -> Result<Value, Refusal> {
    let range = select.filter.range(log)?;
    let (mut kinds, mut sizes): (BTreeMap<String, u64>, BTreeMap<String, u64>) = Default::default();
    let (mut events, mut bytes, mut first_ms, mut last_ms) = (0u64, 0u64, 0u64, 0u64);
    let mut after = range.start() - 1;
    while after < *range.end() {
        let batch = log.read(after, PAGE_MAX)?;
        let Some(last) = batch.last() else { break };
        after = last.seq;
        for record in batch.iter().filter(|it| range.contains(&it.seq) && select.filter.takes(it)) {
            events += 1;
            let (kind, size) = (kind_name(record.draft.kind), record.draft.payload.len() as u64);
            bytes += size;
            *sizes.entry(kind.clone()).or_default() += size;
            *kinds.entry(kind).or_default() += 1;
            if first_ms == 0 {
                first_ms = record.draft.meta.at_ms;
            }
            last_ms = record.draft.meta.at_ms;
        }
    }
    Ok(json!({
        "events": events, "head": log.head(), "payload_bytes": bytes,
        "first": time(first_ms), "last": time(last_ms), "types": kinds,
        "payload_bytes_by_type": sizes,
    }))
}

/// One page: `{"events": […], "next": position, "head": position}`.
fn page(log: &dyn LogReader, sealer: Option<&dyn Sealer>, select: &Select) -> Result<Value, Refusal> {
    let limit = select.limit.unwrap_or(PAGE_MAX).clamp(1, PAGE_MAX);
    let mut events = Vec::new();
    let range = select.filter.range(log)?;
    let head = log.head();
    if let Some(stream) = &select.stream {
        let mut version = 0;
        loop {
            let batch = log.read_stream(stream, version, PAGE_MAX)?;
            let Some(last) = batch.last() else { break };
            version = last.version;
            for record in batch.iter().filter(|it| it.seq > select.after && range.contains(&it.seq)) {
                events.extend(chosen(record, sealer, select)?);
            }
        }
        return Ok(json!({ "events": events, "next": head, "head": head }));
    }
    let mut after = select.after.max(range.start() - 1);
    while events.len() < limit && after < *range.end() {
        let batch = log.read(after, (limit * 4).min(PAGE_MAX))?;
        if batch.is_empty() {
            break;
        }
        for record in &batch {
            if events.len() == limit || record.seq > *range.end() {
                break;
            }
            after = record.seq;
            events.extend(chosen(record, sealer, select)?);
        }
        if batch.last().is_some_and(|last| last.seq > *range.end()) && events.len() < limit {
            break;
        }
    }
    // Behind the range there is nothing to read on for.
    let next = if events.len() < limit { head.max(after) } else { after };
    Ok(json!({ "events": events, "next": next, "head": head }))
}

/// Sends events as they come, until nobody listens or the log closes.
async fn follow(
    id: u64,
    parts: &Parts,
    select: Select,
    more: &mpsc::Sender<Reply>,
) -> Result<Value, Refusal> {
    let mut after = select.after;
    while parts.log.beyond(after).await.is_some() {
        let (parts, select) = (parts.clone(), Select { after, ..select.clone() });
        let page = blocking(move || page(&*parts.log, Some(&*parts.sealer), &select)).await?;
        after = page.get("next").and_then(Value::as_u64).unwrap_or(after);
        for event in page.get("events").and_then(Value::as_array).into_iter().flatten() {
            let reply = Reply { more: true, ..Reply::result(id, event.clone(), None) };
            if more.send(reply).await.is_err() {
                return Ok(Value::Null);
            }
        }
    }
    Ok(Value::Null)
}

/// The event as JSON, if it is one of those asked for.
fn chosen(record: &Record, sealer: Option<&dyn Sealer>, select: &Select) -> Result<Option<Value>, Refusal> {
    if !select.filter.takes(record) {
        return Ok(None);
    }
    let event = render(record, sealer)?;
    Ok(select.text.as_ref().is_none_or(|text| event.to_string().contains(text.as_str())).then_some(event))
}

/// What an event says; where nobody can open it, how long it is.
fn data(record: &Record, sealer: Option<&dyn Sealer>) -> Result<Value, Refusal> {
    let draft = &record.draft;
    let Some(sealer) = sealer else { return Ok(json!({ "sealed": draft.payload.len() })) };
    let Some(body) = record.body(sealer)? else { return Ok(json!({ "erased": true })) };
    match Event::kinds().find(|info| info.kind == draft.kind) {
        Some(info) => (info.to_json)(draft.schema, &body.event)
            .map_err(|e| Refusal::new(Code::Integrity, format!("position {}: {e}", record.seq))),
        None => Ok(json!({ "unknown_kind": draft.kind.0, "bytes": body.event.len() })),
    }
}

/// An event with its opened payload, the same for every reader.
fn render(record: &Record, sealer: Option<&dyn Sealer>) -> Result<Value, Refusal> {
    let draft = &record.draft;
    let data = data(record, sealer)?;
    let author = &draft.meta.author;
    let mut event = json!({
        "v": 1,
        "seq": record.seq,
        "ts": time(draft.meta.at_ms),
        "type": kind_name(draft.kind),
        "stream": draft.stream,
        "version": record.version,
        "id": draft.id.to_string(),
        "command": draft.meta.command.to_string(),
        "actor": { "kind": author.party, "via": author.channel, "name": author.name },
        "scope": draft.meta.scope,
        "data": data,
        "chain": hex(&record.chain),
    });
    if let (Some(run), Some(object)) = (&draft.meta.run, event.as_object_mut()) {
        object.insert("run".into(), json!(run));
    }
    Ok(event)
}

/// RFC 3339 with milliseconds; null for "never".
fn time(at_ms: u64) -> Value {
    i64::try_from(at_ms)
        .ok()
        .filter(|ms| *ms > 0)
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
        .map_or(Value::Null, |at| json!(format!("{at:.3}")))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
