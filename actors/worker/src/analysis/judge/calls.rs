//! Calls by the path they go through: globals, modules, methods, files.

use super::super::rules;
use super::super::texts;
use super::super::tree::{Call, Key, Kind};
use super::super::value::{self, Seen, Value};
use super::Judge;
use super::effects::{is_everything, is_release};
use super::names::is_telling;
use super::said::Said;
use athena_schemas::risk::Risk::{Critical, High, Low, Medium};
use std::collections::BTreeMap;

impl Judge {
    pub(super) fn call(&mut self, call: &Call, at: u32) -> Seen {
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
    pub(super) fn folded(&mut self, said: &Said<'_>) -> Option<Seen> {
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
    pub(super) fn call_method(&mut self, said: &Said<'_>) {
        let Kind::Member(_, Key::Known(name)) = &said.call.callee.kind else { return };
        if let Some((level, rule)) = rules::method(self.language, name) {
            self.note(level, rule, said.at, format!("{name} is out of bounds for agent code"));
        }
        if said.awaited {
            self.effects(std::slice::from_ref(name), said);
        }
        self.arguments(name, said);
    }

    pub(super) fn call_path(&mut self, path: &[String], said: &Said<'_>) -> Seen {
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
    pub(super) fn files(&mut self, path: &[String], said: &Said<'_>) -> Option<Seen> {
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
    pub(super) fn attribute(&mut self, said: &Said<'_>) -> Seen {
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
}
