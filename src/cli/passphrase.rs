//! Where a passphrase comes from: a file descriptor, the environment, or a person at a terminal. Never the command line, which
//! other users can see and shells remember.

use super::session::Session;
use athena_schemas::refusal::{Code, Refusal};
use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};
use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal, Write};

/// The variable it may stand in.
const VARIABLE: &str = "ATHENA_PASSPHRASE";

/// Where a passphrase is read.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Passphrase {
    /// Read the passphrase from this file descriptor, such as 3 with `3<file` [env: ATHENA_PASSPHRASE]
    #[arg(long = "passphrase-fd", value_name = "N", global = true)]
    descriptor: Option<u32>,
}

impl Passphrase {
    /// The passphrase, where one can be had; `new` is asked for twice.
    ///
    /// # Errors
    /// When it cannot be read, or the second one is another.
    pub(crate) fn find(&self, session: &Session, new: bool) -> Result<Option<String>, Refusal> {
        if let Some(descriptor) = self.descriptor {
            let unreadable = |error: std::io::Error| {
                Refusal::invalid(format!("file descriptor {descriptor}: {error}"))
                    .hint("--passphrase-fd 3 3<file")
            };
            let file = File::open(format!("/dev/fd/{descriptor}")).map_err(unreadable)?;
            let mut line = String::new();
            BufReader::new(file).read_line(&mut line).map_err(unreadable)?;
            return Ok(Some(line.trim_end_matches(['\n', '\r']).to_owned()));
        }
        if let Ok(text) = std::env::var(VARIABLE) {
            return Ok(Some(text));
        }
        if session.globals.no_input || !std::io::stdin().is_terminal() {
            return Ok(None);
        }
        let first = ask("Passphrase: ")?;
        if new && ask("The same again: ")? != first {
            return Err(Refusal::invalid("the second passphrase is not the first"));
        }
        Ok(Some(first))
    }

    /// The passphrase, without which nothing can be done.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn need(&self, session: &Session, new: bool) -> Result<String, Refusal> {
        self.find(session, new)?.ok_or_else(|| {
            Refusal::invalid("a passphrase is needed, and nobody can be asked here")
                .hint(format!("--passphrase-fd N, or set {VARIABLE}"))
        })
    }
}

/// Asks at the terminal, without an echo.
fn ask(question: &str) -> Result<String, Refusal> {
    let failed = |error: std::io::Error| {
        Refusal::new(Code::Unavailable, format!("the terminal cannot be asked: {error}"))
    };
    let mut terminal = File::options().read(true).write(true).open("/dev/tty").map_err(failed)?;
    let before = tcgetattr(&terminal).map_err(|error| failed(error.into()))?;
    let mut silent = before.clone();
    silent.local_flags.remove(LocalFlags::ECHO);
    write!(terminal, "{question}").map_err(failed)?;
    tcsetattr(&terminal, SetArg::TCSAFLUSH, &silent).map_err(|error| failed(error.into()))?;
    let mut line = String::new();
    let read = terminal.try_clone().and_then(|terminal| BufReader::new(terminal).read_line(&mut line));
    let back = tcsetattr(&terminal, SetArg::TCSAFLUSH, &before);
    let _ = writeln!(terminal);
    read.map_err(failed)?;
    back.map_err(|error| failed(error.into()))?;
    Ok(line.trim_end_matches(['\n', '\r']).to_owned())
}
