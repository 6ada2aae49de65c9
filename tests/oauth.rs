//! `athena upstream auth`: access granted in a browser, kept in the vault, renewed by itself.

use crate::support::{Store, files, text};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A guarded server and its authorization server.
struct Guarded {
    child: Child,
    port: u16,
    folder: tempfile::TempDir,
}

impl Guarded {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/oauth.py");
        let mut child =
            Command::new("python3").arg(script).arg(folder.path()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { child, port: line.trim().parse().unwrap(), folder }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/mcp", self.port)
    }

    fn grants(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.folder.path().join("grants")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn flag(&self, name: &str) {
        std::fs::write(self.folder.path().join(name), "").unwrap();
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a browser does: opens an address, follows where it is sent. Answers the last page.
fn browse(address: &str) -> String {
    let rest = address.strip_prefix("http://").unwrap();
    let (host, path) = rest.split_once('/').unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    write!(stream, "GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let sent =
        answer.lines().find_map(|line| line.strip_prefix("Location: ").map(str::trim).map(str::to_owned));
    sent.map_or(answer, |next| browse(&next))
}

/// Runs `upstream auth` and plays the person in the browser.
fn grant(store: &Store, server: &str) -> (bool, String) {
    let mut command = store.command(&["--json", "upstream", "auth", server, "--no-browser"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap());
    let mut heard = String::new();
    let address = loop {
        let mut line = String::new();
        assert!(said.read_line(&mut line).unwrap() > 0, "no address was said: {heard}");
        heard.push_str(&line);
        if let Some(at) = line.find("http://") {
            break line.get(at..).unwrap().trim().to_owned();
        }
    };
    let page = browse(&address);
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
    let output = child.wait_with_output().unwrap();
    said.read_to_string(&mut heard).unwrap();
    (output.status.success(), heard + &text(&output.stdout))
}

fn whoami(store: &Store) -> Value {
    store.json(&["upstream", "test", "guarded", "whoami"])
}

#[test]
fn access_is_granted_once_kept_in_the_vault_and_renewed() {
    let (store, guarded) = (Store::new(), Guarded::start());
    store.json(&["upstream", "add", "guarded", "--url", &guarded.url()]);
    let refused = store.run(&["upstream", "test", "guarded"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("athena upstream auth guarded"), "{}", text(&refused.stderr));

    let (granted, said) = grant(&store, "guarded");
    assert!(granted, "{said}");
    assert_eq!(whoami(&store)["answer"]["content"], "a friend");
    assert_eq!(guarded.grants(), ["authorization_code"]);

    // The server forgets every token: the next call renews without asking anybody.
    guarded.flag("revoke");
    assert_eq!(whoami(&store)["answer"]["content"], "a friend");
    assert_eq!(guarded.grants(), ["authorization_code", "refresh_token"]);

    // And so it does after a restart of everything.
    store.run(&["daemon", "stop"]);
    guarded.flag("revoke");
    assert_eq!(whoami(&store)["answer"]["content"], "a friend");
    assert_eq!(guarded.grants().len(), 3);

    store.run(&["daemon", "stop"]);
    let secrets = std::fs::read_to_string(guarded.folder.path().join("secrets")).unwrap();
    for file in files(&store.path()) {
        let bytes = std::fs::read(&file).unwrap_or_default();
        for secret in secrets.lines() {
            let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "{secret} lies open in {}", file.display());
        }
    }

    // What cannot be renewed says what a person must do.
    guarded.flag("no_refresh");
    guarded.flag("revoke");
    let refused = store.run(&["upstream", "test", "guarded", "whoami"]);
    assert!(text(&refused.stderr).contains("athena upstream auth guarded"), "{}", text(&refused.stderr));
}

#[test]
fn the_secret_of_a_client_that_was_registered_on_the_way_lies_in_the_vault_and_renews() {
    let (store, guarded) = (Store::new(), Guarded::start());
    guarded.flag("confidential");
    store.json(&["upstream", "add", "guarded", "--url", &guarded.url()]);
    let (granted, said) = grant(&store, "guarded");
    assert!(granted, "{said}");
    assert_eq!(whoami(&store)["answer"]["content"], "a friend");
    // Everything starts anew: what renews the access is what lies in the vault.
    store.run(&["daemon", "stop"]);
    guarded.flag("revoke");
    assert_eq!(whoami(&store)["answer"]["content"], "a friend");
    assert_eq!(guarded.grants(), ["authorization_code", "refresh_token"]);
    store.run(&["daemon", "stop"]);
    let secrets = std::fs::read_to_string(guarded.folder.path().join("secrets")).unwrap();
    assert!(secrets.contains("client-secret-"), "{secrets}");
    for file in files(&store.path()) {
        let bytes = std::fs::read(&file).unwrap_or_default();
        let open =
            secrets.lines().find(|secret| bytes.windows(secret.len()).any(|part| part == secret.as_bytes()));
        assert_eq!(open, None, "it lies open in {}", file.display());
    }
}

#[test]
fn an_answer_to_another_question_grants_nothing() {
    let (store, guarded) = (Store::new(), Guarded::start());
    store.json(&["upstream", "add", "guarded", "--url", &guarded.url()]);
    let begin = store.json(&[
        "call",
        "upstream/begin_auth",
        r#"{"server": "guarded", "redirect": "http://127.0.0.1:9/callback"}"#,
    ]);
    assert!(begin["address"].as_str().unwrap().contains("code_challenge="), "{begin}");
    let forged = r#"{"server": "guarded", "callback": "http://127.0.0.1:9/callback?code=x&state=forged"}"#;
    assert!(!store.run(&["call", "upstream/finish_auth", forged]).status.success());
    assert!(!store.run(&["call", "upstream/finish_auth", forged]).status.success(), "and it waits no longer");
    assert!(guarded.grants().is_empty());
}
