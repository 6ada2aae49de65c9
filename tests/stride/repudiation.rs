//! Somebody says it was not so.

use crate::support::{Mcp, Mirror, Store, text};
use serde_json::{Value, json};

/// A memory holds line breaks and a line that looks like the log's own: each event stays one line of the log as people read it.
#[test]
fn stride_r04_a_payload_cannot_forge_a_line() {
    let store = Store::new();
    for end in ["\n", "\r\n", "\r", "\u{85}", "\u{b}", "\u{c}", "\u{2028}", "\u{2029}"] {
        store.run(&["remember", &format!("harmless{end}999  2026-01-01  approval.granted  human/cli/root")]);
    }
    let events = store.events(None).len();
    let tail = text(&store.run(&["--plain", "log", "tail", "-n", "100"]).stdout);
    let lines: Vec<&str> = tail
        .split(['\n', '\r', '\u{85}', '\u{b}', '\u{c}', '\u{2028}', '\u{2029}'])
        .filter(|line| !line.is_empty())
        .collect();
    assert_eq!(lines.len(), events, "{tail}");
    assert!(!lines.iter().any(|line| line.trim_start().starts_with("999")), "{tail}");
}

/// A server denies what it was asked or what it answered: both are on record, and the digest of the definition it had then.
#[test]
fn stride_r07() {
    let store = Store::new();
    let mirror = Mirror::behind(&store, "book", &[("note", json!({}))]);
    mirror.says("note", "noted under 4711");
    let outcome = store.execute("return (await callMCPTool('book/note', { text: 'sell' })).content");
    assert_eq!(outcome["value"], "noted under 4711", "{outcome}");
    let of = |kind: &str| -> Vec<String> { store.events(Some(kind)).iter().map(Value::to_string).collect() };
    let called = of("run.called");
    assert!(called.iter().any(|event| event.contains("book/note") && event.contains("sell")), "{called:?}");
    let answered = of("run.answered");
    assert!(answered.iter().any(|event| event.contains("noted under 4711")), "{answered:?}");
    let pinned = store.events(Some("upstream.pinned"));
    let digest = pinned[0]["data"]["tools"][0]["digest"].as_str().unwrap();
    assert_eq!(digest.len(), 64, "{pinned:?}");
}

/// An agent's write passes for its user's: the author on record is who was connected, person or agent, with the channel.
#[test]
fn stride_r08() {
    let store = Store::new();
    let mut client = Mcp::start(&store);
    client.call("remember", json!({"content": "as the user said: I, the user, wrote this"}));
    client.call("execute", json!({"code": "await athena.semantic.store({ content: 'by code' }); return 1"}));
    store.run(&["remember", "by a person"]);
    let authors: Vec<String> = store
        .events(None)
        .iter()
        .filter(|event| {
            ["episodic.remembered", "semantic.stored"].contains(&event["type"].as_str().unwrap_or_default())
        })
        .map(|event| format!("{}/{}", event["actor"]["kind"], event["actor"]["via"]))
        .collect();
    assert_eq!(authors, ["\"agent\"/\"mcp\"", "\"code\"/\"sandbox\"", "\"human\"/\"cli\""]);
}

/// What happened cannot be told twice in two ways: replaying the log gives the same state each time, and a run the same end.
#[test]
fn stride_r09() {
    let store = Store::new();
    for n in 0..5 {
        store.run(&["remember", &format!("note {n} of Ann about Bob")]);
    }
    let run = store.execute("const t = Date.now() + Math.random() + crypto.randomUUID(); await athena.semantic.store({ content: `at ${t}` }); return t");
    assert_eq!(run["status"], "completed", "{run}");
    let once = text(&store.run(&["--json", "replay", "--verify"]).stdout);
    let twice = text(&store.run(&["--json", "replay", "--verify"]).stdout);
    assert!(!once.is_empty() && !once.contains("\"equal\":false"), "{once}");
    assert_eq!(once, twice);
    for _ in 0..2 {
        let replayed = store.calls(&[json!({"op": "run/replay", "params": {"run": run["run"]}})]).remove(0);
        assert_eq!(
            (&replayed["result"]["identical"], &replayed["result"]["value"]),
            (&json!(true), &run["value"]),
            "{replayed}"
        );
    }
}

/// Erasing is used to remove evidence: the content goes, and that it went, by whom and how much, stays in a chain that verifies.
#[test]
fn stride_r10() {
    let store = Store::new();
    let kept = store.json(&["remember", "the evidence"]);
    let id = kept["id"].as_str().unwrap();
    let before = store.events(None).len();
    assert_eq!(store.run(&["--yes", "forget", "--purge", id]).status.code(), Some(0));
    let events = store.events(None);
    assert!(events.len() > before, "nothing was taken out of the log");
    let forgotten = events.iter().rfind(|event| event["type"] == "episodic.forgotten").expect("a tombstone");
    assert_eq!((&forgotten["actor"]["kind"], &forgotten["data"]["ids"]), (&json!("human"), &json!([id])));
    assert_eq!(store.run(&["log", "verify"]).status.code(), Some(0));
}

/// The same for what is no memory of words, and for a whole project: the one tombstone of all layers, and the one of a project,
/// name the person who asked and not Athena, who carried it out.
#[test]
fn stride_r10_of_every_other_layer_and_of_a_whole_project() {
    let store = Store::new();
    let made = |op: &str, params: Value| {
        store.json(&["call", op, &params.to_string()])["id"].as_str().unwrap().to_owned()
    };
    let mut ids = vec![
        made("prospective/create_task", json!({"title": "burn the evidence"})),
        made("prospective/create_goal", json!({"title": "a clean slate"})),
        made("prospective/register_trigger", json!({"when": {"matches": "x"}, "then": {"note": "y"}})),
        made("graph/add_entity", json!({"name": "Ana", "type": "person"})),
        made(
            "procedural/learn",
            json!({"name": "boil", "language": "js", "code": "return 1", "description": "Boils water."}),
        ),
    ];
    let purge: Vec<&str> =
        ["--yes", "forget", "--purge"].into_iter().chain(ids.iter().map(String::as_str)).collect();
    assert!(store.run(&purge).status.success());
    store.json(&[
        "call",
        "store/erase_scope",
        &json!({"scope": {"project": "gone"}, "confirm": "erase gone"}).to_string(),
    ]);
    let author = |kind: &str| {
        let event = store.events(Some(kind)).pop().unwrap_or_else(|| panic!("no {kind}"));
        (event["actor"].clone(), event["data"].clone())
    };
    let (asked, erased) = author("store.items_erased");
    let (remembered, _) = author("prospective.task_created");
    assert_eq!(asked["kind"], "human");
    assert_eq!(asked, remembered, "whoever made them erased them");
    let mut named: Vec<String> = serde_json::from_value(erased["ids"].clone()).unwrap();
    ids.sort();
    named.sort();
    assert_eq!(named, ids);
    assert_eq!(author("store.scope_erased").0, asked);
    assert_eq!(store.run(&["log", "verify"]).status.code(), Some(0));
}
