//! Resources: memory items and runs by id, skills, and the typed files that code imports.

use super::skills;
use super::tools::{Ask, Asked};
use crate::discreet;
use athena_schemas::context::Party;
use athena_schemas::refusal::{Code, Refusal};
use rmcp::ErrorData;
use rmcp::model::{ListResourcesResult, ReadResourceResult, Resource, ResourceContents, ResourceTemplate};
use serde_json::{Value, json};

/// Files: `athena://files/mcp-servers/github/create_issue.ts`.
const FILES: &str = "athena://files";
/// Memory items: `athena://memory/ep_…`.
const MEMORY: &str = "athena://memory/";
/// Runs with what they did: `athena://run/run_…`.
const RUNS: &str = "athena://run/";
/// Completions offered at most: MCP allows no more.
const VALUES_MAX: usize = 100;

/// A look at resources. What the runs of its project did, a client may read here, though not call.
pub(super) struct Looking(pub(super) Asked);

impl Ask for Looking {
    async fn ask(&self, op: &str, params: Value) -> Result<Value, Refusal> {
        let mut asked = self.0.again();
        if matches!(op, "run/show" | "run/list") {
            asked.caller.party = Party::Host;
        }
        asked.ask(op, params).await
    }
}

/// What can be read by a pattern.
pub(super) fn templates() -> Vec<ResourceTemplate> {
    vec![
        ResourceTemplate::new(format!("{MEMORY}{{id}}"), "memory")
            .with_title("A memory")
            .with_description("A memory with its source and time, by its id")
            .with_mime_type("application/json"),
        ResourceTemplate::new(format!("{RUNS}{{id}}"), "run")
            .with_title("A run")
            .with_description("A run with its code and every step it took, by its id")
            .with_mime_type("application/json"),
        ResourceTemplate::new(format!("{}{{name}}/SKILL.md", skills::SCHEME), "skill")
            .with_title("A skill")
            .with_description("A stored procedure: what it does, its arguments, how to run it")
            .with_mime_type("text/markdown"),
        ResourceTemplate::new(format!("{FILES}/{{+path}}"), "file")
            .with_title("A typed file")
            .with_description("A function of an upstream server, of Athena or of a skill, as code imports it")
            .with_mime_type("text/plain"),
    ]
}

/// The starting points: the file of each server, and of Athena itself.
pub(super) async fn list(asked: &impl Ask) -> Result<ListResourcesResult, ErrorData> {
    let mut found: Vec<Resource> = Vec::new();
    for folder in ["/mcp-servers", "/skills"] {
        let entries = asked.ask("files/list", json!({ "path": folder })).await.unwrap_or_default();
        for name in names(&entries) {
            let name = name.trim_end_matches('/').to_owned();
            let uri = format!("{FILES}{folder}/{name}");
            found.push(Resource::new(uri, name).with_mime_type("text/plain"));
        }
    }
    found.extend(skills::manuals(asked).await.unwrap_or_default());
    Ok(ListResourcesResult::with_all_items(found))
}

/// One resource.
pub(super) async fn read(asked: &impl Ask, uri: &str) -> Result<ReadResourceResult, ErrorData> {
    let (text, kind) = if let Some(id) = uri.strip_prefix(MEMORY) {
        let (op, params) = getter(id).ok_or_else(|| unknown(uri))?;
        let item = asked.ask(op, params).await.map_err(|refusal| failed(uri, &refusal))?;
        (item.to_string(), "application/json")
    } else if let Some(id) = uri.strip_prefix(RUNS) {
        let run =
            asked.ask("run/show", json!({ "run": id })).await.map_err(|refusal| failed(uri, &refusal))?;
        (run.to_string(), "application/json")
    } else if uri.starts_with(skills::SCHEME) {
        let file = skills::read(asked, uri).await.map_err(|refusal| failed(uri, &refusal))?;
        file.ok_or_else(|| unknown(uri))?
    } else if let Some(path) = uri.strip_prefix(FILES).filter(|path| path.starts_with('/')) {
        let text = asked.ask("files/read", json!({ "path": path })).await;
        let text = match text {
            // A folder is read as the list of what is in it.
            Err(_) => asked
                .ask("files/list", json!({ "path": path }))
                .await
                .map(|entries| names(&entries).join("\n").into()),
            found => found,
        };
        let text = text.map_err(|refusal| failed(uri, &refusal))?;
        (text.as_str().map_or_else(|| text.to_string(), str::to_owned), "text/plain")
    } else {
        return Err(unknown(uri));
    };
    Ok(ReadResourceResult::new(vec![ResourceContents::text(text, uri).with_mime_type(kind)]))
}

