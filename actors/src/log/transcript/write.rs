//! Writing a file beside the running writer.

use super::{
    CHECKPOINT, EVENT, FORMAT, HEAD, Head, KEYS, LEAVES, LEAVES_MAX, MAGIC, PAYLOAD, Sink, Told, damaged,
    given_up, unwritable,
};
use crate::files::{hex, sync_folder};
use crate::log::frame;
use crate::log::{Checkpoint, LogHandle};
use athena_schemas::envelope::{Record, Seq};
use athena_schemas::refusal::Refusal;
use serde_json::Value;
use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// What is to be written.
pub struct Order<'a> {
    /// Vouches for the last position.
    pub checkpoint: &'a Checkpoint,
    /// Events after this position; 0 for all.
    pub after: Seq,
    /// How events are chosen, in words for whoever opens the file; `None` writes all of them.
    pub excerpt: Option<Value>,
    /// Whether an event belongs to the excerpt.
    pub choice: &'a dyn Fn(&Record) -> bool,
    /// Keys under a passphrase, if they are to go along.
    pub keys: Option<&'a [u8]>,
    /// The time, milliseconds since 1970.
    pub made_ms: u64,
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exported {
    /// Events in the file.
    pub events: u64,
    /// Bytes of the file.
    pub bytes: u64,
}

impl LogHandle {
    /// Writes the log into a file that must not exist yet; mode 0600, on disk when this returns. Checks every event on the way:
    /// a damaged log is not passed on as a good one. The writer goes on meanwhile.
    ///
    /// # Errors
    /// [`Code::Conflict`] where the file exists, [`Code::Integrity`] where an event is not what was written,
    /// [`Code::Cancelled`] when `told` answers no, or the disk fails.
    pub fn export(&self, path: &Path, order: &Order<'_>, told: Told<'_>) -> Result<Exported, Refusal> {
        if path.exists() {
            return Err(Refusal::conflict(format!("{} exists already", path.display())).hint("another name"));
        }
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".part");
        let part = path.with_file_name(name);
        let written = self.write_file(&part, order, told).and_then(|exported| {
            fs::rename(&part, path).map_err(|error| unwritable(path, &error))?;
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            sync_folder(folder.unwrap_or(Path::new("."))).map_err(|error| unwritable(path, &error))?;
            Ok(exported)
        });
        if written.is_err() {
            // What is left of it only takes room; the error that matters is the first one.
            let _ = fs::remove_file(&part);
        }
        written
    }

    fn write_file(&self, path: &Path, order: &Order<'_>, told: Told<'_>) -> Result<Exported, Refusal> {
        let failed = |error: io::Error| unwritable(path, &error);
        let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(path);
        let mut sink = Sink {
            out: BufWriter::with_capacity(1 << 20, file.map_err(failed)?),
            sum: blake3::Hasher::new(),
        };
        let (after, last) = (order.after, order.checkpoint.seq);
        let mut chain = self.chain_at(after)?;
        let head = Head {
            format: FORMAT,
            after,
            chain: hex(&chain),
            last,
            excerpt: order.excerpt.clone(),
            made_ms: order.made_ms,
        };
        sink.write(MAGIC).map_err(failed)?;
        sink.json(HEAD, &head).map_err(failed)?;
        let (mut at, mut events, mut leaves) = (after, 0, Vec::new());
        while at < last {
            for (seq, bytes) in self.frames(at, last)? {
                let frame = frame::verify(&bytes, &chain).map_err(|cause| damaged(seq, &cause))?;
                (at, chain) = (seq, frame.record.chain);
                let chosen = order.excerpt.is_none() || (order.choice)(&frame.record);
                if !chosen {
                    leaves.extend_from_slice(&frame.record.leaf);
                }
                if !leaves.is_empty() && (chosen || leaves.len() >= LEAVES_MAX) {
                    sink.item(LEAVES, &std::mem::take(&mut leaves)).map_err(failed)?;
                }
                if chosen {
                    if let Some(blob) = frame.blob {
                        let payload = self.blob(&blob.hash)?;
                        let payload = payload.ok_or_else(|| damaged(seq, "its payload's blob is missing"))?;
                        sink.item(PAYLOAD, &payload).map_err(failed)?;
                    }
                    sink.item(EVENT, &bytes).map_err(failed)?;
                    events += 1;
                }
            }
            if !told(at - after, last - after) {
                return Err(given_up());
            }
        }
        if !leaves.is_empty() {
            sink.item(LEAVES, &leaves).map_err(failed)?;
        }
        sink.json(CHECKPOINT, order.checkpoint).map_err(failed)?;
        if let Some(keys) = order.keys {
            sink.item(KEYS, keys).map_err(failed)?;
        }
        let bytes = sink.end().map_err(failed)?;
        Ok(Exported { events, bytes })
    }
}
