//! The MCP front: what a model sees of Athena. Four tools; everything else is code and files behind them.
//!
//! [`profile`] is what is shown, [`tools`] what the tools do, [`approval`] how a person is asked, [`snippet`] what a wrong call is
//! told, [`legacy`] what things were called once, [`attended`] what the owner of a connection sees of it; [`resources`],
//! [`watch`], [`skills`] and [`prompts`] are for clients whose people like them; [`jobs`] are their long calls. [`http`] is the
//! other way in: [`reception`] gives its sessions connections of their own, [`spared`] answers for their panics.

mod approval;
pub(crate) mod attended;
pub mod conformance;
mod defang;
mod handler;
pub mod http;
mod jobs;
mod legacy;
pub mod profile;
mod prompts;
pub(crate) mod reception;
mod resources;
mod skills;
mod snippet;
mod spared;
pub(crate) mod tools;
mod watch;

pub use handler::Front;
pub use profile::Profile;
