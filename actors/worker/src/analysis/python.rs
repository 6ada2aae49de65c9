//! Python, brought to a [`Tree`].

use super::tree::{Call, Comment, Function, Key, Kind, Loop, Node, Operator, Pattern, Tree};
use ruff_python_ast::token::TokenKind;
use ruff_python_ast::visitor::{Visitor, walk_expr};
use ruff_python_ast::{
    Arguments, Comprehension, Expr, FStringPart, InterpolatedStringElement, ModModule, Number,
    Operator as Op, Parameters, Stmt, StringLiteral, UnaryOp,
};
use ruff_python_parser::Parsed;
use ruff_text_size::Ranged;
use unicode_normalization::UnicodeNormalization;

/// Brings a module to its tree.
pub(super) fn lower(parsed: &Parsed<ModModule>, text: &str) -> Tree {
    let mut texts = Texts(Vec::new());
    texts.visit_body(parsed.suite());
    let mut comments = Vec::new();
    for token in parsed.tokens() {
        if token.kind() == TokenKind::Comment {
            let range = token.range();
            let (start, end) = (u32::from(range.start()), u32::from(range.end()));
            texts.0.push((start + 1, end));
            let content = text.get(start as usize + 1..end as usize).unwrap_or_default();
            comments.push(Comment { at: start, text: content.to_owned() });
        }
    }
    texts.0.sort_unstable();
    Tree { body: body(parsed.suite()), comments, literals: texts.0 }
}

/// Byte ranges between the quotes of strings.
struct Texts(Vec<(u32, u32)>);

impl<'a> Visitor<'a> for Texts {
    fn visit_string_literal(&mut self, it: &'a StringLiteral) {
        let range = it.content_range();
        self.0.push((range.start().into(), range.end().into()));
    }

    fn visit_expr(&mut self, it: &'a Expr) {
        if let Expr::BytesLiteral(bytes) = it {
            for part in &bytes.value {
                let range = part.range();
                self.0.push((u32::from(range.start()) + 2, u32::from(range.end()).saturating_sub(1)));
            }
        }
        walk_expr(self, it);
    }

    fn visit_interpolated_string_element(&mut self, it: &'a InterpolatedStringElement) {
        if let InterpolatedStringElement::Literal(part) = it {
            self.0.push((part.range().start().into(), part.range().end().into()));
        }
        ruff_python_ast::visitor::walk_interpolated_string_element(self, it);
    }
}

fn at(it: &impl Ranged) -> u32 {
    it.range().start().into()
}

/// Python compares names after NFKC, so that `ｅｖａｌ` is `eval`.
fn plain(name: &str) -> String {
    if name.is_ascii() { name.to_owned() } else { name.nfkc().collect() }
}

fn body(list: &[Stmt]) -> Vec<Node> {
    list.iter().map(statement).collect()
}

fn none(at: u32) -> Node {
    Node::new(at, Kind::Constant)
}

/// Parts whose value is of no interest.
fn parts(at: u32, mut list: Vec<Node>) -> Node {
    list.extend([none(at), none(at), none(at)]);
    Node::group(at, list)
}

fn assign(at: u32, pattern: Pattern, value: Node) -> Node {
    Node::new(at, Kind::Assign(Box::new(pattern), Box::new(value)))
}

