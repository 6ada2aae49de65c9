//! What is done to the store as a whole while it is in use: files made of its log, its keys, its upkeep. Only a person asks for
//! it, and only the process that holds the store can do it.

use super::journal::blocking;
use super::protocol::{Call, Reply};
use super::server::Parts;
use crate::clock::Clock;
use crate::files::{bytes_below, write_private};
use crate::filter::Filter;
use crate::history::{difference, standing};
use athena_actors::keys::KeyStore;
use athena_actors::log::{Checkpoint, LogHandle, Order, Signer};
use athena_schemas::envelope::Seq;
use athena_schemas::ports::LogReader;
use athena_schemas::refusal::{Code, Refusal};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::mpsc;

/// The store's own parts.
#[derive(Clone)]
pub struct Custody {
    /// The log's writer.
    pub log: LogHandle,
    /// The keys.
    pub keys: Arc<KeyStore>,
    /// The store's folder; none in memory.
    pub folder: Option<PathBuf>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
}

/// Whether it is done here.
pub(crate) fn is_ours(op: &str) -> bool {
    matches!(
        op,
        "log/export"
            | "log/backup"
            | "log/compact"
            | "log/checkpoint"
            | "log/materialise"
            | "log/standing"
            | "log/difference"
            | "keys/status"
            | "keys/rotate"
            | "keys/backup"
    )
}

/// A log as a file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Export {
    file: PathBuf,
    #[serde(default)]
    filter: Filter,
    /// The keys go along under this passphrase.
    passphrase: Option<String>,
}

/// A copy of the log in a folder.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Copy {
    folder: PathBuf,
    passphrase: Option<String>,
}

