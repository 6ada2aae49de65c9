//! What callers hold instead of an `ActorRef`: a slot that the actor fills each time it starts, so it survives restarts.

use athena_schemas::refusal::{Code, Refusal};
use ractor::{ActorRef, Message};
use std::sync::{Arc, PoisonError, RwLock};

/// The current address of an actor, across its restarts.
pub struct Slot<M: Message> {
    name: &'static str,
    current: Arc<RwLock<Option<ActorRef<M>>>>,
}

impl<M: Message> Clone for Slot<M> {
    fn clone(&self) -> Self {
        Self { name: self.name, current: self.current.clone() }
    }
}

impl<M: Message> Slot<M> {
    /// An empty slot; `name` is for error messages.
    pub fn new(name: &'static str) -> Self {
        Self { name, current: Arc::default() }
    }

    /// Called by the actor in its `pre_start`.
    pub fn fill(&self, actor: ActorRef<M>) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Some(actor);
    }

    /// Sends a message.
    ///
    /// # Errors
    /// [`Code::Unavailable`] while the actor is restarting; whatever the message carried was not done.
    pub fn cast(&self, message: M) -> Result<(), Refusal> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner).clone();
        current.ok_or_else(|| self.down())?.cast(message).map_err(|_| self.down())
    }

    /// The refusal while the actor is down.
    pub fn down(&self) -> Refusal {
        Refusal::new(Code::Unavailable, format!("{} is restarting", self.name))
            .hint("retry with the same idempotency key")
    }
}
