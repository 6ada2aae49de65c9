//! `athena config`: the settings, and where each comes from.

use super::session::Session;
use super::{Done, written};
use athena_schemas::refusal::Refusal;
use serde_json::{Value, json};
use std::path::PathBuf;

/// Show the settings
#[derive(Debug, clap::Args)]
pub(crate) struct Config {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Clone, Copy, clap::Subcommand)]
enum Command {
    /// Every setting with its value
    Show {
        /// Name the file each value comes from
        #[arg(long)]
        origin: bool,
    },
    /// The files and folders that are used
    Path,
}

impl Config {
    pub(crate) fn run(self, session: &Session) -> Done {
        match self.command.unwrap_or(Command::Show { origin: false }) {
            Command::Show { origin } => show(session, origin),
            Command::Path => {
                let folders = &session.folders;
                let paths = json!({
                    "store": folders.store, "config": folders.config, "runtime": folders.runtime,
                    "files": session.config_files(),
                });
                written(session.out.value(&paths, super::output::pretty))
            }
        }
    }
}

fn show(session: &Session, origin: bool) -> Done {
    let config = serde_json::to_value(session.config()?)
        .map_err(|e| Refusal::internal(format!("the settings cannot be shown: {e}")))?;
    let mut rows = Vec::new();
    for (section, fields) in config.as_object().into_iter().flatten() {
        for (name, value) in fields.as_object().into_iter().flatten() {
            let mut row = json!({ "name": format!("{section}.{name}"), "value": value });
            if let (true, Some(object)) = (origin, row.as_object_mut()) {
                object.insert("origin".into(), json!(origin_of(&session.config_files(), section, name)));
            }
            rows.push(row);
        }
    }
    let columns: &[&str] = if origin { &["setting", "value", "origin"] } else { &["setting", "value"] };
    written(session.out.rows(&rows, columns, |row| {
        let mut cells = vec![cell(row, "name"), cell(row, "value")];
        if origin {
            cells.push(cell(row, "origin"));
        }
        cells
    }))
}

fn cell(row: &Value, name: &str) -> String {
    super::output::field(row, &format!("/{name}"))
}

/// The nearest file that sets a value, or `default`.
fn origin_of(files: &[PathBuf], section: &str, name: &str) -> String {
    let sets = |file: &&PathBuf| {
        let table = std::fs::read_to_string(file).ok().and_then(|text| text.parse::<toml::Table>().ok());
        table.is_some_and(|table| table.get(section).is_some_and(|fields| fields.get(name).is_some()))
    };
    files.iter().rev().find(sets).map_or_else(|| "default".into(), |file| file.display().to_string())
}
