//! The guard's actor. It alone knows what the runs at work have touched; what that leads to is decided by the caller's task, so
//! that a question to a person never holds up another run's calls.

use super::taint::{Step, Taints, Traced};
use crate::handle::Slot;
use athena_schemas::id::Id;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::oneshot;

/// What the guard is told of runs. There is one answer at most to wait for in each run at work, so the mailbox is bounded by
/// what the sandbox lets work at once.
pub(super) enum Message {
    /// A run goes to work. Answers whether what its outermost run has touched is known already.
    Enter { run: Id, root: Id, reply: oneshot::Sender<bool> },
    /// What a run at work has done before, as its record tells.
    Recall { run: Id, steps: Vec<Step> },
    /// A run takes a step. Answers nothing where it is not at work.
    Step { run: Id, step: Step, reply: oneshot::Sender<Option<Traced>> },
    /// A run is at work no more.
    Leave { run: Id },
}

/// The actor. After a restart what runs at work had touched is not known: their next calls are refused, and they go on from
/// their records.
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
        message: Message,
        taints: &mut Taints,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            // Nobody waits for an answer any more where the run was cancelled.
            Message::Enter { run, root, reply } => drop(reply.send(taints.enter(&run, &root))),
            Message::Step { run, step, reply } => drop(reply.send(taints.step(&run, step))),
            Message::Recall { run, steps } => {
                for step in steps {
                    taints.step(&run, step);
                }
            }
            Message::Leave { run } => taints.leave(&run),
        }
        Ok(())
    }
}
