//! The one integration-test binary: one link step for all black-box tests.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "helpers of tests may die"
)]

mod approvals;
mod audit;
mod cli;
mod daemon;
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
<<<<<<< HEAD
mod reasoner;
=======
mod retention;
>>>>>>> 21779cd (retention: answers of old runs are dropped on record, stubs keep the chain whole, and verify finds what is gone without a word)
mod runs;
mod skills;
mod stride;
mod support;
mod travel;
mod types;
