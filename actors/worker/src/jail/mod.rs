//! The jail around the worker, layer by layer.
//!
//! The jail, not the language, is the boundary: whatever an engine lets through meets a kernel that answers no. It is shut in
//! two steps. [`enter`] drops ids and moves into empty namespaces with an empty root, while the process may still do so;
//! [`shut`] comes after the engines are warm, and leaves a process that can compute, read its one socket and end.
//!
//! A kernel or container may refuse an outer layer. That is found by trying, and reported; what is missing is never silent.
//! Below seccomp no code runs unless the server said so in so many words ([`Level::None`]).

mod filter;
mod limits;
mod namespaces;

use crate::process;
use std::os::fd::RawFd;
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
}

impl Layers {
    /// Notes a layer if it holds.
    fn add(&mut self, name: &'static str, outcome: io::Result<()>) {
        if outcome.is_ok() {
            self.names.push(name);
        }
    }

    fn holds(&self, name: &str) -> bool {
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

/// Before anything else, while the process has one thread: no environment, and the time zone is UTC.
pub fn prepare() {
    limits::empty_environment();
}

/// The first step: nothing but the socket is kept, ids are dropped, namespaces entered.
///
/// With [`Level::Full`] this forks: the caller goes on as the first process of its own pid namespace, while its parent, locked
/// down to waiting, passes the exit status on (128 + signal where a signal ended it). The process must have one thread.
pub fn enter(plan: &Plan) -> Layers {
    let mut layers = Layers::default();
    layers.add("descriptors", limits::keep_only_socket());
    layers.add("ids", namespaces::drop_ids());
    if plan.level == Level::Full {
        let entered = namespaces::enter();
        let inside = entered.is_ok();
        layers.add("namespaces", entered);
        if inside {
            match namespaces::become_init() {
                Ok(()) => layers.add("pid-namespace", Ok(())),
                Err(_) => process::exit(process::JAIL_FAILED),
            }
            layers.add("empty-root", namespaces::empty_root());
        }
    }
    layers
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
        layers.add("seccomp", filter::worker().and_then(filter::install));
    }
}

/// Lowers the CPU limit for one job: the kernel's clock behind the engine's, with one second of grain.
pub(crate) fn limit_cpu(from_now: std::time::Duration) {
    let used = process::cpu_time();
    limits::lower_cpu((used + from_now).as_secs() + 1);
}
