//! Prompts for the common jobs, kept in `prompts.json`.

use rmcp::ErrorData;
use rmcp::model::{GetPromptResult, Prompt, PromptMessage, Role};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::sync::LazyLock;

#[derive(Deserialize)]
struct Written {
    #[serde(flatten)]
    prompt: Prompt,
    text: String,
}

#[expect(clippy::expect_used, reason = "the file is compiled in and a test reads it")]
static PROMPTS: LazyLock<Vec<Written>> = LazyLock::new(|| {
    serde_json::from_str(include_str!("prompts.json")).expect("prompts.json is well formed")
});

/// Every prompt.
pub(super) fn list() -> Vec<Prompt> {
    PROMPTS.iter().map(|written| written.prompt.clone()).collect()
}

/// A prompt with its arguments filled in.
///
/// # Errors
/// When there is no such prompt or an argument is missing.
pub(super) fn get(name: &str, arguments: Option<&Map<String, Value>>) -> Result<GetPromptResult, ErrorData> {
    let Some(written) = PROMPTS.iter().find(|written| written.prompt.name == name) else {
        let names: Vec<&str> = PROMPTS.iter().map(|written| written.prompt.name.as_str()).collect();
        let name = crate::discreet::text(name);
        let message = format!("there is no prompt {name}; try: {}", names.join(", "));
        return Err(ErrorData::invalid_params(message, None));
    };
    let mut text = written.text.clone();
    for argument in written.prompt.arguments.iter().flatten() {
        let given = arguments.and_then(|given| given.get(&argument.name)).and_then(Value::as_str);
        match given {
            Some(value) => text = text.replace(&format!("{{{}}}", argument.name), value),
            None if argument.required == Some(true) => {
                let message = format!("the prompt {name} needs the argument {}", argument.name);
                return Err(ErrorData::invalid_params(message, None));
            }
            None => {}
        }
    }
    let messages = vec![PromptMessage::new_text(Role::User, text)];
    let result = GetPromptResult::new(messages);
    Ok(match &written.prompt.description {
        Some(description) => result.with_description(description.clone()),
        None => result,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_stand_where_the_text_names_them() {
        let given = Map::from_iter([("task".to_owned(), Value::from("fix the roof"))]);
        let prompt = serde_json::to_string(&get("start", Some(&given)).unwrap()).unwrap();
        assert!(prompt.contains("I want to do this: fix the roof") && !prompt.contains("{task}"));
        assert!(get("start", None).unwrap_err().message.contains("task"));
        assert!(get("nothing", None).unwrap_err().message.contains("wrap_up"));
    }

    #[test]
    fn every_operation_a_prompt_names_exists() {
        for written in PROMPTS.iter() {
            for named in written.text.split("athena.").skip(1) {
                let op: String =
                    named.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_' || *c == '.').collect();
                let op = op.trim_end_matches('.').replace('.', "/");
                assert!(athena_schemas::catalog::find(&op).is_some(), "{}: {op}", written.prompt.name);
            }
        }
    }
}
