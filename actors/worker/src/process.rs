//! This process: what it has used up, and its end.
#![expect(
    unsafe_code,
    reason = "std knows neither a process's use of CPU and memory nor an exit without handlers"
)]

use std::time::Duration;

/// The exit code of a worker whose jail could not be shut as far as its arguments demand.
pub const JAIL_FAILED: i32 = 70;
/// The exit code of a worker that ran out of memory where no engine could say so.
pub const OUT_OF_MEMORY: i32 = 71;
/// The exit code of a worker that made a forbidden system call; its last frame says which.
pub const FORBIDDEN: i32 = 72;
/// The exit code of a worker whose engine aborted: an assertion failed, or a panic within a panic.
pub const ABORTED: i32 = 73;
/// The exit code of a worker whose arguments make no sense.
pub const USAGE: i32 = 64;

/// Ends the process at once: no destructors of a half-broken engine, no buffers, no handlers.
pub(crate) fn exit(code: i32) -> ! {
    // SAFETY: `_exit` has no preconditions and does not return.
    unsafe { libc::_exit(code) }
}

/// CPU time of the processes below this one that have ended.
pub(crate) fn cpu_time_below() -> Duration {
    let usage = usage(libc::RUSAGE_CHILDREN);
    let time = |time: libc::timeval| {
        Duration::from_secs(time.tv_sec.unsigned_abs()) + Duration::from_micros(time.tv_usec.unsigned_abs())
    };
    time(usage.ru_utime) + time(usage.ru_stime)
}

/// CPU time this process has used.
pub(crate) fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec to write to; a failure leaves it zero.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// The largest resident set so far of this process, or of one below it that has ended, bytes.
pub(crate) fn peak_memory() -> u64 {
    let peak = usage(libc::RUSAGE_SELF).ru_maxrss.max(usage(libc::RUSAGE_CHILDREN).ru_maxrss);
    u64::try_from(peak).unwrap_or(0) << 10
}

fn usage(whose: libc::c_int) -> libc::rusage {
    // SAFETY: an all-zero rusage is valid, and `getrusage` only writes to it.
    unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(whose, &raw mut usage);
        usage
    }
}
