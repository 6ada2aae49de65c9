//! Known memories, known findings; and whatever is recorded and undone leaves nothing behind.

use super::texts::Texts;
use super::{clusters, duplicates, similar};
use crate::search::text::Analyzer;
use crate::testing::{Fed, id};
use athena_schemas::catalog::Command;
use athena_schemas::id::Id;
use athena_schemas::layers::common::{Forgetting, Origin};
use athena_schemas::layers::consolidation::{
    Command as Asked, Configured, Consolidate, Consolidated, Due, Event, Findings, History, Kind, Pinned,
    Preview, Queries as _, Settings, Strategy, Undo, Undone,
};
use athena_schemas::layers::episodic;
use athena_schemas::ports::Views;
use proptest::prelude::*;

const DAY: u64 = 86_400_000;

fn said(n: u64, session: &str, kind: &str, content: &str) -> episodic::Event {
    episodic::Event::Remembered(episodic::Remembered {
        id: id("ep", n),
        content: content.into(),
        kind: kind.into(),
        time_ms: n as i64 * 1_000,
        session: Some(session.into()),
        outcome: None,
        importance: 500,
        tags: vec![],
        meta: String::new(),
        origin: Origin::default(),
        untrusted: false,
    })
}

/// Two topics over four sessions, one thing said twice, one sequence that recurs.
fn kitchen() -> Fed {
    let mut fed = Fed::new();
    let lines = [
        ("a", "question", "Where did Ana put the copper kettle?"),
        ("a", "answer", "The copper kettle stands on the upper shelf of the pantry."),
        ("a", "thanks", "Thank you so much for that!"),
        ("b", "question", "Is the copper kettle still on the upper shelf?"),
        ("b", "answer", "No, Ben moved the copper kettle from the pantry shelf to the stove in March 2024."),
        ("b", "thanks", "Good to know."),
        ("c", "question", "When does the night train to Vienna leave?"),
        ("c", "answer", "The night train to Vienna leaves at 21:40 from platform seven."),
        ("c", "thanks", "Great."),
        ("d", "note", "The night train to Vienna leaves at 21:40 from platform seven!"),
        ("d", "note", "We booked two berths on the night train to Vienna for the summer."),
    ];
    for (n, (session, kind, content)) in (1..).zip(lines) {
        fed.feed(n, said(n, session, kind, content));
    }
    fed
}

fn consolidate(strategy: Strategy) -> Command {
    Command::Consolidation(Asked::Consolidate(Consolidate { strategy: Some(strategy), lookback_hours: None }))
}

fn proposed(fed: &Fed, now: u64, command: &Command) -> Findings {
    let evidence = fed.library.gather(&fed.cx(now), command).unwrap();
    serde_json::from_value(evidence.proposal.unwrap()).unwrap()
}

/// Records a pass as the layer would.
fn record(fed: &mut Fed, now: u64, n: u64, strategy: Strategy) -> Findings {
    let findings = proposed(fed, now, &consolidate(strategy));
    let event =
        Consolidated { run: id("co", n), kind: Kind::Consolidate, strategy, findings: findings.clone() };
    fed.feed(now, Event::Consolidated(event));
    findings
}

fn undo(fed: &mut Fed, now: u64, n: u64) {
    let command = Command::Consolidation(Asked::Undo(Undo { run: id("co", n) }));
    let back = fed.library.gather(&fed.cx(now), &command).unwrap().matched;
    fed.feed(now, Event::Undone(Undone { run: id("co", n), back }));
}

