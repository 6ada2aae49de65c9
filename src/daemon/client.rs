//! The router at the other end of the socket.
//!
//! A call whose daemon died is made again, under the same key, on the daemon that takes its place: nothing acknowledged is
//! lost and nothing happens twice.

use super::attach::{Attach, Attached};
use super::lines::{Line, write_json};
use super::protocol::{CANCEL, Call, Hello, Mode, Reply};
use athena_schemas::context::{Caller, Party};
use athena_schemas::ports::{Answer, BoxFuture, Request, Router};
use athena_schemas::refusal::{Code, Refusal};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;

/// Calls that may wait to be written.
const QUEUE: usize = 64;
/// Answers of a stream that may wait to be read.
const STREAM: usize = 256;
/// How often a call is made again because its daemon died.
const RETRIES: u32 = 5;

/// A connection to the daemon; makes itself anew when the daemon dies.
pub struct Client {
    attach: Attach,
    hello: Hello,
    link: tokio::sync::Mutex<Option<Arc<Link>>>,
    next: AtomicU64,
    /// Random name of this client; with a call's number it is the call's key.
    name: String,
}

/// One live connection.
struct Link {
    out: mpsc::Sender<Call>,
    waiting: Waiting,
}

type Waiting = Arc<Mutex<Option<HashMap<u64, mpsc::Sender<Reply>>>>>;

/// Answers as they come.
pub struct Stream {
    id: u64,
    replies: mpsc::Receiver<Reply>,
    link: Arc<Link>,
    done: bool,
}

impl Client {
    /// A client that connects when it is first used.
    pub fn new(attach: Attach, hello: Hello) -> Self {
        Self {
            attach,
            hello,
            link: tokio::sync::Mutex::new(None),
            next: AtomicU64::new(1),
            name: random_name(),
        }
    }

    /// One call and its answer.
    ///
    /// # Errors
    /// What was refused; [`Code::Unavailable`] when no daemon can be had.
    pub async fn request(&self, request: Request) -> Result<Answer, Refusal> {
        self.request_by(request, None, false).await
    }

    /// Connects and greets now, rather than with the first call.
    ///
    /// # Errors
    /// What the daemon refuses; [`Code::Unavailable`] when none can be had.
    pub async fn connect(&self) -> Result<(), Refusal> {
        self.link().await.map(drop)
    }

    async fn request_by(
        &self,
        request: Request,
        agent: Option<String>,
        operator: bool,
    ) -> Result<Answer, Refusal> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let key = request.idempotency_key.clone().unwrap_or_else(|| format!("{}/{id}", self.name));
        let call = Call {
            id,
            op: request.op,
            params: request.params,
            scope: request.scope,
            key: Some(key),
            at_seq: request.at_seq,
            agent,
            operator,
        };
        for _ in 0..RETRIES {
            let mut stream = self.open(call.clone()).await?;
            match stream.reply().await {
                Some(reply) => return settle(reply),
                None => tracing::debug!(op = %call.op, "the daemon died; the call is made again"),
            }
        }
        Err(Refusal::new(Code::Unavailable, format!("the daemon died {RETRIES} times during {}", call.op))
            .hint("athena doctor"))
    }

    /// Long work: `told` hears how far it has come. It is not begun again when the daemon dies under it.
    ///
    /// # Errors
    /// What was refused; [`Code::Unavailable`] when the daemon died.
    pub async fn work(
        &self,
        op: &str,
        params: serde_json::Value,
        mut told: impl FnMut(&serde_json::Value),
    ) -> Result<serde_json::Value, Refusal> {
        let mut stream = self.stream(op, params).await?;
        loop {
            match stream.reply().await {
                Some(reply) if reply.more => told(&reply.result.unwrap_or_default()),
                Some(reply) => return settle(reply).map(|answer| answer.value),
                None => return Err(ended()),
            }
        }
    }

    /// A call that answers more than once.
    ///
    /// # Errors
    /// [`Code::Unavailable`] when no daemon can be had.
    pub async fn stream(&self, op: &str, params: serde_json::Value) -> Result<Stream, Refusal> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.open(Call::new(id, op, params)).await
    }

    async fn open(&self, call: Call) -> Result<Stream, Refusal> {
        loop {
            let link = self.link().await?;
            let (reply, replies) = mpsc::channel(STREAM);
            let id = call.id;
            let registered = match lock(&link.waiting).as_mut() {
                Some(waiting) => waiting.insert(id, reply).is_none(),
                None => false,
            };
            if registered && link.out.send(call.clone()).await.is_ok() {
                return Ok(Stream { id, replies, link, done: false });
            }
            self.forget(&link).await;
        }
    }

    async fn link(&self) -> Result<Arc<Link>, Refusal> {
        let mut slot = self.link.lock().await;
        if let Some(link) = slot.as_ref().filter(|link| lock(&link.waiting).is_some()) {
            return Ok(link.clone());
        }
        let link = Arc::new(Link::over(self.attach.connect(&self.hello).await?));
        *slot = Some(link.clone());
        Ok(link)
    }

    async fn forget(&self, dead: &Arc<Link>) {
        let mut slot = self.link.lock().await;
        if slot.as_ref().is_some_and(|link| Arc::ptr_eq(link, dead)) {
            *slot = None;
        }
    }
}

