//! A server over stdio: a child process without a shell, with a cleared environment, in a process group of its own, and under a
//! keeper (`keeper.rs`) where this program can be one.
//!
//! What it writes to stdout is hostile until parsed. A line that is no JSON-RPC is dropped and counted; one beyond
//! [`INLINE_MAX`] is streamed past memory ([`super::scan`]); notifications beyond [`NOTIFICATIONS_PER_SECOND`] are paid for by
//! the server itself, whose pipe is not read for the rest of the second.

use super::connection::Signal;
use super::keeper;
use super::mending;
use super::scan::Scanner;
use super::spool::{INLINE_MAX, Spools};
use rmcp::RoleClient;
use rmcp::model::{ClientRequest, JsonRpcMessage, RequestId, ServerNotification};
use rmcp::service::{RxJsonRpcMessage, TxJsonRpcMessage};
use rmcp::transport::Transport;
use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::process::Stdio as Pipe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::Instant;

/// Notifications that are read within a second.
pub const NOTIFICATIONS_PER_SECOND: u32 = 500;
/// Lines of stderr that are kept, and their length in bytes.
const STDERR_LINES: usize = 20;
const STDERR_LINE_MAX: usize = 400;
/// How long a server may take to end by itself once its stdin is closed, and then once it was asked to.
const GRACE: Duration = Duration::from_millis(500);
/// How long a keeper may take to end its server: two times [`GRACE`], what it takes to kill, and room for a busy machine.
const KEEPER_GRACE: Duration = Duration::from_millis(2_500);

/// What to start.
#[derive(Debug, Clone)]
pub struct Program {
    /// The program.
    pub command: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its whole environment.
    pub env: BTreeMap<String, String>,
    /// Its working folder.
    pub cwd: Option<PathBuf>,
}

/// The last lines a process wrote to stderr.
#[derive(Debug, Clone)]
pub struct Tail {
    lines: Arc<Mutex<VecDeque<String>>>,
    /// Open as long as the process may still write.
    writing: Arc<tokio::sync::Semaphore>,
}

impl Default for Tail {
    fn default() -> Self {
        Self { lines: Arc::default(), writing: Arc::new(tokio::sync::Semaphore::new(0)) }
    }
}

impl Tail {
    /// The lines, oldest first.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// The lines, once the process has said its last word; for at most a moment.
    pub async fn last_words(&self) -> Vec<String> {
        let _ = tokio::time::timeout(GRACE, self.writing.acquire()).await;
        self.lines()
    }

    fn push(&self, line: String) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == STDERR_LINES {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    /// Reads to the end. Whole lines are kept, cut to their maximum; memory is bounded for any input.
    async fn follow(self, stderr: ChildStderr) {
        self.read(stderr).await;
        self.writing.add_permits(1);
    }

    async fn read(&self, stderr: ChildStderr) {
        let mut reader = BufReader::new(stderr);
        let mut line: Vec<u8> = Vec::new();
        loop {
            let Ok(chunk) = reader.fill_buf().await else { return };
            if chunk.is_empty() {
                break;
            }
            let used = chunk.len();
            for byte in chunk {
                if *byte == b'\n' {
                    self.push(String::from_utf8_lossy(&line).trim_end().to_string());
                    line.clear();
                } else if line.len() < STDERR_LINE_MAX {
                    line.push(*byte);
                }
            }
            reader.consume(used);
        }
        if !line.is_empty() {
            self.push(String::from_utf8_lossy(&line).into_owned());
        }
    }
}

/// The connection to a child process.
pub struct Stdio {
    /// The server, or its keeper.
    child: Child,
    kept: bool,
    group: Option<i32>,
    stdin: Arc<tokio::sync::Mutex<Option<ChildStdin>>>,
    stdout: BufReader<ChildStdout>,
    spools: Spools,
    /// Lines that were no message.
    garbage: u64,
    tail: Tail,
    ended: Option<UnboundedSender<Signal>>,
    second: (Instant, u32),
    /// What was read of a line so far. Kept here, not on the stack: `receive` may be dropped at any await and called again.
    partial: Vec<u8>,
    scanner: Option<Scanner>,
    /// Not read before this time, and what comes first then.
    paused: Option<Instant>,
    queued: Option<RxJsonRpcMessage<RoleClient>>,
    /// The newer era's first question, and whether the older era's was asked since, because it had no answer in time.
    probe: Option<(RequestId, bool)>,
}

impl Stdio {
    /// Starts the process; its end is told to `ended`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(
        program: &Program,
        spools: Spools,
        ended: Option<UnboundedSender<Signal>>,
    ) -> std::io::Result<(Self, Tail)> {
        let kept = keeper::possible();
        let mut command = if kept {
            keeper::command(&program.command, &program.args)
        } else {
            let mut command = Command::new(&program.command);
            command.args(&program.args);
            command
        };
        command
            .env_clear()
            .envs(&program.env)
            .stdin(Pipe::piped())
            .stdout(Pipe::piped())
            .stderr(Pipe::piped())
            // A keeper is asked, not killed: it has something to see to first.
            .kill_on_drop(!kept);
        #[cfg(unix)]
        command.process_group(0);
        if let Some(cwd) = &program.cwd {
            command.current_dir(cwd);
        }
        let mut child = command.spawn()?;
        let missing = || std::io::Error::other("a pipe is missing");
        let stdin = child.stdin.take().ok_or_else(missing)?;
        let stdout = child.stdout.take().ok_or_else(missing)?;
        let stderr = child.stderr.take().ok_or_else(missing)?;
        let tail = Tail::default();
        tokio::spawn(tail.clone().follow(stderr));
        let stdio = Self {
            group: child.id().and_then(|id| i32::try_from(id).ok()),
            child,
            kept,
            stdin: Arc::new(tokio::sync::Mutex::new(Some(stdin))),
            stdout: BufReader::with_capacity(64 << 10, stdout),
            spools,
            garbage: 0,
            tail: tail.clone(),
            ended,
            second: (Instant::now(), 0),
            partial: Vec::new(),
            scanner: None,
            paused: None,
            queued: None,
            probe: None,
        };
        Ok((stdio, tail))
    }

