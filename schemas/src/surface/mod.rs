//! What an operation or a tool looks like to those who call it: TypeScript, Python, Markdown and HTML, from JSON Schema.
//!
//! Memory operations (catalogue rows) and tools of upstream servers take the same way: both become a [`Tool`], and every
//! rendering is a pure function of it. All text in a [`Tool`] is hostile until rendered: comments, strings and names are made
//! safe here, at the one place where they turn into source code.

pub mod json_schema;
pub mod markdown;
pub mod names;
pub mod python;
pub mod typescript;

use crate::operation::{Entry, Side};
use crate::risk::Risk;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::borrow::Cow;

/// What a call leaves behind, as far as the tool says so itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Nothing: it only reads.
    Read,
    /// Something, but the same again when repeated.
    Idempotent,
    /// Something, each time.
    Write,
}

/// The hints of MCP's `ToolAnnotations`. They come from the server itself and are never a reason to trust it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Annotations {
    /// It changes nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_only_hint: Option<bool>,
    /// It may destroy something.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destructive_hint: Option<bool>,
    /// Repeating it changes nothing more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idempotent_hint: Option<bool>,
    /// It reaches the world outside.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open_world_hint: Option<bool>,
}

/// Something that can be called: a memory operation, or a tool of an upstream server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tool {
    /// The server: `athena` for memory operations, else the upstream's name.
    pub server: String,
    /// Its path below the server: `semantic/search`, or the tool's safe name.
    pub name: String,
    /// What the server itself calls it; differs from `name` where that had to be made safe.
    pub wire: String,
    /// What it says it does.
    pub description: String,
    /// JSON Schema of its one argument object.
    pub input: Value,
    /// JSON Schema of its answer, where it says.
    pub output: Option<Value>,
    /// What it says of itself.
    pub annotations: Annotations,
    /// How much harm a call can do.
    pub risk: Risk,
    /// Arguments of an example call.
    pub example: Option<Value>,
    /// Further words people look for it with.
    pub tags: Vec<String>,
}

/// The server name of Athena's own operations.
pub const HOUSE: &str = "athena";

impl Tool {
    /// The tool of a catalogue row.
    pub fn of(entry: &Entry) -> Self {
        let params = (entry.params)().to_value();
        let description = params.get("description").and_then(Value::as_str).unwrap_or_default().to_string();
        Self {
            server: HOUSE.into(),
            name: entry.id(),
            wire: entry.id(),
            description,
            input: params,
            output: Some((entry.returns)().to_value()),
            annotations: Annotations {
                read_only_hint: Some(entry.side == Side::Query),
                ..Annotations::default()
            },
            risk: entry.traits.risk,
            example: serde_json::from_str(entry.traits.example).ok(),
            tags: entry.traits.tags.iter().map(|tag| (*tag).to_string()).collect(),
        }
    }

    /// JSON Schema of what code gets. A tool of another server that does not say what it answers is given its texts, the same
    /// parsed where they are JSON, and whatever is not text.
    pub fn answers(&self) -> Cow<'_, Value> {
        match &self.output {
            Some(schema) => Cow::Borrowed(schema),
            None => Cow::Owned(json!({
                "type": "object",
                "properties": { "content": { "type": "string" }, "json": {}, "blocks": { "type": "array", "items": {} } },
                "required": ["content"],
            })),
        }
    }

    /// What the router calls it: `semantic/search`, or `server/tool`.
    pub fn op(&self) -> String {
        if self.server == HOUSE { self.name.clone() } else { format!("{}/{}", self.server, self.name) }
    }

    /// Its file: `/mcp-servers/athena/semantic/search.ts`, without the ending.
    pub fn path(&self) -> String {
        format!("/mcp-servers/{}/{}", self.server, self.name)
    }

    /// The name of its function.
    pub fn function(&self) -> String {
        names::identifier(self.name.rsplit('/').next().unwrap_or(&self.name))
    }

    /// How code reaches it without an import: `athena.semantic.search`.
    pub fn global(&self) -> String {
        let mut path = names::identifier(&self.server);
        for part in self.name.split('/') {
            path.push('.');
            path.push_str(&names::member(part));
        }
        path
    }

    /// What a call leaves behind. A verb such as `delete` in the name outweighs a hint that it only reads.
    pub fn effect(&self) -> Effect {
        let hints = self.annotations;
        if hints.read_only_hint == Some(true) && !names::destructive(&self.name) {
            Effect::Read
        } else if hints.idempotent_hint == Some(true) {
            Effect::Idempotent
        } else {
            Effect::Write
        }
    }

    /// The risk of an upstream tool: what it says of itself, and never less than what its name says.
    pub fn risk_of(name: &str, hints: Annotations) -> Risk {
        match (names::destructive(name), hints.read_only_hint) {
            (true, _) => Risk::High,
            (false, Some(true)) => Risk::Low,
            (false, _) => Risk::Medium,
        }
    }

    /// The first sentence of its description, on one line, at most 160 characters.
    pub fn summary(&self) -> String {
        first_sentence(&self.description)
    }
}

/// The first sentence of a text, on one line, at most 160 characters.
pub fn first_sentence(text: &str) -> String {
    let line = names::plain(text).split_whitespace().collect::<Vec<_>>().join(" ");
    let end = line
        .char_indices()
        .find(|(at, c)| {
            matches!(c, '.' | '!' | '?')
                && line.get(at + 1..).is_none_or(|rest| rest.is_empty() || rest.starts_with(' '))
        })
        .map_or(line.len(), |(at, c)| at + c.len_utf8());
    let sentence = line.get(..end).unwrap_or(&line);
    match sentence.char_indices().nth(160) {
        Some((cut, _)) => format!("{}…", sentence.get(..cut).unwrap_or_default().trim_end()),
        None => sentence.to_string(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn tool(name: &str, description: &str, input: Value, output: Option<Value>) -> Tool {
        Tool {
            server: "files".into(),
            name: name.into(),
            wire: name.into(),
            description: description.into(),
            input,
            output,
            annotations: Annotations::default(),
            risk: Risk::Medium,
            example: None,
            tags: Vec::new(),
        }
    }

    #[test]
    fn a_destructive_verb_outweighs_a_harmless_hint() {
        let reads = Annotations { read_only_hint: Some(true), ..Annotations::default() };
        assert_eq!(Tool::risk_of("get_issue", reads), Risk::Low);
        assert_eq!(Tool::risk_of("delete_repo", reads), Risk::High);
        assert_eq!(Tool::risk_of("create_issue", Annotations::default()), Risk::Medium);
        let tool = Tool { annotations: reads, ..tool("dropTable", "", json!({}), None) };
        assert_eq!(tool.effect(), Effect::Write);
    }

    #[test]
    fn a_summary_is_one_short_line() {
        assert_eq!(first_sentence("Reads v1.2 of\na file. Then more."), "Reads v1.2 of a file.");
        assert_eq!(first_sentence(&"x".repeat(500)).chars().count(), 161);
        assert_eq!(first_sentence(""), "");
    }

    #[test]
    fn every_operation_is_a_tool() {
        for entry in crate::catalog::entries() {
            let tool = Tool::of(entry);
            assert!(!tool.summary().is_empty(), "{}", entry.id());
            assert_eq!(tool.op(), entry.id());
            assert_eq!(tool.global().split('.').count(), 3);
        }
    }
}
