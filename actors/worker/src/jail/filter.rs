//! System call filters: an allow-list, and the end for everything else.
//!
//! The list holds what computing, one socket and ending need. seccompiler checks the architecture first; numbers of the x32 ABI
//! match nothing and so kill as well.

use super::SOCKET;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Length, SeccompCmpOp as Is, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch,
};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::RawFd;

/// The id of the first process of a pid namespace.
pub(super) const INIT: u32 = 1;

pub(super) type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Compiles and installs a list for this process; what is not on it kills.
pub(super) fn install(rules: Rules) -> io::Result<()> {
    apply(&compile(rules, SeccompAction::KillProcess)?)
}

/// Compiles what a worker with this process id may do. What is not on the list ends in the handler of [`ends`](super::ends),
/// which says what it was. The call is not made, the handler cannot be replaced, and a blocked or unset handler is death as
/// well.
pub(super) fn telling(own: u32) -> io::Result<BpfProgram> {
    compile(worker(own)?, SeccompAction::Trap)
}

/// Installs a list for this process, for good.
pub(super) fn apply(program: &BpfProgram) -> io::Result<()> {
    seccompiler::apply_filter(program).map_err(io::Error::other)
}

/// A list of what may be done.
fn compile(rules: Rules, otherwise: SeccompAction) -> io::Result<BpfProgram> {
    compiled(rules, otherwise, SeccompAction::Allow)
}

/// A list of what is answered this way instead of being done; the rest is another filter's affair.
pub(super) fn answering(rules: Rules, answer: SeccompAction) -> io::Result<BpfProgram> {
    compiled(rules, SeccompAction::Allow, answer)
}

fn compiled(rules: Rules, otherwise: SeccompAction, listed: SeccompAction) -> io::Result<BpfProgram> {
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(io::Error::other)?;
    let filter = SeccompFilter::new(rules, otherwise, listed, arch);
    filter.map_err(io::Error::other)?.try_into().map_err(io::Error::other)
}

/// What a worker may do that keeps an engine in a process of its own: what any worker may, and with that process and the
/// descriptors that lead to it what its keeping needs.
pub(super) fn keeper(
    own: u32,
    engine: libc::pid_t,
    link: RawFd,
    reads: [RawFd; 2],
) -> io::Result<BpfProgram> {
    let mut rules = worker(own)?;
    let fd = |fd: RawFd| dword(0, Is::Eq, fd as u64);
    for call in [libc::SYS_read, libc::SYS_write, libc::SYS_recvfrom, libc::SYS_sendto] {
        rules.entry(call).or_default().push(rule([fd(link)])?);
    }
    for read in reads {
        for call in [libc::SYS_read, libc::SYS_recvfrom, libc::SYS_pread64] {
            rules.entry(call).or_default().push(rule([fd(read)])?);
        }
    }
    for call in [libc::SYS_kill, libc::SYS_wait4, libc::SYS_prlimit64] {
        rules.entry(call).or_default().push(rule([dword(0, Is::Eq, engine as u64)])?);
    }
    compile(rules, SeccompAction::Trap)
}

/// What a worker with this process id may do.
fn worker(own: u32) -> io::Result<Rules> {
    let mut rules = Rules::new();
    for call in COMPUTING {
        rules.insert(*call, Vec::new());
    }
    // The socket, and standard error: closed, so that an engine's last words end in EBADF instead of hiding what it said.
    let stream = vec![rule([dword(0, Is::Eq, SOCKET as u64)])?, rule([dword(0, Is::Eq, 2)])?];
    for call in [
        libc::SYS_read,
        libc::SYS_readv,
        libc::SYS_write,
        libc::SYS_writev,
        libc::SYS_recvfrom,
        libc::SYS_sendto,
    ] {
        rules.insert(call, stream.clone());
    }
    // Memory, never executable and never of a file.
    let inert = || dword(2, Is::MaskedEq(libc::PROT_EXEC as u64), 0);
    rules.insert(libc::SYS_mmap, vec![rule([inert(), dword(4, Is::Eq, u64::from(u32::MAX))])?]);
    rules.insert(libc::SYS_mprotect, vec![rule([inert()])?]);
    // Limits of this process can be lowered; it has no right to raise them.
    rules.insert(libc::SYS_prlimit64, vec![rule([dword(0, Is::Eq, 0)])?]);
    // The handler of forbidden calls stays.
    rules.insert(libc::SYS_rt_sigaction, vec![rule([dword(0, Is::Ne, libc::SIGSYS as u64)])?]);
    // Signals to itself: how `abort` ends.
    rules.insert(libc::SYS_tgkill, vec![rule([dword(0, Is::Eq, u64::from(own))])?]);
    Ok(rules)
}

