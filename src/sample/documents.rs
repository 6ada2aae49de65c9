//! A small document store.

use super::transcript::transcript;
use rmcp::handler::server::wrapper::{Json, Parameters};
use rmcp::schemars::{self, JsonSchema};
use rmcp::{ErrorData, ServerHandler, tool, tool_handler, tool_router};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The name of the long transcript.
const TRANSCRIPT: &str = "meetings/2026-11-12-product-council.md";

#[derive(Clone)]
pub(super) struct Documents {
    all: Arc<Mutex<BTreeMap<String, String>>>,
}

#[derive(Serialize, JsonSchema)]
struct Listing {
    /// The documents, by name.
    documents: Vec<Entry>,
}

#[derive(Serialize, JsonSchema)]
struct Entry {
    /// Its name, a path.
    name: String,
    /// Its length.
    bytes: usize,
}

#[derive(Deserialize, JsonSchema)]
struct Named {
    /// The document's name, as `list_documents` shows it.
    name: String,
}

#[derive(Serialize, JsonSchema)]
struct Document {
    /// Its name.
    name: String,
    /// Its whole text.
    content: String,
}

#[derive(Deserialize, JsonSchema)]
struct Written {
    /// The document's name; it is created, or replaced.
    name: String,
    /// Its new text.
    content: String,
}

#[derive(Serialize, JsonSchema)]
struct Stored {
    /// Its name.
    name: String,
    /// Its length now.
    bytes: usize,
    /// Whether there was one of that name before.
    replaced: bool,
}

#[tool_router]
impl Documents {
    pub(super) fn new() -> Self {
        let all = BTreeMap::from([
            (TRANSCRIPT.to_string(), transcript()),
            ("notes/kettle.md".to_string(), "The kettle is in the left cupboard.\n".to_string()),
        ]);
        Self { all: Arc::new(Mutex::new(all)) }
    }

    /// List all documents with their length.
    #[tool(annotations(read_only_hint = true, open_world_hint = false))]
    fn list_documents(&self) -> Json<Listing> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let documents =
            all.iter().map(|(name, text)| Entry { name: name.clone(), bytes: text.len() }).collect();
        Json(Listing { documents })
    }

    /// Read the whole text of one document.
    #[tool(annotations(read_only_hint = true, open_world_hint = false))]
    fn read_document(
        &self,
        Parameters(Named { name }): Parameters<Named>,
    ) -> Result<Json<Document>, ErrorData> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let content = all
            .get(&name)
            .cloned()
            .ok_or_else(|| ErrorData::invalid_params(format!("there is no document {name}"), None))?;
        Ok(Json(Document { name, content }))
    }

    /// Write a document: create it, or replace its text.
    #[tool(annotations(
        read_only_hint = false,
        destructive_hint = false,
        idempotent_hint = true,
        open_world_hint = false
    ))]
    fn write_document(&self, Parameters(Written { name, content }): Parameters<Written>) -> Json<Stored> {
        let bytes = content.len();
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let replaced = all.insert(name.clone(), content).is_some();
        Json(Stored { name, bytes, replaced })
    }
}

#[tool_handler(name = "athena-sample-documents", instructions = "A sample document store.")]
impl ServerHandler for Documents {}
