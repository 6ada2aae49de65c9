//! What worked before: which tools were named in answer to which words, and which were then called with success.
//!
//! A search for tools is recorded with the stems of its words and the tools it named (`meta.advised`). It belongs to the run whose
//! code searched, or to the next run that whoever searched starts in the same project within an hour. When that run ends, each of
//! its tools counts for or against the words, and the advice is judged: *followed* where one of the tools it named was called with
//! success, *missed* where only others were; where none was, nothing can be said. What was learned of a run goes with the run's record
//! when that is retired, so that a rebuild from what is left comes to the same.

use crate::store::{Batch, Fold, Store, StoreError, Table};
use athena_schemas::context::Context;
use athena_schemas::envelope::{Author, Meta};
use athena_schemas::event::Event;
use athena_schemas::layers::{meta, run, store};
use athena_schemas::ports::Recorded;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// How long advice waits for a run, milliseconds.
const PATIENCE_MS: u64 = 60 * 60 * 1_000;
/// Advice that waits for one run; the oldest goes first.
const WAITING_MAX: usize = 4;
/// Tools and calls under way that are looked at of one run.
const TOOLS_MAX: usize = 64;
/// Failures that every pair of word and tool begins with: what worked once has not proved itself.
const DOUBT: f64 = 2.0;
/// What is not a tool: discovery itself, files, kept results, other runs.
const NO_TOOLS: &[&str] = &["tools", "files", "results", "run"];

/// Advice that waits for what comes of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Advice {
    at_ms: u64,
    words: Vec<String>,
    ops: Vec<String>,
}

/// A run under way.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Under {
    advice: Vec<Advice>,
    calls: BTreeMap<u32, String>,
    good: BTreeSet<String>,
    bad: BTreeSet<String>,
}

/// How often a tool was called with success, and without, after a search with a word.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Worked {
    good: u32,
    bad: u32,
}

/// What a run that is over has added.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Lesson {
    project: String,
    followed: u32,
    missed: u32,
    /// Keys of pairs of word and tool: with success, and without.
    good: Vec<Vec<u8>>,
    bad: Vec<Vec<u8>>,
}

/// What came of the advice in a project.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Searches that named tools.
    pub given: u64,
    /// Those after which a tool that they named was called with success.
    pub followed: u64,
    /// Those after which only other tools were.
    pub missed: u64,
}

/// The read model of advice. Clones share their rows.
#[derive(Clone)]
pub struct Advised {
    /// Advice that waits for a run, by who asked and where.
    waiting: Table,
    /// Runs under way.
    runs: Table,
    /// By project, word and tool.
    worked: Table,
    /// What each run has added, as long as its record is whole.
    lessons: Table,
    /// By project.
    tallies: Table,
}

