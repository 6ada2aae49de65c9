//! Frames over a worker's socket: a length (u32, little-endian) and one postcard value.
//!
//! Reading and writing never wait for one another: a worker that floods its log while it is being answered must not block
//! us, so what it does not take yet is kept in an outbox and written while we read.

use athena_schemas::envelope::exactly;
use athena_schemas::wire::{FRAME_MAX, FromWorker, ToWorker};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use tokio::io::Interest;
use tokio::net::UnixStream;

/// What is read at once, bytes.
const CHUNK: usize = 16 << 10;
/// Bytes that may wait for a worker that does not read.
const OUTBOX_MAX: usize = 4 * FRAME_MAX as usize;

/// Why nothing more comes from a worker.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// The process is gone, or closed its end.
    #[error("the worker is gone")]
    Closed,
    /// What it sent is not the protocol.
    #[error("the worker broke the protocol: {0}")]
    Protocol(String),
    /// A frame of ours is too large, or too much waits unread.
    #[error("{0}")]
    Full(String),
}

impl From<io::Error> for Broken {
    fn from(_: io::Error) -> Self {
        // Reset, broken pipe: however the socket says it, nobody is there.
        Self::Closed
    }
}

/// Our end of the socket.
pub(crate) struct Channel {
    stream: UnixStream,
    inbox: Vec<u8>,
    outbox: Vec<u8>,
}

