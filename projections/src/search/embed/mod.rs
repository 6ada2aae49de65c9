//! Models that turn text into vectors: none, a small static one, or a full sentence model. None is ever downloaded.

mod bert;
pub mod shelf;
mod words;

pub use bert::Bert;
pub use words::WordVectors;

use athena_schemas::refusal::{Code, Refusal};
use std::path::Path;
use std::sync::Arc;

/// The files of a model, the same for both kinds.
pub const FILES: [&str; 3] = ["config.json", "tokenizer.json", "model.safetensors"];

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

/// The content of a model's files.
struct Files {
    config: Vec<u8>,
    tokenizer: Vec<u8>,
    weights: Vec<u8>,
}

impl Files {
    fn read(folder: &Path) -> Result<Self, Refusal> {
        let read = |name: &str| {
            std::fs::read(folder.join(name)).map_err(|error| {
                Refusal::not_found(format!("{} is no model: {name}: {error}", folder.display()))
                    .hint(format!("a folder with {}", FILES.join(", ")))
            })
        };
        let [config, tokenizer, weights] = FILES;
        Ok(Self { config: read(config)?, tokenizer: read(tokenizer)?, weights: read(weights)? })
    }

    /// BLAKE3 over all three, each with its length before it.
    fn fingerprint(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        for file in [&self.config, &self.tokenizer, &self.weights] {
            hasher.update(&(file.len() as u64).to_le_bytes());
            hasher.update(file);
        }
        *hasher.finalize().as_bytes()
    }
}

/// Opens the model in a folder: a static one in model2vec's form, or a BERT encoder of sentence-transformers.
///
/// # Errors
/// When a file is missing or is not what its name says.
pub fn open(folder: &Path) -> Result<Arc<dyn Embedder>, Refusal> {
    let files = Files::read(folder)?;
    let name = folder.file_name().map_or_else(|| "model".into(), |name| name.to_string_lossy().into_owned());
    let config: serde_json::Value =
        serde_json::from_slice(&files.config).map_err(|error| broken("config.json", error))?;
    if config.get("model_type").and_then(serde_json::Value::as_str) == Some("bert") {
        Ok(Arc::new(Bert::load(name, &files)?))
    } else {
        Ok(Arc::new(WordVectors::load(name, &files)?))
    }
}

fn broken(file: &str, cause: impl std::fmt::Display) -> Refusal {
    Refusal::new(Code::Integrity, format!("the model's {file} cannot be used: {cause}"))
        .hint("athena model install takes a folder that model2vec or sentence-transformers saved")
}
