//! Where read models keep their rows: one database for the read side, apart from the log. Rows and the position they
//! stand for are written in one batch, so a crash leaves a read model behind and never astray; nothing needs a sync, because
//! the log has it all.
//!
//! A read model implements [`Fold`]; [`Rows`] makes a [`Projection`] of it.

use crate::written_out;
use athena_schemas::envelope::Seq;
use athena_schemas::event::Event;
use athena_schemas::ports::{Projection, ProjectionError, Recorded};
use athena_schemas::refusal::{Code, Refusal};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

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
    tables: Arc<Mutex<HashMap<&'static str, Table>>>,
}

/// An ordered map of rows.
#[derive(Clone)]
pub struct Table {
    number: u32,
    rows: TableRows,
}

#[derive(Clone)]
enum TableRows {
    Disk(Keyspace),
    Memory(Memory),
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
        Ok(Self { backend: Backend::Disk(database, folder.into()), tables: Arc::default() })
    }

    /// A database in memory, for tests and time travel.
    pub fn memory() -> Self {
        Self { backend: Backend::Memory(Arc::default()), tables: Arc::default() }
    }

    /// The table of this name.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn table(&self, name: &'static str) -> Result<Table, StoreError> {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(table) = tables.get(name) {
            return Ok(table.clone());
        }
        let rows = match &self.backend {
            Backend::Disk(database, _) => {
                let options = || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE);
                TableRows::Disk(database.keyspace(name, options).map_err(StoreError::of)?)
            }
            Backend::Memory(memory) => TableRows::Memory(Arc::clone(memory)),
        };
        let table = Table { number: tables.len() as u32, rows };
        tables.insert(name, table.clone());
        Ok(table)
    }

    /// Changes to be written at once.
    pub fn batch(&self) -> Batch {
        Batch { store: self.clone(), changes: BTreeMap::new() }
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

    /// Writes everything out of memory, for an end after which the next opening has nothing to replay. Nothing may write
    /// meanwhile; what is written afterwards is safe all the same.
    ///
    /// # Errors
    /// When the disk fails or is full, or the engine does not get there in time: the next opening then replays.
    pub fn write_out(&self) -> Result<(), StoreError> {
        let Backend::Disk(database, folder) = &self.backend else { return Ok(()) };
        let all: Vec<Keyspace> = database
            .list_keyspace_names()
            .iter()
            .map(|name| database.keyspace(name, KeyspaceCreateOptions::default).map_err(StoreError::of))
            .collect::<Result<_, _>>()?;
        for keyspace in &all {
            keyspace.rotate_memtable().map_err(StoreError::of)?;
        }
        let deadline = Instant::now() + WRITE_OUT_PATIENCE;
        while all.iter().any(|keyspace| keyspace.sealed_memtable_count() > 0) {
            database.persist(PersistMode::Buffer).map_err(StoreError::of)?;
            in_time(deadline)?;
        }
        written_out::note(folder).map_err(StoreError::of)
    }

    /// Rewrites all files so that what was removed or replaced is in none of them. The engine begins a new journal only
    /// behind a full one, so this one is filled; it takes a second, and longer the more rows there are.
    ///
    /// # Errors
    /// When the disk fails or is full, or the engine does not get there in time.
    pub fn scrub(&self) -> Result<(), StoreError> {
        let Backend::Disk(database, _) = &self.backend else { return Ok(()) };
        let ballast = database.keyspace("ballast", KeyspaceCreateOptions::default).map_err(StoreError::of)?;
        let mut keyspaces = vec![ballast.clone()];
        for table in self.tables.lock().unwrap_or_else(PoisonError::into_inner).values() {
            if let TableRows::Disk(keyspace) = &table.rows {
                keyspaces.push(keyspace.clone());
            }
        }
        let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
        for _ in 0..BALLAST / BALLAST_STEP {
            ballast.insert("noise", noise.bytes(BALLAST_STEP)).map_err(StoreError::of)?;
        }
        ballast.remove("noise").map_err(StoreError::of)?;
        database.persist(PersistMode::Buffer).map_err(StoreError::of)?;
        // Every memory is written out behind the full journal, so that the engine begins another and removes this one.
        let deadline = Instant::now() + SCRUB_PATIENCE;
        loop {
            for keyspace in &keyspaces {
                keyspace.rotate_memtable().map_err(StoreError::of)?;
            }
            while keyspaces.iter().any(|keyspace| keyspace.sealed_memtable_count() > 0) {
                database.persist(PersistMode::Buffer).map_err(StoreError::of)?;
                in_time(deadline)?;
            }
            if database.journal_count() == 1 {
                break;
            }
            in_time(deadline)?;
        }
        keyspaces.iter().try_for_each(|keyspace| keyspace.major_compact().map_err(StoreError::of))?;
        // Files that nothing names any more go with the first memory that is written out after a later write.
        for _ in 0..2 {
            ballast.remove("noise").map_err(StoreError::of)?;
            ballast.rotate_memtable_and_wait().map_err(StoreError::of)?;
        }
        Ok(())
    }

    /// Bytes on disk; 0 in memory.
    pub fn disk_bytes(&self) -> u64 {
        match &self.backend {
            Backend::Disk(database, _) => database.disk_space().unwrap_or(0),
            Backend::Memory(_) => 0,
        }
    }
}

