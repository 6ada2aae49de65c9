//! Keys: the master key, data keys per subject, sealing, erasure.
//!
//! ```text
//! master key (0600 file, or given)  ──HKDF──▶  purpose keys: tokens, vault, checkpoints   (`derive`)
//!        │ with the epoch's secret
//!        └──HKDF──▶ wrapping key  ──AES-256-SIV──▶  random data keys, one per subject      (`data_key`)
//! ```
//! Data keys lie in a small file of their own that is replaced as a whole, never in the log: an append-only store keeps old
//! bytes. Each epoch has a random secret in a file that is overwritten and removed when the epoch ends; so what an old copy
//! of the key file still holds cannot be unwrapped any more, not even with the master key.

mod backup;
mod file;
mod master;
mod sealer;

pub use master::MasterKey;
pub use sealer::{PayloadSealer, subject};

use crate::files;
use athena_schemas::envelope::KeyRef;
use athena_schemas::refusal::{Code, Refusal};
use file::{KeyFile, Plain};
use hkdf::Hkdf;
use sha2::Sha256;
use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use zeroize::Zeroizing;

/// The generation of the derivation scheme, part of every derived key.
const SCHEME: u32 = 1;

/// An AES-256-SIV key; wiped when the last holder lets go.
pub type DataKey = Arc<Zeroizing<[u8; 64]>>;

/// What opening a key leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// The key.
    Key(DataKey),
    /// It was destroyed.
    Destroyed,
}

/// All keys of one Athena. Cheap to ask: unwrapped keys stay in memory.
pub struct KeyStore {
    folder: PathBuf,
    master: Zeroizing<[u8; 32]>,
    state: RwLock<State>,
    _lock: File,
}

/// What the key file says, unwrapped.
#[derive(Default)]
struct State {
    epoch: u32,
    by_subject: HashMap<String, KeyRef>,
    by_name: HashMap<KeyRef, DataKey>,
    destroyed: BTreeSet<KeyRef>,
}

impl KeyStore {
    /// Opens the keys in a folder, creating them where there are none.
    ///
    /// # Errors
    /// [`Code::Integrity`] when the master key does not fit or the key file is damaged; [`Code::Unavailable`] when another
    /// process has it open or the disk fails.
    pub fn open(folder: &Path, master: MasterKey) -> Result<Self, Refusal> {
        std::fs::create_dir_all(folder).map_err(|error| disk("create the folder of keys", &error))?;
        let lock = files::lock(&folder.join("lock"))
            .map_err(|error| disk("lock the keys", &error))?
            .ok_or_else(|| Refusal::new(Code::Unavailable, "another process has the keys open"))?;
        let exists = file::exists(folder);
        let master = master.load(folder, !exists)?;
        let file = if exists { file::read(folder, &master)? } else { file::create(folder, &master)? };
        let state = State::from_file(file);
        Ok(Self { folder: folder.into(), master, state: RwLock::new(state), _lock: lock })
    }

    /// The key for a purpose and scope, always the same: HKDF-SHA256 (RFC 5869) over the master key with
    /// `athena/v1/<purpose>/<scope>/<generation>` as its info.
    pub fn derive(&self, purpose: &str, scope: &str) -> Zeroizing<[u8; 64]> {
        derive(&self.master, purpose, scope)
    }

    /// The data key of a subject, created on first use; on disk before it is handed out.
    ///
    /// # Errors
    /// When the key file cannot be written.
    pub fn data_key(&self, subject: &str) -> Result<(KeyRef, DataKey), Refusal> {
        if let Some(found) = self.read().of_subject(subject) {
            return Ok(found);
        }
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        // Another thread may have been faster.
        if let Some(found) = state.of_subject(subject) {
            return Ok(found);
        }
        let mut name = [0; 8];
        let mut key = Zeroizing::new([0; 64]);
        random(&mut name)?;
        random(key.as_mut())?;
        let name = KeyRef { name, version: 1 };
        let key = Arc::new(key);
        let mut plain = state.plain();
        plain.push(Plain { name: name.clone(), subject: subject.into(), key: Arc::clone(&key) });
        file::write(&self.folder, &self.master, state.epoch, &plain, &state.destroyed)?;
        state.by_subject.insert(subject.into(), name.clone());
        state.by_name.insert(name.clone(), Arc::clone(&key));
        Ok((name, key))
    }

