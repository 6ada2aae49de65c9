//! What the engine of runs needs of the rest of the house, as traits: it judges nothing, tokenizes nothing and knows no tool.

use crate::log::LogHandle;
use crate::sandbox::Sandbox;
use athena_schemas::catalog;
use athena_schemas::context::Context;
use athena_schemas::id::Id;
use athena_schemas::layers::run::Effect;
use athena_schemas::operation::{Audience, Side};
use athena_schemas::ports::{BoxFuture, Sealer};
use athena_schemas::refusal::Refusal;
use athena_schemas::risk::Limits;
use athena_schemas::wire::{Assessment, Fault, Language, Namespace};
use serde_json::Value;
use std::sync::Arc;

/// Code on its way to the judge; its sensitive values are tokens already.
#[derive(Debug, Clone, Copy)]
pub struct Submission<'a> {
    /// The run it will be.
    pub run: &'a Id,
    /// The run whose code started it.
    pub parent: Option<&'a Id>,
    /// Its language.
    pub language: Language,
    /// The source.
    pub code: &'a str,
    /// The session's name.
    pub session: Option<&'a str>,
}

/// What the judge says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It may run within these limits.
    Allow {
        /// The tier's limits; a request may lower them.
        limits: Limits,
    },
    /// A person is asked; the run waits without a process.
    Ask {
        /// What the person answers.
        approval: Id,
        /// The limits it will run within after a yes.
        limits: Limits,
        /// What is asked, in a sentence.
        message: String,
    },
    /// It may not run.
    Deny {
        /// Why, in a sentence.
        message: String,
    },
}

/// What became of an approval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decided {
    /// Nobody has answered yet.
    Pending,
    /// Yes.
    Approved,
    /// No, or too late.
    Denied {
        /// Why.
        reason: String,
    },
}

/// A call on record: the operation and its parameters, JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The operation.
    pub op: String,
    /// The parameters.
    pub params: String,
}

/// The guard, as runs see it.
pub trait Judge: Send + Sync {
    /// Judges code before it runs.
    fn judge<'a>(
        &'a self,
        cx: &'a Context,
        assessment: &'a Assessment,
        submission: Submission<'a>,
    ) -> BoxFuture<'a, Result<Verdict, Refusal>>;

    /// A run goes to work, by itself (then it is its own `root`) or started by the code of another, whose outermost is `root`.
    /// Whether the judge knows what these runs have done; where it does not, [`recall`](Self::recall) follows before the first
    /// call.
    ///
    /// # Errors
    /// While the judge restarts.
    fn enter<'a>(&'a self, run: &'a Id, root: &'a Id) -> BoxFuture<'a, Result<bool, Refusal>>;

    /// What a run at work, and those before and below it, have called so far, as their records tell.
    ///
    /// # Errors
    /// While the judge restarts: then the run must not go on.
    fn recall(&self, run: &Id, asked: &[Asked]) -> Result<(), Refusal>;

    /// A run is at work no more: it is over, or waits.
    fn leave(&self, run: &Id);

    /// What became of an approval that [`judge`](Self::judge) or a call asked for. A yes counts once: with `used` it is used up,
    /// because what it is about is done now. The approval of a call is used up by the call.
    fn decided<'a>(
        &'a self,
        cx: &'a Context,
        approval: &'a Id,
        used: bool,
    ) -> BoxFuture<'a, Result<Decided, Refusal>>;
}

/// The tokenizer, as runs see it. Each answers the text without sensitive values, and how many it replaced.
pub trait Tokenize: Send + Sync {
    /// In code: inside `literals` (byte ranges of strings, templates and comments) values become tokens; a value elsewhere is
    /// refused with its place.
    fn code<'a>(
        &'a self,
        cx: &'a Context,
        code: &'a str,
        literals: &'a [(u32, u32)],
    ) -> BoxFuture<'a, Result<(String, u32), Refusal>>;

    /// In plain text.
    fn text<'a>(&'a self, cx: &'a Context, text: &'a str) -> BoxFuture<'a, Result<(String, u32), Refusal>>;

    /// In every string of a JSON value.
    fn json<'a>(&'a self, cx: &'a Context, value: Value) -> BoxFuture<'a, Result<(Value, u32), Refusal>>;
}

/// Checks types before code runs.
pub trait Types: Send + Sync {
    /// Whether they are checked where a request does not say.
    fn always(&self) -> bool;

    /// The error of TypeScript code that runs in `cx`, with its place; none where its types fit.
    fn check<'a>(&'a self, cx: &'a Context, code: &'a str) -> BoxFuture<'a, Result<Option<Fault>, Refusal>>;
}

/// What calls can do to the world.
pub trait Effects: Send + Sync {
    /// What a call of `op` can do. Where nothing is known, [`Effect::Unknown`].
    fn effect(&self, op: &str) -> Effect;
}

/// The effects of our own operations; what an upstream's tools do is for `upstream` to say.
pub struct Catalogued<F>(pub F);

impl<F: Fn(&str) -> Effect + Send + Sync> Effects for Catalogued<F> {
    fn effect(&self, op: &str) -> Effect {
        match catalog::find(op).map(|entry| entry.side) {
            Some(Side::Query) => Effect::ReadOnly,
            // A service that runs code or exports is, like a command, applied once under its id.
            Some(Side::Command | Side::Service) => Effect::Command,
            None if matches!(op.split_once('/'), Some(("files" | "tools" | "results", _))) => {
                Effect::ReadOnly
            }
            None => (self.0)(op),
        }
    }
}

/// The globals of the sandbox.
pub trait Surface: Send + Sync {
    /// What a run in `cx` can name: `athena` and each upstream.
    fn namespaces(&self, cx: &Context) -> Arc<[Namespace]>;
}

/// The `athena` global: every operation that agents may call.
pub fn athena_namespace() -> Namespace {
    Namespace {
        name: "athena".into(),
        members: catalog::entries()
            .filter(|entry| entry.traits.audience == Audience::Agent)
            // Code starts no code: that is what procedures are for, under the router's eye.
            .filter(|entry| entry.layer != athena_schemas::layers::run::LAYER)
            .map(|entry| (format!("{}.{}", entry.layer, entry.name), entry.id()))
            .collect(),
    }
}

/// Everything the engine is made of.
pub struct Parts {
    /// The log.
    pub log: LogHandle,
    /// Seals and opens payloads.
    pub sealer: Arc<dyn Sealer>,
    /// Hands out workers.
    pub sandbox: Sandbox,
    /// The guard.
    pub judge: Arc<dyn Judge>,
    /// The tokenizer.
    pub tokenize: Arc<dyn Tokenize>,
    /// Checks types.
    pub types: Arc<dyn Types>,
    /// What calls can do.
    pub effects: Arc<dyn Effects>,
    /// The globals.
    pub surface: Arc<dyn Surface>,
    /// The one clock, milliseconds since 1970; never goes back.
    pub clock: Arc<dyn Fn() -> u64 + Send + Sync>,
    /// Tokens of a text in a model's context.
    pub count: fn(&str) -> usize,
    /// The value and the log lines of an answer, bytes each; what is larger is cut and handed out by a handle.
    pub answer_bytes: usize,
    /// A session that no run has changed for this long starts anew, milliseconds; 0 is never.
    pub session_idle_ms: u64,
}
