//! An MCP client over stdio, relayed to the daemon, which may die under it.
//!
//! The relay remembers what a new daemon must be told (the `initialize` request, subscriptions) and which requests are not
//! answered. When the daemon is gone it attaches anew, says the former again and swallows the answers, and sends the latter
//! again: under the same front id and JSON-RPC id they are the same commands, so nothing doubles.

use super::attach::{Attach, Attached};
use super::lines::{Line, Lines, REQUEST_MAX, write_line};
use super::protocol::Hello;
use athena_schemas::refusal::Refusal;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::{BTreeMap, HashSet};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

/// Requests that may be unanswered at once; more are not read until one is answered.
const OUTSTANDING_MAX: usize = 1_024;
/// Daemons that may die in a row without one answer before the relay gives up.
const DEATHS_MAX: u32 = 5;

/// What is read of a JSON-RPC message; the rest passes through untouched.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    method: Option<std::borrow::Cow<'a, str>>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
}

/// What a new daemon must be told.
#[derive(Default)]
struct Memory {
    /// The `initialize` request and its id.
    initialize: Option<(String, Vec<u8>)>,
    /// Whether `notifications/initialized` was sent.
    initialized: bool,
    /// `resources/subscribe` and `logging/setLevel` requests, by what they are about.
    settings: BTreeMap<String, (String, Vec<u8>)>,
    /// Requests without an answer, in order, with their ids.
    outstanding: Vec<(String, Vec<u8>)>,
    /// Ids of answers that the client must not see, because it has seen them.
    swallow: HashSet<String>,
    /// Ids of requests the dead daemon made of the client.
    asked: HashSet<String>,
    /// Ids of such requests that no living daemon waits for.
    stale: HashSet<String>,
}

/// Relays until the client closes its end.
///
/// # Errors
/// When no daemon can be had. Every request that is not answered has then been answered with the refusal.
pub async fn run<R, W>(attach: &Attach, hello: &Hello, input: R, mut output: W) -> Result<(), Refusal>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut client = Lines::new(input, REQUEST_MAX);
    let mut memory = Memory::default();
    let mut deaths = 0;
    loop {
        let attached = attach.connect(hello).await;
        let Attached { lines, mut out, .. } = match attached {
            Ok(attached) if deaths < DEATHS_MAX => attached,
            Ok(_) => return give_up(&memory, &mut output, dying()).await,
            Err(refusal) => return give_up(&memory, &mut output, refusal).await,
        };
        if memory.tell_again(&mut out).await.is_err() {
            deaths += 1;
            continue;
        }
        match relay(&mut client, &mut output, lines, out, &mut memory, &mut deaths).await {
            End::Client => return Ok(()),
            End::Daemon => {
                deaths += 1;
                memory.daemon_died(&mut output).await;
            }
        }
    }
}

/// Which side ended.
enum End {
    Client,
    Daemon,
}

/// Relays between one client and one daemon until either ends.
async fn relay<R, W>(
    client: &mut Lines<R>,
    output: &mut W,
    mut daemon: Lines<OwnedReadHalf>,
    mut out: OwnedWriteHalf,
    memory: &mut Memory,
    deaths: &mut u32,
) -> End
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    loop {
        tokio::select! {
            line = client.next(), if memory.outstanding.len() < OUTSTANDING_MAX => match line {
                Ok(Line::Text(text)) => {
                    if memory.client_said(&text) && write_line(&mut out, &text).await.is_err() {
                        return End::Daemon;
                    }
                }
                Ok(Line::TooLong) => {
                    let text = error_line("null", -32600, "a message is at most 16 MiB");
                    if write_line(output, text.as_bytes()).await.is_err() {
                        return End::Client;
                    }
                }
                Ok(Line::End) | Err(_) => return drained(daemon, output, memory).await,
            },
            line = daemon.next() => match line {
                Ok(Line::Text(text)) => {
                    *deaths = 0;
                    if memory.daemon_said(&text) && write_line(output, &text).await.is_err() {
                        return End::Client;
                    }
                }
                Ok(Line::TooLong) => tracing::error!("an answer of more than 64 MiB was dropped"),
                Ok(Line::End) | Err(_) => return End::Daemon,
            },
        }
    }
}

