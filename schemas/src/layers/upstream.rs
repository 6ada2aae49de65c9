//! Upstreams: which other MCP servers there are, and what is pinned of their tools.
//!
//! A tool is pinned by the digest of its definition when it is first seen. When a known tool comes back with another
//! definition it is *held*: it cannot be called until a person has seen what changed and accepted it ("rug pull"). A tool whose
//! description tries to instruct the model is *flagged*: it can be called, but nobody is shown its description.
//!
//! The commands are the gateway's own; people use the services, which the gateway composes out of them.

use crate::operation::{Audience, Operation, Traits};
use crate::risk::Risk;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

crate::layer! {
    upstream {
        commands { enrol: Enrol, strike: Strike, observe: Observe, settle: Settle, note: Note, roster: Roster, entrust: Entrust, entrusted: Entrusted }
        queries { }
        services { list: List, tools: Tools, test: Test, add: Add, remove: Remove, accept: Accept, begin_auth: BeginAuth, finish_auth: FinishAuth }
    }
}

crate::events! {
    /// What happens to upstream servers and their tools.
    upstream {
        Added = 0x1301 "added" v 1 {},
        Removed = 0x1302 "removed" v 1 {},
        Pinned = 0x1303 "pinned" v 1 {},
        Quarantined = 0x1304 "quarantined" v 1 {},
        Accepted = 0x1305 "accepted" v 1 {},
        Vanished = 0x1306 "vanished" v 1 {},
        Failed = 0x1307 "failed" v 1 {},
        Declined = 0x1308 "declined" v 1 {},
        Granted = 0x1309 "granted" v 1 {},
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Configuration

/// What a server gets that asks a person something in the middle of a call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Questions {
    /// A no.
    #[default]
    Decline,
    /// What its form says is the default, where every answer it needs has one; else a no.
    Defaults,
}

impl Questions {
    fn is_default(&self) -> bool {
        *self == Self::Decline
    }
}

/// How a server is reached, as clients write it under `mcpServers`, with keys more: `reveal`, `timeout_ms`, `concurrency`,
/// `per_minute`, `tool_limits`, `questions`. Unknown keys are kept by whoever rewrites a file and ignored here.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Server {
    /// The program to start, for a server over stdio. No shell is involved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Its arguments, one by one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Its environment, beyond the few variables every program needs. `${NAME}` is replaced from Athena's environment.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Its working folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// Its address, for a server over streamable HTTP.
    #[serde(alias = "serverUrl", skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Headers of every request. `${NAME}` is replaced.
    #[serde(alias = "http_headers", skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Not started while true.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub disabled: bool,
    /// Argument paths at which the server gets real values instead of tokens: `to`, `message.recipients`, or `tool:path` for
    /// one tool only. None by default.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reveal: Vec<String>,
    /// How long a call may take, milliseconds. 60,000 unless said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Calls at once. 8 unless said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// Calls within a minute. 6,000 unless said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_minute: Option<u32>,
    /// Limits of single tools, by the names under which code calls them; narrower than the server's own, which hold as well.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tool_limits: BTreeMap<String, Limits>,
    /// What it gets that asks a person something. A no unless said; sampling and roots are never given.
    #[serde(skip_serializing_if = "Questions::is_default")]
    pub questions: Questions,
}

/// How much may be asked of one tool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Limits {
    /// How long a call may take, milliseconds; the server's where missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Calls at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// Calls within a minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_minute: Option<u32>,
}

/// A tool's definition as it was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Pin {
    /// The tool's safe name.
    pub tool: String,
    /// BLAKE3 of `definition`, in hex.
    pub digest: String,
    /// Name, description, schemas and annotations as canonical JSON (RFC 8785).
    pub definition: String,
    /// Why its description is not shown to models; empty where nothing is wrong with it.
    pub flags: Vec<String>,
}

/// A tool that is held until a person accepts its change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Held {
    /// The tool.
    pub tool: String,
    /// What changed, a line each: `description: "…" -> "…"`.
    pub diff: Vec<String>,
}

// ---------------------------------------------------------------------------------------------------------------------
// Commands, for the gateway itself

const SYSTEM: Traits = Traits { audience: Audience::System, ..Traits::DEFAULT };
const HUMAN: Traits = Traits { audience: Audience::Human, ..Traits::DEFAULT };

/// Record a server's configuration; secrets in it are references to the vault.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Enrol {
    /// Its name.
    pub server: String,
    /// How it is reached.
    pub config: Server,
}

impl Operation for Enrol {
    type Returns = Done;
    const TRAITS: Traits =
        Traits { example: r#"{"server": "documents", "config": {"command": "files-mcp"}}"#, ..SYSTEM };
}

/// Forget a server and what was pinned of it.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Strike {
    /// Its name.
    pub server: String,
}

impl Operation for Strike {
    type Returns = Done;
    const TRAITS: Traits = Traits { example: r#"{"server": "documents"}"#, ..SYSTEM };
}

/// Compare the tools a server offers with what is pinned, pin new ones and hold changed ones.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Observe {
    /// The server.
    pub server: String,
    /// All its tools.
    pub tools: Vec<Pin>,
}

