//! Retention: what run records keep beyond the settings is dropped, on record, and its room given back.
//!
//! A run is due when it ended before a time, or when run records take more than they may and it is among the oldest. What is
//! dropped of it are the payloads of its answers, and of large texts that no other run needs. That gives back most of what a
//! record takes; that it ran, what it called, how it ended and every hash stay. Memories, approvals, disclosures and whatever
//! else state is folded from are never due: they go by being forgotten, or not at all.
//!
//! The order is what keeps it honest: [`Retired`] is recorded and synced first, with the positions and a hash over what will be
//! left of them, and only then are payloads dropped. A crash in between is made good by [`settle`]; a payload that is gone
//! without a word on record is what `athena log verify` calls damage.

use crate::log::{Append, Durability, LogHandle};
use crate::run::text_ids;
use athena_schemas::context::{Channel, Party, Scope};
use athena_schemas::envelope::{Author, Body, DecodeError, Draft, Meta, Record, Seq, Versioned, exactly};
use athena_schemas::id::{CommandId, EventId, Id};
use athena_schemas::layers::run::{self, Answered, BlobKept, Finished, SessionExpired, StateSaved, Text};
use athena_schemas::layers::store::{self, Retired};
use athena_schemas::ports::{LogReader, Sealer};
use athena_schemas::refusal::Refusal;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// What the names of streams of run records begin with.
const RUNS: &str = "run/";

/// The stream of the records of what was retired.
const STREAM: &str = "retention";

/// Nothing younger than this is ever retired, milliseconds: a run that begins may still name what was kept a day ago.
pub const YOUNGEST_MS: u64 = 2 * 24 * 60 * 60 * 1_000;

/// Payloads one record speaks of at most, and runs.
const PAYLOADS_MAX: usize = 4_096;
const RUNS_MAX: usize = 512;

/// Records read at once.
const PAGE: usize = 512;

/// The small facts that say up to which record payloads have been dropped, and when was last looked for what is due.
const SETTLED: &[u8] = b"retired";
const LOOKED: &[u8] = b"retention looked";
/// Of the last look: when the oldest run ended that was left, and what was to be kept.
const OLDEST: &[u8] = b"retention oldest";
const LOOKED_UNDER: &[u8] = b"retention policy";

/// What is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// Runs that ended longer ago are due, milliseconds; `None` is never.
    pub age_ms: Option<u64>,
    /// What run records may take, bytes of payload; `None` is any amount.
    pub bytes: Option<u64>,
    /// Runs that are never due.
    pub pinned: BTreeSet<Id>,
}

/// What is due, and what is not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Due {
    /// Runs that lose their answers, oldest first, each with the positions of what it loses.
    pub runs: Vec<(Id, Vec<Seq>)>,
    /// Positions of texts that only they needed.
    pub texts: Vec<Seq>,
    /// Bytes of all these payloads.
    pub bytes: u64,
    /// Bytes of all payloads that can be retired at all, these included.
    pub kept_bytes: u64,
    /// What ended before this is due, milliseconds since 1970.
    pub before_ms: u64,
    /// Runs that were retired before.
    pub retired: u64,
    /// Runs that have not ended.
    pub unfinished: u64,
    /// Runs that are pinned.
    pub pinned: u64,
    /// When the oldest run ended that is left and may become due, milliseconds since 1970; 0 where only a run that has not ended
    /// keeps it.
    pub oldest_ms: Option<u64>,
}

impl Due {
    /// How many payloads that are.
    pub fn payloads(&self) -> u64 {
        (self.runs.iter().map(|(_, positions)| positions.len()).sum::<usize>() + self.texts.len()) as u64
    }
}

/// A run as its outlines tell it.
#[derive(Default)]
struct Seen {
    /// When it ended.
    ended_ms: Option<u64>,
    /// Positions of its answers that are still there.
    answers: Vec<Seq>,
    /// Their bytes.
    bytes: u64,
}

/// A large text that was kept.
struct Kept {
    id: EventId,
    seq: Seq,
    at_ms: u64,
    bytes: u64,
}

