//! Walks a tree once, keeps track of what names stand for, and notes what is dangerous.
//!
//! Names are followed through assignments and destructuring, texts are folded, and a path that begins at a global or a module is
//! held against the tables of [`rules`](super::rules). Names that are free and no known global are inputs of the run. One scope
//! holds all names: code this short rarely shadows, and where it does the more dangerous reading stands.

use super::rules;
use super::texts;
use super::tree::{Call, Comment, Function, Key, Kind, Loop, Node, Operator, Pattern, Tree};
use super::value::{self, Seen, Value};
use athena_schemas::risk::Risk::{self, Critical, High, Low, Medium};
use athena_schemas::wire::Language;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// Something noted; its place is a byte offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Note {
    pub(super) rule: &'static str,
    pub(super) level: Risk,
    pub(super) message: String,
    pub(super) at: u32,
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) notes: Vec<Note>,
    pub(super) capabilities: BTreeSet<String>,
}

/// Judges a tree. `depth` is how many texts of code it lies in.
pub(super) fn judge(language: Language, tree: &Tree, depth: u32) -> Findings {
    let mut judge = Judge {
        language,
        depth,
        names: HashMap::new(),
        declared: declared(&tree.body),
        loops: Vec::new(),
        awaited: false,
        steps: 0,
        beyond: None,
        findings: Findings::default(),
    };
    judge.run(&tree.body);
    for comment in &tree.comments {
        judge.comment(comment);
    }
    if let Some(at) = judge.beyond {
        judge.note(High, "too-large", at, "the code is too large to be judged as a whole");
    }
    judge.findings
}

struct Judge {
    language: Language,
    depth: u32,
    names: HashMap<String, Seen>,
    declared: HashSet<String>,
    /// How many loops (or callbacks of `map` and the like) we are in, and whether the innermost goes over everything there is.
    loops: Vec<bool>,
    awaited: bool,
    steps: u32,
    /// Where the steps ran out.
    beyond: Option<u32>,
    findings: Findings,
}

/// Nodes looked at, at most; what lies beyond is not judged, and that is noted.
const STEPS: u32 = 200_000;

impl Judge {
    fn note(&mut self, level: Risk, rule: &'static str, at: u32, message: impl Into<String>) {
        let note = Note { rule, level, message: message.into(), at };
        if level == Low {
            return;
        }
        let notes = &mut self.findings.notes;
        let room = notes.len() < 64;
        if let Some(known) = notes.iter_mut().find(|n| n.rule == rule && n.at == at) {
            if known.level < level {
                *known = note;
            }
        } else if room {
            notes.push(note);
        } else if let Some(least) = notes.iter_mut().min_by_key(|n| n.level)
            && least.level < level
        {
            // The list is full: the worst still counts.
            *least = note;
        }
    }

    fn is_python(&self) -> bool {
        self.language == Language::Python
    }

    fn run(&mut self, body: &[Node]) {
        for node in body {
            self.value(node);
        }
    }

    fn comment(&mut self, comment: &Comment) {
        if texts::switches_off(&comment.text) {
            self.note(Medium, "security-bypass-comment", comment.at, "a comment tries to switch judging off");
        }
        if texts::instructs(&comment.text) {
            self.note(
                High,
                "hidden-instruction",
                comment.at,
                "a comment speaks to a model or hides something",
            );
        }
    }

    /// The value of a node that is used as such: a dangerous path is noted.
    fn value(&mut self, node: &Node) -> Seen {
        let seen = self.look(node);
        match &seen.value {
            Value::Path(path) => self.used(path, node.at),
            Value::Global if !self.is_python() => {
                self.note(High, "global-object", node.at, "the global object is passed on")
            }
            _ => {}
        }
        seen
    }

    /// The value of a node; a path is not noted yet, it may be the beginning of a longer one.
    fn look(&mut self, node: &Node) -> Seen {
        self.steps += 1;
        if self.steps > STEPS {
            self.beyond.get_or_insert(node.at);
            return Seen::unknown();
        }
        let at = node.at;
        match &node.kind {
            Kind::Text(text) => {
                self.text(text, at);
                Value::Text(text.clone()).into()
            }
            Kind::Number(n) => Value::Number(*n).into(),
            Kind::Regex(pattern) => {
                if texts::explodes(pattern) {
                    self.note(High, "regular-expression", at, "this regular expression can take for ever");
                }
                Value::Constant.into()
            }
            Kind::Constant => Value::Constant.into(),
            Kind::Name(name) => self.name(name, at),
            Kind::Member(object, key) => self.member(object, key, at),
            Kind::Call(call) => self.call(call, at),
            Kind::Load(source) => self.load(source, at),
            Kind::Import { module, names } => {
                self.import(module, names, at);
                Seen::unknown()
            }
            Kind::List(items) => {
                let seen: Vec<Seen> = items.iter().map(|item| self.value(item)).collect();
                let list = Value::List(seen.iter().map(|s| s.value.clone()).collect());
                seen.iter().fold(Seen::from(list), Seen::with)
            }
            Kind::Dict(fields) => self.dict(fields),
            Kind::Join(parts) => self.join(parts, at),
            Kind::Binary(operator, left, right) => self.binary(*operator, left, right, at),
            Kind::Assign(pattern, right) => {
                let seen = self.look(right);
                self.settle(right, &seen);
                self.bind(pattern, &seen, right.at);
                seen
            }
            Kind::Function(function) => self.function(function),
            Kind::Await(inner) => {
                let before = std::mem::replace(&mut self.awaited, true);
                let seen = self.look(inner);
                self.awaited = before;
                seen
            }
            Kind::Loop(inner) => self.loops(inner, at),
            Kind::Choice(parts) => {
                let seen: Vec<Seen> = parts.iter().map(|part| self.value(part)).collect();
                let dangerous =
                    seen.iter().find(|s| matches!(s.value, Value::Path(_) | Value::Maker | Value::Global));
                let first = dangerous.or(seen.first()).cloned().unwrap_or_else(Seen::unknown);
                seen.iter().fold(first, Seen::with)
            }
            Kind::Leave(inner) => {
                if let Some(inner) = inner {
                    self.value(inner);
                }
                Seen::unknown()
            }
            Kind::Group(parts) => {
                let seen: Vec<Seen> = parts.iter().map(|part| self.value(part)).collect();
                let last = match seen.last() {
                    // A sequence has its last value: `(0, eval)(…)`.
                    Some(last) if parts.len() <= 2 => last.clone(),
                    _ => Seen::unknown(),
                };
                seen.iter().fold(last, Seen::with)
            }
        }
    }

    /// A path that was looked at only, and is used now.
    fn settle(&mut self, node: &Node, seen: &Seen) {
        match &seen.value {
            Value::Path(path) => self.used(path, node.at),
            Value::Global if !self.is_python() => {}
            _ => {}
        }
    }

