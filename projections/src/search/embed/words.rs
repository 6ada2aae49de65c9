//! Static vectors: one a word piece, the mean of a text's. Microseconds a text, and no order of words.
//!
//! The form is model2vec's (Tulkens and van Dongen 2024): the output of a sentence model for each word piece by itself, reduced by
//! principal components and weighted by Zipf's law. Distil one with
//! `python3 -m pip install "model2vec[distill]"` and `model2vec.distill.distill(model, pca_dims=256).save_pretrained(folder)`.

use super::{Embedder, Files, broken};
use athena_schemas::refusal::Refusal;
use model2vec_rs::model::StaticModel;

/// Word pieces of a text that count.
const PIECES: usize = 512;

/// A static model.
pub struct WordVectors {
    name: String,
    fingerprint: [u8; 32],
    model: StaticModel,
}

impl WordVectors {
    pub(super) fn load(name: String, files: &Files) -> Result<Self, Refusal> {
        // Bytes instead of floats: a quarter of the memory for less than a thousandth of a cosine.
        let model = StaticModel::from_bytes(&files.tokenizer, &files.weights, &files.config, Some(true))
            .map_err(|error| broken("model.safetensors", error))?
            .quantize_int8();
        Ok(Self { name, fingerprint: files.fingerprint(), model })
    }
}

impl Embedder for WordVectors {
    fn name(&self) -> &str {
        &self.name
    }

    fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint
    }

    fn dimensions(&self) -> usize {
        self.model.dim()
    }

    fn reads_sentences(&self) -> bool {
        false
    }

    fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, Refusal> {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        Ok(self.model.encode_with_args(&texts, Some(PIECES), texts.len().max(1)))
    }
}
