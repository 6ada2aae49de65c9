//! What the lines of a file are: our own export, Markdown, the reference memory server's, and mem0's dump.

#![expect(clippy::indexing_slicing, reason = "indexing a JSON value answers null where there is nothing")]

use athena_schemas::id::Id;
use athena_schemas::layers::store::{Format, Rejected};
use athena_schemas::refusal::{Code, Refusal};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};

/// Most bytes of a file that is imported.
const IMPORT_BYTES: u64 = 256 << 20;

/// One thing of a file, as the call that brings it in.
#[derive(Debug, Clone)]
pub(super) struct Brought {
    /// Where in the file it stands, from 1.
    pub(super) line: u64,
    pub(super) op: &'static str,
    pub(super) params: Value,
    /// What later lines call it.
    pub(super) name: Option<String>,
    /// What is done to it once it is there.
    pub(super) then: Option<(&'static str, Value)>,
}

impl Brought {
    fn new(line: u64, op: &'static str, params: Value) -> Self {
        Self { line, op, params, name: None, then: None }
    }
}

type Item = Result<Brought, Rejected>;

/// Reads a file's items in order.
pub(super) struct Reader {
    path: PathBuf,
    format: Format,
    open: Option<BufReader<File>>,
    line: u64,
    /// Items read and not taken: a line may hold several.
    ready: std::collections::VecDeque<Item>,
}

impl Reader {
    /// The format is told from the file's name, if not said.
    pub(super) fn new(path: PathBuf, format: Option<Format>) -> Self {
        let format = format.unwrap_or_else(|| guess(&path));
        Self { path, format, open: None, line: 0, ready: std::collections::VecDeque::new() }
    }

