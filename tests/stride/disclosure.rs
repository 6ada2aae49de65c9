//! Somebody learns what they should not.

use crate::support::{Mcp, Mirror, Store, files, luhn, text};
use aho_corasick::AhoCorasick;
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashSet};
use std::path::Path;
use std::process::Stdio;

/// Values of the kinds people leave lying about, all different and all well formed.
fn planted(count: u64) -> Vec<String> {
    let key = |n: u64| -> String {
        const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
        let mut bits = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d;
        (0..16)
            .map(|_| {
                bits = bits.rotate_left(23).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                char::from(LETTERS[usize::try_from(bits >> 59).unwrap()])
            })
            .collect()
    };
    (0..count)
        .map(|n| match n % 5 {
            0 | 1 => format!("person{n}.surname{n}@private-mail{n}.example.com"),
            2 | 3 => luhn(&format!("411111{:09}", n * 7_919)),
            _ => format!("AKIA{}", key(n)),
        })
        .collect()
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let n = chunk.iter().fold(0_usize, |n, byte| n << 8 | usize::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..=chunk.len() {
            out.push(char::from(LETTERS[n >> (18 - 6 * place) & 63]));
        }
    }
    out
}

/// How a value may lie in a file: as it is, in base64 at each of the three offsets, in hex of either case, percent-encoded, and in
/// UTF-16 of either order.
fn forms(value: &str) -> Vec<Vec<u8>> {
    let bytes = value.as_bytes();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let url = |all: bool| -> String {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        bytes
            .iter()
            .map(|b| if plain(*b) && !all { char::from(*b).to_string() } else { format!("%{b:02X}") })
            .collect()
    };
    let mut all =
        vec![bytes.to_vec(), hex.to_uppercase().into(), hex.into(), url(false).into(), url(true).into()];
    for before in 0..3 {
        let whole = base64(&[&b"xxx"[..before], bytes].concat());
        // The letters at the ends depend on the neighbours.
        all.push(whole[(before * 8).div_ceil(6)..whole.len() - 2].into());
    }
    all.push(value.encode_utf16().flat_map(u16::to_le_bytes).collect());
    all.push(value.encode_utf16().flat_map(u16::to_be_bytes).collect());
    all.sort();
    all.dedup();
    all
}

/// Which of these values lie where, in any form.
struct Scan {
    automaton: AhoCorasick,
    owners: Vec<String>,
    leaks: BTreeSet<String>,
}

impl Scan {
    fn new(values: &[String]) -> Self {
        let (mut patterns, mut owners) = (Vec::new(), Vec::new());
        for value in values {
            for form in forms(value) {
                patterns.push(form);
                owners.push(value.clone());
            }
        }
        Self { automaton: AhoCorasick::new(patterns).unwrap(), owners, leaks: BTreeSet::new() }
    }

    fn look(&mut self, place: &str, bytes: &[u8]) {
        for found in self.automaton.find_iter(bytes) {
            self.leaks.insert(format!("{} in {place}", self.owners[found.pattern().as_usize()]));
        }
    }

    /// Every file below a folder, and its name; how many there were.
    fn folder(&mut self, folder: &Path) -> usize {
        let all = files(folder);
        for file in &all {
            self.look("a file's name", file.as_os_str().as_encoded_bytes());
            // A file of the database may be compacted away while it is looked for.
            if let Ok(bytes) = std::fs::read(file) {
                self.look(&file.display().to_string(), &bytes);
            }
        }
        all.len()
    }

    fn assert_clean(&self) {
        let first: Vec<_> = self.leaks.iter().take(10).collect();
        assert!(self.leaks.is_empty(), "{} leaks: {first:#?}", self.leaks.len());
    }
}

#[test]
fn a_scan_finds_every_form() {
    let value = "person1.surname1@private-mail1.example.com".to_owned();
    for form in forms(&value) {
        let mut scan = Scan::new(std::slice::from_ref(&value));
        scan.look("here", &[b"before ", form.as_slice(), b" after"].concat());
        assert_eq!(scan.leaks.len(), 1, "{}", text(&form));
    }
    for before in ["", "x", "xy", "xyz"] {
        let mut scan = Scan::new(std::slice::from_ref(&value));
        scan.look("here", base64(format!("{before}{value} and more").as_bytes()).as_bytes());
        assert_eq!(scan.leaks.len(), 1, "behind {before:?}");
    }
}

