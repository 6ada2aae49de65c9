//! What one part needs of another, where neither knows the other: small adapters, each a trait of the needing part.

use crate::clock::Clock;
use crate::toolbox::{Advice, Toolbox};
use athena_actors::layer::LayerHandle;
use athena_actors::layers::meta;
use athena_actors::privacy::Tokenizer;
use athena_actors::run::Runs;
use athena_actors::run::parts::{Surface, Tokenize};
use athena_actors::upstream::pins::Pins;
use athena_actors::upstream::{Ledger, Upstreams};
use athena_projections::library::Library;
use athena_schemas::context::{Caller, Context, Party, Scope};
use athena_schemas::id::CommandId;
use athena_schemas::layers::meta::{Advise, Command as MetaCommand};
use athena_schemas::layers::run;
use athena_schemas::layers::upstream::{Command, Entrust, Entrusted, Note, Observe, Verdict};
use athena_schemas::ports::BoxFuture;
use athena_schemas::refusal::Refusal;
use athena_schemas::surface::Effect;
use athena_schemas::wire::Namespace;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// A context of Athena's own, now.
pub(crate) fn own(clock: &dyn Clock) -> Context {
    Context::new(clock.now_ms(), Caller::system(), Scope::default(), CommandId(clock.random()))
}

/// The tokenizer, as runs see it.
pub(crate) struct RunTokens(pub(crate) Tokenizer);

impl Tokenize for RunTokens {
    fn code<'a>(
        &'a self,
        cx: &'a Context,
        code: &'a str,
        literals: &'a [(u32, u32)],
    ) -> BoxFuture<'a, Result<(String, u32), Refusal>> {
        Box::pin(async move {
            self.0.tokenize_code(cx, code, literals).await.map(|(code, report)| (code, report.total()))
        })
    }

    fn text<'a>(&'a self, cx: &'a Context, text: &'a str) -> BoxFuture<'a, Result<(String, u32), Refusal>> {
        Box::pin(
            async move { self.0.tokenize_text(cx, text).await.map(|(text, report)| (text, report.total())) },
        )
    }

    fn json<'a>(&'a self, cx: &'a Context, value: Value) -> BoxFuture<'a, Result<(Value, u32), Refusal>> {
        Box::pin(
            async move { self.0.tokenize(cx, value).await.map(|(value, report)| (value, report.total())) },
        )
    }
}

/// The log and the vault, as the gateway sees them.
pub(crate) struct Pinned {
    pub(crate) pins: LayerHandle<Pins>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) tokenizer: Tokenizer,
}

impl Pinned {
    /// What the store's own vault keeps under a token.
    async fn open(&self, token: &str, purpose: &str) -> Option<String> {
        let text = Value::String(token.to_owned());
        // The empty path is the text itself.
        let value = self.tokenizer.reveal(&own(&*self.clock), text, &[String::new()], purpose).await.ok()?;
        value.as_str().filter(|value| *value != token).map(str::to_owned)
    }
}

impl Ledger for Pinned {
    fn observe(&self, observe: Observe) -> BoxFuture<'_, Result<Verdict, Refusal>> {
        Box::pin(async move {
            let answer = self.pins.decide(own(&*self.clock), Command::Observe(observe), None).await?;
            serde_json::from_value(answer.value).map_err(|error| Refusal::internal(error.to_string()))
        })
    }

    fn note(&self, note: Note) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            if let Err(refusal) = self.pins.decide(own(&*self.clock), Command::Note(note), None).await {
                tracing::warn!(%refusal, "a server's failure could not be recorded");
            }
        })
    }

    fn secret<'a>(&'a self, server: &'a str, name: &'a str) -> BoxFuture<'a, Option<String>> {
        Box::pin(async move {
            // The name of a secret is its token.
            self.open(name, &format!("configuration of upstream {server}")).await
        })
    }

    fn credentials<'a>(&'a self, server: &'a str) -> BoxFuture<'a, Option<String>> {
        Box::pin(async move {
            let command = Command::Entrusted(Entrusted { server: server.to_owned() });
            let known = self.pins.decide(own(&*self.clock), command, None).await.ok()?.value;
            self.open(known.as_str()?, &format!("access to upstream {server}")).await
        })
    }

    fn keep_credentials<'a>(
        &'a self,
        server: &'a str,
        text: Option<String>,
    ) -> BoxFuture<'a, Result<(), Refusal>> {
        Box::pin(async move {
            let cx = own(&*self.clock);
            let credentials = match text {
                Some(text) => Some(self.tokenizer.keep(&cx, &text).await?),
                None => None,
            };
            let command = Command::Entrust(Entrust { server: server.to_owned(), credentials });
            self.pins.decide(own(&*self.clock), command, None).await.map(drop)
        })
    }
}

