//! `athena init` and `athena upstream import`, on files as the five clients write them.

use crate::support::{Store, files, text};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Output;

/// A secret that looks like nothing: only its name gives it away.
const KEY: &str = "correct horse battery";

/// Somebody's home folder, with the files of all five clients.
struct Home {
    store: Store,
    folder: tempfile::TempDir,
}

impl Home {
    fn new() -> Self {
        let home = Self { store: Store::new(), folder: tempfile::tempdir().unwrap() };
        for (path, text) in home.files() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        home
    }

    /// Each client's file, with what is peculiar to it.
    fn files(&self) -> Vec<(PathBuf, String)> {
        let at = |path: &str| self.folder.path().join(path);
        let server = json!({"command": "python3", "args": [hostile()], "env": {"API_KEY": KEY}, "autoApprove": ["echo"]});
        let desktop = json!({"globalShortcut": "Ctrl+Space", "mcpServers": {"kit": server, "odd": {"note": "no command"}}});
        let code = format!(
            "{{\"numStartups\":7,\"projects\":{{\"/x\":{{\"allowedTools\":[]}}}},\"mcpServers\":{{\"kit\":{}}}}}",
            json!({"command": "python3", "args": [hostile(), "--mode", "names"]})
        );
        let vscode = "{\n\t// mine\n\t\"inputs\": [],\n\t\"servers\": {\"asks\": {\"command\": \"x\", \"env\": {\"K\": \"${input:k}\"}},},\n}\n";
        let codex = format!(
            "# keep me\nmodel = \"o5\"\n\n[mcp_servers.codex_tools]\ncommand = \"python3\"\nargs = [\"{}\"]\n",
            hostile()
        );
        vec![
            (at("config/Claude/claude_desktop_config.json"), format!("{desktop:#}")),
            (at(".claude.json"), code),
            (at(".cursor/mcp.json"), "{\"mcpServers\": {}}".into()),
            (at("config/Code/User/mcp.json"), vscode.into()),
            (at(".codex/config.toml"), codex),
        ]
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let home = self.folder.path();
        let mut command = self.store.command(arguments);
        command.env("HOME", home).env("XDG_CONFIG_HOME", home.join("config")).output().unwrap()
    }

    fn rows(&self, arguments: &[&str]) -> Vec<Value> {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn now(&self) -> Vec<(PathBuf, String)> {
        self.files()
            .into_iter()
            .map(|(path, _)| (path.clone(), std::fs::read_to_string(path).unwrap()))
            .collect()
    }
}

fn hostile() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/hostile.py").to_str().unwrap().to_owned()
}

