//! Every operation there is, called once with the example it declares, through the router of a whole house.
//!
//! A new operation is called without a line here, unless its example names something that has to exist first; then `Bench::seed`
//! says how that comes about. Operations that start processes of the program itself are called through the program.

use crate::support::{ATHENA, Store, text};
use athena::config::Config;
use athena::system::{Options, System};
use athena_schemas::catalog;
use athena_schemas::context::{Caller, Channel, Party, Scope};
use athena_schemas::operation::Entry;
use athena_schemas::ports::{Request, Router};
use athena_schemas::refusal::Refusal;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What the memory layers offer, and what is offered across them.
const MEMORY: &str = "
    episodic: remember bulk_remember recall get list_events query_temporal timeline context get_session annotate forget stats
    semantic: store bulk_store search get list supersede retract history as_of find_similar find_conflicts resolve_conflict
        merge reinforce
    procedural: learn get list search suggest docs execute versions diff rollback record_outcome effectiveness extract archive
    prospective: create_task get_task list_tasks update_task complete_task snooze_task create_goal list_goals update_goal
        register_trigger list_triggers remove_trigger pending
    graph: add_entity get_entity update_entity merge_entities split_entity add_edge invalidate_edge delete_entity
        search_entities neighbors find_path search_graph as_of get_communities summarize_community
    meta: coverage gaps confidence rate expertise quality load usage explain access_log staleness stats
    consolidation: consolidate preview status history undo clusters patterns extract_facts dedupe decay pin configure
    rag: retrieve bm25_search vector_search hybrid_search graph_search plan_query expand_query hyde rerank pack explain feedback
    store: export import erase_scope list_scopes move verify rebuild health";

#[test]
fn the_catalogue_is_whole() {
    let mut layer = "";
    let mut count = 0;
    for word in MEMORY.split_whitespace() {
        if let Some(name) = word.strip_suffix(':') {
            layer = name;
            continue;
        }
        assert!(catalog::find(&format!("{layer}/{word}")).is_some(), "there is no {layer}/{word}");
        count += 1;
    }
    assert_eq!(count, 112);
}

/// A house, and what the examples name in it.
struct Bench {
    router: Arc<dyn Router>,
    caller: Caller,
}

type Names = BTreeMap<&'static str, Value>;

impl Bench {
    /// Each operation has a project of its own, so that none depends on what another did.
    fn of(router: Arc<dyn Router>, project: &str) -> Self {
        let caller = Caller { scope: Scope::project(project), ..Caller::system() };
        Self { router, caller }
    }

    async fn call(&self, op: &str, params: Value) -> Result<Value, Refusal> {
        let mut caller = self.caller.clone();
        // Whoever asks does not answer, and values are shown to people only.
        if matches!(op, "approval/grant" | "approval/deny" | "privacy/reveal" | "privacy/keep") {
            (caller.party, caller.channel, caller.name) = (Party::Human, Channel::Cli, "ana".into());
        }
        self.router.call(&caller, Request::new(op, params)).await.map(|answer| answer.value)
    }

    async fn made(&self, op: &str, params: Value) -> Value {
        let answer = self.call(op, params).await.unwrap_or_else(|refusal| panic!("{op}: {refusal}"));
        answer["id"].clone()
    }

    /// Makes what the example of an operation of this layer names.
    async fn seed(&self, entry: &Entry) -> Names {
        match entry.layer {
            "semantic" => self.facts(entry.name).await,
            "procedural" => self.procedure(entry.name).await,
            "prospective" => self.intentions(entry.name).await,
            "graph" => self.entities(entry.name).await,
            "approval" => self.approval(entry.name).await,
            "upstream" => self.upstream(entry.name).await,
            _ => self.episodes(entry).await,
        }
    }