impl Channel {
    /// Takes over a socket. Must be called on the runtime.
    pub(crate) fn new(stream: std::os::unix::net::UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self { stream: UnixStream::from_std(stream)?, inbox: Vec::new(), outbox: Vec::new() })
    }

    /// Another handle on the socket: it stays open as long as that is there.
    pub(crate) fn hold(&self) -> Option<OwnedFd> {
        self.stream.as_fd().try_clone_to_owned().ok()
    }

    /// Whether an idle worker is still there and silent, as it should be.
    pub(crate) fn is_quiet(&self) -> bool {
        let mut byte = [0];
        self.inbox.is_empty()
            && matches!(self.stream.try_read(&mut byte), Err(e) if e.kind() == io::ErrorKind::WouldBlock)
    }

    /// Sends a frame, or as much of it as the worker takes; the rest leaves during [`next`](Self::next).
    pub(crate) fn send(&mut self, frame: &ToWorker) -> Result<(), Broken> {
        let body = postcard::to_stdvec(frame).map_err(|error| Broken::Protocol(error.to_string()))?;
        let length = u32::try_from(body.len())
            .ok()
            .filter(|length| *length <= FRAME_MAX)
            .ok_or_else(|| Broken::Full(format!("a frame of {} bytes is too large", body.len())))?;
        if self.outbox.len() + body.len() > OUTBOX_MAX {
            return Err(Broken::Full("too much waits for a worker that does not read".into()));
        }
        self.outbox.extend_from_slice(&length.to_le_bytes());
        self.outbox.extend_from_slice(&body);
        self.write();
        Ok(())
    }

    /// The next frame. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Result<FromWorker, Broken> {
        loop {
            if let Some(frame) = self.parse()? {
                return Ok(frame);
            }
            let interest = if self.outbox.is_empty() {
                Interest::READABLE
            } else {
                Interest::READABLE.add(Interest::WRITABLE)
            };
            let ready = self.stream.ready(interest).await?;
            if ready.is_writable() && !self.outbox.is_empty() {
                self.write();
            }
            if ready.is_readable() {
                self.inbox.reserve(CHUNK);
                match self.stream.try_read_buf(&mut self.inbox) {
                    Ok(0) => return Err(Broken::Closed),
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
    }

    fn write(&mut self) {
        let mut sent = 0;
        while let Some(rest) = self.outbox.get(sent..).filter(|rest| !rest.is_empty()) {
            match self.stream.try_write(rest) {
                Ok(n) => sent += n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => {
                    // Nobody hears it any more. What was said before that is still to be read, and with it how it ended: code
                    // may come to its end while an answer it no longer waits for is on its way.
                    self.outbox.clear();
                    return;
                }
            }
        }
        self.outbox.drain(..sent);
    }

    fn parse(&mut self) -> Result<Option<FromWorker>, Broken> {
        let Some((head, rest)) = self.inbox.split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_le_bytes(*head);
        if length > FRAME_MAX {
            return Err(Broken::Protocol(format!("a frame of {length} bytes")));
        }
        let Some(body) = rest.get(..length as usize) else { return Ok(None) };
        let frame = exactly(body).map_err(|error| Broken::Protocol(error.to_string()))?;
        self.inbox.drain(..4 + length as usize);
        if self.inbox.is_empty() {
            self.inbox = Vec::new();
        }
        Ok(Some(frame))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream as Blocking;

    #[tokio::test]
    async fn a_frame_arrives_in_pieces_and_two_arrive_at_once() {
        let (ours, mut theirs) = Blocking::pair().unwrap();
        let mut channel = Channel::new(ours).unwrap();
        let log = |text: &str| FromWorker::Log { level: "log".into(), text: text.into() };
        let mut bytes = Vec::new();
        for frame in [log("one"), log("two")] {
            let body = postcard::to_stdvec(&frame).unwrap();
            bytes.extend((body.len() as u32).to_le_bytes());
            bytes.extend(body);
        }
        assert!(channel.is_quiet());
        theirs.write_all(&bytes[..3]).unwrap();
        tokio::select! { biased; _ = channel.next() => panic!("there is no whole frame"), () = tokio::task::yield_now() => {} }
        theirs.write_all(&bytes[3..]).unwrap();
        assert_eq!(channel.next().await.unwrap(), log("one"));
        assert_eq!(channel.next().await.unwrap(), log("two"));
        drop(theirs);
        assert!(matches!(channel.next().await, Err(Broken::Closed)));
    }

    #[tokio::test]
    async fn last_words_are_heard_although_an_answer_found_nobody() {
        let (ours, mut theirs) = Blocking::pair().unwrap();
        let mut channel = Channel::new(ours).unwrap();
        let answer = |call| ToWorker::Answer { call, result: Ok("late".into()), clock_ms: 1 };
        let word = FromWorker::Log { level: "log".into(), text: "goodbye".into() };
        let body = postcard::to_stdvec(&word).unwrap();
        theirs.write_all(&(body.len() as u32).to_le_bytes()).unwrap();
        theirs.write_all(&body).unwrap();
        // One answer lies unread when the worker goes, the next comes after it has gone.
        channel.send(&answer(1)).unwrap();
        drop(theirs);
        channel.send(&answer(2)).unwrap();
        assert_eq!(channel.next().await.unwrap(), word);
        assert!(matches!(channel.next().await, Err(Broken::Closed)));
    }

    #[tokio::test]
    async fn what_is_not_the_protocol_is_named() {
        for bytes in [u32::MAX.to_le_bytes().to_vec(), vec![1, 0, 0, 0, 0xff], vec![2, 0, 0, 0, 4, 0]] {
            let (ours, mut theirs) = Blocking::pair().unwrap();
            let mut channel = Channel::new(ours).unwrap();
            theirs.write_all(&bytes).unwrap();
            assert!(matches!(channel.next().await, Err(Broken::Protocol(_))), "{bytes:?}");
        }
    }

    #[tokio::test]
    async fn a_worker_that_floods_while_it_is_answered_does_not_block_us() {
        let (ours, mut theirs) = Blocking::pair().unwrap();
        let mut channel = Channel::new(ours).unwrap();
        let answer = ToWorker::Answer { call: 1, result: Ok("x".repeat(2 << 20)), clock_ms: 1 };
        let peer = std::thread::spawn(move || {
            let body =
                postcard::to_stdvec(&FromWorker::Log { level: "log".into(), text: "y".repeat(2 << 20) })
                    .unwrap();
            theirs.write_all(&(body.len() as u32).to_le_bytes()).unwrap();
            theirs.write_all(&body).unwrap();
            let mut head = [0; 4];
            theirs.read_exact(&mut head).unwrap();
            let mut body = vec![0; u32::from_le_bytes(head) as usize];
            theirs.read_exact(&mut body).unwrap();
            body.len()
        });
        channel.send(&answer).unwrap();
        assert!(matches!(channel.next().await, Ok(FromWorker::Log { .. })));
        assert!(matches!(channel.next().await, Err(Broken::Closed)));
        assert!(peer.join().unwrap() > 2 << 20);
    }
}
