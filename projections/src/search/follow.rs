//! Following names: from those in a query to the documents that speak of them, to the names in those, and on.
//!
//! A question over two steps ("where does the sister of Ann's friend live?") shares no word with its answer; the names between
//! do. Each step is worth half of the one before (a random walk with restart, as in personalised PageRank, cut off).

use super::plan;
use super::{Ask, Finder, Found, Strategy, text};
use athena_schemas::context::Context;
use athena_schemas::layers::common::Signals;
use athena_schemas::refusal::Refusal;
use std::collections::{BTreeMap, HashMap};

/// Documents read at each step.
const WIDTH: usize = 30;
/// Names followed at each step.
const NAMES: usize = 5;

impl Finder {
    /// The names in a query, with those that somebody here is known by.
    pub fn names_in(&self, cx: &Context, query: &str) -> Vec<String> {
        let state = self.read();
        plan::names(query, |word| state.table.is_actor(&cx.scope, word))
    }

    /// What speaks of the names in a query, and of the names that lead on from there; best first.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn follow(&self, cx: &Context, ask: &Ask, hops: u32) -> Result<Vec<Found>, Refusal> {
        let mut found: HashMap<String, Found> = HashMap::new();
        let mut asked = self.names_in(cx, &ask.query);
        let mut queries = vec![(ask.query.clone(), 1.0)];
        for step in 0..=hops.min(2) {
            let mut names: BTreeMap<String, f64> = BTreeMap::new();
            for (query, worth) in &queries {
                let step_ask =
                    Ask { query: query.clone(), limit: WIDTH, strategy: Strategy::Bm25, ..ask.clone() };
                for hit in self.search(cx, &step_ask)? {
                    let gain = worth * hit.score;
                    for name in self.names_of(cx, &hit)? {
                        *names.entry(name).or_default() += gain;
                    }
                    let known = found.entry(hit.id.to_string()).or_insert_with(|| Found {
                        score: 0.0,
                        signals: Signals::default(),
                        ..hit.clone()
                    });
                    known.score += gain;
                    let signal = if step == 0 { &mut known.signals.bm25 } else { &mut known.signals.graph };
                    *signal = Some(signal.unwrap_or(0.0) + gain);
                }
            }
            names.retain(|name, _| !asked.iter().any(|other| other.eq_ignore_ascii_case(name)));
            let mut ranked: Vec<(String, f64)> = names.into_iter().collect();
            ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
            ranked.truncate(NAMES);
            let most = ranked.first().map_or(1.0, |(_, worth)| *worth).max(1e-9);
            let decay = 0.5_f64.powi(step as i32 + 1);
            asked.extend(ranked.iter().map(|(name, _)| name.clone()));
            queries = ranked.into_iter().map(|(name, worth)| (name, decay * worth / most)).collect();
        }
        let mut found: Vec<Found> = found.into_values().collect();
        found.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| b.id.cmp(&a.id)));
        found.truncate(ask.limit);
        Ok(found)
    }

    fn names_of(&self, cx: &Context, hit: &Found) -> Result<Vec<String>, Refusal> {
        let Some(document) = self.document(&hit.id)? else { return Ok(Vec::new()) };
        // Sentence by sentence, so that a capital at a beginning is not taken for a name.
        let mut names: Vec<String> = Vec::new();
        for sentence in document.text.split(['.', '!', '?', ':']) {
            for name in self.names_in(cx, sentence) {
                if !names.contains(&name) && text::words(&name).all(|word| word.len() > 1) {
                    names.push(name);
                }
            }
        }
        Ok(names)
    }
}
