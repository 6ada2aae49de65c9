//! The sandbox: jailed worker processes, pre-warmed, one per run and never used again.
//!
//! [`Sandbox::worker`] hands out a [`Worker`]; dropping it kills its process. [`pool`] keeps some warm, [`zygote`], [`deno`]
//! and [`spawn`] make and reap the processes, [`cgroup`] bounds them together, [`channel`] frames what is said to them, [`exit`] and
//! [`calls`] read a worker's end, [`presets`] holds the limits.
//!
//! Architecture invariant: agent code is parsed and run in a worker only, never in this process.

pub mod calls;
mod cgroup;
pub mod channel;
pub mod deno;
pub mod exit;
pub mod pool;
pub mod presets;
#[cfg(test)]
pub(crate) mod scripted;
pub mod spawn;
pub mod zygote;

pub use channel::Broken;
pub use exit::{Death, Exit};
pub use pool::{Place, Pool, Sandbox, Settings};

use athena_schemas::refusal::{Code, Refusal};
use athena_schemas::wire::{Assessment, FromWorker, Job, Language, Namespace, Ready, ToWorker};
use channel::Channel;
use pool::Done;
use spawn::Process;
use std::sync::Arc;
use std::time::Duration;

/// How long static analysis of one source may take; beyond it the source counts as hostile.
const ANALYSIS: Duration = Duration::from_secs(5);

/// Whether an engine's name is that of the host's CPython.
pub fn is_python(engine: &str) -> bool {
    engine.starts_with("cpython ")
}

/// Whether an engine's name is that of the host's Deno.
pub fn is_deno(engine: &str) -> bool {
    engine.starts_with("deno ")
}

/// A worker in the hands of one run. Dropping it kills the process; the pool makes a new one.
pub struct Worker {
    channel: Channel,
    process: Option<Box<dyn Process>>,
    ready: Ready,
    /// The globals it was given while it waited.
    prepared: Arc<[Namespace]>,
    place: Arc<Place>,
}

impl Worker {
    /// How it is jailed and which engines it has.
    pub fn ready(&self) -> &Ready {
        &self.ready
    }

    /// The place it works in, which its run may keep when it is gone: until it has answered, too.
    pub fn place(&self) -> Arc<Place> {
        self.place.clone()
    }

    /// Another process in the same place; this one is killed.
    fn replaced(mut self, channel: Channel, process: Box<dyn Process>, ready: Ready) -> Self {
        if let Some(before) = self.process.replace(process) {
            drop(before.end(Duration::ZERO));
        }
        (self.channel, self.ready, self.prepared) = (channel, ready, Arc::new([]));
        self
    }

    /// Whether it is an interpreter of the host.
    pub fn is_python(&self) -> bool {
        self.ready.engines.iter().any(|engine| is_python(engine))
    }

    /// Whether it keeps a Deno.
    pub fn is_deno(&self) -> bool {
        self.ready.engines.iter().any(|engine| is_deno(engine))
    }

    /// Judges code. May be called more than once, before [`start`](Self::start).
    ///
    /// # Errors
    /// [`Code::Denied`] where the analysis kills its process or does not end: such code is never run.
    pub async fn analyze(&mut self, language: Language, code: &str) -> Result<Assessment, Refusal> {
        let hostile = |what: String| {
            Refusal::new(Code::Denied, format!("the code could not be analysed: {what}"))
                .hint("shorten it; deep nesting is not supported")
        };
        self.send(&ToWorker::Analyze { language, code: code.to_owned() })
            .map_err(|error| hostile(error.to_string()))?;
        match tokio::time::timeout(ANALYSIS, self.next()).await {
            Ok(Ok(FromWorker::Analysis(assessment))) => Ok(*assessment),
            Ok(Ok(_)) => Err(hostile("the worker answered something else".into())),
            Ok(Err(broken)) => Err(hostile(broken.to_string())),
            Err(_) => Err(hostile(format!("no end after {} s", ANALYSIS.as_secs()))),
        }
    }

    /// Starts the job with these globals; what happens then comes by [`next`](Self::next).
    ///
    /// # Errors
    /// When the worker is gone or the job does not fit a frame.
    pub fn start(&mut self, job: Job, globals: &Arc<[Namespace]>) -> Result<(), Broken> {
        let prepared =
            Arc::ptr_eq(&self.prepared, globals) || !self.prepared.is_empty() && *self.prepared == **globals;
        let namespaces = if prepared { Vec::new() } else { globals.to_vec() };
        self.send(&ToWorker::Run(Box::new(Job { prepared, namespaces, ..job })))
    }

    /// Sends a frame; it is buffered where the worker is not reading.
    ///
    /// # Errors
    /// When the worker is gone or the frame is too large.
    pub fn send(&mut self, frame: &ToWorker) -> Result<(), Broken> {
        self.channel.send(frame)
    }

    /// The next frame. Cancel-safe: no byte is lost when the future is dropped.
    ///
    /// # Errors
    /// When the worker is gone or does not keep to the protocol.
    pub async fn next(&mut self) -> Result<FromWorker, Broken> {
        self.channel.next().await
    }

    /// Its job is done. It is ended a little after its place was given up: to take a process apart would hold up its answer.
    pub fn leave(mut self) {
        if let Some(process) = self.process.take() {
            // It would end at once if its socket closed.
            self.place.leave(Done { process, _socket: self.channel.hold() });
        }
    }

    /// Ends the process and says how it ended. `grace` is what it gets to end by itself.
    pub async fn end(&mut self, grace: Duration) -> Exit {
        match self.process.take() {
            Some(process) => process.end(grace).await.unwrap_or(Exit::Unknown),
            None => Exit::Unknown,
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(process) = self.process.take() {
            drop(process.end(Duration::ZERO));
        }
    }
}
