//! What runs of one session hand on to each other.

use super::*;

#[tokio::test]
async fn runs_of_a_session_take_turns_and_its_state_lasts() {
    let house = Arc::new(house());
    let mut tasks = Vec::new();
    for _ in 0..20 {
        let house = house.clone();
        tasks
            .push(tokio::spawn(async move { house.session("call semantic/search\nwait\ncount", "s").await }));
    }
    for task in tasks {
        assert_eq!(task.await.unwrap().status, Status::Completed);
    }
    assert_eq!(house.session("count", "s").await.value, json!(21));
    assert_eq!(house.session("count", "other").await.value, json!(1));
    // A restart, and another caller.
    let later = House::new(&house.world);
    assert_eq!(later.session("count", "s").await.value, json!(22));
    let mut cx = later.cx();
    cx.caller.name = "somebody else".into();
    let op = Execute { code: Some("count".into()), session: Some("s".into()), ..Execute::default() };
    assert_eq!(later.runs.execute(&cx, op, None).await.unwrap().value, json!(1));
}

#[tokio::test]
async fn a_session_that_nobody_used_for_long_starts_anew_and_says_so() {
    let world = World::new();
    let house = House::new(&world);
    house.session("count", "s").await;
    assert_eq!(house.session("count", "s").await.value, json!(2));
    world.time.fetch_add(IDLE_MS + 1, Ordering::SeqCst);
    assert_eq!(house.session("count", "s").await.value, json!(1));
    // The log says the same to whoever comes later.
    assert_eq!(House::new(&world).session("count", "s").await.value, json!(2));
}

#[tokio::test]
async fn a_session_that_expired_starts_anew() {
    let house = house();
    let run = house.session("count", "s").await.run;
    let key = house.runs.inner.open(&run).unwrap().started.session.unwrap().key;
    let expired = house.runs.expire(&house.cx(), Expire { session: key }).await.unwrap();
    assert!(expired.existed);
    assert_eq!(House::new(&house.world).session("count", "s").await.value, json!(1));
    assert_eq!(house.session("count", "s").await.value, json!(2));
}

#[tokio::test]
async fn a_run_that_waited_merges_into_what_others_made_of_the_state() {
    let house = house();
    house.session("count", "s").await;
    let waiting = house.session("call up/ask\nwait\nreturn 1", "s").await;
    assert_eq!(house.session("count", "s").await.value, json!(2));
    house.answer(Decided::Approved);
    assert_eq!(house.resume(&waiting.run, None).await.status, Status::Completed);
    assert_eq!(house.session("count", "s").await.value, json!(3));
}

#[tokio::test]
async fn another_agent_does_not_find_the_run() {
    let house = house();
    let outcome = house.code("return 1").await;
    let mut cx = house.cx();
    cx.caller.name = "somebody else".into();
    let refused =
        house.runs.resume(&cx, Resume { run: outcome.run.clone(), uncertain: None }).await.unwrap_err();
    assert_eq!(refused.code, Code::NotFound);
    cx.caller.party = Party::Human;
    assert!(house.runs.resume(&cx, Resume { run: outcome.run, uncertain: None }).await.is_ok());
}
