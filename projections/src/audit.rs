//! Who did what: how much each author recorded, and one by one what people answer for.
//!
//! An entry is a line of text made from an event, not the event: what an auditor wants to see of it. Sensitive values are tokens
//! there as everywhere; what was erased leaves an entry without text.

use crate::store::{Batch, Fold, Order, Store, StoreError, Table, decode};
use athena_schemas::context::{Channel, Party};
use athena_schemas::envelope::{Author, Kind, Seq};
use athena_schemas::event::{Event, kind_name};
use athena_schemas::id::Id;
use athena_schemas::layers::common::{Forgetting, time};
use athena_schemas::layers::meta::{AuditEntry, Concern, Deeds};
use athena_schemas::layers::{approval, episodic, privacy, run, semantic, store, upstream};
use athena_schemas::ports::Recorded;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ops::Bound;

const DAY_MS: u64 = 86_400_000;

/// An entry as it is kept, under its position.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Row {
    at_ms: u64,
    concern: Concern,
    kind: u16,
    party: Party,
    via: Channel,
    actor: String,
    project: Option<String>,
    run: Option<Id>,
    text: String,
}

/// What is counted under a day: one author's events of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Who {
    party: Party,
    via: Channel,
    actor: String,
    kind: u16,
}

/// Events counted, with the times of the first and the last.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Count {
    events: u64,
    first_ms: u64,
    last_ms: u64,
}

impl Count {
    fn add(&mut self, more: Self) {
        self.events += more.events;
        self.first_ms = self.first_ms.min(more.first_ms);
        self.last_ms = self.last_ms.max(more.last_ms);
    }
}

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Milliseconds since 1970, from the first inclusive to the second exclusive.
    pub range: Option<(i64, i64)>,
    /// One author.
    pub actor: Option<String>,
    /// One run.
    pub run: Option<Id>,
}

impl Wanted {
    fn takes(&self, row: &Row) -> bool {
        let at = i64::try_from(row.at_ms).unwrap_or(i64::MAX);
        self.range.is_none_or(|(from, to)| (from..to).contains(&at))
            && self.actor.as_ref().is_none_or(|actor| *actor == row.actor)
            && (self.run.is_none() || self.run == row.run)
    }

    fn takes_day(&self, day: u64, who: &Who) -> bool {
        let begins = i64::try_from(day.saturating_mul(DAY_MS)).unwrap_or(i64::MAX);
        let inside = self.range.is_none_or(|(from, to)| begins < to && from < begins + DAY_MS as i64);
        inside && self.actor.as_ref().is_none_or(|actor| *actor == who.actor)
    }
}

/// The newest entries, how many there are of each concern, and in all.
pub type Entries = (Vec<AuditEntry>, BTreeMap<Concern, u64>, u64);

/// The read model of the audit.
#[derive(Clone)]
pub struct Audit {
    entries: Table,
    deeds: Table,
}