/// The client has closed its end and may still read: what it asked before is answered.
async fn drained<W: AsyncWrite + Unpin>(
    mut daemon: Lines<OwnedReadHalf>,
    output: &mut W,
    memory: &mut Memory,
) -> End {
    let patience = std::time::Duration::from_secs(2);
    let rest = async {
        while !memory.outstanding.is_empty() {
            let Ok(Line::Text(text)) = daemon.next().await else { return };
            if memory.daemon_said(&text) && write_line(output, &text).await.is_err() {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(patience, rest).await;
    End::Client
}

impl Memory {
    /// Takes note of a message of the client; false where it must not reach the daemon.
    fn client_said(&mut self, text: &[u8]) -> bool {
        let Ok(message) = serde_json::from_slice::<Envelope<'_>>(text) else { return true };
        let id = message.id.map(|id| id.get().to_owned());
        match (id, message.method.as_deref()) {
            (Some(id), Some(method)) => {
                if method == "initialize" {
                    self.initialize = Some((id.clone(), text.to_vec()));
                }
                let about = message.params.map(RawValue::get).unwrap_or_default();
                match method {
                    "resources/subscribe" => {
                        self.settings.insert(about.to_owned(), (id.clone(), text.to_vec()));
                    }
                    "resources/unsubscribe" => {
                        self.settings.remove(about);
                    }
                    "logging/setLevel" => {
                        self.settings.insert(method.to_owned(), (id.clone(), text.to_vec()));
                    }
                    _ => {}
                }
                self.outstanding.push((id, text.to_vec()));
                true
            }
            // An answer to the daemon.
            (Some(id), None) => {
                self.asked.remove(&id);
                !self.stale.remove(&id)
            }
            (None, Some("notifications/initialized")) => {
                self.initialized = true;
                true
            }
            (None, Some("notifications/cancelled")) => {
                if let Some(id) = message.params.and_then(cancelled) {
                    self.answered(&id);
                }
                true
            }
            _ => true,
        }
    }

    /// Takes note of a message of the daemon; false where the client must not see it.
    fn daemon_said(&mut self, text: &[u8]) -> bool {
        let Ok(message) = serde_json::from_slice::<Envelope<'_>>(text) else { return false };
        let Some(id) = message.id.map(|id| id.get().to_owned()) else { return true };
        if message.method.is_some() {
            self.stale.remove(&id);
            self.asked.insert(id);
            return true;
        }
        self.answered(&id);
        !self.swallow.remove(&id)
    }

    fn answered(&mut self, id: &str) {
        self.outstanding.retain(|(waiting, _)| waiting != id);
    }

    /// Tells a new daemon what the old one knew.
    async fn tell_again(&mut self, out: &mut OwnedWriteHalf) -> std::io::Result<()> {
        let unanswered: HashSet<&String> = self.outstanding.iter().map(|(id, _)| id).collect();
        let mut known = Vec::new();
        for (id, text) in self.initialize.iter().chain(self.settings.values()) {
            if !unanswered.contains(id) {
                known.push((id.clone(), text.clone()));
            }
        }
        for (at, (id, text)) in known.into_iter().enumerate() {
            self.swallow.insert(id);
            write_line(out, &text).await?;
            if at == 0 && self.initialized {
                write_line(out, br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).await?;
            }
        }
        for (_, text) in &self.outstanding {
            write_line(out, text).await?;
        }
        Ok(())
    }

    /// Tells the client that what the dead daemon asked of it is void.
    async fn daemon_died<W: AsyncWrite + Unpin>(&mut self, output: &mut W) {
        tracing::info!(unanswered = self.outstanding.len(), "the daemon ended; attaching anew");
        self.swallow.clear();
        for id in std::mem::take(&mut self.asked) {
            let text = format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id},"reason":"the daemon was restarted"}}}}"#
            );
            let _ = write_line(output, text.as_bytes()).await;
            self.stale.insert(id);
        }
    }
}

/// The id, as text, that a cancellation names.
fn cancelled(params: &RawValue) -> Option<String> {
    #[derive(Deserialize)]
    struct Params<'a> {
        #[serde(rename = "requestId", borrow)]
        id: Option<&'a RawValue>,
    }
    serde_json::from_str::<Params<'_>>(params.get()).ok()?.id.map(|id| id.get().to_owned())
}

async fn give_up<W: AsyncWrite + Unpin>(
    memory: &Memory,
    output: &mut W,
    refusal: Refusal,
) -> Result<(), Refusal> {
    for (id, _) in &memory.outstanding {
        let text = error_line(id, -32603, &refusal.to_string());
        if write_line(output, text.as_bytes()).await.is_err() {
            break;
        }
    }
    Err(refusal)
}

fn error_line(id: &str, code: i32, message: &str) -> String {
    let message = serde_json::Value::from(message);
    format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{code},"message":{message}}}}}"#)
}

fn dying() -> Refusal {
    let message = format!("{DEATHS_MAX} daemons in a row died without an answer");
    Refusal::new(athena_schemas::refusal::Code::Unavailable, message)
        .hint("athena doctor; see its daemon.log")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(memory: &Memory) -> Vec<&str> {
        memory.outstanding.iter().map(|(id, _)| id.as_str()).collect()
    }

    #[test]
    fn requests_wait_until_they_are_answered_or_cancelled() {
        let mut memory = Memory::default();
        assert!(memory.client_said(br#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}"#));
        assert!(memory.client_said(br#"{"jsonrpc":"2.0","id":"a","method":"tools/call","params":{}}"#));
        assert!(memory.client_said(br#"{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{}}"#));
        assert_eq!(ids(&memory), ["1", "\"a\"", "3"]);
        assert!(memory.daemon_said(br#"{"jsonrpc":"2.0","id":1,"result":{}}"#));
        assert!(memory.client_said(
            br#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"a"}}"#
        ));
        assert_eq!(ids(&memory), ["3"]);
        assert!(memory.initialize.is_some());
    }

    #[test]
    fn what_a_dead_daemon_asked_is_void_and_its_late_answer_goes_nowhere() {
        let mut memory = Memory::default();
        assert!(memory.daemon_said(br#"{"jsonrpc":"2.0","id":0,"method":"elicitation/create","params":{}}"#));
        memory.stale = std::mem::take(&mut memory.asked);
        assert!(!memory.client_said(br#"{"jsonrpc":"2.0","id":0,"result":{"action":"accept"}}"#));
        assert!(memory.client_said(br#"{"jsonrpc":"2.0","id":0,"result":{"action":"accept"}}"#));
    }

    #[test]
    fn the_answer_to_a_repeated_initialize_is_swallowed_once() {
        let mut memory = Memory::default();
        memory.swallow.insert("1".into());
        assert!(!memory.daemon_said(br#"{"jsonrpc":"2.0","id":1,"result":{}}"#));
        assert!(memory.daemon_said(br#"{"jsonrpc":"2.0","id":1,"result":{}}"#));
    }
}
