//! The tokenizer and the vault.
