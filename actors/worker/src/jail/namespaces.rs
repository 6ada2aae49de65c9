//! Ids, namespaces and an empty root.
#![expect(unsafe_code, reason = "id changes and forks are unsafe system calls")]

use super::{filter, limits};
use crate::process;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{self, ForkResult};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// `nobody`: owns no file, runs no service.
const NOBODY: u32 = 65_534;

/// Stops being root, in the kernel's eyes and not only in a namespace's. Nothing to do for anybody else.
pub(super) fn drop_ids() -> io::Result<()> {
    if !unistd::geteuid().is_root() && !unistd::getuid().is_root() {
        return Ok(());
    }
    // SAFETY: an empty list of groups, and plain id changes, in a process of one thread.
    unsafe {
        limits::check(libc::setgroups(0, std::ptr::null()))?;
        limits::check(libc::setresgid(NOBODY, NOBODY, NOBODY))?;
        limits::check(libc::setresuid(NOBODY, NOBODY, NOBODY))?;
    }
    // The id change made /proc/self root's; the mappings of the next step are written there.
    limits::dumpable()
}

/// Makes a folder readable for anybody, read-only, where only root can reach it: at a place of its own, in a mount namespace of
/// this process. None where anybody can reach it anyway, or this process is not root.
pub(super) fn show(folder: &Path) -> io::Result<Option<PathBuf>> {
    let open = |path: &Path| fs::metadata(path).is_ok_and(|it| it.permissions().mode() & 0o001 != 0);
    if !unistd::geteuid().is_root() || folder.ancestors().all(open) {
        return Ok(None);
    }
    let none = None::<&str>;
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    let spot = ["/mnt", "/srv", "/opt", "/media"]
        .map(Path::new)
        .into_iter()
        .find(|spot| spot.is_dir() && open(spot));
    let spot = spot.ok_or(io::ErrorKind::NotFound)?;
    mount(Some(folder), spot, none, MsFlags::MS_BIND | MsFlags::MS_REC, none)?;
    let inert =
        MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(none, spot, none, inert, none)?;
    Ok(Some(spot.to_owned()))
}

/// Enters new user, mount, net, ipc, uts and cgroup namespaces.
pub(super) fn enter() -> io::Result<()> {
    let (uid, gid) = (unistd::geteuid(), unistd::getegid());
    let flags = CloneFlags::CLONE_NEWUSER
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS;
    // Cgroup namespaces are the youngest; a kernel without them must not cost the others.
    unshare(flags | CloneFlags::CLONE_NEWCGROUP).or_else(|_| unshare(flags))?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("{NOBODY} {uid} 1"))?;
    fs::write("/proc/self/gid_map", format!("{NOBODY} {gid} 1"))?;
    // The host's name is nobody's business inside.
    unistd::sethostname("athena").map_err(Into::into)
}

/// Goes on as process 1 of a new pid namespace. The process that stays outside can only wait and end.
pub(super) fn become_init() -> io::Result<()> {
    let waiter = filter::waiter();
    unshare(CloneFlags::CLONE_NEWPID)?;
    // SAFETY: the process has one thread, so the child finds no lock held.
    match unsafe { unistd::fork() }? {
        ForkResult::Child => Ok(()),
        ForkResult::Parent { child } => {
            let closed = unistd::close(super::SOCKET);
            let locked = limits::drop_capabilities()
                .and_then(|()| limits::no_new_privileges())
                .and_then(|()| limits::die_with_parent())
                .and_then(|()| limits::not_dumpable())
                .and_then(|()| filter::install(waiter));
            if closed.is_err() || locked.is_err() {
                process::exit(process::JAIL_FAILED);
            }
            loop {
                match waitpid(child, None) {
                    Ok(WaitStatus::Exited(_, code)) => process::exit(code),
                    Ok(WaitStatus::Signaled(_, signal, _)) => process::exit(128 + signal as i32),
                    Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                    Err(_) => process::exit(process::JAIL_FAILED),
                }
            }
        }
    }
}

