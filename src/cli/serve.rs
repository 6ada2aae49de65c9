//! `athena serve`: MCP over stdio, relayed to the store's daemon. Stdout carries JSON-RPC and nothing else.

use super::Done;
use super::session::Session;
use crate::daemon::client::random_name;
use crate::daemon::protocol::{Hello, Mode};
use crate::daemon::relay;
use crate::mcp::Profile;

/// Serve MCP over stdio (for an MCP client to start)
#[derive(Debug, clap::Args)]
pub(crate) struct Serve {
    /// Which tools the client is shown
    #[arg(long, value_enum, default_value_t, env = "ATHENA_PROFILE")]
    profile: Profile,
    /// The project whose memory is meant [default: the git root above the working folder, else the folder]
    #[arg(long, value_name = "NAME", env = "ATHENA_PROJECT")]
    project: Option<String>,
}

impl Serve {
    pub(crate) async fn run(self, session: &Session) -> Done {
        let mode = Mode::Mcp { front: random_name(), profile: self.profile };
        let mut hello = Hello { client: "serve".into(), ..session.hello(mode) };
        if self.project.is_some() {
            hello.scope.project = self.project;
        }
        relay::run(&session.attach()?, &hello, tokio::io::stdin(), tokio::io::stdout()).await?;
        Ok(0)
    }
}
