//! Durable consumers: a name with a position, a lease, and a list of what it could not digest. They pull, so there is no
//! queue per consumer and no gap between catching up and following.
//!
//! State changes go through the writer, so two owners cannot both believe to hold a lease: the last change wins and the other
//! finds out with its next one.

use super::LogHandle;
use athena_schemas::envelope::{Record, Seq};
use athena_schemas::ports::LogError;
use serde::{Deserialize, Serialize};

/// Failures in a row at one position before it is parked.
const FAILURES_MAX: u32 = 5;
/// Parked positions that are kept; beyond it the consumer stops, because then something else is wrong.
const PARKED_MAX: usize = 1000;

/// Who works for a consumer, until when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The owner's name.
    pub owner: String,
    /// Until when, milliseconds since 1970.
    pub until_ms: u64,
}

/// A position that failed too often.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parked {
    /// The position.
    pub seq: Seq,
    /// The last failure.
    pub reason: String,
}

/// What is kept of a consumer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    position: Seq,
    lease: Option<Lease>,
    failures: u32,
    parked: Vec<Parked>,
}

/// Events to work on.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// They, ascending.
    pub records: Vec<Record>,
    /// Whether they reach the head.
    pub caught_up: bool,
}

/// A durable consumer of the log.
#[derive(Debug, Clone)]
pub struct Consumer {
    log: LogHandle,
    name: String,
}

impl Consumer {
    pub(super) fn new(log: LogHandle, name: String) -> Self {
        Self { log, name }
    }

    /// Takes or renews the lease for `owner`.
    ///
    /// # Errors
    /// [`LogError::Conflict`] while another owner holds it; its version is when that lease ends.
    pub async fn claim(&self, owner: &str, now_ms: u64, for_ms: u64) -> Result<(), LogError> {
        let mut state = self.load()?;
        if let Some(lease) = &state.lease
            && lease.owner != owner
            && lease.until_ms > now_ms
        {
            return Err(LogError::Conflict {
                stream: format!("consumer/{}", self.name),
                actual: lease.until_ms,
            });
        }
        state.lease = Some(Lease { owner: owner.into(), until_ms: now_ms.saturating_add(for_ms) });
        self.save(&state).await
    }

    /// The next events, at most `limit`; empty where there are none yet.
    ///
    /// # Errors
    /// When the disk fails or the data is damaged.
    pub fn pull(&self, limit: usize) -> Result<Page, LogError> {
        let reader = self.log.reader();
        let records = reader.read(self.load()?.position, limit)?;
        let caught_up = records.last().is_none_or(|record| record.seq >= reader.head());
        Ok(Page { records, caught_up })
    }

    /// Waits until there is something to pull; `false` when the log has closed.
    ///
    /// # Errors
    /// When the disk fails.
    pub async fn ready(&self) -> Result<bool, LogError> {
        let position = self.load()?.position;
        Ok(self.log.reader().beyond(position).await.is_some())
    }

    /// Notes that everything up to `seq` is done.
    ///
    /// # Errors
    /// [`LogError::Conflict`] when `owner` has lost its lease to another.
    pub async fn done(&self, owner: &str, seq: Seq) -> Result<(), LogError> {
        let mut state = self.held_by(owner)?;
        state.position = state.position.max(seq);
        state.failures = 0;
        self.save(&state).await
    }

    /// Notes that the event at `seq` failed. After five failures in a row it is parked and passed over; answers whether it was.
    ///
    /// # Errors
    /// [`LogError::Conflict`] when `owner` has lost its lease; [`LogError::Limit`] when too many are parked.
    pub async fn failed(&self, owner: &str, seq: Seq, reason: &str) -> Result<bool, LogError> {
        let mut state = self.held_by(owner)?;
        state.failures += 1;
        let park = state.failures >= FAILURES_MAX;
        if park {
            if state.parked.len() >= PARKED_MAX {
                return Err(LogError::Limit(format!("{PARKED_MAX} events are parked for {}", self.name)));
            }
            state.parked.push(Parked { seq, reason: reason.into() });
            state.position = state.position.max(seq);
            state.failures = 0;
        }
        self.save(&state).await?;
        Ok(park)
    }

    /// The last position it is done with.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn position(&self) -> Result<Seq, LogError> {
        Ok(self.load()?.position)
    }

    /// What it could not digest, oldest first.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn parked(&self) -> Result<Vec<Parked>, LogError> {
        Ok(self.load()?.parked)
    }

    /// Takes a position off the parked list, for whoever works on it by hand.
    ///
    /// # Errors
    /// When the disk fails.
    pub async fn unpark(&self, seq: Seq) -> Result<Option<Parked>, LogError> {
        let mut state = self.load()?;
        let Some(at) = state.parked.iter().position(|parked| parked.seq == seq) else { return Ok(None) };
        let parked = state.parked.remove(at);
        self.save(&state).await?;
        Ok(Some(parked))
    }

    fn held_by(&self, owner: &str) -> Result<State, LogError> {
        let state = self.load()?;
        match &state.lease {
            Some(lease) if lease.owner == owner => Ok(state),
            other => Err(LogError::Conflict {
                stream: format!("consumer/{}", self.name),
                actual: other.as_ref().map_or(0, |lease| lease.until_ms),
            }),
        }
    }

    fn key(&self) -> Vec<u8> {
        [b"k/", self.name.as_bytes(), b"/"].concat()
    }

    fn load(&self) -> Result<State, LogError> {
        match self.log.recall(&self.key())?.first() {
            None => Ok(State::default()),
            Some((_, bytes)) => athena_schemas::envelope::exactly(bytes)
                .map_err(|error| LogError::Damaged(format!("consumer {}: {error}", self.name))),
        }
    }

    async fn save(&self, state: &State) -> Result<(), LogError> {
        let bytes = postcard::to_stdvec(state).map_err(|error| LogError::Limit(error.to_string()))?;
        self.log.remember(vec![(self.key(), Some(bytes))]).await
    }
}