#[test]
fn topics_duplicates_sequences_and_telling_sentences_are_found() {
    let fed = kitchen();
    let cx = fed.cx(100);
    let plan = fed.library.preview(&cx, Preview::default()).unwrap();
    assert_eq!((plan.counts.events, plan.counts.sessions), (11, 4));
    let with = |n: u64| plan.clusters.iter().find(|cluster| cluster.members.contains(&id("ep", n))).unwrap();
    assert_eq!(with(2), with(5), "both speak of the kettle");
    assert_eq!(with(8), with(11), "both speak of the train");
    assert_ne!(with(2), with(8));
    assert!(with(2).terms.contains(&"kettle".to_owned()), "{:?}", with(2).terms);
    let twins: Vec<(&Id, &Id)> = plan.duplicates.iter().map(|twins| (&twins.one, &twins.other)).collect();
    assert_eq!(twins, [(&id("ep", 8), &id("ep", 10))]);
    assert_eq!(plan.patterns[0].types, ["question", "answer", "thanks"]);
    assert_eq!(plan.patterns[0].support, 3);
    assert!(plan.patterns[0].share_low < 0.75, "three of four sessions prove little");
    let sentences: Vec<&str> = plan.candidates.iter().map(|one| one.content.as_str()).collect();
    assert!(sentences.iter().any(|one| one.contains("Ben moved the copper kettle")), "{sentences:?}");
    assert!(sentences.iter().all(|one| !one.contains("Thank you")), "{sentences:?}");
}

#[test]
fn a_pass_goes_on_where_the_last_one_stopped_and_an_undone_one_did_not_stop_anywhere() {
    let mut fed = kitchen();
    assert_eq!(record(&mut fed, 100, 1, Strategy::Balanced).counts.events, 11);
    assert_eq!(proposed(&fed, 110, &consolidate(Strategy::Balanced)).counts.events, 0);
    fed.feed(120, said(50, "e", "note", "one more"));
    assert_eq!(proposed(&fed, 130, &consolidate(Strategy::Fast)).counts.events, 1);
    let cx = fed.cx(140);
    let history = |fed: &Fed| fed.library.history(&cx, History { limit: 5, cursor: None }).unwrap().items;
    assert!(!history(&fed)[0].undone);
    undo(&mut fed, 150, 1);
    assert_eq!(proposed(&fed, 160, &consolidate(Strategy::Fast)).counts.events, 12);
    assert!(history(&fed)[0].undone, "what happened stays in the history");
}

#[test]
fn what_is_old_fades_unless_it_is_exempt_and_searches_alone_lose_it() {
    let mut fed = Fed::new();
    for (n, kind) in [(1, "message"), (2, "decision"), (3, "message"), (4, "message")] {
        fed.feed(n, said(n, "s", kind, &format!("the kettle was mended, note {n}")));
    }
    fed.feed(5, Event::Pinned(Pinned { id: id("ep", 3), pinned: true }));
    fed.feed(300 * DAY, said(6, "s", "message", "the kettle again"));
    let now = 301 * DAY;
    let findings = record(&mut fed, now, 1, Strategy::Thorough);
    assert_eq!(findings.faded, [id("ep", 1), id("ep", 4)]);
    let cx = fed.cx(now + 1);
    let found = |fed: &Fed| -> Vec<Id> {
        let hits = fed.library.finder.search(&cx, &crate::search::Ask::new("kettle")).unwrap();
        let mut ids: Vec<Id> = hits.into_iter().map(|hit| hit.id).collect();
        ids.sort();
        ids
    };
    assert_eq!(found(&fed), [id("ep", 2), id("ep", 3), id("ep", 6)]);
    assert!(fed.library.items.episode(&cx, &id("ep", 1)).unwrap().is_some(), "it can still be read");
    fed.feed(now + 2, Event::Pinned(Pinned { id: id("ep", 4), pinned: true }));
    assert!(found(&fed).contains(&id("ep", 4)), "what is pinned is found again");
    undo(&mut fed, now + 3, 1);
    assert_eq!(found(&fed).len(), 5);
}

