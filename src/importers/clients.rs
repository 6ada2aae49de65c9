//! The clients whose configuration is read and written.

use athena_schemas::refusal::{Code, Refusal};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

/// An MCP client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Client {
    /// Claude Desktop.
    ClaudeDesktop,
    /// Claude Code, its user-wide servers.
    ClaudeCode,
    /// Cursor.
    Cursor,
    /// Visual Studio Code, its user-wide servers.
    VsCode,
    /// Codex.
    Codex,
}

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Syntax {
    /// JSON, with the key under which servers stand.
    Json(&'static str),
    /// Codex's TOML.
    Toml,
}

/// How a client starts Athena.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// The program; its full path, because a client started from a desktop has another `PATH`.
    pub program: String,
    /// Its arguments.
    pub arguments: Vec<String>,
}

impl Launch {
    /// `PROGRAM serve`.
    pub fn serve(program: impl Into<String>) -> Self {
        Self { program: program.into(), arguments: vec!["serve".into()] }
    }
}

impl Client {
    /// Every client.
    pub const ALL: [Self; 5] =
        [Self::ClaudeDesktop, Self::ClaudeCode, Self::Cursor, Self::VsCode, Self::Codex];

    /// Its name at the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::ClaudeDesktop => "claude-desktop",
            Self::ClaudeCode => "claude-code",
            Self::Cursor => "cursor",
            Self::VsCode => "vscode",
            Self::Codex => "codex",
        }
    }

    /// The client of that name.
    ///
    /// # Errors
    /// When there is none, with the names there are.
    pub fn parse(name: &str) -> Result<Self, Refusal> {
        Self::ALL.into_iter().find(|client| client.name() == name).ok_or_else(|| {
            Refusal::invalid(format!("there is no client {name}"))
                .at("client")
                .hint(Self::ALL.map(Self::name).join(", "))
        })
    }

    pub(crate) fn syntax(self) -> Syntax {
        match self {
            Self::VsCode => Syntax::Json("servers"),
            Self::Codex => Syntax::Toml,
            Self::ClaudeDesktop | Self::ClaudeCode | Self::Cursor => Syntax::Json("mcpServers"),
        }
    }

    /// Where its file is for somebody with this home folder. `config` is the folder of application settings:
    /// `$XDG_CONFIG_HOME`, `~/Library/Application Support` or `%APPDATA%`.
    pub fn path(self, home: &Path, config: &Path) -> PathBuf {
        match self {
            Self::ClaudeDesktop => config.join("Claude/claude_desktop_config.json"),
            Self::ClaudeCode => home.join(".claude.json"),
            Self::Cursor => home.join(".cursor/mcp.json"),
            Self::VsCode => config.join("Code/User/mcp.json"),
            Self::Codex => home.join(".codex/config.toml"),
        }
    }

    /// Whether somebody with this home folder seems to use it: its file is there, or the folder it keeps it in.
    pub fn is_used(self, home: &Path, config: &Path) -> bool {
        let path = self.path(home, config);
        let folder = match self {
            Self::ClaudeCode => Some(home.join(".claude")),
            _ => path.parent().map(Path::to_path_buf),
        };
        path.exists() || folder.is_some_and(|folder| folder.is_dir())
    }

    /// The entry that starts Athena, as this client writes it.
    pub(crate) fn entry(self, launch: &Launch) -> Value {
        let Launch { program, arguments } = launch;
        match self {
            Self::VsCode => json!({"type": "stdio", "command": program, "args": arguments}),
            _ => json!({"command": program, "args": arguments}),
        }
    }
}

/// The servers of a file and everything else in it.
pub(crate) fn servers(client: Client, text: &str) -> Result<Map<String, Value>, Refusal> {
    let whole = match client.syntax() {
        Syntax::Json(_) => json(text)?,
        Syntax::Toml => toml(text)?,
    };
    let key = match client.syntax() {
        Syntax::Json(key) => key,
        Syntax::Toml => "mcp_servers",
    };
    match whole.get(key) {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(servers)) => Ok(servers.clone()),
        Some(_) => Err(unreadable(format!("{key} is not an object"))),
    }
}

