//! Other people's servers behind the front: found as they change, gone without harm, cancelled, and never too large.

use crate::support::{Mcp, Store, kill, text, until};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// A store with the misbehaving server in front of it, under a name.
struct House {
    store: Store,
    folder: tempfile::TempDir,
}

impl House {
    fn with(names: &[(&str, &str)]) -> Self {
        let house = Self { store: Store::new(), folder: tempfile::tempdir().unwrap() };
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/hostile.py");
        for (name, mode) in names {
            let (script, flag) = (script.to_str().unwrap(), house.flag());
            let args = ["upstream", "add", name, "--", "python3", script, "--mode", mode, "--flag"];
            house.store.json(&[&args[..], &[flag.to_str().unwrap()]].concat());
            house.store.json(&["upstream", "test", name]);
        }
        house
    }

    fn flag(&self) -> PathBuf {
        self.folder.path().join("flag")
    }

    fn pid(&self, server: &str) -> Option<i32> {
        let output = self.store.run(&["--json", "upstream", "list"]);
        let said = text(&output.stdout);
        let rows = said.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let row = rows.into_iter().find(|row| row["server"] == server)?;
        row["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok())
    }
}

fn runs(pid: i32) -> bool {
    // A process that ended and was not yet asked for its end is no process any more.
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z"))
}

#[test]
fn t05_a_tool_that_comes_later_is_found_at_once_and_the_front_stays() {
    let house = House::with(&[("kit", "rug")]);
    let mut mcp = Mcp::start(&house.store);
    let front = mcp.ask("tools/list", json!({}))["result"].to_string();
    let finds =
        |mcp: &mut Mcp| mcp.call("search", json!({"path": "/mcp-servers/kit"})).to_string().contains("fresh");
    assert!(!finds(&mut mcp));
    std::fs::write(house.flag(), "more").unwrap();
    until("the new tool is not found", || finds(&mut mcp));
    let ran = mcp.call(
        "execute",
        json!({"code": "import { fresh } from '/mcp-servers/kit/fresh.ts'; return typeof fresh"}),
    );
    assert_eq!(ran["value"], "function", "{ran}");
    assert_eq!(mcp.ask("tools/list", json!({}))["result"].to_string(), front);
}

#[test]
fn t05_a_tool_that_changes_is_held_and_says_what_changed() {
    let house = House::with(&[("kit", "rug")]);
    let mut mcp = Mcp::start(&house.store);
    std::fs::write(house.flag(), "pull").unwrap();
    let call = json!({"code": "try { await callMCPTool('kit/add', {}); return 'called' } catch (error) { return String(error) }"});
    let mut last = Value::Null;
    until("the changed tool is not held", || {
        last = mcp.call("execute", call.clone());
        last["value"].as_str().is_some_and(|said| said.contains("held"))
    });
    assert!(last["value"].as_str().unwrap().contains("mails them"), "{last}");
    let listed = house.store.run(&["--json", "upstream", "tools", "kit"]);
    assert!(text(&listed.stdout).contains("mails them"), "a person sees what changed");
    let report = house.store.json(&["upstream", "test", "kit"]);
    assert!(report["held"][0]["held"].to_string().contains("mails them"), "{report}");
    house.store.json(&["upstream", "accept", "kit", "add"]);
    let allowed = mcp.call("execute", call);
    assert!(!allowed["value"].as_str().unwrap_or_default().contains("held"), "{allowed}");
}

#[test]
fn t06_a_server_that_dies_is_named_with_its_last_words_and_the_others_live() {
    let house = House::with(&[("kit", "plain"), ("other", "plain")]);
    let mut mcp = Mcp::start(&house.store);
    let code = "let said = ''; try { await kit.crash({}) } catch (error) { said = String(error) } \
                return {said, other: (await other.echo({text: 'alive'})).content}";
    let ran = mcp.call("execute", json!({ "code": code }));
    let said = ran["value"]["said"].as_str().unwrap_or_default();
    assert!(said.contains("kit") && said.contains("last words on stderr"), "{ran}");
    assert_eq!(ran["value"]["other"], "alive");
    let again = json!({"code": "return (await kit.echo({text: 'back'})).content"});
    until("it is not started again", || mcp.call("execute", again.clone())["value"] == "back");
}

#[test]
fn t06_no_process_is_left_when_clients_and_daemon_are_gone() {
    let house = House::with(&[("kit", "plain")]);
    let mut mcp = Mcp::start(&house.store);
    assert_eq!(
        mcp.call("execute", json!({"code": "return (await kit.echo({text: 'x'})).content"}))["value"],
        "x"
    );
    let (relay, server) = (mcp.pid(), house.pid("kit").unwrap());
    drop(mcp);
    until("the client's own process lives on", || !runs(relay));
    assert!(runs(server), "the store's servers belong to its daemon");
    house.store.run(&["daemon", "stop"]);
    until("an upstream outlives the daemon", || !runs(server));
}

/// A server, what it started and what that started: some of it in a session of its own, none of it minding its input or SIGTERM.
fn family(house: &House, mcp: &mut Mcp) -> Vec<i32> {
    let ran = mcp.call("execute", json!({"code": "return JSON.parse((await kit.family({})).content)"}));
    let pids = ran["value"].as_array().unwrap_or_else(|| panic!("{ran}"));
    let mut all: Vec<i32> =
        pids.iter().filter_map(Value::as_i64).filter_map(|pid| i32::try_from(pid).ok()).collect();
    assert_eq!(all.len(), 3, "{ran}");
    all.push(house.pid("kit").unwrap());
    assert!(all.iter().all(|pid| runs(*pid)), "{all:?}");
    // From now on the server itself does not read its input either.
    mcp.send("tools/call", json!({"name": "execute", "arguments": {"code": "await kit.freeze({})"}}));
    all
}

#[test]
fn t06_nothing_of_a_server_outlives_a_killed_daemon() {
    let house = House::with(&[("kit", "plain")]);
    let mut mcp = Mcp::start(&house.store);
    let all = family(&house, &mut mcp);
    // The client goes first: it would have its request made again, by another daemon.
    kill(mcp.pid());
    house.store.daemon().into_iter().for_each(kill);
    until("something of a server outlives a killed daemon", || !all.iter().any(|pid| runs(*pid)));
}

#[test]
fn t06_nothing_of_a_server_outlives_its_removal() {
    let house = House::with(&[("kit", "plain")]);
    let mut mcp = Mcp::start(&house.store);
    let all = family(&house, &mut mcp);
    house.store.json(&["upstream", "remove", "kit"]);
    until("something of a server outlives its removal", || !all.iter().any(|pid| runs(*pid)));
}

#[test]
fn a_program_that_does_not_exist_is_named_with_the_reason() {
    let store = Store::new();
    store.json(&["upstream", "add", "kit", "--", "no-such-program-of-mine", "--stdio"]);
    let refused = store.run(&["upstream", "test", "kit"]);
    let said = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1));
    assert!(said.contains("no-such-program-of-mine") && said.contains("No such file"), "{said}");
}

