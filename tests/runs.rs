//! Runs from outside: the jail holds them, their record replays them, and no death of the daemon repeats an effect.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

const ATHENA: &str = env!("CARGO_BIN_EXE_athena");

/// An MCP server over stdio that writes down what it is told before it answers.
const RECORDER: &str = r#"
import json, sys
book = sys.argv[1]
for line in sys.stdin:
    asked = json.loads(line)
    if "id" not in asked:
        continue
    method, params = asked["method"], asked.get("params", {})
    if method == "initialize":
        result = {"protocolVersion": params["protocolVersion"], "capabilities": {"tools": {}},
                  "serverInfo": {"name": "recorder", "version": "1"}}
    elif method == "tools/list":
        result = {"tools": [{"name": "note", "description": "Writes a line down.",
                  "inputSchema": {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}}]}
    elif method == "tools/call":
        with open(book, "a") as out:
            out.write(params["arguments"]["text"] + "\n")
            out.flush()
        result = {"content": [{"type": "text", "text": "noted"}]}
    else:
        error = {"code": -32601, "message": "no such method"}
        print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "error": error}), flush=True)
        continue
    print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": result}), flush=True)
"#;

/// A store in a folder of its own; its daemon ends with it.
struct Store {
    folder: tempfile::TempDir,
}