/// More than a journal of the engine holds, bytes.
const BALLAST: usize = 72 << 20;
const BALLAST_STEP: usize = 4 << 20;

/// How long writing out may wait for the engine: an end that nobody waits for any more is no clean one.
const WRITE_OUT_PATIENCE: Duration = Duration::from_secs(5);

/// How long rewriting may wait for the engine.
const SCRUB_PATIENCE: Duration = Duration::from_secs(60);

fn in_time(deadline: Instant) -> Result<(), StoreError> {
    if Instant::now() > deadline {
        return Err(StoreError::of("the engine took too long to write its files"));
    }
    std::thread::park_timeout(Duration::from_millis(2));
    Ok(())
}

/// Bytes that do not compress (xorshift; Marsaglia, 2003).
struct Noise(u64);

impl Noise {
    fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(count);
        while bytes.len() < count {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            bytes.extend_from_slice(&self.0.to_le_bytes());
        }
        bytes
    }
}

/// Which way a scan goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Smallest key first.
    Ascending,
    /// Largest key first.
    Descending,
}

impl Table {
    /// The bytes under a key.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        match &self.rows {
            TableRows::Disk(keyspace) => {
                keyspace.get(key).map(|found| found.map(|bytes| bytes.to_vec())).map_err(StoreError::of)
            }
            TableRows::Memory(memory) => Ok(memory
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .get(&(self.number, key.to_vec()))
                .cloned()),
        }
    }

    /// The row under a key.
    ///
    /// # Errors
    /// When the disk fails or the bytes are no such row.
    pub fn row<T: DeserializeOwned>(&self, key: &[u8]) -> Result<Option<T>, StoreError> {
        self.get(key)?.map(|bytes| decode(&bytes)).transpose()
    }

    /// Visits the rows whose keys begin with `prefix` and lie within the bounds, until `visit` says `false`.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn scan(
        &self,
        prefix: &[u8],
        bounds: (Bound<Vec<u8>>, Bound<Vec<u8>>),
        order: Order,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), StoreError> {
        let (lower, upper) = clip(prefix, bounds);
        match &self.rows {
            TableRows::Disk(keyspace) => {
                let mut rows = keyspace.range((lower, upper));
                loop {
                    let next = if order == Order::Ascending { rows.next() } else { rows.next_back() };
                    let Some(row) = next else { return Ok(()) };
                    let (key, value) = row.into_inner().map_err(StoreError::of)?;
                    if !visit(&key, &value) {
                        return Ok(());
                    }
                }
            }
            TableRows::Memory(memory) => {
                let own = |bound: Bound<Vec<u8>>, open: Bound<(u32, Vec<u8>)>| match bound {
                    Bound::Included(key) => Bound::Included((self.number, key)),
                    Bound::Excluded(key) => Bound::Excluded((self.number, key)),
                    Bound::Unbounded => open,
                };
                let lower = own(lower, Bound::Included((self.number, Vec::new())));
                let upper = own(upper, Bound::Excluded((self.number + 1, Vec::new())));
                let map = memory.read().unwrap_or_else(PoisonError::into_inner);
                let mut rows = map.range((lower, upper));
                loop {
                    let next = if order == Order::Ascending { rows.next() } else { rows.next_back() };
                    let Some(((_, key), value)) = next else { return Ok(()) };
                    if !visit(key, value) {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Visits all rows whose keys begin with `prefix`, in order.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn prefix(
        &self,
        prefix: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), StoreError> {
        self.scan(prefix, (Bound::Unbounded, Bound::Unbounded), Order::Ascending, visit)
    }

    /// How many rows there are. Reads all keys.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn count(&self, prefix: &[u8]) -> Result<u64, StoreError> {
        let mut count = 0;
        self.prefix(prefix, &mut |_, _| {
            count += 1;
            true
        })?;
        Ok(count)
    }

    fn clear(&self) -> Result<(), StoreError> {
        match &self.rows {
            // The engine's own way to clear leaves the files where they are until the next start, and they may hold what was
            // erased; what is removed row by row goes with the next compaction.
            TableRows::Disk(keyspace) => keyspace
                .iter()
                .try_for_each(|row| keyspace.remove(row.key()?))
                .map_err(|error: fjall::Error| StoreError::of(error)),
            TableRows::Memory(memory) => {
                memory
                    .write()
                    .unwrap_or_else(PoisonError::into_inner)
                    .retain(|(number, _), _| *number != self.number);
                Ok(())
            }
        }
    }
}

type Bounds = (Bound<Vec<u8>>, Bound<Vec<u8>>);

/// The bounds within a prefix.
fn clip(prefix: &[u8], (lower, upper): Bounds) -> Bounds {
    let lower = match lower {
        Bound::Unbounded if prefix.is_empty() => Bound::Unbounded,
        Bound::Unbounded => Bound::Included(prefix.to_vec()),
        given => given,
    };
    let upper = match upper {
        Bound::Unbounded => after(prefix).map_or(Bound::Unbounded, Bound::Excluded),
        given => given,
    };
    (lower, upper)
}

/// The first key behind all that begin with `prefix`.
fn after(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if let Some(next) = last.checked_add(1) {
            end.push(next);
            return Some(end);
        }
    }
    None
}

pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, StoreError> {
    postcard::from_bytes(bytes).map_err(StoreError::of)
}

/// Changes to be written at once; reads through it see them before they are.
pub struct Batch {
    store: Store,
    changes: BTreeMap<(u32, Vec<u8>), (Table, Option<Vec<u8>>)>,
}

impl Batch {
    /// Sets the bytes under a key.
    pub fn put(&mut self, table: &Table, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.changes.insert((table.number, key.into()), (table.clone(), Some(value.into())));
    }

    /// Sets the row under a key.
    ///
    /// # Errors
    /// When it cannot be serialized.
    pub fn put_row<T: Serialize>(
        &mut self,
        table: &Table,
        key: impl Into<Vec<u8>>,
        row: &T,
    ) -> Result<(), StoreError> {
        self.put(table, key, postcard::to_stdvec(row).map_err(StoreError::of)?);
        Ok(())
    }

    /// Removes what is under a key.
    pub fn remove(&mut self, table: &Table, key: impl Into<Vec<u8>>) {
        self.changes.insert((table.number, key.into()), (table.clone(), None));
    }

    /// The bytes under a key, as they will be.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn get(&self, table: &Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        match self.changes.get(&(table.number, key.to_vec())) {
            Some((_, value)) => Ok(value.clone()),
            None => table.get(key),
        }
    }

    /// The row under a key, as it will be.
    ///
    /// # Errors
    /// When the disk fails or the bytes are no such row.
    pub fn row<T: DeserializeOwned>(&self, table: &Table, key: &[u8]) -> Result<Option<T>, StoreError> {
        self.get(table, key)?.map(|bytes| decode(&bytes)).transpose()
    }

    /// All rows whose keys begin with `prefix`, as they will be, in order. For few rows only: they are copied.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn rows(&self, table: &Table, prefix: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>, StoreError> {
        let mut rows = BTreeMap::new();
        table.prefix(prefix, &mut |key, value| {
            rows.insert(key.to_vec(), value.to_vec());
            true
        })?;
        let own = self.changes.range((table.number, prefix.to_vec())..);
        for ((number, key), (_, value)) in own {
            if *number != table.number || !key.starts_with(prefix) {
                break;
            }
            match value {
                Some(value) => rows.insert(key.clone(), value.clone()),
                None => rows.remove(key),
            };
        }
        Ok(rows.into_iter().collect())
    }

    /// Writes all of it or nothing.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn commit(self) -> Result<(), StoreError> {
        match &self.store.backend {
            Backend::Disk(database, _) => {
                let mut batch = database.batch();
                for ((_, key), (table, value)) in self.changes {
                    let TableRows::Disk(keyspace) = &table.rows else { continue };
                    match value {
                        Some(value) => batch.insert(keyspace, key, value),
                        None => batch.remove(keyspace, key),
                    }
                }
                batch.commit().map_err(StoreError::of)
            }
            Backend::Memory(memory) => {
                let mut map = memory.write().unwrap_or_else(PoisonError::into_inner);
                for (key, (_, value)) in self.changes {
                    match value {
                        Some(value) => map.insert(key, value),
                        None => map.remove(&key),
                    };
                }
                Ok(())
            }
        }
    }
}

