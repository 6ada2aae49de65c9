//! The log as people read it: statistics, events with their opened payloads, and the ones to come.

use super::connections::Shared;
use super::protocol::{Call, Reply};
use super::server::{Parts, opened};
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
}

/// Where to read on, and what to pass over.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Select {
    /// Positions after this one.
    after: Seq,
    /// At most so many events.
    limit: Option<usize>,
    /// Events whose name contains this.
    r#type: Option<String>,
    /// Events of this layer.
    layer: Option<String>,
    /// Events of this author.
    actor: Option<String>,
    /// Events of one stream, such as `run/<id>`.
    stream: Option<String>,
    /// Events not before this time, milliseconds since 1970.
    since_ms: Option<u64>,
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
    let select: Select =
        serde_json::from_value(params).map_err(|e| Refusal::invalid(format!("{}: {e}", call.op)))?;
    match call.op.as_str() {
        "log/stats" => blocking(move || stats(&*parts.log)).await,
        "log/compare" => parts.house.compare().await,
        "log/position" => blocking(move || position(&*parts.log, &select)).await,
        "log/read" => blocking(move || page(&parts, &select)).await,
        _ => follow(call.id, &parts, select, more).await,
    }
}

async fn blocking(work: impl FnOnce() -> Result<Value, Refusal> + Send + 'static) -> Result<Value, Refusal> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|e| Err(Refusal::internal(format!("reading the log failed: {e}"))))
}

fn stats(log: &dyn LogReader) -> Result<Value, Refusal> {
    let head = log.head();
    let mut kinds: BTreeMap<String, u64> = BTreeMap::new();
    let (mut events, mut bytes, mut after, mut first_ms, mut last_ms) = (0u64, 0u64, 0, 0u64, 0u64);
    while after < head {
        let batch = log.read(after, PAGE_MAX)?;
        let Some(last) = batch.last() else { break };
        after = last.seq;
        for record in &batch {
            events += 1;
            bytes += record.draft.payload.len() as u64;
            *kinds.entry(kind_name(record.draft.kind)).or_default() += 1;
            if first_ms == 0 {
                first_ms = record.draft.meta.at_ms;
            }
            last_ms = record.draft.meta.at_ms;
        }
    }
    Ok(json!({
        "events": events, "head": head, "payload_bytes": bytes,
        "first": time(first_ms), "last": time(last_ms), "types": kinds,
    }))
}

/// The last position not after a time. Times of events never go back, so halving finds it.
fn position(log: &dyn LogReader, select: &Select) -> Result<Value, Refusal> {
    let at_ms = select.at_ms.ok_or_else(|| Refusal::invalid("log/position takes {at_ms}").at("at_ms"))?;
    let (mut low, mut high) = (0, log.head());
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        let is_before =
            log.read(middle - 1, 1)?.first().is_some_and(|record| record.draft.meta.at_ms <= at_ms);
        if is_before { low = middle } else { high = middle - 1 }
    }
    Ok(json!({ "seq": low }))
}

/// One page: `{"events": […], "next": position, "head": position}`.
fn page(parts: &Parts, select: &Select) -> Result<Value, Refusal> {
    let limit = select.limit.unwrap_or(PAGE_MAX).clamp(1, PAGE_MAX);
    let mut events = Vec::new();
    let mut after = select.after;
    let head = parts.log.head();
    if let Some(stream) = &select.stream {
        let mut version = 0;
        loop {
            let batch = parts.log.read_stream(stream, version, PAGE_MAX)?;
            let Some(last) = batch.last() else { break };
            version = last.version;
            for record in batch.iter().filter(|record| record.seq > select.after) {
                events.extend(chosen(record, &*parts.sealer, select)?);
            }
        }
        return Ok(json!({ "events": events, "next": head, "head": head }));
    }
    while events.len() < limit && after < head {
        let batch = parts.log.read(after, (limit * 4).min(PAGE_MAX))?;
        if batch.is_empty() {
            break;
        }
        for record in &batch {
            if events.len() == limit {
                break;
            }
            after = record.seq;
            events.extend(chosen(record, &*parts.sealer, select)?);
        }
    }
    Ok(json!({ "events": events, "next": after, "head": head }))
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
        let page = blocking(move || page(&parts, &select)).await?;
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
fn chosen(record: &Record, sealer: &dyn Sealer, select: &Select) -> Result<Option<Value>, Refusal> {
    let draft = &record.draft;
    let name = kind_name(draft.kind);
    let layer = name.split('.').next().unwrap_or_default();
    let passes = select.r#type.as_ref().is_none_or(|part| name.contains(part))
        && select.layer.as_ref().is_none_or(|wanted| wanted == layer)
        && select.actor.as_ref().is_none_or(|wanted| *wanted == draft.meta.author.name)
        && select.since_ms.is_none_or(|since| draft.meta.at_ms >= since);
    if !passes {
        return Ok(None);
    }
    let event = render(record, sealer)?;
    Ok(select.text.as_ref().is_none_or(|text| event.to_string().contains(text.as_str())).then_some(event))
}

/// An event with its opened payload, the same for `log` and `export`.
pub(crate) fn render(record: &Record, sealer: &dyn Sealer) -> Result<Value, Refusal> {
    let draft = &record.draft;
    let data = match record.body(sealer)? {
        None => json!({ "erased": true }),
        Some(body) => match Event::kinds().find(|info| info.kind == draft.kind) {
            Some(info) => (info.to_json)(draft.schema, &body.event)
                .map_err(|e| Refusal::new(Code::Integrity, format!("position {}: {e}", record.seq)))?,
            None => json!({ "unknown_kind": draft.kind.0, "bytes": body.event.len() }),
        },
    };
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
