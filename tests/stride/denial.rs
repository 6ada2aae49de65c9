//! Somebody takes the service away.

use crate::support::{Mcp, Store};
use serde_json::json;

/// JSON that is deep, long, wide, broken or no number at all: each is refused or passed over, and the connection goes on.
#[test]
fn stride_d13() {
    let store = Store::new();
    let mut client = Mcp::start(&store);
    let call = |arguments: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","id":900,"method":"tools/call","params":{{"name":"remember","arguments":{{"content":{arguments}}}}}}}"#
        )
    };
    let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
    let lines: Vec<Vec<u8>> = vec![
        call(&deep(100)).into(),
        call(&deep(200)).into(),
        call(&deep(100_000)).into(),
        "[".repeat(1_000_000).into(),
        "{\"a\":".repeat(100_000).into(),
        call("1e999999").into(),
        call(&"9".repeat(100_000)).into(),
        call("\"\\ud800\"").into(),
        call(&format!("\"{}\"", "x".repeat(17 << 20))).into(),
        b"\xff\xfe\x00{".to_vec(),
        b"{\"jsonrpc\":\"2.0\",\"id\":901,\"method\":\"tools/call\"".to_vec(),
        b"null".to_vec(),
        b"".to_vec(),
    ];
    for (n, line) in lines.iter().enumerate() {
        client.raw(line);
        let id = 1_000 + n as u64;
        let kept = client.ask_as(
            id,
            "tools/call",
            json!({"name": "remember", "arguments": {"content": format!("after {n}")}}),
        );
        assert!(kept["result"]["structuredContent"]["id"].is_string(), "line {n}: {kept}");
    }
    assert_eq!(store.events(Some("episodic.remembered")).len(), lines.len());
}
