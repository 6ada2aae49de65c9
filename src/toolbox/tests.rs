use super::*;
use athena_actors::upstream::Ledger;
use athena_schemas::layers::upstream::{Note, Observe, Verdict};
use athena_schemas::ports::BoxFuture;
use std::time::Instant;

struct Quiet;

impl Ledger for Quiet {
    fn observe(&self, _: Observe) -> BoxFuture<'_, Result<Verdict, Refusal>> {
        Box::pin(async { Ok(Verdict::default()) })
    }

    fn note(&self, _: Note) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }

    fn secret<'a>(&'a self, _: &'a str, _: &'a str) -> BoxFuture<'a, Option<String>> {
        Box::pin(async { None })
    }
}

struct Two;

impl Skills for Two {
    fn list(&self, _: &Context) -> Vec<Skill> {
        let skill = |name: &str, description: &str| Skill {
            name: name.into(),
            description: description.into(),
            source: format!("export function {name}() {{}}\n"),
            ending: "ts",
            tags: Vec::new(),
            importable: true,
        };
        vec![
            skill("weekly_report", "Writes the weekly report of open issues."),
            skill("greet", "Says hello."),
        ]
    }
}

fn toolbox() -> Toolbox {
    Toolbox::with_skills(Upstreams::new(Arc::new(Quiet), None), Arc::new(Two))
}

async fn ask(op: &str, params: Value) -> Result<Value, Refusal> {
    toolbox().call(&Context::example(), op, params).await
}

fn tool(server: &str, name: &str, description: &str, fields: &[&str]) -> Tool {
    let properties: serde_json::Map<_, _> =
        fields.iter().map(|field| ((*field).to_string(), json!({"type": "string"}))).collect();
    Tool {
        server: server.into(),
        name: name.into(),
        wire: name.into(),
        description: description.into(),
        input: json!({"type": "object", "properties": properties, "required": fields}),
        output: None,
        annotations: Default::default(),
        risk: Default::default(),
        example: None,
        tags: Vec::new(),
    }
}

/// The tools of the official file system and memory servers, as they describe themselves.
fn real() -> Vec<Tool> {
    let fs = |name: &str, description: &str, fields: &[&str]| tool("filesystem", name, description, fields);
    let memory = |name: &str, description: &str, fields: &[&str]| tool("memory", name, description, fields);
    vec![
        fs(
            "read_file",
            "Read the complete contents of a file as text. DEPRECATED: Use read_text_file instead.",
            &["path", "tail", "head"],
        ),
        fs(
            "read_text_file",
            "Read the complete contents of a file from the file system as text. Handles various text encodings and provides detailed error messages if the file cannot be read. Use this tool when you need to examine the contents of a single file.",
            &["path", "tail", "head"],
        ),
        fs(
            "read_media_file",
            "Read an image or audio file. Returns the base64 encoded data and MIME type.",
            &["path"],
        ),
        fs(
            "read_multiple_files",
            "Read the contents of multiple files simultaneously. This is more efficient than reading files one by one when you need to analyze or compare multiple files.",
            &["paths"],
        ),
        fs(
            "write_file",
            "Create a new file or completely overwrite an existing file with new content. Use with caution as it will overwrite existing files without warning.",
            &["path", "content"],
        ),
        fs(
            "edit_file",
            "Make line-based edits to a text file. Each edit replaces exact line sequences with new content.",
            &["path", "edits", "dryRun"],
        ),
        fs("create_directory", "Create a new directory or ensure a directory exists.", &["path"]),
        fs(
            "list_directory",
            "Get a detailed listing of all files and directories in a specified path.",
            &["path"],
        ),
        fs(
            "list_directory_with_sizes",
            "Get a detailed listing of all files and directories in a specified path, including sizes.",
            &["path", "sortBy"],
        ),
        fs(
            "directory_tree",
            "Get a recursive tree view of files and directories as a JSON structure.",
            &["path"],
        ),
        fs("move_file", "Move or rename files and directories.", &["source", "destination"]),
        fs(
            "search_files",
            "Recursively search for files and directories matching a pattern.",
            &["path", "pattern"],
        ),
        fs("get_file_info", "Retrieve detailed metadata about a file or directory.", &["path"]),
        memory("create_entities", "Create multiple new entities in the knowledge graph", &["entities"]),
        memory(
            "create_relations",
            "Create multiple new relations between entities in the knowledge graph.",
            &["relations"],
        ),
        memory(
            "add_observations",
            "Add new observations to existing entities in the knowledge graph",
            &["observations"],
        ),
        memory(
            "delete_entities",
            "Delete multiple entities and their associated relations from the knowledge graph",
            &["entityNames"],
        ),
        memory("read_graph", "Read the entire knowledge graph", &[]),
        memory("search_nodes", "Search for nodes in the knowledge graph based on a query", &["query"]),
        memory("open_nodes", "Open specific nodes in the knowledge graph by their names", &["names"]),
    ]
}

