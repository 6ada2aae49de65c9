//! Read models made of rows.

use super::{Batch, Store, StoreError, Table, decode};
use athena_schemas::envelope::Seq;
use athena_schemas::event::Event;
use athena_schemas::ports::{Projection, ProjectionError, Recorded, same};
use serde::{Deserialize, Serialize};

/// A read model made of rows.
pub trait Fold: Clone + Send + 'static {
    /// Its name, for people and metrics.
    const NAME: &'static str;
    /// The version of its code: another version than the stored one means rebuild.
    const VERSION: u32;

    /// Opens its tables.
    ///
    /// # Errors
    /// When the disk fails.
    fn open(store: &Store) -> Result<Self, StoreError>;

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

    /// All its tables, always in the same order: their content is its digest, and a rebuild fills others.
    fn tables(&self) -> Vec<Table>;
}

/// Which rows answer, and how far they have come. It is written with every batch of them.
#[derive(Serialize, Deserialize)]
struct Stand {
    version: u32,
    position: Seq,
    generation: u64,
}

impl Stand {
    fn read(row: &[u8]) -> Result<Self, StoreError> {
        // Before there were generations, all were of the first.
        decode(row).or_else(|_| {
            let (version, position) = decode(row)?;
            Ok(Self { version, position, generation: 0 })
        })
    }
}

/// The projection that keeps a [`Fold`]'s rows, and with them its position.
pub struct Rows<F: Fold> {
    fold: F,
    store: Store,
    positions: Table,
    position: Seq,
    generation: u64,
    /// Whether these are the rows that answer; others are built beside them, or were left.
    answers: bool,
}

impl<F: Fold> Rows<F> {
    /// Takes up where it stopped; from the beginning if its code has changed.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn open(store: &Store) -> Result<Self, StoreError> {
        let positions = store.table("positions")?;
        let Stand { version, position, generation } = match positions.get(F::NAME.as_bytes())? {
            Some(row) => Stand::read(&row)?,
            None => Stand { version: F::VERSION, position: 0, generation: 0 },
        };
        // Rows of another form: this code can read none of them.
        if version != F::VERSION {
            let mut anew = Self::beside(store, positions, generation)?;
            anew.note()?;
            anew.answers = true;
            return Ok(anew);
        }
        let fold = F::open(&store.generation(generation))?;
        Ok(Self { fold, store: store.clone(), positions, position, generation, answers: true })
    }

    /// Without a row, in the tables of the next generation.
    fn beside(store: &Store, positions: Table, generation: u64) -> Result<Self, StoreError> {
        let generation = generation + 1;
        let fold = F::open(&store.anew(generation))?;
        Ok(Self { fold, store: store.clone(), positions, position: 0, generation, answers: false })
    }

    /// What readers read with.
    pub fn reader(&self) -> F {
        self.fold.clone()
    }

    /// Notes on disk that these are the rows that answer, and how far they have come.
    fn note(&self) -> Result<(), StoreError> {
        let mut batch = self.store.batch();
        batch.put_row(&self.positions, F::NAME.as_bytes(), &self.stand(self.position))?;
        batch.commit()?;
        // Before others are removed: without the note the next opening would look for those.
        self.store.persist()
    }

    fn take(&mut self, records: &[Recorded]) -> Result<(), StoreError> {
        let Some(last) = records.last().map(|last| last.record.seq) else { return Ok(()) };
        let mut batch = self.store.batch();
        let seen = records.partition_point(|recorded| recorded.record.seq <= self.position);
        self.fold.fold_page(&mut batch, records.get(seen..).unwrap_or_default())?;
        let last = last.max(self.position);
        if self.answers {
            batch.put_row(&self.positions, F::NAME.as_bytes(), &self.stand(last))?;
        }
        batch.commit()?;
        self.position = last;
        Ok(())
    }

    fn stand(&self, position: Seq) -> Stand {
        Stand { version: F::VERSION, position, generation: self.generation }
    }

    fn go_over(&mut self, built: &mut Self) -> Result<(), StoreError> {
        // If the note fails, whether it is on disk is not known: then both stay, until the next batch or the next start says
        // which one answers.
        built.answers = true;
        built.note()?;
        built.answers = false;
        for (own, new) in self.fold.tables().iter().zip(built.fold.tables()) {
            own.exchange(&new);
        }
        (self.position, self.generation) = (built.position, built.generation);
        Ok(())
    }
}

/// Those that do not answer leave nothing behind.
impl<F: Fold> Drop for Rows<F> {
    fn drop(&mut self) {
        if self.answers {
            return;
        }
        for table in self.fold.tables() {
            if let Err(error) = self.store.discard(&table) {
                tracing::warn!(%error, "a table that is not used any more stays until the next start");
            }
        }
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

    fn beside(&self) -> Result<Box<dyn Projection>, ProjectionError> {
        let beside = Self::beside(&self.store, self.positions.clone(), self.generation);
        Ok(Box::new(beside.map_err(failed(F::NAME))?))
    }

    fn adopt(&mut self, built: Box<dyn Projection>) -> Result<(), ProjectionError> {
        self.go_over(&mut *same(built)?).map_err(failed(F::NAME))
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
