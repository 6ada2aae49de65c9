//! What a call would change outside: tools, removals, sums of money, what others would learn.

use super::super::rules;
use super::super::texts;
use super::super::tree::{Key, Kind, Node};
use super::super::value::{Seen, Value};
use super::Judge;
use super::said::Said;
use athena_schemas::risk::Risk::{Critical, High, Medium};

impl Judge {
    /// Built-in objects and prototypes are shared by everything in the realm.
    pub(super) fn shared(&mut self, function: &str, said: &Said<'_>) {
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
    pub(super) fn tool(&mut self, said: &Said<'_>) {
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
    pub(super) fn effects(&mut self, path: &[String], said: &Said<'_>) {
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
    pub(super) fn is_tool(&self, root: &str) -> bool {
        self.findings
            .capabilities
            .iter()
            .any(|c| c.split('/').next() == Some(root) || c.ends_with(&format!("/{root}")))
    }

    pub(super) fn removal(&mut self, name: &str, said: &Said<'_>) {
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
    pub(super) fn teaching(&mut self, said: &Said<'_>) {
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
                    let inner = super::super::level_of(self.language, text, self.depth + 1);
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
    pub(super) fn arguments(&mut self, name: &str, said: &Said<'_>) {
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

fn is_code(name: &str) -> bool {
    matches!(name, "code" | "source" | "source_code" | "sourceCode" | "script" | "body" | "implementation")
}

/// Operations that give away what tokens stand for.
pub(super) fn is_release(name: &str) -> bool {
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

/// Whether something goes over all there is: the result of a listing or a search.
pub(super) fn is_everything(node: &Node) -> bool {
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