/// Finds what is due at a time. Reads the whole log; blocking.
///
/// # Errors
/// When the log cannot be read.
pub fn due(log: &LogHandle, sealer: &dyn Sealer, policy: &Policy, now_ms: u64) -> Result<Due, Refusal> {
    let reader = log.reader();
    let retired: HashSet<Id> =
        records(&*reader, 0)?.into_iter().flat_map(|(_, _, retired)| retired.runs).collect();
    let (mut runs, mut texts) = (BTreeMap::<Id, Seen>::new(), Vec::new());
    let mut states = Vec::new();
    log.outline(0, &mut |event| {
        let Some(name) = event.stream.strip_prefix(RUNS) else { return true };
        match event.kind {
            BlobKept::KIND if !event.dropped => {
                texts.push(Kept { id: event.id, seq: event.seq, at_ms: event.at_ms, bytes: event.bytes })
            }
            StateSaved::KIND | SessionExpired::KIND => states.push(event.seq),
            _ if name.starts_with("run_") => {
                let run = runs.entry(Id::from_text(name)).or_default();
                if event.kind == Finished::KIND {
                    run.ended_ms = Some(event.at_ms);
                } else if event.kind == Answered::KIND && !event.dropped {
                    run.answers.push(event.seq);
                    run.bytes += event.bytes;
                }
            }
            _ => {}
        }
        true
    })?;

    let mut due = Due { retired: retired.len() as u64, ..Due::default() };
    due.kept_bytes = runs.values().map(|run| run.bytes).chain(texts.iter().map(|text| text.bytes)).sum();
    let mut candidates: Vec<(u64, Id)> = Vec::new();
    for (id, run) in &runs {
        match run.ended_ms {
            None => due.unfinished += 1,
            Some(_) if policy.pinned.contains(id) => due.pinned += 1,
            Some(_) if retired.contains(id) => {}
            Some(ended_ms) => candidates.push((ended_ms, id.clone())),
        }
    }
    candidates.sort();
    let youngest = now_ms.saturating_sub(YOUNGEST_MS);
    let by_age = policy.age_ms.map_or(0, |age| now_ms.saturating_sub(age)).min(youngest);
    let mut beyond = policy.bytes.map_or(0, |most| due.kept_bytes.saturating_sub(most));
    let mut going = BTreeSet::new();
    for (ended_ms, id) in candidates {
        if ended_ms >= by_age && (beyond == 0 || ended_ms >= youngest) {
            due.oldest_ms.get_or_insert(ended_ms);
            break;
        }
        if is_below_an_open_run(&*reader, sealer, &runs, &id)? {
            due.unfinished += 1;
            due.oldest_ms = Some(0);
            continue;
        }
        due.before_ms = ended_ms + 1;
        let run = runs.get(&id).map(|run| (run.answers.clone(), run.bytes)).unwrap_or_default();
        beyond = beyond.saturating_sub(run.1);
        due.bytes += run.1;
        going.insert(id.clone());
        due.runs.push((id, run.0));
    }
    if due.runs.is_empty() {
        return Ok(due);
    }
    // A text goes when nobody is left who needs it.
    let staying = runs.keys().filter(|id| !going.contains(*id) && !retired.contains(*id));
    let needed = needed(&*reader, sealer, staying, &states)?;
    for text in texts {
        if text.at_ms < youngest && !needed.contains(&text.id) {
            due.bytes += text.bytes;
            due.texts.push(text.seq);
        }
    }
    Ok(due)
}

/// Whether a run was started, however indirectly, by one that has not ended: who judges that one may ask what it called.
fn is_below_an_open_run(
    reader: &dyn LogReader,
    sealer: &dyn Sealer,
    runs: &BTreeMap<Id, Seen>,
    run: &Id,
) -> Result<bool, Refusal> {
    let mut run = run.clone();
    loop {
        let first = reader.read_stream(&format!("{RUNS}{run}"), 0, 1)?;
        let event = first.first().map(|record| record.event::<run::Event>(sealer)).transpose()?.flatten();
        let Some(run::Event::Started(run::Started { parent: Some(parent), .. })) = event else {
            return Ok(false);
        };
        // A run began after the one that started it, so this ends.
        match runs.get(&parent) {
            Some(above) if parent < run && above.ended_ms.is_some() => run = parent,
            Some(above) => return Ok(above.ended_ms.is_none()),
            None => return Ok(false),
        }
    }
}

/// The ids of the texts that these runs and the states of living sessions name.
fn needed<'a>(
    reader: &dyn LogReader,
    sealer: &dyn Sealer,
    runs: impl Iterator<Item = &'a Id>,
    states: &[Seq],
) -> Result<HashSet<EventId>, Refusal> {
    let mut needed = HashSet::new();
    let mut note = |record: &Record| -> Result<(), Refusal> {
        if let Some(event) = record.event::<run::Event>(sealer)? {
            for hash in hashes(&event) {
                needed.extend(text_ids(reader, record.draft.meta.scope.vault(), hash)?);
            }
        }
        Ok(())
    };
    for run in runs {
        let mut version = 0;
        loop {
            let page = reader.read_stream(&format!("{RUNS}{run}"), version, PAGE)?;
            page.iter().try_for_each(&mut note)?;
            match page.last() {
                Some(last) if page.len() == PAGE => version = last.version,
                _ => break,
            }
        }
    }
    // Of a session, its last state.
    let mut sessions = HashMap::new();
    for seq in states {
        for record in reader.read(seq - 1, 1)? {
            match record.event::<run::Event>(sealer)? {
                Some(run::Event::StateSaved(saved)) => drop(sessions.insert(saved.key, record)),
                Some(run::Event::SessionExpired(expired)) => drop(sessions.remove(&expired.key)),
                _ => {}
            }
        }
    }
    sessions.values().try_for_each(&mut note)?;
    Ok(needed)
}

