//! `athena log`: the event log as people read it, of the store or of a file, and what is done to it as a whole.

use super::keys::restore;
use super::output::{Output, Style, escape, field, pretty};
use super::passphrase::Passphrase;
use super::retention::Retention;
use super::session::Session;
use super::{Done, written};
use crate::daemon::journal;
use crate::files::absolute;
use crate::filter::{Edge, Filter, edge};
use athena_actors::keys::Keyring;
use athena_actors::log::{Checkpoint, LogFile, VerifyReport, import_file, verify_file, verify_folder};
use athena_schemas::ports::Sealer;
use athena_schemas::refusal::{Code, Refusal};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Events asked for at once.
const PAGE: u64 = 1_000;

/// What a copy of the log with its keys means.
const WITH_KEYS: &str =
    "whoever has this copy and its passphrase reads everything in it, also what is erased here later";

/// Read the event log, copy it, carry it elsewhere
#[derive(Debug, clap::Args)]
pub(crate) struct Log {
    /// Read this file, as `log export FILE` writes it, instead of the store; nothing is written
    #[arg(long, value_name = "FILE", global = true)]
    file: Option<PathBuf>,
    #[command(flatten)]
    passphrase: Passphrase,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// The last events, and with -f those to come
    Tail(Tail),
    /// One event
    Show {
        /// Its position
        seq: u64,
    },
    /// What run records keep, what is due, and dropping it
    #[command(subcommand)]
    Retention(Retention),
    /// Counts, sizes and times
    Stats {
        #[command(flatten)]
        filter: Filter,
    },
    /// Check every hash and link; reads the files, so it needs no daemon and a damaged store can be looked at
    Verify {
        /// A checkpoint kept elsewhere, as `log checkpoint` prints it: shows a store that was rewritten or rolled back
        #[arg(long, value_name = "FILE")]
        checkpoint: Option<PathBuf>,
    },
    /// A signed statement of where the log stands, to keep elsewhere
    Checkpoint,
    /// Into a sealed file that opens read-only anywhere and comes back to the same hashes; without a file, every event opened, one a line
    Export(Export),
    /// Make this store's log out of a file; the store must be empty and its daemon stopped
    Import {
        /// The file, as `log export FILE` writes it
        from: PathBuf,
    },
    /// Copy the log into a folder while it is in use; the folder is a store, once it has the keys
    Backup {
        /// The folder
        folder: PathBuf,
        /// The keys go along, under a passphrase
        #[arg(long)]
        with_keys: bool,
    },
    /// Rewrite the log's files without what was replaced
    Compact,
    /// Events whose line contains a text
    Grep {
        /// The text
        text: String,
        #[command(flatten)]
        filter: Filter,
    },
}

#[derive(Debug, clap::Args)]
struct Tail {
    /// How many of the last events
    #[arg(short = 'n', default_value_t = 10)]
    count: u64,
    /// Go on with those to come
    #[arg(short, long)]
    follow: bool,
    #[command(flatten)]
    filter: Filter,
}

#[derive(Debug, clap::Args)]
struct Export {
    /// The file; it must not exist
    to: Option<PathBuf>,
    /// The keys go along, under a passphrase: whoever knows it can read the file
    #[arg(long, requires = "to")]
    with_keys: bool,
    /// What is chosen makes an excerpt, which is marked as one and cannot be imported
    #[command(flatten)]
    filter: Filter,
}

/// Where the log is read.
enum Source<'a> {
    Store(&'a Session),
    File { log: LogFile, keys: Option<Keyring> },
}

impl Source<'_> {
    async fn ask(&self, op: &str, params: Value) -> Result<Value, Refusal> {
        match self {
            Self::Store(session) => session.call(op, params).await,
            Self::File { log, keys } => {
                journal::read(op, params, log, keys.as_ref().map(|keys| keys as &dyn Sealer))
            }
        }
    }
}

