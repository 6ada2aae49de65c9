//! The benchmarks of Athena, each beside its peers in the same run. Ratios are medians over rounds; absolute figures depend
//! on the machine and go to stderr.
#![expect(clippy::indexing_slicing, reason = "a benchmark may end with a panic")]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "figures are what it is for")]

mod client;
mod log;
mod memory;
mod peers;
mod recall;
mod runs;
mod tokens;

use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

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
    /// A fixed number of appends, sealed and not synced, for `valgrind --tool=callgrind`: instructions do not depend on the load.
    Count {
        /// Appenders, each in a closed loop.
        #[arg(long, default_value_t = 64)]
        appenders: u64,
        /// Appends of each.
        #[arg(long, default_value_t = 100)]
        each: u64,
    },
    /// Reading the whole log.
    Read(log::Settings),
    /// Opening a large store, layers and read models ready, and its log alone; after a close and after a kill. Bytes on disk.
    Open(log::Settings),
    /// Replaying a sealed log; rebuilding every read model from it.
    Replay(log::Settings),
    /// Recall, taking memories in and memory used, beside SQLite's full-text index.
    Recall(recall::Settings),
    /// Memory through the whole house: imports, remembering, recall, consolidation, rebuilding.
    Memory(memory::Settings),
    /// Memory through an MCP client, beside other memory servers: waits, memory used, what a kill and a second client lose.
    Peers(peers::Settings),
    /// Runs of agent code through the whole house.
    Runs(runs::Settings),
    /// What workflows over twelve real servers cost in tokens, three ways, and what a person waits for.
    Tokens(tokens::Settings),
    #[command(hide = true)]
    AppendUntilKilled { path: PathBuf, from: u64 },
    #[command(hide = true)]
    RememberUntilKilled { path: PathBuf, more: u64 },
    #[command(hide = true)]
    Resident {
        path: PathBuf,
        #[arg(long)]
        model: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    // As the athena binary does: this one, too, is executed again as the process that runs agent code or keeps a server.
    athena::worker();
    if std::env::var_os(tokens::AS_ATHENA).is_some() {
        return athena::cli::main();
    }
    athena_worker::give_back();
    match athena::embed::runtime().map_err(Into::into).and_then(|runtime| runtime.block_on(measure())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn measure() -> anyhow::Result<()> {
    match Args::parse().bench {
        Bench::Append(settings) => log::append::run(&settings).await,
        Bench::Count { appenders, each } => log::append::count(appenders, each).await,
        Bench::Read(settings) => log::read::run(&settings).await,
        Bench::Open(settings) => log::open::run(&settings).await,
        Bench::Replay(settings) => log::replay::run(&settings).await,
        Bench::Recall(settings) => recall::run(&settings),
        Bench::Memory(settings) => memory::run(&settings).await,
        Bench::Peers(settings) => tokio::task::block_in_place(|| peers::run(&settings)),
        Bench::Runs(settings) => runs::run(&settings).await,
        Bench::Tokens(settings) => tokio::task::block_in_place(|| tokens::run(&settings)),
        Bench::AppendUntilKilled { path, from } => log::open::append_until_killed(&path, from).await,
        Bench::RememberUntilKilled { path, more } => log::house::remember_until_killed(&path, more).await,
        Bench::Resident { path, model } => memory::resident(&path, model.as_deref()).await,
    }
}
