//! Types before the run: with the real compiler where `tests/run` has installed it, and with ones that misbehave.

use crate::support::{ATHENA, Store, text};
use serde_json::{Value, json};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The pinned TypeScript, where it is installed beside the other outside programs.
fn typescript() -> Option<PathBuf> {
    let target = Path::new(ATHENA).parent()?.parent()?;
    let program = target.join("clients/node_modules/.bin/tsc");
    if !program.exists() {
        let mut told = std::io::stderr();
        let missing = "TypeScript is not installed (tests/run clients does): the real compiler was NOT tried";
        writeln!(told, "{missing}").unwrap();
        return None;
    }
    Some(program)
}

/// A store whose settings name this compiler.
fn store(checker: &Path, more: &str) -> Store {
    let store = Store::new();
    std::fs::create_dir_all(store.path()).unwrap();
    let settings = format!("[sandbox]\nchecker = {:?}\n{more}", checker.to_str().unwrap());
    std::fs::write(store.path().join("config.toml"), settings).unwrap();
    store
}

/// A compiler that does this instead.
fn script(folder: &Path, body: &str) -> PathBuf {
    let file = folder.join("tsc");
    std::fs::write(&file, format!("#!/bin/sh\n{body}\n")).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    file
}

fn ask(store: &Store, params: Value) -> Value {
    store.calls(&[json!({"op": "run/execute", "params": params})]).remove(0)
}

fn checked(store: &Store, code: &str) -> Value {
    ask(store, json!({"code": code, "language": "typescript", "check": true}))["result"].clone()
}

#[test]
fn the_compiler_says_what_is_wrong_with_the_agents_code_and_nothing_is_run() {
    let Some(program) = typescript() else { return };
    let store = store(&program, "");
    let secret = store.path().with_file_name("secret.ts");
    std::fs::write(&secret, "export const key = 'hunter2' as const; export default key;").unwrap();

    let wrong = "await athena.semantic.store({ content: 'kept' });\n\
                 const hits = await athena.semantic.search({ qery: 'kettle' });\nreturn hits.length";
    let outcome = checked(&store, wrong);
    assert_eq!(
        (&outcome["status"], &outcome["metrics"]["calls"]),
        (&json!("failed"), &json!(0)),
        "{outcome}"
    );
    let error = &outcome["error"];
    assert_eq!((&error["type"], &error["line"]), (&json!("TypeCheckError"), &json!(2)), "{outcome}");
    assert!(
        error["column"].as_u64().unwrap() > 40 && error["message"].as_str().unwrap().contains("qery"),
        "{error}"
    );
    assert!(store.events(Some("semantic.stored")).is_empty());
    let replay = json!({"op": "run/replay", "params": {"run": outcome["run"]}});
    assert_eq!(store.calls(&[replay])[0]["result"]["identical"], true);

    // All that the sandbox has is known: tools by global and by import, the engine's own globals, `return` and `await` outside
    // of functions.
    let right = "import { search } from \"/mcp-servers/athena/semantic/search.ts\";\n\
                 const [a, b] = await Promise.all([search({ query: 'kettle' }), athena.semantic.list({})]);\n\
                 const url = new URL('http://x.example/?q=1'); const id: string = crypto.randomUUID();\n\
                 console.log(url.searchParams.get('q'), id.length, new TextEncoder().encode('x').length, structuredClone(a));\n\
                 setTimeout(() => {}, 1); session.state.seen = input; const told = await callMCPTool('tools/search', { query: 'x' });\n\
                 return a.length + b.items.length";
    assert_eq!(checked(&store, right)["status"], "completed", "{}", checked(&store, right));

    // What lies elsewhere on the machine is neither read nor told.
    for import in [
        format!("import key from {:?};\nconst n: number = key;", secret),
        format!("/// <reference path={:?} />\nconst n: number = key;", secret),
        format!("type S = typeof import({:?});\nconst s: S = 1;", secret.with_extension("")),
    ] {
        let outcome = checked(&store, &import).to_string();
        assert!(outcome.contains("TypeCheckError") && !outcome.contains("hunter2"), "{outcome}");
    }
    // Nobody asked, and the settings do not say so.
    let outcome = ask(&store, json!({"code": "const n: string = 5; return n", "language": "typescript"}));
    assert_eq!(outcome["result"]["value"], 5, "{outcome}");
}

#[test]
fn the_settings_ask_for_all_typescript_and_for_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let says =
        "echo \"run.ts(1,7): error TS2322: Type 'number' is not assignable to type 'string'.\"; exit 2";
    let store = store(&script(folder.path(), says), "type_check = true\n");
    let run = |params: Value| ask(&store, params)["result"].clone();
    let typescript = run(json!({"code": "const n: string = 5; return n", "language": "typescript"}));
    assert_eq!(
        (&typescript["error"]["line"], &typescript["error"]["column"]),
        (&json!(1), &json!(7)),
        "{typescript}"
    );
    assert_eq!(run(json!({"code": "return 5", "language": "javascript"}))["value"], 5);
    let not = run(json!({"code": "return 5", "language": "typescript", "check": false}));
    assert_eq!(not["value"], 5, "{not}");
}

#[test]
fn without_a_compiler_or_with_a_bad_one_nothing_is_run_and_the_way_out_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("code.ts");
    std::fs::write(&file, "return await athena.semantic.store({ content: 'kept' })").unwrap();
    for (body, told) in [
        (None, "there is no"),
        (Some("exit 70"), "ended with"),
        (Some("echo 'error TS5023: Unknown compiler option.'; exit 1"), "TS5023"),
        (Some("kill -9 $$"), "ended with"),
    ] {
        let program = body.map_or_else(|| folder.path().join("none"), |body| script(folder.path(), body));
        let store = store(&program, "");
        let output = store.run(&["exec", file.to_str().unwrap(), "--check"]);
        let said = text(&output.stderr);
        assert!(!output.status.success() && said.contains(told) && said.contains("try:"), "{body:?}: {said}");
        assert!(store.events(Some("run.started")).is_empty(), "{body:?}");
    }
}

/// A compiler that never ends ends with whoever waited for it, and so does what it started.
#[test]
fn a_compiler_is_killed_with_all_it_started_when_nobody_waits_any_more() {
    let folder = tempfile::tempdir().unwrap();
    let pids = folder.path().join("pids");
    let body = format!("echo $$ >> {0}; sleep 600 & echo $! >> {0}; touch {0}.whole; wait", pids.display());
    let store = store(&script(folder.path(), &body), "");
    let file = folder.path().join("code.ts");
    std::fs::write(&file, "return 1").unwrap();
    let mut exec = store
        .command(&["exec", file.to_str().unwrap(), "--check"])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let until = |what: &dyn Fn() -> bool| {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(15);
        while !what() {
            assert!(std::time::Instant::now() < deadline, "it did not come about");
            std::thread::park_timeout(std::time::Duration::from_millis(10));
        }
    };
    until(&|| pids.with_extension("whole").exists());
    exec.kill().unwrap();
    exec.wait().unwrap();
    let pids = std::fs::read_to_string(&pids).unwrap();
    // What init has not reaped yet is dead all the same.
    let gone = |pid: &str| {
        let stat = std::fs::read_to_string(Path::new("/proc").join(pid).join("stat"));
        stat.is_err() || stat.is_ok_and(|stat| stat.contains(") Z "))
    };
    until(&|| pids.lines().all(gone));
}
