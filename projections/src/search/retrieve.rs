//! From a question to the best documents.
//!
//! 1. `gate`: what this caller may see, narrowed by scope, layers and filters.
//! 2. `channels`: BM25 over the postings and cosine over the vectors.
//! 3. `pool`: the best of each channel and what stands beside them, and what each term adds to their scores.

use super::ask::{Ask, Found, MOST, Strategy, Weights};
use super::channels::Channels;
use super::gate::Gate;
use super::pool::Pool;
use super::table::Row;
use super::{Finder, State, plan, unreadable};
use athena_schemas::context::Context;
use athena_schemas::refusal::Refusal;
use std::collections::HashMap;

/// Most parts of a query that are looked at by themselves.
const PARTS: usize = 3;
/// Most names that are followed, and most documents behind one.
const LEADS: usize = 8;
const BEHIND: usize = 50;

impl Finder {
    /// The documents that fit best, best first; equal ones newest first.
    ///
    /// # Errors
    /// When the index or the model cannot be read, or a vector has the wrong length.
    pub fn search(&self, cx: &Context, ask: &Ask) -> Result<Vec<Found>, Refusal> {
        if ask.strategy != Strategy::Bm25 {
            self.later.settle();
        }
        let state = self.read();
        let Some(gate) = Gate::new(&state.table, cx, ask) else { return Ok(Vec::new()) };
        let weights = weights(cx, ask, &state);
        let channels = Channels::new(&state, self, &gate, ask, weights)?;
        let auto = ask.strategy == Strategy::Auto;
        let parts = if auto { self.parts(&state, &gate, ask, weights)? } else { Vec::new() };
        let led = if auto { self.led(&state, &gate, &ask.leads)? } else { HashMap::new() };
        let beside: Vec<Row> = parts.iter().flat_map(Channels::best).chain(led.keys().copied()).collect();
        let mut pool = Pool::new(&state, &gate, &channels, weights, &beside, auto);
        if auto {
            pool.sharpen();
            pool.add_neighbours(&channels, &gate);
            pool.add_sessions();
            pool.add_actor(&ask.query);
            pool.add_substance(gate.mean_length);
            pool.add_time(&ask.query, cx.now_ms);
            pool.add_parts(&parts);
            pool.add_graph(&led);
        }
        pool.add_recency(cx.now_ms);
        Ok(pool.best(ask.limit.clamp(1, MOST)))
    }

    /// The channels of each part of a query that asks several things.
    fn parts<'a>(
        &self,
        state: &'a State,
        gate: &Gate<'_>,
        ask: &Ask,
        weights: Weights,
    ) -> Result<Vec<Channels<'a>>, Refusal> {
        let parts = plan::parts(&ask.query);
        if parts.len() < 2 || ask.vector.is_some() {
            return Ok(Vec::new());
        }
        let each = parts.into_iter().take(PARTS);
        each.map(|query| Channels::new(state, self, gate, &Ask { query, ..Ask::default() }, weights))
            .collect()
    }

    /// What speaks of the names that the query's entities lead to, the newest first, and how closely.
    fn led(
        &self,
        state: &State,
        gate: &Gate<'_>,
        leads: &[(String, f64)],
    ) -> Result<HashMap<Row, f64>, Refusal> {
        let mut led: HashMap<Row, f64> = HashMap::new();
        for (name, worth) in leads.iter().take(LEADS) {
            let terms = self.analyzer.query(name);
            let mut having: HashMap<Row, usize> = HashMap::new();
            for term in &terms {
                let mut count = |row, _| {
                    if gate.admits(row) {
                        *having.entry(row).or_default() += 1;
                    }
                };
                state.snapshot.postings(term, &mut count).map_err(unreadable)?;
            }
            let whole = having.into_iter().filter(|(_, has)| *has == terms.len()).map(|(row, _)| row);
            let mut rows: Vec<Row> = whole.collect();
            rows.sort_unstable_by_key(|row| {
                std::cmp::Reverse(state.table.facts(*row).map(|facts| facts.at_ms))
            });
            for row in rows.into_iter().take(BEHIND) {
                let known = led.entry(row).or_default();
                *known = known.max(*worth);
            }
        }
        Ok(led)
    }
}

fn weights(cx: &Context, ask: &Ask, state: &State) -> Weights {
    let base = ask.weights.unwrap_or_else(|| {
        let by_model = match &state.model {
            None => Weights::WORDS,
            Some(model) if model.reads_sentences() => Weights::SENTENCE,
            Some(_) => Weights::STATIC,
        };
        by_model.learned(|signal| state.lessons.factor(&cx.scope, signal))
    });
    match ask.strategy {
        Strategy::Bm25 => Weights { bm25: 1.0, vector: 0.0, ..base },
        Strategy::Vector => Weights { bm25: 0.0, vector: 1.0, ..base },
        Strategy::Auto => base.fitted(&ask.query),
        Strategy::Hybrid => base,
    }
}