impl Advised {
    /// How well each tool did after searches with these words, from 0 to below 1; tools of which nothing is known are missing.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn favoured(&self, cx: &Context, words: &[String]) -> Result<HashMap<String, f64>, StoreError> {
        let mut favoured: HashMap<String, f64> = HashMap::new();
        for word in words {
            let prefix = key(&[project(cx.scope.project.as_deref()), word, ""]);
            self.worked.prefix(&prefix, &mut |key, value| {
                let op = key.get(prefix.len()..).and_then(|op| std::str::from_utf8(op).ok());
                if let (Some(op), Ok(worked)) = (op, postcard::from_bytes::<Worked>(value)) {
                    let (good, bad) = (f64::from(worked.good), f64::from(worked.bad));
                    *favoured.entry(op.to_owned()).or_default() +=
                        good / (good + bad + DOUBT) / words.len() as f64;
                }
                true
            })?;
        }
        Ok(favoured)
    }

    /// What came of the advice in the project of a caller.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn tally(&self, cx: &Context) -> Result<Tally, StoreError> {
        let project = project(cx.scope.project.as_deref());
        Ok(self.tallies.row(project.as_bytes())?.unwrap_or_default())
    }

    fn advised(&self, batch: &mut Batch, meta: &Meta, event: &meta::Advised) -> Result<(), StoreError> {
        self.tally_with(batch, project(meta.scope.project.as_deref()), |tally| tally.given += 1)?;
        let advice = Advice { at_ms: meta.at_ms, words: event.words.clone(), ops: event.ops.clone() };
        if let Some(run) = &meta.run {
            // Of a run that is over nothing more is learned.
            let Some(mut under) = batch.row::<Under>(&self.runs, run.as_str().as_bytes())? else {
                return Ok(());
            };
            push(&mut under.advice, advice);
            return batch.put_row(&self.runs, run.as_str(), &under);
        }
        let who = asker(&meta.author, meta);
        let mut waiting: Vec<Advice> = batch.row(&self.waiting, &who)?.unwrap_or_default();
        push(&mut waiting, advice);
        batch.put_row(&self.waiting, who, &waiting)
    }

    fn started(&self, batch: &mut Batch, meta: &Meta, started: &run::Started) -> Result<(), StoreError> {
        let mut under = Under::default();
        if started.parent.is_none() {
            let who = asker(&meta.author, meta);
            under.advice = batch.row(&self.waiting, &who)?.unwrap_or_default();
            under.advice.retain(|advice| meta.at_ms.saturating_sub(advice.at_ms) <= PATIENCE_MS);
            batch.remove(&self.waiting, who);
        }
        batch.put_row(&self.runs, started.run.as_str(), &under)
    }

    fn finished(&self, batch: &mut Batch, meta: &Meta, run: &str, under: &Under) -> Result<(), StoreError> {
        batch.remove(&self.runs, run);
        let project = project(meta.scope.project.as_deref());
        let mut lesson = Lesson { project: project.to_owned(), ..Lesson::default() };
        for advice in &under.advice {
            if !under.good.is_empty() {
                let followed = advice.ops.iter().any(|op| under.good.contains(op));
                if followed { lesson.followed += 1 } else { lesson.missed += 1 }
            }
            for word in &advice.words {
                lesson.good.extend(under.good.iter().map(|op| key(&[project, word, op])));
                // What failed at first and worked then, worked.
                lesson.bad.extend(under.bad.difference(&under.good).map(|op| key(&[project, word, op])));
            }
        }
        if lesson.good.is_empty() && lesson.bad.is_empty() {
            return Ok(());
        }
        self.apply(batch, &lesson, |number| number.saturating_add(1))?;
        self.tally_with(batch, project, |tally| {
            tally.followed += u64::from(lesson.followed);
            tally.missed += u64::from(lesson.missed);
        })?;
        batch.put_row(&self.lessons, run, &lesson)
    }

    /// Takes back what a run has added; its answers are gone from the log.
    fn retire(&self, batch: &mut Batch, run: &str) -> Result<(), StoreError> {
        batch.remove(&self.runs, run);
        let Some(lesson) = batch.row::<Lesson>(&self.lessons, run.as_bytes())? else { return Ok(()) };
        batch.remove(&self.lessons, run);
        self.apply(batch, &lesson, |number| number.saturating_sub(1))?;
        self.tally_with(batch, &lesson.project, |tally| {
            tally.followed = tally.followed.saturating_sub(u64::from(lesson.followed));
            tally.missed = tally.missed.saturating_sub(u64::from(lesson.missed));
        })
    }

    /// Counts a lesson's pairs up or down; a pair of which nothing is left is not kept.
    fn apply(
        &self,
        batch: &mut Batch,
        lesson: &Lesson,
        change: impl Fn(u32) -> u32,
    ) -> Result<(), StoreError> {
        let good = lesson.good.iter().map(|key| (key, true));
        for (key, fine) in good.chain(lesson.bad.iter().map(|key| (key, false))) {
            let mut worked: Worked = batch.row(&self.worked, key)?.unwrap_or_default();
            let number = if fine { &mut worked.good } else { &mut worked.bad };
            *number = change(*number);
            if worked == Worked::default() {
                batch.remove(&self.worked, key.clone());
            } else {
                batch.put_row(&self.worked, key.clone(), &worked)?;
            }
        }
        Ok(())
    }

    fn tally_with(
        &self,
        batch: &mut Batch,
        project: &str,
        change: impl FnOnce(&mut Tally),
    ) -> Result<(), StoreError> {
        let mut tally: Tally = batch.row(&self.tallies, project.as_bytes())?.unwrap_or_default();
        change(&mut tally);
        batch.put_row(&self.tallies, project, &tally)
    }
}

impl Fold for Advised {
    const NAME: &'static str = "advice";
    const VERSION: u32 = 1;

    fn open(store: &Store) -> Result<Self, StoreError> {
        Ok(Self {
            waiting: store.table("advice_waiting")?,
            runs: store.table("advice_runs")?,
            worked: store.table("advice_worked")?,
            lessons: store.table("advice_lessons")?,
            tallies: store.table("advice_tallies")?,
        })
    }

