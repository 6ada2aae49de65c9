//! A whole store, opened as a daemon opens it: log, keys, layers and read models, all of them at the log's head.

use super::say;
use anyhow::ensure;
use athena::system::{Options, System};
use athena_actors::keys::{KeyStore, MasterKey, PayloadSealer};
use athena_actors::log::{Append, LogHandle, Mode, Options as LogOptions};
use athena_schemas::context::{Caller, Channel, Party, Scope};
use athena_schemas::envelope::{Author, Draft, Meta};
use athena_schemas::id::{CommandId, Id};
use athena_schemas::layers::common::Origin;
use athena_schemas::layers::{episodic, semantic};
use athena_schemas::ports::{Request, Sealer};
use serde_json::json;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

/// Memories in one call or append.
const BATCH: u64 = 500;

const WORDS: [&str; 48] = [
    "kettle", "harbour", "ladder", "invoice", "garden", "sensor", "window", "parser", "engine", "ticket",
    "branch", "bridge", "copper", "winter", "letter", "market", "shadow", "planet", "buffer", "cache",
    "queue", "thread", "socket", "column", "vector", "failed", "passed", "slowly", "again", "before",
    "after", "under", "light", "heavy", "green", "silver", "north", "south", "morning", "evening", "office",
    "server", "client", "remote", "local", "signed", "closed", "opened",
];

/// A sentence of ten words and a number: about as long as what agents remember.
fn sentence(n: u64) -> String {
    let mut state = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut text = format!("memory {n}:");
    for _ in 0..10 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        text.push(' ');
        text.push_str(WORDS[(state % WORDS.len() as u64) as usize]);
    }
    text
}

/// A memory as its layer records it: episodes and facts in turn.
fn memory(n: u64) -> anyhow::Result<Draft> {
    let mut id = [1; 16];
    id[..8].copy_from_slice(&n.to_le_bytes());
    let (command, at_ms) = (CommandId(id), 1_760_000_000_000 + n);
    let origin = Origin { actor: Some("bench".into()), ..Origin::default() };
    let meta = Meta {
        at_ms,
        scope: Scope::project("bench"),
        author: Author { party: Party::Agent, channel: Channel::Mcp, name: "bench".into() },
        command,
        run: None,
        key: None,
    };
    let (content, event) = (sentence(n), command.event(0));
    Ok(if n.is_multiple_of(2) {
        let remembered = episodic::Remembered {
            id: Id::new("ep", at_ms, command.random(0)),
            content,
            kind: "note".into(),
            time_ms: at_ms as i64,
            session: None,
            outcome: None,
            importance: 500,
            tags: Vec::new(),
            meta: String::new(),
            origin,
            untrusted: false,
        };
        Draft::of("episodic", event, meta, &episodic::Event::from(remembered), None)?
    } else {
        let stored = semantic::Stored {
            id: Id::new("fa", at_ms, command.random(0)),
            content,
            log_odds: 1_000_000,
            valid_from_ms: None,
            valid_to_ms: None,
            tags: Vec::new(),
            origin,
            untrusted: false,
            supersedes: Vec::new(),
            reason: None,
            similar: Vec::new(),
            conflicts: Vec::new(),
        };
        Draft::of("semantic", event, meta, &semantic::Event::from(stored), None)?
    })
}

/// Fills a store's log with memories, sealed, unsynced. Its read models are still to be built.
pub(crate) async fn fill(folder: &Path, events: u64) -> anyhow::Result<()> {
    let options = LogOptions { mode: Mode::Buffer, ..LogOptions::default() };
    let (log, _) = LogHandle::open(folder.join("log"), options)?;
    let sealer = PayloadSealer::new(Arc::new(KeyStore::open(&folder.join("keys"), MasterKey::File)?));
    for from in (1..=events).step_by(BATCH as usize) {
        let until = (from + BATCH).min(events + 1);
        let drafts =
            (from..until).map(|n| Ok(sealer.seal(memory(n)?)?)).collect::<anyhow::Result<Vec<_>>>()?;
        log.commit(Append::new(drafts)).await?;
    }
    log.close().await?;
    Ok(())
}

/// Opens a store; answers it and how many seconds that took, layers and read models ready.
pub(crate) async fn open(folder: &Path) -> anyhow::Result<(System, f64)> {
    let started = Instant::now();
    let system =
        System::open(Options { folder: Some(folder.into()), sandbox: false, ..Options::default() }).await?;
    let seconds = started.elapsed().as_secs_f64();
    for (name, took) in system.phases().iter().filter(|(_, took)| took.as_millis() > 0) {
        say(format_args!("    {:>8.3} s  {name}", took.as_secs_f64()));
    }
    ensure!(system.read_side().lag().values().all(|behind| *behind == 0), "a read model is behind");
    Ok((system, seconds))
}

/// Starts this program again to remember more, and kills it once its read models have seen it.
pub(crate) fn kill_after(folder: &Path, more: u64) -> anyhow::Result<()> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["remember-until-killed".as_ref(), folder.as_os_str()])
        .arg(more.to_string())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    if let Some(stdout) = child.stdout.take() {
        BufReader::new(stdout).read_line(&mut line)?;
    }
    child.kill()?;
    child.wait()?;
    ensure!(line.trim() == "done", "the child failed");
    Ok(())
}

/// What the child does: as a daemon at work, then death.
pub(crate) async fn remember_until_killed(folder: &Path, more: u64) -> anyhow::Result<()> {
    let (system, _) = open(folder).await?;
    let from = system.log().head() * 10;
    let scope = Scope::project("bench");
    let caller = Caller {
        party: Party::Agent,
        channel: Channel::Library,
        name: "bench".into(),
        holds: scope.clone(),
        scope,
        run: None,
    };
    for batch in (from..from + more).step_by(BATCH as usize) {
        let events: Vec<_> =
            (batch..(batch + BATCH).min(from + more)).map(|n| json!({"content": sentence(n)})).collect();
        let request = Request::new("episodic/bulk_remember", json!({"events": events}));
        system.router().call(&caller, request).await?;
    }
    system.read_side().reached(system.log().head()).await?;
    let mut out = std::io::stdout();
    writeln!(out, "done")?;
    out.flush()?;
    std::future::pending::<()>().await;
    drop(system);
    Ok(())
}
