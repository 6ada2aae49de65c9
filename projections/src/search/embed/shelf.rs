//! Installed models: copies in a folder of the store's, each under the digest of its files, one of them in use.

use super::{Embedder, FILES, Files, open};
use athena_schemas::refusal::{Code, Refusal};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Names the model in use.
const CURRENT: &str = "current";

/// An installed model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installed {
    /// BLAKE3 of its files, hexadecimal: its name.
    pub hash: String,
    /// Size of its files, bytes.
    pub bytes: u64,
    /// Whether it is in use.
    pub current: bool,
}

/// The folder of installed models; none where a store has no folder.
#[derive(Debug, Clone, Default)]
pub struct Shelf(PathBuf);

impl Shelf {
    /// A shelf in a folder, which need not exist yet.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self(folder.into())
    }

    /// Copies a model here and checks that it can be used. `expected` is the beginning of its hash, at least 16 digits; with it a
    /// folder that holds something else is refused.
    ///
    /// # Errors
    /// When the folder holds no model, or another one than expected, or the copy fails.
    pub fn install(&self, from: &Path, expected: Option<&str>) -> Result<Installed, Refusal> {
        let files = Files::read(from)?;
        let hash = hex(&files.fingerprint());
        if let Some(expected) = expected
            && (expected.len() < 16 || !hash.starts_with(&expected.to_lowercase()))
        {
            return Err(Refusal::new(Code::Integrity, format!("the model's hash is {hash}, not {expected}"))
                .hint("check where it came from; nothing was installed"));
        }
        open(from)?;
        let folder = self.0.join(&hash);
        let beside = self.0.join(format!("{hash}.new"));
        let failed = |error: std::io::Error| {
            Refusal::new(Code::StorageFull, format!("the model cannot be copied: {error}"))
        };
        std::fs::create_dir_all(&beside).map_err(failed)?;
        for (name, bytes) in FILES.iter().zip([&files.config, &files.tokenizer, &files.weights]) {
            std::fs::write(beside.join(name), bytes).map_err(failed)?;
        }
        if folder.exists() {
            std::fs::remove_dir_all(&folder).map_err(failed)?;
        }
        std::fs::rename(&beside, &folder).map_err(failed)?;
        let bytes = (files.config.len() + files.tokenizer.len() + files.weights.len()) as u64;
        Ok(Installed { current: self.current().as_deref() == Some(&hash), hash, bytes })
    }

    /// The models there are, by hash.
    pub fn list(&self) -> Vec<Installed> {
        let current = self.current();
        let mut all: Vec<Installed> = std::fs::read_dir(&self.0)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| {
                let hash = entry.file_name().into_string().ok().filter(|name| name.len() == 64)?;
                let size =
                    |name: &&str| std::fs::metadata(entry.path().join(name)).map(|file| file.len()).ok();
                let bytes = FILES.iter().map(size).sum::<Option<u64>>()?;
                Some(Installed { current: current.as_deref() == Some(&hash), hash, bytes })
            })
            .collect();
        all.sort_by(|a, b| a.hash.cmp(&b.hash));
        all
    }

    /// Compares installed models with their hashes: those whose hash begins with `hash`, or all.
    ///
    /// # Errors
    /// When there is none such, or the files of one are not what was installed.
    pub fn verify(&self, hash: Option<&str>) -> Result<(), Refusal> {
        let begins = |model: &Installed| hash.is_none_or(|hash| model.hash.starts_with(hash));
        let all: Vec<Installed> = self.list().into_iter().filter(begins).collect();
        if let (true, Some(hash)) = (all.is_empty(), hash) {
            return Err(Refusal::not_found(format!("no installed model begins with {hash}"))
                .hint("athena model list"));
        }
        for model in all {
            let files = Files::read(&self.0.join(&model.hash))?;
            if hex(&files.fingerprint()) != model.hash {
                return Err(changed(&model.hash));
            }
        }
        Ok(())
    }

    /// Names the model to use from the next start on, by the beginning of its hash; `None` for none.
    ///
    /// # Errors
    /// When there is no such model, or several.
    pub fn choose(&self, hash: Option<&str>) -> Result<Option<Installed>, Refusal> {
        let failed = |error: std::io::Error| {
            Refusal::new(Code::StorageFull, format!("the choice cannot be kept: {error}"))
        };
        let Some(hash) = hash else {
            return match std::fs::remove_file(self.0.join(CURRENT)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(failed(error)),
                _ => Ok(None),
            };
        };
        let mut fitting = self.list().into_iter().filter(|model| model.hash.starts_with(hash));
        match (fitting.next(), fitting.next()) {
            (Some(model), None) => {
                std::fs::write(self.0.join(CURRENT), &model.hash).map_err(failed)?;
                Ok(Some(Installed { current: true, ..model }))
            }
            (None, _) => Err(Refusal::not_found(format!("no installed model begins with {hash}"))
                .hint("athena model list")),
            _ => Err(Refusal::invalid(format!("several installed models begin with {hash}"))
                .hint("give more of the hash")),
        }
    }

    /// The model in use, checked against its hash; `None` where none was chosen.
    ///
    /// # Errors
    /// When its files are not what was installed.
    pub fn open_current(&self) -> Result<Option<Arc<dyn Embedder>>, Refusal> {
        let Some(hash) = self.current() else { return Ok(None) };
        let model = open(&self.0.join(&hash))?;
        if hex(&model.fingerprint()) != hash {
            return Err(changed(&hash));
        }
        Ok(Some(model))
    }

    /// The model to start with: the one in `folder` where one is named, else the one in use here.
    ///
    /// # Errors
    /// When its files cannot be used.
    pub fn resolve(&self, folder: Option<&Path>) -> Result<Option<Arc<dyn Embedder>>, Refusal> {
        match folder {
            Some(folder) => open(folder).map(Some),
            None => self.open_current(),
        }
    }

    fn current(&self) -> Option<String> {
        if self.0.as_os_str().is_empty() {
            return None;
        }
        let hash = std::fs::read_to_string(self.0.join(CURRENT)).ok()?;
        let hash = hash.trim();
        (hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit())).then(|| hash.to_owned())
    }
}

