//! Answers too large to hold: streamed past, their text kept in a file that has no name, read in slices by a handle.
//!
//! The file is unlinked as soon as it is open, so that no text of an answer lies below the store and nothing is left behind
//! when the process dies.

use athena_schemas::refusal::{Code, Refusal};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::sync::{Arc, Mutex, PoisonError};

/// The longest answer that is held in memory, bytes.
pub const INLINE_MAX: usize = 8 << 20;
/// The mark under which a long answer's handle travels through the ordinary reply.
pub const SPOOL_KEY: &str = "athena/answer";
/// The largest answer that is kept at all, bytes of text.
pub const SPOOL_MAX: u64 = 1 << 30;
/// All answers kept at once, bytes; the oldest go first.
const TOTAL_MAX: u64 = 4 << 30;
/// Answers kept at once.
const COUNT_MAX: usize = 256;
/// The largest slice, bytes.
pub const SLICE_MAX: u64 = 4 << 20;

/// The kept answers of all upstreams.
#[derive(Debug, Clone)]
pub struct Spools {
    all: Arc<Mutex<VecDeque<Kept>>>,
    largest: u64,
}

impl Default for Spools {
    fn default() -> Self {
        Self::holding(SPOOL_MAX)
    }
}

#[derive(Debug)]
struct Kept {
    handle: String,
    bytes: u64,
    file: Arc<Mutex<File>>,
}

/// A slice of a kept answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    /// The text, cut at character boundaries.
    pub text: String,
    /// Where the next slice begins; `None` at the end.
    pub next: Option<u64>,
    /// Bytes in all.
    pub bytes: u64,
}

impl Spools {
    /// No answers so far, none of which may have more than `largest` bytes where it comes over HTTP.
    pub fn holding(largest: u64) -> Self {
        Self { all: Arc::default(), largest }
    }

    /// The longest answer that is read over HTTP, bytes.
    pub fn largest(&self) -> u64 {
        self.largest
    }

    /// Keeps a written file and names it.
    pub fn keep(&self, writer: Writer) -> std::io::Result<String> {
        let mut random = [0_u8; 16];
        getrandom::fill(&mut random).map_err(|error| std::io::Error::other(error.to_string()))?;
        let handle: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let bytes = writer.bytes;
        let file = writer.file.into_inner().map_err(std::io::IntoInnerError::into_error)?;
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.push_back(Kept { handle: handle.clone(), bytes, file: Arc::new(Mutex::new(file)) });
        while all.len() > COUNT_MAX || all.iter().map(|kept| kept.bytes).sum::<u64>() > TOTAL_MAX {
            all.pop_front();
        }
        Ok(handle)
    }

    /// Whether there is such an answer.
    pub fn size(&self, handle: &str) -> Option<u64> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().find(|kept| kept.handle == handle).map(|kept| kept.bytes)
    }

    /// Reads a slice: `limit` bytes from `offset`. Blocking; call it off the async threads.
    ///
    /// # Errors
    /// When there is no such answer (any more).
    pub fn slice(&self, handle: &str, offset: u64, limit: u64) -> Result<Slice, Refusal> {
        let found = {
            let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
            all.iter().find(|kept| kept.handle == handle).map(|kept| (kept.file.clone(), kept.bytes))
        };
        let (file, bytes) = found.ok_or_else(|| {
            Refusal::not_found(format!(
                "there is no kept answer {handle}; they last until newer ones need the room"
            ))
            .hint("make the call again")
        })?;
        let failed = |error: std::io::Error| {
            Refusal::new(Code::Unavailable, format!("a kept answer cannot be read: {error}"))
        };
        let mut raw = Vec::new();
        {
            let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
            file.seek(SeekFrom::Start(offset.min(bytes))).map_err(failed)?;
            (&mut *file).take(limit.clamp(4, SLICE_MAX)).read_to_end(&mut raw).map_err(failed)?;
        }
        // Whole characters only: a slice that starts inside one skips it, one that ends inside one stops before.
        let start = raw.iter().position(|byte| byte & 0xc0 != 0x80).unwrap_or(raw.len());
        let valid = raw.get(start..).unwrap_or_default();
        let end = match std::str::from_utf8(valid) {
            Ok(_) => valid.len(),
            Err(error) => error.valid_up_to(),
        };
        let text = String::from_utf8_lossy(valid.get(..end).unwrap_or_default()).into_owned();
        let next = offset + (start + end) as u64;
        Ok(Slice { text, next: (next < bytes && start + end > 0).then_some(next), bytes })
    }
}

/// A file being written.
#[derive(Debug)]
pub struct Writer {
    file: BufWriter<File>,
    /// Bytes so far.
    pub bytes: u64,
}

impl Writer {
    /// A file without a name in the folder for temporary files.
    pub fn open() -> std::io::Result<Self> {
        let mut random = [0_u8; 8];
        getrandom::fill(&mut random).map_err(|error| std::io::Error::other(error.to_string()))?;
        let path = std::env::temp_dir().join(format!("athena-answer-{:016x}", u64::from_le_bytes(random)));
        let mut options = File::options();
        options.read(true).write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&path)?;
        std::fs::remove_file(&path)?;
        Ok(Self { file: BufWriter::with_capacity(64 << 10, file), bytes: 0 })
    }

    /// Adds bytes; those beyond [`SPOOL_MAX`] are dropped.
    pub fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        if self.bytes < SPOOL_MAX {
            self.file.write_all(bytes)?;
            self.bytes += bytes.len() as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_cover_everything_and_never_cut_a_character() {
        let text = "aé€😀".repeat(1_000);
        let mut writer = Writer::open().unwrap();
        writer.write(text.as_bytes()).unwrap();
        let spools = Spools::default();
        let handle = spools.keep(writer).unwrap();
        let (mut all, mut at) = (String::new(), Some(0));
        while let Some(offset) = at {
            let slice = spools.slice(&handle, offset, 101).unwrap();
            all.push_str(&slice.text);
            at = slice.next;
        }
        assert_eq!(all, text);
        assert_eq!(spools.slice(&handle, 3, 7).unwrap().text, "€😀");
        assert_eq!(spools.slice(&handle, 1 << 40, 7).unwrap().text, "");
        assert!(spools.slice("nothing", 0, 1).is_err());
    }
}
