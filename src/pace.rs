//! Where a read is done. Most take microseconds, less than it costs to hand them to another thread and to be woken with the
//! answer: those are done where they are asked. One that has been slow of late goes to a thread that may block, so that it holds
//! up nobody else on this one.

use athena_schemas::catalog;
use athena_schemas::refusal::Refusal;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

/// A read that takes at most this long is done on the asking thread, microseconds. Handing over costs some 50.
const SHORT_US: u32 = 300;
/// By this part the memory of a slow read fades with each faster one.
const FADES: u32 = 8;

/// How long each operation's reads have taken.
pub(crate) struct Pace(HashMap<String, AtomicU32>);

impl Pace {
    /// Nothing is known yet: the first read of each operation is taken for a slow one.
    pub(crate) fn new() -> Self {
        Self(catalog::entries().map(|entry| (entry.id(), AtomicU32::new(u32::MAX))).collect())
    }

    /// Does a read of `op`.
    ///
    /// # Errors
    /// When it panics; what it answers is its own.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        op: &str,
        read: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let timed = move || {
            let begun = Instant::now();
            let answer = read();
            (answer, u32::try_from(begun.elapsed().as_micros()).unwrap_or(u32::MAX))
        };
        let expected = self.0.get(op);
        let short = expected.is_some_and(|expected| expected.load(Ordering::Relaxed) <= SHORT_US);
        let done = if short {
            // What a panic of a read leaves behind is the reader's own; the other thread would end it there as well.
            catch_unwind(AssertUnwindSafe(timed)).ok()
        } else {
            tokio::task::spawn_blocking(timed).await.ok()
        };
        let (answer, took) = done.ok_or_else(|| {
            Refusal::internal("a query failed inside Athena; nothing was changed").hint("athena doctor")
        })?;
        if let Some(expected) = expected {
            // Two reads at once may forget one of them, which the next makes good.
            expected.store(after(expected.load(Ordering::Relaxed), took), Ordering::Relaxed);
        }
        Ok(answer)
    }
}

/// What is expected of the next read after one that took so long.
fn after(expected: u32, took: u32) -> u32 {
    match expected {
        u32::MAX => took,
        expected => took.max(expected - expected / FADES),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread::current;

    async fn place(pace: &Pace, op: &str) -> bool {
        let here = current().id();
        pace.read(op, move || current().id() == here).await.unwrap()
    }

    #[tokio::test]
    async fn a_read_that_was_slow_goes_elsewhere_until_it_has_been_quick_for_a_while() {
        let (pace, op) = (Pace::new(), "semantic/search");
        assert!(!place(&pace, op).await, "nothing is known of the first");
        let slow = &pace.0[op];
        slow.store(SHORT_US, Ordering::Relaxed);
        assert!(place(&pace, op).await);
        slow.store(SHORT_US * 2, Ordering::Relaxed);
        assert!(!place(&pace, op).await);
        assert!(!place(&pace, "no/such").await);
    }

    #[test]
    fn a_slow_read_is_remembered_and_fades() {
        assert_eq!(after(u32::MAX, 40), 40);
        assert_eq!(after(40, 9_000), 9_000);
        let mut expected = 9_000;
        let reads = std::iter::repeat_with(|| {
            expected = after(expected, 40);
            expected
        });
        let until_short = reads.take_while(|expected| *expected > SHORT_US).count();
        assert!((10..100).contains(&until_short), "{until_short}");
    }

    #[tokio::test]
    async fn a_read_that_panics_is_refused_wherever_it_is_done() {
        let (pace, op) = (Pace::new(), "semantic/search");
        for expected in [u32::MAX, 0] {
            pace.0[op].store(expected, Ordering::Relaxed);
            let refused = pace.read(op, || -> u8 { panic!("told to") }).await.unwrap_err();
            assert_eq!(refused.code, athena_schemas::refusal::Code::Internal);
        }
    }
}
