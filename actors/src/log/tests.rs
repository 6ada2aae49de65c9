//! What any store must do, tried on each.

use super::testing::draft;
use super::*;

fn append(drafts: Vec<Draft>) -> Append {
    Append::new(drafts)
}

async fn each(test: impl AsyncFn(LogHandle)) {
    let (log, _) = LogHandle::open(Location::Memory, Options::default()).unwrap();
    test(log).await;
    let folder = tempfile::tempdir().unwrap();
    let (log, _) = LogHandle::open(folder.path(), Options::default()).unwrap();
    test(log.clone()).await;
    log.close().await.unwrap();
}

#[tokio::test]
async fn events_read_back_in_order_and_stay_after_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let (log, report) = LogHandle::open(folder.path(), Options::default()).unwrap();
    assert_eq!(report.head, 0);
    for n in 1..=3 {
        let receipt = log.commit(append(vec![draft("semantic", n, b"x")])).await.unwrap();
        assert_eq!(receipt, Receipt { first: n, last: n, durable: true, duplicate: false });
    }
    let before = log.reader().read(0, 10).unwrap();
    assert_eq!(before.iter().map(|r| (r.seq, r.version)).collect::<Vec<_>>(), [(1, 1), (2, 2), (3, 3)]);
    log.close().await.unwrap();
    assert_eq!(log.commit(append(vec![draft("semantic", 4, b"x")])).await, Err(LogError::Closed));
    let (log, report) = LogHandle::open(folder.path(), Options::default()).unwrap();
    assert_eq!((report.head, report.chain), (3, before[2].chain));
    assert_eq!(log.reader().read(0, 10).unwrap(), before);
    assert_eq!(log.reader().read_stream("semantic", 1, 1).unwrap(), before[1..2]);
    assert_eq!(log.reader().find(before[1].draft.id).unwrap(), Some(2));
    log.close().await.unwrap();
}

#[tokio::test]
async fn an_id_is_one_event_for_ever() {
    each(async |log| {
        let first = log.commit(append(vec![draft("a", 1, b"x"), draft("b", 2, b"y")])).await.unwrap();
        let mut again = vec![draft("a", 1, b"x"), draft("b", 2, b"y")];
        again[0].meta.at_ms += 5_000;
        let receipt = log.commit(append(again)).await.unwrap();
        assert_eq!(receipt, Receipt { duplicate: true, ..first });
        let other = draft("a", 1, b"z");
        assert_eq!(log.commit(append(vec![other.clone()])).await, Err(LogError::IdReused(other.id)));
        let part = vec![draft("a", 3, b"n"), draft("a", 1, b"x")];
        assert_eq!(log.commit(append(part)).await, Err(LogError::IdReused(other.id)));
        assert_eq!(log.reader().head(), 2);
    })
    .await;
}

#[tokio::test]
async fn what_is_let_go_of_in_a_pause_is_there_all_the_same() {
    each(async |log| {
        for n in 1..=3 {
            log.commit(append(vec![draft("semantic", n, b"x")])).await.unwrap();
            log.begin_write_out().unwrap();
            log.let_go().await.unwrap();
        }
        assert_eq!((log.reader().read(0, 10).unwrap().len(), log.reader().head()), (3, 3));
    })
    .await;
}

#[tokio::test]
async fn a_stream_must_be_where_it_was_expected() {
    each(async |log| {
        let at = |n, expected| Append { drafts: vec![draft("a", n, b"x")], expected, ..Append::default() };
        let conflict = |actual| Err(LogError::Conflict { stream: "a".into(), actual });
        assert_eq!(log.commit(at(1, Expected::Exists)).await, conflict(0));
        assert_eq!(log.commit(at(1, Expected::At(1))).await, conflict(0));
        log.commit(at(1, Expected::NoStream)).await.unwrap();
        assert_eq!(log.commit(at(2, Expected::NoStream)).await, conflict(1));
        log.commit(at(2, Expected::At(1))).await.unwrap();
        log.commit(at(3, Expected::Exists)).await.unwrap();
        // A retry is answered before its expectation is looked at: it was right when it was recorded.
        assert!(log.commit(at(2, Expected::At(1))).await.unwrap().duplicate);
    })
    .await;
}