/// What a fork is, seen from inside.
pub(super) enum Forked {
    /// The process that was made.
    Child,
    /// The one that made it, and the other's id as it and its parent know it.
    Parent(libc::pid_t),
}

/// Makes a copy of this process that is its *sibling*: whoever started this one reaps it, and it dies with that thread. With
/// `init` it is process 1 of a pid namespace of its own.
pub(super) fn fork_sibling(init: bool) -> io::Result<Forked> {
    let flags = libc::CLONE_PARENT | if init { libc::CLONE_NEWPID } else { 0 } | libc::SIGCHLD;
    // SAFETY: as fork(2): no stack, no thread ids, no TLS are passed; the process has one thread, so no lock is held.
    match unsafe { libc::syscall(libc::SYS_clone, flags as libc::c_ulong, 0, 0, 0, 0) } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Forked::Child),
        pid => libc::pid_t::try_from(pid).map(Forked::Parent).map_err(io::Error::other),
    }
}

/// Replaces the root by an empty, read-only file system; the old one is gone, not merely hidden.
pub(super) fn empty_root() -> io::Result<()> {
    let (spot, inert) = lay_root("size=4k,nr_inodes=2,mode=0555")?;
    take_root(spot, inert)
}

/// The same with a root that holds these files and nothing else: the loader of programs at its own path, libraries in `/lib`.
pub(super) fn library_root(loader: &Path, libraries: &[PathBuf]) -> io::Result<()> {
    let (spot, inert) = lay_root("size=64k,nr_inodes=64,mode=0755")?;
    let none = None::<&str>;
    let below = |path: &Path| Path::new(spot).join(path.strip_prefix("/").unwrap_or(path));
    let named =
        libraries.iter().filter_map(|file| Some((file, below(Path::new("lib")).join(file.file_name()?))));
    for (file, place) in named.chain([(&loader.to_owned(), below(loader))]) {
        fs::create_dir_all(place.parent().unwrap_or(&place))?;
        fs::File::create(&place)?;
        mount(Some(file), &place, none, MsFlags::MS_BIND, none)?;
        // Nobody here could write to them anyway: a mount with locked flags may refuse.
        let flags = MsFlags::MS_REMOUNT
            | MsFlags::MS_BIND
            | MsFlags::MS_RDONLY
            | MsFlags::MS_NOSUID
            | MsFlags::MS_NODEV;
        let _ = mount(none, &place, none, flags, none);
    }
    take_root(spot, inert)
}

/// A new file system where the root is to be, with these options.
fn lay_root(options: &str) -> io::Result<(&'static str, MsFlags)> {
    let none = None::<&str>;
    let inert = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    let spot = ["/tmp", "/var", "/mnt", "/usr"]
        .into_iter()
        .find(|path| fs::metadata(path).is_ok_and(|it| it.is_dir()));
    let spot = spot.ok_or(io::ErrorKind::NotFound)?;
    mount(Some("tmpfs"), spot, Some("tmpfs"), inert, Some(options))?;
    Ok((spot, inert))
}

/// Makes it the root.
fn take_root(spot: &str, inert: MsFlags) -> io::Result<()> {
    let none = None::<&str>;
    unistd::chdir(spot)?;
    // Stacked onto itself, the old root lies on top of the new one and is taken off.
    unistd::pivot_root(".", ".")?;
    umount2(".", MntFlags::MNT_DETACH)?;
    unistd::chdir("/")?;
    mount(none, "/", none, MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | inert, none)?;
    Ok(())
}

/// A copy of this process that is process 1 of a pid namespace of its own.
pub(super) fn fork_init() -> io::Result<Forked> {
    unshare(CloneFlags::CLONE_NEWPID)?;
    // SAFETY: the process has one thread, so the child finds no lock held.
    Ok(match unsafe { unistd::fork() }? {
        ForkResult::Child => Forked::Child,
        ForkResult::Parent { child } => Forked::Parent(child.as_raw()),
    })
}
