//! What TypeScript and JavaScript do, by value.

use crate::support::{self, fault, job, run, run_job, value};
use athena_schemas::risk::Limits;
use athena_schemas::wire::{FaultKind, Language};
use serde_json::{Value, json};

fn ts(code: &str) -> Value {
    value(Language::TypeScript, code)
}

#[test]
fn a_worker_is_ready_in_its_jail_and_ends_with_its_socket() {
    let worker = support::Worker::start(&[]);
    assert!(["full", "seccomp"].contains(&worker.ready.level.as_str()), "{:?}", worker.ready);
    assert!(worker.ready.layers.iter().any(|layer| layer == "seccomp"), "{:?}", worker.ready);
    assert!(worker.ready.engines.iter().any(|engine| engine.starts_with("quickjs")));
    assert!(worker.close().success());
}

#[test]
fn a_worker_that_was_prepared_does_what_any_other_does() {
    for (language, code) in [
        (
            Language::JavaScript,
            "[Object.keys(globalThis), Object.keys(athena.semantic), await github.create_issue({ title: 'x' })]",
        ),
        (Language::JavaScript, "return athena.semantics.search({})"),
        (Language::JavaScript, "return [Math.random(), crypto.randomUUID()]"),
        (Language::Python, "[athena.semantic.search(query='x'), input['n']]"),
        (Language::Python, "athena.semantics.search(query='x')"),
    ] {
        let (plain, prepared) = (run(language, code), support::run_prepared(job(language, code)));
        assert_eq!((plain.finish.result, plain.calls), (prepared.finish.result, prepared.calls), "{code}");
    }
}

#[test]
fn the_value_of_a_script() {
    for (code, expected) in [
        ("1 + 1", json!(2)),
        ("return 1 + 1", json!(2)),
        ("const a: number = 2; a * 3", json!(6)),
        ("const a = 1;", json!(null)),
        ("'text'", json!("text")),
        ("({ a: [1, { b: null }] })", json!({"a": [1, {"b": null}]})),
        ("if (input.n > 10) { return 'big' } 'small'", json!("big")),
        ("await Promise.resolve(input.name)", json!("Ada")),
        ("function f() { return 5 } f()", json!(5)),
        ("f(); function f() { return 6 }", json!(6)),
        ("export const x = 4; export default x + 1", json!(5)),
        ("enum Color { Red, Green = 'g' } [Color.Red, Color.Green, Color[0]]", json!([0, "g", "Red"])),
        ("namespace N { export const v = 3 } N.v", json!(3)),
        ("interface P { a: number } const p = { a: 1 } satisfies P; p.a as unknown as string", json!(1)),
        (
            "class A { constructor(private readonly x: number) {} get y(): number { return this.x } } new A(9).y",
            json!(9),
        ),
        ("class A { #p = 1; static s = 2; get p() { return this.#p } } [new A().p, A.s]", json!([1, 2])),
        ("function id<T>(x: T): T { return x } id<string>('q')", json!("q")),
        ("const { a, ...rest } = { a: 1, b: 2, c: 3 }; rest", json!({"b": 2, "c": 3})),
        ("[1, 2, 3].map((x) => x ** 2).toSorted((a, b) => b - a)", json!([9, 4, 1])),
        ("Object.groupBy([1, 2, 3], (x) => (x % 2 ? 'odd' : 'even'))", json!({"odd": [1, 3], "even": [2]})),
        ("'2024-05-06'.match(/(?<y>\\d+)-(?<m>\\d+)/).groups.m", json!("05")),
        (
            "for await (const x of (async function* () { yield 1; yield 2 })()) session.state.count += x; session.state.count",
            json!(4),
        ),
        (
            "const o = JSON.parse('{\"__proto__\": {\"x\": 1}, \"y\": 2}'); [({}).x === undefined, o.y, Object.keys(o)]",
            json!([true, 2, ["__proto__", "y"]]),
        ),
        ("undefined", json!(null)),
        ("`${[1, 2]}`", json!("1,2")),
        ("", json!(null)),
    ] {
        assert_eq!(ts(code), expected, "{code}");
    }
}

