//! An MCP client over stdio that does nothing but ask, one question at a time: the same for Athena and for its peers.

use anyhow::{Context as _, anyhow, bail, ensure};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// A server that was started and greeted. Dropping it ends the server.
pub(crate) struct Client {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    next: u64,
    /// What it answered to the greeting.
    pub(crate) greeting: Value,
    /// From its start to that answer.
    pub(crate) took: Duration,
}

impl Client {
    /// Starts a program and greets it, in protocol 2025-11-25.
    pub(crate) fn start(mut command: Command) -> anyhow::Result<Self> {
        let begun = Instant::now();
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("{} cannot be started", command.get_program().display()))?;
        let input = child.stdin.take().context("no stdin")?;
        let output = BufReader::new(child.stdout.take().context("no stdout")?);
        let mut client = Self { child, input, output, next: 0, greeting: Value::Null, took: Duration::ZERO };
        let hello = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}});
        client.greeting = client.ask("initialize", &hello)?;
        client.took = begun.elapsed();
        client.say(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}))?;
        Ok(client)
    }

    /// The server's process.
    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    fn say(&mut self, message: &Value) -> anyhow::Result<()> {
        self.input.write_all(format!("{message}\n").as_bytes())?;
        Ok(self.input.flush()?)
    }

    /// A request and its result.
    pub(crate) fn ask(&mut self, method: &str, params: &Value) -> anyhow::Result<Value> {
        self.next += 1;
        let id = self.next;
        self.say(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}))?;
        loop {
            let mut line = String::new();
            if self.output.read_line(&mut line)? == 0 {
                bail!("the server ended before it answered {method}");
            }
            let Ok(mut message) = serde_json::from_str::<Value>(&line) else { continue };
            if message.get("method").is_some() {
                if let Some(theirs) = message.get("id") {
                    // Roots, sampling: nothing is given.
                    let error = json!({"code": -32601, "message": "not supported"});
                    self.say(&json!({"jsonrpc": "2.0", "id": theirs, "error": error}))?;
                }
                continue;
            }
            if message.get("id") == Some(&json!(id)) {
                let result = message.get_mut("result").map(Value::take);
                return result.ok_or_else(|| anyhow!("{method}: {message}"));
            }
        }
    }

    /// All tools, page by page.
    pub(crate) fn tools(&mut self) -> anyhow::Result<Vec<Value>> {
        let mut tools = Vec::new();
        let mut params = json!({});
        loop {
            let page = self.ask("tools/list", &params)?;
            tools.extend(page["tools"].as_array().into_iter().flatten().cloned());
            match page.get("nextCursor").filter(|cursor| !cursor.is_null()) {
                Some(cursor) => params = json!({ "cursor": cursor }),
                None => return Ok(tools),
            }
        }
    }

    /// What a model is shown of a tool's answer: its texts.
    pub(crate) fn call(&mut self, tool: &str, arguments: &Value) -> anyhow::Result<String> {
        let result = self.ask("tools/call", &json!({"name": tool, "arguments": arguments}))?;
        let texts =
            result["content"].as_array().into_iter().flatten().filter_map(|block| block["text"].as_str());
        Ok(texts.collect::<Vec<_>>().join("\n"))
    }

    /// Calls a tool that must succeed; the whole of what came back.
    pub(crate) fn done(&mut self, tool: &str, arguments: &Value) -> anyhow::Result<Value> {
        let result = self.ask("tools/call", &json!({"name": tool, "arguments": arguments}))?;
        ensure!(result["isError"] != json!(true), "{tool}: {result}");
        Ok(result)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