/// Five hundred planted values end to end: remembered, searched for, given to code, printed, thrown, asked of tools that do not
/// exist. None of them is in any file below the store, in what the program says at its most talkative, or in any answer.
#[test]
fn stride_i01() {
    let store = Store::new();
    let values = planted(500);
    assert_eq!(values.iter().collect::<HashSet<_>>().len(), 500);
    let stderr = store.path().with_extension("stderr");
    let mut command = store.command(&["-v", "-v", "serve"]);
    let said = std::fs::File::create(&stderr).unwrap();
    let mut mcp = Mcp::with(command.env("RUST_LOG", "trace").stderr(Stdio::from(said)));
    for (n, value) in values.iter().enumerate() {
        let layer = ["episodic", "semantic", "prospective"][n % 3];
        let content = format!("note {n}: the value is {value} and must not be seen");
        mcp.call("remember", json!({"content": content, "layer": layer}));
        if n % 10 == 0 {
            mcp.call("recall", json!({"query": format!("note {n} {value}")}));
            mcp.ask("tools/call", json!({"name": "no_such_tool", "arguments": {"q": value}}));
            mcp.call("remember", json!({"content": value, "no_such_field": value}));
            mcp.ask("resources/read", json!({"uri": format!("athena://{value}")}));
        }
        if n % 25 == 0 {
            let code = format!("console.log(\"{value}\"); return {{ given: input, said: \"{value}\" }};");
            mcp.call("execute", json!({"code": code, "input": {"secret": value, "list": [value]}}));
            mcp.call("execute", json!({"code": format!("throw new Error(\"bad {value}\");")}));
        }
    }
    let heard = std::mem::take(&mut mcp.heard);
    drop(mcp);
    let mut scan = Scan::new(&values);
    scan.look("an answer", heard.as_bytes());
    // Once beside the running daemon, once when all is written and closed.
    scan.folder(&store.path());
    assert_eq!(store.run(&["daemon", "stop"]).status.code(), Some(0));
    scan.look("stderr", &std::fs::read(&stderr).unwrap());
    assert!(scan.folder(&store.path()) > 5, "the store has files");
    scan.assert_clean();
}

/// Sixty ways to fail with a value in what failed: no message, hint, path or detail holds it.
#[test]
fn stride_i11() {
    let store = Store::new();
    let values = planted(60);
    let mut scan = Scan::new(&values);
    let mut requests = Vec::new();
    for (n, value) in values.iter().enumerate() {
        requests.push(match n % 12 {
            0 => json!({"op": "episodic/remember", "params": {"content": 7, "note": value}}),
            1 => json!({"op": "semantic/get", "params": {"id": value}}),
            2 => json!({"op": format!("semantic/{value}"), "params": {}}),
            3 => json!({"op": format!("{value}/search"), "params": {"q": value}}),
            4 => json!({"op": "semantic/search", "params": {"query": [value]}}),
            5 => json!({"op": "semantic/search", "params": {"query": "x", value: 1}}),
            6 => json!({"op": "run/execute", "params": {"code": format!("throw new Error('{value}')"), "language": "js"}}),
            7 => json!({"op": "run/execute", "params": {"code": format!("x.y['{value}'].z"), "language": "js"}}),
            8 => json!({"op": "run/execute", "params": {"code": format!("await athena.semantic.get({{ id: '{value}' }})"), "language": "js"}}),
            9 => json!({"op": "run/execute", "params": {"code": format!("raise ValueError('{value}')"), "language": "py"}}),
            10 => json!({"op": "files/read", "params": {"path": format!("/mcp-servers/{value}/x.ts")}}),
            _ => json!({"op": "approval/grant", "params": {"id": value}}),
        });
    }
    let answers = store.calls(&requests);
    for (request, answer) in requests.iter().zip(&answers) {
        let failed = answer["ok"] == false || answer["result"]["status"] != "completed";
        assert!(failed, "{request}: {answer}");
        scan.look(&request["op"].to_string(), answer.to_string().as_bytes());
    }
    drop(store.run(&["daemon", "stop"]));
    scan.folder(&store.path());
    scan.assert_clean();
}