/// The hashes of the large texts an event names.
fn hashes(event: &run::Event) -> Vec<&str> {
    let texts: Vec<Option<&Text>> = match event {
        run::Event::Started(it) => {
            vec![Some(&it.code), Some(&it.input), Some(&it.state), Some(&it.surface)]
        }
        run::Event::Called(it) => vec![Some(&it.params)],
        run::Event::Answered(it) => vec![it.result.as_ref().map_or_else(Some, Some)],
        run::Event::Finished(it) => vec![it.value.as_ref(), it.state.as_ref()],
        run::Event::StateSaved(it) => vec![Some(&it.state)],
        _ => Vec::new(),
    };
    texts
        .into_iter()
        .flatten()
        .filter_map(|text| match text {
            Text::Blob { hash, .. } => Some(hash.as_str()),
            Text::Inline(_) => None,
        })
        .collect()
}

/// Records what is due and drops it. Answers the position of the last record.
///
/// # Errors
/// When the log cannot take the record or the disk fails: what is on record and not yet dropped is dropped by [`settle`].
pub async fn retire(log: &LogHandle, due: Due, now_ms: u64) -> Result<Option<Seq>, Refusal> {
    let mut last = None;
    for (runs, positions) in portions(&due) {
        let (handle, listed) = (log.clone(), positions.clone());
        let (dropping, bytes) = blocking(move || {
            let mut bytes = 0;
            for seq in &listed {
                handle.outline(seq - 1, &mut |event| {
                    bytes += event.bytes;
                    false
                })?;
            }
            Ok((handle.prepare_drop(&listed)?, bytes))
        })
        .await?;
        let retired = Retired {
            runs,
            spans: spans(&positions),
            events: positions.len() as u64,
            bytes,
            before_ms: due.before_ms,
            digest: dropping.digest,
        };
        let receipt = log
            .commit(Append {
                drafts: vec![draft(&retired, now_ms)?],
                durability: Durability::Sync,
                ..Append::default()
            })
            .await?;
        last = Some(receipt.last);
        log.drop_payloads(dropping).await?;
    }
    if last.is_some() {
        settle(log).await?;
    }
    Ok(last)
}

/// Drops what is on record as retired and may still be there: after a crash, or when it is sure to be done.
///
/// # Errors
/// When the disk fails.
pub async fn settle(log: &LogHandle) -> Result<(), Refusal> {
    let settled = fact(log, SETTLED)?;
    let handle = log.clone();
    let open = blocking(move || records(&*handle.reader(), settled)).await?;
    let Some(last) = open.last().map(|(version, _, _)| *version) else { return Ok(()) };
    for (_, _, retired) in open {
        let handle = log.clone();
        let dropping =
            blocking(move || Ok(handle.prepare_drop(&retired.positions().collect::<Vec<_>>())?)).await?;
        log.drop_payloads(dropping).await?;
    }
    note(log, SETTLED, last).await
}

/// When [`note_looked`] was last told, milliseconds since 1970; 0 where it never was.
///
/// # Errors
/// When the log cannot be read.
pub fn looked_ms(log: &LogHandle) -> Result<u64, Refusal> {
    fact(log, LOOKED)
}

/// Remembers when was looked for what is due and what was left, across restarts: see [`may_be_due`].
///
/// # Errors
/// When the log is closed or the disk fails.
pub async fn note_looked(log: &LogHandle, policy: &Policy, due: &Due, now_ms: u64) -> Result<(), Refusal> {
    note(log, LOOKED, now_ms).await?;
    // A run that has not ended yet ends later than now.
    note(log, OLDEST, due.oldest_ms.unwrap_or(now_ms).min(now_ms)).await?;
    note(log, LOOKED_UNDER, print_of(policy)).await
}

/// Whether anything can have become due since the last look, so that looking through the whole log is worth it: not by age
/// before the oldest run that was left reaches it. Where bytes are limited, their sum has to be taken.
///
/// # Errors
/// When the log cannot be read.
pub fn may_be_due(log: &LogHandle, policy: &Policy, now_ms: u64) -> Result<bool, Refusal> {
    let by_age = match policy.age_ms {
        None => false,
        Some(age) => now_ms > fact(log, OLDEST)?.saturating_add(age.max(YOUNGEST_MS)),
    };
    Ok(by_age || policy.bytes.is_some() || fact(log, LOOKED_UNDER)? != print_of(policy))
}

