//! Runs and sessions: lists, a run with its record, a session with its state.

use super::limit;
use crate::library::Library;
use crate::runs::{RunRow, SessionRow, ViolationRow, first_line, readable, source};
use athena_schemas::context::Context;
use athena_schemas::layers::common::{Time, time};
use athena_schemas::layers::run::{
    Detail, Jail, List, Queries, Session, Sessions, Show, Summary, Text, Violated, Violation, Violations,
};
use athena_schemas::refusal::Refusal;

impl Queries for Library {
    fn list(&self, cx: &Context, op: List) -> Result<Vec<Summary>, Refusal> {
        let takes = |row: &RunRow| {
            cx.scope.covers(&row.scope)
                && op.status.is_none_or(|status| status == row.status)
                && op.session.as_ref().is_none_or(|session| row.session.as_ref() == Some(session))
        };
        let unfinished = op.status.is_some_and(|status| !status.is_final());
        let most = if unfinished { op.limit as usize } else { limit(op.limit)? };
        let rows = self.runs.list(op.before.as_ref(), unfinished, most, takes)?;
        Ok(rows.iter().map(summary).collect())
    }

    fn show(&self, cx: &Context, op: Show) -> Result<Detail, Refusal> {
        let row =
            self.runs.row(&op.run)?.filter(|row| cx.caller.holds.covers(&row.scope)).ok_or_else(|| {
                Refusal::not_found(format!("there is no run {}", op.run)).hint("athena run list")
            })?;
        Ok(Detail {
            summary: summary(&row),
            source: source(&row.code),
            code_hash: row.code_hash.clone(),
            input: readable(&row.input),
            limits: row.limits,
            reasons: row.reasons.clone(),
            sandbox: Jail { level: row.jail.clone(), engine: row.engine.clone() },
            trace: self.runs.trace(&row.run)?,
            value: row.value.as_ref().map(readable).unwrap_or_default(),
            metrics: row.metrics,
        })
    }

    fn sessions(&self, cx: &Context, op: Sessions) -> Result<Vec<Session>, Refusal> {
        let wanted = |row: &SessionRow| {
            cx.scope.covers(&row.scope)
                && op.session.as_ref().is_none_or(|one| *one == row.key || *one == row.name)
        };
        let rows = self.runs.sessions()?;
        let most = limit(op.limit)?;
        Ok(rows
            .iter()
            .filter(|row| wanted(row))
            .take(most)
            .map(|row| session(row, op.session.is_some()))
            .collect())
    }

    fn violations(&self, cx: &Context, op: Violations) -> Result<Vec<Violation>, Refusal> {
        let takes = |row: &ViolationRow| {
            cx.scope.covers(&row.scope)
                && op.bound.is_none_or(|bound| bound == row.violated.bound)
                && (row.violated.exfiltration || !op.exfiltration)
        };
        let rows = self.runs.violations(op.before, limit(op.limit)?, takes)?;
        Ok(rows.iter().map(violation).collect())
    }
}

fn violation(row: &ViolationRow) -> Violation {
    let Violated { bound, detail, exfiltration } = row.violated.clone();
    Violation { run: row.run.clone(), seq: row.seq, at: moment(row.at_ms), bound, detail, exfiltration }
}

fn moment(at_ms: u64) -> Time {
    time(i64::try_from(at_ms).unwrap_or(i64::MAX))
}

fn summary(row: &RunRow) -> Summary {
    Summary {
        run: row.run.clone(),
        status: row.status,
        started: moment(row.at_ms),
        by: row.by.clone(),
        language: row.language,
        session: row.session.clone(),
        parent: row.parent.clone(),
        risk: row.risk,
        calls: row.calls,
        wall_us: row.metrics.wall_us,
        code: first_line(&row.code),
        approval: row.approval.clone(),
        error: row.error.clone(),
    }
}

fn session(row: &SessionRow, whole: bool) -> Session {
    let bytes = match &row.state {
        Text::Inline(text) => text.len() as u64,
        Text::Blob { bytes, .. } => *bytes,
    };
    Session {
        key: row.key.clone(),
        name: row.name.clone(),
        owner: row.owner.clone(),
        version: row.version,
        run: row.run.clone(),
        at: moment(row.at_ms),
        bytes,
        state: whole.then(|| readable(&row.state)),
    }
}