    fn fold(&self, batch: &mut Batch, event: &Event, recorded: &Recorded) -> Result<(), StoreError> {
        let draft = &recorded.record.draft;
        let event = match event {
            Event::Meta(meta::Event::Advised(event)) => return self.advised(batch, &draft.meta, event),
            Event::Store(store::Event::Retired(retired)) => {
                return retired.runs.iter().try_for_each(|run| self.retire(batch, run.as_str()));
            }
            Event::Run(run::Event::Started(started)) => return self.started(batch, &draft.meta, started),
            Event::Run(event) => event,
            _ => return Ok(()),
        };
        if !matches!(event, run::Event::Called(_) | run::Event::Answered(_) | run::Event::Finished(_)) {
            return Ok(());
        }
        let Some(run) = draft.stream.strip_prefix("run/") else { return Ok(()) };
        let Some(mut under) = batch.row::<Under>(&self.runs, run.as_bytes())? else { return Ok(()) };
        match event {
            run::Event::Called(called) if is_tool(&called.op) && under.calls.len() < TOOLS_MAX => {
                under.calls.insert(called.call, called.op.clone());
            }
            run::Event::Answered(answered) => {
                let Some(op) = under.calls.remove(&answered.call) else { return Ok(()) };
                let came = if answered.result.is_ok() { &mut under.good } else { &mut under.bad };
                if came.len() < TOOLS_MAX {
                    came.insert(op);
                }
            }
            run::Event::Finished(_) => return self.finished(batch, &draft.meta, run, &under),
            _ => return Ok(()),
        }
        batch.put_row(&self.runs, run, &under)
    }

    fn tables(&self) -> Vec<Table> {
        vec![
            self.waiting.clone(),
            self.runs.clone(),
            self.worked.clone(),
            self.lessons.clone(),
            self.tallies.clone(),
        ]
    }
}

fn is_tool(op: &str) -> bool {
    op.split_once('/').is_some_and(|(layer, _)| !NO_TOOLS.contains(&layer))
}

fn push(advice: &mut Vec<Advice>, one: Advice) {
    if advice.len() >= WAITING_MAX {
        advice.remove(0);
    }
    advice.push(one);
}

/// Words and names hold no zero byte: they are letters, and names are safe.
fn key(parts: &[&str]) -> Vec<u8> {
    parts.join("\0").into_bytes()
}

fn project(name: Option<&str>) -> &str {
    name.unwrap_or_default()
}

