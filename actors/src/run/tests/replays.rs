//! Records are read back, and runs made again of them.

use super::*;

#[tokio::test]
async fn a_tampered_record_is_a_named_divergence() {
    let house = house();
    let outcome = house.code("call semantic/search {\"query\":\"x\"}\nwait\nanswers").await;
    let mut tape = house.runs.inner.open(&outcome.run).unwrap();
    tape.code = "call semantic/search {\"query\":\"y\"}\nwait\nanswers".into();
    let op = Replay { run: outcome.run.clone(), step: false, until: None };
    let found = house.runs.inner.replay(&house.cx(), tape, op.clone()).await.unwrap().divergence.unwrap();
    assert_eq!(found.call, 1);
    assert!(found.expected.contains("\"x\"") && found.got.contains("\"y\""));

    let mut tape = house.runs.inner.open(&outcome.run).unwrap();
    tape.told[0].result = Ok("7".into());
    let found = house.runs.inner.replay(&house.cx(), tape, op).await.unwrap().divergence.unwrap();
    assert_eq!((found.call, found.got.as_str()), (0, "value [7]"));
}

#[tokio::test]
async fn a_replay_stops_where_it_is_asked_to() {
    let house = house();
    let outcome = house.code("call semantic/search\nwait\ncall semantic/search\nwait\nreturn 1").await;
    let op = Replay { run: outcome.run, step: true, until: Some(1) };
    let replayed = house.runs.replay(&house.cx(), op).await.unwrap();
    assert!(replayed.identical);
    let steps = serde_json::to_value(&replayed.trace).unwrap();
    assert_eq!((steps[0]["kind"].as_str(), steps[1]["kind"].as_str()), (Some("call"), Some("answer")));
    assert!(steps.as_array().unwrap().len() <= 3, "{steps}");
}

#[test]
fn effects_follow_the_catalogue() {
    let effects = Catalogued(upstream);
    assert_eq!(effects.effect("semantic/search"), Effect::ReadOnly);
    assert_eq!(effects.effect("semantic/store"), Effect::Command);
    assert_eq!(effects.effect("files/read"), Effect::ReadOnly);
    assert_eq!(effects.effect("up/put"), Effect::Idempotent);
    assert_eq!(effects.effect("nobody/knows"), Effect::Unknown);
    assert!(parts::athena_namespace().members.iter().all(|(_, op)| !op.starts_with("run/")));
}

#[test]
fn a_record_is_read_back_as_it_was_written() {
    let world = World::new();
    runtime().block_on(async {
        let house = House::new(&world);
        let outcome = house.code("call semantic/store\nwait\nreturn 5").await;
        let reader = world.log.reader();
        let archive = Archive { reader: &*reader, sealer: &Plain };
        let tape = archive.tape(&outcome.run).unwrap();
        assert_eq!((tape.asked.len(), tape.told.len(), tape.version), (1, 1, 4));
        assert!(tape.clock_ms() > tape.started.clock_ms);
        assert_eq!(tape.status(), Status::Completed);
        assert_eq!(archive.tape(&Id::from_text("run_none")).unwrap_err().code, Code::NotFound);
    });
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// Whatever a program does with what it hears, and however answers race, its record replays it.
    #[test]
    fn every_program_replays_identically(steps in 0_u32..80, salt in any::<u32>(), session in any::<bool>()) {
        runtime().block_on(async {
            let house = house();
            let code = format!("wander {steps}\ncount\nheard\n// {salt}");
            let session = session.then(|| "s".to_owned());
            let outcome = house.execute(Execute { code: Some(code), session, ..Execute::default() }).await;
            assert_eq!(outcome.status, Status::Completed, "{:?}", outcome.error);
            let replayed = house.replay(&outcome.run).await;
            assert!(replayed.identical, "{:?}", replayed.divergence);
            assert_eq!(replayed.value, outcome.value);
            assert_eq!(replayed.calls, outcome.metrics.calls);
        });
    }

    /// A daemon that dies at any moment, again and again: the run ends, every memory command is applied once, and no call
    /// that may not be repeated is.
    #[test]
    fn a_run_survives_any_number_of_deaths(salt in any::<u32>(), deaths in prop::collection::vec(0_u64..12, 1..4),) {
        let world = World::new();
        let code = format!("wander 60\nheard\n// {salt}");
        let cx = House::new(&world).cx();
        let op = Execute { code: Some(code), ..Execute::default() };
        for after_ms in deaths {
            let engine = runtime();
            let house = House::new(&world);
            engine.block_on(async {
                house.runs.recover().await.unwrap();
                let (runs, again, op) = (house.runs.clone(), again(&cx), op.clone());
                // Never dropped: a caller that goes away would cancel the run, and a dead daemon has no callers.
                let asked = Box::leak(Box::new(Box::pin(async move { runs.execute(&again, op, None).await })));
                let _ = tokio::time::timeout(Duration::from_millis(after_ms), asked).await;
            });
            // Every task is dropped where it stands; what is still in the log's queue is written.
            engine.shutdown_timeout(Duration::from_secs(60));
            runtime().block_on(world.log.barrier()).unwrap();
        }
        runtime().block_on(async {
            let house = House::new(&world);
            house.runs.recover().await.unwrap();
            let again = again(&cx);
            let mut outcome = house.runs.execute(&again, op.clone(), None).await.unwrap();
            if outcome.status == Status::Uncertain {
                outcome = house.resume(&outcome.run, Some(Doubt::Fail)).await;
            }
            assert_eq!(outcome.status, Status::Completed, "{outcome:?}");
            let reached = world.reached.lock().unwrap().clone();
            let mut once = std::collections::HashSet::new();
            for (op, key) in reached.iter().filter(|(op, _)| matches!(op.as_str(), "semantic/store" | "up/send")) {
                assert!(once.insert(key.clone()), "{op} {key} happened twice");
            }
            let replayed = house.replay(&outcome.run).await;
            assert!(replayed.identical, "{:?}", replayed.divergence);
        });
    }
}
