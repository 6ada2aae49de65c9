//! The virtual files and discovery: operations, tools of other servers and procedures, found, read and imported as files.
//!
//! ```text
//! /mcp-servers/README.md, index.ts
//! /mcp-servers/athena/<layer>/<operation>.ts      and its index.ts, README.md, <layer>.pyi
//! /mcp-servers/<server>/<tool>.ts                 and its index.ts, README.md, <server>.pyi
//! /skills/<name>.ts
//! ```
//! Nothing of this is stored: every file is a function of a [`Tool`], made when it is read. [`tree`] is the files, [`rank`]
//! finds by intent, [`export`] writes everything out for people.

pub mod export;
pub mod rank;
mod skills;
mod tree;

pub(crate) use skills::Learnt;

use athena_actors::upstream::Upstreams;
use athena_schemas::catalog;
use athena_schemas::context::Context;
use athena_schemas::operation::Audience;
use athena_schemas::refusal::{Refusal, nearest};
use athena_schemas::surface::{HOUSE, Tool, names, typescript};
use athena_schemas::wire::Namespace;
use rank::Index;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

/// Layers of the house itself, which are not on the agent's bus.
const HOUSE_OWN: &[&str] = &["run", "approval", "privacy", "upstream"];
/// Results of a search at most.
const LIMIT_MAX: usize = 100;
/// Text of `files/read` at once, bytes.
const READ_MAX: u64 = 1 << 20;

/// A procedure as a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skill {
    /// Its name.
    pub name: String,
    /// What it does.
    pub description: String,
    /// Its source.
    pub source: String,
    /// The ending of its file: `ts`, `js` or `py`.
    pub ending: &'static str,
    /// Words to find it by.
    pub tags: Vec<String>,
    /// Whether its own code may become part of other code. What may not is run as a run of its own.
    pub importable: bool,
}

/// Where procedures come from.
pub trait Skills: Send + Sync + 'static {
    /// The procedures that can be called by a caller of this scope.
    fn list(&self, cx: &Context) -> Vec<Skill>;
}

/// No procedures.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoSkills;

impl Skills for NoSkills {
    fn list(&self, _: &Context) -> Vec<Skill> {
        Vec::new()
    }
}

/// What is known of how searches went on.
pub trait Advice: Send + Sync + 'static {
    /// How well tools did after searches with these words, by their op, from 0 to 1.
    fn favoured(&self, cx: &Context, words: &[String]) -> HashMap<String, f64>;

    /// Notes which tools a search named. Returns at once.
    fn advised(&self, cx: &Context, words: Vec<String>, ops: Vec<String>);
}

/// Nothing is known, and nothing noted.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoAdvice;

impl Advice for NoAdvice {
    fn favoured(&self, _: &Context, _: &[String]) -> HashMap<String, f64> {
        HashMap::new()
    }

    fn advised(&self, _: &Context, _: Vec<String>, _: Vec<String>) {}
}

/// All tools at one moment, with what was made of them.
pub(crate) struct Shelf {
    generation: u64,
    pub(crate) tools: Vec<Tool>,
    pub(crate) index: Index,
    namespaces: Arc<[Namespace]>,
}

/// Discovery and the virtual files.
pub struct Toolbox {
    upstreams: Upstreams,
    skills: Arc<dyn Skills>,
    advice: Arc<dyn Advice>,
    house: Vec<Tool>,
    shelf: RwLock<Arc<Shelf>>,
}

impl Toolbox {
    /// The toolbox over the catalogue and these servers.
    pub fn new(upstreams: Upstreams) -> Self {
        Self::with_skills(upstreams, Arc::new(NoSkills))
    }

    /// As [`Toolbox::new`], with procedures.
    pub fn with_skills(upstreams: Upstreams, skills: Arc<dyn Skills>) -> Self {
        let house = house();
        let shelf = Arc::new(Shelf::new(&house, &upstreams));
        Self { upstreams, skills, advice: Arc::new(NoAdvice), house, shelf: RwLock::new(shelf) }
    }

    /// The same, learning from what worked before.
    #[must_use]
    pub fn advised_by(mut self, advice: Arc<dyn Advice>) -> Self {
        self.advice = advice;
        self
    }