    fn text(&mut self, text: &str, at: u32) {
        if texts::instructs(text) {
            self.note(
                High,
                "hidden-instruction",
                at,
                "a text speaks to a model or hides something from people",
            );
        }
        if texts::credential("", text) {
            self.note(High, "hard-coded-credential", at, "a key is written into the code");
        }
        if self.is_python() && text.contains('{') && (text.contains(".__") || text.contains("[__")) {
            self.note(Critical, "introspection", at, "a format string reaches into the interpreter");
        }
    }

    fn name(&mut self, name: &str, at: u32) -> Seen {
        if let Some(seen) = self.names.get(name) {
            return seen.clone();
        }
        if self.declared.contains(name) {
            return Seen::unknown();
        }
        if !self.is_python() && rules::GLOBALS.contains(&name) {
            return Value::Global.into();
        }
        let hidden = name.starts_with("__")
            && !matches!(
                name,
                "__name__" | "__doc__" | "__file__" | "__dirname" | "__filename" | "__import__" | "__proto__"
            );
        if hidden {
            self.note(Critical, "hidden-global", at, format!("{name} belongs to the inside of the sandbox"));
        }
        Value::Path(vec![name.to_owned()]).into()
    }

    /// A path is used: read, called, passed on.
    fn used(&mut self, path: &[String], at: u32) {
        if let Some((level, rule)) = rules::row(self.language, path) {
            self.note(level, rule, at, format!("{} is out of bounds for agent code", path.join(".")));
        }
        let inner = path.iter().skip(1).find(|part| is_release(part));
        if let Some(part) = inner {
            self.note(High, "release", at, format!("{part} asks for values that code must not see"));
        }
        if path.len() > 1
            && path.iter().any(|part| {
                matches!(
                    rules::words(part).first().map(String::as_str),
                    Some("approvals" | "approval" | "approve")
                )
            })
            && path.last().is_some_and(|last| {
                matches!(
                    last.as_str(),
                    "approve" | "grant" | "allow" | "confirm" | "accept" | "resolve" | "decide" | "respond"
                ) || last.starts_with("approve")
            })
        {
            self.note(Critical, "self-approval", at, "code cannot approve what a person is asked for");
        }
    }

    fn member(&mut self, object: &Node, key: &Key, at: u32) -> Seen {
        let owner = self.look(object);
        self.member_of(&owner, object, key, at)
    }

    /// A member of a value that was looked at already: chains of calls are walked once.
    fn member_of(&mut self, owner: &Seen, object: &Node, key: &Key, at: u32) -> Seen {
        let (name, built) = match key {
            Key::Known(name) => (Some(name.clone()), false),
            Key::Computed(inner) => {
                let seen = self.value(inner);
                let written = matches!(inner.kind, Kind::Text(_) | Kind::Number(_));
                (value::as_text(&seen.value), !written)
            }
            Key::Spread => (None, false),
        };
        let Some(name) = name else {
            if owner.value == Value::Global {
                self.note(Critical, "computed-global", at, "a global is chosen at run time");
            }
            return Seen::unknown().with(owner);
        };
        if built && !name.chars().all(|c| c.is_ascii_digit()) && is_telling(&name) {
            self.note(
                Critical,
                "disguised-name",
                at,
                format!("the name {name} is put together so that it is not seen"),
            );
        }
        self.special(owner, &name, object, at).unwrap_or_else(|| self.reach(owner, &name, at))
    }

    /// Members that lead out of a value whatever it is.
    fn special(&mut self, owner: &Seen, name: &str, object: &Node, at: u32) -> Option<Seen> {
        if self.is_python() {
            let (level, rule) = rules::attribute(name)?;
            self.note(level, rule, at, format!("{name} leads into the interpreter"));
            return Some(Seen::unknown());
        }
        match name {
            "constructor" => {
                let prototype = matches!(&object.kind, Kind::Call(call) if matches!(&call.callee.kind, Kind::Member(_, Key::Known(n)) if n == "getPrototypeOf"));
                let module = matches!(&owner.value, Value::Path(p) if p.first().is_some_and(|f| rules::row(self.language, std::slice::from_ref(f)).is_some()));
                if matches!(owner.value, Value::Maker) || prototype || module {
                    self.note(Critical, "constructor-chain", at, "a constructor of functions is reached");
                }
                Some(Value::Maker.into())
            }
            "__proto__" | "__defineGetter__" | "__defineSetter__" | "__lookupGetter__"
            | "__lookupSetter__" => {
                self.note(Critical, "prototype", at, format!("{name} changes what all objects share"));
                Some(Seen::unknown())
            }
            "caller" | "callee" if matches!(&owner.value, Value::Path(p) if p.first().is_some_and(|f| f == "arguments")) =>
            {
                self.note(High, "stack-walk", at, "the calling function is reached");
                Some(Seen::unknown())
            }
            _ => None,
        }
    }

    fn reach(&mut self, owner: &Seen, name: &str, at: u32) -> Seen {
        let value = match &owner.value {
            Value::Global => {
                if name.starts_with("__") {
                    self.note(
                        Critical,
                        "hidden-global",
                        at,
                        format!("{name} belongs to the inside of the sandbox"),
                    );
                }
                Value::Path(vec![name.to_owned()])
            }
            Value::Path(path) if path.len() < 12 => {
                if name.starts_with("__") && !self.is_python() {
                    self.note(
                        Critical,
                        "hidden-global",
                        at,
                        format!("{name} belongs to the inside of the sandbox"),
                    );
                }
                let module = self.is_python()
                    && path.first().is_some_and(|root| {
                        rules::import(self.language, root).is_none()
                            && name.starts_with('_')
                            && !name.starts_with("__")
                            && !matches!(name, "_asdict" | "_replace" | "_fields")
                    });
                if module
                    && path.len() == 1
                    && matches!(
                        path.first().map(String::as_str),
                        Some(
                            "sys"
                                | "os"
                                | "re"
                                | "json"
                                | "collections"
                                | "asyncio"
                                | "io"
                                | "types"
                                | "functools"
                                | "athena"
                                | "codecs"
                                | "random"
                                | "typing"
                                | "operator"
                                | "mcp"
                        )
                    )
                {
                    self.note(Critical, "introspection", at, format!("{name} is private to its module"));
                }
                Value::Path(path.iter().cloned().chain([name.to_owned()]).collect())
            }
            Value::List(items) => {
                name.parse::<usize>().ok().and_then(|i| items.get(i)).cloned().unwrap_or(Value::Unknown)
            }
            Value::Text(text) => name
                .parse::<usize>()
                .ok()
                .and_then(|i| text.chars().nth(i))
                .map_or(Value::Unknown, |c| Value::Text(c.into())),
            _ => Value::Unknown,
        };
        // How many there are says little of what they are.
        let counted = matches!(name, "length" | "size" | "count" | "total");
        Seen { value, private: owner.private && !counted, foreign: owner.foreign }
    }

