//! What is true: search, versions, conflicts, and what was true and known when.

use super::{cursor, cut, limit, missing, place, query};
use crate::evidence::SIMILAR;
use crate::items::{Clash, FactRow};
use crate::library::Library;
use crate::search::{Ask, Filters, Found, Strategy};
use athena_schemas::context::Context;
use athena_schemas::id::Id;
use athena_schemas::layers::common::{Hit, Layer, Paged, Signals, millis, time};
use athena_schemas::layers::semantic::*;
use athena_schemas::refusal::Refusal;
use std::collections::HashSet;

/// Most versions of one history.
const VERSIONS: usize = 1_000;
/// Candidates looked at for an answer as of an earlier time.
const CANDIDATES: usize = 1_000;

fn moment(field: &'static str, said: Option<&String>) -> Result<Option<i64>, Refusal> {
    said.map(|time| millis(time).map_err(|refusal| refusal.at(field))).transpose()
}

fn share(field: &'static str, value: Option<f64>) -> Result<Option<f64>, Refusal> {
    match value {
        Some(value) if !(0.0..=1.0).contains(&value) => {
            Err(Refusal::invalid(format!("{field} is {value}, not from 0 to 1")).at(field))
        }
        value => Ok(value),
    }
}

impl Library {
    /// A page in the order of recording reads no more than itself.
    fn newest_facts(
        &self,
        cx: &Context,
        op: &List,
        takes: &dyn Fn(&FactRow) -> bool,
    ) -> Result<Paged<Fact>, Refusal> {
        let most = limit(op.limit)?;
        let before = place::<1>(op.cursor.as_deref())?.map_or(u64::MAX, |[seq]| seq as u64);
        let mut rows: Vec<FactRow> = Vec::new();
        for project in self.items.projects(&cx.scope)? {
            let mut taken = 0;
            self.items.facts_in(cx, &project, before, crate::store::Order::Descending, &mut |row| {
                if takes(&row) {
                    rows.push(row);
                    taken += 1;
                }
                taken <= most
            })?;
        }
        rows.sort_by_key(|row| std::cmp::Reverse(row.head.seq));
        let more = rows.len() > most;
        rows.truncate(most);
        let next = rows.last().filter(|_| more).map(|row| cursor(&[i128::from(row.head.seq)]));
        Ok(Paged { items: rows.iter().map(FactRow::item).collect(), next })
    }
}

impl Queries for Library {
    fn search(&self, cx: &Context, op: Search) -> Result<Vec<Hit<Fact>>, Refusal> {
        let ask = Ask {
            layers: vec![Layer::Semantic],
            limit: limit(op.limit)?,
            filters: Filters {
                tags: op.tags,
                min_confidence: share("min_confidence", op.min_confidence)?,
                valid_at: moment("valid_at", op.valid_at.as_ref())?,
                include_superseded: op.include_superseded,
                ..Filters::default()
            },
            strategy: Strategy::Auto,
            ..Ask::new(query(&op.query)?)
        };
        let mut hits = Vec::new();
        for found in self.finder.search(cx, &ask)? {
            if let Some(row) = self.items.fact(cx, &found.id)? {
                hits.push(self.fact_hit(cx, &found, &row)?);
            }
        }
        Ok(hits)
    }

    fn get(&self, cx: &Context, op: Get) -> Result<Fact, Refusal> {
        Ok(self.items.fact(cx, &op.id)?.ok_or_else(|| missing(&op.id))?.item())
    }

    fn list(&self, cx: &Context, op: List) -> Result<Paged<Fact>, Refusal> {
        let takes = |row: &FactRow| row.current() && op.tags.iter().all(|tag| row.body.tags.contains(tag));
        if op.order == Order::Recorded {
            return self.newest_facts(cx, &op, &takes);
        }
        let mut rows = self.items.all_facts(cx)?;
        rows.retain(takes);
        rows.sort_by_key(|row| std::cmp::Reverse((row.body.log_odds, row.head.seq)));
        cut(rows.iter().map(FactRow::item).collect(), op.limit, op.cursor.as_deref())
    }

    fn history(&self, cx: &Context, op: History) -> Result<Vec<FactVersion>, Refusal> {
        self.items.fact(cx, &op.id)?.ok_or_else(|| missing(&op.id))?;
        let mut seen: HashSet<Id> = HashSet::new();
        let mut open = vec![op.id];
        let mut rows: Vec<FactRow> = Vec::new();
        while let Some(id) = open.pop() {
            if rows.len() == VERSIONS || !seen.insert(id.clone()) {
                continue;
            }
            if let Some(row) = self.items.fact(cx, &id)? {
                open.extend(row.body.supersedes.iter().cloned());
                open.extend(row.superseded_by.clone());
                rows.push(row);
            }
        }
        rows.sort_by_key(|row| row.head.seq);
        Ok(rows
            .into_iter()
            .map(|row| FactVersion {
                fact: row.item(),
                standing: row.standing,
                superseded_by: row.superseded_by,
                reason: row.reason,
                closed: row.closed_ms.map(|at| time(at as i64)),
            })
            .collect())
    }

    fn as_of(&self, cx: &Context, op: AsOf) -> Result<Vec<Hit<Fact>>, Refusal> {
        let valid_at = millis(&op.valid_at).map_err(|refusal| refusal.at("valid_at"))?;
        let known_at = moment("known_at", op.known_at.as_ref())?
            .map_or(cx.now_ms, |known| u64::try_from(known).unwrap_or(0));
        let most = limit(op.limit)?;
        let ask = Ask {
            layers: vec![Layer::Semantic],
            limit: CANDIDATES,
            filters: Filters { include_superseded: true, ..Filters::default() },
            ..Ask::new(query(&op.query)?)
        };
        let mut hits = Vec::new();
        for found in self.finder.search(cx, &ask)? {
            let Some(row) = self.items.fact(cx, &found.id)?.and_then(|row| row.known_at(known_at)) else {
                continue;
            };
            if row.valid_at(valid_at) && hits.len() < most {
                let mut hit = self.fact_hit(cx, &found, &row)?;
                hit.stale = false;
                hits.push(hit);
            }
        }
        Ok(hits)
    }

    fn find_similar(&self, cx: &Context, op: FindSimilar) -> Result<Vec<Hit<Fact>>, Refusal> {
        let least = share("threshold", op.threshold)?.unwrap_or(SIMILAR);
        let content = query(&op.content).map_err(|refusal| refusal.at("content"))?;
        let mut hits = Vec::new();
        for (row, like) in self.similar(cx, content, least, limit(op.limit)?)? {
            let id = row.body.id.clone();
            let found = Found { id, layer: Layer::Semantic, score: like, signals: Signals::default() };
            hits.push(self.fact_hit(cx, &found, &row)?);
        }
        Ok(hits)
    }

    fn find_conflicts(&self, cx: &Context, op: FindConflicts) -> Result<Paged<Conflict>, Refusal> {
        let clashes = match &op.id {
            Some(id) => {
                let row = self.items.fact(cx, id)?.ok_or_else(|| missing(id))?;
                self.items.clashes(cx, &row)?
            }
            None => self.items.all_clashes(cx)?,
        };
        cut(clashes.iter().map(conflict).collect(), op.limit, op.cursor.as_deref())
    }
}

fn conflict(clash: &Clash) -> Conflict {
    Conflict {
        id: clash.id.clone(),
        facts: vec![clash.first.item(), clash.second.item()],
        reason: clash.reason.clone(),
    }
}