    /// The tools as they are now. Rebuilt when a server's tools changed, at once.
    pub(crate) fn shelf(&self) -> Arc<Shelf> {
        let now = self.shelf.read().unwrap_or_else(PoisonError::into_inner).clone();
        if now.generation == self.upstreams.generation() {
            return now;
        }
        let fresh = Arc::new(Shelf::new(&self.house, &self.upstreams));
        *self.shelf.write().unwrap_or_else(PoisonError::into_inner) = fresh.clone();
        fresh
    }

    /// The globals of the sandbox: `athena` and each server, with their members.
    pub fn namespaces(&self) -> Arc<[Namespace]> {
        self.shelf().namespaces.clone()
    }

    /// The tools of now, and every file of TypeScript that code can import, by its path.
    pub(crate) fn sources(&self, cx: &Context) -> (Vec<Tool>, Vec<(String, String)>) {
        let (shelf, skills) = (self.shelf(), self.skills.list(cx));
        let files = tree::paths(&shelf.tools, &skills).into_iter().filter(|path| path.ends_with(".ts"));
        let sources = files
            .filter_map(|path| {
                let source = tree::module(&shelf.tools, &skills, &path).ok()?;
                Some((path, source))
            })
            .collect();
        (shelf.tools.clone(), sources)
    }

    /// Answers `tools/…` and `files/…`.
    ///
    /// # Errors
    /// When there is no such file or operation, with the nearest ones.
    pub async fn call(&self, cx: &Context, op: &str, params: Value) -> Result<Value, Refusal> {
        match op {
            "tools/search" => self.search(cx, parse(op, params)?),
            "tools/definition" => self.definition(parse(op, params)?),
            "tools/find_apis_for_task" => self.apis_for_task(cx, parse(op, params)?),
            "tools/reference" => self.reference(parse(op, params)?),
            "files/list" => {
                let Path { path, .. } = parse(op, params)?;
                let skills = self.skills.list(cx);
                tree::list(&self.shelf().tools, &skills, &path).map(Value::from)
            }
            "files/read" => {
                let Path { path, offset, limit } = parse(op, params)?;
                if let Some(handle) = path.strip_prefix("/results/") {
                    let limit = limit.unwrap_or(READ_MAX).min(READ_MAX);
                    let slice = self.upstreams.slice(handle, offset.unwrap_or(0), limit).await?;
                    return Ok(json!({"text": slice.text, "next": slice.next, "bytes": slice.bytes}));
                }
                let skills = self.skills.list(cx);
                tree::read(&self.shelf().tools, &skills, &path).map(Value::from)
            }
            "files/module" => {
                let Path { path, .. } = parse(op, params)?;
                let skills = self.skills.list(cx);
                let source = tree::module(&self.shelf().tools, &skills, &path)?;
                Ok(json!({"path": path, "source": source}))
            }
            _ => {
                let known = [
                    "tools/search",
                    "tools/definition",
                    "tools/find_apis_for_task",
                    "tools/reference",
                    "files/list",
                    "files/read",
                    "files/module",
                ];
                Err(Refusal::not_found(format!("there is no operation {op}"))
                    .hint(nearest(op, known).join(", ")))
            }
        }
    }

