//! Imports: only the virtual files, fetched through the door and stripped of their types here.

use super::Door;
use super::faults::Places;
use crate::engines::SharedHost;
use crate::source::script;
use rquickjs::loader::{ImportAttributes, Loader, Resolver};
use rquickjs::module::Declared;
use rquickjs::{Ctx, Exception, Module, Result};
use serde_json::Value;

/// Folders of the virtual file system that hold modules.
const ROOTS: [&str; 2] = ["/mcp-servers/", "/skills/"];

/// Turns what an import says into the path of a virtual file.
pub(super) struct Resolve;

impl Resolver for Resolve {
    fn resolve<'js>(
        &mut self,
        ctx: &Ctx<'js>,
        base: &str,
        name: &str,
        _attributes: Option<ImportAttributes<'js>>,
    ) -> Result<String> {
        resolve(base, name).map_err(|message| Exception::throw_message(ctx, &message))
    }
}

/// The virtual path `name` means inside module `base`, or why there is none.
pub(in crate::engines) fn resolve(base: &str, name: &str) -> std::result::Result<String, String> {
    if name.contains('\0') || name.len() > 512 {
        return Err("an import names no file: its path is too long or holds a NUL".into());
    }
    let joined = match name.strip_prefix('.') {
        // The script itself lies at the root.
        Some(_) => format!("{}/{name}", base.rsplit_once('/').map_or("", |(folder, _)| folder)),
        None => name.to_owned(),
    };
    if !joined.starts_with('/') {
        return Err(format!(
            "cannot import {name:?}: sandboxed code has no packages, files or network. \
             Import tools from \"/mcp-servers/<server>/<tool>.ts\", skills from \"/skills/<name>.ts\", \
             or use the globals (athena, callMCPTool, readFile)"
        ));
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in joined.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    let path = format!("/{}", parts.join("/"));
    if ROOTS.iter().any(|root| path.starts_with(root)) {
        return Ok(path);
    }
    Err(format!(
        "cannot import {name:?}: only /mcp-servers/… and /skills/… hold modules; readdir(\"/\") lists them"
    ))
}

/// Fetches modules with the operation `files/module`.
pub(super) struct Load {
    door: Door,
    places: Places,
}

impl Load {
    pub(super) fn new(door: Door, places: Places) -> Self {
        Self { door, places }
    }
}

/// The source of a virtual file. Answers to other calls that arrive meanwhile keep their order.
pub(in crate::engines) fn fetch(host: &SharedHost, path: &str) -> std::result::Result<String, String> {
    let mut host = host.borrow_mut();
    let params = serde_json::json!({ "path": path }).to_string();
    let answer = host
        .call("files/module".into(), params, String::new())
        .and_then(|call| host.wait_for(call))
        .map_err(|fault| fault.message)?;
    let read = |json: &str| serde_json::from_str::<Value>(json).unwrap_or(Value::Null);
    match answer.result {
        Ok(json) => match read(&json) {
            Value::String(source) => Ok(source),
            Value::Object(mut file) => match file.remove("source") {
                Some(Value::String(source)) => Ok(source),
                _ => Err(format!("{path} holds no source")),
            },
            _ => Err(format!("{path} holds no source")),
        },
        Err(json) => Err(read(&json).get("message").and_then(Value::as_str).map_or_else(
            || format!("cannot import {path}"),
            |message| format!("cannot import {path}: {message}"),
        )),
    }
}

impl Loader for Load {
    fn load<'js>(
        &mut self,
        ctx: &Ctx<'js>,
        path: &str,
        _attributes: Option<ImportAttributes<'js>>,
    ) -> Result<Module<'js, Declared>> {
        let source = (self.door.host().ok_or_else(|| "no run is open".to_owned()))
            .and_then(|host| fetch(&host, path))
            .map_err(|message| Exception::throw_message(ctx, &message))?;
        let emitted = script::emit_module(&source).map_err(|fault| {
            let message = format!("{path}:{}:{}: {}", fault.line, fault.column, fault.message);
            Exception::throw_syntax(ctx, &message)
        })?;
        let code = emitted.code.clone();
        self.places.add(path, emitted);
        Module::declare(ctx.clone(), path, code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_reach_virtual_files_only() {
        let base = "/mcp-servers/github/create_issue.ts";
        for (base, name, path) in [
            ("run.ts", "/mcp-servers/a/b.ts", "/mcp-servers/a/b.ts"),
            ("run.ts", "./skills/x.ts", "/skills/x.ts"),
            (base, "./types.ts", "/mcp-servers/github/types.ts"),
            (base, "../other/t.ts", "/mcp-servers/other/t.ts"),
        ] {
            assert_eq!(resolve(base, name).unwrap(), path);
        }
        for name in [
            "fs",
            "node:fs",
            "data:text/javascript,1",
            "https://x.y/z.js",
            "file:///etc/passwd",
            "../../etc/passwd",
            "/etc/passwd",
            "/mcp-servers/../etc/passwd",
            "/mcp-servers",
            "/skills/../../proc/self/mem",
            "a\0b",
            "",
        ] {
            assert!(resolve("run.ts", name).is_err(), "{name}");
        }
    }
}
