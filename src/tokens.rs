//! Counting tokens with OpenAI's o200k vocabulary: a stand-in for other models' tokenizers, and said to be one wherever a figure
//! is shown.

use tokio::sync::OnceCell;

static LOADED: OnceCell<()> = OnceCell::const_new();

/// Tokens of a text.
pub fn count(text: &str) -> usize {
    bpe_openai::o200k_base().count(text)
}

/// Loads the vocabulary (some 40 MiB) off the async threads, once: a daemon that runs no code does without it.
pub async fn warm() {
    LOADED
        .get_or_init(|| async {
            let _ = tokio::task::spawn_blocking(|| count("warm")).await;
        })
        .await;
}
