//! The jail around the worker, layer by layer.
//!
//! The jail, not the language, is the boundary: whatever an engine lets through meets a kernel that answers no. It is shut in
//! two steps. [`enter`] drops ids and moves into empty namespaces with an empty root, while the process may still do so;
//! [`shut`] comes after the engines are warm, and leaves a process that can compute, read its one socket and end. Between the
//! two a process may [`fork`] any number of workers, which saves each of them the first step.
//!
//! A kernel or container may refuse an outer layer. That is found by trying, and reported; what is missing is never silent.
//! Below seccomp no code runs unless the server said so in so many words ([`Level::None`]).

mod ends;
mod filter;
mod held;
mod limits;
mod namespaces;
mod wide;

use crate::process;
pub(crate) use held::{Held, Program};
use namespaces::Forked;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::{fmt, io};

/// The one descriptor a worker keeps: its socket.
pub const SOCKET: RawFd = 3;

/// How much of the jail is asked for, or holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Resource limits only. Nothing keeps hostile code in.
    None,
    /// System calls are filtered; the process still shares namespaces with the server.
    Seccomp,
    /// Namespaces with an empty root, and filtered system calls.
    Full,
}

impl Level {
    /// Its name in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Seccomp => "seccomp",
            Self::Full => "full",
        }
    }

    /// The level of this name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::None, Self::Seccomp, Self::Full].into_iter().find(|level| level.as_str() == name)
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a worker may be, told by its arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// The highest level to try for.
    pub level: Level,
    /// The lowest level to run code at.
    pub least: Level,
    /// Address space, bytes. The engines' own heap limits lie far below.
    pub address_space: u64,
    /// CPU time before the kernel ends the process, seconds; a job's own limit is lower.
    pub cpu_s: u64,
}

impl Default for Plan {
    fn default() -> Self {
        Self { level: Level::Full, least: Level::Seccomp, address_space: 1 << 30, cpu_s: 600 }
    }
}

/// The layers that hold, outermost first.
#[derive(Debug, Clone, Default)]
pub struct Layers {
    names: Vec<&'static str>,
    /// The filter to come, where it is made before the process that it is for.
    filter: Option<seccompiler::BpfProgram>,
}

impl Layers {
    /// Notes a layer if it holds.
    fn add(&mut self, name: &'static str, outcome: io::Result<()>) {
        if outcome.is_ok() {
            self.names.push(name);
        }
    }

    /// Whether a layer holds.
    pub(crate) fn holds(&self, name: &str) -> bool {
        self.names.contains(&name)
    }

    /// The level these layers amount to.
    pub fn level(&self) -> Level {
        match (self.holds("seccomp"), self.holds("namespaces") && self.holds("empty-root")) {
            (true, true) => Level::Full,
            (true, false) => Level::Seccomp,
            (false, _) => Level::None,
        }
    }

    /// Their names.
    pub fn names(&self) -> Vec<String> {
        self.names.iter().map(|name| (*name).to_owned()).collect()
    }
}

/// Before anything else, while the process has one thread: no environment, the time zone is UTC, and signals that tell why a
/// worker ends are told from one another.
pub fn prepare() {
    limits::empty_environment();
    ends::watch();
}

/// The first step of a process that becomes a worker itself: [`enter_shared`], and a pid namespace of its own.
///
/// With [`Level::Full`] this forks: the caller goes on as the first process of its own pid namespace, while its parent, locked
/// down to waiting, passes the exit status on (128 + signal where a signal ended it). The process must have one thread.
pub fn enter(plan: &Plan) -> Layers {
    let mut layers = enter_shared(plan);
    if layers.holds("namespaces") {
        match namespaces::become_init() {
            Ok(()) => layers.add("pid-namespace", Ok(())),
            Err(_) => process::exit(process::JAIL_FAILED),
        }
    }
    layers
}

/// The first step: nothing but the socket is kept, ids are dropped, namespaces entered, the root emptied.
pub fn enter_shared(plan: &Plan) -> Layers {
    let mut layers = Layers::default();
    layers.add("descriptors", limits::keep_only_socket());
    layers.add("ids", namespaces::drop_ids());
    if plan.level == Level::Full {
        let entered = namespaces::enter();
        let inside = entered.is_ok();
        layers.add("namespaces", entered);
        if inside {
            layers.add("empty-root", namespaces::empty_root());
        }
    }
    layers
}

