//! Changes that are written together.

use super::table::{Backing, Table, decode};
use super::{Backend, Store, StoreError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

/// About what a row takes in memory beside its bytes: a node of a list.
const ROW_BYTES: usize = 120;

/// Changes to be written at once; reads through it see them before they are.
pub struct Batch {
    store: Store,
    tables: BTreeMap<u32, Backing>,
    changes: BTreeMap<(u32, Vec<u8>), Option<Vec<u8>>>,
}

impl Batch {
    pub(super) fn new(store: Store) -> Self {
        Self { store, tables: BTreeMap::new(), changes: BTreeMap::new() }
    }

    fn change(&mut self, table: &Table, key: Vec<u8>, value: Option<Vec<u8>>) {
        let number = table.number();
        self.tables.entry(number).or_insert_with(|| table.place().rows);
        self.changes.insert((number, key), value);
    }

    /// Sets the bytes under a key.
    pub fn put(&mut self, table: &Table, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.change(table, key.into(), Some(value.into()));
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
        self.change(table, key.into(), None);
    }

    /// The bytes under a key, as they will be.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn get(&self, table: &Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        match self.changes.get(&(table.number(), key.to_vec())) {
            Some(value) => Ok(value.clone()),
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
        let own = table.number();
        for ((number, key), value) in self.changes.range((own, prefix.to_vec())..) {
            if *number != own || !key.starts_with(prefix) {
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
                let (mut batch, mut bytes) = (database.batch(), 0);
                for ((number, key), value) in self.changes {
                    bytes += ROW_BYTES + key.len() + value.as_ref().map_or(0, Vec::len);
                    let Some(Backing::Disk(keyspace)) = self.tables.get(&number) else { continue };
                    match value {
                        Some(value) => batch.insert(keyspace, key, value),
                        None => batch.remove(keyspace, key),
                    }
                }
                self.store.gathered.fetch_add(bytes as u64, Ordering::Relaxed);
                batch.commit().map_err(StoreError::of)
            }
            Backend::Memory(memory) => {
                let mut map = memory.write().unwrap_or_else(PoisonError::into_inner);
                for (key, value) in self.changes {
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
