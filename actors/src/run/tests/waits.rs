//! Runs that wait for a person, and runs that nobody waits for any more.

use super::*;

#[tokio::test]
async fn a_dangerous_run_waits_for_a_yes_without_a_process() {
    let house = house();
    let outcome = house.code("return \"dangerous\"").await;
    assert_eq!(outcome.status, Status::ApprovalRequired);
    assert!(outcome.approval.is_some() && house.spawn.alive() <= 1 && house.runs.active() == 0);
    assert_eq!(house.resume(&outcome.run, None).await.status, Status::ApprovalRequired);
    house.answer(Decided::Approved);
    let again = Execute { run: Some(outcome.run.clone()), ..Execute::default() };
    assert_eq!(house.execute(again).await.value, json!("dangerous"));

    let other = house.code("return \"dangerous\"").await;
    house.answer(Decided::Denied { reason: "no".into() });
    assert_eq!(house.resume(&other.run, None).await.status, Status::Denied);
    assert!(house.replay(&other.run).await.identical);
}

#[tokio::test]
async fn an_approval_in_the_middle_ends_the_process_and_nothing_is_done_twice() {
    let house = house();
    let outcome = house
        .code("call semantic/store\nwait\ncall up/send\nwait\ncall up/ask\nwait\ncall up/send\nwait\nanswers")
        .await;
    assert_eq!((outcome.status, outcome.approval.unwrap().as_str()), (Status::ApprovalRequired, "apr_call"));
    // Another engine, days later.
    let later = House::new(&house.world);
    later.answer(Decided::Approved);
    let end = later.resume(&outcome.run, None).await;
    assert_eq!(end.status, Status::Completed, "{:?}", end.error);
    assert_eq!(house.world.reached("up/send"), 2);
    assert_eq!(house.world.reached("semantic/store"), 1);
    assert_eq!(house.world.reached("up/ask"), 1);
    assert!(later.replay(&outcome.run).await.identical);
}

#[tokio::test]
async fn a_no_in_the_middle_is_for_the_code_to_hear() {
    let house = house();
    let outcome = house.code("call up/ask\nwait\nanswers").await;
    house.answer(Decided::Denied { reason: "too much".into() });
    let end = house.resume(&outcome.run, None).await;
    assert_eq!((end.status, &end.value[0]["code"]), (Status::Completed, &json!("denied")));
    assert!(house.world.events(&outcome.run).contains(&"run.violated"));
}

#[tokio::test]
async fn a_cancelled_run_stops_its_worker_and_its_calls() {
    let house = house();
    let cx = house.cx();
    let op = Execute { code: Some("call up/never\nwait".into()), ..Execute::default() };
    let run = cx.mint("run");
    let cx = again(&cx);
    let (outcome, cancelled) = tokio::join!(house.runs.execute(&cx, op, None), async {
        while house.world.counter.load(Ordering::SeqCst) < 2 {
            tokio::task::yield_now().await;
        }
        house.runs.cancel(&house.cx(), Cancel { run: run.clone() }).await.unwrap()
    });
    assert_eq!(outcome.unwrap().status, Status::Cancelled);
    assert_eq!(cancelled.status, Status::Cancelled);
}

#[tokio::test]
async fn a_caller_that_goes_away_cancels_its_run() {
    let house = house();
    let cx = house.cx();
    let op = Execute { code: Some("hang".into()), ..Execute::default() };
    let run = again(&cx).mint("run");
    tokio::select! {
        _ = house.runs.execute(&cx, op, None) => panic!("it hangs"),
        () = async { while house.spawn.made() == 0 || house.runs.active() == 0 { tokio::task::yield_now().await } } => {}
    }
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while house.runs.active() > 0 {
        assert!(std::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // It was cancelled before or after its start was recorded.
    let events = house.world.events(&run);
    assert!(events.is_empty() || events.last() == Some(&"run.finished"), "{events:?}");
}
