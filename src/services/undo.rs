//! `store/undo`: what an event, a run, an import or an earlier undo did is taken back by new events.
//!
//! Which events are meant, what each of them changed (its own declaration says so), whether anything was built on it since, and
//! how the items stood before: all of that is read from the log. Then each layer puts its items back in one event.

use super::{House, answer};
use athena_actors::log::LogHandle;
use athena_projections::past;
use athena_schemas::context::{Context, Scope};
use athena_schemas::envelope::{Record, Seq};
use athena_schemas::event::{Event, kind_name};
use athena_schemas::id::{EventId, Id};
use athena_schemas::layers::common::Layer;
use athena_schemas::layers::store::{Command, KeptEvent, NoteUndo, Undo as Op, UndoDone, UndoneEvent};
use athena_schemas::layers::{consolidation, procedural};
use athena_schemas::ports::{Answer, LogReader, Sealer};
use athena_schemas::refusal::{Code, Refusal};
use athena_schemas::undo::{Undo, Undoable};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// Records read at once.
const PAGE: usize = 512;
/// Most events one undo takes back.
const EVENTS: usize = 100_000;
/// Later changes that a refusal names.
const NAMED: usize = 10;

pub(super) async fn undo(house: &House, cx: &Context, op: Op) -> Result<Answer, Refusal> {
    let look = Look { log: reader(&house.log), sealer: house.sealer.clone(), holds: cx.caller.holds.clone() };
    let (target, force) = (op.target.clone(), op.force);
    let plan = tokio::task::spawn_blocking(move || look.plan(&target, force))
        .await
        .map_err(|error| Refusal::internal(format!("the log could not be looked through: {error}")))??;
    let items = plan.puts.iter().map(|put| put.items).sum();
    let mut done = UndoDone { undone: plan.undone, kept: plan.kept, items, seq: None };
    if done.undone.is_empty() {
        return Err(nothing(&op.target, &done));
    }
    if op.dry_run {
        return answer(done);
    }
    let mut by = Vec::new();
    for (n, put) in plan.puts.into_iter().enumerate() {
        let (label, revert) = (format!("put back {n}"), format!("{}/revert", put.layer.as_str()));
        let images = json!({"items": put.images});
        if let Some(last) = house.follow_at(cx, &put.scope, &label, &revert, images).await?.seq {
            // An event an item, one after the other.
            by.extend(last + 1 - u64::from(put.items)..=last);
        }
    }
    for (n, call) in plan.calls.into_iter().enumerate() {
        let label = format!("call {n}");
        by.extend(house.follow_at(cx, &call.scope, &label, call.op, call.params).await?.seq);
    }
    let undone: Vec<Seq> = done.undone.iter().map(|event| event.seq).collect();
    let note = Command::NoteUndo(NoteUndo { target: op.target, undone, by });
    done.seq = house.note(cx, &cx.scope, note).await?.seq;
    let seq = done.seq;
    Ok(Answer { seq, ..answer(done)? })
}

fn reader(log: &LogHandle) -> Arc<dyn LogReader> {
    log.reader()
}

/// Why there is nothing to take back.
fn nothing(target: &str, done: &UndoDone) -> Refusal {
    match done.kept.first() {
        Some(kept) => Refusal::conflict(format!("{} at position {} cannot be undone", kept.kind, kept.seq))
            .hint(kept.why.clone()),
        None => Refusal::conflict(format!("{target} changed nothing that could be put back")),
    }
}

/// What is to be done.
#[derive(Default)]
struct Plan {
    undone: Vec<UndoneEvent>,
    kept: Vec<KeptEvent>,
    puts: Vec<Put>,
    calls: Vec<OneCall>,
}

/// Items of one layer and scope, as they stood.
struct Put {
    layer: Layer,
    scope: Scope,
    items: u32,
    images: Value,
}

struct OneCall {
    scope: Scope,
    op: &'static str,
    params: Value,
}

/// An event that is meant.
struct Meant {
    record: Record,
    /// `None` where it was erased.
    event: Option<Event>,
}

struct Look {
    log: Arc<dyn LogReader>,
    sealer: Arc<dyn Sealer>,
    holds: Scope,
}