fn found(tools: &[Tool], hits: &[rank::Hit]) -> Vec<String> {
    hits.iter().map(|hit| tools[hit.at].op()).collect()
}

#[test]
fn the_tools_a_task_needs_are_found_and_no_others() {
    let mut tools = house();
    tools.extend(real());
    let index = Index::new(&tools);
    for (query, wanted, most) in [
        (
            "list directory read file create entities",
            vec!["filesystem/list_directory", "memory/create_entities"],
            5,
        ),
        ("search nodes", vec!["memory/search_nodes"], 3),
        ("read graph", vec!["memory/read_graph"], 3),
        ("write file", vec!["filesystem/write_file"], 3),
        ("rename a document", vec!["filesystem/move_file"], 4),
        ("serach nodes", vec!["memory/search_nodes"], 4),
        ("store a fact", vec!["semantic/store"], 4),
    ] {
        let hits = found(&tools, &index.cover(query, 6, |_| true, |_| 0.0));
        assert!(hits.len() <= most, "{query}: {hits:?}");
        for op in wanted {
            assert!(hits.iter().any(|hit| hit == op), "{query}: {op} is not in {hits:?}");
        }
    }
    let hits = found(&tools, &index.cover("read file write file", 6, |_| true, |_| 0.0));
    assert!(
        hits.iter().any(|op| op.starts_with("filesystem/read_"))
            && hits.contains(&"filesystem/write_file".to_string()),
        "{hits:?}"
    );
    assert_eq!(
        found(&tools, &index.search("delete entity", 1, |_| true, |_| 0.0)),
        ["memory/delete_entities"]
    );
    // What worked before goes first of those that fit, and nothing else comes up.
    let delete = tools.iter().position(|tool| tool.op() == "memory/delete_entities").unwrap();
    let plain = index.search("delete entity", 9, |_| true, |_| 0.0);
    let moved = index.search("delete entity", 9, |_| true, |at| f32::from(u8::from(at != delete)));
    let set =
        |hits: &[super::rank::Hit]| hits.iter().map(|hit| hit.at).collect::<std::collections::BTreeSet<_>>();
    assert!(
        set(&moved).is_superset(&set(&plain)) && moved.iter().all(|hit| hit.score <= 1.3 * plain[0].score)
    );
    assert!(index.search("zzzzqqqq", 5, |_| true, |_| 0.0).is_empty());
}

#[test]
fn a_search_over_many_tools_is_quick() {
    let mut tools = house();
    while tools.len() < 400 {
        tools.extend(real());
    }
    let index = Index::new(&tools);
    let (begun, rounds) = (Instant::now(), 50);
    for _ in 0..rounds {
        assert!(!index.cover("list directory read file create entities", 6, |_| true, |_| 0.0).is_empty());
    }
    // No figure is asserted on a shared machine; a search that walks everything for every word would not end.
    assert!(begun.elapsed().as_secs() < 60, "{:?} a search", begun.elapsed() / rounds);
}

#[tokio::test]
async fn folders_list_and_files_read() {
    assert_eq!(ask("files/list", json!({"path": "/"})).await.unwrap(), json!(["mcp-servers/", "skills/"]));
    assert_eq!(
        ask("files/list", json!({"path": "/skills/"})).await.unwrap(),
        json!(["greet.ts", "weekly_report.ts"])
    );
    let layers = ask("files/list", json!({"path": "/mcp-servers/athena"})).await.unwrap();
    assert!(layers.as_array().unwrap().contains(&json!("semantic/")), "{layers}");
    let files = ask("files/list", json!({"path": "mcp-servers/athena/semantic"})).await.unwrap();
    for file in ["README.md", "index.ts", "search.ts", "stubs.pyi"] {
        assert!(files.as_array().unwrap().contains(&json!(file)), "{file}");
    }
    for file in [
        "README.md",
        "index.ts",
        "athena/README.md",
        "athena/index.ts",
        "athena/semantic/index.ts",
        "athena/semantic/stubs.pyi",
    ] {
        let text = ask("files/read", json!({"path": format!("/mcp-servers/{file}")})).await.unwrap();
        assert!(text.as_str().unwrap().len() > 20, "{file}");
    }
    let refusal =
        ask("files/read", json!({"path": "/mcp-servers/athena/semantic/serch.ts"})).await.unwrap_err();
    assert!(refusal.hint.contains("semantic/search.ts"), "{refusal}");
    assert!(
        ask("files/read", json!({"path": "/mcp-servers/athena"}))
            .await
            .unwrap_err()
            .message
            .contains("is a folder")
    );
    assert!(ask("files/list", json!({"path": "/etc"})).await.is_err());
    assert!(ask("files/read", json!({"path": "/mcp-servers/../../etc/passwd"})).await.is_err());
}

