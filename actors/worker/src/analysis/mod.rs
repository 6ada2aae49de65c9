//! Static analysis of agent code: it informs, it never grants.
