//! Appends a second, one appender and 64, synced and not, beside the peers in the same rounds.

use super::peers::{Bare, Engine, Peer, Sqlite};
use super::{Settings, bytes, draft, median, read, report, say};
use athena_actors::keys::{KeyStore, MasterKey, PayloadSealer};
use athena_actors::log::{Append, LogHandle, Mode, Options};
use athena_schemas::ports::Sealer;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Numbers events over all measurements.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// Runs `appenders` closed loops for a while; answers appends a second.
async fn rate<F>(
    settings: &Settings,
    appenders: usize,
    append: impl Fn(u64) -> F + Clone + Send + 'static,
) -> anyhow::Result<f64>
where
    F: Future<Output = anyhow::Result<()>> + Send,
{
    let until = Instant::now() + Duration::from_secs_f64(settings.seconds);
    let started = Instant::now();
    let mut loops = Vec::new();
    for _ in 0..appenders {
        let append = append.clone();
        loops.push(tokio::spawn(async move {
            let mut done = 0_u64;
            while Instant::now() < until {
                append(NEXT.fetch_add(1, Ordering::Relaxed)).await?;
                done += 1;
            }
            anyhow::Ok(done)
        }));
    }
    let mut total = 0;
    for finished in loops {
        total += finished.await??;
    }
    Ok(total as f64 / started.elapsed().as_secs_f64())
}

async fn log(settings: &Settings, mode: Mode, appenders: usize, sealed: bool) -> anyhow::Result<f64> {
    let folder = settings.folder()?;
    let (log, _) = LogHandle::open(folder.path().join("log"), Options { mode, ..Options::default() })?;
    let keys = Arc::new(KeyStore::open(&folder.path().join("keys"), MasterKey::File)?);
    let sealer = PayloadSealer::new(keys);
    let handle = log.clone();
    let measured = rate(settings, appenders, move |n| {
        let (log, sealer) = (handle.clone(), sealer.clone());
        async move {
            let draft = if sealed { sealer.seal(draft(n))? } else { draft(n) };
            log.commit(Append::new(vec![draft])).await?;
            Ok(())
        }
    })
    .await?;
    log.close().await?;
    Ok(measured)
}

/// Makes a fixed number of appends, sealed and not synced.
pub(crate) async fn count(appenders: u64, each: u64) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let options = Options { mode: Mode::Buffer, ..Options::default() };
    let (log, _) = LogHandle::open(folder.path().join("log"), options)?;
    let sealer = PayloadSealer::new(Arc::new(KeyStore::open(&folder.path().join("keys"), MasterKey::File)?));
    let loops: Vec<_> = (0..appenders)
        .map(|appender| {
            let (log, sealer) = (log.clone(), sealer.clone());
            tokio::spawn(async move {
                for n in 0..each {
                    let draft = sealer.seal(draft(1 + appender * each + n))?;
                    log.commit(Append::new(vec![draft])).await?;
                }
                anyhow::Ok(())
            })
        })
        .collect();
    for finished in loops {
        finished.await??;
    }
    Ok(log.close().await?)
}

async fn peer(settings: &Settings, peer: Peer, appenders: usize) -> anyhow::Result<f64> {
    rate(settings, appenders, move |n| {
        let peer = peer.clone();
        async move { peer.append(bytes(&draft(n))?).await }
    })
    .await
}

/// What is measured in every round.
const MEASURES: [&str; 9] = [
    "limit_1",
    "sealed_1",
    "sqlite_full_1",
    "limit_64",
    "sealed_64",
    "sqlite_full_64",
    "engine_64",
    "buffered_64",
    "sqlite_normal_64",
];

async fn measure(settings: &Settings, name: &str) -> anyhow::Result<f64> {
    let folder = settings.folder()?;
    let path = folder.path().join(name);
    let appenders = if name.ends_with("_1") { 1 } else { 64 };
    match name {
        "limit_1" | "limit_64" => peer(settings, Peer::start(Bare::create(&path, true)?), appenders).await,
        "sqlite_full_1" | "sqlite_full_64" => {
            peer(settings, Peer::start(Sqlite::create(&path, true)?), appenders).await
        }
        "sqlite_normal_64" => peer(settings, Peer::start(Sqlite::create(&path, false)?), appenders).await,
        "engine_64" => peer(settings, Peer::start(Engine::create(&path)?), appenders).await,
        "buffered_64" => log(settings, Mode::Buffer, appenders, true).await,
        _ => log(settings, Mode::Sync, appenders, true).await,
    }
}

/// Measures and reports.
pub(crate) async fn run(settings: &Settings) -> anyhow::Result<()> {
    let mut all: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for round in 0..settings.rounds {
        let mut now: BTreeMap<&str, f64> = BTreeMap::new();
        // Each round begins elsewhere: what was measured before leaves the disk busy for a while.
        for name in MEASURES.iter().cycle().skip(round * 2).take(MEASURES.len()) {
            now.insert(name, measure(settings, name).await?);
        }
        let (ours, theirs) = read::once(settings).await?;
        now.extend([("read", ours), ("read_sqlite", theirs)]);
        say(format_args!("round {}: {now:.0?}", round + 1));
        for (name, value) in now {
            all.entry(name).or_default().push(value);
        }
    }
    let ratio = |a: &str, b: &str| {
        let pairs = all.get(a).into_iter().flatten().zip(all.get(b).into_iter().flatten());
        median(&pairs.map(|(a, b)| a / b).collect::<Vec<_>>())
    };
    report(
        settings,
        &serde_json::json!({
            "durable_1_of_limit": ratio("sealed_1", "limit_1"),
            "durable_64_of_limit": ratio("sealed_64", "limit_64"),
            "durable_1_of_sqlite_full": ratio("sealed_1", "sqlite_full_1"),
            "durable_64_of_sqlite_full": ratio("sealed_64", "sqlite_full_64"),
            "durable_64_of_1": ratio("sealed_64", "sealed_1"),
            "buffered_64_of_sqlite_normal": ratio("buffered_64", "sqlite_normal_64"),
            "sealed_of_plain": ratio("sealed_64", "engine_64"),
            "read_of_sqlite": ratio("read", "read_sqlite"),
        }),
    )
}
