//! The command line from outside: exit codes, JSON, and what never reaches a terminal.

use crate::support::{Store, files, text};
use serde_json::{Value, json};

fn code(store: &Store, arguments: &[&str]) -> i32 {
    store.run(arguments).status.code().unwrap()
}

#[test]
fn every_exit_code_means_one_thing() {
    let store = Store::new();
    assert_eq!(code(&store, &["daemon", "status"]), 7, "no daemon runs");
    assert_eq!(code(&store, &["remember", "the kettle is blue"]), 0);
    assert_eq!(code(&store, &["daemon", "status"]), 0);
    assert_eq!(code(&store, &["nonsense"]), 2);
    assert_eq!(code(&store, &["call", "semantic/search", "{\"query\": 7}"]), 2);
    assert_eq!(code(&store, &["call", "semantic/search", "not json"]), 2);
    assert_eq!(code(&store, &["call", "semantic/serch", "{}"]), 3);
    assert_eq!(code(&store, &["log", "show", "999999"]), 3);
    assert_eq!(code(&store, &["run", "show", "run_00000000000000000000000000"]), 3);
    assert_eq!(code(&store, &["exec", "no-such-file.ts"]), 3);
    assert_eq!(store.feed(&["exec", "-", "--lang", "js"], "return 1 + 1").status.code(), Some(0));
    assert_eq!(store.json(&["exec", "-e", "6 * 7", "--lang", "py"])["value"], 42);
    assert_eq!(code(&store, &["exec", "-e", "return 1", "and-a-file.ts"]), 2);
    assert_eq!(code(&store, &["exec"]), 2);
    assert_eq!(store.feed(&["exec", "-", "--lang", "js"], "throw new Error('no')").status.code(), Some(1));
    let risky = store.feed(&["exec", "-", "--lang", "js"], "return eval('1 + 1')").status.code().unwrap();
    assert!(matches!(risky, 4 | 5), "{risky}");
    assert_eq!(code(&store, &["daemon", "stop"]), 0);
    assert_eq!(code(&store, &["daemon", "status"]), 7);
}

#[test]
fn errors_are_objects_with_json_and_text_without() {
    let store = Store::new();
    let output = store.run(&["--json", "call", "semantic/serch"]);
    assert!(output.stdout.is_empty());
    let error: Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(error["code"], "not_found");
    assert!(error["try"].as_str().unwrap().contains("semantic/search"), "{error}");
    let output = store.run(&["call", "semantic/search", "{\"query\": 7}"]);
    let said = text(&output.stderr);
    assert!(
        said.contains("error[invalid]") && said.contains("at:  query") && said.contains("try:"),
        "{said}"
    );
    let output = store.run(&["--json", "log", "nonsense"]);
    assert_eq!(serde_json::from_slice::<Value>(&output.stderr).unwrap()["code"], "invalid");
}

#[test]
fn calls_a_line_are_answered_in_order_with_their_ids() {
    let store = Store::new();
    let lines = [
        json!({"id": "a", "op": "semantic/store", "params": {"content": "water boils at 100 degrees"}, "scope": {"project": "p"}}),
        json!({"id": 2, "op": "semantic/search", "params": {"query": "boiling water"}, "scope": {"project": "p"}}),
        json!({"op": "semantic/search", "params": {"query": "boiling water"}, "scope": {"project": "q"}}),
        json!({"id": null, "op": "no/such"}),
    ];
    let input: String = lines.iter().map(|line| format!("{line}\n")).collect::<String>() + "not json\n";
    let output = store.feed(&["call", "--jsonl"], &input);
    let answers: Vec<Value> =
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers.len(), 5, "{}", text(&output.stderr));
    assert_eq!((&answers[0]["id"], &answers[0]["ok"]), (&json!("a"), &json!(true)));
    assert_eq!(answers[1]["result"][0]["id"], answers[0]["result"]["id"], "{}", answers[1]);
    assert_eq!(answers[2]["result"], json!([]), "another project sees nothing");
    assert_eq!(answers[3]["error"]["code"], "not_found");
    assert_eq!(answers[4]["error"]["code"], "invalid");
    assert!(output.status.success());
}

