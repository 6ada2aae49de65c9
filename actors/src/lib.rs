//! The write side of Athena: supervisor, log, layers, guard, tokenizer and vault, sandbox pool, upstreams.
