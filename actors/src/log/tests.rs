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