/// The store as it stood.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Materialise {
    folder: PathBuf,
    seq: Seq,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct At {
    seq: Seq,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Between {
    from: Seq,
    to: Seq,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeysBackup {
    passphrase: String,
}

/// Does it; how far long work has come goes to `more`.
pub(crate) async fn answer(call: &Call, parts: &Parts, more: &mpsc::Sender<Reply>) -> Result<Value, Refusal> {
    let custody = parts
        .house
        .custody()
        .ok_or_else(|| Refusal::new(Code::Unavailable, "there is no store behind this daemon"))?;
    let progress = Progress { id: call.id, more: more.clone() };
    match call.op.as_str() {
        "log/export" => custody.export(read(call)?, progress).await,
        "log/backup" => custody.backup(read(call)?, progress).await,
        "log/materialise" => custody.materialise(read(call)?, progress).await,
        "log/standing" => {
            let At { seq } = read(call)?;
            let (log, sealer) = (parts.log.clone(), parts.sealer.clone());
            let mut progress = progress;
            blocking(move || {
                let seq = known(&*log, seq)?;
                let parts = standing(&*log, &*sealer, seq, &mut |done, total| progress.tell(done, total))?;
                let placed = parts.into_iter().map(|part| {
                    let mut part = json_of(part)?;
                    part.as_object_mut().map(|part| part.insert("seq".into(), json!(seq)));
                    Ok(part)
                });
                placed.collect::<Result<Vec<_>, Refusal>>().map(Value::from)
            })
            .await
        }
        "log/difference" => {
            let Between { from, to } = read(call)?;
            let (log, sealer) = (parts.log.clone(), parts.sealer.clone());
            let mut progress = progress;
            blocking(move || {
                let (from, to) = (known(&*log, from)?, known(&*log, to)?);
                json_of(difference(&*log, &*sealer, from, to, &mut |done, total| progress.tell(done, total))?)
            })
            .await
        }
        "log/compact" => custody.compact(progress).await,
        "log/checkpoint" => json_of(custody.checkpoint().await?),
        "keys/status" => json_of(custody.keys.status()),
        "keys/rotate" => {
            let keys = custody.keys.clone();
            blocking(move || keys.rotate().and_then(|()| json_of(keys.status()))).await
        }
        _ => {
            let KeysBackup { passphrase } = read(call)?;
            let keys = custody.keys.clone();
            blocking(move || Ok(json!({ "sealed": hex(&keys.backup(&passphrase)?), "keys": keys.status() })))
                .await
        }
    }
}

impl Custody {
    /// The head, vouched for.
    async fn checkpoint(&self) -> Result<Checkpoint, Refusal> {
        let secret = self.keys.derive("checkpoint", "log");
        let signer = Signer::new(secret.first_chunk::<32>().unwrap_or(&[0; 32]));
        Ok(self.log.checkpoint(&signer, self.clock.now_ms()).await?)
    }

    async fn export(self, wanted: Export, mut progress: Progress) -> Result<Value, Refusal> {
        let checkpoint = self.checkpoint().await?;
        blocking(move || {
            let Export { file, filter, passphrase } = wanted;
            let keys = passphrase.map(|passphrase| self.keys.backup(&passphrase)).transpose()?;
            let range = filter.range(&*self.log.reader())?;
            let chosen = |record: &athena_schemas::envelope::Record| {
                range.contains(&record.seq) && filter.takes(record)
            };
            let whole = filter.takes_all();
            let order = Order {
                checkpoint: &checkpoint,
                after: if whole { 0 } else { (range.start() - 1).min(checkpoint.seq) },
                excerpt: if whole { None } else { Some(json_of(&filter)?) },
                choice: &chosen,
                keys: keys.as_deref(),
                made_ms: self.clock.now_ms(),
            };
            let written = self.log.export(&file, &order, &mut |done, total| progress.tell(done, total))?;
            Ok(json!({
                "file": file, "events": written.events, "bytes": written.bytes, "excerpt": !whole,
                "keys": keys.is_some(), "checkpoint": checkpoint,
            }))
        })
        .await
    }

    async fn backup(self, wanted: Copy, mut progress: Progress) -> Result<Value, Refusal> {
        let checkpoint = self.checkpoint().await?;
        blocking(move || {
            let Copy { folder, passphrase } = wanted;
            let keys = passphrase.map(|passphrase| self.keys.backup(&passphrase)).transpose()?;
            let log = folder.join("log");
            let mut told = |done, total| progress.tell(done, total);
            let (head, _) = self.log.copy_to(&log, checkpoint.seq, Some(&checkpoint), &mut told)?;
            write_private(&folder.join("checkpoint.json"), json_of(&checkpoint)?.to_string().as_bytes())?;
            if let Some(keys) = &keys {
                write_private(&folder.join("keys.backup"), keys)?;
            }
            Ok(json!({
                "folder": folder, "events": head, "bytes": bytes_below(&log), "keys": keys.is_some(),
                "checkpoint": checkpoint,
            }))
        })
        .await
    }

    async fn materialise(self, wanted: Materialise, mut progress: Progress) -> Result<Value, Refusal> {
        self.log.barrier().await?;
        blocking(move || {
            let Materialise { folder, seq } = wanted;
            let seq = known(&*self.log.reader(), seq)?;
            let mut told = |done, total| progress.tell(done, total);
            let (events, chain) = self.log.copy_to(&folder.join("log"), seq, None, &mut told)?;
            self.keys.copy_to(&folder.join("keys"), seq)?;
            Ok(json!({ "folder": folder, "events": events, "chain": hex(&chain) }))
        })
        .await
    }

    async fn compact(self, mut progress: Progress) -> Result<Value, Refusal> {
        let folder = self.folder.as_ref().map(|folder| folder.join("log"));
        let size = || folder.as_deref().map_or(0, bytes_below);
        let before = size();
        // Half of it cannot be taken back: it goes on when nobody listens any more.
        let told = move |done, total| {
            progress.tell(done, total);
        };
        self.log.compact_telling(told).await?;
        Ok(json!({ "before_bytes": before, "after_bytes": size() }))
    }
}

/// Tells the asker how far long work has come.
struct Progress {
    id: u64,
    more: mpsc::Sender<Reply>,
}

impl Progress {
    /// Whether anybody still listens. A slow reader is not waited for: what it misses is old news.
    fn tell(&mut self, done: u64, total: u64) -> bool {
        let reply =
            Reply { more: true, ..Reply::result(self.id, json!({ "done": done, "total": total }), None) };
        !matches!(self.more.try_send(reply), Err(mpsc::error::TrySendError::Closed(_)))
    }
}

/// A position that the log has reached.
fn known(log: &dyn LogReader, seq: Seq) -> Result<Seq, Refusal> {
    let head = log.head();
    if seq > head {
        return Err(Refusal::not_found(format!("there is no event at position {seq}"))
            .hint(format!("the log ends at {head}")));
    }
    Ok(seq)
}

fn read<T: DeserializeOwned>(call: &Call) -> Result<T, Refusal> {
    serde_json::from_value(call.params.clone()).map_err(|e| Refusal::invalid(format!("{}: {e}", call.op)))
}

fn json_of(value: impl serde::Serialize) -> Result<Value, Refusal> {
    serde_json::to_value(value).map_err(|error| Refusal::internal(error.to_string()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