    /// Finds tools, operations and procedures. Answers a list of texts, each as long as `detail` says.
    fn search(&self, cx: &Context, ask: Search) -> Result<Value, Refusal> {
        let detail = Detail::parse(&ask.detail)?;
        let limit = ask.limit.unwrap_or(detail.limit()).clamp(1, LIMIT_MAX);
        let wanted = Place::parse(&ask.r#in)?;
        let shelf = self.shelf();
        let folder = ask.path.as_deref().map(|path| path.trim_end_matches('/').to_string());
        let inside = |tool: &Tool| {
            let place = match wanted {
                Place::All => true,
                Place::Tools => tool.server != HOUSE,
                Place::Memory => tool.server == HOUSE,
                Place::Skills => false,
            };
            place
                && folder.as_ref().is_none_or(|folder| {
                    tool.path().starts_with(folder.as_str()) || tool.op().starts_with(folder.as_str())
                })
        };
        let words = rank::stems(&ask.query);
        let favoured = self.advice.favoured(cx, &words);
        let favour = |at: usize| shelf.favour(&favoured, at);
        let allowed = |at: usize| shelf.tools.get(at).is_some_and(inside);
        // Signatures are long: of those, only as many as it takes to cover what was asked.
        let found = match detail {
            Detail::Name | Detail::Brief => shelf.index.search(&ask.query, limit, allowed, favour),
            Detail::Types | Detail::Full => shelf.index.cover(&ask.query, limit, allowed, favour),
        };
        self.advice.advised(cx, words, shelf.ops(&found));
        let mut out: Vec<Value> = found
            .iter()
            .filter_map(|hit| shelf.tools.get(hit.at))
            .map(|tool| detail.of(tool).into())
            .collect();
        if matches!(wanted, Place::All | Place::Skills)
            && folder.as_ref().is_none_or(|folder| folder.starts_with("/skills"))
        {
            let best = found.iter().map(|hit| hit.share).fold(0.0, f32::max);
            let skills = tree::skills_found(&self.skills.list(cx), &ask.query, detail, limit);
            // A procedure that answers more of the words than any tool comes first.
            let (first, rest): (Vec<_>, Vec<_>) = skills.into_iter().partition(|(share, _)| *share > best);
            out.splice(0..0, first.into_iter().map(|(_, text)| Value::from(text)));
            out.extend(rest.into_iter().map(|(_, text)| Value::from(text)));
        }
        out.truncate(limit);
        Ok(out.into())
    }

    /// One definition: its path, its op or its global name are all understood.
    fn definition(&self, ask: Definition) -> Result<Value, Refusal> {
        let detail = match ask.detail.as_deref() {
            None => Detail::Full,
            Some(detail) => Detail::parse(detail)?,
        };
        let shelf = self.shelf();
        tree::find(&shelf.tools, &ask.path)
            .map(|tool| detail.of(tool).into())
            .ok_or_else(|| tree::missing(&shelf.tools, &ask.path))
    }

    /// The documentation of one server's tools, of the operations (`athena`), or of everything there is.
    fn reference(&self, ask: Reference) -> Result<Value, Refusal> {
        let shelf = self.shelf();
        let wanted = ask.server.as_deref();
        let mut tools =
            shelf.tools.iter().filter(|tool| wanted.is_none_or(|name| tool.server == name)).peekable();
        if tools.peek().is_none() {
            let mut servers: Vec<&str> = shelf.tools.iter().map(|tool| tool.server.as_str()).collect();
            servers.dedup();
            let near = nearest(wanted.unwrap_or_default(), servers.iter().copied());
            let hint = if near.is_empty() { servers.join(", ") } else { near.join(", ") };
            let name = wanted.unwrap_or_default();
            return Err(Refusal::not_found(format!("there are no tools of a server {name}")).hint(hint));
        }
        let title = wanted.map_or_else(|| "Tools".to_owned(), |name| format!("Tools of {name}"));
        Ok(export::written(ask.format, &title, tools).into())
    }

    /// What a task needs: the tools that together cover it, each with its file, its signature and an example.
    fn apis_for_task(&self, cx: &Context, ask: Task) -> Result<Value, Refusal> {
        let shelf = self.shelf();
        let limit = ask.limit.unwrap_or(5).clamp(1, LIMIT_MAX);
        let words = rank::stems(&ask.task);
        let favoured = self.advice.favoured(cx, &words);
        let tools = shelf.index.cover(&ask.task, limit, |_| true, |at| shelf.favour(&favoured, at));
        self.advice.advised(cx, words, shelf.ops(&tools));
        let apis: Vec<Value> = tools
            .iter()
            .filter_map(|hit| shelf.tools.get(hit.at))
            .map(|tool| {
                let example = tool.example.clone().unwrap_or_else(|| athena_schemas::surface::json_schema::example(&tool.input));
                json!({
                    "op": tool.op(), "path": format!("{}.ts", tool.path()), "description": tool.summary(), "risk": tool.risk,
                    "signature": typescript::signature(tool), "example": format!("await {}({example})", tool.global()),
                })
            })
            .collect();
        let skills: Vec<String> = tree::skills_found(&self.skills.list(cx), &ask.task, Detail::Brief, 3)
            .into_iter()
            .map(|(_, text)| text)
            .collect();
        Ok(json!({"apis": apis, "skills": skills}))
    }
}

impl Shelf {
    fn new(house: &[Tool], upstreams: &Upstreams) -> Self {
        let generation = upstreams.generation();
        let mut tools = house.to_vec();
        tools.extend(upstreams.tools());
        let index = Index::new(&tools);
        let namespaces = namespaces(&tools);
        Self { generation, tools, index, namespaces }
    }

