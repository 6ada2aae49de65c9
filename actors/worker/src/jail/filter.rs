//! System call filters: an allow-list, and death for everything else.
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

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Compiles and installs a list for this process.
pub(super) fn install(rules: Rules) -> io::Result<()> {
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(io::Error::other)?;
    let filter = SeccompFilter::new(rules, SeccompAction::KillProcess, SeccompAction::Allow, arch);
    let program: BpfProgram = filter.map_err(io::Error::other)?.try_into().map_err(io::Error::other)?;
    seccompiler::apply_filter(&program).map_err(io::Error::other)
}

/// What a worker may do.
pub(super) fn worker() -> io::Result<Rules> {
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
    // Signals to itself: how `abort` ends.
    let own = u64::from(std::process::id());
    rules.insert(libc::SYS_tgkill, vec![rule([dword(0, Is::Eq, own)])?]);
    Ok(rules)
}

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
    libc::SYS_rt_sigaction,
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
