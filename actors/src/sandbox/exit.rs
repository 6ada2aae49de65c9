//! What a worker's end says of the code it ran.

use athena_schemas::layers::run::{Bound, Status};

/// The exit code of a worker that ran out of memory where no engine could say so.
const OUT_OF_MEMORY: i32 = 71;

/// The exit code of a worker that made a forbidden system call it could not name.
const FORBIDDEN: i32 = 72;
/// The exit code of a worker whose engine aborted.
const ABORTED: i32 = 73;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// With an exit code.
    Code(i32),
    /// By a signal.
    Signal(i32),
    /// It could not be found out.
    Unknown,
}

/// A worker's end without a word, read as the end of its run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Death {
    /// How the run ended.
    pub status: Status,
    /// The bound it ran against.
    pub bound: Bound,
    /// What was seen.
    pub detail: String,
}

impl Exit {
    /// Reads the end of a worker that did not say [`Done`](athena_schemas::wire::FromWorker::Done). `late`: we killed it at
    /// its deadline.
    ///
    /// A worker in namespaces of its own is the child of a process that waits for it and leaves with 128 + its signal, as a
    /// shell does.
    pub fn read(self, late: bool) -> Death {
        let death = |status, bound, detail: String| Death { status, bound, detail };
        match self {
            Self::Code(code @ 129..=192) => Self::Signal(code - 128).read(late),
            Self::Code(OUT_OF_MEMORY) if !late => {
                death(Status::OutOfMemory, Bound::Memory, "out of memory".into())
            }
            Self::Code(FORBIDDEN) if !late => {
                death(Status::Violated, Bound::Process, "a forbidden system call".into())
            }
            Self::Code(ABORTED) if !late => {
                death(Status::Violated, Bound::Process, "the engine aborted: an assertion failed".into())
            }
            _ if late => death(Status::TimedOut, Bound::Time, "killed at the deadline".into()),
            Self::Signal(libc::SIGSYS) => {
                death(Status::Violated, Bound::Process, "a forbidden system call (SIGSYS)".into())
            }
            Self::Signal(libc::SIGXCPU) => {
                death(Status::TimedOut, Bound::Time, "out of CPU time (SIGXCPU)".into())
            }
            // Nobody of ours sends SIGKILL before the deadline: it is the kernel's memory killer.
            Self::Signal(libc::SIGKILL) => {
                death(Status::OutOfMemory, Bound::Memory, "killed for its memory (SIGKILL)".into())
            }
            Self::Signal(signal) => {
                death(Status::Violated, Bound::Process, format!("the engine crashed (signal {signal})"))
            }
            Self::Code(code) => {
                death(Status::Violated, Bound::Protocol, format!("left with exit code {code}"))
            }
            Self::Unknown => death(Status::Violated, Bound::Protocol, "left without a word".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_end_has_its_reading() {
        let read = |exit: Exit| (exit.read(false).status, exit.read(false).bound);
        assert_eq!(read(Exit::Signal(libc::SIGSYS)), (Status::Violated, Bound::Process));
        assert_eq!(read(Exit::Signal(libc::SIGKILL)), (Status::OutOfMemory, Bound::Memory));
        assert_eq!(read(Exit::Signal(libc::SIGXCPU)), (Status::TimedOut, Bound::Time));
        assert_eq!(read(Exit::Signal(libc::SIGSEGV)), (Status::Violated, Bound::Process));
        assert_eq!(read(Exit::Code(128 + libc::SIGSYS)), (Status::Violated, Bound::Process));
        assert_eq!(read(Exit::Code(71)), (Status::OutOfMemory, Bound::Memory));
        assert_eq!(read(Exit::Code(73)), (Status::Violated, Bound::Process));
        assert_eq!(read(Exit::Signal(libc::SIGABRT)), (Status::Violated, Bound::Process));
        assert_eq!(read(Exit::Code(1)), (Status::Violated, Bound::Protocol));
        assert_eq!(Exit::Signal(libc::SIGKILL).read(true).status, Status::TimedOut);
    }
}
