//! Black-box tests: a real worker process in its real jail, spoken to over its socket.
#![expect(unsafe_code, reason = "a worker's socket becomes descriptor 3 between fork and exec")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "helpers of tests may die"
)]

mod attacks;
mod coverage;
mod deno;
mod javascript;
mod python;
mod stride;
mod support;
mod zygote;
