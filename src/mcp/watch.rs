//! Subscriptions to resources: memory items, runs, skills. Each is looked at again at a fixed pace; whoever subscribed is told
//! when it says something else.

use super::resources::{self, Looking};
use rmcp::ErrorData;
use rmcp::RoleServer;
use rmcp::model::ResourceUpdatedNotificationParam;
use rmcp::service::Peer;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::AbortHandle;

/// Resources one client may watch.
pub(super) const WATCHED_MAX: usize = 64;
/// Between two looks.
const PACE: Duration = Duration::from_millis(500);

/// A resource as it was last seen.
pub(super) struct Watch {
    uri: String,
    seen: Option<blake3::Hash>,
}

impl Watch {
    /// Begins to watch; what is there now is not news.
    pub(super) async fn of(asked: &Looking, uri: String) -> Self {
        let mut watch = Self { uri, seen: None };
        watch.seen = watch.look(asked).await;
        watch
    }

    pub(super) fn uri(&self) -> &str {
        &self.uri
    }

    /// Whether it says something else than when it was last looked at.
    pub(super) async fn changed(&mut self, asked: &Looking) -> bool {
        let now = self.look(asked).await;
        std::mem::replace(&mut self.seen, now) != now
    }

    async fn look(&self, asked: &Looking) -> Option<blake3::Hash> {
        let read = resources::read(asked, &self.uri).await.ok()?;
        serde_json::to_vec(&read.contents).ok().map(|bytes| blake3::hash(&bytes))
    }
}

/// Ticks at the pace of the looks.
pub(super) fn pace() -> tokio::time::Interval {
    let mut ticks = tokio::time::interval(PACE);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    ticks
}

/// What one connection of the older era watches. It ends with the connection.
#[derive(Clone, Default)]
pub(super) struct Watches(Arc<Mutex<HashMap<String, AbortHandle>>>);

impl Watches {
    pub(super) async fn add(
        &self,
        asked: Looking,
        uri: String,
        peer: Peer<RoleServer>,
    ) -> Result<(), ErrorData> {
        if self.0.lock().unwrap_or_else(PoisonError::into_inner).len() >= WATCHED_MAX {
            let message = format!("a client watches {WATCHED_MAX} resources at most; unsubscribe from one");
            return Err(ErrorData::invalid_params(message, None));
        }
        let mut watch = Watch::of(&asked, uri.clone()).await;
        let task = tokio::spawn(async move {
            let mut ticks = pace();
            loop {
                ticks.tick().await;
                if !watch.changed(&asked).await {
                    if peer.is_transport_closed() {
                        return;
                    }
                    continue;
                }
                let changed = ResourceUpdatedNotificationParam::new(watch.uri());
                if peer.notify_resource_updated(changed).await.is_err() {
                    return;
                }
            }
        });
        let before = self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(uri, task.abort_handle());
        if let Some(before) = before {
            before.abort();
        }
        Ok(())
    }

    pub(super) fn remove(&self, uri: &str) {
        if let Some(task) = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(uri) {
            task.abort();
        }
    }
}