    /// The next items, `most` at most; none at the end. Blocks.
    ///
    /// # Errors
    /// When the file is not there, too long, or cannot be read.
    pub(super) fn take(&mut self, most: usize) -> Result<Vec<Item>, Refusal> {
        let path = self.path.clone();
        let failed =
            |error: std::io::Error| Refusal::not_found(format!("{}: {error}", path.display())).at("path");
        let mut file = match self.open.take() {
            Some(file) => file,
            None => open(&self.path)?,
        };
        while self.ready.len() < most {
            if self.format == Format::Mem0 {
                // One JSON document: nothing of it is whole before all of it is.
                let mut whole = Vec::new();
                std::io::Read::read_to_end(&mut file, &mut whole).map_err(failed)?;
                if whole.is_empty() {
                    break;
                }
                self.ready.extend(dump(&whole));
                continue;
            }
            let mut raw = Vec::new();
            if file.read_until(b'\n', &mut raw).map_err(failed)? == 0 {
                break;
            }
            self.line += 1;
            self.ready.extend(line(self.format, self.line, &raw));
        }
        self.open = Some(file);
        Ok(self.ready.drain(..most.min(self.ready.len())).collect())
    }
}

fn open(path: &Path) -> Result<BufReader<File>, Refusal> {
    let failed =
        |error: std::io::Error| Refusal::not_found(format!("{}: {error}", path.display())).at("path");
    let file = File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    if length > IMPORT_BYTES {
        return Err(Refusal::new(
            Code::LimitExceeded,
            format!("the file has {length} bytes; at most {IMPORT_BYTES}"),
        )
        .at("path")
        .hint("split it by lines and import the parts one after the other"));
    }
    Ok(BufReader::new(file))
}

fn guess(path: &Path) -> Format {
    match path.extension().and_then(|ending| ending.to_str()) {
        Some("md" | "markdown") => Format::Markdown,
        _ if path.file_name().is_some_and(|name| name.to_string_lossy().contains("memory")) => {
            Format::ServerMemory
        }
        _ => Format::Jsonl,
    }
}

/// The memories of mem0's dump.
fn dump(text: &[u8]) -> Vec<Item> {
    match serde_json::from_slice::<Value>(text) {
        Ok(dump) => {
            let results = dump.get("results").or(Some(&dump)).and_then(Value::as_array);
            let memories = results.into_iter().flatten().filter_map(|one| one.get("memory")?.as_str());
            memories.enumerate().map(|(n, memory)| Ok(fact(n as u64 + 1, memory))).collect()
        }
        Err(error) => vec![Err(Rejected::new(error.line() as u64, error.to_string()))],
    }
}

/// The items of a line; none in a blank one.
fn line(format: Format, number: u64, raw: &[u8]) -> Vec<Item> {
    let Ok(raw) = std::str::from_utf8(raw) else {
        return vec![Err(Rejected::new(number, "it is not UTF-8"))];
    };
    let raw = raw.trim();
    if raw.is_empty() {
        return Vec::new();
    }
    if format == Format::Markdown {
        let said = raw.trim_start_matches(['-', '*', '+', ' ']);
        let heading = raw.starts_with('#') || said.is_empty();
        return if heading { Vec::new() } else { vec![Ok(fact(number, said))] };
    }
    let value: Value = match serde_json::from_str(raw) {
        Ok(value) => value,
        Err(error) => return vec![Err(Rejected::new(number, format!("not JSON: {error}")))],
    };
    let calls =
        if format == Format::ServerMemory { server_memory(number, &value) } else { own(number, &value) };
    match calls {
        Some(calls) => calls.into_iter().map(Ok).collect(),
        None => vec![Err(Rejected::new(number, "it is none of the things this format holds"))],
    }
}

fn fact(line: u64, content: &str) -> Brought {
    Brought::new(line, "semantic/store", json!({"content": content, "prov": {"source": "import"}}))
}

/// A line of our own export.
pub(super) fn own(line: u64, value: &Value) -> Option<Vec<Brought>> {
    let item = value.get("item")?;
    let pick = |names: &[&str], mut params: Value| {
        for name in names {
            if let Some(field) = item.get(*name).filter(|field| !field.is_null()) {
                params[*name] = field.clone();
            }
        }
        params
    };
    let id = item.get("id").and_then(Value::as_str).unwrap_or_default();
    let reference = |field: &Value| json!({"$item": field});
    let refer = |names: &[&str], mut params: Value| {
        for name in names {
            match item.get(*name) {
                Some(Value::Array(ids)) => params[*name] = ids.iter().map(reference).collect(),
                Some(id) if id.is_string() => params[*name] = reference(id),
                _ => {}
            }
        }
        params
    };
    let content = |params: &[&str]| {
        let base = json!({"content": item.get("content")?, "prov": {"source": "import"}});
        Some(pick(params, base))
    };
    // What is not open is brought there once it is made.
    let status = |op: &'static str| {
        let status = item.get("status").and_then(Value::as_str).filter(|status| *status != "open")?;
        Some((op, json!({"patch": {"status": status}})))
    };
    let (op, params, then) = match (value.get("layer")?.as_str()?, Id::from_text(id).prefix()) {
        ("episodic", _) => {
            let names = ["type", "time", "session", "outcome", "importance", "tags", "meta"];
            ("episodic/remember", content(&names)?, None)
        }
        ("semantic", _) => ("semantic/store", content(&["confidence", "valid_from", "tags"])?, None),
        ("graph", "ed") => {
            let base = json!({"prov": {"source": "import"}});
            let params = pick(&["relation", "valid_from", "valid_to", "weight"], base);
            ("graph/add_edge", refer(&["from", "to"], params), None)
        }
        ("graph", _) => ("graph/add_entity", pick(&["name", "type", "aliases", "attrs"], json!({})), None),
        ("prospective", "go") => {
            let params = refer(&["parent"], pick(&["title", "due", "measure"], json!({})));
            ("prospective/create_goal", params, status("prospective/update_goal"))
        }
        ("prospective", "tr") => {
            let mut params = pick(&["when", "then"], json!({}));
            for (place, field) in [("when", "entity"), ("then", "task")] {
                if let Some(id) = params[place].get(field).filter(|id| id.is_string()).cloned() {
                    params[place][field] = reference(&id);
                }
            }
            ("prospective/register_trigger", params, None)
        }
        ("prospective", _) => {
            let params = pick(&["title", "due", "priority", "notes"], json!({}));
            (
                "prospective/create_task",
                refer(&["goal", "depends_on"], params),
                status("prospective/update_task"),
            )
        }
        ("procedural", _) => {
            let names = ["name", "code", "language", "description", "params", "tags", "category"];
            ("procedural/learn", pick(&names, json!({})), None)
        }
        _ => return None,
    };
    let name = (!id.is_empty()).then(|| id.to_owned());
    Some(vec![Brought { name, then, ..Brought::new(line, op, params) }])
}

/// A line of the reference memory server: an entity with observations, or a relation.
fn server_memory(line: u64, value: &Value) -> Option<Vec<Brought>> {
    let text = |names: [&str; 2]| names.iter().find_map(|name| value.get(*name)?.as_str());
    if value.get("type")?.as_str()? == "relation" {
        let (from, to) = (text(["from", "from_id"])?, text(["to", "to_id"])?);
        let relation = text(["relationType", "relation_type"])?;
        let params = json!({"from": {"$named": from}, "to": {"$named": to}, "relation": relation, "prov": {"source": "import"}});
        return Some(vec![Brought::new(line, "graph/add_edge", params)]);
    }
    let name = text(["name", "entityName"])?;
    let kind = text(["entityType", "entity_type"]).unwrap_or("thing");
    let entity = Brought::new(line, "graph/add_entity", json!({"name": name, "type": kind}));
    let mut calls = vec![Brought { name: Some(name.to_owned()), ..entity }];
    let observations =
        value.get("observations").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    calls.extend(observations.map(|said| fact(line, &format!("{name}: {said}"))));
    Some(calls)
}

