//! Embedding models through the command line: brought in a folder, checked against their hashes, changed beside the old one.

use crate::support::{Store, text};
use serde_json::{Value, json};
use std::path::Path;

/// A static model in model2vec's form: three words in two dimensions.
fn model(folder: &Path, vectors: [[f32; 2]; 3]) {
    let normalizer = json!({"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
        "strip_accents": null, "lowercase": true});
    let pieces = json!({"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 100, "vocab": {"[UNK]": 0, "kettle": 1, "teapot": 2, "garden": 3}});
    let tokenizer = json!({"version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": normalizer, "pre_tokenizer": {"type": "BertPreTokenizer"}, "post_processor": null,
        "decoder": null, "model": pieces});
    let values = [[0.0, 0.0], vectors[0], vectors[1], vectors[2]];
    let header = r#"{"embeddings":{"dtype":"F32","shape":[4,2],"data_offsets":[0,32]}}"#;
    let mut weights = (header.len() as u64).to_le_bytes().to_vec();
    weights.extend(header.as_bytes());
    weights.extend(values.as_flattened().iter().flat_map(|value| value.to_le_bytes()));
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join("config.json"), r#"{"normalize": true}"#).unwrap();
    std::fs::write(folder.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    std::fs::write(folder.join("model.safetensors"), weights).unwrap();
}

/// The models a command shows, one a line.
fn models(store: &Store, arguments: &[&str]) -> Vec<Value> {
    let output = store.run(&[&["--json", "model"], arguments].concat());
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Installs a model; its hash.
fn install(store: &Store, folder: &Path) -> String {
    models(store, &["install", folder.to_str().unwrap()])[0]["hash"].as_str().unwrap().to_owned()
}

/// From the daemon's next start on.
fn choose(store: &Store, hash: &str) {
    models(store, &["use", hash]);
    store.run(&["daemon", "stop"]);
}

/// The fact nearest to a text, and whether meaning said so.
fn nearest(store: &Store, query: &str) -> (String, bool) {
    let found = store.json(&["call", "rag/vector_search", &json!({"query": query, "limit": 1}).to_string()]);
    let hit = &found[0];
    (hit["item"]["content"].as_str().unwrap_or_default().to_owned(), hit["signals"]["vector"].is_f64())
}

#[test]
fn a_model_is_brought_chosen_and_changed_for_another() {
    let (store, folder) = (Store::new(), tempfile::tempdir().unwrap());
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    model(&first, [[1.0, 0.1], [1.0, 0.0], [0.0, 1.0]]);
    model(&second, [[1.0, 0.1], [0.0, 1.0], [1.0, 0.0]]);
    for content in ["teapot", "garden"] {
        store.json(&["call", "semantic/store", &json!({"content": content}).to_string()]);
    }
    let other = "0".repeat(64);
    let refused = store.run(&["model", "install", first.to_str().unwrap(), "--hash", &other]);
    assert!(!refused.status.success() && text(&refused.stderr).contains("nothing was installed"));
    assert!(models(&store, &["list"]).is_empty());

    let (one, two) = (install(&store, &first), install(&store, &second));
    assert_ne!(one, two);
    choose(&store, &one[..12]);
    let listed = models(&store, &["list"]);
    let current: Vec<&Value> = listed.iter().filter(|model| model["current"] == true).collect();
    assert_eq!((listed.len(), current.len(), &current[0]["hash"]), (2, 1, &json!(one)));
    // What was stored before there was a model is found by it.
    assert_eq!(nearest(&store, "kettle"), ("teapot".into(), true));
    // Another model: its vectors are made from the same texts.
    choose(&store, &two);
    assert_eq!(nearest(&store, "kettle"), ("garden".into(), true));
    store.json(&["call", "semantic/store", r#"{"content": "kettle"}"#]);
    assert_eq!(nearest(&store, "kettle"), ("kettle".into(), true));
    // And back; what came while the other was in use is there.
    choose(&store, &one);
    assert_eq!(nearest(&store, "kettle"), ("kettle".into(), true));
    choose(&store, "none");
    assert_eq!(nearest(&store, "kettle"), ("kettle".into(), false));
}

#[test]
fn a_model_that_was_changed_on_disk_is_refused() {
    let (store, folder) = (Store::new(), tempfile::tempdir().unwrap());
    model(folder.path(), [[1.0, 0.1], [1.0, 0.0], [0.0, 1.0]]);
    let hash = install(&store, folder.path());
    choose(&store, &hash);
    assert!(store.run(&["model", "verify"]).status.success());
    let weights = store.path().join("models").join(&hash).join("model.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&weights, bytes).unwrap();
    for command in
        [vec!["model", "verify"], vec!["model", "verify", &hash[..8]], vec!["call", "meta/stats", "{}"]]
    {
        let output = store.run(&command);
        let said = text(&output.stderr) + &text(&output.stdout);
        assert!(!output.status.success() && said.contains("was changed"), "{command:?}: {said}");
    }
    let unknown = store.run(&["model", "verify", "ffffffff"]);
    assert!(!unknown.status.success(), "{}", text(&unknown.stdout));
    // Installed again it is whole.
    install(&store, folder.path());
    store.run(&["daemon", "stop"]);
    assert!(store.run(&["model", "verify"]).status.success());
    assert!(store.run(&["call", "meta/stats", "{}"]).status.success());
}
