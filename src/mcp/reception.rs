//! Where the sessions of the HTTP front get their ways to the store: each a connection of its own, so that whoever owns the
//! connections counts it, lists it and may turn it away, like any other client's.

use super::profile::Profile;
use athena_schemas::context::Caller;
use athena_schemas::ports::{Answer, BoxFuture, Request, Router};
use athena_schemas::refusal::Refusal;
use rmcp::model::InitializeRequestParams;
use std::sync::{Arc, OnceLock};

/// A client that opens a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Visitor {
    /// Its name, as it says it.
    pub(crate) name: String,
    /// The version of MCP that it asks for.
    pub(crate) protocol: String,
    /// Which tools it is shown.
    pub(crate) profile: Profile,
}

/// Gives ways to the store.
pub(crate) trait Reception: Send + Sync {
    /// A way for one session alone, given back when it is dropped.
    ///
    /// # Errors
    /// [`Code::LimitExceeded`](athena_schemas::refusal::Code::LimitExceeded) when as many clients are there as may be.
    fn admit(&self, visitor: Visitor) -> BoxFuture<'_, Result<Arc<dyn Router>, Refusal>>;

    /// The way of requests that belong to no session: in the newer era of the protocol all of them.
    fn open(&self) -> Arc<dyn Router>;
}

/// One session's place: until a session is begun over it, what all share.
pub(super) struct Place {
    reception: Arc<dyn Reception>,
    own: OnceLock<Arc<dyn Router>>,
}

impl Place {
    pub(super) fn at(reception: Arc<dyn Reception>) -> Arc<Self> {
        Arc::new(Self { reception, own: OnceLock::new() })
    }

    /// Another one, at the same reception.
    pub(super) fn another(&self) -> Arc<Self> {
        Self::at(self.reception.clone())
    }

    /// A session begins.
    pub(super) async fn take(
        &self,
        request: &InitializeRequestParams,
        profile: Profile,
    ) -> Result<(), Refusal> {
        if self.own.get().is_some() {
            return Ok(());
        }
        let visitor = Visitor {
            name: request.client_info.name.clone(),
            protocol: request.protocol_version.to_string(),
            profile,
        };
        let own = self.reception.admit(visitor).await?;
        // Of two that begin at once, one is kept; the other's connection ends here.
        let _ = self.own.set(own);
        Ok(())
    }
}

impl Router for Place {
    fn call<'a>(&'a self, caller: &'a Caller, request: Request) -> BoxFuture<'a, Result<Answer, Refusal>> {
        match self.own.get() {
            Some(own) => own.call(caller, request),
            None => {
                let shared = self.reception.open();
                Box::pin(async move { shared.call(caller, request).await })
            }
        }
    }
}
