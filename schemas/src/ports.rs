//! The traits where floors meet. The write side drives projections, and the sandbox calls the router, without knowing either.

use crate::context::{Caller, Context, Scope};
use crate::envelope::{DecodeError, Draft, Record, Seq};
use crate::event::Event;
use crate::id::EventId;
use crate::refusal::Refusal;
use serde_json::Value;
use std::any::Any;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// A future that can be sent between threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One request, whoever makes it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Request {
    /// `layer/operation`, or `server/tool` of an upstream.
    pub op: String,
    /// Its parameters, one object.
    pub params: Value,
    /// Narrows the caller's scope.
    pub scope: Option<Scope>,
    /// Two requests of one caller with the same key are one request.
    pub idempotency_key: Option<String>,
    /// Answer as of this position; for reads only.
    pub at_seq: Option<Seq>,
}

impl Request {
    /// A request with parameters and nothing else.
    pub fn new(op: impl Into<String>, params: Value) -> Self {
        Self { op: op.into(), params, ..Self::default() }
    }
}

/// An answer and, where something was recorded, its position.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The answer.
    pub value: Value,
    /// The position of the last event recorded.
    pub seq: Option<Seq>,
}

/// The one way in: parse, authorise and charge, tokenize, dispatch, filter the answer.
pub trait Router: Send + Sync {
    /// Makes one call.
    fn call<'a>(&'a self, caller: &'a Caller, request: Request) -> BoxFuture<'a, Result<Answer, Refusal>>;
}

/// Why the log did not do as asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// Another revision than expected.
    #[error("stream {stream} is at version {actual}, not where it was expected")]
    Conflict {
        /// The stream.
        stream: String,
        /// Its version.
        actual: u64,
    },
    /// The event id was used for other content.
    #[error("event {0} was already recorded with other content")]
    IdReused(EventId),
    /// Whether it is on disk is not known; retry with the same ids.
    #[error("whether the events were recorded is not known: {0}")]
    Unknown(String),
    /// No room; nothing was recorded and what was is safe.
    #[error("the disk is full: {0}")]
    Full(String),
    /// Too large, or the queue is full.
    #[error("{0}")]
    Limit(String),
    /// The data is not what was written.
    #[error("{0}")]
    Damaged(String),
    /// The log is closed.
    #[error("the log is closed")]
    Closed,
    /// The disk failed to read.
    #[error("{0}")]
    Io(String),
}

impl From<LogError> for Refusal {
    fn from(error: LogError) -> Self {
        use crate::refusal::Code;
        let message = error.to_string();
        match error {
            LogError::Conflict { .. } | LogError::IdReused(_) => Self::new(Code::Conflict, message),
            LogError::Unknown(_) => {
                Self::new(Code::Unknown, message).hint("retry with the same idempotency key")
            }
            LogError::Full(_) => {
                Self::new(Code::StorageFull, message).hint("free some space; writes go on by themselves")
            }
            LogError::Limit(_) => Self::new(Code::LimitExceeded, message).hint("send less at once, or retry"),
            LogError::Damaged(_) => Self::new(Code::Integrity, message).hint("athena log verify"),
            LogError::Closed => {
                Self::new(Code::Unavailable, message).hint("retry with the same idempotency key")
            }
            LogError::Io(_) => Self::new(Code::Unavailable, message).hint("athena doctor"),
        }
    }
}

/// Reads the log by position; never through a mailbox. Sees an event only once it is as durable as its append asked.
pub trait LogReader: Send + Sync {
    /// The last position.
    fn head(&self) -> Seq;

    /// At most `limit` records after position `after`, ascending.
    ///
    /// # Errors
    /// When the disk fails or the data is damaged.
    fn read(&self, after: Seq, limit: usize) -> Result<Vec<Record>, LogError>;

    /// At most `limit` records of one stream after its version `after`, ascending.
    ///
    /// # Errors
    /// When the disk fails or the data is damaged.
    fn read_stream(&self, stream: &str, after: u64, limit: usize) -> Result<Vec<Record>, LogError>;

    /// The position of an event by its id.
    ///
    /// # Errors
    /// When the disk fails.
    fn find(&self, id: EventId) -> Result<Option<Seq>, LogError>;

    /// Resolves to the head once it is beyond `after`; to `None` when the log has closed.
    fn beyond(&self, after: Seq) -> BoxFuture<'_, Option<Seq>>;
}

/// What is inside a payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opened {
    /// The plain bytes.
    Plain(Vec<u8>),
    /// Its key was destroyed, or its payload dropped: gone for ever.
    Erased,
}

