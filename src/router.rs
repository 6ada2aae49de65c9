//! The one way in: parse, authorise and charge, tokenize, dispatch, filter.
//!
//! The MCP front, agent code, the command line and embedders all end here. Plain functions on the caller's task: the router
//! has no mailbox. One semaphore bounds how many commands are under way, and with it the sum of all mailboxes.

use crate::clock::Clock;
use crate::pace::Pace;
use crate::services::erasure::erases;
use athena_actors::dispatch::Layers;
use athena_actors::guard::Guard;
use athena_actors::privacy::Tokenizer;
use athena_schemas::catalog::{self, Call, Service};
use athena_schemas::context::{Caller, Context, Party};
use athena_schemas::envelope::Seq;
use athena_schemas::id::CommandId;
use athena_schemas::layers::procedural::{self, Learn};
use athena_schemas::operation::{Audience, Entry};
use athena_schemas::ports::{Answer, BoxFuture, Called, LogReader, Request, Views};
use athena_schemas::refusal::{Code, Refusal};
use serde_json::Value;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// Commands under way at once, over all callers.
const ADMITTED: usize = 1_024;

/// How long a command waits for admission before it is refused.
const ADMISSION_WAIT: Duration = Duration::from_secs(10);

/// How long a query waits for the projections to have seen what was in the log when it arrived.
const FRESHNESS_WAIT: Duration = Duration::from_secs(5);

/// The layers whose events come only from their own commands.
const MEMORY: &[&str] =
    &["episodic", "semantic", "procedural", "prospective", "graph", "consolidation", "rag"];

/// What is not memory: other servers' tools, the virtual file system, discovery.
pub trait Tools: Send + Sync {
    /// Whether this is one of theirs.
    fn knows(&self, op: &str) -> bool;

    /// Makes a call.
    fn call<'a>(
        &'a self,
        cx: &'a Context,
        op: &'a str,
        params: Value,
    ) -> BoxFuture<'a, Result<Value, Refusal>>;
}

/// Operations composed out of several parts: runs, exports, the execution of procedures.
pub trait Services: Send + Sync {
    /// Makes a call.
    fn call(&self, cx: Context, service: Service) -> BoxFuture<'_, Result<Answer, Refusal>>;

    /// Judges code that is to be learned, before it is; what the judgement is goes to the decision.
    fn judged<'a>(&'a self, cx: &'a Context, op: &'a Learn) -> BoxFuture<'a, Result<Option<Value>, Refusal>>;

    /// Destroys what a command just recorded is to be erased.
    fn erased(&self) -> BoxFuture<'_, Result<(), Refusal>>;
}

/// How far the projections have come, and how far somebody wants them to be.
#[derive(Clone, Default)]
pub struct Freshness {
    seen: Vec<watch::Receiver<Seq>>,
    wanted: Arc<watch::Sender<Seq>>,
}

impl Freshness {
    /// Watches these positions, and says at `wanted` which one is waited for.
    pub fn new(seen: Vec<watch::Receiver<Seq>>, wanted: Arc<watch::Sender<Seq>>) -> Self {
        Self { seen, wanted }
    }

    /// Says that a position is waited for: projectors do not let events gather then.
    pub fn want(&self, seq: Seq) {
        self.wanted.send_if_modified(|wanted| {
            let more = seq > *wanted;
            *wanted = seq.max(*wanted);
            more
        });
    }

    /// Waits until every projection has seen `seq`; `false` where that takes too long.
    pub async fn reached(&self, seq: Seq) -> bool {
        if self.seen.iter().all(|seen| *seen.borrow() >= seq) {
            return true;
        }
        self.want(seq);
        let all = async {
            for seen in &self.seen {
                if *seen.borrow() < seq {
                    let _ = seen.clone().wait_for(|at| *at >= seq).await;
                }
            }
        };
        tokio::time::timeout(FRESHNESS_WAIT, all).await.is_ok()
    }
}

/// The parts behind the router.
pub struct Parts {
    /// The write side.
    pub layers: Layers,
    /// The read side.
    pub views: Arc<dyn Views>,
    /// How far the read side has come.
    pub freshness: Freshness,
    /// The log's head.
    pub reader: Arc<dyn LogReader>,
    /// The tokenizer.
    pub tokenizer: Tokenizer,
    /// Policy.
    pub guard: Arc<Guard>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
}

/// The router.
pub struct Router {
    parts: Parts,
    admission: Arc<Semaphore>,
    /// How long queries have taken, and what commands need to know before they are decided.
    queries: Pace,
    evidence: Pace,
    /// The position of the last command answered: what somebody was told is stored, the next query must find.
    settled: AtomicU64,
    // These two call the router themselves, so they are set once it exists.
    tools: OnceLock<Arc<dyn Tools>>,
    services: OnceLock<Arc<dyn Services>>,
}

