//! Memory servers side by side, each as a client starts it and through the same MCP client: how long remembering and recall take,
//! what they hold in memory, and what a killed server or a second client loses.
//!
//! The peers are other people's programs, pinned in `package.json` and `requirements.txt` beside this file and installed below
//! `--dir`; they need Node and Python 3.10. `mcp-memory-service` fetches its sentence model from the network at its first start;
//! here it runs with its own stand-in without a model, which is faster and finds less: what it finds is shown, and is no verdict.

mod sides;

use crate::client::Client;
use crate::log::{median, say};
use crate::recall::{percentile, question, rounded, text};
use anyhow::ensure;
use serde_json::{Map, Value, json};
use sides::Side;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// What this benchmark takes.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Settings {
    /// How many memories; several sizes one after the other.
    #[arg(long, value_delimiter = ',', default_value = "1000,10000")]
    memories: Vec<u64>,
    /// Single memories and recalls that are timed at each size.
    #[arg(long, default_value_t = 100)]
    calls: u64,
    /// Servers killed while they write.
    #[arg(long, default_value_t = 5)]
    kills: u64,
    /// Where the peers are installed.
    #[arg(long, default_value = "target/peers")]
    dir: PathBuf,
    /// Ends with one JSON object on stdout.
    #[arg(long)]
    json: bool,
}

/// Runs it for every server.
pub(crate) fn run(settings: &Settings) -> anyhow::Result<()> {
    std::fs::create_dir_all(&settings.dir)?;
    let dir = settings.dir.canonicalize()?;
    sides::install(&dir)?;
    let mut all = Map::new();
    for side in sides::all(&dir)? {
        let mut figures = Map::new();
        for memories in &settings.memories {
            let row = waits(&side, *memories, settings.calls)?;
            say(format!("{:<20} {memories:>6} memories: {row}", side.name));
            figures.insert(memories.to_string(), row);
        }
        let row = killed(&side, settings.kills)?;
        say(format!("{:<20} killed while writing: {row}", side.name));
        figures.insert("killed".into(), row);
        let row = two_clients(&side)?;
        say(format!("{:<20} two clients: {row}", side.name));
        figures.insert("two_clients".into(), row);
        all.insert(side.name.into(), figures.into());
    }
    if settings.json {
        println!("{}", Value::Object(all));
    }
    Ok(())
}

/// Fills a store, then times one call at a time.
fn waits(side: &Side, memories: u64, calls: u64) -> anyhow::Result<Value> {
    let store = tempfile::tempdir()?;
    let mut client = side.start(store.path())?;
    let begun = Instant::now();
    side.fill(&mut client, store.path(), memories)?;
    let filled = begun.elapsed();
    let (mut remembered, mut recalled, mut right) = (Vec::new(), Vec::new(), 0);
    for n in memories..memories + calls {
        let begun = Instant::now();
        side.remember(&mut client, &text(n))?;
        remembered.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    for n in 0..calls {
        let (wanted, query) = question(n, memories);
        let begun = Instant::now();
        let answer = side.recall(&mut client, &query)?;
        recalled.push(begun.elapsed().as_secs_f64() * 1e3);
        right += u64::from(answer.contains(sides::beginning(&text(wanted))));
    }
    let resident = side.resident_mib(&client, store.path())?;
    drop(client);
    side.stop(store.path());
    Ok(json!({
        "filled_s": rounded(filled.as_secs_f64()),
        "remember_p50_ms": rounded(median(&remembered)),
        "remember_p95_ms": rounded(percentile(&mut remembered, 0.95)),
        "recall_p50_ms": rounded(median(&recalled)),
        "recall_p95_ms": rounded(percentile(&mut recalled, 0.95)),
        "found_in_ten": rounded(right as f64 / calls as f64),
        "resident_mib": resident,
    }))
}

/// Kills the server while a client writes as fast as it is answered; what was acknowledged and is gone afterwards. It kills the
/// process, not the machine: what a power cut would take is another question.
fn killed(side: &Side, kills: u64) -> anyhow::Result<Value> {
    let store = tempfile::tempdir()?;
    let (mut acknowledged, mut restarts) = (Vec::new(), 0u64);
    for round in 0..kills {
        let mut client = side.start(store.path())?;
        let processes = side.processes(&client, store.path())?;
        let written = AtomicU64::new(0);
        // Killed after a number of answers, so that every server is killed at work, however fast it is.
        let enough = 20 + round * 7;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while written.load(Relaxed) < enough {
                    std::thread::park_timeout(Duration::from_millis(1));
                }
                sides::kill(&processes);
            });
            for n in 0.. {
                let content = format!("memory {round}-{n} {}", text(round * 1_000 + n));
                match side.remember(&mut client, &content) {
                    Ok(()) => acknowledged.push(content),
                    Err(_) => break,
                }
                written.fetch_add(1, Relaxed);
            }
        });
        restarts += 1;
    }
    let mut client = side.start(store.path())?;
    let missing = missing(side, &mut client, &acknowledged)?;
    drop(client);
    side.stop(store.path());
    Ok(json!({"kills": restarts, "acknowledged": acknowledged.len(), "lost": missing}))
}

/// Two clients, each with the server as it starts it, write at the same time.
fn two_clients(side: &Side) -> anyhow::Result<Value> {
    const EACH: u64 = 100;
    let store = tempfile::tempdir()?;
    let mut clients = [side.start(store.path())?, side.start(store.path())?];
    let lists = std::thread::scope(|scope| {
        let writers: Vec<_> = clients
            .iter_mut()
            .enumerate()
            .map(|(which, client)| {
                scope.spawn(move || {
                    let contents = (0..EACH).map(|n| format!("client {which} memory {n} {}", text(n)));
                    contents.filter(|content| side.remember(client, content).is_ok()).collect::<Vec<_>>()
                })
            })
            .collect();
        writers.into_iter().map(|writer| writer.join().unwrap_or_default()).collect::<Vec<_>>()
    });
    drop(clients);
    let acknowledged: Vec<String> = lists.into_iter().flatten().collect();
    ensure!(!acknowledged.is_empty(), "{} acknowledged nothing", side.name);
    let mut client = side.start(store.path())?;
    let missing = missing(side, &mut client, &acknowledged)?;
    drop(client);
    side.stop(store.path());
    Ok(json!({"written": 2 * EACH, "acknowledged": acknowledged.len(), "lost": missing}))
}

/// How many of these the server has no more: those that a recall of their own beginning does not bring.
fn missing(side: &Side, client: &mut Client, contents: &[String]) -> anyhow::Result<u64> {
    let mut missing = 0;
    for content in contents {
        missing += u64::from(!side.has(client, content)?);
    }
    Ok(missing)
}
