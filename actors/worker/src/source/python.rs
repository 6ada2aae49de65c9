//! Python: parsing, places, and what monty can be asked to run.

use super::{Lines, nesting, syntax_fault};
use athena_schemas::wire::{Fault, FaultKind};
use ruff_python_ast::token::TokenKind;
use ruff_python_ast::visitor::{Visitor, walk_expr, walk_stmt};
use ruff_python_ast::{Expr, ExprCall, ModModule, Operator, Stmt};
use ruff_python_parser::Parsed;
use ruff_text_size::Ranged;
use std::collections::BTreeSet;

/// Modules monty brings along.
const MODULES: [&str; 17] = [
    "__future__",
    "asyncio",
    "base64",
    "binascii",
    "collections",
    "dataclasses",
    "datetime",
    "functools",
    "itertools",
    "json",
    "math",
    "os",
    "pathlib",
    "re",
    "sys",
    "typing",
    "unicodedata",
];

/// Parses a module, after the cap on nesting; a syntax error carries its place.
pub fn parse(text: &str) -> Result<Parsed<ModModule>, Fault> {
    if let Some(at) = nesting::too_deep(text) {
        return Err(syntax_fault(text, at, "the code nests too deeply to be parsed; split it up"));
    }
    ruff_python_parser::parse_module(text)
        .map_err(|error| syntax_fault(text, error.location.start().to_usize(), error.error.to_string()))
}

/// Byte ranges of the contents of strings and comments, ascending.
pub fn texts(parsed: &Parsed<ModModule>, text: &str) -> Vec<(u32, u32)> {
    let inner = |start: u32, end: u32, kind: TokenKind| match kind {
        TokenKind::Comment => Some((start + 1, end)),
        TokenKind::FStringMiddle | TokenKind::TStringMiddle => Some((start, end)),
        TokenKind::String => {
            let token = text.get(start as usize..end as usize)?;
            let quote = token.find(['"', '\''])?;
            let body = token.get(quote..)?;
            let marks = if body.len() >= 6 && (body.starts_with("\"\"\"") || body.starts_with("'''")) {
                3
            } else {
                1
            };
            Some((start + u32::try_from(quote).ok()? + marks, end - marks))
        }
        _ => None,
    };
    let ranges = parsed.tokens().iter().map(|token| (token.range(), token.kind()));
    ranges.filter_map(|(range, kind)| inner(range.start().into(), range.end().into(), kind)).collect()
}

/// Why monty cannot run a module, before anything of it runs; names the construct and its line.
pub fn unsupported(parsed: &Parsed<ModModule>, text: &str) -> Option<Fault> {
    let mut search = Imports::default();
    search.visit_body(&parsed.syntax().body);
    let (module, offset) = search.unknown?;
    let (line, column) = Lines::new(text).place(offset);
    Some(Fault {
        kind: FaultKind::Unsupported,
        name: "UnsupportedError".into(),
        message: format!(
            "`import {module}` is outside the Python that runs here, which has {}; do without it, or use TypeScript",
            MODULES.join(", ")
        ),
        line,
        column,
        stack: String::new(),
    })
}

/// What monty runs, but not as Python says: operators that a class or a type defines. Whether it is reached cannot be told
/// before the run, so this is asked only where another engine can take the script.
pub fn doubtful(parsed: &Parsed<ModModule>, text: &str) -> Option<Fault> {
    let mut search = Doubts { found: None };
    search.visit_body(&parsed.syntax().body);
    let (what, offset) = search.found?;
    let (line, column) = Lines::new(text).place(offset);
    Some(Fault {
        kind: FaultKind::Unsupported,
        name: "UnsupportedError".into(),
        message: format!("{what} is outside the Python that runs here without an interpreter of the host"),
        line,
        column,
        stack: String::new(),
    })
}

struct Doubts {
    found: Option<(String, usize)>,
}

