//! What a process can give up about itself: descriptors, environment, capabilities, resources.
#![expect(unsafe_code, reason = "process attributes are set by system calls that std does not wrap")]

use super::SOCKET;
use std::io;

/// Turns a system call's -1 into its error.
pub(super) fn check(result: impl Into<i64>) -> io::Result<()> {
    if result.into() == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Closes everything but the socket, standard streams included.
pub(super) fn keep_only_socket() -> io::Result<()> {
    let below = SOCKET as libc::c_uint - 1;
    close_range(0, below).and_then(|()| close_range(SOCKET as libc::c_uint + 1, libc::c_uint::MAX))
}

/// Closes descriptors, those that objects of ours own included: for a process that is about to become another program.
pub(super) fn close_range(first: libc::c_uint, last: libc::c_uint) -> io::Result<()> {
    // SAFETY: closing descriptors; no object of ours uses one of these again.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) })
}

/// No variable of the server's reaches an engine; the time zone is UTC, spelt so that no file is read for it.
pub(super) fn empty_environment() {
    // SAFETY: the process has one thread.
    unsafe {
        libc::clearenv();
        libc::setenv(c"TZ".as_ptr(), c"UTC0".as_ptr(), 1);
        tzset();
    }
}

unsafe extern "C" {
    fn tzset();
}

/// Capabilities survive the next program: they are made inheritable and ambient.
pub(super) fn keep_capabilities() -> io::Result<()> {
    const SYS_ADMIN: u32 = 21;
    const SYS_ADMIN_BIT: u32 = 1 << SYS_ADMIN;
    let header = Header { version: VERSION_3, pid: 0 };
    let sets = [SYS_ADMIN_BIT, SYS_ADMIN_BIT, SYS_ADMIN_BIT, 0, 0, 0];
    // SAFETY: version 3 takes a header and two records of three words each, which these are; the second is a plain prctl.
    unsafe {
        check(libc::syscall(libc::SYS_capset, &raw const header, sets.as_ptr()))?;
        check(libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, SYS_ADMIN, 0, 0))
    }
}

/// No randomised addresses from the next program on.
pub(super) fn fixed_addresses() -> io::Result<()> {
    // SAFETY: plain personality.
    check(unsafe { libc::personality(libc::ADDR_NO_RANDOMIZE as libc::c_ulong) })
}

const VERSION_3: u32 = 0x2008_0522;

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

/// Empties every set of capabilities, the bounding set included, and makes sure.
pub(super) fn drop_capabilities() -> io::Result<()> {
    for capability in 0..=63_u64 {
        // SAFETY: plain prctl; it fails beyond the kernel's last capability, or where there is nothing to drop with.
        if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) } == -1 {
            break;
        }
    }
    // SAFETY: plain prctl.
    unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) };
    let header = Header { version: VERSION_3, pid: 0 };
    let mut sets = [0_u32; 6];
    // SAFETY: version 3 takes a header and two records of three words each, which these are.
    unsafe {
        check(libc::syscall(libc::SYS_capset, &raw const header, sets.as_ptr()))?;
        check(libc::syscall(libc::SYS_capget, &raw const header, sets.as_mut_ptr()))?;
    }
    if sets == [0; 6] { Ok(()) } else { Err(io::Error::from(io::ErrorKind::PermissionDenied)) }
}

/// Memory, files, processes, CPU and core dumps.
pub(super) fn restrict(address_space: u64, cpu_s: u64) -> io::Result<()> {
    // Parsers recurse; the kernel leaves at least 128 MiB for the main stack to grow into.
    const STACK: u64 = 64 << 20;
    set(libc::RLIMIT_AS, address_space)?;
    set(libc::RLIMIT_STACK, STACK)?;
    set(libc::RLIMIT_CPU, cpu_s)?;
    set(libc::RLIMIT_NOFILE, SOCKET as u64 + 1)?;
    set(libc::RLIMIT_FSIZE, 0)?;
    set(libc::RLIMIT_CORE, 0)?;
    set(libc::RLIMIT_MEMLOCK, 0)?;
    set(libc::RLIMIT_MSGQUEUE, 0)?;
    set(libc::RLIMIT_NPROC, 0)
}

/// What can be bounded of an engine that reserves more address space than there is memory, and that has threads.
pub(super) fn restrict_engine(cpu_s: u64) -> io::Result<()> {
    const FILES: u64 = 64;
    set(libc::RLIMIT_CPU, cpu_s)?;
    set(libc::RLIMIT_NOFILE, FILES)?;
    set(libc::RLIMIT_FSIZE, 0)?;
    set(libc::RLIMIT_CORE, 0)?;
    set(libc::RLIMIT_MEMLOCK, 0)?;
    set(libc::RLIMIT_MSGQUEUE, 0)
}

/// Lowers the CPU limit of another process of this one's.
pub(super) fn lower_cpu_of(pid: libc::pid_t, seconds: u64) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: seconds, rlim_max: seconds };
    // SAFETY: `limit` is a valid rlimit, and the old one is not asked for.
    check(unsafe { libc::prlimit(pid, libc::RLIMIT_CPU, &raw const limit, std::ptr::null_mut()) })
}

/// Lowers the CPU limit; it cannot be raised again.
pub(super) fn lower_cpu(seconds: u64) {
    // A failure leaves the higher limit of the start, and the server's clock.
    let _ = set(libc::RLIMIT_CPU, seconds);
}

#[cfg(target_env = "gnu")]
type Resource = libc::__rlimit_resource_t;
#[cfg(not(target_env = "gnu"))]
type Resource = libc::c_int;

fn set(resource: Resource, value: u64) -> io::Result<()> {
    let mut now = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `now` is a valid rlimit to write to.
    check(unsafe { libc::getrlimit(resource, &raw mut now) })?;
    let value = value.min(now.rlim_max);
    let limit = libc::rlimit { rlim_cur: value, rlim_max: value };
    // SAFETY: `limit` is a valid rlimit.
    check(unsafe { libc::setrlimit(resource, &raw const limit) })
}

/// No program run from here gains anything; also what allows an unprivileged filter.
pub(super) fn no_new_privileges() -> io::Result<()> {
    // SAFETY: plain prctl.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })
}

/// The kernel kills this process when the *thread* that forked it ends. The closed socket is the second way to notice.
pub(super) fn die_with_parent() -> io::Result<()> {
    // SAFETY: plain prctl.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) })
}

/// No core dump, no ptrace, no reading of this process through /proc by others of its id.
pub(super) fn not_dumpable() -> io::Result<()> {
    // SAFETY: plain prctl.
    check(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) })
}

/// Makes /proc/self writable again for its own user after an id change, until [`not_dumpable`].
pub(super) fn dumpable() -> io::Result<()> {
    // SAFETY: plain prctl.
    check(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0) })
}
