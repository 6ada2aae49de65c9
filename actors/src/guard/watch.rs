//! The guard's actor. It alone knows what the runs under way have touched; what that leads to is decided by the caller's task,
//! so that a question to a person never holds up another run's calls.

use super::taint::{Step, Taints, Traced};
use crate::handle::Slot;
use athena_schemas::id::Id;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::oneshot;

/// A step of a run, and where its consequence is wanted.
pub(super) struct Message {
    pub(super) run: Id,
    pub(super) step: Step,
    pub(super) reply: oneshot::Sender<Traced>,
}

/// The actor. After a restart what earlier runs touched is not known; their next calls count anew.
pub(super) struct Watch;

impl Actor for Watch {
    type Msg = Message;
    type State = Taints;
    type Arguments = Slot<Message>;

    async fn pre_start(
        &self,
        myself: ActorRef<Message>,
        slot: Slot<Message>,
    ) -> Result<Taints, ActorProcessingErr> {
        slot.fill(myself);
        Ok(Taints::default())
    }

    async fn handle(
        &self,
        _: ActorRef<Message>,
        Message { run, step, reply }: Message,
        taints: &mut Taints,
    ) -> Result<(), ActorProcessingErr> {
        // Nobody waits any more where the run was cancelled.
        let _ = reply.send(taints.step(&run, step));
        Ok(())
    }
}
