//! Identifiers. Strings, because a 64-bit integer does not survive JavaScript; sortable by time, because logs are read in order.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Crockford's base32 alphabet, lower case: no `i`, `l`, `o`, `u`.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// A typed identifier: a two- to four-letter prefix, an underscore and a ULID, such as `ep_01k9zq3v8m5x2r7t4w6y1b0c9d`.
///
/// The ULID's first ten characters are the time in milliseconds, so ids sort by creation.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Id(String);

impl Id {
    /// Builds an id from a prefix, a time and 80 bits of randomness (the upper 48 bits of `random` are ignored).
    pub fn new(prefix: &str, at_ms: u64, random: u128) -> Self {
        let value = (u128::from(at_ms & 0xffff_ffff_ffff) << 80) | (random & ((1 << 80) - 1));
        let mut text = String::with_capacity(prefix.len() + 27);
        text.push_str(prefix);
        text.push('_');
        for place in (0..26).rev() {
            let digit = ((value >> (place * 5)) & 31) as usize;
            text.push(char::from(*ALPHABET.get(digit).unwrap_or(&b'0')));
        }
        Self(text)
    }

    /// Takes an id as somebody wrote it. Whether it exists is for the layer to say.
    pub fn from_text(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part before the underscore, or the empty string.
    pub fn prefix(&self) -> &str {
        self.0.split_once('_').map_or("", |(prefix, _)| prefix)
    }

    /// The ULID as a number: 48 bits of time, 80 of randomness. With the prefix it is the whole id, in 16 bytes.
    /// `None` where the text is no such id.
    pub fn ulid(&self) -> Option<u128> {
        let (_, digits) = self.0.rsplit_once('_')?;
        if digits.len() != 26 || digits.starts_with(|first: char| first > '7') {
            return None;
        }
        digits.bytes().try_fold(0_u128, |value, byte| {
            let digit = ALPHABET.iter().position(|letter| *letter == byte)?;
            Some((value << 5) | digit as u128)
        })
    }

    /// The id with this prefix and ULID.
    pub fn from_ulid(prefix: &str, ulid: u128) -> Self {
        Self::new(prefix, (ulid >> 80) as u64, ulid)
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for Id {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// What makes a retry safe: two commands with the same id are one command. 16 bytes.
///
/// Ids of the events and items a command creates are derived from it, so that a retry creates the same ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CommandId(pub [u8; 16]);

impl CommandId {
    /// The command id behind a caller's idempotency key. The caller's principal is part of it: keys of two callers never meet.
    pub fn from_key(principal: &str, key: &str) -> Self {
        Self(derive("athena command", &[principal.as_bytes(), key.as_bytes()]))
    }

    /// The id of the `n`-th event of this command.
    pub fn event(self, n: u32) -> EventId {
        EventId(derive("athena event", &[&self.0, &n.to_le_bytes()]))
    }

    /// 128 bits that belong to the `n`-th item this command creates.
    pub fn random(self, n: u32) -> u128 {
        u128::from_le_bytes(derive("athena item", &[&self.0, &n.to_le_bytes()]))
    }

    /// A command that follows from this one, such as one host call of a run.
    pub fn child(self, label: &str) -> Self {
        Self(derive("athena child", &[&self.0, label.as_bytes()]))
    }
}

/// Identity of one event, for ever: appending it again returns the first receipt. 16 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EventId(pub [u8; 16]);

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::str::FromStr for EventId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut id = [0; 16];
        if text.len() != 32 || !text.is_ascii() {
            return Err(());
        }
        for (n, byte) in id.iter_mut().enumerate() {
            let digits = text.get(2 * n..2 * n + 2).ok_or(())?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| ())?;
        }
        Ok(Self(id))
    }
}

impl fmt::Display for CommandId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// BLAKE3 in its key-derivation mode: domains cannot be confused, and each part is length-prefixed.
fn derive(domain: &str, parts: &[&[u8]]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new_derive_key(domain);
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    let mut out = [0; 16];
    hasher.finalize_xof().fill(&mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_by_time_and_keep_their_prefix() {
        let early = Id::new("ep", 1_000, u128::MAX);
        let late = Id::new("ep", 1_001, 0);
        assert!(early < late);
        assert_eq!(early.prefix(), "ep");
        assert_eq!(early.as_str().len(), 29);
    }

    #[test]
    fn an_id_is_its_prefix_and_its_number() {
        let id = Id::new("fa", 1_700_000_000_000, 0xdead_beef_0123_4567_89ab);
        assert_eq!(id.ulid().map(|ulid| Id::from_ulid("fa", ulid)), Some(id));
        assert_eq!(Id::from_text("fa_1").ulid(), None);
        assert_eq!(Id::from_text("fa_8zzzzzzzzzzzzzzzzzzzzzzzzz").ulid(), None);
        assert_eq!(Id::from_text("fa_il000000000000000000000000").ulid(), None);
    }

    #[test]
    fn a_retry_derives_the_same_ids_and_another_caller_does_not() {
        let command = CommandId::from_key("alice", "k");
        assert_eq!(command, CommandId::from_key("alice", "k"));
        assert_ne!(command, CommandId::from_key("bob", "k"));
        assert_ne!(command, CommandId::from_key("alic", "ek"));
        assert_ne!(command.event(0), command.event(1));
    }
}
