//! Where read models keep their rows: one database for the read side, apart from the log. Rows and the position they
//! stand for are written in one batch, so a crash leaves a read model behind and never astray; nothing needs a sync, because
//! the log has it all.
//!
//! A read model implements [`Fold`]; [`Rows`] makes a projection of it. Its tables have a generation: a rebuild fills those of
//! the next one, and when it is done readers go over to them.

mod batch;
mod fold;
mod scrub;
mod table;
#[cfg(test)]
mod tests;
mod written_out;

pub use batch::Batch;
pub use fold::{Fold, Rows};
pub(crate) use table::decode;
pub use table::{Order, Table};

use athena_schemas::refusal::{Code, Refusal};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use scrub::BALLAST;
use std::collections::{BTreeMap, HashMap};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};
use table::{Backing, Place};

/// Why rows could not be read or written.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the read side's store: {0}")]
pub struct StoreError(String);

impl StoreError {
    pub(crate) fn of(cause: impl std::fmt::Display) -> Self {
        Self(cause.to_string())
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self::new(Code::Unavailable, error.to_string()).hint("athena doctor; store/rebuild makes it anew")
    }
}

/// Bytes of rows that a table keeps in memory before it writes them out. There are some forty tables: the engine's own 64 MiB
/// for each would let the read side of a large import grow to gigabytes.
const MEMTABLE: u64 = 4 << 20;

type Memory = Arc<RwLock<BTreeMap<(u32, Vec<u8>), Vec<u8>>>>;

#[derive(Clone)]
enum Backend {
    Disk(Database, PathBuf),
    Memory(Memory),
}

/// The database of the read side, in a folder or in memory.
#[derive(Clone)]
pub struct Store {
    backend: Backend,
    names: Arc<Mutex<Names>>,
    /// Which tables of a name it opens: those of the first generation have no number.
    generation: u64,
    /// Bytes that were written since memory was last written out.
    gathered: Arc<AtomicU64>,
    /// Tables are made anew: a rebuild that was cut off may have left some.
    anew: bool,
}

/// The tables that are in use, and the number of each.
#[derive(Default)]
struct Names {
    numbers: HashMap<String, u32>,
    next: u32,
}

impl Names {
    fn number(&mut self, name: &str) -> u32 {
        let next = self.next;
        *self.numbers.entry(name.to_owned()).or_insert_with(|| {
            self.next += 1;
            next
        })
    }
}