#[cfg(test)]
mod tests {
    use super::super::export;
    use super::*;

    fn read(format: Format, text: &str) -> (Vec<Brought>, Vec<Rejected>) {
        let (mut brought, mut rejected) = (Vec::new(), Vec::new());
        let lines = text.split_inclusive('\n').enumerate();
        for item in lines.flat_map(|(n, raw)| line(format, n as u64 + 1, raw.as_bytes())) {
            match item {
                Ok(one) => brought.push(one),
                Err(one) => rejected.push(one),
            }
        }
        (brought, rejected)
    }

    #[test]
    fn the_reference_server_s_lines_become_entities_facts_and_edges() {
        let text = r#"{"type":"entity","name":"Ana","entityType":"person","observations":["likes tea"]}
{"type":"relation","from":"Ana","to":"Ben","relationType":"knows"}
nonsense"#;
        let (brought, rejected) = read(Format::ServerMemory, text);
        let ops: Vec<&str> = brought.iter().map(|one| one.op).collect();
        assert_eq!(ops, ["graph/add_entity", "semantic/store", "graph/add_edge"]);
        assert_eq!(rejected.iter().map(|one| one.line).collect::<Vec<_>>(), [3]);
    }

    #[test]
    fn an_export_comes_back() {
        let item = json!({"content": "c", "type": "note", "time": "2026-01-01T00:00:00Z", "tags": ["t"], "id": "ep_1"});
        let mut text = String::new();
        export::line(&mut text, Format::Jsonl, "episodic", &item).unwrap();
        let (brought, rejected) = read(Format::Jsonl, &text);
        assert!(rejected.is_empty());
        assert_eq!((brought[0].op, &brought[0].params["time"]), ("episodic/remember", &item["time"]));
    }

    #[test]
    fn what_refers_to_others_comes_back_with_its_references() {
        let item = json!({"id": "ta_2", "title": "buy tea", "status": "done", "priority": 1, "goal": "go_1", "depends_on": ["ta_1"], "created": "2026-01-01T00:00:00Z", "overdue": false});
        let mut text = String::new();
        export::line(&mut text, Format::Jsonl, "prospective", &item).unwrap();
        let (brought, rejected) = read(Format::Jsonl, &text);
        assert!(rejected.is_empty(), "{rejected:?}");
        let one = &brought[0];
        assert_eq!((one.op, one.name.as_deref()), ("prospective/create_task", Some("ta_2")));
        let expected = json!({"title": "buy tea", "priority": 1, "goal": {"$item": "go_1"}, "depends_on": [{"$item": "ta_1"}]});
        assert_eq!(one.params, expected);
        assert_eq!(one.then, Some(("prospective/update_task", json!({"patch": {"status": "done"}}))));
    }

    #[test]
    fn markdown_is_its_items_without_headings() {
        let (brought, _) = read(Format::Markdown, "# Kitchen\n\n- the kettle is red\n* tea\nplain\n");
        assert_eq!(
            brought.iter().map(|one| one.params["content"].as_str().unwrap()).collect::<Vec<_>>(),
            ["the kettle is red", "tea", "plain"]
        );
    }

    #[test]
    fn a_file_is_read_in_pieces_that_keep_its_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("things.jsonl");
        let own = |n: usize| format!("{{\"layer\":\"semantic\",\"item\":{{\"content\":\"fact {n}\"}}}}\n");
        let mut text: Vec<u8> = (0..5).flat_map(|n| own(n).into_bytes()).collect();
        text.extend(b"\xff\xfe\n\n");
        text.extend(own(7).into_bytes());
        std::fs::write(&path, text).unwrap();
        let mut reader = Reader::new(path, None);
        let mut lines = Vec::new();
        loop {
            let piece = reader.take(2).unwrap();
            assert!(piece.len() <= 2);
            if piece.is_empty() {
                break;
            }
            lines.extend(piece.into_iter().map(|one| one.map(|one| one.line).map_err(|one| one.line)));
        }
        assert_eq!(lines, [Ok(1), Ok(2), Ok(3), Ok(4), Ok(5), Err(6), Ok(8)]);
    }
}
