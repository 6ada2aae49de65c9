//! Backup of all keys under a passphrase.
//!
//! `"ATHBACK1" | salt 16 B | AES-256-SIV over the master key and all data keys`
//!
//! The key comes from the passphrase by Argon2id (RFC 9106, its second recommended option: 64 MiB, 3 passes).

use super::file::{self, Plain, Secret};
use super::sealer::{siv_open, siv_seal};
use super::{KeyStore, MasterKey, State, damaged, master, random};
use argon2::{Algorithm, Argon2, Params, Version};
use athena_schemas::envelope::KeyRef;
use athena_schemas::refusal::Refusal;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::PoisonError;
use zeroize::Zeroizing;

const MAGIC: &[u8; 8] = b"ATHBACK1";
/// The shortest passphrase that is taken, characters.
const PASSPHRASE_MIN: usize = 8;

#[derive(Serialize, Deserialize)]
struct Content {
    master: [u8; 32],
    keys: Vec<(KeyRef, String, Vec<u8>)>,
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
        let keys = self.read().plain();
        let keys = keys
            .into_iter()
            .map(|plain| (plain.name, plain.subject, plain.secret.to_bytes().to_vec()))
            .collect();
        let content = postcard::to_stdvec(&Content { master: *self.master, keys })
            .map(Zeroizing::new)
            .map_err(|error| Refusal::internal(format!("the keys cannot be encoded: {error}")))?;
        let mut salt = [0; 16];
        random(&mut salt)?;
        let key = stretch(passphrase, &salt)?;
        let sealed = siv_seal(&key, &[MAGIC, &salt], &content)?;
        Ok([MAGIC.as_slice(), &salt, &sealed].concat())
    }

    /// Puts the keys of a backup into a folder: all of them where it holds none, else those it lacks. Keys that were
    /// destroyed here stay destroyed. Answers how many were added.
    ///
    /// # Errors
    /// When the passphrase is wrong, the backup damaged, or the folder's keys belong to another master key.
    pub fn restore(
        folder: &Path,
        source: MasterKey,
        backup: &[u8],
        passphrase: &str,
    ) -> Result<usize, Refusal> {
        let content = unseal(backup, passphrase)?;
        std::fs::create_dir_all(folder).map_err(|error| super::disk("create the folder of keys", &error))?;
        let given = match source {
            MasterKey::File if !file::exists(folder) => {
                master::store(folder, &content.master)?;
                MasterKey::File
            }
            other => other,
        };
        let store = Self::open(folder, given)?;
        if *store.master != content.master {
            return Err(Refusal::conflict("the backup belongs to another master key")
                .hint("restore it into an empty folder, or give its master key"));
        }
        store.merge(content)
    }

    fn merge(&self, content: Content) -> Result<usize, Refusal> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let mut keys = state.plain();
        let before = keys.len();
        for (name, subject, secret) in content.keys {
            let secret =
                Secret::from_bytes(name.version, &secret).ok_or_else(|| damaged("the backup is damaged"))?;
            // A tree that is here stays as it is: the backup's may still hold what was erased since.
            if !state.by_name.contains_key(&name) && !state.destroyed.contains(&name) {
                keys.push(Plain { name, subject, secret });
            }
        }
        let added = keys.len() - before;
        // What was erased after the backup is looked for again.
        let settled = if added > 0 { 0 } else { state.settled };
        let file = file::KeyFile { settled, ..state.file(keys) };
        file::write(&self.folder, &self.master, &file)?;
        *state = State::from_file(file);
        Ok(added)
    }
}

fn unseal(backup: &[u8], passphrase: &str) -> Result<Content, Refusal> {
    let unknown = || Refusal::invalid("this is not a backup of keys");
    let (magic, rest) = backup.split_first_chunk::<8>().ok_or_else(unknown)?;
    let (salt, sealed) = rest.split_first_chunk::<16>().ok_or_else(unknown)?;
    if magic != MAGIC {
        return Err(unknown());
    }
    let key = stretch(passphrase, salt)?;
    let content = siv_open(&key, &[MAGIC, salt], sealed)
        .map(Zeroizing::new)
        .ok_or_else(|| Refusal::denied("the passphrase is wrong or the backup is damaged"))?;
    athena_schemas::envelope::exactly(&content)
        .map_err(|error| damaged(format!("the backup is not readable: {error}")))
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
