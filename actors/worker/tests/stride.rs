//! Rows of the threat table that only a real worker in its real jail can show. Rows about system calls are in `attacks`.

use crate::attacks::{attempt, ended};
use crate::support::{Job, Worker, echo, job, run, run_job, value};
use athena_schemas::risk::{Limits, Risk};
use athena_schemas::wire::{FaultKind, Language};
use athena_worker::analysis::assess;
use serde_json::{Value, json};

const TIGHT: Limits =
    Limits { wall_ms: 4_000, cpu_ms: 300, calls: 50, memory_mb: 32, log_bytes: 10_000, ..Limits::BALANCED };

/// How a run under tight limits fails.
fn fails(language: Language, code: &str) -> FaultKind {
    let trace = run_job(Job { limits: TIGHT, ..job(language, code) });
    match trace.finish.result {
        Err(fault) => fault.kind,
        Ok(value) => panic!("{code}\ngave {value}"),
    }
}

/// Whether the filter ended the worker for it.
fn killed(attack: &str) -> bool {
    ended("seccomp", attack)
}

/// Code writes on another run's channel: whatever descriptor it guesses, only its own socket takes a byte, and no other
/// descriptor is even open, though the server left some to be inherited.
#[test]
fn stride_s18() {
    for fd in (0..64).filter(|fd| ![2, 3].contains(fd)).chain([100, 255, 256, 511, 512, 1023, 1024, 65_535]) {
        assert!(killed(&format!("write:{fd}")), "descriptor {fd}");
    }
    let (said, ..) = attempt("seccomp", "write:2");
    assert_eq!(said, "RSS0", "standard error is closed");
}

/// Keys or databases through an inherited descriptor: the server has some open without close-on-exec, and in the jail none is.
#[test]
fn stride_i16() {
    let (said, _, status) = attempt("seccomp", "descriptors");
    assert_eq!((said.as_str(), status.success()), ("RSS0", true), "0 others are open");
}

/// Fifty places where secrets lie, by system call and by code of both languages.
#[test]
fn stride_i15() {
    let mut places: Vec<String> = [
        "/proc/self/environ",
        "/proc/1/environ",
        "/proc/self/maps",
        "/proc/self/mem",
        "/proc/self/cmdline",
        "/proc/self/fd/0",
        "/proc/self/root/etc/passwd",
        "/proc/kcore",
        "/proc/keys",
        "/etc/passwd",
        "/etc/shadow",
        "/etc/hosts",
        "/etc/ssh/ssh_host_rsa_key",
        "/etc/ssl/private",
        "/root/.ssh/id_rsa",
        "/root/.bash_history",
        "/dev/mem",
        "/dev/kmem",
        "/dev/sda",
        "/dev/shm",
        "/run/secrets",
        "/run/docker.sock",
        "/var/run/docker.sock",
        "/var/lib/cloud",
        "/sys/kernel/debug",
        "/sys/firmware",
        "/tmp",
        "/home",
        ".",
        "..",
    ]
    .map(str::to_owned)
    .into();
    let home = [
        ".ssh/id_ed25519",
        ".ssh/config",
        ".aws/credentials",
        ".config/gcloud/credentials.db",
        ".kube/config",
        ".netrc",
        ".npmrc",
        ".pypirc",
        ".git-credentials",
        ".gnupg/secring.gpg",
        ".docker/config.json",
        ".mozilla",
        ".config/athena",
        ".local/share/athena/keys/master.key",
        ".local/share/athena/log",
        ".cargo/credentials.toml",
        ".zsh_history",
        ".env",
        ".vault-token",
        ".claude.json",
    ];
    places.extend(home.map(|name| format!("/root/{name}")));
    assert_eq!(places.len(), 50);
    for place in &places {
        assert!(killed(&format!("open:{place}")), "{place}");
    }
    let list = json!(places);
    let script = format!(
        "const found = []; for (const p of {list}) {{ for (const q of [p, 'file://' + p]) {{ try {{ found.push(await import(q)) }} catch {{}} }} \
         try {{ found.push(require(p)) }} catch {{}} }} found.length"
    );
    let python = format!(
        "found = []\nfor p in {list}:\n    try:\n        found.append(open(p).read())\n    except Exception:\n        pass\nlen(found)"
    );
    assert_eq!(value(Language::JavaScript, &script), json!(0));
    assert_eq!(value(Language::Python, &python), json!(0));
}

