//! The read side of Athena: read models that pull from the log, disposable and rebuilt from it.

pub mod search;
