//! The benchmarks of Athena, each beside its peers in the same run. Ratios are medians over rounds; absolute figures depend
//! on the machine and go to stderr.
#![expect(clippy::indexing_slicing, reason = "a benchmark may end with a panic")]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "figures are what it is for")]

mod log;
mod recall;

use clap::{Parser, Subcommand};
use std::path::PathBuf;

#[derive(Parser)]
#[command(name = "athena-bench", about)]
struct Args {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Subcommand)]
enum Bench {
    /// Appends a second, synced and not, by 1 and 64 appenders; and reading.
    Append(log::Settings),
    /// Reading the whole log.
    Read(log::Settings),
    /// Opening a large log, after a close and after a kill; bytes on disk.
    Open(log::Settings),
    /// Replaying a sealed log.
    Replay(log::Settings),
    /// Recall, taking memories in and memory used, beside SQLite's full-text index.
    Recall(recall::Settings),
    #[command(hide = true)]
    AppendUntilKilled { path: PathBuf, from: u64 },
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Args::parse().bench {
        Bench::Append(settings) => log::append::run(&settings).await,
        Bench::Read(settings) => log::read::run(&settings).await,
        Bench::Open(settings) => log::open::run(&settings).await,
        Bench::Replay(settings) => log::replay::run(&settings).await,
        Bench::Recall(settings) => recall::run(&settings),
        Bench::AppendUntilKilled { path, from } => log::open::append_until_killed(&path, from).await,
    }
}
