//! A process between the daemon and a server: it lets nothing of the server outlive the daemon, however that ends.
//!
//! The daemon starts this binary again under a hidden argument, and that starts the server. The server's stdin is the tether: the
//! keeper holds the same pipe, reads nothing from it, and is told by the kernel when the daemon's end is gone, be it closed, killed
//! or out of memory. Then the server may end by itself, is asked to, and is killed, with everything it started: the keeper is the
//! subreaper (`prctl(2)`) of all of it, so that what has left the process group is still its own. The server in turn dies with its
//! keeper. A server that means to escape can, since it runs as the same user: this is order, not a jail.
//!
//! Linux alone; elsewhere a server is in a process group of its own and ends with its stdin.

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, dup2_stderr, dup2_stdout, getpid, getppid};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Whether this program asks [`enter`] first: only then does starting it again make a keeper.
static AT_HAND: AtomicBool = AtomicBool::new(false);
/// The hidden argument under which the binary is a keeper; program and arguments of the server follow.
const KEEPER: &str = "__keep";
/// The hidden argument under which the binary becomes the server; the keeper's process id comes first.
const KEPT: &str = "__kept";
/// This very binary, even where its file was replaced meanwhile.
const SELF: &str = "/proc/self/exe";
/// How long a server may take to end by itself once its stdin is closed, and then once it was asked to.
pub(super) const GRACE: Duration = Duration::from_millis(500);
/// Between two looks at what is being killed.
const LOOK: Duration = Duration::from_millis(5);
/// How a keeper whose server could not be started begins its last line on stderr.
const FAILED: &str = "athena: cannot start ";
/// What shells answer for a program that cannot be executed.
const NOT_EXECUTED: i32 = 127;

/// Whether this program can be the keeper of its servers.
pub(super) fn possible() -> bool {
    AT_HAND.load(Ordering::Relaxed)
}

/// The command that starts `program` under a keeper.
pub(super) fn command(program: &str, arguments: &[String]) -> tokio::process::Command {
    let mut command = tokio::process::Command::new(SELF);
    command.arg(KEEPER).arg(program).args(arguments);
    command
}

/// The server's own process, by its keeper's.
pub(super) fn server_of(keeper: u32) -> Option<u32> {
    children(Pid::from_raw(i32::try_from(keeper).ok()?))
        .first()
        .and_then(|pid| u32::try_from(pid.as_raw()).ok())
}

/// Why a server could not be started at all, where its keeper said so.
pub(super) fn failure(stderr: &[String]) -> Option<String> {
    let said = stderr.iter().rev().find_map(|line| line.strip_prefix(FAILED))?;
    Some(format!("{said}; is it installed, and on the PATH that the daemon was started with?"))
}

/// The keeper, or the server that it becomes, where the first argument says so; otherwise returns, and the servers of this program
/// have keepers from then on.
pub fn enter(first: &str, mut arguments: impl Iterator<Item = String>) {
    let code = match first {
        KEEPER => keep(&arguments.collect::<Vec<_>>()),
        KEPT => {
            let keeper = arguments.next().unwrap_or_default();
            become_server(&keeper, &arguments.collect::<Vec<_>>())
        }
        _ => return AT_HAND.store(true, Ordering::Relaxed),
    };
    #[expect(clippy::exit, reason = "this process is nothing but a keeper")]
    std::process::exit(code);
}

/// Becomes the server, to die with the keeper. Answers only where that fails.
fn become_server(keeper: &str, arguments: &[String]) -> i32 {
    let Some((program, arguments)) = arguments.split_first() else { return NOT_EXECUTED };
    let tied = prctl::set_pdeathsig(Signal::SIGKILL);
    // The keeper may have died before it could take us with it.
    if tied.is_err() || getppid().to_string() != keeper {
        return NOT_EXECUTED;
    }
    let error = Command::new(program).args(arguments).exec();
    let _ = writeln!(std::io::stderr(), "{FAILED}{program}: {error}");
    NOT_EXECUTED
}

/// Starts the server and keeps it until it, or the daemon, is gone. Answers how it ended.
fn keep(arguments: &[String]) -> i32 {
    match kept(arguments) {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(
                std::io::stderr(),
                "{FAILED}{}: {error}",
                arguments.first().map_or("", String::as_str)
            );
            NOT_EXECUTED
        }
    }
}

