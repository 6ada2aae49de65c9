//! One daemon per store: every MCP client and every command attaches to it, or starts it.
//!
//! Read in this order: [`place`] (where a store's socket lies), [`protocol`] (what is said over it), [`server`] (the daemon),
//! [`attach`] (finding or starting it), [`client`] (the router at the other end of the socket), [`relay`] (a stdio client whose
//! daemon may die under it).

pub mod attach;
pub(crate) mod calls;
pub mod client;
pub(crate) mod connections;
pub(crate) mod custody;
pub(crate) mod journal;
pub(crate) mod lines;
pub(crate) mod memory;
pub mod place;
pub mod protocol;
pub mod relay;
pub mod server;
pub(crate) mod stdio;

pub use client::Client;
pub use place::Place;
pub use server::{Parts, Server};