#[test]
fn a_scope_is_due_a_day_after_what_no_pass_has_seen() {
    let mut fed = kitchen();
    let due = |fed: &Fed, now: u64| fed.library.due(&fed.cx(now), Due {}).unwrap();
    assert_eq!(due(&fed, DAY - 1), []);
    assert_eq!(due(&fed, DAY + 1)[0].scope, fed.scope);
    record(&mut fed, DAY + 1, 1, Strategy::Balanced);
    assert_eq!(due(&fed, 3 * DAY), [], "nothing new");
    fed.feed(3 * DAY, said(60, "f", "note", "something new"));
    assert_eq!(due(&fed, 3 * DAY + 1), []);
    assert_eq!(due(&fed, 4 * DAY + 1).len(), 1);
    fed.feed(
        4 * DAY,
        Event::Configured(Configured { settings: Settings { every_hours: 0, ..Settings::default() } }),
    );
    assert_eq!(due(&fed, 9 * DAY), [], "never means never");
}

#[test]
fn names_weigh_more_than_other_words_and_common_words_lead_nowhere() {
    let analyzer = Analyzer::default();
    let lines = ["we met Zoltan there", "nobody knows Zoltan well", "we met there", "nobody knows well"];
    let texts = Texts::read(&analyzer, lines.into_iter());
    let pairs = similar::pairs(&texts);
    let like = |a: u32, b: u32| {
        pairs.iter().find(|pair| (pair.one, pair.other) == (a, b)).map_or(0.0, |pair| pair.likeness)
    };
    assert!(like(0, 1) > 0.25, "{pairs:?}");
    assert_eq!(like(2, 3), 0.0);
    assert_eq!(clusters::clusters(&pairs, &[], 4), [], "two are no cluster");
    let ids = [id("ep", 1), id("ep", 2), id("ep", 3), id("ep", 4)];
    let links = duplicates::links(&texts, &pairs, 0.99, &ids.iter().collect::<Vec<_>>());
    assert_eq!(links, []);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever happened before: a pass and its undoing leave every read model as it was, but for the line in the history;
    /// and a rebuild finds what is there.
    #[test]
    fn undoing_a_pass_restores_the_digest(
        steps in proptest::collection::vec((0_u8..6, 1_u64..12, 1_u64..12), 0..24),
        thorough: bool,
    ) {
        let mut fed = Fed::new();
        let mut now = 1;
        for (n, (what, one, other)) in (1..).zip(steps) {
            now += 9 * DAY;
            match what {
                0 => {
                    let known = fed.library.items.episode(&fed.cx(now), &id("ep", one)).unwrap().is_some();
                    if known {
                        let ids = vec![id("ep", one)];
                        let mode = if other < 6 { Forgetting::Hide } else { Forgetting::Erase };
                        fed.feed(now, episodic::Event::Forgotten(episodic::Forgotten { ids, mode }));
                    }
                }
                1 => fed.feed(now, Event::Pinned(Pinned { id: id("ep", one), pinned: other < 8 })),
                2 => { record(&mut fed, now, 100 + n, Strategy::Thorough); }
                _ => fed.feed(now, said(100 + n, &format!("s{one}"), ["ask", "say"][(other % 2) as usize],
                    &format!("Number {other} of Ana's kettles stands on shelf {one}."))),
            }
        }
        now += DAY;
        let but_history = |digests: Vec<(&'static str, [u8; 32])>| -> Vec<_> {
            // These two are histories: what was undone stands in them, and its undoing.
            digests.into_iter().filter(|(name, _)| !matches!(*name, "passes" | "audit")).collect()
        };
        let before = but_history(fed.digests());
        let strategy = if thorough { Strategy::Thorough } else { Strategy::Balanced };
        let findings = record(&mut fed, now, 1, strategy);
        if findings.counts.events > 0 || !findings.faded.is_empty() {
            prop_assert_ne!(but_history(fed.digests()), before.clone());
        }
        undo(&mut fed, now + 1, 1);
        prop_assert_eq!(but_history(fed.digests()), before);
        prop_assert_eq!(fed.rebuilt(|_| false), fed.digests());
    }
}
