//! The last words of a worker that the kernel stops: which system call was forbidden, and that an engine gave up on itself.
//!
//! A handler runs in a process that may be in any state: it writes one frame from its own stack and ends.
#![expect(unsafe_code, reason = "signal handlers are unsafe by nature; these two call write and _exit")]

use super::SOCKET;
use crate::process;
use athena_schemas::wire::FromWorker;

/// The longest frame of last words, bytes.
const FRAME: usize = 24;

/// Installs the handlers. The filter keeps the one for forbidden calls from ever being changed.
pub(super) fn watch() {
    on(libc::SIGSYS, forbidden);
    on(libc::SIGABRT, aborted);
}

type Handler = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);

fn on(signal: libc::c_int, handler: Handler) {
    // SAFETY: an all-zero sigaction with an empty mask is valid; the handler has the signature SA_SIGINFO asks for. Should it
    // fail, the signal keeps its deadly default.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        libc::sigaction(signal, &raw const action, std::ptr::null_mut());
    }
}

/// A system call that is not on the list. The kernel has not made it.
extern "C" fn forbidden(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel passes a siginfo; of SIGSYS it holds, after three words of head and padding, the calling address, the
    // number of the call and the architecture.
    let call = unsafe { info.cast::<u32>().add(6).read() };
    let mut frame = [0; FRAME];
    if let Ok(body) =
        postcard::to_slice(&FromWorker::Trapped { call }, frame.get_mut(4..).unwrap_or_default())
    {
        let length = body.len();
        if let Some(head) = frame.first_chunk_mut::<4>() {
            *head = (length as u32).to_le_bytes();
        }
        // SAFETY: the frame is valid for its length; the descriptor is the socket of this process.
        unsafe { libc::write(SOCKET, frame.as_ptr().cast(), length + 4) };
    }
    process::exit(process::FORBIDDEN)
}

/// An assertion of an engine, or a second panic. Memory that is full has ended before ([`crate::memory`]).
extern "C" fn aborted(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    process::exit(process::ABORTED)
}