    async fn episodes(&self, entry: &Entry) -> Names {
        let mut id = Value::Null;
        for n in 0..4 {
            let content = format!("Ana: the kettle is in the cupboard, and tea number {n} is in the red tin");
            let event = json!({"content": content, "type": if n % 2 == 0 { "question" } else { "answer" },
                "session": if n < 2 { "kitchen" } else { "pantry" }, "tags": ["kitchen"]});
            id = self.made("episodic/remember", event).await;
        }
        if entry.name == "restore" {
            self.made("episodic/forget", json!({"sel": {"ids": [id]}, "mode": "hide"})).await;
        }
        let mut names = Names::from([("$id", id)]);
        if entry.layer == "consolidation" {
            let run = self.call("consolidation/consolidate", json!({})).await.unwrap()["run"].clone();
            if matches!(entry.name, "accept" | "reject" | "judge") {
                let asked = json!({"model": "ollama/example", "prompt": 1, "calls": 1, "failed": 0, "dropped": 0,
                    "tokens_in": 9, "tokens_out": 3});
                let claim =
                    json!({"content": "tea is in the tin", "sources": [names["$id"]], "confidence": 0.7});
                let note = json!({"of": run, "asked": asked, "claims": [claim]});
                let noted = self.call("consolidation/note_reasoning", note).await.unwrap();
                names.insert("$proposal", noted["proposals"][0].clone());
            }
            names.insert("$run", run);
        }
        names
    }

    async fn facts(&self, name: &str) -> Names {
        let id = self.made("semantic/store", json!({"content": "the port of the kettle is 8080"})).await;
        let other = self.made("semantic/store", json!({"content": "the port of the kettle is 9090"})).await;
        if name == "restore" {
            self.made("semantic/discard", json!({"ids": [id], "mode": "hide"})).await;
            return Names::from([("$id", id)]);
        }
        let conflicts = self.call("semantic/find_conflicts", json!({})).await.unwrap();
        Names::from([("$id", id), ("$id2", other), ("$conflict", conflicts["items"][0]["id"].clone())])
    }

    async fn procedure(&self, name: &str) -> Names {
        let learn: Value =
            serde_json::from_str(catalog::find("procedural/learn").unwrap().traits.example).unwrap();
        let run = json!("run_01k9zq3v8m5x2r7t4w6y1b0c9d");
        let mut id = Value::Null;
        if name != "learn" {
            id = self.made("procedural/learn", learn.clone()).await;
        }
        if name == "rollback" {
            let mut second = learn;
            second["code"] = json!("return `boiled all of it`");
            self.made("procedural/learn", second).await;
        }
        if name == "record_outcome" {
            let note = json!({"name": "boil_water", "version": 1, "run": run, "ok": false, "duration_ms": 3});
            self.made("procedural/note_execution", note).await;
        }
        Names::from([("$id", id), ("$run", run)])
    }

    async fn intentions(&self, name: &str) -> Names {
        let id = match name {
            "update_goal" => self.made("prospective/create_goal", json!({"title": "tea for all"})).await,
            "remove_trigger" => {
                let trigger = json!({"when": {"matches": "kettle"}, "then": {"note": "it boils"}});
                self.made("prospective/register_trigger", trigger).await
            }
            _ => self.made("prospective/create_task", json!({"title": "boil water"})).await,
        };
        Names::from([("$id", id)])
    }

    async fn entities(&self, name: &str) -> Names {
        let id = self.made("graph/add_entity", json!({"name": "Ana", "type": "person"})).await;
        let other = self.made("graph/add_entity", json!({"name": "Ben", "type": "person"})).await;
        let edge = json!({"from": id, "relation": "likes", "to": other});
        let edge = self.made("graph/add_edge", edge).await;
        if name == "restore_entity" {
            self.made("graph/delete_entity", json!({"id": id})).await;
        }
        let communities = self.call("graph/get_communities", json!({})).await.unwrap();
        let community = communities[0]["id"].clone();
        Names::from([("$id", id), ("$other", other), ("$edge", edge), ("$community", community)])
    }

    async fn approval(&self, name: &str) -> Names {
        let request = catalog::find("approval/request").unwrap().traits.example;
        let mut request: Value = serde_json::from_str(request).unwrap();
        // The same question asked again is the same approval: each operation has a question of its own.
        if name != "redeem" {
            request["binding"] = json!(name);
        }
        let id = self.made("approval/request", request).await;
        if name == "redeem" {
            self.made("approval/grant", json!({"id": id})).await;
        }
        Names::from([("$id", id)])
    }