#[test]
fn t07_a_cancelled_call_stops_the_run_and_is_cancelled_at_the_server() {
    let house = House::with(&[("kit", "plain")]);
    let mut mcp = Mcp::start(&house.store);
    let begun = |status: &str| {
        text(&house.store.run(&["--json", "run", "list"]).stdout)
            .contains(&format!("\"status\":\"{status}\""))
    };
    let id = mcp.send("tools/call", json!({"name": "execute", "arguments": {"code": "await kit.hang({})"}}));
    let hanging = PathBuf::from(format!("{}.hanging", house.flag().display()));
    until("the call does not reach the server", || hanging.exists());
    mcp.tell("notifications/cancelled", json!({"requestId": id, "reason": "enough"}));
    let cancelled = PathBuf::from(format!("{}.cancelled", house.flag().display()));
    until("the server is not told", || cancelled.exists());
    until("the run goes on", || !begun("running"));

    // A client that simply goes away has cancelled as well.
    let mut gone = Mcp::start(&house.store);
    gone.send(
        "tools/call",
        json!({"name": "execute", "arguments": {"code": "await kit.hang({}); return 2"}}),
    );
    until("the second call does not reach the server", || {
        std::fs::read_to_string(&hanging).unwrap().lines().count() == 2
    });
    drop(gone);
    until("the second run goes on without its client", || !begun("running"));
}