    /// The key of that name.
    ///
    /// # Errors
    /// [`Code::Integrity`] when there never was such a key here: the log belongs to other keys.
    pub fn lookup(&self, name: &KeyRef) -> Result<Lookup, Refusal> {
        let state = self.read();
        if let Some(key) = state.by_name.get(name) {
            return Ok(Lookup::Key(Arc::clone(key)));
        }
        if state.destroyed.contains(name) {
            return Ok(Lookup::Destroyed);
        }
        let message = format!("there is no data key {}", files::hex(&name.name));
        Err(Refusal::new(Code::Integrity, message)
            .hint("restore the keys that belong to this store from their backup"))
    }

    /// Destroys all keys of a subject: what they sealed can never be read again, here or in any copy of this store. Answers
    /// the names of the destroyed keys; none if the subject had none.
    ///
    /// # Errors
    /// When the disk fails. The keys are either all there or all destroyed then.
    pub fn destroy(&self, subject: &str) -> Result<Vec<KeyRef>, Refusal> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let Some(name) = state.by_subject.get(subject).cloned() else { return Ok(Vec::new()) };
        let kept: Vec<Plain> = state.plain().into_iter().filter(|plain| plain.name != name).collect();
        let mut destroyed = state.destroyed.clone();
        destroyed.insert(name.clone());
        state.epoch = file::next_epoch(&self.folder, &self.master, state.epoch, &kept, &destroyed)?;
        state.destroyed = destroyed;
        state.by_subject.remove(subject);
        state.by_name.remove(&name);
        Ok(vec![name])
    }

    /// Subjects that have a key, sorted.
    pub fn subjects(&self) -> Vec<String> {
        let mut subjects: Vec<String> = self.read().by_subject.keys().cloned().collect();
        subjects.sort();
        subjects
    }

    /// Wraps all data keys under a new wrapping key and makes the old one unrecoverable.
    ///
    /// # Errors
    /// When the disk fails. The old wrapping key is still in use then.
    pub fn rotate(&self) -> Result<(), Refusal> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.epoch =
            file::next_epoch(&self.folder, &self.master, state.epoch, &state.plain(), &state.destroyed)?;
        Ok(())
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for KeyStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyStore").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl State {
    fn from_file(file: KeyFile) -> Self {
        let mut state = Self { epoch: file.epoch, destroyed: file.destroyed, ..Self::default() };
        for plain in file.keys {
            state.by_subject.insert(plain.subject, plain.name.clone());
            state.by_name.insert(plain.name, plain.key);
        }
        state
    }

    fn of_subject(&self, subject: &str) -> Option<(KeyRef, DataKey)> {
        let name = self.by_subject.get(subject)?;
        Some((name.clone(), Arc::clone(self.by_name.get(name)?)))
    }

    fn plain(&self) -> Vec<Plain> {
        let mut all: Vec<Plain> = self
            .by_subject
            .iter()
            .filter_map(|(subject, name)| {
                let key = Arc::clone(self.by_name.get(name)?);
                Some(Plain { name: name.clone(), subject: subject.clone(), key })
            })
            .collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }
}

/// HKDF-SHA256 over the master key.
fn derive(master: &[u8; 32], purpose: &str, scope: &str) -> Zeroizing<[u8; 64]> {
    expand(None, master, &format!("athena/v1/{purpose}/{scope}/{SCHEME}"))
}

fn expand(salt: Option<&[u8]>, master: &[u8; 32], info: &str) -> Zeroizing<[u8; 64]> {
    let mut key = Zeroizing::new([0; 64]);
    let expanded = Hkdf::<Sha256>::new(salt, master).expand(info.as_bytes(), key.as_mut());
    debug_assert!(expanded.is_ok(), "64 bytes are less than HKDF's limit of 255 blocks");
    key
}

fn random(bytes: &mut [u8]) -> Result<(), Refusal> {
    getrandom::fill(bytes)
        .map_err(|error| Refusal::new(Code::Unavailable, format!("the system gives no randomness: {error}")))
}

fn disk(what: &str, error: &std::io::Error) -> Refusal {
    let code =
        if error.kind() == std::io::ErrorKind::StorageFull { Code::StorageFull } else { Code::Unavailable };
    Refusal::new(code, format!("could not {what}: {error}")).hint("athena doctor")
}

fn damaged(message: impl Into<String>) -> Refusal {
    Refusal::new(Code::Integrity, message).hint("restore the keys from their backup: athena keys restore")
}

#[cfg(test)]
mod tests;
