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

/// Words that stand nowhere else, one for each thing that is no episode and no fact.
const OTHERS: [&str; 7] = [
    "farthingale",
    "gobbledygook",
    "hobnobbing",
    "jabberwocky",
    "knickerbocker",
    "lollygagging",
    "mumbojumbo",
];

#[test]
fn what_is_erased_of_every_other_layer_is_in_no_file() {
    let store = Store::new();
    let [task, goal, trigger, entity, edge, procedure, approved] = OTHERS;
    let made = |op: &str, params: Value| id(&call(&store, op, &params));
    let tasks = made("prospective/create_task", json!({"title": format!("a {task}"), "notes": "soon"}));
    call(&store, "prospective/update_task", &json!({"id": tasks, "patch": {"title": format!("the {task}")}}));
    let goals = made("prospective/create_goal", json!({"title": format!("a {goal}")}));
    let triggers = made(
        "prospective/register_trigger",
        json!({"when": {"matches": "x"}, "then": {"note": format!("a {trigger}")}}),
    );
    let entities =
        made("graph/add_entity", json!({"name": "Ana", "type": "person", "attrs": {"is": entity}}));
    let other = made("graph/add_entity", json!({"name": "Ben", "type": "person"}));
    call(&store, "graph/add_edge", &json!({"from": entities, "relation": edge, "to": other}));
    let procedures = made(
        "procedural/learn",
        json!({"name": "boil", "language": "js", "code": format!("return '{procedure}'"), "description": "Boils water."}),
    );
    let kept = made("prospective/create_task", json!({"title": format!("keep {KEPT}")}));
    let episode = made("episodic/remember", json!({"content": format!("the word is {approved}")}));
    // A person is asked about code that quotes it.
    let risky = format!(
        "const never = () => fetch('http://example.com/'); const word = 'the word is {approved}'; return word.length"
    );
    store.feed(&["--json", "exec", "-", "--lang", "js"], &risky);
    let asked = text(&store.run(&["--json", "approvals", "list"]).stdout);
    assert!(asked.contains(approved), "somebody was asked: {asked}");
    assert!(store.run(&["daemon", "stop"]).status.success());
    for word in OTHERS {
        assert!(!tell(&store, word).is_empty(), "{word} is nowhere: the scan would prove nothing");
    }

    let ids = [&tasks, &goals, &triggers, &entities, &procedures, &episode].map(String::as_str);
    let output = store.run(&[&["--yes", "forget", "--purge"], &ids[..]].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    for word in OTHERS {
        assert_eq!(tell(&store, word), Vec::<String>::new(), "{word}, beside the running daemon");
    }
    is_whole(&store);
    let listed = call(&store, "prospective/list_tasks", &json!({})).to_string();
    assert!(listed.contains(KEPT) && !listed.contains(&tasks), "{listed}");
    assert_eq!(call(&store, "graph/get_entity", &json!({"idOrName": "Ben"}))["id"], other);
    let asked = text(&store.run(&["--json", "approvals", "list"]).stdout);
    assert!(!asked.contains(approved), "{asked}");
    let known = store.run(&["--yes", "forget", "--purge", "ta_00000000000000000000000000"]);
    assert_eq!(known.status.code(), Some(3), "{}", text(&known.stderr));

    // After a kill, the layers are folded from what is left, and go on.
    store.kill_daemon();
    call(&store, "prospective/update_task", &json!({"id": kept, "patch": {"status": "active"}}));
    made("graph/add_entity", json!({"name": "Ana", "type": "person"}));
    assert!(store.run(&["daemon", "stop"]).status.success());
    for word in OTHERS {
        assert_eq!(tell(&store, word), Vec::<String>::new(), "{word}, after the end");
    }
}