#[test]
fn t09_a_session_outlives_the_daemon_and_is_its_owner_s_alone() {
    let store = Store::new();
    let named = |name: &str| {
        let mut mcp = Mcp::bare(store.command(&["serve"]).stderr(Stdio::null()));
        let client = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": name, "version": "1"}});
        mcp.ask("initialize", client);
        mcp.tell("notifications/initialized", json!({}));
        mcp
    };
    let mut first = named("first");
    let kept = first
        .call("execute", json!({"code": "session.state.n = 41; return session.state.n", "session": "mine"}));
    assert_eq!(kept["value"], 41, "{kept}");
    store.kill_daemon();
    let read = json!({"code": "return session.state.n ?? 'nothing'", "session": "mine"});
    assert_eq!(first.call("execute", read.clone())["value"], 41);
    assert_eq!(named("second").call("execute", read)["value"], "nothing");
}

/// How many runs in a row: a few here, `ATHENA_EXECUTES=10000` for the whole of it.
fn executes() -> u64 {
    std::env::var("ATHENA_EXECUTES")
        .map_or(300, |number| number.parse().expect("ATHENA_EXECUTES is a number"))
}

#[test]
fn t11_memory_stays_flat_and_no_process_is_left_over_many_runs() {
    let house = House::with(&[("kit", "plain")]);
    let resident = || house.store.json(&["daemon", "status"])["status"]["resident_bytes"].as_u64().unwrap();
    let daemon = house.store.daemon().unwrap();
    let children = || -> Vec<i32> {
        let task = format!("/proc/{daemon}/task");
        let lists = std::fs::read_dir(task).unwrap().flatten();
        let lists = lists.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
        lists.collect::<String>().split_whitespace().map(|pid| pid.parse().unwrap()).collect()
    };
    let mut mcp = Mcp::start(&house.store);
    let mut run = |number: u64| {
        let code = format!("return {number} + (await kit.echo({{text: '1'}})).content.length");
        assert_eq!(mcp.call("execute", json!({ "code": code }))["value"], number + 1);
    };
    // What is built once is built: caches, the pool, the first segments of the log.
    (0..100).for_each(&mut run);
    let (before, living) = (resident(), children().len());
    (0..executes()).for_each(&mut run);
    let after = resident();
    println!("{} MiB before, {} MiB after {} runs", before >> 20, after >> 20, executes());
    assert!(after < before + (32 << 20), "{before} before, {after} after {} runs", executes());
    until("processes are left over", || {
        let now = children();
        now.len() <= living + 2 && now.iter().all(|pid| runs(*pid))
    });
}

#[test]
fn t14_stdout_is_json_rpc_whatever_servers_write_and_daemons_do() {
    let house = House::with(&[("kit", "plain")]);
    // The client itself fails on any line that is no JSON.
    let mut mcp =
        Mcp::with(house.store.command(&["-v", "-v", "serve"]).env("RUST_LOG", "trace").stderr(Stdio::null()));
    let ran = mcp.call("execute", json!({"code": "return (await kit.garbage({})).content"}));
    assert_eq!(ran["value"], "between the garbage", "{ran}");
    house.store.kill_daemon();
    let ran = mcp.call("execute", json!({"code": "console.log('\\u0000\\n{\"jsonrpc\":'); return 1"}));
    assert_eq!(ran["value"], 1, "{ran}");
    assert!(
        mcp.heard
            .lines()
            .all(|line| serde_json::from_str::<Value>(line).is_ok_and(|line| line["jsonrpc"] == "2.0"))
    );
}

