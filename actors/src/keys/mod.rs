//! Keys: the master key, data keys per subject, sealing, erasure.
//!
//! ```text
//! master key (0600 file, keyring, or given)  ──HKDF──▶  purpose keys: tokens, vault, checkpoints   (`derive`)
//!        │ with the epoch's secret
//!        └──HKDF──▶ wrapping key  ──AES-256-SIV──▶  random data keys, one per subject      (`data_key`)
//!                                              └──▶  trees, one per subject ──▶ a key per event (`event_key`)
//! ```
//! Data keys and trees lie in a small file of their own that is replaced as a whole, never in the log: an append-only store keeps old
//! bytes. Each epoch has a random secret in a file that is overwritten and removed when the epoch ends; so what an old copy
//! of the key file still holds cannot be unwrapped any more, not even with the master key.

mod backup;
mod file;
mod keyring;
mod master;
mod sealer;
mod tree;

pub use backup::{Keyring, Restored};
pub use keyring::SystemKeyring;
pub use master::MasterKey;
pub use sealer::{PayloadSealer, subject};
pub(crate) use sealer::{siv_open, siv_seal};
pub use tree::EventKey;

use crate::files;
use athena_schemas::envelope::{KeyRef, Seq};
use athena_schemas::id::EventId;
use athena_schemas::refusal::{Code, Refusal};
use file::{KeyFile, Plain, Secret};
use hkdf::Hkdf;
use serde::Serialize;
use sha2::Sha256;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use tree::{Shape, Tree};
use zeroize::Zeroizing;

/// The generation of the derivation scheme, part of every derived key.
const SCHEME: u32 = 1;

/// An AES-256-SIV key; wiped when the last holder lets go.
pub type DataKey = Arc<Zeroizing<[u8; 64]>>;

/// The version of a [`KeyRef`] that names a key for everything of its subject.
const WHOLE: u32 = 1;
/// The version of a [`KeyRef`] that names a tree: the key itself follows from the event's id.
const TREE: u32 = 2;
/// The same, with a tree that is wider and so less deep. A subject stays with the tree it began with, so that an event that is
/// recorded again is sealed to the same bytes.
const WIDE: u32 = 3;

/// Whether a key of this version is a tree.
fn is_tree(version: u32) -> bool {
    [TREE, WIDE].contains(&version)
}

/// What opening a key leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// The key.
    Key(DataKey),
    /// It was destroyed.
    Destroyed,
}

/// How the keys of a store stand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    /// How often the wrapping key has been changed.
    pub epoch: u32,
    /// Projects, and persons within them, that have keys.
    pub subjects: usize,
    /// Keys of subjects that were destroyed as a whole.
    pub destroyed: usize,
    /// The log up to here has been searched for erasures, and all it asks for is destroyed.
    pub settled: Seq,
    /// Where the master key comes from: `file`, `keyring` or `given`.
    pub master: &'static str,
    /// Size of the key file, bytes; it grows with erasures.
    pub bytes: u64,
}

/// All keys of one Athena. Cheap to ask: unwrapped keys stay in memory.
pub struct KeyStore {
    folder: PathBuf,
    master: Zeroizing<[u8; 32]>,
    /// Where the master key comes from.
    place: &'static str,
    state: RwLock<State>,
    /// Held as long as this may write the key file.
    lock: Mutex<Option<File>>,
}