/// A read model made of rows.
pub trait Fold: Send + 'static {
    /// Its name, for people and metrics.
    const NAME: &'static str;
    /// The version of its code: another version than the stored one means rebuild.
    const VERSION: u32;

    /// Folds one event into rows.
    ///
    /// # Errors
    /// When the disk fails.
    fn fold(&self, batch: &mut Batch, event: &Event, recorded: &Recorded) -> Result<(), StoreError>;

    /// Folds an event whose content was erased: only its clear part is left.
    ///
    /// # Errors
    /// When the disk fails.
    fn fold_erased(&self, _batch: &mut Batch, _recorded: &Recorded) -> Result<(), StoreError> {
        Ok(())
    }

    /// Folds events that follow each other, all into one batch. For folds that can do that cheaper than one by one.
    ///
    /// # Errors
    /// When the disk fails.
    fn fold_page(&self, batch: &mut Batch, page: &[Recorded]) -> Result<(), StoreError> {
        page.iter().try_for_each(|recorded| match &recorded.event {
            Some(event) => self.fold(batch, event, recorded),
            None => self.fold_erased(batch, recorded),
        })
    }

    /// All its tables: their content is its digest, and a rebuild empties them.
    fn tables(&self) -> Vec<Table>;
}

/// The projection that keeps a [`Fold`]'s rows, and with them its position.
pub struct Rows<F> {
    fold: F,
    store: Store,
    positions: Table,
    position: Seq,
}

