//! Answers of consolidation: what a pass would find, what passes found, and what stands out of some events.

use super::{cursor, limit, place};
use crate::consolidate::extraction::spans;
use crate::consolidate::texts::Texts;
use crate::items::EpisodeRow;
use crate::library::Library;
use crate::patterns::{Search, recurring};
use crate::procedures::wilson_low;
use crate::proposals::ProposalRow;
use crate::search::text::{is_stop_word, words};
use crate::timeline::Which;
use athena_schemas::context::{Context, Scope};
use athena_schemas::id::Id;
use athena_schemas::layers::common::{Paged, Range, time};
use athena_schemas::layers::consolidation::*;
use athena_schemas::refusal::{Code, Refusal};
use std::collections::HashMap;

/// Most events one look reads, the newest first.
const READ: usize = 20_000;
/// Most of each kind in one answer.
const ANSWERED: usize = 50;
/// Most events named by id.
const NAMED: usize = 1_000;
/// A cluster whose cohesion is below this, thousandths, is one that the first system is unsure of.
const UNSURE: u16 = 400;
/// Most clusters a language model is asked about in a pass, and most events of each, and bytes of an event, that it sees.
const DOUBTS: usize = 10;
const NOTES: usize = 20;
const NOTE_BYTES: usize = 600;
/// Words a cluster is named by.
const TERMS: usize = 5;

impl Library {
    /// Findings as they are answered: ids and places become texts again, what is gone since is left out.
    fn told(&self, cx: &Context, found: &Findings) -> Result<RunPlan, Refusal> {
        let mut plan = RunPlan { counts: found.counts, ..RunPlan::default() };
        for group in found.clusters.iter().take(ANSWERED) {
            plan.clusters.push(self.cluster(cx, group)?);
        }
        let sessions = u64::from(found.counts.sessions);
        plan.patterns = found.patterns.iter().take(ANSWERED).map(|one| pattern(one, sessions)).collect();
        for link in &found.links {
            if plan.duplicates.len() < ANSWERED
                && self.exists(cx, &link.one)?
                && self.exists(cx, &link.other)?
            {
                plan.duplicates.push(Twins {
                    one: link.one.clone(),
                    other: link.other.clone(),
                    likeness: f64::from(link.likeness) / 1e3,
                });
            }
        }
        for span in found.candidates.iter().take(ANSWERED) {
            plan.candidates.extend(self.candidate(cx, span)?);
        }
        for id in &found.faded {
            if plan.faded.len() < ANSWERED && self.items.episode(cx, id)?.is_some() {
                plan.faded.push(id.clone());
            }
        }
        Ok(plan)
    }

    /// A sentence, read from its event.
    fn candidate(&self, cx: &Context, span: &Span) -> Result<Option<Candidate>, Refusal> {
        let Some(row) = self.items.episode(cx, &span.source)? else { return Ok(None) };
        let sentence = row.body.content.get(span.from as usize..span.to as usize);
        Ok(sentence.map(|content| Candidate {
            content: content.to_owned(),
            sources: vec![span.source.clone()],
            worth: f64::from(span.worth) / 1e3,
        }))
    }

    fn cluster(&self, cx: &Context, group: &Grouped) -> Result<Cluster, Refusal> {
        let mut members: Vec<Id> = Vec::with_capacity(group.members.len());
        let mut counts: HashMap<String, u32> = HashMap::new();
        for id in &group.members {
            let Some(row) = self.items.episode(cx, id)? else { continue };
            for word in words(&row.body.content).map(str::to_lowercase).filter(|word| !is_stop_word(word)) {
                *counts.entry(word).or_default() += 1;
            }
            members.push(id.clone());
        }
        let mut terms: Vec<(f64, String)> = Vec::new();
        for (word, count) in counts.into_iter().filter(|(word, count)| *count > 1 && word.len() > 2) {
            terms.push((f64::from(count) * self.finder.rarity(cx, &word)?, word));
        }
        terms.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        Ok(Cluster {
            terms: terms.into_iter().take(TERMS).map(|(_, word)| word).collect(),
            members,
            size: group.size,
            cohesion: f64::from(group.cohesion) / 1e3,
        })
    }

