//! What was learned is code: found as a file, imported by other code, run as a run of its own, and kept as commits.

use crate::support::{Store, text};
use serde_json::{Value, json};

fn learn(store: &Store, name: &str, code: &str) -> Value {
    let params =
        json!({"name": name, "language": "ts", "code": code, "description": "Boils water in the kettle."});
    store.json(&["call", "procedural/learn", &params.to_string()])
}

fn exec(store: &Store, code: &str) -> Value {
    let output = store.feed(&["--json", "exec", "-", "--lang", "ts"], code);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output.stderr)))
}

#[test]
fn a_procedure_is_a_file_that_code_reads_imports_and_calls() {
    let store = Store::new();
    learn(&store, "boil_water", "return `boiled ${input.litres} l`");
    learn(&store, "units", "export function litres(n: number) { return n + ' l' }");
    let done = exec(
        &store,
        r#"
        import boil from "/skills/boil_water.ts";
        import { litres } from "/skills/units.ts";
        return { done: await boil({ litres: 2 }), two: litres(2), text: await readFile("/skills/boil_water.ts"),
                 names: await readdir("/skills") };
        "#,
    );
    let value = &done["value"];
    assert_eq!(value["done"], "boiled 2 l", "{done}");
    assert_eq!(value["two"], "2 l");
    assert_eq!(value["text"], "return `boiled ${input.litres} l`");
    assert_eq!(value["names"], json!(["boil_water.ts", "units.ts"]));
    // What the procedure did is a run of its own, and counts for it.
    let effect = store.json(&["call", "procedural/effectiveness", r#"{"name": "boil_water"}"#]);
    assert_eq!(effect["runs"], 1, "{effect}");
}

#[test]
fn what_names_a_harmful_operation_runs_but_is_not_imported() {
    let store = Store::new();
    let code = "export async function all() { return await athena.graph.delete_entity({ id: input.id }) }";
    let learned = learn(&store, "erase_all", code);
    assert_eq!(learned["risk"], "HIGH", "{learned}");
    let done = exec(&store, r#"import { all } from "/skills/erase_all.ts"; return await all();"#);
    assert_ne!(done["status"], "completed", "{done}");
    assert!(done.to_string().contains("cannot be imported"), "{done}");
}

#[test]
fn versions_are_commits_that_a_rebuild_makes_again() {
    let store = Store::new();
    learn(&store, "boil", "return 1");
    learn(&store, "boil", "return 2");
    let versions = |store: &Store| store.json(&["call", "procedural/versions", r#"{"name": "boil"}"#]);
    let before = versions(&store);
    let commits: Vec<&str> =
        before.as_array().unwrap().iter().map(|version| version["commit"].as_str().unwrap()).collect();
    assert!(commits.len() == 2 && commits[0] != commits[1] && commits.iter().all(|c| c.len() == 40));
    store.json(&["rebuild", "repository"]);
    assert_eq!(versions(&store), before);
}

#[test]
fn code_is_judged_when_it_is_learned() {
    let store = Store::new();
    let critical = "const part = 'ev';\nreturn globalThis[part + 'al'](input.code);";
    let params = json!({"name": "any", "language": "ts", "code": critical, "description": "Runs anything."});
    let output = store.run(&["--json", "call", "procedural/learn", &params.to_string()]);
    assert!(!output.status.success(), "{}", text(&output.stdout));
    let refusal = text(&output.stderr) + &text(&output.stdout);
    assert!(refusal.contains("denied") && refusal.contains("line 2"), "{refusal}");
    let listed = store.json(&["call", "procedural/list", "{}"]);
    assert_eq!(listed["items"], json!([]), "nothing was kept");

    // What a person would be asked about is learned with its label, and says why.
    let code = "return await athena.episodic.forget({ sel: { ids: input.ids }, mode: 'hide' });";
    let learned = learn(&store, "hide", code);
    assert_eq!(learned["risk"], "HIGH", "{learned}");
    let info = store.json(&["call", "procedural/get", r#"{"name": "hide"}"#]);
    assert_eq!(info["risk"], "HIGH", "{info}");
    let plain = learn(&store, "add", "return input.a + input.b");
    assert_eq!((&plain["risk"], plain.get("reasons")), (&json!("LOW"), None), "{plain}");
}
