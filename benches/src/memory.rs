//! Memory as its callers meet it, in one process with a real store: taking memories in, remembering with fsync beside a bare
//! append, recall, consolidation, memory used, and building the read models anew.

use crate::log::{disk_bytes, median, say};
use crate::recall::{mixed, percentile, question, resident_mib, rounded, text};
use anyhow::{Context as _, ensure};
use athena::config::Config;
use athena::system::{Options, System};
use athena_schemas::context::{Caller, Channel, Party, Scope};
use athena_schemas::ports::{Request, Router};
use serde_json::{Value, json};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What this benchmark takes.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Settings {
    /// How many memories; several sizes one after the other.
    #[arg(long, value_delimiter = ',', default_value = "1000,100000")]
    pub memories: Vec<u64>,
    /// Recalls and single memories of each size.
    #[arg(long, default_value_t = 200)]
    pub calls: u64,
    /// The folder of a model; words alone without it.
    #[arg(long)]
    pub model: Option<PathBuf>,
    /// Where the files go: the disk that is measured.
    #[arg(long, default_value = ".")]
    pub dir: PathBuf,
    /// Ends with one JSON object on stdout.
    #[arg(long)]
    pub json: bool,
}

/// Runs it for every size.
pub(crate) async fn run(settings: &Settings) -> anyhow::Result<()> {
    let mut all = serde_json::Map::new();
    for memories in &settings.memories {
        let figures = one(settings, *memories).await?;
        say(format!("{memories} memories: {figures}"));
        all.insert(memories.to_string(), figures);
    }
    if settings.json {
        println!("{}", Value::Object(all));
    }
    Ok(())
}

struct House {
    system: System,
    router: Arc<dyn Router>,
    caller: Caller,
}

impl House {
    async fn open(model: Option<&Path>, folder: &Path) -> anyhow::Result<Self> {
        let mut config = Config::default();
        config.model.dir = model.map(Into::into);
        let options = Options { folder: Some(folder.into()), config, sandbox: false, ..Options::default() };
        let system = System::open(options).await.map_err(|refusal| anyhow::anyhow!("{refusal}"))?;
        let scope = Scope::project("bench");
        let caller = Caller {
            party: Party::Human,
            channel: Channel::Library,
            name: "bench".into(),
            holds: scope.clone(),
            scope,
            run: None,
        };
        Ok(Self { router: system.router(), system, caller })
    }

    async fn call(&self, op: &str, params: Value) -> anyhow::Result<Value> {
        let answer = self.router.call(&self.caller, Request::new(op, params)).await;
        Ok(answer.map_err(|refusal| anyhow::anyhow!("{op}: {refusal}"))?.value)
    }
}

