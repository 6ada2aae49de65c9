//! A worker on its own, as the tests run it; the athena binary enters [`athena_worker::main`] the same way. With `__attack`
//! as its first argument it shuts the same jail round one raw system call instead, to see what the kernel makes of it.
#![expect(unsafe_code, reason = "attacks are raw system calls")]

use athena_worker::jail::{self, Level, Plan};

fn main() {
    let mut args = std::env::args().skip(1);
    match args.next().as_deref() {
        Some("__attack") => {
            let level = args.next().and_then(|name| Level::parse(&name)).unwrap_or(Level::Full);
            attack(level, &args.next().unwrap_or_default())
        }
        _ => athena_worker::main(std::env::args().skip(1)),
    }
}

/// Shuts the jail, says `R` and the level, makes the call, says `S` if it still can.
fn attack(level: Level, name: &str) {
    let plan = Plan { level, ..Plan::default() };
    jail::prepare();
    let mut layers = jail::enter(&plan);
    jail::shut(&plan, &mut layers);
    say(if layers.level() == Level::Full { b"RF" } else { b"RS" });
    let allowed = act(name);
    say(if allowed { b"S1" } else { b"S0" });
    // SAFETY: ends the process.
    unsafe { libc::_exit(0) }
}

fn say(text: &[u8]) {
    // SAFETY: the slice is valid for its length.
    unsafe { libc::write(jail::SOCKET, text.as_ptr().cast(), text.len()) };
}

/// Makes one call with a parameter (`open:/etc/passwd`); whether it succeeded.
fn probe(what: &str, parameter: &str) -> bool {
    let mut numbers = parameter.split(',').map(|part| part.parse::<i32>().unwrap_or(-1));
    let mut number = || numbers.next().unwrap_or(-1);
    let path = std::ffi::CString::new(parameter).unwrap_or_default();
    // SAFETY: the path outlives the call, other pointers are null; whatever the kernel does to this process is the point.
    let result = unsafe {
        match what {
            "open" => libc::c_long::from(libc::open(path.as_ptr(), libc::O_RDONLY)),
            "socket" => libc::socket(number(), number(), 0).into(),
            "syscall" => libc::syscall(number().into(), 0, 0, 0, 0, 0, 0),
            "write" => libc::write(number(), std::ptr::null(), 0) as libc::c_long,
            _ => -1,
        }
    };
    result != -1
}

