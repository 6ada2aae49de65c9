//! The vocabulary of Athena: operations, events, ids, contexts, risk, refusals and ports. No I/O, no async runtime.
//!
//! Read in this order: [`operation`] (how an operation is declared once), [`layers`] (the declarations), [`catalog`] (all of
//! them in one list), [`envelope`] and [`event`] (what the log keeps), [`context`] (all a decision may know of the world),
//! [`refusal`] (the one shape of "no"), [`ports`] (the traits where floors meet).

pub mod aliases;
pub mod catalog;
pub mod context;
pub mod envelope;
pub mod event;
pub mod id;
pub mod layers;
pub mod operation;
pub mod ports;
pub mod refusal;
pub mod risk;
pub mod surface;
pub mod undo;
pub mod wire;
