//! A worker under test and a server that answers it.

use athena_schemas::risk::Limits;
pub(crate) use athena_schemas::wire::Job;
use athena_schemas::wire::{Assessment, Fault, Finish, FromWorker, Language, Namespace, Ready, ToWorker};
use athena_worker::wire::{Link, LinkError};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, recv, sendmsg, socketpair,
};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::io::{IoSlice, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// A worker process and the server's end of its socket.
pub(crate) struct Worker {
    pub(crate) link: Link,
    pub(crate) ready: Ready,
    pid: libc::pid_t,
}

/// How a run went: its end, and what it sent on the way.
#[derive(Debug)]
pub(crate) struct Trace {
    pub(crate) finish: Finish,
    pub(crate) calls: Vec<(String, Value)>,
    pub(crate) logs: Vec<(String, String)>,
}

impl Worker {
    /// Starts one and waits until it is ready.
    #[expect(clippy::zombie_processes, reason = "it is reaped by its id, as a copy is: `wait`")]
    pub(crate) fn start(args: &[&str]) -> Self {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let child = spawn(args, theirs.as_raw_fd());
        drop(theirs);
        Self::ready(ours, libc::pid_t::try_from(child.id()).unwrap())
    }

    fn ready(socket: UnixStream, pid: libc::pid_t) -> Self {
        let mut link = Link::new(socket);
        let FromWorker::Ready(ready) = link.receive(Some(Instant::now() + Duration::from_secs(20))).unwrap()
        else {
            panic!("the first frame must be Ready");
        };
        Self { link, ready, pid }
    }

    /// Starts one that keeps a Deno, with all that it has for code where `open`; none, and a word, where it is not installed.
    #[expect(clippy::zombie_processes, reason = "it is reaped by its id, as a copy is: `wait`")]
    pub(crate) fn deno(open: bool) -> Option<Self> {
        let held = deno()?;
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let open = if open { "yes" } else { "no" };
        let child = spawn(&["--deno", &held, "--deno-open", open], theirs.as_raw_fd());
        drop(theirs);
        ours.write_all(&[1]).unwrap();
        Some(Self::ready(ours, libc::pid_t::try_from(child.id()).unwrap()))
    }

    /// Judges code.
    pub(crate) fn analyze(&mut self, language: Language, code: &str) -> Assessment {
        self.link.send(&ToWorker::Analyze { language, code: code.into() }).unwrap();
        match self.link.receive(Some(Instant::now() + Duration::from_secs(20))).unwrap() {
            FromWorker::Analysis(assessment) => *assessment,
            other => panic!("{other:?}"),
        }
    }

    /// Reaps the process.
    pub(crate) fn wait(&self) -> ExitStatus {
        let mut status = 0;
        // SAFETY: plain waitpid; the process is a child of this one.
        assert_eq!(unsafe { libc::waitpid(self.pid, &raw mut status, 0) }, self.pid);
        ExitStatus::from_raw(status)
    }

    /// The processes that it started, by their ids.
    pub(crate) fn children(&self) -> Vec<u32> {
        let own = format!(" {} ", self.pid);
        let parent = |stat: &str| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest[1..].starts_with(&own));
        let all = std::fs::read_dir("/proc").unwrap().flatten();
        let all = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        all.filter(|pid| std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| parent(&stat)))
            .collect()
    }

    /// Ends the process from outside.
    pub(crate) fn kill(&self) {
        // SAFETY: plain kill; the process is not reaped yet.
        assert_eq!(unsafe { libc::kill(self.pid, libc::SIGKILL) }, 0);
    }

    /// Runs a job; `answer` is the server. A worker that dies instead gives its exit status.
    pub(crate) fn run(
        mut self,
        job: Job,
        mut answer: impl FnMut(&str, &Value) -> Result<Value, Value>,
    ) -> Result<Trace, ExitStatus> {
        let deadline = Instant::now() + Duration::from_millis(job.limits.wall_ms) + Duration::from_secs(20);
        let mut clock_ms = job.clock_ms;
        let (mut calls, mut logs) = (Vec::new(), Vec::new());
        let mut due: VecDeque<ToWorker> = VecDeque::new();
        self.link.send(&ToWorker::Run(Box::new(job))).unwrap();
        loop {
            // Answers go out once nothing more comes by itself: calls made together are answered in order.
            let patience = if due.is_empty() { deadline } else { Instant::now() + Duration::from_millis(2) };
            match self.link.receive(Some(patience)) {
                Ok(FromWorker::Call { call, op, params, .. }) => {
                    let params = serde_json::from_str(&params).unwrap();
                    let result = answer(&op, &params);
                    let result = result.map(|it| it.to_string()).map_err(|it| it.to_string());
                    calls.push((op, params));
                    clock_ms += 10;
                    due.push_back(ToWorker::Answer { call, result, clock_ms });
                }
                Ok(FromWorker::Timer { call, after_ms }) => {
                    clock_ms += after_ms;
                    due.push_back(ToWorker::Answer { call, result: Ok("null".into()), clock_ms });
                }
                Ok(FromWorker::Log { level, text }) => logs.push((level, text)),
                Ok(FromWorker::Done(finish)) => {
                    self.leave();
                    return Ok(Trace { finish: *finish, calls, logs });
                }
                Err(LinkError::TimedOut) => match due.pop_front() {
                    // The worker may have ended meanwhile; the next receive says how.
                    Some(answer) => drop(self.link.send(&answer)),
                    None => {
                        self.kill();
                        panic!("neither a frame nor an end: {:?}", self.wait());
                    }
                },
                // Its last frame names the call; its exit status says as much.
                Ok(FromWorker::Trapped { .. }) => {}
                Err(LinkError::Closed) => return Err(self.wait()),
                other => panic!("{other:?}"),
            }
        }
    }

    /// Runs hostile code: a worker that breaks the protocol is killed, as the server does, and gives its exit status.
    pub(crate) fn attack(mut self, job: Job) -> Result<Trace, ExitStatus> {
        let deadline = Instant::now() + Duration::from_millis(job.limits.wall_ms + 50);
        let (mut calls, mut logs) = (Vec::new(), Vec::new());
        self.link.send(&ToWorker::Run(Box::new(job))).unwrap();
        loop {
            match self.link.receive(Some(deadline)) {
                Ok(FromWorker::Call { call, op, params, .. }) => {
                    let params = serde_json::from_str(&params).unwrap_or_default();
                    let result = echo(&op, &params).map(|it| it.to_string()).map_err(|it| it.to_string());
                    calls.push((op, params));
                    // It may be gone; the next receive says so.
                    let _ = self.link.send(&ToWorker::Answer { call, result, clock_ms: 0 });
                }
                Ok(FromWorker::Log { level, text }) => logs.push((level, text)),
                Ok(FromWorker::Done(finish)) => {
                    self.leave();
                    return Ok(Trace { finish: *finish, calls, logs });
                }
                Err(LinkError::Closed) => return Err(self.wait()),
                Ok(FromWorker::Trapped { call }) => {
                    calls.push(("trapped".into(), json!(call)));
                }
                Ok(_) | Err(_) => {
                    self.kill();
                    return Err(self.wait());
                }
            }
        }
    }

    /// Closes the socket and waits for the end.
    pub(crate) fn close(mut self) -> ExitStatus {
        self.leave()
    }

    /// Closes the socket, for which a worker that is done waits too, and waits for the end.
    fn leave(&mut self) -> ExitStatus {
        let (nobody, _) = UnixStream::pair().unwrap();
        self.link = Link::new(nobody);
        self.wait()
    }
}

