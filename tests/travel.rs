//! The log carried elsewhere: files, backups, keys, and the choice of events that all of it shares.

use crate::support::{ATHENA, Store, text};
use serde_json::{Value, json};
use std::process::Output;

const PASSPHRASE: &str = "correct horse battery";

/// A command with the passphrase in its environment.
fn knowing(store: &Store, passphrase: &str, arguments: &[&str]) -> Output {
    store.command(arguments).env("ATHENA_PASSPHRASE", passphrase).output().unwrap()
}

fn good(output: &Output) -> Value {
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

/// The last line on stderr: the refusal. Lines before it say how far the work had come.
fn refusal(output: &Output) -> Value {
    serde_json::from_str(text(&output.stderr).lines().last().unwrap_or_default()).unwrap()
}

/// A store in which something of several layers was kept, and a run.
fn filled() -> Store {
    let store = Store::new();
    store.calls(&[
        json!({"op": "semantic/store", "params": {"content": "the kettle is red"}}),
        json!({"op": "episodic/remember", "params": {"content": "Ana made tea in the kettle"}}),
        json!({"op": "prospective/create_task", "params": {"title": "buy tea"}}),
        json!({"op": "episodic/remember", "params": {"content": format!("a long story {}", "and on ".repeat(9_000))}}),
    ]);
    let ran = store.execute("await athena.semantic.store({content: 'water is wet'}); return 1");
    assert_eq!(ran["status"], "completed", "{ran}");
    store
}

/// Positions, leaves' heirs and payloads: all events with their chain hashes.
fn events(store: &Store) -> Vec<Value> {
    store.events(None)
}

fn lines(output: &Output) -> Vec<Value> {
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_log_goes_into_a_file_opens_read_only_and_comes_back_to_the_same_hashes() {
    let store = filled();
    let file = store.path().with_file_name("all.athenalog");
    let file = file.to_str().unwrap();
    let made = good(&knowing(&store, PASSPHRASE, &["--json", "log", "export", file, "--with-keys"]));
    let all = events(&store);
    assert_eq!((&made["events"], &made["excerpt"]), (&json!(all.len()), &json!(false)), "{made}");
    let bytes = std::fs::read(file).unwrap();
    assert!(!bytes.windows(6).any(|window| window == b"kettle"), "it is sealed");
    assert_eq!(store.run(&["log", "export", file]).status.code(), Some(1), "never over a file that is there");

    // Another store, which has neither log nor keys.
    let other = Store::new();
    let read = |arguments: &[&str]| {
        knowing(&other, PASSPHRASE, &[&["--json", "log", "--file", file], arguments].concat())
    };
    assert_eq!(lines(&read(&["export"])), all, "opened, it says what the store says");
    assert_eq!(lines(&read(&["grep", "water is wet", "--layer", "semantic"])).len(), 1);
    assert_eq!(good(&read(&["show", "2"])), all[1]);
    assert_eq!(good(&read(&["stats"]))["events"], all.len());
    let verified = good(&read(&["verify"]));
    assert_eq!(
        (&verified["ok"], &verified["chain"]),
        (&json!(true), &all[all.len() - 1]["chain"]),
        "{verified}"
    );
    let wrong = knowing(&other, "another one", &["--json", "log", "--file", file, "tail"]);
    assert_eq!((wrong.status.code(), &refusal(&wrong)["code"]), (Some(5), &json!("denied")));
    let sealed = lines(&other.run(&["--json", "log", "--file", file, "tail", "-n", "1"]));
    assert!(sealed[0]["data"]["sealed"].is_u64(), "without the passphrase it stays sealed: {}", sealed[0]);
    assert!(!other.path().join("log").exists(), "reading a file makes no store");

    let imported = knowing(&other, PASSPHRASE, &["--json", "log", "import", file]);
    assert!(imported.status.success(), "{}", text(&imported.stderr));
    let again = events(&other);
    assert_eq!(again[..all.len()], all, "same positions, same hashes, same words");
    assert_eq!(other.run(&["log", "verify"]).status.code(), Some(0));
    assert_eq!(other.run(&["replay", "--verify"]).status.code(), Some(0));
    let scope = &all[0]["scope"];
    let found =
        other.calls(&[json!({"op": "semantic/search", "params": {"query": "red kettle"}, "scope": scope})]);
    assert!(found[0].to_string().contains("the kettle is red"), "{found:?}");
    other.run(&["daemon", "stop"]);
    let refused = knowing(&other, PASSPHRASE, &["--json", "log", "import", file]);
    assert_eq!((refused.status.code(), &refusal(&refused)["code"]), (Some(1), &json!("conflict")));
}

#[test]
fn a_damaged_or_cut_file_is_refused_with_its_positions_and_leaves_nothing() {
    let store = filled();
    let file = store.path().with_file_name("all.athenalog");
    let name = file.to_str().unwrap();
    good(&store.run(&["--json", "log", "export", name]));
    let checkpoint = store.path().with_file_name("checkpoint.json");
    std::fs::write(&checkpoint, store.run(&["log", "checkpoint"]).stdout).unwrap();
    let bytes = std::fs::read(&file).unwrap();
    let other = Store::new();
    let mut flipped = bytes.clone();
    flipped[bytes.len() / 2] ^= 0x10;
    for (what, damaged) in [("flipped", &flipped[..]), ("cut", &bytes[..bytes.len() / 2])] {
        std::fs::write(&file, damaged).unwrap();
        for arguments in [&["log", "import", name][..], &["log", "--file", name, "tail"]] {
            let refused = other.run(&[&["--json"], arguments].concat());
            assert_eq!(refused.status.code(), Some(6), "{what} {arguments:?}: {}", text(&refused.stderr));
            assert!(
                refusal(&refused)["message"].as_str().unwrap().contains("position"),
                "{}",
                refusal(&refused)
            );
        }
        let verified = other.run(&["--json", "log", "--file", name, "verify"]);
        assert_eq!(verified.status.code(), Some(6), "{what}");
        let report: Value = serde_json::from_slice(&verified.stdout).unwrap();
        assert!(report["findings"][0]["first"].is_u64(), "{report}");
        assert!(!other.path().join("log/db").exists(), "{what}: nothing is left behind");
    }
    std::fs::write(&file, &bytes).unwrap();
    assert_eq!(
        other.run(&["log", "import", name]).status.code(),
        Some(0),
        "the same store takes the whole file"
    );
    let kept = checkpoint.to_str().unwrap();
    assert_eq!(store.run(&["log", "verify", "--checkpoint", kept]).status.code(), Some(0));
    let report = text(&other.run(&["log", "verify", "--checkpoint", kept]).stdout);
    assert!(report.contains("intact") || report.contains("rolled back"), "{report}");
}

#[test]
fn an_excerpt_says_so_verifies_and_is_no_log() {
    let store = filled();
    let file = store.path().with_file_name("some.athenalog");
    let name = file.to_str().unwrap();
    let made = good(&store.run(&["--json", "log", "export", name, "--layer", "episodic", "--since", "2"]));
    assert_eq!((&made["events"], &made["excerpt"]), (&json!(2), &json!(true)), "{made}");
    let verified = good(&store.run(&["--json", "log", "--file", name, "verify"]));
    assert_eq!(
        (&verified["ok"], &verified["head"]),
        (&json!(true), &made["checkpoint"]["seq"]),
        "{verified}"
    );
    assert_eq!(verified["file"]["excerpt"], json!({"layer": "episodic", "since": {"seq": 2}}));
    let other = Store::new();
    let refused = other.run(&["--json", "log", "import", name]);
    assert_eq!(refused.status.code(), Some(2), "{}", text(&refused.stderr));
    assert!(refusal(&refused)["message"].as_str().unwrap().contains("excerpt"));
}

#[test]
fn the_same_choice_of_events_works_everywhere() {
    let store = filled();
    let all = events(&store);
    let run = all.iter().find_map(|event| event["run"].as_str()).unwrap().to_owned();
    let of = |choice: &[&str]| lines(&store.run(&[&["--json", "log", "export"], choice].concat()));
    let seqs =
        |events: &[Value]| events.iter().map(|event| event["seq"].as_u64().unwrap()).collect::<Vec<_>>();
    let led = of(&["--run", &run]);
    assert!(led.iter().any(|event| event["type"] == "semantic.stored"), "what its code led to");
    assert!(led.iter().any(|event| event["stream"] == format!("run/{run}")), "and its own record");
    assert_eq!(seqs(&of(&["--since", "2", "--until", "4"])), [2, 3, 4]);
    let third = all[2]["ts"].as_str().unwrap();
    let since = of(&["--since", third]);
    assert!(since.iter().all(|event| event["ts"].as_str().unwrap() >= third), "{since:?}");
    let until = of(&["--until", third]);
    assert_eq!(since.len() + until.len(), all.len());
    let choice = ["--type", "remembered", "--until", "3"];
    let stats = good(&store.run(&[&["--json", "log", "stats"], &choice[..]].concat()));
    assert_eq!(
        (&stats["events"], &stats["types"]),
        (&json!(1), &json!({"episodic.remembered": 1})),
        "{stats}"
    );
    assert_eq!(lines(&store.run(&[&["--json", "log", "grep", "tea"], &choice[..]].concat())).len(), 1);
    assert_eq!(lines(&store.run(&[&["--json", "log", "tail"], &choice[..]].concat())).len(), 1);
    let nonsense = store.run(&["--json", "log", "tail", "--since", "soon"]);
    assert_eq!(nonsense.status.code(), Some(2));
    assert_eq!(seqs(&lines(&store.run(&["--json", "--at", "3", "log", "tail"]))), [1, 2, 3]);
}

#[test]
fn a_backup_made_while_the_daemon_works_is_a_store() {
    let store = filled();
    let folder = store.path().with_file_name("backup").join("store");
    let writes = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let more: Vec<Value> = (0..40)
                .map(|n| json!({"op": "episodic/remember", "params": {"content": format!("meanwhile {n}")}}))
                .collect();
            store.calls(&more).len()
        });
        let made = good(&knowing(
            &store,
            PASSPHRASE,
            &["--json", "log", "backup", folder.to_str().unwrap(), "--with-keys"],
        ));
        assert_eq!(made["events"], made["checkpoint"]["seq"], "{made}");
        writer.join().unwrap()
    });
    assert_eq!(writes, 40);
    let all = events(&store);
    let there = |arguments: &[&str]| {
        let mut command = std::process::Command::new(ATHENA);
        command.args(["--store".as_ref(), folder.as_os_str()]).args(arguments).env_remove("XDG_RUNTIME_DIR");
        command.env("ATHENA_PASSPHRASE", PASSPHRASE).stdin(std::process::Stdio::null()).output().unwrap()
    };
    let checkpoint = folder.join("checkpoint.json");
    assert!(there(&["log", "verify", "--checkpoint", checkpoint.to_str().unwrap()]).status.success());
    let keys = folder.join("keys.backup");
    assert!(there(&["keys", "restore", keys.to_str().unwrap()]).status.success());
    let copy = lines(&there(&["--json", "log", "export"]));
    assert!(copy.len() >= 5 && all.len() >= copy.len());
    assert_eq!(copy[..], all[..copy.len()]);
    assert!(there(&["daemon", "stop"]).status.success());
    let again = store.run(&["--json", "log", "backup", folder.to_str().unwrap()]);
    assert_eq!(again.status.code(), Some(1), "never over a log that is there");
}