impl Store {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// A store that knows the recorder as the upstream `book`.
    fn with_recorder() -> Self {
        let store = Self::new();
        let script = store.path().join("recorder.py");
        std::fs::write(&script, RECORDER).unwrap();
        let root = store.path().join("store");
        std::fs::create_dir_all(&root).unwrap();
        let servers = json!({"mcpServers": {"book": {
            "command": "python3",
            "args": [script, store.path().join("book.txt")],
        }}});
        std::fs::write(root.join("upstreams.json"), servers.to_string()).unwrap();
        store
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(ATHENA);
        command.arg("--store").arg(self.path().join("store")).arg("--json").arg("--no-input").args(args);
        command.current_dir(self.path()).stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    fn json(&self, args: &[&str]) -> Value {
        let output = self.run(args);
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{args:?}: {}", String::from_utf8_lossy(&output.stderr)))
    }

    /// Requests a line each, answers in order.
    fn calls(&self, requests: impl Iterator<Item = Value>) -> Vec<Value> {
        let mut child =
            self.command(&["call", "--jsonl"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let requests: Vec<String> = requests.map(|request| request.to_string() + "\n").collect();
        let writer = std::thread::spawn(move || {
            requests.iter().for_each(|line| stdin.write_all(line.as_bytes()).unwrap())
        });
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        String::from_utf8(output.stdout)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    fn execute(&self, code: &str, language: &str) -> Value {
        let request = json!({"op": "run/execute", "params": {"code": code, "language": language}});
        self.calls([request].into_iter()).remove(0)["result"].clone()
    }

    fn replay(&self, run: &Value) -> Value {
        let request = json!({"op": "run/replay", "params": {"run": run}});
        self.calls([request].into_iter()).remove(0)["result"].clone()
    }

    fn kill_daemon(&self) -> bool {
        let output = self.run(&["daemon", "status"]);
        let Ok(status) = serde_json::from_slice::<Value>(&output.stdout) else { return false };
        let pid = status["pid"].to_string();
        Command::new("kill").args(["-9", &pid]).status().unwrap().success()
    }

    fn book(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.path().join("book.txt")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.run(&["daemon", "stop", "--force"]);
    }
}

#[test]
fn code_runs_in_a_jail_and_says_what_went_wrong_where() {
    let store = Store::new();
    let outcome = store.execute("const xs = [1, 2, 3]\nreturn xs.map(x => x * 2)", "js");
    assert_eq!(
        (&outcome["status"], &outcome["value"]),
        (&json!("completed"), &json!([2, 4, 6])),
        "{outcome}"
    );
    assert!(["full", "seccomp"].contains(&outcome["sandbox"]["level"].as_str().unwrap()), "{outcome}");

    let thrown = store.execute("const a = 1\nthrow new TypeError('no')", "js");
    assert_eq!(
        (&thrown["status"], &thrown["error"]["type"]),
        (&json!("failed"), &json!("TypeError")),
        "{thrown}"
    );
    assert_eq!(thrown["error"]["line"], 2, "{thrown}");

    let unparsed = store.execute("const = 1", "js");
    assert_eq!(unparsed["status"], "failed", "{unparsed}");
    assert_eq!(unparsed["error"]["line"], 1, "{unparsed}");

    for escape in [
        "return typeof process + typeof require + typeof fetch",
        "return this === undefined || typeof this.constructor",
    ] {
        assert_eq!(store.execute(escape, "js")["status"], "completed");
    }
    let runs = store.run(&["run", "list"]);
    assert!(String::from_utf8(runs.stdout).unwrap().lines().count() >= 5);
}

#[test]
fn a_limit_ends_a_run_and_not_the_daemon() {
    let store = Store::new();
    // Sizes come from the input, so that the guard lets them pass and the clocks have to stop them.
    for code in [
        "let n = 0; while (n < input) n += 0.001; return n",
        "return Array(input).join('x').length",
        "for (let n = 0; n < input; n += 0.001) await 0",
    ] {
        let params =
            json!({"code": code, "language": "js", "input": 1_u64 << 29, "limits": {"wall_ms": 200}});
        let request = json!({"op": "run/execute", "params": params});
        let outcome = store.calls([request].into_iter()).remove(0)["result"].clone();
        assert_eq!(outcome["status"], "timed_out", "{code}: {outcome}");
        assert_eq!(store.execute("return 1", "js")["value"], 1);
        let replayed = store.replay(&outcome["run"]);
        assert_eq!(replayed["identical"], true, "{code}: {replayed}");
    }
    let request = json!({"op": "run/violations", "params": {"bound": "time"}});
    let violations = store.calls([request].into_iter()).remove(0)["result"].clone();
    assert_eq!(violations.as_array().unwrap().len(), 3, "{violations}");
    assert_eq!(violations[0]["exfiltration"], false, "{violations}");
}

#[test]
fn python_beyond_the_subset_runs_in_the_host_s_interpreter_and_replays() {
    let store = Store::new();
    let code = "import random, time\nfrom enum import Enum\n\n\
                class Kind(Enum):\n    FACT = 'fact'\n\n\
                class Kept(Exception):\n    pass\n\n\
                def facts():\n    for n in range(3):\n        yield athena.semantic.store(content=f'{Kind.FACT.value} {n} {random.random()}')\n\n\
                ids = [fact['id'] for fact in facts()]\n\
                print(len(ids), 'kept at', time.time() > 1e9)\n\
                try:\n    raise Kept(ids[0])\nexcept Kept as kept:\n    first = str(kept)\n\
                {'first': first == ids[0], 'kinds': [kind.name for kind in Kind], 'dice': random.randint(1, 6), 'set': {'a', 'b', 'c'}}";
    let outcome = store.execute(code, "python");
    assert_eq!(outcome["status"], "completed", "{outcome}");
    assert!(outcome["sandbox"]["engine"].as_str().unwrap().starts_with("cpython 3."), "{outcome}");
    assert_eq!(outcome["metrics"]["calls"], 3, "{outcome}");
    assert_eq!(outcome["logs"], json!(["3 kept at True"]), "{outcome}");
    // Another daemon has another interpreter; what the code could observe is in the record.
    assert!(store.kill_daemon());
    let replayed = store.replay(&outcome["run"]);
    assert_eq!((&replayed["identical"], &replayed["value"]), (&json!(true), &outcome["value"]), "{replayed}");
    let within = store.execute("sum(n * n for n in range(4))", "python");
    assert!(within["sandbox"]["engine"].as_str().unwrap().starts_with("monty "), "{within}");
}

#[test]
fn state_and_results_last_beyond_a_run() {
    let store = Store::new();
    let count = "session.state.n = (session.state.n ?? 0) + 1; return session.state.n";
    let request =
        || json!({"op": "run/execute", "params": {"code": count, "language": "js", "session": "s"}});
    let values: Vec<Value> = store
        .calls((0..5).map(|_| request()))
        .iter()
        .map(|answer| answer["result"]["value"].clone())
        .collect();
    assert_eq!(values, [1, 2, 3, 4, 5].map(Value::from));
    assert!(store.kill_daemon());
    assert_eq!(store.calls([request()].into_iter())[0]["result"]["value"], 6);

    let large = store.execute("return 'x'.repeat(100000)", "js");
    let handle = large["cut"]["handle"].as_str().unwrap();
    let read = store
        .execute(&format!("return (await callMCPTool('results/read', {{handle: '{handle}'}})).length"), "js");
    assert_eq!(read["value"], 100_000, "{read}");
}

/// What a process holds: descriptors, threads, and children that nobody reaped.
#[cfg(target_os = "linux")]
fn held(pid: u64) -> (usize, usize, usize) {
    let count = |what: &str| std::fs::read_dir(format!("/proc/{pid}/{what}")).unwrap().count();
    let stats = std::fs::read_dir("/proc").unwrap().flatten();
    let zombies = stats
        .filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok())
        .filter(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(&format!("Z {pid} "))))
        .count();
    (count("fd"), count("task"), zombies)
}

/// Runs in a row leave nothing behind; `athena-bench runs` does ten thousand and weighs the memory as well.
#[cfg(target_os = "linux")]
#[test]
fn runs_in_a_row_leave_no_descriptor_no_thread_and_no_zombie() {
    let store = Store::new();
    let row = |runs: u64| {
        let request =
            |n| json!({"op": "run/execute", "params": {"code": format!("return {n}"), "language": "js"}});
        for (n, answer) in (0..runs).zip(store.calls((0..runs).map(request))) {
            assert_eq!(answer["result"]["value"], n, "{answer}");
        }
    };
    // Caches, blocking threads and the zygote come with the first.
    row(64);
    let pid = store.json(&["daemon", "status"])["pid"].as_u64().unwrap();
    let before = held(pid);
    row(300);
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let (fds, threads, zombies) = held(pid);
        // A worker may just be on its way to the shelf or off it; idle blocking threads go by themselves, and some may have come.
        if zombies == 0 && fds <= before.0 + 2 && threads <= before.1 + 8 {
            break;
        }
        assert!(Instant::now() < deadline, "{:?} before, {:?} after", before, (fds, threads, zombies));
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// Programs that differ in what they call, in what order they hear of it, and in how they end.
fn varied(n: u64) -> String {
    let store = format!("athena.semantic.store({{content: 'fact {n} ' + Math.random()}})");
    let search = format!("athena.semantic.search({{query: 'fact {n}'}})");
    match n % 10 {
        0 => format!("return [{n}, Math.random(), Date.now(), crypto.randomUUID()]"),
        1 => format!("const found = await {search}; console.log(found.length); return found"),
        2 => format!("return await Promise.all([{store}, {search}, {store}])"),
        3 => format!("return await Promise.race([{search}, new Promise(r => setTimeout(() => r('timer'), {}))])", n % 5),
        4 => format!("for (let i = 0; i < 5; i++) {{ await {search}; console.warn(i, Date.now()) }}; throw new Error('{n}')"),
        5 => "try { await athena.semantic.search({query: 7}) } catch (e) { return String(e.message ?? e) }".into(),
        6 => format!("const a = await {store}; const b = await {search}; return {{a, b: b.length, at: Date.now()}}"),
        7 => "const done = []; await Promise.all([5, 1, 3].map(ms => new Promise(r => setTimeout(() => { done.push(ms); r() }, ms)))); return done".into(),
        8 => format!("let sum = 0; for (let i = 0; i < {}; i++) sum += i * Math.random(); return sum", n * 100),
        _ => format!("const m = new Map([['n', {n}]]); return JSON.stringify([...m]) + (await {search}).length"),
    }
}

#[test]
fn two_hundred_recorded_runs_replay_identically() {
    let store = Store::new();
    let execute = |n| json!({"op": "run/execute", "params": {"code": varied(n), "language": "js"}});
    let outcomes = store.calls((0..200).map(execute));
    let ids: Vec<Value> = outcomes.iter().map(|answer| answer["result"]["run"].clone()).collect();
    let mut ends = BTreeMap::new();
    for outcome in &outcomes {
        *ends.entry(outcome["result"]["status"].to_string()).or_insert(0) += 1;
    }
    assert_eq!(
        ends,
        BTreeMap::from([("\"completed\"".into(), 180), ("\"failed\"".into(), 20)]),
        "{outcomes:?}"
    );
    // Another process, so that nothing but the record can help.
    assert!(store.kill_daemon());
    let replays = store.calls(ids.iter().map(|run| json!({"op": "run/replay", "params": {"run": run}})));
    for (n, (replay, outcome)) in replays.iter().zip(&outcomes).enumerate() {
        assert_eq!(replay["result"]["identical"], true, "{}: {replay}", varied(n as u64));
        if outcome["result"]["status"] == "completed" {
            assert_eq!(replay["result"]["value"], outcome["result"]["value"], "{}", varied(n as u64));
        }
    }
    let step = json!({"op": "run/replay", "params": {"run": ids[1], "step": true, "until": 1}});
    let stepped = store.calls([step].into_iter()).remove(0)["result"].clone();
    assert_eq!(
        (&stepped["identical"], &stepped["trace"][0]["kind"]),
        (&json!(true), &json!("call")),
        "{stepped}"
    );
}

/// Ten mutating calls, half memory and half another server's; the daemon is killed at any moment. 500 rounds with
/// `ATHENA_ROUNDS=500`.
#[test]
fn killed_at_any_moment_nothing_is_done_twice_and_nothing_is_lost() {
    let rounds: u64 = std::env::var("ATHENA_ROUNDS").map_or(6, |rounds| rounds.parse().unwrap());
    let store = Store::with_recorder();
    let warm = store.execute("return await callMCPTool('book/note', {text: 'warm'})", "js");
    assert_eq!(warm["status"], "completed", "{warm}");
    let mut doubts = 0;
    for round in 0..rounds {
        let code = format!(
            "for (let i = 0; i < 5; i++) {{ await athena.semantic.store({{content: `round {round} fact ${{i}}`}}); \
             await callMCPTool('book/note', {{text: `round {round} note ${{i}}`}}) }} return 'whole {round}'"
        );
        let file = store.path().join("code.js");
        std::fs::write(&file, &code).unwrap();
        let mut exec = store
            .command(&["exec", file.to_str().unwrap()])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Spread over what a round takes, in steps that no cycle of the machine shares.
        std::thread::park_timeout(Duration::from_millis(round * 37 % 230));
        store.kill_daemon();
        let _ = exec.wait();
        let run = newest(&store, round);
        let Some(run) = run else { continue };
        let id = run["run"].as_str().unwrap().to_owned();
        let mut end = run["status"].as_str().unwrap().to_owned();
        let deadline = Instant::now() + Duration::from_secs(60);
        while end != "completed" {
            assert!(Instant::now() < deadline, "round {round} does not end: {end}");
            end = match end.as_str() {
                "uncertain" => {
                    doubts += 1;
                    store.json(&["run", "resume", &id, "--uncertain", "fail"])
                }
                "interrupted" => store.json(&["run", "resume", &id]),
                "running" => store.json(&["run", "show", &id]),
                // The code hears that an outcome is not known, and ends with it: nothing is repeated behind its back.
                "failed" => break,
                other => panic!("round {round} ended as {other}"),
            }["status"]
                .as_str()
                .unwrap()
                .to_owned();
        }
        let notes =
            store.book().iter().filter(|line| line.starts_with(&format!("round {round} note"))).count();
        if end == "completed" {
            assert_eq!(notes, 5, "round {round}");
        }
        let replayed = store.replay(&json!(id));
        assert_eq!(replayed["identical"], true, "round {round}: {replayed}");
    }
    let book = store.book();
    let mut once = book.clone();
    once.sort();
    once.dedup();
    assert_eq!(once.len(), book.len(), "a note was written twice");
    let export = store.run(&["log", "export"]);
    let mut facts = BTreeMap::new();
    for line in String::from_utf8(export.stdout).unwrap().lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        if let Some(content) = find(&event, "content").and_then(Value::as_str)
            && line.contains("semantic.stored")
        {
            *facts.entry(content.to_owned()).or_insert(0) += 1;
        }
    }
    assert!(facts.values().all(|times| *times == 1), "{facts:?}");
    eprintln!(
        "{rounds} rounds, {doubts} of them with a call in doubt, {} facts, {} notes",
        facts.len(),
        book.len()
    );
}

/// The run of a round, if its start got on record.
fn newest(store: &Store, round: u64) -> Option<Value> {
    let listed = store.run(&["run", "list"]);
    String::from_utf8(listed.stdout)
        .unwrap()
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .find(|run| run["code"].as_str().is_some_and(|code| code.contains(&format!("round {round} fact"))))
}

/// The first member of this name, at any depth.
fn find<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    match value {
        Value::Object(members) => {
            members.get(name).or_else(|| members.values().find_map(|member| find(member, name)))
        }
        Value::Array(items) => items.iter().find_map(|item| find(item, name)),
        _ => None,
    }
}
