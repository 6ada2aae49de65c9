//! The one generic actor that drives a projection.
