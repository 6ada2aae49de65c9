//! Privacy: the vault's entries, and who was shown what. Values are never in an event, except sealed.

use crate::envelope::KeyRef;
use crate::operation::{Audience, Operation, Traits};
use crate::risk::Risk;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

crate::layer! {
    privacy {
        commands { }
        queries { }
        services { reveal: Reveal, keep: Keep, stats: Stats }
    }
}

crate::events! {
    /// What happens in the vault.
    privacy {
        Minted = 0x1201 "minted" v 1 {},
        Revealed = 0x1202 "revealed" v 1 {},
        Missed = 0x1203 "missed" v 1 {},
    }
}

/// Show the values behind tokens to a person. Who, what for and which tokens is recorded before anything is shown.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reveal {
    /// A text with tokens in it.
    pub text: String,
    /// What for; recorded.
    pub purpose: String,
}

impl Operation for Reveal {
    type Returns = Shown;
    const TRAITS: Traits = Traits {
        audience: Audience::Human,
        risk: Risk::High,
        sensitive: true,
        tags: &["untokenize", "detokenize", "vault"],
        example: r#"{"text": "EMAIL_tk_0000000000", "purpose": "support case"}"#,
        ..Traits::DEFAULT
    };
}

/// A text with the values in the place of its tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Shown {
    /// The text.
    pub text: String,
    /// How many tokens were replaced.
    pub revealed: u32,
    /// How many looked like tokens and are none of this project.
    pub unknown: u32,
}

/// Keep a secret in the store's own vault, so that settings can name it: `${vault:TOKEN}` stands for it there.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Keep {
    /// The secret.
    pub text: String,
}

impl Operation for Keep {
    type Returns = Kept;
    const TRAITS: Traits = Traits {
        audience: Audience::Human,
        sensitive: true,
        tags: &["secret", "key", "vault", "store"],
        example: r#"{"text": "an example of a secret"}"#,
        ..Traits::DEFAULT
    };
}

/// A secret that is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Kept {
    /// How settings name it.
    pub reference: String,
}

/// Count the vault's entries of the project by type.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Stats {}

impl Operation for Stats {
    type Returns = Counts;
    const TRAITS: Traits = Traits { audience: Audience::Human, ..Traits::DEFAULT };
}

/// Entries of the vault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Counts {
    /// By type, such as `EMAIL`.
    pub types: BTreeMap<String, u64>,
    /// All.
    pub total: u64,
}

/// A value was given a token. Recorded before the token is used anywhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Minted {
    /// The project whose token it is.
    pub vault: String,
    /// The token.
    pub token: String,
    /// What was found, such as `GLOBAL.EMAIL`.
    pub kind: String,
    /// Keyed digest of type and value as written: finds the token again.
    pub written: [u8; 16],
    /// Keyed digest of type and canonical value: says which values mean the same.
    pub canonical: [u8; 16],
    /// How often the token had to be changed because another value had it.
    pub counter: u32,
    /// The data key the value is sealed under.
    pub key: KeyRef,
    /// The value, sealed: AES-256-SIV with vault, token and key as associated data.
    pub sealed: Vec<u8>,
}

/// Values are about to be released. Recorded, and on disk, before they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revealed {
    /// The project.
    pub vault: String,
    /// The tokens.
    pub tokens: Vec<String>,
    /// To whom: `upstream`, `person`.
    pub audience: String,
    /// What for: the tool and its argument paths, or what a person said.
    pub purpose: String,
}

/// Something looked like tokens and is none of this project: invented, or another project's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missed {
    /// The project.
    pub vault: String,
    /// What they looked like; at most sixteen.
    pub tokens: Vec<String>,
    /// How many there were.
    pub count: u32,
    /// What the release was for.
    pub purpose: String,
}

crate::undo! {
    Minted(_) => Undo::Record,
    Revealed(_) => Undo::never("what was seen was seen"),
    Missed(_) => Undo::Record,
}
