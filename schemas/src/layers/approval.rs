//! Approvals: a person's yes or no to one thing that code wants to do.
//!
//! An approval binds exactly what was asked (a hash over code or call, scope and tier), is used once, and expires. Asking and
//! using are the house's; granting and denying are a person's and not on the agent's bus.

use crate::context::Channel;
use crate::id::Id;
use crate::layers::common::Time;
use crate::operation::{Audience, Operation, Traits};
use crate::risk::Risk;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

crate::layer! {
    approval {
        commands { request: Request, grant: Grant, deny: Deny, redeem: Redeem }
        queries { list: List, show: Show }
    }
}

crate::events! {
    /// What happens to approvals.
    approval {
        Requested = 0x1101 "requested" v 1 {},
        Granted = 0x1102 "granted" v 1 {},
        Denied = 0x1103 "denied" v 1 {},
        Redeemed = 0x1104 "redeemed" v 1 {},
    }
}

/// Where an approval stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Nobody has answered.
    Pending,
    /// Yes, and not used yet.
    Granted,
    /// No.
    Denied,
    /// Nobody answered in time, or it was not used in time.
    Expired,
    /// Used.
    Redeemed,
}

// ── Commands ────────────────────────────────────────────────────────────────────────────────────────────────────────────

/// Ask a person. The guard does; the same thing asked twice is one request.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Hash over exactly what is asked, hexadecimal.
    pub binding: String,
    /// The run that waits.
    #[serde(default)]
    pub run: Option<Id>,
    /// How much harm it can do.
    pub level: Risk,
    /// What is asked, in a sentence.
    pub summary: String,
    /// Why a person is asked.
    #[serde(default)]
    pub reasons: Vec<String>,
    /// The code or the call, as the person is shown it.
    pub shown: String,
    /// Denied by itself after this long, seconds.
    pub ttl_s: u64,
}

impl Operation for Request {
    type Returns = State;
    const TRAITS: Traits = Traits {
        audience: Audience::System,
        sensitive: true,
        example: r#"{"binding": "00", "level": "HIGH", "summary": "delete a file", "shown": "rm()", "ttl_s": 900}"#,
        ..Traits::DEFAULT
    };
}

/// Say yes, once, to exactly what was asked.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// The approval.
    pub id: Id,
    /// Why, for the record.
    #[serde(default)]
    pub note: Option<String>,
}

impl Operation for Grant {
    type Returns = State;
    const TRAITS: Traits = Traits {
        audience: Audience::Human,
        sensitive: true,
        tags: &["approve", "yes"],
        example: r#"{"id": "$id"}"#,
        ..Traits::DEFAULT
    };
}

/// Say no; the reason reaches the agent.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Deny {
    /// The approval.
    pub id: Id,
    /// Why.
    pub reason: String,
}

impl Operation for Deny {
    type Returns = State;
    const TRAITS: Traits = Traits {
        audience: Audience::Human,
        sensitive: true,
        tags: &["refuse", "no"],
        example: r#"{"id": "$id", "reason": "wrong folder"}"#,
        ..Traits::DEFAULT
    };
}

/// Use a granted approval for exactly what it binds.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Redeem {
    /// The approval.
    pub id: Id,
    /// Hash over what is about to be done, hexadecimal.
    pub binding: String,
}

impl Operation for Redeem {
    type Returns = State;
    const TRAITS: Traits = Traits {
        audience: Audience::System,
        example: r#"{"id": "$id", "binding": "00"}"#,
        ..Traits::DEFAULT
    };
}

/// Where an approval stands after a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct State {
    /// The approval.
    pub id: Id,
    /// Where it stands.
    pub standing: Standing,
    /// Why not, where it was denied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The run that waits for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<Id>,
    /// Position in the log.
    #[serde(default)]
    pub seq: u64,
}

// ── Queries ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

/// List approvals, newest first: those that wait for an answer, or all.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct List {
    /// Answered and expired ones, too.
    #[serde(default)]
    pub all: bool,
}

impl Operation for List {
    type Returns = Vec<Approval>;
    const TRAITS: Traits = Traits {
        audience: Audience::Human,
        sensitive: true,
        tags: &["pending", "waiting"],
        ..Traits::DEFAULT
    };
}

/// Show one approval with all that it binds.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Show {
    /// The approval.
    pub id: Id,
}

impl Operation for Show {
    type Returns = Approval;
    const TRAITS: Traits =
        Traits { audience: Audience::Human, sensitive: true, example: r#"{"id": "$id"}"#, ..Traits::DEFAULT };
}

/// An approval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Approval {
    /// Its id.
    pub id: Id,
    /// Where it stands.
    pub standing: Standing,
    /// How much harm it can do.
    pub level: Risk,
    /// What is asked.
    pub summary: String,
    /// Why a person is asked.
    pub reasons: Vec<String>,
    /// The code or the call.
    pub shown: String,
    /// Hash over exactly what is asked.
    pub binding: String,
    /// The run that waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<Id>,
    /// Who asked.
    pub requested_by: String,
    /// When.
    pub requested: Time,
    /// Denied by itself at this time.
    pub expires: Time,
    /// Who answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered_by: Option<String>,
    /// Through which door.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<Channel>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

// ── Events ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

/// A person was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requested {
    /// The approval.
    pub id: Id,
    /// Hash over exactly what is asked, hexadecimal.
    pub binding: String,
    /// The run that waits.
    pub run: Option<Id>,
    /// How much harm it can do.
    pub level: Risk,
    /// What is asked.
    pub summary: String,
    /// Why a person is asked.
    pub reasons: Vec<String>,
    /// The code or the call, as the person is shown it.
    pub shown: String,
    /// Denied by itself at this time, milliseconds since 1970.
    pub expires_ms: u64,
    /// Who proposed it: may not answer it.
    pub proposer: String,
}

/// A person said yes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Granted {
    /// The approval.
    pub id: Id,
    /// Hash over what was shown and granted.
    pub binding: String,
    /// Who.
    pub approver: String,
    /// Why.
    pub note: Option<String>,
}

/// A person said no.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denied {
    /// The approval.
    pub id: Id,
    /// Who.
    pub approver: String,
    /// Why.
    pub reason: String,
}

/// It was used, and cannot be again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redeemed {
    /// The approval.
    pub id: Id,
}

crate::undo! {
    Requested(_) => Undo::never("deny it: athena deny"),
    Granted(_) => Undo::never("an approval counts once, or until it expires; deny what comes next"),
    Denied(_) => Undo::never("ask again: what was denied can be run anew"),
    Redeemed(_) => Undo::never("what was approved has been done"),
}
