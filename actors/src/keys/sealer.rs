//! Sealing payloads with AES-256-SIV (RFC 5297): deterministic, so that a retry seals to the same bytes, and safe without a
//! nonce. Stream, event id, kind, schema and key are associated data, so a ciphertext opens only where it was sealed.

use super::{KeyStore, Lookup, damaged};
use aes_siv::KeyInit;
use aes_siv::siv::Aes256Siv;
use athena_schemas::context::Scope;
use athena_schemas::envelope::{Draft, KeyRef};
use athena_schemas::ports::{Opened, Sealer};
use athena_schemas::refusal::Refusal;
use std::borrow::Cow;
use std::sync::Arc;

/// Whose data key a payload recorded under `scope` is sealed with: the project's, or the person's within it.
pub fn subject(scope: &Scope) -> Cow<'_, str> {
    match &scope.user {
        None => scope.vault().into(),
        Some(user) => format!("{}\n{user}", scope.vault()).into(),
    }
}

/// Seals and opens payloads with the data keys of a key store.
#[derive(Debug, Clone)]
pub struct PayloadSealer {
    keys: Arc<KeyStore>,
}

impl PayloadSealer {
    /// A sealer over these keys.
    pub fn new(keys: Arc<KeyStore>) -> Self {
        Self { keys }
    }
}

impl Sealer for PayloadSealer {
    fn seal(&self, mut draft: Draft) -> Result<Draft, Refusal> {
        let (name, key) = self.keys.event_key(&subject(&draft.meta.scope), draft.id)?;
        draft.payload = with_place(&draft, &name, |place| siv_seal(&key, place, &draft.payload))?;
        draft.meta.key = Some(name);
        Ok(draft)
    }

    fn open(&self, draft: &Draft) -> Result<Opened, Refusal> {
        open_with(draft, |name| self.keys.lookup(name, draft.id))
    }
}

/// Opens a payload with the key that `lookup` finds by its name.
pub(super) fn open_with(
    draft: &Draft,
    lookup: impl FnOnce(&KeyRef) -> Result<Lookup, Refusal>,
) -> Result<Opened, Refusal> {
    let Some(name) = &draft.meta.key else { return Ok(Opened::Plain(draft.payload.clone())) };
    if draft.is_dropped() {
        return Ok(Opened::Erased);
    }
    let key = match lookup(name)? {
        Lookup::Key(key) => key,
        Lookup::Destroyed => return Ok(Opened::Erased),
    };
    with_place(draft, name, |place| siv_open(&key, place, &draft.payload))
        .map(Opened::Plain)
        .ok_or_else(|| damaged(format!("the payload of event {} is not what was sealed", draft.id)))
}

/// Calls `f` with what binds a payload to its place.
fn with_place<T>(draft: &Draft, key: &KeyRef, f: impl FnOnce(&[&[u8]]) -> T) -> T {
    let [high, low] = draft.kind.0.to_be_bytes();
    let kind = [high, low, draft.schema];
    f(&[draft.stream.as_bytes(), &draft.id.0, &kind, &key.name, &key.version.to_be_bytes()])
}

pub(crate) fn siv_seal(key: &[u8; 64], place: &[&[u8]], plain: &[u8]) -> Result<Vec<u8>, Refusal> {
    Aes256Siv::new(key.into())
        .encrypt(place, plain)
        .map_err(|_| Refusal::internal("a payload could not be sealed"))
}

pub(crate) fn siv_open(key: &[u8; 64], place: &[&[u8]], sealed: &[u8]) -> Option<Vec<u8>> {
    Aes256Siv::new(key.into()).decrypt(place, sealed).ok()
}
