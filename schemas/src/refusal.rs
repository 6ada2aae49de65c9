//! One shape for every "no": what happened, why, and what to try.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;

/// Why something was refused. Each code has one exit code of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The request is not well formed: a field, a type, a range.
    Invalid,
    /// There is no such operation, item, run or tool.
    NotFound,
    /// The state of the item does not allow it.
    Conflict,
    /// A person must say yes first.
    ApprovalRequired,
    /// Policy says no.
    Denied,
    /// A limit was reached: size, count, rate or time.
    LimitExceeded,
    /// The store's data is not what was written.
    Integrity,
    /// The store is in use by something that does not answer, or a needed process is not reachable.
    Unavailable,
    /// The disk is full or the store refuses writes.
    StorageFull,
    /// Whether it happened is not known. Retry with the same idempotency key.
    Unknown,
    /// It was cancelled by its caller.
    Cancelled,
    /// Somebody else's system failed: an upstream server, a reasoner.
    Upstream,
    /// A defect of Athena. The command was refused, nothing was recorded.
    Internal,
}

impl Code {
    /// Exit code of the command line: 1 failed, 2 usage, 3 not found, 4 approval needed, 5 denied, 6 integrity, 7 unreachable.
    pub fn exit(self) -> u8 {
        match self {
            Self::Invalid => 2,
            Self::NotFound => 3,
            Self::ApprovalRequired => 4,
            Self::Denied => 5,
            Self::Integrity => 6,
            Self::Unavailable => 7,
            Self::Conflict
            | Self::LimitExceeded
            | Self::StorageFull
            | Self::Unknown
            | Self::Cancelled
            | Self::Upstream
            | Self::Internal => 1,
        }
    }
}

/// A refusal, the same for the model, the command line and an embedder.
///
/// `message` says what and why in one sentence; `hint` says what to try. Both hold tokens, never sensitive values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Refusal {
    /// What kind of refusal.
    pub code: Code,
    /// What happened and why.
    pub message: String,
    /// What to try. Serialized as `try`.
    #[serde(rename = "try", default, skip_serializing_if = "String::is_empty")]
    pub hint: String,
    /// The parameter at fault, such as `events[3].time`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// More for a program to read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::operation::any")]
    pub details: Option<Value>,
}

impl Refusal {
    /// A refusal with its reason.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: String::new(), path: None, details: None }
    }

    /// The request is not well formed.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Code::Invalid, message)
    }

    /// There is no such thing.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Code::NotFound, message)
    }

    /// The state does not allow it.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(Code::Conflict, message)
    }

    /// Policy says no.
    pub fn denied(message: impl Into<String>) -> Self {
        Self::new(Code::Denied, message)
    }

    /// A defect of ours.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Code::Internal, message)
    }

    /// Adds what to try.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    /// Names the parameter at fault.
    #[must_use]
    pub fn at(mut self, path: impl Into<String>) -> Self {
        self.path = Some(path.into());
        self
    }

    /// Adds data for a program to read.
    #[must_use]
    pub fn with(mut self, details: Value) -> Self {
        self.details = Some(details);
        self
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(path) = &self.path {
            write!(f, " (at {path})")?;
        }
        if !self.hint.is_empty() {
            write!(f, "; try: {}", self.hint)?;
        }
        Ok(())
    }
}

impl std::error::Error for Refusal {}

/// The names nearest to `wanted`, best first: what a misspelt name probably meant. At most three, and none where every one of
/// them differs by half of its letters, or its last part by a third of them.
pub fn nearest<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let mut ranked: Vec<(usize, &str)> = names
        .into_iter()
        .filter_map(|name| {
            let within = |part: &str, share: usize| {
                let far = distance(wanted, part);
                (far <= wanted.len().max(part.len()) / share).then_some(far)
            };
            let tail = name.rsplit('/').next().and_then(|tail| within(tail, 3));
            let far = [within(name, 2), tail].into_iter().flatten().min()?;
            Some((far, name))
        })
        .collect();
    ranked.sort();
    ranked.into_iter().take(3).map(|(_, name)| name).collect()
}

/// Levenshtein's edit distance over bytes, one row at a time.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (cell, y) in row.iter_mut().skip(1).zip(b.bytes()) {
            let above = *cell;
            left = (diagonal + usize::from(x != y)).min(above + 1).min(left + 1);
            *cell = left;
            diagonal = above;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_name_finds_its_neighbours() {
        let names = ["semantic/search", "semantic/store", "episodic/recall"];
        assert_eq!(nearest("semantic/serch", names).first(), Some(&"semantic/search"));
        assert_eq!(nearest("recal", names).first(), Some(&"episodic/recall"));
        assert!(nearest("zzzzzzzz", names).is_empty());
        assert_eq!(nearest("memory/store", names), ["semantic/store"]);
        let far = ["consolidation/proposals", "episodic/context", "procedural/docs"];
        assert!(nearest("process", far).is_empty() && nearest("nonsense", far).is_empty());
        assert_eq!(distance("kitten", "sitting"), 3);
    }

    #[test]
    fn the_hint_is_spelt_try() {
        let json = serde_json::to_value(Refusal::not_found("no such run").hint("athena run list")).unwrap();
        assert_eq!(
            json,
            serde_json::json!({"code": "not_found", "message": "no such run", "try": "athena run list"})
        );
    }
}