    fn dict(&mut self, fields: &[(Key, Node)]) -> Seen {
        let mut all = Seen::from(Value::Constant);
        all.value = Value::Unknown;
        for (key, field) in fields {
            let name = match key {
                Key::Known(name) => Some(name.clone()),
                Key::Computed(inner) => self.value(inner).text().map(str::to_owned),
                Key::Spread => None,
            };
            let seen = self.value(field);
            if let (Some(name), Some(text)) = (&name, seen.text()) {
                self.credential(name, text, field.at);
            }
            if name.as_deref() == Some("__proto__") {
                self.note(Critical, "prototype", field.at, "__proto__ changes what an object is");
            }
            all = all.with(&seen);
        }
        all
    }

    fn credential(&mut self, name: &str, text: &str, at: u32) {
        if texts::credential(name, text) {
            self.note(
                High,
                "hard-coded-credential",
                at,
                format!("a value for {name} is written into the code"),
            );
        }
    }

    fn join(&mut self, parts: &[Node], at: u32) -> Seen {
        let seen: Vec<Seen> = parts.iter().map(|part| self.value(part)).collect();
        let texts: Option<Vec<String>> = seen.iter().map(|s| value::as_text(&s.value)).collect();
        let lists = seen.iter().all(|s| matches!(s.value, Value::List(_)));
        let value = match texts {
            Some(texts) if texts.iter().map(String::len).sum::<usize>() <= 16 << 10 => {
                let text = texts.concat();
                self.text(&text, at);
                Value::Text(text)
            }
            _ if lists => Value::List(
                seen.iter()
                    .flat_map(|s| if let Value::List(items) = &s.value { items.clone() } else { Vec::new() })
                    .collect(),
            ),
            _ => Value::Unknown,
        };
        seen.iter().fold(Seen::from(value), Seen::with)
    }

    fn binary(&mut self, operator: Operator, left: &Node, right: &Node, at: u32) -> Seen {
        let a = self.value(left);
        let b = if operator == Operator::InstanceOf { self.look(right) } else { self.value(right) };
        let value = match (operator, &a.value, &b.value) {
            (Operator::Power, Value::Number(a), Value::Number(b)) => Value::Number(a.powf(*b)),
            (Operator::Times, Value::Number(a), Value::Number(b)) => Value::Number(a * b),
            (Operator::Times, Value::List(_) | Value::Text(_), Value::Number(n))
            | (Operator::Times, Value::Number(n), Value::List(_) | Value::Text(_)) => {
                if *n >= 1e8 {
                    self.note(High, "denial-of-service", at, "this fills the memory");
                }
                Value::Unknown
            }
            (Operator::Modulo, Value::Text(format), other) => {
                let arg = match other {
                    Value::List(items) => items.iter().map(value::as_text).collect::<Option<Vec<_>>>(),
                    other => value::as_text(other).map(|text| vec![text]),
                };
                arg.map_or(Value::Unknown, |args| {
                    Value::Text(args.iter().fold(format.clone(), |all, arg| all.replacen("%s", arg, 1)))
                })
            }
            _ => Value::Unknown,
        };
        if operator == Operator::Compare {
            return Value::Constant.into();
        }
        Seen::from(value).with(&a).with(&b)
    }

    fn bind(&mut self, pattern: &Pattern, seen: &Seen, at: u32) {
        match pattern {
            Pattern::Name(name) => {
                if let Some(text) = seen.text() {
                    self.credential(name, text, at);
                }
                // Of two values a name has had, the more telling one stands.
                let keep = matches!(self.names.get(name), Some(old) if matches!(old.value, Value::Path(_) | Value::Maker | Value::Global) && !matches!(seen.value, Value::Path(_)));
                if !keep {
                    self.names.insert(name.clone(), seen.clone());
                }
            }
            Pattern::Place(place) => self.write(place, seen),
            Pattern::Fields(fields) => {
                for (key, inner) in fields {
                    let name = match key {
                        Key::Known(name) => Some(name.clone()),
                        Key::Computed(node) => self.value(node).text().map(str::to_owned),
                        Key::Spread => None,
                    };
                    let part = match &name {
                        Some(name) if name == "constructor" && !self.is_python() => {
                            if matches!(inner, Pattern::Fields(_)) || seen.value == Value::Maker {
                                self.note(
                                    Critical,
                                    "constructor-chain",
                                    at,
                                    "a constructor of functions is reached",
                                );
                            }
                            Value::Maker.into()
                        }
                        Some(name) if name == "__proto__" => {
                            self.note(Critical, "prototype", at, "__proto__ is taken");
                            Seen::unknown()
                        }
                        Some(name) => {
                            let part = self.reach(seen, name, at);
                            if let Value::Path(path) = &part.value {
                                self.used(&path.clone(), at);
                            }
                            part
                        }
                        None => Seen::unknown().with(seen),
                    };
                    self.bind(inner, &part, at);
                }
            }
            Pattern::Items(items) => {
                for (i, item) in items.iter().enumerate() {
                    let part = match &seen.value {
                        Value::List(values) => values.get(i).cloned().unwrap_or(Value::Unknown).into(),
                        _ => Seen::unknown(),
                    };
                    self.bind(item, &Seen { private: seen.private, foreign: seen.foreign, ..part }, at);
                }
            }
            Pattern::Ignored => {}
        }
    }

    /// Something is written into an object.
    fn write(&mut self, place: &Node, seen: &Seen) {
        let Kind::Member(object, key) = &place.kind else {
            self.value(place);
            return;
        };
        let target = self.look(place);
        if let (Key::Known(name), Some(text)) = (key, seen.text()) {
            self.credential(name, text, place.at);
        }
        let root = |path: &[String]| path.first().cloned().unwrap_or_default();
        let path = match &target.value {
            Value::Path(path) => path.clone(),
            _ => {
                let owner = self.look(object);
                let prototype = matches!(&object.kind, Kind::Member(_, Key::Known(name)) if name == "prototype" || name == "__proto__");
                if matches!(owner.value, Value::Global) || (prototype && !self.is_python()) {
                    self.note(
                        Critical,
                        "builtin-tampering",
                        place.at,
                        "something that all code shares is replaced",
                    );
                }
                return;
            }
        };
        let prototype = path.iter().any(|part| part == "prototype");
        let session = path.starts_with(&["session".into(), "state".into()]);
        if !self.is_python() && !session && (rules::BUILTINS.contains(&root(&path).as_str()) || prototype) {
            self.note(Critical, "builtin-tampering", place.at, format!("{} is replaced", path.join(".")));
        } else if path.iter().any(|part| matches!(part.as_str(), "test" | "describe" | "assert" | "expect"))
            && path.len() == 2
        {
            self.note(High, "test-tampering", place.at, format!("{} is replaced", path.join(".")));
        } else if self.is_python()
            && path.len() == 2
            && !session
            && rules::import(self.language, &root(&path)).is_none()
            && matches!(
                root(&path).as_str(),
                "json"
                    | "athena"
                    | "builtins"
                    | "asyncio"
                    | "os"
                    | "sys"
                    | "re"
                    | "math"
                    | "datetime"
                    | "random"
                    | "mcp"
            )
        {
            self.note(Critical, "builtin-tampering", place.at, format!("{} is replaced", path.join(".")));
        } else if path.iter().any(|part| {
            matches!(
                part.as_str(),
                "approved" | "requiresApproval" | "requires_approval" | "riskLevel" | "risk_level"
            )
        }) {
            self.note(High, "self-approval", place.at, "code sets what only the guard may say");
        } else {
            self.used(&path, place.at);
        }
    }

