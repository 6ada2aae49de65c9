//! The graph layer: entities and how they relate.

use crate::id::Id;
use crate::layers::common::Ack;
use crate::operation::{Operation, Traits};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

crate::layer! {
    graph {
        commands { note: Note }
        queries { }
    }
}

crate::events! {
    /// What happens in this layer.
    graph {
        EntityAdded = 0x0501 "entity_added" v 1 {},
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
pub struct EntityAdded {
    /// The item.
    pub id: Id,
    /// The text.
    pub text: String,
}
