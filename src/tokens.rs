//! Counting tokens with OpenAI's o200k vocabulary: a stand-in for other models' tokenizers, and said to be one wherever a figure
//! is shown.

use athena_schemas::ports::BoxFuture;

/// Tokens of a text.
pub fn count(text: &str) -> usize {
    bpe_openai::o200k_base().count(text)
}

/// Loads the vocabulary, which takes a moment, off the async threads.
pub fn warm() -> BoxFuture<'static, ()> {
    Box::pin(async {
        let _ = tokio::task::spawn_blocking(|| count("warm")).await;
    })
}
