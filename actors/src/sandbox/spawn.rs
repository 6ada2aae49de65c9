//! Worker processes: this binary executed again, with an empty environment and one inherited descriptor.
//!
//! [`Reexec`] makes each worker that way; [`zygote`](super::zygote) only the one that is copied.
//!
//! One dedicated thread makes them all, because the kernel ties "die with your parent" to the *thread* that made the child,
//! and the runtime's own threads come and go. Another thread reaps them, so that nothing becomes a zombie and no async
//! thread ever waits for a process.

use super::exit::Exit;
use std::any::Any;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::time::Duration;
use tokio::sync::oneshot;

/// The hidden argument under which the binary is a worker.
pub const WORKER_ARGUMENT: &str = "__worker";
/// The descriptor on which a worker finds its socket.
const SOCKET: RawFd = 3;

/// A worker process.
pub trait Process: Send {
    /// Gives it `grace` to end by itself, kills it, reaps it, and says how it ended. Does not block.
    fn end(self: Box<Self>, grace: Duration) -> oneshot::Receiver<Exit>;
}

/// A process that was just made; it will say `Ready` on its socket.
pub struct Spawned {
    /// Our end of its socket.
    pub socket: UnixStream,
    /// The process.
    pub process: Box<dyn Process>,
    /// Layers of its jail that were put round it from outside.
    pub layers: Vec<&'static str>,
}

/// Makes worker processes.
pub trait Spawn: Send + Sync {
    /// Asks for one. Does not block.
    fn spawn(&self) -> oneshot::Receiver<io::Result<Spawned>>;
}

/// A thread that makes workers, one after another as they are ordered: to make one may block, and on Linux a worker dies with
/// the thread that made it. It ends when this is dropped.
pub(super) struct Maker(mpsc::Sender<oneshot::Sender<io::Result<Spawned>>>);

impl Maker {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system has no room for one.
    pub(super) fn start(mut make: impl FnMut() -> io::Result<Spawned> + Send + 'static) -> io::Result<Self> {
        let (orders, asked) = mpsc::channel::<oneshot::Sender<io::Result<Spawned>>>();
        std::thread::Builder::new().name("athena-spawn".into()).spawn(move || {
            for reply in asked {
                // A receiver that is gone drops the process again, which ends it.
                let _ = reply.send(make());
            }
        })?;
        Ok(Self(orders))
    }
}

impl Spawn for Maker {
    fn spawn(&self) -> oneshot::Receiver<io::Result<Spawned>> {
        let (reply, answer) = oneshot::channel();
        // A dead thread drops the reply, which the caller sees.
        let _ = self.0.send(reply);
        answer
    }
}

/// Executes this binary again.
pub struct Reexec(Maker);

impl Reexec {
    /// Starts the two threads. They end when this and every process it made are dropped. `arguments` follow
    /// [`WORKER_ARGUMENT`]: the jail's level and its bounds.
    ///
    /// # Errors
    /// When the system has no room for a thread.
    pub fn new(arguments: Vec<String>) -> io::Result<Self> {
        let reaper = Reaper::start()?;
        Maker::start(move || make(&arguments, &reaper)).map(Self)
    }
}

impl Spawn for Reexec {
    fn spawn(&self) -> oneshot::Receiver<io::Result<Spawned>> {
        self.0.spawn()
    }
}

/// Something that goes when its process is gone.
type Kept = Option<Box<dyn Any + Send>>;

struct Order {
    pid: libc::pid_t,
    grace: Duration,
    reply: oneshot::Sender<Exit>,
    kept: Kept,
}

pub(super) struct Child {
    pid: libc::pid_t,
    deaths: mpsc::Sender<Order>,
    ended: bool,
    kept: Kept,
}

impl Child {
    /// Takes charge of a process that this one is the parent of.
    pub(super) fn new(pid: libc::pid_t, reaper: &Reaper) -> Self {
        Self { pid, deaths: reaper.0.clone(), ended: false, kept: None }
    }

