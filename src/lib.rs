//! Athena: durable memory and code mode over one event log.
//!
//! Programs that embed it begin at [`Athena::builder`]; everything else is what the `athena` command is made of.

pub mod cli;
pub mod clock;
pub mod config;
pub mod daemon;
mod demo;
mod discreet;
pub mod embed;
mod files;
mod filter;
mod history;
pub mod importers;
mod links;
pub mod mcp;
mod pace;
pub mod read_side;
pub mod router;
pub mod sample;
mod schedule;
mod services;
pub mod system;
pub mod telemetry;
pub mod tokens;
pub mod toolbox;
mod types;

pub use athena_schemas::refusal::Refusal;
pub use embed::{Athena, worker};
