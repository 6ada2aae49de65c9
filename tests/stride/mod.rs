//! Rows of the threat table that only the whole program can show; those of one part lie beside it, under the same kind of name.
//! `docs/threats.md` lists all of them; [`the_table_is_current`] keeps it honest.

mod denial;
mod disclosure;
mod elevation;
mod repudiation;
mod spoofing;
mod tampering;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Rows whose test is somewhere below a folder, with the test's name.
fn tests_below(folder: &Path, found: &mut BTreeMap<String, BTreeSet<String>>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        let name = entry.file_name().into_string().unwrap();
        if path.is_dir() {
            if !name.starts_with('.') && name != "target" {
                tests_below(&path, found);
            }
        } else if name.ends_with(".rs") {
            let source = std::fs::read_to_string(&path).unwrap();
            for (at, marker) in source.match_indices("fn stride_") {
                let rest = &source[at + marker.len()..];
                let test: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                if test.is_empty() {
                    continue;
                }
                let row = test.split('_').next().unwrap().to_owned();
                found.entry(row).or_default().insert(format!("stride_{test}"));
            }
        }
    }
}

/// `docs/threats.md` says of every row of the table which test closes it, or why it is open: exactly the tests there are.
#[test]
fn the_table_is_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut tests = BTreeMap::new();
    tests_below(root, &mut tests);
    let page = std::fs::read_to_string(root.join("docs/threats.md")).unwrap();
    let mut wrong = Vec::new();
    let (mut closed, mut rows) = (0, BTreeSet::new());
    for line in page.lines().filter(|line| line.starts_with("| ") && line.contains("-")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [id, _, _, _, test, state] = cells[..] else { continue };
        let Some((letter, number)) = id.split_once('-') else { continue };
        if number.len() != 2 || number.parse::<u8>().is_err() {
            continue;
        }
        let row = format!("{}{number}", letter.to_lowercase());
        assert!(rows.insert(row.clone()), "{id} stands twice");
        let named: BTreeSet<String> = test
            .split(", ")
            .map(|name| name.trim_matches('`').to_owned())
            .filter(|name| name != "-")
            .collect();
        let there = tests.remove(&row).unwrap_or_default();
        if named != there {
            wrong.push(format!("{id}: the page names {named:?}, there are {there:?}"));
        }
        match (there.is_empty(), state) {
            (false, "closed") => closed += 1,
            (_, state) if state.starts_with("open: ") && state.len() > 12 => {}
            _ => wrong.push(format!("{id}: state {state:?} with tests {there:?}")),
        }
    }
    wrong.extend(tests.into_iter().map(|(row, names)| format!("{row} is on no line: {names:?}")));
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(rows.len(), 131);
    assert!(page.contains(&format!("{closed} of 131 rows are closed")), "it is {closed} of 131");
}