/// An answer with `__proto__` and `constructor` in it: they are keys like any other and reach no prototype.
#[test]
fn stride_t16() {
    let hostile = |_: &str, _: &Value| {
        Ok(serde_json::from_str::<Value>(
            r#"{"__proto__": {"x": 1, "isAdmin": true}, "constructor": {"prototype": {"x": 1}}, "list": [{"__proto__": {"x": 1}}], "toString": 7}"#,
        )
        .unwrap())
    };
    let code = "const a = await athena.semantic.search({}); const copy = { ...a }; const merged = Object.assign({}, a.list[0]); \
                [({}).x === undefined, [].x === undefined, (() => {}).x === undefined, a.isAdmin === undefined || !({}).isAdmin, \
                 `${{}}` === '[object Object]', Object.prototype.x === undefined]";
    let finish = Worker::start(&[]).run(job(Language::JavaScript, code), hostile).unwrap().finish;
    assert_eq!(
        serde_json::from_str::<Value>(&finish.result.unwrap()).unwrap(),
        json!([true, true, true, true, true, true])
    );
}

/// Code replaces what the bridge might use, to read or change later calls: what reaches the host is what was passed, and what
/// comes back is what the host said.
#[test]
fn stride_t17() {
    for patch in [
        "JSON.stringify = () => '{\"q\":666}'; JSON.parse = () => ({ stolen: true });",
        "Promise.prototype.then = function () { throw 1 };",
        "Promise = class { constructor() { throw 1 } };",
        "Object.defineProperty(Object.prototype, 'q', { get() { return 666 }, set() {} });",
        "Object.prototype.toJSON = () => ({ q: 666 });",
        "Array.prototype.push = Array.prototype.map = () => { throw 1 };",
        "Function.prototype.call = Function.prototype.apply = () => 666;",
        "Reflect.apply = Reflect.construct = () => 666;",
        "String.prototype.toWellFormed = () => 'approval/grant';",
        "Object.defineProperty = Object.freeze = Object.create = () => ({});",
        "Map.prototype.get = Map.prototype.set = () => 666;",
        "globalThis.Error = class { constructor() { throw 1 } };",
    ] {
        let code =
            format!("try {{ {patch} }} catch {{}} const a = await athena.semantic.search({{ q: 1 }}); a.op");
        let trace = run(Language::JavaScript, &code);
        let toxic = patch.contains("toJSON");
        for (op, params) in &trace.calls {
            assert_eq!(op, "semantic/search", "{patch}");
            // `toJSON` is how an object says what it is written as; that is the code's own affair.
            assert!(toxic || *params == json!({"q": 1}), "{patch}: {params}");
        }
        assert!(trace.calls.len() <= 1, "{patch}");
    }
}

/// Endless loops in both languages, also where exceptions are caught: each is stopped, and the next worker is sound.
#[test]
fn stride_d01() {
    for (language, code) in [
        (Language::JavaScript, "while (true) {}"),
        (Language::JavaScript, "for (;;) try { for (;;); } catch {} finally { continue }"),
        (Language::JavaScript, "for (;;) await null"),
        (Language::Python, "while True: pass"),
        (Language::Python, "while True:\n    try:\n        while True: pass\n    except BaseException: pass"),
    ] {
        assert_eq!(fails(language, code), FaultKind::TimedOut, "{code}");
    }
    assert_eq!(value(Language::JavaScript, "1 + 1"), json!(2));
}