    /// The same, with something that is dropped once the process is reaped.
    pub(super) fn keeping(mut self, kept: impl Any + Send) -> Self {
        self.kept = Some(Box::new(kept));
        self
    }

    fn order(&mut self, grace: Duration, reply: oneshot::Sender<Exit>) {
        if grace.is_zero() {
            // At once, whatever the reaper waits for; the process is not reaped yet, so the id is its own.
            kill(self.pid);
        }
        let order = Order { pid: self.pid, grace, reply, kept: self.kept.take() };
        self.ended = self.deaths.send(order).is_ok();
    }
}

impl Process for Child {
    fn end(mut self: Box<Self>, grace: Duration) -> oneshot::Receiver<Exit> {
        let (reply, answer) = oneshot::channel();
        self.order(grace, reply);
        answer
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.ended {
            self.order(Duration::ZERO, oneshot::channel().0);
        }
    }
}

fn kill(pid: libc::pid_t) {
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
}

/// The thread that reaps. It ends when this and every process in its charge are dropped.
#[derive(Clone)]
pub(super) struct Reaper(mpsc::Sender<Order>);

impl Reaper {
    pub(super) fn start() -> io::Result<Self> {
        let (deaths, reaped) = mpsc::channel::<Order>();
        std::thread::Builder::new().name("athena-reap".into()).spawn(move || reap(&reaped))?;
        Ok(Self(deaths))
    }
}

/// Makes one worker.
pub(super) fn make(arguments: &[String], reaper: &Reaper) -> io::Result<Spawned> {
    // Both ends are close-on-exec; only the copy on descriptor 3 outlives the exec.
    let (ours, theirs) = UnixStream::pair()?;
    let pid = exec(theirs.as_raw_fd(), arguments)?;
    Ok(Spawned { socket: ours, process: Box::new(Child::new(pid, reaper)), layers: Vec::new() })
}

/// `posix_spawn` of this binary: no fork of our (large) address space, and nothing runs between fork and exec.
#[expect(unsafe_code, reason = "there is no safe interface that places a descriptor without a fork hook")]
pub(super) fn exec(socket: RawFd, arguments: &[String]) -> io::Result<libc::pid_t> {
    let text = |text: &str| CString::new(text).map_err(io::Error::other);
    let program = if cfg!(target_os = "linux") {
        text("/proc/self/exe")?
    } else {
        text(&std::env::current_exe()?.to_string_lossy())?
    };
    let null = text("/dev/null")?;
    let arguments = ["athena-worker", WORKER_ARGUMENT]
        .into_iter()
        .chain(arguments.iter().map(String::as_str))
        .map(text)
        .collect::<io::Result<Vec<CString>>>()?;
    let argv: Vec<_> =
        arguments.iter().map(|one| one.as_ptr().cast_mut()).chain([std::ptr::null_mut()]).collect();
    let envp = [std::ptr::null_mut()];
    let check = |code: libc::c_int| if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(code)) };
    let mut pid = 0;
    let mut actions = std::mem::MaybeUninit::uninit();
    let mut attributes = std::mem::MaybeUninit::uninit();
    let mut signals = std::mem::MaybeUninit::uninit();
    // SAFETY: actions, attributes and signals are initialised before use and destroyed once, after the call; every
    // pointer (program, argv, envp, null) outlives the call.
    unsafe {
        check(libc::posix_spawn_file_actions_init(actions.as_mut_ptr()))?;
        if let Err(error) = check(libc::posix_spawnattr_init(attributes.as_mut_ptr())) {
            libc::posix_spawn_file_actions_destroy(actions.as_mut_ptr());
            return Err(error);
        }
        let (actions, attributes) = (actions.as_mut_ptr(), attributes.as_mut_ptr());
        let done = (|| {
            check(libc::posix_spawn_file_actions_addopen(actions, 0, null.as_ptr(), libc::O_RDWR, 0))?;
            check(libc::posix_spawn_file_actions_adddup2(actions, 0, 1))?;
            check(libc::posix_spawn_file_actions_adddup2(actions, 0, 2))?;
            check(libc::posix_spawn_file_actions_adddup2(actions, socket, SOCKET))?;
            // An own process group: the terminal's Ctrl-C is not for workers. No blocked or ignored signals.
            libc::sigemptyset(signals.as_mut_ptr());
            check(libc::posix_spawnattr_setsigmask(attributes, signals.as_ptr()))?;
            libc::sigfillset(signals.as_mut_ptr());
            check(libc::posix_spawnattr_setsigdefault(attributes, signals.as_ptr()))?;
            check(libc::posix_spawnattr_setpgroup(attributes, 0))?;
            let flags =
                libc::POSIX_SPAWN_SETSIGMASK | libc::POSIX_SPAWN_SETSIGDEF | libc::POSIX_SPAWN_SETPGROUP;
            check(libc::posix_spawnattr_setflags(attributes, flags as libc::c_short))?;
            check(libc::posix_spawn(
                &raw mut pid,
                program.as_ptr(),
                actions,
                attributes,
                argv.as_ptr(),
                envp.as_ptr(),
            ))
        })();
        libc::posix_spawn_file_actions_destroy(actions);
        libc::posix_spawnattr_destroy(attributes);
        done?;
    }
    Ok(pid)
}