#[test]
fn compaction_says_what_it_gained_and_changes_nothing() {
    let store = filled();
    let before = events(&store);
    let done = good(&store.run(&["--json", "log", "compact"]));
    assert!(done["before_bytes"].as_u64() > Some(0) && done["after_bytes"].as_u64() > Some(0), "{done}");
    assert_eq!(events(&store), before);
    assert_eq!(store.run(&["log", "verify"]).status.code(), Some(0));
}

#[test]
fn keys_are_wrapped_anew_backed_up_and_put_back() {
    let store = filled();
    let all = events(&store);
    let status = store.json(&["keys", "status"]);
    assert_eq!((&status["master"], &status["destroyed"]), (&json!("file"), &json!(0)), "{status}");
    let epoch = status["epoch"].as_u64().unwrap();
    assert_eq!(store.json(&["keys", "rotate"])["epoch"], epoch + 1);
    assert_eq!(events(&store), all, "what was sealed before is read after");
    let file = store.path().with_file_name("keys.backup");
    let name = file.to_str().unwrap();
    let nobody = store.run(&["--json", "keys", "backup", name]);
    assert_eq!(nobody.status.code(), Some(2), "nobody can be asked: {}", text(&nobody.stderr));
    assert_eq!(knowing(&store, "short", &["keys", "backup", name]).status.code(), Some(2));
    good(&knowing(&store, PASSPHRASE, &["--json", "keys", "backup", name]));
    assert_eq!(
        knowing(&store, PASSPHRASE, &["keys", "backup", name]).status.code(),
        Some(1),
        "never over a file"
    );
    assert_eq!(knowing(&store, PASSPHRASE, &["keys", "restore", name]).status.code(), Some(7), "in use");
    store.run(&["daemon", "stop"]);

    // All keys lost.
    std::fs::remove_dir_all(store.path().join("keys")).unwrap();
    assert_eq!(knowing(&store, "the wrong one", &["keys", "restore", name]).status.code(), Some(5));
    let bytes = std::fs::read(&file).unwrap();
    let cut = store.path().with_file_name("cut");
    std::fs::write(&cut, &bytes[..bytes.len() - 9]).unwrap();
    assert_eq!(
        knowing(&store, PASSPHRASE, &["keys", "restore", cut.to_str().unwrap()]).status.code(),
        Some(5)
    );
    // From a file descriptor: here the command's stdin.
    let restored = store.feed(&["keys", "restore", name, "--passphrase-fd", "0"], &format!("{PASSPHRASE}\n"));
    assert!(restored.status.success(), "{}", text(&restored.stderr));
    assert_eq!(events(&store), all);

    let other = filled();
    other.run(&["daemon", "stop"]);
    let refused = knowing(&other, PASSPHRASE, &["--json", "keys", "restore", name]);
    assert_eq!((refused.status.code(), &refusal(&refused)["code"]), (Some(1), &json!("conflict")));
    let replaced = good(&knowing(&other, PASSPHRASE, &["--json", "keys", "restore", name, "--replace"]));
    assert!(std::path::Path::new(replaced["set_aside"].as_str().unwrap()).join("master.key").exists());
}