fn asker(author: &Author, meta: &Meta) -> Vec<u8> {
    let who = format!("{:?}/{:?}/{}", author.party, author.channel, author.name);
    key(&[project(meta.scope.project.as_deref()), &who])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Fed, id, started};
    use athena_schemas::context::Scope;
    use athena_schemas::id::Id;
    use athena_schemas::layers::meta::{Queries, Recommended, Usage};
    use athena_schemas::layers::run::{Answered, Called, Effect, Finished, Metrics, Status, Text};

    fn advised(words: &[&str], ops: &[&str]) -> meta::Event {
        let owned = |list: &[&str]| list.iter().map(|one| (*one).to_owned()).collect();
        meta::Advised { words: owned(words), ops: owned(ops) }.into()
    }

    fn of(fed: &mut Fed, run: &Id, at_ms: u64, event: impl Into<run::Event>) {
        fed.feed_to(&format!("run/{run}"), at_ms, event.into());
    }

    /// A run that calls tools, each with success or without.
    fn runs(fed: &mut Fed, number: u64, at_ms: u64, calls: &[(&str, bool)]) {
        let run = id("run", number);
        of(fed, &run, at_ms, started(&run));
        for (call, (op, fine)) in (1..).zip(calls) {
            let params = Text::Inline("{}".into());
            let effect = Effect::ReadOnly;
            of(fed, &run, at_ms, Called { call, op: (*op).into(), params, options: String::new(), effect });
            let said = Text::Inline("1".into());
            let result = if *fine { Ok(said) } else { Err(said) };
            of(fed, &run, at_ms, Answered { call, result, clock_ms: at_ms });
        }
        let over = Finished {
            status: Status::Completed,
            value: None,
            error: None,
            logs: Vec::new(),
            state: None,
            tokenized: 0,
            engine: "quickjs".into(),
            metrics: Metrics::default(),
        };
        of(fed, &run, at_ms, over);
    }

    fn favoured(fed: &Fed, words: &[&str]) -> HashMap<String, f64> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        fed.library.advice.favoured(&fed.cx(1), &words).unwrap()
    }

    fn tally(fed: &Fed) -> (u64, u64, u64) {
        let Tally { given, followed, missed } = fed.library.advice.tally(&fed.cx(1)).unwrap();
        (given, followed, missed)
    }

    #[test]
    fn what_worked_after_a_search_is_favoured_for_its_words_and_the_advice_is_judged() {
        let mut fed = Fed::new();
        fed.feed(1_000, advised(&["creat", "issu"], &["github/create_issue", "jira/create"]));
        runs(
            &mut fed,
            1,
            2_000,
            &[("github/create_issue", true), ("jira/create", false), ("files/read", true)],
        );
        assert_eq!(tally(&fed), (1, 1, 0));
        let known = favoured(&fed, &["issu"]);
        assert!((known["github/create_issue"] - 1.0 / 3.0).abs() < 1e-9, "{known:?}");
        assert_eq!(known["jira/create"], 0.0);
        assert!(!known.contains_key("files/read"));
        // A question shares its trust among its words.
        assert!((favoured(&fed, &["issu", "kettl"])["github/create_issue"] - 1.0 / 6.0).abs() < 1e-9);

        // Only others worked: missed. What they did counts for the words all the same.
        fed.feed(3_000, advised(&["issu"], &["jira/create"]));
        runs(&mut fed, 2, 4_000, &[("github/create_issue", true)]);
        assert_eq!(tally(&fed), (2, 1, 1));
        assert!(favoured(&fed, &["issu"])["github/create_issue"] > 0.4);
        // Nothing worked, or nothing ran: nothing can be said.
        fed.feed(5_000, advised(&["issu"], &["jira/create"]));
        runs(&mut fed, 3, 6_000, &[("jira/create", false)]);
        fed.feed(7_000, advised(&["issu"], &["jira/create"]));
        assert_eq!(tally(&fed), (4, 1, 1));
        let used = fed.library.usage(&fed.cx(1), Usage { range: None }).unwrap();
        let of_searches = used.iter().find(|used| used.op == "tools/search").unwrap();
        let expected = Recommended { given: 4, followed: 1, missed: 1, accuracy: Some(0.5) };
        assert_eq!(of_searches.recommended, Some(expected));
        assert_eq!(fed.digests(), fed.rebuilt(|_| false));
    }

    #[test]
    fn what_a_run_taught_goes_with_its_record() {
        let mut fed = Fed::new();
        for n in [1, 2] {
            fed.feed(n * 1_000, advised(&["issu"], &["a/b"]));
            runs(&mut fed, n, n * 1_000, &[("a/b", true), ("c/d", false)]);
        }
        assert_eq!((tally(&fed), favoured(&fed, &["issu"])["a/b"]), ((2, 2, 0), 0.5));
        let retire = |runs: Vec<Id>| {
            let (spans, digest) = (Vec::new(), [0; 32]);
            store::Event::from(store::Retired { runs, spans, events: 0, bytes: 0, before_ms: 0, digest })
        };
        fed.feed(9_000, retire(vec![id("run", 1)]));
        assert_eq!((tally(&fed), favoured(&fed, &["issu"])["a/b"]), ((2, 1, 0), 1.0 / 3.0));
        fed.feed(9_001, retire(vec![id("run", 2), id("run", 3)]));
        assert_eq!((tally(&fed), favoured(&fed, &["issu"]).len()), ((2, 0, 0), 0));
        // A rebuild finds no answers any more, and comes to the same.
        let advice = |all: Vec<(&'static str, [u8; 32])>| all.into_iter().find(|(name, _)| *name == "advice");
        let answers = |event: &Event| matches!(event, Event::Run(run::Event::Answered(_)));
        assert_eq!(advice(fed.digests()), advice(fed.rebuilt(answers)));
    }

    #[test]
    fn advice_belongs_to_the_next_run_within_an_hour_or_to_the_run_that_asked() {
        let mut fed = Fed::new();
        fed.feed(0, advised(&["old"], &["a/b"]));
        runs(&mut fed, 1, PATIENCE_MS + 1, &[("a/b", true)]);
        assert_eq!((tally(&fed), favoured(&fed, &["old"]).len()), ((1, 0, 0), 0));

        let run = id("run", 2);
        of(&mut fed, &run, 9_000_000, started(&run));
        fed.feed_within(&run, 9_000_000, advised(&["within"], &["a/b"]));
        let called = Called {
            call: 1,
            op: "a/b".into(),
            params: Text::Inline("{}".into()),
            options: String::new(),
            effect: Effect::ReadOnly,
        };
        of(&mut fed, &run, 9_000_000, called);
        // Another run of the same asker meanwhile has nothing to do with it.
        runs(&mut fed, 3, 9_000_001, &[("c/d", true)]);
        let result = Ok(Text::Inline("1".into()));
        of(&mut fed, &run, 9_000_002, Answered { call: 1, result, clock_ms: 1 });
        let under: Under = fed.library.advice.runs.row(run.as_str().as_bytes()).unwrap().unwrap();
        assert!(under.calls.is_empty() && under.good.contains("a/b") && under.advice.len() == 1);
        assert_eq!(tally(&fed), (2, 0, 0));
    }

    #[test]
    fn projects_learn_by_themselves_and_no_more_than_a_little_waits() {
        let mut fed = Fed::new();
        for n in 0..20 {
            fed.feed(n, advised(&["word"], &["a/b"]));
        }
        runs(&mut fed, 1, 100, &[("a/b", true)]);
        assert_eq!(tally(&fed), (20, WAITING_MAX as u64, 0));
        fed.scope = Scope::project("another");
        assert_eq!((tally(&fed), favoured(&fed, &["word"]).len()), ((0, 0, 0), 0));
    }
}
