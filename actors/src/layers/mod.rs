//! What each memory layer decides: state, pure decide, evolve.
