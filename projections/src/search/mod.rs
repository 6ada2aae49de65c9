//! Search: words, meaning and surroundings, fused into one ranking.
//!
//! [`Search`] is the projection: it folds events into documents and keeps them in tantivy (postings), in memory (everything one
//! filters by) and in a vector file. [`Finder`] is its read side; it can be cloned and asked from any thread. A document is
//! found as soon as it was applied: what tantivy has not committed yet lies in a small index in memory.
//!
//! Read [`document`] for what is indexed, `retrieve` for how an answer comes about, [`fusion`] for how it is ranked.

pub mod ask;
mod channels;
pub mod document;
pub mod embed;
pub mod expand;
pub mod follow;
pub mod fusion;
mod gate;
mod kept;
mod later;
pub mod lessons;
pub mod lexicon;
pub mod pack;
mod place;
pub mod plan;
mod pool;
mod retrieve;
pub mod table;
#[cfg(test)]
mod tests;
pub mod text;
pub mod vectors;

pub use ask::{Ask, Filters, Found, Strategy, Weights};

use athena_schemas::context::Context;
use athena_schemas::envelope::Seq;
use athena_schemas::event::Event;
use athena_schemas::id::Id;
use athena_schemas::layers::rag;
use athena_schemas::ports::{Projection, ProjectionError, Recorded, same};
use athena_schemas::refusal::{Code, Refusal};
use document::{Change, Document, changes_of};
use embed::Embedder;
use gate::Gate;
use later::Later;
use lessons::Lessons;
use lexicon::{Delta, Entry, Snapshot, Writer};
use place::Place;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::io::{Seek, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use table::{Row, Table};
use text::Analyzer;
use vectors::{Quantized, Vectors};

/// Name of the projection.
const NAME: &str = "search";
/// Version of this code: another one than the stored means rebuild.
const VERSION: u32 = 3;
/// Changes that wait in memory before they are committed even without a pause.
const COMMIT_CHANGES: usize = 8_000;
/// Changes worth a commit in a pause; fewer wait, and are read from the log again after a restart.
const PAUSE_CHANGES: usize = 2_000;

/// What a search reads.
pub(crate) struct State {
    pub(crate) table: Table,
    pub(crate) snapshot: Snapshot,
    pub(crate) vectors: Option<Vectors>,
    pub(crate) model: Option<Arc<dyn Embedder>>,
    pub(crate) lessons: Lessons,
    /// Which building it is: rows of another one are other documents.
    pub(crate) building: u64,
}

/// The read side of search.
#[derive(Clone)]
pub struct Finder {
    state: Arc<RwLock<State>>,
    pub(crate) analyzer: Arc<Analyzer>,
    pub(crate) later: Arc<Later>,
}

impl Finder {
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many documents there are.
    pub fn documents(&self) -> usize {
        self.read().table.documents()
    }

    /// The name of the model in use; `None` where words alone are searched.
    pub fn model(&self) -> Option<String> {
        self.read().model.as_ref().map(|model| model.name().to_owned())
    }

    /// Whether a search may see an item, and its filters let it through.
    pub fn sees(&self, cx: &Context, ask: &Ask, id: &Id) -> bool {
        let state = self.read();
        let row = state.table.find(id);
        row.is_some_and(|row| Gate::new(&state.table, cx, ask).is_some_and(|gate| gate.admits(row)))
    }

    /// The words of a query that an item has, and those it has not.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn matched(&self, query: &str, id: &Id) -> Result<(Vec<String>, Vec<String>), Refusal> {
        let text = self.document(id)?.map(|document| document.text).unwrap_or_default();
        let has: HashSet<String> = self.analyzer.terms(&text).collect();
        let words = text::words(query).filter_map(|word| Some((self.analyzer.term(word)?, word.to_owned())));
        let (matched, missing): (Vec<_>, Vec<_>) = words.partition(|(term, _)| has.contains(term));
        let plain = |words: Vec<(String, String)>| words.into_iter().map(|(_, word)| word).collect();
        Ok((plain(matched), plain(missing)))
    }

    /// How rare a word is among what who asks may see, in nats; 0 for a word that carries no topic.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn rarity(&self, cx: &Context, word: &str) -> Result<f64, Refusal> {
        let Some(term) = self.analyzer.term(word) else { return Ok(0.0) };
        let (state, ask) = (self.read(), Ask::default());
        let Some(gate) = Gate::new(&state.table, cx, &ask) else { return Ok(0.0) };
        let mut having = 0;
        let mut count = |row, _| having += u64::from(gate.in_scope(row));
        state.snapshot.postings(&term, &mut count).map_err(unreadable)?;
        Ok(f64::from(fusion::bm25::idf(gate.documents, having)))
    }

    /// An item as search sees it.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn document(&self, id: &Id) -> Result<Option<Document>, Refusal> {
        let state = self.read();
        match state.table.find(id) {
            Some(row) => state.snapshot.document(row).map_err(unreadable),
            None => Ok(None),
        }
    }
}

