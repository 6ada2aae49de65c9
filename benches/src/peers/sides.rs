//! The servers: how each is started, told and asked.

use crate::client::Client;
use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Athena,
    ServerMemory,
    MemoryService,
}

/// A server of the comparison.
pub(super) struct Side {
    pub(super) name: &'static str,
    kind: Kind,
    program: PathBuf,
    args: Vec<PathBuf>,
}

/// Installs the peers, unless they are there.
pub(super) fn install(dir: &Path) -> anyhow::Result<()> {
    let (package, wanted) = (include_str!("package.json"), include_str!("requirements.txt"));
    let both = format!("{package}{wanted}");
    if std::fs::read_to_string(dir.join("installed")).is_ok_and(|known| known == both) {
        return Ok(());
    }
    crate::log::say(format!("installing the peers below {} …", dir.display()));
    std::fs::write(dir.join("package.json"), package)?;
    std::fs::write(dir.join("requirements.txt"), wanted)?;
    let python = python()?;
    let steps: [(&str, &[&str]); 3] = [
        ("npm", &["install", "--no-audit", "--no-fund", "--loglevel=error"]),
        (python, &["-m", "venv", "--clear", ".venv"]),
        (".venv/bin/pip", &["install", "--quiet", "--disable-pip-version-check", "-r", "requirements.txt"]),
    ];
    for (program, args) in steps {
        let program = if program.starts_with('.') { dir.join(program) } else { program.into() };
        let status = Command::new(&program).args(args).current_dir(dir).status();
        if !status.with_context(|| format!("{} cannot be started", program.display()))?.success() {
            bail!("{} {} failed; Node and Python 3 are needed", program.display(), args.join(" "));
        }
    }
    Ok(std::fs::write(dir.join("installed"), both)?)
}

/// A Python whose SQLite loads extensions, as `mcp-memory-service` needs it; builds of Python differ in that.
fn python() -> anyhow::Result<&'static str> {
    let able = |python: &&str| {
        let load = "import sqlite3; sqlite3.connect(':memory:').enable_load_extension(True)";
        Command::new(python)
            .args(["-c", load])
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|done| done.success())
    };
    let candidates = ["python3", "/usr/bin/python3", "/usr/local/bin/python3"];
    candidates.into_iter().find(able).context("no Python whose sqlite3 module loads extensions was found")
}

/// Athena first: the binary beside this one.
pub(super) fn all(dir: &Path) -> anyhow::Result<Vec<Side>> {
    let server = dir.join("node_modules/@modelcontextprotocol/server-memory/dist/index.js");
    Ok(vec![
        Side {
            name: "athena",
            kind: Kind::Athena,
            program: crate::runs::beside()?,
            args: vec!["serve".into()],
        },
        Side { name: "server-memory", kind: Kind::ServerMemory, program: "node".into(), args: vec![server] },
        Side {
            name: "mcp-memory-service",
            kind: Kind::MemoryService,
            program: dir.join(".venv/bin/memory"),
            args: vec!["server".into()],
        },
    ])
}

impl Side {
    /// Starts the server over a store, as a client does.
    pub(super) fn start(&self, store: &Path) -> anyhow::Result<Client> {
        let mut command = Command::new(&self.program);
        command.args(&self.args).current_dir(store);
        match self.kind {
            Kind::Athena => command.env("ATHENA_STORE", store.join("store")),
            Kind::ServerMemory => command.env("MEMORY_FILE_PATH", store.join("memory.jsonl")),
            Kind::MemoryService => command
                .env("MCP_MEMORY_STORAGE_BACKEND", "sqlite_vec")
                .env("MCP_MEMORY_SQLITE_PATH", store.join("memory.db"))
                .env("MCP_MEMORY_BASE_DIR", store)
                .env("MCP_MEMORY_ALLOW_HASH_EMBEDDINGS", "1")
                .env("MCP_MEMORY_ONNX_ALLOW_DOWNLOAD", "0"),
        };
        Client::start(command).with_context(|| format!("{} does not start", self.name))
    }

    /// Ends what a client's end leaves running.
    pub(super) fn stop(&self, store: &Path) {
        if self.kind == Kind::Athena {
            let _ = self.athena(store, &["daemon", "stop", "--force"]);
        }
    }

