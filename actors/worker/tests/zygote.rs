//! The zygote: each order a fresh jailed worker, whose parent is whoever started the zygote.

use crate::support::job;
use athena_schemas::wire::{FromWorker, Language, ToWorker};
use athena_worker::wire::Link;
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, recv, sendmsg, socketpair,
};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use std::io::IoSlice;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

struct Zygote {
    socket: OwnedFd,
    process: Child,
}

impl Zygote {
    fn start(level: &str) -> Self {
        let (socket, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap();
        let fd = theirs.as_raw_fd();
        let mut command = Command::new(env!("CARGO_BIN_EXE_athena-worker"));
        command.args([athena_worker::WORKER, "--level", level, "--zygote", "yes"]).env_clear();
        command.stdin(Stdio::null());
        // SAFETY: dup2 is async-signal-safe, and clears close-on-exec on the copy.
        unsafe {
            command.pre_exec(move || {
                if libc::dup2(fd, 3) < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
            });
        }
        let zygote = Self { socket, process: command.spawn().unwrap() };
        assert_eq!(zygote.hear(), 0);
        zygote
    }

    fn hear(&self) -> i32 {
        let mut number = [0; 4];
        assert_eq!(recv(self.socket.as_raw_fd(), &mut number, MsgFlags::empty()).unwrap(), 4);
        i32::from_le_bytes(number)
    }

    /// A worker that said it is ready, and its process.
    fn worker(&self) -> (Link, String, Pid) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let fds = [theirs.as_raw_fd()];
        let rights = [ControlMessage::ScmRights(&fds)];
        sendmsg::<()>(self.socket.as_raw_fd(), &[IoSlice::new(&[1])], &rights, MsgFlags::empty(), None)
            .unwrap();
        let pid = self.hear();
        assert!(pid > 0, "error {pid}");
        let mut link = Link::new(ours);
        let ready = link.receive(Some(Instant::now() + Duration::from_secs(20))).unwrap();
        let FromWorker::Ready(ready) = ready else { panic!("{ready:?}") };
        (link, ready.level, Pid::from_raw(pid))
    }
}

#[test]
fn copies_run_one_job_each_in_the_whole_jail_and_are_our_children() {
    for level in ["full", "seccomp"] {
        let mut zygote = Zygote::start(level);
        let workers: Vec<_> = (0..8).map(|_| zygote.worker()).collect();
        for (n, (mut link, given, pid)) in workers.into_iter().enumerate() {
            assert_eq!(given, level);
            let code = format!("globalThis.seen = (globalThis.seen ?? 0) + 1; return [seen, {n}]");
            link.send(&ToWorker::Run(Box::new(job(Language::JavaScript, &code)))).unwrap();
            let done = link.receive(Some(Instant::now() + Duration::from_secs(20))).unwrap();
            let FromWorker::Done(finish) = done else { panic!("{done:?}") };
            assert_eq!(finish.result, Ok(format!("[1,{n}]")));
            assert_eq!(waitpid(pid, None).unwrap(), WaitStatus::Exited(pid, 0));
        }
        // A worker outlives its zygote, and can be killed by us while it spins.
        let (mut link, _, pid) = zygote.worker();
        zygote.process.kill().unwrap();
        zygote.process.wait().unwrap();
        link.send(&ToWorker::Run(Box::new(job(Language::JavaScript, "for (;;);")))).unwrap();
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
        assert!(matches!(
            waitpid(pid, None).unwrap(),
            WaitStatus::Signaled(_, nix::sys::signal::Signal::SIGKILL, _)
        ));
    }
}

#[test]
fn a_zygote_ends_with_its_socket() {
    let Zygote { socket, mut process } = Zygote::start("full");
    drop(socket);
    assert_eq!(process.wait().unwrap().code(), Some(0));
}
