//! Upstreams: other MCP servers and what is pinned of their tools.

use crate::id::Id;
use crate::layers::common::Ack;
use crate::operation::{Operation, Traits};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

crate::layer! {
    upstream {
        commands { note: Note }
        queries { }
    }
}

crate::events! {
    /// What happens in this layer.
    upstream {
        Pinned = 0x1301 "pinned" v 1 {},
    }
}

/// Scaffold operation: notes a text.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Note {
    /// The text.
    pub text: String,
}

impl Operation for Note {
    type Returns = Ack;
    const TRAITS: Traits = Traits { example: r#"{"text": "x"}"#, ..Traits::DEFAULT };
}

/// Scaffold event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pinned {
    /// The item.
    pub id: Id,
    /// The text.
    pub text: String,
}