/// The file with other servers in place of its own. Everything else stays as it is.
pub(crate) fn with_servers(
    client: Client,
    text: &str,
    servers: &Map<String, Value>,
) -> Result<String, Refusal> {
    match client.syntax() {
        Syntax::Json(key) => {
            let mut whole = json(text)?;
            let fields = whole.as_object_mut().ok_or_else(|| unreadable("it is not an object".into()))?;
            fields.insert(key.into(), Value::Object(servers.clone()));
            Ok(format!("{whole:#}\n"))
        }
        Syntax::Toml => {
            let mut whole: toml_edit::DocumentMut =
                text.parse().map_err(|error| unreadable(format!("{error}")))?;
            let mut table = toml_edit::Table::new();
            table.set_implicit(true);
            for (name, server) in servers {
                let mut entry = toml_edit::Table::new();
                for (key, value) in server.as_object().into_iter().flatten() {
                    if let Some(value) = edited(value) {
                        entry.insert(key, toml_edit::Item::Value(value));
                    }
                }
                table.insert(name, toml_edit::Item::Table(entry));
            }
            whole.insert("mcp_servers", toml_edit::Item::Table(table));
            Ok(whole.to_string())
        }
    }
}

fn edited(value: &Value) -> Option<toml_edit::Value> {
    Some(match value {
        Value::Null => return None,
        Value::Bool(flag) => (*flag).into(),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => whole.into(),
            None => number.as_f64()?.into(),
        },
        Value::String(text) => text.as_str().into(),
        Value::Array(items) => items.iter().filter_map(edited).collect::<toml_edit::Array>().into(),
        Value::Object(fields) => {
            let mut table = toml_edit::InlineTable::new();
            for (key, value) in fields {
                if let Some(value) = edited(value) {
                    table.insert(key, value);
                }
            }
            table.into()
        }
    })
}

fn json(text: &str) -> Result<Value, Refusal> {
    if text.trim().is_empty() {
        return Ok(json!({}));
    }
    serde_json::from_str(text)
        .or_else(|error| serde_json::from_str(&without_comments(text)).map_err(|_| error))
        .map_err(|error| unreadable(error.to_string()))
}

fn toml(text: &str) -> Result<Value, Refusal> {
    let table: toml::Table = toml::from_str(text).map_err(|error| unreadable(error.message().to_string()))?;
    serde_json::to_value(table).map_err(|error| unreadable(error.to_string()))
}

fn unreadable(why: String) -> Refusal {
    Refusal::new(Code::Invalid, format!("the configuration cannot be read: {why}"))
        .hint("repair the file; nothing was changed")
}

/// Whether a JSON file has comments, which a rewrite loses.
pub(crate) fn has_comments(text: &str) -> bool {
    serde_json::from_str::<Value>(text).is_err() && !text.trim().is_empty()
}

/// JSON with comments and trailing commas, as VS Code allows it, without them.
fn without_comments(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    let (mut string, mut escaped) = (false, false);
    while let Some(c) = chars.next() {
        if string {
            out.push(c);
            (string, escaped) = (c != '"' || escaped, c == '\\' && !escaped);
        } else if c == '/' && chars.peek() == Some(&'/') {
            while chars.peek().is_some_and(|c| *c != '\n') {
                chars.next();
            }
        } else if c == '/' && chars.peek() == Some(&'*') {
            chars.next();
            let mut last = ' ';
            for c in chars.by_ref() {
                if last == '*' && c == '/' {
                    break;
                }
                last = c;
            }
        } else {
            if matches!(c, '}' | ']') {
                let kept = out.trim_end().len();
                if out.get(..kept).is_some_and(|kept| kept.ends_with(',')) {
                    out.truncate(kept - 1);
                }
            }
            string = c == '"';
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_trailing_commas_are_read() {
        let text = "{ // a\n \"servers\": { /* b */ \"x\": {\"command\": \"a//b\", \"args\": [\"1\",],}, } }";
        assert_eq!(servers(Client::VsCode, text).unwrap()["x"]["command"], "a//b");
        assert!(has_comments(text));
        assert!(servers(Client::Cursor, "{").is_err());
        assert!(servers(Client::Cursor, "").unwrap().is_empty());
    }

    #[test]
    fn names_and_paths() {
        for client in Client::ALL {
            assert_eq!(Client::parse(client.name()).unwrap(), client);
            assert!(client.path(Path::new("/h"), Path::new("/c")).is_absolute());
        }
        assert!(Client::parse("emacs").unwrap_err().hint.contains("cursor"));
    }
}
