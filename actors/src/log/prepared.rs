//! An event with everything but its place, as bytes.
//!
//! Callers are many and the writer is one, so what needs no place is done on the caller's thread: the header is written, the
//! payload copied behind it, the hash of a large payload taken. The writer puts the place in front, for which room was left,
//! and the hashes behind; it copies nothing and frees little.

use super::blobs::INLINE_MAX;
use super::frame::{BlobRef, Bytes, Encoded, FORMAT, Hash, Place, link};
use athena_schemas::envelope::{Draft, Kind, Meta};
use athena_schemas::id::EventId;
use serde::{Deserialize, Serialize};

/// The leaf before, bytes.
const LEAF: usize = 32;
/// Position and version, bytes at most.
const NUMBERS: usize = 20;
/// The room that is left for a place: format, leaf before, position, version.
const ROOM: usize = 1 + LEAF + NUMBERS;
/// Leaf and chain hash, bytes.
const HASHES: usize = 64;
/// What most headers take at most, bytes.
const HEADER: usize = 256;

/// The part of a header that stands behind position and version.
#[derive(Serialize)]
struct RestRef<'a> {
    stream: &'a str,
    id: EventId,
    kind: Kind,
    schema: u8,
    meta: &'a Meta,
    blob: Option<BlobRef>,
}

#[derive(Deserialize)]
struct Rest {
    stream: String,
    id: EventId,
    kind: Kind,
    schema: u8,
    meta: Meta,
    _blob: Option<BlobRef>,
}

/// An event that waits for its place.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// Its stream.
    pub(crate) stream: String,
    /// Its id.
    pub(crate) id: EventId,
    /// Bytes of its payload.
    pub(crate) size: usize,
    /// A payload that lies beside the frame, and its name.
    pub(crate) blob: Option<(BlobRef, Vec<u8>)>,
    /// Its frame.
    pub(crate) unplaced: Unplaced,
}

/// A frame without its place.
#[derive(Debug, Default)]
pub(crate) struct Unplaced(Vec<u8>);

impl Prepared {
    /// Makes an event ready; a large payload goes beside.
    ///
    /// # Errors
    /// Only if the header cannot be serialized, which its types rule out.
    pub(crate) fn new(mut draft: Draft) -> Result<Self, String> {
        let large = u32::try_from(draft.payload.len()).ok().filter(|_| draft.payload.len() > INLINE_MAX);
        let blob = large.map(|len| BlobRef { hash: *blake3::hash(&draft.payload).as_bytes(), len });
        let unplaced = Unplaced::new(&draft, blob)?;
        let size = draft.payload.len();
        let blob = blob.map(|blob| (blob, std::mem::take(&mut draft.payload)));
        Ok(Self { stream: draft.stream, id: draft.id, size, blob, unplaced })
    }

    /// The event as it came.
    ///
    /// # Errors
    /// When the bytes are not what was prepared, which nothing changes.
    pub(crate) fn draft(&self) -> Result<Draft, String> {
        let bytes = self.unplaced.0.get(ROOM..).unwrap_or_default();
        let (rest, inline): (Rest, &[u8]) =
            postcard::take_from_bytes(bytes).map_err(|error| error.to_string())?;
        let Rest { stream, id, kind, schema, meta, .. } = rest;
        let payload = self.blob.as_ref().map_or(inline, |(_, payload)| payload).to_vec();
        Ok(Draft { stream, id, kind, schema, meta, payload })
    }
}

impl Unplaced {
    /// The frame of a draft; with a blob, without its payload.
    ///
    /// # Errors
    /// As [`Prepared::new`].
    pub(super) fn new(draft: &Draft, blob: Option<BlobRef>) -> Result<Self, String> {
        let inline: &[u8] = if blob.is_some() { &[] } else { &draft.payload };
        let mut bytes = Vec::with_capacity(ROOM + HEADER + inline.len() + HASHES);
        bytes.resize(ROOM, 0);
        let Draft { stream, id, kind, schema, meta, .. } = draft;
        let rest = RestRef { stream, id: *id, kind: *kind, schema: *schema, meta, blob };
        let mut bytes = postcard::to_extend(&rest, bytes).map_err(|error| error.to_string())?;
        bytes.reserve_exact(inline.len() + HASHES);
        bytes.extend_from_slice(inline);
        Ok(Self(bytes))
    }

    /// Puts it in its place.
    ///
    /// # Errors
    /// Only if two numbers cannot be serialized.
    pub(super) fn place(self, place: &Place) -> Result<Encoded, String> {
        let Self(mut bytes) = self;
        let mut numbers = [0; NUMBERS];
        let numbers = postcard::to_slice(&(place.seq, place.version), &mut numbers)
            .map_err(|error| error.to_string())?;
        let start = ROOM - numbers.len() - LEAF - 1;
        let front = bytes.get_mut(start..ROOM).and_then(<[u8]>::split_first_mut);
        if let Some((format, rest)) = front
            && let Some((previous, room)) = rest.split_first_chunk_mut::<LEAF>()
        {
            *format = FORMAT;
            *previous = place.previous;
            room.copy_from_slice(numbers);
        }
        let leaf: Hash = *blake3::hash(bytes.get(start..).unwrap_or_default()).as_bytes();
        let chain = link(&place.chain, &leaf);
        bytes.extend_from_slice(&leaf);
        bytes.extend_from_slice(&chain);
        Ok(Encoded { bytes: Bytes::from_end(bytes, start), leaf, chain })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::frame::verify;
    use crate::log::testing::draft;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_prepared_event_in_its_place_is_the_event(
            seq in 1..u64::MAX,
            version in 1..u64::MAX,
            name in "[a-z/]{1,256}",
            size in prop_oneof![0..600_usize, INLINE_MAX - 2..INLINE_MAX + 3],
        ) {
            let draft = draft(&name, 1, &vec![7; size]);
            let prepared = Prepared::new(draft.clone()).unwrap();
            prop_assert_eq!(&prepared.draft().unwrap(), &draft);
            prop_assert_eq!((prepared.size, prepared.blob.is_some()), (size, size > INLINE_MAX));
            let place = Place { seq, version, previous: [1; 32], chain: [2; 32] };
            let encoded = prepared.unplaced.place(&place).unwrap();
            let frame = verify(&encoded.bytes, &[2; 32]).unwrap();
            prop_assert_eq!((frame.record.seq, frame.record.version, frame.previous), (seq, version, [1; 32]));
            prop_assert_eq!((frame.record.leaf, frame.record.chain), (encoded.leaf, encoded.chain));
            let named = prepared.blob.map(|(blob, _)| blob);
            prop_assert_eq!(frame.blob, named);
            if named.is_none() {
                prop_assert_eq!(frame.record.draft, draft);
            }
        }
    }
}
