//! Search from events to answers.

use super::*;
use crate::testing::tells;
use athena_schemas::context::{Caller, Context, Scope};
use athena_schemas::envelope::{Draft, Family, Meta, Record};
use athena_schemas::id::CommandId;
use athena_schemas::layers::common::{Forgetting, Layer, Origin};
use athena_schemas::layers::{episodic, semantic};
use proptest::prelude::{Just, ProptestConfig, prop_assert_eq, prop_oneof, proptest};
use proptest::strategy::Strategy as _;

const DAY: i64 = 86_400_000;

/// A history of events, as a log would give it.
#[derive(Default)]
struct History(Vec<Recorded>);

impl History {
    fn add(&mut self, project: &str, event: impl Into<athena_schemas::event::Event>) {
        let event = event.into();
        let seq = self.0.len() as u64 + 1;
        let command = CommandId::from_key("test", &seq.to_string());
        let scope = Scope::project(project);
        let cx = Context::new(
            1_000 * seq,
            Caller { holds: scope.clone(), scope: scope.clone(), ..Caller::system() },
            scope,
            command,
        );
        let (kind, schema, payload) = match &event {
            athena_schemas::event::Event::Episodic(event) => event.encode().unwrap(),
            athena_schemas::event::Event::Semantic(event) => event.encode().unwrap(),
            other => panic!("{other:?} is not part of these tests"),
        };
        let draft =
            Draft { stream: "test".into(), id: command.event(0), kind, schema, meta: Meta::of(&cx), payload };
        let record = Record { seq, version: seq, draft, leaf: [0; 32], chain: [0; 32] };
        self.0.push(Recorded { record: Arc::new(record), event: Some(event) });
    }

    fn say(&mut self, project: &str, id: &str, session: &str, content: &str) {
        let time_ms = self.0.len() as i64 * DAY;
        let said = episodic::Remembered {
            id: Id::from_text(id),
            content: content.into(),
            kind: "message".into(),
            time_ms,
            session: Some(session.into()),
            outcome: None,
            importance: 500,
            tags: Vec::new(),
            meta: String::new(),
            origin: Origin::default(),
            untrusted: false,
        };
        self.add(project, episodic::Event::from(said));
    }

    fn fact(&mut self, project: &str, id: &str, content: &str, supersedes: &[&str]) {
        let stored = semantic::Stored {
            id: Id::from_text(id),
            content: content.into(),
            log_odds: 2_000_000,
            valid_from_ms: None,
            valid_to_ms: None,
            tags: vec!["place".into()],
            origin: Origin::default(),
            untrusted: false,
            supersedes: supersedes.iter().map(|id| Id::from_text(*id)).collect(),
            reason: None,
            similar: Vec::new(),
            conflicts: Vec::new(),
        };
        self.add(project, semantic::Event::from(stored));
    }

    fn position(&self, wanted: impl Fn(&athena_schemas::event::Event) -> bool) -> Option<usize> {
        self.0.iter().rposition(|recorded| recorded.event.as_ref().is_some_and(&wanted))
    }

    fn position_of_making(&self, id: &str) -> Option<usize> {
        self.position(|event| match event {
            athena_schemas::event::Event::Episodic(episodic::Event::Remembered(it)) => it.id.as_str() == id,
            athena_schemas::event::Event::Semantic(semantic::Event::Stored(it)) => it.id.as_str() == id,
            _ => false,
        })
    }

    fn position_of_erasure(&self, id: &str) -> Option<usize> {
        self.position(|event| match event {
            athena_schemas::event::Event::Episodic(episodic::Event::Forgotten(it)) => {
                it.mode == Forgetting::Erase && it.ids.iter().any(|other| other.as_str() == id)
            }
            athena_schemas::event::Event::Semantic(semantic::Event::Discarded(it)) => {
                it.ids.iter().any(|other| other.as_str() == id)
            }
            _ => false,
        })
    }

