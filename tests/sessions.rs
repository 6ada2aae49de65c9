//! Sessions of MCP over HTTP, as the owner of all connections knows them: each is one of its own, counted, listed and ended for
//! itself.

use crate::daemon::{Double, daemon, options};
use crate::support::{Http, Mcp, Store, text, until};
use athena::daemon::server::Options;
use serde_json::{Value, json};
use std::sync::Arc;

/// A session of one client.
struct Session<'a> {
    http: &'a Http,
    id: String,
}

impl<'a> Session<'a> {
    fn of(http: &'a Http, name: &str) -> Result<Self, Value> {
        let heard = http.post(&Http::hello_of(name), &[]);
        let answer = heard.message();
        match answer.get("error") {
            Some(error) => Err(error.clone()),
            None => {
                Ok(Self { http, id: heard.header("mcp-session-id").expect("the session's id").to_owned() })
            }
        }
    }

    fn ask(&self, method: &str, message: &Value) -> crate::support::Heard {
        let (host, bearer) = (self.http.address.to_string(), format!("Bearer {}", self.http.token));
        let headers = [
            ("Host", host.as_str()),
            ("Authorization", &bearer),
            ("Content-Type", "application/json"),
            ("Accept", "application/json, text/event-stream"),
            ("Mcp-Session-Id", &self.id),
            ("Mcp-Protocol-Version", "2025-11-25"),
        ];
        let body = if message.is_null() { String::new() } else { message.to_string() };
        self.http.ask(method, "/mcp", &headers, &body)
    }

    fn call(&self, id: u64, tool: &str, arguments: Value) -> Value {
        let params = json!({"name": tool, "arguments": arguments});
        let heard =
            self.ask("POST", &json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params}));
        assert_eq!(heard.status, 200, "{}\n{}", heard.head, heard.body);
        heard.message()
    }

    /// Whether the session is still there.
    fn lives(&self) -> bool {
        self.ask("POST", &json!({"jsonrpc": "2.0", "id": 9, "method": "ping"})).status == 200
    }

    fn end(self) {
        assert!(self.ask("DELETE", &Value::Null).status < 300);
    }
}

/// The sessions that the daemon lists, by who asks over them.
fn listed(store: &Store) -> Vec<Value> {
    let status = store.json(&["daemon", "status"]);
    let mut rows = status["status"]["connections"].as_array().cloned().unwrap_or_default();
    rows.retain(|row| row["mode"] == "http");
    rows.sort_by_key(|row| row["principal"].to_string());
    rows
}

#[test]
fn each_session_is_a_connection_of_its_own_and_ends_for_itself() {
    let store = Store::new();
    let http = Http::with(&store, &["--profile", "code"]);
    let (one, two) = (Session::of(&http, "one").unwrap(), Session::of(&http, "two").unwrap());
    let rows = listed(&store);
    let [first, second] = &rows[..] else { panic!("{rows:?}") };
    assert_eq!(
        (&first["principal"], &second["principal"]),
        (&json!("agent/mcp/one"), &json!("agent/mcp/two"))
    );
    for row in [first, second] {
        let said = (&row["client"], &row["profile"], &row["protocol"]);
        assert_eq!(said, (&json!("http"), &json!("code"), &json!("2025-11-25")), "{row}");
    }
    let code = "await athena.episodic.remember({content: 'the kettle is blue'}); return 1";
    let answer = one.call(1, "execute", json!({ "code": code }));
    assert_eq!(answer["result"]["structuredContent"]["value"], 1, "{answer}");
    assert_eq!((&listed(&store)[0]["requests"], &listed(&store)[1]["requests"]), (&json!(1), &json!(0)));
    // What was done over it is its client's in the log.
    let events = store.events(Some("episodic.remembered"));
    let by: Vec<&Value> = events.iter().map(|event| &event["actor"]["name"]).collect();
    assert!(!events.is_empty() && by.iter().all(|name| *name == "one"), "{events:?}");

    let id = one.id.clone();
    one.end();
    until("an ended session stays listed", || listed(&store).len() == 1);
    assert!(!Session { http: &http, id }.lives());
    let answer = two.call(1, "execute", json!({"code": "return 2"}));
    assert_eq!(answer["result"]["structuredContent"]["value"], 2, "{answer}");
    assert!(two.lives());

    // The server goes, and with it what it held.
    drop(http);
    until("sessions outlive their server", || listed(&store).is_empty());
}

#[test]
fn a_session_that_says_nothing_ends() {
    let store = Store::new();
    let http = Http::with(&store, &["--session-idle", "1"]);
    let idle = Session::of(&http, "idle").unwrap();
    until("a session that says nothing stays", || listed(&store).is_empty());
    assert!(!idle.lives());
    assert!(Session::of(&http, "next").unwrap().lives());
}

#[test]
fn sessions_and_other_clients_share_one_limit() {
    let store = Store::new();
    std::fs::create_dir_all(store.path()).unwrap();
    std::fs::write(store.path().join("config.toml"), "[daemon]\nclients_max = 3\n").unwrap();
    let http = Http::start(&store);
    let mut stdio = Mcp::start(&store);
    assert_eq!(stdio.call("execute", json!({"code": "return 1"}))["value"], 1);
    let (one, two) = (Session::of(&http, "one").unwrap(), Session::of(&http, "two").unwrap());
    let Err(refused) = Session::of(&http, "three") else { panic!("one too many") };
    let words = refused["message"].as_str().unwrap();
    assert!(
        words.contains("as many clients as the daemon takes") && words.contains("clients_max"),
        "{words}"
    );
    assert!(one.lives() && two.lives());
    two.end();
    until("the place of an ended session stays taken", || Session::of(&http, "three").is_ok());
}

/// A daemon whose store panics on demand, in this process; the HTTP front before it is the program's.
#[test]
fn a_panic_over_one_session_is_its_answer_and_the_other_goes_on() {
    let store = Store::new();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let folder = store.path().parent().unwrap().to_owned();
    let double: Arc<Double> = Arc::default();
    let few = Options { clients_max: 8, ..options() };
    let running = runtime.block_on(daemon(&folder, few, double));
    let http = Http::start(&store);
    let (broken, sound) = (Session::of(&http, "broken").unwrap(), Session::of(&http, "sound").unwrap());
    let answer = broken.call(1, "remember", json!({"content": "a defect"}));
    let words = answer.to_string();
    assert!(words.contains("a defect of Athena ended the"), "{words}");
    for (session, id) in [(&sound, 1), (&broken, 2)] {
        let answer = session.call(id, "remember", json!({"content": "a note"}));
        assert_eq!(answer["result"]["structuredContent"]["did"]["content"], "a note", "{answer}");
    }
    let status = text(&store.run(&["daemon", "status"]).stdout);
    assert!(status.contains("1 panics") && status.contains("agent/mcp/sound"), "{status}");
    running.abort();
}

#[test]
fn an_operator_s_tools_answer_over_http_as_they_do_over_stdio() {
    let store = Store::new();
    let http = Http::with(&store, &["--profile", "admin"]);
    let session = Session::of(&http, "operator").unwrap();
    for (id, tool) in [(1, "approve_status"), (2, "privacy_stats")] {
        let answer = session.call(id, tool, json!({}));
        assert!(answer["result"]["isError"] != true && answer["error"].is_null(), "{tool}: {answer}");
    }
    // What no front offers stays a person's.
    let code = "return await callMCPTool('approvals/list', {})";
    let answer = session.call(3, "execute", json!({ "code": code }));
    assert!(answer["result"]["structuredContent"]["status"] != "completed", "{answer}");
}