#[test]
fn the_servers_of_five_clients_are_taken_over_and_the_files_come_back_to_the_byte() {
    let home = Home::new();
    let before = home.now();
    let planned = home.rows(&["--json", "init", "--dry-run"]);
    assert_eq!(planned.len(), 5, "{planned:#?}");
    assert_eq!(home.now(), before, "a plan changes nothing");

    let done = home.rows(&["--json", "init"]);
    assert!(done.iter().all(|row| row["done"] == "written"), "{done:#?}");
    let row = |client: &str| done.iter().find(|row| row["client"] == client).unwrap();
    assert_eq!(row("claude-desktop")["takes"], json!(["kit"]));
    assert_eq!(row("claude-desktop")["secrets"], json!(["kit/env.API_KEY"]));
    assert!(row("claude-desktop")["skipped"].get("odd").is_some());
    assert!(row("vscode")["skipped"]["asks"].as_str().unwrap().contains("${input:"));
    assert!(row("claude-code")["notes"][0].as_str().unwrap().contains("kit_claude_code"), "{done:#?}");
    for (path, now) in home.now() {
        assert!(
            now.contains("athena") && !now.contains(KEY) && !now.contains("hostile.py"),
            "{}: {now}",
            path.display()
        );
    }
    let desktop: Value = serde_json::from_str(&home.now()[0].1).unwrap();
    assert_eq!(desktop["globalShortcut"], "Ctrl+Space");
    assert_eq!(desktop["mcpServers"]["odd"]["note"], "no command");
    let own = &desktop["mcpServers"]["athena"];
    assert_eq!(own["args"], json!(["--store", home.store.path(), "serve"]));
    assert!(Path::new(own["command"].as_str().unwrap()).is_file());
    assert!(
        home.now()[1].1.contains("\"numStartups\"")
            && home.now()[4].1.starts_with("# keep me\nmodel = \"o5\"")
    );

    let again = home.rows(&["--json", "init"]);
    assert!(
        again.iter().all(|row| row["done"] == "nothing to do"),
        "its own entry is not taken over: {again:#?}"
    );
    let servers: Vec<Value> = home.rows(&["--json", "upstream", "list"]);
    let names: Vec<&str> = servers.iter().map(|server| server["server"].as_str().unwrap()).collect();
    assert_eq!(names, ["codex_tools", "kit", "kit_claude_code"]);

    home.rows(&["--json", "init", "--undo"]);
    assert_eq!(home.now(), before);
    let left: Vec<_> = files(home.folder.path())
        .into_iter()
        .filter(|path| path.to_string_lossy().contains("athena"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_secret_reaches_its_server_and_nothing_else() {
    let home = Home::new();
    home.rows(&["--json", "init", "--client", "claude-desktop"]);
    let report = home.rows(&["--json", "upstream", "test", "kit", "environment"]);
    let sum: u64 = KEY.bytes().map(u64::from).sum();
    assert_eq!(report[0]["answer"]["json"]["KEY_SUM"], json!(sum), "{report:#?}");
    let exported = text(&home.run(&["--json", "log", "export"]).stdout);
    assert!(exported.contains("${vault:SECRET_tk_") && !exported.contains(KEY), "{exported}");
    let needle = KEY.as_bytes();
    for file in files(&home.store.path()) {
        let bytes = std::fs::read(&file).unwrap_or_default();
        assert!(!bytes.windows(needle.len()).any(|window| window == needle), "{}", file.display());
    }
    // The server is there after a restart, its secret with it.
    home.run(&["daemon", "stop"]);
    let report = home.rows(&["--json", "upstream", "test", "kit", "environment"]);
    assert_eq!(report[0]["answer"]["json"]["KEY_SUM"], json!(sum));
    home.run(&["daemon", "stop"]);
}

#[test]
fn a_client_that_is_not_there_is_said_so_and_a_file_changed_since_is_not_overwritten() {
    let home = Home::new();
    let cursor = home.folder.path().join(".cursor/mcp.json");
    home.rows(&["--json", "init", "--client", "cursor"]);
    std::fs::write(&cursor, "{\"mcpServers\": {\"mine\": {\"command\": \"x\"}}}").unwrap();
    let output = home.run(&["init", "--client", "cursor", "--undo"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("athena-backup"));
    assert!(std::fs::read_to_string(&cursor).unwrap().contains("mine"));
    assert!(home.run(&["init", "--client", "cursor", "--undo", "--force"]).status.success());
    assert_eq!(std::fs::read_to_string(&cursor).unwrap(), "{\"mcpServers\": {}}");

    std::fs::write(&cursor, "{ not json").unwrap();
    let output = home.run(&["init"]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    assert!(!home.now()[0].1.contains("\"athena\""), "no file is written when one cannot be read");
}

#[test]
fn the_servers_of_a_file_are_imported_and_the_file_stays() {
    let home = Home::new();
    let file = home.folder.path().join("more.json");
    std::fs::write(
        &file,
        json!({"mcpServers": {"more": {"command": "python3", "args": [hostile()], "env": {"API_KEY": KEY}}}})
            .to_string(),
    )
    .unwrap();
    let dry = home.rows(&["--json", "upstream", "import", file.to_str().unwrap(), "--dry-run"]);
    assert_eq!((&dry[0]["servers"], &dry[0]["added"]), (&json!(["more"]), &json!(false)));
    home.rows(&["--json", "upstream", "import", file.to_str().unwrap()]);
    home.rows(&["--json", "upstream", "import", "codex"]);
    let report = home.rows(&["--json", "upstream", "test", "more", "echo", r#"{"text": "hello"}"#]);
    assert_eq!(report[0]["answer"]["content"], "hello");
    assert!(std::fs::read_to_string(&file).unwrap().contains(KEY));
    let out = home.folder.path().join("files");
    home.rows(&["--json", "upstream", "files", "--out", out.to_str().unwrap()]);
    let written = std::fs::read_to_string(out.join("mcp-servers/more/echo.ts")).unwrap();
    assert!(written.contains("export") && written.contains("text: string"), "{written}");
}