    fn function(&mut self, function: &Function) -> Seen {
        for param in &function.params {
            if let Pattern::Place(default) = param {
                self.value(default);
            }
        }
        let loops = std::mem::take(&mut self.loops);
        let awaited = std::mem::replace(&mut self.awaited, false);
        self.loops = loops.clone();
        self.run(&function.body);
        self.loops = loops;
        self.awaited = awaited;
        if let Some(name) = &function.name {
            self.names.entry(name.clone()).or_insert_with(|| Value::Function.into());
        }
        Value::Function.into()
    }

    fn loops(&mut self, inner: &Loop, at: u32) -> Seen {
        let mut everything = false;
        if let Some((pattern, over)) = &inner.over {
            let seen = self.value(over);
            everything = seen.private || is_everything(over);
            let item = match &seen.value {
                Value::List(items) => items.first().cloned().map_or_else(Seen::unknown, Seen::from),
                _ => Seen::unknown(),
            };
            self.bind(pattern, &item.with(&seen), at);
        } else {
            if let Some(test) = &inner.test {
                self.value(test);
            }
            let forever = match &inner.test {
                None => true,
                Some(test) => match &test.kind {
                    Kind::Constant | Kind::List(_) | Kind::Dict(_) | Kind::Text(_) => true,
                    Kind::Number(n) => *n != 0.0,
                    _ => false,
                },
            };
            if forever && !leaves(&inner.body) {
                self.note(High, "denial-of-service", at, "this loop never ends");
            }
            if inner.test.as_ref().is_some_and(|test| self.is_vast(test)) {
                self.note(High, "denial-of-service", at, "this loop goes on until the memory is full");
            }
        }
        self.loops.push(everything);
        self.run(&inner.body);
        self.loops.pop();
        Seen::unknown()
    }

    /// Whether a comparison waits for a number nothing reaches in time.
    fn is_vast(&mut self, test: &Node) -> bool {
        let Kind::Binary(Operator::Compare, left, right) = &test.kind else { return false };
        [left, right].into_iter().any(|side| match self.look(side).value {
            Value::Number(n) => n >= 1e9,
            Value::Path(path) => matches!(
                path.join(".").as_str(),
                "Infinity" | "Number.MAX_SAFE_INTEGER" | "Number.MAX_VALUE" | "math.inf" | "sys.maxsize"
            ),
            _ => false,
        })
    }

    fn import(&mut self, module: &str, names: &[(Option<String>, String)], at: u32) {
        if let Some((level, rule)) = rules::import(self.language, module) {
            self.note(level, rule, at, format!("{module} cannot be imported by agent code"));
        }
        let house = rules::is_house(module);
        if texts::path(module) || (!house && module.starts_with('.') && !self.is_python()) {
            self.note(High, "module-loading", at, format!("{module} lies outside the files an agent has"));
        }
        let plain = module.strip_prefix("node:").unwrap_or(module);
        for (name, bound) in names {
            let path: Vec<String> = if house && !self.is_python() {
                house_path(plain, name.as_deref())
            } else {
                let root: Vec<String> = if self.is_python() {
                    plain.split('.').map(str::to_owned).collect()
                } else {
                    vec![plain.split('/').next().unwrap_or(plain).to_owned()]
                };
                root.into_iter().chain(name.clone().filter(|n| n != "default" && n != "*")).collect()
            };
            if self.is_python() && name.as_deref() == Some("*") && !house {
                self.note(Medium, "unknown-module", at, "everything of a module is imported");
            }
            if name.is_some() {
                self.used(&path, at);
                if self.is_python()
                    && let Some(attribute) = name.as_deref().and_then(rules::attribute)
                {
                    self.note(attribute.0, attribute.1, at, "this leads into the interpreter");
                }
            }
            self.names.insert(bound.clone(), Value::Path(path).into());
        }
        if house {
            self.findings.capabilities.insert(capability(plain));
        }
    }

    fn load(&mut self, source: &Node, at: u32) -> Seen {
        let seen = self.value(source);
        match seen.text() {
            Some(module) => {
                let module = module.to_owned();
                self.import(&module, &[], at);
                if rules::is_house(&module) {
                    return Value::Path(house_path(&module, None)).into();
                }
                if rules::import(self.language, &module).is_some_and(|(level, _)| level < Critical)
                    || texts::path(&module)
                {
                    self.note(High, "module-loading", at, format!("{module} is loaded at run time"));
                }
                let root = module.strip_prefix("node:").unwrap_or(&module).to_owned();
                Value::Path(vec![root]).into()
            }
            None => {
                self.note(Critical, "module-loading", at, "what is imported is chosen at run time");
                Seen::unknown()
            }
        }
    }

    fn call(&mut self, call: &Call, at: u32) -> Seen {
        let awaited = std::mem::replace(&mut self.awaited, false);
        let (owner, callee) = match &call.callee.kind {
            Kind::Member(object, key) => {
                let owner = self.look(object);
                let callee = self.member_of(&owner, object, key, call.callee.at);
                (owner, callee)
            }
            _ => (Seen::unknown(), self.look(&call.callee)),
        };
        let over = matches!(&call.callee.kind, Kind::Member(_, Key::Known(n)) if matches!(n.as_str(), "map" | "forEach" | "flatMap" | "filter" | "reduce" | "every" | "some"));
        if over {
            let everything = callee.private
                || matches!(&call.callee.kind, Kind::Member(object, _) if is_everything(object));
            self.loops.push(everything);
        }
        let args: Vec<Seen> = call.args.iter().map(|arg| self.value(arg)).collect();
        let named: BTreeMap<&str, Seen> =
            call.named.iter().map(|(name, arg)| (name.as_str(), self.value(arg))).collect();
        if over {
            self.loops.pop();
        }
        for ((name, node), seen) in
            call.named.iter().zip(call.named.iter().map(|(n, _)| named.get(n.as_str())))
        {
            if let Some(text) = seen.and_then(Seen::text) {
                let text = text.to_owned();
                self.credential(name, &text, node.at);
            }
        }
        let said = Said { call, owner: &owner, args: &args, named: &named, at, awaited };
        let mut out = match &callee.value {
            Value::Maker => {
                let written = matches!(&call.callee.kind, Kind::Member(object, _) if matches!(object.kind, Kind::Name(_)) && call.new);
                self.note(
                    if written { High } else { Critical },
                    "constructor-chain",
                    at,
                    "a constructor reached through a value is called",
                );
                Seen::unknown()
            }
            Value::Path(path) => self.call_path(&path.clone(), &said),
            _ => {
                self.call_method(&said);
                self.folded(&said).unwrap_or_else(Seen::unknown)
            }
        };
        for arg in args.iter().chain(named.values()) {
            out = out.with(arg);
        }
        if matches!(call.callee.kind, Kind::Member(..)) {
            out = out.with(&owner);
        }
        out
    }

