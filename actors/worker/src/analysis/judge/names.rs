//! Names and paths: what a name stands for, what a member of something reaches, what an import brings.

use super::super::rules;
use super::super::texts;
use super::super::tree::{Key, Kind, Node};
use super::super::value::{self, Seen, Value};
use super::Judge;
use super::effects::is_release;
use athena_schemas::risk::Risk::{Critical, High, Medium};

impl Judge {
    pub(super) fn name(&mut self, name: &str, at: u32) -> Seen {
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
    pub(super) fn used(&mut self, path: &[String], at: u32) {
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

    pub(super) fn member(&mut self, object: &Node, key: &Key, at: u32) -> Seen {
        let owner = self.look(object);
        self.member_of(&owner, object, key, at)
    }

    /// A member of a value that was looked at already: chains of calls are walked once.
    pub(super) fn member_of(&mut self, owner: &Seen, object: &Node, key: &Key, at: u32) -> Seen {
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
    pub(super) fn special(&mut self, owner: &Seen, name: &str, object: &Node, at: u32) -> Option<Seen> {
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

    pub(super) fn reach(&mut self, owner: &Seen, name: &str, at: u32) -> Seen {
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

    pub(super) fn import(&mut self, module: &str, names: &[(Option<String>, String)], at: u32) {
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

    pub(super) fn load(&mut self, source: &Node, at: u32) -> Seen {
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
}

/// Names nobody disguises without a reason.
pub(super) fn is_telling(name: &str) -> bool {
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
