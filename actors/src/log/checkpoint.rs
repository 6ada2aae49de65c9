//! Signed checkpoints: "at this position the chain was this". Kept elsewhere, one of them shows any rewriting of the past,
//! for a chain alone does not stop somebody who rewrites all of it.

use super::frame::Hash;
use crate::files::{hex, unhex};
use athena_schemas::envelope::Seq;
use athena_schemas::ports::LogError;
use ed25519_dalek::{Signature, Signer as _, SigningKey, Verifier as _, VerifyingKey};
use serde::{Deserialize, Serialize};

/// A statement about the log, signed with Ed25519 (RFC 8032).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The position.
    pub seq: Seq,
    /// The chain hash there, hexadecimal.
    pub chain: String,
    /// When it was made, milliseconds since 1970.
    pub at_ms: u64,
    /// The public key, hexadecimal: compare it with the one you trust.
    pub key: String,
    /// The signature over the other fields, hexadecimal.
    pub signature: String,
}

/// Makes checkpoints.
pub struct Signer(SigningKey);

impl Signer {
    /// A signer from 32 secret bytes, such as the front of `KeyStore::derive("checkpoint", "log")`.
    pub fn new(secret: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(secret))
    }

    /// Its public key, hexadecimal.
    pub fn public_key(&self) -> String {
        hex(self.0.verifying_key().as_bytes())
    }

    /// Signs a position.
    pub fn sign(&self, seq: Seq, chain: &Hash, at_ms: u64) -> Checkpoint {
        let (chain, key) = (hex(chain), self.public_key());
        let signature = hex(&self.0.sign(statement(seq, &chain, at_ms, &key).as_bytes()).to_bytes());
        Checkpoint { seq, chain, at_ms, key, signature }
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Signer").field(&self.public_key()).finish()
    }
}

impl Checkpoint {
    /// Whether its signature is by the key it names.
    pub fn is_signed(&self) -> bool {
        let check = || {
            let key = VerifyingKey::from_bytes(&unhex::<32>(&self.key)?).ok()?;
            let signature = Signature::from_bytes(&unhex::<64>(&self.signature)?);
            key.verify(statement(self.seq, &self.chain, self.at_ms, &self.key).as_bytes(), &signature).ok()
        };
        check().is_some()
    }
}

fn statement(seq: Seq, chain: &str, at_ms: u64, key: &str) -> String {
    format!("athena checkpoint v1\n{seq}\n{chain}\n{at_ms}\n{key}\n")
}

/// A checkpoint as one of the small facts that a store keeps.
pub(crate) fn kept(checkpoint: &Checkpoint) -> Result<(Vec<u8>, Option<Vec<u8>>), LogError> {
    let text = serde_json::to_vec(checkpoint).map_err(|error| LogError::Io(error.to_string()))?;
    Ok(([b"c".as_slice(), &checkpoint.seq.to_be_bytes()].concat(), Some(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_field_of_a_checkpoint_can_change() {
        let checkpoint = Signer::new(&[7; 32]).sign(42, &[1; 32], 1_000);
        assert!(checkpoint.is_signed());
        let changed = [
            Checkpoint { seq: 41, ..checkpoint.clone() },
            Checkpoint { chain: hex(&[2; 32]), ..checkpoint.clone() },
            Checkpoint { at_ms: 1_001, ..checkpoint.clone() },
            Checkpoint { key: Signer::new(&[8; 32]).public_key(), ..checkpoint.clone() },
            Checkpoint { signature: hex(&[0; 64]), ..checkpoint },
        ];
        for other in changed {
            assert!(!other.is_signed(), "{other:?}");
        }
    }
}
