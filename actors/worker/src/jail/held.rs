//! An engine of the host's in a process of its own below its worker, and the worker as its keeper.
//!
//! The engine stands in the worker's namespaces and a pid namespace of its own, under a root of nothing but the libraries it was
//! linked with; its program is executed by a descriptor and is not even in there. It has its keeper for input and output. The
//! keeper kills it at a limit: of an engine that reserves terabytes of addresses only the memory it really has can be bounded,
//! and that is looked at from outside. The keeper itself is shut as strictly as any worker.
#![expect(
    unsafe_code,
    reason = "descriptors are placed by number, clocks and programs are reached by system calls"
)]

use super::namespaces::{self, Forked};
use super::{Layers, Plan, filter, limits, wide};
use crate::process;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use std::convert::Infallible;
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

/// Where the program's descriptor lies: beyond those that the engine begins with.
const PROGRAM: RawFd = 10;
/// Of the engine's last words so much is read, bytes.
const WORDS: usize = 16 << 10;

/// What an engine is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Program {
    /// The executable.
    pub(crate) file: PathBuf,
    /// The loader that it names.
    pub(crate) loader: PathBuf,
    /// The libraries that it is linked with.
    pub(crate) libraries: Vec<PathBuf>,
}

/// An engine at work.
#[derive(Debug)]
pub(crate) struct Held {
    pid: Pid,
    /// Its input and output.
    pub(crate) link: UnixStream,
    words: UnixStream,
    memory: File,
    /// The unit of the kernel's account of it, bytes.
    page: u64,
    ended: Option<WaitStatus>,
}

impl Held {
    /// Takes the first step of the jail, and starts the engine in it with all steps taken. This process must have one thread.
    ///
    /// # Errors
    /// What is missing, in words.
    pub(crate) fn start(
        plan: &Plan,
        program: &Program,
        arguments: &[String],
        environment: &[&str],
    ) -> Result<(Self, Layers), String> {
        let failed = |what: &str, error: io::Error| format!("{what}: {error}");
        let mut layers = Layers::default();
        layers.add("descriptors", limits::keep_only_socket());
        // While this process may: the place may be closed to whom it becomes.
        let file = File::open(&program.file).and_then(|file| from(PROGRAM, file));
        let file = file.map_err(|error| failed(&program.file.display().to_string(), error))?;
        let processes = File::open("/proc").map_err(|error| failed("/proc", error))?;
        layers.add("ids", namespaces::drop_ids());
        namespaces::enter().map_err(|error| failed("namespaces are refused", error))?;
        layers.add("namespaces", Ok(()));
        namespaces::library_root(&program.loader, &program.libraries)
            .map_err(|error| failed("a root of its own is refused", error))?;
        layers.add("library-root", Ok(()));
        let text = |text: &str| CString::new(text).map_err(io::Error::other);
        let texts = |texts: &[&str]| texts.iter().map(|one| text(one)).collect::<io::Result<Vec<CString>>>();
        let ready = || {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            let filters = wide::filters(PROGRAM)?;
            Ok::<_, io::Error>((pair()?, pair()?, texts(&arguments)?, texts(environment)?, filters))
        };
        let ((link, theirs), (words, spoken), arguments, environment, filters) =
            ready().map_err(|error| failed("no room for an engine", error))?;
        let become_engine = || -> io::Result<Infallible> {
            for (from, to) in [(&theirs, 0), (&theirs, 1), (&spoken, 2)] {
                // SAFETY: both descriptors are open or free; what they belonged to is not used again.
                limits::check(unsafe { libc::dup2(from.as_raw_fd(), to) })?;
            }
            let program = PROGRAM as libc::c_uint;
            limits::close_range(3, program - 1)?;
            limits::close_range(program + 1, libc::c_uint::MAX)?;
            // A signal to "my group" must not reach whoever keeps it.
            nix::unistd::setsid()?;
            limits::drop_capabilities()?;
            limits::restrict_engine(plan.cpu_s)?;
            limits::no_new_privileges()?;
            limits::die_with_parent()?;
            filters.iter().try_for_each(filter::apply)?;
            let flags = nix::fcntl::AtFlags::AT_EMPTY_PATH;
            Ok(nix::unistd::execveat(&file, c"", &arguments, &environment, flags)?)
        };
        let pid = match namespaces::fork_init() {
            Ok(Forked::Child) => match become_engine() {
                Ok(never) => match never {},
                Err(_) => process::exit(process::JAIL_FAILED),
            },
            Ok(Forked::Parent(pid)) => pid,
            Err(error) => return Err(failed("a pid namespace is refused", error)),
        };
        layers.add("pid-namespace", Ok(()));
        let memory = nix::fcntl::openat(
            &processes,
            format!("{pid}/statm").as_str(),
            nix::fcntl::OFlag::O_RDONLY | nix::fcntl::OFlag::O_CLOEXEC,
            nix::sys::stat::Mode::empty(),
        );
        let memory = memory.map_err(io::Error::from).and_then(|file| from(super::SOCKET + 1, file));
        let memory = memory.map_err(|error| failed("its memory cannot be watched", error))?.into();
        let held = Self { pid: Pid::from_raw(pid), link, words, memory, page: page(), ended: None };
        held.resident().ok_or("its memory cannot be watched")?;
        held.words.set_nonblocking(true).map_err(|error| failed("its words", error))?;
        Ok((held, layers))
    }