    fn favour(&self, favoured: &HashMap<String, f64>, at: usize) -> f32 {
        // Most stores have learned nothing yet, and then no name is made.
        let tool = self.tools.get(at).filter(|_| !favoured.is_empty());
        tool.and_then(|tool| favoured.get(&tool.op())).map_or(0.0, |good| *good as f32)
    }

    fn ops(&self, hits: &[rank::Hit]) -> Vec<String> {
        hits.iter().filter_map(|hit| self.tools.get(hit.at)).map(Tool::op).collect()
    }
}

/// The operations that agents may call, as tools.
pub fn house() -> Vec<Tool> {
    catalog::entries()
        .filter(|entry| entry.traits.audience == Audience::Agent && !HOUSE_OWN.contains(&entry.layer))
        .map(Tool::of)
        .collect()
}

/// One global for each server. A tool whose name is no identifier is reached by its identifier.
fn namespaces(tools: &[Tool]) -> Arc<[Namespace]> {
    let mut all: Vec<Namespace> = Vec::new();
    for tool in tools {
        let global = names::identifier(&tool.server);
        let path = tool.name.split('/').map(names::member).collect::<Vec<_>>().join(".");
        let space = match all.iter_mut().find(|space| space.name == global) {
            Some(space) => space,
            None => {
                all.push(Namespace { name: global, members: Vec::new() });
                let Some(space) = all.last_mut() else { continue };
                space
            }
        };
        // Two names that become the same identifier: the first has it, the other stays callable by its op.
        if !space.members.iter().any(|(other, _)| *other == path) {
            space.members.push((path, tool.op()));
        }
    }
    all.into()
}

/// How much a search says of each result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Detail {
    Name,
    Brief,
    Types,
    Full,
}

impl Detail {
    fn parse(text: &str) -> Result<Self, Refusal> {
        Ok(match text {
            "name" => Self::Name,
            "brief" => Self::Brief,
            "types" => Self::Types,
            "full" => Self::Full,
            other => {
                return Err(Refusal::invalid(format!("there is no detail {other}"))
                    .at("detail")
                    .hint("name, brief, types or full"));
            }
        })
    }

    fn limit(self) -> usize {
        match self {
            Self::Name => 20,
            Self::Brief => 8,
            Self::Types => 6,
            Self::Full => 3,
        }
    }

    pub(crate) fn of(self, tool: &Tool) -> String {
        match self {
            Self::Name => tool.op(),
            Self::Brief => format!("{}: {}", tool.op(), tool.summary()),
            Self::Types => format!("// {}.ts\n{}", tool.op(), typescript::signature(tool)),
            Self::Full => typescript::file(tool),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    All,
    Tools,
    Memory,
    Skills,
}

impl Place {
    fn parse(text: &str) -> Result<Self, Refusal> {
        Ok(match text {
            "all" => Self::All,
            "tools" => Self::Tools,
            "memory" => Self::Memory,
            "skills" => Self::Skills,
            other => {
                return Err(Refusal::invalid(format!("there is nothing to search called {other}"))
                    .at("in")
                    .hint("all, tools, memory or skills"));
            }
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Search {
    query: String,
    #[serde(default = "brief")]
    detail: String,
    #[serde(default = "all")]
    r#in: String,
    limit: Option<usize>,
    path: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Definition {
    path: String,
    detail: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reference {
    server: Option<String>,
    #[serde(default)]
    format: export::Form,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Task {
    #[serde(alias = "query")]
    task: String,
    limit: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Path {
    #[serde(default = "root")]
    path: String,
    offset: Option<u64>,
    limit: Option<u64>,
}

fn brief() -> String {
    "brief".into()
}

fn all() -> String {
    "all".into()
}

fn root() -> String {
    "/".into()
}

fn parse<T: serde::de::DeserializeOwned>(op: &str, params: Value) -> Result<T, Refusal> {
    serde_json::from_value(params).map_err(|error| Refusal::invalid(format!("{op}: {error}")))
}

#[cfg(test)]
mod tests;
