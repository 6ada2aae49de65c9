//! Search beside SQLite's full-text index (FTS5) over the same memories: time of a recall, of taking memories in, memory used.
//!
//! The memories are made up: words by Zipf's law out of 50,000, two speakers, sessions of forty turns. A query is six words of one
//! memory, so that it has a right answer and the postings have their natural lengths.

use crate::log::median;
use athena_projections::search::{Ask, Search, embed};
use athena_schemas::context::{Caller, Context, Scope};
use athena_schemas::envelope::{Draft, Meta, Record};
use athena_schemas::id::{CommandId, Id};
use athena_schemas::layers::common::{Layer, Origin};
use athena_schemas::layers::episodic;
use athena_schemas::ports::{Projection, Recorded};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

/// Memories that the projector would bring at once.
const BATCH: usize = 512;
/// Different words.
const WORDS: u64 = 50_000;

/// What this benchmark takes.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Settings {
    /// How many memories; several sizes one after the other.
    #[arg(long, value_delimiter = ',', default_value = "10000,100000")]
    pub memories: Vec<u64>,
    /// Queries of each size.
    #[arg(long, default_value_t = 300)]
    pub queries: usize,
    /// The folder of a model; words alone without it.
    #[arg(long)]
    pub model: Option<PathBuf>,
    /// Where the files go.
    #[arg(long, default_value = ".")]
    pub dir: PathBuf,
    /// Also measure SQLite's FTS5.
    #[arg(long)]
    pub peers: bool,
    /// Ends with one JSON object on stdout.
    #[arg(long)]
    pub json: bool,
}

/// Runs it for every size.
pub(crate) fn run(settings: &Settings) -> anyhow::Result<()> {
    let mut all = serde_json::Map::new();
    for memories in &settings.memories {
        let figures = one(settings, *memories)?;
        eprintln!("{memories} memories: {figures}");
        all.insert(memories.to_string(), figures);
    }
    if settings.json {
        println!("{}", Value::Object(all));
    }
    Ok(())
}

fn one(settings: &Settings, memories: u64) -> anyhow::Result<Value> {
    let folder = tempfile::Builder::new().prefix("athena-bench-").tempdir_in(&settings.dir)?;
    let model = settings.model.as_deref().map(embed::open).transpose()?;
    let mut search = Search::open(Some(&folder.path().join("search")), model.clone())?;
    let before_mib = resident_mib();

    let start = Instant::now();
    let mut at = 0;
    while at < memories {
        let batch: Vec<Recorded> =
            (at..memories.min(at + BATCH as u64)).map(remembered).collect::<anyhow::Result<_>>()?;
        at += batch.len() as u64;
        search.apply(&batch)?;
    }
    search.flush()?;
    let taken_in = memories as f64 / start.elapsed().as_secs_f64();

    let scope = Scope::project("bench");
    let cx = Context::new(u64::from(u32::MAX) * 1_000, Caller::system(), scope, CommandId([0; 16]));
    let finder = search.finder();
    let mut times = Vec::with_capacity(settings.queries);
    let mut right = 0;
    for n in 0..settings.queries as u64 {
        let (wanted, query) = question(n, memories);
        let ask = Ask { layers: vec![Layer::Episodic], ..Ask::new(query) };
        let start = Instant::now();
        let found = finder.search(&cx, &ask)?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
        right += usize::from(found.iter().any(|hit| hit.id == id(wanted)));
    }
    let resident = resident_mib();
    drop((finder, search));
    let start = Instant::now();
    let reopened = Search::open(Some(&folder.path().join("search")), model)?;
    let reopen = start.elapsed().as_secs_f64();
    drop(reopened);

    let mut figures = json!({
        "recall_p50_ms": rounded(median(&times)),
        "recall_p95_ms": rounded(percentile(&mut times, 0.95)),
        "taken_in_per_s": taken_in.round(),
        "resident_mib": resident.round(),
        "resident_grown_mib": (resident - before_mib).round(),
        "reopen_s": rounded(reopen),
        "found_in_ten": rounded(right as f64 / settings.queries as f64),
    });
    if settings.peers {
        figures["sqlite_fts5"] = fts5(settings, memories)?;
    }
    Ok(figures)
}

