//! Snapshots of layers' states: disposable files beside the log that make a start fast. Each is sealed and says which code
//! wrote it, which event it stands at and that event's chain hash; whatever does not fit means to fold from the beginning,
//! never to convert.

use super::LogHandle;
use super::frame::Hash;
use crate::files::{sync_folder, write_durably};
use crate::keys::{DataKey, KeyStore, siv_open, siv_seal};
use athena_schemas::envelope::Seq;
use athena_schemas::ports::LogReader;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

const MAGIC: &[u8; 8] = b"ATHSNAP1";

/// The code that folds: what another build folded is not trusted.
const BUILD: &str = env!("CARGO_PKG_VERSION");

/// What a snapshot holds.
#[derive(Serialize, Deserialize)]
struct Snapshot<'a> {
    /// The version of the stream it stands at.
    version: u64,
    /// The position of that event.
    seq: Seq,
    /// The chain hash there: another history has another one.
    chain: Hash,
    /// The state.
    #[serde(borrow)]
    state: &'a [u8],
}

/// The folder of snapshots, one file a layer.
pub struct Snapshots {
    folder: PathBuf,
    reader: Arc<dyn LogReader>,
    key: DataKey,
    /// Of layers in which something was erased: the version below which no state may be kept any more. Held while a file is
    /// written, so that a state from before cannot come after.
    floors: Mutex<HashMap<String, u64>>,
}

impl Snapshots {
    /// Snapshots in a folder, which is created with the first of them.
    pub fn new(folder: impl Into<PathBuf>, log: &LogHandle, keys: &KeyStore) -> Self {
        let key = Arc::new(keys.derive("snapshots", ""));
        Self { folder: folder.into(), reader: log.reader(), key, floors: Mutex::default() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.snapshot"))
    }

    /// Position and chain hash of an event of a stream, as the log has it.
    fn at(&self, name: &str, version: u64) -> Option<(Seq, Hash)> {
        let found = self.reader.read_stream(name, version.checked_sub(1)?, 1).ok()?;
        let record = found.first().filter(|record| record.version == version)?;
        Some((record.seq, record.chain))
    }

    fn put(&self, name: &str, shape: u32, version: u64, state: &[u8]) -> io::Result<()> {
        let (seq, chain) =
            self.at(name, version).ok_or_else(|| io::Error::other("the log does not have it"))?;
        let plain =
            postcard::to_stdvec(&Snapshot { version, seq, chain, state }).map_err(io::Error::other)?;
        let sealed =
            siv_seal(&self.key, &[MAGIC, name.as_bytes(), &shape.to_le_bytes(), BUILD.as_bytes()], &plain)
                .map_err(|refusal| io::Error::other(refusal.to_string()))?;
        let floors = self.floors.lock().unwrap_or_else(PoisonError::into_inner);
        if floors.get(name).is_some_and(|floor| version < *floor) {
            return Ok(());
        }
        std::fs::create_dir_all(&self.folder)?;
        write_durably(&self.path(name), &[MAGIC.as_slice(), &sealed].concat())
    }
}

impl crate::layer::Snapshots for Snapshots {
    fn load(&self, name: &str, shape: u32) -> Option<(u64, Vec<u8>)> {
        let bytes = std::fs::read(self.path(name)).ok()?;
        let sealed = bytes.strip_prefix(MAGIC)?;
        let plain =
            siv_open(&self.key, &[MAGIC, name.as_bytes(), &shape.to_le_bytes(), BUILD.as_bytes()], sealed)?;
        let Ok((Snapshot { version, seq, chain, state }, [])) = postcard::take_from_bytes(&plain) else {
            return None;
        };
        (self.at(name, version) == Some((seq, chain))).then(|| (version, state.to_vec()))
    }

    fn save(&self, name: &str, shape: u32, version: u64, state: Vec<u8>) {
        if let Err(error) = self.put(name, shape, version, &state) {
            tracing::warn!(name, %error, "a snapshot was not kept; the next start reads more of the log");
        }
    }

    fn discard(&self, name: &str, before: u64) -> io::Result<()> {
        let mut floors = self.floors.lock().unwrap_or_else(PoisonError::into_inner);
        floors.insert(name.into(), before);
        match std::fs::remove_file(self.path(name)) {
            Ok(()) => sync_folder(&self.folder),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::draft;
    use super::super::{Append, Location, Options};
    use super::*;
    use crate::keys::MasterKey;
    use crate::layer::Snapshots as _;

    async fn log(events: u64) -> LogHandle {
        let (log, _) = LogHandle::open(Location::Memory, Options::default()).unwrap();
        log.commit(Append::new((1..=events).map(|n| draft("semantic", n, b"x")).collect())).await.unwrap();
        log
    }

    #[tokio::test]
    async fn a_snapshot_reads_back_unless_it_is_of_another_shape_history_or_key_or_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let keys = KeyStore::open(&folder.path().join("keys"), MasterKey::File).unwrap();
        let first = log(9).await;
        let kept = Snapshots::new(folder.path().join("s"), &first, &keys);
        assert_eq!(kept.load("semantic", 2), None);
        kept.save("semantic", 2, 7, b"what is known".to_vec());
        let path = kept.path("semantic");
        let bytes = std::fs::read(&path).unwrap();
        assert!(!bytes.windows(4).any(|window| window == b"what"), "it is sealed");
        let again = Snapshots::new(folder.path().join("s"), &first, &keys);
        assert_eq!(again.load("semantic", 2), Some((7, b"what is known".to_vec())));
        assert_eq!((again.load("semantic", 3), again.load("episodic", 2)), (None, None));
        let shorter = log(5).await;
        assert_eq!(Snapshots::new(folder.path().join("s"), &shorter, &keys).load("semantic", 2), None);
        let (other, _) = LogHandle::open(Location::Memory, Options::default()).unwrap();
        other.commit(Append::new((1..=9).map(|n| draft("semantic", n, b"y")).collect())).await.unwrap();
        assert_eq!(Snapshots::new(folder.path().join("s"), &other, &keys).load("semantic", 2), None);
        let stranger = KeyStore::open(&folder.path().join("other keys"), MasterKey::File).unwrap();
        assert_eq!(Snapshots::new(folder.path().join("s"), &first, &stranger).load("semantic", 2), None);
        let mut damaged = bytes.clone();
        damaged[20] ^= 1;
        std::fs::write(&path, damaged).unwrap();
        assert_eq!(again.load("semantic", 2), None);
        std::fs::write(&path, bytes).unwrap();
        again.discard("semantic", 8).unwrap();
        assert_eq!(again.load("semantic", 2), None);
        again.save("semantic", 2, 7, b"what is known".to_vec());
        assert_eq!(again.load("semantic", 2), None, "a state from before the erasure does not come back");
        again.save("semantic", 2, 8, b"less".to_vec());
        assert_eq!(again.load("semantic", 2), Some((8, b"less".to_vec())));
    }
}
