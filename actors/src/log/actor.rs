//! The log as the first child of the supervision tree.
//!
//! Appends do not pass through this actor's mailbox, which could not be bounded, but through the writer's queue, which is.
//! The actor is there for life and death: it ends when an append was lost on the way, so that by rest-for-one everything that
//! was built on the log starts again from what the log really holds; it closes the log when the tree ends.

use super::LogHandle;
use ractor::{Actor, ActorProcessingErr, ActorRef};

/// Watches over a log.
#[derive(Debug)]
pub struct LogActor;

/// What the actor is told.
#[derive(Debug)]
pub enum LogMessage {
    /// The store failed under an append whose outcome is not known, and was opened anew.
    Failed,
}

impl Actor for LogActor {
    type Msg = LogMessage;
    type State = LogHandle;
    type Arguments = LogHandle;

    async fn pre_start(
        &self,
        myself: ActorRef<LogMessage>,
        log: LogHandle,
    ) -> Result<LogHandle, ActorProcessingErr> {
        // Where the store is not open, this opens it; where it cannot be, the actor does not start.
        log.barrier().await?;
        let mut failures = log.failures();
        failures.mark_unchanged();
        tokio::spawn(async move {
            while failures.changed().await.is_ok() {
                if myself.cast(LogMessage::Failed).is_err() {
                    break;
                }
            }
        });
        Ok(log)
    }

    async fn handle(
        &self,
        _: ActorRef<LogMessage>,
        message: LogMessage,
        _: &mut LogHandle,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            LogMessage::Failed => {
                Err("an append may have been lost; starting again from what the log holds".into())
            }
        }
    }

    async fn post_stop(
        &self,
        _: ActorRef<LogMessage>,
        log: &mut LogHandle,
    ) -> Result<(), ActorProcessingErr> {
        Ok(log.close().await?)
    }
}