impl Audit {
    /// The newest entries that are wanted, at most `limit` of them, and how many there are.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn entries(&self, wanted: &Wanted, limit: usize) -> Result<Entries, StoreError> {
        let (mut entries, mut concerns, mut total) = (Vec::new(), BTreeMap::new(), 0);
        let mut unread = None;
        self.entries.scan(
            &[],
            (Bound::Unbounded, Bound::Unbounded),
            Order::Descending,
            &mut |key, value| {
                match decode::<Row>(value) {
                    Ok(row) if wanted.takes(&row) => {
                        total += 1;
                        *concerns.entry(row.concern).or_default() += 1;
                        if entries.len() < limit {
                            entries.push(entry(seq_of(key), row));
                        }
                    }
                    Ok(_) => {}
                    Err(error) => unread = Some(error),
                }
                unread.is_none()
            },
        )?;
        unread.map_or(Ok((entries, concerns, total)), Err)
    }

    /// What each author recorded, the busiest first.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn authors(&self, wanted: &Wanted) -> Result<Vec<Deeds>, StoreError> {
        let (mut authors, mut unread) = (BTreeMap::<(Party, Channel, String), Sum>::new(), None);
        self.deeds.prefix(&[], &mut |key, value| {
            let day = seq_of(key);
            match decode::<Who>(key.get(8..).unwrap_or_default())
                .and_then(|who| Ok((who, decode::<Count>(value)?)))
            {
                Ok((who, count)) if wanted.takes_day(day, &who) => {
                    let author = authors.entry((who.party, who.via, who.actor)).or_default();
                    author.add(who.kind, count);
                }
                Ok(_) => {}
                Err(error) => unread = Some(error),
            }
            unread.is_none()
        })?;
        if let Some(error) = unread {
            return Err(error);
        }
        let mut deeds: Vec<Deeds> = authors
            .into_iter()
            .map(|((party, via, actor), author)| Deeds {
                party,
                via,
                actor,
                events: author.types.values().sum(),
                types: author.types,
                first: time(author.first_ms as i64),
                last: time(author.last_ms as i64),
            })
            .collect();
        deeds.sort_by(|a, b| b.events.cmp(&a.events).then_with(|| a.actor.cmp(&b.actor)));
        Ok(deeds)
    }

    /// Adds up what a page of events adds to the days' counts, and changes each count once.
    fn count(&self, batch: &mut Batch, page: &[Recorded]) -> Result<(), StoreError> {
        let mut tally = BTreeMap::<(u64, &Author, u16), Count>::new();
        for draft in page.iter().map(|recorded| &recorded.record.draft) {
            let at_ms = draft.meta.at_ms;
            tally
                .entry((at_ms / DAY_MS, &draft.meta.author, draft.kind.0))
                .or_insert(Count { events: 0, first_ms: at_ms, last_ms: at_ms })
                .add(Count { events: 1, first_ms: at_ms, last_ms: at_ms });
        }
        for ((day, author, kind), more) in tally {
            let who = Who { party: author.party, via: author.channel, actor: author.name.clone(), kind };
            let mut key = day.to_be_bytes().to_vec();
            key.extend(postcard::to_stdvec(&who).map_err(StoreError::of)?);
            let mut count = batch.row::<Count>(&self.deeds, &key)?.unwrap_or(Count { events: 0, ..more });
            count.add(more);
            batch.put_row(&self.deeds, key, &count)?;
        }
        Ok(())
    }

    fn note(
        &self,
        batch: &mut Batch,
        recorded: &Recorded,
        concern: Concern,
        run: Option<Id>,
        text: String,
    ) -> Result<(), StoreError> {
        let draft = &recorded.record.draft;
        let author = &draft.meta.author;
        let row = Row {
            at_ms: draft.meta.at_ms,
            concern,
            kind: draft.kind.0,
            party: author.party,
            via: author.channel,
            actor: author.name.clone(),
            project: draft.meta.scope.project.clone(),
            run: run.or_else(|| draft.stream.strip_prefix("run/").map(Id::from_text)),
            text,
        };
        batch.put_row(&self.entries, recorded.record.seq.to_be_bytes(), &row)
    }
}

/// One author's counts, while they are added up.
#[derive(Default)]
struct Sum {
    types: BTreeMap<String, u64>,
    first_ms: u64,
    last_ms: u64,
}

impl Sum {
    fn add(&mut self, kind: u16, count: Count) {
        self.first_ms =
            if self.types.is_empty() { count.first_ms } else { self.first_ms.min(count.first_ms) };
        self.last_ms = self.last_ms.max(count.last_ms);
        *self.types.entry(kind_name(Kind(kind))).or_default() += count.events;
    }
}

impl Fold for Audit {
    const NAME: &'static str = "audit";
    const VERSION: u32 = 1;

    fn open(store: &Store) -> Result<Self, StoreError> {
        Ok(Self { entries: store.table("audit_entries")?, deeds: store.table("audit_deeds")? })
    }

    fn fold(&self, batch: &mut Batch, event: &Event, recorded: &Recorded) -> Result<(), StoreError> {
        match told(event) {
            Some((concern, run, text)) => self.note(batch, recorded, concern, run, text),
            None => Ok(()),
        }
    }

    fn fold_page(&self, batch: &mut Batch, page: &[Recorded]) -> Result<(), StoreError> {
        self.count(batch, page)?;
        page.iter().try_for_each(|recorded| match &recorded.event {
            Some(event) => self.fold(batch, event, recorded),
            None => Ok(()),
        })
    }

    fn tables(&self) -> Vec<Table> {
        vec![self.entries.clone(), self.deeds.clone()]
    }
}

/// The entry an event makes, if any: what it is about, the run where the stream does not name it, and the line.
fn told(event: &Event) -> Option<(Concern, Option<Id>, String)> {
    let (concern, run, text) = match event {
        Event::Approval(event) => {
            let (run, text) = approval(event);
            (Concern::Approval, run, text)
        }
        Event::Privacy(event) => (Concern::Disclosure, None, disclosure(event)?),
        Event::Run(run::Event::Violated(e)) => {
            let flight = if e.exfiltration { ", looks like an attempt to carry data out" } else { "" };
            (Concern::Violation, None, format!("{}: {}{flight}", e.bound.as_str(), e.detail))
        }
        Event::Run(event) => (Concern::Run, None, running(event)?),
        Event::Upstream(event) => (Concern::Upstream, None, upstream(event)),
        Event::Store(event) => (Concern::Content, None, content(event)),
        Event::Episodic(episodic::Event::Forgotten(e)) => (Concern::Content, None, erased(&e.ids, e.mode)?),
        Event::Semantic(semantic::Event::Discarded(e)) => (Concern::Content, None, erased(&e.ids, e.mode)?),
        _ => return None,
    };
    Some((concern, run, text))
}