impl Store {
    /// Opens the database in a folder.
    ///
    /// # Errors
    /// When the folder cannot be written, or another process has it open.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        // Where the note cannot be read, the engine replays.
        if let Err(error) = written_out::empty_journal(folder) {
            tracing::debug!(%error, "the read side's journal stays");
        }
        let database = Database::builder(folder)
            .max_journaling_size(64 << 20)
            .cache_size(32 << 20)
            .open()
            .map_err(StoreError::of)?;
        Ok(Self {
            backend: Backend::Disk(database, folder.into()),
            names: Arc::default(),
            generation: 0,
            gathered: Arc::default(),
            anew: false,
        })
    }

    /// A database in memory, for tests and time travel.
    pub fn memory() -> Self {
        Self {
            backend: Backend::Memory(Arc::default()),
            names: Arc::default(),
            generation: 0,
            gathered: Arc::default(),
            anew: false,
        }
    }

    /// The table of this name.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn table(&self, name: &'static str) -> Result<Table, StoreError> {
        let name = match self.generation {
            0 => name.to_owned(),
            generation => format!("{name}@{generation}"),
        };
        let rows = match &self.backend {
            Backend::Disk(database, _) => {
                if self.anew && database.keyspace_exists(&name) {
                    let left = database.keyspace(&name, KeyspaceCreateOptions::default);
                    left.and_then(|left| database.delete_keyspace(left)).map_err(StoreError::of)?;
                }
                let options = || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE);
                Backing::Disk(database.keyspace(&name, options).map_err(StoreError::of)?)
            }
            Backend::Memory(memory) => Backing::Memory(Arc::clone(memory)),
        };
        Ok(Table::from(Place { number: self.names().number(&name), rows }))
    }

    fn names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same database, with the tables of a generation.
    fn generation(&self, generation: u64) -> Self {
        Self { generation, ..self.clone() }
    }

    /// The same database, with new tables of a generation.
    fn anew(&self, generation: u64) -> Self {
        Self { generation, anew: true, ..self.clone() }
    }

    /// Removes a table and its files. Who reads it meanwhile may go on.
    fn discard(&self, table: &Table) -> Result<(), StoreError> {
        let Place { number, rows } = table.place();
        self.names().numbers.retain(|_, other| *other != number);
        match (rows, &self.backend) {
            (Backing::Disk(keyspace), Backend::Disk(database, _)) => {
                database.delete_keyspace(keyspace).map_err(StoreError::of)
            }
            (Backing::Memory(memory), _) => {
                let mut rows = memory.write().unwrap_or_else(PoisonError::into_inner);
                rows.retain(|(other, _), _| *other != number);
                Ok(())
            }
            (Backing::Disk(_), Backend::Memory(_)) => Ok(()),
        }
    }

    /// Removes the tables that nothing has opened: what a rebuild that was cut off has left, and what no read model has any more.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn sweep(&self) -> Result<(), StoreError> {
        let Backend::Disk(database, _) = &self.backend else { return Ok(()) };
        let used = self.names();
        for keyspace in keyspaces(database)? {
            let name: &str = keyspace.name();
            if name != BALLAST && !used.numbers.contains_key(name) {
                database.delete_keyspace(keyspace).map_err(StoreError::of)?;
            }
        }
        Ok(())
    }

    /// Whether there is room for a rebuild beside what there is: as much again, twice, for the search index grows beside as well.
    /// It is tried, by writing. The engine cannot go on where the disk fills up under it.
    ///
    /// # Errors
    /// When there is none.
    pub fn room_beside(&self) -> Result<(), StoreError> {
        let Backend::Disk(database, folder) = &self.backend else { return Ok(()) };
        let tables: u64 = keyspaces(database)?.iter().map(Keyspace::disk_space).sum();
        let steps = 2 * tables / ROOM_STEP as u64 + ROOM_STEPS;
        let path = folder.join("probe");
        let tried = std::fs::File::create(&path).and_then(|mut probe| {
            let bytes = vec![1; ROOM_STEP];
            (0..steps).try_for_each(|_| probe.write_all(&bytes))
        });
        // What is left of it goes with the next one.
        let removed = std::fs::remove_file(&path);
        tried.and(removed).map_err(StoreError::of)
    }

    /// Changes to be written at once.
    pub fn batch(&self) -> Batch {
        Batch::new(self.clone())
    }

    /// Makes everything written durable.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn persist(&self) -> Result<(), StoreError> {
        match &self.backend {
            Backend::Disk(database, _) => database.persist(PersistMode::SyncData).map_err(StoreError::of),
            Backend::Memory(_) => Ok(()),
        }
    }

    /// Bytes that were written since memory was last [written out](Self::begin_write_out).
    pub fn gathered(&self) -> u64 {
        self.gathered.load(Ordering::Relaxed)
    }

    /// Begins to write everything out of memory, and does not wait for it.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn begin_write_out(&self) -> Result<(), StoreError> {
        self.gathered.store(0, Ordering::Relaxed);
        let Backend::Disk(database, _) = &self.backend else { return Ok(()) };
        keyspaces(database)?
            .iter()
            .try_for_each(|keyspace| keyspace.rotate_memtable().map(drop))
            .map_err(StoreError::of)
    }

    /// Lets go of the memory of what was written out: for readers of older snapshots the engine keeps it until something that was
    /// written later is written out as well. For a pause.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn let_go(&self) -> Result<(), StoreError> {
        let Backend::Disk(database, _) = &self.backend else { return Ok(()) };
        let ballast = database.keyspace(BALLAST, KeyspaceCreateOptions::default).map_err(StoreError::of)?;
        ballast.remove("pause").map_err(StoreError::of)?;
        ballast.rotate_memtable().map(drop).map_err(StoreError::of)
    }

    /// Writes everything out of memory, for an end after which the next opening has nothing to replay. Nothing may write
    /// meanwhile; what is written afterwards is safe all the same.
    ///
    /// # Errors
    /// When the disk fails or is full, or the engine does not get there in time: the next opening then replays.
    pub fn write_out(&self) -> Result<(), StoreError> {
        let Backend::Disk(database, folder) = &self.backend else { return Ok(()) };
        let all = keyspaces(database)?;
        self.begin_write_out()?;
        let deadline = Instant::now() + WRITE_OUT_PATIENCE;
        while all.iter().any(|keyspace| keyspace.sealed_memtable_count() > 0) {
            database.persist(PersistMode::Buffer).map_err(StoreError::of)?;
            in_time(deadline)?;
        }
        written_out::note(folder).map_err(StoreError::of)
    }

    /// Bytes on disk; 0 in memory.
    pub fn disk_bytes(&self) -> u64 {
        match &self.backend {
            Backend::Disk(database, _) => database.disk_space().unwrap_or(0),
            Backend::Memory(_) => 0,
        }
    }
}

/// What room is tried in, bytes, and how many steps are tried at least.
const ROOM_STEP: usize = 1 << 20;
const ROOM_STEPS: u64 = 32;

/// How long writing out may wait for the engine: an end that nobody waits for any more is no clean one.
const WRITE_OUT_PATIENCE: Duration = Duration::from_secs(5);

/// All keyspaces there are.
fn keyspaces(database: &Database) -> Result<Vec<Keyspace>, StoreError> {
    let names = database.list_keyspace_names();
    let open = |name| database.keyspace(name, KeyspaceCreateOptions::default).map_err(StoreError::of);
    names.iter().map(|name| open(name)).collect()
}

fn in_time(deadline: Instant) -> Result<(), StoreError> {
    if Instant::now() > deadline {
        return Err(StoreError::of("the engine took too long to write its files"));
    }
    std::thread::park_timeout(Duration::from_millis(2));
    Ok(())
}