impl Log {
    pub(crate) async fn run(self, session: &Session) -> Done {
        let file = self.file.as_deref();
        let of_the_store = |what: &str| match file {
            None => session.only_now(what),
            Some(_) => Err(Refusal::invalid(format!("{what} is the store's, not a file's")).at("--file")),
        };
        match self.command {
            Command::Verify { checkpoint } => return verify(session, file, checkpoint.as_deref()),
            Command::Checkpoint => {
                of_the_store("a new checkpoint")?;
                return written(session.out.json_line(&session.call("log/checkpoint", json!({})).await?));
            }
            Command::Export(Export { to: Some(to), with_keys, filter }) => {
                of_the_store("a new log file")?;
                return export(session, &to, with_keys.then_some(&self.passphrase), &filter).await;
            }
            Command::Import { from } => {
                of_the_store("what is imported")?;
                return import(session, &from, &self.passphrase);
            }
            Command::Backup { folder, with_keys } => {
                of_the_store("a backup")?;
                return backup(session, &folder, with_keys.then_some(&self.passphrase)).await;
            }
            Command::Retention(retention) => {
                of_the_store("retention")?;
                return retention.run(session).await;
            }
            Command::Compact => {
                of_the_store("compaction")?;
                return compact(session).await;
            }
            _ => {}
        }
        let source = match file {
            None => Source::Store(session),
            Some(file) => open(session, file, &self.passphrase)?,
        };
        match self.command {
            Command::Tail(tail) => tail.run(session, &source).await,
            Command::Show { seq } => show(session, &source, seq).await,
            Command::Stats { filter } => {
                let stats = source.ask("log/stats", params(session, &filter)?).await?;
                written(session.out.value(&stats, statistics))
            }
            Command::Grep { text, filter } => {
                let mut params = params(session, &filter)?;
                set(&mut params, "text", json!(text));
                let mut found = false;
                pages(&source, &mut params, |event| {
                    found = true;
                    line(&session.out, event)
                })
                .await?;
                if found { Ok(0) } else { Err(Refusal::not_found(format!("no event contains {text:?}"))) }
            }
            Command::Export(Export { filter, .. }) => {
                let mut params = params(session, &filter)?;
                pages(&source, &mut params, |event| session.out.json_line(event)).await
            }
            _ => Err(Refusal::internal("a command of the log was passed over")),
        }
    }
}

/// What to ask for; `--at` is where the log ends then.
fn params(session: &Session, filter: &Filter) -> Result<Value, Refusal> {
    let mut filter = filter.clone();
    if let (Some(at), None) = (&session.globals.at, filter.until) {
        filter.until = Some(match edge(at)? {
            Edge::Ms(at_ms) => Edge::Ms(at_ms.saturating_add(1)),
            seq @ Edge::Seq(_) => seq,
        });
    }
    Ok(json!({ "filter": filter }))
}

/// A file, checked as a whole; opened with its keys where the passphrase is known.
fn open(session: &Session, file: &Path, passphrase: &Passphrase) -> Result<Source<'static>, Refusal> {
    let mut bar = session.out.bar("checking");
    let log = LogFile::open(file, &mut |done, total| {
        bar.at(done, total);
        true
    })?;
    drop(bar);
    let keys = match log.keys() {
        None => None,
        Some(sealed) => match passphrase.find(session, false)? {
            Some(passphrase) => Some(Keyring::open(sealed, &passphrase)?),
            None => None,
        },
    };
    if let Some(excerpt) = &log.about().excerpt {
        session.out.note(&format!("an excerpt, not the whole log: {excerpt}"));
    }
    if keys.is_none() {
        let how = if log.keys().is_some() {
            "--passphrase-fd, or set ATHENA_PASSPHRASE"
        } else {
            "it came without keys"
        };
        session.out.note(&format!("what events say stays sealed ({how})"));
    }
    Ok(Source::File { log, keys })
}

