//! The disposable process of Athena: the jail, the engines and the static analysis of agent code.
//!
//! The athena binary runs itself again with a hidden first argument and one end of a socketpair as descriptor 3;
//! [`main`] takes over from there. A worker shuts its jail, says [`Ready`](athena_schemas::wire::Ready), judges code as often
//! as it is asked to, runs one job, and ends. It never outlives its socket.

pub mod analysis;
mod cpython;
mod engines;
mod host;
pub mod jail;
mod memory;
mod process;
mod serve;
pub mod source;
pub mod wire;
mod zygote;

pub use memory::{give_all_back, give_back};
pub use process::{ABORTED, FORBIDDEN, JAIL_FAILED, OUT_OF_MEMORY, USAGE};
pub use serve::main;

/// The hidden first argument that makes the athena binary a worker.
pub const WORKER: &str = "__worker";
