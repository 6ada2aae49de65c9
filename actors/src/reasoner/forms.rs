//! The three ways that endpoints of language models speak. Each is asked without streaming, for JSON of a given form, as
//! evenly as it can be (temperature 0).

use super::{Failure, Prompt, Reply};
use serde_json::{Value, json};

/// What kind of endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Ollama's `/api/chat`, whose `format` holds the model to a schema.
    Ollama,
    /// OpenAI's chat completions, as vLLM, llama.cpp, LM Studio and most providers speak them.
    OpenAi,
    /// Anthropic's messages; the answer is the input of the one tool it must use.
    Anthropic,
}

/// The tool that Anthropic's models answer with.
const TOOL: &str = "propose";

impl Form {
    /// The form of this name.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "ollama" => Self::Ollama,
            "openai" => Self::OpenAi,
            "anthropic" => Self::Anthropic,
            _ => return None,
        })
    }

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ollama => "ollama",
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
        }
    }

    /// Where questions go, under the address of the endpoint.
    pub(super) fn address(self, base: &str) -> String {
        let base = base.trim_end_matches('/');
        match self {
            Self::Ollama => format!("{base}/api/chat"),
            Self::OpenAi => format!("{base}/chat/completions"),
            Self::Anthropic => format!("{}/v1/messages", base.trim_end_matches("/v1")),
        }
    }

    pub(super) fn headers(self, key: Option<&str>) -> Vec<(&'static str, String)> {
        let mut headers = Vec::new();
        match (self, key) {
            (Self::Anthropic, key) => {
                headers.push(("anthropic-version", "2023-06-01".to_owned()));
                headers.extend(key.map(|key| ("x-api-key", key.to_owned())));
            }
            (Self::Ollama | Self::OpenAi, Some(key)) => {
                headers.push(("authorization", format!("Bearer {key}")))
            }
            (Self::Ollama | Self::OpenAi, None) => {}
        }
        headers
    }

    pub(super) fn body(self, model: &str, prompt: &Prompt, most_tokens: u32) -> Value {
        let user = json!({"role": "user", "content": prompt.user});
        let system = json!({"role": "system", "content": prompt.system});
        match self {
            Self::Ollama => json!({
                "model": model,
                "stream": false,
                "format": prompt.schema,
                "options": {"temperature": 0, "num_predict": most_tokens},
                "messages": [system, user],
            }),
            Self::OpenAi => json!({
                "model": model,
                "temperature": 0,
                "max_tokens": most_tokens,
                "response_format": {"type": "json_object"},
                "messages": [system, user],
            }),
            Self::Anthropic => json!({
                "model": model,
                "temperature": 0,
                "max_tokens": most_tokens,
                "system": prompt.system,
                "tools": [{"name": TOOL, "description": "Answer.", "input_schema": prompt.schema}],
                "tool_choice": {"type": "tool", "name": TOOL},
                "messages": [user],
            }),
        }
    }

    /// The answer in its envelope.
    pub(super) fn reply(self, envelope: &Value) -> Result<Reply, Failure> {
        let text = match self {
            Self::Ollama => envelope.pointer("/message/content").and_then(Value::as_str).map(str::to_owned),
            Self::OpenAi => {
                envelope.pointer("/choices/0/message/content").and_then(Value::as_str).map(str::to_owned)
            }
            Self::Anthropic => envelope
                .get("content")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .find(|part| {
                    part.get("type") == Some(&json!("tool_use")) && part.get("name") == Some(&json!(TOOL))
                })
                .and_then(|part| part.get("input"))
                .map(Value::to_string),
        };
        let count = |pointer: &str| envelope.pointer(pointer).and_then(Value::as_u64);
        let (tokens_in, tokens_out) = match self {
            Self::Ollama => (count("/prompt_eval_count"), count("/eval_count")),
            Self::OpenAi => (count("/usage/prompt_tokens"), count("/usage/completion_tokens")),
            Self::Anthropic => (count("/usage/input_tokens"), count("/usage/output_tokens")),
        };
        let text = text.ok_or(Failure::Form("there is no answer in its envelope"))?;
        Ok(Reply { text, tokens_in, tokens_out })
    }
}
