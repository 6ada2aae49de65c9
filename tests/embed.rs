//! Athena inside another program: this one.

use athena::Athena;
use athena_schemas::context::Scope;
use athena_schemas::refusal::Code;

async fn found(athena: &Athena, query: &str) -> Vec<String> {
    athena.recall(query, 10).await.unwrap().into_iter().map(|hit| hit.item.content).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_stores_live_in_one_program_and_know_nothing_of_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let one = Athena::builder().folder(folder.path()).project("acme").sandbox(false).open().await.unwrap();
    let two = Athena::builder().project("acme").sandbox(false).open().await.unwrap();
    let kept = one.remember("the harbour is closed in winter").await.unwrap();
    assert!(kept > 0);
    assert_eq!(found(&one, "harbour").await, ["the harbour is closed in winter"]);
    assert!(found(&two, "harbour").await.is_empty());
    assert!(found(&one.within(Scope::project("other")), "harbour").await.is_empty());

    // What was told is on disk: the folder opened again has it, and the past is still there to be asked.
    one.remember("the harbour opens in April").await.unwrap();
    one.shutdown().await;
    drop(one);
    let again = Athena::builder().folder(folder.path()).project("acme").sandbox(false).open().await.unwrap();
    assert_eq!(found(&again, "harbour").await.len(), 2);
    assert_eq!(found(&again.at(kept), "harbour").await, ["the harbour is closed in winter"]);
    let refused = again.at(kept).remember("too late").await.unwrap_err();
    assert_eq!(refused.code, Code::Invalid);
    again.shutdown().await;
    two.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_arrive_from_the_first_one_on_and_end_with_the_store() {
    let athena = Athena::builder().sandbox(false).open().await.unwrap();
    let mut events = athena.events(0);
    let last = athena.remember("a first event").await.unwrap();
    let mut expected = 1;
    while let Some((record, event)) = events.next().await.unwrap() {
        assert_eq!(record.seq, expected, "gapless");
        assert!(event.is_some());
        if record.seq == last {
            break;
        }
        expected += 1;
    }
    athena.shutdown().await;
    while let Some((record, _)) = events.next().await.unwrap_or(None) {
        assert!(record.seq > last);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_program_is_told_who_has_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let first = Athena::builder().folder(folder.path()).sandbox(false).open().await.unwrap();
    let second = Athena::builder().folder(folder.path()).sandbox(false).open().await;
    let refusal = second.err().expect("the store is taken");
    assert_eq!(refusal.code, Code::Unavailable, "{refusal:?}");
    first.shutdown().await;
}
