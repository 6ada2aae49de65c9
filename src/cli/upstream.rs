//! `athena upstream`: the MCP servers behind Athena.

use super::output::{field, pretty};
use super::session::Session;
use super::{Done, written};
use crate::importers::takeover;
use athena_schemas::refusal::Refusal;
use serde_json::{Map, Value, json};
use std::path::PathBuf;

/// The MCP servers behind Athena
#[derive(Debug, clap::Args)]
pub(crate) struct Upstream {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// The servers with their state
    List,
    /// Their tools, with what is pinned, held or flagged
    Tools {
        /// Of this server alone
        server: Option<String>,
    },
    /// Start a server, list its tools and call one
    Test {
        /// The server
        server: String,
        /// A tool to call
        tool: Option<String>,
        /// Its arguments
        #[arg(default_value = "{}", value_name = "JSON")]
        arguments: String,
    },
    /// Add a server: `athena upstream add docs -- npx -y @modelcontextprotocol/server-filesystem .`
    Add(Add),
    /// Add the servers of a configuration file, or of a client: `athena upstream import claude-desktop`
    Import {
        /// A file with `mcpServers`, `servers` or Codex's tables; or claude-desktop, claude-code, cursor, vscode, codex
        from: String,
        /// Show what would be added and add nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Grant access to a server over HTTP, in a browser
    Auth(super::auth::Auth),
    /// Remove a server and end its process
    Remove {
        /// The server
        server: String,
    },
    /// Accept what changed of a server's tools, or a description that was withheld
    Accept {
        /// The server
        server: String,
        /// One tool; all of them if not said
        tool: Option<String>,
    },
    /// Write the tools as typed files, as code sees them
    Files {
        /// The folder to write to
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
}

#[derive(Debug, clap::Args)]
struct Add {
    /// Its name: letters, digits, _ and -
    server: String,
    /// Its address, for a server over HTTP
    #[arg(long, conflicts_with = "command")]
    url: Option<String>,
    /// A variable of its environment, NAME=VALUE; ${NAME} is replaced from Athena's own
    #[arg(long = "env", value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// A header of every request, NAME=VALUE
    #[arg(long = "header", value_name = "NAME=VALUE")]
    headers: Vec<String>,
    /// An argument path at which it gets real values instead of tokens, such as to or send:message.to
    #[arg(long = "reveal", value_name = "PATH")]
    reveal: Vec<String>,
    /// The program to start, and its arguments
    #[arg(last = true, required_unless_present = "url")]
    command: Vec<String>,
}

impl Upstream {
    pub(crate) async fn run(self, session: &Session) -> Done {
        match self.command {
            Command::List => list(session).await,
            Command::Tools { server } => tools(session, server).await,
            Command::Test { server, tool, arguments } => {
                let arguments = super::call::json_object(&arguments)?;
                let params = json!({ "server": server, "tool": tool, "arguments": arguments });
                let report = session.call("upstream/test", params).await?;
                written(session.out.value(&report, pretty))
            }
            Command::Add(add) => {
                let params = json!({ "server": add.server, "config": add.config()? });
                let done = session.call("upstream/add", params).await?;
                written(
                    session
                        .out
                        .value(&done, |_| format!("added {}; try: athena upstream test {0}", add.server)),
                )
            }
            Command::Auth(auth) => auth.run(session).await,
            Command::Import { from, dry_run } => import(session, &from, dry_run).await,
            Command::Remove { server } => {
                let done = session.call("upstream/remove", json!({ "server": server })).await?;
                written(session.out.value(&done, |_| format!("removed {server}")))
            }
            Command::Accept { server, tool } => {
                let settled =
                    session.call("upstream/accept", json!({ "server": server, "tool": tool })).await?;
                written(session.out.value(&settled, pretty))
            }
            Command::Files { out } => files(session, &out).await,
        }
    }
}

impl Add {
    fn config(&self) -> Result<Value, Refusal> {
        let mut config = Map::new();
        if let Some((program, args)) = self.command.split_first() {
            config.insert("command".into(), json!(program));
            config.insert("args".into(), json!(args));
        }
        if let Some(url) = &self.url {
            config.insert("url".into(), json!(url));
        }
        config.insert("env".into(), pairs(&self.env)?);
        config.insert("headers".into(), pairs(&self.headers)?);
        config.insert("reveal".into(), json!(self.reveal));
        Ok(Value::Object(config))
    }
}

fn pairs(given: &[String]) -> Result<Value, Refusal> {
    let mut pairs = Map::new();
    for pair in given {
        let (name, value) = pair.split_once('=').ok_or_else(|| {
            Refusal::invalid(format!("{pair} is no NAME=VALUE")).hint("--env TOKEN=${TOKEN}")
        })?;
        pairs.insert(name.into(), json!(value));
    }
    Ok(Value::Object(pairs))
}

async fn list(session: &Session) -> Done {
    let servers = session.call("upstream/list", json!({})).await?;
    let servers = servers.as_array().cloned().unwrap_or_default();
    written(session.out.rows(&servers, &["server", "health", "tools", "held", "calls", "error"], |server| {
        ["/server", "/health", "/tools", "/held", "/calls", "/error"].map(|path| field(server, path)).into()
    }))
}

async fn tools(session: &Session, server: Option<String>) -> Done {
    let tools = session.call("upstream/tools", json!({ "server": server })).await?;
    let tools = tools.as_array().cloned().unwrap_or_default();
    written(session.out.rows(&tools, &["tool", "risk", "held", "what"], |tool| {
        ["/op", "/risk", "/held", "/description"].map(|path| field(tool, path)).into()
    }))
}

/// Adds every server of a file; the file stays as it is.
async fn import(session: &Session, from: &str, dry_run: bool) -> Done {
    let (origin, path) = super::init::source(from)?;
    let found = takeover::read_file(&path)?;
    let notes = match dry_run {
        true => Vec::new(),
        false => super::init::take_over(session, &origin, &found.servers).await?,
    };
    let report = json!({
        "path": path, "servers": found.servers.keys().collect::<Vec<_>>(), "secrets": found.secrets,
        "skipped": found.skipped, "notes": notes, "added": !dry_run,
    });
    written(session.out.value(&report, pretty))
}

/// Writes every file below `/mcp-servers` to a folder of this machine.
async fn files(session: &Session, out: &std::path::Path) -> Done {
    let failed = |e: std::io::Error| Refusal::invalid(format!("{} cannot be written: {e}", out.display()));
    let mut folders = vec!["/mcp-servers".to_owned()];
    let mut count = 0u64;
    while let Some(folder) = folders.pop() {
        let entries = session.call("files/list", json!({ "path": folder })).await?;
        for entry in entries.as_array().into_iter().flatten() {
            let name = entry.as_str().map_or_else(|| field(entry, "/name"), str::to_owned);
            // Names come from other servers: one that leaves the folder is not followed.
            if name.is_empty() || name.split('/').any(|part| part == "..") {
                continue;
            }
            let path = format!("{folder}/{}", name.trim_end_matches('/'));
            if name.ends_with('/') || entry.get("folder") == Some(&json!(true)) || !name.contains('.') {
                folders.push(path);
                continue;
            }
            let text = session.call("files/read", json!({ "path": path })).await?;
            let target = out.join(path.trim_start_matches('/'));
            if let Some(parent) = target.parent() {
                std::fs::create_dir_all(parent).map_err(failed)?;
            }
            std::fs::write(&target, pretty(&text)).map_err(failed)?;
            count += 1;
        }
    }
    written(session.out.value(&json!({ "files": count, "folder": out }), |_| {
        format!("{count} files written to {}", out.display())
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn environment_is_given_in_pairs() {
        assert_eq!(pairs(&["A=b=c".into()]).unwrap(), json!({ "A": "b=c" }));
        assert!(pairs(&["A".into()]).is_err());
    }
}
