//! The demo: five proofs in a throw-away store, with two sample servers as real child processes. Nothing is claimed that is not
//! asserted, and no token is claimed that is not counted.

#![expect(clippy::indexing_slicing, reason = "indexing a JSON value answers null where there is nothing")]

mod direct;

use crate::config::Folders;
use crate::daemon::attach::{Attach, greeting};
use crate::daemon::protocol::{Hello, Mode};
use crate::daemon::{Client, Place};
use crate::mcp::{Profile, profile};
use crate::tokens;
use athena_actors::log::verify_folder;
use athena_schemas::context::Scope;
use athena_schemas::ports::Request;
use athena_schemas::refusal::Refusal;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use tokio::time::Instant;

/// The document that is moved.
pub(crate) const TRANSCRIPT: &str = "meetings/2026-11-12-product-council.md";
/// The customer whose file it is moved to.
pub(crate) const CUSTOMER: &str = "C-1001";
/// Her address, which nobody but her own server may see.
const ADDRESS: &str = "priya.raman@example.com";

/// Moves the document and remembers that it did.
const MOVE: &str = r#"const { content } = await callMCPTool("documents/read_document", { name: input.document });
await callMCPTool("customers/update_customer", { id: input.customer, note: content });
const kept = await athena.episodic.remember({
  content: `moved ${input.document} (${content.length} characters) to customer ${input.customer}`,
});
return { characters: content.length, memory: kept.id };"#;

/// Sends a message to an address that the code itself sees only as a token.
const SEND: &str = r#"const { customers } = await callMCPTool("customers/find_customers", { query: "Priya" });
const to = customers[0].email;
const sent = await callMCPTool("customers/send_message", { to, text: "The minutes are in your file." });
return { to, arrived: sent.known };"#;

/// What no agent should run.
const DANGEROUS: &str = r#"require("child_process").execSync("rm -rf / --no-preserve-root");"#;

/// A line of the demo.
pub(crate) enum Line {
    /// What comes next.
    Title(String),
    /// Something that happened: what, and how it looks.
    Shown(&'static str, String),
    /// Something that was asserted.
    Proof {
        /// What.
        what: String,
        /// Whether it holds.
        holds: bool,
    },
}

impl Line {
    /// The line for a program.
    pub(crate) fn json(&self) -> Value {
        match self {
            Self::Title(text) => json!({ "title": text }),
            Self::Shown(name, text) => json!({ "shown": name, "text": text }),
            Self::Proof { what, holds } => json!({ "proof": what, "holds": holds }),
        }
    }
}

/// Where the demo is played, and to whom.
pub(crate) struct Stage<'a> {
    /// Its store.
    pub(crate) folder: PathBuf,
    /// Who is told.
    pub(crate) tell: &'a mut (dyn FnMut(Line) -> Result<(), Refusal> + Send),
}

/// Plays it; answers whether each proof holds, and the seconds it took.
///
/// # Errors
/// When a part does not work at all.
pub(crate) async fn play(stage: Stage<'_>) -> Result<(Vec<bool>, f64), Refusal> {
    let begun = Instant::now();
    let folders = Folders::find(Some(stage.folder.clone()), |_| None)?;
    let place = Place::of(&folders)?;
    let program = std::env::current_exe().map_err(|e| Refusal::internal(e.to_string()))?;
    upstreams(&folders.config, &program)?;
    let attach = Attach::to(place);
    let hello = Hello { scope: Scope::project("demo"), client: "demo".into(), ..greeting(Mode::Calls) };
    let client = Client::new(attach.clone(), hello);
    let mut play = Play { client, stage, proofs: Vec::new() };
    let outcome = play.all(&program).await;
    // The daemon ends with the demo, whatever came of it.
    let _ = attach.greet(&greeting(Mode::Drain)).await;
    outcome?;
    Ok((play.proofs, begun.elapsed().as_secs_f64()))
}

/// The sample servers, as other people's servers are configured. Only one argument of one tool may see a real address.
fn upstreams(folder: &Path, program: &Path) -> Result<(), Refusal> {
    let config = json!({ "mcpServers": {
        "documents": { "command": program, "args": ["__sample", "documents"] },
        "customers": { "command": program, "args": ["__sample", "customers"], "reveal": ["send_message:to"] },
    }});
    std::fs::write(folder.join("upstreams.json"), config.to_string())
        .map_err(|e| Refusal::internal(format!("the demo's settings cannot be written: {e}")))
}

struct Play<'a> {
    client: Client,
    stage: Stage<'a>,
    proofs: Vec<bool>,
}