/// Writes the log, or what is chosen of it, into a file.
async fn export(session: &Session, to: &Path, keys: Option<&Passphrase>, filter: &Filter) -> Done {
    let passphrase = keys.map(|passphrase| passphrase.need(session, true)).transpose()?;
    let params = json!({ "file": absolute(to)?, "filter": filter, "passphrase": passphrase });
    let done = session.work("exporting", "log/export", params).await?;
    if passphrase.is_some() {
        session.out.note(WITH_KEYS);
    }
    written(session.out.value(&done, |done| {
        let what = if done.get("excerpt") == Some(&json!(true)) { "an excerpt of " } else { "" };
        let keys = if done.get("keys") == Some(&json!(true)) {
            "with its keys, under the passphrase"
        } else {
            "sealed, without keys"
        };
        format!(
            "{what}{} events in {}, {} bytes, {keys}\nto read it: athena log --file {} tail",
            field(done, "/events"),
            field(done, "/file"),
            field(done, "/bytes"),
            to.display(),
        )
    }))
}

/// Makes the store's log out of a file. Read models and snapshots of an earlier log go with it: they are made anew.
fn import(session: &Session, from: &Path, passphrase: &Passphrase) -> Done {
    let store = &session.folders.store;
    std::fs::create_dir_all(store)
        .map_err(|error| Refusal::new(Code::Unavailable, format!("{}: {error}", store.display())))?;
    let mut bar = session.out.bar("importing");
    let imported = import_file(from, &store.join("log"), &mut |done, total| {
        bar.at(done, total);
        true
    })
    .map_err(|refusal| {
        if refusal.code == Code::Unavailable { refusal.hint("athena daemon stop") } else { refusal }
    })?;
    drop(bar);
    for name in ["views", "snapshots"] {
        // Where nothing is, nothing has to go.
        let _ = std::fs::remove_dir_all(store.join(name));
    }
    let said = json!({ "events": imported.head, "head": imported.head, "chain": imported.chain, "checkpoint": imported.checkpoint });
    written(
        session.out.value(&said, |_| format!("{} events, to position {}", imported.head, imported.head)),
    )?;
    let later = format!("athena keys restore {}", from.display());
    match &imported.keys {
        None => {
            session
                .out
                .note("the file holds no keys; before the log can be read: athena keys restore BACKUP");
            Ok(0)
        }
        Some(keys) => match passphrase.find(session, false)? {
            None => {
                session.out.note(&format!("its keys wait for their passphrase: {later}"));
                Ok(0)
            }
            Some(passphrase) => restore(session, keys, &passphrase, false).map_err(|refusal| {
                let hint = if refusal.hint.is_empty() { later } else { refusal.hint.clone() };
                Refusal {
                    message: format!("the log is here, its keys are not: {}", refusal.message),
                    ..refusal
                }
                .hint(hint)
            }),
        },
    }
}

async fn backup(session: &Session, folder: &Path, keys: Option<&Passphrase>) -> Done {
    let passphrase = keys.map(|passphrase| passphrase.need(session, true)).transpose()?;
    let params = json!({ "folder": absolute(folder)?, "passphrase": passphrase });
    let done = session.work("copying", "log/backup", params).await?;
    if passphrase.is_some() {
        session.out.note(WITH_KEYS);
    }
    written(session.out.value(&done, |done| {
        let folder = field(done, "/folder");
        let keys = if passphrase.is_some() { format!("{folder}/keys.backup") } else { "BACKUP".into() };
        format!(
            "{} events in {folder}, {} bytes\nto use it: athena --store {folder} keys restore {keys}",
            field(done, "/events"),
            field(done, "/bytes"),
        )
    }))
}

async fn compact(session: &Session) -> Done {
    let done = session.work("compacting", "log/compact", json!({})).await?;
    written(session.out.value(&done, |done| {
        format!("{} bytes before, {} after", field(done, "/before_bytes"), field(done, "/after_bytes"))
    }))
}

