//! How items were rated: useful and not, by id.

use crate::store::{Batch, Fold, Store, StoreError, Table};
use athena_schemas::event::Event;
use athena_schemas::id::Id;
use athena_schemas::layers::meta;
use athena_schemas::ports::Recorded;

/// The table of ratings.
#[derive(Clone)]
pub struct Ratings {
    table: Table,
}

impl Ratings {
    /// How often an item was found useful, and not.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn of(&self, id: &Id) -> Result<(u32, u32), StoreError> {
        Ok(self.table.row(id.as_str().as_bytes())?.unwrap_or_default())
    }
}

impl Fold for Ratings {
    const NAME: &'static str = "ratings";
    const VERSION: u32 = 1;

    fn open(store: &Store) -> Result<Self, StoreError> {
        Ok(Self { table: store.table("ratings")? })
    }

    fn fold(&self, batch: &mut Batch, event: &Event, _: &Recorded) -> Result<(), StoreError> {
        let Event::Meta(meta::Event::Rated(event)) = event else { return Ok(()) };
        let (mut good, mut bad): (u32, u32) =
            batch.row(&self.table, event.id.as_str().as_bytes())?.unwrap_or_default();
        if event.useful {
            good = good.saturating_add(1);
        } else {
            bad = bad.saturating_add(1);
        }
        batch.put_row(&self.table, event.id.as_str(), &(good, bad))
    }

    fn tables(&self) -> Vec<Table> {
        vec![self.table.clone()]
    }
}