    /// A method of a known text or list.
    fn folded(&mut self, said: &Said<'_>) -> Option<Seen> {
        let Kind::Member(_, Key::Known(name)) = &said.call.callee.kind else { return None };
        let owner = said.owner;
        if owner.text().is_some()
            && name == "format"
            && self.is_python()
            && owner.text().is_some_and(|t| t.contains("__"))
        {
            self.note(Critical, "introspection", said.at, "a format string reaches into the interpreter");
        }
        if name == "repeat"
            && matches!(said.args.first().map(|a| &a.value), Some(Value::Number(n)) if *n >= 1e7)
        {
            self.note(High, "denial-of-service", said.at, "this fills the memory");
        }
        let args: Vec<Value> = said.args.iter().map(|a| a.value.clone()).collect();
        let value = value::method(&owner.value, name, &args)?;
        if let Value::Text(text) = &value {
            self.text(&text.clone(), said.at);
        }
        Some(value.into())
    }

    /// A method of a value nothing is known of: its name may say enough.
    fn call_method(&mut self, said: &Said<'_>) {
        let Kind::Member(_, Key::Known(name)) = &said.call.callee.kind else { return };
        if let Some((level, rule)) = rules::method(self.language, name) {
            self.note(level, rule, said.at, format!("{name} is out of bounds for agent code"));
        }
        if said.awaited {
            self.effects(std::slice::from_ref(name), said);
        }
        self.arguments(name, said);
    }

    fn call_path(&mut self, path: &[String], said: &Said<'_>) -> Seen {
        let at = said.at;
        let name = path.last().map_or("", String::as_str);
        let joined = path.join(".");
        if let Some(seen) = self.files(path, said) {
            return seen;
        }
        if matches!(name, "call" | "apply" | "bind") && path.len() > 1 {
            return self.call_path(path.get(..path.len() - 1).unwrap_or(&[]), said);
        }
        self.used(path, at);
        if path.len() > 1
            && let Some((level, rule)) = rules::method(self.language, name)
        {
            self.note(level, rule, at, format!("{joined} is out of bounds for agent code"));
        }
        match joined.as_str() {
            "setTimeout" | "setInterval" | "setImmediate"
                if said.args.first().is_some_and(|a| {
                    a.text().is_some()
                        || matches!(said.call.args.first().map(|n| &n.kind), Some(Kind::Join(_)))
                }) =>
            {
                self.note(Critical, "code-generation", at, "a timer runs a text as code");
            }
            "Reflect.get" | "getattr" => return self.attribute(said),
            "setattr"
            | "delattr"
            | "Reflect.set"
            | "Reflect.defineProperty"
            | "Object.defineProperty"
            | "Object.defineProperties"
            | "Object.assign"
            | "Object.setPrototypeOf"
            | "Reflect.setPrototypeOf" => self.shared(&joined, said),
            "Reflect.apply" | "Reflect.construct" => {
                if let Some(Seen { value: Value::Maker, .. }) = said.args.first() {
                    self.note(
                        Critical,
                        "constructor-chain",
                        at,
                        "a constructor reached through a value is called",
                    );
                }
            }
            "callMCPTool" | "call_mcp_tool" | "callTool" | "call_tool" | "mcp.call" | "tools.call" => {
                self.tool(said)
            }
            "operator.attrgetter" | "operator.methodcaller"
                if !said.args.iter().all(|a| a.text().is_some_and(|t| !t.contains("__"))) =>
            {
                self.note(High, "introspection", at, "an attribute is chosen at run time");
            }
            "type" if self.is_python() && said.args.len() == 3 => {
                self.note(High, "introspection", at, "a class is made at run time")
            }
            "Array" | "Buffer.alloc" | "Uint8Array" | "ArrayBuffer" | "bytearray" | "Float64Array"
            | "Buffer.allocUnsafe"
                if matches!(said.args.first().map(|a| &a.value), Some(Value::Number(n)) if *n >= 1e8) =>
            {
                self.note(High, "denial-of-service", at, "this fills the memory");
            }
            "RegExp" | "re.compile" | "re.match" | "re.search" | "re.fullmatch" | "re.findall" | "re.sub"
                if said.args.first().and_then(Seen::text).is_some_and(texts::explodes) =>
            {
                self.note(High, "regular-expression", at, "this regular expression can take for ever");
            }
            _ => {}
        }
        if joined == "eval" || joined == "exec" {
            return Seen::unknown();
        }
        let args: Vec<Value> = said.args.iter().map(|a| a.value.clone()).collect();
        if matches!(
            name,
            "btoa"
                | "encodeURIComponent"
                | "escape"
                | "b64encode"
                | "urlsafe_b64encode"
                | "hexlify"
                | "b32encode"
                | "a85encode"
                | "quote"
                | "urlencode"
                | "compress"
        ) && said.all().any(|s| s.private)
        {
            return Seen { value: Value::Unknown, private: true, foreign: true };
        }
        if let Some(value) = value::function(path, &args) {
            if let Value::Text(text) = &value {
                self.text(&text.clone(), at);
            }
            return value.into();
        }
        self.effects(path, said);
        self.arguments(name, said);
        let private = rules::reads(name) || is_release(name);
        let foreign = path
            .first()
            .is_some_and(|root| matches!(root.as_str(), "fetch" | "requests" | "httpx" | "axios" | "urllib"));
        Seen {
            value: Value::Unknown,
            private: private
                && path.first().is_some_and(|r| {
                    r != "re" && r != "math" && r != "json" && r != "JSON" && r != "Object" && r != "Reflect"
                }),
            foreign,
        }
    }

