//! A store in a temporary folder, the program on it, and an MCP client that speaks lines.

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};

/// The program under test.
pub(crate) const ATHENA: &str = env!("CARGO_BIN_EXE_athena");

/// A throw-away store; its daemon ends with it.
pub(crate) struct Store {
    folder: tempfile::TempDir,
}

impl Store {
    /// An empty one.
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// Its folder.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    /// The program with this store, in a folder of its own and with an environment that says nothing.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(ATHENA);
        command
            .args(["--store".as_ref(), self.path().as_os_str()])
            .args(arguments)
            .current_dir(self.folder.path())
            .env_remove("XDG_RUNTIME_DIR")
            .env_remove("RUST_LOG")
            .stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs a command with something on its stdin.
    pub(crate) fn feed(&self, arguments: &[&str], input: &str) -> Output {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_owned();
        let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
        let output = child.wait_with_output().unwrap();
        let _ = writer.join().unwrap();
        output
    }

    /// A command's JSON, which must succeed.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let mut all = vec!["--json"];
        all.extend(arguments);
        let output = self.run(&all);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// The daemon's process, where one runs.
    pub(crate) fn daemon(&self) -> Option<i32> {
        let output = self.run(&["--json", "daemon", "status"]);
        let status: Value = serde_json::from_slice(&output.stdout).ok()?;
        status["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok())
    }

    /// Kills the daemon like a power cut: no goodbye.
    pub(crate) fn kill_daemon(&self) {
        if let Some(pid) = self.daemon() {
            kill(pid);
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let _ = self.run(&["--quiet", "daemon", "stop", "--force"]);
    }
}

/// SIGKILL.
pub(crate) fn kill(pid: i32) {
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
}

/// Bytes as text.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// An MCP client over stdio, one question at a time.
pub(crate) struct Mcp {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    next: u64,
    /// Every line the server sent.
    pub heard: String,
    /// Answers what the server asks the person at the client.
    person: Option<Box<dyn FnMut(&Value) -> Value>>,
}

impl Mcp {
    /// Starts `athena serve` and says hello.
    pub(crate) fn start(store: &Store) -> Self {
        Self::with(store.command(&["serve"]).stderr(Stdio::null()))
    }

    /// The same with a command of one's own.
    pub(crate) fn with(command: &mut Command) -> Self {
        Self::greeted(Self::bare(command), &json!({}))
    }

    /// A client whose person answers what it is asked.
    pub(crate) fn with_person(store: &Store, person: impl FnMut(&Value) -> Value + 'static) -> Self {
        let mut mcp = Self::bare(store.command(&["serve"]).stderr(Stdio::null()));
        mcp.person = Some(Box::new(person));
        Self::greeted(mcp, &json!({"elicitation": {}}))
    }

    /// A client that says no hello: the newer era of the protocol has none.
    pub(crate) fn bare(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, input, output, next: 0, heard: String::new(), person: None }
    }

    fn greeted(mut mcp: Self, capabilities: &Value) -> Self {
        let client = json!({"protocolVersion": "2025-11-25", "capabilities": capabilities, "clientInfo": {"name": "test", "version": "1"}});
        mcp.ask("initialize", client);
        mcp.say(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
        mcp
    }

    /// The relay's process.
    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    fn say(&mut self, message: &Value) {
        writeln!(self.input, "{message}").unwrap();
        self.input.flush().unwrap();
    }

    /// Sends a request and does not wait; answers its id.
    pub(crate) fn send(&mut self, method: &str, params: Value) -> u64 {
        self.next += 1;
        let id = self.next;
        self.say(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}));
        id
    }

    /// Says something that has no answer.
    pub(crate) fn tell(&mut self, method: &str, params: Value) {
        self.say(&json!({"jsonrpc": "2.0", "method": method, "params": params}));
    }

    /// The answer to a request.
    pub(crate) fn answer(&mut self, id: u64) -> Value {
        loop {
            let mut line = String::new();
            assert!(self.output.read_line(&mut line).unwrap() > 0, "the server hung up");
            self.heard.push_str(&line);
            let message: Value =
                serde_json::from_str(&line).unwrap_or_else(|e| panic!("stdout: {line:?}: {e}"));
            if message["id"] == json!(id) && message.get("method").is_none() {
                return message;
            }
            if let (Some("elicitation/create"), Some(person)) = (message["method"].as_str(), &mut self.person)
            {
                let result = person(&message["params"]);
                self.say(&json!({"jsonrpc": "2.0", "id": message["id"], "result": result}));
            }
        }
    }

    /// The next notification of a method.
    pub(crate) fn told(&mut self, method: &str) -> Value {
        loop {
            let mut line = String::new();
            assert!(self.output.read_line(&mut line).unwrap() > 0, "the server hung up");
            let message: Value = serde_json::from_str(&line).unwrap();
            if message["method"] == method {
                return message["params"].clone();
            }
        }
    }

    /// A request and its answer.
    pub(crate) fn ask(&mut self, method: &str, params: Value) -> Value {
        let id = self.send(method, params);
        self.answer(id)
    }

    /// What a tool answered.
    pub(crate) fn call(&mut self, tool: &str, arguments: Value) -> Value {
        let answer = self.ask("tools/call", json!({"name": tool, "arguments": arguments}));
        let content = answer["result"]["structuredContent"].clone();
        assert!(content.is_object(), "{answer}");
        content
    }
}

impl Drop for Mcp {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Every file below a folder.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { all.extend(files(&path)) } else { all.push(path) }
    }
    all
}
