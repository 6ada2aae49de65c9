//! `athena docs`: the documentation of everything that code can call, made from the definitions themselves.

use super::session::Session;
use super::{Done, written};
use crate::toolbox::export::Form;
use serde_json::json;

/// Print the documentation of the tools that code can call: `athena docs github --format html > github.html`
#[derive(Debug, clap::Args)]
pub(crate) struct Docs {
    /// Of this server alone; athena for the memory operations
    server: Option<String>,
    /// The form; with --json it is JSON
    #[arg(long, value_enum, default_value_t)]
    format: Form,
}

impl Docs {
    pub(crate) async fn run(self, session: &Session) -> Done {
        let format = if session.out.json { Form::Json } else { self.format };
        let text =
            session.call("tools/reference", json!({ "server": self.server, "format": format })).await?;
        written(session.out.text(text.as_str().unwrap_or_default().trim_end()))
    }
}