    /// Files of the virtual file system may be read; others may not.
    fn files(&mut self, path: &[String], said: &Said<'_>) -> Option<Seen> {
        let joined = path.join(".");
        let first = said.args.first().and_then(Seen::text).map(str::to_owned);
        let at = said.at;
        let house = first.as_deref().is_some_and(|p| {
            (p.starts_with("/mcp-servers") || p.starts_with("/skills")) && !p.contains("..")
        });
        match joined.as_str() {
            "open" if self.is_python() => {
                let mode = said.args.get(1).or(said.named.get("mode")).and_then(Seen::text).unwrap_or("r");
                let scratch = first.as_deref().is_some_and(|p| p.starts_with("/tmp/") && !p.contains(".."));
                let level = if house && mode.starts_with('r') {
                    Low
                } else if scratch {
                    Medium
                } else {
                    High
                };
                self.note(level, "file", at, "there are no files but those below /mcp-servers and /skills");
                Some(Seen { value: Value::Unknown, private: false, foreign: true })
            }
            "Deno.readDir" | "Deno.readTextFile" | "Deno.readFile" | "Deno.stat" | "readdir" | "readFile"
            | "read_file" | "list_files" => {
                let own = path.len() == 1;
                let outside = first.as_deref().is_some_and(|p| {
                    texts::path(p) || p.contains("..") || (p.starts_with('/') && !house && p != "/")
                });
                if outside || (!own && !house) {
                    self.note(
                        High,
                        "file",
                        at,
                        "there are no files but those below /mcp-servers and /skills",
                    );
                }
                Some(Seen::unknown())
            }
            "pathlib.Path" | "pathlib.PosixPath" | "Path" => {
                if first.as_deref().is_none_or(texts::path) {
                    let level = if first.is_some() { High } else { Medium };
                    self.note(
                        level,
                        "file",
                        at,
                        "there are no files but those below /mcp-servers and /skills",
                    );
                }
                Some(Seen::unknown())
            }
            _ => None,
        }
    }

    /// `getattr(x, name)` and `Reflect.get(x, name)` are members.
    fn attribute(&mut self, said: &Said<'_>) -> Seen {
        let Some(owner) = said.args.first().cloned() else { return Seen::unknown() };
        match said.args.get(1).and_then(Seen::text).map(str::to_owned) {
            Some(name) => {
                if !matches!(said.call.args.get(1).map(|n| &n.kind), Some(Kind::Text(_))) && is_telling(&name)
                {
                    self.note(
                        Critical,
                        "disguised-name",
                        said.at,
                        format!("the name {name} is put together so that it is not seen"),
                    );
                }
                let object = said.call.args.first().unwrap_or(&said.call.callee);
                let seen = self
                    .special(&owner, &name, object, said.at)
                    .unwrap_or_else(|| self.reach(&owner, &name, said.at));
                if let Value::Path(path) = &seen.value {
                    self.used(&path.clone(), said.at);
                }
                seen
            }
            None => {
                let root = matches!(owner.value, Value::Global | Value::Path(_));
                self.note(
                    if root { Critical } else { High },
                    "introspection",
                    said.at,
                    "an attribute is chosen at run time",
                );
                Seen::unknown()
            }
        }
    }

    /// Built-in objects and prototypes are shared by everything in the realm.
    fn shared(&mut self, function: &str, said: &Said<'_>) {
        let prototype = |s: &Seen| matches!(&s.value, Value::Path(p) if p.iter().any(|part| part == "prototype") || p.first().is_some_and(|r| rules::BUILTINS.contains(&r.as_str()) && p.len() <= 2));
        let target = said.args.first();
        if target.is_some_and(|t| prototype(t) || t.value == Value::Global) {
            self.note(Critical, "builtin-tampering", said.at, "something that all code shares is changed");
        }
        if function.ends_with("setPrototypeOf") {
            self.note(High, "prototype", said.at, "a prototype is changed");
        }
        if function == "setattr" || function == "delattr" {
            match said.args.get(1).and_then(Seen::text) {
                Some(name) if !name.starts_with("__") => {
                    if matches!(target.map(|t| &t.value), Some(Value::Path(p)) if p.len() == 1 && rules::row(self.language, p).is_some() || matches!(target.map(|t| &t.value), Some(Value::Path(p)) if matches!(p.first().map(String::as_str), Some("json" | "athena" | "builtins"))))
                    {
                        self.note(Critical, "builtin-tampering", said.at, "a module is changed");
                    }
                }
                _ => self.note(High, "introspection", said.at, "an attribute is chosen at run time"),
            }
        }
    }

    /// A tool called by its name.
    fn tool(&mut self, said: &Said<'_>) {
        let name = said.args.first().and_then(Seen::text).map(str::to_owned);
        let Some(name) = name else {
            let private = said.args.first().is_some_and(|a| a.foreign || a.private);
            self.note(
                if private { High } else { Medium },
                "computed-tool",
                said.at,
                "which tool is called is decided at run time",
            );
            return;
        };
        self.findings.capabilities.insert(name.clone());
        if let Some((level, rule)) = texts::tool(&name) {
            self.note(level, rule, said.at, format!("{name} administers or destroys"));
        }
        let path: Vec<String> = name.split('/').map(str::to_owned).collect();
        self.effects(&path, said);
    }

    /// What a call does to the house and to others, as its name and its arguments say.
    fn effects(&mut self, path: &[String], said: &Said<'_>) {
        let at = said.at;
        let name = path.last().map_or("", String::as_str);
        let host = path.first().is_some_and(|root| {
            matches!(root.as_str(), "athena" | "mcp" | "tools" | "memory" | "store") || self.is_tool(root)
        });
        if host && path.len() > 1 {
            self.findings.capabilities.insert(
                path.iter()
                    .skip(usize::from(matches!(
                        path.first().map(String::as_str),
                        Some("athena" | "mcp" | "tools")
                    )))
                    .cloned()
                    .collect::<Vec<_>>()
                    .join("/"),
            );
        }
        let acts = host || said.awaited || path.len() == 1;
        if !acts || self.declared.contains(path.first().map_or("", String::as_str)) && !said.awaited {
            return;
        }
        if rules::removes(name) {
            self.removal(name, said);
        }
        if path.iter().any(|part| texts::tool(part).is_some_and(|(level, _)| level == Critical))
            && path.len() > 1
        {
            self.note(Critical, "administration", at, format!("{} administers or destroys", path.join(".")));
        }
        let data = said.all().any(|s| s.private && !matches!(s.value, Value::Constant));
        let disguised =
            said.all().any(|s| s.private && s.foreign) && path.first().is_none_or(|root| root != "athena");
        if disguised && !rules::sends(name) && path.len() > 1 {
            self.note(High, "outbound", at, "what is remembered is handed on in another spelling");
        }
        if rules::sends(name)
            || path.iter().any(|part| {
                matches!(
                    part.as_str(),
                    "slack"
                        | "email"
                        | "gmail"
                        | "smtp"
                        | "webhook"
                        | "twitter"
                        | "discord"
                        | "telegram"
                        | "pastebin"
                )
            }) && !rules::reads(name)
        {
            self.note(
                if data { High } else { Medium },
                "outbound",
                at,
                if data { "what is remembered leaves the house" } else { "this reaches somebody else" },
            );
        }
        let teaches = matches!(
            rules::words(name).first().map(String::as_str),
            Some("learn" | "save" | "install" | "define" | "register")
        );
        if teaches {
            self.teaching(said);
        }
        let all = said.strings().any(|(_, text)| matches!(text.trim(), "*" | ".*" | "%"));
        let vast = said.numbers().any(|(key, n)| {
            matches!(key.as_str(), "limit" | "count" | "top_k" | "k" | "max" | "n" | "page_size")
                && n >= 10_000.0
        });
        if all && vast && rules::reads(name) {
            self.note(Medium, "bulk-read", at, "everything that is remembered is read");
        }
    }

