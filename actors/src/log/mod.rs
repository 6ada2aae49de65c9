//! The event log: one writer, group commit, hash chain.