/// The filters of an interpreter: what it may do, the rest kills; files, which answer "permission denied"; and the network,
/// which ends in a handler that says so. The strictest answer holds. `init`: it is process 1 of its own pid namespace.
pub(super) fn interpreter(init: bool) -> io::Result<Vec<String>> {
    let mut may = worker(INIT)?;
    let mut not = Rules::new();
    for call in FILES {
        may.insert(*call, Vec::new());
        not.insert(*call, Vec::new());
    }
    for call in ITSELF {
        may.insert(*call, Vec::new());
    }
    let mut network = Rules::new();
    for call in NETWORK {
        may.insert(*call, Vec::new());
        network.insert(*call, Vec::new());
    }
    may.insert(libc::SYS_rt_sigaction, Vec::new());
    if !init {
        // Its own id is not known yet, and 1 is somebody else.
        may.remove(&libc::SYS_tgkill);
    }
    let denied = SeccompAction::Errno(libc::EACCES as u32);
    let programs = [
        answering(not, denied)?,
        answering(network, SeccompAction::Trap)?,
        // The last one forbids to install another.
        compile(may, SeccompAction::KillProcess)?,
    ];
    Ok(programs.iter().map(hexadecimal).collect())
}

/// A program as the kernel takes it.
fn hexadecimal(program: &BpfProgram) -> String {
    program.iter().fold(String::new(), |text, one| {
        let (code, k) = (one.code.to_ne_bytes(), one.k.to_ne_bytes());
        let bytes = code.into_iter().chain([one.jt, one.jf]).chain(k);
        bytes.fold(text, |text, byte| format!("{text}{byte:02x}"))
    })
}

/// What a library asks of files before it does without.
const FILES: &[i64] = &[
    libc::SYS_openat,
    libc::SYS_newfstatat,
    libc::SYS_fstat,
    libc::SYS_statx,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_readlinkat,
    libc::SYS_getdents64,
    libc::SYS_getcwd,
    libc::SYS_chdir,
    libc::SYS_unlinkat,
    libc::SYS_mkdirat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_linkat,
    libc::SYS_symlinkat,
    libc::SYS_fchmodat,
    libc::SYS_truncate,
    libc::SYS_statfs,
    libc::SYS_lseek,
    libc::SYS_uname,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_open,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_stat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lstat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_access,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_readlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_unlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mkdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rmdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rename,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_link,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_symlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chmod,
];

/// The ways out of the machine.
const NETWORK: &[i64] = &[
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
    libc::SYS_recvmsg,
    libc::SYS_recvmmsg,
    libc::SYS_setsockopt,
    libc::SYS_getsockopt,
];

/// How an interpreter stops itself at its limits, and asks who it is.
const ITSELF: &[i64] = &[
    libc::SYS_setitimer,
    libc::SYS_getppid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
];

/// What the process outside the pid namespace may do: wait, and end.
pub(super) fn waiter() -> Rules {
    let calls = [
        libc::SYS_wait4,
        libc::SYS_exit,
        libc::SYS_exit_group,
        libc::SYS_rt_sigreturn,
        libc::SYS_restart_syscall,
    ];
    calls.into_iter().map(|call| (call, Vec::new())).collect()
}

const COMPUTING: &[i64] = &[
    libc::SYS_brk,
    libc::SYS_clock_gettime,
    libc::SYS_close,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_gettid,
    libc::SYS_gettimeofday,
    libc::SYS_madvise,
    libc::SYS_mremap,
    libc::SYS_munmap,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_yield,
    libc::SYS_sigaltstack,
];

fn dword(argument: u8, is: Is, value: u64) -> io::Result<SeccompCondition> {
    SeccompCondition::new(argument, Length::Dword, is, value).map_err(io::Error::other)
}

/// A rule of conditions that must all hold.
fn rule<const N: usize>(conditions: [io::Result<SeccompCondition>; N]) -> io::Result<SeccompRule> {
    let conditions = conditions.into_iter().collect::<io::Result<Vec<_>>>()?;
    SeccompRule::new(conditions).map_err(io::Error::other)
}
