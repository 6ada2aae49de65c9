//! Runs: recorded, durable, replayable executions.
