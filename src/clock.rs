//! The one clock. Everything else is told the time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Where the time and randomness of the house come from. An embedder may bring its own, for deterministic tests.
pub trait Clock: Send + Sync {
    /// Milliseconds since 1970 (UTC). Never less than it said before.
    fn now_ms(&self) -> u64;

    /// 16 random bytes: the id of a command that its caller did not name.
    fn random(&self) -> [u8; 16];
}

/// The system's clock, clamped so that it never goes back, and the system's randomness.
#[derive(Debug, Default)]
pub struct SystemClock {
    latest: AtomicU64,
}

impl Clock for SystemClock {
    fn now_ms(&self) -> u64 {
        #[expect(clippy::disallowed_methods, reason = "this is the one clock")]
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
        let now = u64::try_from(now).unwrap_or(u64::MAX);
        self.latest.fetch_max(now, Ordering::Relaxed).max(now)
    }

    fn random(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        if getrandom::fill(&mut bytes).is_err() {
            // Without the system's randomness ids must still differ: the clock and a counter make them.
            let n = self.latest.fetch_add(1, Ordering::Relaxed);
            bytes = u128::from(n).to_le_bytes();
        }
        bytes
    }
}
