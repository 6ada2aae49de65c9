//! A log, or an excerpt of one, as a single file that travels: written beside the running writer, opened read-only anywhere,
//! brought back to the same positions and hashes.
//!
//! `"ATHLOGF1" | item*`, an item being `tag u8 | length u32 LE | body`:
//!
//! | tag | body |
//! |---|---|
//! | `H` | what the file holds: [`Head`], JSON; always first |
//! | `P` | a large payload; an event behind it names its hash |
//! | `E` | an event's [`frame`], byte for byte as the log keeps it: header, ciphertext, leaf and chain hash |
//! | `L` | leaf hashes, 32 B each, of events that an excerpt leaves out |
//! | `C` | a signed [`Checkpoint`] of the last position, JSON |
//! | `K` | keys, sealed under a passphrase (`keys/backup.rs`); only where they were asked for |
//! | `Z` | BLAKE3 over everything before; always last |
//!
//! The leaves let the chain of an excerpt be followed over what it leaves out, up to the checkpoint: nobody can add to an
//! excerpt, change it or move a piece of it without that being seen.

mod check;
mod file;
mod write;

pub use check::{Checked, Imported, import_file, verify_file};
pub use file::LogFile;
pub use write::{Exported, Order};

use athena_schemas::envelope::Seq;
use athena_schemas::refusal::{Code, Refusal};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;

const MAGIC: &[u8; 8] = b"ATHLOGF1";
/// The format written today. Every format ever written stays readable.
const FORMAT: u32 = 1;
/// No item is larger, bytes: an event's payload has at most 16 MiB, keys with very many erasures some more.
const ITEM_MAX: u32 = 256 << 20;
/// Leaves of one item, bytes.
const LEAVES_MAX: usize = 1 << 20;
/// Bytes between two words about how far a reading has come.
const TELL_EVERY: u64 = 1 << 20;

const HEAD: u8 = b'H';
const PAYLOAD: u8 = b'P';
const EVENT: u8 = b'E';
const LEAVES: u8 = b'L';
const CHECKPOINT: u8 = b'C';
const KEYS: u8 = b'K';
const END: u8 = b'Z';

/// Hears how far long work has come: done and total. Answers whether to go on.
pub type Told<'a> = &'a mut dyn FnMut(u64, u64) -> bool;

/// What a file says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Head {
    /// The format of the file.
    pub format: u32,
    /// The position before the first one it accounts for.
    pub after: Seq,
    /// The chain hash there, hexadecimal.
    pub chain: String,
    /// The last position it accounts for.
    pub last: Seq,
    /// How its events were chosen; `None` where all of them are there, and it can be imported.
    pub excerpt: Option<Value>,
    /// When it was made, milliseconds since 1970.
    pub made_ms: u64,
}
/// Where items come from.
struct Source<R> {
    from: R,
    at: u64,
    sum: blake3::Hasher,
}

/// What lies at a place.
enum Item {
    /// An item; where its body begins.
    Whole { tag: u8, body: Vec<u8>, at: u64 },
    /// The end of the file, in the middle of something or before the last item.
    Cut,
    /// No item; the byte.
    Nonsense(u64),
}

impl<R: Read> Source<R> {
    /// Fills `bytes`; `false` where the file ends before.
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<bool> {
        match self.from.read_exact(bytes) {
            Ok(()) => {
                self.at += bytes.len() as u64;
                self.sum.update(bytes);
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn item(&mut self) -> io::Result<Item> {
        let begins = self.at;
        let mut front = [0; 5];
        if !self.read(&mut front)? {
            return Ok(Item::Cut);
        }
        let [tag, length @ ..] = front;
        let length = u32::from_le_bytes(length);
        if !tag.is_ascii_uppercase() || length > ITEM_MAX {
            return Ok(Item::Nonsense(begins));
        }
        let at = self.at;
        // A length that lies is not believed before the bytes are there.
        let mut body = Vec::new();
        let read = self.from.by_ref().take(length.into()).read_to_end(&mut body)?;
        self.at += read as u64;
        self.sum.update(&body);
        if read < length as usize {
            return Ok(Item::Cut);
        }
        Ok(Item::Whole { tag, body, at })
    }
}

/// Where items go.
struct Sink {
    out: BufWriter<File>,
    sum: blake3::Hasher,
}

impl Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sum.update(bytes);
        self.out.write_all(bytes)
    }

    fn item(&mut self, tag: u8, body: &[u8]) -> io::Result<()> {
        let length = u32::try_from(body.len()).ok().filter(|length| *length <= ITEM_MAX);
        let length = length.ok_or_else(|| io::Error::other("a part of the log is too large for a file"))?;
        self.write(&[tag])?;
        self.write(&length.to_le_bytes())?;
        self.write(body)
    }

    fn json(&mut self, tag: u8, value: &impl Serialize) -> io::Result<()> {
        self.item(tag, &serde_json::to_vec(value)?)
    }

    /// The last item, and the disk. Answers the bytes written.
    fn end(mut self) -> io::Result<u64> {
        let sum = *self.sum.finalize().as_bytes();
        self.item(END, &sum)?;
        let file = self.out.into_inner()?;
        file.sync_all()?;
        Ok(file.metadata()?.len())
    }
}

fn damaged(seq: Seq, cause: &str) -> Refusal {
    Refusal::new(Code::Integrity, format!("position {seq}: {cause}")).hint("athena log verify")
}

fn given_up() -> Refusal {
    Refusal::new(Code::Cancelled, "given up; nothing was left behind")
}

fn unwritable(path: &Path, error: &io::Error) -> Refusal {
    let code = if error.kind() == io::ErrorKind::StorageFull { Code::StorageFull } else { Code::Unavailable };
    Refusal::new(code, format!("{} cannot be written: {error}", path.display()))
}

fn unreadable(path: &Path, error: &io::Error) -> Refusal {
    let code = if error.kind() == io::ErrorKind::NotFound { Code::NotFound } else { Code::Unavailable };
    Refusal::new(code, format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests;
