//! What is there is found, what was erased is not, and a rebuild agrees.

use super::*;
use crate::testing::{Fed, id};
use athena_schemas::event::Event;
use athena_schemas::layers::common::{Forgetting, Origin};
use athena_schemas::layers::graph;
use athena_schemas::layers::semantic::{How, conflict_id};
use proptest::prelude::*;

fn stored(n: u64, content: &str, supersedes: Vec<Id>) -> semantic::Event {
    semantic::Event::Stored(semantic::Stored {
        id: id("fa", n),
        content: content.into(),
        log_odds: 1_000_000,
        valid_from_ms: None,
        valid_to_ms: None,
        tags: vec![],
        origin: Origin::default(),
        untrusted: false,
        supersedes,
        reason: None,
        similar: vec![],
        conflicts: vec![],
    })
}

fn remembered(n: u64, time_ms: i64) -> episodic::Event {
    episodic::Event::Remembered(episodic::Remembered {
        id: id("ep", n),
        content: format!("event {n}"),
        kind: "message".into(),
        time_ms,
        session: Some(format!("s{}", n % 2)),
        outcome: None,
        importance: 500,
        tags: vec![],
        meta: String::new(),
        origin: Origin::default(),
        untrusted: false,
    })
}

#[test]
fn superseding_closes_and_erasing_reopens() {
    let mut fed = Fed::new();
    fed.feed(10, stored(1, "the kettle is red", vec![]));
    fed.feed(20, stored(2, "the kettle is blue", vec![id("fa", 1)]));
    let row = fed.library.items.fact(&fed.cx(30), &id("fa", 1)).unwrap().unwrap();
    assert_eq!((row.standing, row.body.valid_to_ms), (Standing::Superseded, Some(20)));
    assert_eq!(row.superseded_by, Some(id("fa", 2)));
    assert!(row.clone().known_at(5).is_none());
    assert!(row.clone().known_at(15).unwrap().current());
    fed.feed(
        40,
        semantic::Event::Discarded(semantic::Discarded { ids: vec![id("fa", 2)], mode: Forgetting::Erase }),
    );
    let row = fed.library.items.fact(&fed.cx(50), &id("fa", 1)).unwrap().unwrap();
    assert_eq!((row.standing, row.body.valid_to_ms), (Standing::Current, None));
}

#[test]
fn conflicts_are_open_until_decided() {
    let mut fed = Fed::new();
    fed.feed(10, stored(1, "the port is 8080", vec![]));
    fed.feed(20, stored(2, "the port is 9090", vec![]));
    fed.feed(30, stored(3, "Ana likes tea", vec![]));
    let cx = fed.cx(40);
    let clashes = fed.library.items.all_clashes(&cx).unwrap();
    assert_eq!(clashes.len(), 1);
    assert_eq!((&clashes[0].first.body.id, &clashes[0].second.body.id), (&id("fa", 1), &id("fa", 2)));
    fed.feed(
        50,
        semantic::Event::ConflictResolved(semantic::ConflictResolved {
            conflict: clashes[0].id.clone(),
            keep: id("fa", 2),
            other: id("fa", 1),
            how: How::BothTrue,
        }),
    );
    assert_eq!(fed.library.items.all_clashes(&cx).unwrap(), []);
}

#[test]
fn no_index_leaks_into_another_project() {
    let mut fed = Fed::new();
    fed.feed(10, remembered(1, 10));
    fed.feed(10, stored(1, "the port is 8080", vec![]));
    fed.scope = Scope::project("other");
    fed.feed(20, stored(2, "the port is 9090", vec![]));
    let cx = fed.cx(30);
    assert_eq!(fed.library.items.episode(&cx, &id("ep", 1)).unwrap(), None);
    assert_eq!(fed.library.items.all_clashes(&cx).unwrap(), []);
    assert_eq!(fed.library.items.all_facts(&cx).unwrap().len(), 1);
    fed.scope = Scope::default();
    let cx = fed.cx(30);
    assert_eq!(fed.library.items.all_facts(&cx).unwrap().len(), 2);
    assert_eq!(fed.library.items.all_clashes(&cx).unwrap(), [], "two projects may differ");
}