fn statement(it: &Stmt) -> Node {
    let here = at(it);
    match it {
        Stmt::FunctionDef(f) => {
            let mut list: Vec<Node> = f.decorator_list.iter().map(|d| expression(&d.expression)).collect();
            list.push(function(here, Some(plain(&f.name)), &f.parameters, body(&f.body)));
            parts(here, list)
        }
        Stmt::ClassDef(c) => {
            let mut list: Vec<Node> = c.decorator_list.iter().map(|d| expression(&d.expression)).collect();
            if let Some(arguments) = &c.arguments {
                list.extend(arguments.args.iter().map(expression));
                list.extend(arguments.keywords.iter().map(|k| expression(&k.value)));
            }
            let inner = Function { name: Some(plain(&c.name)), params: Vec::new(), body: body(&c.body) };
            list.push(Node::new(here, Kind::Function(Box::new(inner))));
            parts(here, list)
        }
        Stmt::Return(r) => Node::new(here, Kind::Leave(r.value.as_deref().map(|e| Box::new(expression(e))))),
        Stmt::Delete(d) => parts(here, d.targets.iter().map(expression).collect()),
        Stmt::Assign(a) => {
            let value = expression(&a.value);
            Node::group(here, a.targets.iter().map(|t| assign(here, pattern(t), value.clone())).collect())
        }
        Stmt::AugAssign(a) => {
            let value = parts(here, vec![expression(&a.value)]);
            assign(here, pattern(&a.target), value)
        }
        Stmt::AnnAssign(a) => match &a.value {
            Some(value) => assign(here, pattern(&a.target), expression(value)),
            None => assign(here, pattern(&a.target), parts(here, Vec::new())),
        },
        Stmt::For(f) => {
            let mut inside = body(&f.body);
            inside.extend(body(&f.orelse));
            looping(here, None, Some((pattern(&f.target), expression(&f.iter))), inside)
        }
        Stmt::While(w) => {
            let mut inside = body(&w.body);
            inside.extend(body(&w.orelse));
            looping(here, Some(expression(&w.test)), None, inside)
        }
        Stmt::If(i) => {
            let mut list = vec![expression(&i.test)];
            list.extend(body(&i.body));
            for clause in &i.elif_else_clauses {
                list.extend(clause.test.as_ref().map(expression));
                list.extend(body(&clause.body));
            }
            parts(here, list)
        }
        Stmt::With(w) => {
            let mut list = Vec::new();
            for item in &w.items {
                let value = expression(&item.context_expr);
                list.push(match &item.optional_vars {
                    Some(target) => assign(here, pattern(target), value),
                    None => value,
                });
            }
            list.extend(body(&w.body));
            parts(here, list)
        }
        Stmt::Match(m) => {
            let mut list = vec![expression(&m.subject)];
            for case in &m.cases {
                list.extend(case.guard.as_deref().map(expression));
                list.extend(body(&case.body));
            }
            parts(here, list)
        }
        Stmt::Raise(r) => {
            let list: Vec<Node> = r.exc.iter().chain(&r.cause).map(|e| expression(e)).collect();
            Node::new(here, Kind::Leave(Some(Box::new(parts(here, list)))))
        }
        Stmt::Try(t) => {
            let mut list = body(&t.body);
            for handler in &t.handlers {
                let ruff_python_ast::ExceptHandler::ExceptHandler(handler) = handler;
                list.extend(handler.type_.as_deref().map(expression));
                if let Some(name) = &handler.name {
                    list.push(assign(here, Pattern::Name(plain(name)), parts(here, Vec::new())));
                }
                list.extend(body(&handler.body));
            }
            list.extend(body(&t.orelse));
            list.extend(body(&t.finalbody));
            parts(here, list)
        }
        Stmt::Assert(a) => {
            parts(here, std::iter::once(&a.test).chain(&a.msg).map(|e| expression(e)).collect())
        }
        Stmt::Import(i) => {
            let each = i.names.iter().map(|alias| {
                let module = plain(&alias.name);
                let root = module.split('.').next().unwrap_or(&module).to_owned();
                // `import a.b` binds `a`; what is used of it is judged from there.
                let bound = alias.asname.as_ref().map_or(root.clone(), |n| plain(n));
                let inner = Node::new(here, Kind::Import { module: module.clone(), names: Vec::new() });
                let named = if alias.asname.is_some() { module } else { root };
                let names = vec![(None, bound)];
                Node::group(here, vec![inner, Node::new(here, Kind::Import { module: named, names })])
            });
            Node::group(here, each.collect())
        }
        Stmt::ImportFrom(i) => {
            let module = i.module.as_ref().map_or_else(String::new, |m| plain(m));
            let names = i
                .names
                .iter()
                .map(|alias| (Some(plain(&alias.name)), plain(alias.asname.as_ref().unwrap_or(&alias.name))))
                .collect();
            Node::new(here, Kind::Import { module, names })
        }
        Stmt::Expr(e) => expression(&e.value),
        Stmt::Break(_) => Node::new(here, Kind::Leave(None)),
        Stmt::TypeAlias(_)
        | Stmt::Global(_)
        | Stmt::Nonlocal(_)
        | Stmt::Pass(_)
        | Stmt::Continue(_)
        | Stmt::IpyEscapeCommand(_) => none(here),
    }
}

fn looping(at: u32, test: Option<Node>, over: Option<(Pattern, Node)>, body: Vec<Node>) -> Node {
    Node::new(at, Kind::Loop(Box::new(Loop { test, over, body })))
}

