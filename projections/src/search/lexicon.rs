//! Postings: on disk in tantivy, and in memory for what was written since the last commit.
//!
//! A commit of tantivy costs tens of milliseconds whatever its size, so new documents first go into a small inverted index in
//! memory (the *delta*), where they are found at once, and into tantivy's writer, where they wait for the next commit. The
//! position in the log travels in the commit's payload: data and position cannot come apart.

use super::document::Document;
use super::table::Row;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tantivy::directory::MmapDirectory;
use tantivy::index::SegmentId;
use tantivy::merge_policy::{LogMergePolicy, NoMergePolicy};
use tantivy::postings::Postings;
use tantivy::schema::{
    FAST, Field, INDEXED, IndexRecordOption, STORED, Schema, TextFieldIndexing, TextOptions, Value,
};
use tantivy::{
    DocSet, Index, IndexReader, IndexWriter, ReloadPolicy, Searcher, TERMINATED, TantivyDocument,
    TantivyError, Term,
};

/// Memory of tantivy's writer before it writes a segment by itself, bytes.
const WRITER_BYTES: usize = 32 << 20;

/// How long a purge may wait for merges that are under way.
const PURGE_PATIENCE: Duration = Duration::from_secs(60);
/// Tantivy's own file beside those of the segments.
const META: &str = "meta.json";

/// The fields of a tantivy document.
#[derive(Debug, Clone, Copy)]
struct Fields {
    row: Field,
    terms: Field,
    body: Field,
}

fn schema() -> (Schema, Fields) {
    let mut schema = Schema::builder();
    let terms = TextOptions::default().set_indexing_options(
        TextFieldIndexing::default()
            .set_tokenizer("whitespace")
            .set_index_option(IndexRecordOption::WithFreqs)
            .set_fieldnorms(false),
    );
    let fields = Fields {
        row: schema.add_u64_field("row", INDEXED | FAST),
        terms: schema.add_text_field("terms", terms),
        body: schema.add_bytes_field("body", STORED),
    };
    (schema.build(), fields)
}

/// A document on its way into the index.
#[derive(Debug)]
pub struct Entry {
    /// Its number.
    pub row: Row,
    /// Its terms in order.
    pub terms: Vec<String>,
    /// Itself.
    pub document: Document,
}

/// The postings of what was written since the last commit.
#[derive(Debug, Default, Clone)]
pub struct Delta {
    postings: HashMap<String, Vec<(Row, u32)>>,
    documents: HashMap<Row, Document>,
}

impl Delta {
    /// Adds a document.
    pub fn insert(&mut self, entry: Entry) {
        let mut terms = entry.terms;
        terms.sort_unstable();
        for same in terms.chunk_by(|one, other| one == other) {
            let Some(term) = same.first() else { continue };
            let posting = (entry.row, same.len() as u32);
            // Most terms are known: no name of their own is made for them.
            match self.postings.get_mut(term) {
                Some(postings) => postings.push(posting),
                None => drop(self.postings.insert(term.clone(), vec![posting])),
            }
        }
        self.documents.insert(entry.row, entry.document);
    }

    /// How many documents it holds.
    pub fn len(&self) -> usize {
        self.documents.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.documents.is_empty()
    }
}

/// What was committed, as of one commit.
#[derive(Clone)]
pub struct Committed {
    searcher: Searcher,
    fields: Fields,
    /// Row of every document of a segment.
    rows: Vec<Arc<Vec<Row>>>,
}

impl Committed {
    /// Calls `each` with row and frequency for every document that holds the term. Documents that were removed since the commit
    /// are among them: the table knows.
    pub fn postings(&self, term: &str, each: &mut dyn FnMut(Row, u32)) -> Result<(), TantivyError> {
        let term = Term::from_field_text(self.fields.terms, term);
        for (segment, rows) in self.searcher.segment_readers().iter().zip(&self.rows) {
            let Some(mut postings) = segment
                .inverted_index(self.fields.terms)?
                .read_postings(&term, IndexRecordOption::WithFreqs)?
            else {
                continue;
            };
            let mut doc = postings.doc();
            while doc != TERMINATED {
                if let Some(row) = rows.get(doc as usize) {
                    each(*row, postings.term_freq());
                }
                doc = postings.advance();
            }
        }
        Ok(())
    }

