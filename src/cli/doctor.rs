//! `athena doctor`: everything tried once, for real: writes, finds, runs code, verifies, forgets. What the store's other servers
//! and clients do is not tried but told.

use super::Done;
use super::output::{Style, escape, field};
use super::session::Session;
use crate::daemon::protocol::Mode;
use athena_actors::log::verify_folder;
use athena_schemas::context::Scope;
use athena_schemas::ports::Request;
use athena_schemas::refusal::{Code, Refusal};
use serde_json::{Value, json};

/// Try everything once, for real, and say what is wrong
#[derive(Debug, clap::Args)]
pub(crate) struct Doctor {}

/// One thing that was tried.
struct Finding {
    what: &'static str,
    outcome: Result<String, Refusal>,
}

/// The project that the doctor works in, so that nobody's memory is touched.
const PROJECT: &str = "athena-doctor";

impl Doctor {
    pub(crate) async fn run(self, session: &Session) -> Done {
        let mut findings = vec![
            Finding { what: "settings", outcome: session.config().map(|_| "readable".into()) },
            Finding { what: "daemon", outcome: daemon(session).await },
        ];
        if findings.iter().all(|finding| finding.outcome.is_ok()) {
            findings.extend(round_trip(session).await);
            findings.push(Finding { what: "keys", outcome: keys(session).await });
            findings.push(Finding { what: "other servers", outcome: upstreams(session).await });
            findings.push(Finding { what: "older names", outcome: older_names(session).await });
        }
        findings.push(Finding { what: "log verified", outcome: log(session) });
        let mut worst = 0;
        for finding in &findings {
            if let Err(refusal) = &finding.outcome {
                worst = worst.max(refusal.code.exit());
            }
            super::written(show(session, finding))?;
        }
        Ok(worst)
    }
}

fn show(session: &Session, finding: &Finding) -> std::io::Result<()> {
    let out = &session.out;
    if out.json {
        return out.json_line(&match &finding.outcome {
            Ok(detail) => json!({ "check": finding.what, "ok": true, "detail": detail }),
            Err(refusal) => json!({ "check": finding.what, "ok": false, "error": refusal }),
        });
    }
    let name = format!("{:<18}", finding.what);
    out.painted(&match &finding.outcome {
        Ok(detail) => format!("{} {name} {}", out.paint(Style::Good, "ok  "), escape(detail)),
        Err(refusal) => {
            let hint = if refusal.hint.is_empty() {
                String::new()
            } else {
                format!("\n       try: {}", refusal.hint)
            };
            format!("{} {name} {}{}", out.paint(Style::Bad, "FAIL"), escape(&refusal.message), escape(&hint))
        }
    })
}

async fn daemon(session: &Session) -> Result<String, Refusal> {
    session
        .client()
        .await?
        .request(Request::new("log/read", json!({ "limit": 1, "after": u64::MAX })))
        .await?;
    let attached =
        session.attach()?.greet(&session.hello(Mode::Status)).await.map_err(|e| {
            Refusal::new(Code::Unavailable, format!("the daemon does not say how it is: {e}"))
        })?;
    Ok(format!("process {}, version {}", attached.welcome.pid, attached.welcome.version))
}

/// Writes, finds, runs code, replays it, and forgets again.
async fn round_trip(session: &Session) -> Vec<Finding> {
    let word = format!("doctor{}", crate::daemon::client::random_name());
    let kept =
        call(session, "episodic/remember", json!({ "content": format!("a check called {word}") })).await;
    let id = kept.as_ref().map(|ack| field(ack, "/id")).unwrap_or_default();
    let mut findings = vec![Finding {
        what: "writes",
        outcome: kept.map(|ack| format!("position {}", field(&ack, "/seq"))),
    }];

    let found = call(session, "rag/retrieve", json!({ "query": word, "limit": 3 })).await;
    findings
        .push(Finding { what: "finds what it wrote", outcome: found.and_then(|hits| contains(&hits, &id)) });

    let code = "const sum = [1, 2, 3].reduce((a, b) => a + b, 0); return sum;";
    let ran = call(session, "run/execute", json!({ "code": code, "language": "typescript" })).await;
    let run = ran.as_ref().map(|outcome| field(outcome, "/run")).unwrap_or_default();
    findings.push(Finding { what: "runs code", outcome: ran.and_then(|outcome| six(&outcome)) });

    if !run.is_empty() {
        let replayed = call(session, "run/replay", json!({ "run": run })).await;
        findings.push(Finding {
            what: "replays the run",
            outcome: replayed.and_then(|replayed| identical(&replayed)),
        });
    }
    let text = "mail ada.lovelace@example.com about it";
    let masked = call(session, "episodic/remember", json!({ "content": text })).await;
    let masked_id = masked.as_ref().map(|ack| field(ack, "/id")).unwrap_or_default();
    let outcome = match masked {
        Ok(_) => call(session, "episodic/get", json!({ "id": masked_id }))
            .await
            .and_then(|episode| tokens(&episode)),
        Err(refusal) => Err(refusal),
    };
    findings.push(Finding { what: "masks an address", outcome });

    let ids: Vec<String> = [id, masked_id].into_iter().filter(|id| !id.is_empty()).collect();
    let forgotten = call(session, "episodic/forget", json!({ "sel": { "ids": ids }, "mode": "erase" })).await;
    let outcome = forgotten.map(|forgot| format!("{} events", field(&forgot, "/matched")));
    findings.push(Finding { what: "forgets", outcome });

    let compared = session.call("log/compare", Value::Null).await;
    findings.push(Finding { what: "rebuilds", outcome: compared.and_then(|compared| equal(&compared)) });
    findings
}

