//! Keys: the master key, data keys per scope, sealing, erasure.
