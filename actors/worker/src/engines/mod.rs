//! The engines behind one trait.

pub(crate) mod deno;
pub(crate) mod monty;
pub(crate) mod quickjs;
pub(crate) mod random;

use crate::host::Host;
use athena_schemas::wire::{Fault, Job};
use std::cell::RefCell;
use std::rc::Rc;

/// The door of the run, shared between an engine and the functions it gives to agent code.
pub(crate) type SharedHost = Rc<RefCell<Host>>;

/// How a run went inside an engine.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Outcome {
    /// JSON of the value, or the error.
    pub(crate) result: Result<String, Fault>,
    /// `session.state` at the end, JSON; as it was given where it cannot be told any more.
    pub(crate) state: String,
}

/// Runs agent code of some languages. Created and warmed before the jail shuts; runs one job.
pub(crate) trait Engine {
    /// Name and version, such as `quickjs 0.16.2`.
    fn version(&self) -> String;
    /// Runs the job to its end: a value, an error of the code, or a limit.
    fn run(&mut self, job: &Job, host: &SharedHost) -> Outcome;
}
