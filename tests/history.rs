//! The log as people use it: taking back, looking back, auditing, moving a store.

use crate::support::{Store, text};
use serde_json::{Value, json};

/// Answers of calls a line, in order; each must succeed.
fn calls(store: &Store, lines: &[Value]) -> Vec<Value> {
    let input: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let output = store.feed(&["call", "--jsonl"], &input);
    let answers: Vec<Value> =
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers.len(), lines.len(), "{}", text(&output.stderr));
    answers
        .into_iter()
        .map(|answer| {
            assert_eq!(answer["ok"], true, "{answer}");
            answer["result"].clone()
        })
        .collect()
}

fn call(store: &Store, op: &str, params: Value) -> Value {
    calls(store, &[json!({"op": op, "params": params})]).remove(0)
}

fn head(store: &Store) -> u64 {
    store.json(&["log", "stats"])["head"].as_u64().unwrap()
}

/// All that can be seen of memory.
fn seen(store: &Store) -> Vec<Value> {
    let lines = [
        json!({"op": "episodic/list_events", "params": {}}),
        json!({"op": "semantic/list", "params": {}}),
        json!({"op": "semantic/find_conflicts", "params": {}}),
        json!({"op": "prospective/list_tasks", "params": {}}),
        json!({"op": "prospective/list_goals", "params": {}}),
        json!({"op": "prospective/list_triggers", "params": {}}),
        json!({"op": "graph/search_entities", "params": {"query": "Ana"}}),
        json!({"op": "graph/search_entities", "params": {"query": "Ben"}}),
        json!({"op": "semantic/search", "params": {"query": "kettle"}}),
        json!({"op": "rag/bm25_search", "params": {"query": "kettle tea"}}),
    ];
    calls(store, &lines).into_iter().map(unscored).collect()
}

/// Without scores: statistics over all texts, hidden ones included, are not memory. Hits by id, since equals may change places.
fn unscored(value: Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .into_iter()
            .filter(|(name, _)| !["score", "signals"].contains(&name.as_str()))
            .map(|(name, value)| (name, unscored(value)))
            .collect(),
        Value::Array(values) => {
            // A trigger that was removed is still listed, as one that does not fire.
            let fires = |value: &Value| value["active"] != false;
            let mut values: Vec<Value> = values.into_iter().filter(fires).map(unscored).collect();
            values.sort_by_key(|value| value["id"].to_string());
            values.into()
        }
        other => other,
    }
}

/// Equal, or the first part that differs.
fn same(left: &[Value], right: &[Value], what: &str) {
    for (left, right) in left.iter().zip(right) {
        assert_eq!(left, right, "{what}");
    }
}

fn undo(store: &Store, target: &str) -> Value {
    store.json(&["--yes", "undo", target])
}

