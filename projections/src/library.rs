//! All read models of one store, and the answers they give: what the router holds as [`Views`].
//!
//! Adding a read model is one field and one line in [`Library::open`]; answering a layer's queries is one file in `views/`.

use crate::advice::Advised;
use crate::agenda::Agenda;
use crate::approvals::Approvals;
use crate::audit::Audit;
use crate::evidence;
use crate::insights::Insights;
use crate::items::Items;
use crate::journal::Journal;
use crate::network::{Graph, Network};
use crate::passes::Passes;
use crate::procedures::Procedures;
use crate::proposals::Proposals;
use crate::ratings::Ratings;
use crate::repository::{Commits, Versions};
use crate::runs::Runs;
use crate::search::embed::Embedder;
use crate::search::{Finder, Search};
use crate::store::{Fold, Rows, Store, StoreError};
use athena_schemas::catalog::{AllQueries, Command, Query};
use athena_schemas::context::{Context, Evidence, Scope};
use athena_schemas::envelope::Seq;
use athena_schemas::event::Event;
use athena_schemas::ports::{Called, LogReader, Projection, ProjectionError, Recorded, Sealer, Views};
use athena_schemas::refusal::{Code, Refusal};
use serde_json::Value;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Records read at once when a library is filled.
const PAGE: usize = 512;

/// What a library is made with.
#[derive(Clone, Default)]
pub struct Options {
    /// Where its files lie; in memory where missing.
    pub folder: Option<PathBuf>,
    /// The model that texts are embedded with; words alone are searched where missing.
    pub model: Option<Arc<dyn Embedder>>,
}

/// All read models of one store.
pub struct Library {
    /// Episodes, facts and their indexes.
    pub items: Items,
    /// Tasks, goals and triggers.
    pub agenda: Agenda,
    /// Entities and edges.
    pub graph: Graph,
    /// What people were asked.
    pub approvals: Approvals,
    /// Who did what.
    pub audit: Audit,
    /// Procedures and their versions.
    pub procedures: Procedures,
    /// What consolidation found and what of it counts.
    pub insights: Insights,
    /// Which passes of consolidation there were.
    pub passes: Passes,
    /// What language models proposed.
    pub proposals: Proposals,
    /// Which commit each version of a procedure is.
    pub commits: Commits,
    /// How items were rated.
    pub ratings: Ratings,
    /// Which tools worked after which searches.
    pub advice: Advised,
    /// Who read what, since the store was opened.
    pub journal: Journal,
    /// The read side of search.
    pub finder: Finder,
    /// Runs and sessions.
    pub runs: Runs,
    /// The rows of all read models.
    pub store: Store,
    /// What opening did, and how long each part of it took.
    pub phases: Vec<(String, Duration)>,
    shared: Vec<Shared>,
    options: Options,
    log: Option<(Arc<dyn LogReader>, Arc<dyn Sealer>)>,
    past: Mutex<Option<(Seq, Arc<Library>)>>,
    /// The graph last asked for, as of its version.
    pub(crate) networks: Mutex<Option<(Scope, u64, Arc<Network>)>>,
}