    /// Shuts the jail round the keeper: the second step, with a filter that leaves it this engine.
    ///
    /// # Errors
    /// The layer that does not hold.
    pub(crate) fn shut(&self, plan: &Plan, layers: &mut Layers) -> Result<(), String> {
        let reads = [self.words.as_raw_fd(), self.memory.as_raw_fd()];
        let filter = filter::keeper(std::process::id(), self.pid.as_raw(), self.link.as_raw_fd(), reads);
        layers.filter = Some(filter.map_err(|error| format!("no filter for this machine: {error}"))?);
        super::shut(plan, layers);
        layers.add("memory-watch", Ok(()));
        let wanted = ["no-capabilities", "no-new-privileges", "parent-death", "seccomp"];
        match wanted.iter().find(|layer| !layers.holds(layer)) {
            Some(missing) => Err(format!("{missing} does not hold here")),
            None => Ok(()),
        }
    }

    /// The memory it really has, bytes.
    pub(crate) fn resident(&self) -> Option<u64> {
        let mut text = [0; 128];
        let length = self.memory.read_at(&mut text, 0).ok()?;
        let text = std::str::from_utf8(text.get(..length)?).ok()?;
        let pages: u64 = text.split(' ').nth(1)?.parse().ok()?;
        Some(pages.saturating_mul(self.page))
    }

    /// The CPU time it has used.
    pub(crate) fn cpu_time(&self) -> Duration {
        // The kernel's number for the clock of a process (clock_getcpuclockid(3)).
        let clock = !self.pid.as_raw() << 3 | 2;
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `time` is a valid timespec to write to; a failure leaves it zero.
        unsafe { libc::clock_gettime(clock, &raw mut time) };
        Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
    }

    /// Lowers its CPU limit for one job, with one second of grain: the kernel's clock behind the keeper's.
    pub(crate) fn limit_cpu(&self, from_now: Duration) {
        let _ = limits::lower_cpu_of(self.pid.as_raw(), (self.cpu_time() + from_now).as_secs() + 1);
    }

    /// Kills it where it is still there, and says how it ended.
    pub(crate) fn end(&mut self) -> WaitStatus {
        if let Some(status) = self.ended {
            return status;
        }
        let _ = kill(self.pid, Signal::SIGKILL);
        self.ended()
    }

    /// Waits for its end. It must have closed its output.
    pub(crate) fn ended(&mut self) -> WaitStatus {
        if let Some(status) = self.ended {
            return status;
        }
        let status = loop {
            match waitpid(self.pid, None) {
                Ok(status) => break status,
                Err(Errno::EINTR) => {}
                Err(_) => break WaitStatus::StillAlive,
            }
        };
        self.ended = Some(status);
        status
    }

    /// What it said on standard error.
    pub(crate) fn last_words(&mut self) -> String {
        let mut words = vec![0; WORDS];
        let length = self.words.read(&mut words).unwrap_or(0);
        words.truncate(length);
        String::from_utf8_lossy(&words).into_owned()
    }
}

/// The same thing at a descriptor from this number on; the first few are the engine's, and the worker's own.
fn from(least: RawFd, fd: impl Into<OwnedFd>) -> io::Result<OwnedFd> {
    let fd = fd.into();
    // SAFETY: plain fcntl; the new descriptor is owned here.
    unsafe {
        match libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, least) {
            -1 => Err(io::Error::last_os_error()),
            fd => Ok(OwnedFd::from_raw_fd(fd)),
        }
    }
}

/// Two ends of a socket: the keeper's and the engine's.
fn pair() -> io::Result<(UnixStream, OwnedFd)> {
    let (ours, theirs) = UnixStream::pair()?;
    Ok((from(super::SOCKET + 1, ours)?.into(), from(PROGRAM + 1, theirs)?))
}

fn page() -> u64 {
    // SAFETY: plain sysconf.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}