pub(crate) fn unreadable(error: tantivy::TantivyError) -> Refusal {
    Refusal::new(Code::Unavailable, format!("the search index cannot be read: {error}"))
        .hint("athena rebuild search")
}

/// What a commit says about itself.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Payload {
    version: u32,
    position: Seq,
    rows: usize,
    #[serde(default)]
    lessons: Lessons,
}

/// The projection.
pub struct Search {
    finder: Finder,
    writer: Writer,
    place: Option<Place>,
    position: Seq,
    /// Changes since the last commit.
    waiting: usize,
    /// An erasure waits: the next pause must commit.
    urgent: bool,
    /// Rows whose vectors are in the file.
    saved_rows: usize,
    /// Rows of erased items, whose vectors must go from the file with the next commit.
    wiped: Vec<Row>,
    /// Rows of the table that is kept on disk.
    kept_rows: usize,
    /// Something was erased since the start: no table is kept.
    forgot: bool,
}

impl Search {
    /// Opens the index in a folder, or one in memory where there is none. With a model, documents that have no vector of it yet
    /// get one.
    ///
    /// # Errors
    /// When the folder cannot be read or written.
    pub fn open(folder: Option<&Path>, model: Option<Arc<dyn Embedder>>) -> Result<Self, ProjectionError> {
        let mut search = Self::at(folder.map(Place::open).transpose().map_err(store)?)?;
        if let Some(model) = model {
            search.use_model(model)?;
        }
        Ok(search)
    }

    fn at(place: Option<Place>) -> Result<Self, ProjectionError> {
        let (mut writer, payload) = match stored(place.as_ref()) {
            Ok(found) => found,
            // Of another version, or damaged: the log has it all.
            Err(error) => {
                let Some(place) = &place else { return Err(store(error)) };
                tracing::warn!(%error, "the search index is built anew");
                place.empty().map_err(store)?;
                stored(Some(place)).map_err(store)?
            }
        };
        let committed = writer.committed().map_err(store)?;
        let file = place.as_ref().map(|place| place.folder().join(kept::FILE));
        let (mut table, kept_rows) = kept::table(file, &committed).map_err(store)?;
        table.reserve_rows(payload.rows);
        let state = State {
            table,
            snapshot: Snapshot { committed, delta: Delta::default() },
            vectors: None,
            model: None,
            lessons: payload.lessons,
            building: 0,
        };
        let finder =
            Finder { state: Arc::new(RwLock::new(state)), analyzer: Arc::default(), later: Arc::default() };
        Ok(Self {
            finder,
            writer,
            place,
            position: payload.position,
            waiting: 0,
            urgent: false,
            saved_rows: 0,
            wiped: Vec::new(),
            kept_rows,
            forgot: false,
        })
    }

    /// The read side.
    pub fn finder(&self) -> Finder {
        self.finder.clone()
    }

