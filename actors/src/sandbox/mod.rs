//! The sandbox pool: pre-warmed jailed workers, one per run.
