//! Events for tests.

use athena_schemas::context::{Channel, Party, Scope};
use athena_schemas::envelope::{Author, Draft, Kind, Meta};
use athena_schemas::id::CommandId;

/// The event `n` of a stream; its id follows from `n`.
pub(crate) fn draft(stream: &str, n: u64, payload: &[u8]) -> Draft {
    let mut command = [0; 16];
    command[..8].copy_from_slice(&n.to_le_bytes());
    let command = CommandId(command);
    Draft {
        stream: stream.into(),
        id: command.event(0),
        kind: Kind(0x0201),
        schema: 1,
        meta: Meta {
            at_ms: 1_000_000 + n,
            scope: Scope::project("test"),
            author: Author { party: Party::Agent, channel: Channel::Mcp, name: "example".into() },
            command,
            run: None,
            key: None,
        },
        payload: payload.to_vec(),
    }
}