/// Six ways to take all memory: each ends as out of memory or an error of the code's own, and the server does not grow.
#[test]
fn stride_d02() {
    let before = resident();
    for (language, code) in [
        (Language::JavaScript, "let s = 'ab'; const all = []; for (;;) { s += s + all.length; all.push(s) }"),
        (Language::JavaScript, "const all = []; for (;;) all.push(new Uint8Array(1 << 20).fill(1))"),
        (Language::JavaScript, "const all = []; for (;;) all.push({ a: all.length, b: [all.length] })"),
        (
            Language::JavaScript,
            "const m = new Map(); for (let i = 0; ; i++) m.set('key' + i, 'v'.repeat(1000) + i)",
        ),
        (Language::Python, "x = []\nwhile True: x.append('a' * 10000 + str(len(x)))"),
        (Language::Python, "[0] * 10**10"),
    ] {
        let kind = fails(language, code);
        assert!(
            matches!(kind, FaultKind::OutOfMemory | FaultKind::Thrown | FaultKind::TimedOut),
            "{code}: {kind:?}"
        );
    }
    let grown = resident().saturating_sub(before);
    assert!(grown < 64 << 20, "the server grew by {grown} bytes");
}

fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

/// Recursion without end, of every kind: an error or a limit, never the death of a process.
#[test]
fn stride_d03() {
    for (language, code) in [
        (Language::JavaScript, "function f() { return f() + 1 } f()"),
        (Language::JavaScript, "const o = { get a() { return this.a } }; o.a"),
        (Language::JavaScript, "const p = new Proxy({}, { get: (t, k, r) => r[k] }); p.x"),
        (Language::JavaScript, "JSON.parse('['.repeat(1e6))"),
        (Language::JavaScript, "let a = []; for (let i = 0; i < 1e5; i++) a = [a]; JSON.stringify(a)"),
        (
            Language::JavaScript,
            "[1].sort(function f() { return [1, 2].sort(f) }); [2, 1].sort(function f() { return [1, 2].sort(f) })",
        ),
        (Language::JavaScript, "new RegExp('('.repeat(1e5))"),
        (Language::Python, "def f(): return f()\nf()"),
        (Language::Python, "import json\njson.loads('[' * 100000)"),
    ] {
        let kind = fails(language, code);
        assert!(
            matches!(
                kind,
                FaultKind::Thrown | FaultKind::Limit | FaultKind::OutOfMemory | FaultKind::TimedOut
            ),
            "{code}: {kind:?}"
        );
    }
}

/// Processes and threads: each way to make one is death, and there is none left behind to count.
#[test]
fn stride_d04() {
    for attack in ["fork", "vfork_clone", "clone3", "execve", "unshare"] {
        assert!(killed(attack), "{attack}");
    }
}

/// Filling a disk: nothing can be made, opened for writing or stretched, in the jail's folder or in memory.
#[test]
fn stride_d05() {
    for attack in [
        "open",
        "openat",
        "mkdir",
        "memfd",
        "unlink",
        "syscall:77",
        "syscall:85",
        "syscall:285",
        "syscall:76",
        "syscall:88",
    ] {
        assert!(killed(attack), "{attack}");
    }
}

/// Using up descriptors: no call that gives one is on the list, from `open` (2) to `pidfd_getfd` (438).
#[test]
#[cfg(target_arch = "x86_64")]
fn stride_d06() {
    for number in [
        2, 22, 32, 33, 41, 43, 53, 85, 213, 253, 257, 282, 283, 284, 288, 289, 290, 291, 292, 293, 294, 298,
        300, 304, 319, 323, 425, 434, 437, 438,
    ] {
        assert!(killed(&format!("syscall:{number}")), "system call {number}");
    }
}

