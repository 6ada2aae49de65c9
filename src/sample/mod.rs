//! The sample servers that ship with Athena: real MCP servers over stdio, started as child processes by `athena demo` and by
//! tests (`athena __sample documents|customers`, hidden). They keep everything in memory and need nothing.

mod customers;
mod documents;
mod transcript;

pub use transcript::transcript;

use rmcp::{ServerHandler, ServiceExt};

/// Serves one of the samples over stdio until its client goes.
///
/// # Errors
/// When there is no such sample, or the connection fails.
pub async fn serve(name: &str) -> anyhow::Result<()> {
    match name {
        "documents" => run(documents::Documents::new()).await,
        "customers" => run(customers::Customers::new()).await,
        other => anyhow::bail!("there is no sample server {other}; there are documents and customers"),
    }
}

async fn run(server: impl ServerHandler) -> anyhow::Result<()> {
    let service = server.serve((tokio::io::stdin(), tokio::io::stdout())).await?;
    service.waiting().await?;
    Ok(())
}
