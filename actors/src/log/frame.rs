//! One event as bytes, and the hashes that bind it to all before it.
//!
//! `format u8 | previous leaf of its stream, 32 B | header (postcard) | payload | leaf 32 B | chain 32 B`
//!
//! The leaf is BLAKE3 over everything before it, so it covers the *ciphertext*: destroying a key leaves the chain whole.
//! The chain is BLAKE3 over the chain before and the leaf. A payload kept as a blob is bound by its hash in the header.
//!
//! Where a payload was dropped to give back its room ([`retention`](crate::retention)), a stub takes the frame's place: format
//! 2, the same without the payload. Its leaf can no longer be made from its bytes; the event that records the dropping holds
//! a hash over the stubs it vouches for ([`Vouched`]), so the header stays bound as well.

use super::prepared::Unplaced;
use athena_schemas::envelope::{Draft, Kind, Meta, Record, Seq};
use athena_schemas::id::EventId;
use serde::{Deserialize, Serialize};
use std::ops::Deref;

/// A BLAKE3 hash.
pub type Hash = [u8; 32];

/// The chain before the first event, and the previous leaf of a stream's first event.
pub const GENESIS: Hash = [0; 32];

/// The format written today. Every format ever written stays readable.
pub(super) const FORMAT: u8 = 1;
/// The format of what is left of an event whose payload was dropped.
pub(crate) const STUB: u8 = 2;

/// The place the writer gives an event.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    /// Position in the log.
    pub(crate) seq: Seq,
    /// Position in its stream.
    pub(crate) version: u64,
    /// Leaf of the event before it in its stream.
    pub(crate) previous: Hash,
    /// Chain hash of the event before it in the log.
    pub(crate) chain: Hash,
}

/// A payload that lies outside the frame, named by the hash of its (sealed) bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BlobRef {
    /// BLAKE3 over the bytes.
    pub(crate) hash: Hash,
    /// Their number.
    pub(crate) len: u32,
}

#[derive(Deserialize)]
struct Header {
    seq: Seq,
    version: u64,
    stream: String,
    id: EventId,
    kind: Kind,
    schema: u8,
    meta: Meta,
    blob: Option<BlobRef>,
}

/// A frame that was taken apart. Its payload is empty where it lies in a blob.
#[derive(Debug)]
pub(crate) struct Frame {
    /// The event.
    pub(crate) record: Record,
    /// The leaf of the event before it in its stream.
    pub(crate) previous: Hash,
    /// Where its payload is, if not in the frame and not dropped.
    pub(crate) blob: Option<BlobRef>,
    /// The same, whether or not it was dropped.
    pub(crate) named: Option<BlobRef>,
    /// Whether the payload was dropped.
    pub(crate) stub: bool,
}

/// A frame's bytes at the end of a buffer: where they begin depends on how long the place is that was put before them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bytes {
    buffer: Vec<u8>,
    start: usize,
}

impl Bytes {
    /// What of a buffer begins at `start`.
    pub(crate) fn from_end(buffer: Vec<u8>, start: usize) -> Self {
        Self { buffer, start }
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.buffer.get(self.start..).unwrap_or_default()
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(buffer: Vec<u8>) -> Self {
        Self { buffer, start: 0 }
    }
}

/// Bytes ready for the store.
#[derive(Debug)]
pub(crate) struct Encoded {
    /// The frame.
    pub(crate) bytes: Bytes,
    /// Its leaf hash.
    pub(crate) leaf: Hash,
    /// Its chain hash.
    pub(crate) chain: Hash,
}

/// Puts an event in its place. With a blob, the draft's payload is left out of the frame. The writer does the same in two steps:
/// see [`prepared`](super::prepared).
///
/// # Errors
/// Only if the header cannot be serialized, which its types rule out.
pub(crate) fn encode(draft: &Draft, place: &Place, blob: Option<BlobRef>) -> Result<Encoded, String> {
    Unplaced::new(draft, blob)?.place(place)
}

/// The chain hash after a leaf.
pub(crate) fn link(chain: &Hash, leaf: &Hash) -> Hash {
    let mut both = [0; 64];
    let (left, right) = both.split_at_mut(32);
    left.copy_from_slice(chain);
    right.copy_from_slice(leaf);
    *blake3::hash(&both).as_bytes()
}

/// Takes a frame apart without checking its hashes: the store's own checksums have held. [`verify`] checks them.
///
/// # Errors
/// When the bytes are not a frame.
pub(crate) fn decode(bytes: &[u8]) -> Result<Frame, String> {
    let (body, leaf, chain) = split(bytes)?;
    let (previous, rest) = body.split_first_chunk::<32>().ok_or("the frame is too short")?;
    let (header, payload): (Header, &[u8]) =
        postcard::take_from_bytes(rest).map_err(|error| format!("the header is not readable: {error}"))?;
    let draft = Draft {
        stream: header.stream,
        id: header.id,
        kind: header.kind,
        schema: header.schema,
        meta: header.meta,
        payload: payload.to_vec(),
    };
    let stub = bytes.first() == Some(&STUB);
    if stub && !draft.payload.is_empty() {
        return Err("a payload that was dropped is there".into());
    }
    let record = Record { seq: header.seq, version: header.version, draft, leaf, chain };
    let blob = header.blob.filter(|_| !stub);
    Ok(Frame { record, previous: *previous, blob, named: header.blob, stub })
}

/// What is left of a frame when its payload is dropped; of a stub, itself.
///
/// # Errors
/// When the bytes are not a frame.
pub(crate) fn stub(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let (body, leaf, chain) = split(bytes)?;
    let (_, rest) = body.split_first_chunk::<32>().ok_or("the frame is too short")?;
    let (_, payload): (Header, &[u8]) =
        postcard::take_from_bytes(rest).map_err(|error| format!("the header is not readable: {error}"))?;
    let header = rest.get(..rest.len() - payload.len()).unwrap_or_default();
    let mut stub = Vec::with_capacity(header.len() + 97);
    stub.push(STUB);
    stub.extend_from_slice(body.first_chunk::<32>().unwrap_or(&GENESIS));
    stub.extend_from_slice(header);
    stub.extend_from_slice(&leaf);
    stub.extend_from_slice(&chain);
    Ok(stub)
}

/// A hash over stubs, in the order of their positions: what the event that records their dropping says of them.
#[derive(Default)]
pub(crate) struct Vouched(blake3::Hasher);

impl Vouched {
    /// Takes in one more.
    pub(crate) fn add(&mut self, stub: &[u8]) {
        self.0.update(&(stub.len() as u64).to_le_bytes()).update(stub);
    }

