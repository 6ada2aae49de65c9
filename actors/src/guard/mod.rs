//! The guard: policy, approvals and what a verdict leads to.
