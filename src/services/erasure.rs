//! Erasing for ever: what the log says is to be erased is destroyed, and whatever held a copy is rid of it.
//!
//! The tombstone is recorded first; this then destroys the keys of the events that held the items, and rewrites what was
//! folded from them: read models on disk, snapshots, what is remembered in memory. It reads its work from the log and notes
//! with the keys how far it has come, so an erasure that was cut off by a crash is finished at the next start, and keys that
//! come back from a backup are destroyed again.

use crate::read_side::ReadSide;
use athena_actors::dispatch::Layers;
use athena_actors::erasure::{Holders, holders, tombstones};
use athena_actors::keys::KeyStore;
use athena_actors::log::LogHandle;
use athena_actors::privacy::Tokenizer;
use athena_actors::run::Runs;
use athena_schemas::catalog::Command;
use athena_schemas::envelope::Seq;
use athena_schemas::id::Id;
use athena_schemas::layers::common::{Forgetting, Layer};
use athena_schemas::layers::{episodic, semantic};
use athena_schemas::ports::Sealer;
use athena_schemas::refusal::{Code, Refusal};
use std::sync::Arc;
use tokio::sync::Mutex;

/// After this many positions without an erasure it is noted with the keys that they need not be searched again.
const NOTE_EVERY: Seq = 100_000;

/// Whether a command asks for content to be destroyed.
pub(crate) fn erases(command: &Command) -> bool {
    match command {
        Command::Episodic(episodic::Command::Forget(op)) => op.mode == Forgetting::Erase && !op.dry_run,
        Command::Semantic(semantic::Command::Discard(op)) => op.mode == Forgetting::Erase,
        _ => false,
    }
}

/// Carries out erasures, one at a time.
pub(crate) struct Erasure {
    log: LogHandle,
    sealer: Arc<dyn Sealer>,
    keys: Arc<KeyStore>,
    layers: Layers,
    read_side: Arc<ReadSide>,
    tokenizer: Tokenizer,
    runs: Arc<Runs>,
    /// How far the log has been searched.
    searched: Mutex<Seq>,
}

impl Erasure {
    pub(crate) fn new(
        log: LogHandle,
        sealer: Arc<dyn Sealer>,
        keys: Arc<KeyStore>,
        layers: Layers,
        read_side: Arc<ReadSide>,
        tokenizer: Tokenizer,
        runs: Arc<Runs>,
    ) -> Self {
        Self { log, sealer, keys, layers, read_side, tokenizer, runs, searched: Mutex::new(0) }
    }

    /// Carries out every erasure on record that has not been.
    ///
    /// # Errors
    /// When the disk fails: what was not done is done with the next erasure or start. [`Code::Conflict`] for events from
    /// before events had keys of their own.
    pub(crate) async fn settle(&self) -> Result<(), Refusal> {
        let mut searched = self.searched.lock().await;
        let head = self.log.barrier().await?;
        let after = self.keys.settled().max(*searched);
        let (reader, sealer) = (self.log.reader(), self.sealer.clone());
        let found = blocking(move || {
            let ids = tombstones(&*reader, &*sealer, after, head)?;
            if ids.is_empty() {
                return Ok(None);
            }
            // Only episodes and facts are taken out by a fold of their tombstone; other layers are folded anew without them.
            let folds = |id: &Id| matches!(Layer::of(id), Some(Layer::Episodic | Layer::Semantic));
            let anew = !ids.iter().all(folds);
            holders(&*reader, &*sealer, &ids, head).map(|found| Some((found, anew)))
        })
        .await?;
        let Some((Holders { events, runs, approvals }, anew)) = found else {
            *searched = head;
            if head.saturating_sub(self.keys.settled()) >= NOTE_EVERY {
                let keys = self.keys.clone();
                blocking(move || keys.settle(head)).await?;
            }
            return Ok(());
        };
        let keys = self.keys.clone();
        let (destroyed, without) = blocking(move || keys.destroy_events(&events)).await?;
        tracing::info!(destroyed, runs, "keys of erased events were destroyed");
        // What was folded before the tombstone is taken out by its fold; what is folded from now on cannot read it.
        self.read_side.reached(head).await?;
        self.forget_copies(anew).await?;
        if anew {
            self.read_side.rebuild(None).await?;
        } else {
            let holding = [
                ("runs", runs > 0),
                ("advice", runs > 0),
                ("approvals", approvals > 0),
                ("audit", runs + approvals > 0),
            ];
            for (name, _) in holding.into_iter().filter(|(_, holds)| *holds) {
                self.read_side.rebuild(Some(name)).await?;
            }
        }
        self.read_side.scrub().await?;
        let keys = self.keys.clone();
        blocking(move || keys.settle(head)).await?;
        *searched = head;
        if without.is_empty() {
            return Ok(());
        }
        Err(Refusal::new(
            Code::Conflict,
            format!(
                "{} events of what was forgotten were recorded before events had keys of their own: nothing finds them any \
                 more, but their bytes in the log can be destroyed only with all of their project",
                without.len()
            ),
        )
        .hint("athena export, store/erase_scope, athena import"))
    }

    /// Rids everything beside the log of what can no longer be read: after whole keys were destroyed.
    ///
    /// # Errors
    /// When the disk fails or a part is restarting.
    pub(crate) async fn renew_all(&self) -> Result<(), Refusal> {
        let _turn = self.searched.lock().await;
        // Nobody is in the middle of a page that was opened with the keys there were.
        self.read_side.reached(self.log.barrier().await?).await?;
        self.forget_copies(true).await?;
        self.tokenizer.renew().await?;
        self.read_side.rebuild(None).await?;
        self.read_side.scrub().await
    }

    async fn forget_copies(&self, replay: bool) -> Result<(), Refusal> {
        self.layers.renew(replay).await?;
        self.read_side.forget_pages();
        self.runs.forget();
        Ok(())
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Refusal::internal(format!("an erasure failed: {error}")))?
}