    /// Whether a name is a tool imported from the virtual file system.
    fn is_tool(&self, root: &str) -> bool {
        self.findings
            .capabilities
            .iter()
            .any(|c| c.split('/').next() == Some(root) || c.ends_with(&format!("/{root}")))
    }

    fn removal(&mut self, name: &str, said: &Said<'_>) {
        let broad = said.strings().any(|(_, t)| matches!(t.trim(), "*" | "all" | ".*" | "%" | "everything"))
            || said.call.args.iter().any(|arg| matches!(&arg.kind, Kind::Dict(fields) if fields.iter().any(|(key, value)| matches!(key, Key::Known(k) if matches!(k.as_str(), "all" | "force" | "range" | "recursive" | "cascade" | "everything" | "bulk")) && matches!(value.kind, Kind::Constant | Kind::Dict(_)))))
            || said.call.named.iter().any(|(k, _)| matches!(k.as_str(), "all" | "range" | "cascade" | "force"))
            || rules::words(name).iter().any(|w| matches!(w.as_str(), "all" | "bulk" | "everything" | "scope" | "database" | "table"));
        match self.loops.last() {
            Some(true) => self.note(
                Critical,
                "bulk-delete",
                said.at,
                format!("{name} is called for everything that is found"),
            ),
            Some(false) => {
                self.note(High, "bulk-delete", said.at, format!("{name} is called again and again"))
            }
            None if broad => {
                self.note(Critical, "bulk-delete", said.at, format!("{name} takes away more than one thing"))
            }
            None if said.all().any(|s| s.private) => {
                self.note(High, "bulk-delete", said.at, format!("{name} takes away what was found"))
            }
            None => {}
        }
    }

    /// Code that is kept: written here it is judged as this code is; made at run time a person looks at it.
    fn teaching(&mut self, said: &Said<'_>) {
        let mut code: Vec<Node> =
            said.call.named.iter().filter(|(n, _)| is_code(n)).map(|(_, n)| n.clone()).collect();
        for arg in &said.call.args {
            if let Kind::Dict(fields) = &arg.kind {
                code.extend(
                    fields
                        .iter()
                        .filter(|(key, _)| matches!(key, Key::Known(k) if is_code(k)))
                        .map(|(_, n)| n.clone()),
                );
            }
        }
        for node in code {
            let notes = self.findings.notes.len();
            let seen = self.look(&node);
            self.findings.notes.truncate(notes);
            match seen.text() {
                Some(text) if self.depth < 2 => {
                    let inner = super::level_of(self.language, text, self.depth + 1);
                    if inner >= High {
                        self.note(inner, "kept-code", node.at, "the code that is kept is dangerous itself");
                    }
                }
                Some(_) => {}
                None => self.note(High, "kept-code", node.at, "code made at run time is kept"),
            }
        }
    }

    /// Commands, statements and paths among a call's arguments.
    fn arguments(&mut self, name: &str, said: &Said<'_>) {
        let words = rules::words(name);
        let has = |list: &[&str]| words.iter().any(|w| list.contains(&w.as_str()));
        let runs = has(&[
            "run",
            "exec",
            "execute",
            "shell",
            "sh",
            "bash",
            "command",
            "cmd",
            "spawn",
            "system",
            "terminal",
            "query",
            "sql",
            "raw",
            "script",
            "ssh",
            "powershell",
        ]);
        let files = has(&[
            "read", "open", "write", "load", "cat", "stat", "file", "files", "path", "rm", "unlink",
            "download", "copy", "move", "readdir", "ls", "glob", "append", "include", "source", "mount",
            "symlink", "chmod",
        ]);
        let speaks = has(&[
            "log",
            "print",
            "remember",
            "store",
            "warn",
            "info",
            "error",
            "debug",
            "includes",
            "test",
            "match",
            "replace",
            "split",
            "startswith",
            "endswith",
            "starts",
            "ends",
            "push",
            "append",
            "count",
            "index",
            "search",
            "recall",
            "describe",
            "send",
            "post",
            "create",
        ]);
        let found: Vec<(String, String)> = said.strings().map(|(k, t)| (k, t.to_owned())).collect();
        for (key, text) in found {
            let command = matches!(
                key.as_str(),
                "command" | "cmd" | "script" | "shell" | "sql" | "query" | "args" | "argv"
            );
            if (runs || command)
                && let Some((level, rule)) = texts::command(&text)
            {
                self.note(level, rule, said.at, "a command that destroys or reaches outside");
            }
            let place = matches!(
                key.as_str(),
                "path"
                    | "file"
                    | "filename"
                    | "uri"
                    | "src"
                    | "dest"
                    | "source"
                    | "target"
                    | "dir"
                    | "directory"
                    | "file_path"
                    | "filepath"
            );
            if ((files && !speaks) || place || (!speaks && text.starts_with("/etc/"))) && texts::path(&text) {
                self.note(High, "path-traversal", said.at, "a path that leads out of the files an agent has");
            }
        }
    }
}

/// A call with what is known of its arguments.
struct Said<'a> {
    call: &'a Call,
    /// What it is a method of.
    owner: &'a Seen,
    args: &'a [Seen],
    named: &'a BTreeMap<&'a str, Seen>,
    at: u32,
    awaited: bool,
}

impl<'a> Said<'a> {
    fn all(&self) -> impl Iterator<Item = &'a Seen> {
        self.args.iter().chain(self.named.values())
    }

    /// Texts among the arguments, with their names: also those in an object or a list.
    fn strings(&self) -> impl Iterator<Item = (String, String)> {
        let mut out = Vec::new();
        for (node, seen) in self.call.args.iter().zip(self.args) {
            collect("", node, Some(seen), &mut out);
        }
        for (name, node) in &self.call.named {
            collect(name, node, self.named.get(name.as_str()), &mut out);
        }
        out.into_iter()
    }

    fn numbers(&self) -> impl Iterator<Item = (String, f64)> {
        let mut out = Vec::new();
        for arg in &self.call.args {
            if let Kind::Dict(fields) = &arg.kind {
                for (key, value) in fields {
                    if let (Key::Known(key), Kind::Number(n)) = (key, &value.kind) {
                        out.push((key.clone(), *n));
                    }
                }
            }
        }
        for (name, node) in &self.call.named {
            if let Kind::Number(n) = node.kind {
                out.push((name.clone(), n));
            }
        }
        out.into_iter()
    }
}

