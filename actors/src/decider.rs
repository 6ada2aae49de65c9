//! What a memory layer is: a state and two pure functions.

use athena_schemas::context::Context;
use athena_schemas::envelope::{Family, Meta};
use athena_schemas::operation::Decision;
use athena_schemas::refusal::Refusal;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The whole of a layer: a state and two pure functions. No clock, no I/O, no randomness: those arrive in [`Context`].
pub trait Decider: Default + Clone + Serialize + DeserializeOwned + Send + 'static {
    /// The layer's name, and its stream in the log.
    const LAYER: &'static str;
    /// The version of the state's shape: a snapshot of another version is not used.
    const SNAPSHOT: u32;
    /// What it is asked.
    type Command: Send + 'static;
    /// What happens.
    type Event: Family + Send + Sync + 'static;

    /// Decides a command on the state as it is.
    ///
    /// # Errors
    /// When the layer refuses.
    fn decide(&self, cx: &Context, command: Self::Command) -> Result<Decision<Self::Event, Value>, Refusal>;

    /// Folds an event into the state. Must not fail: what the log holds has happened.
    fn evolve(&mut self, meta: &Meta, event: &Self::Event);
}
