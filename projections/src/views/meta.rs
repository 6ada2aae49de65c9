//! Knowing what is known: coverage, gaps, confidence, provenance, use and staleness.

use super::{cut, limit, missing, query};
use crate::advice::Tally;
use crate::audit::Wanted;
use crate::consolidate::fading::strength;
use crate::items::{EpisodeRow, FactRow, Head, What};
use crate::library::Library;
use crate::search::{Ask, Found};
use athena_schemas::context::Context;
use athena_schemas::id::Id;
use athena_schemas::layers::common::{Hit, Layer, Paged, Prov, Range, Signals, time};
use athena_schemas::layers::episodic::Outcome;
use athena_schemas::layers::meta::*;
use athena_schemas::layers::semantic::Fact;
use athena_schemas::refusal::Refusal;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Half-life of a fact's freshness, in days.
const FRESH_DAYS: f64 = 180.0;
const DAY_MS: f64 = 86_400_000.0;
/// Most nodes of a provenance tree, and how deep it goes.
const NODES: usize = 200;
const DEPTH: u8 = 8;
/// Most entries of an audit.
const ENTRIES: usize = 10_000;
/// The search for tools, beside which stands what came of it.
const SEARCH: &str = "tools/search";
/// Below this, a question is noted as one that found little.
const WEAK: f64 = 0.3;

/// What is known of one item, whatever its layer.
struct Known {
    content: String,
    prov: Option<Prov>,
    head: Head,
    sources: Vec<Id>,
    importance: f64,
    confidence: Option<f64>,
    conflicts: u32,
}

impl Library {
    /// An item of any layer that who asks may see.
    fn known(&self, cx: &Context, id: &Id) -> Result<Option<Known>, Refusal> {
        let bare = |head: Head, content: String, prov: Option<Prov>| Known {
            content,
            prov,
            head,
            sources: Vec::new(),
            importance: 0.5,
            confidence: None,
            conflicts: 0,
        };
        Ok(match id.prefix() {
            "ep" => self.items.episode(cx, id)?.map(|row| Known {
                importance: f64::from(row.body.importance) / 1e3,
                sources: row.body.origin.events.clone(),
                ..bare(row.head.clone(), row.body.content.clone(), Some(row.body.origin.into()))
            }),
            "fa" => match self.items.fact(cx, id)? {
                Some(row) => {
                    let conflicts =
                        if row.current() { self.items.clashes(cx, &row)?.len() as u32 } else { 0 };
                    let mut sources = row.body.origin.events.clone();
                    sources.extend(row.body.supersedes.iter().cloned());
                    let item = row.item();
                    Some(Known {
                        confidence: Some(item.confidence),
                        sources,
                        conflicts,
                        ..bare(row.head, item.content, Some(item.prov))
                    })
                }
                None => None,
            },
            "ta" => self.agenda.task(cx, id)?.map(|row| Known {
                sources: row.body.goal.iter().chain(&row.body.depends_on).cloned().collect(),
                ..bare(row.head, row.body.title, None)
            }),
            "pr" => self.procedures.by_id(cx, id)?.map(|row| {
                let origin = row.newest.origin.clone().into();
                bare(row.head, row.newest.description, Some(origin))
            }),
            "en" => {
                let network = self.network(cx)?;
                let node = network.find(id).and_then(|at| network.nodes.get(at));
                node.map(|node| Known {
                    importance: node.importance,
                    ..bare(node.row.head.clone(), node.name().to_owned(), None)
                })
            }
            _ => None,
        })
    }

    /// Whether an item exists for who asks.
    ///
    /// # Errors
    /// When the disk fails.
    pub(crate) fn exists(&self, cx: &Context, id: &Id) -> Result<bool, Refusal> {
        Ok(self.known(cx, id)?.is_some())
    }

    fn text_of(&self, cx: &Context, found: &Found) -> Result<Option<(String, i64)>, Refusal> {
        Ok(match found.layer {
            Layer::Episodic => {
                self.items.episode(cx, &found.id)?.map(|row| (row.body.content, row.body.time_ms))
            }
            Layer::Semantic => {
                let row = self.items.fact(cx, &found.id)?;
                row.map(|row| (row.body.content.clone(), row.head.recorded_ms as i64))
            }
            _ => self.known(cx, &found.id)?.map(|known| (known.content, known.head.recorded_ms as i64)),
        })
    }

