//! `athena init`: Athena becomes the one server of a client, and takes the others over. Planned first, applied with a backup,
//! undone to the byte.

use super::clients::{Client, Launch, has_comments, servers, with_servers};
use super::secrets;
use athena_actors::upstream::config;
use athena_schemas::layers::upstream::Server;
use athena_schemas::refusal::{Code, Refusal};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

/// The name under which Athena stands in a client's file.
const OWN: &str = "athena";

/// What would be done to one client's file.
#[derive(Clone)]
pub struct Plan {
    /// The client.
    pub client: Client,
    /// Its file.
    pub path: PathBuf,
    /// The file as it is; `None` where there is none.
    pub before: Option<String>,
    /// The file as it would be.
    pub after: String,
    /// The servers that are taken over, as their owner wrote them: with their secrets, for the store alone.
    pub servers: BTreeMap<String, Server>,
    /// Where secrets stand that go to the vault: `server/env.NAME`.
    pub secrets: Vec<String>,
    /// What is left where it is, with the reason.
    pub skipped: BTreeMap<String, String>,
    /// What the person should know.
    pub notes: Vec<String>,
}

impl Plan {
    /// Whether anything would change.
    pub fn changes(&self) -> bool {
        self.before.as_deref() != Some(&self.after)
    }

    /// The plan for a program to read. It holds no secret.
    pub fn report(&self) -> Value {
        json!({
            "client": self.client.name(), "path": self.path, "changes": self.changes(), "takes": self.servers.keys().collect::<Vec<_>>(),
            "secrets": self.secrets, "skipped": self.skipped, "notes": self.notes,
        })
    }
}

impl std::fmt::Debug for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Plan({})", self.report())
    }
}

/// Plans the change of one client's file. `launch` starts Athena.
///
/// # Errors
/// When the file cannot be read or understood.
pub fn plan(client: Client, path: &Path, launch: &Launch) -> Result<Plan, Refusal> {
    // A link into a folder of dotfiles stays a link.
    let path = &std::fs::canonicalize(path).unwrap_or_else(|_| path.into());
    let before = match std::fs::read_to_string(path) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(failed(path, &error)),
    };
    let text = before.clone().unwrap_or_default();
    let mut plan = Plan {
        client,
        path: path.into(),
        after: String::new(),
        servers: BTreeMap::new(),
        secrets: Vec::new(),
        skipped: BTreeMap::new(),
        notes: Vec::new(),
        before,
    };
    let mut left = Map::new();
    let mut own = None;
    for (name, entry) in servers(client, &text)? {
        match one(&name, &entry) {
            Ok((_, server)) if config::is_self(&server) => own = Some(entry),
            Ok((mut safe, server)) => {
                while plan.servers.contains_key(&safe) {
                    safe.push_str("_2");
                }
                plan.secrets.extend(places(&safe, &server));
                plan.servers.insert(safe, server);
            }
            Err(why) => {
                plan.skipped.insert(name.clone(), why);
                left.insert(name, entry);
            }
        }
    }
    // An entry of our own stays as its owner wrote it.
    left.insert(OWN.into(), own.unwrap_or_else(|| client.entry(launch)));
    plan.after = if plan.servers.is_empty() && servers(client, &text)? == left && plan.before.is_some() {
        text.clone()
    } else {
        with_servers(client, &text, &left)?
    };
    if plan.changes() && has_comments(&text) && client != Client::Codex {
        plan.notes.push("the comments in this file are lost; the backup keeps them".into());
    }
    Ok(plan)
}

/// Where the secrets of a server stand.
fn places(name: &str, server: &Server) -> impl Iterator<Item = String> {
    let found = secrets::take(name, &mut server.clone());
    found.into_iter().map(|secret| format!("{}/{}", secret.server, secret.name))
}

/// The servers of a file.
pub struct Found {
    /// As their owner wrote them: with their secrets, for the store alone.
    pub servers: BTreeMap<String, Server>,
    /// Where secrets stand that go to the vault: `server/env.NAME`.
    pub secrets: Vec<String>,
    /// What cannot be taken over, with the reason.
    pub skipped: BTreeMap<String, String>,
}

