//! `athena completions`: what shells need to complete commands and flags.

use super::session::Session;
use super::{Cli, Done, written};
use clap::CommandFactory;

/// Print shell completions: `athena completions bash > ~/.local/share/bash-completion/completions/athena`
#[derive(Debug, clap::Args)]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: clap_complete::Shell,
}

impl Completions {
    fn script(&self) -> String {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "athena", &mut script);
        String::from_utf8_lossy(&script).into_owned()
    }

    pub(crate) fn run(self, session: &Session) -> Done {
        written(session.out.painted(self.script().trim_end()))
    }
}