impl Router {
    /// A router over its parts.
    pub fn new(parts: Parts) -> Arc<Self> {
        let admission = Arc::new(Semaphore::new(ADMITTED));
        let settled = AtomicU64::new(parts.reader.head());
        let (queries, evidence) = (Pace::new(), Pace::new());
        let (tools, services) = (OnceLock::new(), OnceLock::new());
        Arc::new(Self { parts, admission, queries, evidence, settled, tools, services })
    }

    /// Completes it with the parts that call it. The first call counts.
    pub fn complete(&self, tools: Arc<dyn Tools>, services: Arc<dyn Services>) {
        let _ = self.tools.set(tools);
        let _ = self.services.set(services);
    }

    async fn route(&self, caller: &Caller, request: Request) -> Result<Answer, Refusal> {
        let cx = self.context(caller, &request)?;
        if request.op.split_once('/').is_some_and(|(layer, _)| catalog::is_layer(layer)) {
            let entry = catalog::find(&request.op).ok_or_else(|| catalog::unknown(&request.op))?;
            authorise(caller, entry)?;
            // Parsed as it came, so that an error names the caller's own field; parsed again only where something was put in.
            let call = catalog::parse(&request.op, request.params.clone())?;
            if !matches!(call, Call::Query(_)) {
                only_now(&request)?;
            }
            let (mut params, replaced) = self.parts.tokenizer.tokenize(&cx, request.params).await?;
            let from_outside = self.parts.guard.permit(&cx, &request.op, &params).await?;
            let labelled = from_outside && label(&request.op, &mut params);
            let same = replaced.total() == 0 && !labelled;
            let call = if same { call } else { catalog::parse(&request.op, params)? };
            return match call {
                Call::Command(command) => self.command(cx, entry, command).await,
                Call::Query(query) => self.query(cx, entry, query).await,
                Call::Service(service) => self.services()?.call(cx, service).await,
            };
        }
        let tools = self.tools.get().ok_or_else(starting)?;
        if !tools.knows(&request.op) {
            return Err(catalog::unknown(&request.op));
        }
        only_now(&request)?;
        let params = self.parts.tokenizer.tokenize(&cx, request.params).await?.0;
        self.parts.guard.permit(&cx, &request.op, &params).await?;
        if matches!(request.op.split_once('/'), Some(("files" | "tools", _))) {
            // Procedures are files: what was learned a moment ago is there.
            self.parts.freshness.reached(self.settled.load(Ordering::SeqCst)).await;
        }
        let value = tools.call(&cx, &request.op, params).await?;
        // What another server says has not been seen by anyone yet.
        let value = self.parts.tokenizer.tokenize(&cx, value).await?.0;
        Ok(Answer { value, seq: None })
    }

    fn context(&self, caller: &Caller, request: &Request) -> Result<Context, Refusal> {
        let scope = match &request.scope {
            None => caller.scope.clone(),
            Some(wanted) => {
                caller.scope.narrow(wanted).or_else(|| caller.holds.narrow(wanted)).ok_or_else(|| {
                    Refusal::denied("this scope lies outside what the caller holds").at("scope")
                })?
            }
        };
        let command = match &request.idempotency_key {
            Some(key) => CommandId::from_key(&caller.principal(), key),
            None => CommandId(self.parts.clock.random()),
        };
        let mut cx = Context::new(self.parts.clock.now_ms(), caller.clone(), scope, command);
        cx.keyed = request.idempotency_key.is_some();
        cx.at_seq = request.at_seq;
        Ok(cx)
    }

    async fn command(
        &self,
        mut cx: Context,
        entry: &Entry,
        command: catalog::Command,
    ) -> Result<Answer, Refusal> {
        let permit = self.admit().await?;
        let command = if entry.traits.evidence {
            self.parts.freshness.reached(self.settled.load(Ordering::SeqCst)).await;
            let views = self.parts.views.clone();
            let gather = move || {
                let evidence = views.gather(&cx, &command);
                (evidence, command, cx)
            };
            let (evidence, command, back) = self.evidence.read(&entry.id(), gather).await?;
            cx = back;
            cx.evidence = evidence?;
            command
        } else {
            command
        };
        if let catalog::Command::Procedural(procedural::Command::Learn(op)) = &command {
            cx.evidence.proposal = self.services()?.judged(&cx, op).await?;
        }
        let erases = erases(&command);
        let answer = self.parts.layers.decide(cx, command, Some(permit)).await?;
        if let Some(seq) = answer.seq {
            self.settled.fetch_max(seq, Ordering::SeqCst);
            if erases {
                self.services()?.erased().await?;
            }
        }
        Ok(answer)
    }