#[test]
fn long_work_says_how_far_it_has_come_where_nobody_draws_a_bar() {
    let store = filled();
    let file = store.path().with_file_name("all.athenalog");
    let output = store.run(&["--json", "log", "export", file.to_str().unwrap()]);
    let said = text(&output.stderr);
    let last: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert_eq!(last["progress"], "exporting");
    assert_eq!(last["done"], last["total"]);
    let quiet = store.run(&["--quiet", "log", "--file", file.to_str().unwrap(), "verify"]);
    assert!(quiet.stderr.is_empty(), "{}", text(&quiet.stderr));
}

#[test]
fn the_past_is_rebuilt_compared_and_made_a_store_of() {
    let store = Store::new();
    let made = store.calls(&[
        json!({"op": "semantic/store", "params": {"content": "the kettle is red"}}),
        json!({"op": "prospective/create_task", "params": {"title": "buy tea"}}),
    ]);
    let task = made[1]["result"]["id"].clone();
    let then = made[1]["result"]["seq"].as_u64().unwrap();
    store.calls(&[
        json!({"op": "prospective/update_task", "params": {"id": task, "patch": {"status": "active"}}}),
        json!({"op": "episodic/remember", "params": {"content": "Ana made tea"}}),
    ]);
    let head = store.json(&["log", "stats"])["head"].as_u64().unwrap();

    let standing = |until: &str| lines(&store.run(&["--json", "replay", "--until", until]));
    let (old, new) = (standing(&then.to_string()), standing(&head.to_string()));
    let differs: Vec<&Value> =
        old.iter().zip(&new).filter(|(a, b)| a["digest"] != b["digest"]).map(|(a, _)| &a["part"]).collect();
    assert!(differs.contains(&&json!("prospective")) && differs.contains(&&json!("agenda")), "{differs:?}");
    assert!(!differs.contains(&&json!("semantic")), "{differs:?}");
    assert_eq!(standing(&head.to_string()), new, "a rebuild is the same each time");

    let difference = store.json(&["replay", "--diff", &format!("{then}..{head}")]);
    let changed: Vec<(&Value, &Value)> =
        difference["items"].as_array().unwrap().iter().map(|item| (&item["change"], &item["said"])).collect();
    assert!(changed.contains(&(&json!("changed"), &json!("buy tea"))), "{difference}");
    assert!(changed.contains(&(&json!("added"), &json!("Ana made tea"))), "{difference}");
    let status = difference["items"].as_array().unwrap().iter().find(|item| item["id"] == task).unwrap();
    assert!(status["fields"].to_string().to_lowercase().contains("active"), "{status}");
    assert!(difference["layers"].as_array().unwrap().contains(&json!("prospective")), "{difference}");
    let text_form = text(&store.run(&["replay", "--diff", &format!("{then}..{head}")]).stdout);
    assert!(text_form.contains("+ episodic") && text_form.contains("~ prospective"), "{text_form}");
    assert_eq!(store.json(&["replay", "--diff", &format!("{head}..")])["items"], json!([]));

    let folder = store.path().with_file_name("past");
    let name = folder.to_str().unwrap();
    let materialised = store.json(&["replay", "--into", name, "--until", &then.to_string()]);
    assert_eq!(materialised["events"], then, "{materialised}");
    let there = |arguments: &[&str]| {
        let mut command = std::process::Command::new(ATHENA);
        command.args(["--store", name]).args(arguments).env_remove("XDG_RUNTIME_DIR");
        command.stdin(std::process::Stdio::null()).output().unwrap()
    };
    assert!(there(&["log", "verify"]).status.success());
    let past = lines(&there(&["--json", "log", "export"]));
    assert_eq!(past[..], events(&store)[..past.len()]);
    assert_eq!(past.len() as u64, then);
    assert!(there(&["replay", "--verify"]).status.success());
    assert!(there(&["daemon", "stop"]).status.success());
    assert_eq!(
        store.run(&["replay", "--into", name]).status.code(),
        Some(1),
        "never over a log that is there"
    );
}

#[test]
fn a_look_back_is_refused_where_nothing_has_an_earlier_state() {
    let store = filled();
    let refused = |arguments: &[&str]| {
        let output = store.run(&[&["--json", "--at", "2"], arguments].concat());
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", text(&output.stdout));
        refusal(&output)
    };
    assert_eq!(refused(&["remember", "changed"])["path"], "at_seq");
    assert_eq!(refused(&["call", "store/health", "{}"])["path"], "at_seq");
    for arguments in
        [&["keys", "status"][..], &["log", "compact"], &["replay", "--verify"], &["log", "verify"]]
    {
        assert_eq!(refused(arguments)["path"], "--at");
    }
    assert_eq!(store.run(&["--json", "replay"]).status.code(), Some(2));
    assert_eq!(store.run(&["--json", "replay", "--diff", "nonsense"]).status.code(), Some(2));
    assert_eq!(store.run(&["--json", "replay", "--diff", "3..1"]).status.code(), Some(2));
    assert_eq!(store.run(&["--json", "replay", "--until", "999999"]).status.code(), Some(3));
}
