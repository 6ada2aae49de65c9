//! Who may depend on whom. Change this table only together with docs/architecture.md.

use std::process::Command;

const FLOORS: &[(&str, &[&str])] = &[
    ("athena-schemas", &[]),
    ("athena-projections", &["athena-schemas"]),
    ("athena-actors", &["athena-schemas"]),
    ("athena-worker", &["athena-schemas"]),
    ("athena", &["athena-actors", "athena-projections", "athena-schemas", "athena-worker"]),
];

/// The vocabulary does no I/O, so nothing that does I/O may be linked into it.
const NOT_IN_SCHEMAS: &[&str] = &["tokio", "ractor", "fjall", "tantivy", "git2", "rmcp", "nix"];

/// The jail holds what is linked into it: no store, no network, no runtime.
const NOT_IN_WORKER: &[&str] = &["tokio", "ractor", "fjall", "tantivy", "git2", "rmcp", "reqwest", "hyper"];

#[test]
fn arrows_point_down() {
    for (package, allowed) in FLOORS {
        let mut ours: Vec<String> =
            tree(package, "1").into_iter().filter(|d| d.starts_with("athena") && d != package).collect();
        ours.sort();
        assert_eq!(ours, *allowed, "{package}");
    }
}

#[test]
fn the_vocabulary_does_no_io_and_the_jail_holds_little() {
    for (package, banned) in [("athena-schemas", NOT_IN_SCHEMAS), ("athena-worker", NOT_IN_WORKER)] {
        let all = tree(package, "99");
        for dependency in banned {
            assert!(!all.iter().any(|d| d == dependency), "{package} reaches {dependency}");
        }
    }
}

fn tree(package: &str, depth: &str) -> Vec<String> {
    let arguments =
        ["tree", "--offline", "-p", package, "--depth", depth, "-e", "normal", "--prefix", "none"];
    let out = Command::new(env!("CARGO")).args(arguments).args(["--format", "{p}"]).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout)
        .unwrap()
        .lines()
        .filter_map(|l| l.split(' ').next())
        .map(str::to_owned)
        .collect()
}