impl Router for Client {
    /// Calls as whom this connection greeted for, in its scope. Of `caller`, an agents' connection passes on the name, and
    /// whether the front asks for its operator.
    fn call<'a>(&'a self, caller: &'a Caller, request: Request) -> BoxFuture<'a, Result<Answer, Refusal>> {
        let agents = matches!(self.hello.mode, Mode::AgentCalls | Mode::HttpSession { .. });
        let operator = agents && caller.party == Party::Host;
        Box::pin(self.request_by(request, agents.then(|| caller.name.clone()), operator))
    }
}

impl Link {
    fn over(attached: Attached) -> Self {
        let Attached { mut lines, out: mut socket, .. } = attached;
        let (out, mut calls) = mpsc::channel::<Call>(QUEUE);
        let waiting: Waiting = Arc::new(Mutex::new(Some(HashMap::new())));
        tokio::spawn(async move {
            while let Some(call) = calls.recv().await {
                if write_json(&mut socket, &call).await.is_err() {
                    break;
                }
            }
        });
        let dispatch = waiting.clone();
        tokio::spawn(async move {
            while let Ok(Line::Text(text)) = lines.next().await {
                let Ok(reply) = serde_json::from_slice::<Reply>(&text) else { continue };
                let to = lock(&dispatch).as_mut().and_then(|waiting| {
                    if reply.more { waiting.get(&reply.id).cloned() } else { waiting.remove(&reply.id) }
                });
                if let Some(to) = to {
                    let _ = to.send(reply).await;
                }
            }
            // Dropping the senders tells everybody who waits that the daemon is gone.
            lock(&dispatch).take();
        });
        Self { out, waiting }
    }
}

impl Stream {
    /// The next answer of a stream; `None` when it is over.
    ///
    /// # Errors
    /// What was refused; [`Code::Unavailable`] when the daemon died.
    pub async fn next(&mut self) -> Result<Option<serde_json::Value>, Refusal> {
        if self.done {
            return Ok(None);
        }
        match self.reply().await {
            Some(reply) if reply.more => Ok(reply.result),
            Some(reply) => settle(reply).map(|_| None),
            None => Err(ended()),
        }
    }

    async fn reply(&mut self) -> Option<Reply> {
        let reply = self.replies.recv().await;
        self.done = reply.as_ref().is_none_or(|reply| !reply.more);
        reply
    }
}

fn ended() -> Refusal {
    Refusal::new(Code::Unavailable, "the daemon ended").hint("run the command again")
}

impl Drop for Stream {
    fn drop(&mut self) {
        if !self.done {
            if let Some(waiting) = lock(&self.link.waiting).as_mut() {
                waiting.remove(&self.id);
            }
            let cancel = Call::new(self.id, CANCEL, serde_json::Value::Null);
            // A full queue means a daemon that does not read; it will notice when the connection closes.
            let _ = self.link.out.try_send(cancel);
        }
    }
}

fn settle(reply: Reply) -> Result<Answer, Refusal> {
    if reply.ok {
        return Ok(Answer { value: reply.result.unwrap_or_default(), seq: reply.seq });
    }
    Err(reply.error.unwrap_or_else(|| Refusal::internal("the daemon refused without a reason")))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// 96 random bits as text.
pub(crate) fn random_name() -> String {
    let mut bytes = [0u8; 12];
    // Without randomness from the system nothing here could be safe; the process id at least tells two clients apart.
    if getrandom::fill(&mut bytes).is_err() {
        bytes[..4].copy_from_slice(&std::process::id().to_le_bytes());
    }
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
