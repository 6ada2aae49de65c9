//! Runs through the whole house: what a caller of `run/execute` waits for, in one process; and what an MCP client waits for,
//! beside a peer ([`front`]).

mod front;

pub(crate) use front::beside;

use anyhow::{Context as _, ensure};
use athena::config::Config;
use athena::system::{Options, System};
use athena_schemas::context::{Caller, Channel, Party, Scope};
use athena_schemas::ports::{Request, Router};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Some measures take a fifth of the runs.
const FEWEST: usize = 5;

/// What this benchmark takes.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Settings {
    /// Runs of each latency measurement.
    #[arg(long, default_value_t = 300)]
    pub runs: usize,
    /// Runs in a row, to see what grows.
    #[arg(long, default_value_t = 10_000)]
    pub row: usize,
    /// After how many of these its memory is noted.
    #[arg(long, default_value_t = 2_000)]
    pub sample: usize,
    /// Nothing but the runs in a row.
    #[arg(long)]
    pub row_only: bool,
    /// Runs at once.
    #[arg(long, default_value_t = 64)]
    pub concurrent: usize,
    /// The athena binary for what is measured through an MCP client [default: the one beside this]
    #[arg(long, value_name = "PATH")]
    pub athena: Option<std::path::PathBuf>,
    /// A Python with `fastmcp[code-mode]`: the peer, measured in the same run.
    #[arg(long, value_name = "PYTHON")]
    pub peers: Option<std::path::PathBuf>,
    /// Ends with one JSON object on stdout.
    #[arg(long)]
    pub json: bool,
}

/// Targets, beside which each figure stands.
const TARGETS: &[(&str, f64)] = &[
    ("mcp_one_plus_one_p50_ms", 1.5),
    ("mcp_one_plus_one_p95_ms", 6.0),
    ("mcp_upstream_ten_p50_ms", 9.0),
    ("engine_js_p50_ms", 1.0),
    ("engine_python_p50_ms", 1.0),
    ("cold_p50_ms", 5.0),
    ("host_call_p50_us", 100.0),
    ("overrun_ordinary_ms", 20.0),
    ("overrun_builtin_ms", 100.0),
    ("overrun_python_ms", 20.0),
    ("overrun_big_integers_ms", 100.0),
    ("idle_worker_mb", 2.0),
];

