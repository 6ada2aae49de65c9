//! Shapes that several layers share.

use crate::id::Id;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// RFC 3339, such as `2026-11-20T10:31:04Z`.
pub type Time = String;

/// The acknowledgement of a command. It is given only after its events are on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Ack {
    /// The item.
    pub id: Id,
    /// Position in the log; a read with `at_seq` of at least this sees it.
    pub seq: u64,
    /// Set where an equal item already existed: its id. Nothing was added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deduped_into: Option<Id>,
    /// Items that resemble the new one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub similar: Vec<Id>,
    /// Items that seem to contradict the new one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conflicts: Vec<Id>,
}

impl Ack {
    /// An acknowledgement of `id`; the position is filled in once it is known.
    pub fn of(id: Id) -> Self {
        Self { id, seq: 0, deduped_into: None, similar: Vec::new(), conflicts: Vec::new() }
    }
}

/// A span of time. A missing end is open.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Range {
    /// From this time on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Time>,
    /// Before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Time>,
}

/// The default number of results.
pub fn ten() -> u32 {
    10
}
