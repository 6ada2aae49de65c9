//! `athena init`: Athena becomes the one server in the configuration of each client, and takes over the servers that were there.
//!
//! The servers go to the store first, their secrets to the vault; only then is a file written, its original kept beside it.

use super::output::field;
use super::session::{Session, environment};
use super::{Done, written};
use crate::importers::clients::{Client, Launch};
use crate::importers::takeover::{self, Plan};
use athena_actors::upstream::definition::server_name_near;
use athena_schemas::layers::upstream::Server;
use athena_schemas::refusal::{Code, Refusal};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Connect your MCP clients, and take over the servers they have
#[derive(Debug, clap::Args)]
pub(crate) struct Init {
    /// Which client; may be given again [default: every client that is used here]
    #[arg(long = "client", value_name = "NAME", value_parser = names())]
    clients: Vec<String>,
    /// Show what would be done and change nothing
    #[arg(long, conflicts_with = "undo")]
    dry_run: bool,
    /// Put the files back as they were, to the byte
    #[arg(long)]
    undo: bool,
    /// Undo even where a file was changed since
    #[arg(long, requires = "undo")]
    force: bool,
}

fn names() -> clap::builder::PossibleValuesParser {
    Client::ALL.map(Client::name).into_iter().chain(["all"]).collect::<Vec<_>>().into()
}

impl Init {
    pub(crate) async fn run(self, session: &Session) -> Done {
        let places = self.places()?;
        if self.undo {
            return undo(session, &places, self.force);
        }
        let launch = launch(session)?;
        let mut rows = Vec::new();
        // Everything is read before anything is written: a file that cannot be understood stops the whole.
        let plans = places
            .iter()
            .map(|(client, path)| takeover::plan(*client, path, &launch))
            .collect::<Result<Vec<_>, _>>()?;
        for mut plan in plans {
            if !self.dry_run && plan.changes() {
                let renamed = take_over(session, plan.client.name(), &plan.servers).await?;
                plan.notes.extend(renamed);
                takeover::apply(&plan)?;
            }
            rows.push(row(&plan, self.dry_run));
        }
        shown(session, &rows)?;
        if self.dry_run {
            session.out.note("nothing was changed");
        } else {
            session.out.note("restart the clients; athena upstream list shows what was taken over, athena init --undo puts the files back");
        }
        Ok(0)
    }

    /// The files that are meant: of the named clients, or of all that are used here.
    fn places(&self) -> Result<Vec<(Client, PathBuf)>, Refusal> {
        let home = home()?;
        let config = settings_folder(&home);
        let all = self.clients.is_empty() || self.clients.iter().any(|name| name == "all");
        let place = |client: Client| (client, client.path(&home, &config));
        if !all {
            return self.clients.iter().map(|name| Client::parse(name).map(place)).collect();
        }
        let used: Vec<_> =
            Client::ALL.into_iter().filter(|client| client.is_used(&home, &config)).map(place).collect();
        if used.is_empty() {
            return Err(Refusal::not_found("no MCP client is set up here")
                .hint("name one: athena init --client claude-code"));
        }
        Ok(used)
    }
}

/// The file that a client's name or a path means, and the name of where it comes from.
pub(super) fn source(from: &str) -> Result<(String, PathBuf), Refusal> {
    if let Some(client) = Client::ALL.into_iter().find(|client| client.name() == from) {
        let home = home()?;
        return Ok((from.to_owned(), client.path(&home, &settings_folder(&home))));
    }
    let path = PathBuf::from(from);
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    Ok((server_name_near(&stem), path))
}

fn home() -> Result<PathBuf, Refusal> {
    environment("HOME").ok_or_else(|| Refusal::invalid("there is no home folder").hint("set HOME"))
}

/// Where applications keep their settings.
fn settings_folder(home: &Path) -> PathBuf {
    if cfg!(target_os = "macos") {
        return home.join("Library/Application Support");
    }
    environment("XDG_CONFIG_HOME").unwrap_or_else(|| home.join(".config"))
}

/// This program, on this store.
fn launch(session: &Session) -> Result<Launch, Refusal> {
    let program = std::env::current_exe()
        .map_err(|error| Refusal::internal(format!("this program cannot be found: {error}")))?;
    let mut launch = Launch::serve(program.to_string_lossy());
    if session.globals.store.is_some() {
        let store = std::path::absolute(&session.folders.store)
            .map_err(|error| Refusal::invalid(format!("--store: {error}")))?;
        launch.arguments.splice(0..0, ["--store".to_owned(), store.to_string_lossy().into_owned()]);
    }
    Ok(launch)
}

/// Adds servers to the store. One whose name is taken by another gets the origin's name beside its own; says which.
///
/// # Errors
/// When one cannot be added; those before it stay added, and repeating is safe.
pub(super) async fn take_over(
    session: &Session,
    origin: &str,
    servers: &BTreeMap<String, Server>,
) -> Result<Vec<String>, Refusal> {
    let mut notes = Vec::new();
    for (name, config) in servers {
        let add = |name: &str| {
            session.call("upstream/add", json!({"server": name, "config": config, "fresh": true}))
        };
        match add(name).await {
            Ok(_) => {}
            Err(refusal) if refusal.code == Code::Conflict => {
                let other = format!("{name}_{}", origin.replace('-', "_"));
                add(&other).await?;
                notes.push(format!("{name} is called {other}: there is another {name} already"));
            }
            Err(refusal) => return Err(refusal),
        }
    }
    Ok(notes)
}

fn undo(session: &Session, places: &[(Client, PathBuf)], force: bool) -> Done {
    let mut rows = Vec::new();
    for (client, path) in places {
        let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.clone());
        let done = match takeover::undo(&path, force) {
            Ok(()) => "put back".to_owned(),
            Err(refusal) if refusal.code == Code::NotFound => "nothing to undo".to_owned(),
            Err(refusal) => return Err(refusal),
        };
        rows.push(json!({"client": client.name(), "path": path, "done": done}));
    }
    session.out.note("the servers stay known to Athena; athena upstream remove NAME forgets one");
    shown(session, &rows)
}

fn row(plan: &Plan, dry: bool) -> Value {
    let mut row = plan.report();
    let done = match (plan.changes(), dry) {
        (false, _) => "nothing to do",
        (true, true) => "would be written",
        (true, false) => "written",
    };
    if let Some(fields) = row.as_object_mut() {
        fields.insert("done".into(), done.into());
    }
    row
}

fn shown(session: &Session, rows: &[Value]) -> Done {
    let columns = ["client", "file", "done", "takes over", "left there", "to know"];
    written(session.out.rows(rows, &columns, |row| {
        let list = |path: &str| {
            let items = row.pointer(path).and_then(Value::as_array).into_iter().flatten();
            items.filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
        };
        let left = row.pointer("/skipped").and_then(Value::as_object).into_iter().flatten();
        let left = left.map(|(name, why)| format!("{name}: {}", why.as_str().unwrap_or_default()));
        let left = left.collect::<Vec<_>>().join(", ");
        vec![
            field(row, "/client"),
            field(row, "/path"),
            field(row, "/done"),
            list("/takes"),
            left,
            list("/notes"),
        ]
    }))
}
