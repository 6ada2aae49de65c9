//! What a run answers, and what of it is on record.

use super::*;

#[tokio::test]
async fn a_run_answers_and_is_on_record() {
    let house = house();
    let outcome = house.code("log hello\nreturn 2").await;
    assert_eq!((outcome.status, outcome.value.clone()), (Status::Completed, json!(2)));
    assert_eq!(outcome.logs, ["hello"]);
    assert_eq!(outcome.sandbox.engine, "script");
    assert_eq!(house.world.events(&outcome.run), ["run.started", "run.finished"]);
    assert_eq!(house.runs.active(), 0);
    // The same command is the same run.
    let cx = house.cx();
    let op = || Execute { code: Some("return 3".into()), ..Execute::default() };
    let first = house.runs.execute(&cx, op(), None).await.unwrap();
    assert_eq!(house.runs.execute(&cx, op(), None).await.unwrap(), first);
}

#[tokio::test]
async fn calls_go_to_the_router_and_their_answers_to_the_code() {
    let house = house();
    let outcome = house.code("call semantic/search {\"query\":\"x\"}\nwait\nanswers").await;
    assert!(outcome.value[0]["n"].is_number());
    assert_eq!(outcome.metrics.calls, 1);
    assert!(outcome.metrics.tokens.direct > 0 && outcome.metrics.tokens.code > 0);
    assert_eq!(
        house.world.events(&outcome.run),
        ["run.started", "run.called", "run.answered", "run.finished"]
    );
}

#[tokio::test]
async fn code_whose_types_do_not_fit_is_not_run_and_replays_so() {
    let house = house();
    let op = |code: &str, check, language| Execute {
        code: Some(code.into()),
        language: Some(language),
        check,
        ..Execute::default()
    };
    let code = "call semantic/store\nmistyped";
    let wrong = house.execute(op(code, Some(true), Language::TypeScript)).await;
    assert_eq!((wrong.status, wrong.metrics.calls), (Status::Failed, 0));
    let error = wrong.error.clone().unwrap();
    assert_eq!((error.name.as_str(), error.line, error.column), (TYPE_ERROR, Some(1), Some(2)));
    assert_eq!(house.world.reached("semantic/store"), 0);
    assert_eq!(house.world.events(&wrong.run), ["run.started", "run.finished"]);
    assert!(house.replay(&wrong.run).await.identical);
    for check in [None, Some(false)] {
        assert_eq!(house.execute(op(code, check, Language::TypeScript)).await.status, Status::Completed);
    }
    let op = op("return 1", Some(true), Language::JavaScript);
    let refused = house.runs.execute(&house.cx(), op, None).await.unwrap_err();
    assert_eq!((refused.code, refused.path.as_deref()), (Code::Invalid, Some("check")));
}

/// What the code touched before is told from the record to a judge who did not see it: one of another daemon, or one who has
/// forgotten because the run waited.
#[tokio::test]
async fn a_run_that_goes_on_is_judged_by_what_it_did_before() {
    let world = World::new();
    let house = House::new(&world);
    let code = "call semantic/search {\"query\":\"x\"}\nwait\ncall up/read\nwait\ncall up/ask\nwait\nanswers";
    let waits = house.code(code).await;
    assert_eq!(waits.status, Status::ApprovalRequired);
    assert!(house.person.at_work.lock().unwrap().is_empty(), "a run that waits is not at work");
    assert!(house.person.recalled.lock().unwrap().is_empty(), "a new run has no past");
    let later = House::new(&world);
    later.answer(Decided::Approved);
    let done = later.resume(&waits.run, None).await;
    assert_eq!(done.status, Status::Completed, "{done:?}");
    // The call that waited is judged as it is made.
    assert_eq!(later.person.recalled.lock().unwrap()[&waits.run], ["semantic/search", "up/read"]);
    assert!(later.person.at_work.lock().unwrap().is_empty());
}

#[tokio::test]
async fn sensitive_values_are_tokens_on_record_and_in_the_answer() {
    let house = house();
    let op = Execute {
        code: Some(format!("log {SECRET}\ncall up/secret\nwait\ninput")),
        input: json!({"to": SECRET}),
        ..Execute::default()
    };
    let outcome = house.execute(op).await;
    assert_eq!(outcome.value, json!({"to": "EMAIL_tk_1"}));
    assert_eq!(outcome.logs, ["EMAIL_tk_1"]);
    assert_eq!(outcome.privacy.r#in, 2);
    let record = house.world.log.reader().read_stream(&record::stream(&outcome.run), 0, 1).unwrap();
    let Some(Event::Started(started)) = record[0].event::<Event>(&Plain).unwrap() else { panic!() };
    assert!(!format!("{started:?}").contains(SECRET));
}

#[tokio::test]
async fn what_goes_wrong_is_said_and_counted() {
    let house = house();
    let cases = [
        ("throw it broke", Status::Failed, "Error"),
        ("!syntax", Status::Failed, "SyntaxError"),
        ("die 31", Status::Violated, "SandboxViolation"),
        ("die 9", Status::OutOfMemory, "MemoryError"),
        ("flood", Status::Violated, "SandboxViolation"),
        ("skip\ncall a/b", Status::Violated, "SandboxViolation"),
        ("forbidden", Status::Denied, "Denied"),
    ];
    for (code, status, name) in cases {
        let outcome = house.code(code).await;
        let error = outcome.error.clone().unwrap();
        assert_eq!((outcome.status, error.name.as_str()), (status, name), "{code}");
        let violated = house.world.events(&outcome.run).contains(&"run.violated");
        assert_eq!(violated, matches!(status, Status::Violated | Status::OutOfMemory), "{code}");
        assert_eq!(house.code("return 1").await.value, json!(1), "the next run is right");
    }
}

#[tokio::test]
async fn a_worker_that_does_not_stop_is_killed_at_its_deadline() {
    let house = house();
    let op = Execute {
        code: Some("call semantic/search\nwait\nhang".into()),
        limits: Some(athena_schemas::layers::run::Wanted { wall_ms: Some(30), ..Default::default() }),
        ..Execute::default()
    };
    let outcome = house.execute(op).await;
    assert_eq!(outcome.status, Status::TimedOut);
    assert!(house.replay(&outcome.run).await.identical);
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while house.spawn.alive() > 0 {
        assert!(std::time::Instant::now() < deadline, "no worker is left behind");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_large_value_is_cut_and_its_handle_reads_all_of_it() {
    let house = house();
    let outcome = house.code("call up/large\nwait\nanswers").await;
    let cut = outcome.cut.clone().unwrap();
    assert_eq!(cut.bytes, 100_004);
    assert!(outcome.value.to_string().len() < 2_500);
    let whole = house.runs.read(&house.cx(), json!({"handle": cut.handle})).unwrap();
    assert_eq!(whole[0].as_str().unwrap().len(), 100_000);
    let elsewhere = Context::new(1, house.cx().caller, Scope::project("other"), CommandId([0; 16]));
    assert_eq!(house.runs.read(&elsewhere, json!({"handle": cut.handle})).unwrap_err().code, Code::NotFound);
    assert!(house.replay(&outcome.run).await.identical);
}
