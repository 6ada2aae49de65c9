//! Who read what, how fast, and which questions found little, since the store was opened. It lives in memory and is bounded;
//! nothing of it is a fact about the log, so nothing of it is rebuilt. What a run read is in the run's own record.

use athena_schemas::context::Context;
use athena_schemas::id::Id;
use athena_schemas::layers::common::time;
use athena_schemas::layers::meta::{Access, Used};
use athena_schemas::ports::Called;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Items whose readings are kept; the ones read least lately go first.
const ITEMS: usize = 20_000;
/// Readings kept of one item.
const READINGS: usize = 16;
/// Calls kept for the quantiles of one operation.
const CALLS: usize = 1_000;
/// Questions kept that found little.
const WEAK: usize = 500;
/// Ids noted of one answer.
const NOTED: usize = 100;

/// What happened lately.
#[derive(Default)]
pub struct Journal {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    ops: BTreeMap<String, Calls>,
    readings: HashMap<Id, VecDeque<(u64, Access)>>,
    weak: VecDeque<(String, u32)>,
}

#[derive(Default)]
struct Calls {
    count: u64,
    errors: u64,
    /// The last ones: when, and how long.
    took_us: VecDeque<(u64, u64)>,
    older: BTreeMap<&'static str, u64>,
}

impl Journal {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a call.
    pub fn called(&self, call: Called<'_>) {
        let mut inner = self.lock();
        let calls = inner.ops.entry(call.op.to_owned()).or_default();
        calls.count += 1;
        calls.errors += u64::from(!call.ok);
        if calls.took_us.len() == CALLS {
            calls.took_us.pop_front();
        }
        calls.took_us.push_back((call.at_ms, call.took_us));
        if let Some(older) = call.older {
            *calls.older.entry(older).or_default() += 1;
        }
    }

    /// Notes the ids in a query's answer.
    pub fn note(&self, cx: &Context, op: &str, answer: &Value) {
        let mut inner = self.lock();
        let mut ids = Vec::new();
        collect(answer, 0, &mut ids);
        for id in ids {
            let access = Access {
                at: time(cx.now_ms as i64),
                by: cx.caller.principal(),
                op: op.to_owned(),
                run: cx.caller.run.clone(),
            };
            let readings = inner.readings.entry(id).or_default();
            if readings.len() == READINGS {
                readings.pop_front();
            }
            readings.push_back((cx.now_ms, access));
        }
        if inner.readings.len() > ITEMS {
            inner.forget_least_lately_read();
        }
    }

    /// Notes a question that found little.
    pub fn weak(&self, question: &str) {
        let mut inner = self.lock();
        if let Some(known) = inner.weak.iter_mut().find(|(known, _)| known == question) {
            known.1 += 1;
            return;
        }
        if inner.weak.len() == WEAK {
            inner.weak.pop_front();
        }
        inner.weak.push_back((question.to_owned(), 1));
    }

    /// Questions that found little, the most frequent first.
    pub fn weakest(&self) -> Vec<(String, u32)> {
        let mut weak: Vec<(String, u32)> = self.lock().weak.iter().cloned().collect();
        weak.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        weak
    }

    /// The last readings of an item, newest first.
    pub fn readings(&self, id: &Id) -> Vec<Access> {
        let inner = self.lock();
        inner.readings.get(id).into_iter().flatten().rev().map(|(_, access)| access.clone()).collect()
    }

    /// How many items were read since a time.
    pub fn read_since(&self, at_ms: u64) -> u64 {
        let inner = self.lock();
        inner.readings.values().filter(|read| read.back().is_some_and(|(at, _)| *at >= at_ms)).count() as u64
    }

    /// How operations were used; the quantiles over the last 1,000 calls in the range.
    pub fn usage(&self, from_ms: i64, to_ms: i64) -> Vec<Used> {
        let inner = self.lock();
        inner
            .ops
            .iter()
            .filter_map(|(op, calls)| {
                let inside = |at: &u64| (from_ms..to_ms).contains(&(*at as i64));
                let mut took: Vec<u64> =
                    calls.took_us.iter().filter(|(at, _)| inside(at)).map(|(_, took)| *took).collect();
                took.sort_unstable();
                let quantile = |share: usize| {
                    let at = took.len().saturating_sub(1) * share / 100;
                    took.get(at).map(|us| *us as f64 / 1e3)
                };
                Some(Used {
                    op: op.clone(),
                    calls: calls.count,
                    p50_ms: quantile(50)?,
                    p99_ms: quantile(99)?,
                    errors: calls.errors,
                    older_names: calls.older.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect(),
                    recommended: None,
                })
            })
            .collect()
    }
}

impl Inner {
    /// Drops the quarter of items that was read least lately.
    fn forget_least_lately_read(&mut self) {
        let mut times: Vec<u64> =
            self.readings.values().filter_map(|read| read.back().map(|(at, _)| *at)).collect();
        times.sort_unstable();
        let oldest = times.get(ITEMS / 4).copied().unwrap_or(0);
        self.readings.retain(|_, read| read.back().is_some_and(|(at, _)| *at > oldest));
    }
}

/// The ids in an answer, not deeper than a page of hits.
fn collect(value: &Value, depth: u8, ids: &mut Vec<Id>) {
    match value {
        _ if depth > 3 || ids.len() >= NOTED => {}
        Value::Array(values) => values.iter().for_each(|value| collect(value, depth + 1, ids)),
        Value::Object(fields) => {
            if let Some(Value::String(id)) = fields.get("id") {
                ids.push(Id::from_text(id.as_str()));
                return;
            }
            for field in ["items", "hits", "events", "entities", "due"] {
                if let Some(value) = fields.get(field) {
                    collect(value, depth + 1, ids);
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn readings_are_noted_newest_first_and_bounded() {
        let journal = Journal::default();
        let mut cx = Context::example();
        for n in 0..20 {
            cx.now_ms = 1_000 + n;
            journal.note(&cx, "x/y", &json!({"items": [{"id": "fa_1"}, {"id": "fa_2"}]}));
            let older = (n < 3).then_some("older");
            journal.called(Called { op: "x/y", older, at_ms: cx.now_ms, took_us: n, ok: n > 0 });
        }
        let readings = journal.readings(&Id::from_text("fa_1"));
        assert_eq!((readings.len(), readings[0].at.as_str()), (READINGS, "1970-01-01T00:00:01.019Z"));
        assert_eq!((journal.read_since(1_019), journal.read_since(1_020)), (2, 0));
        let used = journal.usage(i64::MIN, i64::MAX);
        assert_eq!((used[0].calls, used[0].errors, used[0].p50_ms), (20, 1, 0.009));
        assert_eq!(used[0].older_names["older"], 3);
    }

    #[test]
    fn the_least_lately_read_go_first() {
        let journal = Journal::default();
        let mut cx = Context::example();
        for n in 0..=ITEMS as u64 {
            cx.now_ms = n;
            journal.note(&cx, "x/y", &json!([{"id": format!("fa_{n}")}]));
        }
        assert!(journal.readings(&Id::from_text("fa_0")).is_empty());
        assert_eq!(journal.readings(&Id::from_text(format!("fa_{ITEMS}"))).len(), 1);
    }
}