fn function(at: u32, name: Option<String>, params: &Parameters, body: Vec<Node>) -> Node {
    let mut patterns = Vec::new();
    for param in params.posonlyargs.iter().chain(&params.args).chain(&params.kwonlyargs) {
        patterns.push(Pattern::Name(plain(&param.parameter.name)));
        patterns.extend(param.default.as_deref().map(|e| Pattern::Place(expression(e))));
    }
    for param in params.vararg.iter().chain(&params.kwarg) {
        patterns.push(Pattern::Name(plain(&param.name)));
    }
    Node::new(at, Kind::Function(Box::new(Function { name, params: patterns, body })))
}

fn pattern(it: &Expr) -> Pattern {
    match it {
        Expr::Name(n) => Pattern::Name(plain(&n.id)),
        Expr::Tuple(t) => Pattern::Items(t.elts.iter().map(pattern).collect()),
        Expr::List(l) => Pattern::Items(l.elts.iter().map(pattern).collect()),
        Expr::Starred(s) => pattern(&s.value),
        Expr::Attribute(_) | Expr::Subscript(_) => Pattern::Place(expression(it)),
        _ => Pattern::Ignored,
    }
}

/// A comprehension is a loop over its source, with its element as the body.
fn comprehension(here: u32, element: Vec<Node>, generators: &[Comprehension]) -> Node {
    generators.iter().rev().fold(Node::group(here, element), |inner, generator| {
        let mut body: Vec<Node> = generator.ifs.iter().map(expression).collect();
        body.push(inner);
        looping(here, None, Some((pattern(&generator.target), expression(&generator.iter))), body)
    })
}

fn call(here: u32, callee: Node, arguments: &Arguments) -> Node {
    let args = arguments.args.iter().map(expression).collect();
    let named = arguments
        .keywords
        .iter()
        .map(|k| (k.arg.as_ref().map_or_else(String::new, |a| plain(a)), expression(&k.value)))
        .collect();
    Node::new(here, Kind::Call(Box::new(Call { callee, args, named, new: false })))
}

