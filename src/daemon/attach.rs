//! Finding a store's daemon, or starting it.

use super::lines::{ANSWER_MAX, Line, Lines, write_json};
use super::place::Place;
use super::protocol::{Hello, Mode, PROTOCOL, Welcome, newer};
use super::server::held;
use athena_schemas::refusal::{Code, Refusal};
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::process::Stdio;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::{Child, Command};
use tokio::time::Instant;

/// How long to wait for a daemon to answer: starting it, or an older one making place.
const ATTACH_WAIT: Duration = Duration::from_secs(40);
/// How long a daemon has for its greeting.
const WELCOME_WAIT: Duration = Duration::from_secs(10);
/// The log is begun anew beyond this size, bytes.
const LOG_MAX: u64 = 4 << 20;

/// A greeted connection.
pub struct Attached {
    /// What the daemon says, line by line.
    pub(crate) lines: Lines<OwnedReadHalf>,
    /// Where to write.
    pub(crate) out: OwnedWriteHalf,
    /// Its greeting.
    pub welcome: Welcome,
}

/// How a client attaches.
#[derive(Debug, Clone)]
pub struct Attach {
    /// The store's place.
    pub place: Place,
    /// What the daemon's command line gets beyond `daemon run --store DIR`.
    pub daemon_args: Vec<String>,
}

impl Attach {
    /// To the store at `place`.
    pub fn to(place: Place) -> Self {
        Self { place, daemon_args: Vec::new() }
    }

    /// Connects and greets; starts the daemon where none answers, and replaces one that is older than this program.
    ///
    /// # Errors
    /// What the daemon refuses; [`Code::Unavailable`] when none can be reached, naming the process that holds the store.
    pub async fn connect(&self, hello: &Hello) -> Result<Attached, Refusal> {
        let deadline = Instant::now() + ATTACH_WAIT;
        let mut started: Option<Child> = None;
        let mut pause = Duration::from_millis(1);
        loop {
            match self.greet(hello).await {
                Ok(attached) => match attached.welcome.refused.clone() {
                    _ if newer(&hello.version, &attached.welcome.version) => self.replace().await?,
                    Some(refusal) => return Err(refusal),
                    None => return Ok(attached),
                },
                // Nobody listens: the daemon is not there, is starting, or is ending.
                Err(e) if absent(&e) => match &mut started {
                    None => started = Some(self.start()?),
                    Some(child) => {
                        if let Ok(Some(status)) = child.try_wait()
                            && !status.success()
                        {
                            return Err(self.failed(status));
                        }
                    }
                },
                Err(e) => tracing::debug!(error = %e, "the daemon hung up"),
            }
            if Instant::now() >= deadline {
                return Err(held(&self.place));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(25));
        }
    }

    /// Connects and greets a daemon that is there; never starts one.
    ///
    /// # Errors
    /// When none answers.
    pub async fn greet(&self, hello: &Hello) -> io::Result<Attached> {
        let stream = UnixStream::connect(self.place.listening()).await?;
        let (read, mut out) = stream.into_split();
        write_json(&mut out, hello).await?;
        let mut lines = Lines::new(read, ANSWER_MAX);
        let line = tokio::time::timeout(WELCOME_WAIT, lines.next()).await.map_err(io::Error::other)??;
        let Line::Text(text) = line else { return Err(io::ErrorKind::UnexpectedEof.into()) };
        let welcome = serde_json::from_slice(&text)?;
        Ok(Attached { lines, out, welcome })
    }

    /// Asks the daemon to finish and end. Newcomers then start their own, which waits for the lock.
    async fn replace(&self) -> Result<(), Refusal> {
        tracing::info!("an older daemon is asked to make place");
        match self.greet(&greeting(Mode::Drain)).await {
            Ok(_) => Ok(()),
            Err(e) if absent(&e) => Ok(()),
            Err(e) => Err(Refusal::new(Code::Unavailable, format!("the older daemon does not drain: {e}"))
                .hint("athena daemon stop --force")),
        }
    }

    /// Starts the daemon in a session of its own, with none of this process's streams and descriptors.
    fn start(&self) -> Result<Child, Refusal> {
        let cannot = |e: io::Error| {
            Refusal::new(Code::Unavailable, format!("the daemon cannot be started: {e}"))
                .hint("athena daemon run")
        };
        let program = std::env::current_exe().map_err(cannot)?;
        let mut log = OpenOptions::new();
        log.create(true).append(true).mode(0o600);
        if std::fs::metadata(&self.place.log).is_ok_and(|meta| meta.len() > LOG_MAX) {
            log.append(false).write(true).truncate(true);
        }
        let log = log.open(&self.place.log).map_err(cannot)?;
        let mut command = Command::new(program);
        command
            .args(["daemon", "run", "--store"])
            .arg(&self.place.store)
            .args(&self.daemon_args)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        detach(&mut command);
        command.spawn().map_err(cannot)
    }

    /// Why a daemon that we started ended at once: its own last words.
    fn failed(&self, status: std::process::ExitStatus) -> Refusal {
        let words = std::fs::read_to_string(&self.place.log).unwrap_or_default();
        let last = words.lines().rev().find_map(|line| serde_json::from_str::<Refusal>(line).ok());
        last.unwrap_or_else(|| {
            Refusal::new(Code::Unavailable, format!("the daemon ended at once ({status})"))
                .hint(format!("see {}", self.place.log.display()))
        })
    }
}

/// A greeting of this program.
pub fn greeting(mode: Mode) -> Hello {
    Hello {
        athena: PROTOCOL,
        version: env!("CARGO_PKG_VERSION").into(),
        mode,
        scope: athena_schemas::context::Scope::default(),
        client: "cli".into(),
    }
}

/// Whether nobody listens there (or not any more), as against a daemon that answers badly.
fn absent(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionRefused, ConnectionReset, NotFound, UnexpectedEof};
    matches!(error.kind(), NotFound | ConnectionRefused | ConnectionReset | BrokenPipe | UnexpectedEof)
}

/// Gives a child a session of its own and none of our descriptors but the three standard ones.
#[expect(unsafe_code, reason = "what runs between fork and exec can only be said with pre_exec")]
fn detach(command: &mut Command) {
    // SAFETY: the closure makes async-signal-safe system calls only, and allocates nothing.
    unsafe {
        command.pre_exec(|| {
            nix::unistd::setsid()?;
            close_on_exec();
            Ok(())
        });
    }
}

/// Marks every descriptor above the standard three to be closed by exec.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "close_range has no safe wrapper")]
fn close_on_exec() {
    // SAFETY: the call only sets a flag on descriptors; those it cannot find it passes over. An old kernel refuses it, and
    // then the descriptors that Rust opened still close by themselves.
    unsafe {
        libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
    }
}

/// Marks every descriptor above the standard three to be closed by exec.
#[cfg(not(target_os = "linux"))]
#[expect(unsafe_code, reason = "fcntl on descriptors we do not own")]
fn close_on_exec() {
    for descriptor in 3..256 {
        // SAFETY: only sets a flag; a descriptor that is not open is refused.
        unsafe {
            libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC);
        }
    }
}