impl Look {
    fn plan(&self, target: &str, force: bool) -> Result<Plan, Refusal> {
        let mut plan = Plan::default();
        let mut changes: Vec<(Layer, Scope, Seq, Vec<Id>)> = Vec::new();
        let mut open: Vec<Seq> = self.targets(target)?;
        let mut seen: BTreeSet<Seq> = BTreeSet::new();
        while let Some(seq) = open.pop() {
            if !seen.insert(seq) {
                continue;
            }
            if seen.len() > EVENTS {
                return Err(Refusal::new(
                    Code::LimitExceeded,
                    format!("more than {EVENTS} events would be undone"),
                ));
            }
            let Meant { record, event } = self.meant(seq)?;
            let (kind, scope) = (kind_name(record.draft.kind), record.draft.meta.scope);
            let keep =
                |plan: &mut Plan, why: String| plan.kept.push(KeptEvent { seq, kind: kind.clone(), why });
            let undone = |plan: &mut Plan, by| plan.undone.push(UndoneEvent { seq, kind: kind.clone(), by });
            let Some(event) = event else {
                keep(&mut plan, "its content was erased".into());
                continue;
            };
            match event.undo() {
                Undo::Record => {}
                Undo::Never(why) => keep(&mut plan, why),
                Undo::Events(seqs) => {
                    undone(&mut plan, seqs.iter().map(Seq::to_string).collect());
                    open.extend(seqs);
                }
                Undo::Made(ids) => {
                    undone(&mut plan, ids.iter().map(Id::to_string).collect());
                    open.extend(self.makers(&ids, seq)?);
                }
                Undo::Call { op, params } => {
                    undone(&mut plan, vec![op.to_owned()]);
                    plan.calls.push(OneCall { scope, op, params });
                }
                Undo::Items(ids) => {
                    match Layer::ALL.into_iter().find(|layer| layer.as_str() == record.draft.stream) {
                        None => keep(&mut plan, "its layer cannot put items back".into()),
                        Some(layer) => {
                            undone(&mut plan, ids.iter().map(Id::to_string).collect());
                            changes.push((layer, scope, seq, ids));
                        }
                    }
                }
            }
        }
        plan.undone.sort_by_key(|event| std::cmp::Reverse(event.seq));
        plan.kept.sort_by_key(|event| std::cmp::Reverse(event.seq));
        if !force {
            self.unchanged_since(&changes, &seen)?;
        }
        plan.puts = self.puts(changes)?;
        Ok(plan)
    }

    /// The events that are named.
    fn targets(&self, target: &str) -> Result<Vec<Seq>, Refusal> {
        if let Ok(seq) = target.parse::<Seq>() {
            return Ok(vec![seq]);
        }
        if target.starts_with("co_") {
            return self.of_pass(target);
        }
        if target.starts_with("run_") {
            return self.of_run(target);
        }
        let id = Id::from_text(target);
        if let Some(layer) = Layer::of(&id) {
            let mut last = None;
            self.each(layer, 0, |record, event| {
                if past::touched(event).contains(&id) {
                    last = Some(record.seq);
                }
            })?;
            return Ok(vec![last.ok_or_else(|| {
                Refusal::not_found(format!("no event changed {target}"))
                    .hint("athena log tail; then name a position")
            })?]);
        }
        let unknown = || {
            Refusal::not_found(format!("{target} names no event, run or item"))
                .at("target")
                .hint("a position of athena log tail, a run_…, or an item's id")
        };
        let id: EventId = target.parse().map_err(|_| unknown())?;
        Ok(vec![self.log.find(id)?.ok_or_else(unknown)?])
    }

    /// The event that records a consolidation pass.
    fn of_pass(&self, pass: &str) -> Result<Vec<Seq>, Refusal> {
        let mut version = 0;
        loop {
            let records = self.log.read_stream(consolidation::LAYER, version, PAGE)?;
            let Some(last) = records.last() else { break };
            version = last.version;
            for record in &records {
                if let Some(Event::Consolidation(consolidation::Event::Consolidated(it))) =
                    record.event::<Event>(&*self.sealer)?
                    && it.run.as_str() == pass
                {
                    return Ok(vec![record.seq]);
                }
            }
        }
        Err(Refusal::not_found(format!("there is no pass {pass}")).hint("consolidation/history"))
    }

    /// All that a run's code led to, and its own record.
    fn of_run(&self, run: &str) -> Result<Vec<Seq>, Refusal> {
        let stream = format!("run/{run}");
        let (mut first, mut last, mut version) = (None, 0, 0);
        loop {
            let records = self.log.read_stream(&stream, version, PAGE)?;
            let Some(end) = records.last() else { break };
            (version, last) = (end.version, end.seq);
            first = first.or(records.first().map(|record| record.seq));
        }
        let first =
            first.ok_or_else(|| Refusal::not_found(format!("there is no {run}")).hint("athena run list"))?;
        let (mut found, mut after) = (Vec::new(), first - 1);
        // What a run led to lies between its first record and its last; a finished run leads to nothing more.
        while after < last {
            let records = self.log.read(after, PAGE)?;
            let Some(end) = records.last() else { break };
            after = end.seq;
            let its = |record: &&Record| {
                record.draft.stream == stream
                    || record.draft.meta.run.as_ref().is_some_and(|id| id.as_str() == run)
            };
            found.extend(records.iter().filter(its).map(|record| record.seq));
        }
        Ok(found)
    }

