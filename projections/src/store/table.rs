//! Tables: ordered maps of rows, on disk or in memory.

use super::{Memory, StoreError};
use fjall::Keyspace;
use serde::de::DeserializeOwned;
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock};

/// An ordered map of rows. Whoever holds one reads what its read model answers with, also after that was built anew.
#[derive(Clone)]
pub struct Table(Arc<RwLock<Place>>);

/// Where the rows of a table lie.
#[derive(Clone)]
pub(super) struct Place {
    /// No other rows of the store have it.
    pub(super) number: u32,
    pub(super) rows: Backing,
}

#[derive(Clone)]
pub(super) enum Backing {
    Disk(Keyspace),
    Memory(Memory),
}

impl From<Place> for Table {
    fn from(place: Place) -> Self {
        Self(Arc::new(RwLock::new(place)))
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
        let Place { number, rows } = self.place();
        match rows {
            Backing::Disk(keyspace) => {
                keyspace.get(key).map(|found| found.map(|bytes| bytes.to_vec())).map_err(StoreError::of)
            }
            Backing::Memory(memory) => Ok(memory
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .get(&(number, key.to_vec()))
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
        let Place { number, rows } = self.place();
        match rows {
            Backing::Disk(keyspace) => {
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
            Backing::Memory(memory) => {
                let own = |bound: Bound<Vec<u8>>, open: Bound<(u32, Vec<u8>)>| match bound {
                    Bound::Included(key) => Bound::Included((number, key)),
                    Bound::Excluded(key) => Bound::Excluded((number, key)),
                    Bound::Unbounded => open,
                };
                let lower = own(lower, Bound::Included((number, Vec::new())));
                let upper = own(upper, Bound::Excluded((number + 1, Vec::new())));
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

    pub(super) fn number(&self) -> u32 {
        self.0.read().unwrap_or_else(PoisonError::into_inner).number
    }

    pub(super) fn place(&self) -> Place {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Everybody who reads this one sees the rows of the other from now on, and the other way round.
    pub(super) fn exchange(&self, other: &Self) {
        let mut own = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let mut new = other.0.write().unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut *own, &mut *new);
    }
}

pub(super) type Bounds = (Bound<Vec<u8>>, Bound<Vec<u8>>);

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
pub(super) fn after(prefix: &[u8]) -> Option<Vec<u8>> {
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
