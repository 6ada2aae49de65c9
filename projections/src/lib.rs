//! The read side of Athena: read models that pull from the log, disposable and rebuilt from it.
//!
//! Read in this order: [`store`] (rows and positions in one batch), [`items`] (episodes and facts), [`timeline`] (their order
//! in time), [`search`] (finding them), [`library`] (all of it together), [`views`] (the answers, one file a layer) and
//! [`evidence`] (what a decision needs to know).

pub mod advice;
pub mod agenda;
pub mod approvals;
pub mod audit;
pub mod claims;
pub mod communities;
pub mod consolidate;
pub mod evidence;
pub mod insights;
pub mod items;
pub mod journal;
pub mod library;
pub mod likeness;
pub mod network;
pub mod passes;
pub mod past;
pub mod patterns;
pub mod portable;
pub mod procedures;
pub mod proposals;
pub mod ratings;
pub mod repository;
pub mod runs;
pub mod search;
pub mod store;
pub mod temporal;
pub mod timeline;
pub mod views;

#[cfg(test)]
mod testing;