/// Traces and measurements hold no value: the most talkative level of every part, filters that ask for other parts' traces, and a
/// value in each field that a span might carry.
#[test]
fn stride_i12() {
    for filter in
        ["trace", "athena=trace,athena_actors=trace,rmcp=trace,hyper=trace,tokio=trace", "rmcp=trace"]
    {
        let store = Store::new();
        let values = planted(20);
        let stderr = store.path().with_extension("stderr");
        let said = std::fs::File::create(&stderr).unwrap();
        let mut command = store.command(&["-v", "-v", "serve"]);
        let mut mcp = Mcp::with(command.env("RUST_LOG", filter).stderr(Stdio::from(said)));
        for value in &values {
            mcp.call("remember", json!({"content": value, "tags": [value]}));
            mcp.call("search", json!({"query": value}));
            mcp.ask("tools/call", json!({"name": value, "arguments": {}}));
            mcp.ask("prompts/get", json!({"name": value, "arguments": {value: value}}));
            mcp.ask("completion/complete", json!({"ref": {"type": "ref/prompt", "name": "x"}, "argument": {"name": "path", "value": value}}));
        }
        drop(mcp);
        drop(store.run(&["daemon", "stop"]));
        let mut scan = Scan::new(&values);
        scan.look("stderr", &std::fs::read(&stderr).unwrap());
        scan.folder(&store.path());
        scan.assert_clean();
    }
}

/// What every id in a value is.
fn ids(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::String(text) if text.len() > 20 && text.as_bytes().get(2) == Some(&b'_') => {
            found.insert(text.clone());
        }
        Value::Array(items) => items.iter().for_each(|item| ids(item, found)),
        Value::Object(fields) => fields.values().for_each(|field| ids(field, found)),
        _ => {}
    }
}

/// Every query of the catalogue, asked in another project, with its example and with ids of this one: no answer holds an id or a
/// word of what is here.
#[test]
fn stride_i18() {
    use athena_schemas::catalog;
    use athena_schemas::operation::Side;
    let store = Store::new();
    let here = |op: &str, params: Value| json!({"op": op, "params": params, "scope": {"project": "here"}});
    let word = "xylophone";
    let made = store.calls(&[
        here("episodic/remember", json!({"content": format!("Ann plays the {word} with Bob")})),
        here("semantic/store", json!({"content": format!("the {word} stands in the hall")})),
        here("prospective/create_task", json!({"title": format!("tune the {word}")})),
        here("procedural/learn", json!({"name": "tune", "language": "javascript", "description": format!("tunes the {word}"), "code": "return 1"})),
        here("graph/add_entity", json!({"name": format!("{word} maker"), "type": "person"})),
        here("run/execute", json!({"code": format!("return '{word}'"), "language": "js"})),
    ]);
    let mut mine = BTreeSet::new();
    made.iter().for_each(|answer| ids(answer, &mut mine));
    assert!(mine.len() >= 5 && made.iter().all(|answer| answer["ok"] == true), "{made:#?}");
    let mut asked = Vec::new();
    for entry in catalog::entries()
        .filter(|entry| entry.side == Side::Query && !matches!(entry.layer, "store" | "approval"))
    {
        let example: Value = serde_json::from_str(entry.traits.example).unwrap();
        let mut variants = vec![example.clone()];
        for id in &mine {
            let text = example.to_string().replace("\"$id\"", &format!("\"{id}\""));
            variants.push(serde_json::from_str(&text).unwrap());
        }
        if let Some(fields) = example.as_object() {
            for name in fields.keys().filter(|name| {
                ["query", "text", "name", "about", "question", "task"].contains(&name.as_str())
            }) {
                let mut other = example.clone();
                other[name] = json!(word);
                variants.push(other);
            }
        }
        variants.dedup();
        asked.extend(
            variants
                .into_iter()
                .map(|params| json!({"op": entry.id(), "params": params, "scope": {"project": "elsewhere"}})),
        );
    }
    assert!(asked.len() > 80, "{}", asked.len());
    let answers = store.calls(&asked);
    let mut leaks = Vec::new();
    for (request, answer) in asked.iter().zip(&answers) {
        let mut seen = BTreeSet::new();
        ids(&answer["result"], &mut seen);
        let given = request.to_string();
        // What was asked with may be said back; what was not must not be known.
        let foreign: Vec<&String> =
            seen.intersection(&mine).filter(|id| !given.contains(id.as_str())).collect();
        let told = answer["result"].to_string();
        if !foreign.is_empty()
            || (told.contains(word) && !given.contains(word))
            || told.contains("in the hall")
        {
            leaks.push(format!("{request}: {answer}"));
        }
    }
    assert!(leaks.is_empty(), "{leaks:#?}");
}

