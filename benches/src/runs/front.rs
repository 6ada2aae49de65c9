//! What an MCP client waits for: Athena over stdio, and FastMCP's code mode beside it, the same upstream behind both.

use super::{at, ms};
use crate::client::Client;
use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Ten reads of another server in one run.
const TEN: usize = 10;

/// A side of the comparison.
struct Side {
    name: &'static str,
    client: Client,
    one: Value,
    ten: Value,
    waits: [Vec<f64>; 2],
}

/// Measures both sides in turn, so that what else the machine does falls on both.
pub(super) fn measure(
    runs: usize,
    athena: &Path,
    peer: Option<&Path>,
    mut note: impl FnMut(&str, f64),
) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let store = folder.path().join("store");
    std::fs::create_dir_all(&store)?;
    let servers =
        json!({"mcpServers": {"documents": {"command": athena, "args": ["__sample", "documents"]}}});
    std::fs::write(store.join("upstreams.json"), servers.to_string())?;

    let mut serve = Command::new(athena);
    serve.arg("--store").arg(&store).arg("serve").current_dir(folder.path());
    let code = format!(
        "let n = 0; for (let i = 0; i < {TEN}; i++) n += (await documents.list_documents({{}})).documents.length; return n > 0"
    );
    let mut sides = vec![Side {
        name: "mcp",
        client: Client::start(serve)?,
        one: json!({"code": "return 1 + 1", "language": "js"}),
        ten: json!({"code": code, "language": "js"}),
        waits: Default::default(),
    }];
    if peer.is_none() {
        eprintln!("the peer, FastMCP's code mode, is NOT measured: name a Python that has it with --peers");
    }
    if let Some(python) = peer {
        let script = folder.path().join("peer.py");
        std::fs::write(&script, include_str!("peer.py"))?;
        let mut command = Command::new(python);
        command.arg(&script).arg(athena).args(["__sample", "documents"]);
        let code =
            format!("for i in range({TEN}):\n    x = await call_tool('list_documents', {{}})\nreturn 1");
        sides.push(Side {
            name: "peer",
            client: Client::start(command)?,
            one: json!({"code": "return 1 + 1"}),
            ten: json!({"code": code}),
            waits: Default::default(),
        });
    }
    for round in 0..=runs {
        for side in &mut sides {
            for (which, arguments) in [&side.one, &side.ten].into_iter().enumerate() {
                // Ten calls take ten times as long; a fifth of the rounds tells as much.
                if which == 1 && round % 5 != 0 {
                    continue;
                }
                // A caller that types is slower than a pool that refills.
                std::thread::park_timeout(Duration::from_millis(15));
                let begun = Instant::now();
                let answer = side.client.done("execute", arguments)?;
                let wait = ms(begun.elapsed());
                let status = &answer["structuredContent"]["status"];
                ensure!(status.is_null() || status == "completed", "{answer}");
                // The first of each warms.
                if round > 0 {
                    side.waits[which].push(wait);
                }
            }
        }
    }
    for side in &mut sides {
        note(&format!("{}_one_plus_one_p50_ms", side.name), at(&mut side.waits[0], 50));
        note(&format!("{}_one_plus_one_p95_ms", side.name), at(&mut side.waits[0], 95));
        note(&format!("{}_upstream_ten_p50_ms", side.name), at(&mut side.waits[1], 50));
    }
    drop(sides);
    let stopped =
        Command::new(athena).arg("--store").arg(&store).args(["daemon", "stop", "--force"]).output()?;
    ensure!(stopped.status.success(), "the daemon did not stop");
    Ok(())
}

/// The athena binary beside this one.
pub(crate) fn beside() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let path = own.parent().context("no folder")?.join("athena");
    ensure!(path.exists(), "{} is not there: build it, or say --athena PATH", path.display());
    Ok(path)
}
