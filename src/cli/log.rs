//! `athena log`: the event log as people read it.

use super::output::{Output, Style, escape, field, pretty};
use super::session::{Session, when};
use super::{Done, written};
use athena_actors::log::verify_folder;
use athena_schemas::refusal::{Code, Refusal};
use serde_json::{Value, json};

/// Events asked for at once.
const PAGE: u64 = 1_000;

/// Read the event log
#[derive(Debug, clap::Args)]
pub(crate) struct Log {
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
    /// Counts, sizes and times
    Stats,
    /// Check every hash and link; reads the files, so it needs no daemon and a damaged store can be looked at
    Verify,
    /// Every event with its opened payload, one a line, positions ascending
    Export {
        #[command(flatten)]
        select: Select,
    },
    /// Events whose line contains a text
    Grep {
        /// The text
        text: String,
        #[command(flatten)]
        select: Select,
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
    select: Select,
}

/// Which events.
#[derive(Debug, Default, clap::Args)]
struct Select {
    /// Whose type contains this, such as semantic.stored
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// Of this layer
    #[arg(long)]
    layer: Option<String>,
    /// By this author
    #[arg(long)]
    actor: Option<String>,
    /// Not before this time
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
}

impl Select {
    fn params(&self) -> Result<Value, Refusal> {
        Ok(json!({
            "type": self.kind, "layer": self.layer, "actor": self.actor,
            "since_ms": self.since.as_deref().map(when).transpose()?,
        }))
    }
}

impl Log {
    pub(crate) async fn run(self, session: &Session) -> Done {
        match self.command {
            Command::Tail(tail) => tail.run(session).await,
            Command::Show { seq } => show(session, seq).await,
            Command::Stats => {
                let stats = session.call("log/stats", Value::Null).await?;
                written(session.out.value(&stats, statistics))
            }
            Command::Verify => verify(session),
            Command::Export { select } => {
                let mut params = select.params()?;
                pages(session, &mut params, |event| session.out.json_line(event)).await
            }
            Command::Grep { text, select } => {
                let mut params = select.params()?;
                set(&mut params, "text", json!(text));
                let mut found = false;
                pages(session, &mut params, |event| {
                    found = true;
                    line(&session.out, event)
                })
                .await?;
                if found { Ok(0) } else { Err(Refusal::not_found(format!("no event contains {text:?}"))) }
            }
        }
    }
}

impl Tail {
    async fn run(self, session: &Session) -> Done {
        let stats = session.call("log/read", json!({ "limit": 1, "after": u64::MAX })).await?;
        let head = stats.get("head").and_then(Value::as_u64).unwrap_or(0);
        let mut params = self.select.params()?;
        let mut last = Vec::new();
        let mut after = head;
        let mut span = self.count.max(1);
        // Where a choice thins the events out, look further back until there are enough.
        while last.len() < usize::try_from(self.count).unwrap_or(usize::MAX) && after > 0 {
            after = head.saturating_sub(span);
            set(&mut params, "after", json!(after));
            last.clear();
            collect(session, &mut params, &mut last).await?;
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

/// Checks the log's files without opening it. A torn tail is not damage: it was never acknowledged.
fn verify(session: &Session) -> Done {
    let report = verify_folder(&session.folders.store.join("log"), None)?;
    let mut said = serde_json::to_value(&report).map_err(|e| Refusal::internal(e.to_string()))?;
    set(&mut said, "ok", json!(report.is_clean()));
    written(session.out.value(&said, |_| {
        let mut text = format!("{} events, head {}", report.events, report.head);
        if report.torn_bytes > 0 {
            text.push_str(&format!(
                "\na torn tail of {} bytes, never acknowledged; the next start cuts it",
                report.torn_bytes
            ));
        }
        for finding in &report.findings {
            match (finding.first, finding.last) {
                (Some(first), Some(last)) if first == last => text.push_str(&format!("\nposition {first}: ")),
                (Some(first), Some(last)) => text.push_str(&format!("\npositions {first} to {last}: ")),
                _ => text.push_str("\nthe log: "),
            }
            text.push_str(&finding.what);
        }
        text.push_str(if report.is_clean() { "\nintact" } else { "\nDAMAGED: restore it from a backup" });
        text
    }))?;
    Ok(if report.is_clean() { 0 } else { Code::Integrity.exit() })
}

async fn show(session: &Session, seq: u64) -> Done {
    let none = || Refusal::not_found(format!("there is no event at position {seq}")).hint("athena log stats");
    let before = seq.checked_sub(1).ok_or_else(none)?;
    let page = session.call("log/read", json!({ "after": before, "limit": 1 })).await?;
    let event = page.pointer("/events/0").filter(|event| event.get("seq") == Some(&json!(seq)));
    written(session.out.value(event.ok_or_else(none)?, pretty))
}

/// Every chosen event, page by page.
async fn pages(
    session: &Session,
    params: &mut Value,
    mut each: impl FnMut(&Value) -> std::io::Result<()>,
) -> Done {
    let mut after = 0;
    loop {
        set(params, "after", json!(after));
        set(params, "limit", json!(PAGE));
        let page = session.call("log/read", params.clone()).await?;
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
async fn collect(session: &Session, params: &mut Value, into: &mut Vec<Value>) -> Result<(), Refusal> {
    set(params, "limit", json!(PAGE));
    loop {
        let page = session.call("log/read", params.clone()).await?;
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
        text.push_str(&format!("\n{count:>9}  {kind}"));
    }
    text
}

fn set(params: &mut Value, name: &str, value: Value) {
    if let Some(object) = params.as_object_mut() {
        object.insert(name.to_owned(), value);
    }
}