/// Measures and prints.
pub(crate) async fn run(settings: &Settings) -> anyhow::Result<()> {
    ensure!(settings.runs >= FEWEST, "--runs: at least {FEWEST}, or some measures have none");
    let mut figures = serde_json::Map::new();
    let mut note = |name: &str, value: f64| {
        let target = TARGETS.iter().find(|(target, _)| *target == name);
        let beside = target.map(|(_, most)| format!("  (at most {most})")).unwrap_or_default();
        eprintln!("{name:>28} {value:>10.3}{beside}");
        figures.insert(name.into(), json!((value * 1000.0).round() / 1000.0));
    };

    if settings.row_only {
        let house = House::open(4).await?;
        house.in_a_row(settings, &mut note).await?;
        house.close().await?;
        if settings.json {
            println!("{}", Value::Object(figures));
        }
        return Ok(());
    }
    let athena = settings.athena.clone().map_or_else(front::beside, Ok)?;
    front::measure(settings.runs, &athena, settings.peers.as_deref(), &mut note)?;

    let house = House::open(4).await?;
    house.execute("1 + 1").await?;
    let (mut wall, mut engine, mut python) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..settings.runs {
        house.rest().await;
        let begun = Instant::now();
        let outcome = house.execute("1 + 1").await?;
        wall.push(ms(begun.elapsed()));
        ensure!(outcome["value"] == json!(2), "{outcome}");
        engine.push(outcome["metrics"]["worker_us"].as_f64().context("worker_us")? / 1e3);
        house.rest().await;
        let outcome = house.ask(json!({"code": "1 + 1", "language": "py"})).await?;
        ensure!(outcome["value"] == json!(2), "{outcome}");
        python.push(outcome["metrics"]["worker_us"].as_f64().context("worker_us")? / 1e3);
    }
    note("one_plus_one_p50_ms", at(&mut wall, 50));
    note("one_plus_one_p95_ms", at(&mut wall, 95));
    note("engine_js_p50_ms", at(&mut engine, 50));
    note("engine_python_p50_ms", at(&mut python, 50));

    let calls = 200;
    let code = format!(
        "let r; for (let i = 0; i < {calls}; i++) r = await athena.semantic.search({{query: 'kettle'}}); return r.length"
    );
    let mut each = Vec::new();
    for _ in 0..(settings.runs / 20).max(5) {
        house.rest().await;
        let outcome = house.execute(&code).await?;
        ensure!(outcome["status"] == "completed", "{outcome}");
        each.push(outcome["metrics"]["worker_us"].as_f64().context("worker_us")? / f64::from(calls));
    }
    note("host_call_p50_us", at(&mut each, 50));

    for (name, language, code) in
        // Sizes come from the input, so that the guard lets them pass and the clocks have to stop them.
        [
            ("overrun_ordinary_ms", "js", "let n = 0; while (n < input) n += 0.001; return n"),
            ("overrun_builtin_ms", "js", "return Array(input).join('x').length"),
            ("overrun_python_ms", "py", "n = 0\nwhile n < input:\n    n += 0.0001\nn"),
            // One power that takes longer than there is time, and less memory than there is.
            ("overrun_big_integers_ms", "py", "x = 3 ** (input // 27)\nx % 7"),
            ("overrun_cpython_ms", "py", "import random\nx = input\nwhile x:\n    x = x * x\n"),
        ]
    {
        let mut over = Vec::new();
        for _ in 0..10 {
            house.rest().await;
            let params =
                json!({"code": code, "language": language, "input": 1_u64 << 29, "limits": {"wall_ms": 100}});
            let outcome = house.ask(params).await?;
            // What the code had, without the making of its worker.
            over.push(outcome["metrics"]["worker_us"].as_f64().context("worker_us")? / 1e3 - 100.0);
            // Numbers that double their length may fill the heap first; that is an end within bounds as well.
            ensure!(["timed_out", "out_of_memory"].iter().any(|end| outcome["status"] == *end), "{outcome}");
        }
        note(name, at(&mut over, 50));
        note(&format!("{}_worst_ms", name.trim_end_matches("_ms")), at(&mut over, 100));
    }

    let (rate, errors) = house.at_once(settings.concurrent, settings.concurrent * 20).await?;
    note("concurrent_runs_per_s", rate);
    note("concurrent_errors", errors as f64);

    house.in_a_row(settings, &mut note).await?;
    house.close().await?;

    let cold = House::open(0).await?;
    let mut wall = Vec::new();
    for _ in 0..settings.runs / 4 {
        let begun = Instant::now();
        cold.execute("1 + 1").await?;
        wall.push(ms(begun.elapsed()));
    }
    note("cold_p50_ms", at(&mut wall, 50));
    cold.close().await?;

    let many = 64;
    let warm = House::open(many).await?;
    warm.execute("1 + 1").await?;
    let mut idle = House::idle_workers()?;
    let patience = Instant::now() + Duration::from_secs(30);
    // One of them is the process they are copies of.
    while idle.len() <= many && Instant::now() < patience {
        warm.rest().await;
        idle = House::idle_workers()?;
    }
    note("idle_workers", idle.len() as f64);
    note("idle_worker_mb", idle.iter().sum::<u64>() as f64 / 1024.0 / idle.len().max(1) as f64);
    warm.close().await?;

    if settings.json {
        println!("{}", Value::Object(figures));
    }
    Ok(())
}

/// A store in a temporary folder, and somebody who asks.
struct House {
    system: System,
    router: Arc<dyn Router>,
    caller: Caller,
    _folder: tempfile::TempDir,
}

/// What a process holds.
struct Usage {
    rss_kb: u64,
    /// Of that, what is not a file's.
    anonymous_kb: u64,
    descriptors: usize,
    zombies: usize,
}

