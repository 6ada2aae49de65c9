//! Services: operations composed out of several parts. Each file is one layer's.

pub(crate) mod consolidation;
pub(crate) mod erasure;
mod privacy;
mod procedural;
mod prospective;
pub(crate) mod retention;
mod run;
mod store;
mod transfer;
mod undo;
mod upstream;

use crate::read_side::ReadSide;
use athena_actors::dispatch::Layers;
use athena_actors::guard::Guard;
use athena_actors::keys::KeyStore;
use athena_actors::log::LogHandle;
use athena_actors::privacy::Tokenizer;
use athena_actors::run::Runs;
use athena_actors::upstream::Upstreams;
use athena_schemas::catalog::{Command, Service};
use athena_schemas::context::{Caller, Context, Scope};
use athena_schemas::layers::procedural::Learn;
use athena_schemas::layers::store as store_layer;
use athena_schemas::operation::to_json;
use athena_schemas::ports::{Answer, BoxFuture, Request, Router, Sealer};
use athena_schemas::refusal::Refusal;
use serde::Serialize;
use serde_json::Value;
use std::path::PathBuf;
use std::sync::{Arc, Weak};

/// The parts that services are composed of.
pub(crate) struct House {
    pub(crate) layers: Layers,
    pub(crate) log: LogHandle,
    pub(crate) keys: Arc<KeyStore>,
    pub(crate) sealer: Arc<dyn Sealer>,
    pub(crate) read_side: Arc<ReadSide>,
    /// The store's folder, for exports and imports.
    pub(crate) folder: PathBuf,
    pub(crate) runs: Arc<Runs>,
    /// Whether there are workers: code can be looked at, and run.
    pub(crate) workers: bool,
    pub(crate) guard: Arc<Guard>,
    pub(crate) tokenizer: Tokenizer,
    pub(crate) upstreams: Upstreams,
    /// The language model of consolidation, where one is configured.
    pub(crate) reasoner: Option<consolidation::Reasoner>,
    pub(crate) erasure: Arc<erasure::Erasure>,
    pub(crate) retention: retention::Retention,
    pub(crate) router: Weak<crate::router::Router>,
}

impl crate::router::Services for House {
    fn call(&self, cx: Context, service: Service) -> BoxFuture<'_, Result<Answer, Refusal>> {
        Box::pin(async move {
            match service {
                Service::Consolidation(service) => consolidation::call(self, cx, service).await,
                Service::Run(service) => run::call(self, cx, service).await,
                Service::Privacy(service) => privacy::call(self, cx, service).await,
                Service::Procedural(service) => procedural::call(self, cx, service).await,
                Service::Prospective(service) => prospective::call(self, cx, service).await,
                Service::Store(service) => store::call(self, cx, service).await,
                Service::Upstream(service) => upstream::call(self, cx, service).await,
                other => Err(Refusal::internal(format!("{other:?} has no service"))),
            }
        })
    }

    fn judged<'a>(&'a self, cx: &'a Context, op: &'a Learn) -> BoxFuture<'a, Result<Option<Value>, Refusal>> {
        Box::pin(procedural::judged(self, cx, op))
    }

    fn erased(&self) -> BoxFuture<'_, Result<(), Refusal>> {
        Box::pin(self.erasure.settle())
    }
}

impl House {
    /// A follow-up call on behalf of the same caller, under an id that belongs to the first.
    pub(crate) async fn follow(
        &self,
        cx: &Context,
        label: &str,
        op: &str,
        params: Value,
    ) -> Result<Answer, Refusal> {
        self.follow_at(cx, &cx.scope, label, op, params).await
    }

    /// Records something across the layers as done by who asked for it. These commands are on nobody's bus: the router let the
    /// caller in to the service, and the service is what it is done by.
    pub(crate) async fn note(
        &self,
        cx: &Context,
        scope: &Scope,
        note: store_layer::Command,
    ) -> Result<Answer, Refusal> {
        let command = cx.command.child("noted");
        let mut cx = Context::new(cx.now_ms, cx.caller.clone(), scope.clone(), command);
        cx.keyed = true;
        self.layers.decide(cx, Command::Store(note), None).await
    }

    /// A follow-up call in another scope.
    pub(crate) async fn follow_at(
        &self,
        cx: &Context,
        scope: &Scope,
        label: &str,
        op: &str,
        params: Value,
    ) -> Result<Answer, Refusal> {
        let mut caller = Caller::system();
        caller.name.clone_from(&cx.caller.name);
        (caller.scope, caller.holds) = (scope.clone(), scope.clone());
        caller.run.clone_from(&cx.caller.run);
        self.follow_as(cx, &caller, label, op, params).await
    }

    /// A follow-up call that is recorded as the caller's own: what the caller could have asked for directly, and answers for.
    pub(crate) async fn follow_as(
        &self,
        cx: &Context,
        caller: &Caller,
        label: &str,
        op: &str,
        params: Value,
    ) -> Result<Answer, Refusal> {
        let router = self.router.upgrade().ok_or_else(|| Refusal::internal("the router is gone"))?;
        let key = cx.command.child(label).to_string();
        router.call(caller, Request { idempotency_key: Some(key), ..Request::new(op, params) }).await
    }
}

/// The same caller at the same time in a scope, to read on a thread of its own.
pub(crate) fn reading(cx: &Context, scope: &Scope) -> Context {
    Context::new(cx.now_ms, cx.caller.clone(), scope.clone(), cx.command)
}

/// An answer that records nothing of its own.
pub(crate) fn answer<T: Serialize>(value: T) -> Result<Answer, Refusal> {
    Ok(Answer { value: to_json(value)?, seq: None })
}