    async fn upstream(&self, name: &str) -> Names {
        if !matches!(name, "add" | "enrol" | "list" | "roster") {
            let config = json!({"command": ATHENA, "args": ["__sample", "documents"]});
            self.made("upstream/add", json!({"server": "documents", "config": config})).await;
        }
        if matches!(name, "accept" | "settle") {
            for (digest, says) in [("00", "reads a file"), ("01", "reads any file")] {
                let definition = json!({"name": "read", "description": says}).to_string();
                let tool = json!({"tool": "read", "digest": digest, "definition": definition, "flags": []});
                self.made("upstream/observe", json!({"server": "documents", "tools": [tool]})).await;
            }
        }
        Names::new()
    }
}

/// The example with what it names put in.
fn filled(example: Value, names: &Names) -> Value {
    match example {
        Value::String(text) => names.get(text.as_str()).cloned().unwrap_or(Value::String(text)),
        Value::Array(items) => items.into_iter().map(|item| filled(item, names)).collect(),
        Value::Object(fields) => {
            fields.into_iter().map(|(name, value)| (name, filled(value, names))).collect()
        }
        other => other,
    }
}

/// What the declared answer lacks, where it lacks something.
fn lacking(entry: &Entry, answer: &Value) -> Option<String> {
    let schema = (entry.returns)().to_value();
    let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
    let mut names = required.filter_map(Value::as_str);
    names.find(|name| answer.get(*name).is_none()).map(|name| format!("no {name} in {answer}"))
}

/// These need an authorization server: `oauth.rs` calls them with one.
const ELSEWHERE: &[&str] = &["upstream/begin_auth", "upstream/finish_auth"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_example_is_answered_as_declared() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = Config::default();
    config.log.durability = "buffer".into();
    let options =
        Options { folder: Some(folder.path().into()), config, sandbox: false, ..Options::default() };
    let system = System::open(options).await.unwrap();
    std::fs::create_dir_all(folder.path().join("imports")).unwrap();
    let line = json!({"layer": "semantic", "item": {"content": "the kettle came from afar"}});
    std::fs::write(folder.path().join("imports/example.jsonl"), format!("{line}\n")).unwrap();

    let mut wrong = Vec::new();
    for entry in catalog::entries().filter(|entry| entry.layer != "run") {
        let op = entry.id();
        if ELSEWHERE.contains(&op.as_str()) {
            continue;
        }
        let bench = Bench::of(system.router(), &op);
        let names = bench.seed(entry).await;
        let example = filled(serde_json::from_str(entry.traits.example).unwrap(), &names);
        match bench.call(&op, example.clone()).await {
            Ok(answer) => wrong.extend(lacking(entry, &answer).map(|why| format!("{op} {example}: {why}"))),
            Err(refusal) => wrong.push(format!("{op} {example}: {refusal}")),
        }
    }
    system.shutdown().await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Runs need workers, which are the program itself: they are called through it, on a run that is there.
#[test]
fn every_example_about_runs_is_answered_as_declared() {
    let store = Store::new();
    let call = |op: &str, params: &Value| store.run(&["--json", "call", op, &params.to_string()]);
    let mut run = Value::Null;
    let entries: Vec<&Entry> = catalog::entries().filter(|entry| entry.layer == "run").collect();
    let (first, rest): (Vec<&Entry>, Vec<&Entry>) =
        entries.into_iter().partition(|entry| entry.name == "execute");
    for entry in first.into_iter().chain(rest) {
        let mut example: Value = serde_json::from_str(entry.traits.example).unwrap();
        if example.get("run").is_some() {
            example["run"] = run.clone();
        }
        let output = call(&entry.id(), &example);
        let said: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        if entry.name == "execute" {
            run = said["run"].clone();
        }
        // What has ended cannot be stopped; that, too, is said plainly.
        let over = text(&output.stderr).contains("conflict");
        assert!(
            output.status.success() && lacking(entry, &said).is_none() || entry.name == "cancel" && over,
            "{} {example}: {}{}",
            entry.id(),
            text(&output.stdout),
            text(&output.stderr)
        );
    }
}