impl Doubts {
    /// Methods that monty calls where Python does.
    const CALLED: [&'static str; 5] = ["__init__", "__repr__", "__str__", "__enter__", "__exit__"];

    fn note(&mut self, what: impl Into<String>, at: &impl Ranged) {
        self.found.get_or_insert_with(|| (what.into(), at.start().to_usize()));
    }

    fn operator(&mut self, left: &Expr, op: Operator, right: &Expr, at: &impl Ranged) {
        let number = |it: &Expr| matches!(it, Expr::NumberLiteral(_) | Expr::Set(_) | Expr::SetComp(_));
        match op {
            Operator::BitOr if !number(left) && !number(right) => self.note("`|` between two values", at),
            Operator::Mod
                if matches!(left, Expr::StringLiteral(_) | Expr::BytesLiteral(_))
                    || matches!(right, Expr::Tuple(_) | Expr::Dict(_)) =>
            {
                self.note("formatting with `%`", at);
            }
            Operator::MatMult => self.note("`@` between two values", at),
            _ => {}
        }
    }
}

impl<'a> Visitor<'a> for Doubts {
    fn visit_annotation(&mut self, _: &'a Expr) {}

    fn visit_stmt(&mut self, stmt: &'a Stmt) {
        match stmt {
            Stmt::ClassDef(class) => {
                for member in &class.body {
                    if let Stmt::FunctionDef(it) = member
                        && it.name.starts_with("__")
                        && it.name.ends_with("__")
                        && !Self::CALLED.contains(&it.name.as_str())
                    {
                        self.note(format!("the method {}", it.name), it);
                    }
                }
            }
            Stmt::AugAssign(it) => self.operator(&it.target, it.op, &it.value, it),
            _ => {}
        }
        walk_stmt(self, stmt);
    }

    fn visit_expr(&mut self, expr: &'a Expr) {
        if let Expr::BinOp(it) = expr {
            self.operator(&it.left, it.op, &it.right, it);
        }
        walk_expr(self, expr);
    }
}

/// The import statements of a module, as byte ranges; without those a `try` guards, which say what to do without.
pub fn imports(parsed: &Parsed<ModModule>) -> Vec<(usize, usize)> {
    let mut search = Imports::default();
    search.visit_body(&parsed.syntax().body);
    search.statements
}

#[derive(Default)]
struct Imports {
    statements: Vec<(usize, usize)>,
    unknown: Option<(String, usize)>,
}

impl Imports {
    fn check(&mut self, module: &str, offset: usize) {
        let root = module.split('.').next().unwrap_or(module);
        if self.unknown.is_none() && !MODULES.contains(&root) {
            self.unknown = Some((module.to_owned(), offset));
        }
    }

    fn note(&mut self, statement: &impl Ranged) -> usize {
        let start = statement.start().to_usize();
        self.statements.push((start, statement.end().to_usize()));
        start
    }
}

impl<'a> Visitor<'a> for Imports {
    fn visit_stmt(&mut self, stmt: &'a Stmt) {
        match stmt {
            Stmt::Import(it) => {
                let start = self.note(it);
                it.names.iter().for_each(|alias| self.check(&alias.name, start));
            }
            Stmt::ImportFrom(it) => {
                let start = self.note(it);
                self.check(it.module.as_ref().map_or(".", |name| name.as_str()), start);
            }
            Stmt::Try(it) if !it.handlers.is_empty() => {
                self.visit_body(&it.orelse);
                self.visit_body(&it.finalbody);
            }
            _ => walk_stmt(self, stmt),
        }
    }
}

/// How a script waits for host calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// A call gives its value: `x = athena.semantic.search(query="q")`.
    Value,
    /// A call gives something to await: `x = await athena.semantic.search(query="q")`, or several in `asyncio.gather`.
    Awaitable,
}

/// How this script calls. Both ways work, one at a time: a call cannot know what will be done with what it gives.
pub fn waiting(parsed: &Parsed<ModModule>, text: &str, roots: &BTreeSet<String>) -> Result<Waiting, Fault> {
    let mut calls = Calls { roots, awaited: None, direct: None, within: false };
    calls.visit_body(&parsed.syntax().body);
    match (calls.awaited, calls.direct) {
        (Some(_), Some(direct)) => {
            let message =
                "some calls of this script are awaited and this one is not; await all of them, or none";
            Err(Fault { kind: FaultKind::Unsupported, ..syntax_fault(text, direct, message) })
        }
        (Some(_), None) => Ok(Waiting::Awaitable),
        (None, _) => Ok(Waiting::Value),
    }
}

struct Calls<'r> {
    roots: &'r BTreeSet<String>,
    awaited: Option<usize>,
    direct: Option<usize>,
    within: bool,
}