    /// The share of a question's words that a text holds; a word counts by how few of the texts hold it.
    fn held(&self, question: &str, texts: &[(String, i64)]) -> Vec<f64> {
        let wanted = self.finder.analyzer.query(question);
        let sets: Vec<HashSet<String>> =
            texts.iter().map(|(text, _)| self.finder.analyzer.terms(text).collect()).collect();
        let weight = |term: &String| {
            let holders = sets.iter().filter(|set| set.contains(term)).count();
            (1.0 + sets.len() as f64 / (1.0 + holders as f64)).ln()
        };
        let weights: HashMap<&String, f64> = wanted.iter().map(|term| (term, weight(term))).collect();
        let total: f64 = weights.values().sum();
        sets.iter()
            .map(|set| {
                let held: f64 = weights.iter().filter(|(term, _)| set.contains(**term)).map(|(_, w)| w).sum();
                if total > 0.0 { held / total } else { 0.0 }
            })
            .collect()
    }

    fn staleness_of(&self, cx: &Context, row: &FactRow) -> Result<f64, Refusal> {
        let touched = row.sureness.last().map_or(row.head.recorded_ms, |(at, _)| *at);
        let days = cx.now_ms.saturating_sub(touched) as f64 / DAY_MS;
        let aged = 1.0 - 0.5_f64.powf(days / FRESH_DAYS);
        let doubt = 1.0 - row.item().confidence;
        let disputed = if self.items.clashes(cx, row)?.is_empty() { 0.0 } else { 0.5 };
        let (good, bad) = self.ratings.of(&row.body.id)?;
        let disliked = if bad > good { 0.3 } else { 0.0 };
        Ok((1.0 - (1.0 - aged) * (1.0 - 0.5 * doubt) * (1.0 - disputed) * (1.0 - disliked)).clamp(0.0, 1.0))
    }

    fn tree(
        &self,
        cx: &Context,
        id: &Id,
        depth: u8,
        seen: &mut HashSet<Id>,
    ) -> Result<ProvenanceTree, Refusal> {
        let known = self.known(cx, id)?;
        let mut sources = Vec::new();
        for source in known.iter().flat_map(|known| &known.sources) {
            if depth < DEPTH && seen.len() < NODES && seen.insert(source.clone()) {
                sources.push(self.tree(cx, source, depth + 1, seen)?);
            }
        }
        let head = known.as_ref().map(|known| known.head.clone());
        Ok(ProvenanceTree {
            id: id.clone(),
            layer: Layer::of(id),
            seq: head.as_ref().map(|head| head.seq),
            recorded: head.as_ref().map(|head| time(head.recorded_ms as i64)),
            run: head.and_then(|head| head.run),
            content: known.as_ref().map(|known| known.content.clone()),
            prov: known.and_then(|known| known.prov),
            sources,
        })
    }
}

impl Queries for Library {
    fn coverage(&self, cx: &Context, op: Coverage) -> Result<Covered, Refusal> {
        let ask = Ask { limit: 1_000, ..Ask::new(query(&op.topic).map_err(|refusal| refusal.at("topic"))?) };
        let mut found = Vec::new();
        let mut texts = Vec::new();
        for hit in self.finder.search(cx, &ask)? {
            if let Some(text) = self.text_of(cx, &hit)? {
                found.push(hit);
                texts.push(text);
            }
        }
        let held = self.held(&op.topic, &texts);
        let mut covered = Covered {
            by_layer: BTreeMap::new(),
            density: held.iter().copied().fold(0.0, f64::max),
            span: Range::default(),
            last: None,
        };
        let (mut first, mut last) = (i64::MAX, i64::MIN);
        for ((hit, (_, at)), held) in found.iter().zip(&texts).zip(held) {
            if held >= 0.5 {
                *covered.by_layer.entry(hit.layer.as_str().into()).or_default() += 1;
                (first, last) = (first.min(*at), last.max(*at));
            }
        }
        if first <= last {
            covered.span = Range { from: Some(time(first)), to: Some(time(last)) };
            covered.last = Some(time(last));
        }
        Ok(covered)
    }

