//! What is known of a server's tools, live or from last time, shared with readers without a mailbox between.

use super::connection::Offer;
use super::definition::canonical;
use super::validate::Checker;
use athena_schemas::layers::upstream::{Pin, Server, Verdict};
use athena_schemas::surface::Tool;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// A tool as it is offered.
#[derive(Debug, Serialize, Deserialize)]
pub struct Offered {
    /// The tool, as its server describes it.
    pub tool: Tool,
    /// Its pin.
    pub pin: Pin,
    /// What changed since it was pinned, where it is held.
    pub held: Option<Vec<String>>,
    /// Why nobody is shown its description.
    pub flagged: Vec<String>,
    #[serde(skip)]
    input: OnceLock<Checker>,
    #[serde(skip)]
    output: OnceLock<Option<Checker>>,
}

impl Offered {
    /// What its arguments must be.
    pub fn input(&self) -> &Checker {
        self.input.get_or_init(|| Checker::new(&self.tool.input))
    }

    /// What its answer should be, where it says.
    pub fn output(&self) -> Option<&Checker> {
        self.output.get_or_init(|| self.tool.output.as_ref().map(Checker::new)).as_ref()
    }

    /// The tool as a model may see it: of a flagged one nothing that its server wrote, of a held one what was pinned is not
    /// known to still hold, so it says so.
    pub fn shown(&self) -> Tool {
        let mut tool = self.tool.clone();
        if !self.flagged.is_empty() {
            tool.description = format!(
                "Its description is withheld: {}. `athena upstream tools {}` shows it; `athena upstream accept {} {}` lifts this.",
                self.flagged.join(", "),
                tool.server,
                tool.server,
                tool.name
            );
            super::catalogue::strip(&mut tool.input);
            tool.output.as_mut().map(super::catalogue::strip).unwrap_or_default();
        }
        tool
    }
}

/// Takes every free text out of a schema.
pub(super) fn strip(schema: &mut serde_json::Value) {
    match schema {
        serde_json::Value::Object(fields) => {
            for key in [
                "description",
                "title",
                "default",
                "examples",
                "example",
                "$comment",
                "enum",
                "const",
                "pattern",
            ] {
                // A property may be called so; then it is a schema, not a text.
                if fields.get(key).is_some_and(|value| !value.is_object()) {
                    fields.shift_remove(key);
                }
            }
            fields.values_mut().for_each(strip);
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(strip),
        _ => {}
    }
}

/// All tools of one server.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Catalogue {
    /// The digest of the configuration they were listed under.
    config: String,
    /// The tools, in the server's order.
    pub tools: Vec<Arc<Offered>>,
    /// Tools that are not offered, with the reason.
    pub refused: BTreeMap<String, String>,
    /// Whether a server has been asked at all.
    pub known: bool,
}

impl Catalogue {
    /// What a server offered, judged.
    pub fn new(config: &Server, offer: Offer, verdict: &Verdict) -> Self {
        let tools = offer
            .tools
            .into_iter()
            .map(|defined| {
                let held = verdict
                    .held
                    .iter()
                    .find(|held| held.tool == defined.tool.name)
                    .map(|held| held.diff.clone());
                let flagged = match &held {
                    // What is held is hidden as well, until somebody has looked.
                    Some(_) => defined.pin.flags.clone(),
                    None => verdict.flagged.get(&defined.tool.name).cloned().unwrap_or_default(),
                };
                Arc::new(Offered {
                    tool: defined.tool,
                    pin: defined.pin,
                    held,
                    flagged,
                    input: OnceLock::new(),
                    output: OnceLock::new(),
                })
            })
            .collect();
        Self { config: digest(config), tools, refused: offer.refused, known: true }
    }

    /// A tool by its safe name, or by the name its server gave it.
    pub fn find(&self, name: &str) -> Option<&Arc<Offered>> {
        self.tools.iter().find(|offered| offered.tool.name == name).or_else(|| {
            self.tools.iter().find(|offered| offered.tool.wire == name || offered.tool.function() == name)
        })
    }

    /// The catalogue of last time, if it was of this configuration.
    pub fn load(folder: &Path, server: &str, config: &Server) -> Option<Self> {
        let text = std::fs::read(file(folder, server)).ok()?;
        let catalogue: Self = serde_json::from_slice(&text).ok()?;
        (catalogue.config == digest(config)).then_some(catalogue)
    }

    /// Keeps it for next time. Blocking.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn save(&self, folder: &Path, server: &str) -> std::io::Result<()> {
        std::fs::create_dir_all(folder)?;
        let path = file(folder, server);
        let fresh = path.with_extension("new");
        std::fs::write(&fresh, serde_json::to_vec(self)?)?;
        std::fs::rename(fresh, path)
    }
}

/// Forgets the catalogue of a server. Blocking.
pub fn forget(folder: &Path, server: &str) {
    let _ = std::fs::remove_file(file(folder, server));
}

fn file(folder: &Path, server: &str) -> PathBuf {
    folder.join(format!("{server}.json"))
}

fn digest(config: &Server) -> String {
    let config = serde_json::to_value(config).unwrap_or_default();
    blake3::hash(canonical(&config).as_bytes()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::collections::BTreeSet;

    fn offer() -> Offer {
        let sent = json!({"name": "a.b", "description": "<IMPORTANT> x", "inputSchema": {"type": "object", "description": "evil", "properties": {
            "description": {"type": "string", "description": "evil"}}}});
        Offer {
            tools: vec![super::super::definition::read("s", &sent, &mut BTreeSet::new()).unwrap()],
            refused: BTreeMap::new(),
        }
    }

    #[test]
    fn a_flagged_tool_keeps_its_types_and_loses_its_words() {
        let verdict =
            Verdict { held: vec![], flagged: BTreeMap::from([("a_b".into(), vec!["a tag".to_string()])]) };
        let catalogue = Catalogue::new(&Server::default(), offer(), &verdict);
        let tool = catalogue.find("a.b").unwrap().shown();
        assert!(!serde_json::to_string(&tool).unwrap().contains("evil"));
        assert_eq!(tool.input["properties"]["description"]["type"], "string");
    }

    #[test]
    fn a_catalogue_is_kept_for_its_configuration_only() {
        let folder = tempfile::tempdir().unwrap();
        let config = Server { command: Some("x".into()), ..Server::default() };
        Catalogue::new(&config, offer(), &Verdict::default()).save(folder.path(), "s").unwrap();
        assert_eq!(Catalogue::load(folder.path(), "s", &config).unwrap().tools.len(), 1);
        assert!(Catalogue::load(folder.path(), "s", &Server::default()).is_none());
        forget(folder.path(), "s");
        assert!(Catalogue::load(folder.path(), "s", &config).is_none());
    }
}
