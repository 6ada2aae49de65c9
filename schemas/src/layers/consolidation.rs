//! The consolidation layer: what stands out of many memories, without a language model. Its pass over whole stores is not built
//! yet; what is here is exact and deterministic.

use crate::id::Id;
use crate::layers::common::{Ack, Range};
use crate::operation::{Operation, Traits};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

crate::layer! {
    consolidation {
        commands { pin: Pin }
        queries { patterns: Patterns }
    }
}

crate::events! {
    /// What happens in the consolidation layer.
    consolidation {
        Pinned = 0x0701 "pinned" v 1 {},
    }
}

/// Pin an item, so that no later forgetting by age touches it; or unpin it.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    /// The item.
    pub id: Id,
    /// Whether it is to be pinned.
    pub pinned: bool,
}

impl Operation for Pin {
    type Returns = Ack;
    const TRAITS: Traits = Traits {
        tags: &["keep", "protect", "important"],
        example: r#"{"id": "$id", "pinned": true}"#,
        ..Traits::DEFAULT
    };
}

/// Find sequences of event types that recur over sessions, with the sessions that hold them (PrefixSpan; Pei et al. 2001).
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Patterns {
    /// Only events of this time.
    #[serde(default)]
    pub range: Option<Range>,
    /// Held by at least this many sessions, 2 or more; 3 if not said.
    #[serde(default)]
    pub min_support: Option<u32>,
    /// At most this many types, 2 to 12; 6 if not said.
    #[serde(default)]
    pub max_len: Option<u32>,
    /// At most this many others between two types, up to 10; 2 if not said.
    #[serde(default)]
    pub gap: Option<u32>,
}

impl Operation for Patterns {
    type Returns = Vec<Pattern>;
    const TRAITS: Traits =
        Traits { cost: 5, tags: &["sequence", "habit", "workflow", "recurring"], ..Traits::DEFAULT };
}

/// A sequence that recurs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Pattern {
    /// The event types, in order.
    pub types: Vec<String>,
    /// How many sessions hold it.
    pub support: u32,
    /// The events of one session that hold it.
    pub example: Vec<Id>,
}

/// An item was pinned or unpinned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pinned {
    /// The item.
    pub id: Id,
    /// Whether it is pinned now.
    pub pinned: bool,
}
