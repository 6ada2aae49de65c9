//! Deno as an engine that requests ask for, from outside: with the pinned one where `tests/run` has installed it.

use crate::support::{ATHENA, Store, text};
use serde_json::{Value, json};
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// The pinned Deno, where it is installed beside the other outside programs.
fn installed() -> Option<PathBuf> {
    let packages = Path::new(ATHENA).parent()?.parent()?.join("clients/node_modules/@deno");
    let found =
        std::fs::read_dir(packages).into_iter().flatten().flatten().map(|entry| entry.path().join("deno"));
    let program = found.into_iter().find(|program| program.exists());
    if program.is_none() {
        // Past the capture of the test harness.
        let missing = "Deno is not installed (tests/run clients does): it was NOT tried";
        let mut told = std::io::stderr();
        writeln!(told, "{missing}").unwrap();
    }
    program
}

/// A store whose settings permit this program.
fn store(program: &Path, more: &str) -> Store {
    let store = Store::new();
    std::fs::create_dir_all(store.path()).unwrap();
    let settings = format!("[sandbox]\ndeno = {:?}\n{more}", program.to_str().unwrap());
    std::fs::write(store.path().join("config.toml"), settings).unwrap();
    store
}

fn run(store: &Store, code: &str) -> Value {
    let params = json!({"code": code, "language": "typescript", "engine": "deno"});
    store.calls(&[json!({"op": "run/execute", "params": params})]).remove(0)
}

#[test]
fn runs_on_it_are_recorded_and_replay() {
    let Some(program) = installed() else { return };
    let store = store(&program, "");
    for code in [
        "await athena.semantic.store({ content: 'the kettle is red' });\n\
         const found = await athena.semantic.search({ query: 'kettle' });\nreturn [found.length, Math.random(), Date.now(), crypto.randomUUID()]",
        "const seen = []; await Promise.all([30, 10, 20].map(async (ms) => { await new Promise((r) => setTimeout(r, ms)); \
         seen.push(ms, performance.now()) })); return seen",
        "console.log(new Intl.DateTimeFormat('en').format()); const n: number = 1; throw new RangeError('at ' + n)",
        "import { search } from '/mcp-servers/athena/semantic/search.ts'; return (await search({ query: 'kettle' })).length",
    ] {
        let outcome = run(&store, code)["result"].clone();
        assert!(["completed", "failed"].contains(&outcome["status"].as_str().unwrap()), "{outcome}");
        let held = &outcome["sandbox"];
        assert_eq!(held["level"], "wide", "{outcome}");
        assert!(held["engine"].as_str().unwrap().starts_with("deno 2."), "{outcome}");
        let replay = json!({"op": "run/replay", "params": {"run": outcome["run"]}});
        let replayed = store.calls(&[replay]).remove(0);
        assert_eq!(replayed["result"]["identical"], true, "{code}: {replayed}");
    }
    // What it does not say runs where it always did.
    let outcome = store.calls(&[json!({"op": "run/execute", "params": {"code": "return 1"}})]).remove(0);
    assert!(outcome["result"]["sandbox"]["engine"].as_str().unwrap().starts_with("quickjs"), "{outcome}");
    let python = json!({"code": "1 + 1", "language": "python", "engine": "deno"});
    let refused = store.calls(&[json!({"op": "run/execute", "params": python})]).remove(0);
    assert_eq!(refused["error"]["code"], "invalid", "{refused}");
    // The command line has it, and says how it is held.
    let file = store.path().join("code.ts");
    std::fs::write(&file, "return typeof athena").unwrap();
    let output = store.run(&["exec", file.to_str().unwrap(), "--engine", "deno", "--json"]);
    assert!(text(&output.stdout).contains("\"engine\":\"deno 2."), "{}", text(&output.stdout));
    let doctor = store.run(&["sandbox", "doctor", "--json"]);
    assert!(text(&doctor.stdout).contains("memory-watch"), "{}", text(&doctor.stdout));
}

#[test]
fn what_it_takes_is_bounded_and_recorded() {
    let Some(program) = installed() else { return };
    let store = store(&program, "");
    // Sizes come from the input, so that the guard lets the code pass and the limits have to stop it.
    let run_with = |code: &str, limits: Value| {
        let params = json!({"code": code, "language": "javascript", "engine": "deno", "input": 1_u64 << 40, "limits": limits});
        store.calls(&[json!({"op": "run/execute", "params": params})]).remove(0)["result"].clone()
    };
    let bomb = "const all = []; for (let n = 0; n < input; n++) all.push(new Uint8Array(1 << 20).fill(1)); return all.length";
    let bomb = run_with(bomb, json!({}));
    assert_eq!(bomb["status"], "out_of_memory", "{bomb}");
    let spun = run_with("let n = 0; while (n < input) n += 0.001; return n", json!({"wall_ms": 200}));
    assert_eq!(spun["status"], "timed_out", "{spun}");
    let violations = store.calls(&[json!({"op": "run/violations", "params": {}})]).remove(0).to_string();
    assert!(violations.contains("memory") && violations.contains("time"), "{violations}");
    assert_eq!(run(&store, "1 + 1")["result"]["value"], 2);
}

#[test]
fn nobody_gets_it_who_was_not_given_it() {
    let none = Store::new();
    let refused = run(&none, "return 1");
    assert_eq!(refused["error"]["code"], "denied", "{refused}");
    assert!(refused["error"]["try"].as_str().unwrap().contains("sandbox.deno"), "{refused}");
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("deno");
    std::fs::write(&script, "#!/bin/sh\ntouch ran\n").unwrap();
    for (program, why) in [(script, "is a script"), (folder.path().join("none"), "there is no")] {
        let store = store(&program, "");
        let refused = run(&store, "return 1");
        let error = &refused["error"];
        assert_eq!(error["code"], "unavailable", "{refused}");
        assert!(error["message"].as_str().unwrap().contains(why), "{refused}");
        assert!(store.events(Some("run.started")).is_empty());
        let doctor = store.run(&["sandbox", "doctor"]);
        assert!(text(&doctor.stdout).contains("Deno of the host"), "{}", text(&doctor.stdout));
    }
}
