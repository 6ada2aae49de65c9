//! The one generic actor behind the memory layers.
