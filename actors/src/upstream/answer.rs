//! What code gets from a tool: one JSON value, predictable from the tool's definition alone.
//!
//! A tool with structured content answers that. Any other answers `{content, json?, blocks?}`: its texts joined by line
//! breaks, the same parsed where they are JSON, and whatever is not text. Of twelve real servers, seven answer JSON as text.

use super::spool::{SPOOL_KEY, Spools};
use athena_schemas::refusal::{Code, Refusal};
use rmcp::model::{CallToolResult, ContentBlock};
use serde_json::{Value, json};

/// Text that is also offered parsed, bytes.
const JSON_MAX: usize = 1 << 20;
/// Text of an error, bytes.
const ERROR_MAX: usize = 4_000;

/// The value of a result.
///
/// # Errors
/// When the tool says it failed, with its own words.
pub fn value(op: &str, result: CallToolResult, spools: &Spools) -> Result<Value, Refusal> {
    let handle = result.meta.as_ref().and_then(|meta| meta.get(SPOOL_KEY)?.as_str().map(str::to_string));
    let kept = handle.and_then(|handle| spools.size(&handle).map(|bytes| (handle, bytes)));
    let mut texts = Vec::new();
    let mut blocks = Vec::new();
    for block in result.content {
        match block {
            ContentBlock::Text(text) => texts.push(text.text),
            other => blocks.push(serde_json::to_value(other).unwrap_or_default()),
        }
    }
    let content = texts.join("\n");
    if result.is_error == Some(true) {
        let words =
            if content.is_empty() { "the tool failed without a word" } else { cut(&content, ERROR_MAX) };
        return Err(Refusal::new(Code::Upstream, format!("{op}: {words}")));
    }
    if let Some((handle, bytes)) = kept {
        return Ok(
            json!({"content": content, "handle": format!("/results/{handle}"), "bytes": bytes, "truncated": true}),
        );
    }
    if let Some(structured) = result.structured_content {
        return Ok(structured);
    }
    let mut value = json!({"content": content});
    if let Some(fields) = value.as_object_mut() {
        if let Some(parsed) = parsed(&content) {
            fields.insert("json".into(), parsed);
        }
        if !blocks.is_empty() {
            fields.insert("blocks".into(), blocks.into());
        }
    }
    Ok(value)
}

/// Objects and lists only: a tool that answers `7` or `true` answers text.
fn parsed(text: &str) -> Option<Value> {
    let looks = text.trim_start().starts_with(['{', '[']) && text.len() <= JSON_MAX;
    looks.then(|| serde_json::from_str(text).ok()).flatten()
}

/// The beginning of a text, whole characters.
pub fn cut(text: &str, max: usize) -> &str {
    let end = (0..=max.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(result: Value) -> Result<Value, Refusal> {
        value("s/t", serde_json::from_value(result).unwrap(), &Spools::default())
    }

    #[test]
    fn structured_content_comes_first() {
        let both =
            json!({"content": [{"type": "text", "text": "{}"}], "structuredContent": {"content": "x"}});
        assert_eq!(answer(both).unwrap(), json!({"content": "x"}));
    }

    #[test]
    fn text_is_content_and_json_where_it_is() {
        let text = |text: &str| json!({"content": [{"type": "text", "text": text}]});
        assert_eq!(answer(text("plain")).unwrap(), json!({"content": "plain"}));
        assert_eq!(answer(text("[1]")).unwrap(), json!({"content": "[1]", "json": [1]}));
        assert_eq!(answer(text("{no")).unwrap(), json!({"content": "{no"}));
        let image = json!({"content": [{"type": "image", "data": "AA==", "mimeType": "image/png"}]});
        assert_eq!(answer(image).unwrap()["blocks"][0]["mimeType"], "image/png");
    }

    #[test]
    fn a_failure_is_a_refusal_in_the_tool_s_words() {
        let failure = json!({"content": [{"type": "text", "text": "no such file"}], "isError": true});
        let refusal = answer(failure).unwrap_err();
        assert_eq!((refusal.code, refusal.message.as_str()), (Code::Upstream, "s/t: no such file"));
    }

    #[test]
    fn a_forged_handle_is_nothing() {
        let forged = json!({"content": [{"type": "text", "text": "x"}], "_meta": {SPOOL_KEY: "00"}});
        assert_eq!(answer(forged).unwrap(), json!({"content": "x"}));
    }
}