async fn call(session: &Session, op: &str, params: Value) -> Result<Value, Refusal> {
    let request = Request { scope: Some(Scope::project(PROJECT)), ..Request::new(op, params) };
    Ok(session.answer(request).await?.value)
}

fn contains(hits: &Value, id: &str) -> Result<String, Refusal> {
    let position = hits.as_array().and_then(|hits| hits.iter().position(|hit| field(hit, "/id") == id));
    position
        .map(|at| format!("place {}", at + 1))
        .ok_or_else(|| Refusal::internal("what was just written is not found").hint("athena replay --verify"))
}

fn six(outcome: &Value) -> Result<String, Refusal> {
    if outcome.get("value") == Some(&json!(6)) {
        let (engine, level) = (field(outcome, "/sandbox/engine"), field(outcome, "/sandbox/level"));
        return Ok(format!("{engine}, jail {level}"));
    }
    let said = field(outcome, "/error/message");
    Err(Refusal::internal(format!("1 + 2 + 3 gave {}: {said}", field(outcome, "/status")))
        .hint("athena sandbox show"))
}

fn identical(replayed: &Value) -> Result<String, Refusal> {
    if replayed.get("identical") == Some(&json!(true)) {
        return Ok("identical".into());
    }
    Err(Refusal::new(Code::Integrity, "a replay differs from its record"))
}

fn tokens(episode: &Value) -> Result<String, Refusal> {
    let text = episode.to_string();
    if text.contains("ada.lovelace@example.com") || !text.contains("EMAIL_tk_") {
        return Err(Refusal::new(Code::Integrity, "an address was stored as it was written"));
    }
    Ok("a token in its place".into())
}

fn equal(compared: &Value) -> Result<String, Refusal> {
    let all = compared.as_array().cloned().unwrap_or_default();
    let wrong: Vec<String> = all
        .iter()
        .filter(|it| it.get("equal") != Some(&json!(true)))
        .map(|it| field(it, "/projection"))
        .collect();
    if wrong.is_empty() && !all.is_empty() {
        return Ok(format!("{} projections equal their rebuilt selves", all.len()));
    }
    Err(Refusal::new(Code::Integrity, format!("{} differ from what the log says", wrong.join(", "))))
}

/// The keys are there and closed to others; whether they are also kept elsewhere, nobody here knows.
async fn keys(session: &Session) -> Result<String, Refusal> {
    let status = session.call("keys/status", json!({})).await?;
    Ok(format!(
        "of {} subjects, epoch {}, master key from {}; keep a copy elsewhere: athena keys backup",
        field(&status, "/subjects"),
        field(&status, "/epoch"),
        super::keys::place(&status),
    ))
}

/// How the servers behind Athena stand, as far as is known without starting one; tools that are not offered by their names.
async fn upstreams(session: &Session) -> Result<String, Refusal> {
    let servers = session.call("upstream/list", json!({})).await?;
    let servers = servers.as_array().map(Vec::as_slice).unwrap_or_default();
    if let Some(failing) = servers.iter().find(|server| field(server, "/health") == "failing") {
        let name = field(failing, "/server");
        let why = format!("{name} does not run: {}", field(failing, "/error"));
        return Err(Refusal::new(Code::Upstream, why).hint(format!("athena upstream test {name}")));
    }
    let sum = |what: &str| -> u64 { servers.iter().filter_map(|server| server.get(what)?.as_u64()).sum() };
    let mut words = format!("{} configured, {} tools", servers.len(), sum("tools"));
    if sum("held") > 0 {
        words += &format!(", {} held (athena upstream tools)", sum("held"));
    }
    let refused: Vec<String> = servers
        .iter()
        .filter_map(|server| Some((field(server, "/server"), server.get("refused")?.as_object()?)))
        .flat_map(|(server, tools)| {
            let told = move |(tool, why): (&String, &Value)| {
                format!("{server}/{tool}: {}", why.as_str().unwrap_or_default())
            };
            tools.iter().map(told).collect::<Vec<_>>()
        })
        .collect();
    if !refused.is_empty() {
        words += &format!("; not offered: {}", refused.join("; "));
    }
    Ok(words)
}

/// Which older names clients still use, and what they are called today.
async fn older_names(session: &Session) -> Result<String, Refusal> {
    let used = session.call("meta/usage", json!({})).await?;
    let mut told = Vec::new();
    for row in used.as_array().into_iter().flatten() {
        for (old, times) in row.get("older_names").and_then(Value::as_object).into_iter().flatten() {
            told.push(format!("{old} ({times}×): use {}", field(row, "/op")));
        }
    }
    if told.is_empty() {
        return Ok("none was used since the store was opened".into());
    }
    Ok(format!("still used, since the store was opened: {}", told.join("; ")))
}

fn log(session: &Session) -> Result<String, Refusal> {
    let report = verify_folder(&session.folders.store.join("log"), None)?;
    if report.is_clean() {
        return Ok(format!("{} events", report.events));
    }
    let first = report.findings.first().map(|finding| finding.what.clone()).unwrap_or_default();
    Err(Refusal::new(Code::Integrity, first).hint("athena log verify"))
}
