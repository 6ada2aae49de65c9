//! The benchmarks of Athena, each beside its peers.
fn main() {}