    /// Takes the first model into use. A quick one embeds what has no vector of it yet before it answers, a slow one meanwhile.
    fn use_model(&mut self, model: Arc<dyn Embedder>) -> Result<(), ProjectionError> {
        let mut vectors = self.load_vectors(model.as_ref())?;
        self.saved_rows = vectors.len();
        let missing: Vec<Row> = {
            let state = self.finder.read();
            let rows = 0..state.table.len() as Row;
            rows.filter(|row| state.table.facts(*row).is_some() && !vectors.has(*row)).collect()
        };
        if let Some(first) = missing.first() {
            self.saved_rows = self.saved_rows.min(*first as usize);
        }
        if model.reads_sentences() {
            let mut state = self.finder.write();
            (state.model, state.vectors) = (Some(Arc::clone(&model)), Some(vectors));
            drop(state);
            self.finder.later.push(missing);
            return self.embed_in_background(&model).map_err(store);
        }
        for chunk in missing.chunks(256) {
            let state = self.finder.read();
            let mut texts = Vec::with_capacity(chunk.len());
            for row in chunk {
                texts.push(state.snapshot.document(*row).map_err(store)?.map(|d| d.text).unwrap_or_default());
            }
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            for (row, vector) in chunk.iter().zip(&model.embed(&texts).map_err(store)?) {
                vectors.set(*row, &Quantized::of(vector));
            }
        }
        let mut state = self.finder.write();
        (state.model, state.vectors) = (Some(model), Some(vectors));
        Ok(())
    }

    fn vector_file(&self, model: &dyn Embedder) -> Option<PathBuf> {
        let name: String = model.fingerprint().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        Some(self.place.as_ref()?.folder().join(format!("vectors-{name}-{}.bin", model.dimensions())))
    }

    fn load_vectors(&self, model: &dyn Embedder) -> Result<Vectors, ProjectionError> {
        let rows = self.finder.read().table.len();
        match self.vector_file(model).map(std::fs::read) {
            Some(Ok(records)) => Ok(Vectors::from_records(model.dimensions(), &records, rows)),
            Some(Err(error)) if error.kind() != std::io::ErrorKind::NotFound => Err(store(error)),
            _ => Ok(Vectors::new(model.dimensions())),
        }
    }

    /// Appends the vectors that are not in the file yet. They are on disk before the commit that needs them.
    fn save_vectors(&mut self) -> Result<(), ProjectionError> {
        let state = self.finder.read();
        let (Some(vectors), Some(model)) = (&state.vectors, &state.model) else { return Ok(()) };
        let Some(path) = self.vector_file(model.as_ref()) else { return Ok(()) };
        let mut file =
            std::fs::OpenOptions::new().create(true).write(true).truncate(false).open(path).map_err(store)?;
        // What is still to be embedded is not saved, nor what comes after it.
        let complete = self.finder.later.first().map_or(vectors.len(), |row| vectors.len().min(row as usize));
        let complete = complete.max(self.saved_rows);
        let row_bytes = vectors.dimensions() + 4;
        for row in std::mem::take(&mut self.wiped).into_iter().filter(|row| (*row as usize) < self.saved_rows)
        {
            file.seek(SeekFrom::Start(u64::from(row) * row_bytes as u64)).map_err(store)?;
            file.write_all(&vec![0; row_bytes]).map_err(store)?;
        }
        let kept = (self.saved_rows * row_bytes) as u64;
        file.set_len(kept).map_err(store)?;
        file.seek(SeekFrom::Start(kept)).map_err(store)?;
        file.write_all(&vectors.records(self.saved_rows, complete)).map_err(store)?;
        file.sync_data().map_err(store)?;
        self.saved_rows = complete;
        Ok(())
    }

