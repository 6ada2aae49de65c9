//! Athena: durable memory and code mode over one event log.
