//! What a caller gets to see of a run: large values are cut to a preview with a handle, log lines to a bound.

use athena_schemas::layers::run::{Cut, Failure, Line, Problem};
use athena_schemas::refusal::Refusal;
use serde::Deserialize;
use serde_json::{Value, json};

/// A preview's size, bytes of JSON, roughly.
const PREVIEW: usize = 2 << 10;
/// What `results/read` gives at once where no length is asked for, bytes.
const READ_DEFAULT: usize = 64 << 10;
/// A handle is this and the hash of the text.
const HANDLE: &str = "res_";

/// A value as its caller sees it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Shown {
    pub(crate) value: Value,
    pub(crate) cut: Option<Cut>,
    pub(crate) bytes: u64,
}

/// The value of JSON `text`, whole where it fits `limit`; else a preview, with a handle made of the text's `hash`.
pub(crate) fn show(text: &str, limit: usize, hash: impl FnOnce() -> String) -> Shown {
    let value: Value = serde_json::from_str(text).unwrap_or_default();
    if text.len() <= limit {
        return Shown { value, cut: None, bytes: text.len() as u64 };
    }
    let value = preview(&value, PREVIEW.min(limit));
    let shown = value.to_string().len() as u64;
    let cut = Cut { handle: format!("{HANDLE}{}", hash()), bytes: text.len() as u64, shown };
    Shown { value, cut: Some(cut), bytes: shown }
}

/// The beginning of a value, in its own shape.
fn preview(value: &Value, budget: usize) -> Value {
    match value {
        Value::String(text) if text.len() > budget => {
            let end = text.floor_char_boundary(budget);
            json!(format!("{}… ({} bytes)", text.get(..end).unwrap_or_default(), text.len()))
        }
        Value::Array(items) => {
            let mut left = budget;
            let mut shown = Vec::new();
            for item in items {
                let item = preview(item, (budget / 4).max(16));
                let size = item.to_string().len() + 1;
                if size > left {
                    break;
                }
                left -= size;
                shown.push(item);
            }
            let more = items.len() - shown.len();
            if more > 0 {
                shown.push(json!(format!("… {more} more")));
            }
            Value::Array(shown)
        }
        Value::Object(members) => {
            let mut left = budget;
            let mut shown = serde_json::Map::new();
            for (name, member) in members {
                let member = preview(member, (budget / 4).max(16));
                let size = member.to_string().len() + name.len() + 4;
                if size > left {
                    break;
                }
                left -= size;
                shown.insert(name.clone(), member);
            }
            let more = members.len() - shown.len();
            if more > 0 {
                shown.insert("…".into(), json!(format!("{more} more members")));
            }
            Value::Object(shown)
        }
        value => value.clone(),
    }
}

/// Log lines as text, at most `limit` bytes of them.
pub(crate) fn lines(lines: &[Line], limit: usize) -> Vec<String> {
    let mut left = limit;
    let mut shown = Vec::new();
    for line in lines {
        let text =
            if line.level == "log" { line.text.clone() } else { format!("[{}] {}", line.level, line.text) };
        if text.len() + 1 > left {
            shown.push(format!("… {} more lines; athena run show", lines.len() - shown.len()));
            break;
        }
        left -= text.len() + 1;
        shown.push(text);
    }
    shown
}

/// A failure as its caller sees it.
pub(crate) fn problem(failure: &Failure) -> Problem {
    let known = |place: u32| (place > 0).then_some(place);
    Problem {
        name: failure.name.clone(),
        message: failure.message.clone(),
        line: known(failure.line),
        column: known(failure.column),
        stack: failure.stack.clone(),
        hint: failure.hint.clone(),
    }
}

/// What `results/read` takes: the whole value, or a slice of its JSON text.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Read {
    handle: String,
    offset: Option<usize>,
    length: Option<usize>,
}

impl Read {
    /// Parses the parameters of `results/read`.
    pub(crate) fn parse(params: Value) -> Result<Self, Refusal> {
        serde_json::from_value(params).map_err(|error| {
            Refusal::invalid(format!("results/read: {error}"))
                .hint("results/read takes {handle, offset?, length?}")
        })
    }

    /// The hash in the handle.
    pub(crate) fn hash(&self) -> Result<&str, Refusal> {
        self.handle
            .strip_prefix(HANDLE)
            .filter(|hash| hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit()))
            .ok_or_else(|| {
                Refusal::invalid(format!("{:?} is no handle of a result", self.handle))
                    .at("handle")
                    .hint("use the `cut.handle` of an answer")
            })
    }

    /// The value, or the slice `[offset, offset + length)` of its JSON text, at character boundaries.
    pub(crate) fn of(&self, text: &str) -> Value {
        if self.offset.is_none() && self.length.is_none() {
            return serde_json::from_str(text).unwrap_or_default();
        }
        let start = text.floor_char_boundary(self.offset.unwrap_or(0));
        let end = start.saturating_add(self.length.unwrap_or(READ_DEFAULT));
        let end = text.floor_char_boundary(end);
        json!({
            "text": text.get(start..end).unwrap_or_default(),
            "offset": start,
            "next": (end < text.len()).then_some(end),
            "bytes": text.len(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_value_is_whole_and_a_large_one_keeps_its_shape() {
        let small = show(r#"{"a":1}"#, 100, || unreachable!());
        assert_eq!((small.value, small.cut), (json!({"a": 1}), None));

        let rows: Vec<Value> = (0..10_000).map(|n| json!({"id": n, "name": "x".repeat(100)})).collect();
        let text = Value::from(rows).to_string();
        let large = show(&text, 10_000, || "ab".repeat(32));
        let cut = large.cut.unwrap();
        assert_eq!(cut.bytes, text.len() as u64);
        assert!(cut.shown < 4_096, "{}", cut.shown);
        assert_eq!(large.value[0]["id"], 0);
        assert!(large.value.as_array().unwrap().last().unwrap().as_str().unwrap().ends_with("more"));
    }

    #[test]
    fn a_handle_reads_all_or_a_slice() {
        let handle = format!("{HANDLE}{}", "0f".repeat(32));
        let text = r#"["é","b"]"#;
        let read = |params: Value| Read::parse(params).unwrap();
        assert_eq!(read(json!({"handle": handle})).of(text), json!(["é", "b"]));
        let slice = read(json!({"handle": handle, "offset": 3, "length": 3})).of(text);
        assert_eq!(slice, json!({"text": "é\"", "offset": 2, "next": 5, "bytes": 10}));
        assert!(Read::parse(json!({"handle": 7})).is_err());
        assert_eq!(read(json!({"handle": "run_1"})).hash().unwrap_err().path.as_deref(), Some("handle"));
    }

    #[test]
    fn log_lines_are_bounded() {
        let line = |level: &str, text: &str| Line { after: 0, level: level.into(), text: text.into() };
        let shown = lines(&[line("log", "one"), line("warn", "two"), line("log", "three")], 16);
        assert_eq!(shown, ["one", "[warn] two", "… 1 more lines; athena run show"]);
    }
}
