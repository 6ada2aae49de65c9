//! From a question to the best documents.
//!
//! 1. *Gate*: what this caller may see, narrowed by scope, layers and filters. Structural: no query text can widen it.
//! 2. *Channels*: BM25 over the postings and cosine over the vectors, each over everything the gate admits.
//! 3. *Pool*: the best of each channel and what stands beside them in their sessions.
//! 4. *Fusion*: normalised scores, then the bounded terms: neighbours, session, actor, recency.

use super::fusion::{Spread, bm25};
use super::plan;
use super::table::{Facts, NONE, Row, Table};
use super::vectors::Quantized;
use super::{Finder, State, text, unreadable};
use athena_schemas::context::{Context, Scope};
use athena_schemas::id::Id;
use athena_schemas::layers::common::{Layer, Signals};
use athena_schemas::layers::rag::Signal;
use athena_schemas::refusal::Refusal;
use std::collections::{HashMap, HashSet};

/// Best documents taken from each channel.
const CANDIDATES: usize = 200;
/// Turns before and after that belong to a turn.
const REACH: usize = 3;
/// Most parts of a query that are looked at by themselves.
const PARTS: usize = 3;
/// Most names that are followed, and most documents behind one.
const LEADS: usize = 8;
const BEHIND: usize = 50;
/// What is told of a time is told at it or within this long after it.
const TOLD_MS: i64 = 14 * 86_400_000;
/// Most documents one search answers.
pub const MOST: usize = 1_000;

/// Which channels take part.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Strategy {
    /// All there are, with their surroundings.
    #[default]
    Auto,
    /// Words only.
    Bm25,
    /// Meaning only.
    Vector,
    /// Words and meaning, without their surroundings.
    Hybrid,
}

/// What each term may add. Words and meaning weigh z-scores; the rest are parts of the score's range.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weights {
    /// Words.
    pub bm25: f64,
    /// Meaning.
    pub vector: f64,
    /// The one before and the one after, each.
    pub neighbours: f64,
    /// The rest of the session.
    pub session: f64,
    /// By the one whom the query names.
    pub actor: f64,
    /// How much it says by itself.
    pub substance: f64,
    /// New rather than old.
    pub recency: f64,
    /// When the query says.
    pub time: f64,
    /// About an entity that those in the query lead to.
    pub graph: f64,
    /// An answer to one of several things that are asked.
    pub part: f64,
}

impl Weights {
    /// Where there is no model: the surroundings say more.
    pub const WORDS: Self = Self {
        bm25: 1.0,
        vector: 0.0,
        neighbours: 0.5,
        session: 0.5,
        actor: 0.15,
        substance: 0.1,
        recency: 0.0,
        time: 0.3,
        graph: 0.2,
        part: 0.1,
    };
    /// With a static model.
    pub const STATIC: Self = Self { bm25: 0.5, vector: 0.5, neighbours: 0.3, ..Self::WORDS };
    /// With a sentence model, which is worth more than words.
    pub const SENTENCE: Self = Self { bm25: 0.4, vector: 0.6, ..Self::STATIC };

    /// With what the use of earlier answers taught.
    fn learned(self, factor: impl Fn(Signal) -> f64) -> Self {
        Self {
            bm25: self.bm25 * factor(Signal::Words),
            vector: self.vector * factor(Signal::Meaning),
            neighbours: self.neighbours * factor(Signal::Neighbours),
            session: self.session * factor(Signal::Session),
            actor: self.actor * factor(Signal::Actor),
            ..self
        }
    }

    /// Fitted to the query: where all of something is asked for, the answer is spread, so that surroundings say less and who
    /// speaks says more.
    fn fitted(self, query: &str) -> Self {
        if plan::asks_for_list(query) {
            Self {
                neighbours: self.neighbours * 0.5,
                session: self.session * 0.5,
                actor: self.actor + 0.1,
                ..self
            }
        } else {
            self
        }
    }
}

/// Conditions a document must meet.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Filters {
    /// Happened from the first (inclusive) to the second (exclusive), milliseconds since 1970.
    pub range: Option<(i64, i64)>,
    /// Of this type.
    pub kind: Option<String>,
    /// With all of these tags.
    pub tags: Vec<String>,
    /// At least this confidence, 0 to 1.
    pub min_confidence: Option<f64>,
    /// True at this time, milliseconds since 1970; the present if not said.
    pub valid_at: Option<i64>,
    /// Also what is no longer true.
    pub include_superseded: bool,
    /// Of this session.
    pub session: Option<String>,
    /// Only these.
    pub only: Option<Vec<Id>>,
}

/// A question.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ask {
    /// In plain words; no syntax, nothing in it is a command.
    pub query: String,
    /// Narrows the caller's scope.
    pub scope: Scope,
    /// Of these layers; all where empty.
    pub layers: Vec<Layer>,
    /// Conditions.
    pub filters: Filters,
    /// At most this many, up to [`MOST`].
    pub limit: usize,
    /// Which channels take part.
    pub strategy: Strategy,
    /// What each term may add; chosen by strategy and model where missing.
    pub weights: Option<Weights>,
    /// Search near this vector instead of the query's.
    pub vector: Option<Vec<f32>>,
    /// Names that those in the query lead to, and how closely, 0 to 1.
    pub leads: Vec<(String, f64)>,
}

impl Ask {
    /// The best ten for a query.
    pub fn new(query: impl Into<String>) -> Self {
        Self { query: query.into(), limit: 10, ..Self::default() }
    }
}

/// Something found.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The item.
    pub id: Id,
    /// Its layer.
    pub layer: Layer,
    /// How well it fits; comparable within one answer only.
    pub score: f64,
    /// What the score is made of: what each term added to it.
    pub signals: Signals,
}

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
}

