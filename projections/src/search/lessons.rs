//! What the use of its answers teaches: a factor for each signal and project, bounded, folded from the events alone.

use athena_schemas::context::Scope;
use athena_schemas::layers::rag::{Lesson, Signal};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A judgement moves a factor by at most this, in thousandths.
const STEP: i32 = 20;
/// A factor stays within 1 ± this, in thousandths: a signal is never switched off by what was judged.
const BOUND: i32 = 500;

/// What was learned, project by project.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lessons(BTreeMap<String, BTreeMap<Signal, i32>>);

impl Lessons {
    /// Takes in what one judgement taught.
    pub fn learn(&mut self, scope: &Scope, lessons: &[Lesson]) {
        if lessons.is_empty() {
            return;
        }
        let factors = self.0.entry(scope.vault().to_owned()).or_default();
        for lesson in lessons {
            let step = (i32::from(lesson.gain) / 10).clamp(-STEP, STEP);
            let factor = factors.entry(lesson.signal).or_default();
            *factor = (*factor + step).clamp(-BOUND, BOUND);
        }
    }

    /// The factor of a signal in a project, from 0.5 to 1.5.
    pub fn factor(&self, scope: &Scope, signal: Signal) -> f64 {
        let learned = self.0.get(scope.vault()).and_then(|factors| factors.get(&signal)).copied();
        1.0 + f64::from(learned.unwrap_or(0)) / 1000.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lessons_are_bounded_and_stay_in_their_project() {
        let (here, there) = (Scope::project("p"), Scope::project("q"));
        let mut lessons = Lessons::default();
        for _ in 0..1_000 {
            lessons.learn(
                &here,
                &[
                    Lesson { signal: Signal::Words, gain: -1_000 },
                    Lesson { signal: Signal::Session, gain: 55 },
                ],
            );
        }
        assert_eq!(lessons.factor(&here, Signal::Words), 0.5);
        assert_eq!(lessons.factor(&here, Signal::Session), 1.5);
        assert_eq!(lessons.factor(&here, Signal::Meaning), 1.0);
        assert_eq!(lessons.factor(&there, Signal::Words), 1.0);
    }
}
