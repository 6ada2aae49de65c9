//! Privacy: what is sensitive is found ([`detect`]), replaced by a token ([`token`]) and kept sealed in the vault by an actor
//! ([`Tokenizer`]).

pub mod detect;
#[cfg(test)]
mod tests;
pub mod token;
mod tokenizer;
mod vault;
mod walk;

pub use detect::{Span, detect};
pub use tokenizer::{Report, Tokenizer};