#[test]
fn every_change_of_memory_is_taken_back_and_done_again() {
    let store = Store::new();
    let ana = call(&store, "graph/add_entity", json!({"name": "Ana", "type": "person"}))["id"].clone();
    let ben = call(&store, "graph/add_entity", json!({"name": "Ben", "type": "person"}))["id"].clone();
    let edge =
        call(&store, "graph/add_edge", json!({"from": ana, "relation": "knows", "to": ben}))["id"].clone();
    let episode =
        call(&store, "episodic/remember", json!({"content": "the kettle broke", "tags": ["kitchen"]}))["id"]
            .clone();
    let fact = call(&store, "semantic/store", json!({"content": "the kettle is red"}))["id"].clone();
    let other = call(&store, "semantic/store", json!({"content": "tea is in the tin"}))["id"].clone();
    let goal = call(&store, "prospective/create_goal", json!({"title": "a warm kitchen"}))["id"].clone();
    let task = call(&store, "prospective/create_task", json!({"title": "buy a kettle"}))["id"].clone();
    let trigger = call(
        &store,
        "prospective/register_trigger",
        json!({"when": {"event_type": "episodic.remembered"}, "then": {"note": "look"}}),
    )["id"]
        .clone();
    let changes = [
        ("episodic/remember", json!({"content": "the tea was good"})),
        (
            "episodic/annotate",
            json!({"id": episode, "patch": {"outcome": "failure", "importance": 0.9, "add_tags": ["x"], "remove_tags": ["kitchen"], "meta": {"a": 1}}}),
        ),
        ("episodic/forget", json!({"sel": {"ids": [episode]}, "mode": "hide"})),
        ("semantic/store", json!({"content": "the kettle is green", "supersedes": fact})),
        ("semantic/supersede", json!({"id": fact, "content": "the kettle is blue"})),
        ("semantic/retract", json!({"id": fact, "reason": "never was"})),
        ("semantic/reinforce", json!({"id": fact, "delta": 5.0, "evidence": [episode]})),
        ("semantic/merge", json!({"ids": [fact, other], "content": "kettle red, tea in the tin"})),
        ("semantic/discard", json!({"ids": [fact], "mode": "hide"})),
        ("prospective/create_task", json!({"title": "buy tea"})),
        (
            "prospective/update_task",
            json!({"id": task, "patch": {"title": "buy a red kettle", "due": "2030-01-01", "goal": goal, "notes": "soon"}}),
        ),
        ("prospective/snooze_task", json!({"id": task, "until": "2031-01-01"})),
        ("prospective/update_task", json!({"id": task, "patch": {"status": "done"}})),
        ("prospective/create_goal", json!({"title": "more tea"})),
        ("prospective/update_goal", json!({"id": goal, "patch": {"status": "active", "measure": "degrees"}})),
        ("prospective/remove_trigger", json!({"id": trigger})),
        ("prospective/register_trigger", json!({"when": {"every": "1d"}, "then": {"note": "tea"}})),
        ("graph/add_entity", json!({"name": "Ana Maria", "type": "person"})),
        (
            "graph/update_entity",
            json!({"id": ana, "patch": {"name": "Anna", "add_aliases": ["Annie"], "attrs": {"age": 3}}}),
        ),
        ("graph/merge_entities", json!({"keep": ana, "merge": [ben]})),
        ("graph/split_entity", json!({"id": ana, "edges": [edge], "name": "Ana of the sea"})),
        ("graph/add_edge", json!({"from": ben, "relation": "likes", "to": ana})),
        ("graph/invalidate_edge", json!({"id": edge, "valid_to": "2030-01-01"})),
        ("graph/delete_entity", json!({"id": ben})),
        ("consolidation/pin", json!({"id": fact, "pinned": true})),
    ];
    for (op, params) in changes {
        let before = seen(&store);
        let start = head(&store);
        call(&store, op, params);
        let after = seen(&store);
        // The change is the first event it led to; a search that is answered may leave records behind it.
        let at = start + 1;
        let done = undo(&store, &at.to_string());
        same(&seen(&store), &before, &format!("{op} was not taken back: {done}"));
        let again = undo(&store, &done["seq"].to_string());
        same(&seen(&store), &after, &format!("{op} was not done again: {again}"));
        undo(&store, &again["seq"].to_string());
        same(&seen(&store), &before, &format!("{op} was not taken back a second time"));
    }
    assert_eq!(store.run(&["replay", "--verify"]).status.code(), Some(0), "what undo did survives a rebuild");
    assert_eq!(store.run(&["log", "verify"]).status.code(), Some(0));
}

#[test]
fn a_run_and_an_import_are_taken_back_whole() {
    let store = Store::new();
    call(&store, "semantic/store", json!({"content": "water is wet"}));
    let before = seen(&store);
    let code = "await athena.semantic.store({content: 'the kettle is red'});
        await athena.episodic.remember({content: 'Ana made tea in the kettle'});
        await athena.prospective.create_task({title: 'more tea'}); return 1";
    let output = store.feed(&["--json", "exec", "-", "--lang", "js"], code);
    let run: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(run["status"], "completed", "{run}");
    assert_ne!(seen(&store), before);
    let run = run["run"].as_str().unwrap();
    let rehearsed = store.json(&["undo", run, "--dry-run"]);
    assert_eq!(rehearsed["undone"].as_array().unwrap().len(), 3, "{rehearsed}");
    assert_ne!(seen(&store), before, "a rehearsal changes nothing");
    // Several events are asked about, and where nobody can be asked the answer is no.
    assert_eq!(store.run(&["--no-input", "undo", run]).status.code(), Some(2));
    undo(&store, run);
    assert_eq!(seen(&store), before);

    let file = store.path().with_file_name("memory.jsonl");
    let lines = r#"{"type":"entity","name":"Ana","entityType":"person","observations":["likes tea","has a kettle"]}
{"type":"entity","name":"Ben","entityType":"person","observations":[]}
{"type":"relation","from":"Ana","to":"Ben","relationType":"knows"}"#;
    std::fs::write(&file, lines).unwrap();
    let before = seen(&store);
    let file = file.to_str().unwrap();
    let rehearsed = store.json(&["import", file, "--format", "server-memory", "--dry-run"]);
    assert_eq!(rehearsed["added"], 5, "{rehearsed}");
    let done = store.json(&["import", file, "--format", "server-memory"]);
    assert_eq!((&done["added"], &done["deduped"]), (&json!(5), &json!(0)), "{done}");
    assert_ne!(seen(&store), before);
    undo(&store, &done["seq"].to_string());
    assert_eq!(seen(&store), before);
}