    fn document(&self, row: Row) -> Result<Option<Document>, TantivyError> {
        let term = Term::from_field_u64(self.fields.row, u64::from(row));
        for segment in self.searcher.segment_readers() {
            let Some(postings) =
                segment.inverted_index(self.fields.row)?.read_postings(&term, IndexRecordOption::Basic)?
            else {
                continue;
            };
            if postings.doc() != TERMINATED {
                let stored: TantivyDocument = segment.get_store_reader(8)?.get(postings.doc())?;
                return Ok(body(&stored, self.fields).map(|(_, document, _)| document));
            }
        }
        Ok(None)
    }

    /// The rows of all documents, without those that were removed.
    pub fn alive(&self) -> impl Iterator<Item = Row> {
        self.searcher.segment_readers().iter().zip(&self.rows).flat_map(|(segment, rows)| {
            rows.iter().zip(0..).filter(|(_, doc)| !segment.is_deleted(*doc)).map(|(row, _)| *row)
        })
    }

    /// Calls `each` with row, number of terms, content and its serialized form of every committed document whose row is wanted,
    /// in no order.
    pub fn documents(
        &self,
        wanted: &dyn Fn(Row) -> bool,
        each: &mut dyn FnMut(Row, u32, Document, &[u8]),
    ) -> Result<(), TantivyError> {
        for (segment, rows) in self.searcher.segment_readers().iter().zip(&self.rows) {
            let store = segment.get_store_reader(2)?;
            for (doc, row) in rows.iter().enumerate() {
                if segment.is_deleted(doc as u32) || !wanted(*row) {
                    continue;
                }
                let stored = store.get::<TantivyDocument>(doc as u32)?;
                if let Some((terms, document, body)) = body(&stored, self.fields) {
                    each(*row, terms, document, body);
                }
            }
        }
        Ok(())
    }
}

/// Number of terms, content and its serialized form of a stored document: one serialized after the other.
fn body(stored: &TantivyDocument, fields: Fields) -> Option<(u32, Document, &[u8])> {
    let (terms, body) = postcard::take_from_bytes(stored.get_first(fields.body)?.as_bytes()?).ok()?;
    Some((terms, postcard::from_bytes(body).ok()?, body))
}

/// Both, as a search reads them.
#[derive(Clone)]
pub struct Snapshot {
    /// On disk.
    pub committed: Committed,
    /// In memory.
    pub delta: Delta,
}

impl Snapshot {
    /// Calls `each` with row and frequency for every document that holds the term; removed ones may be among them.
    pub fn postings(&self, term: &str, each: &mut dyn FnMut(Row, u32)) -> Result<(), TantivyError> {
        self.committed.postings(term, each)?;
        for (row, count) in self.delta.postings.get(term).into_iter().flatten() {
            each(*row, *count);
        }
        Ok(())
    }

    /// The document of a row.
    pub fn document(&self, row: Row) -> Result<Option<Document>, TantivyError> {
        match self.delta.documents.get(&row) {
            Some(document) => Ok(Some(document.clone())),
            None => self.committed.document(row),
        }
    }
}

/// The writing side of the index.
pub struct Writer {
    index: Index,
    writer: IndexWriter,
    reader: IndexReader,
    fields: Fields,
    rows: HashMap<SegmentId, Arc<Vec<Row>>>,
    /// Something was erased: segments that still hold it must be rewritten at the next commit.
    purge: bool,
}

impl Writer {
    /// Opens or makes an index in a folder, or in memory where there is none.
    pub fn open(folder: Option<&Path>) -> Result<Self, TantivyError> {
        let (schema, fields) = schema();
        let index = match folder {
            None => Index::create_in_ram(schema),
            Some(folder) => {
                std::fs::create_dir_all(folder)?;
                Index::open_or_create(MmapDirectory::open(folder)?, schema)?
            }
        };
        let writer = index.writer_with_num_threads(1, WRITER_BYTES)?;
        let reader = index.reader_builder().reload_policy(ReloadPolicy::Manual).try_into()?;
        Ok(Self { index, writer, reader, fields, rows: HashMap::new(), purge: false })
    }

    /// What the last commit said about itself.
    pub fn payload(&self) -> Result<Option<String>, TantivyError> {
        Ok(self.index.load_metas()?.payload)
    }

