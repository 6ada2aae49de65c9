//! The event log beside its peers: a bare zero-filled file (the limit of the disk), SQLite, and the storage engine alone.

pub(crate) mod append;
pub(crate) mod house;
pub(crate) mod open;
pub(crate) mod peers;
pub(crate) mod read;
pub(crate) mod replay;

use athena_schemas::context::{Channel, Party, Scope};
use athena_schemas::envelope::{Author, Draft, Kind, Meta};
use athena_schemas::id::CommandId;
use std::path::{Path, PathBuf};

/// Payload of an event, bytes.
pub(crate) const PAYLOAD: usize = 256;

/// What all of these benchmarks take.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Settings {
    /// Rounds; every ratio is the median over them.
    #[arg(long, default_value_t = 5)]
    pub rounds: usize,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 1.0)]
    pub seconds: f64,
    /// Events in the store, for reading and opening.
    #[arg(long, default_value_t = 200_000)]
    pub events: u64,
    /// Where the files go: the disk that is measured.
    #[arg(long, default_value = ".")]
    pub dir: PathBuf,
    /// Ends with one JSON object of ratios on stdout.
    #[arg(long)]
    pub json: bool,
}

impl Settings {
    /// A folder for one measurement, removed afterwards.
    pub(crate) fn folder(&self) -> anyhow::Result<tempfile::TempDir> {
        Ok(tempfile::Builder::new().prefix("athena-bench-").tempdir_in(&self.dir)?)
    }
}

/// The event `n`: 256 bytes of payload that do not compress, as ciphertext does not.
pub(crate) fn draft(n: u64) -> Draft {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&n.to_le_bytes());
    let command = CommandId(id);
    let mut payload = Vec::with_capacity(PAYLOAD);
    let mut state = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    while payload.len() < PAYLOAD {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        payload.extend_from_slice(&state.to_le_bytes());
    }
    Draft {
        stream: "semantic".into(),
        id: command.event(0),
        kind: Kind(0x0201),
        schema: 1,
        meta: Meta {
            at_ms: 1_760_000_000_000 + n,
            scope: Scope::project("bench"),
            author: Author { party: Party::Agent, channel: Channel::Mcp, name: "bench".into() },
            command,
            run: None,
            key: None,
        },
        payload,
    }
}

/// The event as its peers keep it.
pub(crate) fn bytes(draft: &Draft) -> anyhow::Result<Vec<u8>> {
    Ok(postcard::to_stdvec(draft)?)
}

/// The median.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Bytes that a folder takes on the disk.
pub(crate) fn disk_bytes(folder: &Path) -> anyhow::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut total = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        total += if meta.is_dir() { disk_bytes(&entry.path())? } else { meta.blocks() * 512 };
    }
    Ok(total)
}

/// Says something to whoever watches; data goes to stdout.
pub(crate) fn say(text: impl std::fmt::Display) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Prints the ratios, as JSON where asked for.
pub(crate) fn report(settings: &Settings, ratios: &serde_json::Value) -> anyhow::Result<()> {
    use std::io::Write;
    let mut out = std::io::stdout();
    if settings.json {
        writeln!(out, "{ratios}")?;
    } else {
        writeln!(out, "{ratios:#}")?;
    }
    Ok(())
}
