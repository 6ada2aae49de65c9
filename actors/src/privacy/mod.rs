//! Privacy: what is sensitive is found ([`detect`]), replaced by a token ([`token`]) and kept sealed in the vault.

pub mod detect;
pub mod token;

pub use detect::{Span, detect};