#[tokio::test]
async fn what_is_buffered_becomes_durable_with_the_next_sync() {
    let folder = tempfile::tempdir().unwrap();
    let (log, _) = LogHandle::open(folder.path(), Options::default()).unwrap();
    let buffered = Append { durability: Durability::Buffered, ..append(vec![draft("a", 1, b"x")]) };
    assert!(!log.commit(buffered.clone()).await.unwrap().durable);
    assert_eq!(log.barrier().await.unwrap(), 1);
    assert!(log.commit(append(vec![draft("a", 2, b"x")])).await.unwrap().durable);
    let again = log.commit(buffered).await.unwrap();
    assert_eq!(again, Receipt { first: 1, last: 1, durable: true, duplicate: true });
    log.close().await.unwrap();
}

#[tokio::test]
async fn a_large_payload_reads_back() {
    each(async |log| {
        let large = vec![9; 300_000];
        log.commit(append(vec![draft("a", 1, &large), draft("a", 2, b"small")])).await.unwrap();
        let records = log.reader().read(0, 10).unwrap();
        assert_eq!(records[0].draft.payload, large);
        assert_eq!(records[1].draft.payload, b"small");
        assert!(log.commit(append(vec![draft("a", 1, &large)])).await.unwrap().duplicate);
    })
    .await;
}

#[tokio::test]
async fn large_payloads_that_no_event_names_go_with_the_next_compaction() {
    each(async |log| {
        let (kept, orphan) = (vec![9; 100_000], vec![7; 100_000]);
        log.commit(append(vec![draft("a", 1, &kept)])).await.unwrap();
        // As left behind by a process that died between the payload and its event.
        let hash = *blake3::hash(&orphan).as_bytes();
        log.slot.get().unwrap().put_blob(&hash, &orphan).unwrap();
        log.compact().await.unwrap();
        assert_eq!(log.slot.get().unwrap().blob(&hash).unwrap(), None);
        assert_eq!(log.reader().read(0, 1).unwrap()[0].draft.payload, kept);
        log.commit(append(vec![draft("a", 2, &orphan)])).await.unwrap();
        log.compact().await.unwrap();
        assert_eq!(log.reader().read(1, 1).unwrap()[0].draft.payload, orphan);
    })
    .await;
}

#[tokio::test]
async fn a_folder_has_one_writer() {
    let folder = tempfile::tempdir().unwrap();
    let (log, _) = LogHandle::open(folder.path(), Options::default()).unwrap();
    let second = LogHandle::open(folder.path(), Options::default());
    assert!(matches!(second, Err(LogError::Io(text)) if text.contains("in use")));
    log.close().await.unwrap();
    let (log, _) = LogHandle::open(folder.path(), Options::default()).unwrap();
    log.close().await.unwrap();
}

#[tokio::test]
async fn a_reader_waits_for_what_comes_and_learns_of_the_end() {
    let (log, _) = LogHandle::open(Location::Memory, Options::default()).unwrap();
    let reader = log.reader();
    let waiting = tokio::spawn({
        let reader = Arc::clone(&reader);
        async move { reader.beyond(0).await }
    });
    log.commit(append(vec![draft("a", 1, b"x")])).await.unwrap();
    assert_eq!(waiting.await.unwrap(), Some(1));
    log.close().await.unwrap();
    assert_eq!(reader.beyond(1).await, None);
}

