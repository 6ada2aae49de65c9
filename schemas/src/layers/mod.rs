//! The operations and events of each layer, one file a layer. The first eight and `store` are the agent's; the rest are the
//! house's own and not on the agent's bus.

pub mod approval;
pub mod common;
pub mod consolidation;
pub mod episodic;
pub mod graph;
pub mod meta;
pub mod privacy;
pub mod procedural;
pub mod prospective;
pub mod rag;
pub mod run;
pub mod semantic;
pub mod store;
pub mod upstream;