impl Library {
    /// Opens all read models.
    ///
    /// # Errors
    /// When the folder cannot be written, or another process has it open.
    pub fn open(options: Options) -> Result<Self, ProjectionError> {
        let failed = |error: StoreError| ProjectionError::Store { name: "library", cause: error.to_string() };
        let (mut phases, mut since) = (Vec::new(), Instant::now());
        let mut phase = |name: &str| {
            phases.push((name.to_owned(), std::mem::replace(&mut since, Instant::now()).elapsed()));
        };
        let store = match &options.folder {
            Some(folder) => Store::open(&folder.join("rows")).map_err(failed)?,
            None => Store::memory(),
        };
        phase("read models: engine");
        let index = options.folder.as_ref().map(|folder| folder.join("search"));
        let search = Search::open(index.as_deref(), options.model.clone())?;
        let finder = search.finder();
        phase("read models: search index");
        let mut shared = Vec::new();
        let items = rows(&store, &mut shared).map_err(failed)?;
        let agenda = rows(&store, &mut shared).map_err(failed)?;
        let graph = rows(&store, &mut shared).map_err(failed)?;
        let runs = rows(&store, &mut shared).map_err(failed)?;
        let approvals = rows(&store, &mut shared).map_err(failed)?;
        let audit = rows(&store, &mut shared).map_err(failed)?;
        let procedures = rows(&store, &mut shared).map_err(failed)?;
        let ratings = rows(&store, &mut shared).map_err(failed)?;
        let insights = rows(&store, &mut shared).map_err(failed)?;
        let passes = rows(&store, &mut shared).map_err(failed)?;
        let proposals = rows(&store, &mut shared).map_err(failed)?;
        let advice = rows(&store, &mut shared).map_err(failed)?;
        store.sweep().map_err(failed)?;
        phase("read models: tables");
        let repository = options.folder.as_ref().map(|folder| folder.join("procedures.git"));
        let versions = Versions::open(repository.as_deref())?;
        let commits = versions.commits();
        phase("read models: procedures");
        shared.push(Shared::of(Box::new(versions)));
        shared.push(Shared::of(Box::new(search)));
        Ok(Self {
            advice,
            phases,
            approvals,
            audit,
            procedures,
            insights,
            passes,
            proposals,
            commits,
            ratings,
            journal: Journal::default(),
            items,
            agenda,
            graph,
            finder,
            runs,
            store,
            shared,
            options,
            log: None,
            past: Mutex::default(),
            networks: Mutex::default(),
        })
    }

    /// Gives it the log, so that it can answer as of an earlier position.
    #[must_use]
    pub fn with_log(mut self, reader: Arc<dyn LogReader>, sealer: Arc<dyn Sealer>) -> Self {
        self.log = Some((reader, sealer));
        self
    }

    /// A library as it was at a position, in memory, read from the log.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn at(
        reader: &dyn LogReader,
        sealer: &dyn Sealer,
        seq: Seq,
        options: &Options,
    ) -> Result<Self, Refusal> {
        let library = Self::open(Options { folder: None, model: options.model.clone() }).map_err(unread)?;
        library.drive(reader, sealer, seq, &mut |_| true)?;
        Ok(library)
    }

    /// Has all read models of a library that nobody else drives see the events up to a position. `told` hears how far it has
    /// come, and answers whether to go on.
    ///
    /// # Errors
    /// When the log cannot be read; [`Code::Cancelled`] when `told` answers no.
    pub fn drive(
        &self,
        reader: &dyn LogReader,
        sealer: &dyn Sealer,
        seq: Seq,
        told: &mut dyn FnMut(Seq) -> bool,
    ) -> Result<(), Refusal> {
        let mut projections = self.projections();
        let mut after = self.position();
        while after < seq {
            let limit = PAGE.min(usize::try_from(seq - after).unwrap_or(PAGE));
            let records = reader.read(after, limit)?;
            let Some(last) = records.last().map(|record| record.seq) else { break };
            let batch: Vec<Recorded> = records
                .into_iter()
                .map(|record| {
                    let event = record.event::<Event>(sealer)?;
                    Ok(Recorded { record: Arc::new(record), event })
                })
                .collect::<Result<_, Refusal>>()?;
            for projection in &mut projections {
                projection.apply(&batch).map_err(unread)?;
            }
            after = last;
            if !told(after) {
                return Err(Refusal::new(Code::Cancelled, "given up"));
            }
        }
        Ok(())
    }

    /// Its projections, for whoever drives them. Each call gives handles on the same ones.
    pub fn projections(&self) -> Vec<Box<dyn Projection>> {
        self.shared.iter().map(|shared| Box::new(shared.clone()) as Box<dyn Projection>).collect()
    }

    /// The last position that all of its read models have seen.
    pub fn position(&self) -> Seq {
        self.shared.iter().map(Shared::seen).min().unwrap_or(0)
    }

    /// Each read model and the last position it has seen.
    pub fn positions(&self) -> Vec<(&'static str, Seq)> {
        self.shared.iter().map(|shared| (shared.name, shared.seen())).collect()
    }

    /// Forgets the answers of an earlier position: something in them was erased.
    pub fn forget_past(&self) {
        self.past.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Where the answers of an earlier position come from. The last one asked for is kept.
    fn past(&self, seq: Seq) -> Result<Arc<Self>, Refusal> {
        let (reader, sealer) = self.log.as_ref().ok_or_else(|| {
            Refusal::new(Code::Unavailable, "this library has no log to look back into")
                .hint("leave out at_seq")
        })?;
        let mut kept = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, library)) = kept.as_ref()
            && *at == seq
        {
            return Ok(Arc::clone(library));
        }
        let library = Arc::new(Self::at(reader.as_ref(), sealer.as_ref(), seq, &self.options)?);
        *kept = Some((seq, Arc::clone(&library)));
        Ok(library)
    }
}

