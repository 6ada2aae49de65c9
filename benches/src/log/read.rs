//! Reading the whole log in pages of 512, each event decoded, beside SQLite doing the same.

use super::peers::{Sink, Sqlite};
use super::{Settings, bytes, draft, median, report, say};
use athena_actors::log::{Append, LogHandle, Mode, Options};
use athena_schemas::envelope::Draft;
use std::path::Path;
use std::time::Instant;

/// Events a page.
const PAGE: usize = 512;

/// Fills a log with events `1..=events`, unsynced, in batches.
pub(crate) async fn fill(log: &LogHandle, from: u64, events: u64) -> anyhow::Result<()> {
    let mut next = from;
    while next < from + events {
        let until = (next + 500).min(from + events);
        log.commit(Append::new((next..until).map(draft).collect())).await?;
        next = until;
    }
    Ok(())
}

/// Events a second of the log and of SQLite, both filled alike and both warm.
pub(crate) async fn once(settings: &Settings) -> anyhow::Result<(f64, f64)> {
    let folder = settings.folder()?;
    let path = folder.path().join("log");
    let options = Options { mode: Mode::Buffer, ..Options::default() };
    let (log, _) = LogHandle::open(path.clone(), options.clone())?;
    fill(&log, 1, settings.events).await?;
    log.close().await?;
    let (log, _) = LogHandle::open(path, options)?;
    let sqlite = folder.path().join("sqlite");
    fill_sqlite(&sqlite, settings.events)?;
    // Once to warm the system's cache, once to measure.
    ours(&log)?;
    theirs(&sqlite)?;
    let measured = (ours(&log)?, theirs(&sqlite)?);
    log.close().await?;
    Ok(measured)
}

fn fill_sqlite(path: &Path, events: u64) -> anyhow::Result<()> {
    let mut sqlite = Sqlite::create(path, false)?;
    for from in (1..=events).step_by(500) {
        let group =
            (from..(from + 500).min(events + 1)).map(|n| bytes(&draft(n))).collect::<Result<Vec<_>, _>>()?;
        sqlite.write(&group)?;
    }
    Ok(())
}

fn ours(log: &LogHandle) -> anyhow::Result<f64> {
    let reader = log.reader();
    let started = Instant::now();
    let mut after = 0;
    while after < reader.head() {
        after = reader.read(after, PAGE)?.last().map_or(after, |record| record.seq);
    }
    Ok(after as f64 / started.elapsed().as_secs_f64())
}

fn theirs(path: &Path) -> anyhow::Result<f64> {
    let connection = rusqlite::Connection::open(path)?;
    let mut select = connection.prepare("SELECT seq, event FROM log WHERE seq > ?1 ORDER BY seq LIMIT ?2")?;
    let started = Instant::now();
    let mut after = 0_i64;
    loop {
        let mut page: Vec<(i64, Draft)> = Vec::with_capacity(PAGE);
        let mut rows = select.query((after, PAGE as i64))?;
        while let Some(row) = rows.next()? {
            let event = row.get_ref(1)?.as_blob()?;
            page.push((row.get(0)?, postcard::from_bytes(event)?));
        }
        let Some((last, _)) = page.last() else { break };
        after = *last;
    }
    Ok(after as f64 / started.elapsed().as_secs_f64())
}

/// Measures and reports.
pub(crate) async fn run(settings: &Settings) -> anyhow::Result<()> {
    let mut ratios = Vec::new();
    for round in 1..=settings.rounds {
        let (ours, theirs) = once(settings).await?;
        say(format_args!("round {round}: {ours:.0} events/s, SQLite {theirs:.0}"));
        ratios.push(ours / theirs);
    }
    report(settings, &serde_json::json!({ "read_of_sqlite": median(&ratios) }))
}