/// The pinned Deno with its loader and libraries, as a worker takes them, where it is installed beside the other outside programs.
fn deno() -> Option<String> {
    let clients =
        Path::new(env!("CARGO_BIN_EXE_athena-worker")).ancestors().nth(2)?.join("clients/node_modules/@deno");
    let found =
        std::fs::read_dir(clients).into_iter().flatten().flatten().map(|entry| entry.path().join("deno"));
    let Some(program) = found.into_iter().find(|program| program.exists()) else {
        // Past the capture of the test harness.
        let missing = "Deno is not installed (tests/run clients does): it was NOT tried";
        let mut told = std::io::stderr();
        writeln!(told, "{missing}").unwrap();
        return None;
    };
    let told = Command::new(&program).env("LD_TRACE_LOADED_OBJECTS", "1").output().unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    let paths = told.split_whitespace().filter(|word| word.starts_with('/'));
    let (libraries, loader): (Vec<_>, Vec<_>) = paths.partition(|path| !path.contains("/ld-"));
    Some([vec![program.to_str().unwrap()], loader, libraries].concat().join(":"))
}

/// The worker's binary with this socket as its descriptor 3.
fn spawn(args: &[&str], fd: RawFd) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_athena-worker"));
    command.arg(athena_worker::WORKER).args(args).env_clear().stdin(Stdio::null());
    // SAFETY: dup2 is async-signal-safe, and clears close-on-exec on the copy.
    unsafe {
        command.pre_exec(
            move || {
                if libc::dup2(fd, 3) < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
            },
        );
    }
    command.spawn().unwrap()
}

/// A process that workers are copies of. They die with the thread that started it.
pub(crate) struct Zygote {
    pub(crate) socket: OwnedFd,
    pub(crate) process: Child,
}

