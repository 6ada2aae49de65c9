//! Forbidden system calls by name, and what kind of bound each runs against.

use super::exit::Death;
use athena_schemas::layers::run::{Bound, Status};

/// The end of a run whose worker made a forbidden call.
pub fn forbidden(call: u32) -> Death {
    let (bound, name) = known(call);
    let detail = match name {
        Some(name) => format!("{name} (system call {call}) is forbidden"),
        None => format!("system call {call} is forbidden"),
    };
    Death { status: Status::Violated, bound, detail }
}

fn known(call: u32) -> (Bound, Option<&'static str>) {
    CALLS
        .iter()
        .chain(OLD)
        .find(|(number, ..)| u32::try_from(*number).is_ok_and(|number| number == call))
        .map_or((Bound::Process, None), |(_, bound, name)| (*bound, Some(*name)))
}

/// A system call with the bound it runs against and its name.
type Known = (libc::c_long, Bound, &'static str);

/// `File: SYS_open SYS_stat; Network: SYS_socket;` as a list.
macro_rules! table {
    ($($bound:ident: $($name:ident)+;)+) => {
        &[$($((libc::$name, Bound::$bound, stringify!($name).split_at(4).1),)+)+]
    };
}

/// What is not here counts as [`Bound::Process`].
const CALLS: &[Known] = table! {
    File: SYS_openat SYS_openat2 SYS_newfstatat SYS_fstat SYS_statx SYS_faccessat SYS_readlinkat SYS_getdents64 SYS_getcwd
        SYS_unlinkat SYS_mkdirat SYS_renameat2 SYS_linkat SYS_symlinkat SYS_mknodat SYS_fchmodat SYS_fchownat SYS_utimensat
        SYS_truncate SYS_ftruncate SYS_fallocate SYS_chdir SYS_fchdir SYS_chroot SYS_pivot_root SYS_mount SYS_umount2
        SYS_statfs SYS_fstatfs SYS_lseek SYS_read SYS_readv SYS_pread64 SYS_write SYS_writev SYS_pwrite64 SYS_dup SYS_dup3
        SYS_fcntl SYS_ioctl SYS_flock SYS_inotify_init1 SYS_fanotify_init SYS_name_to_handle_at SYS_open_by_handle_at
        SYS_copy_file_range SYS_memfd_create SYS_setxattr SYS_getxattr SYS_io_uring_setup;
    Network: SYS_socket SYS_socketpair SYS_connect SYS_bind SYS_listen SYS_accept SYS_accept4 SYS_sendto SYS_sendmsg
        SYS_sendmmsg SYS_recvfrom SYS_recvmsg SYS_recvmmsg SYS_setsockopt SYS_getsockopt SYS_shutdown SYS_getsockname
        SYS_getpeername SYS_sendfile SYS_splice SYS_sethostname;
    Memory: SYS_mmap SYS_mprotect SYS_pkey_mprotect SYS_mlock SYS_mlockall SYS_shmget SYS_shmat SYS_userfaultfd SYS_mbind
        SYS_process_vm_readv SYS_process_vm_writev;
    Process: SYS_clone SYS_clone3 SYS_execve SYS_execveat SYS_kill SYS_tkill SYS_tgkill SYS_ptrace SYS_pidfd_open
        SYS_pidfd_send_signal SYS_pidfd_getfd SYS_unshare SYS_setns SYS_prctl SYS_seccomp SYS_bpf SYS_perf_event_open
        SYS_setuid SYS_setgid SYS_setresuid SYS_setresgid SYS_capset SYS_keyctl SYS_add_key SYS_request_key SYS_reboot
        SYS_init_module SYS_finit_module SYS_kexec_load SYS_clock_settime SYS_setpriority SYS_sched_setaffinity
        SYS_sched_setscheduler SYS_prlimit64 SYS_msgget SYS_semget SYS_wait4 SYS_waitid SYS_setsid SYS_personality
        SYS_rt_sigaction SYS_rt_sigqueueinfo SYS_timer_create SYS_pipe2;
};

/// Those that younger architectures do without.
#[cfg(target_arch = "x86_64")]
const OLD: &[Known] = table! {
    File: SYS_open SYS_creat SYS_stat SYS_lstat SYS_access SYS_readlink SYS_unlink SYS_mkdir SYS_rmdir SYS_rename SYS_link
        SYS_symlink SYS_mknod SYS_chmod SYS_chown SYS_dup2 SYS_getdents SYS_inotify_init;
    Process: SYS_fork SYS_vfork SYS_pipe SYS_iopl SYS_ioperm SYS_modify_ldt;
};
#[cfg(not(target_arch = "x86_64"))]
const OLD: &[Known] = &[];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_have_names_and_kinds() {
        let read = |call: libc::c_long| forbidden(u32::try_from(call).unwrap());
        assert_eq!(read(libc::SYS_openat).bound, Bound::File);
        assert!(read(libc::SYS_openat).detail.starts_with("openat (system call "));
        assert_eq!(read(libc::SYS_connect).bound, Bound::Network);
        assert_eq!(read(libc::SYS_mprotect).bound, Bound::Memory);
        assert_eq!(read(libc::SYS_clone3).bound, Bound::Process);
        assert_eq!(
            (forbidden(0x4000_0000).bound, forbidden(0x4000_0000).status),
            (Bound::Process, Status::Violated)
        );
    }
}