/// A run's calls have a budget: the one after it is refused, in both languages, however the refusal is met.
#[test]
fn stride_d07() {
    for (language, code) in [
        (Language::JavaScript, "for (let i = 0; i < 1e6; i++) await athena.semantic.search({ i })"),
        (Language::JavaScript, "for (;;) try { await athena.semantic.search({}) } catch {}"),
        (
            Language::JavaScript,
            "await Promise.allSettled(Array.from({ length: 1e4 }, () => athena.semantic.search({}))); for (;;);",
        ),
        (Language::Python, "for i in range(1000000): athena.semantic.search(i=i)"),
    ] {
        let trace = run_job(Job { limits: TIGHT, ..job(language, code) });
        assert_eq!(trace.finish.result.unwrap_err().kind, FaultKind::Limit, "{code}");
        assert_eq!(trace.calls.len(), 50, "{code}");
    }
}

/// A gigabyte of output: what reaches the server is bounded.
#[test]
fn stride_d08() {
    for (language, code) in [
        (Language::JavaScript, "for (let i = 0; i < 1e4; i++) console.log('x'.repeat(1e5))"),
        (Language::Python, "for i in range(100000): print('x' * 10000)"),
    ] {
        let trace = run_job(Job { limits: TIGHT, ..job(language, code) });
        let heard: usize = trace.logs.iter().map(|(_, text)| text.len()).sum();
        assert!(heard <= 10_000 + 1_000, "{code}: {heard} bytes arrived");
        assert!(trace.logs.len() < 1_000, "{code}: {} lines arrived", trace.logs.len());
    }
}

/// Patterns that take exponential time: the interrupt reaches into the regex engine.
#[test]
fn stride_d10() {
    for pattern in [
        "/(a+)+$/.test('a'.repeat(40) + 'b')",
        "/^(([a-z])+.)+[A-Z]([a-z])+$/.test('a'.repeat(60))",
        "/(x+x+)+y/.test('x'.repeat(60))",
    ] {
        assert_eq!(fails(Language::JavaScript, pattern), FaultKind::TimedOut, "{pattern}");
    }
}

/// Timers and promises that are left behind do not keep a worker: the run ends with its value, and the process with it.
#[test]
fn stride_d18() {
    for code in [
        "setInterval(() => {}, 1); setTimeout(() => {}, 1e9); return 7",
        "new Promise(() => {}); (async () => { for (;;) await new Promise((go) => setTimeout(go, 1e8)) })(); return 7",
        "athena.semantic.search({}); return 7",
    ] {
        // `value` returns when the process has ended.
        assert_eq!(value(Language::JavaScript, code), json!(7), "{code}");
    }
}

/// Thirty chains of constructors towards a function of another realm: none makes code out of text, none finds a host object.
#[test]
fn stride_e01() {
    let functions = [
        "({}).constructor.constructor",
        "[].constructor.constructor",
        "''.constructor.constructor",
        "(0).constructor.constructor",
        "true.constructor.constructor",
        "/x/.constructor.constructor",
        "Symbol().constructor.constructor",
        "(() => {}).constructor",
        "(async () => {}).constructor",
        "(function* () {}).constructor",
        "(async function* () {}).constructor",
        "(class { m() {} }).prototype.m.constructor",
        "(() => {}).bind().constructor",
        "new Proxy(function () {}, {}).constructor",
        "Object.getPrototypeOf(async () => {}).constructor",
        "Reflect.get(() => {}, 'constructor')",
        "Object.getOwnPropertyDescriptor(Object.prototype, '__proto__').get.constructor",
        "new Date().constructor.constructor",
        "new Map().constructor.constructor",
        "Promise.resolve().then.constructor",
        "new Error().constructor.constructor",
        "JSON.parse.constructor",
        "console.log.constructor",
        "setTimeout.constructor",
        "callMCPTool.constructor",
        "athena.semantic.search.constructor",
        "(await athena.semantic.search({})).constructor.constructor",
        "(await athena.semantic.store({}).catch((e) => e)).constructor.constructor",
        "input.constructor.constructor",
        "session.state.constructor.constructor",
    ];
    assert_eq!(functions.len(), 30);
    for function in functions {
        for body in ["return 42", "return this", "return typeof process + typeof require + typeof globalThis"]
        {
            let trace = run(
                Language::JavaScript,
                &format!(
                    "const make = {function}; const f = make('{body}'); const r = f(); r === globalThis ? 'global' : r"
                ),
            );
            let fault = trace.finish.result.expect_err(function);
            assert_eq!(fault.kind, FaultKind::Thrown, "{function}: {fault:?}");
        }
    }
    let globals = value(
        Language::JavaScript,
        "Object.getOwnPropertyNames(globalThis).filter((n) => /process|require|module|native|bridge|__|std|os$|Deno|Bun|host/i.test(n))",
    );
    assert_eq!(globals, json!([]), "no door to the host has a name");
}

