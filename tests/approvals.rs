//! A person is asked: through the client where it can, in either era of the protocol, else at the command line. What is asked is
//! what runs, once.

use crate::support::{Mcp, Mirror, Store};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Code that needs a person's yes for what it names, and does nothing with it.
fn risky(n: u32) -> Value {
    json!({"code": format!("const never = () => fetch('http://example.com/{n}'); return 'went on {n}';")})
}

fn yes() -> Value {
    json!({"action": "accept", "content": {"decision": "approve"}})
}

#[test]
fn t08_a_yes_through_the_client_lets_the_run_go_on_within_the_call() {
    let store = Store::new();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let heard = asked.clone();
    let mut mcp = Mcp::with_person(&store, move |question| {
        heard.lock().unwrap().push(question.clone());
        yes()
    });
    let ran = mcp.call("execute", risky(1));
    assert_eq!((&ran["status"], &ran["value"]), (&json!("completed"), &json!("went on 1")), "{ran}");
    let asked = asked.lock().unwrap();
    let [question] = asked.as_slice() else { panic!("asked {} times", asked.len()) };
    let message = question["message"].as_str().unwrap();
    assert!(message.contains("fetch('http://example.com/1')") && message.contains("HIGH"), "{message}");
    assert_eq!(question["requestedSchema"]["properties"]["decision"]["enum"], json!(["approve", "deny"]));
}

#[test]
fn t08_a_no_reaches_the_agent_with_its_reason() {
    let store = Store::new();
    let no = json!({"action": "accept", "content": {"decision": "deny", "reason": "wrong repository"}});
    let mut mcp = Mcp::with_person(&store, move |_| no.clone());
    let ran = mcp.call("execute", risky(1));
    assert_eq!(ran["status"], "denied", "{ran}");
    assert!(ran["error"]["message"].as_str().unwrap().contains("wrong repository"), "{ran}");
}