#[test]
fn control_characters_of_data_never_reach_the_terminal() {
    let store = Store::new();
    store.run(&["remember", "evil \u{1b}]0;title\u{7} \u{202e}text"]);
    for arguments in [&["recall", "evil text"][..], &["log", "tail"], &["--json", "log", "export"]] {
        let output = text(&store.run(arguments).stdout);
        assert!(output.contains("evil"), "{arguments:?}: {output}");
        assert!(
            !output.chars().any(|c| (c.is_control() && c != '\n' && c != '\t') || c == '\u{202e}'),
            "{output:?}"
        );
    }
}

#[test]
fn the_log_is_read_followed_and_exported() {
    let store = Store::new();
    for n in 0..3 {
        assert_eq!(code(&store, &["remember", &format!("note number {n}")]), 0);
    }
    let stats = store.json(&["log", "stats"]);
    let head = stats["head"].as_u64().unwrap();
    assert!(stats["events"] == stats["head"] && head >= 3, "{stats}");
    let exported = text(&store.run(&["--json", "log", "export"]).stdout);
    let seqs: Vec<u64> = exported
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["seq"].as_u64().unwrap())
        .collect();
    assert_eq!(seqs, (1..=head).collect::<Vec<_>>());
    assert!(exported.contains("note number 2"));
    let tail = text(&store.run(&["--json", "log", "tail", "-n", "2"]).stdout);
    assert_eq!(tail.lines().count(), 2);
    let found = store.run(&["--json", "log", "grep", "note number 1"]);
    assert_eq!(text(&found.stdout).lines().count(), 1);
    assert_eq!(code(&store, &["log", "grep", "no such text"]), 3);
}

#[test]
fn a_flipped_byte_is_an_integrity_failure_that_names_the_position() {
    let store = Store::new();
    for n in 0..20 {
        assert_eq!(code(&store, &["remember", &format!("an event with some length to it, number {n}")]), 0);
    }
    assert_eq!(code(&store, &["log", "verify"]), 0);
    assert_eq!(code(&store, &["replay", "--verify"]), 0);
    assert_eq!(code(&store, &["daemon", "stop"]), 0);
    assert_eq!(code(&store, &["log", "verify"]), 0);
    let largest = files(&store.path().join("log"))
        .into_iter()
        .max_by_key(|file| std::fs::metadata(file).map_or(0, |meta| meta.len()))
        .unwrap();
    let mut bytes = std::fs::read(&largest).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    bytes[used / 2] ^= 0x10;
    std::fs::write(&largest, bytes).unwrap();
    let output = store.run(&["log", "verify"]);
    assert_eq!(output.status.code(), Some(6), "{}{}", text(&output.stdout), text(&output.stderr));
    assert!(text(&output.stdout).contains("position") || text(&output.stderr).contains("position"));
    assert!(!text(&output.stderr).contains("panicked"));
}

#[test]
fn every_command_says_what_it_does() {
    let store = Store::new();
    let help = text(&store.run(&["--help"]).stdout);
    let commands: Vec<&str> = help
        .lines()
        .skip_while(|line| !line.starts_with("Commands:"))
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert!(commands.len() >= 20, "{help}");
    for command in commands.into_iter().filter(|command| *command != "help") {
        assert_eq!(code(&store, &[command, "--help"]), 0, "{command}");
    }
    for shell in ["bash", "zsh", "fish"] {
        assert!(text(&store.run(&["completions", shell]).stdout).contains("athena"));
    }
}

#[test]
fn the_doctor_finds_a_sound_store_sound() {
    let store = Store::new();
    let output = store.run(&["--json", "doctor"]);
    let checks: Vec<Value> =
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(checks.len() >= 9 && checks.iter().all(|check| check["ok"] == true), "{checks:#?}");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn the_demo_s_proofs_hold() {
    let store = Store::new();
    let output = store.run(&["--json", "demo"]);
    let lines: Vec<Value> =
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let proofs: Vec<&Value> = lines.iter().filter(|line| line.get("proof").is_some()).collect();
    assert!(
        proofs.len() >= 12 && proofs.iter().all(|proof| proof["holds"] == true),
        "{proofs:#?}\n{}",
        text(&output.stderr)
    );
    assert_eq!(output.status.code(), Some(0));
    assert!(!store.path().exists(), "the demo keeps to its own store");
}
