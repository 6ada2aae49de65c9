//! How much may be asked at once and within a minute: of a server as a whole, and of a tool of it that has limits of its own.

use super::config;
use athena_schemas::layers::upstream::{Limits, Server};
use athena_schemas::refusal::{Code, Refusal};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

/// Calls at once that a configuration may allow.
const AT_ONCE_MAX: u32 = 256;

/// The limits of one server.
pub(super) struct Gates {
    server: Gate,
    tools: BTreeMap<String, Gate>,
    timeouts: BTreeMap<String, Duration>,
    timeout: Duration,
}

/// Leave for one call; given back when it is dropped.
pub(super) struct Leave<'a> {
    _server: SemaphorePermit<'a>,
    _tool: Option<SemaphorePermit<'a>>,
}

impl Gates {
    pub(super) fn of(name: &str, server: &Server) -> Self {
        let whole = Limits {
            timeout_ms: server.timeout_ms,
            concurrency: Some(server.concurrency.unwrap_or(config::CONCURRENCY)),
            per_minute: Some(server.per_minute.unwrap_or(config::PER_MINUTE)),
        };
        let tools = server.tool_limits.iter();
        Self {
            server: Gate::new(name.into(), whole),
            tools: tools
                .clone()
                .map(|(tool, limits)| (tool.clone(), Gate::new(format!("{name}/{tool}"), *limits)))
                .collect(),
            timeouts: tools
                .filter_map(|(tool, limits)| Some((tool.clone(), Duration::from_millis(limits.timeout_ms?))))
                .collect(),
            timeout: Duration::from_millis(server.timeout_ms.unwrap_or(config::TIMEOUT_MS)),
        }
    }

    /// How long a call of a tool may take.
    pub(super) fn timeout(&self, tool: &str) -> Duration {
        self.timeouts.get(tool).copied().unwrap_or(self.timeout)
    }

    /// Waits for leave, at most until `deadline`.
    ///
    /// # Errors
    /// [`Code::LimitExceeded`] when too many calls were made within a minute, or are under way still.
    pub(super) async fn pass(&self, tool: &str, deadline: Instant) -> Result<Leave<'_>, Refusal> {
        let own = self.tools.get(tool);
        // Both at once: what one refuses shall not be counted by the other, as far as that can be.
        own.map_or(Ok(()), Gate::take)?;
        self.server.take()?;
        // A call that waits for its tool holds up none of the server's other tools.
        let tool = match own {
            Some(own) => Some(own.enter(deadline).await?),
            None => None,
        };
        Ok(Leave { _server: self.server.enter(deadline).await?, _tool: tool })
    }
}

/// One limit.
struct Gate {
    whom: String,
    permits: Semaphore,
    rate: f64,
    /// When calls were last counted, and how many may be made from then on.
    bucket: Mutex<(Instant, f64)>,
}

impl Gate {
    fn new(whom: String, limits: Limits) -> Self {
        let rate = limits.per_minute.map_or(f64::INFINITY, |rate| f64::from(rate.max(1)));
        let at_once = limits.concurrency.unwrap_or(AT_ONCE_MAX).clamp(1, AT_ONCE_MAX);
        let bucket = Mutex::new((Instant::now(), rate));
        Self { whom, permits: Semaphore::new(at_once as usize), rate, bucket }
    }

    /// One call from the bucket of this minute.
    fn take(&self) -> Result<(), Refusal> {
        if self.rate.is_infinite() {
            return Ok(());
        }
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let calls = (bucket.1 + now.duration_since(bucket.0).as_secs_f64() * self.rate / 60.0).min(self.rate);
        *bucket = (now, if calls < 1.0 { calls } else { calls - 1.0 });
        if calls < 1.0 {
            return Err(Refusal::new(
                Code::LimitExceeded,
                format!("more than {} calls of {} within a minute", self.rate, self.whom),
            )
            .hint("slow down, or raise its `per_minute`"));
        }
        Ok(())
    }

    async fn enter(&self, deadline: Instant) -> Result<SemaphorePermit<'_>, Refusal> {
        match tokio::time::timeout_at(deadline, self.permits.acquire()).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(Refusal::new(Code::LimitExceeded, format!("too many calls of {} at once", self.whom))
                .hint("make fewer calls at once, or raise its `concurrency`")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gates() -> Gates {
        let one = Limits { concurrency: Some(1), ..Limits::default() };
        let few = Limits { per_minute: Some(2), timeout_ms: Some(7), ..Limits::default() };
        let tool_limits = [("slow".to_owned(), one), ("dear".to_owned(), few)].into();
        Gates::of("s", &Server { tool_limits, per_minute: Some(5), ..Server::default() })
    }

    #[tokio::test]
    async fn a_tool_s_limits_are_its_own_and_the_server_s_hold_for_all() {
        let gates = gates();
        let soon = || Instant::now() + Duration::from_millis(20);
        for _ in 0..2 {
            assert!(gates.pass("dear", soon()).await.is_ok());
        }
        let refusal = gates.pass("dear", soon()).await.err().unwrap();
        assert!(refusal.message.contains("2 calls of s/dear"), "{refusal}");
        for _ in 0..3 {
            assert!(gates.pass("other", soon()).await.is_ok());
        }
        let refusal = gates.pass("other", soon()).await.err().unwrap();
        assert!(refusal.message.contains("5 calls of s within"), "{refusal}");
        assert_eq!((gates.timeout("dear").as_millis(), gates.timeout("other").as_millis()), (7, 60_000));
    }

    #[tokio::test]
    async fn who_waits_for_a_tool_holds_up_no_other() {
        let gates = gates();
        let soon = || Instant::now() + Duration::from_millis(20);
        let held = gates.pass("slow", soon()).await.ok();
        assert!(held.is_some());
        let refusal = gates.pass("slow", soon()).await.err().unwrap();
        assert!(refusal.message.contains("s/slow at once"), "{refusal}");
        assert!(gates.pass("other", soon()).await.is_ok());
        drop(held);
        assert!(gates.pass("slow", soon()).await.is_ok());
    }
}
