//! Where a server's configuration comes from and what becomes of it: `mcpServers` files, variables, secrets.

use super::definition::server_name_near;
use athena_schemas::layers::upstream::Server;
use athena_schemas::refusal::Refusal;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Variables of Athena's own environment that every child process gets. Everything else must be configured.
pub const ENVIRONMENT: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "TERM",
    "SHELL",
    "TMPDIR",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_STATE_HOME",
    "XDG_RUNTIME_DIR",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "NODE_EXTRA_CA_CERTS",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "SYSTEMROOT",
    "APPDATA",
    "LOCALAPPDATA",
    "USERPROFILE",
    "PROGRAMFILES",
    "PATHEXT",
    "COMSPEC",
    "TEMP",
    "TMP",
];

/// How long a call may take unless configured, milliseconds.
pub const TIMEOUT_MS: u64 = 60_000;
/// Calls at once unless configured.
pub const CONCURRENCY: u32 = 8;
/// Calls a minute unless configured.
pub const PER_MINUTE: u32 = 6_000;

/// Reads the servers of a configuration: `mcpServers`, VS Code's `servers`, VS Code settings' `mcp.servers`, or Codex's
/// `mcp_servers` (its TOML as JSON). Names are made safe. Entries that are no servers are left out.
///
/// # Errors
/// When there is no such object.
pub fn servers(config: &Value) -> Result<BTreeMap<String, Server>, Refusal> {
    let table = ["/mcpServers", "/servers", "/mcp/servers", "/mcp_servers"]
        .into_iter()
        .find_map(|pointer| config.pointer(pointer)?.as_object())
        .ok_or_else(|| {
            Refusal::invalid("no servers in this configuration")
                .hint(r#"{"mcpServers": {"name": {"command": "…", "args": ["…"]}}}"#)
        })?;
    let mut servers = BTreeMap::new();
    for (name, entry) in table {
        let server = server(name, entry)?;
        if server.command.is_some() || server.url.is_some() {
            servers.insert(server_name_near(name), server);
        }
    }
    Ok(servers)
}

fn server(name: &str, entry: &Value) -> Result<Server, Refusal> {
    let mut fields: Map<String, Value> = entry.as_object().cloned().unwrap_or_default();
    // Some clients write numbers and booleans as values of variables.
    for key in ["env", "headers", "http_headers"] {
        if let Some(Value::Object(values)) = fields.get_mut(key) {
            values.retain(|_, value| !value.is_null());
            for value in values.values_mut().filter(|value| !value.is_string()) {
                *value = Value::String(value.to_string());
            }
        }
    }
    // Codex and Cline say `enabled`/`disabled`; Codex counts seconds.
    if fields.get("enabled") == Some(&Value::Bool(false)) {
        fields.insert("disabled".into(), true.into());
    }
    // Codex names the variables that hold them.
    let mut named = Vec::new();
    if let Some(Value::String(variable)) = fields.get("bearer_token_env_var") {
        named.push(("Authorization".to_string(), format!("Bearer ${{{variable}}}")));
    }
    if let Some(Value::Object(headers)) = fields.get("env_http_headers") {
        let variables = headers.iter().filter_map(|(name, variable)| Some((name, variable.as_str()?)));
        named.extend(variables.map(|(name, variable)| (name.clone(), format!("${{{variable}}}"))));
    }
    if !named.is_empty() {
        let key = if fields.contains_key("http_headers") { "http_headers" } else { "headers" };
        let headers = fields.entry(key).or_insert_with(|| Value::Object(Map::new()));
        if let Some(headers) = headers.as_object_mut() {
            headers.extend(named.into_iter().map(|(name, value)| (name, Value::String(value))));
        }
    }
    if let Some(seconds) = fields.get("tool_timeout_sec").and_then(Value::as_f64) {
        fields.entry("timeout_ms").or_insert_with(|| ((seconds * 1000.0) as u64).into());
    }
    serde_json::from_value(fields.into())
        .map_err(|error| Refusal::invalid(format!("server {name}: {error}")).at(format!("mcpServers.{name}")))
}

/// Whether a configuration starts Athena itself: a server that would call itself for ever.
pub fn is_self(server: &Server) -> bool {
    let base =
        |text: &str| text.rsplit(['/', '\\']).next().unwrap_or(text).trim_end_matches(".exe").to_string();
    let Some(command) = &server.command else { return false };
    let words: Vec<String> = std::iter::once(command).chain(&server.args).map(|word| base(word)).collect();
    words
        .iter()
        .position(|word| word == "athena")
        .is_some_and(|at| words.iter().skip(at + 1).any(|word| word == "serve"))
}

/// Replaces `${NAME}`, `${NAME:-default}` and VS Code's `${env:NAME}` from `lookup`.
///
/// # Errors
/// The name of a variable that is not set.
pub fn expand(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        out.push_str(before);
        let Some((inside, tail)) = after.split_once('}') else {
            out.push_str("${");
            rest = after;
            continue;
        };
        let (name, default) =
            inside.split_once(":-").map_or((inside, None), |(name, default)| (name, Some(default)));
        let value = lookup(name.strip_prefix("env:").unwrap_or(name)).or_else(|| default.map(str::to_string));
        out.push_str(&value.ok_or_else(|| name.to_string())?);
        rest = tail;
    }
    out.push_str(rest);
    Ok(out)
}

