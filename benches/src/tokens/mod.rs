//! What four workflows cost a model's context, three ways: every tool's definition in the context and every result through it
//! (*direct*); definitions found when needed (*deferred*); code in the sandbox (*code*). Real servers, real answers, calls written
//! by hand: no model takes part. And what a person waits for with as many servers configured.
//!
//! Tokens are o200k, a stand-in for tokenizers that are not published. The servers are other people's programs, pinned in
//! `package.json` and `requirements.txt` beside this file and installed below `--dir`; they need Node 22 and Python 3.10.
//!
//! It is a test as well: all twelve servers must be found by `search` and answer from code, and every arm must come within 5 % of
//! the figures that are published ([`PUBLISHED`]); else it fails.

mod docs;
mod survey;

use crate::client::Client;
use crate::log::median;
use anyhow::{Context, bail, ensure};
use athena::tokens::count;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// Overheads that are the same for all arms: the system's text, what surrounds a call and a result, a client's own tool search.
const SYSTEM: usize = 60;
const CALL: usize = 20;
const RESULT: usize = 10;
const TOOL_SEARCH: usize = 250;

/// What `docs/benchmarks-tokens.md` says: context at the end of each workflow, direct, deferred and through code.
const PUBLISHED: [(&str, [usize; 3]); 4] = [
    ("W1", [62_630, 25_402, 906]),
    ("W2", [80_810, 43_717, 1_083]),
    ("W3", [38_368, 935, 954]),
    ("W4", [38_062, 596, 980]),
];
/// How far a measured arm may be from what is published.
const TOLERANCE: f64 = 0.05;

/// With this variable set, this program is `athena` itself: the daemon and its fronts are the product's.
pub(crate) const AS_ATHENA: &str = "ATHENA_BENCH_AS_ATHENA";

/// What this benchmark takes.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Settings {
    /// Where the servers are installed and the documents written
    #[arg(long, default_value = "target/tokens")]
    dir: PathBuf,
    /// Only the servers: each imported, found and called from code; no workflows, no times
    #[arg(long)]
    survey: bool,
    /// How often times are taken
    #[arg(long, default_value_t = 20)]
    rounds: usize,
    /// Ends with one JSON object on stdout
    #[arg(long)]
    json: bool,
}

/// A server as a configuration names it.
struct Server {
    name: &'static str,
    command: String,
    args: Vec<String>,
    env: BTreeMap<String, String>,
}

/// A workflow: the calls made directly, and the two calls that do the same through code.
struct Flow {
    name: &'static str,
    what: &'static str,
    calls: Vec<(&'static str, &'static str, Value)>,
    search: &'static str,
    code: String,
}

/// What an arm costs.
struct Cost {
    /// Tokens in the context at the end.
    context: usize,
    /// Input tokens over all turns, without caching.
    billed: usize,
    /// What the model writes.
    output: usize,
}

