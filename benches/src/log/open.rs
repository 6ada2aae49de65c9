//! Opening a large store: after a clean close, and after its process was killed. The whole house, layers and read models
//! ready; and the log alone, killed with full journals. And what it takes on disk.

use super::read::fill;
use super::{Settings, bytes, disk_bytes, draft, house, median, report, say};
use athena_actors::log::{LogHandle, Mode, Options};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

/// Events a killed process adds to the store before its end: more than the journals hold.
const MORE: u64 = 150_000;

/// Memories a killed house adds before its end.
const REMEMBERED: u64 = 20_000;

fn options() -> Options {
    Options { mode: Mode::Buffer, ..Options::default() }
}

fn timed_open(path: &Path) -> anyhow::Result<(LogHandle, f64)> {
    let started = Instant::now();
    let (log, _) = LogHandle::open(path, options())?;
    Ok((log, started.elapsed().as_secs_f64()))
}

/// Measures and reports.
pub(crate) async fn run(settings: &Settings) -> anyhow::Result<()> {
    let folder = settings.folder()?;
    let path = folder.path().join("log");
    let (log, _) = LogHandle::open(path.clone(), options())?;
    fill(&log, 1, settings.events).await?;
    log.compact().await?;
    log.close().await?;
    let raw: usize = (1..=1000).map(|n| bytes(&draft(n)).map_or(0, |event| event.len())).sum();
    let bytes_of_raw = disk_bytes(&path)? as f64 / (raw as f64 / 1000.0 * settings.events as f64);
    let (mut clean, mut killed) = (Vec::new(), Vec::new());
    for round in 0..settings.rounds {
        let (log, seconds) = timed_open(&path)?;
        clean.push(seconds);
        let head = log.reader().head();
        log.close().await?;
        kill_after(&path, head + 1)?;
        let (log, seconds) = timed_open(&path)?;
        killed.push(seconds);
        anyhow::ensure!(log.reader().head() == head + MORE, "events are missing after the kill");
        log.close().await?;
        say(format_args!(
            "round {}: clean {:.3} s, after a kill {seconds:.3} s, {head} events",
            round + 1,
            clean[round]
        ));
    }
    let (house_clean, house_killed) = whole(settings).await?;
    report(
        settings,
        &serde_json::json!({
            "events": settings.events,
            "open_clean_s": house_clean,
            "open_killed_s": house_killed,
            "log_open_clean_s": median(&clean),
            "log_open_killed_s": median(&killed),
            "bytes_of_raw": bytes_of_raw,
        }),
    )
}

/// The same for a whole store.
async fn whole(settings: &Settings) -> anyhow::Result<(f64, f64)> {
    let folder = settings.folder()?;
    house::fill(folder.path(), settings.events).await?;
    let (system, seconds) = house::open(folder.path()).await?;
    say(format_args!("{} events folded and read models built in {seconds:.1} s", settings.events));
    system.shutdown().await;
    drop(system);
    let (mut clean, mut killed) = (Vec::new(), Vec::new());
    for round in 1..=settings.rounds {
        let (system, seconds) = house::open(folder.path()).await?;
        clean.push(seconds);
        system.shutdown().await;
        drop(system);
        house::kill_after(folder.path(), REMEMBERED)?;
        let (system, after_kill) = house::open(folder.path()).await?;
        killed.push(after_kill);
        system.shutdown().await;
        say(format_args!("round {round}: house clean {seconds:.3} s, after a kill {after_kill:.3} s"));
    }
    Ok((median(&clean), median(&killed)))
}

/// Starts this program again to append, and kills it once everything was acknowledged.
fn kill_after(path: &Path, from: u64) -> anyhow::Result<()> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["append-until-killed".as_ref(), path.as_os_str()])
        .arg(from.to_string())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    if let Some(stdout) = child.stdout.take() {
        BufReader::new(stdout).read_line(&mut line)?;
    }
    child.kill()?;
    child.wait()?;
    anyhow::ensure!(line.trim() == "done", "the child failed");
    Ok(())
}

/// What the child does.
pub(crate) async fn append_until_killed(path: &Path, from: u64) -> anyhow::Result<()> {
    let (log, _) = LogHandle::open(path, options())?;
    fill(&log, from, MORE).await?;
    let mut out = std::io::stdout();
    writeln!(out, "done")?;
    out.flush()?;
    std::future::pending::<()>().await;
    drop(log);
    Ok(())
}
