//! The vocabulary of Athena: operations, events, ids, contexts, risk, refusals and ports.
