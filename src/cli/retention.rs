//! `athena log retention`: what run records keep, what is due, and dropping it.

use super::output::field;
use super::session::Session;
use super::{Done, written};
use serde_json::{Value, json};

/// What run records keep; the settings are `retention.run_days`, `run_bytes` and `pinned`
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Retention {
    /// The settings, and what is due by them
    Show,
    /// Drop what is due and give its room back to the disk. What it was stays on record; a run that loses its answers cannot be
    /// replayed any more
    Apply {
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
    },
}

impl Retention {
    pub(crate) async fn run(self, session: &Session) -> Done {
        let apply = matches!(self, Self::Apply { dry_run: false });
        let progress = session.out.progress("looking through the run records");
        let done = session.call("store/retain", json!({ "apply": apply })).await;
        progress.finish();
        written(session.out.value(&done?, told))
    }
}

fn told(done: &Value) -> String {
    let number = |name: &str| done.get(name).and_then(Value::as_u64).unwrap_or(0);
    let limit = |value: u64, unit: &str| match value {
        0 => "no limit".to_owned(),
        value => format!("{value} {unit}"),
    };
    let mut text = format!(
        "run records are kept for {}, and {} in all; they take {} bytes of answers and large texts\n\
         not due: {} runs that have not ended, {} pinned; {} were retired before\n",
        limit(number("run_days"), "days"),
        limit(number("run_bytes"), "bytes"),
        number("kept_bytes"),
        number("unfinished"),
        number("pinned"),
        number("retired"),
    );
    let (runs, events, bytes) = (number("runs"), number("events"), number("bytes"));
    if runs == 0 {
        text.push_str("nothing is due");
    } else if done.get("applied").and_then(Value::as_bool) == Some(true) {
        text.push_str(&format!(
            "retired: {runs} runs, {events} payloads, {bytes} bytes; on record at position {}",
            field(done, "/seq")
        ));
        if let Some(freed) = done.get("freed").and_then(Value::as_u64) {
            text.push_str(&format!("; the log's files are {freed} bytes smaller"));
        }
    } else {
        text.push_str(&format!(
            "due: {runs} runs, {events} payloads, {bytes} bytes (athena log retention apply)"
        ));
    }
    text
}