    /// The events that made these items and put them as they stood at a position.
    fn makers(&self, ids: &[Id], until: Seq) -> Result<Vec<Seq>, Refusal> {
        let mut makers = Vec::new();
        for layer in Layer::ALL {
            let wanted: BTreeSet<&Id> = ids.iter().filter(|id| Layer::of(id) == Some(layer)).collect();
            if wanted.is_empty() {
                continue;
            }
            self.each(layer, 0, |record, event| {
                let made = match event {
                    Event::Procedural(procedural::Event::Learned(it)) => wanted.contains(&it.id),
                    event => past::touched(event).iter().any(|id| wanted.contains(id)),
                };
                if made && record.seq < until {
                    makers.push(record.seq);
                }
            })?;
        }
        Ok(makers)
    }

    fn meant(&self, seq: Seq) -> Result<Meant, Refusal> {
        let missing =
            || Refusal::not_found(format!("there is no event at position {seq}")).hint("athena log tail");
        let record = self
            .log
            .read(seq.checked_sub(1).ok_or_else(missing)?, 1)?
            .into_iter()
            .find(|record| record.seq == seq)
            .filter(|record| self.holds.covers(&record.draft.meta.scope))
            .ok_or_else(missing)?;
        let event = record.event::<Event>(&*self.sealer)?;
        Ok(Meant { record, event })
    }

    /// Refuses where the same items were changed since by events that are not taken back with these.
    fn unchanged_since(
        &self,
        changes: &[(Layer, Scope, Seq, Vec<Id>)],
        taken: &BTreeSet<Seq>,
    ) -> Result<(), Refusal> {
        let mut later: BTreeMap<Seq, String> = BTreeMap::new();
        for layer in Layer::ALL {
            let mut first: HashMap<&Id, Seq> = HashMap::new();
            for (_, _, seq, ids) in changes.iter().filter(|(of, ..)| *of == layer) {
                for id in ids {
                    first.entry(id).and_modify(|known| *known = (*known).min(*seq)).or_insert(*seq);
                }
            }
            let Some(earliest) = first.values().min() else { continue };
            let version = self.meant(*earliest)?.record.version;
            self.each(layer, version, |record, event| {
                let touches = |id: &Id| first.get(id).is_some_and(|since| record.seq > *since);
                if !taken.contains(&record.seq) && past::touched(event).iter().any(touches) {
                    later.insert(record.seq, kind_name(record.draft.kind));
                }
            })?;
        }
        let Some((seq, kind)) = later.first_key_value() else { return Ok(()) };
        let named: Vec<String> =
            later.iter().take(NAMED).map(|(seq, kind)| format!("{seq} ({kind})")).collect();
        let refusal = if kind.ends_with(".reverted") && later.len() == 1 {
            Refusal::conflict(format!("it was taken back already, at position {seq}"))
                .hint(format!("undo {seq} to do it again"))
        } else {
            Refusal::conflict(format!("the same items were changed since, at {}", named.join(", ")))
                .hint("undo those first, or force it: the later changes are lost with it")
        };
        Err(refusal.with(json!({"later": later.keys().collect::<Vec<_>>()})))
    }

    /// How the items stood before the first change to each, by layer and scope.
    fn puts(&self, changes: Vec<(Layer, Scope, Seq, Vec<Id>)>) -> Result<Vec<Put>, Refusal> {
        let mut wanted: BTreeMap<(Layer, Scope), BTreeMap<Id, Seq>> = BTreeMap::new();
        for (layer, scope, seq, ids) in changes {
            let group = wanted.entry((layer, scope)).or_default();
            for id in ids {
                group.entry(id).and_modify(|known| *known = (*known).min(seq)).or_insert(seq);
            }
        }
        wanted
            .into_iter()
            .map(|((layer, scope), ids)| {
                let ids: Vec<(Id, Seq)> = ids.into_iter().collect();
                let images = past::before(&*self.log, &*self.sealer, layer, &ids)?;
                Ok(Put { layer, scope, items: ids.len() as u32, images })
            })
            .collect()
    }

    /// Every readable event of a layer after a version of its stream.
    fn each(
        &self,
        layer: Layer,
        mut version: u64,
        mut visit: impl FnMut(&Record, &Event),
    ) -> Result<(), Refusal> {
        loop {
            let records = self.log.read_stream(layer.as_str(), version, PAGE)?;
            let Some(last) = records.last() else { return Ok(()) };
            version = last.version;
            for record in &records {
                if let Some(event) = record.event::<Event>(&*self.sealer)? {
                    visit(record, &event);
                }
            }
        }
    }
}
