//! `athena import` and `athena export`: memories in and out, as files people can read.

use super::output::field;
use super::session::{Session, when};
use super::{Done, written};
use athena_schemas::refusal::Refusal;
use serde_json::{Value, json};
use std::path::PathBuf;

/// Bring memories in from a file; doing it again adds nothing, and undo takes it back
#[derive(Debug, clap::Args)]
pub(crate) struct Import {
    /// The file
    file: PathBuf,
    /// Its form; told from the file, if not said
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Only count what would be added
    #[arg(long)]
    dry_run: bool,
}

/// Write memories to a file of the store's exports folder; sensitive values stay tokens
#[derive(Debug, clap::Args)]
pub(crate) struct Export {
    /// Its form
    #[arg(long, value_enum, default_value = "jsonl")]
    format: Format,
    /// Only episodes from this time on
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only episodes before this time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Copy it here too
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Format {
    /// One JSON object a line, as export writes it
    Jsonl,
    /// A list for people
    Markdown,
    /// The JSONL of @modelcontextprotocol/server-memory
    ServerMemory,
    /// The JSON of mem0
    Mem0,
}

impl Format {
    fn name(self) -> &'static str {
        match self {
            Self::Jsonl => "jsonl",
            Self::Markdown => "markdown",
            Self::ServerMemory => "server-memory",
            Self::Mem0 => "mem0",
        }
    }
}

impl Import {
    pub(crate) async fn run(self, session: &Session) -> Done {
        let path = std::fs::canonicalize(&self.file)
            .map_err(|error| Refusal::not_found(format!("{}: {error}", self.file.display())))?;
        let params = json!({"path": path, "format": self.format.map(Format::name), "dry_run": self.dry_run});
        let progress = session.out.progress("importing");
        let done = session.call("store/import", params).await?;
        progress.finish();
        written(session.out.value(&done, |done| {
            let verb = if self.dry_run { "would be added" } else { "added" };
            let mut text =
                format!("{} {verb}, {} known already", field(done, "/added"), field(done, "/deduped"));
            for line in done.get("rejected").and_then(Value::as_array).into_iter().flatten() {
                text.push_str(&format!("\nline {}: {}", field(line, "/line"), field(line, "/why")));
            }
            if let Some(seq) = done.get("seq").and_then(Value::as_u64) {
                text.push_str(&format!("\nto take it back: athena undo {seq}"));
            }
            text
        }))
    }
}

impl Export {
    pub(crate) async fn run(self, session: &Session) -> Done {
        let moment = |time: &Option<String>| -> Result<Option<String>, Refusal> {
            let at = time.as_deref().map(when).transpose()?;
            Ok(at.map(|ms| athena_schemas::layers::common::time(i64::try_from(ms).unwrap_or(i64::MAX))))
        };
        let (from, to) = (moment(&self.since)?, moment(&self.until)?);
        let mut params = json!({"format": self.format.name()});
        if let (true, Some(params)) = (from.is_some() || to.is_some(), params.as_object_mut()) {
            params.insert("range".into(), json!({"from": from, "to": to}));
        }
        let progress = session.out.progress("exporting");
        let done = session.call("store/export", params).await?;
        progress.finish();
        if let Some(to) = &self.to {
            std::fs::copy(field(&done, "/path"), to)
                .map_err(|error| Refusal::invalid(format!("{}: {error}", to.display())))?;
        }
        written(session.out.value(&done, |done| {
            let place = self.to.as_ref().map_or_else(|| field(done, "/path"), |to| to.display().to_string());
            format!("{} items in {place}", field(done, "/count"))
        }))
    }
}