impl Operation for Observe {
    type Returns = Verdict;
    const TRAITS: Traits = Traits { example: r#"{"server": "documents", "tools": []}"#, ..SYSTEM };
}

/// Which of a server's tools may not be called, and which may not be described.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Verdict {
    /// Held tools.
    pub held: Vec<Held>,
    /// Flagged tools with their reasons.
    pub flagged: BTreeMap<String, Vec<String>>,
}

/// Accept what changed of a server's tools, or what was flagged.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settle {
    /// The server.
    pub server: String,
    /// One tool; all of them where missing.
    #[serde(default)]
    pub tool: Option<String>,
}

impl Operation for Settle {
    type Returns = Settled;
    const TRAITS: Traits = Traits { example: r#"{"server": "documents"}"#, ..SYSTEM };
}

/// What was accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Settled {
    /// The tools, with what had changed.
    pub accepted: Vec<Held>,
    /// Position in the log.
    pub seq: u64,
}

/// Record that a server failed, or that something it asked for was declined.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Note {
    /// The server.
    pub server: String,
    /// What it asked for (`sampling/createMessage`, …); a failure where missing.
    #[serde(default)]
    pub declined: Option<String>,
    /// What happened.
    pub what: String,
}

impl Operation for Note {
    type Returns = Done;
    const TRAITS: Traits =
        Traits { example: r#"{"server": "documents", "what": "exited with 1"}"#, ..SYSTEM };
}

/// All recorded servers with their configuration.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Roster {}

impl Operation for Roster {
    type Returns = BTreeMap<String, Server>;
    const TRAITS: Traits = SYSTEM;
}

/// Record where in the vault a server's OAuth credentials lie.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Entrust {
    /// The server.
    pub server: String,
    /// Their token; none where there are none any more.
    #[serde(default)]
    pub credentials: Option<String>,
}

impl Operation for Entrust {
    type Returns = Done;
    const TRAITS: Traits = Traits { example: r#"{"server": "documents"}"#, ..SYSTEM };
}

/// Where in the vault a server's OAuth credentials lie.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Entrusted {
    /// The server.
    pub server: String,
}

impl Operation for Entrusted {
    type Returns = Option<String>;
    const TRAITS: Traits = Traits { example: r#"{"server": "documents"}"#, ..SYSTEM };
}

/// Done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Done {
    /// Position in the log.
    pub seq: u64,
}

// ---------------------------------------------------------------------------------------------------------------------
// Services, for people

/// List the upstream servers with their state and their last error.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct List {}

impl Operation for List {
    type Returns = Vec<Status>;
    const TRAITS: Traits = HUMAN;
}

/// How a server is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// Not needed so far.
    #[default]
    Idle,
    /// Being started.
    Starting,
    /// Answering.
    Ready,
    /// It failed; it is tried again, later and later.
    Failing,
    /// Switched off in its configuration.
    Disabled,
}

/// A server as it stands.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    /// Its name.
    pub server: String,
    /// `stdio` or `http`.
    pub transport: String,
    /// How it is.
    pub health: Health,
    /// Tools that can be called.
    pub tools: u32,
    /// Tools that are held.
    pub held: u32,
    /// Tools whose description is withheld.
    pub flagged: u32,
    /// Tools that are not offered at all, with the reason.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub refused: BTreeMap<String, String>,
    /// What it calls itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub implementation: Option<String>,
    /// The negotiated protocol version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// Its process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Calls so far.
    pub calls: u64,
    /// Starts so far.
    pub starts: u64,
    /// Its last error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The last lines it wrote to stderr.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stderr: Vec<String>,
}

/// List the tools of one upstream server, or of all, with what is pinned, held or flagged.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tools {
    /// The server; all where missing.
    #[serde(default)]
    pub server: Option<String>,
}

impl Operation for Tools {
    type Returns = Vec<ToolStatus>;
    const TRAITS: Traits = HUMAN;
}

/// A tool as it stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ToolStatus {
    /// What code calls: `server/tool`.
    pub op: String,
    /// Its description, in full.
    pub description: String,
    /// How much harm a call can do.
    pub risk: Risk,
    /// The digest of its definition.
    pub digest: String,
    /// What changed, where it is held.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held: Vec<String>,
    /// Why its description is withheld from models.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flagged: Vec<String>,
}

/// Start an upstream server now, list its tools and, where a tool is named, call it.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Test {
    /// The server.
    pub server: String,
    /// A tool to call.
    #[serde(default)]
    pub tool: Option<String>,
    /// Its arguments.
    #[serde(default)]
    #[schemars(schema_with = "crate::operation::any")]
    pub arguments: Value,
}

impl Operation for Test {
    type Returns = Report;
    const TRAITS: Traits = Traits { example: r#"{"server": "documents"}"#, ..HUMAN };
}

/// What a test found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// The server.
    pub status: Status,
    /// How long it took to start and list its tools, milliseconds; 0 where it ran already.
    pub start_ms: u64,
    /// Tools that are held, with what changed of each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held: Vec<ToolStatus>,
    /// What the called tool answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::operation::any")]
    pub answer: Option<Value>,
}

