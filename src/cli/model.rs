//! `athena model`: which model turns text into vectors. Nothing is downloaded; a model is a folder that somebody brought.

use super::session::Session;
use super::{Done, written};
use athena_projections::search::embed::shelf::{Installed, Shelf};
use serde_json::{Value, json};
use std::path::PathBuf;

/// List, install and choose embedding models
#[derive(Debug, clap::Args)]
pub(crate) struct Model {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// The installed models, and which one is in use
    List,
    /// Copy a model from a folder (config.json, tokenizer.json, model.safetensors)
    Install {
        /// The folder, as model2vec or sentence-transformers saved it
        folder: PathBuf,
        /// Refuse it unless its hash begins with this, at least 16 digits
        #[arg(long, value_name = "HEX")]
        hash: Option<String>,
    },
    /// Compare installed models with their hashes; all of them where none is named
    Verify {
        /// The beginning of its hash
        hash: Option<String>,
    },
    /// Choose a model by the beginning of its hash, or `none`; from the daemon's next start on
    Use {
        /// The beginning of its hash, or `none`
        hash: String,
    },
}

impl Model {
    pub(crate) fn run(self, session: &Session) -> Done {
        let shelf = Shelf::new(session.folders.store.join("models"));
        match self.command {
            Command::List => show(session, &shelf.list()),
            Command::Install { folder, hash } => show(session, &[shelf.install(&folder, hash.as_deref())?]),
            Command::Verify { hash } => {
                shelf.verify(hash.as_deref())?;
                let named =
                    |model: &Installed| hash.as_deref().is_none_or(|hash| model.hash.starts_with(hash));
                show(session, &shelf.list().into_iter().filter(named).collect::<Vec<_>>())
            }
            Command::Use { hash } => {
                let chosen = shelf.choose((hash != "none").then_some(hash.as_str()))?;
                show(session, &chosen.into_iter().collect::<Vec<_>>())
            }
        }
    }
}

fn show(session: &Session, models: &[Installed]) -> Done {
    let row = |model: &Installed| json!({"hash": model.hash, "bytes": model.bytes, "current": model.current});
    let rows: Vec<Value> = models.iter().map(row).collect();
    let cell = |row: &Value, name: &str| super::output::field(row, &format!("/{name}"));
    let columns = ["hash", "bytes", "in use"];
    written(
        session
            .out
            .rows(&rows, &columns, |row| vec![cell(row, "hash"), cell(row, "bytes"), cell(row, "current")]),
    )
}
