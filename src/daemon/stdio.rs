//! Stdin and stdout of a relay, without a thread in between.
//!
//! Tokio's own hand every read and write to a thread that may block, and to be woken by it costs as much as the rest of what a
//! relay does. What an MCP client gives its server are pipes or sockets, which can be waited for like any other; a terminal or a
//! file goes the slow way.

use std::fs::File;
use std::io::Result;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;

/// What a relay reads.
pub(crate) type Input = Box<dyn AsyncRead + Send + Unpin>;
/// What a relay writes.
pub(crate) type Output = Box<dyn AsyncWrite + Send + Unpin>;

/// Stdin.
pub(crate) fn input() -> Input {
    reading(&std::io::stdin()).unwrap_or_else(|_| Box::new(tokio::io::stdin()))
}

/// Stdout.
pub(crate) fn output() -> Output {
    // Not to wait is a property of what a descriptor names. Where stderr names the same, a diagnosis would be lost when the
    // reader is slow.
    let shared = same(&std::io::stdout(), &std::io::stderr()).unwrap_or(true);
    let quick = if shared { None } else { writing(&std::io::stdout()).ok() };
    quick.unwrap_or_else(|| Box::new(tokio::io::stdout()))
}

fn reading(from: &impl AsFd) -> Result<Input> {
    Ok(match Kind::of(from)? {
        (Kind::Pipe, fd) => Box::new(pipe::Receiver::from_owned_fd(fd)?),
        (Kind::Socket, fd) => Box::new(stream(fd)?),
    })
}

fn writing(to: &impl AsFd) -> Result<Output> {
    Ok(match Kind::of(to)? {
        (Kind::Pipe, fd) => Box::new(pipe::Sender::from_owned_fd(fd)?),
        (Kind::Socket, fd) => Box::new(stream(fd)?),
    })
}

fn stream(fd: OwnedFd) -> Result<UnixStream> {
    let stream = std::os::unix::net::UnixStream::from(fd);
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}

/// What can be waited for.
#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Pipe,
    Socket,
}

impl Kind {
    /// What a descriptor names, and another descriptor of it.
    fn of(what: &impl AsFd) -> Result<(Self, OwnedFd)> {
        let file = File::from(what.as_fd().try_clone_to_owned()?);
        let kind = file.metadata()?.file_type();
        if kind.is_fifo() {
            Ok((Self::Pipe, file.into()))
        } else if kind.is_socket() {
            Ok((Self::Socket, file.into()))
        } else {
            Err(std::io::ErrorKind::Unsupported.into())
        }
    }
}

fn same(one: &impl AsFd, other: &impl AsFd) -> Result<bool> {
    let place = |what: std::os::fd::BorrowedFd<'_>| {
        let file = File::from(what.try_clone_to_owned()?).metadata()?;
        Ok::<_, std::io::Error>((file.dev(), file.ino()))
    };
    Ok(place(one.as_fd())? == place(other.as_fd())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn passes(from: &impl AsFd, to: &impl AsFd) {
        let (mut input, mut output) = (reading(from).unwrap(), writing(to).unwrap());
        // More than a pipe holds, so that both have to wait for each other.
        let sent = vec![b'x'; 1 << 20];
        let expected = sent.clone();
        let writer = tokio::spawn(async move { output.write_all(&sent).await.unwrap() });
        let mut got = vec![0; expected.len()];
        input.read_exact(&mut got).await.unwrap();
        writer.await.unwrap();
        assert!(got == expected);
    }

    #[tokio::test]
    async fn pipes_and_sockets_are_read_and_written_and_waited_for() {
        let (reader, writer) = std::io::pipe().unwrap();
        passes(&reader, &writer).await;
        let (one, other) = std::os::unix::net::UnixStream::pair().unwrap();
        passes(&one, &other).await;
    }

    #[tokio::test]
    async fn a_file_goes_the_slow_way_and_two_names_of_one_thing_are_told() {
        let file = tempfile::tempfile().unwrap();
        assert!(reading(&file).is_err() && writing(&file).is_err());
        let (reader, writer) = std::io::pipe().unwrap();
        assert!(same(&writer, &writer.try_clone().unwrap()).unwrap());
        assert!(!same(&file, &reader).unwrap());
    }
}