impl<F: Fold> Rows<F> {
    /// Takes up where it stopped; from the beginning if its code has changed.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn open(store: &Store, fold: F) -> Result<Self, StoreError> {
        let positions = store.table("positions")?;
        let stored: Option<(u32, Seq)> = positions.row(F::NAME.as_bytes())?;
        let mut rows = Self { fold, store: store.clone(), positions, position: 0 };
        match stored {
            Some((version, position)) if version == F::VERSION => rows.position = position,
            Some(_) => rows.empty()?,
            None => {}
        }
        Ok(rows)
    }

    fn empty(&mut self) -> Result<(), StoreError> {
        let mut batch = self.store.batch();
        batch.remove(&self.positions, F::NAME.as_bytes());
        batch.commit()?;
        for table in self.fold.tables() {
            table.clear()?;
        }
        self.position = 0;
        Ok(())
    }

    fn take(&mut self, records: &[Recorded]) -> Result<(), StoreError> {
        let Some(last) = records.last().map(|last| last.record.seq) else { return Ok(()) };
        let mut batch = self.store.batch();
        let seen = records.partition_point(|recorded| recorded.record.seq <= self.position);
        self.fold.fold_page(&mut batch, records.get(seen..).unwrap_or_default())?;
        let last = last.max(self.position);
        batch.put_row(&self.positions, F::NAME.as_bytes(), &(F::VERSION, last))?;
        batch.commit()?;
        self.position = last;
        Ok(())
    }
}

fn failed(name: &'static str) -> impl Fn(StoreError) -> ProjectionError {
    move |error| ProjectionError::Store { name, cause: error.0 }
}

