//! A server over stdio: a child process without a shell, with a cleared environment, in a process group of its own.
//!
//! What it writes to stdout is hostile until parsed. A line that is no JSON-RPC is dropped and counted; one beyond
//! [`INLINE_MAX`] is streamed past memory ([`super::scan`]); notifications beyond [`NOTIFICATIONS_PER_SECOND`] are paid for by
//! the server itself, whose pipe is not read for the rest of the second.

use super::connection::Signal;
use super::scan::Scanner;
use super::spool::Spools;
use rmcp::RoleClient;
use rmcp::model::{JsonRpcMessage, ServerNotification};
use rmcp::service::{RxJsonRpcMessage, TxJsonRpcMessage};
use rmcp::transport::Transport;
use serde_json::json;
use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::process::Stdio as Pipe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::Instant;

/// The longest line that is held in memory, bytes.
pub const INLINE_MAX: usize = 8 << 20;
/// Notifications that are read within a second.
pub const NOTIFICATIONS_PER_SECOND: u32 = 500;
/// Lines of stderr that are kept, and their length in bytes.
const STDERR_LINES: usize = 20;
const STDERR_LINE_MAX: usize = 400;
/// How long a server may take to end by itself once its stdin is closed, and then once it was asked to.
const GRACE: Duration = Duration::from_millis(500);

/// The mark under which a long answer's handle travels through the ordinary reply.
pub const SPOOL_KEY: &str = "athena/answer";

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
#[derive(Debug, Clone, Default)]
pub struct Tail(Arc<Mutex<VecDeque<String>>>);

impl Tail {
    /// The lines, oldest first.
    pub fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    fn push(&self, line: String) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == STDERR_LINES {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    /// Reads to the end. Whole lines are kept, cut to their maximum; memory is bounded for any input.
    async fn follow(self, stderr: ChildStderr) {
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
    child: Child,
    group: Option<i32>,
    stdin: Arc<tokio::sync::Mutex<Option<ChildStdin>>>,
    stdout: BufReader<ChildStdout>,
    spools: Spools,
    /// Lines that were no message.
    garbage: u64,
    tail: Tail,
    ended: Option<UnboundedSender<Signal>>,
    second: (Instant, u32),
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
        let mut command = Command::new(&program.command);
        command
            .args(&program.args)
            .env_clear()
            .envs(&program.env)
            .stdin(Pipe::piped())
            .stdout(Pipe::piped())
            .stderr(Pipe::piped())
            .kill_on_drop(true);
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
            stdin: Arc::new(tokio::sync::Mutex::new(Some(stdin))),
            stdout: BufReader::with_capacity(64 << 10, stdout),
            spools,
            garbage: 0,
            tail: tail.clone(),
            ended,
            second: (Instant::now(), 0),
        };
        Ok((stdio, tail))
    }

    /// The process.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// The next line, without its end; `None` at the end. A long line comes back as a short one in its place.
    async fn line(&mut self) -> Option<Vec<u8>> {
        let mut line: Vec<u8> = Vec::new();
        let mut scanner: Option<Scanner> = None;
        loop {
            let chunk = self.stdout.fill_buf().await.ok()?;
            if chunk.is_empty() {
                return None;
            }
            let end = chunk.iter().position(|byte| *byte == b'\n');
            let part = chunk.get(..end.unwrap_or(chunk.len())).unwrap_or_default();
            match &mut scanner {
                Some(scanner) => scanner.feed(part),
                None if line.len() + part.len() > INLINE_MAX => {
                    let mut fresh = Scanner::default();
                    fresh.feed(&std::mem::take(&mut line));
                    fresh.feed(part);
                    scanner = Some(fresh);
                }
                None => line.extend_from_slice(part),
            }
            let used = end.map_or(chunk.len(), |end| end + 1);
            self.stdout.consume(used);
            if end.is_some() {
                return Some(match scanner {
                    Some(scanner) => self.stand_in(scanner),
                    None => line,
                });
            }
        }
    }

