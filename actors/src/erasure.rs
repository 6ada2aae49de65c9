//! What the log asks to have erased, and which events hold it.
//!
//! A tombstone names items. Their content stands in the events that made and annotated them, and in the records of runs
//! whose code stored, found or quoted them: such a record goes as a whole, because its other events may tell parts of it. What
//! a person was shown when asked for an approval goes where it quotes them. What names an item without telling its content (that
//! it was rated, hidden, moved) stays, as does the tombstone: both are needed to fold the log to the same state without the content.

use aho_corasick::AhoCorasick;
use athena_schemas::envelope::{KeyRef, Kind, Record, Seq, Versioned};
use athena_schemas::event::{Event, kind_name};
use athena_schemas::id::{EventId, Id};
use athena_schemas::layers::common::Forgetting;
use athena_schemas::layers::{
    approval, consolidation, episodic, graph, procedural, prospective, semantic, store,
};
use athena_schemas::ports::{LogReader, Opened, Sealer};
use athena_schemas::refusal::Refusal;
use std::collections::{BTreeSet, HashMap, HashSet};

/// Records read at once.
const PAGE: usize = 1_024;

/// A text shorter than this, bytes, is not looked for in the records of runs: it would be found where nobody quoted it. Its
/// item's id is.
const QUOTE_MIN: usize = 8;

/// Events that hold something of what is to be erased.
#[derive(Debug, Default)]
pub struct Holders {
    /// Their keys' names and their ids.
    pub events: Vec<(KeyRef, EventId)>,
    /// How many records of runs, texts kept for them and states of sessions are among them.
    pub runs: usize,
    /// How many of what people were asked and answered are among them.
    pub approvals: usize,
}

/// The items that tombstones at the positions after `after`, up to `until`, ask to have erased.
///
/// # Errors
/// When the log cannot be read.
pub fn tombstones(
    reader: &dyn LogReader,
    sealer: &dyn Sealer,
    after: Seq,
    until: Seq,
) -> Result<HashSet<Id>, Refusal> {
    let mut ids = HashSet::new();
    each(reader, after, until, |record| {
        let kind = record.draft.kind;
        if [episodic::Forgotten::KIND, semantic::Discarded::KIND, store::ItemsErased::KIND].contains(&kind) {
            match record.event::<Event>(sealer)? {
                Some(Event::Store(store::Event::ItemsErased(event))) => ids.extend(event.ids),
                Some(Event::Episodic(episodic::Event::Forgotten(event)))
                    if event.mode == Forgetting::Erase =>
                {
                    ids.extend(event.ids);
                }
                Some(Event::Semantic(semantic::Event::Discarded(event)))
                    if event.mode == Forgetting::Erase =>
                {
                    ids.extend(event.ids);
                }
                _ => {}
            }
        }
        Ok(())
    })?;
    Ok(ids)
}

