//! The pool: the best of each channel and what stands beside them in their sessions, with normalised scores, to which each term
//! adds a bounded part: neighbours, session, actor, substance, time, parts of the question, graph, recency.

use super::ask::{Found, Weights};
use super::channels::Channels;
use super::gate::Gate;
use super::table::{NONE, Row, Table};
use super::{State, plan, text};
use athena_schemas::layers::common::Signals;
use std::collections::{HashMap, HashSet};

/// Turns before and after that belong to a turn.
const REACH: usize = 3;
/// What is told of a time is told at it or within this long after it.
const TOLD_MS: i64 = 14 * 86_400_000;

/// One candidate. Its signals always sum up to its score.
struct Candidate {
    row: Row,
    score: f64,
    signals: Signals,
}

impl Candidate {
    fn scale(&mut self, factor: f64) {
        let signals = &mut self.signals;
        self.score *= factor;
        for signal in [
            &mut signals.bm25,
            &mut signals.vector,
            &mut signals.neighbours,
            &mut signals.session,
            &mut signals.actor,
            &mut signals.substance,
            &mut signals.recency,
            &mut signals.time,
            &mut signals.part,
            &mut signals.graph,
        ] {
            *signal = signal.map(|value| value * factor);
        }
    }
}

/// The candidates of a search, and what they have gathered so far.
pub(super) struct Pool<'a> {
    table: &'a Table,
    weights: Weights,
    candidates: Vec<Candidate>,
    /// The highest score by words and meaning.
    best: f64,
}

impl<'a> Pool<'a> {
    pub(super) fn new(
        state: &'a State,
        gate: &Gate<'_>,
        channels: &Channels<'_>,
        weights: Weights,
        more: &[Row],
        beside: bool,
    ) -> Self {
        let mut seen = HashSet::new();
        let mut rows = Vec::new();
        for row in channels.best().chain(more.iter().copied()) {
            if seen.insert(row) {
                rows.push(row);
            }
        }
        if beside {
            for at in 0..rows.len() {
                let row = rows.get(at).copied().unwrap_or(Row::MAX);
                for (row, _) in around(&state.table, row, REACH) {
                    if gate.admits(row) && seen.insert(row) {
                        rows.push(row);
                    }
                }
            }
        }
        let candidates: Vec<Candidate> = rows
            .into_iter()
            .map(|row| {
                let (words, meaning) = channels.above_floor(row);
                let signals = Signals {
                    bm25: (weights.bm25 > 0.0).then_some(words),
                    vector: channels.has_meaning().then_some(meaning),
                    ..Signals::default()
                };
                Candidate { row, score: words + meaning, signals }
            })
            .collect();
        let best = candidates.iter().map(|c| c.score).fold(0.0, f64::max);
        let mut pool = Self { table: &state.table, weights, candidates, best };
        pool.rescale();
        pool
    }

    /// Scales all scores so that the best is 1.
    fn rescale(&mut self) {
        let best = self.candidates.iter().map(|c| c.score).fold(0.0, f64::max);
        if best > 1e-12 {
            self.candidates.iter_mut().for_each(|candidate| candidate.scale(1.0 / best));
        }
    }

    /// Squares the scores, so that one good match beside an item counts for more than several poor ones.
    pub(super) fn sharpen(&mut self) {
        for candidate in &mut self.candidates {
            candidate.scale(candidate.score);
        }
    }

    /// What was said right before and after belongs to it: an answer is found by its question. Three turns each way, each next
    /// one worth half.
    pub(super) fn add_neighbours(&mut self, channels: &Channels<'_>, gate: &Gate<'_>) {
        let mut known: HashMap<Row, f64> = self.candidates.iter().map(|c| (c.row, c.score)).collect();
        for candidate in &mut self.candidates {
            let mut sum = 0.0;
            for (row, distance) in around(self.table, candidate.row, REACH) {
                if gate.admits(row) {
                    let score = *known.entry(row).or_insert_with(|| {
                        let (words, meaning) = channels.above_floor(row);
                        if self.best > 1e-12 { ((words + meaning) / self.best).powi(2) } else { 0.0 }
                    });
                    sum += score * 0.5_f64.powi(distance as i32 - 1);
                }
            }
            let gain = self.weights.neighbours * sum;
            candidate.signals.neighbours = Some(gain);
            candidate.score += gain;
        }
        self.rescale();
    }

    /// A session that is about the question lifts all that was said in it: by the mean of its three best.
    pub(super) fn add_sessions(&mut self) {
        let mut sessions: HashMap<u32, Vec<f64>> = HashMap::new();
        for candidate in &self.candidates {
            let session = self.table.facts(candidate.row).map_or(NONE, |facts| facts.session);
            sessions.entry(session).or_default().push(candidate.score);
        }
        let means: HashMap<u32, f64> = sessions
            .into_iter()
            .map(|(session, mut scores)| {
                scores.sort_unstable_by(|a, b| b.total_cmp(a));
                (session, scores.iter().take(3).sum::<f64>() / 3.0)
            })
            .collect();
        for candidate in &mut self.candidates {
            let session = self.table.facts(candidate.row).map_or(NONE, |facts| facts.session);
            if session != NONE {
                let gain = self.weights.session * means.get(&session).copied().unwrap_or(0.0);
                candidate.signals.session = Some(gain);
                candidate.score += gain;
            }
        }
        self.rescale();
    }

