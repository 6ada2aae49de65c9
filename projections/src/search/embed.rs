//! Models that turn text into vectors: none, a small static one, or a full sentence model. None is ever downloaded.

use athena_schemas::refusal::Refusal;

/// Turns texts into vectors. The same text always gives the same vector.
pub trait Embedder: Send + Sync {
    /// Its name, for people.
    fn name(&self) -> &str;

    /// Digest of its files: vectors of another one are not comparable.
    fn fingerprint(&self) -> [u8; 32];

    /// Components of a vector.
    fn dimensions(&self) -> usize;

    /// Whether it reads whole sentences, and not words one by one: then its judgement weighs more.
    fn reads_sentences(&self) -> bool;

    /// The vector of each text, in order.
    ///
    /// # Errors
    /// When a text cannot be read by the model.
    fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, Refusal>;
}