impl House {
    async fn open(warm: usize) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut config = Config::default();
        config.sandbox.warm = warm;
        let options = Options { folder: Some(folder.path().into()), config, ..Options::default() };
        let system = System::open(options).await?;
        let scope = Scope::project("bench");
        let caller = Caller {
            party: Party::Agent,
            channel: Channel::Library,
            name: "bench".into(),
            holds: scope.clone(),
            scope,
            run: None,
        };
        Ok(Self { router: system.router(), system, caller, _folder: folder })
    }

    async fn ask(&self, params: Value) -> anyhow::Result<Value> {
        Ok(self.router.call(&self.caller, Request::new("run/execute", params)).await?.value)
    }

    async fn execute(&self, code: &str) -> anyhow::Result<Value> {
        self.ask(json!({"code": code, "language": "js"})).await
    }

    /// Lets the pool refill: a caller that types is slower than that.
    async fn rest(&self) {
        tokio::time::sleep(Duration::from_millis(15)).await;
    }

    async fn at_once(&self, width: usize, runs: usize) -> anyhow::Result<(f64, usize)> {
        let begun = Instant::now();
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..width {
            let (router, caller) = (self.router.clone(), self.caller.clone());
            tasks.spawn(async move {
                let mut errors = 0;
                for n in 0..runs / width {
                    let params = json!({"code": format!("return {n} + 1"), "language": "js"});
                    let outcome = router.call(&caller, Request::new("run/execute", params)).await;
                    errors += usize::from(!outcome.is_ok_and(|answer| answer.value["value"] == json!(n + 1)));
                }
                errors
            });
        }
        let mut errors = 0;
        while let Some(failed) = tasks.join_next().await {
            errors += failed?;
        }
        Ok((runs as f64 / begun.elapsed().as_secs_f64(), errors))
    }

    /// Many runs, one after the other: what the process holds on the way, and more at the end than at the beginning.
    async fn in_a_row(&self, settings: &Settings, mut note: impl FnMut(&str, f64)) -> anyhow::Result<()> {
        self.execute("return 'hello'").await?;
        let before = Self::usage()?;
        for n in 1..=settings.row {
            let outcome = self.execute("return 'hello'").await?;
            ensure!(outcome["value"] == "hello", "run {n}: {outcome}");
            if n.is_multiple_of(settings.sample.max(1)) {
                let now = Self::usage()?;
                note(&format!("row_{n}_rss_mb"), now.rss_kb as f64 / 1024.0);
                note(&format!("row_{n}_anonymous_mb"), now.anonymous_kb as f64 / 1024.0);
            }
        }
        self.rest().await;
        let after = Self::usage()?;
        let growth = |after: u64, before: u64| (after as f64 - before as f64) / 1024.0;
        note("row_rss_growth_mb", growth(after.rss_kb, before.rss_kb));
        note("row_anonymous_growth_mb", growth(after.anonymous_kb, before.anonymous_kb));
        note("row_descriptors_growth", after.descriptors as f64 - before.descriptors as f64);
        note("row_zombies", after.zombies as f64);
        Ok(())
    }

    fn usage() -> anyhow::Result<Usage> {
        let status = std::fs::read_to_string("/proc/self/status")?;
        let kb = |name: &str| -> anyhow::Result<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            Ok(line.with_context(|| name.to_owned())?.trim().trim_end_matches(" kB").parse()?)
        };
        let me = std::process::id().to_string();
        let zombies = std::fs::read_dir("/proc")?
            .flatten()
            .filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok())
            .filter_map(|stat| stat.rsplit_once(") ").map(|(_, rest)| rest.to_owned()))
            .filter(|rest| rest.starts_with(&format!("Z {me} ")))
            .count();
        Ok(Usage {
            rss_kb: kb("VmRSS")?,
            anonymous_kb: kb("RssAnon")?,
            descriptors: std::fs::read_dir("/proc/self/fd")?.count(),
            zombies,
        })
    }

    /// The share of memory of each worker process, KiB.
    fn idle_workers() -> anyhow::Result<Vec<u64>> {
        let own = std::process::id().to_string();
        let shares = std::fs::read_dir("/proc")?.flatten().filter_map(|entry| {
            let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
            let parent = stat.rsplit_once(") ")?.1.split(' ').nth(1)?.to_owned();
            let rollup = std::fs::read_to_string(entry.path().join("smaps_rollup")).ok()?;
            let share = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
            (parent == own).then(|| share.trim().trim_end_matches(" kB").parse().ok())?
        });
        Ok(shares.collect())
    }

    async fn close(self) -> anyhow::Result<()> {
        drop(self.router);
        self.system.shutdown().await;
        Ok(())
    }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The percentile.
fn at(values: &mut [f64], percent: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    values[(values.len() * percent / 100).min(values.len() - 1)]
}