/// Advice that may wait to be recorded; beyond that, searches go unrecorded.
const ADVICE_MAX: usize = 64;

/// What worked before, as the toolbox sees it: kept by the meta layer, added up by the read side.
pub(crate) struct Worked {
    layer: LayerHandle<meta::State>,
    library: Arc<Library>,
    room: Arc<Semaphore>,
}

impl Worked {
    pub(crate) fn new(layer: LayerHandle<meta::State>, library: Arc<Library>) -> Self {
        Self { layer, library, room: Arc::new(Semaphore::new(ADVICE_MAX)) }
    }
}

impl Advice for Worked {
    fn favoured(&self, cx: &Context, words: &[String]) -> HashMap<String, f64> {
        self.library.advice.favoured(cx, words).unwrap_or_else(|error| {
            tracing::warn!(%error, "what worked before cannot be read");
            HashMap::new()
        })
    }

    fn advised(&self, cx: &Context, words: Vec<String>, ops: Vec<String>) {
        // People look around; what they look at says nothing about what an agent's code will need.
        if !matches!(cx.caller.party, Party::Agent | Party::Code) || ops.is_empty() {
            return;
        }
        let Ok(permit) = self.room.clone().try_acquire_owned() else { return };
        let cx = Context::new(cx.now_ms, cx.caller.clone(), cx.scope.clone(), cx.command.child("advice"));
        let layer = self.layer.clone();
        // Nobody waits for it: an answer is worth more than what may be learned from it.
        tokio::spawn(async move {
            let command = MetaCommand::Advise(Advise { words, ops });
            if let Err(refusal) = layer.decide(cx, command, None).await {
                tracing::debug!(%refusal, "a search for tools could not be recorded");
            }
            drop(permit);
        });
    }
}

/// The globals of the sandbox, as the toolbox lists them.
pub(crate) struct Globals(pub(crate) Arc<Toolbox>);

impl Surface for Globals {
    fn namespaces(&self, _: &Context) -> Arc<[Namespace]> {
        self.0.namespaces()
    }
}

/// What a call of another server's tool can do, as runs see it.
pub(crate) fn effect(upstreams: &Upstreams, op: &str) -> run::Effect {
    match upstreams.effect(op) {
        Effect::Read => run::Effect::ReadOnly,
        Effect::Idempotent => run::Effect::Idempotent,
        Effect::Write => run::Effect::Unknown,
    }
}

/// Everything that is not memory: other servers' tools, the virtual files, discovery, results too large to answer.
pub(crate) struct Outside {
    pub(crate) toolbox: Arc<Toolbox>,
    pub(crate) upstreams: Upstreams,
    pub(crate) tokenizer: Tokenizer,
    pub(crate) runs: Arc<Runs>,
}

impl crate::router::Tools for Outside {
    fn knows(&self, op: &str) -> bool {
        matches!(op.split_once('/'), Some(("files" | "tools" | "results", _)))
            || op
                .split_once('/')
                .is_some_and(|(server, _)| self.upstreams.names().iter().any(|name| name == server))
    }

    fn call<'a>(
        &'a self,
        cx: &'a Context,
        op: &'a str,
        params: Value,
    ) -> BoxFuture<'a, Result<Value, Refusal>> {
        Box::pin(async move {
            match op.split_once('/') {
                Some(("results", "read")) => self.runs.read(cx, params),
                Some(("files" | "tools" | "results", _)) => self.toolbox.call(cx, op, params).await,
                Some((server, tool)) => {
                    // The real values go to the paths that the server's configuration lists, at the last moment.
                    let paths = self.upstreams.reveal_paths(server, tool);
                    let params = match paths.is_empty() {
                        true => params,
                        false => self.tokenizer.reveal(cx, params, &paths, op).await?,
                    };
                    self.upstreams.call(server, tool, params).await
                }
                None => Err(athena_schemas::catalog::unknown(op)),
            }
        })
    }
}
