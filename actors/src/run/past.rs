//! Where a run comes from, and what it and those it started have called: what a judge must know of a run that goes on, whoever
//! saw it before.

use super::Inner;
use super::host::command;
use super::parts::{self, Judge};
use super::tape::{Asked, Tape};
use athena_schemas::id::{CommandId, Id};
use athena_schemas::layers::run::Effect;
use athena_schemas::refusal::{Code, Refusal};
use std::sync::Arc;

/// Runs that start runs that start runs: at most this deep.
const DEPTH_MAX: u32 = 4;

/// Where a run stands among those that started it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// The outermost of them; itself where nobody's code started it.
    pub(super) root: Id,
    /// How many there are above it.
    pub(super) depth: u32,
}

/// A run under the judge's eyes, until dropped.
pub(super) struct Watched {
    judge: Arc<dyn Judge>,
    run: Id,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.judge.leave(&self.run);
    }
}

impl Inner {
    /// The run that this command started, if it did.
    pub(super) fn started_by(&self, command: CommandId) -> Result<Option<Id>, Refusal> {
        let reader = self.parts.log.reader();
        let Some(seq) = reader.find(command.event(0))? else { return Ok(None) };
        let record = reader.read(seq - 1, 1)?;
        Ok(record.first().and_then(|record| record.draft.stream.strip_prefix("run/")).map(Id::from_text))
    }

    /// Where a run comes from: of a parent at work that is known, of others the record tells.
    pub(super) fn line(&self, run: &Id, parent: Option<&Id>) -> Result<Line, Refusal> {
        let mut line = Line { root: run.clone(), depth: 0 };
        let mut above = parent.cloned();
        while let Some(parent) = above {
            line.depth += 1;
            if let Some(known) = self.line_of(&parent) {
                line = Line { root: known.root, depth: known.depth + line.depth };
                above = None;
            } else {
                above = self.open(&parent)?.started.parent;
                line.root = parent;
            }
            if line.depth > DEPTH_MAX {
                return Err(Refusal::new(
                    Code::LimitExceeded,
                    format!("runs within runs go {DEPTH_MAX} deep at most"),
                ));
            }
        }
        Ok(line)
    }

    /// Puts a run that goes to work under the judge's eyes, and tells what it did before where the judge does not know.
    pub(super) async fn watched(&self, run: &Id, tape: &Tape) -> Result<Watched, Refusal> {
        let judge = self.parts.judge.clone();
        let root = self.line_of(run).map_or_else(|| run.clone(), |line| line.root);
        let known = judge.enter(run, &root).await?;
        let watched = Watched { judge, run: run.clone() };
        if !known && (root != *run || !tape.asked.is_empty()) {
            let mut asked = Vec::new();
            self.past(&root, 0, &mut asked)?;
            watched.judge.recall(run, &asked)?;
        }
        Ok(watched)
    }

    /// What a run has called, and what the runs it started have, in the order of the calls.
    fn past(&self, run: &Id, depth: u32, past: &mut Vec<parts::Asked>) -> Result<(), Refusal> {
        let tape = self.open(run)?;
        let (caller, held) = (tape.code_caller(), tape.held());
        for (call, asked) in &tape.asked {
            let Asked::Call { op, params, options, effect } = asked else { continue };
            // A call that waits for its approval is judged when it is made again.
            if Some(*call) == held {
                continue;
            }
            if *effect == Effect::Command
                && depth < DEPTH_MAX
                && let Some(inner) = self.started_by(command(&caller, run, *call, options))?
            {
                self.past(&inner, depth + 1, past)?;
            }
            past.push(parts::Asked { op: op.clone(), params: params.clone() });
        }
        Ok(())
    }
}
