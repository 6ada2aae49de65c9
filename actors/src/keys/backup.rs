//! Backup of all keys under a passphrase.
//!
//! `"ATHBACK2" | salt 16 B | AES-256-SIV over the master key, all data keys and the names of destroyed ones`
//!
//! Backups of the first format, which did not name destroyed keys, are read.
//!
//! The key comes from the passphrase by Argon2id (RFC 9106, its second recommended option: 64 MiB, 3 passes).

use super::file::{self, KeyFile, Plain, Secret};
use super::sealer::{open_with, siv_open, siv_seal};
use super::{KeyStore, MasterKey, State, damaged, disk, random};
use argon2::{Algorithm, Argon2, Params, Version};
use athena_schemas::envelope::{Draft, KeyRef, exactly};
use athena_schemas::ports::{Opened, Sealer};
use athena_schemas::refusal::Refusal;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use zeroize::Zeroizing;

const MAGIC: &[u8; 8] = b"ATHBACK2";
const FIRST: &[u8; 8] = b"ATHBACK1";
/// The shortest passphrase that is taken, characters.
const PASSPHRASE_MIN: usize = 8;

#[derive(Serialize, Deserialize)]
struct Content {
    master: [u8; 32],
    keys: Vec<Kept>,
    destroyed: BTreeSet<KeyRef>,
}

/// The content of the first format.
#[derive(Serialize, Deserialize)]
struct FirstContent {
    master: [u8; 32],
    keys: Vec<Kept>,
}

/// A key's name, its subject, its secret.
type Kept = (KeyRef, String, Vec<u8>);

/// What became of a backup that was put back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// Keys that were not there before.
    pub added: usize,
    /// Where the keys lie that were there before, and protected something.
    pub set_aside: Option<PathBuf>,
}

/// The keys of a backup, in memory: they open what was sealed with them and seal nothing.
pub struct Keyring(State);

impl Keyring {
    /// The keys of a backup.
    ///
    /// # Errors
    /// When the passphrase is wrong or the backup damaged.
    pub fn open(backup: &[u8], passphrase: &str) -> Result<Self, Refusal> {
        let Content { keys, destroyed, .. } = unseal(backup, passphrase)?;
        let keys = keys.into_iter().map(plain).collect::<Result<_, _>>()?;
        Ok(Self(State::from_file(KeyFile { keys, destroyed, ..KeyFile::default() })))
    }
}

impl Sealer for Keyring {
    fn seal(&self, _: Draft) -> Result<Draft, Refusal> {
        Err(Refusal::conflict("a backup of keys opens events and seals none"))
    }

    fn open(&self, draft: &Draft) -> Result<Opened, Refusal> {
        open_with(draft, |name| self.0.lookup(name, draft.id))
    }
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keyring").finish_non_exhaustive()
    }
}

impl KeyStore {
    /// All keys, sealed under a passphrase. Takes about a tenth of a second and 64 MiB of memory.
    ///
    /// # Errors
    /// When the passphrase is too short.
    pub fn backup(&self, passphrase: &str) -> Result<Vec<u8>, Refusal> {
        if passphrase.chars().count() < PASSPHRASE_MIN {
            return Err(Refusal::invalid(format!("a passphrase has at least {PASSPHRASE_MIN} characters")));
        }
        let (keys, destroyed) = {
            let state = self.read();
            (state.plain(), state.destroyed.clone())
        };
        let keys = keys
            .into_iter()
            .map(|plain| (plain.name, plain.subject, plain.secret.to_bytes().to_vec()))
            .collect();
        let content = postcard::to_stdvec(&Content { master: *self.master, keys, destroyed })
            .map(Zeroizing::new)
            .map_err(|error| Refusal::internal(format!("the keys cannot be encoded: {error}")))?;
        let mut salt = [0; 16];
        random(&mut salt)?;
        let key = stretch(passphrase, &salt)?;
        let sealed = siv_seal(&key, &[MAGIC, &salt], &content)?;
        Ok([MAGIC.as_slice(), &salt, &sealed].concat())
    }

