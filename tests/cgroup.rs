//! A run in a control group of its own, with a real worker and the real kernel, where this machine lets us make groups.

use crate::support::Store;
use serde_json::{Value, json};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A store whose runs have groups and whose only worker is that of a run; none, and a word, where groups cannot be made.
fn store() -> Option<Store> {
    let store = Store::new();
    std::fs::create_dir_all(store.path()).unwrap();
    std::fs::write(store.path().join("config.toml"), "[sandbox]\ncgroup = true\nwarm = 0\n").unwrap();
    let doctor = String::from_utf8(store.run(&["sandbox", "doctor", "--json"]).stdout).unwrap();
    if !doctor.contains("cgroup-run") {
        // Past the capture of the test harness.
        let missing = "control groups cannot be made here: a worker in one was NOT tried";
        let mut told = std::io::stderr();
        writeln!(told, "{missing}").unwrap();
        return None;
    }
    Some(store)
}

/// The file of a group that bounds its memory, in whichever version of the kernel's interface counts memory.
fn bound(path_of: impl Fn(&str) -> Option<String>) -> Option<(PathBuf, PathBuf)> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    mounts.lines().find_map(|mount| {
        let fields: Vec<&str> = mount.split(' ').collect();
        let (controller, limit, usage) = match fields[2] {
            "cgroup" if fields[3].split(',').any(|option| option == "memory") => {
                ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes")
            }
            "cgroup2" => ("", "memory.max", "memory.current"),
            _ => return None,
        };
        let group = Path::new(fields[1]).join(path_of(controller)?.trim_start_matches('/'));
        group.join(limit).exists().then(|| (group.join(limit), group.join(usage)))
    })
}

/// The group of the one worker of a daemon that is at work.
fn group_of_run(daemon: i32) -> Option<(PathBuf, PathBuf)> {
    let ours = format!("athena-{daemon}-");
    std::fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
        let groups = std::fs::read_to_string(entry.path().join("cgroup")).ok()?;
        let path_of = |controller: &str| {
            groups.lines().find_map(|line| {
                let mut parts = line.splitn(3, ':').skip(1);
                let (controllers, path) = (parts.next()?, parts.next()?);
                let inside = path.contains(&ours) && path.contains("/run-");
                (inside && controllers.split(',').any(|one| one == controller)).then(|| path.to_owned())
            })
        };
        bound(path_of)
    })
}

fn until<T>(what: impl Fn() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(it) = what() {
            return it;
        }
        assert!(Instant::now() < deadline, "it did not come about");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

#[test]
fn a_run_stands_in_a_group_of_its_own_and_the_kernel_ends_it_alone() {
    let Some(store) = store() else { return };
    assert_eq!(store.execute("return 1")["value"], 1);
    let daemon = store.daemon().unwrap();
    let waiting = "while ((await athena.semantic.search({ query: 'continue' })).length === 0) \
                   await new Promise((r) => setTimeout(r, 50));\n\
                   const all = []; for (let n = 0; n < 48; n++) all.push(new Uint8Array(1 << 20).fill(1)); return all.length";
    let outcome: Value = std::thread::scope(|scope| {
        let run = scope.spawn(|| store.execute(waiting));
        let (limit, usage) = until(|| group_of_run(daemon));
        let number = |file: &Path| std::fs::read_to_string(file).unwrap().trim().parse::<u64>().unwrap();
        // The largest heap of the preset and room for the engine; and what it has is counted.
        assert!((64 << 20..1 << 30).contains(&number(&limit)), "{limit:?}: {}", number(&limit));
        // Less than its engine would let it have: now it is the kernel that has to say no.
        std::fs::write(&limit, (number(&usage) + (8 << 20)).to_string()).unwrap();
        store.calls(&[json!({"op": "semantic/store", "params": {"content": "continue now"}})]);
        let outcome = run.join().unwrap();
        until(|| (!limit.exists()).then_some(()));
        outcome
    });
    assert_eq!(outcome["status"], "out_of_memory", "{outcome}");
    let violations = store.calls(&[json!({"op": "run/violations", "params": {}})]).remove(0);
    assert!(violations.to_string().contains("killed for its memory"), "{violations}");
    // The server, and the next run, are not touched.
    assert_eq!(store.execute("return 2")["value"], 2);
    assert_eq!(store.daemon(), Some(daemon));
}