/// Tells one policy from another.
fn print_of(policy: &Policy) -> u64 {
    let hash = blake3::hash(format!("{policy:?}").as_bytes());
    u64::from_le_bytes(*hash.as_bytes().first_chunk().unwrap_or(&[0; 8]))
}

fn fact(log: &LogHandle, name: &[u8]) -> Result<u64, Refusal> {
    let kept = log.recall(name)?;
    Ok(kept.first().and_then(|(_, value)| value.as_slice().try_into().ok()).map_or(0, u64::from_le_bytes))
}

async fn note(log: &LogHandle, name: &[u8], value: u64) -> Result<(), Refusal> {
    Ok(log.remember(vec![(name.to_vec(), Some(value.to_le_bytes().to_vec()))]).await?)
}

/// When the record of a run was retired, milliseconds since 1970; `None` where it was not.
///
/// # Errors
/// When the log cannot be read.
pub fn retired_at(reader: &dyn LogReader, run: &Id) -> Result<Option<u64>, Refusal> {
    let found = records(reader, 0)?.into_iter().find(|(_, _, retired)| retired.runs.contains(run));
    Ok(found.map(|(_, at_ms, _)| at_ms))
}

/// Whether a stream holds records of runs: nothing else is ever retired.
pub fn is_of_runs(stream: &str) -> bool {
    stream.starts_with(RUNS)
}

/// What a record says was retired; `None` for any other record.
///
/// # Errors
/// When it is one, and not of its shape.
pub fn retired(record: &Record) -> Result<Option<Retired>, DecodeError> {
    let draft = &record.draft;
    if draft.kind != Retired::KIND || draft.stream != STREAM || draft.meta.key.is_some() {
        return Ok(None);
    }
    let body: Body = exactly(&draft.payload)?;
    Retired::decode(draft.schema, &body.event).map(Some)
}

/// All records of what was retired after a version of their stream, with that version and their time.
fn records(reader: &dyn LogReader, after: u64) -> Result<Vec<(u64, u64, Retired)>, Refusal> {
    let (mut found, mut version) = (Vec::new(), after);
    loop {
        let page = reader.read_stream(STREAM, version, PAGE)?;
        let Some(last) = page.last() else { return Ok(found) };
        version = last.version;
        for record in &page {
            let read = retired(record).map_err(|error| Refusal::internal(error.to_string()))?;
            found.extend(read.map(|it| (record.version, record.draft.meta.at_ms, it)));
        }
    }
}

/// What one record speaks of: runs, and positions in order.
fn portions(due: &Due) -> Vec<(Vec<Id>, Vec<Seq>)> {
    let mut portions: Vec<(Vec<Id>, Vec<Seq>)> = Vec::new();
    let runs = due.runs.iter().map(|(id, positions)| (Some(id), positions.as_slice()));
    for (id, positions) in runs.chain([(None, due.texts.as_slice())]) {
        let room = portions.last().is_some_and(|(runs, _)| runs.len() < RUNS_MAX);
        if portions.is_empty() || (id.is_some() && !room) {
            portions.push((Vec::new(), Vec::new()));
        }
        if let Some((runs, _)) = portions.last_mut() {
            runs.extend(id.cloned());
        }
        for seq in positions {
            if portions.last().is_some_and(|(_, positions)| positions.len() >= PAYLOADS_MAX) {
                portions.push((Vec::new(), Vec::new()));
            }
            if let Some((_, positions)) = portions.last_mut() {
                positions.push(*seq);
            }
        }
    }
    for (_, positions) in &mut portions {
        positions.sort_unstable();
    }
    portions
}

/// Positions, ascending, as first and last of each unbroken row.
fn spans(positions: &[Seq]) -> Vec<(Seq, Seq)> {
    let mut spans: Vec<(Seq, Seq)> = Vec::new();
    for seq in positions {
        match spans.last_mut() {
            Some((_, last)) if *last + 1 == *seq => *last = *seq,
            _ => spans.push((*seq, *seq)),
        }
    }
    spans
}

/// In the clear, so that whoever checks the log can read it without a key: it names runs and positions, no content. Its id
/// follows from what it says, so that it is recorded once.
fn draft(retired: &Retired, now_ms: u64) -> Result<Draft, Refusal> {
    let digest: String = retired.digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let command = CommandId::from_key(STREAM, &format!("{digest}/{:?}", retired.runs));
    let author = Author { party: Party::System, channel: Channel::Internal, name: "retention".into() };
    let meta = Meta { at_ms: now_ms, scope: Scope::default(), author, command, run: None, key: None };
    Draft::of(STREAM, command.event(0), meta, &store::Event::from(retired.clone()), None)
        .map_err(|error| Refusal::internal(error.to_string()))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Refusal::internal(format!("retention failed: {error}")))?
}

#[cfg(test)]
mod tests;
