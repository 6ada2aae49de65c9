//! Retention from outside: a year later the answers of a run are gone from every file, everything else is there, and whoever
//! asks is told.

use crate::support::{Store, files, text};
use athena::clock::{Clock, SystemClock};
use athena::system::{Options, System};
use athena_schemas::context::{Caller, Channel, Party};
use athena_schemas::ports::Request;
use serde_json::{Value, json};
use std::sync::Arc;

const REMEMBERED: &str = "haberdasher";

/// The system's clock, days ahead.
struct Ahead {
    clock: SystemClock,
    days: u64,
}

impl Clock for Ahead {
    fn now_ms(&self) -> u64 {
        self.clock.now_ms() + self.days * 24 * 60 * 60 * 1_000
    }

    fn random(&self) -> [u8; 16] {
        self.clock.random()
    }
}

/// What `store/retain` says to a person who comes so many days later.
fn retain(store: &Store, days: u64, apply: bool) -> Value {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let clock = Arc::new(Ahead { clock: SystemClock::default(), days });
        let options = Options { folder: Some(store.path()), clock, sandbox: false, ..Options::default() };
        let system = System::open(options).await.unwrap();
        let caller = Caller { party: Party::Human, channel: Channel::Cli, ..Caller::system() };
        let request = Request::new("store/retain", json!({"apply": apply}));
        let done = system.router().call(&caller, request).await.unwrap().value;
        let compared = system.read_side().compare().await.unwrap();
        assert!(compared.iter().all(|one| one.equal), "{compared:?}");
        system.shutdown().await;
        done
    })
}

fn stop(store: &Store) {
    assert!(store.run(&["daemon", "stop"]).status.success());
}

#[test]
fn a_year_later_a_run_has_lost_its_answers_and_says_so_and_nothing_else_is_gone() {
    let store = Store::new();
    let code = format!(
        "await athena.semantic.store({{content: 'the hat is from the {REMEMBERED}'}});\n\
         const found = await athena.semantic.search({{query: '{REMEMBERED}'}});\n\
         return found.length;"
    );
    let output = store.feed(&["--json", "exec", "-", "--lang", "js"], &code);
    let ran: Value = serde_json::from_slice(&output.stdout).unwrap();
    let run = ran["run"].as_str().unwrap_or_else(|| panic!("{ran}")).to_owned();
    assert_eq!(store.json(&["log", "retention", "show"])["runs"], 0, "nothing is due today");
    assert!(store.run(&["replay", "--run", &run]).status.success());
    stop(&store);

    let shown = retain(&store, 400, false);
    assert_eq!((&shown["runs"], &shown["applied"]), (&json!(1), &json!(false)), "{shown}");
    assert_eq!(retain(&store, 300, true)["applied"], false, "300 days are not a year");
    let done = retain(&store, 400, true);
    assert_eq!(
        (&done["runs"], &done["applied"], &done["events"]),
        (&json!(1), &json!(true), &shown["events"])
    );
    assert!(done["events"].as_u64().unwrap() >= 2 && done["bytes"].as_u64().unwrap() > 0, "{done}");
    assert_eq!(retain(&store, 400, true)["runs"], 0, "once");

    for check in [&["log", "verify"][..], &["replay", "--verify"]] {
        let output = store.run(check);
        assert!(output.status.success(), "{check:?}: {}{}", text(&output.stdout), text(&output.stderr));
    }
    let verified = store.json(&["log", "verify"]);
    assert_eq!(verified["dropped"], done["events"], "{verified}");
    let replayed = store.run(&["replay", "--run", &run]);
    assert!(!replayed.status.success());
    assert!(text(&replayed.stderr).contains("was retired on"), "{}", text(&replayed.stderr));
    let shown = text(&store.run(&["run", "show", &run]).stdout);
    assert!(shown.contains("was retired on") && shown.contains("completed"), "{shown}");
    let audited = text(&store.run(&["audit", "report"]).stdout);
    assert!(audited.contains("store.retired"), "{audited}");
    let known = store.json(&["call", "semantic/search", &json!({"query": REMEMBERED}).to_string()]);
    assert!(known.to_string().contains(REMEMBERED), "what the run stored is memory, and stays");
    let said = text(&store.run(&["log", "retention", "show"]).stdout);
    assert!(said.contains("365 days") && said.contains("1 were retired before"), "{said}");
}

/// The bytes of a large answer are in no file any more.
#[test]
fn what_was_retired_is_given_back_to_the_disk() {
    let store = Store::new();
    // Large enough for a file of its own: 200,000 bytes that do not compress.
    let code = "let s = 1; const out = []; \
                for (let i = 0; i < 40000; i++) { s = (s * 48271) % 2147483647; out.push(s.toString(36)); } \
                return out.join('');";
    let output = store.feed(&["--json", "exec", "-", "--lang", "js"], code);
    let ran: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(ran["status"], "completed", "{ran}");
    stop(&store);
    let large = || {
        let blobs = store.path().join("log").join("blobs");
        files(&blobs).iter().map(|path| path.metadata().unwrap().len()).sum::<u64>()
    };
    assert!(large() > 150_000, "{}", large());
    let done = retain(&store, 400, true);
    assert!(done["freed"].as_u64().unwrap() > 150_000, "{done}");
    assert_eq!(large(), 0);
    assert!(store.run(&["log", "verify"]).status.success());
}