    /// Many at once, in the fastest way that the server has.
    pub(super) fn fill(&self, client: &mut Client, store: &Path, memories: u64) -> anyhow::Result<()> {
        let text = crate::recall::text;
        match self.kind {
            Kind::Athena => {
                let lines = (0..memories)
                    .map(|n| json!({"layer": "episodic", "item": {"content": text(n)}}).to_string() + "\n");
                let file = store.join("fill.jsonl");
                std::fs::write(&file, lines.collect::<String>())?;
                let done = self.athena(store, &["import", &file.to_string_lossy()])?;
                ensure!(done["added"] == json!(memories), "{done}");
            }
            Kind::ServerMemory => {
                for from in (0..memories).step_by(500) {
                    let entities: Vec<_> =
                        (from..memories.min(from + 500)).map(|n| entity(&text(n))).collect();
                    client.done("create_entities", &json!({"entities": entities}))?;
                }
            }
            Kind::MemoryService => {
                for n in 0..memories {
                    self.remember(client, &text(n))?;
                }
            }
        }
        Ok(())
    }

    /// One memory; done when it is acknowledged.
    pub(super) fn remember(&self, client: &mut Client, content: &str) -> anyhow::Result<()> {
        match self.kind {
            Kind::Athena => client.done("remember", &json!({"content": content})),
            Kind::ServerMemory => client.done("create_entities", &json!({"entities": [entity(content)]})),
            Kind::MemoryService => client.done("memory_store", &json!({"content": content})),
        }
        .map(drop)
    }

    /// The ten best, as text.
    pub(super) fn recall(&self, client: &mut Client, query: &str) -> anyhow::Result<String> {
        let answer = match self.kind {
            Kind::Athena => client.done("recall", &json!({"query": query, "limit": 10}))?,
            // It has no limit: everything that matches comes back.
            Kind::ServerMemory => client.done("search_nodes", &json!({"query": query}))?,
            Kind::MemoryService => client.done("memory_search", &json!({"query": query, "limit": 10}))?,
        };
        let texts = answer["content"].as_array().into_iter().flatten().filter_map(|one| one["text"].as_str());
        Ok(texts.collect())
    }

    /// Whether the server still has a memory: asked in the way it answers most surely.
    pub(super) fn has(&self, client: &mut Client, content: &str) -> anyhow::Result<bool> {
        let answer = match self.kind {
            Kind::Athena => self.recall(client, content)?,
            Kind::ServerMemory => {
                client.done("open_nodes", &json!({"names": [content]}))?["content"].to_string()
            }
            Kind::MemoryService => client
                .done("memory_search", &json!({"query": content, "mode": "exact", "limit": 10}))?["content"]
                .to_string(),
        };
        Ok(answer.contains(beginning(content)))
    }

    /// Every process that serves this store.
    pub(super) fn processes(&self, client: &Client, store: &Path) -> anyhow::Result<Vec<u32>> {
        let mut roots = vec![client.process()];
        if self.kind == Kind::Athena {
            let status = self.athena(store, &["daemon", "status"])?;
            let daemon = status["pid"].as_u64().with_context(|| format!("no daemon: {status}"))?;
            roots.push(u32::try_from(daemon)?);
        }
        Ok(descendants(roots))
    }

    /// What those processes hold, MiB, pages that they share counted once.
    pub(super) fn resident_mib(&self, client: &Client, store: &Path) -> anyhow::Result<f64> {
        let processes = self.processes(client, store)?;
        let kib: f64 = processes.iter().filter_map(|process| proportional_kib(*process)).sum();
        Ok((kib / 1024.0).round())
    }

    fn athena(&self, store: &Path, args: &[&str]) -> anyhow::Result<Value> {
        let mut command = Command::new(&self.program);
        // In the folder where the client starts the server: the project is told from it.
        command.arg("--json").args(args).current_dir(store).env("ATHENA_STORE", store.join("store"));
        command.stderr(Stdio::piped());
        let output = command.output()?;
        ensure!(output.status.success(), "athena {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(serde_json::from_slice(&output.stdout).unwrap_or_default())
    }
}

/// As much of a memory as every server shows of it; enough to tell it from all others.
pub(super) fn beginning(content: &str) -> &str {
    content.get(..60).unwrap_or(content)
}

/// A memory as an entity of the reference server.
fn entity(content: &str) -> Value {
    json!({"name": content, "entityType": "memory", "observations": [content]})
}

/// These processes and all that they started.
fn descendants(mut found: Vec<u32>) -> Vec<u32> {
    let mut next = 0;
    while let Some(process) = found.get(next) {
        let children = std::fs::read_to_string(format!("/proc/{process}/task/{process}/children"));
        found.extend(
            children.unwrap_or_default().split_whitespace().filter_map(|one| one.parse::<u32>().ok()),
        );
        next += 1;
    }
    found
}

/// Proportional set size of a process.
fn proportional_kib(process: u32) -> Option<f64> {
    let rollup = std::fs::read_to_string(format!("/proc/{process}/smaps_rollup")).ok()?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// Kills all of them at once.
pub(super) fn kill(processes: &[u32]) {
    let mut command = Command::new("kill");
    let _ = command.arg("-9").args(processes.iter().map(u32::to_string)).stderr(Stdio::null()).status();
}
