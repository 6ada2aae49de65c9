//! The command line. Most commands are one call of the router over the daemon's socket.
//!
//! Data goes to stdout, everything else to stderr. Exit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 approval needed,
//! 5 denied by policy, 6 integrity failure, 7 locked or unreachable.

mod approvals;
mod audit;
mod auth;
mod call;
mod completions;
mod config;
mod daemon;
mod demo;
mod docs;
mod doctor;
mod exec;
mod forget;
mod guard;
mod init;
mod keys;
mod log;
mod memory;
mod model;
mod output;
mod passphrase;
mod privacy;
mod rebuild;
mod replay;
mod retention;
mod run;
mod sandbox;
mod serve;
mod session;
mod store;
mod transfer;
mod undo;
mod upstream;

use athena_schemas::refusal::{Code, Refusal};
use clap::{Args, Parser, Subcommand};
use output::Output;
use session::Session;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use tracing_subscriber::filter::LevelFilter;

/// Durable memory and code mode for AI agents, over one event log.
#[derive(Debug, Parser)]
#[command(name = "athena", version, propagate_version = true, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

/// Flags that every command takes.
#[derive(Debug, Clone, Default, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub(crate) struct Globals {
    /// Keep everything in this folder [env: ATHENA_STORE; default: the XDG folders]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) store: Option<PathBuf>,
    /// Print JSON; lists as one value a line; errors as objects on stderr
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print tables as tab-separated lines
    #[arg(long, global = true)]
    pub(crate) plain: bool,
    /// Print no colours [env: NO_COLOR]
    #[arg(long, global = true)]
    pub(crate) no_color: bool,
    /// Print nothing but data and errors
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
    /// Say more on stderr; twice for even more
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Answer as of a position in the log, or a time: for what is read (recall, search, log, lists, call of a query)
    #[arg(long, global = true, value_name = "SEQ|TIME")]
    pub(crate) at: Option<String>,
    /// Answer every question with yes
    #[arg(long, short, global = true)]
    pub(crate) yes: bool,
    /// Ask nothing and read no terminal
    #[arg(long, global = true)]
    pub(crate) no_input: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// See all of it work, offline, in a throw-away store
    Demo(demo::Demo),
    /// Connect your MCP clients, and take over the servers they have
    Init(init::Init),
    /// Serve MCP over stdio (for an MCP client to start) or HTTP
    Serve(serve::Serve),
    /// Run code in the sandbox
    Exec(exec::Exec),
    /// Call any operation
    Call(call::Call),
    /// Store something worth keeping
    Remember(memory::Remember),
    /// Search long-term memory
    Recall(memory::Recall),
    /// Forget memories by id
    Forget(forget::Forget),
    /// Bring memories in from a file
    Import(transfer::Import),
    /// Write memories to a file
    Export(transfer::Export),
    /// Take back what an event, a run, an import or an earlier undo did
    Undo(undo::Undo),
    /// Find tools, memory operations and skills
    Search(memory::Search),
    /// Print the documentation of the tools that code can call
    Docs(docs::Docs),
    /// Read the event log, copy it, carry it elsewhere
    Log(log::Log),
    /// The keys that the log is sealed with
    Keys(keys::Keys),
    /// Who saw and did what, as a report
    Audit(audit::Audit),
    /// List, show, resume and cancel runs
    Run(run::Run),
    /// Rebuild from the log and compare, or execute a run again offline
    Replay(replay::Replay),
    /// Build read models anew from the log
    Rebuild(rebuild::Rebuild),
    /// What waits for a person
    Approvals(approvals::Approvals),
    /// Say yes, once, to exactly what was asked
    Approve(approvals::Approve),
    /// Say no; the reason reaches the agent
    Deny(approvals::Deny),
    /// What the guard thinks of code, without running it
    Guard(guard::Guard),
    /// What counts as sensitive, and the vault behind the tokens
    Privacy(privacy::Privacy),
    /// The MCP servers behind Athena
    Upstream(upstream::Upstream),
    /// Run, ask or stop the store's daemon
    Daemon(daemon::Daemon),
    /// What agent code may use up, and how it is held here
    Sandbox(sandbox::Sandbox),
    /// Try everything once, for real, and say what is wrong
    Doctor(doctor::Doctor),
    /// List, install and choose embedding models
    Model(model::Model),
    /// Show the settings
    Config(config::Config),
    /// Print shell completions
    Completions(completions::Completions),
}

/// How a command ended that did not fail: an exit code.
pub(crate) type Done = Result<u8, Refusal>;

/// Runs the program.
pub fn main() -> ExitCode {
    athena_worker::give_back();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let level = match cli.globals.verbose {
        0 => LevelFilter::WARN,
        1 => LevelFilter::INFO,
        _ => LevelFilter::DEBUG,
    };
    crate::telemetry::install(level);
    let fallback = Output { json: cli.globals.json, plain: false, color: false, quiet: false };
    // A relay waits for two descriptors and does nothing else: a second thread would only have to wake the first.
    let threads = if cli.command.is_relay() { Threads::One } else { Threads::AsOfAHouse };
    match Session::new(cli.globals).and_then(|session| block_on(threads, cli.command.run(&session))) {
        Ok(code) => code.into(),
        Err(refusal) => {
            fallback.refusal(&refusal);
            refusal.code.exit().into()
        }
    }
}

