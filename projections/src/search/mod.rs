//! Search: lexical, by vector, fused.