/// Reads the servers of any configuration file, for `athena upstream import FILE`.
///
/// # Errors
/// When the file cannot be read or has no servers.
pub fn read_file(path: &Path) -> Result<Found, Refusal> {
    let text = std::fs::read_to_string(path).map_err(|error| failed(path, &error))?;
    let forms = if path.extension().is_some_and(|ending| ending == "toml") {
        vec![Client::Codex]
    } else {
        vec![Client::Cursor, Client::VsCode]
    };
    let mut found = Found { servers: BTreeMap::new(), secrets: Vec::new(), skipped: BTreeMap::new() };
    for client in forms {
        for (name, entry) in servers(client, &text)? {
            match one(&name, &entry) {
                Ok((_, server)) if config::is_self(&server) => {}
                Ok((safe, server)) => {
                    found.secrets.extend(places(&safe, &server));
                    found.servers.insert(safe, server);
                }
                Err(why) => drop(found.skipped.insert(name, why)),
            }
        }
    }
    if found.servers.is_empty() {
        return Err(Refusal::invalid(format!("{} names no servers", path.display()))
            .hint(r#"{"mcpServers": {"name": {"command": "…", "args": ["…"]}}}"#));
    }
    Ok(found)
}

fn one(name: &str, entry: &Value) -> Result<(String, Server), String> {
    if entry.get("type").and_then(Value::as_str) == Some("sse") {
        return Err("it speaks HTTP+SSE, which came before streamable HTTP".into());
    }
    let text = entry.to_string();
    if let Some(asked) =
        ["${input:", "${command:", "${workspaceFolder"].iter().find(|word| text.contains(**word))
    {
        return Err(format!("only its client can fill in {asked}…"));
    }
    let config = json!({"mcpServers": {name: entry}});
    let mut read = config::servers(&config).map_err(|refusal| refusal.message)?;
    read.pop_first().ok_or_else(|| "it has neither a command nor a url".into())
}

/// Carries a plan out: backup first, then the new file in one step. The caller has kept the servers and their secrets before.
///
/// # Errors
/// When a file cannot be written, or has changed since it was planned; then nothing was changed.
pub fn apply(plan: &Plan) -> Result<(), Refusal> {
    if !plan.changes() {
        return Ok(());
    }
    let now = std::fs::read_to_string(&plan.path).ok();
    if now != plan.before {
        return Err(Refusal::new(Code::Conflict, format!("{} has changed meanwhile", plan.path.display()))
            .hint("run it again"));
    }
    if let Some(folder) = plan.path.parent() {
        std::fs::create_dir_all(folder).map_err(|error| failed(folder, &error))?;
    }
    let backup =
        Backup { before: plan.before.clone(), after: blake3::hash(plan.after.as_bytes()).to_string() };
    let kept = backup_path(&plan.path);
    // The oldest backup is the one worth keeping: the file as it was before Athena first touched it.
    if !kept.exists() {
        write(&kept, &backup.text(), None)?;
    } else {
        let first = Backup::read(&kept)?;
        write(&kept, &Backup { before: first.before, ..backup }.text(), None)?;
    }
    write(&plan.path, &plan.after, Some(&plan.path))
}

/// Puts a client's file back as it was before the first `init`, to the byte.
///
/// # Errors
/// When there is no backup, or the file has been changed since by somebody else (unless `force`).
pub fn undo(path: &Path, force: bool) -> Result<(), Refusal> {
    let kept = backup_path(path);
    let backup = Backup::read(&kept)?;
    let now = std::fs::read(path).unwrap_or_default();
    if blake3::hash(&now).to_string() != backup.after && !force {
        return Err(Refusal::new(Code::Conflict, format!("{} has been changed since", path.display()))
            .hint(format!("the original is in {}; --force puts it back", kept.display())));
    }
    match &backup.before {
        Some(text) => write(path, text, Some(path))?,
        None => std::fs::remove_file(path).map_err(|error| failed(path, &error))?,
    }
    std::fs::remove_file(&kept).map_err(|error| failed(&kept, &error))
}

/// A file as it was, and what it was replaced by. The first line says whether there was one, and the digest of the new one.
struct Backup {
    before: Option<String>,
    after: String,
}

impl Backup {
    fn text(&self) -> String {
        let kind = if self.before.is_some() { "file" } else { "none" };
        format!("athena-backup {kind} {}\n{}", self.after, self.before.as_deref().unwrap_or_default())
    }

    fn read(path: &Path) -> Result<Self, Refusal> {
        let missing = || {
            Refusal::not_found(format!("there is no backup {}", path.display())).hint("athena init makes one")
        };
        let text = std::fs::read_to_string(path).map_err(|_| missing())?;
        let (head, rest) = text.split_once('\n').ok_or_else(missing)?;
        let mut words = head.split(' ').skip(1);
        let (kind, after) =
            (words.next().ok_or_else(missing)?, words.next().ok_or_else(missing)?.to_string());
        Ok(Self { before: (kind == "file").then(|| rest.to_string()), after })
    }
}

/// Beside the file: `mcp.json.athena-backup`.
pub fn backup_path(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".athena-backup");
    path.with_file_name(name)
}

/// Writes a whole file or nothing; it may hold secrets, so it is the owner's alone unless it was more open before.
fn write(path: &Path, text: &str, like: Option<&Path>) -> Result<(), Refusal> {
    let fresh = path.with_extension("athena-new");
    let written = (|| {
        let mut options = std::fs::File::options();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&fresh)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        if let Some(meta) = like.and_then(|like| std::fs::metadata(like).ok()) {
            std::fs::set_permissions(&fresh, meta.permissions())?;
        }
        std::fs::rename(&fresh, path)
    })();
    written.map_err(|error| failed(path, &error))
}