    /// Whether all that a proposal rests on is there for who asks.
    fn rests(&self, cx: &Context, row: &ProposalRow) -> Result<bool, Refusal> {
        for source in &row.body.sources {
            if self.items.episode(cx, source)?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn some(&self, cx: &Context, range: Option<&Range>) -> Result<Vec<EpisodeRow>, Refusal> {
        let range = range.map(Range::millis).transpose()?;
        let (mut rows, _) = self.items.page(cx, &Which { range, ..Which::default() }, READ, None)?;
        rows.reverse();
        Ok(rows)
    }
}

fn pattern(one: &Recurring, sessions: u64) -> Pattern {
    Pattern {
        types: one.types.clone(),
        support: one.support,
        share_low: (wilson_low(u64::from(one.support), sessions) * 1e3).round() / 1e3,
        example: one.example.clone(),
    }
}

impl Queries for Library {
    fn preview(&self, cx: &Context, op: Preview) -> Result<RunPlan, Refusal> {
        self.told(cx, &self.findings(cx, op.strategy.unwrap_or_default(), op.lookback_hours)?)
    }

    fn status(&self, cx: &Context, op: Status) -> Result<Examined, Refusal> {
        let line = match &op.run {
            Some(run) => self.passes.line(cx, run)?,
            None => self.passes.before(cx, &self.items.projects(&cx.scope)?, u64::MAX, 1)?.pop(),
        };
        let line = line.ok_or_else(|| {
            Refusal::not_found("there is no such pass in this scope")
                .at("run")
                .hint("consolidation/history names those there are; consolidation/consolidate makes one")
        })?;
        let found = match self.insights.pass(cx, &line.run)? {
            Some(row) => self.told(cx, &row.body.findings)?,
            None => RunPlan::default(),
        };
        Ok(Examined { run: line.item(), found })
    }

    fn history(&self, cx: &Context, op: History) -> Result<Paged<Run>, Refusal> {
        let most = limit(op.limit)?;
        let before = place::<1>(op.cursor.as_deref())?.map_or(u64::MAX, |[seq]| seq as u64);
        let mut rows = self.passes.before(cx, &self.items.projects(&cx.scope)?, before, most + 1)?;
        let more = rows.len() > most;
        rows.truncate(most);
        let next = rows.last().filter(|_| more).map(|row| cursor(&[i128::from(row.head.seq)]));
        Ok(Paged { items: rows.iter().map(crate::passes::LineRow::item).collect(), next })
    }

    fn clusters(&self, cx: &Context, op: Clusters) -> Result<Vec<Cluster>, Refusal> {
        let rows = self.some(cx, op.range.as_ref())?;
        let groups = self.clustered(&rows);
        groups.iter().take(ANSWERED).map(|group| self.cluster(cx, group)).collect()
    }

    fn patterns(&self, cx: &Context, op: Patterns) -> Result<Vec<Pattern>, Refusal> {
        let search = Search {
            min_support: op.min_support.unwrap_or(3).max(2) as usize,
            max_length: op.max_len.unwrap_or(6).clamp(2, 12) as usize,
            gap: op.gap.unwrap_or(2).min(10) as usize,
        };
        let (found, sessions) = recurring(&self.some(cx, op.range.as_ref())?, search, ANSWERED);
        Ok(found.iter().map(|one| pattern(one, u64::from(sessions))).collect())
    }

    fn extract_facts(&self, cx: &Context, op: ExtractFacts) -> Result<Vec<Candidate>, Refusal> {
        let rows = if op.sel.ids.is_empty() {
            self.some(cx, op.sel.range.as_ref())?
        } else {
            if op.sel.ids.len() > NAMED {
                let many = format!("{} ids; at most {NAMED} are taken at once", op.sel.ids.len());
                return Err(Refusal::new(Code::LimitExceeded, many).at("sel.ids"));
            }
            let mut rows = Vec::with_capacity(op.sel.ids.len());
            for id in &op.sel.ids {
                rows.push(self.items.episode(cx, id)?.ok_or_else(|| super::missing(id))?);
            }
            rows
        };
        let texts = Texts::read(&self.finder.analyzer, rows.iter().map(|row| row.body.content.as_str()));
        let mut candidates = Vec::new();
        for span in spans(&rows, &texts, ANSWERED) {
            candidates.extend(self.candidate(cx, &span)?);
        }
        Ok(candidates)
    }

    fn proposals(&self, cx: &Context, op: Proposals) -> Result<Paged<Proposal>, Refusal> {
        let most = limit(op.limit)?;
        let named = op.id.is_some() || op.run.is_some();
        let standing = op.standing.or((!named).then_some(Standing::Pending));
        let wanted = |row: &ProposalRow| {
            op.id.as_ref().is_none_or(|id| row.body.id == *id)
                && op.run.as_ref().is_none_or(|run| row.body.run == *run)
                && standing.is_none_or(|standing| row.standing == standing)
        };
        let mut rows = Vec::new();
        if let Some(id) = &op.id {
            rows.extend(self.proposals.one(cx, id)?.filter(wanted));
        } else {
            let before = op.cursor.as_deref().map(Id::from_text);
            self.proposals.newest(cx, before.as_ref(), &mut |row| {
                if wanted(&row) {
                    rows.push(row);
                }
                rows.len() <= most
            })?;
        }
        let more = rows.len() > most;
        rows.truncate(most);
        let next = rows.last().filter(|_| more).map(|row| row.body.id.to_string());
        let mut items = Vec::with_capacity(rows.len());
        for row in rows {
            if self.rests(cx, &row)? {
                items.push(row.item());
            }
        }
        Ok(Paged { items, next })
    }

    fn unsure(&self, cx: &Context, op: Unsure) -> Result<Doubts, Refusal> {
        let row = match &op.run {
            None => self.insights.last_with_clusters(cx)?,
            Some(run) => Some(self.insights.pass(cx, run)?.ok_or_else(|| {
                Refusal::not_found(format!("there is no pass {run} in this scope, or it was undone"))
                    .at("run")
                    .hint("consolidation/history names those there are")
            })?),
        };
        let Some(row) = row else { return Ok(Doubts::default()) };
        let loose: Vec<&Grouped> =
            row.body.findings.clusters.iter().filter(|group| group.cohesion < UNSURE).collect();
        let mut clusters = Vec::new();
        for group in &loose {
            let mut notes = Vec::new();
            for id in &group.members {
                // What came from outside is no source of facts, and nobody's to speak to a model.
                let Some(row) = self.items.episode(cx, id)?.filter(|row| !row.body.untrusted) else {
                    continue;
                };
                let mut content = row.body.content;
                content.truncate(content.floor_char_boundary(NOTE_BYTES));
                notes.push(Note { id: id.clone(), time: time(row.body.time_ms), content });
                if notes.len() == NOTES {
                    break;
                }
            }
            if notes.len() > 1 {
                clusters.push(notes);
            }
            if clusters.len() == DOUBTS {
                break;
            }
        }
        Ok(Doubts { of: Some(row.body.run), unsure: loose.len() as u32, clusters })
    }

    fn due(&self, cx: &Context, _: Due) -> Result<Vec<DueScope>, Refusal> {
        let mut due = Vec::new();
        for project in self.items.project_names()? {
            let scope = Scope { project, ..Scope::default() };
            let settings = self.insights.settings(&scope)?;
            if settings.every_hours == 0 {
                continue;
            }
            let wait_ms = u64::from(settings.every_hours) * 3_600_000;
            let own = Context::new(cx.now_ms, cx.caller.clone(), scope.clone(), cx.command);
            let (seen, last) = self.insights.last(&own)?.unwrap_or_default();
            // The first event that no pass has seen; the first pass waits as long after it as the others after each other.
            let mut waits = None;
            self.items.recorded_after(&own, seen, &mut |row| {
                waits = Some(row.head.recorded_ms.max(last));
                false
            })?;
            if waits.is_some_and(|since| since.saturating_add(wait_ms) <= cx.now_ms) {
                due.push(DueScope { scope, strategy: settings.strategy });
            }
        }
        Ok(due)
    }
}
