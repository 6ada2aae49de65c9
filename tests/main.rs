//! The one integration-test binary: one link step for all black-box tests.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "helpers of tests may die"
)]

mod approvals;
mod audit;
mod cgroup;
mod cli;
mod daemon;
mod deno;
mod embed;
mod erasure;
mod faults;
mod floors;
mod front;
mod gateway;
mod history;
mod init;
mod models;
mod oauth;
mod operations;
mod reasoner;
mod retention;
mod runs;
mod sessions;
mod skills;
mod stride;
mod support;
mod travel;
mod types;