/// The events up to `until` that hold something of these items.
///
/// # Errors
/// When the log cannot be read.
pub fn holders(
    reader: &dyn LogReader,
    sealer: &dyn Sealer,
    ids: &HashSet<Id>,
    until: Seq,
) -> Result<Holders, Refusal> {
    // An item is as old as its id says, so nothing of an earlier time is opened.
    let since = ids.iter().map(|id| id.ulid().map_or(0, |ulid| (ulid >> 80) as u64)).min().unwrap_or(0);
    let mut found = Holders::default();
    let mut needles: BTreeSet<String> = ids.iter().map(Id::to_string).collect();
    let (mut vaults, mut runs) = (HashSet::new(), HashSet::new());
    // Runs of erased procedures: what was said of how they turned out is about the procedure.
    let mut ran = HashSet::new();
    let (mut first_run, mut proposals) = (None, HashMap::new());
    each(reader, 0, until, |record| {
        if may_quote(&record.draft.stream) {
            first_run.get_or_insert(record.seq);
        }
        // A proposal is older than the fact it became.
        let kind = record.draft.kind;
        let old = record.draft.meta.at_ms < since && kind != consolidation::Proposed::KIND;
        if old || !makes_or_annotates(kind) {
            return Ok(());
        }
        let Some(event) = record.event::<Event>(sealer)? else { return Ok(()) };
        match &event {
            Event::Procedural(procedural::Event::Executed(it)) if ids.contains(&it.id) => {
                ran.insert(it.run.clone());
                return Ok(());
            }
            Event::Procedural(procedural::Event::OutcomeRecorded(it)) if ran.contains(&it.run) => {
                let key = record.draft.meta.key.clone();
                found.events.extend(key.map(|key| (key, record.draft.id)));
                return Ok(());
            }
            _ => {}
        }
        let meta = &record.draft.meta;
        match &event {
            Event::Consolidation(consolidation::Event::Proposed(it)) => {
                proposals.insert(it.id.clone(), (meta.key.clone(), record.draft.id));
            }
            // The text of a fact that was proposed stands in the proposal, too.
            Event::Consolidation(consolidation::Event::Judged(it))
                if it.fact.as_ref().is_some_and(|fact| ids.contains(fact)) =>
            {
                let held = proposals.get(&it.id).cloned();
                found.events.extend(held.and_then(|(key, id)| Some((key?, id))));
            }
            _ => {}
        }
        let Some(told) = own(&event, ids) else { return Ok(()) };
        found.events.extend(meta.key.clone().map(|key| (key, record.draft.id)));
        vaults.insert(meta.scope.vault().to_owned());
        runs.extend(meta.run.iter().map(|run| format!("run/{run}")));
        for text in told.iter().map(|text| text.trim()).filter(|text| text.len() >= QUOTE_MIN) {
            // As it is in a text, and as it is in the JSON of a call.
            let quoted = serde_json::Value::from(text).to_string();
            needles.insert(quoted.trim_matches('"').to_owned());
            needles.insert(text.to_owned());
        }
        Ok(())
    })?;
    let Some(first_run) = first_run else { return Ok(found) };
    let needles = AhoCorasick::new(&needles).map_err(|error| Refusal::internal(error.to_string()))?;
    let mut telling = BTreeSet::new();
    each(reader, first_run - 1, until, |record| {
        let meta = &record.draft.meta;
        let stream = &record.draft.stream;
        let near = meta.at_ms >= since || runs.contains(stream);
        if !near || !may_quote(stream) || !vaults.contains(meta.scope.vault()) || telling.contains(stream) {
            return Ok(());
        }
        if let Opened::Plain(bytes) = sealer.open(&record.draft)?
            && needles.is_match(&bytes)
        {
            if stream.starts_with("run/run_") {
                telling.insert(stream.clone());
            } else if stream == approval::LAYER {
                found.events.extend(meta.key.clone().map(|key| (key, record.draft.id)));
                found.approvals += 1;
            } else {
                // Texts kept for many runs and states of sessions stand for themselves.
                found.events.extend(meta.key.clone().map(|key| (key, record.draft.id)));
                found.runs += 1;
            }
        }
        Ok(())
    })?;
    for run in telling {
        let mut version = 0;
        loop {
            let page = reader.read_stream(&run, version, PAGE)?;
            let Some(last) = page.last() else { break };
            version = last.version;
            let keys = page.into_iter().filter_map(|record| Some((record.draft.meta.key?, record.draft.id)));
            found.events.extend(keys);
        }
        found.runs += 1;
    }
    Ok(found)
}

/// Whether what is recorded there may quote items of others: runs, and what people were asked.
fn may_quote(stream: &str) -> bool {
    stream.starts_with("run/") || stream == approval::LAYER
}