/// The bridge itself, and operations of people: there is no object to reach round the calls with, and a call is a name and JSON
/// for the host to judge, whatever name it is.
#[test]
fn stride_e08() {
    for name in [
        "__mcpBridge",
        "__bridge",
        "mcpBridge",
        "native",
        "__native",
        "__host",
        "host",
        "__athena",
        "deliver",
        "pending",
    ] {
        assert_eq!(
            value(Language::JavaScript, &format!("typeof globalThis['{name}']")),
            json!("undefined"),
            "{name}"
        );
    }
    let namespaces = value(Language::JavaScript, "Object.keys(athena).sort()");
    assert_eq!(namespaces, json!(["episodic", "semantic"]), "what the host listed and no more");
    for op in ["approval/grant", "privacy/untokenize", "log/read", "run/execute"] {
        let trace = run(Language::JavaScript, &format!("await callMCPTool('{op}', {{ id: 'ap_1' }})"));
        assert_eq!(trace.calls, [(op.to_owned(), json!({"id": "ap_1"}))], "it is the host's to refuse");
    }
}

/// Guard evasion: whatever the verdict, hostile code gets what its limits and its jail give. Here nobody judges at all.
#[test]
fn stride_e17() {
    for (language, code) in [
        (
            Language::JavaScript,
            "const c = ['child', 'process'].join('_'); (await import(c)).execSync('touch /tmp/athena-e17')",
        ),
        (Language::JavaScript, "const e = globalThis[['ev', 'al'].join('')]; e('1 + 1')"),
        (Language::JavaScript, "const f = globalThis['fe' + 'tch']; await f('http://127.0.0.1:9/')"),
        (Language::JavaScript, "globalThis['pro' + 'cess'].env.HOME.length"),
        (Language::Python, "getattr(__builtins__, 'ev' + 'al')('1')"),
        (Language::Python, "m = __import__('o' + 's')\nm.system('touch /tmp/athena-e17')"),
        (Language::Python, "open('/tmp/athena-e17', 'w').write('x')"),
        (Language::Python, "import socket\nsocket.create_connection(('127.0.0.1', 9))"),
    ] {
        let trace = run(language, code);
        assert!(trace.finish.result.is_err(), "{code}: {:?}", trace.finish);
        assert!(trace.calls.iter().all(|(op, _)| op == "files/module"), "{code}: {:?}", trace.calls);
    }
    assert!(!std::path::Path::new("/tmp/athena-e17").exists());
}