#[test]
fn t08_a_client_that_declines_by_itself_leaves_the_question_to_the_command_line() {
    let store = Store::new();
    let mut mcp = Mcp::with_person(&store, |_| json!({"action": "decline"}));
    // On a machine under load an answer may take as long as a person's: one of several must be seen for what it is.
    let waits =
        (0..20).map(|n| mcp.call("execute", risky(n))).find(|ran| ran["status"] == "approval_required");
    let waits = waits.expect("a decline within no time is no person's");
    store.json(&["approve", waits["approval"].as_str().unwrap()]);
    let ran = mcp.call("execute", json!({"run": waits["run"]}));
    assert_eq!(ran["status"], "completed", "{ran}");
    let again = mcp.call("execute", json!({"run": waits["run"]}));
    assert_eq!(again["value"], ran["value"], "a run that is over is not run again: {again}");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the time itself is what tells a person from a program")]
fn t08_a_person_who_takes_the_time_to_decline_has_declined() {
    let store = Store::new();
    let mut mcp = Mcp::with_person(&store, |_| {
        // As long as reading takes: this is what tells a person from a program.
        std::thread::sleep(Duration::from_millis(400));
        json!({"action": "decline"})
    });
    assert_eq!(mcp.call("execute", risky(1))["status"], "denied");
}

#[test]
fn t08_a_client_that_cannot_ask_gets_the_way_to_ask() {
    let store = Store::new();
    let mut mcp = Mcp::start(&store);
    let waits = mcp.call("execute", risky(1));
    assert_eq!(waits["status"], "approval_required");
    assert!(waits["error"]["try"].as_str().unwrap().contains("athena approve"), "{waits}");
    assert_eq!(mcp.call("execute", json!({"run": waits["run"]}))["status"], "approval_required");
}

/// A person says no to a call while no daemon runs that remembers it: the code hears the no, and is not asked about again.
#[test]
fn t08_a_no_to_a_call_is_heard_by_the_code_whichever_daemon_goes_on() {
    let store = Store::new();
    let mirror = Mirror::behind(&store, "desk", &[("delete_everything", json!({}))]);
    let code = "const no = []; for (let i = 0; i < 2; i++) { try { await callMCPTool(input.next, {}) } \
                catch (e) { no.push(e.message) } } return no";
    let params = json!({"code": code, "language": "js", "input": {"next": "desk/delete_everything"}});
    let waits = store.calls(&[json!({"op": "run/execute", "params": params})]).remove(0)["result"].clone();
    assert_eq!(waits["status"], "approval_required", "{waits}");
    store.kill_daemon();
    store.json(&["deny", waits["approval"].as_str().unwrap(), "--reason", "not on a Friday"]);
    store.kill_daemon();
    let resume = json!({"op": "run/resume", "params": {"run": waits["run"]}});
    let done = store.calls(&[resume]).remove(0)["result"].clone();
    assert_eq!(done["status"], "completed", "{done}");
    let heard = done["value"].as_array().unwrap();
    assert!(
        heard.len() == 2 && heard.iter().all(|no| no.as_str().unwrap().contains("not on a Friday")),
        "{done}"
    );
    assert!(mirror.book().is_empty());
}

/// A call in the newer era: everything it needs is in the request.
fn modern(arguments: Value, more: &Value) -> Value {
    let mut params = json!({"name": "execute", "arguments": arguments, "_meta": {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "modern", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {"elicitation": {"form": {}}},
    }});
    let fields = params.as_object_mut().unwrap();
    fields.extend(more.as_object().into_iter().flatten().map(|(key, value)| (key.clone(), value.clone())));
    params
}

#[test]
fn t08_in_the_newer_era_the_call_answers_with_the_question_and_the_retry_goes_on() {
    let store = Store::new();
    let start = |store: &Store| Mcp::bare(store.command(&["serve"]).stderr(std::process::Stdio::null()));
    let mut mcp = start(&store);
    let asked = mcp.ask("tools/call", modern(risky(1), &json!({})));
    let asked = &asked["result"];
    assert_eq!(asked["resultType"], "input_required", "{asked}");
    let question = &asked["inputRequests"]["approval"];
    assert_eq!(question["method"], "elicitation/create", "{asked}");
    let state = asked["requestState"].as_str().unwrap();

    let answers = json!({"approval": yes()});
    // Another first character: the last one of the encoding may stand for fewer bits, and be the same.
    let forged = format!("{}{}", if state.starts_with('A') { 'B' } else { 'A' }, state.get(1..).unwrap());
    let refused =
        mcp.ask("tools/call", modern(risky(1), &json!({"requestState": forged, "inputResponses": answers})));
    assert!(refused["error"]["message"].as_str().unwrap().contains("not what was sealed"), "{refused}");
    // Without an answer it is asked again, and nothing has run.
    let again = mcp.ask("tools/call", modern(risky(1), &json!({"requestState": state})));
    assert_eq!(again["result"]["resultType"], "input_required", "{again}");

    // The state outlives the daemon and the connection.
    drop(mcp);
    store.run(&["daemon", "stop"]);
    let mut mcp = start(&store);
    let done =
        mcp.ask("tools/call", modern(risky(1), &json!({"requestState": state, "inputResponses": answers})));
    assert_eq!(done["result"]["structuredContent"]["value"], "went on 1", "{done}");
}

#[test]
fn a_resource_that_changes_is_told_to_who_subscribed() {
    let store = Store::new();
    let mut mcp = Mcp::start(&store);
    let id =
        mcp.call("remember", json!({"content": "the kettle is blue", "layer": "semantic"}))["id"].clone();
    let uri = format!("athena://memory/{}", id.as_str().unwrap());
    let before = mcp.ask("resources/read", json!({"uri": uri}));
    let subscribed = mcp.ask("resources/subscribe", json!({"uri": uri}));
    assert!(subscribed.get("error").is_none(), "{subscribed}");
    let code = format!("return await athena.semantic.reinforce({{id: {id}, delta: 1}});");
    let ran = mcp.call("execute", json!({"code": code}));
    assert_eq!(ran["status"], "completed", "{ran}");
    assert_eq!(mcp.told("notifications/resources/updated")["uri"], uri);
    let read = mcp.ask("resources/read", json!({"uri": uri}));
    assert_ne!(read["result"], before["result"]);
    let run = format!("athena://run/{}", ran["run"].as_str().unwrap());
    let read = mcp.ask("resources/read", json!({"uri": run}));
    assert!(read["result"]["contents"][0]["text"].as_str().unwrap().contains("semantic/reinforce"), "{read}");
    assert!(mcp.ask("resources/subscribe", json!({"uri": "athena://memory/fa_none"})).get("error").is_some());
}

#[test]
fn procedures_are_skills_of_the_front() {
    let store = Store::new();
    let mut mcp = Mcp::start(&store);
    let code = r#"return await athena.procedural.learn({name: "boil_water", description: "Boils water", code: "return 100;", language: "ts"});"#;
    let ran = mcp.call("execute", json!({"code": code}));
    assert_eq!(ran["status"], "completed", "{ran}");
    let skills = mcp.ask("skills/list", json!({}));
    let skill = &skills["result"]["skills"][0];
    assert_eq!(skill["uri"], "skill://boil-water/SKILL.md", "{skills}");
    let read = mcp.ask("resources/read", json!({"uri": skill["uri"]}));
    assert!(
        read["result"]["contents"][0]["text"].as_str().unwrap().starts_with("---\nname: boil-water\n"),
        "{read}"
    );
    let one = mcp.ask("skills/get", json!({"uri": skill["uri"]}));
    assert_eq!(&one["result"]["skill"], skill);
}

#[test]
fn an_operators_profile_reads_and_answers_nothing() {
    let store = Store::new();
    let mut mcp =
        Mcp::with(store.command(&["serve", "--profile", "admin"]).stderr(std::process::Stdio::null()));
    let waits = mcp.call("execute", risky(1));
    let listed = mcp.call("approve_status", json!({}));
    assert_eq!(listed["approvals"][0]["id"], waits["approval"], "{listed}");
    assert_eq!(mcp.call("audit", json!({"limit": 5}))["runs"][0]["run"], waits["run"]);
    assert!(mcp.call("privacy_stats", json!({}))["total"].is_u64());
    let code = format!("return await callMCPTool('approval/grant', {{id: {}}})", waits["approval"]);
    assert_ne!(mcp.call("execute", json!({"code": code}))["status"], "completed");

    let mut older =
        Mcp::with(store.command(&["serve", "--profile", "legacy"]).stderr(std::process::Stdio::null()));
    let answer = older
        .ask("tools/call", json!({"name": "execute_memory_code", "arguments": {"code": "return 41 + 1"}}));
    assert_eq!(answer["result"]["structuredContent"]["value"], 42, "{answer}");
    assert_eq!(answer["result"]["_meta"]["deprecated"]["replacement"], "the tool execute");
    let kept = older.call("remember_semantic", json!({"fact": "the kettle is blue"}));
    assert!(kept["id"].is_string(), "{kept}");
}