impl Zygote {
    /// Starts one with these arguments.
    pub(crate) fn start(args: &[&str]) -> Self {
        let (socket, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap();
        let zygote = Self { process: spawn(args, theirs.as_raw_fd()), socket };
        drop(theirs);
        assert_eq!(zygote.hear(), 0);
        zygote
    }

    /// One that is the host's CPython.
    pub(crate) fn python(args: &[&str]) -> Self {
        const ASK: &str = "import sys, os; print(os.path.realpath(sys._base_executable), os.path.realpath(sys.base_prefix), sep=':')";
        let told = Command::new("python3").args(["-I", "-S", "-c", ASK]).output().unwrap();
        let interpreter = String::from_utf8(told.stdout).unwrap();
        Self::start(&[&["--python", interpreter.trim()], args].concat())
    }

    fn hear(&self) -> i32 {
        let mut number = [0; 4];
        assert_eq!(recv(self.socket.as_raw_fd(), &mut number, MsgFlags::empty()).unwrap(), 4);
        i32::from_le_bytes(number)
    }

    /// A copy.
    pub(crate) fn worker(&self) -> Worker {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let fds = [theirs.as_raw_fd()];
        let rights = [ControlMessage::ScmRights(&fds)];
        sendmsg::<()>(self.socket.as_raw_fd(), &[IoSlice::new(&[1])], &rights, MsgFlags::empty(), None)
            .unwrap();
        let pid = self.hear();
        assert!(pid > 0, "error {pid}");
        Worker::ready(ours, pid)
    }
}

impl Drop for Zygote {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The signal a worker died of, whether it or its waiter says so.
pub(crate) fn signal(status: ExitStatus) -> Option<i32> {
    status.signal().or_else(|| status.code().filter(|code| *code > 128).map(|code| code - 128))
}

/// A job with the tests' defaults.
pub(crate) fn job(language: Language, code: &str) -> Job {
    let member = |path: &str| (path.to_owned(), path.replace('.', "/"));
    Job {
        language,
        code: code.to_owned(),
        input: json!({"n": 20, "name": "Ada"}).to_string(),
        state: json!({"count": 1}).to_string(),
        seed: [7; 32],
        clock_ms: 1_700_000_000_000,
        limits: Limits { wall_ms: 5_000, ..Limits::BALANCED },
        namespaces: vec![
            Namespace {
                name: "athena".into(),
                members: ["semantic.search", "semantic.store", "episodic.recall"].map(member).into(),
            },
            Namespace {
                name: "github".into(),
                members: vec![("create_issue".into(), "github/create_issue".into())],
            },
        ],
        prepared: false,
    }
}

/// Runs code against a server that answers every call with `{op, params}`.
pub(crate) fn run(language: Language, code: &str) -> Trace {
    run_job(job(language, code))
}

/// Runs a job against the same server.
pub(crate) fn run_job(job: Job) -> Trace {
    Worker::start(&[]).run(job, echo).unwrap_or_else(|status| panic!("the worker died: {status}"))
}

/// The same with a worker that was told the globals before.
pub(crate) fn run_prepared(mut job: Job) -> Trace {
    let mut worker = Worker::start(&[]);
    worker.link.send(&ToWorker::Prepare(std::mem::take(&mut job.namespaces))).unwrap();
    job.prepared = true;
    worker.run(job, echo).unwrap_or_else(|status| panic!("the worker died: {status}"))
}

/// Answers a call with itself; `semantic/store` is refused, `files/module` gives a small module.
pub(crate) fn echo(op: &str, params: &Value) -> Result<Value, Value> {
    match op {
        "semantic/store" => Err(json!({"code": "denied", "message": "no writes today", "try": "tomorrow"})),
        "files/module" => match params["path"].as_str().unwrap() {
            "/mcp-servers/github/create_issue.ts" => Ok(json!(
                "export async function create_issue(args: { title: string }): Promise<unknown> {\n  return callMCPTool('github/create_issue', args);\n}"
            )),
            "/skills/broken.ts" => Ok(json!("export const x: = 1;")),
            "/skills/sum.ts" => Ok(json!(
                "export default function sum(xs: number[]) { return xs.reduce((a, b) => a + b, 0); }"
            )),
            path => Err(json!({"code": "not_found", "message": format!("there is no {path}")})),
        },
        _ => Ok(json!({"op": op, "params": params})),
    }
}

/// The value of a run that must succeed.
pub(crate) fn value(language: Language, code: &str) -> Value {
    let trace = run(language, code);
    match trace.finish.result {
        Ok(json) => serde_json::from_str(&json).unwrap(),
        Err(fault) => panic!("{code}\n{fault:?}"),
    }
}

/// The fault of a run that must fail.
pub(crate) fn fault(language: Language, code: &str) -> Fault {
    match run(language, code).finish.result {
        Ok(json) => panic!("{code}\ngave {json}"),
        Err(fault) => fault,
    }
}
