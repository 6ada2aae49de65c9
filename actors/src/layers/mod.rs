//! What each memory layer decides: a small state, a pure decide, an evolve. Text lives in the read side; a layer keeps only
//! what its decisions need: which items exist, where they belong, and what may still be done to them.

pub mod approval;
pub mod check;
pub mod consolidation;
pub mod episodic;
pub mod graph;
pub mod meta;
pub mod placing;
pub mod procedural;
pub mod prospective;
pub mod rag;
pub mod semantic;
pub mod shelf;
pub mod store;

#[cfg(test)]
pub(crate) mod testing;
