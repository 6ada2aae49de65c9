//! What somebody with the files can do to a log, and who notices: the hashes, or a signed checkpoint kept elsewhere.

use super::frame::{self, GENESIS, Hash, Place};
use super::store::memory::Memory;
use super::store::{Batch, Entry, Store};
use super::testing::draft;
use super::verify::verify_store;
use super::{Checkpoint, Signer};
use athena_schemas::envelope::{Draft, Seq};
use proptest::prelude::*;
use std::collections::HashMap;

const EVENTS: u64 = 12;

fn drafts() -> Vec<Draft> {
    let stream = |n: u64| if n.is_multiple_of(3) { "episodic" } else { "semantic" };
    (1..=EVENTS).map(|n| draft(stream(n), n, format!("sealed payload {n}").as_bytes())).collect()
}

/// A history with all its hashes right, and the chain hash at its end.
fn history(drafts: &[Draft]) -> (Vec<Vec<u8>>, Hash) {
    let (mut chain, mut streams, mut frames) = (GENESIS, HashMap::new(), Vec::new());
    for (seq, draft) in (1..).zip(drafts) {
        let (version, previous) = streams.get(&draft.stream).copied().unwrap_or((0_u64, GENESIS));
        let place = Place { seq, version: version + 1, previous, chain };
        let encoded = frame::encode(draft, &place, None).unwrap();
        chain = encoded.chain;
        streams.insert(draft.stream.clone(), (version + 1, encoded.leaf));
        frames.push(encoded.bytes.to_vec());
    }
    (frames, chain)
}

/// A store that holds these frames, indexes and all as far as the frames can be read.
fn store(frames: &[Vec<u8>]) -> Memory {
    let store = Memory::default();
    let mut batch = Batch::default();
    for (seq, bytes) in (1..).zip(frames) {
        let (stream, version, id) = frame::decode(bytes).map_or(
            (frame::stream_key("unreadable"), seq, draft("unreadable", seq, b"").id),
            |frame| {
                let record = frame.record;
                (frame::stream_key(&record.draft.stream), record.version, record.draft.id)
            },
        );
        batch.events.push(Entry { seq, stream, version, id, frame: bytes.clone().into() });
    }
    store.commit(&batch, true).unwrap();
    store
}

fn findings(frames: &[Vec<u8>], checkpoint: Option<&Checkpoint>) -> Vec<Option<Seq>> {
    let report = verify_store(&store(frames), frames.len() as Seq, checkpoint);
    report.findings.iter().map(|finding| finding.first).collect()
}

fn checkpoint(seq: Seq, chain: &Hash) -> Checkpoint {
    Signer::new(&[7; 32]).sign(seq, chain, 1_000)
}

#[test]
fn an_honest_log_verifies_with_and_without_its_checkpoint() {
    let (frames, chain) = history(&drafts());
    assert!(findings(&frames, None).is_empty());
    assert!(findings(&frames, Some(&checkpoint(EVENTS, &chain))).is_empty());
    let (_, earlier) = history(&drafts()[..5]);
    assert!(findings(&frames, Some(&checkpoint(5, &earlier))).is_empty());
}

#[test]
fn deleted_reordered_and_swapped_events_are_found_where_they_are() {
    let (frames, _) = history(&drafts());
    let mut deleted = frames.clone();
    deleted.remove(4);
    assert_eq!(findings(&deleted, None).first(), Some(&Some(5)));
    let mut reordered = frames.clone();
    reordered.swap(6, 7);
    assert_eq!(findings(&reordered, None).first(), Some(&Some(7)));
    // The ciphertexts of two events of one stream change places; their hashes stay.
    let mut swapped = frames;
    let places: Vec<usize> = [1, 3]
        .map(|n: usize| {
            let needle = format!("sealed payload {}", n + 1);
            swapped[n].windows(needle.len()).position(|window| window == needle.as_bytes()).unwrap()
        })
        .to_vec();
    let length = "sealed payload 2".len();
    let first = swapped[1][places[0]..places[0] + length].to_vec();
    let second = swapped[3][places[1]..places[1] + length].to_vec();
    swapped[1][places[0]..places[0] + length].copy_from_slice(&second);
    swapped[3][places[1]..places[1] + length].copy_from_slice(&first);
    let found = findings(&swapped, None);
    assert!(found.contains(&Some(2)) && found.contains(&Some(4)), "{found:?}");
}

#[test]
fn a_history_rewritten_with_all_its_hashes_is_found_by_a_checkpoint_alone() {
    let (_, chain) = history(&drafts());
    let checkpoint = checkpoint(EVENTS, &chain);
    let mut other = drafts();
    other[2].payload = b"what never happened".to_vec();
    let (rewritten, _) = history(&other);
    assert!(findings(&rewritten, None).is_empty(), "its hashes are all right");
    assert!(!findings(&rewritten, Some(&checkpoint)).is_empty());
    // Rolled back to an earlier state of itself, and a line left out with all that follows renumbered.
    let (rolled_back, _) = history(&drafts()[..7]);
    assert!(findings(&rolled_back, None).is_empty());
    assert_eq!(findings(&rolled_back, Some(&checkpoint)), [Some(8)]);
    let mut fewer = drafts();
    fewer.remove(3);
    let (shorter, _) = history(&fewer);
    assert!(findings(&shorter, None).is_empty());
    assert!(!findings(&shorter, Some(&checkpoint)).is_empty());
    // A checkpoint that somebody wrote for it is signed by somebody else.
    let (frames, own) = history(&other);
    let forged =
        Checkpoint { key: checkpoint.key.clone(), ..Signer::new(&[8; 32]).sign(EVENTS, &own, 1_000) };
    assert!(!findings(&frames, Some(&forged)).is_empty());
}

proptest! {
    #[test]
    fn any_flipped_bit_is_found_at_its_event(event in 0..EVENTS as usize, at in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let (mut frames, _) = history(&drafts());
        let at = at.index(frames[event].len());
        frames[event][at] ^= 1 << bit;
        let found = findings(&frames, None);
        prop_assert!(found.contains(&Some(event as Seq + 1)), "byte {} of event {}: {:?}", at, event + 1, found);
    }
}