/// Waits for one dying process after the other; each is killed first, so each wait is short.
fn reap(orders: &mpsc::Receiver<Order>) {
    for Order { pid, grace, reply, kept } in orders {
        if !grace.is_zero() {
            settle(pid, grace);
        }
        kill(pid);
        let pid = nix::unistd::Pid::from_raw(pid);
        use nix::sys::wait::{WaitStatus, waitpid};
        let exit = loop {
            match waitpid(pid, None) {
                Ok(WaitStatus::Exited(_, code)) => break Exit::Code(code),
                Ok(WaitStatus::Signaled(_, signal, _)) => break Exit::Signal(signal as i32),
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(_) => break Exit::Unknown,
            }
        };
        drop(kept);
        let _ = reply.send(exit);
    }
}

/// Waits until the process has ended, at most `grace`.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "pidfd_open has no safe wrapper in this version of nix")]
fn settle(pid: libc::pid_t, grace: Duration) {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::{AsFd, FromRawFd, OwnedFd};
    // SAFETY: the child is ours and not reaped yet, so the pid is its own; the descriptor is new and owned here.
    let fd = unsafe {
        match RawFd::try_from(libc::syscall(libc::SYS_pidfd_open, pid, 0)) {
            Ok(fd) if fd >= 0 => OwnedFd::from_raw_fd(fd),
            _ => return,
        }
    };
    let timeout = PollTimeout::try_from(grace).unwrap_or(PollTimeout::ZERO);
    let _ = poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)], timeout);
}

/// Elsewhere a process gets no grace.
#[cfg(not(target_os = "linux"))]
fn settle(_: libc::pid_t, _: Duration) {}

#[cfg(test)]
mod tests {
    use super::*;

    /// The test binary, executed again with an argument it takes for a filter, runs no test and leaves with code 0.
    #[tokio::test]
    async fn a_process_is_made_with_one_socket_and_reaped() {
        let reexec = Reexec::new(Vec::new()).unwrap();
        let spawned = reexec.spawn().await.unwrap().unwrap();
        let exit = spawned.process.end(Duration::from_secs(60)).await.unwrap();
        assert_eq!(exit, Exit::Code(0));
    }

    #[tokio::test]
    async fn a_process_without_grace_is_killed() {
        let reexec = Reexec::new(Vec::new()).unwrap();
        let spawned = reexec.spawn().await.unwrap().unwrap();
        let exit = spawned.process.end(Duration::ZERO).await.unwrap();
        assert!(matches!(exit, Exit::Signal(libc::SIGKILL) | Exit::Code(0)), "{exit:?}");
    }
}
