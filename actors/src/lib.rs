//! The write side of Athena: every part that decides, owns a process or holds a key is a supervised actor.
//!
//! Read in this order: [`log`] (the single writer), [`layer`] (the one generic actor behind the memory layers) and [`layers`]
//! (what each decides), [`feed`] and [`projector`] (drive the read side), [`privacy`] and [`keys`] (tokens, vault, sealing), [`guard`],
//! [`sandbox`] and [`run`] (agent code), [`upstream`] (other MCP servers), [`reasoner`] (a language model, where one is configured), [`supervisor`] (rest-for-one).

pub mod decider;
pub mod dispatch;
pub mod erasure;
pub mod feed;
mod files;
pub mod guard;
pub mod handle;
pub mod keys;
pub mod layer;
pub mod layers;
pub mod log;
pub mod privacy;
pub mod projector;
pub mod reasoner;
pub mod retention;
pub mod run;
pub mod sandbox;
pub mod supervisor;
pub mod upstream;