#[tokio::test]
async fn appends_of_many_callers_share_groups_and_stay_whole() {
    each(async |log| {
        let callers: Vec<_> = (0..32)
            .map(|caller: u64| {
                let log = log.clone();
                tokio::spawn(async move {
                    for n in 0..5 {
                        let first = caller * 1000 + n * 2;
                        let pair = vec![draft("shared", first, b"x"), draft("shared", first + 1, b"y")];
                        let receipt = log.commit(append(pair)).await.unwrap();
                        assert_eq!(receipt.last, receipt.first + 1);
                    }
                })
            })
            .collect();
        for caller in callers {
            caller.await.unwrap();
        }
        let records = log.reader().read(0, 1000).unwrap();
        assert_eq!(records.len(), 320);
        assert!(records.iter().zip(1..).all(|(record, n)| record.seq == n && record.version == n));
        assert!(records.chunks(2).all(|pair| pair[0].draft.payload == b"x" && pair[1].draft.payload == b"y"));
    })
    .await;
}

#[tokio::test]
async fn what_is_too_much_is_refused_and_the_rest_goes_on() {
    each(async |log| {
        let many = (0..5000).map(|n| draft("a", n, b"")).collect();
        let two_streams = vec![draft("a", 1, b""), draft("b", 2, b"")];
        let twice = vec![draft("a", 1, b""), draft("a", 1, b"")];
        let nameless = vec![draft("", 1, b"")];
        for refused in [
            append(many),
            append(vec![draft("a", 1, &vec![0; (16 << 20) + 1])]),
            Append { expected: Expected::At(0), ..append(two_streams) },
            append(twice),
            append(nameless),
        ] {
            assert!(matches!(log.commit(refused).await, Err(LogError::Limit(_))));
        }
        assert_eq!(log.commit(append(vec![draft("a", 1, b"")])).await.unwrap().last, 1);
    })
    .await;
}

#[tokio::test]
async fn stride_d16_a_full_queue_refuses_at_once() {
    let (log, _) = LogHandle::open(Location::Memory, Options { queue: 1, ..Options::default() }).unwrap();
    // The first reply holds the writer until the queue has been found full.
    let (full, wait) = std::sync::mpsc::channel();
    log.append(append(vec![draft("a", 1, b"")]), Box::new(move |_| wait.recv().unwrap()));
    let (told, outcomes) = std::sync::mpsc::channel();
    for n in 2..=4 {
        let told = told.clone();
        log.append(append(vec![draft("a", n, b"")]), Box::new(move |result| told.send(result).unwrap()));
    }
    let refused = outcomes.recv().unwrap();
    assert!(matches!(refused, Err(LogError::Limit(_))), "{refused:?}");
    full.send(()).unwrap();
    log.close().await.unwrap();
}

#[tokio::test]
async fn stride_d17_a_consumer_continues_where_it_was_and_parks_what_it_cannot_digest() {
    each(async |log| {
        let consumer = log.consumer("audit");
        assert!(consumer.pull(10).unwrap().records.is_empty());
        log.commit(append((1..=3).map(|n| draft("a", n, b"x")).collect())).await.unwrap();
        assert!(consumer.ready().await.unwrap());
        consumer.claim("one", 1_000, 500).await.unwrap();
        let other = consumer.claim("two", 1_400, 500).await;
        assert_eq!(other, Err(LogError::Conflict { stream: "consumer/audit".into(), actual: 1_500 }));
        let page = consumer.pull(2).unwrap();
        assert_eq!((page.records.len(), page.caught_up), (2, false));
        consumer.done("one", 1).await.unwrap();
        for _ in 0..4 {
            assert!(!consumer.failed("one", 2, "no").await.unwrap());
        }
        assert!(consumer.failed("one", 2, "never").await.unwrap(), "the fifth failure parks it");
        assert_eq!(consumer.parked().unwrap(), [Parked { seq: 2, reason: "never".into() }]);
        let page = consumer.pull(10).unwrap();
        assert_eq!((page.records[0].seq, page.caught_up), (3, true));
        // The lease ran out, another took over: the first one finds out.
        consumer.claim("two", 1_600, 500).await.unwrap();
        assert!(matches!(consumer.done("one", 3).await, Err(LogError::Conflict { .. })));
        consumer.done("two", 3).await.unwrap();
        assert_eq!(log.consumer("audit").position().unwrap(), 3);
        assert_eq!(log.consumer("audi").position().unwrap(), 0);
        assert_eq!(consumer.unpark(2).await.unwrap().unwrap().reason, "never");
        assert!(consumer.parked().unwrap().is_empty());
    })
    .await;
}

