//! Export and import: memories as files people can read, and what they bring from elsewhere.
//!
//! Importing the same file again adds nothing: layers recognise what they have. Everything goes through the router, and so
//! through the tokenizer.

mod export;
mod formats;
mod import;

pub(super) use export::export;
pub(super) use import::import;