    /// The process: the server's, or its keeper's.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// The next line, without its end; `None` at the end. A long line comes back as a short one in its place.
    async fn line(&mut self) -> Option<Vec<u8>> {
        loop {
            let chunk = self.stdout.fill_buf().await.ok()?;
            if chunk.is_empty() {
                return None;
            }
            let end = memchr::memchr(b'\n', chunk);
            let part = chunk.get(..end.unwrap_or(chunk.len())).unwrap_or_default();
            match &mut self.scanner {
                Some(scanner) => scanner.feed(part),
                None if self.partial.len() + part.len() > INLINE_MAX => {
                    let scanner = self.scanner.insert(Scanner::default());
                    scanner.feed(&std::mem::take(&mut self.partial));
                    scanner.feed(part);
                }
                None => self.partial.extend_from_slice(part),
            }
            let used = end.map_or(chunk.len(), |end| end + 1);
            self.stdout.consume(used);
            if end.is_some() {
                return Some(match self.scanner.take() {
                    Some(scanner) => scanner.stand_in(&self.spools).unwrap_or_default(),
                    None => std::mem::take(&mut self.partial),
                });
            }
        }
    }

    /// Counts a message that nobody asked for. Where a server sends them faster than anyone could use them, it is not read for
    /// the rest of the second.
    fn pace(&mut self) {
        let (since, count) = self.second;
        if since.elapsed() >= Duration::from_secs(1) {
            self.second = (Instant::now(), 1);
        } else if count >= NOTIFICATIONS_PER_SECOND {
            self.paused = Some(since + Duration::from_secs(1));
        } else {
            self.second.1 += 1;
        }
    }

    fn signal(&self, signal: nix::sys::signal::Signal) {
        if let Some(group) = self.group {
            let _ = nix::sys::signal::killpg(nix::unistd::Pid::from_raw(group), signal);
        }
    }
}

impl Drop for Stdio {
    fn drop(&mut self) {
        match (self.kept, self.child.id().and_then(|id| i32::try_from(id).ok())) {
            // It ends the server with all it started, at once, and then itself.
            (true, Some(keeper)) => {
                let _ = nix::sys::signal::kill(
                    nix::unistd::Pid::from_raw(keeper),
                    nix::sys::signal::Signal::SIGTERM,
                );
            }
            // The child may have gone, but not what it started.
            _ => self.signal(nix::sys::signal::Signal::SIGKILL),
        }
        if let Some(ended) = self.ended.take() {
            let _ = ended.send(Signal::Gone);
        }
    }
}