/// Seals payloads before they reach the log's writer and opens them for readers.
///
/// Stream, event id, kind and key version are bound as associated data, so ciphertexts cannot be swapped.
pub trait Sealer: Send + Sync {
    /// Replaces the draft's plain payload by the sealed one and names the key in its meta.
    ///
    /// # Errors
    /// When the key store fails.
    fn seal(&self, draft: Draft) -> Result<Draft, Refusal>;

    /// Opens a payload.
    ///
    /// # Errors
    /// When the bytes are not what was sealed.
    fn open(&self, draft: &Draft) -> Result<Opened, Refusal>;
}

/// An event as a projection sees it.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// The record, its payload still sealed.
    pub record: Arc<Record>,
    /// The event; `None` where it was erased or is ignorable and unknown.
    pub event: Option<Event>,
}

/// Why a projection stopped.
#[derive(Debug, thiserror::Error)]
pub enum ProjectionError {
    /// Its own store failed.
    #[error("projection {name}: {cause}")]
    Store {
        /// The projection.
        name: &'static str,
        /// What failed.
        cause: String,
    },
    /// An event could not be read.
    #[error("position {seq}: {cause}")]
    Decode {
        /// Where.
        seq: Seq,
        /// Why.
        cause: DecodeError,
    },
    /// It was to go over to what another read model had built.
    #[error("the projection {0} was built for another one")]
    Stranger(&'static str),
}

/// What was built beside a projection, as the projection that it is.
///
/// # Errors
/// [`ProjectionError::Stranger`] where it is another.
pub fn same<P: Projection>(built: Box<dyn Projection>) -> Result<Box<P>, ProjectionError> {
    let name = built.name();
    (built as Box<dyn Any>).downcast().map_err(|_| ProjectionError::Stranger(name))
}

/// A read model: disposable, rebuilt from the log. It keeps its position in the same transaction as its data.
pub trait Projection: Any + Send {
    /// Its name, for people and metrics.
    fn name(&self) -> &'static str;

    /// The version of its code: another version than the stored one means rebuild.
    fn version(&self) -> u32;

    /// The last position it has seen.
    fn position(&self) -> Seq;

    /// Takes a batch, in order, and stores the new position with it.
    ///
    /// # Errors
    /// When its own store fails. The batch is offered again.
    fn apply(&mut self, batch: &[Recorded]) -> Result<(), ProjectionError>;

    /// Makes what was applied durable; called when it has caught up and from time to time.
    ///
    /// # Errors
    /// When its own store fails.
    fn flush(&mut self) -> Result<(), ProjectionError>;

    /// Makes what was applied durable, and rids its own files of whatever was removed; called after an erasure.
    ///
    /// # Errors
    /// When its own store fails, or the files cannot be rewritten.
    fn scrub(&mut self) -> Result<(), ProjectionError> {
        self.flush()
    }

    /// An empty one of its kind beside it, which nobody reads: for a rebuild. Dropped before it was adopted, it leaves nothing behind.
    ///
    /// # Errors
    /// When its own store fails.
    fn beside(&self) -> Result<Box<dyn Projection>, ProjectionError>;

    /// Goes over to what was built [beside](Self::beside) it: from now on readers see that, and what stood here before is removed.
    ///
    /// # Errors
    /// When its own store fails; [`ProjectionError::Stranger`] for another read model's.
    fn adopt(&mut self, built: Box<dyn Projection>) -> Result<(), ProjectionError>;

    /// A digest of its whole content: equal for the live one and one rebuilt from position 0.
    ///
    /// # Errors
    /// When its own store fails.
    fn digest(&self) -> Result<[u8; 32], ProjectionError>;
}

/// A call that has ended.
#[derive(Debug, Clone, Copy)]
pub struct Called<'a> {
    /// `layer/operation`, as it is named today.
    pub op: &'a str,
    /// The older name it was called by.
    pub older: Option<&'static str>,
    /// When it began, milliseconds since 1970.
    pub at_ms: u64,
    /// How long it took, microseconds.
    pub took_us: u64,
    /// Whether it was answered.
    pub ok: bool,
}

/// The read side as the router sees it.
pub trait Views: Send + Sync {
    /// Answers a query on a snapshot. May take milliseconds of CPU: call it off the async threads.
    ///
    /// # Errors
    /// When the query is refused.
    fn answer(&self, cx: &Context, query: crate::catalog::Query) -> Result<Value, Refusal>;

    /// Notes that an operation was called, by an older name perhaps, for `meta/usage`. Nothing of it is a fact.
    fn called(&self, _: Called<'_>) {}

    /// Finds out what a command's decision needs to know.
    ///
    /// # Errors
    /// When the selection is refused.
    fn gather(
        &self,
        cx: &Context,
        command: &crate::catalog::Command,
    ) -> Result<crate::context::Evidence, Refusal>;
}