fn expression(it: &Expr) -> Node {
    let here = at(it);
    let make = |kind| Node::new(here, kind);
    match it {
        Expr::StringLiteral(s) => make(Kind::Text(s.value.to_str().to_owned())),
        Expr::BytesLiteral(b) => make(Kind::Text(b.value.bytes().map(char::from).collect())),
        Expr::NumberLiteral(n) => make(Kind::Number(match &n.value {
            Number::Int(i) => i.as_u64().map_or(f64::MAX, |i| i as f64),
            Number::Float(f) => *f,
            Number::Complex { .. } => 0.0,
        })),
        Expr::BooleanLiteral(b) => make(if b.value { Kind::Constant } else { Kind::Number(0.0) }),
        Expr::NoneLiteral(_) | Expr::EllipsisLiteral(_) | Expr::IpyEscapeCommand(_) => make(Kind::Constant),
        Expr::Name(n) => make(Kind::Name(plain(&n.id))),
        Expr::Attribute(a) => make(Kind::Member(Box::new(expression(&a.value)), Key::Known(plain(&a.attr)))),
        Expr::Subscript(s) => match &*s.slice {
            Expr::StringLiteral(key) => {
                make(Kind::Member(Box::new(expression(&s.value)), Key::Known(key.value.to_str().to_owned())))
            }
            // `x[::-1]` turns a text round.
            Expr::Slice(slice)
                if slice.lower.is_none()
                    && slice.upper.is_none()
                    && matches!(slice.step.as_deref(), Some(Expr::UnaryOp(u)) if u.op == UnaryOp::USub) =>
            {
                let callee = make(Kind::Member(Box::new(expression(&s.value)), Key::Known("reverse".into())));
                make(Kind::Call(Box::new(Call { callee, args: Vec::new(), named: Vec::new(), new: false })))
            }
            other => {
                make(Kind::Member(Box::new(expression(&s.value)), Key::Computed(Box::new(expression(other)))))
            }
        },
        Expr::Slice(s) => {
            parts(here, [&s.lower, &s.upper, &s.step].into_iter().flatten().map(|e| expression(e)).collect())
        }
        Expr::Call(c) => call(here, expression(&c.func), &c.arguments),
        Expr::Await(a) => make(Kind::Await(Box::new(expression(&a.value)))),
        Expr::Named(n) => assign(here, pattern(&n.target), expression(&n.value)),
        Expr::Lambda(l) => match &l.parameters {
            Some(parameters) => function(here, None, parameters, vec![expression(&l.body)]),
            None => make(Kind::Function(Box::new(Function {
                name: None,
                params: Vec::new(),
                body: vec![expression(&l.body)],
            }))),
        },
        Expr::BoolOp(b) => make(Kind::Choice(b.values.iter().map(expression).collect())),
        Expr::If(i) => make(Kind::Group(vec![
            expression(&i.test),
            make(Kind::Choice(vec![expression(&i.body), expression(&i.orelse)])),
        ])),
        Expr::BinOp(b) => {
            let (left, right) = (expression(&b.left), expression(&b.right));
            let operator = match b.op {
                Op::Add => return Node::join(here, left, right),
                Op::Pow => Operator::Power,
                Op::Mult => Operator::Times,
                Op::Mod => Operator::Modulo,
                _ => Operator::Other,
            };
            make(Kind::Binary(operator, Box::new(left), Box::new(right)))
        }
        Expr::UnaryOp(u) => {
            let inner = expression(&u.operand);
            match (u.op, &inner.kind) {
                (UnaryOp::USub, Kind::Number(n)) => make(Kind::Number(-n)),
                _ => parts(here, vec![inner]),
            }
        }
        Expr::Compare(c) => {
            let mut right = c.comparators.iter().map(expression);
            let first = right.next().unwrap_or_else(|| none(here));
            let compare =
                make(Kind::Binary(Operator::Compare, Box::new(expression(&c.left)), Box::new(first)));
            parts_if(here, compare, right.collect())
        }
        Expr::FString(f) => {
            let mut list = Vec::new();
            for part in f.value.as_slice() {
                match part {
                    FStringPart::Literal(text) => list.push(make(Kind::Text(text.value.to_string()))),
                    FStringPart::FString(inner) => elements(here, inner.elements.iter(), &mut list),
                }
            }
            make(Kind::Join(list))
        }
        Expr::TString(t) => {
            let mut list = Vec::new();
            for inner in t.value.elements() {
                elements(here, std::iter::once(inner), &mut list);
            }
            parts(here, list)
        }
        Expr::List(l) => make(Kind::List(l.elts.iter().map(expression).collect())),
        Expr::Tuple(t) => make(Kind::List(t.elts.iter().map(expression).collect())),
        Expr::Set(s) => make(Kind::List(s.elts.iter().map(expression).collect())),
        Expr::Dict(d) => {
            let fields = d.items.iter().map(|item| {
                let key = match &item.key {
                    Some(Expr::StringLiteral(key)) => Key::Known(key.value.to_str().to_owned()),
                    Some(other) => Key::Computed(Box::new(expression(other))),
                    None => Key::Spread,
                };
                (key, expression(&item.value))
            });
            make(Kind::Dict(fields.collect()))
        }
        Expr::ListComp(c) => comprehension(here, vec![expression(&c.elt)], &c.generators),
        Expr::SetComp(c) => comprehension(here, vec![expression(&c.elt)], &c.generators),
        Expr::Generator(c) => comprehension(here, vec![expression(&c.elt)], &c.generators),
        Expr::DictComp(c) => comprehension(
            here,
            c.key.iter().map(|e| expression(e)).chain([expression(&c.value)]).collect(),
            &c.generators,
        ),
        Expr::Yield(y) => make(Kind::Leave(y.value.as_deref().map(|e| Box::new(expression(e))))),
        Expr::YieldFrom(y) => parts(here, vec![expression(&y.value)]),
        Expr::Starred(s) => expression(&s.value),
    }
}

fn parts_if(here: u32, first: Node, rest: Vec<Node>) -> Node {
    if rest.is_empty() { first } else { parts(here, std::iter::once(first).chain(rest).collect()) }
}

fn elements<'a>(here: u32, list: impl Iterator<Item = &'a InterpolatedStringElement>, out: &mut Vec<Node>) {
    for element in list {
        match element {
            InterpolatedStringElement::Literal(text) => {
                out.push(Node::new(here, Kind::Text(text.value.to_string())))
            }
            InterpolatedStringElement::Interpolation(inner) => out.push(expression(&inner.expression)),
        }
    }
}