    fn gaps(&self, cx: &Context, op: Gaps) -> Result<Vec<Gap>, Refusal> {
        let most = limit(op.limit)?;
        let gap = |kind, about: &str, id: Option<&Id>, times| Gap {
            kind,
            about: about.into(),
            id: id.cloned(),
            times,
        };
        let weak = self.journal.weakest();
        let mut gaps: Vec<Gap> =
            weak.iter().map(|(question, times)| gap(GapKind::WeakAnswer, question, None, *times)).collect();
        for clash in self.items.all_clashes(cx)? {
            gaps.push(gap(GapKind::OpenConflict, &clash.second.body.content, Some(&clash.id), 1));
        }
        let network = self.network(cx)?;
        for (node, at) in network.nodes.iter().zip(&network.at) {
            if at.is_empty() {
                gaps.push(gap(GapKind::BareEntity, node.name(), Some(&node.row.body.id), 1));
            }
        }
        for row in self.items.all_facts(cx)? {
            if gaps.len() >= most {
                break;
            }
            if row.current() && row.body.valid_from_ms.is_none() {
                gaps.push(gap(GapKind::UndatedFact, &row.body.content, Some(&row.body.id), 1));
            }
        }
        gaps.truncate(most);
        Ok(gaps)
    }

    fn confidence(&self, cx: &Context, op: Confidence) -> Result<Answerable, Refusal> {
        let ask = Ask { limit: 20, ..Ask::new(query(&op.query)?) };
        let found = self.finder.search(cx, &ask)?;
        let mut texts = Vec::new();
        for hit in &found {
            texts.extend(self.text_of(cx, hit)?);
        }
        let held = self.held(&op.query, &texts);
        let best = held.iter().copied().fold(0.0, f64::max);
        let supporting = held.iter().filter(|held| **held >= 0.6).count();
        // A logistic over the share of the question's words that one item holds; more items that agree add a little.
        let logit = 9.0 * (best - 0.55) + 0.3 * (supporting.min(4) as f64);
        let answerable = (1.0 / (1.0 + (-logit).exp()) * 100.0).round() / 100.0;
        let answerable = if texts.is_empty() { 0.0 } else { answerable };
        if answerable < WEAK {
            self.journal.weak(op.query.trim());
        }
        let mut reasons =
            vec![format!("the best item holds {:.0} % of what the question names", best * 100.0)];
        if supporting > 1 {
            reasons.push(format!("{supporting} items speak of it"));
        }
        if texts.is_empty() {
            reasons = vec!["nothing in this scope resembles the question".into()];
        }
        Ok(Answerable { answerable, reasons })
    }

    fn expertise(&self, cx: &Context, op: Expertise) -> Result<Vec<Topic>, Refusal> {
        let most = limit(op.limit)?;
        let mut topics: HashMap<String, (u32, u32, u32)> = HashMap::new();
        for row in self.items.all_facts(cx)? {
            for tag in row.body.tags.iter().filter(|_| row.current()) {
                topics.entry(tag.clone()).or_default().0 += 1;
            }
        }
        let mut skills: HashMap<String, u32> = HashMap::new();
        for tag in self.callable(cx)?.into_iter().flat_map(|procedure| procedure.tags) {
            topics.entry(tag.clone()).or_default();
            *skills.entry(tag).or_default() += 1;
        }
        self.items.each_episode(cx, &mut |row: EpisodeRow| {
            for tag in row.body.tags {
                let topic = topics.entry(tag).or_default();
                topic.1 += u32::from(row.body.outcome.is_some());
                topic.2 += u32::from(row.body.outcome == Some(Outcome::Success));
            }
        })?;
        let mut topics: Vec<Topic> = topics
            .into_iter()
            .map(|(topic, (facts, tried, done))| Topic {
                facts,
                procedures: skills.get(&topic).copied().unwrap_or(0),
                topic,
                success: (tried > 0).then(|| f64::from(done) / f64::from(tried)),
            })
            .collect();
        topics.sort_by(|a, b| b.facts.cmp(&a.facts).then_with(|| a.topic.cmp(&b.topic)));
        topics.truncate(most);
        Ok(topics)
    }

    fn quality(&self, cx: &Context, op: Quality) -> Result<Assessment, Refusal> {
        let known = self.known(cx, &op.id)?.ok_or_else(|| missing(&op.id))?;
        let age_days = cx.now_ms.saturating_sub(known.head.recorded_ms) as f64 / DAY_MS;
        let ratings = self.ratings.of(&op.id)?;
        let half_life = f64::from(self.insights.settings(&cx.scope)?.half_life_days);
        Ok(Assessment {
            confidence: known.confidence,
            uses: self.journal.readings(&op.id).len() as u32,
            ratings,
            age_days: (age_days * 100.0).round() / 100.0,
            conflicts: known.conflicts,
            strength: (strength(age_days, known.importance, ratings, half_life) * 1e4).round() / 1e4,
        })
    }

