//! Workers as copies of one process that has warm engines and stands in its namespaces already.
//!
//! The zygote runs no code of anybody's; each worker is a fresh copy of it, used once. A copy costs a fraction of a process
//! that starts from nothing, and shares with its siblings every page it does not change. Its parent is *this* process, so it
//! is reaped, killed and dies with us like any other.
//!
//! Where copying is not possible (another system, a kernel that says no, a zygote that keeps dying) each worker is made from
//! nothing, by the same thread. A zygote that is the host's CPython ([`Zygote::python`]) has no such replacement.

use super::cgroup::Group;
use super::spawn::{Child, Maker, Process, Reaper, Spawn, Spawned, exec, make};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, recv, sendmsg, socketpair,
};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// How long a zygote may take to warm its engines and shut its doors.
const START: Duration = Duration::from_secs(10);
/// How long it may take to make a copy.
const COPY: Duration = Duration::from_secs(2);
/// Zygotes that die or refuse in a row before workers are made without one.
const TRIES: u32 = 3;

/// How workers are made.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// What follows the worker's argument: the jail's level and its bounds.
    pub arguments: Vec<String>,
    /// The memory that a run's own control group gives it, bytes, where groups are wanted and can be made below this process's
    /// own; they bound all workers together, too.
    pub grouped: Option<u64>,
}

/// Makes workers by copying one.
pub struct Zygote(Maker);

impl Zygote {
    /// Starts the thread that makes workers and the one that reaps them; the zygote itself comes with the first order.
    ///
    /// # Errors
    /// When the system has no room for a thread.
    pub fn new(settings: Settings) -> io::Result<Self> {
        Self::start(settings, None)
    }

    /// The same with `program`, a CPython, in the place of the engines. It is looked for with the first order.
    ///
    /// # Errors
    /// When the system has no room for a thread.
    pub fn python(settings: Settings, program: String) -> io::Result<Self> {
        Self::start(settings, Some(program))
    }

    fn start(settings: Settings, python: Option<String>) -> io::Result<Self> {
        let reaper = Reaper::start()?;
        let mut nursery = Nursery { settings, python, reaper, mother: None, failures: 0 };
        Maker::start(move || nursery.worker()).map(Self)
    }
}

impl Spawn for Zygote {
    fn spawn(&self) -> oneshot::Receiver<io::Result<Spawned>> {
        self.0.spawn()
    }
}

/// What the thread holds.
struct Nursery {
    settings: Settings,
    python: Option<String>,
    reaper: Reaper,
    mother: Option<Mother>,
    failures: u32,
}

impl Nursery {
    fn worker(&mut self) -> io::Result<Spawned> {
        while cfg!(target_os = "linux") && self.failures < TRIES {
            match self.copy() {
                Ok(spawned) => {
                    self.failures = 0;
                    return Ok(spawned);
                }
                Err(error) => {
                    self.mother = None;
                    self.failures += 1;
                    metrics::counter!("athena_sandbox_zygotes_lost").increment(1);
                    tracing::debug!(%error, "a zygote makes no worker");
                }
            }
            if self.failures == TRIES && self.python.is_none() {
                tracing::warn!("no zygote makes workers here; each is started from nothing");
            }
        }
        if let Some(program) = &self.python {
            return Err(io::Error::other(format!("{program} does not run in the jail")));
        }
        make(&self.settings.arguments, &self.reaper)
    }

