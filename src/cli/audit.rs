//! `athena audit`: who saw and did what, as a report to hand on.

use super::output::escape;
use super::session::{Session, when};
use super::{Done, written};
use athena_actors::log::{VerifyReport, verify_folder};
use athena_schemas::layers::common::time;
use athena_schemas::layers::meta::{AuditEntry, AuditReport, Concern, Deeds};
use athena_schemas::refusal::{Code, Refusal};
use serde::Serialize;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::path::PathBuf;

/// Who saw and did what
#[derive(Debug, clap::Args)]
pub(crate) struct Audit {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Authors, approvals, values given out, runs, broken bounds, other servers, erasures, and whether the log is intact
    Report(Report),
}

#[derive(Debug, clap::Args)]
struct Report {
    /// How it is written; --json is the same as json
    #[arg(long, value_enum, default_value_t = Format::Md)]
    format: Format,
    /// From this time on, such as 2026-11-20
    #[arg(long)]
    since: Option<String>,
    /// Before this time
    #[arg(long)]
    until: Option<String>,
    /// Only this author
    #[arg(long)]
    actor: Option<String>,
    /// Only this run
    #[arg(long)]
    run: Option<String>,
    /// At most so many entries, the newest
    #[arg(long, default_value_t = 1_000)]
    limit: u32,
    /// Into this file
    #[arg(short, long)]
    output: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// Markdown
    Md,
    /// One HTML page without scripts
    Html,
    /// JSON
    Json,
}

/// What the report says: the read model's answer, and what the log's files say of themselves.
#[derive(Serialize)]
struct Written {
    #[serde(flatten)]
    report: AuditReport,
    log: VerifyReport,
    intact: bool,
}

impl Audit {
    pub(crate) async fn run(self, session: &Session) -> Done {
        match self.command {
            Command::Report(report) => report.run(session).await,
        }
    }
}

impl Report {
    async fn run(self, session: &Session) -> Done {
        let moment = |text: &Option<String>| -> Result<Option<String>, Refusal> {
            text.as_deref().map(|text| when(text).map(|at_ms| time(at_ms as i64))).transpose()
        };
        let range = json!({ "from": moment(&self.since)?, "to": moment(&self.until)? });
        let params = json!({ "range": range, "actor": self.actor, "run": self.run, "limit": self.limit });
        let report: AuditReport = serde_json::from_value(session.call("meta/audit", params).await?)
            .map_err(|error| Refusal::internal(error.to_string()))?;
        let log = verify_folder(&session.folders.store.join("log"), None)?;
        let found = Written { report, intact: log.is_clean(), log };
        let text = match if session.out.json { Format::Json } else { self.format } {
            Format::Json => {
                serde_json::to_string(&found).map_err(|error| Refusal::internal(error.to_string()))?
            }
            Format::Md => markdown(&found),
            Format::Html => html(&found),
        };
        match &self.output {
            Some(file) => std::fs::write(file, text + "\n").map_err(|error| {
                Refusal::new(Code::Unavailable, format!("{} cannot be written: {error}", file.display()))
            })?,
            None => written(session.out.text(&text)).map(drop)?,
        }
        Ok(if found.intact { 0 } else { Code::Integrity.exit() })
    }
}

/// One section: a heading, the columns, the rows.
struct Section {
    title: String,
    columns: &'static [&'static str],
    rows: Vec<Vec<String>>,
}

/// The report as sections, whatever form they are then given.
fn sections(written: &Written) -> Vec<Section> {
    let report = &written.report;
    let authors = report.authors.iter().map(author).collect();
    let mut sections = vec![Section {
        title: "Who recorded what".into(),
        columns: &["author", "via", "events", "first", "last", "most often"],
        rows: authors,
    }];
    for (concern, count) in &report.concerns {
        let rows: Vec<Vec<String>> =
            report.entries.iter().filter(|entry| entry.concern == *concern).map(row).collect();
        let name = heading(*concern);
        let title = if rows.len() as u64 == *count {
            format!("{name}: {count}")
        } else {
            format!("{name}: the newest {} of {count}", rows.len())
        };
        sections.push(Section {
            title,
            columns: &["position", "time", "type", "author", "run", "what"],
            rows,
        });
    }
    sections
}