impl Finder {
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

/// What a search may see.
pub(super) struct Gate<'a> {
    table: &'a Table,
    groups: Vec<bool>,
    filters: &'a Filters,
    kind: Option<u32>,
    tags: Vec<u32>,
    sessions: Option<Vec<u32>>,
    only: Option<HashSet<Row>>,
    min_confidence: u16,
    /// Nothing is asked but the scope and the layers.
    free: bool,
    at_seq: u64,
    now_ms: i64,
    /// Documents of the groups admitted, filters apart.
    pub(super) documents: u64,
    mean_length: f32,
}

impl<'a> Gate<'a> {
    /// `None` where nothing can be seen: the scope lies outside the caller's, or a filter names what no document has.
    pub(super) fn new(table: &'a Table, cx: &Context, ask: &'a Ask) -> Option<Self> {
        let scope = cx.scope.narrow(&ask.scope)?;
        let (mut documents, mut terms) = (0, 0);
        let groups = table
            .groups()
            .map(|(group, size)| {
                let admitted = scope.covers(&group.scope)
                    && (ask.layers.is_empty() || ask.layers.contains(&group.layer));
                if admitted {
                    documents += size.documents;
                    terms += size.terms;
                }
                admitted
            })
            .collect();
        let filters = &ask.filters;
        let kind = match &filters.kind {
            Some(kind) => Some(table.kinds.find(kind)?),
            None => None,
        };
        let tags = filters.tags.iter().map(|tag| table.tags.find(tag)).collect::<Option<Vec<_>>>()?;
        let free = cx.at_seq.is_none() && *filters == Filters::default();
        Some(Self {
            free,
            table,
            groups,
            filters,
            kind,
            tags,
            sessions: filters.session.as_ref().map(|session| table.sessions_named(session)),
            only: filters.only.as_ref().map(|ids| ids.iter().filter_map(|id| table.find(id)).collect()),
            min_confidence: (filters.min_confidence.unwrap_or(0.0).clamp(0.0, 1.0) * 1000.0).round() as u16,
            at_seq: cx.at_seq.unwrap_or(u64::MAX),
            now_ms: i64::try_from(cx.now_ms).unwrap_or(i64::MAX),
            documents,
            mean_length: if documents == 0 { 1.0 } else { terms as f32 / documents as f32 },
        })
    }

    /// Whether a document is of an admitted scope and layer.
    pub(super) fn in_scope(&self, row: Row) -> bool {
        let group = self.table.groups_of().get(row as usize);
        group.and_then(|group| self.groups.get(*group as usize)).copied().unwrap_or(false)
    }

    /// Whether a document may be seen.
    pub(super) fn admits(&self, row: Row) -> bool {
        self.in_scope(row) && self.fits(row)
    }

    /// Whether a document of an admitted scope and layer meets the conditions.
    fn fits(&self, row: Row) -> bool {
        self.free && self.table.is_ordinary(row)
            || self.table.facts(row).is_some_and(|facts| self.passes(row, facts))
    }

    fn passes(&self, row: Row, facts: &Facts) -> bool {
        let wanted = self.filters;
        let current = match wanted.valid_at {
            Some(at) => facts.valid_from <= at && at < facts.valid_to,
            None => wanted.include_superseded || (!facts.superseded && self.now_ms < facts.valid_to),
        };
        current
            && !facts.hidden
            && (!facts.faded || self.only.is_some())
            && facts.order <= self.at_seq
            && facts.confidence >= self.min_confidence
            && wanted.range.is_none_or(|(from, to)| from <= facts.at_ms && facts.at_ms < to)
            && self.kind.is_none_or(|kind| facts.kind == kind)
            && self.tags.iter().all(|tag| facts.tags.contains(tag))
            && self.sessions.as_ref().is_none_or(|sessions| sessions.contains(&facts.session))
            && self.only.as_ref().is_none_or(|only| only.contains(&row))
    }
}

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
    fn new(
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
    fn best(&self) -> impl Iterator<Item = Row> {
        self.best_words.iter().chain(&self.best_vectors).copied()
    }

    /// The scores of a document that has nothing to do with the query: no word of it, and two deviations off in meaning.
    fn floor(&self) -> (f64, f64) {
        let meaning = if self.query.is_some() { -2.0 * self.weights.vector } else { 0.0 };
        (self.weights.bm25 * self.words_spread.z(0.0), meaning)
    }

    /// What words and meaning add to the score of a document, 0 for one that has nothing to do with the query.
    fn above_floor(&self, row: Row) -> (f64, f64) {
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
struct Pool<'a> {
    table: &'a Table,
    weights: Weights,
    candidates: Vec<Candidate>,
    /// The highest score by words and meaning.
    best: f64,
}

impl<'a> Pool<'a> {
    fn new(
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
                    vector: channels.query.is_some().then_some(meaning),
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
    fn sharpen(&mut self) {
        for candidate in &mut self.candidates {
            candidate.scale(candidate.score);
        }
    }

    /// What was said right before and after belongs to it: an answer is found by its question. Three turns each way, each next
    /// one worth half.
    fn add_neighbours(&mut self, channels: &Channels<'_>, gate: &Gate<'_>) {
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
    fn add_sessions(&mut self) {
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
    fn add_substance(&mut self, mean_length: f32) {
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
    fn add_actor(&mut self, query: &str) {
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
    fn add_time(&mut self, query: &str, now_ms: u64) {
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
    fn add_parts(&mut self, parts: &[Channels<'_>]) {
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
    fn add_graph(&mut self, led: &HashMap<Row, f64>) {
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
    fn add_recency(&mut self, now_ms: u64) {
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

    fn best(mut self, limit: usize) -> Vec<Found> {
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