/// The paths of a server's arguments that get real values when `tool` is called.
pub fn reveal_paths(server: &Server, tool: &str) -> Vec<String> {
    server
        .reveal
        .iter()
        .filter_map(|path| match path.split_once(':') {
            Some((only, path)) => (only == tool).then(|| path.to_string()),
            None => Some(path.clone()),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_client_s_form_is_read() {
        let one = json!({"command": "npx", "args": ["-y", "x"], "env": {"PORT": 1, "OFF": null}, "autoApprove": []});
        for config in [
            json!({"mcpServers": {"a": one}}),
            json!({"servers": {"a": one}}),
            json!({"mcp": {"servers": {"a": one}}}),
            json!({"mcp_servers": {"a": one}}),
        ] {
            let servers = servers(&config).unwrap();
            assert_eq!(servers["a"].args, ["-y", "x"]);
            assert_eq!(servers["a"].env["PORT"], "1");
            assert!(!servers["a"].env.contains_key("OFF"));
        }
        let codex = servers(&json!({"mcp_servers": {"my server": {"url": "http://x", "enabled": false, "tool_timeout_sec": 1.5}}})).unwrap();
        let bearer =
            servers(&json!({"mcp_servers": {"b": {"url": "http://x", "bearer_token_env_var": "KEY"}}}))
                .unwrap();
        assert_eq!(bearer["b"].headers["Authorization"], "Bearer ${KEY}");
        assert!(codex["my_server"].disabled);
        assert_eq!(codex["my_server"].timeout_ms, Some(1_500));
        assert!(servers(&json!({})).is_err());
        let refusal = servers(&json!({"mcpServers": {"a": {"command": 7}}})).unwrap_err();
        assert_eq!(refusal.path.as_deref(), Some("mcpServers.a"));
    }

    #[test]
    fn athena_does_not_start_itself() {
        let server = |command: &str, args: &[&str]| Server {
            command: Some(command.into()),
            args: args.iter().map(|arg| (*arg).to_string()).collect(),
            ..Server::default()
        };
        assert!(is_self(&server("athena", &["serve"])));
        assert!(is_self(&server("/usr/bin/athena.exe", &["serve", "--store", "x"])));
        assert!(is_self(&server("/opt/athena", &["--store", "/x", "serve"])));
        assert!(is_self(&server("npx", &["-y", "athena", "serve"])));
        assert!(!is_self(&server("athena", &["__sample", "documents"])));
        assert!(!is_self(&server("other", &["serve"])));
    }

    #[test]
    fn variables_are_replaced_or_named() {
        let lookup = |name: &str| (name == "A").then(|| "1".to_string());
        assert_eq!(expand("x${A}y${env:A}${B:-2}$", &lookup).unwrap(), "x1y12$");
        assert_eq!(expand("${B}", &lookup), Err("B".into()));
        assert_eq!(expand("${open", &lookup).unwrap(), "${open");
    }

    #[test]
    fn a_reveal_path_may_be_for_one_tool() {
        let server = Server { reveal: vec!["to".into(), "send:cc".into()], ..Server::default() };
        assert_eq!(reveal_paths(&server, "send"), ["to", "cc"]);
        assert_eq!(reveal_paths(&server, "other"), ["to"]);
    }
}
