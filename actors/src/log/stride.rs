//! Rows of the threat table about the log's bytes: somebody who can write its files rewrites, drops, swaps or cuts.

use super::checkpoint::{Checkpoint, Signer};
use super::frame::{self, GENESIS, Hash, Place};
use super::store::memory::Memory;
use super::store::{Batch, Entry, Store};
use super::testing::draft;
use super::verify::{VerifyReport, verify_store};
use super::*;
use std::collections::HashMap;

/// A log of that many events over three streams, frame by frame.
fn history(events: u64, word: &str) -> Vec<Entry> {
    let mut chain = GENESIS;
    let mut streams: HashMap<String, (u64, Hash)> = HashMap::new();
    (1..=events)
        .map(|seq| {
            let draft = draft(&format!("stream-{}", seq % 3), seq, format!("{word} {seq}").as_bytes());
            let (version, previous) = streams.get(&draft.stream).copied().unwrap_or((0, GENESIS));
            let place = Place { seq, version: version + 1, previous, chain };
            let encoded = frame::encode(&draft, &place, None).unwrap();
            chain = encoded.chain;
            streams.insert(draft.stream.clone(), (version + 1, encoded.leaf));
            let stream = frame::stream_key(&draft.stream);
            Entry { seq, stream, version: version + 1, id: draft.id, frame: encoded.bytes }
        })
        .collect()
}

fn check(entries: Vec<Entry>, checkpoint: Option<&Checkpoint>) -> VerifyReport {
    let store = Memory::default();
    let head = entries.len() as u64;
    store.commit(&Batch { events: entries, ..Batch::default() }, true).unwrap();
    verify_store(&store, head, checkpoint)
}

fn found_at(report: &VerifyReport, seq: u64) -> bool {
    report.findings.iter().any(|found| found.first <= Some(seq) && Some(seq) <= found.last)
}

/// Every byte of a log of 200 events is flipped in turn: the event does not verify; and the walk names its position.
#[test]
fn stride_t01() {
    let entries = history(200, "event");
    assert!(check(history(200, "event"), None).is_clean());
    let mut before = GENESIS;
    for entry in &entries {
        for byte in 0..entry.frame.len() {
            let mut bytes = entry.frame.to_vec();
            bytes[byte] ^= 1 << (byte % 8);
            assert!(frame::verify(&bytes, &before).is_err(), "byte {byte} of {}", entry.seq);
        }
        before = frame::hashes(&entry.frame).unwrap().1;
    }
    for at in 0..entries.len() {
        let mut changed = history(200, "event");
        let byte = at * 7 % changed[at].frame.len();
        let mut bytes = changed[at].frame.to_vec();
        bytes[byte] ^= 0x20;
        changed[at].frame = bytes.into();
        assert!(found_at(&check(changed, None), at as u64 + 1), "byte {byte} of {}", at + 1);
    }
}

/// Events are deleted from the middle and neighbours swapped: each is found where it happened.
#[test]
fn stride_t02() {
    for at in 0..59 {
        let mut shorter = history(60, "event");
        shorter.remove(at);
        assert!(found_at(&check(shorter, None), at as u64 + 1), "{} deleted", at + 1);
        let mut swapped = history(60, "event");
        swapped.swap(at, at + 1);
        assert!(found_at(&check(swapped, None), at as u64 + 1), "{} and {} swapped", at + 1, at + 2);
    }
}

/// The tail is cut off, or all of history written anew with hashes that fit: the chain alone cannot know. A signed checkpoint
/// that lies elsewhere can.
#[test]
fn stride_t03() {
    let entries = history(50, "event");
    let chain = frame::hashes(&entries[49].frame).unwrap().1;
    let checkpoint = Signer::new(&[7; 32]).sign(50, &chain, 1_000);
    assert!(check(entries, Some(&checkpoint)).is_clean());
    for cut in 1..=10 {
        let shorter = || history(50 - cut, "event");
        assert!(check(shorter(), None).is_clean(), "what is left is whole");
        let report = check(shorter(), Some(&checkpoint));
        assert!(report.findings[0].what.contains("rolled back"), "{report:?}");
        assert!(found_at(&report, 50));
    }
    let rewritten = check(history(50, "another event"), Some(&checkpoint));
    assert!(rewritten.findings[0].what.contains("rewritten"), "{rewritten:?}");
    let forged = Checkpoint { seq: 40, ..checkpoint };
    assert!(check(history(40, "event"), Some(&forged)).findings[0].what.contains("signature"));
}

/// Hostile bytes on the disk: a million frames, cut, stretched and changed, are read without a panic, and none of them passes.
#[test]
fn stride_t21() {
    let entry = &history(3, "event")[2];
    let before = frame::hashes(&history(2, "event")[1].frame).unwrap().1;
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut dice = move |limit: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % limit as u64).unwrap()
    };
    let mut readable = 0;
    for n in 0..1_000_000 {
        let mut bytes = entry.frame.to_vec();
        for _ in 0..=dice(4) {
            let at = dice(bytes.len());
            bytes[at] = u8::try_from(dice(256)).unwrap();
        }
        match n % 4 {
            0 => bytes.truncate(dice(bytes.len())),
            1 => bytes.insert(dice(bytes.len()), 0xff),
            _ => {}
        }
        readable += u32::from(frame::decode(&bytes).is_ok());
        if n % 16 == 0 && bytes != *entry.frame {
            assert!(frame::verify(&bytes, &before).is_err(), "{bytes:?}");
        }
    }
    assert!(readable > 1_000, "some got as far as the fields: {readable}");
}

/// Somebody floods the log to have the evidence rotate away: nothing is ever deleted for its size or age.
#[tokio::test]
async fn stride_r05() {
    let (log, _) = LogHandle::open(Location::Memory, Options::default()).unwrap();
    let evidence = draft("privacy", 0, b"a value was revealed");
    log.commit(Append::new(vec![evidence.clone()])).await.unwrap();
    for batch in 0..400 {
        let flood = (0..250).map(|n| draft("noise", 1 + batch * 250 + n, b"")).collect();
        log.commit(Append::new(flood)).await.unwrap();
    }
    log.compact().await.unwrap();
    let reader = log.reader();
    assert_eq!(reader.head(), 100_001);
    assert_eq!(reader.find(evidence.id).unwrap(), Some(1));
    assert_eq!(reader.read_stream("privacy", 0, 1).unwrap()[0].draft, evidence);
}