    /// The history as a log gives it once the keys of these items were destroyed: what made them cannot be read any more.
    fn without(&self, erased: &[String]) -> Self {
        let gone = |event: &athena_schemas::event::Event| match event {
            athena_schemas::event::Event::Episodic(episodic::Event::Remembered(it)) => {
                erased.contains(&it.id.to_string())
            }
            athena_schemas::event::Event::Semantic(semantic::Event::Stored(it)) => {
                erased.contains(&it.id.to_string())
            }
            _ => false,
        };
        Self(
            self.0
                .iter()
                .map(|r| Recorded {
                    record: Arc::clone(&r.record),
                    event: r.event.clone().filter(|e| !gone(e)),
                })
                .collect(),
        )
    }

    fn discard(&mut self, id: &str) {
        let discarded = semantic::Discarded { ids: vec![Id::from_text(id)], mode: Forgetting::Erase };
        self.add("p", semantic::Event::from(discarded));
    }

    fn forget(&mut self, id: &str, mode: Forgetting) {
        let forgotten = episodic::Forgotten { ids: vec![Id::from_text(id)], mode };
        self.add("p", episodic::Event::from(forgotten));
    }
}

fn index(history: &History) -> Search {
    let mut search = Search::open(None, None).unwrap();
    search.apply(&history.0).unwrap();
    search
}

fn cx(project: &str) -> Context {
    let scope = Scope::project(project);
    let caller = Caller { holds: scope.clone(), scope: scope.clone(), ..Caller::system() };
    Context::new(100 * DAY as u64, caller, scope, CommandId([1; 16]))
}

fn ids(search: &Search, project: &str, ask: &Ask) -> Vec<String> {
    search.finder().search(&cx(project), ask).unwrap().into_iter().map(|f| f.id.to_string()).collect()
}

fn kitchen() -> History {
    let mut history = History::default();
    history.say("p", "ep_1", "s1", "Ann: where did you put the kettle?");
    history.say("p", "ep_2", "s1", "Bob: it is in the cupboard");
    history.say("p", "ep_3", "s1", "Ann: thank you, that helps");
    history.say("p", "ep_4", "s2", "Bob: the garden needs water");
    history.say("q", "ep_5", "s1", "Eve: our kettle is secret");
    history.fact("p", "fa_1", "The kettle is in the cupboard", &[]);
    history
}

#[test]
fn what_was_applied_is_found_before_and_after_the_commit() {
    let mut search = index(&kitchen());
    let ask = Ask { layers: vec![Layer::Episodic], ..Ask::new("kettle") };
    assert_eq!(ids(&search, "p", &ask), ["ep_1", "ep_2", "ep_3"], "the answer stands beside the question");
    search.commit().unwrap();
    assert_eq!(search.finder().read().snapshot.delta.len(), 0);
    assert_eq!(ids(&search, "p", &ask), ["ep_1", "ep_2", "ep_3"]);
}

#[test]
fn no_scope_sees_another_ones_documents() {
    let search = index(&kitchen());
    assert_eq!(ids(&search, "q", &Ask::new("kettle")), ["ep_5"]);
    let widened = Ask { scope: Scope::project("q"), ..Ask::new("kettle") };
    assert!(ids(&search, "p", &widened).is_empty(), "a request cannot widen its caller's scope");
}

#[test]
fn superseded_facts_are_found_only_on_request_or_as_of_their_time() {
    let mut history = kitchen();
    history.fact("p", "fa_2", "The kettle is on the shelf", &["fa_1"]);
    let search = index(&history);
    let ask = Ask { layers: vec![Layer::Semantic], ..Ask::new("kettle") };
    assert_eq!(ids(&search, "p", &ask), ["fa_2"]);
    let all = Ask { filters: Filters { include_superseded: true, ..Filters::default() }, ..ask.clone() };
    assert_eq!(ids(&search, "p", &all).len(), 2);
    let then = Ask { filters: Filters { valid_at: Some(0), ..Filters::default() }, ..ask };
    assert!(ids(&search, "p", &then).contains(&"fa_1".into()));
}