/// Serves a sample MCP server over stdio: what the demo and tests put behind Athena.
pub fn sample(name: &str) -> ExitCode {
    let served = block_on(Threads::AsOfAHouse, async {
        crate::sample::serve(name).await.map_err(|e| Refusal::internal(e.to_string()))?;
        Ok(0)
    });
    match served {
        Ok(code) => code.into(),
        Err(refusal) => {
            Output { json: false, plain: false, color: false, quiet: false }.refusal(&refusal);
            refusal.code.exit().into()
        }
    }
}

/// Visits a server of the conformance suite as a client.
pub fn conformance(url: &str) -> ExitCode {
    let context = std::env::var("MCP_CONFORMANCE_CONTEXT").unwrap_or_default();
    let context = serde_json::from_str(&context).unwrap_or_default();
    let visited = block_on(Threads::AsOfAHouse, async {
        let visited = crate::mcp::conformance::client::visit(url, &context).await;
        visited.map(|()| 0).map_err(|why| Refusal::new(Code::Upstream, why))
    });
    match visited {
        Ok(code) => code.into(),
        Err(refusal) => {
            Output { json: false, plain: false, color: false, quiet: false }.refusal(&refusal);
            refusal.code.exit().into()
        }
    }
}

/// On how many threads a command's tasks are run.
enum Threads {
    One,
    AsOfAHouse,
}

fn block_on(threads: Threads, command: impl Future<Output = Done>) -> Done {
    let runtime = match threads {
        Threads::One => tokio::runtime::Builder::new_current_thread().enable_all().build(),
        Threads::AsOfAHouse => crate::embed::runtime(),
    };
    let runtime = runtime.map_err(|e| Refusal::internal(format!("no runtime: {e}")))?;
    let done = runtime.block_on(command);
    // A thread that waits for the terminal must not keep the program alive.
    runtime.shutdown_background();
    done
}

impl Command {
    fn is_relay(&self) -> bool {
        matches!(self, Self::Serve(command) if command.is_relay())
    }

    async fn run(self, session: &Session) -> Done {
        match self {
            Self::Init(command) => command.run(session).await,
            Self::Serve(command) => command.run(session).await,
            Self::Exec(command) => command.run(session).await,
            Self::Call(command) => command.run(session).await,
            Self::Remember(command) => command.run(session).await,
            Self::Recall(command) => command.run(session).await,
            Self::Forget(command) => command.run(session).await,
            Self::Undo(command) => command.run(session).await,
            Self::Import(command) => command.run(session).await,
            Self::Export(command) => command.run(session).await,
            Self::Demo(command) => command.run(session).await,
            Self::Sandbox(command) => command.run(session).await,
            Self::Doctor(command) => command.run(session).await,
            Self::Replay(command) => command.run(session).await,
            Self::Rebuild(command) => command.run(session).await,
            Self::Approvals(command) => command.run(session).await,
            Self::Approve(command) => command.run(session).await,
            Self::Deny(command) => command.run(session).await,
            Self::Guard(command) => command.run(session).await,
            Self::Privacy(command) => command.run(session).await,
            Self::Upstream(command) => command.run(session).await,
            Self::Search(command) => command.run(session).await,
            Self::Docs(command) => command.run(session).await,
            Self::Log(command) => command.run(session).await,
            Self::Keys(command) => command.run(session).await,
            Self::Audit(command) => command.run(session).await,
            Self::Run(command) => command.run(session).await,
            Self::Daemon(command) => Box::pin(command.run(session)).await,
            Self::Model(command) => command.run(session),
            Self::Config(command) => command.run(session),
            Self::Completions(command) => command.run(session),
        }
    }
}

/// A command line that does not parse, or asks for help.
fn usage(error: &clap::Error) -> ExitCode {
    let json = std::env::args_os().any(|arg| arg == "--json");
    if error.use_stderr() && json {
        let text = error.render().to_string();
        let mut lines = text.lines();
        let message = lines.next().unwrap_or_default().trim_start_matches("error: ").to_owned();
        let refusal = Refusal::invalid(message).hint("athena help");
        Output { json, plain: false, color: false, quiet: false }.refusal(&refusal);
        return Code::Invalid.exit().into();
    }
    let _ = error.print();
    if error.use_stderr() { Code::Invalid.exit().into() } else { ExitCode::SUCCESS }
}

/// Output that cannot be written: the reader has gone, which is its right; anything else is a failure.
pub(crate) fn written(result: io::Result<()>) -> Done {
    match result {
        Ok(()) => Ok(0),
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(0),
        Err(e) => Err(Refusal::new(Code::Internal, format!("the output cannot be written: {e}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn global_flags_stand_before_or_after_the_command() {
        let before = Cli::try_parse_from(["athena", "--json", "log", "stats"]).unwrap();
        let after = Cli::try_parse_from(["athena", "log", "stats", "--json"]).unwrap();
        assert!(before.globals.json && after.globals.json);
    }
}
