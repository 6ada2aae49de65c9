//! What Python does, by value.

use crate::support::{self, fault, job, run, run_job, value};
use athena_schemas::risk::Limits;
use athena_schemas::wire::{FaultKind, Language};
use serde_json::{Value, json};

fn py(code: &str) -> Value {
    value(Language::Python, code)
}

#[test]
fn the_value_of_a_script() {
    for (code, expected) in [
        ("1 + 1", json!(2)),
        ("x = 3\nx * 2", json!(6)),
        ("x = 3", json!(null)),
        ("[input['n'], input['name']]", json!([20, "Ada"])),
        ("session.state['count'] + 1", json!(2)),
        ("{'a': (1, 2), 'b': {3}, 4: None}", json!({"a": [1, 2], "b": [3], "4": null})),
        (
            "from datetime import datetime, date, timezone\n[datetime.now(), date.today(), datetime.now(timezone.utc)]",
            json!(["2023-11-14T22:13:20", "2023-11-14", "2023-11-14T22:13:20+00:00"]),
        ),
        ("import json\njson.loads(json.dumps({'a': 1}))['a']", json!(1)),
        ("async def f():\n    return 5\nawait f()", json!(5)),
    ] {
        assert_eq!(py(code), expected, "{code}");
    }
}

#[test]
fn tools_are_reached_by_every_road() {
    let call = |op: &str, params: Value| json!({"op": op, "params": params});
    for (code, expected) in [
        (
            "athena.semantic.search(query='q', limit=5)",
            call("semantic/search", json!({"query": "q", "limit": 5})),
        ),
        ("await athena.semantic.search(query='q')", call("semantic/search", json!({"query": "q"}))),
        ("athena.semantic.search({'query': 'q'})", call("semantic/search", json!({"query": "q"}))),
        ("f = athena.semantic.search\nf(query='q')", call("semantic/search", json!({"query": "q"}))),
        ("github.create_issue(title='t')", call("github/create_issue", json!({"title": "t"}))),
        (
            "callMCPTool('github/create_issue', {'title': 't'})",
            call("github/create_issue", json!({"title": "t"})),
        ),
        ("callMCPTool('athena/semantic/search', query='q')", call("semantic/search", json!({"query": "q"}))),
        (
            "searchTools('issue', detail='brief')",
            call("tools/search", json!({"detail": "brief", "query": "issue"})),
        ),
        (
            "readToolDefinition('github/create_issue')",
            call("tools/definition", json!({"path": "github/create_issue"})),
        ),
        ("readdir()", call("files/list", json!({"path": "/"}))),
        ("readFile('/skills/sum.ts')", call("files/read", json!({"path": "/skills/sum.ts"}))),
        (
            "results.read('r_1', range={'from': 0})",
            call("results/read", json!({"range": {"from": 0}, "handle": "r_1"})),
        ),
        (
            "import asyncio\n[r['params']['i'] for r in await asyncio.gather(*[athena.semantic.search(i=i) for i in range(3)])]",
            json!([0, 1, 2]),
        ),
        (
            "try:\n    athena.semantic.store()\nexcept RuntimeError as e:\n    r = str(e)\nr",
            json!("denied: no writes today; try: tomorrow"),
        ),
    ] {
        assert_eq!(py(code), expected, "{code}");
    }
}

#[test]
fn faults_have_their_kind_and_line() {
    for (code, kind, name, message, line) in [
        ("x = 1\ny = = 2", FaultKind::Syntax, "SyntaxError", "", 2),
        ("x = 1\n1 / 0", FaultKind::Thrown, "ZeroDivisionError", "division by zero", 2),
        ("def f():\n    raise ValueError('no')\n\nf()", FaultKind::Thrown, "ValueError", "no", 2),
        ("x = 1\nimport numpy", FaultKind::Unsupported, "UnsupportedError", "import numpy", 2),
        (
            "x = 1\nclass A:\n    pass\nclass B(A):\n    pass",
            FaultKind::Unsupported,
            "UnsupportedError",
            "",
            4,
        ),
        (
            "athena.semantic.serch(query='x')",
            FaultKind::Thrown,
            "TypeError",
            "did you mean athena.semantic.search",
            1,
        ),
        ("search(query='x')", FaultKind::Thrown, "NameError", "did you mean athena.semantic.search", 1),
        ("athena.semantic.search(1, 2)", FaultKind::Thrown, "TypeError", "keyword arguments", 1),
        ("open('/etc/passwd').read()", FaultKind::Thrown, "PermissionError", "no files", 1),
        ("import os\nos.getenv('PATH')", FaultKind::Thrown, "PermissionError", "no environment", 2),
        (
            "await athena.semantic.search()\nathena.semantic.search()",
            FaultKind::Unsupported,
            "SyntaxError",
            "await all",
            2,
        ),
        ("float('nan')", FaultKind::Thrown, "TypeError", "NaN", 0),
    ] {
        let fault = fault(Language::Python, code);
        assert_eq!((fault.kind, fault.name.as_str()), (kind, name), "{code}\n{fault:?}");
        assert!(fault.message.contains(message), "{code}\n{fault:?}");
        assert_eq!(fault.line, line, "{code}\n{fault:?}");
    }
}

#[test]
fn limits_end_a_run_with_their_kind() {
    let limits = Limits { wall_ms: 3_000, cpu_ms: 300, calls: 5, memory_mb: 32, ..Limits::BALANCED };
    for (code, kind) in [
        ("while True: pass", FaultKind::TimedOut),
        (
            "while True:\n    try:\n        while True: pass\n    except BaseException:\n        pass",
            FaultKind::TimedOut,
        ),
        ("x = []\nwhile True: x.append('a' * 10000 + str(len(x)))", FaultKind::OutOfMemory),
        ("[0] * 10**10", FaultKind::OutOfMemory),
        ("9**9**9", FaultKind::OutOfMemory),
        ("for i in range(9): athena.semantic.search(i=i)", FaultKind::Limit),
        ("def f(): return f()\nf()", FaultKind::Thrown),
    ] {
        let fault =
            run_job(support::Job { limits, ..job(Language::Python, code) }).finish.result.unwrap_err();
        assert_eq!(fault.kind, kind, "{code}\n{fault:?}");
    }
}

#[test]
fn output_and_state_arrive() {
    let trace = run(
        Language::Python,
        "print('a', 1, [None])\nprint('x', end='')\nprint('y\\nz')\nsession.state['count'] += 1\nsession.state['l'] = [1]\n'done'",
    );
    let texts: Vec<&str> = trace.logs.iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(texts, ["a 1 [None]", "xy", "z"]);
    assert_eq!(serde_json::from_str::<Value>(&trace.finish.state).unwrap(), json!({"count": 2, "l": [1]}));
    let failed = run(Language::Python, "session.state = {'kept': True}\n1 / 0");
    assert!(failed.finish.result.is_err());
    assert_eq!(serde_json::from_str::<Value>(&failed.finish.state).unwrap(), json!({"kept": true}));
}
