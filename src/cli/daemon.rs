//! `athena daemon`: the process that owns the store.

use super::output::{field, pretty};
use super::session::Session;
use super::{Done, written};
use crate::daemon::attach::Attached;
use crate::daemon::protocol::Mode;
use crate::daemon::server::{Options, holder};
use crate::daemon::{Place, Server};
use athena_schemas::refusal::{Code, Refusal};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;

/// How long `daemon stop` waits for a daemon to end.
const STOP_WAIT: Duration = Duration::from_secs(30);

/// Run, ask or stop the store's daemon
#[derive(Debug, clap::Args)]
pub(crate) struct Daemon {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Be the daemon, in the foreground (clients start it by themselves)
    Run {
        /// End after so many seconds without clients; 0 means never [default: from the settings]
        #[arg(long, value_name = "SECONDS")]
        idle: Option<u64>,
    },
    /// How it is
    Status,
    /// Ask it to finish what it is doing and end
    Stop {
        /// Kill a daemon that does not answer
        #[arg(long)]
        force: bool,
    },
}

impl Daemon {
    pub(crate) async fn run(self, session: &Session) -> Done {
        match self.command {
            Command::Run { idle } => Box::pin(run(session, idle)).await,
            Command::Status => status(session).await,
            Command::Stop { force } => stop(session, force).await,
        }
    }
}

async fn run(session: &Session, idle: Option<u64>) -> Done {
    crate::daemon::memory::keep_private();
    let config = session.config()?;
    let idle = idle.unwrap_or(config.daemon.idle_s);
    let options = Options {
        idle: (idle > 0).then(|| Duration::from_secs(idle)),
        clients_max: config.daemon.clients_max.max(1),
        ..Options::default()
    };
    let server = Server::bind(Place::of(&session.folders)?, options).await?;
    Box::pin(server.run(super::store::open(session.folders.clone(), config))).await?;
    Ok(0)
}

async fn status(session: &Session) -> Done {
    let place = Place::of(&session.folders)?;
    let hello = session.hello(Mode::Status);
    let Ok(Attached { welcome, .. }) = session.attach()?.greet(&hello).await else {
        let refusal = match holder(&place) {
            Some(_) => crate::daemon::server::held(&place),
            None => Refusal::new(Code::Unavailable, "no daemon runs for this store")
                .hint("any command that needs one starts it"),
        };
        return Err(refusal);
    };
    let said = json!({ "pid": welcome.pid, "version": welcome.version, "status": welcome.status });
    written(session.out.value(&said, |said| {
        format!(
            "process {} (version {}) serves {}\n{} clients, {} calls under way, up {} s, resident {} MiB\n\
             {} connections since it started, {} turned away, {} panics",
            field(said, "/pid"),
            field(said, "/version"),
            field(said, "/status/store"),
            field(said, "/status/clients"),
            field(said, "/status/calls"),
            field(said, "/status/uptime_s"),
            welcome.status.as_ref().and_then(|status| status.resident_bytes).unwrap_or(0) >> 20,
            field(said, "/status/accepted"),
            field(said, "/status/turned_away"),
            field(said, "/status/panics"),
        )
    }))?;
    let connections = said.pointer("/status/connections").and_then(Value::as_array);
    let Some(connections) = connections.filter(|some| !some.is_empty() && !session.out.json) else {
        return Ok(0);
    };
    let columns = ["id", "mode", "who", "program", "project", "profile", "protocol", "requests", "age"];
    written(session.out.rows(connections, &columns, |row| {
        let cell = |path: &str| field(row, path);
        vec![
            cell("/id"),
            cell("/mode"),
            cell("/principal"),
            cell("/client"),
            cell("/project"),
            cell("/profile"),
            cell("/protocol"),
            cell("/requests"),
            format!("{} s", cell("/age_s")),
        ]
    }))
}

async fn stop(session: &Session, force: bool) -> Done {
    let place = Place::of(&session.folders)?;
    let Some(pid) = holder(&place) else {
        session.out.note("no daemon runs for this store");
        return Ok(0);
    };
    let asked = session.attach()?.greet(&session.hello(Mode::Drain)).await;
    if asked.is_err() && force {
        let target = i32::try_from(pid).map_err(|e| Refusal::internal(e.to_string()))?;
        kill(Pid::from_raw(target), Signal::SIGKILL)
            .map_err(|e| Refusal::new(Code::Unavailable, format!("process {pid} cannot be killed: {e}")))?;
    } else if asked.is_err() {
        return Err(crate::daemon::server::held(&place));
    }
    let deadline = Instant::now() + STOP_WAIT;
    while holder(&place) == Some(pid) {
        if Instant::now() >= deadline {
            return Err(crate::daemon::server::held(&place));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    written(session.out.value(&json!({ "stopped": pid }), pretty))
}