#[test]
fn hidden_comes_back_and_erased_does_not() {
    let mut history = kitchen();
    history.forget("ep_1", Forgetting::Hide);
    history.forget("ep_4", Forgetting::Erase);
    let mut search = index(&history);
    assert!(!ids(&search, "p", &Ask::new("kettle")).contains(&"ep_1".into()));
    search.flush().unwrap();
    let mut kept = Vec::new();
    search
        .finder()
        .read()
        .snapshot
        .committed
        .documents(&|_| true, &mut |_, _, d, _| kept.push(d.id.to_string()))
        .unwrap();
    assert!(!kept.contains(&"ep_4".into()), "an erasure is committed at the next pause");
    history.add("p", episodic::Event::from(episodic::Restored { ids: vec![Id::from_text("ep_1")] }));
    search.apply(&history.0).unwrap();
    assert!(ids(&search, "p", &Ask::new("kettle")).contains(&"ep_1".into()));
}

#[test]
fn what_was_erased_is_in_no_file_whatever_merges_are_under_way() {
    let folder = tempfile::tempdir().unwrap();
    let mut search = Search::open(Some(folder.path()), None).unwrap();
    let mut history = History::default();
    // Words that have nothing in common, or compression would hide one behind the other.
    let letter = |byte: &u8| char::from(b'a' + byte % 26);
    let word =
        |n: usize| blake3::hash(&n.to_le_bytes()).as_bytes()[..8].iter().map(letter).collect::<String>();
    for n in 0..40 {
        history.say("p", &format!("ep_{n}"), "s", &word(n));
        search.apply(&history.0).unwrap();
        // Every eighth commit begins a merge in the background.
        search.commit().unwrap();
        if n % 4 == 3 {
            // Before the first merge, or compression may have cut the words up.
            assert!(n > 3 || [0, n].iter().all(|known| tells(folder.path(), &word(*known))));
            for gone in [n - 3, n] {
                history.forget(&format!("ep_{gone}"), Forgetting::Erase);
                search.apply(&history.0).unwrap();
                search.flush().unwrap();
                assert!(!tells(folder.path(), &word(gone)), "{gone}, {n}");
            }
        }
    }
    for kept in (0..40).filter(|n| !matches!(n % 4, 0 | 3)) {
        assert_eq!(ids(&search, "p", &Ask::new(word(kept))).first(), Some(&format!("ep_{kept}")));
    }
    let built = search.beside().unwrap();
    search.adopt(built).unwrap();
    assert!((0..40).all(|n| !tells(folder.path(), &word(n))));
}

/// A process may end between the commit and the purge; who finishes the erasure cannot know.
#[test]
fn a_scrub_takes_out_what_was_removed_before_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let mut history = kitchen();
    let mut search = Search::open(Some(folder.path()), None).unwrap();
    search.apply(&history.0).unwrap();
    search.commit().unwrap();
    history.forget("ep_2", Forgetting::Hide);
    history.say("p", "ep_1", "s1", "quite another sentence");
    search.apply(&history.0).unwrap();
    search.commit().unwrap();
    assert!(tells(folder.path(), "did you put the"), "replaced, and still in the file");
    drop(search);
    let mut search = Search::open(Some(folder.path()), None).unwrap();
    let before = search.digest().unwrap();
    search.scrub().unwrap();
    assert!(!tells(folder.path(), "did you put the") && tells(folder.path(), "quite another"));
    assert_eq!(search.digest().unwrap(), before);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Query syntax as an injection: whatever is asked, however it is punctuated, filtered and paged, nothing of another
    /// project's is in the answer.
    #[test]
    fn stride_t27(
        query in "(kettle|secret|scope:q|project:q|\\* |\\+|-|\\(|\\)|\"|:|\\^|~|\\[|\\]|\\{|\\}| OR | AND | NOT |/|\\\\|q|\u{0}|é|[a-z ]){0,30}",
        superseded in proptest::bool::ANY,
        tag in proptest::option::of("(place|project:q|\\*|)"),
    ) {
        let search = index(&kitchen());
        let filters = Filters { include_superseded: superseded, tags: tag.into_iter().collect(), ..Filters::default() };
        let found = ids(&search, "p", &Ask { filters, ..Ask::new(&query) });
        proptest::prop_assert!(!found.contains(&"ep_5".to_owned()), "{query:?}: {found:?}");
    }
}

