//! What binds and repeats: patterns, assignments, functions, loops.

use super::super::rules;
use super::super::tree::{Function, Key, Kind, Loop, Node, Operator, Pattern};
use super::super::value::{Seen, Value};
use super::Judge;
use super::effects::is_everything;
use athena_schemas::risk::Risk::{Critical, High};

impl Judge {
    pub(super) fn bind(&mut self, pattern: &Pattern, seen: &Seen, at: u32) {
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
    pub(super) fn write(&mut self, place: &Node, seen: &Seen) {
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

    pub(super) fn function(&mut self, function: &Function) -> Seen {
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

    pub(super) fn loops(&mut self, inner: &Loop, at: u32) -> Seen {
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
    pub(super) fn is_vast(&mut self, test: &Node) -> bool {
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