    /// Puts the keys of a backup into a folder: all of them where it holds none, else those it lacks. Keys that were
    /// destroyed here stay destroyed. Keys of another master key that protect something are in the way; with `replace` they are
    /// set aside.
    ///
    /// # Errors
    /// When the passphrase is wrong, the backup damaged, the folder's keys belong to another master key, or another process
    /// has them open.
    pub fn restore(
        folder: &Path,
        source: MasterKey,
        backup: &[u8],
        passphrase: &str,
        replace: bool,
    ) -> Result<Restored, Refusal> {
        let content = unseal(backup, passphrase)?;
        let other = |why: &str| Refusal::conflict(format!("the backup belongs to another master key {why}"));
        if let MasterKey::Given(given) = &source
            && **given != content.master
        {
            return Err(other("than the one that is given").hint("give the one it was made with"));
        }
        std::fs::create_dir_all(folder).map_err(|error| disk("create the folder of keys", &error))?;
        let mut set_aside = None;
        if file::exists(folder) {
            let here = match Self::open(folder, source.clone()) {
                Ok(here) => Some(here),
                Err(refusal) if replace && refusal.code == athena_schemas::refusal::Code::Integrity => None,
                Err(refusal) => return Err(refusal),
            };
            if let Some(here) = &here
                && *here.master == content.master
            {
                return Ok(Restored { added: here.merge(content)?, set_aside: None });
            }
            let protects =
                here.is_none_or(|here| !here.subjects().is_empty() || !here.read().destroyed.is_empty());
            if protects && !replace {
                return Err(other("than the keys of this store").hint(
                    "another store (--store DIR); or --replace, which sets the keys of this one aside: its log cannot be read then",
                ));
            }
            set_aside = file::set_aside(folder, protects)?;
        }
        source.keep(folder, &content.master)?;
        let store = Self::open(folder, source)?;
        Ok(Restored { added: store.merge(content)?, set_aside })
    }

    fn merge(&self, content: Content) -> Result<usize, Refusal> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let mut keys = state.plain();
        let before = keys.len();
        for key in content.keys {
            let plain = plain(key)?;
            // A tree that is here stays as it is: the backup's may still hold what was erased since.
            if !state.by_name.contains_key(&plain.name) && !state.destroyed.contains(&plain.name) {
                keys.push(plain);
            }
        }
        let added = keys.len() - before;
        // What was erased after the backup is looked for again.
        let settled = if added > 0 { 0 } else { state.settled };
        let mut file = KeyFile { settled, ..state.file(keys) };
        let here: BTreeSet<KeyRef> = file.keys.iter().map(|plain| plain.name.clone()).collect();
        file.destroyed.extend(content.destroyed.into_iter().filter(|name| !here.contains(name)));
        self.keep(&file)?;
        *state = State::from_file(file);
        Ok(added)
    }
}

fn plain((name, subject, secret): Kept) -> Result<Plain, Refusal> {
    let secret = Secret::from_bytes(name.version, &secret).ok_or_else(|| damaged("the backup is damaged"))?;
    Ok(Plain { name, subject, secret })
}

fn unseal(backup: &[u8], passphrase: &str) -> Result<Content, Refusal> {
    let unknown = || Refusal::invalid("this is not a backup of keys");
    let (magic, rest) = backup.split_first_chunk::<8>().ok_or_else(unknown)?;
    let (salt, sealed) = rest.split_first_chunk::<16>().ok_or_else(unknown)?;
    if magic != MAGIC && magic != FIRST {
        return Err(unknown());
    }
    let key = stretch(passphrase, salt)?;
    let content = siv_open(&key, &[magic, salt], sealed)
        .map(Zeroizing::new)
        .ok_or_else(|| Refusal::denied("the passphrase is wrong, or the backup is damaged or cut off"))?;
    let read = if magic == FIRST {
        exactly(&content).map(|FirstContent { master, keys }| Content {
            master,
            keys,
            destroyed: BTreeSet::new(),
        })
    } else {
        exactly(&content)
    };
    read.map_err(|error| damaged(format!("the backup is not readable: {error}")))
}

/// A backup in the first format.
#[cfg(test)]
pub(super) fn first_backup(keys: &KeyStore, passphrase: &str) -> Vec<u8> {
    let keys_kept = keys.read().plain();
    let kept =
        keys_kept.into_iter().map(|plain| (plain.name, plain.subject, plain.secret.to_bytes().to_vec()));
    let content = postcard::to_stdvec(&FirstContent { master: *keys.master, keys: kept.collect() }).unwrap();
    let (salt, key) = ([5; 16], stretch(passphrase, &[5; 16]).unwrap());
    [FIRST.as_slice(), &salt, &siv_seal(&key, &[FIRST, &salt], &content).unwrap()].concat()
}

fn stretch(passphrase: &str, salt: &[u8; 16]) -> Result<Zeroizing<[u8; 64]>, Refusal> {
    let internal =
        |error: argon2::Error| Refusal::internal(format!("the passphrase cannot be stretched: {error}"));
    let params = Params::new(64 << 10, 3, 1, Some(64)).map_err(internal)?;
    let mut key = Zeroizing::new([0; 64]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase.as_bytes(), salt, key.as_mut())
        .map_err(internal)?;
    Ok(key)
}