    /// Adds a document, which serialized is `body`; it is on disk with the next commit.
    pub fn add(&self, entry: &Entry, body: &[u8]) -> Result<(), TantivyError> {
        let mut document = TantivyDocument::new();
        document.add_u64(self.fields.row, u64::from(entry.row));
        document.add_text(self.fields.terms, entry.terms.join(" "));
        let terms = postcard::to_stdvec(&(entry.terms.len() as u32))
            .map_err(|e| TantivyError::InternalError(e.to_string()))?;
        document.add_bytes(self.fields.body, &[terms.as_slice(), body].concat());
        self.writer.add_document(document)?;
        Ok(())
    }

    /// Takes a document away with the next commit.
    pub fn remove(&mut self, row: Row, erase: bool) {
        self.writer.delete_term(Term::from_field_u64(self.fields.row, u64::from(row)));
        self.purge |= erase;
    }

    /// From the next commit on, no file holds anything that was removed before it.
    pub fn purge(&mut self) {
        self.purge = true;
    }

    /// Commits, and returns what is on disk now. Where something was erased, the segments that held it are rewritten.
    ///
    /// # Errors
    /// When the disk fails, or a merge under way keeps files with what was erased for longer than a minute: the next commit
    /// tries again.
    pub fn commit(&mut self, payload: &str) -> Result<Committed, TantivyError> {
        if self.purge {
            self.writer.set_merge_policy(Box::new(NoMergePolicy));
        }
        let mut commit = self.writer.prepare_commit()?;
        commit.set_payload(payload);
        commit.commit()?;
        if self.purge {
            self.rewrite()?;
            self.writer.set_merge_policy(Box::<LogMergePolicy>::default());
            self.purge = false;
        }
        self.committed()
    }

    /// Rewrites the segments with deleted documents, until there is none and no file is left of what the index was. No merge
    /// begins meanwhile, but one may be under way, and it knows only the deletions from before it began: what it brings forth is
    /// rewritten in its turn.
    fn rewrite(&mut self) -> Result<(), TantivyError> {
        let deadline = Instant::now() + PURGE_PATIENCE;
        loop {
            // Ids only: as long as anybody holds what describes a segment, its files stay.
            let stale: Vec<SegmentId> = self
                .index
                .searchable_segment_metas()?
                .iter()
                .filter(|segment| segment.num_deleted_docs() > 0)
                .map(|segment| segment.id())
                .collect();
            for segment in stale {
                if let Err(error) = self.writer.merge(&[segment]).wait() {
                    tracing::debug!(%error, "a segment was merged before it could be purged");
                }
            }
            self.writer.garbage_collect_files().wait()?;
            if self.is_pure()? {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(TantivyError::SystemError(format!(
                    "files with what was erased are in use for more than {PURGE_PATIENCE:?}"
                )));
            }
            std::thread::park_timeout(Duration::from_millis(2));
        }
    }

    /// Whether all files are those of segments without deleted documents.
    fn is_pure(&self) -> Result<bool, TantivyError> {
        let metas = self.index.load_metas()?;
        let named = metas.list_segment_files();
        let files = self.index.directory().list_managed_files();
        Ok(metas.segments.iter().all(|segment| segment.num_deleted_docs() == 0)
            && files.iter().all(|file| named.contains(file) || file == Path::new(META)))
    }

    /// Ends, once nothing is being merged any more.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn finish(self) -> Result<(), TantivyError> {
        self.writer.wait_merging_threads()
    }

    /// What is on disk now.
    pub fn committed(&mut self) -> Result<Committed, TantivyError> {
        self.reader.reload()?;
        let searcher = self.reader.searcher();
        let mut known = HashMap::new();
        let mut rows = Vec::new();
        for segment in searcher.segment_readers() {
            let id = segment.segment_id();
            let of_segment = match self.rows.get(&id) {
                Some(rows) => Arc::clone(rows),
                None => {
                    let column = segment.fast_fields().u64("row")?;
                    let row =
                        |doc| column.first(doc).and_then(|row| Row::try_from(row).ok()).unwrap_or(Row::MAX);
                    Arc::new((0..segment.max_doc()).map(row).collect())
                }
            };
            known.insert(id, Arc::clone(&of_segment));
            rows.push(of_segment);
        }
        self.rows = known;
        Ok(Committed { searcher, fields: self.fields, rows })
    }
}
