//! Messages that are not quite well formed: one tool that cannot be read shall not take the others with it.

use super::definition::mended;
use rmcp::RoleClient;
use rmcp::model::{JsonRpcMessage, ServerResult};
use rmcp::service::RxJsonRpcMessage;

/// A message of a server. In a list of tools, a place-holder says why the tool in its place cannot be read.
///
/// # Errors
/// When it is no message.
pub(super) fn message(text: &[u8]) -> serde_json::Result<RxJsonRpcMessage<RoleClient>> {
    let read = serde_json::from_slice::<RxJsonRpcMessage<RoleClient>>(text);
    match repaired(text, &read) {
        Some((message, _)) => Ok(message),
        None => read,
    }
}

/// The same for an event's data, which the library reads itself.
pub(super) fn data(text: String) -> String {
    if memchr::memmem::find(text.as_bytes(), TOOLS).is_none() {
        return text;
    }
    let read = serde_json::from_str::<RxJsonRpcMessage<RoleClient>>(&text);
    match repaired(text.as_bytes(), &read) {
        Some((_, mended)) => mended,
        None => text,
    }
}

const TOOLS: &[u8] = b"\"tools\"";

/// What an answer comes to whose list of tools was taken for something else, or for nothing at all.
fn repaired(
    text: &[u8],
    read: &serde_json::Result<RxJsonRpcMessage<RoleClient>>,
) -> Option<(RxJsonRpcMessage<RoleClient>, String)> {
    let sound = match read {
        Ok(JsonRpcMessage::Response(answer)) => matches!(answer.result, ServerResult::ListToolsResult(_)),
        Ok(_) => true,
        Err(_) => false,
    };
    if sound {
        return None;
    }
    memchr::memmem::find(text, TOOLS)?;
    let mended = String::from_utf8(mended(text)?).ok()?;
    Some((serde_json::from_str(&mended).ok()?, mended))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// In the shape of either era; the newer one says what kind of result it is.
    #[test]
    fn one_tool_that_cannot_be_read_is_a_place_holder_in_either_era() {
        let good = json!({"name": "good", "inputSchema": {"type": "object"}});
        for more in [json!({}), json!({"resultType": "complete", "ttlMs": 1000, "cacheScope": "private"})] {
            for bad in
                [json!(7), json!({"name": "bad", "inputSchema": "a string"}), json!({"title": "no name"})]
            {
                let mut result = json!({"tools": [good, bad, good]});
                result.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
                let text = json!({"jsonrpc": "2.0", "id": 1, "result": result}).to_string();
                let JsonRpcMessage::Response(answer) = message(text.as_bytes()).unwrap() else {
                    panic!("{text}")
                };
                let ServerResult::ListToolsResult(list) = answer.result else { panic!("{text}") };
                assert_eq!(list.tools.len(), 3, "{text}");
                let event: Value = serde_json::from_str(&data(text)).unwrap();
                assert!(event["result"]["tools"][1]["_meta"].is_object(), "{event}");
            }
        }
    }

    #[test]
    fn what_is_sound_or_no_list_passes_as_it_is() {
        for text in [
            json!({"jsonrpc": "2.0", "id": 1, "result": {"tools": []}}),
            json!({"jsonrpc": "2.0", "id": 1, "result": {"content": [{"type": "text", "text": "\"tools\""}]}}),
        ] {
            let text = text.to_string();
            assert_eq!(data(text.clone()), text);
            assert!(message(text.as_bytes()).is_ok());
        }
        assert_eq!(data("\"tools\" and no message".into()), "\"tools\" and no message");
        assert!(message(b"{").is_err());
    }
}
