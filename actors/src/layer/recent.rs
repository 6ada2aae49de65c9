//! The answers to a layer's recent commands, in memory, for retries that overtake the disk.

use super::Reply;
use athena_schemas::id::CommandId;
use athena_schemas::ports::Answer;
use athena_schemas::refusal::Refusal;
use serde_json::Value;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

/// How many answers a layer remembers for retries that overtake the disk. Older retries are answered from the log.
const REMEMBERED: usize = 4_096;
/// The oldest answer is not remembered any more either when it has more values than this: that of an import has thousands.
const VALUES: usize = 256;

/// The answers to recent commands, so that a retry that overtakes the disk waits for the first try's answer.
#[derive(Default)]
pub(super) struct Recent {
    by_command: HashMap<CommandId, Remembered>,
    order: VecDeque<CommandId>,
}

impl Recent {
    /// What a command was answered, or will be; nothing where that failed.
    pub(super) fn get(&self, command: CommandId) -> Option<Remembered> {
        self.by_command.get(&command).filter(|remembered| !remembered.failed()).cloned()
    }

    /// A place for the answer to a command that is on its way.
    pub(super) fn begin(&mut self, command: CommandId) -> Remembered {
        while let Some(oldest) = self.order.front()
            && (self.order.len() >= REMEMBERED
                || self.by_command.get(oldest).is_none_or(Remembered::is_large))
        {
            self.by_command.remove(oldest);
            self.order.pop_front();
        }
        let remembered = Remembered::default();
        if self.by_command.insert(command, remembered.clone()).is_none() {
            self.order.push_back(command);
        }
        remembered
    }
}

/// An answer that is known, or on its way to those who wait for it.
#[derive(Clone, Default)]
pub(super) struct Remembered(Arc<Mutex<Pending>>);

#[derive(Default)]
struct Pending {
    outcome: Option<Result<Answer, Refusal>>,
    waiting: Vec<Reply>,
}

impl Remembered {
    /// An answer that is known.
    pub(super) fn done(answer: Answer) -> Self {
        Self(Arc::new(Mutex::new(Pending { outcome: Some(Ok(answer)), waiting: Vec::new() })))
    }

    fn failed(&self) -> bool {
        matches!(self.0.lock().unwrap_or_else(PoisonError::into_inner).outcome, Some(Err(_)))
    }

    fn is_large(&self) -> bool {
        let pending = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        matches!(&pending.outcome, Some(Ok(answer)) if !fits(&answer.value, &mut { VALUES }))
    }

    /// Answers at once, or as soon as there is something to answer.
    pub(super) fn subscribe(&self, reply: Reply) {
        let mut pending = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &pending.outcome {
            Some(outcome) => drop(reply.send(outcome.clone())),
            None => pending.waiting.push(reply),
        }
    }

    /// Tells everybody who waits.
    pub(super) fn settle(&self, outcome: Result<Answer, Refusal>) {
        let mut pending = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for reply in pending.waiting.drain(..) {
            let _ = reply.send(outcome.clone());
        }
        pending.outcome = Some(outcome);
    }
}

/// Whether a value has no more values in it than are left.
fn fits(value: &Value, left: &mut usize) -> bool {
    let Some(less) = left.checked_sub(1) else { return false };
    *left = less;
    match value {
        Value::Object(fields) => fields.values().all(|field| fits(field, left)),
        Value::Array(items) => items.iter().all(|item| fits(item, left)),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_answers_are_left_to_the_log_and_small_ones_remembered_up_to_a_number() {
        let mut recent = Recent::default();
        let command = |n: usize| CommandId::from_key("test", &n.to_string());
        let settled = |recent: &mut Recent, n: usize, value: Value| {
            recent.begin(command(n)).settle(Ok(Answer { value, seq: Some(1) }));
        };
        settled(&mut recent, 0, serde_json::json!(vec![0; VALUES]));
        assert!(recent.get(command(0)).is_some(), "until there is another");
        settled(&mut recent, 1, serde_json::json!({"ids": vec![0; VALUES - 2]}));
        let under_way = recent.begin(command(2));
        assert!(recent.get(command(0)).is_none() && recent.get(command(1)).is_some());
        for n in 3..REMEMBERED + 2 {
            settled(&mut recent, n, Value::Null);
        }
        assert_eq!(recent.by_command.len(), REMEMBERED);
        assert!(recent.get(command(1)).is_none() && recent.get(command(2)).is_some());
        drop(under_way);
    }
}
