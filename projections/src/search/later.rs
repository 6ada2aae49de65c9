//! Embedding in the background, for models that take milliseconds a text: what is written is found by its words at once and by
//! its meaning a little later.

use super::embed::Embedder;
use super::table::Row;
use super::vectors::Quantized;
use super::{Finder, Search};
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Texts embedded between two looks at the queue.
const CHUNK: usize = 8;
/// A search waits for vectors only where no more rows than this are still to come, and no longer than this.
const WORTH_WAITING: usize = 1_000;
const WAIT: Duration = Duration::from_secs(10);

#[derive(Default)]
struct Queue {
    rows: VecDeque<Row>,
    /// Rows that were taken and are not set yet.
    taken: Vec<Row>,
    closed: bool,
}

/// The rows that wait for their vectors.
#[derive(Default)]
pub(crate) struct Later {
    queue: Mutex<Queue>,
    changed: Condvar,
}

impl Later {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds rows.
    pub(crate) fn push(&self, rows: impl IntoIterator<Item = Row>) {
        self.lock().rows.extend(rows);
        self.changed.notify_all();
    }

    /// Forgets what waits, and goes on with what waits in another queue.
    pub(crate) fn follow(&self, other: &Self) {
        let rows = std::mem::take(&mut other.lock().rows);
        self.lock().rows = rows;
        self.changed.notify_all();
    }

    /// Ends the threads, once they have done what they took.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// The first row that is still to come.
    pub(crate) fn first(&self) -> Option<Row> {
        let queue = self.lock();
        queue.rows.iter().chain(&queue.taken).min().copied()
    }

    /// Waits, bounded, for a short queue to empty.
    pub(crate) fn settle(&self) {
        let queue = self.lock();
        if queue.rows.len() > WORTH_WAITING {
            return;
        }
        let busy = |queue: &mut Queue| !queue.closed && !(queue.rows.is_empty() && queue.taken.is_empty());
        drop(self.changed.wait_timeout_while(queue, WAIT, busy).unwrap_or_else(PoisonError::into_inner));
    }

    fn take(&self) -> Option<Vec<Row>> {
        let mut queue = self.lock();
        while queue.rows.is_empty() && !queue.closed {
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        if queue.closed {
            return None;
        }
        let most = CHUNK.min(queue.rows.len());
        let rows: Vec<Row> = queue.rows.drain(..most).collect();
        queue.taken.extend(&rows);
        Some(rows)
    }

    fn done(&self, rows: &[Row]) {
        self.lock().taken.retain(|row| !rows.contains(row));
        self.changed.notify_all();
    }
}

impl Finder {
    /// Embeds what waits, until the queue is closed.
    fn embed_later(&self, model: &dyn Embedder) {
        while let Some(rows) = self.later.take() {
            for row in &rows {
                let (text, building) = {
                    let state = self.read();
                    if state.table.facts(*row).is_none() {
                        continue;
                    }
                    let document = state.snapshot.document(*row).ok().flatten();
                    (document.map(|document| document.text), state.building)
                };
                let Some(text) = text else { continue };
                match model.embed(&[&text]) {
                    Ok(vectors) => {
                        let mut state = self.write();
                        let is_current = state.building == building
                            && state.model.as_ref().is_some_and(|m| m.fingerprint() == model.fingerprint());
                        if let (true, Some(all), Some(vector)) =
                            (is_current, &mut state.vectors, vectors.first())
                        {
                            all.set(*row, &Quantized::of(vector));
                        }
                    }
                    Err(error) => tracing::warn!(%error, row, "a text was not embedded"),
                }
            }
            self.later.done(&rows);
        }
    }
}

impl Search {
    /// Starts the threads that embed in the background, one a core.
    pub(super) fn embed_in_background(&self, model: &Arc<dyn Embedder>) -> std::io::Result<()> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(4);
        for number in 0..threads {
            let (finder, model) = (self.finder.clone(), Arc::clone(model));
            std::thread::Builder::new()
                .name(format!("embed-{number}"))
                .spawn(move || finder.embed_later(model.as_ref()))?;
        }
        Ok(())
    }
}

impl Drop for Search {
    fn drop(&mut self) {
        self.finder.later.close();
    }
}