impl Tail {
    async fn run(self, session: &Session, source: &Source<'_>) -> Done {
        let stats = source.ask("log/read", json!({ "limit": 1, "after": u64::MAX })).await?;
        let head = stats.get("head").and_then(Value::as_u64).unwrap_or(0);
        let mut params = params(session, &self.filter)?;
        let mut last = Vec::new();
        let mut after = head;
        let mut span = self.count.max(1);
        // Where a choice thins the events out, look further back until there are enough.
        while last.len() < usize::try_from(self.count).unwrap_or(usize::MAX) && after > 0 {
            after = head.saturating_sub(span);
            set(&mut params, "after", json!(after));
            last.clear();
            collect(source, &mut params, &mut last).await?;
            span = span.saturating_mul(8);
        }
        let from = last.len().saturating_sub(usize::try_from(self.count).unwrap_or(usize::MAX));
        if !session.out.json && !session.out.plain {
            written(session.out.painted(&session.out.paint(Style::Bold, HEADER)))?;
        }
        for event in last.iter().skip(from) {
            written(line(&session.out, event))?;
        }
        if self.follow {
            let Source::Store(session) = source else {
                return Err(Refusal::invalid("a file has no events to come").at("--follow"));
            };
            set(&mut params, "after", json!(head));
            let mut events = session.client().await?.stream("log/follow", params).await?;
            while let Some(event) = events.next().await? {
                if line(&session.out, &event).is_err() {
                    return Ok(0);
                }
            }
        }
        Ok(0)
    }
}

/// Checks the log's files without opening it, or an exported file. A torn tail is not damage: it was never acknowledged.
fn verify(session: &Session, file: Option<&Path>, checkpoint: Option<&Path>) -> Done {
    session.only_now("what is checked")?;
    let checkpoint = checkpoint.map(kept_elsewhere).transpose()?;
    let (report, said) = match file {
        None => {
            let report = verify_folder(&session.folders.store.join("log"), checkpoint.as_ref())?;
            let said = serde_json::to_value(&report);
            (report, said)
        }
        Some(file) => {
            let mut bar = session.out.bar("checking");
            let checked = verify_file(file, checkpoint.as_ref(), &mut |done, total| {
                bar.at(done, total);
                true
            })?;
            let said = serde_json::to_value(&checked.report).map(|mut said| {
                set(&mut said, "file", json!(checked.head));
                set(&mut said, "checkpoint", json!(checked.checkpoint));
                set(&mut said, "keys", json!(checked.keys));
                said
            });
            (checked.report, said)
        }
    };
    let mut said = said.map_err(|e| Refusal::internal(e.to_string()))?;
    set(&mut said, "ok", json!(report.is_clean()));
    written(session.out.value(&said, |said| findings(&report, said)))?;
    Ok(if report.is_clean() { 0 } else { Code::Integrity.exit() })
}

fn findings(report: &VerifyReport, said: &Value) -> String {
    let mut text = format!("{} events, head {}", report.events, report.head);
    if report.dropped > 0 {
        text.push_str(&format!("\n{} of them without their payload, as is on record", report.dropped));
    }
    if report.torn_bytes > 0 {
        text.push_str(&format!(
            "\na torn tail of {} bytes, never acknowledged; the next start cuts it",
            report.torn_bytes
        ));
    }
    if let Some(key) = said.pointer("/checkpoint/key").and_then(Value::as_str) {
        text.push_str(&format!("\nsigned by {key}; compare it with the key you trust"));
    }
    for finding in &report.findings {
        text.push_str(&format!("\n{finding}"));
    }
    text.push_str(if report.is_clean() { "\nintact" } else { "\nDAMAGED: restore it from a backup" });
    text
}

/// A checkpoint as `log checkpoint` printed it.
fn kept_elsewhere(file: &Path) -> Result<Checkpoint, Refusal> {
    let wrong = |error: &dyn std::fmt::Display| {
        Refusal::invalid(format!("{} is no checkpoint: {error}", file.display()))
            .at("--checkpoint")
            .hint("athena log checkpoint > FILE")
    };
    let text = std::fs::read_to_string(file).map_err(|error| wrong(&error))?;
    serde_json::from_str(&text).map_err(|error| wrong(&error))
}