fn failed(path: &Path, error: &std::io::Error) -> Refusal {
    Refusal::new(Code::Unavailable, format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DESKTOP: &str = r#"{
    "globalShortcut": "Ctrl+Space",
  "mcpServers": {
    "docs": {"command": "npx", "args": ["-y", "@modelcontextprotocol/server-filesystem", "/tmp"]},
    "git hub": {"command": "docker", "args": ["run"], "env": {"GITHUB_PERSONAL_ACCESS_TOKEN": "ghp_0123456789abcdefghij"}, "autoApprove": ["x"]},
    "broken": {"note": "no command"}
  }
}"#;
    const VSCODE: &str = "{\n\t// my servers\n\t\"inputs\": [],\n\t\"servers\": {\"web\": {\"type\": \"http\", \"url\": \"https://example.com/mcp\", \"headers\": {\"Authorization\": \"Bearer abcdefghijklmnop\"}}},\n}\n";
    const CODEX: &str = "# mine\nmodel = \"o5\"  # keep\n\n[mcp_servers.docs]\ncommand = \"files-mcp\"\nargs = [\"a b\"]\n\n[mcp_servers.docs.env]\nAPI_KEY = \"0123456789\"\n\n[tui]\ntheme = \"dark\"\n";

    fn at(client: Client, text: Option<&str>) -> (tempfile::TempDir, PathBuf) {
        let home = tempfile::tempdir().unwrap();
        let path = client.path(home.path(), &home.path().join("config"));
        if let Some(text) = text {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text).unwrap();
        }
        (home, path)
    }

    #[test]
    fn servers_are_taken_over_and_everything_else_is_kept() {
        let (_home, path) = at(Client::ClaudeDesktop, Some(DESKTOP));
        let plan = plan(Client::ClaudeDesktop, &path, &Launch::serve("athena")).unwrap();
        assert_eq!(plan.servers.keys().collect::<Vec<_>>(), ["docs", "git_hub"]);
        assert_eq!(plan.secrets, ["git_hub/env.GITHUB_PERSONAL_ACCESS_TOKEN"]);
        assert_eq!(plan.skipped.keys().collect::<Vec<_>>(), ["broken"]);
        let after: Value = serde_json::from_str(&plan.after).unwrap();
        assert_eq!(after["globalShortcut"], "Ctrl+Space");
        assert_eq!(after["mcpServers"]["athena"], json!({"command": "athena", "args": ["serve"]}));
        assert_eq!(after["mcpServers"]["broken"]["note"], "no command");
        assert!(after["mcpServers"].get("docs").is_none());
        assert!(!plan.report().to_string().contains("ghp_") && !format!("{plan:?}").contains("ghp_"));
    }

    #[test]
    fn every_client_s_file_comes_back_to_the_byte() {
        for (client, text) in [
            (Client::ClaudeDesktop, Some(DESKTOP)),
            (
                Client::ClaudeCode,
                Some(r#"{"numStartups":3,"projects":{},"mcpServers":{"a":{"command":"b"}}}"#),
            ),
            (Client::Cursor, Some("{\"mcpServers\":{}}")),
            (Client::VsCode, Some(VSCODE)),
            (Client::Codex, Some(CODEX)),
            (Client::Cursor, None),
        ] {
            let (_home, path) = at(client, text);
            let first = plan(client, &path, &Launch::serve("athena")).unwrap();
            apply(&first).unwrap();
            let written = std::fs::read_to_string(&path).unwrap();
            assert!(written.contains("athena") && written != text.unwrap_or_default(), "{}", client.name());
            let again = plan(client, &path, &Launch::serve("athena")).unwrap();
            assert!(!again.changes(), "{}: a second time changes nothing: {}", client.name(), again.after);
            undo(&path, false).unwrap();
            assert_eq!(std::fs::read_to_string(&path).ok().as_deref(), text, "{}", client.name());
            assert!(undo(&path, false).is_err(), "there is nothing left to undo");
        }
    }

    #[test]
    fn codex_keeps_its_comments_and_tables() {
        let (_home, path) = at(Client::Codex, Some(CODEX));
        let plan = plan(Client::Codex, &path, &Launch::serve("/opt/athena")).unwrap();
        assert!(
            plan.after.contains("model = \"o5\"  # keep") && plan.after.contains("[tui]"),
            "{}",
            plan.after
        );
        assert!(plan.after.contains("[mcp_servers.athena]\ncommand = \"/opt/athena\""), "{}", plan.after);
        assert!(!plan.after.contains("0123456789"), "{}", plan.after);
        assert_eq!(plan.servers["docs"].args, ["a b"]);
    }

    #[test]
    fn what_somebody_changed_since_is_not_overwritten() {
        let (_home, path) = at(Client::Cursor, Some("{}"));
        let first = plan(Client::Cursor, &path, &Launch::serve("athena")).unwrap();
        std::fs::write(&path, "{\"x\": 1}").unwrap();
        assert_eq!(apply(&first).unwrap_err().code, Code::Conflict);
        apply(&plan(Client::Cursor, &path, &Launch::serve("athena")).unwrap()).unwrap();
        std::fs::write(&path, "{}").unwrap();
        assert_eq!(undo(&path, false).unwrap_err().code, Code::Conflict);
        undo(&path, true).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"x\": 1}");
    }

    #[test]
    fn our_own_entry_is_left_as_it_is_and_not_taken_over() {
        let text = r#"{"mcpServers": {"athena": {"command": "/usr/bin/athena", "args": ["serve", "--store", "x"]}, "b": {"command": "c"}}}"#;
        let (_home, path) = at(Client::Cursor, Some(text));
        let plan = plan(Client::Cursor, &path, &Launch::serve("athena")).unwrap();
        assert_eq!(plan.servers.keys().collect::<Vec<_>>(), ["b"]);
        let after: Value = serde_json::from_str(&plan.after).unwrap();
        assert_eq!(after["mcpServers"]["athena"]["command"], "/usr/bin/athena");
    }

    #[test]
    fn any_file_can_be_imported() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [("a.json", DESKTOP), ("b.json", VSCODE), ("c.toml", CODEX)] {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            let found = read_file(&path).unwrap();
            assert!(!found.servers.is_empty() && !found.secrets.is_empty(), "{name}");
        }
        std::fs::write(folder.path().join("d.json"), "{}").unwrap();
        assert!(read_file(&folder.path().join("d.json")).err().is_some());
    }

    #[test]
    fn what_only_its_client_can_start_stays_where_it_is() {
        let text = r#"{"servers": {"a": {"command": "x", "env": {"KEY": "${input:key}"}}, "b": {"type": "sse", "url": "https://example.com/sse"},
            "c": {"command": "y"}}}"#;
        let (_home, path) = at(Client::VsCode, Some(text));
        let plan = plan(Client::VsCode, &path, &Launch::serve("athena")).unwrap();
        assert_eq!(plan.servers.keys().collect::<Vec<_>>(), ["c"]);
        assert!(plan.skipped["a"].contains("${input:") && plan.skipped["b"].contains("SSE"));
        let after: Value = serde_json::from_str(&plan.after).unwrap();
        assert_eq!(after["servers"]["a"]["env"]["KEY"], "${input:key}");
    }
}