/// Queries meant to take the search down: megabytes, thousands of terms, one endless term, all wild cards. Each is answered, and a
/// plain one after it still is.
#[test]
fn stride_d19() {
    let search = index(&kitchen());
    for query in [
        "kettle ".repeat(200_000),
        "k".repeat(2_000_000),
        (0..20_000).map(|n| format!("term{n} ")).collect(),
        "(".repeat(100_000),
        "\"".repeat(100_001),
        "* ".repeat(50_000),
        "a* OR ".repeat(20_000),
        "k\u{301}".repeat(100_000),
        "\u{0}".repeat(100_000),
        "kettle~99^1e308".repeat(5_000),
    ] {
        let found = ids(&search, "p", &Ask::new(&query));
        assert!(found.len() <= 10, "{}", found.len());
    }
    assert!(ids(&search, "p", &Ask::new("kettle")).contains(&"ep_1".into()));
}

#[test]
fn a_kept_table_serves_a_later_index_and_what_is_wrong_with_it_costs_only_time() {
    let folder = tempfile::tempdir().unwrap();
    let open = || Search::open(Some(folder.path()), None).unwrap();
    let file = folder.path().join("0").join(kept::FILE);
    let mut history = kitchen();
    let mut search = open();
    search.apply(&history.0).unwrap();
    search.commit().unwrap();
    search.keep_table().unwrap();
    // What comes later is in the index and not in the file: rows that are replaced, and new ones.
    history.forget("ep_1", Forgetting::Hide);
    history.fact("p", "fa_9", "the kettle is loud", &["fa_1"]);
    history.say("p", "ep_9", "s9", "somebody mended the kettle");
    search.apply(&history.0).unwrap();
    search.commit().unwrap();
    let (live, found) = (search.digest().unwrap(), ids(&search, "p", &Ask::new("kettle")));
    assert_eq!(live, index(&history).digest().unwrap());
    drop(search);
    let again = open();
    assert!(again.kept_rows > 0, "it was taken up");
    assert_eq!((again.digest().unwrap(), ids(&again, "p", &Ask::new("kettle"))), (live, found.clone()));
    drop(again);
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[9] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let mut again = open();
    assert_eq!(again.kept_rows, 0);
    assert_eq!((again.digest().unwrap(), ids(&again, "p", &Ask::new("kettle"))), (live, found));
    again.keep_table().unwrap();
    history.discard("fa_9");
    again.apply(&history.0).unwrap();
    again.flush().unwrap();
    assert!(!file.exists(), "an erasure leaves none");
    let after = again.digest().unwrap();
    drop(again);
    assert_eq!(open().digest().unwrap(), after);
}

#[test]
fn filters_are_conditions_and_hostile_queries_are_words() {
    let search = index(&kitchen());
    let in_range = |from, to| {
        let filters = Filters { range: Some((from, to)), ..Filters::default() };
        ids(&search, "p", &Ask { filters, ..Ask::new("kettle garden cupboard") })
    };
    assert_eq!(in_range(3 * DAY, 4 * DAY), ["ep_4"]);
    assert!(in_range(50 * DAY, 60 * DAY).is_empty());
    for query in ["kettle) OR scope:q", "project:q *", "\"kettle", "+-!(){}[]^~*?:\\/", "", "the"] {
        assert!(!ids(&search, "p", &Ask::new(query)).contains(&"ep_5".into()), "{query}");
    }
    let unknown = Filters { tags: vec!["no such tag".into()], ..Filters::default() };
    assert!(ids(&search, "p", &Ask { filters: unknown, ..Ask::new("kettle") }).is_empty());
    let session = Filters { session: Some("s2".into()), ..Filters::default() };
    assert_eq!(ids(&search, "p", &Ask { filters: session, ..Ask::new("garden kettle") }), ["ep_4"]);
}