/// A project is erased: no form of what was in it is left in any file, search finds it no more, and what was beside it stays.
#[test]
fn stride_i25() {
    let store = Store::new();
    let words: Vec<String> =
        (0..20).map(|n| format!("the quince jelly of cellar {n}{n}{n} stays secret")).collect();
    let there = |op: &str, params: Value| json!({"op": op, "params": params, "scope": {"project": "gone"}});
    let requests: Vec<Value> =
        words.iter().map(|word| there("episodic/remember", json!({"content": word}))).collect();
    let stays = json!({"op": "episodic/remember", "params": {"content": "the neighbour's garden stays"}, "scope": {"project": "kept"}});
    assert!(store.calls(&[requests, vec![stays]].concat()).iter().all(|answer| answer["ok"] == true));
    assert_eq!(store.run(&["daemon", "stop"]).status.code(), Some(0));
    let mut before = Scan::new(&words);
    before.folder(&store.path());
    assert!(!before.leaks.is_empty(), "the words are nowhere: the scan would prove nothing");
    let confirm = store
        .calls(&[
            json!({"op": "store/erase_scope", "params": {"scope": {"project": "gone"}, "confirm": "?"}}),
        ])
        .remove(0);
    let wanted: String =
        confirm["error"]["try"].as_str().unwrap_or_default().split('"').nth(1).unwrap_or_default().to_owned();
    let erased = store
        .calls(&[
            json!({"op": "store/erase_scope", "params": {"scope": {"project": "gone"}, "confirm": wanted}}),
        ])
        .remove(0);
    assert_eq!(erased["ok"], true, "{confirm} {erased}");
    let found = store.calls(&[
        there("episodic/recall", json!({"query": "quince jelly cellar"})),
        json!({"op": "episodic/recall", "params": {"query": "garden"}, "scope": {"project": "kept"}}),
    ]);
    assert!(
        !found[0].to_string().contains("quince jelly of") && found[1].to_string().contains("neighbour"),
        "{found:?}"
    );
    assert_eq!(store.run(&["log", "verify"]).status.code(), Some(0));
    assert_eq!(store.run(&["daemon", "stop"]).status.code(), Some(0));
    let mut scan = Scan::new(&words);
    scan.folder(&store.path());
    scan.assert_clean();
}

/// Were the scan blind, every leak would pass: an ordinary sentence is found in the answer that holds it.
#[test]
fn the_scan_is_not_blind() {
    let store = Store::new();
    let mut mcp = Mcp::start(&store);
    mcp.call("remember", json!({"content": "an ordinary sentence about the lighthouse keeper"}));
    mcp.call("recall", json!({"query": "lighthouse"}));
    let mut scan = Scan::new(&["an ordinary sentence about the lighthouse keeper".to_owned()]);
    scan.look("an answer", mcp.heard.as_bytes());
    assert_eq!(scan.leaks.len(), 1);
}

/// Exfiltration in two daemons' time: memory is read and outside content heard, the daemon dies while the run waits for a person,
/// and the next one is asked to send. What the run touched is on its record, so a person is asked again; and what a person said
/// to one daemon counts with the next, once.
#[test]
fn stride_i07_what_a_run_touched_outlives_the_daemon() {
    let store = Store::new();
    let mirror = Mirror::behind(
        &store,
        "desk",
        &[
            ("read", json!({"readOnlyHint": true})),
            ("delete_everything", json!({"openWorldHint": false})),
            ("send", json!({"openWorldHint": true})),
        ],
    );
    let code = "await athena.semantic.search({ query: 'board' }); await callMCPTool('desk/read', {}); \
                await callMCPTool(input.next, {}); return await callMCPTool('desk/send', { text: 'x' })";
    let params = json!({"code": code, "language": "js", "input": {"next": "desk/delete_everything"}});
    let waits = store.calls(&[json!({"op": "run/execute", "params": params})]).remove(0)["result"].clone();
    assert_eq!(waits["status"], "approval_required", "{waits}");
    let made = |tool: &str| mirror.book().iter().filter(|call| call["tool"] == tool).count();
    assert_eq!((made("read"), made("delete_everything"), made("send")), (1, 0, 0));
    let goes_on = |approval: &Value| {
        store.kill_daemon();
        store.json(&["approve", approval.as_str().unwrap()]);
        let resume = json!({"op": "run/resume", "params": {"run": waits["run"]}});
        store.calls(&[resume]).remove(0)["result"].clone()
    };
    let asks = goes_on(&waits["approval"]);
    assert_eq!(asks["status"], "approval_required", "{asks}");
    assert_ne!(asks["approval"], waits["approval"]);
    assert_eq!((made("read"), made("delete_everything"), made("send")), (1, 1, 0));
    let done = goes_on(&asks["approval"]);
    assert_eq!(done["status"], "completed", "{done}");
    assert_eq!((made("read"), made("delete_everything"), made("send")), (1, 1, 1));
}