/// Paths that begin as `begun` does.
pub(super) async fn complete_path(asked: &impl Ask, begun: &str) -> Vec<String> {
    let begun = begun.trim_start_matches('/');
    let folder = begun.rsplit_once('/').map_or("", |(folder, _)| folder);
    let entries = asked.ask("files/list", json!({ "path": format!("/{folder}") })).await.unwrap_or_default();
    let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
    let paths = names(&entries).into_iter().map(|name| format!("{prefix}{name}"));
    paths.filter(|path| path.starts_with(begun)).take(VALUES_MAX).collect()
}

/// Names of skills that begin as `begun` does.
pub(super) async fn complete_skill(asked: &impl Ask, begun: &str) -> Vec<String> {
    let skills = skills::list(asked).await.unwrap_or_default();
    let names = skills.iter().map(|skill| skill.name().to_owned());
    names.filter(|name| name.starts_with(begun)).take(VALUES_MAX).collect()
}

/// Runs, newest first, whose ids begin as `begun` does.
pub(super) async fn complete_run(asked: &impl Ask, begun: &str) -> Vec<String> {
    let runs = asked.ask("run/list", json!({ "limit": VALUES_MAX })).await.unwrap_or_default();
    let ids = runs.as_array().into_iter().flatten().filter_map(|run| run.get("run")?.as_str());
    ids.filter(|id| id.starts_with(begun)).map(str::to_owned).collect()
}

/// The operation that gives an item, by the kind of its id.
fn getter(id: &str) -> Option<(&'static str, Value)> {
    let (kind, _) = id.split_once('_')?;
    Some(match kind {
        "ep" => ("episodic/get", json!({ "id": id })),
        "fa" => ("semantic/get", json!({ "id": id })),
        "ta" => ("prospective/get_task", json!({ "id": id })),
        "en" => ("graph/get_entity", json!({ "id": id })),
        _ => return None,
    })
}

/// Names in an answer of `files/list`, whichever of its two shapes.
fn names(entries: &Value) -> Vec<String> {
    let entries = entries.get("entries").unwrap_or(entries);
    let name = |entry: &Value| entry.as_str().or_else(|| entry.get("name")?.as_str()).map(str::to_owned);
    entries.as_array().into_iter().flatten().filter_map(name).collect()
}

fn unknown(uri: &str) -> ErrorData {
    ErrorData::resource_not_found("Resource not found", Some(json!({ "uri": shown(uri) })))
}

/// An address as it was asked for, without what is sensitive in it: it may stand right behind the scheme, where an address has a user.
fn shown(uri: &str) -> String {
    match uri.split_once("://") {
        Some((scheme, rest)) => format!("{}://{}", discreet::text(scheme), discreet::text(rest)),
        None => discreet::text(uri),
    }
}

fn failed(uri: &str, refusal: &Refusal) -> ErrorData {
    match refusal.code {
        Code::NotFound | Code::Invalid | Code::Denied => unknown(uri),
        _ => ErrorData::internal_error(refusal.to_string(), Some(json!({ "uri": shown(uri) }))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file system of three names and one memory.
    struct Small;

    impl Ask for Small {
        async fn ask(&self, op: &str, params: Value) -> Result<Value, Refusal> {
            match (op, params["path"].as_str().or(params["id"].as_str())) {
                ("files/list", Some("/mcp-servers")) => Ok(json!(["README.md", "github/"])),
                ("files/list", Some("/mcp-servers/github")) => Ok(json!([{ "name": "create_issue.ts" }])),
                ("files/read", Some("/mcp-servers/README.md")) => Ok(json!("# Servers")),
                ("episodic/get", Some("ep_1")) => Ok(json!({ "id": "ep_1" })),
                _ => Err(Refusal::not_found("nothing there")),
            }
        }
    }

    #[tokio::test]
    async fn files_folders_and_memories_are_read_and_nothing_else() {
        let text = |result: ReadResourceResult| serde_json::to_string(&result).unwrap();
        assert!(
            text(read(&Small, "athena://files/mcp-servers/README.md").await.unwrap()).contains("# Servers")
        );
        assert!(
            text(read(&Small, "athena://files/mcp-servers/github").await.unwrap())
                .contains("create_issue.ts")
        );
        assert!(text(read(&Small, "athena://memory/ep_1").await.unwrap()).contains("ep_1"));
        for uri in
            ["athena://memory/ep_2", "athena://memory/xx_1", "athena://filesystem", "file:///etc/passwd"]
        {
            let error = read(&Small, uri).await.unwrap_err();
            assert_eq!(error.data.unwrap()["uri"], uri);
        }
    }

    #[tokio::test]
    async fn paths_are_completed_within_their_folder() {
        assert_eq!(complete_path(&Small, "mcp-servers/g").await, ["mcp-servers/github/"]);
        assert_eq!(
            complete_path(&Small, "mcp-servers/github/").await,
            ["mcp-servers/github/create_issue.ts"]
        );
        assert!(complete_path(&Small, "elsewhere/x").await.is_empty());
    }
}