    fn change(&mut self, change: Change) -> Result<(), ProjectionError> {
        self.waiting += 1;
        match change {
            Change::Put(document) => self.put(*document, None),
            Change::Remove { id, erase } => {
                self.urgent |= erase;
                let replaced =
                    if erase { self.document(&id)?.map(|document| document.supersedes) } else { None };
                self.remove(&id, erase);
                // A rebuild will not see the erased event, so what it did to others is undone now.
                for other in replaced.into_iter().flatten() {
                    self.change(Change::Patch(other, document::Patch::Reopened(id.clone())))?;
                }
                Ok(())
            }
            Change::Patch(id, patch) => {
                let known = {
                    let state = self.finder.read();
                    state.table.find(&id).map(|row| {
                        let vector = state.vectors.as_ref().and_then(|vectors| vectors.get(row));
                        (state.snapshot.document(row), vector)
                    })
                };
                let Some((Some(document), vector)) = known
                    .map(|(document, vector)| document.map(|d| (d, vector)))
                    .transpose()
                    .map_err(store)?
                else {
                    return Ok(());
                };
                let same_text = !matches!(
                    patch,
                    document::Patch::Lines(..) | document::Patch::More(_) | document::Patch::Text(_)
                );
                self.put(document.patched(&patch), vector.filter(|_| same_text))
            }
        }
    }

    fn document(&self, id: &Id) -> Result<Option<Document>, ProjectionError> {
        let state = self.finder.read();
        match state.table.find(id) {
            Some(row) => state.snapshot.document(row).map_err(store),
            None => Ok(None),
        }
    }

    fn put(&mut self, document: Document, vector: Option<Quantized>) -> Result<(), ProjectionError> {
        let model = self.finder.read().model.clone();
        let slow = model.as_ref().is_some_and(|model| model.reads_sentences());
        let vector = match (vector, model) {
            (None, Some(model)) if !slow => {
                model.embed(&[&document.text]).map_err(store)?.first().map(|vector| Quantized::of(vector))
            }
            (vector, _) => vector,
        };
        let queued = slow && vector.is_none();
        let terms: Vec<String> = self.finder.analyzer.terms(&document.text).collect();
        self.remove(&document.id, false);
        let row = self.finder.read().table.len() as Row;
        let body = postcard::to_stdvec(&document).map_err(store)?;
        let entry = Entry { row, terms, document };
        self.writer.add(&entry, &body).map_err(store)?;
        let mut state = self.finder.write();
        state.table.insert(row, &entry.document, entry.terms.len() as u32, fingerprint(&body));
        if let (Some(vectors), Some(vector)) = (&mut state.vectors, &vector) {
            vectors.set(row, vector);
        }
        state.snapshot.delta.insert(entry);
        drop(state);
        if queued {
            self.finder.later.push([row]);
        }
        Ok(())
    }

    fn remove(&mut self, id: &Id, erase: bool) {
        let mut state = self.finder.write();
        let Some(row) = state.table.remove(id) else { return };
        if erase {
            // What a text meant can be told from its vector.
            if let Some(vectors) = &mut state.vectors {
                vectors.clear(row);
            }
            self.wiped.push(row);
            self.forgot = true;
        }
        drop(state);
        self.writer.remove(row, erase);
    }

    fn commit(&mut self) -> Result<(), ProjectionError> {
        // Before the index, or a process that ends in between leaves a table with names of what nothing remembers was erased.
        if self.forgot {
            self.forget_table()?;
        }
        self.save_vectors()?;
        let (rows, lessons) = {
            let state = self.finder.read();
            (state.table.len(), state.lessons.clone())
        };
        let payload = Payload { version: VERSION, position: self.position, rows, lessons };
        let payload = serde_json::to_string(&payload).map_err(store)?;
        let committed = self.writer.commit(&payload).map_err(store)?;
        self.finder.write().snapshot = Snapshot { committed, delta: Delta::default() };
        (self.waiting, self.urgent) = (0, false);
        Ok(())
    }
}