/// Makes one call; whether it succeeded.
fn act(name: &str) -> bool {
    if let Some((what, parameter)) = name.split_once(':') {
        return probe(what, parameter);
    }
    let path = c"/etc/passwd".as_ptr();
    let null = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: every pointer is null or a constant string; whatever the kernel does to this process is the point.
    let result: libc::c_long = unsafe {
        match name {
            "none" => 0,
            // Closing what is not open fails: -1 where nothing but the socket is.
            "descriptors" => {
                let open = (0..4096).filter(|fd| *fd != jail::SOCKET && libc::close(*fd) == 0).count();
                if open == 0 { -1 } else { 0 }
            }
            "open" => libc::open(path, libc::O_RDONLY).into(),
            "openat" => libc::openat(libc::AT_FDCWD, path, libc::O_RDONLY).into(),
            "openat2" => libc::syscall(libc::SYS_openat2, libc::AT_FDCWD, path, null, 0),
            "stat" => libc::syscall(libc::SYS_newfstatat, libc::AT_FDCWD, path, null, 0),
            "unlink" => libc::unlink(path).into(),
            "mkdir" => libc::mkdir(c"/tmp/x".as_ptr(), 0o777).into(),
            "chdir" => libc::chdir(c"/".as_ptr()).into(),
            "mount" => libc::mount(path, path, path, 0, null).into(),
            "pivot_root" => libc::syscall(libc::SYS_pivot_root, path, path),
            "chroot" => libc::chroot(path).into(),
            "socket" => libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0).into(),
            "socket_unix" => libc::socket(libc::AF_UNIX, libc::SOCK_STREAM, 0).into(),
            "connect" => libc::connect(3, null.cast(), 0).into(),
            "bind" => libc::bind(3, null.cast(), 0).into(),
            "sendmsg" => libc::sendmsg(3, null.cast(), 0) as libc::c_long,
            "recvmsg" => libc::recvmsg(3, null.cast(), 0) as libc::c_long,
            "read_other" => libc::read(0, null, 0) as libc::c_long,
            "write_other" => libc::write(7, null, 0) as libc::c_long,
            "dup" => libc::dup(3).into(),
            "fcntl" => libc::fcntl(3, libc::F_GETFD).into(),
            "ioctl" => libc::ioctl(3, libc::TIOCSTI, null).into(),
            "pipe" => libc::pipe([0; 2].as_mut_ptr()).into(),
            "execve" => {
                libc::execve(c"/bin/sh".as_ptr(), null.cast_const().cast(), null.cast_const().cast()).into()
            }
            "fork" => libc::fork().into(),
            "vfork_clone" => {
                libc::syscall(libc::SYS_clone, libc::CLONE_VM | libc::SIGCHLD, null, null, null, 0)
            }
            "clone3" => libc::syscall(libc::SYS_clone3, null, 0),
            "unshare" => libc::unshare(libc::CLONE_NEWUSER).into(),
            "setns" => libc::setns(3, 0).into(),
            "setuid" => libc::setuid(0).into(),
            "setresuid" => libc::setresuid(0, 0, 0).into(),
            "capset" => libc::syscall(libc::SYS_capset, null, null),
            "prctl" => libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0).into(),
            "seccomp" => libc::syscall(libc::SYS_seccomp, 0, 0, null),
            "ptrace" => libc::ptrace(libc::PTRACE_TRACEME, 0, null, null),
            "process_vm_readv" => libc::syscall(libc::SYS_process_vm_readv, 1, null, 0, null, 0, 0),
            "pidfd_open" => libc::syscall(libc::SYS_pidfd_open, 1, 0),
            "kill_parent" => libc::kill(libc::getppid(), libc::SIGKILL).into(),
            "kill_all" => libc::kill(-1, libc::SIGKILL).into(),
            "tgkill_other" => libc::syscall(libc::SYS_tgkill, 2, 2, libc::SIGKILL),
            "mmap_exec" => mapped(libc::PROT_READ | libc::PROT_EXEC, 4096),
            "mprotect_exec" => {
                let page =
                    libc::mmap(null, 4096, libc::PROT_READ, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0);
                libc::mprotect(page, 4096, libc::PROT_READ | libc::PROT_EXEC).into()
            }
            "mmap_file" => {
                let page = libc::mmap(null, 4096, libc::PROT_READ, libc::MAP_SHARED, 3, 0);
                if page == libc::MAP_FAILED { -1 } else { 0 }
            }
            "mmap_huge" => mapped(libc::PROT_READ | libc::PROT_WRITE, 1 << 34),
            "memfd" => libc::syscall(libc::SYS_memfd_create, path, 0),
            "shmget" => libc::shmget(libc::IPC_PRIVATE, 4096, 0o600).into(),
            "msgget" => libc::msgget(libc::IPC_PRIVATE, 0o600).into(),
            "io_uring" => libc::syscall(libc::SYS_io_uring_setup, 1, null),
            "bpf" => libc::syscall(libc::SYS_bpf, 0, null, 0),
            "perf" => libc::syscall(libc::SYS_perf_event_open, null, 0, -1, -1, 0),
            "userfaultfd" => libc::syscall(libc::SYS_userfaultfd, 0),
            "keyctl" => libc::syscall(libc::SYS_keyctl, 0, 0, 0),
            "add_key" => libc::syscall(libc::SYS_add_key, path, path, null, 0, 0),
            "reboot" => libc::syscall(libc::SYS_reboot, 0, 0, 0, null),
            "init_module" => libc::syscall(libc::SYS_init_module, null, 0, path),
            "sethostname" => libc::sethostname(path, 4).into(),
            "settime" => libc::syscall(libc::SYS_clock_settime, 0, null),
            "setpriority" => libc::setpriority(libc::PRIO_PROCESS, 0, -20).into(),
            "sched_setaffinity" => libc::syscall(libc::SYS_sched_setaffinity, 0, 0, null),
            "raise_limit" => {
                let limit = libc::rlimit { rlim_cur: 100, rlim_max: 100 };
                libc::setrlimit(libc::RLIMIT_NPROC, &raw const limit).into()
            }
            "abort" => libc::abort(),
            "replace_handler" => libc::signal(libc::SIGSYS, libc::SIG_IGN) as libc::c_long,
            "block_and_open" => {
                let mut all = std::mem::zeroed();
                libc::sigfillset(&raw mut all);
                libc::sigprocmask(libc::SIG_BLOCK, &raw const all, std::ptr::null_mut());
                libc::open(path, libc::O_RDONLY).into()
            }
            "limit_other" => libc::syscall(libc::SYS_prlimit64, 1_000_000, 0, null, null),
            #[cfg(target_arch = "x86_64")]
            "x32_getpid" => libc::syscall(0x4000_0000 | libc::SYS_getpid),
            #[cfg(target_arch = "x86_64")]
            "x32_open" => libc::syscall(0x4000_0000 | libc::SYS_open, path, 0),
            #[cfg(target_arch = "x86_64")]
            "iopl" => libc::syscall(libc::SYS_iopl, 3),
            #[cfg(target_arch = "x86_64")]
            "int80" => {
                let result: i64;
                // 32-bit `getpid` by the old gate: another architecture in the filter's eyes.
                std::arch::asm!("int 0x80", inlateout("rax") 20_i64 => result, out("r8") _, out("r9") _, out("r10") _, out("r11") _);
                result
            }
            _ => -1,
        }
    };
    result != -1
}

fn mapped(protection: libc::c_int, bytes: usize) -> libc::c_long {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new anonymous mapping.
    let page = unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, flags, -1, 0) };
    if page == libc::MAP_FAILED { -1 } else { 0 }
}
