//! What of Python runs here: each feature through the real worker, and the table in the documentation from those runs.

use crate::support::{Worker, Zygote, echo, job};
use athena_schemas::wire::{FaultKind, Language};
use serde_json::Value;
use std::fmt::Write as _;
use std::path::Path;

/// Group, feature, code whose value is true where the feature works.
const FEATURES: &[(&str, &str, &str)] = &[
    ("Language", "f-strings with format specs", "f'{3.14159:.2f} {7:>3} {255:#x}' == '3.14   7 0xff'"),
    (
        "Language",
        "list, dict and set comprehensions",
        "[x * x for x in range(3) if x] == [1, 4] and {k: 1 for k in 'ab'} == {'a': 1, 'b': 1} and {x % 2 for x in range(4)} == {0, 1}",
    ),
    ("Language", "nested comprehensions", "[[y for y in range(x)] for x in range(3)] == [[], [0], [0, 1]]"),
    ("Language", "generator expressions", "sum(x for x in range(4)) == 6"),
    ("Language", "generators (yield)", "def g():\n    yield 1\n    yield 2\nlist(g()) == [1, 2]"),
    (
        "Language",
        "closures and nonlocal",
        "def f():\n    n = 0\n    def g():\n        nonlocal n\n        n += 1\n        return n\n    g()\n    return g()\nf() == 2",
    ),
    (
        "Language",
        "default, keyword and variadic arguments",
        "def f(a, b=2, *c, d=4, **e):\n    return [a, b, c, d, e]\nf(1, 5, 6, d=7, x=8) == [1, 5, (6,), 7, {'x': 8}]",
    ),
    ("Language", "argument unpacking", "def f(a, b):\n    return a + b\nf(*[1], **{'b': 2}) == 3"),
    ("Language", "star assignment", "a, *b = [1, 2, 3]\nb == [2, 3]"),
    ("Language", "walrus operator", "(n := 5) > 4 and n == 5"),
    ("Language", "conditional expressions", "(1 if [] else 2) == 2"),
    ("Language", "chained comparisons", "1 < 2 <= 2 < 3"),
    ("Language", "slices with steps", "[0, 1, 2, 3][::-2] == [3, 1]"),
    (
        "Language",
        "try, except, else, finally",
        "r = []\ntry:\n    int('x')\nexcept ValueError as e:\n    r.append('e')\nelse:\n    r.append('l')\nfinally:\n    r.append('f')\nr == ['e', 'f']",
    ),
    (
        "Language",
        "raise from",
        "try:\n    try:\n        1 / 0\n    except ZeroDivisionError as e:\n        raise ValueError('v') from e\nexcept ValueError as e:\n    r = str(e)\nr == 'v'",
    ),
    (
        "Language",
        "with statements",
        "class C:\n    def __enter__(self):\n        return 5\n    def __exit__(self, *a):\n        return False\nwith C() as c:\n    r = c\nr == 5",
    ),
    ("Language", "while and for with else", "for x in []:\n    pass\nelse:\n    r = 1\nr == 1"),
    ("Language", "match statements", "match {'a': 1}:\n    case {'a': x}:\n        r = x\nr == 1"),
    ("Language", "del statements", "d = {'a': 1}\ndel d['a']\nd == {}"),
    ("Language", "global statements", "n = 1\ndef f():\n    global n\n    n = 2\nf()\nn == 2"),
    ("Language", "lambda", "sorted([3, 1], key=lambda x: -x) == [3, 1]"),
    ("Language", "decorators", "def d(f):\n    return lambda: f() + 1\n@d\ndef f():\n    return 1\nf() == 2"),
    (
        "Language",
        "type hints",
        "def f(a: int, b: list[str] | None = None) -> dict[str, int]:\n    return {'a': a}\nf(1) == {'a': 1}",
    ),
    (
        "Language",
        "classes with state",
        "class A:\n    def __init__(self, x):\n        self.x = x\n    def double(self):\n        return self.x * 2\nA(2).double() == 4",
    ),
    (
        "Language",
        "class inheritance",
        "class A:\n    def f(self):\n        return 1\nclass B(A):\n    pass\nB().f() == 1",
    ),
    ("Language", "properties", "class A:\n    @property\n    def x(self):\n        return 1\nA().x == 1"),
    (
        "Language",
        "static and class methods",
        "class A:\n    @staticmethod\n    def f():\n        return 1\nA.f() == 1",
    ),
    (
        "Language",
        "operator methods",
        "class V:\n    def __init__(self, x):\n        self.x = x\n    def __add__(self, o):\n        return V(self.x + o.x)\n(V(1) + V(2)).x == 3",
    ),
    (
        "Language",
        "__repr__ and __str__",
        "class A:\n    def __repr__(self):\n        return 'A!'\nrepr(A()) == 'A!'",
    ),
    (
        "Language",
        "own exception classes",
        "class E(Exception):\n    pass\ntry:\n    raise E('x')\nexcept E as e:\n    r = str(e)\nr == 'x'",
    ),
    (
        "Language",
        "assert with a message",
        "try:\n    assert False, 'no'\nexcept AssertionError as e:\n    r = 'no' in str(e)\nr",
    ),
    ("Language", "async functions and await", "async def f():\n    return 1\n(await f()) == 1"),
    (
        "Language",
        "asyncio.gather over calls",
        "import asyncio\nlen(await asyncio.gather(athena.semantic.search(q=1), athena.semantic.search(q=2))) == 2",
    ),
    ("Language", "big integers", "2 ** 100 == 1267650600228229401496703205376"),
    ("Language", "dict union", "({'a': 1} | {'b': 2}) == {'a': 1, 'b': 2}"),
    (
        "Built-ins",
        "enumerate, zip, reversed, map, filter",
        "list(zip(enumerate('ab'), reversed([1, 2]))) == [((0, 'a'), 2), ((1, 'b'), 1)] and list(map(str, filter(None, [0, 1]))) == ['1']",
    ),
    ("Built-ins", "sorted with key and reverse", "sorted(['bb', 'a'], key=len, reverse=True) == ['bb', 'a']"),
    (
        "Built-ins",
        "min, max, sum, any, all, round, abs, divmod",
        "[min(1, 2), max([1, 2]), sum([1, 2]), any([0, 1]), all([]), round(2.567, 2), abs(-1), divmod(7, 2)] == [1, 2, 3, True, True, 2.57, 1, (3, 1)]",
    ),
    ("Built-ins", "isinstance and type", "isinstance(1, (int, str)) and type('x') is str"),
    (
        "Built-ins",
        "getattr and hasattr",
        "class A:\n    pass\na = A()\na.x = 1\ngetattr(a, 'x') == 1 and not hasattr(a, 'y')",
    ),
    ("Built-ins", "iter and next", "it = iter([1])\nnext(it) == 1 and next(it, None) is None"),
    ("Built-ins", "bytes and encodings", "'é'.encode('utf-8').decode() == 'é' and b'ab'.hex() == '6162'"),
    (
        "Built-ins",
        "frozenset and set operations",
        "frozenset([1, 2]) & {2} == {2} and {1} | {2} == {1, 2} and {1, 2} - {1} == {2}",
    ),
    (
        "Built-ins",
        "chr, ord, hex, bin",
        "[chr(97), ord('a'), hex(255), bin(5)] == ['a', 97, '0xff', '0b101']",
    ),
    (
        "Text",
        "split, join, strip, replace, find",
        "','.join(' a b '.strip().split()).replace('a', 'c').find('b') == 2",
    ),
    (
        "Text",
        "upper, title, startswith, zfill, partition",
        "['a b'.title(), 'x'.upper(), 'ab'.startswith('a'), '7'.zfill(3), 'a=b'.partition('=')] == ['A B', 'X', True, '007', ('a', '=', 'b')]",
    ),
    ("Text", "str.format", "'{} {x:>4}'.format(1, x='y') == '1    y'"),
    ("Text", "percent formatting", "'%s-%03d' % ('a', 7) == 'a-007'"),
    ("Text", "splitlines and translate", "'a\\nb'.splitlines() == ['a', 'b']"),
    (
        "Library",
        "json",
        "import json\njson.loads(json.dumps({'a': [1, None]}, indent=2)) == {'a': [1, None]}",
    ),
    (
        "Library",
        "re",
        "import re\nre.findall(r'(\\w)(\\d)', 'a1 b2') == [('a', '1'), ('b', '2')] and re.sub('a+', 'x', 'aab') == 'xb'",
    ),
    (
        "Library",
        "datetime and timedelta",
        "from datetime import datetime, timedelta\n(datetime(2024, 1, 31) + timedelta(days=1)).isoformat() == '2024-02-01T00:00:00'",
    ),
    (
        "Library",
        "strftime and strptime",
        "from datetime import datetime\ndatetime.strptime('2024-05-06', '%Y-%m-%d').strftime('%d.%m.%y') == '06.05.24'",
    ),
    (
        "Library",
        "math",
        "import math\n[math.ceil(1.2), math.gcd(4, 6), math.isclose(math.sin(math.pi), 0, abs_tol=1e-9)] == [2, 2, True]",
    ),
    (
        "Library",
        "collections: Counter, defaultdict, deque, namedtuple",
        "from collections import Counter, defaultdict, deque, namedtuple\nP = namedtuple('P', 'x y')\nd = defaultdict(list)\nd['a'].append(1)\nq = deque([1])\nq.appendleft(0)\n[Counter('aab').most_common(1), d['a'], list(q), P(1, 2).y] == [[('a', 2)], [1], [0, 1], 2]",
    ),
    (
        "Library",
        "dataclasses",
        "from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int\n    y: int = 2\nP(1).y == 2",
    ),
    (
        "Library",
        "functools.reduce and partial",
        "from functools import reduce, partial\nreduce(lambda a, b: a + b, [1, 2, 3]) == 6 and partial(max, 5)(3) == 5",
    ),
    (
        "Library",
        "functools.lru_cache",
        "from functools import lru_cache\n@lru_cache\ndef f(n):\n    return n\nf(1) == 1",
    ),
    (
        "Library",
        "itertools: chain, product, combinations",
        "from itertools import chain, product, combinations\n[list(chain([1], [2])), len(list(product('ab', 'cd'))), len(list(combinations('abc', 2)))] == [[1, 2], 4, 3]",
    ),
    (
        "Library",
        "itertools.groupby",
        "from itertools import groupby\n[(k, list(v)) for k, v in groupby('aab')] == [('a', ['a', 'a']), ('b', ['b'])]",
    ),
    ("Library", "typing", "from typing import Any, Optional\nx: Optional[int] = None\nx is None"),
    ("Library", "base64", "import base64\nbase64.b64encode(b'hi') == b'aGk='"),
    ("Library", "enum", "from enum import Enum\nclass C(Enum):\n    A = 1\nC.A.value == 1"),
    ("Library", "random", "import random\n0 <= random.random() < 1"),
    ("Library", "statistics", "import statistics\nstatistics.mean([1, 2, 3]) == 2"),
    ("Library", "decimal", "from decimal import Decimal\nDecimal('0.1') + Decimal('0.2') == Decimal('0.3')"),
    ("Library", "hashlib", "import hashlib\nlen(hashlib.sha256(b'').hexdigest()) == 64"),
    ("Library", "uuid", "import uuid\nlen(str(uuid.uuid4())) == 36"),
    ("Library", "csv and io", "import csv, io\nlist(csv.reader(io.StringIO('a,b'))) == [['a', 'b']]"),
    ("Library", "string and textwrap", "import string, textwrap\nstring.digits == '0123456789'"),
    ("Library", "time", "import time\ntime.time() > 0"),
    ("Library", "numpy and pandas", "import numpy, pandas\nTrue"),
    (
        "Athena",
        "tools with keyword arguments",
        "athena.semantic.search(query='q', limit=5)['params'] == {'query': 'q', 'limit': 5}",
    ),
    ("Athena", "session.state", "session.state['count'] = 9\nsession.state['count'] == 9"),
    (
        "Athena",
        "refusals as exceptions",
        "try:\n    athena.semantic.store(content='x')\n    r = False\nexcept RuntimeError as e:\n    r = 'denied' in str(e)\nr",
    ),
];