fn changed(hash: &str) -> Refusal {
    Refusal::new(Code::Integrity, format!("the installed model {hash} was changed"))
        .hint("athena model install it again")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A static model of four word pieces in two dimensions.
    pub(crate) fn tiny(folder: &Path) {
        let tokenizer = serde_json::json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
            "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": true},
            "pre_tokenizer": {"type": "BertPreTokenizer"}, "post_processor": null, "decoder": null,
            "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
                "vocab": {"[UNK]": 0, "kettle": 1, "teapot": 2, "garden": 3}}
        });
        let values: [f32; 8] = [0.0, 0.0, 1.0, 0.1, 1.0, 0.0, 0.0, 1.0];
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let header = r#"{"embeddings":{"dtype":"F32","shape":[4,2],"data_offsets":[0,32]}}"#;
        let mut weights = (header.len() as u64).to_le_bytes().to_vec();
        weights.extend(header.as_bytes());
        weights.extend(bytes);
        std::fs::write(folder.join("config.json"), r#"{"normalize": true}"#).unwrap();
        std::fs::write(folder.join("tokenizer.json"), tokenizer.to_string()).unwrap();
        std::fs::write(folder.join("model.safetensors"), weights).unwrap();
    }

    #[test]
    fn a_model_is_installed_chosen_and_checked() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        tiny(from.path());
        let shelf = Shelf::new(to.path().join("models"));
        assert!(shelf.open_current().unwrap().is_none());
        assert_eq!(shelf.install(from.path(), Some(&"0".repeat(64))).unwrap_err().code, Code::Integrity);
        assert!(shelf.list().is_empty());

        let installed = shelf.install(from.path(), None).unwrap();
        assert!(shelf.install(from.path(), Some(&installed.hash[..16])).is_ok());
        assert!(shelf.choose(Some("ffff")).is_err());
        shelf.choose(Some(&installed.hash[..8])).unwrap();
        assert_eq!(shelf.list(), [Installed { current: true, ..installed.clone() }]);
        let model = shelf.open_current().unwrap().unwrap();
        let vectors = model.embed(&["kettle", "teapot", "garden"]).unwrap();
        let cosine = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>();
        assert!(cosine(&vectors[0], &vectors[1]) > 0.9 && cosine(&vectors[1], &vectors[2]) < 0.1);

        let file = to.path().join("models").join(&installed.hash).join("config.json");
        std::fs::write(file, r#"{"normalize": false}"#).unwrap();
        assert_eq!(shelf.open_current().err().unwrap().code, Code::Integrity);
        shelf.choose(None).unwrap();
        assert!(shelf.open_current().unwrap().is_none());
    }
}
