//! The virtual files, each made when it is asked for.

use super::rank::Index;
use super::{Detail, Skill};
use athena_schemas::refusal::{Refusal, nearest};
use athena_schemas::risk::Risk;
use athena_schemas::surface::{Annotations, HOUSE, Tool, markdown, names, python, typescript};
use serde_json::json;
use std::collections::BTreeSet;

const SERVERS: &str = "/mcp-servers";
const SKILLS: &str = "/skills";

/// The entries of a folder, folders with a slash at their end.
pub(super) fn list(tools: &[Tool], skills: &[Skill], path: &str) -> Result<Vec<String>, Refusal> {
    let path = clean(path);
    let all = paths(tools, skills);
    let prefix = if path == "/" { path.clone() } else { format!("{path}/") };
    let mut entries = BTreeSet::new();
    for file in &all {
        let Some(below) = file.strip_prefix(&prefix) else { continue };
        match below.split_once('/') {
            Some((folder, _)) => entries.insert(format!("{folder}/")),
            None => entries.insert(below.to_string()),
        };
    }
    // A folder of nothing is still a folder.
    if entries.is_empty() && !matches!(path.as_str(), "/" | SERVERS | SKILLS) {
        if all.contains(&path) {
            return Err(Refusal::invalid(format!("{path} is a file")).hint(format!("readFile(\"{path}\")")));
        }
        return Err(missing_file(&all, &path));
    }
    Ok(entries.into_iter().collect())
}

/// The text of a file.
pub(super) fn read(tools: &[Tool], skills: &[Skill], path: &str) -> Result<String, Refusal> {
    let path = clean(path);
    if let Some(text) = generated(tools, skills, &path) {
        return Ok(text);
    }
    let all = paths(tools, skills);
    let folder = format!("{path}/");
    if path == "/" || all.iter().any(|file| file.starts_with(&folder)) {
        return Err(Refusal::invalid(format!("{path} is a folder")).hint(format!("readdir(\"{path}\")")));
    }
    Err(missing_file(&all, &path))
}

/// The source of a module; `.ts` may be left out, and a folder is its index.
pub(super) fn module(tools: &[Tool], skills: &[Skill], path: &str) -> Result<String, Refusal> {
    let path = clean(path);
    if let Some(name) = path.strip_prefix("/skills/") {
        let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
        if let Some(skill) = skills.iter().find(|skill| skill.name == stem) {
            return skill_module(skill);
        }
    }
    let tries = [path.clone(), format!("{path}.ts"), format!("{path}/index.ts"), path.replace(".js", ".ts")];
    tries
        .iter()
        .filter(|path| path.ends_with(".ts") || path.ends_with(".js"))
        .find_map(|path| generated(tools, skills, path))
        .ok_or_else(|| missing_file(&paths(tools, skills), &path))
}

/// A procedure as a module. One that exports something is its own module; any other becomes a function that runs it, as a run of
/// its own that the guard judges.
fn skill_module(skill: &Skill) -> Result<String, Refusal> {
    let exports = skill.source.lines().any(|line| line.trim_start().starts_with("export "));
    if exports && skill.ending != "py" {
        if skill.importable {
            return Ok(skill.source.clone());
        }
        let why = format!(
            "{} names operations that a person must allow, so its code cannot be imported",
            skill.name
        );
        let call = format!("athena.procedural.execute({{ name: \"{}\", args: {{}} }})", skill.name);
        return Err(Refusal::denied(why).hint(call));
    }
    let (name, wire) = (names::identifier(&skill.name), json!(skill.name));
    let summary = athena_schemas::surface::first_sentence(&skill.description).replace("*/", "* /");
    Ok(format!(
        "/** {summary} */\nexport async function {name}(input = {{}}) {{\n  const done = await \
         callMCPTool(\"procedural/execute\", {{ name: {wire}, args: input }});\n  if (!done.ok) throw new \
         Error({wire} + \": \" + JSON.stringify(done.output));\n  return done.output;\n}}\n\nexport default {name};\n"
    ))
}

/// Every path there is.
pub(super) fn paths(tools: &[Tool], skills: &[Skill]) -> BTreeSet<String> {
    let mut all = BTreeSet::from([format!("{SERVERS}/README.md"), format!("{SERVERS}/index.ts")]);
    for tool in tools {
        let path = tool.path();
        all.insert(format!("{path}.ts"));
        let mut folder = path.as_str();
        while let Some((above, _)) = folder.rsplit_once('/') {
            if above == SERVERS {
                break;
            }
            all.insert(format!("{above}/index.ts"));
            all.insert(format!("{above}/README.md"));
            all.insert(format!("{above}/stubs.pyi"));
            folder = above;
        }
    }
    all.extend(skills.iter().map(|skill| format!("{SKILLS}/{}.{}", skill.name, skill.ending)));
    all
}

/// A file's text, if there is such a file.
pub(super) fn generated(tools: &[Tool], skills: &[Skill], path: &str) -> Option<String> {
    if let Some(name) = path.strip_prefix("/skills/") {
        return skills
            .iter()
            .find(|skill| format!("{}.{}", skill.name, skill.ending) == name)
            .map(|skill| skill.source.clone());
    }
    if !path.starts_with(SERVERS) {
        return None;
    }
    let (folder, file) = path.rsplit_once('/')?;
    let below: Vec<&Tool> =
        tools.iter().filter(|tool| tool.path().starts_with(&format!("{folder}/"))).collect();
    match file {
        "README.md" if folder == SERVERS => Some(root(tools)),
        "README.md" if !below.is_empty() => {
            Some(markdown::readme(folder.trim_start_matches("/mcp-servers/"), below))
        }
        "index.ts" if !below.is_empty() => Some(index(folder, &below)),
        "stubs.pyi" if !below.is_empty() => Some(python::module(below)),
        _ => {
            let stem = path.strip_suffix(".ts")?;
            tools.iter().find(|tool| tool.path() == stem).map(typescript::file)
        }
    }
}