fn kept(arguments: &[String]) -> std::io::Result<i32> {
    prctl::set_child_subreaper(true)?;
    // Signals are read, not obeyed: whoever ends the keeper means the server. The standard library gives its children a clear mask.
    let mut wanted = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        wanted.add(signal);
    }
    wanted.thread_block()?;
    let signals = SignalFd::with_flags(&wanted, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    let server = Command::new(SELF).arg(KEPT).arg(getpid().to_string()).args(arguments).spawn()?;
    let server = Pid::from_raw(i32::try_from(server.id()).map_err(std::io::Error::other)?);
    // Its streams are its own: their end is seen when it and its children have closed them.
    let nowhere = File::options().read(true).write(true).open("/dev/null")?;
    dup2_stdout(&nowhere)?;
    dup2_stderr(&nowhere)?;
    let mut code = None;
    loop {
        let alone = !reap(server, &mut code);
        if alone {
            return Ok(code.unwrap_or_default());
        }
        match wait(&signals, None) {
            Woken::Child => {}
            Woken::Cut => {
                // Half a second to end by itself, half a second to end when asked.
                let gone = within(GRACE, &signals, server, &mut code) || {
                    signal_all(Signal::SIGTERM);
                    within(GRACE, &signals, server, &mut code)
                };
                if !gone {
                    kill_all(server, &mut code);
                }
                return Ok(code.unwrap_or_default());
            }
            Woken::Told => {
                kill_all(server, &mut code);
                return Ok(code.unwrap_or_default());
            }
        }
    }
}

/// Why the keeper woke.
enum Woken {
    /// A child changed, or nothing happened.
    Child,
    /// The daemon's end of the tether is gone.
    Cut,
    /// Somebody wants it to end at once.
    Told,
}

/// Waits for the tether or a signal; once the tether is cut, for signals alone and at most `patience`.
fn wait(signals: &SignalFd, patience: Option<Duration>) -> Woken {
    let stdin = std::io::stdin();
    let tether: BorrowedFd<'_> = stdin.as_fd();
    let told = PollFd::new(signals.as_fd(), PollFlags::POLLIN);
    let (polled, tethered) = match patience {
        Some(most) => {
            let timeout = PollTimeout::try_from(most).unwrap_or(PollTimeout::ZERO);
            (poll(&mut [told], timeout), PollFlags::empty())
        }
        None => {
            let mut both = [told, PollFd::new(tether, PollFlags::empty())];
            let polled = poll(&mut both, PollTimeout::NONE);
            let [_, tether] = both;
            (polled, tether.revents().unwrap_or(PollFlags::empty()))
        }
    };
    if polled.is_err_and(|error| error != Errno::EINTR) {
        // Nothing can be waited for: better an end than a busy keeper.
        return Woken::Told;
    }
    while let Ok(Some(signal)) = signals.read_signal() {
        if signal.ssi_signo != Signal::SIGCHLD as u32 {
            return Woken::Told;
        }
    }
    let over = PollFlags::POLLHUP | PollFlags::POLLERR | PollFlags::POLLNVAL;
    if tethered.intersects(over) { Woken::Cut } else { Woken::Child }
}

/// Takes note of whoever ended; whether anybody is left.
fn reap(server: Pid, code: &mut Option<i32>) -> bool {
    loop {
        match waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, status)) if pid == server => *code = Some(status),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == server => *code = Some(128 + signal as i32),
            Ok(WaitStatus::StillAlive) => return true,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return false,
        }
    }
}

/// Whether everything ends by itself within a time.
fn within(patience: Duration, signals: &SignalFd, server: Pid, code: &mut Option<i32>) -> bool {
    let deadline = Instant::now() + patience;
    loop {
        if !reap(server, code) {
            return true;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || matches!(wait(signals, Some(left)), Woken::Told) {
            return false;
        }
    }
}

/// Kills everything that descends from this process, until there is nothing left.
fn kill_all(server: Pid, code: &mut Option<i32>) {
    let deadline = Instant::now() + GRACE;
    while reap(server, code) && Instant::now() < deadline {
        signal_all(Signal::SIGKILL);
        #[expect(
            clippy::disallowed_methods,
            reason = "the pause between two looks; there is no runtime here"
        )]
        std::thread::sleep(LOOK);
    }
    if reap(server, code) {
        // A kernel that does not list children: the process group, and with it this process, is what is known.
        let _ = kill(Pid::from_raw(0), Signal::SIGKILL);
    }
}

fn signal_all(signal: Signal) {
    let mut all = children(getpid());
    let mut at = 0;
    // Breadth first; what starts meanwhile is found by the next look, for its parents are dead then.
    while let Some(pid) = all.get(at).copied() {
        all.extend(children(pid));
        at += 1;
    }
    for pid in all {
        let _ = kill(pid, signal);
    }
}

/// The children of a process.
fn children(of: Pid) -> Vec<Pid> {
    let threads = std::fs::read_dir(format!("/proc/{of}/task"));
    let lists = threads.into_iter().flatten().flatten();
    let lists = lists.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    let all: Vec<String> = lists.collect();
    all.iter()
        .flat_map(|list| list.split_whitespace())
        .filter_map(|pid| pid.parse().ok())
        .map(Pid::from_raw)
        .collect()
}
