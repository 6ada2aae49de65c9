//! What is said over the daemon's socket: a line of greeting each, then either MCP's own lines or calls.

use crate::mcp::Profile;
use athena_schemas::context::Scope;
use athena_schemas::envelope::Seq;
use athena_schemas::refusal::Refusal;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The version of this protocol. Two programs that differ in it do not talk, except to say so and to drain.
pub const PROTOCOL: u32 = 1;

/// The first line of a client.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// [`PROTOCOL`].
    pub athena: u32,
    /// The client's version: a daemon older than its client is asked to make place.
    pub version: String,
    /// What the connection is for.
    pub mode: Mode,
    /// What a request without a scope means; an agent also holds no more than this.
    #[serde(default)]
    pub scope: Scope,
    /// The program at the other end, for people: `cli`, `serve`, `http`.
    #[serde(default)]
    pub client: String,
}

/// What a connection is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// The lines that follow are MCP over stdio.
    Mcp {
        /// Random name of the front process: with a JSON-RPC id it is the key that makes a retry safe.
        front: String,
        /// Which tools are shown.
        profile: Profile,
    },
    /// The lines that follow are [`Call`]s by a person, answered by [`Reply`]s.
    Calls,
    /// The lines that follow are [`Call`]s for agents, each of which may name who asks, answered by [`Reply`]s: MCP over HTTP
    /// in the newer era, which knows no sessions.
    AgentCalls,
    /// The lines that follow are the [`Call`]s of one session of MCP over HTTP, answered by [`Reply`]s.
    HttpSession {
        /// The MCP client's name, as it says it.
        name: String,
        /// The version of MCP that it asked for.
        protocol: String,
        /// Which tools it is shown.
        profile: Profile,
    },
    /// Ask how it is; answered in the greeting alone.
    Status,
    /// Ask it to finish what it is doing and end.
    Drain,
}

/// The first line of the daemon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Welcome {
    /// [`PROTOCOL`].
    pub athena: u32,
    /// The daemon's version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Why the connection is not taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Refusal>,
    /// How it is, where that was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
}

/// How a daemon is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The store it serves.
    pub store: String,
    /// Connected clients, this one not counted.
    pub clients: usize,
    /// Calls under way.
    pub calls: usize,
    /// Seconds since it started.
    pub uptime_s: u64,
    /// Seconds without clients after which it ends.
    pub idle_s: u64,
    /// Whether the store is open, or still opening.
    pub open: bool,
    /// Resident memory of the process, bytes, where the system says.
    pub resident_bytes: Option<u64>,
    /// Its connections, oldest first; this one not among them.
    #[serde(default)]
    pub connections: Vec<Connected>,
    /// Connections taken since it started.
    #[serde(default)]
    pub accepted: u64,
    /// Connections turned away since it started, because there were too many.
    #[serde(default)]
    pub turned_away: u64,
    /// Panics caught in requests and connections since it started.
    #[serde(default)]
    pub panics: u64,
}

/// A connection as its owner knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connected {
    /// Its number, in the order they came.
    pub id: u64,
    /// What it is for: `mcp` (stdio), `http` (a session), `agent_calls` (HTTP without sessions) or `calls`.
    pub mode: String,
    /// Who asks over it, as the log names them.
    pub principal: String,
    /// The program at the other end: `cli`, `serve`, `http`.
    pub client: String,
    /// The project that is meant, where one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// Which tools it is shown, over MCP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<Profile>,
    /// The version of MCP that it speaks, once it has said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// Requests so far.
    pub requests: u64,
    /// Seconds since it came.
    pub age_s: u64,
}

/// One call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Call {
    /// Comes back in the reply.
    pub id: u64,
    /// `layer/operation`, `server/tool`, or one of the daemon's own (`log/…`).
    pub op: String,
    /// Its parameters.
    #[serde(default)]
    pub params: Value,
    /// Narrows the scope of the greeting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    /// Two calls of one caller with one key are one call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Answer as of this position.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_seq: Option<Seq>,
    /// The agent that asks, where it is another than the greeting's; agents' connections alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// Whether the front asks for the operator it serves: its read-only tools; agents' connections alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub operator: bool,
}

impl Call {
    /// A call of `op` with `params`.
    pub fn new(id: u64, op: impl Into<String>, params: Value) -> Self {
        Self { id, op: op.into(), params, scope: None, key: None, at_seq: None, agent: None, operator: false }
    }
}

/// Gives up a call by its id.
pub const CANCEL: &str = "$cancel";

/// One answer; a stream gives several, all but the last with `more`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// The call's.
    pub id: u64,
    /// Whether it is a result.
    pub ok: bool,
    /// The answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
    /// The refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Refusal>,
    /// The position of the last event recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<Seq>,
    /// Whether more follows.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
}

impl Reply {
    /// An answer.
    pub fn result(id: u64, result: Value, seq: Option<Seq>) -> Self {
        Self { id, ok: true, result: Some(result), error: None, seq, more: false }
    }

    /// A refusal.
    pub fn error(id: u64, error: Refusal) -> Self {
        Self { id, ok: false, result: None, error: Some(error), seq: None, more: false }
    }
}

/// Whether version `a` is newer than version `b`, by their leading numbers.
pub fn newer(a: &str, b: &str) -> bool {
    let numbers = |text: &str| -> Vec<u64> {
        text.split(['.', '-', '+']).map_while(|part| part.parse().ok()).collect()
    };
    numbers(a) > numbers(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_their_numbers() {
        assert!(newer("0.10.0", "0.9.3"));
        assert!(newer("1.0.0", "0.99.0"));
        assert!(!newer("0.1.0", "0.1.0"));
        assert!(!newer("garbage", "0.1.0"));
    }

    #[test]
    fn what_is_said_survives_the_wire() {
        let hello = Hello {
            athena: PROTOCOL,
            version: "1.2.3".into(),
            mode: Mode::Mcp { front: "f1".into(), profile: Profile::Default },
            scope: Scope::project("p"),
            client: "serve".into(),
        };
        let text = serde_json::to_string(&hello).unwrap();
        assert_eq!(serde_json::from_str::<Hello>(&text).unwrap(), hello);
        let reply = Reply::result(7, serde_json::json!({"a": 1}), Some(3));
        let text = serde_json::to_string(&reply).unwrap();
        assert_eq!(text, r#"{"id":7,"ok":true,"result":{"a":1},"seq":3}"#);
        assert_eq!(serde_json::from_str::<Reply>(&text).unwrap(), reply);
    }
}