/// Sixty paths out of the virtual files: they are names in a map, and no file of this machine is behind any of them.
#[tokio::test]
async fn stride_t14() {
    let targets = [
        "etc/passwd",
        "etc/shadow",
        "root/.ssh/id_rsa",
        "proc/self/environ",
        "proc/self/cwd/Cargo.toml",
        "Cargo.toml",
    ];
    let ways = [
        "/{}",
        "../../../../../../{}",
        "/mcp-servers/../../../../{}",
        "/mcp-servers/athena/../../../../../{}",
        "/skills/../../{}",
        "/mcp-servers/./././../{}",
        "//{}",
        "/mcp-servers/%2e%2e/%2e%2e/{}",
        "/mcp-servers/..\\..\\{}",
        "file:///{}",
    ];
    let mut tried = 0;
    for target in targets {
        for way in ways {
            let path = way.replace("{}", target);
            for op in ["files/read", "files/module", "files/list"] {
                assert!(ask(op, json!({"path": path})).await.is_err(), "{op} {path}");
            }
            tried += 1;
        }
    }
    assert_eq!(tried, 60);
    for path in [
        "/skills/greet.ts\0.txt",
        "/skills/\u{ff0e}\u{ff0e}/x",
        "/mcp-servers/athena/semantic/search.ts/../../../../etc/passwd",
    ] {
        assert!(ask("files/read", json!({"path": path})).await.is_err(), "{path:?}");
    }
}

/// Discovery lists what only people may do: for every such operation, searched for by its name and by its description, the answer
/// does not hold it.
#[tokio::test]
async fn stride_i19() {
    use athena_schemas::operation::Audience;
    let closed: Vec<_> =
        athena_schemas::catalog::entries().filter(|entry| entry.traits.audience != Audience::Agent).collect();
    assert!(closed.len() > 10);
    for entry in closed {
        let id = entry.id();
        for query in [id.clone(), id.replace('/', " "), entry.name.replace('_', " ")] {
            let found =
                ask("tools/search", json!({"query": query, "limit": 50, "detail": "name"})).await.unwrap();
            assert!(!found.to_string().contains(&format!("{id}\"")), "{query}: {found}");
            assert!(!found.to_string().contains(&format!("/{id}.ts")), "{query}: {found}");
        }
        assert!(
            ask("files/read", json!({"path": format!("/mcp-servers/athena/{id}.ts")})).await.is_err(),
            "{id}"
        );
        assert!(ask("tools/definition", json!({"path": id})).await.is_err(), "{id}");
    }
}

#[tokio::test]
async fn modules_resolve_with_and_without_their_ending() {
    for path in [
        "/mcp-servers/athena/semantic/search.ts",
        "/mcp-servers/athena/semantic/search",
        "/mcp-servers/athena/semantic/search.js",
    ] {
        let module = ask("files/module", json!({"path": path})).await.unwrap();
        assert!(
            module["source"].as_str().unwrap().contains("callMCPTool(\"semantic/search\", input, options)")
        );
    }
    let index = ask("files/module", json!({"path": "/mcp-servers/athena"})).await.unwrap();
    assert!(
        index["source"].as_str().unwrap().contains("export * as semantic from \"./semantic/index.ts\""),
        "{index}"
    );
    assert!(ask("files/module", json!({"path": "/mcp-servers/README.md"})).await.is_err());
}

#[tokio::test]
async fn a_definition_is_found_by_any_of_its_names() {
    for path in [
        "semantic/search",
        "/mcp-servers/athena/semantic/search.ts",
        "athena.semantic.search",
        "athena/semantic/search",
    ] {
        let text = ask("tools/definition", json!({"path": path})).await.unwrap();
        assert!(text.as_str().unwrap().contains("export async function search("), "{path}");
    }
    let line = ask("tools/definition", json!({"path": "semantic/search", "detail": "types"})).await.unwrap();
    assert_eq!(line.as_str().unwrap().lines().count(), 2, "{line}");
    assert!(
        ask("tools/definition", json!({"path": "semantic/serch"}))
            .await
            .unwrap_err()
            .hint
            .contains("semantic/search")
    );
}