/// The first step of a process that becomes an interpreter: as [`enter_shared`], but the root stays until its library is
/// loaded, and so does the right to empty it.
///
/// # Errors
/// The kernel's, where that right cannot be kept.
pub(crate) fn enter_interpreter(plan: &Plan) -> io::Result<Layers> {
    let mut layers = Layers::default();
    layers.add("descriptors", limits::keep_only_socket());
    layers.add("ids", namespaces::drop_ids());
    if plan.level == Level::Full {
        let entered = namespaces::enter();
        let inside = entered.is_ok();
        layers.add("namespaces", entered);
        if inside {
            limits::keep_capabilities()?;
        }
    }
    limits::die_with_parent()?;
    Ok(layers)
}

/// Where a folder can be read by anybody, if its own place cannot: read-only, in a mount namespace of this process alone.
/// None where nothing needed to be done or could be.
pub(crate) fn shown(folder: &Path) -> Option<PathBuf> {
    namespaces::show(folder).ok().flatten()
}

/// The filters of an interpreter, in order of installation, each as the kernel takes it, in hexadecimal.
///
/// # Errors
/// Where the architecture has no filters.
pub(crate) fn interpreter_filters(init: bool) -> io::Result<Vec<String>> {
    filter::interpreter(init)
}

/// No randomised addresses from the next program on.
///
/// # Errors
/// The kernel's.
pub(crate) fn fixed_addresses() -> io::Result<()> {
    limits::fixed_addresses()
}

/// The numbers of the calls that no library wraps, and of the one that stands for the network.
pub(crate) fn call_numbers() -> serde_json::Value {
    serde_json::json!({
        "pivot_root": libc::SYS_pivot_root,
        "clone": libc::SYS_clone,
        "capset": libc::SYS_capset,
        "socket": libc::SYS_socket,
    })
}

/// What workers to come can share, once: their filter, where they all have the same process id.
pub(crate) fn make_ready(layers: &mut Layers) {
    if layers.holds("namespaces") {
        layers.filter = filter::telling(filter::INIT).ok();
    }
}

/// Makes a worker out of a process that has taken the first step; the copy gets a pid namespace of its own.
///
/// Workers share the other namespaces: there is nothing in them, and the filter leaves no call that could reach another
/// process through them.
///
/// # Errors
/// The kernel's, such as too many processes.
pub fn fork(layers: &mut Layers) -> io::Result<Option<libc::pid_t>> {
    let init = layers.holds("namespaces");
    match namespaces::fork_sibling(init)? {
        Forked::Parent(pid) => Ok(Some(pid)),
        Forked::Child => {
            if init {
                layers.add("pid-namespace", Ok(()));
            }
            Ok(None)
        }
    }
}

/// Ties this process to the thread that started it; whether that could be done.
pub(crate) fn die_with_parent() -> bool {
    limits::die_with_parent().is_ok()
}

/// The second step: capabilities, resource limits, no way to gain privileges, death with the parent, and the filter.
pub fn shut(plan: &Plan, layers: &mut Layers) {
    layers.add("no-capabilities", limits::drop_capabilities());
    layers.add("rlimits", limits::restrict(plan.address_space, plan.cpu_s));
    layers.add("no-new-privileges", limits::no_new_privileges());
    // After the last change of credentials, which would clear it.
    layers.add("parent-death", limits::die_with_parent());
    layers.add("not-dumpable", limits::not_dumpable());
    if plan.level >= Level::Seccomp {
        let program = layers.filter.take().map_or_else(|| filter::telling(std::process::id()), Ok);
        layers.add("seccomp", program.and_then(|program| filter::apply(&program)));
    }
}

/// Lowers the CPU limit for one job: the kernel's clock behind the engine's, with one second of grain.
pub(crate) fn limit_cpu(from_now: std::time::Duration) {
    let used = process::cpu_time();
    limits::lower_cpu((used + from_now).as_secs() + 1);
}
