//! `athena privacy`: what counts as sensitive, and the vault behind the tokens.

use super::call::unreadable;
use super::output::{field, pretty};
use super::session::Session;
use super::{Done, written};
use athena_actors::privacy::detect;
use athena_schemas::refusal::Refusal;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};

/// Most bytes of a secret.
const KEPT_BYTES: usize = 64 << 10;

/// What counts as sensitive, and the vault behind the tokens
#[derive(Debug, clap::Args)]
pub(crate) struct Privacy {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Find personal data and secrets in a text; needs no store and keeps nothing
    Detect {
        /// The text
        #[arg(required_unless_present = "jsonl")]
        text: Option<String>,
        /// Read {"id", "text"} a line, answer {"id", "spans": [{"start", "end", "type"}]} a line; offsets in bytes
        #[arg(long, conflicts_with = "text")]
        jsonl: bool,
    },
    /// Show the values behind the tokens in a text; recorded before anything is shown
    Reveal {
        /// A token, or a text with tokens in it
        text: String,
        /// What for
        #[arg(long)]
        reason: String,
    },
    /// Keep a secret in the vault, read from standard input; answers the reference that settings name it by
    Keep,
    /// Count the vault's entries by type
    Stats,
}

/// A request on a line.
#[derive(Debug, Deserialize)]
struct Line {
    #[serde(default)]
    id: Value,
    text: String,
}

impl Privacy {
    pub(crate) async fn run(self, session: &Session) -> Done {
        match self.command {
            Command::Detect { text: Some(text), .. } => {
                let found = spans(&text);
                written(session.out.rows(&found, &["start", "end", "type"], |span| {
                    ["/start", "/end", "/type"].map(|path| field(span, path)).into()
                }))
            }
            Command::Detect { .. } => lines(session).await,
            Command::Reveal { text, reason } => {
                if !session.confirm("Show real values on this terminal?")? {
                    return Err(Refusal::new(athena_schemas::refusal::Code::Cancelled, "nothing was shown"));
                }
                let params = json!({ "text": text, "purpose": reason });
                let shown = session.call("privacy/reveal", params).await?;
                written(session.out.value(&shown, |shown| field(shown, "/text")))
            }
            Command::Keep => {
                let mut text = String::new();
                let most = u64::try_from(KEPT_BYTES).unwrap_or(u64::MAX);
                tokio::io::stdin().take(most).read_to_string(&mut text).await.map_err(unreadable)?;
                let kept = session.call("privacy/keep", json!({ "text": text.trim() })).await?;
                written(session.out.value(&kept, |kept| field(kept, "/reference")))
            }
            Command::Stats => {
                let counts = session.call("privacy/stats", json!({})).await?;
                written(session.out.value(&counts, pretty))
            }
        }
    }
}

async fn lines(session: &Session) -> Done {
    let mut input = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = input.next_line().await.map_err(unreadable)? {
        if line.trim().is_empty() {
            continue;
        }
        let Line { id, text } = serde_json::from_str(&line)
            .map_err(|e| Refusal::invalid(format!("not a request: {e}")).hint(r#"{"id": 1, "text": "…"}"#))?;
        let out = json!({ "id": id, "spans": spans(&text) });
        written(session.out.json_line(&out))?;
    }
    Ok(0)
}

/// What is sensitive in a text, byte offsets.
fn spans(text: &str) -> Vec<Value> {
    let found = detect(text);
    found.iter().map(|span| json!({ "start": span.start, "end": span.end, "type": span.kind })).collect()
}