impl Views for Library {
    fn answer(&self, cx: &Context, query: Query) -> Result<Value, Refusal> {
        let op = query.id();
        let answer = match cx.at_seq {
            Some(seq) if seq < self.position() => self.past(seq)?.answer_any(cx, query),
            _ => self.answer_any(cx, query),
        };
        if let Ok(answer) = &answer {
            self.journal.note(cx, op, answer);
        }
        answer
    }

    fn called(&self, call: Called<'_>) {
        self.journal.called(call);
    }

    fn gather(&self, cx: &Context, command: &Command) -> Result<Evidence, Refusal> {
        evidence::gather(self, cx, command)
    }
}

fn unread(error: ProjectionError) -> Refusal {
    Refusal::new(Code::Unavailable, error.to_string()).hint("athena doctor")
}

/// Opens a read model of rows: answers what reads it, and adds what drives it.
fn rows<F: Fold>(store: &Store, shared: &mut Vec<Shared>) -> Result<F, StoreError> {
    let rows = Rows::open(store)?;
    let reader = rows.reader();
    shared.push(Shared::of(Box::new(rows)));
    Ok(reader)
}

/// A projection that the library and its driver share. Its position is read without waiting for a batch under way.
#[derive(Clone)]
struct Shared {
    name: &'static str,
    version: u32,
    seen: Arc<AtomicU64>,
    inner: Arc<Mutex<Box<dyn Projection>>>,
}

impl Shared {
    fn of(inner: Box<dyn Projection>) -> Self {
        Self {
            name: inner.name(),
            version: inner.version(),
            seen: Arc::new(AtomicU64::new(inner.position())),
            inner: Arc::new(Mutex::new(inner)),
        }
    }

    fn seen(&self) -> Seq {
        self.seen.load(Ordering::Acquire)
    }

    fn with<T>(&self, act: impl FnOnce(&mut dyn Projection) -> T) -> T {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let result = act(inner.as_mut());
        self.seen.store(inner.position(), Ordering::Release);
        result
    }
}

impl Projection for Shared {
    fn name(&self) -> &'static str {
        self.name
    }

    fn version(&self) -> u32 {
        self.version
    }

    fn position(&self) -> Seq {
        self.seen()
    }

    fn apply(&mut self, batch: &[Recorded]) -> Result<(), ProjectionError> {
        self.with(|projection| projection.apply(batch))
    }

    fn flush(&mut self) -> Result<(), ProjectionError> {
        self.with(|projection| projection.flush())
    }

    fn scrub(&mut self) -> Result<(), ProjectionError> {
        self.with(|projection| projection.scrub())
    }

    fn beside(&self) -> Result<Box<dyn Projection>, ProjectionError> {
        self.with(|projection| projection.beside())
    }

    fn adopt(&mut self, built: Box<dyn Projection>) -> Result<(), ProjectionError> {
        self.with(|projection| projection.adopt(built))
    }

    fn digest(&self) -> Result<[u8; 32], ProjectionError> {
        self.with(|projection| projection.digest())
    }
}
