//! Athena's own words to the operator: `tracing` to stderr (stdout belongs to data and JSON-RPC).

use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// Crates that print whole requests, keys or texts at their finer levels. No setting raises these above `warn`.
const CAPPED: &[&str] = &[
    "rmcp",
    "hyper",
    "hyper_util",
    "reqwest",
    "rustls",
    "tantivy",
    "fjall",
    "lsm_tree",
    "h2",
    "tower",
    "axum",
    "ractor",
    "oauth2",
    "process_wrap",
    "sse_stream",
    "tokio",
    "mio",
];

/// Installs the subscriber of the command line. A library never does: an embedder has its own.
///
/// `RUST_LOG` sets the levels of Athena's own targets (`RUST_LOG=debug`, `RUST_LOG=athena_actors::log=trace`); other crates
/// are capped at `warn`, because some of them print whole requests.
pub fn install(default: LevelFilter) {
    let wanted = std::env::var("RUST_LOG").unwrap_or_default();
    let filter = EnvFilter::builder().with_default_directive(default.into()).parse_lossy(own(&wanted));
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .try_init();
}

/// The directives with foreign targets capped.
fn own(wanted: &str) -> String {
    let mut directives: Vec<String> = wanted
        .split(',')
        .map(str::trim)
        .filter(|directive| !directive.is_empty() && (directive.starts_with("athena") || is_level(directive)))
        .map(str::to_owned)
        .collect();
    // A bare level would also raise crates that are not listed: it is meant for Athena's targets only.
    if let Some(level) = directives.iter().find(|directive| is_level(directive)).cloned() {
        directives.retain(|directive| !is_level(directive));
        directives.extend(["warn".to_owned(), format!("athena={level}")]);
        directives.extend(
            ["athena_schemas", "athena_actors", "athena_projections", "athena_worker"]
                .map(|own| format!("{own}={level}")),
        );
    }
    directives.extend(CAPPED.iter().map(|name| format!("{name}=warn")));
    // What went wrong with a request is told to who made it, in our own words; rmcp would repeat it in the log.
    directives.push("rmcp::service=error".into());
    directives.join(",")
}

fn is_level(directive: &str) -> bool {
    directive.parse::<LevelFilter>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_level_raises_only_athena() {
        let directives = own("trace");
        assert!(directives.contains("athena=trace") && directives.contains("athena_actors=trace"));
        assert!(directives.contains("rmcp=warn"));
        assert!(!directives.split(',').any(|d| d == "trace"));
    }

    #[test]
    fn a_foreign_target_cannot_be_raised() {
        let directives = own("rmcp=trace,athena_actors::log=debug");
        assert!(!directives.contains("rmcp=trace"));
        assert!(directives.contains("athena_actors::log=debug") && directives.contains("rmcp=warn"));
    }
}