/// How a feature fares, and on which engine: chosen as the server does, before anything runs.
fn judge(python: &Zygote, code: &str) -> (&'static str, String, String) {
    let mut worker = Worker::start(&[]);
    if worker.analyze(Language::Python, code).beyond.is_some() {
        worker.close();
        worker = python.worker();
    }
    let trace = worker.run(job(Language::Python, code), echo).unwrap();
    let engine = trace.finish.engine.split(' ').next().unwrap_or_default().to_owned();
    let (outcome, note) = match trace.finish.result {
        Ok(value) if value == "true" => ("yes", String::new()),
        Ok(value) => ("differs", format!("gives {value}")),
        Err(fault) if fault.kind == FaultKind::Unsupported => ("refused", fault.message),
        Err(fault) => ("fails", format!("{}: {}", fault.name, fault.message)),
    };
    (outcome, engine, note)
}

/// The page as these runs make it.
fn page() -> String {
    let python = Zygote::python(&[]);
    let mut rows = String::new();
    let (mut works, mut builtin) = (0, 0);
    for (group, feature, code) in FEATURES {
        let (outcome, engine, note) = judge(&python, code);
        works += usize::from(outcome == "yes");
        builtin += usize::from(outcome == "yes" && engine == "monty");
        let note: String = note.replace('|', "\\|").replace('\n', " ").chars().take(140).collect();
        let _ = writeln!(rows, "| {group} | {feature} | {outcome} | {engine} | {note} |");
    }
    format!(
        "# Python in the sandbox\n\n\
         Two engines run Python in the same jail. **monty**, a Python of its own inside the worker, runs most scripts. What it\n\
         cannot run, or may run otherwise than Python says, is found before anything runs, and the whole script goes to\n\
         **cpython**: the host's `python3` (3.9 or later; `sandbox.python` names another one, or none), whose standard library\n\
         is loaded before the file system is taken away. Its strings hash by a constant, its addresses are not randomised,\n\
         clock and randomness are the run's, so it replays. Without a `python3` such a script is refused with the construct\n\
         and its line; no side effect has happened then.\n\n\
         This table is written by a test from real runs (`ATHENA_BLESS=1 cargo test --workspace --test worker coverage` writes\n\
         it anew); {works} of {} features work, {builtin} of them without a `python3`.\n\n\
         *refused*: told before anything runs. *fails*: raises when it is reached. *differs*: gives another value than CPython.\n\n\
         Host calls give their value (`x = athena.semantic.search(query=\"q\")`) or are awaited\n\
         (`x = await athena.semantic.search(query=\"q\")`, `asyncio.gather`). There are no files, sockets, threads or processes in\n\
         either engine; `open` raises.\n\n\
         | group | feature | works | engine | note |\n|---|---|---|---|---|\n{rows}",
        FEATURES.len()
    )
}

#[test]
fn the_documentation_tells_what_runs() {
    assert!(FEATURES.len() >= 60);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/python.md");
    let page = page();
    if std::env::var_os("ATHENA_BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &page).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap();
    assert_eq!(written, page, "docs/python.md is not what runs show; ATHENA_BLESS=1 writes it anew");
    // A value that differs silently would be worse than any refusal.
    assert!(!page.contains("| differs |"), "{page}");
}

/// The values a test compares are JSON.
#[test]
fn a_feature_is_judged_by_its_value() {
    let python = Zygote::python(&[]);
    let judge = |code: &str| judge(&python, code);
    assert_eq!(judge("1 == 1"), ("yes", "monty".into(), String::new()));
    assert_eq!(judge("1 == 2").0, "differs");
    assert_eq!(judge("import nowhere").0, "refused");
    assert_eq!(judge("1 / 0").0, "fails");
    let (outcome, engine, _) = judge("class A(dict):\n    pass\nA() == {}");
    assert_eq!((outcome, engine.as_str()), ("yes", "cpython"));
    assert_eq!(serde_json::from_str::<Value>("true").unwrap(), Value::Bool(true));
}