#[test]
fn what_cannot_be_taken_back_says_why() {
    let store = Store::new();
    let fact = call(&store, "semantic/store", json!({"content": "the kettle is red"}))["id"].clone();
    let stored = head(&store);
    call(&store, "semantic/reinforce", json!({"id": fact, "delta": 1.0}));
    let refused = store.run(&["--json", "undo", &stored.to_string()]);
    assert_eq!(refused.status.code(), Some(1));
    let error: Value = serde_json::from_slice(&refused.stderr).unwrap();
    assert_eq!(error["code"], "conflict");
    assert!(error["message"].as_str().unwrap().contains("semantic.reinforced"), "{error}");
    assert_eq!(store.run(&["undo", &stored.to_string(), "--force"]).status.code(), Some(0));
    assert_eq!(call(&store, "semantic/list", json!({}))["items"], json!([]));

    let episode = call(&store, "episodic/remember", json!({"content": "a secret"}))["id"].clone();
    let before = head(&store);
    call(&store, "episodic/forget", json!({"sel": {"ids": [episode]}, "mode": "erase"}));
    let refused = text(&store.run(&["undo", &(before + 1).to_string()]).stderr);
    assert!(refused.contains("cannot be undone") && refused.contains("destroyed"), "{refused}");
    assert_eq!(store.run(&["undo", "999999"]).status.code(), Some(3));
    assert_eq!(store.run(&["undo", "nonsense"]).status.code(), Some(3));
}

#[test]
fn an_export_holds_every_layer_comes_back_once_and_is_taken_back_whole() {
    let store = Store::new();
    let ana = call(
        &store,
        "graph/add_entity",
        json!({"name": "Ana", "type": "person", "aliases": ["Annie"], "attrs": {"age": 3}}),
    )["id"]
        .clone();
    let ben = call(&store, "graph/add_entity", json!({"name": "Ben", "type": "person"}))["id"].clone();
    call(&store, "graph/add_edge", json!({"from": ana, "relation": "knows", "to": ben, "weight": 0.5}));
    call(&store, "episodic/remember", json!({"content": "the kettle broke", "tags": ["kitchen"]}));
    call(&store, "semantic/store", json!({"content": "the kettle is red"}));
    let house = call(&store, "prospective/create_goal", json!({"title": "a good house"}))["id"].clone();
    let goal = call(
        &store,
        "prospective/create_goal",
        json!({"title": "a warm kitchen", "parent": house, "measure": "degrees"}),
    )["id"]
        .clone();
    let first =
        call(&store, "prospective/create_task", json!({"title": "find a shop", "priority": 3}))["id"].clone();
    let task = call(
        &store,
        "prospective/create_task",
        json!({"title": "buy a kettle", "goal": goal, "depends_on": [first], "due": "2030-01-01"}),
    )["id"]
        .clone();
    call(&store, "prospective/update_task", json!({"id": first, "patch": {"status": "done"}}));
    call(&store, "prospective/register_trigger", json!({"when": {"entity": ana}, "then": {"task": task}}));
    call(
        &store,
        "procedural/learn",
        json!({"name": "boil", "language": "js", "code": "return input.litres", "description": "Boils water.", "params": {"type": "object"}, "tags": ["kitchen"]}),
    );
    let file = store.path().with_file_name("memory-of-all.jsonl");
    let file = file.to_str().unwrap();
    let exported = store.json(&["export", "--to", file]);
    assert_eq!(exported["count"], 11, "{exported}");

    let other = Store::new();
    let before = seen(&other);
    let done = other.json(&["import", file, "--format", "jsonl"]);
    assert_eq!((&done["added"], &done["rejected"]), (&json!(11), &json!([])), "{done}");
    // The same things stand in the same relations, under other ids.
    let shape = |store: &Store| -> Vec<String> {
        let copy = store.path().with_file_name("copy.jsonl");
        store.json(&["export", "--to", copy.to_str().unwrap()]);
        let text = std::fs::read_to_string(copy).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let said = |id: &str| {
            let named = lines.iter().find(|line| line["item"]["id"] == id)?;
            ["title", "name", "content"]
                .iter()
                .find_map(|name| named["item"][name].as_str().map(str::to_owned))
        };
        let mut shapes: Vec<String> = lines
            .iter()
            .map(|line| {
                let mut item = line["item"].clone();
                let fields = item.as_object_mut().unwrap();
                // When and by whom it was recorded is of the store, not of the item.
                let of_the_store = [
                    "id",
                    "created",
                    "registered",
                    "recorded",
                    "prov",
                    "time",
                    "importance",
                    "confidence",
                    "seq",
                    "scope",
                    "actor",
                    "valid_from",
                ];
                fields.retain(|name, _| !of_the_store.contains(&name.as_str()));
                let mut text = item.to_string();
                for other in &lines {
                    let id = other["item"]["id"].as_str().unwrap();
                    text = text.replace(id, &said(id).unwrap_or_default());
                }
                text
            })
            .collect();
        shapes.sort();
        shapes
    };
    assert_eq!(shape(&other), shape(&store));
    let again = other.json(&["import", file, "--format", "jsonl"]);
    assert_eq!((&again["added"], &again["deduped"]), (&json!(0), &json!(11)), "{again}");
    let undone = undo(&other, &done["seq"].to_string());
    assert_eq!(undone["kept"], json!([]), "{undone}");
    assert_eq!(seen(&other), before);
    assert_eq!(call(&other, "procedural/list", json!({}))["items"], json!([]));
    assert_eq!(other.run(&["replay", "--verify"]).status.code(), Some(0));
}
