//! `athena remember`, `recall` and `search`: what the MCP tools of the same names do, for people.

use super::output::field;
use super::session::Session;
use super::{Done, written};
use crate::mcp::tools;
use athena_schemas::refusal::Refusal;
use serde_json::{Value, json};

/// Store something worth keeping: `athena remember "the deploy key is in the safe" --tag ops`
#[derive(Debug, clap::Args)]
pub(crate) struct Remember {
    /// The text
    text: String,
    /// episodic (what happened), semantic (a fact) or prospective (a task)
    #[arg(long)]
    layer: Option<String>,
    /// What kind of event it is
    #[arg(long = "type")]
    kind: Option<String>,
    /// A word to find it by; may be given again
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// How sure it is, from 0 to 1
    #[arg(long)]
    confidence: Option<f64>,
}

/// Search long-term memory
#[derive(Debug, clap::Args)]
pub(crate) struct Recall {
    /// What to look for, in plain words
    query: String,
    /// Only this layer; may be given again
    #[arg(long = "layer", value_name = "LAYER")]
    layers: Vec<String>,
    /// At most this many
    #[arg(long, short = 'n', default_value_t = 8)]
    limit: u32,
    /// As it was at this time
    #[arg(long, value_name = "TIME")]
    as_of: Option<String>,
}

/// Find tools, memory operations and skills by intent
#[derive(Debug, clap::Args)]
pub(crate) struct Search {
    /// What to look for; without it, what lies at --path
    query: Option<String>,
    /// Below this path, such as /mcp-servers/github
    #[arg(long)]
    path: Option<String>,
    /// How much of each
    #[arg(long, value_parser = ["name", "brief", "types", "full"], default_value = "brief")]
    detail: String,
    /// Among what
    #[arg(long = "in", value_parser = ["all", "tools", "memory", "skills"])]
    within: Option<String>,
    /// At most this many
    #[arg(long, short = 'n', default_value_t = 8)]
    limit: u32,
}

impl Remember {
    pub(crate) async fn run(self, session: &Session) -> Done {
        let mut params = json!({ "content": self.text });
        put(&mut params, "layer", self.layer);
        put(&mut params, "type", self.kind);
        put(&mut params, "confidence", self.confidence);
        if !self.tags.is_empty() {
            put(&mut params, "tags", Some(self.tags));
        }
        let ack = tool(session, "remember", params).await?;
        written(session.out.value(&ack, |ack| {
            let mut text = format!("{} at position {}", field(ack, "/id"), field(ack, "/seq"));
            let into = field(ack, "/deduped_into");
            if !into.is_empty() {
                text.push_str(&format!(" (already known as {into})"));
            }
            text
        }))
    }
}

impl Recall {
    pub(crate) async fn run(self, session: &Session) -> Done {
        let mut params = json!({ "query": self.query, "limit": self.limit });
        if !self.layers.is_empty() {
            put(&mut params, "layers", Some(self.layers));
        }
        put(&mut params, "as_of", self.as_of);
        let found = tool(session, "recall", params).await?;
        let hits = list(&found, "hits");
        written(session.out.rows(&hits, &["score", "layer", "recorded", "by", "what", "id"], |hit| {
            vec![
                hit.get("score")
                    .and_then(Value::as_f64)
                    .map_or_else(String::new, |score| format!("{score:.2}")),
                field(hit, "/layer"),
                first(hit, &["/recorded", "/item/time", "/item/recorded"]),
                first(hit, &["/prov/actor", "/prov/source", "/item/prov/actor", "/item/prov/source"]),
                first(hit, &["/text", "/item/content", "/item/title", "/item/name"]),
                field(hit, "/id"),
            ]
        }))
    }
}

impl Search {
    pub(crate) async fn run(self, session: &Session) -> Done {
        let mut params = json!({ "detail": self.detail, "limit": self.limit });
        put(&mut params, "query", self.query);
        put(&mut params, "path", self.path);
        put(&mut params, "in", self.within);
        let found = tool(session, "search", params).await?;
        if let Some(text) = found.get("definition").and_then(Value::as_str).filter(|_| !session.out.json) {
            return written(session.out.text(text));
        }
        let key = if found.get("entries").is_some() { "entries" } else { "results" };
        written(session.out.rows(&list(&found, key), &["path", "what"], |row| {
            let path = if row.is_string() { field(row, "") } else { first(row, &["/path", "/name", "/id"]) };
            vec![path, first(row, &["/description", "/summary", "/brief"])]
        }))
    }
}

/// One call of what stands behind an MCP tool, by this person.
async fn tool(session: &Session, name: &str, params: Value) -> Result<Value, Refusal> {
    tools::answer(&Calls(session), name, params).await
}

/// The session as the tools' router.
struct Calls<'a>(&'a Session);

impl tools::Ask for Calls<'_> {
    async fn ask(&self, op: &str, params: Value) -> Result<Value, Refusal> {
        self.0.call(op, params).await
    }
}

fn list(found: &Value, key: &str) -> Vec<Value> {
    found.get(key).and_then(Value::as_array).cloned().unwrap_or_else(|| vec![found.clone()])
}

/// The first of several places in an object where something stands.
fn first(value: &Value, paths: &[&str]) -> String {
    paths.iter().map(|path| field(value, path)).find(|text| !text.is_empty()).unwrap_or_default()
}

fn put(params: &mut Value, name: &str, value: Option<impl Into<Value>>) {
    if let (Some(value), Some(object)) = (value, params.as_object_mut()) {
        object.insert(name.to_owned(), value.into());
    }
}