/// The same memories and queries with SQLite's full-text index, in one transaction.
fn fts5(settings: &Settings, memories: u64) -> anyhow::Result<Value> {
    let folder = tempfile::Builder::new().prefix("athena-bench-").tempdir_in(&settings.dir)?;
    let mut db = rusqlite::Connection::open(folder.path().join("fts.db"))?;
    db.execute_batch("create virtual table memory using fts5(content, tokenize = 'porter unicode61')")?;
    let start = Instant::now();
    let transaction = db.transaction()?;
    {
        let mut insert = transaction.prepare("insert into memory (rowid, content) values (?1, ?2)")?;
        for n in 0..memories {
            insert.execute((n as i64, text(n)))?;
        }
    }
    transaction.commit()?;
    let taken_in = memories as f64 / start.elapsed().as_secs_f64();
    let mut select =
        db.prepare("select rowid from memory where memory match ?1 order by bm25(memory) limit 10")?;
    let mut times = Vec::with_capacity(settings.queries);
    for n in 0..settings.queries as u64 {
        let words = question(n, memories).1.replace(' ', " OR ");
        let start = Instant::now();
        let rows: Vec<i64> = select.query_map([words], |row| row.get(0))?.collect::<Result<_, _>>()?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
        anyhow::ensure!(!rows.is_empty(), "FTS5 finds nothing");
    }
    Ok(json!({
        "recall_p50_ms": rounded(median(&times)),
        "recall_p95_ms": rounded(percentile(&mut times, 0.95)),
        "taken_in_per_s": taken_in.round(),
    }))
}

fn id(n: u64) -> Id {
    Id::new("ep", n, u128::from(n))
}

pub(crate) fn mixed(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Word `k` of memory `n`: rank by Zipf's law, whose logarithm is uniform.
fn word(n: u64, k: u64) -> String {
    let uniform = mixed(n.wrapping_mul(64).wrapping_add(k)) as f64 / u64::MAX as f64;
    let rank = (WORDS as f64).powf(uniform) as u64;
    let mut letters = mixed(rank);
    let syllables = 1 + rank.max(1).ilog10() as usize;
    (0..=syllables)
        .flat_map(|_| {
            let (consonant, vowel) =
                (b"bdfgklmnprstvz"[(letters % 14) as usize], b"aeiou"[(letters / 14 % 5) as usize]);
            letters /= 70;
            [char::from(consonant), char::from(vowel)]
        })
        .collect()
}

pub(crate) fn text(n: u64) -> String {
    let length = 8 + mixed(n) % 24;
    let words: Vec<String> = (0..length).map(|k| word(n, k)).collect();
    format!("{}: {}", if n.is_multiple_of(2) { "Ann" } else { "Bob" }, words.join(" "))
}

/// A query of six words of one memory, and which.
pub(crate) fn question(n: u64, memories: u64) -> (u64, String) {
    let wanted = mixed(n + 7) % memories;
    (wanted, (0..6).map(|k| word(wanted, k)).collect::<Vec<_>>().join(" "))
}

fn remembered(n: u64) -> anyhow::Result<Recorded> {
    let event = episodic::Event::from(episodic::Remembered {
        id: id(n),
        content: text(n),
        kind: "message".into(),
        time_ms: n as i64 * 1_000,
        session: Some(format!("session-{}", n / 40)),
        outcome: None,
        importance: 500,
        tags: Vec::new(),
        meta: String::new(),
        origin: Origin::default(),
        untrusted: false,
    });
    let seq = n + 1;
    let command = CommandId(u128::from(seq).to_le_bytes());
    let cx = Context::new(seq, Caller::system(), Scope::project("bench"), command);
    let draft = Draft::of("episodic", command.event(0), Meta::of(&cx), &event, None)?;
    let record = Record { seq, version: seq, draft, leaf: [0; 32], chain: [0; 32] };
    Ok(Recorded { record: Arc::new(record), event: Some(event.into()) })
}

pub(crate) fn percentile(times: &mut [f64], part: f64) -> f64 {
    times.sort_by(f64::total_cmp);
    times[((times.len() - 1) as f64 * part).round() as usize]
}

pub(crate) fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

/// What the kernel says of this process's memory: its own pages, pages of files, and both at their most.
pub(crate) fn memory_by_kind() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kinds = ["RssAnon:", "RssFile:", "VmHWM:"];
    let lines = status.lines().filter(|line| kinds.iter().any(|kind| line.starts_with(kind)));
    lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>().join(", ")
}

/// Memory of this process in use, MiB; 0 where the system does not say.
pub(crate) fn resident_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}
