//! `athena guard assess`: what the guard thinks of code, without running it. Needs no store.
//!
//! The code is parsed in a disposable worker process, never here: deeply nested source takes its parser down with it.

use super::call::{stdin_text, unreadable};
use super::exec::Lang;
use super::output::field;
use super::session::Session;
use super::{Done, written};
use athena_actors::sandbox::spawn::Reexec;
use athena_actors::sandbox::{Sandbox, Settings, Worker};
use athena_schemas::refusal::{Code, Refusal};
use athena_schemas::wire::Language;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt, BufReader};

/// What the guard thinks of code, without running it
#[derive(Debug, clap::Args)]
pub(crate) struct Guard {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Judge code: level, reasons, and what it asks for
    Assess {
        /// The file with the code; - reads stdin
        #[arg(required_unless_present = "jsonl", value_name = "FILE|-")]
        file: Option<String>,
        /// Its language
        #[arg(long, value_enum, default_value = "ts")]
        lang: Lang,
        /// Read {"id", "lang", "code"} a line, answer {"id", "level", "reasons", "capabilities"} a line
        #[arg(long, conflicts_with = "file")]
        jsonl: bool,
    },
}

/// A request on a line.
#[derive(Debug, Deserialize)]
struct Line {
    #[serde(default)]
    id: Value,
    #[serde(default = "typescript")]
    lang: Language,
    code: String,
}

fn typescript() -> Language {
    Language::TypeScript
}

impl Guard {
    pub(crate) async fn run(self, session: &Session) -> Done {
        let Command::Assess { file, lang, .. } = self.command;
        let mut judge = Judge::new()?;
        match file.as_deref() {
            None => lines(session, &mut judge).await,
            Some(file) => {
                let code = match file {
                    "-" => stdin_text().await?,
                    file => tokio::fs::read_to_string(file).await.map_err(|e| match e.kind() {
                        std::io::ErrorKind::NotFound => {
                            Refusal::not_found(format!("there is no file {file}"))
                        }
                        _ => unreadable(e),
                    })?,
                };
                let judged = judge.assess(lang.language(), &code).await?;
                written(session.out.value(&judged, told))
            }
        }
    }
}

async fn lines(session: &Session, judge: &mut Judge) -> Done {
    let mut input = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = input.next_line().await.map_err(unreadable)? {
        if line.trim().is_empty() {
            continue;
        }
        let Line { id, lang, code } = serde_json::from_str(&line).map_err(|e| {
            Refusal::invalid(format!("not a request: {e}")).hint(r#"{"id": 1, "lang": "ts", "code": "…"}"#)
        })?;
        let mut judged = json!({ "id": id });
        if let (Some(all), Value::Object(rest)) = (judged.as_object_mut(), judge.assess(lang, &code).await?) {
            all.extend(rest);
        }
        written(session.out.json_line(&judged))?;
    }
    Ok(0)
}

/// Judges code in a worker that is kept as long as it lives.
struct Judge {
    sandbox: Sandbox,
    worker: Option<Worker>,
}

impl Judge {
    fn new() -> Result<Self, Refusal> {
        let spawn = Reexec::new(Vec::new())
            .map_err(|e| Refusal::new(Code::Unavailable, format!("the sandbox does not start: {e}")))?;
        Ok(Self { sandbox: Sandbox::new(Settings::default(), Arc::new(spawn)), worker: None })
    }

    /// The judgement. Code that takes the analysis down with it is CRITICAL: it would never be run.
    async fn assess(&mut self, language: Language, code: &str) -> Result<Value, Refusal> {
        let mut worker = match self.worker.take() {
            Some(worker) => worker,
            None => self.sandbox.worker().await?,
        };
        match worker.analyze(language, code).await {
            Ok(judged) => {
                self.worker = Some(worker);
                let reasons: Vec<String> =
                    judged.reasons.iter().map(|reason| reason.message.clone()).collect();
                Ok(json!({
                    "level": judged.level, "reasons": reasons, "capabilities": judged.capabilities,
                    "findings": judged.reasons, "syntax": judged.syntax,
                }))
            }
            Err(refusal) if refusal.code == Code::Denied => {
                Ok(json!({ "level": "CRITICAL", "reasons": [refusal.message], "capabilities": [] }))
            }
            Err(refusal) => Err(refusal),
        }
    }
}

fn told(judged: &Value) -> String {
    let mut text = field(judged, "/level");
    for finding in judged.get("findings").and_then(Value::as_array).into_iter().flatten() {
        text.push_str(&format!(
            "\n  {}  {} (line {}, column {})",
            field(finding, "/level"),
            field(finding, "/message"),
            field(finding, "/line"),
            field(finding, "/column"),
        ));
    }
    let asks: Vec<&str> = judged
        .get("capabilities")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    if !asks.is_empty() {
        text.push_str(&format!("\n  asks for {}", asks.join(", ")));
    }
    text
}
