//! The MCP front: what a model sees of Athena. Four tools; everything else is code and files behind them.
//!
//! [`profile`] is what is shown, [`tools`] what the tools do, [`snippet`] what a wrong call is told; [`resources`] and
//! [`prompts`] are for clients whose people like them; [`http`] is the other way in.

pub mod conformance;
mod handler;
pub mod http;
pub mod profile;
mod prompts;
mod resources;
mod snippet;
pub(crate) mod tools;

pub use handler::Front;
pub use profile::Profile;