    async fn query(&self, cx: Context, entry: &Entry, query: catalog::Query) -> Result<Answer, Refusal> {
        // Memory is asked about what was answered; the house's own layers about all that was recorded. (A run records its
        // reads too; were every read to wait for those records, code would wait for its own shadow.)
        let settled = self.settled.load(Ordering::SeqCst);
        let wanted = match (cx.at_seq, MEMORY.contains(&entry.layer)) {
            (Some(at), _) => at.min(self.parts.reader.head()),
            (None, true) => settled,
            (None, false) => self.parts.reader.head(),
        };
        if !self.parts.freshness.reached(wanted).await {
            tracing::warn!(wanted, "the read side is behind; answering from what it has");
        }
        let views = self.parts.views.clone();
        // An answer as of an earlier position may have to read the log up to it: of no operation's ordinary pace.
        let pace = if cx.at_seq.is_some() { "" } else { query.id() };
        let value = self.queries.read(pace, move || views.answer(&cx, query)).await??;
        Ok(Answer { value, seq: None })
    }

    async fn admit(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        match tokio::time::timeout(ADMISSION_WAIT, self.admission.clone().acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(Refusal::new(Code::LimitExceeded, format!("{ADMITTED} commands are under way already"))
                .hint("retry in a moment with the same idempotency key")),
        }
    }

    fn services(&self) -> Result<&Arc<dyn Services>, Refusal> {
        self.services.get().ok_or_else(starting)
    }
}

impl athena_schemas::ports::Router for Router {
    fn call<'a>(&'a self, caller: &'a Caller, request: Request) -> BoxFuture<'a, Result<Answer, Refusal>> {
        Box::pin(async move {
            let (begun, at_ms) = (Instant::now(), self.parts.clock.now_ms());
            let (request, older) = today(request);
            let op = request.op.clone();
            let outcome = self.route(caller, request).await.map_err(crate::discreet::refusal);
            let ended = if outcome.is_ok() { "ok" } else { "refused" };
            // What nobody offers is not counted: names that are made up would fill the memory. A tool that answered is offered.
            if catalog::find(&op).is_some() || outcome.is_ok() {
                let took_us = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
                self.parts.views.called(Called { op: &op, older, at_ms, took_us, ok: outcome.is_ok() });
            }
            metrics::histogram!("athena_operation_duration_seconds", "op" => op, "outcome" => ended)
                .record(begun.elapsed().as_secs_f64());
            outcome
        })
    }
}

/// A request as it is made today, and the older name it came by.
fn today(request: Request) -> (Request, Option<&'static str>) {
    let Some(alias) = athena_schemas::aliases::find(&request.op) else { return (request, None) };
    metrics::counter!("athena_older_names_total", "name" => alias.old).increment(1);
    tracing::info!(old = alias.old, new = alias.op, "an operation was called by an older name");
    let params = alias.params(request.params);
    (Request { params, op: alias.op.into(), ..request }, Some(alias.old))
}

/// Who may call what. Approving and revealing are not on the agent's bus at all.
fn authorise(caller: &Caller, entry: &Entry) -> Result<(), Refusal> {
    let allowed = match entry.traits.audience {
        // A run starts runs only through the procedures it calls, on its own budget.
        Audience::Agent => !(caller.party == Party::Code && entry.layer == "run"),
        Audience::Human => matches!(caller.party, Party::Human | Party::Host | Party::System),
        Audience::System => caller.party == Party::System,
    };
    if allowed {
        return Ok(());
    }
    metrics::counter!("athena_denied_calls_total", "op" => entry.id()).increment(1);
    // To an agent such an operation does not exist; its name is no secret, but neither is it an invitation.
    Err(Refusal::denied(format!("{} is not for {:?} callers", entry.id(), caller.party).to_lowercase())
        .hint("a person can do this at the command line"))
}

/// Refuses a look back at what has no earlier state: the past cannot be changed, and other servers have none here.
fn only_now(request: &Request) -> Result<(), Refusal> {
    match request.at_seq {
        None => Ok(()),
        Some(at) => Err(Refusal::invalid(format!("{} cannot be asked as of position {at}", request.op))
            .at("at_seq")
            .hint("only what reads memory answers about the past; a store of the past: athena replay --into DIR --until SEQ")),
    }
}

/// Labels what code stores after it has had content from outside: whoever recalls it is told, whatever the code said. Whether
/// anything was labelled.
fn label(op: &str, params: &mut Value) -> bool {
    let items: Vec<&mut Value> = match op {
        "episodic/remember" | "semantic/store" => vec![params],
        "episodic/bulk_remember" => {
            params.get_mut("events").and_then(Value::as_array_mut).into_iter().flatten().collect()
        }
        "semantic/bulk_store" => {
            params.get_mut("facts").and_then(Value::as_array_mut).into_iter().flatten().collect()
        }
        _ => return false,
    };
    for item in items.into_iter().filter_map(Value::as_object_mut) {
        item.insert("untrusted".into(), true.into());
    }
    true
}

fn starting() -> Refusal {
    Refusal::new(Code::Unavailable, "athena is still starting").hint("retry in a moment")
}