fn makes_or_annotates(kind: Kind) -> bool {
    let whole = [prospective::LAYER, graph::LAYER, procedural::LAYER];
    [
        episodic::Remembered::KIND,
        episodic::Annotated::KIND,
        episodic::Reverted::KIND,
        semantic::Stored::KIND,
        semantic::Retracted::KIND,
        semantic::Reverted::KIND,
        consolidation::Proposed::KIND,
        consolidation::Judged::KIND,
    ]
    .contains(&kind)
        || whole.contains(&kind_name(kind).split('.').next().unwrap_or_default())
}

/// The texts in which an event tells of one of the items; `None` where it tells of none of them.
fn own(event: &Event, ids: &HashSet<Id>) -> Option<Vec<String>> {
    let (id, texts): (&Id, Vec<&String>) = match event {
        Event::Episodic(episodic::Event::Remembered(it)) => (&it.id, vec![&it.content]),
        Event::Episodic(episodic::Event::Annotated(it)) => (&it.id, vec![&it.meta]),
        Event::Semantic(semantic::Event::Stored(it)) => (&it.id, vec![&it.content]),
        Event::Semantic(semantic::Event::Retracted(it)) => (&it.id, vec![&it.reason]),
        Event::Prospective(event) => match event {
            prospective::Event::TaskCreated(it) => {
                (&it.id, [&it.title].into_iter().chain(&it.notes).collect())
            }
            prospective::Event::TaskUpdated(it) => {
                (&it.id, it.title.iter().chain(&it.notes).chain(&it.outcome).collect())
            }
            prospective::Event::GoalCreated(it) => {
                (&it.id, [&it.title].into_iter().chain(&it.measure).collect())
            }
            prospective::Event::GoalUpdated(it) => (&it.id, it.title.iter().chain(&it.measure).collect()),
            prospective::Event::TriggerRegistered(it) => {
                (&it.id, it.note.iter().chain(&it.matches).collect())
            }
            // Its images hold whole items.
            prospective::Event::Reverted(it) => (&it.items.first()?.id, Vec::new()),
            prospective::Event::TriggerRemoved(_) | prospective::Event::Relocated(_) => return None,
        },
        Event::Graph(event) => match event {
            graph::Event::EntityAdded(it) => (&it.id, vec![&it.attrs]),
            graph::Event::EntityUpdated(it) => (&it.id, vec![&it.attrs]),
            graph::Event::EntitySplit(it) => (&it.into, Vec::new()),
            graph::Event::EdgeAdded(it) => (&it.id, Vec::new()),
            graph::Event::EdgeInvalidated(it) => (&it.id, it.reason.iter().collect()),
            graph::Event::Reverted(it) => (&it.items.first()?.id, Vec::new()),
            graph::Event::EntitiesMerged(_)
            | graph::Event::EntityDeleted(_)
            | graph::Event::EntityRestored(_)
            | graph::Event::Relocated(_) => return None,
        },
        Event::Procedural(procedural::Event::Learned(it)) => (&it.id, vec![&it.code, &it.description]),
        // An undo is recorded item by item; its images hold annotations and reasons.
        Event::Episodic(episodic::Event::Reverted(it)) => {
            let past = it.items.first()?;
            (&past.id, past.to.iter().map(|to| &to.meta).collect())
        }
        Event::Semantic(semantic::Event::Reverted(it)) => {
            let past = it.items.first()?;
            (&past.id, past.to.iter().filter_map(|to| to.reason.as_ref()).collect())
        }
        Event::Consolidation(consolidation::Event::Proposed(it)) => {
            return it.sources.iter().any(|id| ids.contains(id)).then(|| vec![it.content.clone()]);
        }
        _ => return None,
    };
    ids.contains(id).then(|| texts.into_iter().cloned().collect())
}

fn each(
    reader: &dyn LogReader,
    mut after: Seq,
    until: Seq,
    mut visit: impl FnMut(&Record) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    while after < until {
        let page = reader.read(after, PAGE)?;
        let Some(last) = page.last() else { break };
        after = last.seq;
        page.iter().take_while(|record| record.seq <= until).try_for_each(&mut visit)?;
    }
    Ok(())
}
