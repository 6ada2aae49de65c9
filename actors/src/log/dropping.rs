//! Dropping payloads: the event stays, with its place, its header and its hashes; its bytes are given back.
//!
//! The log itself knows no reason to. Whoever has one records it first, with the hash over what will be left
//! ([`Dropping::digest`]), and then drops: a crash in between leaves payloads that are on record as dropped and still there,
//! never the reverse.

use super::frame::{self, Hash, Vouched};
use super::store::Store;
use athena_schemas::envelope::{Kind, Seq};
use athena_schemas::id::EventId;
use athena_schemas::ports::LogError;

/// What is known of an event without its payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outline {
    /// Its position.
    pub seq: Seq,
    /// Its stream.
    pub stream: String,
    /// Its id.
    pub id: EventId,
    /// Its kind.
    pub kind: Kind,
    /// Wall time of the decision, milliseconds since 1970.
    pub at_ms: u64,
    /// The vault it belongs to.
    pub vault: String,
    /// Bytes of its payload, sealed; 0 once it was dropped.
    pub bytes: u64,
    /// Whether its payload was dropped.
    pub dropped: bool,
}

/// What takes the place of events whose payloads are dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dropping {
    stubs: Vec<(Seq, Vec<u8>)>,
    /// BLAKE3 over what is left of them, in the order of their positions.
    pub digest: Hash,
}

impl Dropping {
    pub(super) fn into_stubs(self) -> Vec<(Seq, Vec<u8>)> {
        self.stubs
    }
}

pub(super) fn outline(
    store: &dyn Store,
    after: Seq,
    head: Seq,
    visit: &mut dyn FnMut(&Outline) -> bool,
) -> Result<(), LogError> {
    if after >= head {
        return Ok(());
    }
    let mut problem = None;
    store.scan(after, &mut |seq, bytes| match frame::decode(bytes) {
        Ok(frame) => {
            let draft = frame.record.draft;
            let inline = draft.payload.len() as u64;
            let bytes = frame.blob.map_or(inline, |blob| u64::from(blob.len));
            visit(&Outline {
                seq,
                id: draft.id,
                kind: draft.kind,
                at_ms: draft.meta.at_ms,
                vault: draft.meta.scope.vault().to_owned(),
                stream: draft.stream,
                bytes,
                dropped: frame.stub,
            }) && seq < head
        }
        Err(cause) => {
            problem = Some(damaged(seq, &cause));
            false
        }
    })?;
    problem.map_or(Ok(()), Err)
}

pub(super) fn prepare(store: &dyn Store, positions: &[Seq]) -> Result<Dropping, LogError> {
    let (mut stubs, mut vouched) = (Vec::with_capacity(positions.len()), Vouched::default());
    for seq in positions {
        let bytes = store.frame(*seq)?.ok_or_else(|| damaged(*seq, "it is missing from the log"))?;
        let stub = frame::stub(&bytes).map_err(|cause| damaged(*seq, &cause))?;
        vouched.add(&stub);
        stubs.push((*seq, stub));
    }
    Ok(Dropping { stubs, digest: vouched.digest() })
}

fn damaged(seq: Seq, cause: &str) -> LogError {
    LogError::Damaged(format!("position {seq}: {cause}"))
}
