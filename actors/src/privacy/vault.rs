//! The vault: sealed values by token, in memory, rebuilt from the log. Pure but for the keys.
//!
//! Values are equal by their canonical form, which decides the token; the vault keeps the form of first use. Another way to write
//! an equal value gets an entry of its own, so that what comes back is byte for byte what went in.

use super::token;
use crate::keys::{KeyStore, Lookup};
use aes_siv::KeyInit;
use aes_siv::siv::Aes256Siv;
use athena_schemas::context::Scope;
use athena_schemas::envelope::KeyRef;
use athena_schemas::layers::privacy::Minted;
use athena_schemas::refusal::Refusal;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use std::collections::{BTreeMap, HashMap};
use zeroize::Zeroizing;

/// A value to be kept.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Secret {
    pub(super) kind: &'static str,
    pub(super) token_type: &'static str,
    pub(super) written: String,
}

/// Keyed digest of a value.
type Digest = [u8; 16];

#[derive(Debug, Clone)]
struct Entry {
    key: KeyRef,
    sealed: Vec<u8>,
}

/// The entries of one project.
#[derive(Debug, Default)]
struct Project {
    entries: HashMap<String, Entry>,
    by_written: HashMap<Digest, String>,
    by_canonical: HashMap<Digest, String>,
}

/// All entries.
#[derive(Debug, Default)]
pub(super) struct Vault {
    projects: HashMap<String, Project>,
}

/// The keys of one project.
pub(super) struct Keyring {
    name: String,
    tokens: Zeroizing<[u8; 64]>,
}

impl Keyring {
    pub(super) fn of(keys: &KeyStore, scope: &Scope) -> Self {
        let name = scope.vault().to_owned();
        let tokens = keys.derive("tokens", &name);
        Self { name, tokens }
    }

    fn token_key(&self) -> &[u8] {
        self.tokens.get(..32).unwrap_or(&[])
    }

    fn digest(&self, domain: &[u8], token_type: &str, value: &str) -> Digest {
        let key = self.tokens.get(32..).unwrap_or(&[]);
        #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
        let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any key length");
        for part in [domain, token_type.as_bytes()] {
            mac.update(part);
            mac.update(&[0]);
        }
        mac.update(value.as_bytes());
        let full = mac.finalize().into_bytes();
        let mut digest = [0; 16];
        digest.iter_mut().zip(full).for_each(|(to, from)| *to = from);
        digest
    }

    /// The digest a value as written is found by.
    pub(super) fn written(&self, secret: &Secret) -> Digest {
        self.digest(b"written", secret.token_type, &secret.written)
    }
}

impl Vault {
    /// The token of a value, if it has one.
    pub(super) fn token(&self, keyring: &Keyring, secret: &Secret) -> Option<String> {
        self.projects.get(&keyring.name)?.by_written.get(&keyring.written(secret)).cloned()
    }

    #[cfg(test)]
    /// Whether the token is one of the project's.
    pub(super) fn has(&self, project: &str, token: &str) -> bool {
        self.projects.get(project).is_some_and(|p| p.entries.contains_key(token))
    }

    /// The entry a new value would get. The same value leads to the same entry, whenever it is asked for.
    ///
    /// # Errors
    /// When the key store fails.
    pub(super) fn draw(
        &self,
        keys: &KeyStore,
        keyring: &Keyring,
        secret: &Secret,
    ) -> Result<Minted, Refusal> {
        let project = self.projects.get(&keyring.name);
        let canonical = token::canonical(secret.token_type, &secret.written);
        let canonical_digest = keyring.digest(b"canonical", secret.token_type, &canonical);
        let other_form = project.is_some_and(|p| p.by_canonical.contains_key(&canonical_digest));
        let basis = if other_form { format!("{canonical}\0{}", secret.written) } else { canonical };
        let mut counter = 0;
        let token = loop {
            let token = token::mint(keyring.token_key(), secret.token_type, &basis, counter);
            if project.is_none_or(|p| !p.entries.contains_key(&token)) {
                break token;
            }
            counter += 1;
        };
        let (key, data) = keys.data_key(&keyring.name)?;
        let place = place(&keyring.name, &token, &key);
        let sealed = Aes256Siv::new((&**data).into())
            .encrypt(
                place.iter().map(Vec::as_slice).collect::<Vec<_>>().as_slice(),
                secret.written.as_bytes(),
            )
            .map_err(|_| Refusal::internal("a value could not be sealed"))?;
        Ok(Minted {
            vault: keyring.name.clone(),
            token,
            kind: secret.kind.into(),
            written: keyring.written(secret),
            canonical: canonical_digest,
            counter,
            key,
            sealed,
        })
    }

    /// Takes an entry up, as drawn or as read from the log.
    pub(super) fn insert(&mut self, minted: &Minted) {
        let project = self.projects.entry(minted.vault.clone()).or_default();
        project.by_written.insert(minted.written, minted.token.clone());
        project.by_canonical.entry(minted.canonical).or_insert_with(|| minted.token.clone());
        project
            .entries
            .insert(minted.token.clone(), Entry { key: minted.key.clone(), sealed: minted.sealed.clone() });
    }

    /// Forgets an entry that could not be recorded.
    pub(super) fn remove(&mut self, minted: &Minted) {
        if let Some(project) = self.projects.get_mut(&minted.vault) {
            project.entries.remove(&minted.token);
            project.by_written.remove(&minted.written);
            if project.by_canonical.get(&minted.canonical) == Some(&minted.token) {
                project.by_canonical.remove(&minted.canonical);
            }
        }
    }

    /// The value behind a token of this project; `None` where there is none, or its key was destroyed.
    ///
    /// # Errors
    /// [`Code::Integrity`](athena_schemas::refusal::Code::Integrity) when the entry was changed or belongs to another token.
    pub(super) fn open(
        &self,
        keys: &KeyStore,
        project: &str,
        token: &str,
    ) -> Result<Option<Zeroizing<String>>, Refusal> {
        let Some(entry) = self.projects.get(project).and_then(|p| p.entries.get(token)) else {
            return Ok(None);
        };
        let Lookup::Key(data) = keys.lookup_data(&entry.key)? else { return Ok(None) };
        let place = place(project, token, &entry.key);
        let damaged = || {
            Refusal::new(
                athena_schemas::refusal::Code::Integrity,
                format!("the vault's entry {token} is not what was sealed"),
            )
            .hint("athena log verify")
        };
        let plain = Aes256Siv::new((&**data).into())
            .decrypt(place.iter().map(Vec::as_slice).collect::<Vec<_>>().as_slice(), entry.sealed.as_slice())
            .map_err(|_| damaged())?;
        String::from_utf8(plain).map(|text| Some(Zeroizing::new(text))).map_err(|_| damaged())
    }

    /// Entries of a project by type.
    pub(super) fn counts(&self, project: &str) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        for name in self.projects.get(project).into_iter().flat_map(|p| p.entries.keys()) {
            let name = token::type_of(name).unwrap_or("OTHER");
            *counts.entry(name.to_owned()).or_default() += 1;
        }
        counts
    }
}

/// What binds a sealed value to its place.
fn place(project: &str, token: &str, key: &KeyRef) -> [Vec<u8>; 4] {
    [
        b"athena vault".to_vec(),
        project.as_bytes().to_vec(),
        token.as_bytes().to_vec(),
        [&key.name[..], &key.version.to_be_bytes()].concat(),
    ]
}
