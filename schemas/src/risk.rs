//! How much harm something can do, and what it may use up.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// How much harm a call or a piece of code can do. The guard may raise it, never lower it.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "UPPERCASE")]
pub enum Risk {
    /// Reads, or writes that are easily undone. Runs at once.
    #[default]
    Low,
    /// Writes in bulk or touches other systems. Runs; a person is told.
    Medium,
    /// Hard to undo, or reaches outside. A person is asked first.
    High,
    /// Irreversible, or an attack. Refused unless an operator's policy names it.
    Critical,
}

impl Risk {
    /// The level as it is printed, in capitals.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Low => "LOW",
            Self::Medium => "MEDIUM",
            Self::High => "HIGH",
            Self::Critical => "CRITICAL",
        }
    }
}

impl fmt::Display for Risk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What one run may use up. A request can only lower these, never raise them above its tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Limits {
    /// Wall time, milliseconds.
    pub wall_ms: u64,
    /// CPU time, milliseconds.
    pub cpu_ms: u64,
    /// Engine heap, mebibytes.
    pub memory_mb: u32,
    /// Host calls.
    pub calls: u32,
    /// Bytes of the returned value, as JSON.
    pub result_bytes: u64,
    /// Bytes of source code.
    pub source_bytes: u64,
    /// Bytes of captured console output.
    pub log_bytes: u64,
}

impl Limits {
    /// The `balanced` preset: 30 s wall, 5 s CPU, 64 MiB heap, 1,000 host calls, 1 MiB result, 256 KiB source.
    pub const BALANCED: Self = Self {
        wall_ms: 30_000,
        cpu_ms: 5_000,
        memory_mb: 64,
        calls: 1_000,
        result_bytes: 1 << 20,
        source_bytes: 256 << 10,
        log_bytes: 256 << 10,
    };

    /// The smaller of the two in every respect.
    #[must_use]
    pub fn min(self, other: Self) -> Self {
        Self {
            wall_ms: self.wall_ms.min(other.wall_ms),
            cpu_ms: self.cpu_ms.min(other.cpu_ms),
            memory_mb: self.memory_mb.min(other.memory_mb),
            calls: self.calls.min(other.calls),
            result_bytes: self.result_bytes.min(other.result_bytes),
            source_bytes: self.source_bytes.min(other.source_bytes),
            log_bytes: self.log_bytes.min(other.log_bytes),
        }
    }
}
