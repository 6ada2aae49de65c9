//! MCP clients over stdio against the real store: several at once, killed daemons, and what must never leak.

use crate::support::{Mcp, Store, files, kill, luhn, text};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::process::Stdio;

/// Ids of everything a log holds that was remembered.
fn remembered(store: &Store) -> HashSet<String> {
    let output = store.run(&["--json", "log", "export", "--type", "episodic.remembered"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["data"]["id"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn the_front_is_the_same_bytes_for_every_client() {
    let store = Store::new();
    let mut seen = HashSet::new();
    for _ in 0..2 {
        let mut client = Mcp::start(&store);
        let init = client.heard.lines().next().unwrap().to_owned();
        let tools = client.ask("tools/list", json!({}));
        seen.insert((init, tools["result"].to_string()));
    }
    assert_eq!(seen.len(), 1);
    let (_, tools) = seen.into_iter().next().unwrap();
    let tools: Value = serde_json::from_str(&tools).unwrap();
    let names: Vec<&str> =
        tools["tools"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["execute", "search", "recall", "remember"]);
}

#[test]
fn what_one_client_was_told_is_stored_the_next_one_finds() {
    let store = Store::new();
    let (mut one, mut two) = (Mcp::start(&store), Mcp::start(&store));
    let kept = one.call("remember", json!({"content": "the spare key hangs behind the clock"}));
    let found = two.call("recall", json!({"query": "where is the spare key"}));
    assert_eq!(found["hits"][0]["id"], kept["id"], "{found}");
    let ran = two.call(
        "execute",
        json!({"code": "return (await athena.episodic.recall({query: 'spare key'}))[0].id"}),
    );
    assert_eq!(ran["value"], kept["id"], "{ran}");
}

#[test]
fn eight_clients_write_at_once_and_a_daemon_killed_in_the_middle_loses_nothing() {
    const CLIENTS: usize = 8;
    const EACH: usize = 25;
    let store = Store::new();
    let done = std::sync::atomic::AtomicUsize::new(0);
    let acknowledged: HashSet<String> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let (store, done) = (&store, &done);
                scope.spawn(move || {
                    let mut mcp = Mcp::start(store);
                    (0..EACH)
                        .map(|n| {
                            let kept = mcp
                                .call("remember", json!({"content": format!("client {client}, note {n}")}));
                            done.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                            kept["id"].as_str().unwrap().to_owned()
                        })
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        // In the middle, by the work that is done and not by the clock.
        while done.load(std::sync::atomic::Ordering::SeqCst) < CLIENTS * EACH / 2 {
            std::thread::yield_now();
        }
        store.kill_daemon();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    assert_eq!(acknowledged.len(), CLIENTS * EACH, "every note has an id of its own");
    assert_eq!(remembered(&store), acknowledged, "nothing lost, nothing doubled");
    assert_eq!(store.run(&["log", "verify"]).status.code(), Some(0));
}

#[test]
fn daemon_and_client_killed_after_an_answer_lose_nothing() {
    const ROUNDS: usize = 50;
    let store = Store::new();
    let mut acknowledged = HashSet::new();
    for round in 0..ROUNDS {
        let mut mcp = Mcp::start(&store);
        let kept = mcp.call("remember", json!({"content": format!("round {round}")}));
        let daemon = store.daemon();
        acknowledged.insert(kept["id"].as_str().unwrap().to_owned());
        daemon.into_iter().for_each(kill);
        kill(mcp.pid());
    }
    assert_eq!(acknowledged.len(), ROUNDS);
    assert_eq!(remembered(&store), acknowledged);
    assert_eq!(store.run(&["log", "verify"]).status.code(), Some(0));
}

/// 100 values that must never be seen, of the kinds people plant by accident.
fn planted() -> Vec<String> {
    let mut values = Vec::new();
    for n in 0..40u32 {
        values.push(format!("person{n}.surname{n}@private-mail{n}.example.com"));
    }
    for n in 0..30u64 {
        values.push(luhn(&format!("411111{n:09}")));
    }
    for n in 0..30u32 {
        values.push(
            format!(
                "AKIA{:0>16}",
                format!("Z7Q{n:02}XW4V").to_uppercase().replace('0', "R").replace('1', "T")
            )
            .replace("AKIA0", "AKIAK")
            .replace('0', "H"),
        );
    }
    values
}

#[test]
fn no_planted_value_is_in_any_file_log_line_or_answer() {
    let store = Store::new();
    let values = planted();
    assert_eq!(values.iter().collect::<HashSet<_>>().len(), 100);
    let stderr = store.path().with_extension("stderr");
    let file = std::fs::File::create(&stderr).unwrap();
    let mut command = store.command(&["-v", "-v", "serve"]);
    let mut mcp = Mcp::with(command.env("RUST_LOG", "trace").stderr(Stdio::from(file)));
    let mut answers = String::new();
    for (n, value) in values.iter().enumerate() {
        let layer = if n % 2 == 0 { "episodic" } else { "semantic" };
        let content = format!("note {n}: the value is {value} and must not be seen");
        answers += &mcp.call("remember", json!({"content": content, "layer": layer})).to_string();
        answers += &mcp.call("recall", json!({"query": format!("note {n} {value}")})).to_string();
    }
    for value in values.iter().step_by(9) {
        let code = format!("console.log(\"{value}\"); return {{given: input, said: \"{value}\"}};");
        answers += &mcp.call("execute", json!({"code": code, "input": {"secret": value}})).to_string();
        let wrong = format!("throw new Error(\"bad {value}\");");
        answers += &mcp.call("execute", json!({"code": wrong})).to_string();
        answers +=
            &mcp.ask("tools/call", json!({"name": "no_such_tool", "arguments": {"q": value}})).to_string();
        answers += &mcp.call("remember", json!({"content": value, "no_such_field": value})).to_string();
    }
    drop(mcp);
    assert_eq!(store.run(&["daemon", "stop"]).status.code(), Some(0));
    let mut all = vec![
        ("answers".to_owned(), answers.into_bytes()),
        ("stderr".to_owned(), std::fs::read(&stderr).unwrap()),
    ];
    for file in files(&store.path()) {
        all.push((file.display().to_string(), std::fs::read(&file).unwrap()));
    }
    assert!(all.len() > 5, "the store has files");
    let mut leaks = Vec::new();
    for (place, bytes) in &all {
        // As text: the standard library searches it fast even where this test is not optimised.
        let text = text(bytes);
        leaks.extend(
            values
                .iter()
                .filter(|value| text.contains(value.as_str()))
                .map(|value| format!("{value} in {place}")),
        );
    }
    assert!(leaks.is_empty(), "{} leaks: {:#?}", leaks.len(), leaks.iter().take(10).collect::<Vec<_>>());
}