fn heading(concern: Concern) -> &'static str {
    match concern {
        Concern::Approval => "What people were asked",
        Concern::Disclosure => "Values given out",
        Concern::Run => "Runs",
        Concern::Violation => "Broken bounds",
        Concern::Upstream => "Other servers",
        Concern::Content => "Erased, undone, exported, imported",
    }
}

fn author(deeds: &Deeds) -> Vec<String> {
    let mut types: Vec<(&String, &u64)> = deeds.types.iter().collect();
    types.sort_by(|a, b| b.1.cmp(a.1));
    let often: Vec<String> = types.iter().take(4).map(|(kind, count)| format!("{kind} {count}")).collect();
    vec![
        format!("{} ({})", deeds.actor, word(&deeds.party)),
        word(&deeds.via),
        deeds.events.to_string(),
        deeds.first.clone(),
        deeds.last.clone(),
        often.join(", "),
    ]
}

fn row(entry: &AuditEntry) -> Vec<String> {
    vec![
        entry.seq.to_string(),
        entry.at.clone(),
        entry.kind.clone(),
        format!("{} ({})", entry.actor, word(&entry.party)),
        entry.run.as_ref().map_or_else(String::new, ToString::to_string),
        entry.text.clone(),
    ]
}

/// A unit variant as it is written in JSON.
fn word(value: &impl Serialize) -> String {
    serde_json::to_value(value).ok().as_ref().and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn state(written: &Written) -> String {
    let log = &written.log;
    let state = if written.intact {
        "every hash and link is as it was written"
    } else {
        "DAMAGED: `athena log verify` names the positions"
    };
    format!("{} events, head {}: {state}", log.events, log.head)
}

fn markdown(written: &Written) -> String {
    // What stands in a cell must not end it, nor begin anything else.
    let cell = |text: &String| escape(text).replace('|', "\\|").replace('<', "&lt;").replace('`', "\\`");
    let mut text = format!("# Audit report\n\nThe log: {}\n", state(written));
    for section in sections(written) {
        let rule = vec!["---"; section.columns.len()].join(" | ");
        let _ = write!(text, "\n## {}\n\n| {} |\n| {rule} |\n", section.title, section.columns.join(" | "));
        for row in &section.rows {
            let cells: Vec<String> = row.iter().map(cell).collect();
            let _ = writeln!(text, "| {} |", cells.join(" | "));
        }
    }
    text
}

fn html(written: &Written) -> String {
    let safe = |text: &str| {
        let mut out = String::with_capacity(text.len());
        for character in escape(text).chars() {
            match character {
                '&' => out.push_str("&amp;"),
                '<' => out.push_str("&lt;"),
                '>' => out.push_str("&gt;"),
                '"' => out.push_str("&quot;"),
                '\'' => out.push_str("&#39;"),
                other => out.push(other),
            }
        }
        out
    };
    let mut text = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Audit report</title>\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <style>body{{font:15px/1.5 system-ui;margin:2rem;color:#222}}table{{border-collapse:collapse;width:100%}}\
         th,td{{text-align:left;padding:.25rem .6rem;border-bottom:1px solid #ddd;vertical-align:top}}\
         th{{background:#f5f5f5}}</style></head>\n<body><h1>Audit report</h1>\n<p>The log: {}</p>\n",
        safe(&state(written))
    );
    for section in sections(written) {
        let heads: String = section.columns.iter().map(|column| format!("<th>{column}</th>")).collect();
        let _ = writeln!(text, "<h2>{}</h2>\n<table><tr>{heads}</tr>", safe(&section.title));
        for row in &section.rows {
            let cells: String = row.iter().map(|cell| format!("<td>{}</td>", safe(cell))).collect();
            let _ = writeln!(text, "<tr>{cells}</tr>");
        }
        text.push_str("</table>\n");
    }
    text.push_str("</body></html>");
    text
}
