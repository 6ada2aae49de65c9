//! Taking over what people already have: the MCP servers in their clients' configuration files.
//!
//! [`clients`] knows where each client keeps its file and how it is written; [`takeover`] plans, applies and undoes the change
//! that leaves Athena as the one server there; [`secrets`] finds what must not stay in a file, nor in the log. Plain functions:
//! nothing here talks to a person or to the daemon.

pub mod clients;
pub mod secrets;
pub mod takeover;
