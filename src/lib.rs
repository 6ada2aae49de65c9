//! Athena: durable memory and code mode over one event log.

pub mod cli;
pub mod clock;
pub mod config;
pub mod daemon;
pub mod mcp;
pub mod telemetry;