impl Transport<RoleClient> for Stdio {
    type Error = std::io::Error;

    fn send(
        &mut self,
        item: TxJsonRpcMessage<RoleClient>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        self.asks(&item);
        let stdin = self.stdin.clone();
        async move {
            let mut line = serde_json::to_vec(&item)?;
            line.push(b'\n');
            let mut stdin = stdin.lock().await;
            let pipe = stdin.as_mut().ok_or_else(|| std::io::Error::from(std::io::ErrorKind::BrokenPipe))?;
            pipe.write_all(&line).await?;
            pipe.flush().await
        }
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleClient>> {
        loop {
            if let Some(until) = self.paused {
                tokio::time::sleep_until(until).await;
                self.paused = None;
            }
            if let Some(message) = self.queued.take() {
                return Some(message);
            }
            let line = self.line().await?;
            let text = line.trim_ascii();
            if !text.is_empty() {
                self.queued = self.message(text);
                if self.queued.as_ref().is_some_and(|message| self.is_late(message)) {
                    self.queued = None;
                    self.probe = None;
                }
            }
        }
    }

    /// Closes stdin and waits; then asks the whole group to end; then ends it.
    async fn close(&mut self) -> Result<(), Self::Error> {
        if let Ok(mut stdin) = tokio::time::timeout(GRACE, self.stdin.lock()).await {
            stdin.take();
        }
        if self.kept {
            // That was the tether: the keeper does the rest.
            let _ = tokio::time::timeout(KEEPER_GRACE, self.drained()).await;
        } else if tokio::time::timeout(GRACE, self.drained()).await.is_err() {
            self.signal(nix::sys::signal::Signal::SIGTERM);
            let _ = tokio::time::timeout(GRACE, self.drained()).await;
        }
        self.signal(nix::sys::signal::Signal::SIGKILL);
        self.child.wait().await.map(drop)
    }
}

impl Stdio {
    /// Takes note of the questions that begin a connection.
    fn asks(&mut self, message: &TxJsonRpcMessage<RoleClient>) {
        let JsonRpcMessage::Request(request) = message else { return };
        match (&request.request, &mut self.probe) {
            (ClientRequest::DiscoverRequest(_), probe) => *probe = Some((request.id.clone(), false)),
            (ClientRequest::InitializeRequest(_), Some((_, given_up))) => *given_up = true,
            _ => {}
        }
    }

    /// Whether a message answers the first question after it was given up. A server that is installed by its first start takes
    /// longer than the library waits, then answers all it was asked in turn, and the library takes that for the end.
    fn is_late(&self, message: &RxJsonRpcMessage<RoleClient>) -> bool {
        let Some((probe, true)) = &self.probe else { return false };
        match message {
            JsonRpcMessage::Response(answer) => answer.id == *probe,
            JsonRpcMessage::Error(answer) => answer.id.as_ref() == Some(probe),
            _ => false,
        }
    }

