//! Erasing from outside: what was forgotten for ever is in no file of the store, live or after a kill, and nothing else is gone.

use crate::support::{Store, files, text};
use serde_json::{Value, json};

/// Words that stand nowhere else. They have nothing in common, or compression would hide one behind the other.
const EPISODE: &str = "quagmirish";
const FACT: &str = "bluebottle";
const SUCCESSOR: &str = "xylocarps";
const BY_CODE: &str = "wodgepumpkin";
const KEPT: &str = "jackfruity";

/// The files of a store that tell a word.
fn tell(store: &Store, word: &str) -> Vec<String> {
    let holds = |path: &std::path::PathBuf| {
        let bytes = std::fs::read(path).unwrap_or_default();
        bytes.windows(word.len()).any(|window| window == word.as_bytes())
    };
    files(&store.path()).into_iter().filter(holds).map(|path| path.display().to_string()).collect()
}

fn call(store: &Store, op: &str, params: &Value) -> Value {
    store.json(&["call", op, &params.to_string()])
}

fn id(answer: &Value) -> String {
    answer["id"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
}

/// The projections equal their rebuilt selves, and the chain holds.
fn is_whole(store: &Store) {
    for check in [&["replay", "--verify"][..], &["log", "verify"]] {
        let output = store.run(check);
        assert!(output.status.success(), "{check:?}: {}{}", text(&output.stdout), text(&output.stderr));
    }
}

#[test]
fn what_is_erased_is_in_no_file_and_everything_else_is_there() {
    let store = Store::new();
    let episode =
        id(&call(&store, "episodic/remember", &json!({"content": format!("the word is {EPISODE}")})));
    call(&store, "episodic/annotate", &json!({"id": episode, "patch": {"meta": {"about": EPISODE}}}));
    let fact = id(&call(&store, "semantic/store", &json!({"content": format!("the colour is {FACT}")})));
    let successor = id(&call(
        &store,
        "semantic/supersede",
        &json!({"id": fact, "content": format!("the colour is {SUCCESSOR}")}),
    ));
    call(&store, "episodic/remember", &json!({"content": format!("what stays is {KEPT}")}));
    let code = format!(
        "const one = await athena.semantic.store({{content: 'by code: {BY_CODE}'}});\n\
         const found = await athena.semantic.search({{query: '{BY_CODE}'}});\n\
         return {{id: one.id, found: found.length}};"
    );
    let output = store.feed(&["--json", "exec", "-", "--lang", "js"], &code);
    let run: Value = serde_json::from_slice(&output.stdout).unwrap();
    let by_code = id(&run["value"]);
    // On disk, read models and all: the scan must find there what it will not find later.
    assert!(store.run(&["daemon", "stop"]).status.success());
    for word in [EPISODE, SUCCESSOR, BY_CODE, KEPT] {
        assert!(!tell(&store, word).is_empty(), "{word} is nowhere: the scan would prove nothing");
    }

    let output = store.run(&["--yes", "forget", "--purge", &episode, &successor, &by_code]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    for word in [EPISODE, SUCCESSOR, BY_CODE] {
        assert_eq!(tell(&store, word), Vec::<String>::new(), "{word}, beside the running daemon");
    }
    let known = call(&store, "semantic/search", &json!({"query": "colour"})).to_string();
    assert!(known.contains(FACT), "what the erased fact had replaced stands again: {known}");
    let shown = store.run(&["run", "show", run["run"].as_str().unwrap()]);
    assert!(!text(&shown.stdout).contains(BY_CODE));
    is_whole(&store);

    // After a kill, everything is read from the files again.
    store.kill_daemon();
    let known = call(&store, "semantic/search", &json!({"query": "colour"})).to_string();
    assert!(known.contains(FACT) && !known.contains(SUCCESSOR), "{known}");
    let log = text(&store.run(&["log", "export", "--json"]).stdout);
    assert!(log.contains(KEPT) && log.contains(FACT), "the rest opens as before");
    for word in [EPISODE, SUCCESSOR, BY_CODE] {
        assert!(!log.contains(word), "{word} opens in the log");
    }
    // What was erased may be stored anew; the kept one may not be lost with it.
    let again = call(&store, "episodic/remember", &json!({"content": format!("the word is {EPISODE}")}));
    assert_ne!(id(&again), episode);
    is_whole(&store);
    assert!(store.run(&["daemon", "stop"]).status.success());
    for word in [SUCCESSOR, BY_CODE] {
        assert_eq!(tell(&store, word), Vec::<String>::new(), "{word}, after the end");
    }
    assert!(!tell(&store, KEPT).is_empty());
}

#[test]
fn an_erased_project_is_in_no_file_and_in_no_memory() {
    let store = Store::new();
    let scoped = |op: &str, project: &str, params: Value| {
        let line = json!({"id": 1, "op": op, "params": params, "scope": {"project": project}});
        let output = store.feed(&["call", "--jsonl"], &format!("{line}\n"));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    scoped("semantic/store", "gone", json!({"content": format!("here is {FACT}, mail someone@example.com")}));
    scoped("semantic/store", "kept", json!({"content": format!("the ladder is {KEPT}")}));
    assert!(store.run(&["daemon", "stop"]).status.success());
    assert!(!tell(&store, FACT).is_empty());
    let erased =
        call(&store, "store/erase_scope", &json!({"scope": {"project": "gone"}, "confirm": "erase gone"}));
    assert!(erased["erased"].as_u64().unwrap() > 0, "{erased}");
    assert_eq!(tell(&store, FACT), Vec::<String>::new());
    // The layer does not remember it either: the same fact is a new one, and so is the same value's entry.
    let again = scoped(
        "semantic/store",
        "gone",
        json!({"content": format!("here is {FACT}, mail someone@example.com")}),
    );
    assert_eq!(again["result"]["deduped_into"], Value::Null, "{again}");
    is_whole(&store);
    assert!(scoped("semantic/search", "kept", json!({"query": "ladder"})).to_string().contains(KEPT));
}