fn index(folder: &str, below: &[&Tool]) -> String {
    let mut folders: Vec<String> = Vec::new();
    for tool in below {
        let path = tool.path();
        let inner = path
            .get(folder.len() + 1..)
            .and_then(|rest| rest.split_once('/'))
            .map(|(inner, _)| inner.to_string());
        if let Some(inner) = inner
            && !folders.contains(&inner)
        {
            folders.push(inner);
        }
    }
    let mut source = typescript::namespace_index(folders.iter().map(String::as_str));
    source.push_str(&typescript::index(folder, below.iter().copied()));
    source
}

/// What there is, for somebody who has never been here.
fn root(tools: &[Tool]) -> String {
    let mut servers: Vec<(&str, usize)> = Vec::new();
    for tool in tools {
        match servers.iter_mut().find(|(name, _)| *name == tool.server) {
            Some((_, count)) => *count += 1,
            None => servers.push((&tool.server, 1)),
        }
    }
    let mut text = String::from(
        "# Servers\n\nEach folder is a server, each file a function. Call one by its global name or import it:\n\n```ts\n\
         const hits = await athena.semantic.search({ query: \"kettle\" });\n\
         import { search } from \"/mcp-servers/athena/semantic/search.ts\";\n```\n\n\
         Every function takes one object. A tool that says what it answers answers that; any other answers\n\
         `{content, json?, blocks?}`: its text, the same parsed where it is JSON, and what is not text. An answer too large to\n\
         hand over has a `handle`; `readFile` reads it in slices: `callMCPTool(\"files/read\", {path: handle, offset, limit})`.\n\n",
    );
    for (name, count) in servers {
        let what = if name == HOUSE { "memory operations" } else { "tools" };
        text.push_str(&format!("- `{name}/` {count} {what}\n"));
    }
    text
}

/// A tool by its path, its op, its global name or, if there is only one, its bare name.
pub(super) fn find<'a>(tools: &'a [Tool], name: &str) -> Option<&'a Tool> {
    let name = name.trim().trim_end_matches(".ts");
    let bare = name.trim_start_matches(SERVERS).trim_start_matches('/');
    let exact = |tool: &&Tool| {
        tool.op() == bare
            || format!("{}/{}", tool.server, tool.name) == bare
            || tool.global() == name
            || tool.path() == name
    };
    if let Some(tool) = tools.iter().find(exact) {
        return Some(tool);
    }
    let mut same =
        tools.iter().filter(|tool| tool.name.rsplit('/').next() == Some(name) || tool.wire == name);
    let first = same.next()?;
    same.next().is_none().then_some(first)
}

/// The refusal for a name that is no tool.
pub(super) fn missing(tools: &[Tool], name: &str) -> Refusal {
    let ops: Vec<String> = tools.iter().map(Tool::op).collect();
    let near = nearest(
        name.trim_start_matches("/mcp-servers/").trim_end_matches(".ts"),
        ops.iter().map(String::as_str),
    );
    let hint =
        if near.is_empty() { "searchTools(\"…\") finds tools by intent".into() } else { near.join(", ") };
    Refusal::not_found(format!("there is no tool {name}")).hint(hint)
}

fn missing_file(all: &BTreeSet<String>, path: &str) -> Refusal {
    let near = nearest(path, all.iter().map(String::as_str));
    let hint = if near.is_empty() { "readdir(\"/\")".into() } else { near.join(", ") };
    Refusal::not_found(format!("there is no file {path}")).hint(hint)
}

/// `/a//b/../c/` as `/a/c`.
fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// Procedures that fit, with the share of the words they answer and their text.
pub(super) fn skills_found(
    skills: &[Skill],
    query: &str,
    detail: Detail,
    limit: usize,
) -> Vec<(f32, String)> {
    if skills.is_empty() {
        return Vec::new();
    }
    let tools: Vec<Tool> = skills.iter().map(as_tool).collect();
    let hits = Index::new(&tools).search(query, limit, |_| true, |_| 0.0);
    hits.into_iter()
        .filter_map(|hit| {
            let skill = skills.get(hit.at)?;
            let path = format!("{SKILLS}/{}.{}", skill.name, skill.ending);
            let text = match detail {
                Detail::Name => path,
                Detail::Brief | Detail::Types => {
                    format!("{path}: {}", athena_schemas::surface::first_sentence(&skill.description))
                }
                Detail::Full => format!("// {path}\n{}", skill.source),
            };
            Some((hit.share, text))
        })
        .collect()
}

fn as_tool(skill: &Skill) -> Tool {
    Tool {
        server: "skills".into(),
        name: skill.name.clone(),
        wire: skill.name.clone(),
        description: names::plain(&skill.description),
        input: json!({}),
        output: None,
        annotations: Annotations::default(),
        risk: Risk::Low,
        example: None,
        tags: skill.tags.clone(),
    }
}