/// Erasing: the key goes, the chain stays, and no byte of the store tells what was there.
#[tokio::test]
async fn what_was_erased_is_nowhere_in_the_store_and_the_chain_holds() {
    use crate::keys::{KeyStore, MasterKey, PayloadSealer, subject};
    use athena_schemas::ports::{Opened, Sealer};
    let folder = tempfile::tempdir().unwrap();
    let keys = Arc::new(KeyStore::open(&folder.path().join("keys"), MasterKey::File).unwrap());
    let sealer = PayloadSealer::new(Arc::clone(&keys));
    let (log, _) = LogHandle::open(folder.path().join("log"), Options::default()).unwrap();
    let secret = b"the launch code is 8-4-2";
    let mut large = vec![b'.'; 200_000];
    large[100_000..100_000 + secret.len()].copy_from_slice(secret);
    for (n, payload) in [(1, secret.as_slice()), (2, &large), (3, b"harmless")] {
        log.commit(append(vec![sealer.seal(draft("semantic", n, payload)).unwrap()])).await.unwrap();
    }
    let before = log.reader().read(0, 10).unwrap();
    assert_eq!(sealer.open(&before[1].draft).unwrap(), Opened::Plain(large));
    let subject = subject(&before[0].draft.meta.scope);
    let (_, key) = keys.event_key(&subject, before[0].draft.id).unwrap();
    keys.destroy(&subject).unwrap();
    log.compact().await.unwrap();
    let after = log.reader().read(0, 10).unwrap();
    assert_eq!(after, before, "what is in the log stays in the log");
    assert!(after.iter().all(|record| sealer.open(&record.draft).unwrap() == Opened::Erased));
    assert!(log.verify(None).unwrap().is_clean());
    log.close().await.unwrap();
    let mut scanned = 0;
    let mut folders = vec![folder.path().to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let bytes = std::fs::read(&path).unwrap();
            for needle in [secret.as_slice(), &key[..]] {
                let found = bytes.windows(needle.len()).any(|window| window == needle);
                assert!(!found, "{} still tells", path.display());
            }
            scanned += 1;
        }
    }
    assert!(scanned > 10, "the whole store was looked at");
}

#[tokio::test]
async fn a_supervised_log_starts_again_when_an_append_may_have_been_lost() {
    use super::actor::LogActor;
    use crate::supervisor::{Child, Policy, Supervisor};
    use ractor::Actor;
    use std::sync::atomic::{AtomicU32, Ordering};
    let (log, _) = LogHandle::open(Location::Memory, Options::default()).unwrap();
    let starts = Arc::new(AtomicU32::new(0));
    let child = Child::actor("log", || LogActor, {
        let (log, starts) = (log.clone(), Arc::clone(&starts));
        move || {
            starts.fetch_add(1, Ordering::SeqCst);
            log.clone()
        }
    });
    let (tree, ended) = Actor::spawn(None, Supervisor, (vec![child], Policy::default())).await.unwrap();
    log.slot.fail();
    tokio::time::timeout(Duration::from_secs(20), async {
        while starts.load(Ordering::SeqCst) < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("it starts again");
    log.commit(append(vec![draft("a", 1, b"x")])).await.unwrap();
    tree.stop(None);
    ended.await.unwrap();
    assert_eq!(
        log.commit(append(vec![draft("a", 2, b"x")])).await,
        Err(LogError::Closed),
        "it was closed with the tree"
    );
}