#[test]
fn t15_an_answer_of_a_hundred_megabytes_is_a_handle_and_memory_stays_bounded() {
    const BYTES: u64 = 100 << 20;
    let house = House::with(&[("kit", "plain")]);
    let resident = || house.store.json(&["daemon", "status"])["status"]["resident_bytes"].as_u64().unwrap();
    let mut mcp = Mcp::start(&house.store);
    assert_eq!(mcp.call("execute", json!({"code": "return 1"}))["value"], 1);
    let before = resident();
    let code = format!(
        "const big = await kit.big({{bytes: {BYTES}}}); return {{handle: big.handle, bytes: big.bytes, shown: big.content.length}}"
    );
    let ran = mcp.call("execute", json!({ "code": code }));
    let answer = &ran["value"];
    assert!(answer["bytes"].as_u64().unwrap_or(0) >= BYTES - (1 << 20), "{ran}");
    assert!(answer["shown"].as_u64().unwrap() < 1 << 20);
    let after = resident();
    assert!(after < before + (48 << 20), "{before} before, {after} after {BYTES} bytes");
    let path = answer["handle"].as_str().unwrap();
    let piece = house.store.json(&[
        "call",
        "files/read",
        &json!({"path": path, "offset": 50 << 20, "limit": 16}).to_string(),
    ]);
    assert_eq!(piece["text"].as_str().unwrap().len(), 16, "{piece}");
}

#[test]
fn a_front_without_a_daemon_has_the_store_to_itself() {
    let store = Store::new();
    let mut mcp = Mcp::with(store.command(&["serve", "--no-daemon"]).stderr(Stdio::null()));
    assert!(mcp.call("remember", json!({"content": "the kettle is blue"}))["seq"].is_u64());
    assert_eq!(mcp.call("execute", json!({"code": "return 41 + 1"}))["value"], 42);
    let relay = mcp.pid();
    drop(mcp);
    until("it outlives its client", || !runs(relay));
    let found = store.run(&["--json", "recall", "kettle"]);
    assert!(text(&found.stdout).contains("the kettle is blue"), "{}", text(&found.stderr));
}

#[test]
fn what_worked_after_a_search_is_learned_judged_and_shown() {
    let house = House::with(&[("kit", "plain")]);
    let mut mcp = Mcp::with(house.store.command(&["serve", "--profile", "legacy"]).stderr(Stdio::null()));
    let usage = |op: &str| {
        let used = house.store.json(&["call", "meta/usage"]);
        used.as_array().unwrap().iter().find(|row| row["op"] == op).cloned().unwrap_or_default()
    };
    until("no advice is ever followed", || {
        let found = mcp.call("search", json!({"query": "say the words again", "in": "tools"}));
        assert!(found.to_string().contains("kit/echo"), "{found}");
        let ran = mcp.call("execute", json!({"code": "return (await kit.echo({text: 'x'})).content"}));
        assert_eq!(ran["value"], "x", "{ran}");
        usage("tools/search")["recommended"]["followed"].as_u64() > Some(0)
    });
    let judged = usage("tools/search");
    assert_eq!(
        (&judged["recommended"]["missed"], &judged["recommended"]["accuracy"]),
        (&json!(0), &json!(1.0))
    );
    assert!(judged["calls"].as_u64() > Some(0), "{judged}");
    assert!(usage("kit/echo")["calls"].as_u64() > Some(0));

    // An older name does what it did, and is counted where people look.
    assert_eq!(mcp.call("execute_code", json!({"script": "return 41 + 1"}))["value"], 42);
    assert_eq!(usage("run/execute")["older_names"], json!({"execute_code": 1}));
    let doctor = text(&house.store.run(&["doctor", "--plain"]).stdout);
    assert!(doctor.contains("execute_code (1×): use run/execute"), "{doctor}");
    let rebuilt = house.store.run(&["replay", "--verify"]);
    assert_eq!(rebuilt.status.code(), Some(0), "{}", text(&rebuilt.stderr));
}