    /// Short assents and questions are beside the point more often than what somebody tells of themselves.
    pub(super) fn add_substance(&mut self, mean_length: f32) {
        for candidate in &mut self.candidates {
            let Some(facts) = self.table.facts(candidate.row) else { continue };
            let length = (f64::from(facts.terms) / (1.5 * f64::from(mean_length)).max(1.0)).min(1.0);
            let asks = f64::from(facts.form.asks) / 255.0;
            let told = f64::from(u8::from(facts.form.first_person));
            let gain = self.weights.substance * (2.0 * length + told - asks);
            candidate.signals.substance = Some(gain);
            candidate.score += gain;
        }
    }

    /// Where the query names exactly one of those who speak, what they said themselves comes first.
    pub(super) fn add_actor(&mut self, query: &str) {
        let named: HashSet<u32> = {
            let present: HashSet<u32> = self
                .candidates
                .iter()
                .filter_map(|c| self.table.facts(c.row))
                .map(|facts| facts.actor)
                .filter(|actor| *actor != NONE)
                .collect();
            let query: Vec<String> = text::words(query).map(str::to_lowercase).collect();
            present.into_iter().filter(|actor| self.is_named(*actor, &query)).collect()
        };
        if named.len() != 1 {
            return;
        }
        for candidate in &mut self.candidates {
            if self.table.facts(candidate.row).is_some_and(|facts| named.contains(&facts.actor)) {
                candidate.signals.actor = Some(self.weights.actor);
                candidate.score += self.weights.actor;
            }
        }
    }

    /// Where the query says a time, what happened then, or was told soon after, comes before the rest; nothing is left out.
    pub(super) fn add_time(&mut self, query: &str, now_ms: u64) {
        let now = i64::try_from(now_ms).unwrap_or(i64::MAX);
        let Some((from, to)) = plan::time_in(query, now) else { return };
        let last = if to == i64::MAX { to } else { to.saturating_add(TOLD_MS) };
        for candidate in &mut self.candidates {
            let Some(facts) = self.table.facts(candidate.row) else { continue };
            let share = match facts.at_ms {
                at if at < from || at >= last => 0.0,
                at if at < to => 1.0,
                at => 1.0 - (at - to) as f64 / TOLD_MS as f64,
            };
            if share > 0.0 {
                let gain = self.weights.time * share;
                candidate.signals.time = Some(gain);
                candidate.score += gain;
            }
        }
    }

    /// Where several things are asked, what fits one of them alone is an answer, too.
    pub(super) fn add_parts(&mut self, parts: &[Channels<'_>]) {
        for part in parts {
            let score = |row| {
                let (words, meaning) = part.above_floor(row);
                words + meaning
            };
            let best = part.best().map(score).fold(0.0, f64::max);
            if best <= 1e-12 {
                continue;
            }
            for candidate in &mut self.candidates {
                let gain = self.weights.part * (score(candidate.row) / best).powi(2);
                let known = candidate.signals.part.unwrap_or(0.0);
                if gain > known {
                    candidate.signals.part = Some(gain);
                    candidate.score += gain - known;
                }
            }
        }
    }

    /// What speaks of an entity that those in the query lead to.
    pub(super) fn add_graph(&mut self, led: &HashMap<Row, f64>) {
        for candidate in &mut self.candidates {
            if let Some(worth) = led.get(&candidate.row) {
                let gain = self.weights.graph * worth;
                candidate.signals.graph = Some(gain);
                candidate.score += gain;
            }
        }
    }

    fn is_named(&self, actor: u32, query: &[String]) -> bool {
        let Some(name) = self.table.actors.name(actor) else { return false };
        let name: Vec<&str> = text::words(name).collect();
        !name.is_empty() && query.windows(name.len()).any(|window| window.iter().eq(name.iter()))
    }

    /// Of two that fit alike the newer one; half of the bonus is gone after thirty days.
    pub(super) fn add_recency(&mut self, now_ms: u64) {
        if self.weights.recency <= 0.0 {
            return;
        }
        const HALF_LIFE_MS: f64 = 30.0 * 86_400_000.0;
        for candidate in &mut self.candidates {
            let Some(facts) = self.table.facts(candidate.row) else { continue };
            let age = (now_ms as f64 - facts.at_ms as f64).max(0.0);
            let gain = self.weights.recency * (-age / HALF_LIFE_MS).exp2();
            candidate.signals.recency = Some(gain);
            candidate.score += gain;
        }
    }

    pub(super) fn best(mut self, limit: usize) -> Vec<Found> {
        let table = self.table;
        let newest = |row: Row| table.facts(row).map(|facts| (facts.at_ms, facts.order));
        self.candidates.sort_unstable_by(|a, b| {
            b.score.total_cmp(&a.score).then_with(|| newest(b.row).cmp(&newest(a.row)))
        });
        self.candidates
            .into_iter()
            .filter_map(|candidate| {
                let facts = table.facts(candidate.row)?;
                let layer = table.group(candidate.row)?.layer;
                Some(Found {
                    id: facts.id.clone(),
                    layer,
                    score: candidate.score,
                    signals: candidate.signals,
                })
            })
            .take(limit)
            .collect()
    }
}

/// What stands around a row in its session, with its distance.
fn around(table: &Table, row: Row, reach: usize) -> impl Iterator<Item = (Row, usize)> {
    table.place(row).into_iter().flat_map(move |(members, place)| {
        (1..=reach).flat_map(move |distance| {
            [place.checked_sub(distance), Some(place + distance)]
                .into_iter()
                .flatten()
                .filter_map(move |at| Some((*members.get(at)?, distance)))
        })
    })
}
