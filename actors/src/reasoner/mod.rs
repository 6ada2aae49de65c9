//! A language model, asked over HTTP: the second system of consolidation, where a person configured one.
//!
//! It is the only part that sends memories anywhere, so what it may do is little: one address, no redirects, a key only over a
//! connection that nobody else reads, a bounded answer in a bounded time. [`forms`] knows the three ways such endpoints speak,
//! [`claims`] what of an answer is taken.

pub mod claims;
mod forms;
#[cfg(test)]
mod tests;

use athena_schemas::refusal::Refusal;
use serde_json::Value;
use std::time::Duration;
use url::{Host, Url};

pub use forms::Form;

/// Most bytes of an answer.
pub const ANSWER_BYTES: usize = 256 << 10;
/// Most tokens an answer is allowed.
pub const ANSWER_TOKENS: u32 = 1_024;

/// A model at an address.
#[derive(Debug, Clone)]
pub struct Model {
    form: Form,
    url: String,
    name: String,
    timeout: Duration,
    client: reqwest::Client,
    /// Whether what is sent can be read on the way.
    open: bool,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Prompt {
    /// What the model is to do.
    pub system: String,
    /// What it is to do it with.
    pub user: String,
    /// JSON Schema of the answer.
    pub schema: Value,
}

/// What was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The answer, JSON if the model did as told.
    pub text: String,
    /// Tokens sent, where the model says so.
    pub tokens_in: Option<u64>,
    /// Tokens answered, where the model says so.
    pub tokens_out: Option<u64>,
}

/// Why there is no answer. Nothing that the other side said is in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// No connection, or it broke.
    #[error("the model cannot be reached")]
    Unreachable,
    /// It took too long.
    #[error("the model did not answer within {0:?}")]
    Slow(Duration),
    /// It refused.
    #[error("the model's server answered with status {0}")]
    Status(u16),
    /// It said too much.
    #[error("the model's answer has more than {ANSWER_BYTES} bytes")]
    TooLarge,
    /// It said something else.
    #[error("the model's answer is not of the form asked for: {0}")]
    Form(&'static str),
}

impl Model {
    /// A model at the address of its endpoint, such as `http://127.0.0.1:11434` (Ollama), `https://api.openai.com/v1` (anything
    /// that speaks OpenAI's chat completions) or `https://api.anthropic.com`. Nothing is sent yet.
    ///
    /// # Errors
    /// When the address is not http or https, or names no host.
    pub fn new(form: Form, url: &str, name: &str, timeout: Duration) -> Result<Self, Refusal> {
        let wrong = |why: String| Refusal::invalid(format!("the model's address: {why}")).at("url");
        let parsed = Url::parse(url).map_err(|error| wrong(error.to_string()))?;
        if !matches!(parsed.scheme(), "http" | "https") || parsed.host().is_none() {
            return Err(wrong("only http and https with a host are spoken".into()));
        }
        if !parsed.username().is_empty() || parsed.password().is_some() {
            return Err(wrong("it has a name or password in it; a key goes into `key`".into()));
        }
        let here = match parsed.host() {
            Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
            Some(Host::Ipv4(ip)) => ip.is_loopback(),
            Some(Host::Ipv6(ip)) => ip.is_loopback(),
            None => false,
        };
        let mut client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(timeout.min(Duration::from_secs(10)))
            .timeout(timeout);
        if here {
            client = client.no_proxy();
        }
        let client = client.build().map_err(|error| Refusal::internal(error.to_string()))?;
        Ok(Self {
            form,
            url: form.address(url),
            name: name.to_owned(),
            timeout,
            client,
            open: parsed.scheme() == "http" && !here,
        })
    }

    /// The form of its endpoint and its name, such as `ollama/llama3.2`.
    pub fn label(&self) -> String {
        format!("{}/{}", self.form.as_str(), self.name)
    }

    /// Whether a key may be sent to it: not where it could be read on the way.
    pub fn may_have_key(&self) -> bool {
        !self.open
    }

    /// Asks once.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn ask(&self, key: Option<&str>, prompt: &Prompt) -> Result<Reply, Failure> {
        tokio::time::timeout(self.timeout, self.asked(key, prompt))
            .await
            .unwrap_or(Err(Failure::Slow(self.timeout)))
    }

    async fn asked(&self, key: Option<&str>, prompt: &Prompt) -> Result<Reply, Failure> {
        let body = self.form.body(&self.name, prompt, ANSWER_TOKENS).to_string();
        let mut request = self.client.post(&self.url).header("content-type", "application/json");
        for (name, value) in self.form.headers(key.filter(|_| self.may_have_key())) {
            request = request.header(name, value);
        }
        let mut response = request.body(body).send().await.map_err(|error| self.failed(&error))?;
        let status = response.status();
        if !status.is_success() {
            return Err(Failure::Status(status.as_u16()));
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.failed(&error))? {
            if bytes.len() + chunk.len() > ANSWER_BYTES {
                return Err(Failure::TooLarge);
            }
            bytes.extend_from_slice(&chunk);
        }
        let value: Value =
            serde_json::from_slice(&bytes).map_err(|_| Failure::Form("its envelope is no JSON"))?;
        self.form.reply(&value)
    }

    fn failed(&self, error: &reqwest::Error) -> Failure {
        if error.is_timeout() { Failure::Slow(self.timeout) } else { Failure::Unreachable }
    }
}