#[test]
fn a_store_on_disk_goes_on_where_it_committed() {
    let folder = tempfile::tempdir().unwrap();
    let mut history = kitchen();
    let mut search = Search::open(Some(folder.path()), None).unwrap();
    search.apply(&history.0).unwrap();
    search.commit().unwrap();
    history.say("p", "ep_6", "s3", "Ann: a new kettle arrived");
    search.apply(&history.0).unwrap();
    let live = search.digest().unwrap();
    drop(search);

    let mut search = Search::open(Some(folder.path()), None).unwrap();
    assert_eq!(search.position(), 6, "what was not committed is read from the log again");
    search.apply(&history.0[6..]).unwrap();
    assert_eq!(search.digest().unwrap(), live);
    assert!(ids(&search, "p", &Ask::new("kettle")).contains(&"ep_6".into()));
    let mut built = search.beside().unwrap();
    built.apply(&history.0).unwrap();
    search.adopt(built).unwrap();
    assert_eq!((search.position(), search.digest().unwrap()), (7, live));
}

#[derive(Debug, Clone)]
enum Step {
    Say(u8),
    Fact(u8, Option<u8>),
    Hide(u8),
    Erase(u8),
    Discard(u8),
    Restore(u8),
    Tag(u8),
    Commit,
}

fn step() -> impl proptest::strategy::Strategy<Value = Step> {
    prop_oneof![
        (0..4u8).prop_map(Step::Say),
        (0..12u8, proptest::option::of(0..12u8)).prop_map(|(a, b)| Step::Fact(a, b)),
        (0..12u8).prop_map(Step::Hide),
        (0..12u8).prop_map(Step::Erase),
        (0..12u8).prop_map(Step::Discard),
        (0..12u8).prop_map(Step::Restore),
        (0..12u8).prop_map(Step::Tag),
        Just(Step::Commit),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn a_live_index_equals_one_rebuilt(steps in proptest::collection::vec(step(), 1..40)) {
        let words = ["kettle", "garden", "rain", "music"];
        let mut history = History::default();
        let mut live = Search::open(None, None).unwrap();
        let (mut made, mut erased) = (0, Vec::new());
        for step in &steps {
            // Ids are never given twice, as in life.
            let episode = |n: &u8| format!("ep_{n}");
            match step {
                Step::Say(w) => {
                    history.say("p", &format!("ep_{made}"), "s", words[*w as usize]);
                    made += 1;
                }
                Step::Fact(n, old) => {
                    let old: Vec<String> = old.iter().map(|o| format!("fa_{o}")).collect();
                    let old: Vec<&str> = old.iter().map(String::as_str).collect();
                    history.fact("p", &format!("fa_{made}"), words[*n as usize % 4], &old);
                    made += 1;
                }
                Step::Hide(n) => history.forget(&episode(n), Forgetting::Hide),
                Step::Erase(n) => {
                    history.forget(&episode(n), Forgetting::Erase);
                    erased.push(episode(n));
                }
                Step::Discard(n) => {
                    history.discard(&format!("fa_{n}"));
                    erased.push(format!("fa_{n}"));
                }
                Step::Restore(n) => history.add("p", episodic::Event::from(episodic::Restored { ids: vec![Id::from_text(episode(n))] })),
                Step::Tag(n) => history.add("p", episodic::Event::from(episodic::Annotated {
                    id: Id::from_text(episode(n)), outcome: None, importance: None,
                    add_tags: vec!["t".into()], remove_tags: Vec::new(), meta: String::new(),
                })),
                Step::Commit => live.commit().unwrap(),
            }
            live.apply(&history.0).unwrap();
        }
        let made_and_erased: Vec<String> =
            erased.iter().filter(|id| history.position_of_erasure(id) > history.position_of_making(id)).cloned().collect();
        let rebuilt = index(&history.without(&made_and_erased));
        prop_assert_eq!(live.digest().unwrap(), rebuilt.digest().unwrap());
        for word in words {
            let mut found = (ids(&live, "p", &Ask::new(word)), ids(&rebuilt, "p", &Ask::new(word)));
            found.0.sort();
            found.1.sort();
            prop_assert_eq!(found.0, found.1);
        }
    }
}