/// Add an upstream server. It is started when it is first needed.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Add {
    /// Its name: letters, digits, `_` and `-`.
    pub server: String,
    /// How it is reached. What is secret in it is kept in the vault; only a reference is recorded.
    pub config: Server,
    /// Refuse where a server of this name is reached in another way.
    #[serde(default)]
    pub fresh: bool,
}

impl Operation for Add {
    type Returns = Done;
    const TRAITS: Traits = Traits {
        risk: Risk::High,
        example: r#"{"server": "documents", "config": {"command": "npx", "args": ["-y", "@modelcontextprotocol/server-filesystem", "."]}}"#,
        ..HUMAN
    };
}

/// Remove an upstream server and end its process.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Remove {
    /// Its name.
    pub server: String,
}

impl Operation for Remove {
    type Returns = Done;
    const TRAITS: Traits = Traits { example: r#"{"server": "documents"}"#, ..HUMAN };
}

/// Accept what changed of an upstream's tools, or a description that was withheld. Answers what changed.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Accept {
    /// The server.
    pub server: String,
    /// One tool; all of them where missing.
    #[serde(default)]
    pub tool: Option<String>,
}

impl Operation for Accept {
    type Returns = Settled;
    const TRAITS: Traits = Traits { risk: Risk::High, example: r#"{"server": "documents"}"#, ..HUMAN };
}

/// Begin to be granted access to an upstream server by OAuth. Answers the address that a person opens in a browser; PKCE, and
/// everything else about it, stays with the store. It waits a quarter of an hour.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BeginAuth {
    /// The server.
    pub server: String,
    /// Where the browser is sent afterwards: an address of this machine that hands it to `finish_auth`.
    pub redirect: String,
    /// Scopes to ask for; the server's own choice where empty.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// A client that was registered beforehand.
    #[serde(default)]
    pub client_id: Option<String>,
    /// Its secret; kept in the vault.
    #[serde(default)]
    pub client_secret: Option<String>,
    /// The HTTPS address of a client metadata document.
    #[serde(default)]
    pub client_metadata: Option<String>,
}

impl Operation for BeginAuth {
    type Returns = Opening;
    const TRAITS: Traits = Traits {
        risk: Risk::High,
        example: r#"{"server": "documents", "redirect": "http://127.0.0.1:7000/callback"}"#,
        ..HUMAN
    };
}

/// What a person opens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Opening {
    /// The address.
    pub address: String,
}

/// Finish what `begin_auth` began. The tokens go to the vault; the server is started anew with them.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FinishAuth {
    /// The server.
    pub server: String,
    /// The whole address that the browser was sent to.
    pub callback: String,
}

impl Operation for FinishAuth {
    type Returns = Done;
    const TRAITS: Traits = Traits {
        risk: Risk::High,
        example: r#"{"server": "documents", "callback": "http://127.0.0.1:7000/callback?code=x&state=y"}"#,
        ..HUMAN
    };
}

// ---------------------------------------------------------------------------------------------------------------------
// Events

/// A server was added, or its configuration changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Added {
    /// Its name.
    pub server: String,
    /// Its configuration, JSON of [`Server`].
    pub config: String,
}

/// A server was removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// Its name.
    pub server: String,
}

/// Tools were seen for the first time, or came back to what they were.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pinned {
    /// The server.
    pub server: String,
    /// The tools.
    pub tools: Vec<Pin>,
}

/// A known tool came back with another definition and cannot be called until a person accepts it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantined {
    /// The server.
    pub server: String,
    /// The digest that was pinned.
    pub pinned: String,
    /// The definition found.
    pub found: Pin,
    /// What changed.
    pub diff: Vec<String>,
}

/// A person accepted tools as they are now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// The server.
    pub server: String,
    /// The tools; their flags are lifted.
    pub tools: Vec<Pin>,
}

/// Tools are no longer offered. Their pins stay, so that they cannot come back as something else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vanished {
    /// The server.
    pub server: String,
    /// The tools.
    pub tools: Vec<String>,
}

/// A server failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// The server.
    pub server: String,
    /// What happened.
    pub what: String,
}

/// Access to a server was granted, renewed or given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Granted {
    /// The server.
    pub server: String,
    /// The vault's token of its credentials; none where they were given up.
    pub credentials: Option<String>,
}

/// A server asked for something that policy does not give: sampling, elicitation, roots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Declined {
    /// The server.
    pub server: String,
    /// The method.
    pub method: String,
    /// What it wanted, in short.
    pub what: String,
}

crate::undo! {
    Added(it) => Undo::Call { op: "upstream/remove", params: serde_json::json!({"server": it.server}) },
    Removed(_) => Undo::never("add it again: athena upstream add"),
    Pinned(_) => Undo::Record,
    Quarantined(_) => Undo::never("look at the tool, then: athena upstream accept"),
    Accepted(_) => Undo::never("remove the server, or take the tool out of its configuration"),
    Vanished(_) => Undo::Record,
    Failed(_) => Undo::Record,
    Declined(_) => Undo::Record,
    Granted(_) => Undo::never("sign in again: athena upstream auth"),
}