    fn copy(&mut self) -> io::Result<Spawned> {
        let mother = match &self.mother {
            Some(mother) => mother,
            None => {
                let mut arguments = self.settings.arguments.clone();
                match &self.python {
                    None => arguments.extend(["--zygote", "yes"].map(str::to_owned)),
                    Some(program) => {
                        let found = interpreter(program);
                        if found.is_err() {
                            // It will not be there at the next order either.
                            self.failures = TRIES;
                        }
                        arguments.extend(["--python".to_owned(), found?]);
                    }
                }
                self.mother.insert(Mother::start(&arguments, &self.reaper, self.settings.grouped)?)
            }
        };
        let (ours, theirs) = UnixStream::pair()?;
        let pid = mother.copy(&theirs)?;
        let child = Child::new(pid, &self.reaper);
        let Some(group) = &mother.group else {
            return Ok(Spawned { socket: ours, process: Box::new(child), layers: Vec::new() });
        };
        let own = group.run().filter(|own| own.add(pid).is_ok());
        let layers = group.layers(own.is_some());
        Ok(Spawned { socket: ours, process: Box::new(child.keeping((own, group.clone()))), layers })
    }
}

/// A zygote. Dropping it ends it; its copies live on.
struct Mother {
    socket: OwnedFd,
    _process: Box<dyn Process>,
    group: Option<Arc<Group>>,
}

impl Mother {
    fn start(arguments: &[String], reaper: &Reaper, grouped: Option<u64>) -> io::Result<Self> {
        let (socket, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        let pid = exec(theirs.as_raw_fd(), arguments)?;
        let child = Child::new(pid, reaper);
        drop(theirs);
        let group = grouped.and_then(Group::new).filter(|group| group.add(pid).is_ok()).map(Arc::new);
        let process = Box::new(child.keeping(group.clone()));
        let mother = Self { socket, _process: process, group };
        match mother.hear(START)? {
            0 => Ok(mother),
            other => Err(io::Error::other(format!("it began with {other}"))),
        }
    }

    /// A new worker that has this socket; its process id.
    fn copy(&self, socket: &UnixStream) -> io::Result<libc::pid_t> {
        let fds = [socket.as_raw_fd()];
        let rights = [ControlMessage::ScmRights(&fds)];
        sendmsg::<()>(self.socket.as_raw_fd(), &[IoSlice::new(&[1])], &rights, MsgFlags::MSG_NOSIGNAL, None)?;
        match self.hear(COPY)? {
            pid if pid > 0 => Ok(pid),
            error => Err(io::Error::from_raw_os_error(-error)),
        }
    }

    fn hear(&self, patience: Duration) -> io::Result<i32> {
        let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
        if poll(&mut [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)], timeout)? == 0 {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let mut number = [0; 4];
        match recv(self.socket.as_raw_fd(), &mut number, MsgFlags::empty())? {
            4 => Ok(i32::from_le_bytes(number)),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// Where a CPython and its library lie, as a worker takes them: what runs under this name may be a link or a script.
fn interpreter(program: &str) -> io::Result<String> {
    const ASK: &str = "import sys, os; assert sys.implementation.name == 'cpython' and sys.version_info >= (3, 9); \
        print(os.path.realpath(sys._base_executable), os.path.realpath(sys.base_prefix), sep=':')";
    let told = std::process::Command::new(program)
        .args(["-I", "-S", "-c", ASK])
        .stdin(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .output()?;
    let told = String::from_utf8(told.stdout).map_err(io::Error::other)?;
    let told = told.trim();
    if told.is_empty() {
        return Err(io::Error::other(format!("{program} is no CPython from version 3.9 on")));
    }
    Ok(told.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn without_an_interpreter_there_is_no_worker() {
        for program in ["/nonexistent/python3", "/bin/true"] {
            let zygote = Zygote::python(Settings::default(), program.into()).unwrap();
            assert!(zygote.spawn().await.unwrap().is_err(), "{program}");
        }
    }

    /// The test binary takes the worker's argument for a filter, runs no test and leaves: a zygote that always dies.
    #[tokio::test]
    async fn without_a_zygote_each_worker_is_made_from_nothing() {
        let zygote = Zygote::new(Settings::default()).unwrap();
        for _ in 0..2 {
            let spawned = zygote.spawn().await.unwrap().unwrap();
            let exit = spawned.process.end(Duration::from_secs(60)).await.unwrap();
            assert_eq!(exit, super::super::Exit::Code(0));
        }
    }
}