    /// What a line says to us; nothing where it says nothing that anybody waits for.
    fn message(&mut self, text: &[u8]) -> Option<RxJsonRpcMessage<RoleClient>> {
        match mending::message(text) {
            Ok(JsonRpcMessage::Notification(notification)) => {
                self.pace();
                let idle = matches!(
                    notification.notification,
                    ServerNotification::ProgressNotification(_)
                        | ServerNotification::LoggingMessageNotification(_)
                );
                (!idle).then_some(JsonRpcMessage::Notification(notification))
            }
            Ok(message) => Some(message),
            Err(error) => {
                self.pace();
                self.garbage += 1;
                if self.garbage <= 3 {
                    let start = String::from_utf8_lossy(text.get(..text.len().min(120)).unwrap_or_default())
                        .into_owned();
                    self.tail.push(format!("athena: not a message on stdout ({error}): {start}"));
                }
                // An answer that cannot be read is an answer all the same: nobody shall wait for it.
                let mut scanner = Scanner::default();
                scanner.feed(text);
                let id = scanner.finish().id?;
                let answer = format!(
                    r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32700,"message":"the answer is not JSON-RPC"}}}}"#
                );
                serde_json::from_str(&answer).ok()
            }
        }
    }

    /// Reads on to the end, so that a child that still writes can end, and waits for it.
    async fn drained(&mut self) -> std::io::Result<()> {
        let mut sink = [0; 4096];
        while self.stdout.read(&mut sink).await? > 0 {}
        self.child.wait().await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn shell(script: &str) -> Program {
        Program {
            command: "sh".into(),
            args: vec!["-c".into(), script.into()],
            env: BTreeMap::from([
                ("PATH".into(), std::env::var("PATH").unwrap()),
                ("ONLY".into(), "this".into()),
            ]),
            cwd: None,
        }
    }

    #[tokio::test]
    async fn garbage_is_passed_over_and_progress_dropped() {
        let script = r#"echo 'hello'; echo '{"jsonrpc":"2.0"'; echo '[]'; echo;
            echo '{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1}}'
            echo '{"jsonrpc":"2.0","id":5,"result":{"deep":1}}'; env | grep -v PWD | grep -v '^_=' | grep -v SHLVL | sort >&2"#;
        let (mut stdio, tail) = Stdio::spawn(&shell(script), Spools::default(), None).unwrap();
        assert!(
            matches!(stdio.receive().await, Some(JsonRpcMessage::Response(answer)) if answer.id.to_string() == "5")
        );
        assert!(stdio.receive().await.is_none());
        stdio.close().await.unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        let environment = loop {
            let lines = tail.lines();
            let found: Vec<String> =
                lines.into_iter().filter(|line| line.contains('=') && !line.contains("athena")).collect();
            if found.len() >= 2 {
                break found;
            }
            assert!(Instant::now() < deadline, "stderr was not read");
            tokio::task::yield_now().await;
        };
        assert_eq!(environment.len(), 2, "{environment:?}");
        assert!(tail.lines().iter().any(|line| line.contains("not a message")));
    }

    /// A server that is slow to start answers both eras' first questions, when nobody waits for the one any more.
    #[tokio::test]
    async fn a_late_answer_to_a_question_that_was_given_up_is_passed_over() {
        let script = r#"read -r one; read -r two
            echo '{"jsonrpc":"2.0","id":0,"error":{"code":-32601,"message":"Method not found"}}'
            echo '{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"s","version":"1"}}}'
            echo '{"jsonrpc":"2.0","id":0,"error":{"code":-32601,"message":"Method not found"}}'"#;
        let (mut stdio, _) = Stdio::spawn(&shell(script), Spools::default(), None).unwrap();
        let questions = [
            json!({"jsonrpc": "2.0", "id": 0, "method": "server/discover", "params": {}}),
            json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"protocolVersion": "2025-11-25",
                "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}}),
        ];
        for question in questions {
            stdio.send(serde_json::from_value(question).unwrap()).await.unwrap();
        }
        let answer = stdio.receive().await.unwrap();
        assert!(
            matches!(&answer, JsonRpcMessage::Response(it) if it.id == RequestId::Number(1)),
            "{answer:?}"
        );
        // Only that one answer is passed over.
        assert!(matches!(stdio.receive().await, Some(JsonRpcMessage::Error(_))));
    }

    #[tokio::test]
    async fn a_long_line_is_kept_by_its_handle_in_bounded_memory() {
        let script = r#"printf '{"jsonrpc":"2.0","id":3,"result":{"content":[{"type":"text","text":"'; head -c 20000000 /dev/zero | tr '\0' x; printf '"}]}}\n'"#;
        let spools = Spools::default();
        let (mut stdio, _) = Stdio::spawn(&shell(script), spools.clone(), None).unwrap();
        let Some(JsonRpcMessage::Response(answer)) = stdio.receive().await else { panic!() };
        let json = serde_json::to_value(&answer.result).unwrap();
        let handle = json["_meta"][super::super::spool::SPOOL_KEY].as_str().unwrap();
        assert_eq!(spools.size(handle), Some(20_000_000));
        assert!(json.to_string().len() < 3_000);
    }

    #[tokio::test]
    async fn nothing_of_the_group_outlives_the_connection() {
        let (mut stdio, _) =
            Stdio::spawn(&shell("trap '' TERM; sleep 300 & sleep 300"), Spools::default(), None).unwrap();
        let group = stdio.group.unwrap();
        stdio.close().await.unwrap();
        let gone = || nix::sys::signal::killpg(nix::unistd::Pid::from_raw(group), None).is_err();
        let deadline = Instant::now() + Duration::from_secs(5);
        while !gone() {
            assert!(Instant::now() < deadline, "the group lives on");
            tokio::task::yield_now().await;
        }
    }
}