/// What the key file says, unwrapped.
#[derive(Default)]
struct State {
    epoch: u32,
    /// The keys of each subject, by their version: what they are for.
    by_subject: HashMap<String, BTreeMap<u32, KeyRef>>,
    by_name: HashMap<KeyRef, Secret>,
    destroyed: BTreeSet<KeyRef>,
    /// The log up to here has been searched for erasures, and all it asks for is destroyed.
    settled: Seq,
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
        let place = master.place();
        let master = master.load(folder, !exists)?;
        let file = if exists { file::read(folder, &master)? } else { file::create(folder, &master)? };
        let state = State::from_file(file);
        Ok(Self {
            folder: folder.into(),
            master,
            place,
            state: RwLock::new(state),
            lock: Mutex::new(Some(lock)),
        })
    }

    /// Gives the folder up to whoever opens it next. What still reads with these keys may finish; nothing is written any more.
    pub fn close(&self) {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// The folder, which nobody else gets as long as this is kept.
    fn held(&self) -> Result<MutexGuard<'_, Option<File>>, Refusal> {
        let lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        if lock.is_none() {
            let why = "the keys have been closed; nothing was changed";
            return Err(Refusal::new(Code::Unavailable, why).hint("open the store again"));
        }
        Ok(lock)
    }

    /// Writes the key file.
    fn keep(&self, file: &KeyFile) -> Result<(), Refusal> {
        let _held = self.held()?;
        file::write(&self.folder, &self.master, file)
    }

    /// The key for a purpose and scope, always the same: HKDF-SHA256 (RFC 5869) over the master key with
    /// `athena/v1/<purpose>/<scope>/<generation>` as its info.
    pub fn derive(&self, purpose: &str, scope: &str) -> Zeroizing<[u8; 64]> {
        derive(&self.master, purpose, scope)
    }

    /// The data key of a subject, created on first use; on disk before it is handed out. It is for what has no life of its
    /// own, such as the vault's entries; events have [keys of their own](Self::event_key).
    ///
    /// # Errors
    /// When the key file cannot be written.
    pub fn data_key(&self, subject: &str) -> Result<(KeyRef, DataKey), Refusal> {
        let found = |state: &State| match state.of_subject(subject, WHOLE) {
            Some((name, Secret::Whole(key))) => Some((name.clone(), Arc::clone(key))),
            _ => None,
        };
        if let Some(found) = found(&self.read()) {
            return Ok(found);
        }
        let mut state = self.write();
        // Another thread may have been faster.
        if let Some(found) = found(&state) {
            return Ok(found);
        }
        let mut key = Zeroizing::new([0; 64]);
        random(key.as_mut())?;
        let key = Arc::new(key);
        let name = self.add(&mut state, subject, WHOLE, Secret::Whole(Arc::clone(&key)))?;
        Ok((name, key))
    }

    /// The key of one event of a subject, and the name of the tree it hangs on, which is created on first use; on disk before
    /// it is handed out.
    ///
    /// # Errors
    /// [`Code::Conflict`] when this event was erased: it cannot be recorded again. When the key file cannot be written.
    pub fn event_key(&self, subject: &str, event: EventId) -> Result<(KeyRef, EventKey), Refusal> {
        let found = |state: &State| -> Option<(KeyRef, Option<EventKey>)> {
            let names = state.by_subject.get(subject)?;
            let name = [TREE, WIDE].into_iter().find_map(|version| names.get(&version))?;
            match state.by_name.get(name)? {
                Secret::Tree(tree) => Some((name.clone(), tree.key(event))),
                Secret::Whole(_) => None,
            }
        };
        let kept = found(&self.read());
        let (name, key) = match kept {
            Some(kept) => kept,
            None => {
                let mut state = self.write();
                if found(&state).is_none() {
                    let mut root = Zeroizing::new([0; 32]);
                    random(root.as_mut())?;
                    self.add(&mut state, subject, WIDE, Secret::Tree(Tree::new(Shape::WIDE, root)))?;
                }
                found(&state).ok_or_else(|| Refusal::internal("a tree of keys was not kept"))?
            }
        };
        let key = key.ok_or_else(|| {
            Refusal::conflict(format!("event {event} was erased; it cannot be recorded again"))
                .hint("use a new idempotency key")
        })?;
        Ok((name, key))
    }

    fn add(&self, state: &mut State, subject: &str, version: u32, secret: Secret) -> Result<KeyRef, Refusal> {
        let mut name = [0; 8];
        random(&mut name)?;
        let name = KeyRef { name, version };
        let mut keys = state.plain();
        keys.push(Plain { name: name.clone(), subject: subject.into(), secret: secret.clone() });
        self.keep(&state.file(keys))?;
        state.by_subject.entry(subject.into()).or_default().insert(version, name.clone());
        state.by_name.insert(name.clone(), secret);
        Ok(name)
    }

    /// The key of that name, for an event.
    ///
    /// # Errors
    /// [`Code::Integrity`] when there never was such a key here: the log belongs to other keys.
    pub fn lookup(&self, name: &KeyRef, event: EventId) -> Result<Lookup, Refusal> {
        self.read().lookup(name, event)
    }

    /// The data key of that name, for what is no event.
    ///
    /// # Errors
    /// As [`lookup`](Self::lookup).
    pub fn lookup_data(&self, name: &KeyRef) -> Result<Lookup, Refusal> {
        self.lookup(name, EventId([0; 16]))
    }

    /// Destroys all keys of a subject: what they sealed can never be read again, here or in any copy of this store. Answers
    /// the names of the destroyed keys; none if the subject had none.
    ///
    /// # Errors
    /// When the disk fails. The keys are either all there or all destroyed then.
    pub fn destroy(&self, subject: &str) -> Result<Vec<KeyRef>, Refusal> {
        let mut state = self.write();
        let names: Vec<KeyRef> = [WHOLE, TREE, WIDE]
            .into_iter()
            .filter_map(|version| Some(state.of_subject(subject, version)?.0.clone()))
            .collect();
        if names.is_empty() {
            return Ok(names);
        }
        let kept = state.plain().into_iter().filter(|plain| !names.contains(&plain.name)).collect();
        let mut file = state.file(kept);
        file.destroyed.extend(names.iter().cloned());
        self.next_epoch(&mut state, file)?;
        Ok(names)
    }

    /// Destroys the keys of single events; their neighbours stay. Answers how many are new to be destroyed, and which events
    /// have no key of their own: they were recorded before events had one, and go only with their whole subject.
    ///
    /// # Errors
    /// When the disk fails. Either all of them are destroyed then or none.
    pub fn destroy_events(&self, events: &[(KeyRef, EventId)]) -> Result<(u64, Vec<EventId>), Refusal> {
        let mut state = self.write();
        let mut keys = state.plain();
        let (mut destroyed, mut without) = (0, Vec::new());
        for (name, event) in events {
            match keys.iter_mut().find(|plain| plain.name == *name).map(|plain| &mut plain.secret) {
                Some(Secret::Tree(tree)) => destroyed += u64::from(tree.puncture(*event)),
                Some(Secret::Whole(_)) => without.push(*event),
                // With its subject, long ago.
                None => {}
            }
        }
        if destroyed > 0 {
            let file = state.file(keys);
            self.next_epoch(&mut state, file)?;
        }
        Ok((destroyed, without))
    }

    /// How far the log has been searched for erasures.
    pub fn settled(&self) -> Seq {
        self.read().settled
    }

    /// Notes that the log has been searched for erasures up to `seq` and all it asks for is destroyed. It stands with the
    /// keys, so that keys from a backup, which may be older, are settled anew.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn settle(&self, seq: Seq) -> Result<(), Refusal> {
        let mut state = self.write();
        if seq <= state.settled {
            return Ok(());
        }
        let file = KeyFile { settled: seq, ..state.file(state.plain()) };
        self.keep(&file)?;
        state.settled = seq;
        Ok(())
    }

    /// How they stand.
    pub fn status(&self) -> Status {
        let state = self.read();
        Status {
            epoch: state.epoch,
            subjects: state.by_subject.len(),
            destroyed: state.destroyed.len(),
            settled: state.settled,
            master: self.place,
            bytes: file::size(&self.folder),
        }
    }

    /// Puts a copy of all keys into another folder, for a copy of the log that ends at `until`. A master key that was given is
    /// not written: the copy needs it given as well. What is erased here later stays readable there.
    ///
    /// # Errors
    /// [`Code::Conflict`] where the folder holds keys; when the disk fails.
    pub fn copy_to(&self, folder: &Path, until: Seq) -> Result<(), Refusal> {
        if file::exists(folder) {
            return Err(Refusal::conflict(format!("there are keys in {} already", folder.display())));
        }
        std::fs::create_dir_all(folder).map_err(|error| disk("create the folder of keys", &error))?;
        match self.place {
            "file" => master::store(folder, &self.master)?,
            "keyring" => keyring::copy_name(&self.folder, folder)
                .map_err(|error| disk("write the name of the master key", &error))?,
            _ => {}
        }
        let state = self.read();
        let mut file = KeyFile { settled: state.settled.min(until), ..state.file(state.plain()) };
        file::next_epoch(folder, &self.master, &mut file)
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
        let mut state = self.write();
        let file = state.file(state.plain());
        self.next_epoch(&mut state, file)
    }

    fn next_epoch(&self, state: &mut State, mut file: KeyFile) -> Result<(), Refusal> {
        let held = self.held()?;
        file::next_epoch(&self.folder, &self.master, &mut file)?;
        drop(held);
        *state = State::from_file(file);
        Ok(())
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
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
        let KeyFile { epoch, keys, destroyed, settled } = file;
        let mut state = Self { epoch, destroyed, settled, ..Self::default() };
        for plain in keys {
            let names = state.by_subject.entry(plain.subject).or_default();
            names.insert(plain.name.version, plain.name.clone());
            state.by_name.insert(plain.name, plain.secret);
        }
        state
    }

    fn lookup(&self, name: &KeyRef, event: EventId) -> Result<Lookup, Refusal> {
        match self.by_name.get(name) {
            Some(Secret::Whole(key)) => return Ok(Lookup::Key(Arc::clone(key))),
            Some(Secret::Tree(tree)) => {
                return Ok(tree.key(event).map_or(Lookup::Destroyed, |key| Lookup::Key(Arc::new(key))));
            }
            None if self.destroyed.contains(name) => return Ok(Lookup::Destroyed),
            None => {}
        }
        let message = format!("there is no data key {}", files::hex(&name.name));
        Err(Refusal::new(Code::Integrity, message)
            .hint("restore the keys that belong to this store from their backup: athena keys restore"))
    }

    fn of_subject(&self, subject: &str, version: u32) -> Option<(&KeyRef, &Secret)> {
        let name = self.by_subject.get(subject)?.get(&version)?;
        Some((name, self.by_name.get(name)?))
    }

    fn plain(&self) -> Vec<Plain> {
        let mut all: Vec<Plain> = self
            .by_subject
            .iter()
            .flat_map(|(subject, names)| names.values().map(move |name| (subject, name)))
            .filter_map(|(subject, name)| {
                let secret = self.by_name.get(name)?.clone();
                Some(Plain { name: name.clone(), subject: subject.clone(), secret })
            })
            .collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// What the key file says with these keys.
    fn file(&self, keys: Vec<Plain>) -> KeyFile {
        KeyFile { epoch: self.epoch, keys, destroyed: self.destroyed.clone(), settled: self.settled }
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
mod stride;
#[cfg(test)]
mod tests;
