//! Athena inside another program: the same house without a daemon, reached by calls instead of a socket.
//!
//! A store is opened by one process at a time; several programs that share one should talk to its daemon instead. Nothing global
//! is installed: no subscriber, no metrics recorder, no signal handler. Two stores may be open in one process.

use crate::clock::Clock;
use crate::config::Config;
use crate::mcp::Front;
use crate::mcp::profile::Profile;
use crate::system::{Options, System};
use athena_actors::keys::MasterKey;
use athena_schemas::catalog;
use athena_schemas::context::{Caller, Channel, Party, Scope};
use athena_schemas::envelope::{Record, Seq};
use athena_schemas::event::Event;
use athena_schemas::layers::common::Hit;
use athena_schemas::layers::episodic::Episode;
use athena_schemas::layers::run::Outcome;
use athena_schemas::layers::upstream::Server;
use athena_schemas::operation::Entry;
use athena_schemas::ports::{Answer, LogReader, Request, Sealer};
use athena_schemas::refusal::{Code, Refusal};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

/// Events read from the log at once by [`Events`].
const PAGE: usize = 256;

/// If this process was started to run agent code, or to keep a server, does that and never returns; else does nothing.
///
/// A program that embeds Athena and lets it run code calls this first in `main`, before threads, files and sockets of its own:
/// workers are copies of its executable, and the jail holds whatever they opened.
pub fn worker() {
    let mut arguments = std::env::args().skip(1).peekable();
    if arguments.next_if(|first| first == athena_worker::WORKER).is_some() {
        athena_worker::main(arguments);
    }
    let first = arguments.next().unwrap_or_default();
    athena_actors::upstream::keeper::enter(&first, arguments);
}

/// A runtime as the `athena` command has one: threads for tasks on half of the processors. The log's writer, read models and
/// workers have threads and processes of their own, and tasks here do little at a time: a thread that is woken for each of them
/// takes longer than they do. Any other Tokio runtime with its drivers enabled serves as well.
///
/// # Errors
/// When the operating system gives no threads or descriptors.
pub fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    tokio::runtime::Builder::new_multi_thread().worker_threads((processors / 2).max(1)).enable_all().build()
}

/// An open store.
///
/// ```
/// use athena::Athena;
/// use serde_json::{Value, json};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), athena::Refusal> {
/// let athena = Athena::builder().project("acme").sandbox(false).open().await?;
/// athena.remember("the invoice went out on Tuesday").await?;
/// let found = athena.recall("invoice", 5).await?;
/// assert_eq!(found[0].item.content, "the invoice went out on Tuesday");
/// let count: Value = athena.call("episodic/stats", json!({})).await?; // any operation, by its name
/// athena.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Athena {
    system: Arc<System>,
    caller: Caller,
    /// For reads of the past.
    at: Option<Seq>,
}

/// How a store is opened: in memory, without other servers, unless said.
#[derive(Default)]
pub struct Builder {
    options: Options,
    scope: Scope,
    name: Option<String>,
}

impl Builder {
    /// Keeps everything in this folder; it is made where it is missing.
    #[must_use]
    pub fn folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.options.folder = Some(folder.into());
        self
    }

    /// What calls mean that name no scope: this project.
    #[must_use]
    pub fn project(mut self, project: impl Into<String>) -> Self {
        self.scope = Scope::project(project);
        self
    }

    /// The author that events name; `library` unless said.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Settings, as the configuration file has them.
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.options.config = config;
        self
    }

    /// Time and randomness of the program's own, such as a fixed clock for tests.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.options.clock = clock;
        self
    }

    /// Where the master key comes from; a file beside the store unless said.
    #[must_use]
    pub fn master_key(mut self, key: MasterKey) -> Self {
        self.options.master = key;
        self
    }

    /// Another MCP server whose tools code may call.
    #[must_use]
    pub fn upstream(mut self, name: impl Into<String>, server: Server) -> Self {
        self.options.upstreams.insert(name.into(), server);
        self
    }

    /// Whether code can run; it can, unless said. Needs [`worker`] at the top of `main`.
    #[must_use]
    pub fn sandbox(mut self, wanted: bool) -> Self {
        self.options.sandbox = wanted;
        self
    }

    /// Opens the store and starts its actors on the current tokio runtime.
    ///
    /// # Errors
    /// Outside a tokio runtime, when another process has the store open, when it is damaged, or when a setting makes no sense.
    pub async fn open(self) -> Result<Athena, Refusal> {
        if tokio::runtime::Handle::try_current().is_err() {
            return Err(Refusal::new(Code::Unavailable, "Athena needs a tokio runtime")
                .hint("open it inside #[tokio::main] or Runtime::block_on"));
        }
        let caller = Caller {
            party: Party::Host,
            channel: Channel::Library,
            name: self.name.unwrap_or_else(|| "library".into()),
            holds: Scope::default(),
            scope: self.scope,
            run: None,
        };
        Ok(Athena { system: Arc::new(System::open(self.options).await?), caller, at: None })
    }
}