impl Play<'_> {
    async fn all(&mut self, program: &Path) -> Result<(), Refusal> {
        self.memory().await?;
        let run = self.code_mode(program).await?;
        self.privacy().await?;
        self.guard().await?;
        self.record(&run).await
    }

    async fn memory(&mut self) -> Result<(), Refusal> {
        self.title("1  Memory that lasts, and says where it comes from")?;
        let text = "we chose Postgres for the billing service, because the auditors know it";
        let kept = self.call("episodic/remember", json!({ "content": text, "type": "decision" })).await?;
        self.show("remember", format!("{text:?} → {} at position {}", kept["id"], kept["seq"]))?;
        let hits = self.call("rag/retrieve", json!({ "query": "which database does billing use?" })).await?;
        let hit = hits.get(0).cloned().unwrap_or_default();
        self.show("recall", format!("{} → {}", json!("which database does billing use?"), brief(&hit)))?;
        self.prove("the question finds it, though it shares hardly a word", hit["id"] == kept["id"])?;
        self.prove("with its source and its time", hit["prov"].is_object() && hit["item"]["time"].is_string())
    }

    /// The run whose record is replayed later.
    async fn code_mode(&mut self, program: &Path) -> Result<String, Refusal> {
        self.title("2  One run instead of a conversation full of data")?;
        let input = json!({ "document": TRANSCRIPT, "customer": CUSTOMER });
        let mut outcome = self.execute(MOVE, input).await?;
        for line in MOVE.lines() {
            self.show("code", line.to_owned())?;
        }
        // What one server said is about to go to another: a person is asked, here the one who watches the demo, and the run
        // goes on where it stood without making a call twice.
        if let (Some("approval_required"), Some(approval)) =
            (outcome["status"].as_str(), outcome["approval"].as_str().map(str::to_owned))
        {
            self.show("asked", answer(&outcome))?;
            self.call("approval/grant", json!({ "id": approval })).await?;
            outcome = self.call("run/resume", json!({ "run": outcome["run"] })).await?;
            self.show("approved", "by you; the run goes on where it stood".into())?;
        }
        self.show("answer", answer(&outcome))?;
        let direct = direct::cost(program).await?;
        let code = front() + tokens::count(MOVE) + tokens::count(&outcome.to_string());
        self.show(
            "direct",
            format!("{direct} tokens: the definitions of both servers, the document read, and written again"),
        )?;
        self.show("in code", format!("{code} tokens: Athena's four tools, the code, and its answer"))?;
        self.show("counted", "with OpenAI's o200k vocabulary, a stand-in for other tokenizers".into())?;
        let there = self.call("customers/find_customers", json!({ "query": "Priya" })).await?;
        let note = there["customers"][0]["notes"][0].as_str().unwrap_or_default().chars().count();
        let moved = outcome["value"]["characters"].as_u64().unwrap_or(0);
        self.prove(
            &format!("the document ({moved} characters) went from one server to the other"),
            moved > 10_000 && note > 10_000,
        )?;
        let memory = outcome["value"]["memory"].clone();
        let kept = match memory.as_str() {
            Some(id) => self.call("episodic/get", json!({ "id": id })).await?,
            None => Value::Null,
        };
        self.prove("and a memory of it was kept", kept["id"] == memory && memory.is_string())?;
        let saved = 100.0 * (1.0 - code as f64 / direct.max(1) as f64);
        self.prove(&format!("for {saved:.1}% fewer tokens than direct tool calls"), saved > 90.0)?;
        Ok(outcome["run"].as_str().unwrap_or_default().to_owned())
    }

    async fn privacy(&mut self) -> Result<(), Refusal> {
        self.title("3  Nobody sees an address but the server it is for")?;
        let outcome = self.execute(SEND, Value::Null).await?;
        self.show("code sees", outcome["value"]["to"].to_string())?;
        let to = outcome["value"]["to"].as_str().unwrap_or_default();
        self.prove("the code and the model see a token", to.starts_with("EMAIL_tk_"))?;
        self.prove("the server got the real address", outcome["value"]["arrived"] == json!(true))?;
        let kept = self
            .call("semantic/store", json!({ "content": format!("Priya reads mail at {ADDRESS}") }))
            .await?;
        let fact = self.call("semantic/get", json!({ "id": kept["id"] })).await?;
        self.show("remembered", fact["content"].to_string())?;
        let same = !to.is_empty() && fact["content"].as_str().is_some_and(|text| text.contains(to));
        self.prove("the same address is the same token everywhere", same)?;
        let folder = self.stage.folder.clone();
        let (files, leaks) = blocking(move || scan(&folder, ADDRESS)).await?;
        self.prove(&format!("and it stands in none of the store's {files} files"), files > 0 && leaks == 0)
    }

    async fn guard(&mut self) -> Result<(), Refusal> {
        self.title("4  Dangerous code does not run")?;
        let outcome = self.execute(DANGEROUS, Value::Null).await?;
        self.show("code", DANGEROUS.into())?;
        let reasons = outcome["risk"]["reasons"].as_array().cloned().unwrap_or_default();
        for reason in reasons.iter().take(3).filter_map(Value::as_str) {
            self.show("because", reason.into())?;
        }
        let status = outcome["status"].as_str().unwrap_or_default().to_owned();
        let held = matches!(status.as_str(), "denied" | "approval_required")
            && outcome["risk"]["level"] == "CRITICAL";
        self.prove(&format!("it was judged {} and {status}", outcome["risk"]["level"]), held)
    }

    async fn record(&mut self, run: &str) -> Result<(), Refusal> {
        self.title("5  Everything is on record, and the record holds")?;
        let replayed = self.call("run/replay", json!({ "run": run })).await?;
        self.show("replay", format!("{run}: {} calls", replayed["calls"]))?;
        self.prove(
            "the run of part 2, executed again offline, does the same",
            replayed["identical"] == json!(true),
        )?;
        let compared = self.call("log/compare", Value::Null).await?;
        let all = compared.as_array().cloned().unwrap_or_default();
        let equal = !all.is_empty() && all.iter().all(|it| it["equal"] == json!(true));
        self.prove(&format!("{} projections equal their selves rebuilt from the log", all.len()), equal)?;
        let log = self.stage.folder.join("log");
        let report = blocking(move || verify_folder(&log, None)).await??;
        self.show(
            "log",
            format!("{} events, chain {}", report.events, report.chain.get(..16).unwrap_or_default()),
        )?;
        self.prove(
            "every hash and link of the log is as it was written",
            report.is_clean() && report.events > 0,
        )
    }

    async fn call(&self, op: &str, params: Value) -> Result<Value, Refusal> {
        Ok(self.client.request(Request::new(op, params)).await?.value)
    }

    async fn execute(&self, code: &str, input: Value) -> Result<Value, Refusal> {
        let params = json!({ "code": code, "language": "typescript", "input": input });
        let outcome = self.call("run/execute", params).await?;
        if let Some(said) = outcome.pointer("/error/message").and_then(Value::as_str) {
            tracing::debug!(said, "a run of the demo did not complete");
        }
        Ok(outcome)
    }

    fn title(&mut self, text: &str) -> Result<(), Refusal> {
        (self.stage.tell)(Line::Title(text.into()))
    }

    fn show(&mut self, name: &'static str, text: String) -> Result<(), Refusal> {
        (self.stage.tell)(Line::Shown(name, text))
    }

    fn prove(&mut self, what: &str, holds: bool) -> Result<(), Refusal> {
        self.proofs.push(holds);
        (self.stage.tell)(Line::Proof { what: what.into(), holds })
    }
}

