//! A service as the owner of its connection sees it: who speaks, how often, and a panic in a request is an answer to that
//! request. Without this, the panic would end the request's task alone, and its client would wait for ever.

use rmcp::model::{ErrorData, ProtocolVersion};
use rmcp::service::{NotificationContext, RequestContext, RoleServer, Service, ServiceRole};
use std::borrow::Cow;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;
use tokio::time::Instant;

/// What is known of the client at the other end of one connection.
#[derive(Debug)]
pub(crate) struct Guest {
    requests: AtomicU64,
    said: Mutex<Option<Said>>,
    /// When it last asked something, or came.
    asked: Mutex<Instant>,
    /// Of its requests, those that are not answered yet, where its connection says so.
    under_way: AtomicUsize,
}

impl Default for Guest {
    fn default() -> Self {
        Self {
            requests: AtomicU64::new(0),
            said: Mutex::default(),
            asked: Mutex::new(Instant::now()),
            under_way: AtomicUsize::new(0),
        }
    }
}

/// What a client says of itself. In the newer era it does so with every request, and the last word counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Said {
    /// Its name.
    pub(crate) name: String,
    /// The version of the protocol that it speaks.
    pub(crate) protocol: String,
}

impl Guest {
    /// Counts a request.
    pub(crate) fn asks(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// So many of its requests are under way.
    pub(crate) fn waits_for(&self, requests: usize) {
        self.under_way.store(requests, Ordering::Relaxed);
    }

    /// How long ago it last asked something; nothing while it waits for an answer.
    pub(crate) fn quiet(&self) -> Option<Duration> {
        let asked = *self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        (self.under_way.load(Ordering::Relaxed) == 0).then(|| asked.elapsed())
    }

    /// Requests so far.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// What it said of itself.
    pub(crate) fn said(&self) -> Option<Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn hears(&self, context: &RequestContext<RoleServer>) {
        self.asks();
        let (Some(client), Some(protocol)) = (context.client_info(), context.protocol_version()) else {
            return;
        };
        let said = Said { name: client.name, protocol: protocol.to_string() };
        let mut known = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if known.as_ref() != Some(&said) {
            *known = Some(said);
        }
    }
}

/// Panics that were caught, over all connections of one front.
#[derive(Debug, Clone, Default)]
pub(crate) struct Panics(Arc<AtomicU64>);

impl Panics {
    /// One more, in a request or in a connection itself.
    pub(crate) fn caught(&self, place: &'static str) {
        self.0.fetch_add(1, Ordering::Relaxed);
        metrics::counter!("athena_front_panics_total", "in" => place).increment(1);
        tracing::error!(place, "a panic was caught; other connections are not touched");
    }

    /// How many.
    pub(crate) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A service whose requests are counted and whose panics are caught.
pub(crate) struct Attended<S> {
    service: S,
    guest: Arc<Guest>,
    panics: Panics,
}

impl<S> Attended<S> {
    /// `service`, for `guest`.
    pub(crate) fn new(service: S, guest: Arc<Guest>, panics: Panics) -> Self {
        Self { service, guest, panics }
    }
}

impl<S: Service<RoleServer>> Service<RoleServer> for Attended<S> {
    async fn handle_request(
        &self,
        request: <RoleServer as ServiceRole>::PeerReq,
        context: RequestContext<RoleServer>,
    ) -> Result<<RoleServer as ServiceRole>::Resp, ErrorData> {
        self.guest.hears(&context);
        match unwound(Box::pin(self.service.handle_request(request, context))).await {
            Some(answer) => answer,
            None => {
                self.panics.caught("request");
                Err(defect())
            }
        }
    }

    async fn handle_notification(
        &self,
        notification: <RoleServer as ServiceRole>::PeerNot,
        context: NotificationContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        match unwound(Box::pin(self.service.handle_notification(notification, context))).await {
            Some(answer) => answer,
            None => {
                self.panics.caught("notification");
                Ok(())
            }
        }
    }

    fn get_info(&self) -> <RoleServer as ServiceRole>::Info {
        self.service.get_info()
    }

    fn supported_protocol_versions(&self) -> Cow<'static, [ProtocolVersion]> {
        self.service.supported_protocol_versions()
    }
}

/// What is said of a request that ended in a panic.
pub(crate) fn defect() -> ErrorData {
    ErrorData::internal_error(
        "a defect of Athena ended the request; others go on (athena doctor; see the store's daemon.log)",
        None,
    )
}

/// What a future comes to; `None` where it panics. Nothing of it is used after that, so nothing half-changed is seen.
pub(crate) async fn unwound<T>(work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx))) {
        Ok(Poll::Ready(value)) => Poll::Ready(Some(value)),
        Ok(Poll::Pending) => Poll::Pending,
        Err(_) => Poll::Ready(None),
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_nothing_and_what_comes_after_an_await_is_covered_too() {
        assert_eq!(unwound(async { 7 }).await, Some(7));
        let late = async {
            tokio::task::yield_now().await;
            if true {
                panic!("injected");
            }
        };
        assert_eq!(unwound(late).await, None);
    }
}