    /// The hash over all.
    pub(crate) fn digest(&self) -> Hash {
        *self.0.finalize().as_bytes()
    }
}

/// Takes a frame apart and checks that its leaf and chain hash are what its bytes and `before`, the chain before it, make. The
/// leaf of a stub is taken as it is: what vouches for it stands elsewhere.
///
/// # Errors
/// When they are not; the text says which.
pub(crate) fn verify(bytes: &[u8], before: &Hash) -> Result<Frame, String> {
    let frame = decode(bytes)?;
    let body = bytes.get(..bytes.len().saturating_sub(64)).unwrap_or_default();
    if !frame.stub && *blake3::hash(body).as_bytes() != frame.record.leaf {
        return Err("its bytes do not match its leaf hash".into());
    }
    if link(before, &frame.record.leaf) != frame.record.chain {
        return Err("its chain hash does not follow from the event before it".into());
    }
    Ok(frame)
}

/// Leaf and chain hash of a frame, without taking it apart.
pub(crate) fn hashes(bytes: &[u8]) -> Result<(Hash, Hash), String> {
    split(bytes).map(|(_, leaf, chain)| (leaf, chain))
}

fn split(bytes: &[u8]) -> Result<(&[u8], Hash, Hash), String> {
    let (format, rest) = bytes.split_first().ok_or("the frame is empty")?;
    if ![FORMAT, STUB].contains(format) {
        return Err(format!("frame format {format} is not known to this build"));
    }
    let (rest, chain) = rest.split_last_chunk::<32>().ok_or("the frame is too short")?;
    let (body, leaf) = rest.split_last_chunk::<32>().ok_or("the frame is too short")?;
    Ok((body, *leaf, *chain))
}

/// The key under which a stream's versions are indexed: names differ in length, keys do not.
pub(crate) fn stream_key(stream: &str) -> [u8; 16] {
    let mut key = [0; 16];
    key.copy_from_slice(blake3::hash(stream.as_bytes()).as_bytes().first_chunk::<16>().unwrap_or(&[0; 16]));
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::testing::draft;

    fn place() -> Place {
        Place { seq: 7, version: 3, previous: [1; 32], chain: [2; 32] }
    }

    #[test]
    fn a_frame_reads_back_as_it_was_written() {
        let draft = draft("semantic", 1, b"hello");
        let encoded = encode(&draft, &place(), None).unwrap();
        let frame = verify(&encoded.bytes, &[2; 32]).unwrap();
        assert_eq!(frame.record.draft, draft);
        assert_eq!((frame.record.seq, frame.record.version, frame.previous), (7, 3, [1; 32]));
        assert_eq!((frame.record.leaf, frame.record.chain), (encoded.leaf, encoded.chain));
    }

    #[test]
    fn a_stub_has_everything_but_the_payload_and_stays_in_the_chain() {
        let full = encode(&draft("semantic", 1, b"hello"), &place(), None).unwrap();
        let stub = stub(&full.bytes).unwrap();
        assert_eq!(stub.len(), full.bytes.len() - 5);
        assert_eq!(super::stub(&stub).unwrap(), stub, "a stub of a stub is itself");
        let (whole, left) = (decode(&full.bytes).unwrap(), verify(&stub, &[2; 32]).unwrap());
        assert!(left.stub && left.record.draft.payload.is_empty());
        assert_eq!(left.record.draft.meta, whole.record.draft.meta);
        assert_eq!((left.record.leaf, left.record.chain), (full.leaf, full.chain));
        assert!(verify(&stub, &[3; 32]).is_err());
        let mut refilled = stub.clone();
        refilled.insert(stub.len() - 64, b'x');
        assert!(decode(&refilled).is_err(), "nothing can be put where a payload was");
    }

    #[test]
    fn no_bit_of_a_frame_can_change_unnoticed() {
        let encoded = encode(&draft("semantic", 1, b"hello"), &place(), None).unwrap();
        for bit in 0..encoded.bytes.len() * 8 {
            let mut bytes = encoded.bytes.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(verify(&bytes, &[2; 32]).is_err(), "bit {bit} changed unnoticed");
        }
        assert!(verify(&encoded.bytes, &[3; 32]).is_err(), "another history went unnoticed");
    }

    /// The bytes of format 1, for ever: stores written by this build must stay readable.
    #[test]
    fn format_1_is_frozen() {
        let encoded = encode(&draft("semantic", 1, b"hello"), &place(), None).unwrap();
        let hash = blake3::hash(&encoded.bytes).to_hex();
        assert_eq!(hash.as_str(), "773275056ca8063922f6f7dec142f6018f71c4a89a7549215448312d75a60045");
    }
}
