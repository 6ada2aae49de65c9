//! Lines with a limit: what everything on the socket and on stdio is made of.

use serde::Serialize;
use std::io;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};

/// The longest line taken from a client, bytes. As long as rmcp's.
pub(crate) const REQUEST_MAX: usize = 16 << 20;
/// The longest line taken from a daemon, bytes: answers may be longer than requests.
pub(crate) const ANSWER_MAX: usize = 64 << 20;

/// Reads lines. Cancelling [`Lines::next`] loses nothing.
pub(crate) struct Lines<R> {
    inner: BufReader<R>,
    partial: Vec<u8>,
    discarding: bool,
    max: usize,
}

/// What came next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// A line, without its end.
    Text(Vec<u8>),
    /// A line over the limit; it was skipped.
    TooLong,
    /// The other side is done.
    End,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    pub(crate) fn new(inner: R, max: usize) -> Self {
        Self { inner: BufReader::new(inner), partial: Vec::new(), discarding: false, max }
    }

    /// The same stream with another limit.
    pub(crate) fn limited(mut self, max: usize) -> Self {
        self.max = max;
        self
    }

    /// The next line that is not empty.
    pub(crate) async fn next(&mut self) -> io::Result<Line> {
        loop {
            let chunk = self.inner.fill_buf().await?;
            if chunk.is_empty() {
                return Ok(Line::End);
            }
            let end = chunk.iter().position(|byte| *byte == b'\n');
            let text = chunk.get(..end.unwrap_or(chunk.len())).unwrap_or_default();
            let too_long = self.partial.len() + text.len() > self.max;
            if !self.discarding && !too_long {
                self.partial.extend_from_slice(text);
            }
            let used = end.map_or(chunk.len(), |at| at + 1);
            self.inner.consume(used);
            if too_long && !self.discarding {
                self.discarding = true;
                self.partial = Vec::new();
            }
            if end.is_some() {
                if std::mem::take(&mut self.discarding) {
                    return Ok(Line::TooLong);
                }
                let line = std::mem::take(&mut self.partial);
                if !line.iter().all(u8::is_ascii_whitespace) {
                    return Ok(Line::Text(line));
                }
            }
        }
    }

    /// The stream, with what was read ahead of it.
    pub(crate) fn into_inner(self) -> impl AsyncBufRead + Send + Unpin
    where
        R: Send,
    {
        self.inner
    }
}

/// Writes one value as a line and sends it off.
pub(crate) async fn write_json<W: AsyncWrite + Unpin>(out: &mut W, value: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    out.write_all(&line).await?;
    out.flush().await
}

/// Writes one line and sends it off.
pub(crate) async fn write_line<W: AsyncWrite + Unpin>(out: &mut W, line: &[u8]) -> io::Result<()> {
    let mut whole = Vec::with_capacity(line.len() + 1);
    whole.extend_from_slice(line);
    whole.push(b'\n');
    out.write_all(&whole).await?;
    out.flush().await
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn all(text: &[u8], max: usize) -> Vec<Line> {
        let mut lines = Lines::new(text, max);
        let mut seen = Vec::new();
        loop {
            match lines.next().await.unwrap() {
                Line::End => return seen,
                line => seen.push(line),
            }
        }
    }

    #[tokio::test]
    async fn lines_are_cut_at_their_ends_and_long_ones_are_skipped_whole() {
        let long = "x".repeat(40_000);
        let text = format!("one\n\n{long}\ntwo\nunfinished");
        let seen = all(text.as_bytes(), 1_000).await;
        assert_eq!(seen, vec![Line::Text(b"one".into()), Line::TooLong, Line::Text(b"two".into())]);
    }

    #[tokio::test]
    async fn a_line_of_exactly_the_limit_passes() {
        assert_eq!(all(b"abc\nabcd\n", 3).await, vec![Line::Text(b"abc".into()), Line::TooLong]);
    }
}
