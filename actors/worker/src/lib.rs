//! The disposable process of Athena: the jail, the engines and the static analysis of agent code.

pub mod analysis;