async fn one(settings: &Settings, memories: u64) -> anyhow::Result<Value> {
    let folder = tempfile::Builder::new().prefix("athena-bench-").tempdir_in(&settings.dir)?;
    let store = folder.path().join("store");
    std::fs::create_dir_all(store.join("imports"))?;
    let files = write_exports(&store.join("imports"), memories)?;
    let house = House::open(settings.model.as_deref(), &store).await?;

    let begun = Instant::now();
    let mut added = 0;
    for file in files {
        let done = house.call("store/import", json!({"path": file})).await?;
        added += done["added"].as_u64().unwrap_or_default();
    }
    ensure!(added == memories, "{added} of {memories} were added");
    let acknowledged = begun.elapsed().as_secs_f64();
    ensure!(house.call("episodic/stats", json!({})).await?["count"] == json!(memories));
    let found_s = begun.elapsed().as_secs_f64();

    let (mut remembered, mut bare) = (Vec::new(), Vec::new());
    let mut file = std::fs::File::create(folder.path().join("bare"))?;
    for n in 0..settings.calls {
        let begun = Instant::now();
        file.write_all(&[n as u8; 256])?;
        file.sync_data()?;
        bare.push(begun.elapsed().as_secs_f64() * 1e3);
        let content = format!("one by one: {}", text(memories + n));
        let begun = Instant::now();
        house.call("episodic/remember", json!({"content": content})).await?;
        remembered.push(begun.elapsed().as_secs_f64() * 1e3);
    }

    let mut recalls = Vec::new();
    for n in 0..settings.calls {
        let query = question(n, memories).1;
        let begun = Instant::now();
        let hits = house.call("rag/retrieve", json!({"query": query, "limit": 10})).await?;
        recalls.push(begun.elapsed().as_secs_f64() * 1e3);
        ensure!(hits.as_array().is_some_and(|hits| !hits.is_empty()), "nothing was found");
    }
    let resident = resident_mib();
    say(format!("after the import: {}", crate::recall::memory_by_kind()));
    tokio::time::sleep(REST).await;
    let rested = resident_mib();
    say(format!("after a rest: {}", crate::recall::memory_by_kind()));

    let begun = Instant::now();
    let pass = house.call("consolidation/consolidate", json!({})).await?;
    let consolidated = begun.elapsed().as_secs_f64();
    let counts = pass["counts"].clone();

    let begun = Instant::now();
    house.call("store/rebuild", json!({})).await?;
    let rebuilt = begun.elapsed().as_secs_f64();
    house.system.shutdown().await;
    drop(house);
    let started = started_again(settings, &store)?;

    let (remember, append) = (median(&remembered), median(&bare));
    Ok(json!({
        "import_per_s": (memories as f64 / acknowledged).round(),
        "import_until_found_s": rounded(found_s),
        "remember_p50_ms": rounded(remember),
        "bare_append_p50_ms": rounded(append),
        "remember_of_bare": rounded(remember / append),
        "recall_p50_ms": rounded(median(&recalls)),
        "recall_p95_ms": rounded(percentile(&mut recalls, 0.95)),
        "resident_mib": resident.round(),
        "resident_after_a_rest_mib": rested.round(),
        "resident_started_again_mib": started,
        "consolidation_s": rounded(consolidated),
        "consolidation": counts,
        "rebuild_s": rounded(rebuilt),
        "disk_mib": (disk_bytes(&store)? as f64 / f64::from(1 << 20)).round(),
    }))
}

/// Memory of a process that opens the store and answers questions, as a daemon does after a restart.
fn started_again(settings: &Settings, store: &Path) -> anyhow::Result<Value> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("resident").arg(store);
    if let Some(model) = &settings.model {
        command.arg("--model").arg(model);
    }
    let output = command.stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "the process that opens the store again failed");
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// What that process does.
pub(crate) async fn resident(store: &Path, model: Option<&Path>) -> anyhow::Result<()> {
    let house = House::open(model, store).await?;
    let memories = house.call("episodic/stats", json!({})).await?["count"].as_u64().unwrap_or_default();
    for n in 0..100 {
        let query = question(n, memories).1;
        house.call("rag/retrieve", json!({"query": query, "limit": 10})).await?;
    }
    say(format!("of a process started again: {}", crate::recall::memory_by_kind()));
    println!("{}", resident_mib().round());
    house.system.shutdown().await;
    Ok(())
}

/// What an import leaves in memory is written out in the pause after it, within seconds.
const REST: Duration = Duration::from_secs(10);

/// Lines of one file.
const FILE: u64 = 100_000;

/// Files as `store/export` writes them: sessions of forty turns, questions and answers, some said twice.
fn write_exports(folder: &Path, memories: u64) -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for from in (0..memories).step_by(FILE as usize) {
        let name = format!("bench-{from}.jsonl");
        let mut file = std::io::BufWriter::new(std::fs::File::create(folder.join(&name))?);
        for n in from..memories.min(from + FILE) {
            let said = if n % 50 == 49 { n - 7 } else { n };
            let kind = ["question", "answer", "note", "answer", "error"][(mixed(n) % 5) as usize];
            let second = i64::try_from(n).context("too many memories")? * 60 + 1_700_000_000;
            let time = athena_schemas::layers::common::time(second * 1_000);
            let item = json!({"content": text(said), "type": kind, "time": time, "session": format!("session-{}", n / 40)});
            writeln!(file, "{}", json!({"layer": "episodic", "item": item}))?;
        }
        file.flush()?;
        names.push(name);
    }
    Ok(names)
}