async fn show(session: &Session, source: &Source<'_>, seq: u64) -> Done {
    let none = || Refusal::not_found(format!("there is no event at position {seq}")).hint("athena log stats");
    let before = seq.checked_sub(1).ok_or_else(none)?;
    let page = source.ask("log/read", json!({ "after": before, "limit": 1 })).await?;
    let event = page.pointer("/events/0").filter(|event| event.get("seq") == Some(&json!(seq)));
    written(session.out.value(event.ok_or_else(none)?, pretty))
}

/// Every chosen event, page by page.
async fn pages(
    source: &Source<'_>,
    params: &mut Value,
    mut each: impl FnMut(&Value) -> std::io::Result<()>,
) -> Done {
    let mut after = 0;
    loop {
        set(params, "after", json!(after));
        set(params, "limit", json!(PAGE));
        let page = source.ask("log/read", params.clone()).await?;
        for event in page.get("events").and_then(Value::as_array).into_iter().flatten() {
            if each(event).is_err() {
                return Ok(0);
            }
        }
        let next = page.get("next").and_then(Value::as_u64).unwrap_or(after);
        let head = page.get("head").and_then(Value::as_u64).unwrap_or(next);
        if next <= after || next >= head {
            return Ok(0);
        }
        after = next;
    }
}

/// The chosen events after the position in `params`, all of them.
async fn collect(source: &Source<'_>, params: &mut Value, into: &mut Vec<Value>) -> Result<(), Refusal> {
    set(params, "limit", json!(PAGE));
    loop {
        let page = source.ask("log/read", params.clone()).await?;
        into.extend(page.get("events").and_then(Value::as_array).into_iter().flatten().cloned());
        let next = page.get("next").cloned().unwrap_or_default();
        if next.as_u64() >= page.get("head").and_then(Value::as_u64) || params.get("after") == Some(&next) {
            return Ok(());
        }
        set(params, "after", next);
    }
}

const HEADER: &str = "SEQ     TIME      TYPE                       ACTOR           SUMMARY";

/// One event as a line.
fn line(out: &Output, event: &Value) -> std::io::Result<()> {
    if out.json {
        return out.json_line(event);
    }
    let time = field(event, "/ts");
    let time = time.get(11..19).unwrap_or(&time);
    let cells = [
        field(event, "/seq"),
        time.into(),
        field(event, "/type"),
        field(event, "/actor/name"),
        summary(event),
    ];
    if out.plain {
        return out.text(&cells.join("\t"));
    }
    let [seq, time, kind, actor, summary] = cells.map(|cell| escape(&cell));
    out.painted(&format!(
        "{seq:<7} {} {} {actor:<15} {summary}",
        out.paint(Style::Dim, &format!("{time:<9}")),
        out.paint(Style::Name, &format!("{kind:<26}")),
    ))
}

/// What an event is about, in a few words: its text where it has one, else its fields.
fn summary(event: &Value) -> String {
    let data = event.get("data").unwrap_or(&Value::Null);
    let said = ["/content", "/title", "/text", "/code", "/reason", "/name", "/status", "/id"]
        .iter()
        .map(|path| field(data, path))
        .find(|text| !text.is_empty())
        .unwrap_or_else(|| data.to_string());
    let line = said.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(72) {
        Some((at, _)) => format!("{}…", line.get(..at).unwrap_or_default()),
        None => line,
    }
}

fn statistics(stats: &Value) -> String {
    let mut text = format!(
        "{} events, head {}, {} bytes of payload\nfrom {} to {}",
        field(stats, "/events"),
        field(stats, "/head"),
        field(stats, "/payload_bytes"),
        field(stats, "/first"),
        field(stats, "/last"),
    );
    for (kind, count) in stats.get("types").and_then(Value::as_object).into_iter().flatten() {
        let bytes =
            stats.get("payload_bytes_by_type").and_then(|sizes| sizes.get(kind)).unwrap_or(&Value::Null);
        text.push_str(&format!("\n{count:>9}  {kind:<32} {bytes:>12} bytes"));
    }
    text
}

fn set(params: &mut Value, name: &str, value: Value) {
    if let Some(object) = params.as_object_mut() {
        object.insert(name.to_owned(), value);
    }
}