pub(crate) fn run(settings: &Settings) -> anyhow::Result<()> {
    std::fs::create_dir_all(&settings.dir)?;
    let dir = settings.dir.canonicalize()?;
    install(&dir)?;
    let servers = servers(&dir)?;
    let work = dir.join("work");
    let _ = std::fs::remove_dir_all(&work);
    let names = docs::write(&work.join("docs"))?;

    let mut running = BTreeMap::new();
    let mut shown = BTreeMap::new();
    let mut rows = Map::new();
    for server in &servers {
        let mut command = Command::new(&server.command);
        command.args(&server.args).envs(&server.env).current_dir(&work);
        let mut client = Client::start(command).with_context(|| format!("the server {}", server.name))?;
        let tools = client.tools().with_context(|| format!("the server {}", server.name))?;
        let tokens = tokens(&model_view(&tools));
        eprintln!(
            "{:<16} {:>3} tools {:>6} tokens, greeted after {:.0} ms",
            server.name,
            tools.len(),
            tokens,
            millis(client.took)
        );
        rows.insert(server.name.into(), json!({"tools": tools.len(), "tokens": tokens}));
        shown.insert(server.name, tools);
        if matches!(server.name, "filesystem" | "memory") {
            running.insert(server.name, client);
        }
    }
    let all: usize = shown.values().map(|tools| tokens(&model_view(tools))).sum();
    let number: usize = shown.values().map(Vec::len).sum();
    eprintln!("{} servers, {number} tools, {all} tokens\n", servers.len());

    let athena = Athena::with(&dir, &servers)?;
    let mut front = athena.front(&work)?;
    let answered = survey::called(&shown, &mut front, &athena, &dir)?;
    if settings.survey {
        if settings.json {
            println!(
                "{}",
                json!({"servers": rows, "answered_from_code": answered, "tools": number, "definitions": all})
            );
        }
        return Ok(());
    }
    let front_tokens =
        tokens(&model_view(&front.tools()?)) + count(front.greeting["instructions"].as_str().unwrap_or(""));
    let (mut flows, mut strayed) = (Map::new(), Vec::new());
    for flow in workflows(&names, &work)? {
        let direct = direct(&flow, all, &mut running)?;
        let deferred = direct.context - all + used(&flow, &shown) + TOOL_SEARCH;
        let code = code(&flow, front_tokens, &mut front, &athena)?;
        let saved = |ours: usize, theirs: usize| 1.0 - ours as f64 / theirs as f64;
        eprintln!(
            "{}: direct {}, deferred {deferred}, code {} ({:+.1} % of direct, {:+.1} % of deferred): {}",
            flow.name,
            direct.context,
            code.context,
            -100.0 * saved(code.context, direct.context),
            -100.0 * saved(code.context, deferred),
            flow.what
        );
        strayed.extend(stray(flow.name, [direct.context, deferred, code.context])?);
        flows.insert(
            flow.name.into(),
            json!({
                "direct": direct.context, "deferred": deferred, "code": code.context,
                "saved_of_direct": saved(code.context, direct.context), "saved_of_deferred": saved(code.context, deferred),
                "billed_direct": direct.billed, "billed_code": code.billed,
                "output_direct": direct.output, "output_code": code.output,
            }),
        );
    }
    drop(running);
    let times = times(settings, &athena, &mut front, &work)?;
    eprintln!("front {front_tokens} tokens; {times}");
    if settings.json {
        let all = json!({
            "tokenizer": "o200k_base, a stand-in", "servers": rows, "answered_from_code": answered, "tools": number, "definitions": all, "front": front_tokens,
            "workflows": flows, "times": times,
        });
        println!("{all}");
    }
    ensure!(strayed.is_empty(), "not what docs/benchmarks-tokens.md says: {}", strayed.join("; "));
    Ok(())
}

/// The arms of a workflow that are not what is published.
fn stray(flow: &str, measured: [usize; 3]) -> anyhow::Result<Vec<String>> {
    let (_, published) =
        PUBLISHED.iter().find(|(name, _)| *name == flow).context("a workflow that is not published")?;
    let arms = ["direct", "deferred", "code"].iter().zip(measured).zip(published);
    let far = |now: usize, then: usize| (now as f64 / then as f64 - 1.0).abs() > TOLERANCE;
    Ok(arms
        .filter(|((_, now), then)| far(*now, **then))
        .map(|((arm, now), then)| format!("{flow} {arm} {now} instead of {then}"))
        .collect())
}

