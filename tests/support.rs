//! A store in a temporary folder, the program on it, and an MCP client that speaks lines.

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

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

/// A card number with its check digit.
pub(crate) fn luhn(digits: &str) -> String {
    let sum: u32 = digits
        .bytes()
        .rev()
        .enumerate()
        .map(|(at, byte)| {
            let digit = u32::from(byte - b'0');
            let double = if at % 2 == 0 { digit * 2 } else { digit };
            if double > 9 { double - 9 } else { double }
        })
        .sum();
    format!("{digits}{}", (10 - sum % 10) % 10)
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

    /// A request under an id of the test's own, and its answer.
    pub(crate) fn ask_as(&mut self, id: u64, method: &str, params: Value) -> Value {
        self.say(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}));
        self.answer(id)
    }

    /// A line as it is, whatever it is.
    pub(crate) fn raw(&mut self, line: &[u8]) {
        self.input.write_all(line).unwrap();
        self.input.write_all(b"\n").unwrap();
        self.input.flush().unwrap();
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

/// A server behind Athena that does as the test says and writes down what it is asked: `support/mirror.py`.
pub(crate) struct Mirror(PathBuf);

impl Mirror {
    /// Puts one behind a store under a name, before the store's daemon starts. Its tools are `(name, annotations)`.
    pub(crate) fn behind(store: &Store, name: &str, tools: &[(&str, Value)]) -> Self {
        let folder = store.path().with_file_name(name);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::create_dir_all(store.path()).unwrap();
        let mirror = Self(folder);
        mirror.offer(tools);
        let file = store.path().join("upstreams.json");
        let mut all: Value = std::fs::read(&file)
            .map_or_else(|_| json!({"mcpServers": {}}), |bytes| serde_json::from_slice(&bytes).unwrap());
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/mirror.py");
        all["mcpServers"][name] = json!({"command": "python3", "args": [script, mirror.0]});
        std::fs::write(file, all.to_string()).unwrap();
        mirror
    }

    fn offer(&self, tools: &[(&str, Value)]) {
        let tools: Vec<Value> = tools
            .iter()
            .map(|(name, hints)| {
                json!({"name": name, "description": "Does it.", "inputSchema": {"type": "object"}, "annotations": hints})
            })
            .collect();
        std::fs::write(self.0.join("tools.json"), json!(tools).to_string()).unwrap();
    }

    /// What a tool answers from now on.
    pub(crate) fn says(&self, tool: &str, text: &str) {
        std::fs::write(self.0.join("answers.json"), json!({tool: text}).to_string()).unwrap();
    }

    /// The calls it was made.
    pub(crate) fn book(&self) -> Vec<Value> {
        let book = std::fs::read_to_string(self.0.join("book.jsonl")).unwrap_or_default();
        book.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Store {
    /// Requests a line each over `athena call --jsonl`; their answers in order.
    pub(crate) fn calls(&self, requests: &[Value]) -> Vec<Value> {
        let lines: String = requests.iter().map(|request| format!("{request}\n")).collect();
        let output = self.feed(&["call", "--jsonl"], &lines);
        let answers: Vec<Value> =
            text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(answers.len(), requests.len(), "{}", text(&output.stderr));
        answers
    }

    /// What a run of JavaScript came to.
    pub(crate) fn execute(&self, code: &str) -> Value {
        let request = json!({"op": "run/execute", "params": {"code": code, "language": "js"}});
        self.calls(&[request]).remove(0)["result"].clone()
    }

    /// The events of a type, or all, as they are exported.
    pub(crate) fn events(&self, kind: Option<&str>) -> Vec<Value> {
        let mut arguments = vec!["--json", "log", "export"];
        arguments.extend(kind.iter().flat_map(|kind| ["--type", kind]));
        let output = self.run(&arguments);
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// `athena serve --http` on a port of its own, spoken to byte by byte.
pub(crate) struct Http {
    child: Child,
    /// Where it listens.
    pub address: std::net::SocketAddr,
    /// Its bearer token.
    pub token: String,
}

/// What HTTP answered.
pub(crate) struct Heard {
    /// The status.
    pub status: u16,
    /// Status line and headers.
    pub head: String,
    /// The rest.
    pub body: String,
}

impl Heard {
    /// The message in the body, which comes as an event or as it is.
    pub(crate) fn message(&self) -> Value {
        let events = self.body.lines().filter_map(|line| line.strip_prefix("data: "));
        let mut said = events.chain([self.body.as_str()]).filter_map(|text| serde_json::from_str(text).ok());
        said.find(Value::is_object).unwrap_or_else(|| panic!("no message: {}\n{}", self.head, self.body))
    }

    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

impl Http {
    /// Starts it.
    pub(crate) fn start(store: &Store) -> Self {
        Self::with(store, &[])
    }

    /// Starts it with more arguments.
    pub(crate) fn with(store: &Store, more: &[&str]) -> Self {
        let arguments = [&["serve", "--http", "127.0.0.1:0"], more].concat();
        let mut child = store.command(&arguments).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let said =
            lines.find_map(|line| line.unwrap().split_once("MCP at http://").map(|(_, at)| at.to_owned()));
        let said = said.expect("it says where it listens");
        // What it says later has a reader, too.
        std::thread::spawn(move || lines.for_each(drop));
        let address = said.split('/').next().unwrap().parse().unwrap();
        let token = std::fs::read_to_string(store.path().join("http.token")).unwrap();
        Self { child, address, token }
    }

    /// One request, headers as they are given; a body makes it a POST.
    pub(crate) fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Heard {
        use std::io::Read;
        let mut stream = std::net::TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut request =
            format!("{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        stream.write_all(format!("{request}\r\n{body}").as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let answer = text(&answer);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        Heard { status, head: head.to_owned(), body: body.to_owned() }
    }

    /// A message of MCP with everything a good client sends, and more or other headers.
    pub(crate) fn post(&self, message: &Value, more: &[(&str, &str)]) -> Heard {
        let host = self.address.to_string();
        let bearer = format!("Bearer {}", self.token);
        let mut headers = vec![
            ("Host", host.as_str()),
            ("Authorization", bearer.as_str()),
            ("Content-Type", "application/json"),
            ("Accept", "application/json, text/event-stream"),
        ];
        for (name, value) in more {
            headers.retain(|(known, _)| known != name);
            if !value.is_empty() {
                headers.push((name, value));
            }
        }
        self.ask("POST", "/mcp", &headers, &message.to_string())
    }

    /// The first message of a client.
    pub(crate) fn hello() -> Value {
        Self::hello_of("test")
    }

    /// The first message of a client of a name.
    pub(crate) fn hello_of(name: &str) -> Value {
        json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
            "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": name, "version": "1"}}})
    }

    /// Says hello; the session's id.
    pub(crate) fn session(&self) -> String {
        let heard = self.post(&Self::hello(), &[]);
        assert_eq!(heard.status, 200, "{}\n{}", heard.head, heard.body);
        heard.header("mcp-session-id").expect("a session").to_owned()
    }
}

impl Drop for Http {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How long a condition is waited for; not how long it takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until something holds; `what` says what was waited for in vain.
#[expect(
    clippy::disallowed_methods,
    reason = "the pause between two looks at a condition, not a wait for it"
)]
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