    fn load(&self, cx: &Context, _: Load) -> Result<Burden, Refusal> {
        let tasks = self.agenda.tasks(cx, &self.items.projects(&cx.scope)?)?;
        let mut events = 0;
        match self.insights.seen_upto(cx)? {
            0 => events = self.items.total(cx, What::Type)?,
            seen => self.items.recorded_after(cx, seen, &mut |_| {
                events += 1;
                true
            })?,
        }
        Ok(Burden {
            open_tasks: tasks.iter().filter(|task| !task.status.is_final()).count() as u64,
            working_set: self.journal.read_since(cx.now_ms.saturating_sub(3_600_000)),
            unconsolidated_events: events,
        })
    }

    fn usage(&self, cx: &Context, op: Usage) -> Result<Vec<Used>, Refusal> {
        let (from, to) = op.range.as_ref().map_or(Ok((i64::MIN, i64::MAX)), Range::millis)?;
        let mut used = self.journal.usage(from, to);
        let Tally { given, followed, missed } = self.advice.tally(cx)?;
        if given == 0 {
            return Ok(used);
        }
        let known = followed + missed;
        let accuracy = (known > 0).then(|| followed as f64 / known as f64);
        let recommended = Some(Recommended { given, followed, missed, accuracy });
        match used.iter_mut().find(|used| used.op == SEARCH) {
            Some(used) => used.recommended = recommended,
            None => {
                let (op, older_names) = (SEARCH.to_owned(), BTreeMap::new());
                used.push(Used {
                    op,
                    calls: 0,
                    p50_ms: 0.0,
                    p99_ms: 0.0,
                    errors: 0,
                    older_names,
                    recommended,
                });
            }
        }
        Ok(used)
    }

    fn audit(&self, _: &Context, op: Audit) -> Result<AuditReport, Refusal> {
        let range = op.range.as_ref().map(Range::millis).transpose()?;
        let limit = usize::try_from(op.limit).unwrap_or(usize::MAX).clamp(1, ENTRIES);
        let wanted = Wanted { range, actor: op.actor, run: op.run };
        let (entries, concerns, total) = self.audit.entries(&wanted, limit)?;
        let authors = if wanted.run.is_none() { self.audit.authors(&wanted)? } else { Vec::new() };
        Ok(AuditReport { authors, concerns, entries, total })
    }

    fn explain(&self, cx: &Context, op: Explain) -> Result<ProvenanceTree, Refusal> {
        if !self.exists(cx, &op.id)? {
            return Err(missing(&op.id));
        }
        self.tree(cx, &op.id, 0, &mut HashSet::from([op.id.clone()]))
    }

    fn access_log(&self, cx: &Context, op: AccessLog) -> Result<Vec<Access>, Refusal> {
        if !self.exists(cx, &op.id)? {
            return Err(missing(&op.id));
        }
        Ok(self.journal.readings(&op.id))
    }

    fn staleness(&self, cx: &Context, op: Staleness) -> Result<Paged<Hit<Fact>>, Refusal> {
        let least = op.threshold.unwrap_or(0.5);
        let mut stale: Vec<(f64, FactRow)> = Vec::new();
        for row in self.items.all_facts(cx)? {
            if row.current() {
                let score = self.staleness_of(cx, &row)?;
                if score >= least {
                    stale.push((score, row));
                }
            }
        }
        stale.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.head.seq.cmp(&b.1.head.seq)));
        let mut hits = Vec::with_capacity(stale.len());
        for (score, row) in stale {
            let id = row.body.id.clone();
            let found = Found { id, layer: Layer::Semantic, score, signals: Signals::default() };
            hits.push(Hit { stale: true, ..self.fact_hit(cx, &found, &row)? });
        }
        cut(hits, op.limit, op.cursor.as_deref())
    }

    fn stats(&self, cx: &Context, _: Stats) -> Result<Inventory, Refusal> {
        let projects = self.items.projects(&cx.scope)?;
        let network = self.network(cx)?;
        let items = BTreeMap::from([
            ("episodic".to_owned(), self.items.total(cx, What::Type)?),
            ("semantic".to_owned(), self.items.total(cx, What::Fact)?),
            ("procedural".to_owned(), self.callable(cx)?.len() as u64),
            ("prospective".to_owned(), self.agenda.tasks(cx, &projects)?.len() as u64),
            ("graph".to_owned(), network.nodes.len() as u64),
        ]);
        Ok(Inventory {
            items,
            documents: self.finder.documents() as u64,
            model: self.finder.model(),
            disk_bytes: self.store.disk_bytes(),
            positions: self.positions().into_iter().map(|(name, at)| (name.to_owned(), at)).collect(),
        })
    }
}
