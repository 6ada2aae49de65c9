//! One tool of each server, found by what it does and called from code. What can be real without a network is: pages come from a
//! server of this program on this machine, and the two servers that drive a browser drive Debian's Chromium where it is installed.
//! What is left speaks to one service of its own and answers that it does not reach it.

use super::{Athena, approved};
use crate::client::Client;
use anyhow::{Context, ensure};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// The browser, where the system's package put it.
const CHROMIUM: &str = "/usr/bin/chromium";
/// What the page says.
const SAID: &str = "the kettle is in the blue cupboard";

/// The arguments of Playwright's server.
pub(super) fn playwright() -> Vec<&'static str> {
    let mut args = vec!["--headless", "--isolated"];
    if has_chromium() {
        args.extend(["--executable-path", CHROMIUM]);
        if nix::unistd::geteuid().is_root() {
            args.push("--no-sandbox");
        }
    }
    args
}

/// The arguments of Chrome's server.
pub(super) fn chrome_devtools() -> Vec<&'static str> {
    let mut args = vec!["--headless", "--isolated", "--no-usage-statistics"];
    if has_chromium() {
        args.extend(["--executablePath", CHROMIUM]);
        if nix::unistd::geteuid().is_root() {
            args.push("--chromeArg=--no-sandbox");
        }
    }
    args
}

fn has_chromium() -> bool {
    Path::new(CHROMIUM).exists()
}

/// Calls a tool of each server from code. Whether each answered by itself, or with an error of its own, is told.
pub(super) fn called(
    shown: &BTreeMap<&str, Vec<Value>>,
    front: &mut Client,
    athena: &Athena,
    dir: &Path,
) -> anyhow::Result<Value> {
    let page = Page::open()?;
    let browser = has_chromium();
    if !browser {
        eprintln!("there is no {CHROMIUM}: the two servers that drive a browser have none to drive");
    }
    let chosen = [
        ("everything", "echo"),
        ("filesystem", "list_allowed_directories"),
        ("memory", "read_graph"),
        ("thinking", "sequentialthinking"),
        ("github", "search_repositories"),
        ("playwright", if browser { "browser_navigate" } else { "browser_tabs" }),
        ("chrome_devtools", if browser { "new_page" } else { "list_pages" }),
        ("notion", "API-get-self"),
        ("context7", "resolve-library-id"),
        ("git", "git_status"),
        ("fetch", "fetch"),
        ("time", "get_current_time"),
    ];
    let mut answered = Map::new();
    for (server, tool) in chosen {
        let known = shown[server].iter().find(|known| known["name"] == tool);
        let known = known.with_context(|| format!("{server} has no {tool}"))?;
        let mut arguments = athena_schemas::surface::json_schema::example(&known["inputSchema"]);
        for (name, value) in [
            ("repo_path", Value::from(dir.join("repository").to_string_lossy())),
            ("timezone", "UTC".into()),
            ("url", page.url(server).into()),
            ("action", "list".into()),
        ] {
            if let Some(argument) = arguments.get_mut(name) {
                *argument = value;
            }
        }
        let asked = format!("{} {}", server.replace('_', " "), known["description"].as_str().unwrap_or(tool));
        let words: String = asked.split_whitespace().take(12).collect::<Vec<_>>().join(" ");
        let found =
            front.call("search", &json!({"query": words, "in": "tools", "detail": "name", "limit": 20}))?;
        ensure!(
            found.contains(&format!("{server}/")),
            "search finds nothing of {server} by {words:?}: {found}"
        );
        let code = format!(
            "try {{ const said = await callMCPTool('{server}/{tool}', {arguments}); \
             return {{page: JSON.stringify(said).includes('{SAID}')}} }} catch (error) {{ return String(error) }}"
        );
        let answer = front.call("execute", &json!({ "code": code }))?;
        let answer: Value = serde_json::from_str(&approved(front, answer, athena)?)?;
        let by_itself = answer["value"].is_object();
        let error = answer["value"].as_str().unwrap_or_default();
        ensure!(by_itself || error.contains(&format!("{server}/{tool}")), "{server}/{tool}: {answer}");
        let visited = page.visited(server);
        let first = error.lines().take(3).collect::<Vec<_>>().join(" ");
        let outcome = match (by_itself, visited) {
            (true, true) => "answered, having been at the page",
            (true, false) => "answered",
            (false, _) => &first,
        };
        eprintln!("{server}/{tool}: {outcome}");
        let shows = answer["value"]["page"] == true;
        ensure!(
            !visited || !by_itself || shows || server != "fetch",
            "{server} was at the page and says nothing of it"
        );
        answered.insert(server.into(), by_itself.into());
    }
    let real = answered.values().filter(|by_itself| **by_itself == true).count();
    eprintln!("{real} of {} answered by themselves, the others with an error of their own", answered.len());
    Ok(answered.into())
}

/// A page on this machine, and who was there.
struct Page {
    address: SocketAddr,
    visited: Arc<Mutex<BTreeSet<String>>>,
}

impl Page {
    fn open() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let page = Self { address: listener.local_addr()?, visited: Arc::default() };
        let visited = page.visited.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let visited = visited.clone();
                std::thread::spawn(move || show(&stream, &visited));
            }
        });
        Ok(page)
    }

    /// The page of one server, by a name: an address is a value that models and servers see a token of.
    fn url(&self, server: &str) -> String {
        format!("http://localhost:{}/{server}", self.address.port())
    }

    fn visited(&self, server: &str) -> bool {
        self.visited.lock().unwrap_or_else(PoisonError::into_inner).contains(&format!("/{server}"))
    }
}

/// One request, answered.
fn show(mut stream: &TcpStream, visited: &Mutex<BTreeSet<String>>) {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let Some(path) = lines.next().and_then(|line| line.split(' ').nth(1).map(str::to_owned)) else { return };
    // To the end of the head: what is not read makes the end of the connection look like a failure.
    while lines.next().is_some_and(|line| !line.is_empty()) {}
    let page = format!("<html><head><title>A page</title></head><body><p>{SAID}</p></body></html>");
    let (status, body) = match path.as_str() {
        "/robots.txt" | "/favicon.ico" => ("404 Not Found", String::new()),
        _ => ("200 OK", page),
    };
    visited.lock().unwrap_or_else(PoisonError::into_inner).insert(path);
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let _ = stream.write_all(format!("{head}{body}").as_bytes());
}
