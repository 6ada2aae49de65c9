//! Rest-for-one supervision with a restart window.
