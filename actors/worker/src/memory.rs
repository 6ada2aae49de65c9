//! The heap limit of engines that allocate through Rust.
//!
//! monty reads its memory use from a count of live bytes that the global allocator must keep. Counting is off until a job arms
//! it, so the server, which this crate is linked into, pays one relaxed load of a line nobody writes. Past the limit monty
//! raises `MemoryError`; past a little headroom no engine can say anything any more, and the process does: it sends the last
//! words prepared when the count was armed, and ends.
#![expect(unsafe_code, reason = "a global allocator is unsafe by signature; the logic added to it is not")]

use crate::jail::SOCKET;
use crate::process;
use monty_types::{BASELINE_MEMORY, LIVE_MEMORY};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

/// Bytes beyond the limit for error machinery and what is allocated between two checks of the engine.
const HEADROOM: usize = 8 << 20;
/// Where the count starts, so that freeing what was allocated before does not take it below zero.
const BASE: usize = 1 << 40;

/// Whether this process is a worker: where the address space is full, it says so and ends.
static ENDS: AtomicBool = AtomicBool::new(false);
static ARMED: AtomicBool = AtomicBool::new(false);
static CEILING: AtomicUsize = AtomicUsize::new(usize::MAX);
static LAST_WORDS: OnceLock<Vec<u8>> = OnceLock::new();

/// From now on a failed allocation ends this process with the exit code that says so, and not in an abort.
pub(crate) fn end_when_full() {
    ENDS.store(true, Relaxed);
}

/// Starts counting towards a limit. `last_words` is what to write to the socket when it is passed.
pub(crate) fn arm(limit_bytes: usize, last_words: Vec<u8>) {
    // A worker arms once; a second set of words could only be a second job, which there is not.
    let _ = LAST_WORDS.set(last_words);
    LIVE_MEMORY.store(BASE, Relaxed);
    BASELINE_MEMORY.store(BASE, Relaxed);
    CEILING.store(BASE.saturating_add(limit_bytes).saturating_add(HEADROOM), Relaxed);
    ARMED.store(true, Relaxed);
}

/// Arenas that threads share: each keeps what was freed in it for itself, and a read side of forty threads would have sixteen.
/// With two the log's writer waits for their locks for a sixth of its time.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const ARENAS: libc::c_int = 4;
/// Free bytes at the end of an arena that are worth keeping.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const KEPT: libc::c_int = 1 << 20;
/// A block of this size or more is mapped by itself, and gone once it is freed. Said once it stays so; by default it grows.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const MAPPED: libc::c_int = 256 << 10;

/// Whether what is freed goes back soon.
static CHOSEN: AtomicBool = AtomicBool::new(false);

/// What is freed goes back to the system soon, which costs allocating some speed: for a process that lives for days
/// and works in bursts. Call it before the first thread.
pub fn give_back() {
    CHOSEN.store(true, Relaxed);
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    for (parameter, value) in
        [(libc::M_ARENA_MAX, ARENAS), (libc::M_TRIM_THRESHOLD, KEPT), (libc::M_MMAP_THRESHOLD, MAPPED)]
    {
        // SAFETY: it takes two numbers and touches nothing but the allocator's own settings, under its lock.
        let _ = unsafe { libc::mallopt(parameter, value) };
    }
}

/// Gives all that is free back to the system, whatever lies between it: a work of milliseconds, for a pause after a burst. Does
/// nothing in a process that did not [choose to](give_back): a program that embeds us has its own ways.
pub fn give_all_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    if CHOSEN.load(Relaxed) {
        // SAFETY: it takes a number and touches nothing but what the allocator holds free, under the allocator's own locks.
        let _ = unsafe { libc::malloc_trim(0) };
    }
}

/// The system's allocator, counting.
struct Meter;

#[global_allocator]
static METER: Meter = Meter;

// SAFETY: every method passes its arguments on to `System` unchanged and returns what that returned, or does not return.
unsafe impl GlobalAlloc for Meter {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        charge(layout.size());
        // SAFETY: as promised by the caller.
        given(unsafe { System.alloc(layout) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        charge(layout.size());
        // SAFETY: as promised by the caller.
        given(unsafe { System.alloc_zeroed(layout) })
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if ARMED.load(Relaxed) {
            LIVE_MEMORY.fetch_sub(layout.size(), Relaxed);
        }
        // SAFETY: as promised by the caller.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        match size.checked_sub(layout.size()) {
            Some(more) => charge(more),
            None if ARMED.load(Relaxed) => drop(LIVE_MEMORY.fetch_sub(layout.size() - size, Relaxed)),
            None => {}
        }
        // SAFETY: as promised by the caller.
        given(unsafe { System.realloc(block, layout, size) })
    }
}

#[inline]
fn charge(bytes: usize) {
    if ARMED.load(Relaxed)
        && LIVE_MEMORY.fetch_add(bytes, Relaxed).saturating_add(bytes) > CEILING.load(Relaxed)
    {
        end();
    }
}

/// A block, or the end where the address space is full.
#[inline]
fn given(block: *mut u8) -> *mut u8 {
    if block.is_null() && ENDS.load(Relaxed) {
        end();
    }
    block
}

/// Says the last words and ends. Allocates nothing.
#[cold]
fn end() -> ! {
    ARMED.store(false, Relaxed);
    let mut left = LAST_WORDS.get().map_or(&[][..], Vec::as_slice);
    while !left.is_empty() {
        // SAFETY: the slice is valid for its length; the descriptor is the socket of this process.
        let written = unsafe { libc::write(SOCKET, left.as_ptr().cast(), left.len()) };
        match usize::try_from(written) {
            Ok(written) if written > 0 => left = left.get(written..).unwrap_or_default(),
            _ => break,
        }
    }
    process::exit(process::OUT_OF_MEMORY)
}
