//! Opening the store itself: what the daemon does, and nobody else while it lives.

use crate::config::{Config, Folders};
use crate::daemon::Parts;
use crate::daemon::server::{Closing, Custody, House};
use crate::system::{Options, System, configured, master_key};
use athena_schemas::ports::BoxFuture;
use athena_schemas::refusal::Refusal;
use serde_json::Value;
use std::sync::Arc;

/// Opens the store in `folders`, for [`crate::daemon::Server::run`].
///
/// # Errors
/// When the store is damaged, in use, or configured in a way that makes no sense.
pub(crate) async fn open(folders: Folders, config: Config) -> Result<(Parts, Closing), Refusal> {
    let options = Options {
        folder: Some(folders.store.clone()),
        master: master_key(&config, |name| std::env::var(name).ok())?,
        config,
        upstreams: configured(&folders)?,
        ..Options::default()
    };
    let system = Arc::new(System::open(options).await?);
    let parts = Parts {
        router: system.router(),
        log: system.log(),
        sealer: system.sealer(),
        house: Arc::new(Whole(system.clone())),
    };
    Ok((parts, Box::pin(async move { system.shutdown().await })))
}

/// What the daemon asks of the whole.
struct Whole(Arc<System>);

impl House for Whole {
    fn active_runs(&self) -> usize {
        self.0.active_runs()
    }

    fn compare(&self) -> BoxFuture<'_, Result<Value, Refusal>> {
        Box::pin(async move {
            let compared = self.0.read_side().compare().await?;
            serde_json::to_value(compared).map_err(|e| Refusal::internal(e.to_string()))
        })
    }

    fn custody(&self) -> Option<Custody> {
        Some(self.0.custody())
    }
}