/// The guard's parser and the engine disagree about what is code: comments of HTML, hashbangs, marks of byte order, line ends of
/// Unicode, automatic semicolons. What is judged LOW makes no call that the judgement did not name.
#[test]
fn stride_e18() {
    let hidden = "athena.semantic.search({ q: 'hidden' })";
    for code in [
        format!("<!-- {hidden}\n1"),
        format!("1\n--> {hidden}"),
        format!("/*\n*/ --> {hidden}"),
        format!("#!/usr/bin/env node {hidden}\n1"),
        format!("\u{feff}{hidden}"),
        format!("// comment \u{2028}{hidden}"),
        format!("// comment \u{2029}{hidden}"),
        format!("// comment \r{hidden}"),
        format!("/* \u{2028} */ {hidden}"),
        format!("'a\u{2028}b'; {hidden}"),
        format!("`${{{hidden}}}`"),
        format!("const x = 1\n/{hidden}/g"),
        format!("let a = 1, g = 1; a\n/{hidden}/g"),
        format!("var \\u0061thena2 = \\u0061thena; {hidden}"),
        "\\u0061thena.semantic.s\\u0065arch({ q: 'hidden' })".to_owned(),
        format!("label: {{ {hidden} }}"),
        format!("return\n{hidden}"),
        format!("if (0) {{}} else {hidden}"),
        "const { semantic: { search: find } } = athena; find({ q: 'hidden' })".to_owned(),
        format!("(() => {hidden})()"),
        format!("class A {{ static {{ {hidden} }} }}"),
        format!("type T = 1; namespace N {{ {hidden} }}"),
        format!("enum E {{ A = ({hidden}, 1) }}"),
        format!("async function f(x = {hidden}) {{}} f()"),
        format!("const {{ a = {hidden} }} = {{}}"),
        format!("const [a = {hidden}] = []"),
        format!("const {{ b: {{ c = {hidden} }} = {{}} }} = {{}}"),
        format!("const {{ [{hidden}]: d }} = {{}}"),
        format!("let e; [e = {hidden}] = []; ({{ e = {hidden} }} = {{}})"),
        format!("for (const {{ f = {hidden} }} of [{{}}]) {{}}"),
        format!("for (const [g = {hidden}] in {{ }}) {{}} for (const [g = {hidden}] in {{ x: 1 }}) {{}}"),
        format!("(({{ h = {hidden} }}) => h)({{}})"),
        format!("((...[i = {hidden}]) => i)()"),
        format!("try {{ throw {{}} }} catch ({{ j = {hidden} }}) {{}}"),
        format!("class B {{ [{hidden}] = 1; static [{hidden}]() {{}} static k = {hidden} }}"),
        format!("namespace A.B.C {{ export const l = {hidden} }}"),
        "import find = athena.semantic.search; find({ q: 'hidden' })".to_owned(),
        format!("const o = {{ get [{hidden}]() {{ return 1 }} }}"),
        format!("switch (1) {{ case {hidden}: default: {hidden} }}"),
        format!("m: for (;;) {{ {hidden}; break m }}"),
        format!("`a${{`b${{{hidden}}}`}}`"),
        format!("void {hidden}, typeof {hidden}, !{hidden}, delete [{hidden}][0]"),
        format!("(async () => {{ for await (const p of [{hidden}]) {{}} }})()"),
        format!("new (class {{ constructor() {{ {hidden} }} }})()"),
        format!("super_: {{ const q = {{ __proto__: {hidden} }} }}"),
        format!("Promise.resolve().then(() => {hidden}).finally(() => {hidden})"),
        format!("({{ r: {hidden} }})?.r?.[{hidden}]"),
        format!("let s = 0; s ||= {hidden}; s ??= {hidden}; s &&= {hidden}"),
        format!("function* t() {{ yield {hidden}; yield* [{hidden}] }} [...t()]"),
    ] {
        for language in [Language::TypeScript, Language::JavaScript] {
            let judged = assess(language, &code);
            let trace = run(language, &code);
            for (op, _) in &trace.calls {
                assert!(
                    judged.level >= Risk::High || judged.capabilities.contains(op),
                    "{language:?}: {op} was called and not judged: {code:?} {judged:?}"
                );
            }
        }
    }
}

/// What runs in the jail cannot be read from outside it either: its memory holds no key, for it was never given one. Its server's
/// environment is gone before its first line.
#[test]
fn stride_i17_the_worker_was_never_told() {
    let code = "typeof process === 'undefined' ? 0 : Object.keys(process.env).length";
    assert_eq!(value(Language::JavaScript, code), json!(0));
    let trace = Worker::start(&[]).run(job(Language::Python, "import os\nos.environ"), echo).unwrap();
    assert!(trace.finish.result.is_err());
}
