//! The channels: BM25 over the postings and cosine over the vectors, each over everything the gate admits, each normalised by the
//! spread of its own scores.

use super::ask::{Ask, Weights};
use super::fusion::{Spread, bm25};
use super::gate::Gate;
use super::table::Row;
use super::vectors::Quantized;
use super::{Finder, State, unreadable};
use athena_schemas::refusal::Refusal;

/// Best documents taken from each channel.
const CANDIDATES: usize = 200;

/// The scores of every document by words and by meaning.
pub(super) struct Channels<'a> {
    state: &'a State,
    words: Vec<f32>,
    words_spread: Spread,
    best_words: Vec<Row>,
    query: Option<Quantized>,
    vector_spread: Spread,
    best_vectors: Vec<Row>,
    weights: Weights,
}

impl<'a> Channels<'a> {
    pub(super) fn new(
        state: &'a State,
        finder: &Finder,
        gate: &Gate<'_>,
        ask: &Ask,
        weights: Weights,
    ) -> Result<Self, Refusal> {
        let mut channels = Self {
            state,
            words: Vec::new(),
            words_spread: Spread::default(),
            best_words: Vec::new(),
            query: None,
            vector_spread: Spread::default(),
            best_vectors: Vec::new(),
            weights,
        };
        if weights.bm25 > 0.0 {
            channels.score_words(&finder.analyzer.query(&ask.query), gate)?;
        }
        if weights.vector > 0.0 {
            channels.score_vectors(ask, gate)?;
        }
        Ok(channels)
    }

    fn score_words(&mut self, terms: &[String], gate: &Gate<'_>) -> Result<(), Refusal> {
        self.words = vec![0.0; self.state.table.len()];
        let mut touched = Vec::new();
        for term in terms {
            let (mut having, mut postings) = (0, Vec::new());
            self.state
                .snapshot
                .postings(term, &mut |row, frequency| {
                    if gate.in_scope(row) {
                        having += 1;
                        if gate.fits(row) {
                            postings.push((row, frequency));
                        }
                    }
                })
                .map_err(unreadable)?;
            let idf = bm25::idf(gate.documents, having);
            for (row, frequency) in postings {
                let length = self.state.table.length(row);
                if let Some(score) = self.words.get_mut(row as usize) {
                    if *score == 0.0 {
                        touched.push(row);
                    }
                    *score += idf * bm25::gain(frequency, length, gate.mean_length);
                }
            }
        }
        let scored: Vec<(f32, Row)> =
            touched.iter().filter_map(|row| Some((*self.words.get(*row as usize)?, *row))).collect();
        for (score, _) in &scored {
            self.words_spread.add(*score);
        }
        self.words_spread = self.words_spread.with_zeros(gate.documents);
        self.best_words = top(scored, CANDIDATES);
        Ok(())
    }

    fn score_vectors(&mut self, ask: &Ask, gate: &Gate<'_>) -> Result<(), Refusal> {
        let (Some(vectors), Some(model)) = (&self.state.vectors, &self.state.model) else { return Ok(()) };
        let query = match &ask.vector {
            Some(vector) if vector.len() != vectors.dimensions() => {
                return Err(Refusal::invalid(format!(
                    "the vector has {} components, the model's have {}",
                    vector.len(),
                    vectors.dimensions()
                ))
                .at("query"));
            }
            Some(vector) => Quantized::of(vector),
            None => match model.embed(&[&ask.query])?.first() {
                Some(vector) => Quantized::of(vector),
                None => return Ok(()),
            },
        };
        let mut scored = Vec::new();
        let mut spread = Spread::default();
        vectors.scan(
            &query,
            |row| gate.admits(row),
            |row, cosine| {
                spread.add(cosine);
                scored.push((cosine, row));
            },
        );
        self.vector_spread = spread;
        self.best_vectors = top(scored, CANDIDATES);
        self.query = Some(query);
        Ok(())
    }

    /// Normalised scores of a document by words and by meaning.
    fn of(&self, row: Row) -> (f64, f64) {
        let words = self.words.get(row as usize).copied().unwrap_or(0.0);
        let by_words = self.weights.bm25 * self.words_spread.z(words);
        let by_meaning = match (&self.query, &self.state.vectors) {
            (Some(query), Some(vectors)) => {
                self.weights.vector * self.vector_spread.z(vectors.cosine(row, query))
            }
            _ => 0.0,
        };
        (by_words, by_meaning)
    }

    /// The best by words and by meaning.
    pub(super) fn best(&self) -> impl Iterator<Item = Row> {
        self.best_words.iter().chain(&self.best_vectors).copied()
    }

    /// Whether meaning takes part.
    pub(super) fn has_meaning(&self) -> bool {
        self.query.is_some()
    }

    /// The scores of a document that has nothing to do with the query: no word of it, and two deviations off in meaning.
    fn floor(&self) -> (f64, f64) {
        let meaning = if self.query.is_some() { -2.0 * self.weights.vector } else { 0.0 };
        (self.weights.bm25 * self.words_spread.z(0.0), meaning)
    }

    /// What words and meaning add to the score of a document, 0 for one that has nothing to do with the query.
    pub(super) fn above_floor(&self, row: Row) -> (f64, f64) {
        let (words, meaning) = self.of(row);
        let (no_words, no_meaning) = self.floor();
        ((words - no_words).max(0.0), (meaning - no_meaning).max(0.0))
    }
}

/// The rows with the highest scores, best first; equal ones the later first.
fn top(mut scored: Vec<(f32, Row)>, most: usize) -> Vec<Row> {
    let better = |a: &(f32, Row), b: &(f32, Row)| b.0.total_cmp(&a.0).then(b.1.cmp(&a.1));
    if scored.len() > most {
        scored.select_nth_unstable_by(most, better);
        scored.truncate(most);
    }
    scored.sort_unstable_by(better);
    scored.into_iter().map(|(_, row)| row).collect()
}
