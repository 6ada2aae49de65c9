//! What every command has: its flags, its voice, and the way to the store.

use super::Globals;
use super::output::{Output, colors_wanted};
use crate::config::{Config, Folders};
use crate::daemon::attach::{Attach, greeting};
use crate::daemon::place::project_of;
use crate::daemon::protocol::{Hello, Mode};
use crate::daemon::{Client, Place};
pub(crate) use crate::filter::when;
use athena_schemas::context::Scope;
use athena_schemas::envelope::Seq;
use athena_schemas::ports::{Answer, Request};
use athena_schemas::refusal::Refusal;
use serde_json::{Value, json};
use std::path::PathBuf;
use tokio::sync::OnceCell;

/// One run of the program.
pub(crate) struct Session {
    /// The flags that every command takes.
    pub(crate) globals: Globals,
    /// Its voice.
    pub(crate) out: Output,
    /// Where things lie.
    pub(crate) folders: Folders,
    client: OnceCell<Client>,
    at: OnceCell<Option<Seq>>,
}

impl Session {
    /// A session by its flags.
    ///
    /// # Errors
    /// When there is no folder to keep a store in.
    pub(crate) fn new(globals: Globals) -> Result<Self, Refusal> {
        let out = Output {
            json: globals.json,
            plain: globals.plain,
            color: colors_wanted(globals.no_color || globals.plain || globals.json),
            quiet: globals.quiet,
        };
        let folders = Folders::find(globals.store.clone(), environment)?;
        Ok(Self { globals, out, folders, client: OnceCell::new(), at: OnceCell::new() })
    }

    /// The settings.
    ///
    /// # Errors
    /// When a file of settings is not well formed.
    pub(crate) fn config(&self) -> Result<Config, Refusal> {
        Config::load(&self.config_files())
    }

    /// The files of settings, the nearest last.
    pub(crate) fn config_files(&self) -> Vec<PathBuf> {
        vec![self.folders.config.join("config.toml"), PathBuf::from("athena.toml")]
    }

    /// The way to the store's daemon.
    ///
    /// # Errors
    /// When the store's folder cannot be used.
    pub(crate) fn attach(&self) -> Result<Attach, Refusal> {
        Ok(Attach::to(Place::of(&self.folders)?))
    }

    /// The project this command works in.
    pub(crate) fn scope(&self) -> Scope {
        Scope::project(project_of(&std::env::current_dir().unwrap_or_default()))
    }

    /// The greeting of a person's command.
    pub(crate) fn hello(&self, mode: Mode) -> Hello {
        Hello { scope: self.scope(), ..greeting(mode) }
    }

    /// The daemon, attached or started.
    ///
    /// # Errors
    /// When it cannot be had.
    pub(crate) async fn client(&self) -> Result<&Client, Refusal> {
        self.client
            .get_or_try_init(|| async { Ok(Client::new(self.attach()?, self.hello(Mode::Calls))) })
            .await
    }

    /// One call.
    ///
    /// # Errors
    /// What was refused.
    pub(crate) async fn call(&self, op: &str, params: Value) -> Result<Value, Refusal> {
        Ok(self.answer(Request::new(op, params)).await?.value)
    }

    /// One call with all that a request may say; `--at` is added to reads.
    ///
    /// # Errors
    /// What was refused.
    pub(crate) async fn answer(&self, mut request: Request) -> Result<Answer, Refusal> {
        if request.at_seq.is_none() {
            request.at_seq = self.at().await?;
        }
        self.client().await?.request(request).await
    }

    /// Long work of the daemon's, with a bar.
    ///
    /// # Errors
    /// What was refused.
    pub(crate) async fn work(&self, what: &'static str, op: &str, params: Value) -> Result<Value, Refusal> {
        let mut bar = self.out.bar(what);
        let number = |value: &Value, name: &str| value.get(name).and_then(Value::as_u64).unwrap_or(0);
        let told = |value: &Value| bar.at(number(value, "done"), number(value, "total"));
        self.client().await?.work(op, params, told).await
    }

    /// Refuses `--at` where it means nothing.
    ///
    /// # Errors
    /// Where it was said.
    pub(crate) fn only_now(&self, what: &str) -> Result<(), Refusal> {
        match &self.globals.at {
            None => Ok(()),
            Some(_) => Err(Refusal::invalid(format!("{what} has no earlier state")).at("--at").hint(
                "--at works on what is read: recall, search, call, run list, log, approvals, replay --into",
            )),
        }
    }

    /// Asks a person, on the terminal; `--yes` answers, and where nobody can be asked the answer is no.
    ///
    /// # Errors
    /// When nobody may be asked.
    pub(crate) fn confirm(&self, question: &str) -> Result<bool, Refusal> {
        use std::io::{BufRead, IsTerminal, Write};
        if self.globals.yes {
            return Ok(true);
        }
        if self.globals.no_input || !std::io::stdin().is_terminal() {
            return Err(Refusal::invalid(format!("{question} Nobody can be asked here")).hint("--yes"));
        }
        let _ = write!(std::io::stderr(), "{question} [y/N] ");
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer).map_err(super::call::unreadable)?;
        Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
    }

    /// The position that `--at` names.
    async fn at(&self) -> Result<Option<Seq>, Refusal> {
        let Some(at) = &self.globals.at else { return Ok(None) };
        self.at
            .get_or_try_init(|| async {
                if let Ok(seq) = at.parse() {
                    return Ok(Some(seq));
                }
                let at_ms = when(at)?;
                let request = Request::new("log/position", json!({ "at_ms": at_ms }));
                let answer = self.client().await?.request(request).await?;
                Ok(answer.value.get("seq").and_then(Value::as_u64))
            })
            .await
            .copied()
    }
}

/// The environment, as folders are looked for in it: relative paths do not count (XDG says so), except the store's own.
pub(crate) fn environment(name: &str) -> Option<PathBuf> {
    let path = PathBuf::from(std::env::var_os(name).filter(|value| !value.is_empty())?);
    (path.is_absolute() || name == "ATHENA_STORE").then_some(path)
}
