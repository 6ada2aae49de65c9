//! The athena command.
fn main() {}
