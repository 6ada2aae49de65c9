//! Athena: durable memory and code mode over one event log.

pub mod clock;
pub mod config;
pub mod telemetry;