#[test]
fn pages_follow_each_other_without_gap_or_repeat() {
    let mut fed = Fed::new();
    for n in 1..=23 {
        fed.feed(n, remembered(n, (n as i64 % 5) - 2));
    }
    let cx = fed.cx(30);
    let (mut all, mut before) = (Vec::new(), None);
    loop {
        let (rows, next) = fed.library.items.page(&cx, &Default::default(), 4, before).unwrap();
        all.extend(rows.iter().map(|row| (row.body.time_ms, row.head.seq)));
        if next.is_none() {
            break;
        }
        before = next;
    }
    assert_eq!(all.len(), 23);
    assert!(all.windows(2).all(|pair| pair[0] > pair[1]), "{all:?}");
}

proptest! {
    #[test]
    fn a_rebuild_finds_what_is_there_and_nothing_that_was_erased(
        steps in proptest::collection::vec((0_u8..9, 1_u64..6, 1_u64..6), 0..30),
    ) {
        let mut fed = Fed::new();
        let mut erased: Vec<Id> = Vec::new();
        for (n, (what, one, other)) in steps.into_iter().enumerate() {
            let (at, fresh) = (100 + n as u64, 100 + n as u64);
            let (a, b) = (id("fa", 100 + one), id("fa", 100 + other));
            let cx = fed.cx(at);
            let stands = |id: &Id| fed.library.items.fact(&cx, id).unwrap().is_some_and(|row| row.current());
            let event: Event = match what {
                0 => stored(fresh, &format!("the port is {other}"), vec![]).into(),
                1 if stands(&a) => stored(fresh, &format!("the port is {other}"), vec![a]).into(),
                2 => remembered(fresh, one as i64).into(),
                3 => semantic::Event::Retracted(semantic::Retracted { id: a, reason: "r".into() }).into(),
                4 if a != b && stands(&a) && stands(&b) => semantic::Event::ConflictResolved(semantic::ConflictResolved {
                    conflict: conflict_id(&a, &b), keep: a, other: b,
                    how: if one < 3 { How::BothTrue } else { How::Retract },
                }).into(),
                5 if fed.library.items.fact(&cx, &a).unwrap().is_some() => {
                    erased.push(a.clone());
                    semantic::Event::Discarded(semantic::Discarded { ids: vec![a], mode: Forgetting::Erase }).into()
                }
                6 if fed.library.items.episode(&cx, &id("ep", 100 + one)).unwrap().is_some() => {
                    let ep = id("ep", 100 + one);
                    erased.push(ep.clone());
                    episodic::Event::Forgotten(episodic::Forgotten { ids: vec![ep], mode: Forgetting::Erase }).into()
                }
                7 => semantic::Event::Relocated(semantic::Relocated { ids: vec![b], to: Scope::project("q") }).into(),
                _ => episodic::Event::Forgotten(episodic::Forgotten { ids: vec![id("ep", 100 + other)], mode: Forgetting::Hide }).into(),
            };
            fed.feed(at, event);
        }
        let items = |digests: Vec<(&'static str, [u8; 32])>| digests.into_iter().find(|(name, _)| *name == "items");
        prop_assert_eq!(items(fed.rebuilt(|_| false)), items(fed.digests()));
        let shredded = |event: &Event| match event {
            Event::Semantic(semantic::Event::Stored(event)) => erased.contains(&event.id),
            Event::Episodic(episodic::Event::Remembered(event)) => erased.contains(&event.id),
            _ => false,
        };
        prop_assert_eq!(items(fed.rebuilt(shredded)), items(fed.digests()));
    }
}

/// What time travel by recording time must tell: how a fact stands, until when it is valid, and how sure it is.
fn told(row: FactRow) -> (Id, Standing, Option<i64>, Option<Id>, i32) {
    (row.body.id, row.standing, row.body.valid_to_ms, row.superseded_by, row.body.log_odds)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    /// Facts and edges as known at a time, and everything as of a position, are what a store that stopped there holds.
    #[test]
    fn the_past_is_a_store_that_stopped_there(
        steps in proptest::collection::vec((0_u8..9, 1_u64..5, 1_u64..5, -3_i64..3), 1..24),
        valid in 0_i64..400,
    ) {
        let mut fed = Fed::new();
        let mut stopped: Vec<(u64, Fed)> = Vec::new();
        let mut events: Vec<(u64, Event)> = Vec::new();
        for (n, (what, one, other, by)) in (1_u64..).zip(steps) {
            let (at, cx) = (100 + 10 * n, fed.cx(1_000));
            let (a, b) = (id("fa", 100 + one), id("fa", 100 + other));
            let edge = id("ed", 100 + one);
            let standing = |id: &Id| fed.library.items.fact(&cx, id).unwrap().map(|row| row.standing);
            let edges: Vec<crate::network::EdgeRow> = fed.library.graph.edges.row(edge.as_str().as_bytes()).unwrap().into_iter().collect();
            let event: Event = match what {
                0 | 1 => stored(100 + n, &format!("the port is {other}"), vec![]).into(),
                2 if standing(&a) == Some(Standing::Current) => {
                    stored(100 + n, &format!("the port is {other}"), vec![a]).into()
                }
                3 if standing(&a).is_some_and(|standing| standing != Standing::Retracted) => {
                    semantic::Event::Retracted(semantic::Retracted { id: a, reason: "r".into() }).into()
                }
                4 if standing(&a).is_some() => semantic::Event::Reinforced(semantic::Reinforced {
                    id: a, delta: 0, log_odds: 1_000 * by as i32, evidence: vec![],
                }).into(),
                5 if a != b && standing(&a) == Some(Standing::Current) && standing(&b) == Some(Standing::Current) => {
                    let how = [How::Supersede, How::Retract, How::BothTrue][(by + 3) as usize % 3];
                    semantic::Event::ConflictResolved(semantic::ConflictResolved {
                        conflict: conflict_id(&a, &b), keep: a, other: b, how,
                    }).into()
                }
                6 => graph::Event::EdgeAdded(graph::EdgeAdded {
                    id: id("ed", 100 + n), from: id("en", 1), relation: "knows".into(), to: id("en", 2),
                    valid_from_ms: None, valid_to_ms: None, weight: 1_000, origin: Origin::default(),
                }).into(),
                7 if !edges.is_empty() => graph::Event::EdgeInvalidated(graph::EdgeInvalidated {
                    id: edge, valid_to_ms: 200 + 40 * by, reason: None,
                }).into(),
                _ => remembered(100 + n, one as i64).into(),
            };
            fed.feed(at, event.clone());
            events.push((at, event));
            let mut then = Fed::new();
            for (at, event) in &events {
                then.feed(*at, event.clone());
            }
            stopped.push((at, then));
        }
        for (at, then) in &stopped {
            let (cx, now) = (then.cx(1_000), fed.cx(1_000));
            let known = |fed: &Fed, cx: &Context| -> Vec<_> {
                let rows = fed.library.items.all_facts(cx).unwrap().into_iter();
                let mut told: Vec<_> = rows.filter_map(|row| row.known_at(*at)).map(told).collect();
                told.sort_by(|a, b| a.0.cmp(&b.0));
                told
            };
            prop_assert_eq!(known(&fed, &now), known(then, &cx), "facts as known at {}", at);
            for n in 0..=fed.log.len() as u64 {
                let id = id("ed", 100 + n);
                let holds = |fed: &Fed| {
                    let row: Option<crate::network::EdgeRow> = fed.library.graph.edges.row(id.as_str().as_bytes()).unwrap();
                    row.is_some_and(|row| row.holds(valid, *at))
                };
                prop_assert_eq!(holds(&fed), holds(then), "edge {} at {} as known at {}", n, valid, at);
            }
            // By position: a library read from the log up to there has the same digests, whatever read model.
            let upto = fed.log.iter().filter(|recorded| recorded.record.draft.meta.at_ms <= *at).count();
            prop_assert_eq!(fed.stopped_at(upto), then.digests());
        }
    }
}