impl<F: Fold> Projection for Rows<F> {
    fn name(&self) -> &'static str {
        F::NAME
    }

    fn version(&self) -> u32 {
        F::VERSION
    }

    fn position(&self) -> Seq {
        self.position
    }

    fn apply(&mut self, batch: &[Recorded]) -> Result<(), ProjectionError> {
        self.take(batch).map_err(failed(F::NAME))
    }

    fn flush(&mut self) -> Result<(), ProjectionError> {
        self.store.persist().map_err(failed(F::NAME))
    }

    fn reset(&mut self) -> Result<(), ProjectionError> {
        self.empty().map_err(failed(F::NAME))
    }

    fn digest(&self) -> Result<[u8; 32], ProjectionError> {
        let mut hasher = blake3::Hasher::new();
        for table in self.fold.tables() {
            table
                .prefix(&[], &mut |key, value| {
                    hasher.update(&(key.len() as u64).to_le_bytes()).update(key);
                    hasher.update(&(value.len() as u64).to_le_bytes()).update(value);
                    true
                })
                .map_err(failed(F::NAME))?;
            hasher.update(&u64::MAX.to_le_bytes());
        }
        Ok(*hasher.finalize().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both(test: impl Fn(&Store)) {
        test(&Store::memory());
        let folder = tempfile::tempdir().unwrap();
        test(&Store::open(folder.path()).unwrap());
    }

    fn keys(table: &Table, prefix: &[u8], bounds: Bounds, order: Order) -> Vec<Vec<u8>> {
        let mut keys = Vec::new();
        table
            .scan(prefix, bounds, order, &mut |key, _| {
                keys.push(key.to_vec());
                true
            })
            .unwrap();
        keys
    }

    #[test]
    fn a_batch_sees_its_own_changes_and_nobody_else_does_before_its_commit() {
        both(|store| {
            let table = store.table("t").unwrap();
            let mut batch = store.batch();
            batch.put(&table, *b"a1", *b"x");
            batch.commit().unwrap();
            let mut batch = store.batch();
            batch.remove(&table, *b"a1");
            batch.put(&table, *b"a2", *b"y");
            batch.put(&table, *b"b", *b"z");
            assert_eq!(batch.get(&table, b"a1").unwrap(), None);
            assert_eq!(batch.rows(&table, b"a").unwrap(), [(b"a2".to_vec(), b"y".to_vec())]);
            assert_eq!(table.get(b"a1").unwrap(), Some(b"x".to_vec()));
            batch.commit().unwrap();
            assert_eq!((table.get(b"a1").unwrap(), table.count(b"").unwrap()), (None, 2));
        });
    }

    #[test]
    fn what_was_removed_or_cleared_is_in_no_file_after_a_scrub() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let (table, other) = (store.table("t").unwrap(), store.table("u").unwrap());
        let tells = |word: &str| {
            let mut open = vec![folder.path().to_path_buf()];
            let mut found = false;
            while let Some(path) = open.pop() {
                if path.is_dir() {
                    open.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
                } else {
                    let bytes = std::fs::read(path).unwrap_or_default();
                    found |= bytes.windows(word.len()).any(|window| window == word.as_bytes());
                }
            }
            found
        };
        let mut batch = store.batch();
        batch.put(&table, *b"a", *b"gone-with-mangoes");
        batch.put(&table, *b"b", *b"still-here-walrus");
        batch.put(&other, *b"a", *b"swept-out-pylon");
        batch.commit().unwrap();
        store.scrub().unwrap();
        assert!(["gone-with-mangoes", "still-here-walrus", "swept-out-pylon"].into_iter().all(tells));
        let mut batch = store.batch();
        batch.remove(&table, *b"a");
        batch.commit().unwrap();
        other.clear().unwrap();
        store.scrub().unwrap();
        assert_eq!(
            ["gone-with-mangoes", "still-here-walrus", "swept-out-pylon"].map(tells),
            [false, true, false]
        );
        assert_eq!((table.count(b"").unwrap(), other.count(b"").unwrap()), (1, 0));
    }

    #[test]
    fn a_scan_stays_within_its_table_prefix_and_bounds() {
        both(|store| {
            let (table, other) = (store.table("t").unwrap(), store.table("u").unwrap());
            let mut batch = store.batch();
            for key in [&b"a"[..], b"b\x00", b"b\x01", b"b\xff", b"c"] {
                batch.put(&table, key, *b"");
                batch.put(&other, key, *b"");
            }
            batch.commit().unwrap();
            let open = || (Bound::Unbounded, Bound::Unbounded);
            assert_eq!(keys(&table, b"b", open(), Order::Descending), [b"b\xff", b"b\x01", b"b\x00"]);
            let bounds = (Bound::Excluded(b"b\x00".to_vec()), Bound::Excluded(b"b\xff".to_vec()));
            assert_eq!(keys(&table, b"b", bounds, Order::Ascending), [b"b\x01"]);
            assert_eq!(keys(&table, b"", open(), Order::Ascending).len(), 5);
            assert_eq!(after(b"\xff\xff"), None);
        });
    }
}
