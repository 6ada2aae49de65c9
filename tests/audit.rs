//! The audit report: who did what, from the log alone.

use crate::support::{Mcp, Store};
use serde_json::{Value, json};

/// A store in which an agent's code was denied, a person was asked and said no, and something was erased.
fn eventful() -> Store {
    let store = Store::new();
    let mut agent = Mcp::start(&store);
    let kept = agent.call("remember", json!({"content": "write to ann@example.com | <b>now</b>"}));
    let stopped = json!({"code": "require('child_process').execSync('rm -rf /')", "language": "js"});
    assert_eq!(agent.call("execute", stopped)["status"], "denied");
    let risky = json!({"code": "const never = () => fetch('http://example.com'); return 1"});
    let waiting = agent.call("execute", risky);
    let waiting = waiting["approval"].as_str().expect("a person is asked").to_owned();
    let denied = store.run(&["deny", &waiting, "--reason", "not <today> | ever"]);
    assert!(denied.status.success(), "{denied:?}");
    let id = kept["id"].as_str().unwrap();
    let erased = store.run(&["forget", "--purge", "--yes", id]);
    assert!(erased.status.success(), "{erased:?}");
    store
}

fn report(store: &Store, more: &[&str]) -> (Option<i32>, String) {
    let out = store.run(&[&["audit", "report"], more].concat());
    (out.status.code(), String::from_utf8(out.stdout).unwrap())
}

#[test]
fn a_report_names_authors_denials_answers_and_erasures_and_the_state_of_the_log() {
    let store = eventful();
    let (code, text) = report(&store, &["--json"]);
    let report_json: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &report_json["intact"]), (Some(0), &json!(true)));
    let entries = report_json["entries"].as_array().unwrap();
    let told = |kind: &str, part: &str| {
        entries.iter().any(|entry| entry["type"] == kind && entry["text"].as_str().unwrap().contains(part))
    };
    assert!(told("run.finished", "denied"), "{text}");
    assert!(told("approval.requested", "asked by") && told("approval.denied", "not <today>"), "{text}");
    assert!(told("episodic.forgotten", "1 items erased"), "{text}");
    assert!(!text.contains("ann@example.com"));
    // What every author recorded adds up to the log.
    let counted: u64 =
        report_json["authors"].as_array().unwrap().iter().map(|a| a["events"].as_u64().unwrap()).sum();
    assert!(counted > 0 && counted <= report_json["log"]["events"].as_u64().unwrap());
    // Positions descend, and a run asked for is a run alone.
    assert!(entries.is_sorted_by(|a, b| a["seq"].as_u64() > b["seq"].as_u64()));
    let run = entries.iter().find_map(|entry| entry["run"].as_str()).unwrap();
    let (_, one) = report(&store, &["--json", "--run", run]);
    let one: Value = serde_json::from_str(&one).unwrap();
    assert!(one["entries"].as_array().unwrap().iter().all(|entry| entry["run"] == run));
    assert_eq!(store.run(&["replay", "--verify"]).status.code(), Some(0));
}

#[test]
fn what_somebody_wrote_cannot_break_out_of_a_report() {
    let store = eventful();
    let (_, markdown) = report(&store, &[]);
    let line = markdown.lines().find(|line| line.contains("denied by")).unwrap();
    assert!(line.contains("not &lt;today> \\| ever"), "{line}");
    let file = store.path().join("report.html");
    let (code, stdout) = report(&store, &["--format", "html", "-o", file.to_str().unwrap()]);
    assert_eq!((code, stdout.as_str()), (Some(0), ""));
    let page = std::fs::read_to_string(file).unwrap();
    assert!(page.contains("not &lt;today&gt; | ever") && !page.contains("<today>"), "{page}");
    assert_eq!(report(&store, &["--since", "soon"]).0, Some(2));
}