#[tokio::test]
async fn each_detail_says_more_than_the_one_before() {
    let mut last = 0;
    for detail in ["name", "brief", "types", "full"] {
        let found = ask(
            "tools/search",
            json!({"query": "search facts", "detail": detail, "limit": 1, "in": "memory"}),
        )
        .await
        .unwrap();
        let text = found[0].as_str().unwrap();
        assert!(text.len() > last, "{detail}: {text}");
        last = text.len();
    }
    assert!(ask("tools/search", json!({"query": "x", "detail": "all"})).await.is_err());
    assert_eq!(
        ask("tools/search", json!({"query": "x", "in": "nowhere"})).await.unwrap_err().path.as_deref(),
        Some("in")
    );
}

#[tokio::test]
async fn procedures_are_found_beside_tools() {
    let found = ask("tools/search", json!({"query": "weekly report"})).await.unwrap();
    assert!(found[0].as_str().unwrap().starts_with("/skills/weekly_report.ts: Writes"), "{found}");
    let only =
        ask("tools/search", json!({"query": "report", "in": "skills", "detail": "name"})).await.unwrap();
    assert_eq!(only, json!(["/skills/weekly_report.ts"]));
    let apis = ask("tools/find_apis_for_task", json!({"task": "store a fact about the user"})).await.unwrap();
    assert!(apis["apis"][0]["signature"].as_str().unwrap().starts_with("export function"), "{apis}");
}

#[test]
fn globals_are_identifiers_and_house_own_layers_are_not_among_them() {
    let spaces = toolbox().namespaces();
    let athena = &spaces[0];
    assert_eq!(athena.name, "athena");
    assert!(athena.members.contains(&("semantic.search".into(), "semantic/search".into())));
    assert!(!athena.members.iter().any(|(_, op)| op.starts_with("privacy/") || op.starts_with("run/")));
    let tools = [
        tool("my-git", "API-post", "", &[]),
        tool("my-git", "API_post", "", &[]),
        tool("my-git", "delete", "", &[]),
    ];
    let git = &namespaces(&tools)[0];
    assert_eq!(git.name, "my_git");
    assert_eq!(
        git.members,
        [("API_post".to_string(), "my-git/API-post".to_string()), ("delete".into(), "my-git/delete".into())]
    );
}

#[test]
fn everything_is_written_out_for_people() {
    let folder = tempfile::tempdir().unwrap();
    let count = toolbox().write_files(&Context::example(), folder.path()).unwrap();
    assert!(count > house().len());
    let source =
        std::fs::read_to_string(folder.path().join("mcp-servers/athena/semantic/search.ts")).unwrap();
    assert!(source.contains("export async function search"));
    assert!(folder.path().join("skills/greet.ts").exists());
}

#[test]
fn globals_have_the_types_of_the_files_they_stand_for() {
    let (tools, sources) = toolbox().sources(&Context::example());
    let written = crate::types::globals(&tools);
    assert!(
        written.contains(r#""search": typeof import("./mcp-servers/athena/semantic/search.ts").search"#),
        "{written}"
    );
    let mut files = written.split("import(\".").skip(1).filter_map(|rest| rest.split('"').next()).peekable();
    assert!(files.peek().is_some());
    for file in files {
        assert!(sources.iter().any(|(path, _)| path == file), "{file}");
    }
}

#[tokio::test]
async fn the_reference_of_one_server_or_all_comes_in_three_forms() {
    let (toolbox, cx) = (toolbox(), Context::example());
    for (form, sign) in [
        ("markdown", "### semantic/search"),
        ("html", "<h2>semantic/search</h2>"),
        ("json", "\"semantic/search\""),
    ] {
        let text =
            toolbox.call(&cx, "tools/reference", json!({"server": "athena", "format": form})).await.unwrap();
        assert!(text.as_str().unwrap().contains(sign), "{form}");
    }
    let all = toolbox.call(&cx, "tools/reference", json!({})).await.unwrap();
    assert!(all.as_str().unwrap().starts_with("# Tools\n"));
    let refusal = toolbox.call(&cx, "tools/reference", json!({"server": "athene"})).await.unwrap_err();
    assert!(refusal.hint.contains("athena"), "{refusal}");
}