    /// A short answer in place of a long one.
    fn stand_in(&mut self, scanner: Scanner) -> Vec<u8> {
        let kept = scanner.finish().and_then(|mut scanned| {
            let handle = scanned.text.take().map(|writer| self.spools.keep(writer)).transpose()?;
            Ok((scanned, handle))
        });
        let answer = match kept {
            Ok((scanned, handle)) => {
                let Some(id) =
                    scanned.id.as_deref().and_then(|id| serde_json::from_str::<serde_json::Value>(id).ok())
                else {
                    return Vec::new();
                };
                match handle {
                    Some(handle) => json!({"jsonrpc": "2.0", "id": id, "result": {
                        "content": [{"type": "text", "text": scanned.head}], "isError": scanned.is_error, "_meta": {SPOOL_KEY: handle}}}),
                    None => json!({"jsonrpc": "2.0", "id": id, "error": {"code": -32603,
                        "message": format!("the answer has more than {INLINE_MAX} bytes and no text")}}),
                }
            }
            Err(error) => {
                self.tail.push(format!("athena: a long answer could not be kept: {error}"));
                return Vec::new();
            }
        };
        answer.to_string().into_bytes()
    }

    /// Waits where a server sends notifications faster than anyone could use them.
    async fn pace(&mut self) {
        let (since, count) = self.second;
        if since.elapsed() >= Duration::from_secs(1) {
            self.second = (Instant::now(), 1);
        } else if count >= NOTIFICATIONS_PER_SECOND {
            tokio::time::sleep_until(since + Duration::from_secs(1)).await;
            self.second = (Instant::now(), 1);
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
        // The child may have gone, but not what it started.
        self.signal(nix::sys::signal::Signal::SIGKILL);
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
            let line = self.line().await?;
            let text = line.trim_ascii();
            if text.is_empty() {
                continue;
            }
            match serde_json::from_slice::<RxJsonRpcMessage<RoleClient>>(text) {
                Ok(JsonRpcMessage::Notification(notification)) => {
                    self.pace().await;
                    // Nobody waits for these.
                    let idle = matches!(
                        notification.notification,
                        ServerNotification::ProgressNotification(_)
                            | ServerNotification::LoggingMessageNotification(_)
                    );
                    if !idle {
                        return Some(JsonRpcMessage::Notification(notification));
                    }
                }
                Ok(message) => return Some(message),
                Err(error) => {
                    self.garbage += 1;
                    if self.garbage <= 3 {
                        let start =
                            String::from_utf8_lossy(text.get(..text.len().min(120)).unwrap_or_default())
                                .into_owned();
                        self.tail.push(format!("athena: not a message on stdout ({error}): {start}"));
                    }
                    // An answer that cannot be read is an answer all the same: nobody shall wait for it.
                    let mut scanner = Scanner::default();
                    scanner.feed(text);
                    let id = scanner.finish().ok().and_then(|scanned| scanned.id);
                    let error = id.and_then(|id| {
                        serde_json::from_str(&format!(
                            r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32700,"message":"the answer is not JSON-RPC"}}}}"#
                        ))
                        .ok()
                    });
                    if error.is_some() {
                        return error;
                    }
                    self.pace().await;
                }
            }
        }
    }

    /// Closes stdin and waits; then asks the whole group to end; then ends it.
    async fn close(&mut self) -> Result<(), Self::Error> {
        if let Ok(mut stdin) = tokio::time::timeout(GRACE, self.stdin.lock()).await {
            stdin.take();
        }
        if tokio::time::timeout(GRACE, self.drained()).await.is_err() {
            self.signal(nix::sys::signal::Signal::SIGTERM);
            let _ = tokio::time::timeout(GRACE, self.drained()).await;
        }
        self.signal(nix::sys::signal::Signal::SIGKILL);
        self.child.wait().await.map(drop)
    }
}

impl Stdio {
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
        let lines = tail.lines();
        assert!(lines.iter().any(|line| line.contains("not a message")), "{lines:?}");
        let environment: Vec<_> =
            lines.iter().filter(|line| line.contains('=')).filter(|line| !line.contains("athena")).collect();
        assert_eq!(environment.len(), 2, "{lines:?}");
    }

    #[tokio::test]
    async fn a_long_line_is_kept_by_its_handle_in_bounded_memory() {
        let script = r#"printf '{"jsonrpc":"2.0","id":3,"result":{"content":[{"type":"text","text":"'; head -c 20000000 /dev/zero | tr '\0' x; printf '"}]}}\n'"#;
        let spools = Spools::default();
        let (mut stdio, _) = Stdio::spawn(&shell(script), spools.clone(), None).unwrap();
        let Some(JsonRpcMessage::Response(answer)) = stdio.receive().await else { panic!() };
        let json = serde_json::to_value(&answer.result).unwrap();
        let handle = json["_meta"][SPOOL_KEY].as_str().unwrap();
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