impl Athena {
    /// A store in memory, until the builder is told otherwise.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The same store for calls in another scope.
    #[must_use]
    pub fn within(&self, scope: Scope) -> Self {
        let caller = Caller { scope, ..self.caller.clone() };
        Self { caller, ..self.clone() }
    }

    /// The store as it was at a position, to be read.
    #[must_use]
    pub fn at(&self, seq: Seq) -> Self {
        Self { at: Some(seq), ..self.clone() }
    }

    /// Calls an operation (`semantic/search`) or another server's tool (`github/create_issue`).
    ///
    /// # Errors
    /// What the operation refuses, and [`Code::Internal`] where the answer is no `T`.
    pub async fn call<T: DeserializeOwned>(&self, op: &str, params: Value) -> Result<T, Refusal> {
        let answer = self.request(Request::new(op, params)).await?;
        serde_json::from_value(answer.value)
            .map_err(|error| Refusal::internal(format!("the answer of {op} is of another type: {error}")))
    }

    /// Calls with all that a request can say: scope, idempotency key, position.
    ///
    /// # Errors
    /// What the operation refuses; [`Code::Invalid`] for what would change the past.
    pub async fn request(&self, mut request: Request) -> Result<Answer, Refusal> {
        request.at_seq = request.at_seq.or(self.at);
        if request.at_seq.is_some() && catalog::find(&request.op).is_none_or(Entry::mutating) {
            return Err(Refusal::invalid(format!(
                "{} may change something, and the past is over",
                request.op
            ))
            .hint("call it on the store as it is now"));
        }
        self.system.router().call(&self.caller, request).await
    }

    /// Records an episode. Answers its position; it is on disk and found by whoever asks next.
    ///
    /// # Errors
    /// When the text is too long or the log cannot take it.
    pub async fn remember(&self, content: &str) -> Result<Seq, Refusal> {
        let answer = self.request(Request::new("episodic/remember", json!({"content": content}))).await?;
        answer.seq.ok_or_else(|| Refusal::internal("a memory was kept without a position"))
    }

    /// The episodes that fit best, at most `limit` (up to 1,000), each with its origin and what its score is made of.
    ///
    /// # Errors
    /// When the query is empty or too long.
    pub async fn recall(&self, query: &str, limit: u32) -> Result<Vec<Hit<Episode>>, Refusal> {
        self.call("episodic/recall", json!({"query": query, "limit": limit})).await
    }

    /// Runs code in the sandbox: `language` is `typescript`, `javascript` or `python`; `input` is its global of that name.
    ///
    /// # Errors
    /// When the code cannot be judged or the sandbox cannot start. How the code itself ended stands in the outcome.
    pub async fn execute(&self, language: &str, code: &str, input: Value) -> Result<Outcome, Refusal> {
        self.call("run/execute", json!({"language": language, "code": code, "input": input})).await
    }

    /// The log's events after a position, and then each as it happens.
    pub fn events(&self, after: Seq) -> Events {
        Events { log: self.system.log(), sealer: self.system.sealer(), after, page: VecDeque::new() }
    }

    /// An MCP server over this store, for any transport of rmcp.
    pub fn mcp(&self, profile: Profile) -> Front {
        let scope = self.caller.scope.clone();
        Front::new(self.system.router(), profile, scope, self.caller.name.clone())
    }

    /// What lies beneath: log, keys, projections.
    pub fn system(&self) -> &Arc<System> {
        &self.system
    }

    /// Ends every part in order; what is under way is finished, what was acknowledged is on disk.
    pub async fn shutdown(&self) {
        self.system.shutdown().await;
    }
}

/// Events in order, past and to come. There is no queue behind it: who reads slowly reads later.
pub struct Events {
    log: Arc<dyn LogReader>,
    sealer: Arc<dyn Sealer>,
    after: Seq,
    page: VecDeque<Record>,
}

impl Events {
    /// The next event with its record; the event is `None` where it was erased. `None` in all once the log has closed.
    ///
    /// # Errors
    /// When the disk fails or the data is damaged.
    pub async fn next(&mut self) -> Result<Option<(Record, Option<Event>)>, Refusal> {
        loop {
            if let Some(record) = self.page.pop_front() {
                self.after = record.seq;
                let event = record.event::<Event>(&*self.sealer)?;
                return Ok(Some((record, event)));
            }
            if self.log.beyond(self.after).await.is_none() {
                return Ok(None);
            }
            let (log, after) = (self.log.clone(), self.after);
            let page = tokio::task::spawn_blocking(move || log.read(after, PAGE)).await;
            self.page = page.map_err(|error| Refusal::internal(error.to_string()))??.into();
        }
    }
}
