//! Frames over the socket to the server: a length (u32, little-endian, at most `FRAME_MAX`) and one postcard value.
//!
//! The same code serves both ends and both sides distrust each other: a length above the limit ends the conversation before a
//! byte is allocated for it, and a partial read or write is continued, never dropped.

use athena_schemas::wire::FRAME_MAX;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::{Serialize, de::DeserializeOwned};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// How much of a frame is believed before its bytes are there, bytes.
const STEP: usize = 64 << 10;

/// Why no frame came.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The other end closed the socket, or died.
    #[error("the other end closed the connection")]
    Closed,
    /// The deadline passed.
    #[error("no frame arrived in time")]
    TimedOut,
    /// A frame is longer than `FRAME_MAX`.
    #[error("a frame of {0} bytes exceeds the limit of {FRAME_MAX}")]
    TooLong(usize),
    /// A frame's content is not what was agreed.
    #[error("a frame cannot be read: {0}")]
    Malformed(#[from] postcard::Error),
    /// The socket failed.
    #[error("the connection failed: {0}")]
    Io(io::Error),
}

impl From<io::Error> for LinkError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
                Self::Closed
            }
            _ => Self::Io(error),
        }
    }
}

/// One end of the socketpair, blocking.
#[derive(Debug)]
pub struct Link {
    stream: UnixStream,
    out: Vec<u8>,
}

impl Link {
    /// Frames over this socket.
    pub fn new(stream: UnixStream) -> Self {
        Self { stream, out: Vec::new() }
    }

    /// Sends one frame.
    pub fn send<T: Serialize>(&mut self, value: &T) -> Result<(), LinkError> {
        let out = frame(value, std::mem::take(&mut self.out))?;
        self.stream.write_all(&out)?;
        if out.capacity() <= STEP {
            self.out = out;
        }
        Ok(())
    }

    /// Waits for one frame; for ever without a deadline.
    pub fn receive<T: DeserializeOwned>(&mut self, deadline: Option<Instant>) -> Result<T, LinkError> {
        if let Some(deadline) = deadline {
            self.wait(deadline)?;
        }
        let mut head = [0; 4];
        self.stream.read_exact(&mut head)?;
        let length = u32::from_le_bytes(head) as usize;
        if length > FRAME_MAX as usize {
            return Err(LinkError::TooLong(length));
        }
        // Memory follows the bytes that really came, not the length that was announced.
        let mut body = Vec::with_capacity(length.min(STEP));
        let read = (&mut self.stream).take(length as u64).read_to_end(&mut body)?;
        if read < length {
            return Err(LinkError::Closed);
        }
        Ok(postcard::from_bytes(&body)?)
    }

    /// Waits until nobody is there any more, and passes over what still comes.
    pub(crate) fn closed(&mut self) {
        let mut passed = [0; 256];
        while self.stream.read(&mut passed).is_ok_and(|read| read > 0) {}
    }

    /// Whether something can be read, or can be within this long; also when the other end is gone.
    pub(crate) fn ready(&self, patience: Duration) -> bool {
        readable(&self.stream, patience).unwrap_or(false)
    }

    /// Waits until something can be read.
    fn wait(&self, deadline: Instant) -> Result<(), LinkError> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match readable(&self.stream, left) {
                Ok(true) => return Ok(()),
                Ok(false) if left.is_zero() => return Err(LinkError::TimedOut),
                Ok(false) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// The bytes of one frame, in a buffer that may be used again.
pub(crate) fn frame<T: Serialize>(value: &T, mut out: Vec<u8>) -> Result<Vec<u8>, LinkError> {
    out.clear();
    out.extend_from_slice(&[0; 4]);
    let mut out = postcard::to_extend(value, out)?;
    let length = out.len() - 4;
    if length > FRAME_MAX as usize {
        return Err(LinkError::TooLong(length));
    }
    if let Some(head) = out.first_chunk_mut::<4>() {
        *head = (length as u32).to_le_bytes();
    }
    Ok(out)
}

/// Whether the socket has something to read within `timeout`, rounded up to a millisecond.
fn readable(stream: &UnixStream, timeout: Duration) -> io::Result<bool> {
    let milliseconds = i32::try_from(timeout.as_micros().div_ceil(1000)).unwrap_or(i32::MAX);
    let timeout = PollTimeout::try_from(milliseconds).unwrap_or(PollTimeout::MAX);
    let ready = poll(&mut [PollFd::new(stream.as_fd(), PollFlags::POLLIN)], timeout)?;
    Ok(ready > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use athena_schemas::wire::ToWorker;

    fn answer(call: u32) -> ToWorker {
        ToWorker::Answer { call, result: Ok("{\"a\":[1,2]}".into()), clock_ms: 7 }
    }

    fn pair() -> (Link, UnixStream) {
        let (a, b) = UnixStream::pair().unwrap();
        (Link::new(a), b)
    }

    #[test]
    fn a_frame_arrives_as_it_left() {
        let (mut a, b) = pair();
        let mut b = Link::new(b);
        a.send(&answer(1)).unwrap();
        a.send(&answer(2)).unwrap();
        assert_eq!(b.receive::<ToWorker>(None).unwrap(), answer(1));
        assert_eq!(b.receive::<ToWorker>(None).unwrap(), answer(2));
    }

    #[test]
    fn a_frame_cut_into_single_bytes_is_put_together() {
        let (mut a, mut b) = pair();
        let (mut sink, mut source) = UnixStream::pair().unwrap();
        Link::new(sink.try_clone().unwrap()).send(&answer(3)).unwrap();
        sink.shutdown(std::net::Shutdown::Both).unwrap();
        sink.flush().unwrap();
        let mut bytes = Vec::new();
        source.read_to_end(&mut bytes).unwrap();
        let writer = std::thread::spawn(move || {
            for byte in bytes {
                b.write_all(&[byte]).unwrap();
            }
        });
        assert_eq!(a.receive::<ToWorker>(None).unwrap(), answer(3));
        writer.join().unwrap();
    }

    #[test]
    fn hostile_peers_are_refused() {
        let (mut a, mut b) = pair();
        b.write_all(&u32::MAX.to_le_bytes()).unwrap();
        assert!(matches!(a.receive::<ToWorker>(None), Err(LinkError::TooLong(_))));

        let (mut a, mut b) = pair();
        b.write_all(&3_u32.to_le_bytes()).unwrap();
        b.write_all(&[0xff; 3]).unwrap();
        assert!(matches!(a.receive::<ToWorker>(None), Err(LinkError::Malformed(_))));

        let (mut a, mut b) = pair();
        b.write_all(&1000_u32.to_le_bytes()).unwrap();
        b.write_all(&[1; 10]).unwrap();
        drop(b);
        assert!(matches!(a.receive::<ToWorker>(None), Err(LinkError::Closed)));

        let (mut a, _b) = pair();
        let soon = Instant::now() + Duration::from_millis(5);
        assert!(matches!(a.receive::<ToWorker>(Some(soon)), Err(LinkError::TimedOut)));
    }

    #[test]
    fn an_oversized_frame_does_not_leave() {
        let (mut a, _b) = pair();
        let huge = ToWorker::Answer { call: 1, result: Ok("x".repeat(FRAME_MAX as usize)), clock_ms: 0 };
        assert!(matches!(a.send(&huge), Err(LinkError::TooLong(_))));
    }
}