fn millis(time: std::time::Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn tokens(value: &Value) -> usize {
    count(&value.to_string())
}

/// What a host shows a model of its tools: name, description and input schema.
fn model_view(tools: &[Value]) -> Value {
    let view = |tool: &Value| json!({"name": tool["name"], "description": tool["description"], "input_schema": tool["inputSchema"]});
    tools.iter().map(view).collect()
}

/// The definitions of the tools that a workflow uses.
fn used(flow: &Flow, shown: &BTreeMap<&str, Vec<Value>>) -> usize {
    let mut names: Vec<(&str, &str)> = flow.calls.iter().map(|(server, tool, _)| (*server, *tool)).collect();
    names.sort_unstable();
    names.dedup();
    let tools =
        names.iter().filter_map(|(server, tool)| shown[server].iter().find(|known| known["name"] == *tool));
    tokens(&model_view(&tools.cloned().collect::<Vec<_>>()))
}

/// Every definition in the context, every result in the context.
fn direct(flow: &Flow, all: usize, running: &mut BTreeMap<&str, Client>) -> anyhow::Result<Cost> {
    let mut cost = Cost { context: all + SYSTEM, billed: 0, output: 0 };
    for (server, tool, arguments) in &flow.calls {
        let client = running.get_mut(server).context("the server does not run")?;
        cost.turn(tool, arguments, &client.call(tool, arguments)?);
    }
    cost.billed += cost.context;
    Ok(cost)
}

/// A search for what there is, then one run.
fn code(flow: &Flow, front: usize, client: &mut Client, athena: &Athena) -> anyhow::Result<Cost> {
    let mut cost = Cost { context: front + SYSTEM, billed: 0, output: 0 };
    for (tool, arguments) in [
        ("search", json!({"query": flow.search, "detail": "types"})),
        ("execute", json!({"code": flow.code})),
    ] {
        let mut answer = client.call(tool, &arguments)?;
        if tool == "execute" {
            answer = approved(client, answer, athena)?;
            ensure!(answer.contains("\"status\":\"completed\""), "{}: {}", flow.name, answer);
        }
        cost.turn(tool, &arguments, &answer);
    }
    cost.billed += cost.context;
    Ok(cost)
}

/// A run that waits for a person is answered as a person would, and its whole answer is counted.
fn approved(client: &mut Client, answer: String, athena: &Athena) -> anyhow::Result<String> {
    let waits: Value = serde_json::from_str(&answer)?;
    let Some(approval) = waits["approval"].as_str() else { return Ok(answer) };
    athena.run(&["approve", approval])?;
    client.call("execute", &json!({"run": waits["run"]}))
}

impl Cost {
    fn turn(&mut self, tool: &str, arguments: &Value, answer: &str) {
        self.billed += self.context;
        let call = tokens(&json!({"name": tool, "input": arguments})) + CALL;
        self.output += call;
        self.context += call + count(answer) + RESULT;
    }
}

fn workflows(names: &[String], work: &Path) -> anyhow::Result<Vec<Flow>> {
    let path = |name: &str| format!("docs/{name}");
    let first = path(&names[0]);
    let text = std::fs::read_to_string(work.join(&first))?;
    let read = |name: &String| ("filesystem", "read_text_file", json!({ "path": path(name) }));
    let seen: Vec<Value> = names
        .iter()
        .map(|name| json!({"name": name, "entityType": "doc", "observations": ["mentions sandbox 12 times"]}))
        .collect();
    let mut reading = vec![("filesystem", "list_directory", json!({"path": "docs"}))];
    reading.extend(names.iter().map(read));
    reading.push(("memory", "create_entities", json!({ "entities": seen })));
    Ok(vec![
        Flow {
            name: "W1",
            what: "one document of 46 kB from one tool to another",
            calls: vec![read(&names[0]), ("filesystem", "write_file", json!({"path": "copy.txt", "content": text}))],
            search: "read file write file",
            code: format!(
                "const {{content}} = await filesystem.read_text_file({{path: '{first}'}}); await filesystem.write_file({{path: 'copy.txt', content}}); return content.length"
            ),
        },
        Flow {
            name: "W2",
            what: "five documents of 163 kB read, a word counted, five entities stored",
            calls: reading,
            search: "list directory read file create entities",
            code: "const names = (await filesystem.list_directory({path: 'docs'})).content.match(/\\S+\\.txt/g); const entities = []; \
                   for (const name of names) { const {content} = await filesystem.read_text_file({path: 'docs/' + name}); \
                   entities.push({name, entityType: 'doc', observations: [`mentions sandbox ${content.split(/sandbox/i).length - 1} times`]}) } \
                   await memory.create_entities({entities}); return entities.map((e) => [e.name, e.observations[0]])"
                .into(),
        },
        Flow {
            name: "W3",
            what: "ten small queries",
            calls: (0..10).map(|n| ("memory", "search_nodes", json!({"query": format!("q{n}")}))).collect(),
            search: "search nodes",
            code: "return await Promise.all([...Array(10).keys()].map((n) => memory.search_nodes({query: 'q' + n})))".into(),
        },
        Flow {
            name: "W4",
            what: "one small call",
            calls: vec![("memory", "read_graph", json!({}))],
            search: "read graph",
            code: "return await memory.read_graph()".into(),
        },
    ])
}

/// The product over all the servers: this program under its other name.
struct Athena {
    store: tempfile::TempDir,
}

impl Athena {
    fn with(dir: &Path, servers: &[Server]) -> anyhow::Result<Self> {
        let athena = Self { store: tempfile::Builder::new().prefix("store-").tempdir_in(dir)? };
        let work = dir.join("work");
        let config: Map<String, Value> = servers
            .iter()
            .map(|server| {
                (
                    server.name.to_owned(),
                    json!({"command": server.command, "args": server.args, "env": server.env, "cwd": work}),
                )
            })
            .collect();
        let file = athena.store.path().join("servers.json");
        std::fs::write(&file, json!({ "mcpServers": config }).to_string())?;
        let path = file.to_str().context("a path that is no text")?;
        athena.run(&["upstream", "import", path])?;
        for server in servers {
            // Each must have been seen once: what is measured is a house that people live in.
            athena.run(&["upstream", "test", server.name])?;
        }
        Ok(athena)
    }

    fn run(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("--json").args(arguments).env(AS_ATHENA, "1").env("ATHENA_STORE", self.store.path());
        let output = command.output()?;
        ensure!(output.status.success(), "athena {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(serde_json::from_slice(&output.stdout).unwrap_or_default())
    }

    /// A client's front, as a client starts it.
    fn front(&self, work: &Path) -> anyhow::Result<Client> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("serve").env(AS_ATHENA, "1").env("ATHENA_STORE", self.store.path()).current_dir(work);
        Client::start(command)
    }
}

impl Drop for Athena {
    fn drop(&mut self) {
        let _ = self.run(&["daemon", "stop", "--force"]);
    }
}

/// What a person waits for, with all servers configured.
fn times(settings: &Settings, athena: &Athena, front: &mut Client, work: &Path) -> anyhow::Result<Value> {
    let attached: Vec<f64> =
        (0..settings.rounds).map(|_| Ok(millis(athena.front(work)?.took))).collect::<anyhow::Result<_>>()?;
    let queries = [
        "read a text file",
        "create an issue",
        "take a screenshot",
        "search pages",
        "current time",
        "commit",
    ];
    let mut searched = Vec::new();
    for n in 0..settings.rounds.max(queries.len()) {
        let begun = Instant::now();
        front.call("search", &json!({"query": queries[n % queries.len()]}))?;
        searched.push(millis(begun.elapsed()));
    }
    // Nothing runs but the daemon: as it is after a start with everything known from last time.
    athena.run(&["daemon", "stop"])?;
    let mut cold = Vec::new();
    for _ in 0..settings.rounds.min(5) {
        cold.push(millis(athena.front(work)?.took));
        let _ = athena.run(&["daemon", "stop"]);
    }
    let status = athena.run(&["daemon", "status"]).or_else(|_| {
        athena.front(work)?;
        athena.run(&["daemon", "status"])
    })?;
    Ok(json!({
        "initialize_p50_ms": median(&attached), "initialize_cold_p50_ms": median(&cold), "search_p50_ms": median(&searched),
        "resident_mib": status["status"]["resident_bytes"].as_f64().map(|bytes| bytes / f64::from(1 << 20)),
    }))
}

/// Node's and Python's servers, pinned, below `dir`; once.
fn install(dir: &Path) -> anyhow::Result<()> {
    let (package, wanted) = (include_str!("package.json"), include_str!("requirements.txt"));
    if std::fs::read_to_string(dir.join("installed")).is_ok_and(|known| known == format!("{package}{wanted}"))
    {
        return Ok(());
    }
    eprintln!("installing the servers below {} …", dir.display());
    std::fs::write(dir.join("package.json"), package)?;
    std::fs::write(dir.join("requirements.txt"), wanted)?;
    let machine = match std::env::consts::ARCH {
        "aarch64" => "arm64",
        _ => "x64",
    };
    let node = format!("node-linux-{machine}@22.23.3");
    let quiet = ["--no-audit", "--no-fund", "--loglevel=error"];
    let steps: [(&str, Vec<&str>); 4] = [
        ("npm", [&["install"], &quiet[..]].concat()),
        ("npm", [&["install", "--no-save"], &quiet[..], &[node.as_str()]].concat()),
        ("python3", vec!["-m", "venv", ".venv"]),
        (
            ".venv/bin/pip",
            vec!["install", "--quiet", "--disable-pip-version-check", "-r", "requirements.txt"],
        ),
    ];
    for (program, args) in steps {
        let program =
            if program.starts_with('.') { dir.join(program).into_os_string() } else { program.into() };
        let status = Command::new(&program).args(&args).current_dir(dir).status();
        if !status.with_context(|| format!("{} cannot be started", program.display()))?.success() {
            bail!("{} {} failed; Node and Python 3 are needed", program.display(), args.join(" "));
        }
    }
    Ok(std::fs::write(dir.join("installed"), format!("{package}{wanted}"))?)
}

/// The twelve servers, all of which start without a network.
fn servers(dir: &Path) -> anyhow::Result<Vec<Server>> {
    let work = dir.join("work");
    let repository = dir.join("repository");
    if !repository.join(".git").exists() {
        let made = Command::new("git").args(["init", "--quiet"]).arg(&repository).status()?;
        ensure!(made.success(), "git init failed");
    }
    let text = |path: PathBuf| path.to_string_lossy().into_owned();
    let machine = if std::env::consts::ARCH == "aarch64" { "arm64" } else { "x64" };
    let node = text(dir.join(format!("node_modules/node-linux-{machine}/bin/node")));
    let npm = |name: &'static str, file: &str, args: &[&str], env: &[(&str, String)]| Server {
        name,
        command: node.clone(),
        args: std::iter::once(text(dir.join("node_modules/.bin").join(file)))
            .chain(args.iter().map(|arg| (*arg).to_owned()))
            .collect(),
        env: env.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect(),
    };
    let pip = |name: &'static str, file: &str, args: Vec<String>| Server {
        name,
        command: text(dir.join(".venv/bin").join(file)),
        args,
        env: BTreeMap::new(),
    };
    let (x, kept) = ("x".to_owned(), text(work.join("memory.jsonl")));
    Ok(vec![
        npm("everything", "mcp-server-everything", &[], &[]),
        npm("filesystem", "mcp-server-filesystem", &[&text(work.clone())], &[]),
        npm("memory", "mcp-server-memory", &[], &[("MEMORY_FILE_PATH", kept)]),
        npm("thinking", "mcp-server-sequential-thinking", &[], &[]),
        npm("github", "mcp-server-github", &[], &[("GITHUB_PERSONAL_ACCESS_TOKEN", x.clone())]),
        npm("playwright", "playwright-mcp", &survey::playwright(), &[]),
        npm("chrome_devtools", "chrome-devtools-mcp", &survey::chrome_devtools(), &[]),
        npm("notion", "notion-mcp-server", &[], &[("NOTION_TOKEN", x)]),
        npm("context7", "context7-mcp", &[], &[]),
        pip("git", "mcp-server-git", vec!["--repository".into(), text(repository)]),
        // The page of the survey is on this machine.
        pip("fetch", "mcp-server-fetch", vec!["--allow-private-ips".into()]),
        pip("time", "mcp-server-time", Vec::new()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The page and the check say the same.
    #[test]
    fn what_is_published_is_what_is_checked() {
        let page = include_str!("../../../docs/benchmarks-tokens.md");
        for (flow, arms) in PUBLISHED {
            let row = page.lines().find(|line| line.starts_with(&format!("| {flow} "))).unwrap();
            let cells: Vec<usize> =
                row.split('|').filter_map(|cell| cell.trim().replace(',', "").parse().ok()).collect();
            assert_eq!(cells, arms, "{flow}");
        }
    }

    #[test]
    fn what_strays_by_more_than_a_twentieth_is_named() {
        assert!(stray("W4", [38_062, 596, 980]).unwrap().is_empty());
        assert!(stray("W4", [39_900, 570, 1_020]).unwrap().is_empty());
        let strayed = stray("W4", [38_062, 700, 900]).unwrap();
        assert_eq!(strayed, ["W4 deferred 700 instead of 596", "W4 code 900 instead of 980"]);
        assert!(stray("W9", [1, 1, 1]).is_err());
    }
}
