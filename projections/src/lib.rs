//! The read side of Athena: search, facts, timeline, graph, agenda, procedures, runs and audit.
