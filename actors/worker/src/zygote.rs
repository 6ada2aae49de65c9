//! A process that stands ready to be copied: engines warm, ids dropped, namespaces entered once, and no code of anybody's.
//!
//! Its socket carries packets. The first it sends is a zero; then, for each packet of one byte with a descriptor it receives,
//! it makes a worker that has this descriptor as its socket, and answers the worker's process id, or the negative error
//! number (both i32, little-endian). It ends when the other side closes, and with the thread that started it; workers do not
//! depend on it, they are its siblings.
#![expect(unsafe_code, reason = "a descriptor that arrived is placed where a worker looks for it")]

use crate::jail::{self, Layers, Plan, SOCKET};
use crate::process;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, send};
use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Waits for orders; returns in each worker that is made.
pub(crate) fn workers(plan: &Plan) -> Layers {
    let mut layers = jail::enter_shared(plan);
    jail::make_ready(&mut layers);
    // What an order carries must land on the next descriptor and nowhere else.
    if !layers.names().iter().any(|name| name == "descriptors") || !jail::die_with_parent() || !say(0) {
        process::exit(process::JAIL_FAILED);
    }
    loop {
        let Some(socket) = order() else { process::exit(0) };
        match jail::fork(&mut layers) {
            Ok(None) => {
                // SAFETY: both descriptors are open and owned here; the zygote's own socket is closed by it, which is meant.
                if unsafe { libc::dup2(socket.as_raw_fd(), SOCKET) } == -1 {
                    process::exit(process::JAIL_FAILED);
                }
                return layers;
            }
            Ok(Some(pid)) => drop(say(pid)),
            Err(error) => drop(say(-error.raw_os_error().unwrap_or(libc::EIO))),
        }
    }
}

/// The next order's descriptor; none when there will be no more.
fn order() -> Option<OwnedFd> {
    loop {
        let mut byte = [0];
        let mut space = nix::cmsg_space!([RawFd; 1]);
        let mut parts = [IoSliceMut::new(&mut byte)];
        let message = match recvmsg::<()>(SOCKET, &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC) {
            Ok(message) => message,
            Err(Errno::EINTR) => continue,
            Err(_) => return None,
        };
        if message.bytes == 0 {
            return None;
        }
        let fds = message.cmsgs().ok()?.find_map(|control| match control {
            ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
            _ => None,
        });
        // SAFETY: the kernel has just made this descriptor for us.
        return fds.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
    }
}

fn say(number: i32) -> bool {
    send(SOCKET, &number.to_le_bytes(), MsgFlags::MSG_NOSIGNAL).is_ok()
}