/// The index in a place, and what its last commit says.
fn stored(place: Option<&Place>) -> Result<(Writer, Payload), tantivy::TantivyError> {
    let writer = Writer::open(place.map(|place| place.folder().join("index")).as_deref())?;
    let Some(payload) = writer.payload()? else { return Ok((writer, Payload::default())) };
    match serde_json::from_str::<Payload>(&payload) {
        Ok(payload) if payload.version == VERSION => Ok((writer, payload)),
        _ => Err(tantivy::TantivyError::SchemaError("it was written by another version".into())),
    }
}

/// Digest of a serialized document.
fn fingerprint(body: &[u8]) -> [u8; 16] {
    let mut digest = [0; 16];
    blake3::Hasher::new().update(body).finalize_xof().fill(&mut digest);
    digest
}

fn store(cause: impl std::fmt::Display) -> ProjectionError {
    ProjectionError::Store { name: NAME, cause: cause.to_string() }
}

impl Projection for Search {
    fn name(&self) -> &'static str {
        NAME
    }

    fn version(&self) -> u32 {
        VERSION
    }

    fn position(&self) -> Seq {
        self.position
    }

    fn apply(&mut self, batch: &[Recorded]) -> Result<(), ProjectionError> {
        for recorded in batch {
            let record = &recorded.record;
            if record.seq <= self.position {
                continue;
            }
            if let Some(event) = &recorded.event {
                if let Event::Rag(rag::Event::Judged(judged)) = event {
                    self.finder.write().lessons.learn(&record.draft.meta.scope, &judged.lessons);
                }
                for change in changes_of(event, &record.draft.meta, record.seq) {
                    self.change(change)?;
                }
            }
            self.position = record.seq;
        }
        if self.waiting >= COMMIT_CHANGES { self.commit() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), ProjectionError> {
        let is_table_due = self.is_table_due();
        if is_table_due || self.urgent || self.waiting >= PAUSE_CHANGES {
            self.commit()?;
        }
        // Not with every commit: the table is written as a whole, and a rebuild commits a hundred times.
        if is_table_due { self.keep_table() } else { Ok(()) }
    }

    /// Whatever waits: an erasure may have been committed by a process that ended before it had rewritten the files.
    fn scrub(&mut self) -> Result<(), ProjectionError> {
        self.writer.purge();
        self.commit()
    }

    fn beside(&self) -> Result<Box<dyn Projection>, ProjectionError> {
        let built = Self::at(self.place.as_ref().map(Place::beside).transpose().map_err(store)?)?;
        let live = self.finder.read();
        let mut state = built.finder.write();
        state.building = live.building + 1;
        state.model.clone_from(&live.model);
        state.vectors = live.model.as_ref().map(|model| Vectors::new(model.dimensions()));
        drop((live, state));
        Ok(Box::new(built))
    }

    fn adopt(&mut self, built: Box<dyn Projection>) -> Result<(), ProjectionError> {
        let mut built = same::<Self>(built)?;
        built.commit()?;
        built.keep_table()?;
        let spare = Writer::open(None).map_err(store)?;
        if let (Some(old), Some(new)) = (&mut self.place, &mut built.place) {
            new.succeed(old).map_err(store)?;
        }
        std::mem::swap(self, &mut *built);
        // Others hold the finder, and threads embed for it: it stays, and what it finds changes.
        std::mem::swap(&mut self.finder, &mut built.finder);
        std::mem::swap(&mut *self.finder.write(), &mut *built.finder.write());
        self.finder.later.follow(&built.finder.later);
        // Whatever is being merged would be written into the folder that is about to go.
        std::mem::replace(&mut built.writer, spare).finish().map_err(store)
    }

    fn digest(&self) -> Result<[u8; 32], ProjectionError> {
        let state = self.finder.read();
        let lessons = postcard::to_stdvec(&state.lessons).map_err(store)?;
        Ok(*blake3::Hasher::new().update(&state.table.digest()).update(&lessons).finalize().as_bytes())
    }
}