#[test]
fn tools_are_reached_by_every_road() {
    let call = |op: &str, params: Value| json!({"op": op, "params": params});
    for (code, expected) in [
        ("await athena.semantic.search({ query: 'q' })", call("semantic/search", json!({"query": "q"}))),
        (
            "const { search } = athena.semantic; await search({ query: 'q' })",
            call("semantic/search", json!({"query": "q"})),
        ),
        (
            "await callMCPTool('github/create_issue', { title: 't' })",
            call("github/create_issue", json!({"title": "t"})),
        ),
        (
            "await callMCPTool('athena/semantic/search', { query: 'q' })",
            call("semantic/search", json!({"query": "q"})),
        ),
        ("await github.create_issue()", call("github/create_issue", json!({}))),
        (
            "import { create_issue } from '/mcp-servers/github/create_issue.ts'; return await create_issue({ title: 'x' })",
            call("github/create_issue", json!({"title": "x"})),
        ),
        ("import sum from '/skills/sum.ts'; sum([1, 2, 3])", json!(6)),
        ("const { default: sum } = await import('/skills/sum.ts'); sum([4, 5])", json!(9)),
        (
            "await searchTools('issue', { detail: 'brief' })",
            call("tools/search", json!({"detail": "brief", "query": "issue"})),
        ),
        (
            "await readToolDefinition('github/create_issue')",
            call("tools/definition", json!({"path": "github/create_issue"})),
        ),
        ("await readdir()", call("files/list", json!({"path": "/"}))),
        ("await readFile('/skills/sum.ts')", call("files/read", json!({"path": "/skills/sum.ts"}))),
        (
            "await results.read('r_1', { from: 0, to: 9 })",
            call("results/read", json!({"handle": "r_1", "range": {"from": 0, "to": 9}})),
        ),
        (
            "(await Promise.all([1, 2, 3].map((i) => athena.semantic.search({ i })))).map((r) => r.params.i)",
            json!([1, 2, 3]),
        ),
        (
            "try { await athena.semantic.store({}) } catch (e) { [e instanceof Error, e.code, e.message, e.try] }",
            json!(null),
        ),
        (
            "let r; try { await athena.semantic.store({}) } catch (e) { r = [e instanceof Error, e.name, e.code, e.message, e.try] } r",
            json!([true, "Refusal", "denied", "no writes today; try: tomorrow", "tomorrow"]),
        ),
    ] {
        assert_eq!(ts(code), expected, "{code}");
    }
}

#[test]
fn faults_have_their_place_in_the_source() {
    for (code, name, message, place) in [
        ("let a = 1;\nlet = = 2;", "SyntaxError", "Unexpected", (2, 7)),
        ("let a = 1;\nlet a = 2;", "SyntaxError", "already been declared", (1, 5)),
        ("const a: any = {};\na.b.c", "TypeError", "undefined", (2, 0)),
        (
            "type T = { a: 1 };\n\nfunction inner(x: T) {\n  throw new RangeError('too big');\n}\ninner({ a: 1 });",
            "RangeError",
            "too big",
            (4, 0),
        ),
        ("const r = 1;\nawait athena.semantic.store({});", "Refusal", "no writes today", (2, 0)),
        ("throw { custom: 1 }", "Error", "the code threw { custom: 1 }", (0, 0)),
        ("athena.semantic.serch({})", "TypeError", "did you mean athena.semantic.search", (1, 0)),
        ("await search({ query: 'x' })", "ReferenceError", "did you mean athena.semantic.search", (1, 0)),
        ("import fs from 'fs'; fs", "Error", "no packages", (0, 0)),
        ("await import('data:text/javascript,1')", "Error", "no packages", (0, 0)),
        ("import x from '/skills/broken.ts'; x", "SyntaxError", "/skills/broken.ts:1:17", (0, 0)),
        ("import x from '/skills/none.ts'; x", "Error", "there is no /skills/none.ts", (0, 0)),
        ("eval('1')", "Error", "code generation", (1, 0)),
        ("new Function('return 1')()", "Error", "code generation", (1, 0)),
        ("(async () => {}).constructor('return 1')", "Error", "code generation", (1, 0)),
        ("await new Promise(() => {})", "DeadlockError", "nothing will ever settle", (0, 0)),
        ("export * from '/skills/sum.ts'", "SyntaxError", "re-export", (1, 1)),
        ("10n", "TypeError", "", (0, 0)),
        ("}) (); (() => {", "SyntaxError", "", (1, 1)),
    ] {
        let fault = fault(Language::TypeScript, code);
        assert_eq!(fault.name, name, "{code}\n{fault:?}");
        assert!(fault.message.contains(message), "{code}\n{fault:?}");
        if place.0 > 0 {
            let column = if place.1 == 0 { 0 } else { fault.column };
            assert_eq!((fault.line, column), place, "{code}\n{fault:?}");
        }
    }
}

#[test]
fn limits_end_a_run_with_their_kind() {
    let limits =
        Limits { wall_ms: 3_000, cpu_ms: 300, log_bytes: 1_000, calls: 5, memory_mb: 32, ..Limits::BALANCED };
    for (code, kind) in [
        ("while (true) {}", FaultKind::TimedOut),
        ("for (;;) await 0", FaultKind::TimedOut),
        ("for (;;) try { while (true) {} } catch {} finally { continue }", FaultKind::TimedOut),
        ("/(a+)+$/.test('a'.repeat(40) + 'b')", FaultKind::TimedOut),
        ("({ toJSON() { for (;;); } })", FaultKind::TimedOut),
        (
            "await new Promise((go) => setTimeout(go, 1e9)); await new Promise(() => setInterval(() => {}, 1))",
            FaultKind::Limit,
        ),
        ("const xs = []; for (;;) xs.push('x'.repeat(100_000) + xs.length)", FaultKind::OutOfMemory),
        ("new ArrayBuffer(5e9)", FaultKind::Thrown),
        ("for (let i = 0; i < 9; i++) await athena.semantic.search({ i })", FaultKind::Limit),
        ("for (;;) try { await athena.semantic.search() } catch {}", FaultKind::Limit),
        ("function f() { return f() + 1 } f()", FaultKind::Thrown),
    ] {
        let fault =
            run_job(support::Job { limits, ..job(Language::JavaScript, code) }).finish.result.unwrap_err();
        assert_eq!(fault.kind, kind, "{code}\n{fault:?}");
    }
    let huge = format!("'{}'", "x".repeat(300 << 10));
    assert_eq!(fault(Language::JavaScript, &huge).kind, FaultKind::Limit);
    assert_eq!(fault(Language::JavaScript, &"(".repeat(200_000)).kind, FaultKind::Syntax);
}

