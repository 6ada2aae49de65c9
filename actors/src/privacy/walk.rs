//! Sensitive values in JSON: in strings, in numbers, in the names of fields, and whole values under sensitive keys.

use super::detect::{self, Inherited, Span};
use super::vault::Secret;
use serde_json::{Map, Value};
use std::collections::VecDeque;

/// What was found in each text of a value, in the order of the walk.
#[derive(Default)]
pub(super) struct Finds {
    spans: VecDeque<Vec<Span>>,
    /// The values, in the order of their spans.
    pub(super) secrets: Vec<Secret>,
}

impl Finds {
    fn note(&mut self, text: &str, spans: Vec<Span>) {
        self.secrets.extend(spans.iter().map(|span| Secret {
            kind: span.kind,
            token_type: span.token_type,
            written: text.get(span.start..span.end).unwrap_or_default().to_owned(),
        }));
        self.spans.push_back(spans);
    }
}

/// Finds what is sensitive in a value.
pub(super) fn find(value: &Value) -> Finds {
    let mut finds = Finds::default();
    visit(value, "", None, &mut finds);
    finds
}

fn visit(value: &Value, key: &str, inherited: Option<Inherited>, finds: &mut Finds) {
    match value {
        Value::String(text) => finds.note(text, detect::in_field(key, inherited, text)),
        Value::Number(number) => {
            let text = number.to_string();
            let spans = detect::in_field(key, inherited, &text);
            // A number is replaced as a whole or not at all.
            let whole = spans.into_iter().filter(|s| s.start == 0 && s.end == text.len()).collect();
            finds.note(&text, whole);
        }
        Value::Array(items) => {
            let inherited = inherited.or_else(|| detect::class_of(key));
            items.iter().for_each(|item| visit(item, key, inherited, finds));
        }
        Value::Object(fields) => {
            for (name, field) in fields {
                finds.note(name, detect::detect(name));
                let down = detect::wraps(name).then(|| inherited.or_else(|| detect::class_of(key))).flatten();
                visit(field, name, down, finds);
            }
        }
        Value::Null | Value::Bool(_) => {}
    }
}

/// Puts tokens in the place of what was found: `tokens` in the order of [`Finds::secrets`].
pub(super) fn replace(value: Value, finds: &mut Finds, tokens: &mut impl Iterator<Item = String>) -> Value {
    match value {
        Value::String(text) => Value::String(next(text, finds, tokens)),
        Value::Number(number) => match finds.spans.pop_front() {
            Some(spans) if !spans.is_empty() => Value::String(splice(&number.to_string(), &spans, tokens)),
            _ => Value::Number(number),
        },
        Value::Array(items) => {
            Value::Array(items.into_iter().map(|item| replace(item, finds, tokens)).collect())
        }
        Value::Object(fields) => {
            let mut out = Map::with_capacity(fields.len());
            for (name, field) in fields {
                let name = next(name, finds, tokens);
                let field = replace(field, finds, tokens);
                out.insert(name, field);
            }
            Value::Object(out)
        }
        other => other,
    }
}

fn next(text: String, finds: &mut Finds, tokens: &mut impl Iterator<Item = String>) -> String {
    match finds.spans.pop_front() {
        Some(spans) if !spans.is_empty() => splice(&text, &spans, tokens),
        _ => text,
    }
}

/// A text with tokens in the place of spans.
pub(super) fn splice(text: &str, spans: &[Span], tokens: &mut impl Iterator<Item = String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut from = 0;
    for span in spans {
        out.push_str(text.get(from..span.start).unwrap_or_default());
        out.push_str(&tokens.next().unwrap_or_default());
        from = span.end;
    }
    out.push_str(text.get(from..).unwrap_or_default());
    out
}

/// Calls `f` with every string at or below one of the paths: `to`, `message.recipients`, `items.*.email`. Lists are passed through.
pub(super) fn at_paths(value: &mut Value, paths: &[String], f: &mut impl FnMut(&mut String)) {
    for path in paths {
        let parts: Vec<&str> =
            path.split(['.', '/']).map(|p| p.trim_end_matches("[]")).filter(|p| !p.is_empty()).collect();
        descend(value, &parts, f);
    }
}

fn descend(value: &mut Value, path: &[&str], f: &mut impl FnMut(&mut String)) {
    match (value, path) {
        (Value::String(text), []) => f(text),
        (Value::Array(items), _) => {
            // An index or a star names items; otherwise a list is passed through.
            let (index, rest) = match path {
                [first, rest @ ..] if *first == "*" => (None, rest),
                [first, rest @ ..] if first.parse::<usize>().is_ok() => (first.parse::<usize>().ok(), rest),
                _ => (None, path),
            };
            for (i, item) in items.iter_mut().enumerate() {
                if index.is_none_or(|n| n == i) {
                    descend(item, rest, f);
                }
            }
        }
        (Value::Object(fields), []) => fields.values_mut().for_each(|field| descend(field, &[], f)),
        (Value::Object(fields), [first, rest @ ..]) => {
            for (name, field) in fields {
                if name == first || *first == "*" {
                    descend(field, rest, f);
                }
            }
        }
        _ => {}
    }
}