fn approval(event: &approval::Event) -> (Option<Id>, String) {
    use approval::Event::{Denied, Granted, Redeemed, Requested};
    match event {
        Requested(e) => {
            (e.run.clone(), format!("{} asked by {}: {} ({})", e.id, e.proposer, e.summary, e.level))
        }
        Granted(e) => (None, format!("{} granted by {}", e.id, e.approver)),
        Denied(e) => (None, format!("{} denied by {}: {}", e.id, e.approver, e.reason)),
        Redeemed(e) => (None, format!("{} used", e.id)),
    }
}

fn disclosure(event: &privacy::Event) -> Option<String> {
    use privacy::Event::{Minted, Missed, Revealed};
    match event {
        Minted(_) => None,
        Revealed(e) => Some(format!("{} to {} for {}", e.tokens.join(" "), e.audience, e.purpose)),
        Missed(e) => {
            Some(format!("refused: {} tokens that are none of this project, for {}", e.count, e.purpose))
        }
    }
}

fn running(event: &run::Event) -> Option<String> {
    use run::Event::{Finished, Interrupted, Resumed, Started, Waiting};
    match event {
        Started(e) => Some(format!("{:?} code {:.12} began", e.language, e.code_hash).to_lowercase()),
        Waiting(e) => Some(format!("waits: {}", e.message)),
        Resumed(_) => Some("resumed".into()),
        Interrupted(_) => Some("its daemon died".into()),
        Finished(e) => {
            let status = serde_json::to_value(e.status).unwrap_or_default();
            let why = e.error.as_ref().map_or_else(String::new, |failure| format!(": {}", failure.message));
            Some(format!("{}{why}", status.as_str().unwrap_or_default()))
        }
        _ => None,
    }
}

fn upstream(event: &upstream::Event) -> String {
    use upstream::Event::{
        Accepted, Added, Declined, Failed, Granted, Pinned, Quarantined, Removed, Vanished,
    };
    match event {
        Added(e) => format!("{} added", e.server),
        Removed(e) => format!("{} removed", e.server),
        Pinned(e) => format!("{}: {} tools pinned", e.server, e.tools.len()),
        Quarantined(e) => format!("{}: a tool changed and is held: {}", e.server, e.diff.join(" ")),
        Accepted(e) => format!("{}: {} tools accepted", e.server, e.tools.len()),
        Vanished(e) => format!("{}: gone: {}", e.server, e.tools.join(" ")),
        Failed(e) => format!("{}: {}", e.server, e.what),
        Declined(e) => format!("{}: {} declined: {}", e.server, e.method, e.what),
        Granted(e) if e.credentials.is_some() => format!("{}: access granted", e.server),
        Granted(e) => format!("{}: access given up", e.server),
    }
}

fn content(event: &store::Event) -> String {
    use store::Event::{Exported, Imported, ItemsErased, Retired, ScopeErased, Undone};
    match event {
        Exported(_) => "exported".into(),
        Imported(e) => format!("imported {} items", e.ids.len()),
        ScopeErased(e) => {
            format!("{} erased with {} keys", e.scope.project.as_deref().unwrap_or("a scope"), e.keys)
        }
        ItemsErased(e) => format!("{} items erased for ever", e.ids.len()),
        Undone(e) => format!("{} undone: {} events", e.target, e.undone.len()),
        Retired(e) => format!(
            "the record of {} runs that ended before {} retired: {} payloads, {} bytes",
            e.runs.len(),
            time(i64::try_from(e.before_ms).unwrap_or(i64::MAX)),
            e.events,
            e.bytes
        ),
    }
}

fn erased(ids: &[Id], mode: Forgetting) -> Option<String> {
    (mode == Forgetting::Erase).then(|| format!("{} items erased for ever", ids.len()))
}

fn seq_of(key: &[u8]) -> Seq {
    key.first_chunk::<8>().map_or(0, |bytes| Seq::from_be_bytes(*bytes))
}

fn entry(seq: Seq, row: Row) -> AuditEntry {
    AuditEntry {
        seq,
        at: time(row.at_ms as i64),
        concern: row.concern,
        kind: kind_name(Kind(row.kind)),
        party: row.party,
        via: row.via,
        actor: row.actor,
        project: row.project,
        run: row.run,
        text: row.text,
    }
}