#[test]
fn the_console_and_the_state_arrive() {
    let trace = run(
        Language::TypeScript,
        "console.log('a', 1, { b: [true, null] }); console.error('%s is %d', 'x', 4.5); console.warn(new Map([[1, 'q']]));\n\
         session.state.count += 1; session.state.list = [1]; 'done'",
    );
    let line = |level: &str, text: &str| (level.to_owned(), text.to_owned());
    assert_eq!(
        trace.logs,
        [
            line("log", "a 1 { b: [true, null] }"),
            line("error", "x is 4"),
            line("warn", "Map(1) { 1 => \"q\" }")
        ]
    );
    assert_eq!(serde_json::from_str::<Value>(&trace.finish.state).unwrap(), json!({"count": 2, "list": [1]}));
    assert!(trace.finish.cpu_us > 0 && trace.finish.engine.starts_with("quickjs"));
}

#[test]
fn the_web_is_there_without_its_network() {
    for (code, expected) in [
        ("[btoa('hello'), atob('aGVsbG8=')]", json!(["aGVsbG8=", "hello"])),
        ("Array.from(new TextEncoder().encode('é€'))", json!([195, 169, 226, 130, 172])),
        (
            "const d = new TextDecoder(); d.decode(new Uint8Array([226, 130]), { stream: true }) + d.decode(new Uint8Array([172]))",
            json!("€"),
        ),
        (
            "const u = new URL('../b?x=1#h', 'https://u:p@a.example:8080/c/d'); u.searchParams.append('y', 'ä b'); [u.href, u.host, u.origin]",
            json!([
                "https://u:p@a.example:8080/b?x=1&y=%C3%A4+b#h",
                "a.example:8080",
                "https://a.example:8080"
            ]),
        ),
        ("[...new URLSearchParams({ a: '1', b: '2' })].length", json!(2)),
        ("URL.canParse('nope')", json!(false)),
        (
            "const a = { d: new Date(0), m: new Map([[1, { x: 1 }]]) }; a.self = a; const b = structuredClone(a); [b.self === b, b !== a, b.m.get(1).x, b.d.getTime()]",
            json!([true, true, 1, 0]),
        ),
        (
            "const t = []; setTimeout(() => t.push('b'), 5); queueMicrotask(() => t.push('a')); await new Promise((go) => setTimeout(go, 9)); t",
            json!(["a", "b"]),
        ),
        (
            "let n = 0; await new Promise((go) => { const i = setInterval(() => { if (++n === 3) { clearInterval(i); go() } }, 10) }); n",
            json!(3),
        ),
        (
            "[Date.now(), new Date().toISOString(), performance.now()]",
            json!([1_700_000_000_000_u64, "2023-11-14T22:13:20.000Z", 0]),
        ),
        (
            "const before = Date.now(); for (let i = 0; i < 1e5; i++); const same = Date.now() === before; await athena.semantic.search({}); [same, Date.now() - before]",
            json!([true, 10]),
        ),
        ("new Date(2024, 0, 1).getTimezoneOffset()", json!(0)),
        (
            "[typeof fetch, typeof process, typeof require, typeof WebAssembly, typeof Deno, typeof std, typeof os]",
            json!(vec!["undefined"; 7]),
        ),
        ("new (class extends Date {})(5).getTime()", json!(5)),
        (
            "[typeof crypto.randomUUID(), crypto.getRandomValues(new Uint8Array(4)).length]",
            json!(["string", 4]),
        ),
    ] {
        assert_eq!(ts(code), expected, "{code}");
    }
}

#[test]
fn the_same_frames_give_the_same_bytes() {
    let code = "const ids = [Math.random(), crypto.randomUUID(), Date.now()];\n\
                const race = await Promise.race([athena.semantic.search({ i: 1 }), new Promise((go) => setTimeout(go, 3))]);\n\
                console.log(ids); return { ids, race, at: Date.now() }";
    let runs: Vec<_> = (0..3).map(|_| run(Language::TypeScript, code)).collect();
    for other in &runs[1..] {
        assert_eq!(other.finish.result, runs[0].finish.result);
        assert_eq!((&other.calls, &other.logs), (&runs[0].calls, &runs[0].logs));
    }
    let other = run_job(support::Job { seed: [8; 32], ..job(Language::TypeScript, code) });
    assert_ne!(other.finish.result, runs[0].finish.result);
}