#[test]
fn a_tool_that_cannot_be_read_is_named_where_people_look() {
    let house = House::with(&[("kit", "malformed")]);
    let tested = house.store.json(&["upstream", "test", "kit"]);
    assert_eq!(tested["status"]["tools"], 2, "{tested}");
    assert!(tested["status"]["refused"]["worse"].as_str().unwrap().contains("not well formed"), "{tested}");
    // Also after a restart, before the server runs again.
    house.store.kill_daemon();
    let doctor = text(&house.store.run(&["doctor", "--plain"]).stdout);
    assert!(
        doctor.contains("not offered") && doctor.contains("kit/worse: it is not well formed"),
        "{doctor}"
    );
}

#[test]
fn tools_are_documented_in_three_forms() {
    let house = House::with(&[("kit", "plain")]);
    for (form, sign) in
        [("markdown", "### kit/echo"), ("html", "<h2>kit/echo</h2>"), ("json", "\"kit/echo\"")]
    {
        let printed = house.store.run(&["docs", "kit", "--format", form]);
        assert!(text(&printed.stdout).contains(sign), "{form}: {}", text(&printed.stderr));
    }
    assert!(text(&house.store.run(&["docs"]).stdout).contains("### semantic/search"));
    let unknown = house.store.run(&["docs", "kitt"]);
    assert!(text(&unknown.stderr).contains("kit"), "{}", text(&unknown.stderr));
}

/// `docs/gateway.md` says of each of the fifteen black-box tests what shows it: exactly what there is.
#[test]
fn the_table_of_black_box_tests_is_current() {
    use std::collections::{BTreeMap, BTreeSet};
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap();
    let sources: String = std::fs::read_dir(root.join("tests"))
        .unwrap()
        .flatten()
        .chain(std::fs::read_dir(root.join("tests/stride")).unwrap().flatten())
        .filter(|entry| entry.path().extension().is_some_and(|ending| ending == "rs"))
        .map(|entry| std::fs::read_to_string(entry.path()).unwrap())
        .collect();
    // Tests that carry a number must stand on its line.
    let mut numbered: BTreeMap<u32, BTreeSet<String>> = BTreeMap::new();
    for (at, _) in sources.match_indices("\nfn t") {
        let name: String =
            sources[at + 4..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        if let Some(number) = name.get(1..3).and_then(|digits| digits.parse().ok()) {
            numbered.entry(number).or_default().insert(name);
        }
    }
    let (suite, bench, run) = (read("tests/clients/suite"), read("benches/src/main.rs"), read("tests/run"));
    let page = read("docs/gateway.md");
    let mut rows = BTreeSet::new();
    for line in page.lines().filter(|line| line.starts_with("| T")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [id, _, shown] = cells[..] else { panic!("{line}") };
        let number: u32 = id[1..].parse().unwrap();
        assert!(rows.insert(number), "{id} stands twice");
        let names: BTreeSet<&str> = shown.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "{id} is shown by nothing");
        for name in &names {
            let there = match name.split_once(' ') {
                Some(("athena-bench", bench_name)) => {
                    bench.to_lowercase().contains(&format!("{}(", bench_name.split(' ').next().unwrap()))
                }
                Some(("tests/run", step)) => run.contains(&format!("tests/run {step}")),
                Some(_) => suite.contains(&format!("check \"{name}\"")),
                None => sources.contains(&format!("fn {name}()")),
            };
            assert!(there, "{id}: there is no {name}");
        }
        let missing: Vec<String> = numbered
            .remove(&number)
            .into_iter()
            .flatten()
            .filter(|name| !names.contains(name.as_str()))
            .collect();
        assert!(missing.is_empty(), "{id} does not name {missing:?}");
    }
    assert_eq!(rows, (1..=15).collect());
    assert!(numbered.is_empty(), "on no line: {numbered:?}");
}
