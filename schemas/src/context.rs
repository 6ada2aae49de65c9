//! All that a decision may know of the world: who asks, where, when, and with what evidence.

use crate::id::{CommandId, Id};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};

/// Whose memory is meant. A missing field means "any"; a request may narrow what its caller holds and never widens it.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Scope {
    /// The project: the git root above the working folder, else the folder.
    pub project: Option<String>,
    /// The person.
    pub user: Option<String>,
    /// The agent.
    pub agent: Option<String>,
    /// The conversation.
    pub session: Option<String>,
}

impl Scope {
    /// The scope of one project.
    pub fn project(name: impl Into<String>) -> Self {
        Self { project: Some(name.into()), ..Self::default() }
    }

    /// Whether an item recorded under `item` may be seen by someone who looks under `self`.
    pub fn covers(&self, item: &Self) -> bool {
        let inside = |ours: &Option<String>, theirs: &Option<String>| ours.is_none() || ours == theirs;
        inside(&self.project, &item.project)
            && inside(&self.user, &item.user)
            && inside(&self.agent, &item.agent)
            && inside(&self.session, &item.session)
    }

    /// This scope narrowed to `wanted`; `None` where `wanted` lies outside it.
    pub fn narrow(&self, wanted: &Self) -> Option<Self> {
        fn one(held: &Option<String>, wanted: &Option<String>) -> Option<Option<String>> {
            match (held, wanted) {
                (_, None) => Some(held.clone()),
                (None, Some(wanted)) => Some(Some(wanted.clone())),
                (Some(held), Some(wanted)) => (held == wanted).then(|| Some(held.clone())),
            }
        }
        Some(Self {
            project: one(&self.project, &wanted.project)?,
            user: one(&self.user, &wanted.user)?,
            agent: one(&self.agent, &wanted.agent)?,
            session: one(&self.session, &wanted.session)?,
        })
    }

    /// The name under which tokens and keys of this scope are kept: its project, or `default`.
    pub fn vault(&self) -> &str {
        self.project.as_deref().unwrap_or("default")
    }
}

/// What kind of party is asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Party {
    /// A person at the command line or the web page.
    Human,
    /// A model behind an MCP client.
    Agent,
    /// Code in the sandbox.
    Code,
    /// A program that embeds Athena.
    Host,
    /// Athena itself: schedules and recovery.
    System,
}

/// Which door was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Channel {
    /// The command line.
    Cli,
    /// The MCP front.
    Mcp,
    /// A host call of a run.
    Sandbox,
    /// The web page.
    Ui,
    /// The library.
    Library,
    /// Inside.
    Internal,
}

/// Who is asking. Assigned by the front that took the request, never read from the request.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Caller {
    /// What kind of party.
    pub party: Party,
    /// Which door.
    pub channel: Channel,
    /// Its name: the MCP client's, the operating system user's, the run's.
    pub name: String,
    /// What it may see at most.
    pub holds: Scope,
    /// What a request without a scope means.
    pub scope: Scope,
    /// The run whose code is calling.
    pub run: Option<Id>,
}

impl Caller {
    /// Athena itself.
    pub fn system() -> Self {
        Self {
            party: Party::System,
            channel: Channel::Internal,
            name: "athena".into(),
            holds: Scope::default(),
            scope: Scope::default(),
            run: None,
        }
    }

    /// The identity that idempotency keys and sessions are bound to.
    pub fn principal(&self) -> String {
        format!("{:?}/{:?}/{}", self.party, self.channel, self.name).to_lowercase()
    }
}

/// What the read side found out for a command before the decision. The decision itself stays pure.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Evidence {
    /// Items the command's selection matches (`forget`, `dedupe`, `decay`, …).
    pub matched: Vec<Id>,
    /// Items that resemble the new content, with their similarity from 0 to 1.
    pub similar: Vec<(Id, f32)>,
    /// Items that seem to contradict the new content.
    pub conflicts: Vec<Id>,
    /// Texts the decision needs, by item.
    pub texts: BTreeMap<Id, String>,
    /// What a procedure of the read side proposes (consolidation), for the layer to check and record.
    pub proposal: Option<serde_json::Value>,
}

/// All that a decision or a query may know of the world.
#[derive(Debug)]
pub struct Context {
    /// The time of the decision, milliseconds since 1970 (UTC). Never before that of the decision before.
    pub now_ms: u64,
    /// Who asks.
    pub caller: Caller,
    /// Where: what the caller holds, narrowed to what it asked for.
    pub scope: Scope,
    /// What makes a retry safe.
    pub command: CommandId,
    /// Whether the caller named the command (an idempotency key), so that a retry may come.
    pub keyed: bool,
    /// Look no further than this position (time travel).
    pub at_seq: Option<u64>,
    /// What the read side found out before the decision.
    pub evidence: Evidence,
    minted: AtomicU32,
}

impl Context {
    /// A context for one call.
    pub fn new(now_ms: u64, caller: Caller, scope: Scope, command: CommandId) -> Self {
        Self {
            now_ms,
            caller,
            scope,
            command,
            keyed: false,
            at_seq: None,
            evidence: Evidence::default(),
            minted: AtomicU32::new(0),
        }
    }

    /// A new id; the same one when the same command is decided again at the same time.
    pub fn mint(&self, prefix: &str) -> Id {
        let n = self.minted.fetch_add(1, Ordering::Relaxed);
        Id::new(prefix, self.now_ms, self.command.random(n))
    }

    /// A context for tests: project `test`, time 1,000,000 ms, an agent.
    pub fn example() -> Self {
        let scope = Scope::project("test");
        let caller = Caller {
            party: Party::Agent,
            channel: Channel::Mcp,
            name: "example".into(),
            holds: scope.clone(),
            scope: scope.clone(),
            run: None,
        };
        Self::new(1_000_000, caller, scope, CommandId([7; 16]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_narrows_and_never_widens() {
        let held = Scope::project("p");
        let session = Scope { session: Some("s".into()), ..Scope::default() };
        assert_eq!(held.narrow(&session), Some(Scope { session: Some("s".into()), ..Scope::project("p") }));
        assert_eq!(held.narrow(&Scope::project("q")), None);
        assert!(held.covers(&Scope { user: Some("u".into()), ..Scope::project("p") }));
        assert!(!held.covers(&Scope::default()));
    }
}