fn collect(name: &str, node: &Node, seen: Option<&Seen>, out: &mut Vec<(String, String)>) {
    if out.len() > 256 {
        return;
    }
    match (&node.kind, seen.map(|s| &s.value)) {
        (_, Some(Value::Text(text))) | (Kind::Text(text), _) => out.push((name.to_owned(), text.clone())),
        (_, Some(Value::List(items))) => {
            let parts: Vec<String> = items.iter().filter_map(value::as_text).collect();
            out.push((name.to_owned(), parts.join(" ")));
            out.extend(parts.into_iter().map(|part| (name.to_owned(), part)));
        }
        (Kind::Dict(fields), _) => {
            for (key, value) in fields {
                let key = if let Key::Known(key) = key { key.as_str() } else { "" };
                collect(key, value, None, out);
            }
        }
        (Kind::List(items), _) => items.iter().for_each(|item| collect(name, item, None, out)),
        (Kind::Join(parts), _) => parts.iter().for_each(|part| collect(name, part, None, out)),
        _ => {}
    }
}

fn is_code(name: &str) -> bool {
    matches!(name, "code" | "source" | "source_code" | "sourceCode" | "script" | "body" | "implementation")
}

/// Operations that give away what tokens stand for.
fn is_release(name: &str) -> bool {
    matches!(
        name,
        "untokenize"
            | "detokenize"
            | "reveal"
            | "unmask"
            | "decrypt_token"
            | "untokenise"
            | "detokenise"
            | "deanonymize"
            | "unredact"
            | "reidentify"
    )
}

/// Names nobody disguises without a reason.
fn is_telling(name: &str) -> bool {
    const NAMES: &[&str] = &[
        "eval",
        "exec",
        "Function",
        "constructor",
        "__proto__",
        "prototype",
        "require",
        "process",
        "Deno",
        "Bun",
        "child_process",
        "fetch",
        "import",
        "globalThis",
        "open",
        "compile",
        "system",
        "popen",
        "subprocess",
        "execSync",
        "spawn",
        "binding",
        "mainModule",
        "env",
        "dlopen",
        "getBuiltinModule",
        "XMLHttpRequest",
        "WebSocket",
        "approve",
        "untokenize",
        "os",
        "WebAssembly",
        "Worker",
    ];
    NAMES.contains(&name) || name.starts_with("__")
}

/// Whether something goes over all there is: the result of a listing or a search.
fn is_everything(node: &Node) -> bool {
    match &node.kind {
        Kind::Await(inner) => is_everything(inner),
        Kind::Call(call) => {
            matches!(&call.callee.kind, Kind::Member(_, Key::Known(name)) | Kind::Name(name) if rules::reads(name))
        }
        Kind::Member(object, _) => is_everything(object),
        Kind::Group(parts) | Kind::Choice(parts) => parts.iter().any(is_everything),
        _ => false,
    }
}

/// Whether a loop's body can leave it.
fn leaves(body: &[Node]) -> bool {
    body.iter().any(|node| match &node.kind {
        Kind::Leave(_) => true,
        Kind::Function(_) => false,
        Kind::Group(parts) | Kind::Choice(parts) | Kind::List(parts) | Kind::Join(parts) => leaves(parts),
        // A `break` in an inner loop leaves that one only; a `return` in it leaves both, which is not told apart here.
        Kind::Loop(inner) => leaves(&inner.body),
        Kind::Await(inner) => leaves(std::slice::from_ref(inner)),
        _ => false,
    })
}

/// The path of a tool file: `/mcp-servers/slack/sendMessage.ts` is `slack.sendMessage`.
fn house_path(module: &str, name: Option<&str>) -> Vec<String> {
    let mut parts: Vec<String> = capability(module).split('/').map(str::to_owned).collect();
    if let Some(name) = name
        && parts.last().is_none_or(|last| last != name)
        && name != "default"
    {
        parts.push(name.to_owned());
    }
    parts
}

/// What a file of the virtual file system stands for: `slack/sendMessage`.
fn capability(module: &str) -> String {
    let path = module.trim_start_matches(['.', '/']);
    let path = path.strip_prefix("mcp-servers/").unwrap_or(path);
    path.rsplit_once('.')
        .map_or(path, |(stem, ending)| if matches!(ending, "ts" | "js" | "py" | "mjs") { stem } else { path })
        .to_owned()
}

/// Every name the code itself gives.
fn declared(body: &[Node]) -> HashSet<String> {
    fn pattern(p: &Pattern, out: &mut HashSet<String>) {
        match p {
            Pattern::Name(name) => drop(out.insert(name.clone())),
            Pattern::Fields(fields) => fields.iter().for_each(|(_, inner)| pattern(inner, out)),
            Pattern::Items(items) => items.iter().for_each(|inner| pattern(inner, out)),
            Pattern::Place(node) => walk(node, out),
            Pattern::Ignored => {}
        }
    }
    fn walk(node: &Node, out: &mut HashSet<String>) {
        let mut each = |nodes: &[Node]| nodes.iter().for_each(|n| walk(n, out));
        match &node.kind {
            Kind::List(parts) | Kind::Join(parts) | Kind::Choice(parts) | Kind::Group(parts) => each(parts),
            Kind::Dict(fields) => fields.iter().for_each(|(_, n)| walk(n, out)),
            Kind::Member(object, _) | Kind::Await(object) | Kind::Load(object) => walk(object, out),
            Kind::Call(call) => {
                walk(&call.callee, out);
                call.args.iter().chain(call.named.iter().map(|(_, n)| n)).for_each(|n| walk(n, out));
            }
            Kind::Binary(_, a, b) => [a, b].into_iter().for_each(|n| walk(n, out)),
            Kind::Assign(p, right) => {
                pattern(p, out);
                walk(right, out);
            }
            Kind::Function(function) => {
                out.extend(function.name.clone());
                function.params.iter().for_each(|p| pattern(p, out));
                function.body.iter().for_each(|n| walk(n, out));
            }
            Kind::Loop(inner) => {
                if let Some((p, over)) = &inner.over {
                    pattern(p, out);
                    walk(over, out);
                }
                inner.test.iter().for_each(|n| walk(n, out));
                inner.body.iter().for_each(|n| walk(n, out));
            }
            Kind::Leave(Some(inner)) => walk(inner, out),
            Kind::Import { names, .. } => out.extend(names.iter().map(|(_, bound)| bound.clone())),
            _ => {}
        }
    }
    let mut out = HashSet::new();
    body.iter().for_each(|node| walk(node, &mut out));
    out
}