impl<'a> Visitor<'a> for Calls<'_> {
    fn visit_expr(&mut self, expr: &'a Expr) {
        let outer = self.within;
        match expr {
            Expr::Await(it) => {
                self.within = true;
                self.visit_expr(&it.value);
            }
            Expr::Call(call) if root(&call.func).is_some_and(|name| self.roots.contains(name)) => {
                let place = if self.within { &mut self.awaited } else { &mut self.direct };
                place.get_or_insert(call.range().start().to_usize());
                // What is passed to a call is a value again.
                self.within = false;
                self.visit_arguments(&call.arguments);
            }
            Expr::Call(call) => {
                self.visit_expr(&call.func);
                self.within = gathers(call);
                self.visit_arguments(&call.arguments);
            }
            Expr::Lambda(_) => {
                self.within = false;
                walk_expr(self, expr);
            }
            _ => walk_expr(self, expr),
        }
        self.within = outer;
    }
}

/// Whether a call takes awaitables.
fn gathers(call: &ExprCall) -> bool {
    let name = match &*call.func {
        Expr::Attribute(it) => it.attr.as_str(),
        Expr::Name(it) => it.id.as_str(),
        _ => return false,
    };
    matches!(name, "gather" | "create_task" | "ensure_future" | "wait_for" | "wait" | "shield" | "run")
}

/// The name an attribute chain starts with.
fn root(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Name(it) => Some(it.id.as_str()),
        Expr::Attribute(it) => root(&it.value),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_found_and_nothing_else() {
        let code = "a = 'b@c.d'  # e\nn = 4111\nf'x{n}y'\nr'''z'''\n\"\"";
        let parsed = parse(code).unwrap();
        let found: Vec<&str> = texts(&parsed, code)
            .into_iter()
            .map(|(start, end)| &code[start as usize..end as usize])
            .collect();
        assert_eq!(found, ["b@c.d", " e", "x", "y", "z", ""]);
    }

    #[test]
    fn imports_are_judged_before_the_run() {
        let judge = |code: &str| unsupported(&parse(code).unwrap(), code);
        assert_eq!(judge("import json, re\nfrom collections import Counter"), None);
        assert_eq!(judge("try:\n    import numpy\nexcept ImportError:\n    numpy = None"), None);
        let fault = judge("x = 1\ndef f():\n    import numpy.linalg\n").unwrap();
        assert!(fault.message.contains("import numpy.linalg"), "{fault:?}");
        assert_eq!((fault.kind, fault.line, fault.column), (FaultKind::Unsupported, 3, 5));
    }

    #[test]
    fn operators_of_types_are_doubted() {
        let judge = |code: &str| doubtful(&parse(code).unwrap(), code).map(|fault| fault.line);
        assert_eq!(
            judge("def f(a: int | None) -> str | None: ...\nx: int | str = 1\nn % 2\na = {1} | b"),
            None
        );
        assert_eq!(judge("x = 1\n'%s' % x"), Some(2));
        assert_eq!(judge("c = a | b"), Some(1));
        assert_eq!(judge("class V:\n    def __init__(self): ...\n    def __add__(self, o): ..."), Some(3));
    }

    #[test]
    fn a_script_calls_in_one_way() {
        let roots = BTreeSet::from(["athena".to_owned()]);
        let judge = |code: &str| waiting(&parse(code).unwrap(), code, &roots);
        assert_eq!(judge("x = athena.semantic.search(query='q')"), Ok(Waiting::Value));
        assert_eq!(judge("x = await athena.semantic.search(query='q')"), Ok(Waiting::Awaitable));
        assert_eq!(judge("await asyncio.gather(*[athena.a.b(i=i) for i in xs])"), Ok(Waiting::Awaitable));
        assert_eq!(judge("print(1)"), Ok(Waiting::Value));
        let mixed = judge("await athena.a.b()\nathena.a.b()").unwrap_err();
        assert_eq!((mixed.kind, mixed.line), (FaultKind::Unsupported, 2));
    }

    #[test]
    fn a_syntax_error_has_its_place() {
        assert_eq!(parse("x = 1\ny = = 2\n").unwrap_err().line, 2);
    }
}
