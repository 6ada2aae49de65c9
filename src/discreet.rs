//! What is said of a request that was refused: names and reasons, and none of the values it came with. A refusal is seen by models,
//! written into logs and shown to whoever looks over a shoulder, and no answer needs to repeat what was asked.

use athena_actors::privacy::detect;
use athena_schemas::refusal::Refusal;
use serde_json::Value;

/// A text with the kind of each sensitive value in its place: `there is no fact ‹EMAIL›`. Tokens stay.
pub(crate) fn text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut done = 0;
    for span in detect::detect(text) {
        out.push_str(text.get(done..span.start).unwrap_or_default());
        out.push_str(&format!("‹{}›", span.token_type));
        done = span.end;
    }
    out + text.get(done..).unwrap_or_default()
}

/// The same for all that a refusal says.
pub(crate) fn refusal(mut refusal: Refusal) -> Refusal {
    refusal.message = text(&refusal.message);
    refusal.hint = text(&refusal.hint);
    refusal.path = refusal.path.map(|path| text(&path));
    if let Some(details) = &mut refusal.details {
        value(details);
    }
    refusal
}

/// The same for every text of a value.
pub(crate) fn value(it: &mut Value) {
    match it {
        Value::String(said) => *said = text(said),
        Value::Array(items) => items.iter_mut().for_each(value),
        Value::Object(fields) => fields.values_mut().for_each(value),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_named_by_their_kind_and_everything_else_stays() {
        let said = Refusal::not_found("there is no fact ana.lopez@example.org, nor EMAIL_tk_k7f3a9cq2m")
            .at("events[3].ana.lopez@example.org")
            .hint("semantic/search")
            .with(json!({"approval": "ap_01m8as402a51kr9pjh670hx6cn", "list": ["4111 1111 1111 1111"]}));
        let said = refusal(said);
        assert_eq!(said.message, "there is no fact ‹EMAIL›, nor EMAIL_tk_k7f3a9cq2m");
        assert_eq!(
            (said.path.as_deref(), said.hint.as_str()),
            (Some("events[3].‹EMAIL›"), "semantic/search")
        );
        assert_eq!(
            said.details.unwrap(),
            json!({"approval": "ap_01m8as402a51kr9pjh670hx6cn", "list": ["‹CREDIT_CARD›"]})
        );
    }
}