/// Tokens of Athena's own front: what a model pays before it does anything.
fn front() -> usize {
    direct::definitions(Profile::Default.tools()) + tokens::count(profile::instructions())
}

/// What a run answered: its value, or why it has none.
fn answer(outcome: &Value) -> String {
    match outcome.pointer("/error/message").and_then(Value::as_str) {
        Some(said) => format!("{}: {said}", outcome["status"]),
        None => outcome["value"].to_string(),
    }
}

fn brief(hit: &Value) -> String {
    let score = hit["score"].as_f64().unwrap_or(0.0);
    let source = hit["prov"]["actor"].as_str().or(hit["prov"]["source"].as_str()).unwrap_or("?");
    format!(
        "{:?} (score {score:.2}, by {source}, at {})",
        hit["item"]["content"].as_str().unwrap_or_default(),
        hit["item"]["time"]
    )
}

/// Files below a folder, and those among them in which `needle` stands.
fn scan(folder: &Path, needle: &str) -> (usize, usize) {
    let (mut files, mut found, mut folders) = (0, 0, vec![folder.to_path_buf()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(bytes) = std::fs::read(&path) {
                files += 1;
                found += usize::from(String::from_utf8_lossy(&bytes).contains(needle));
            }
        }
    }
    (files, found)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work).await.map_err(|e| Refusal::internal(e.to_string()))
}
