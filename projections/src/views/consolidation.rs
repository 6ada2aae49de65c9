//! Answers of consolidation: what recurs.

use crate::library::Library;
use crate::patterns::{Search, frequent};
use crate::timeline::Which;
use athena_schemas::context::Context;
use athena_schemas::id::Id;
use athena_schemas::layers::common::Range;
use athena_schemas::layers::consolidation::{Pattern, Patterns, Queries};
use athena_schemas::refusal::Refusal;
use std::collections::BTreeMap;

/// Most events one search reads, the newest first.
const READ: usize = 20_000;
/// Most patterns of one answer.
const ANSWERED: usize = 50;

impl Queries for Library {
    fn patterns(&self, cx: &Context, op: Patterns) -> Result<Vec<Pattern>, Refusal> {
        let range = op.range.as_ref().map(Range::millis).transpose()?;
        let search = Search {
            min_support: op.min_support.unwrap_or(3).max(2) as usize,
            max_length: op.max_len.unwrap_or(6).clamp(2, 12) as usize,
            gap: op.gap.unwrap_or(2).min(10) as usize,
        };
        let (rows, _) = self.items.page(cx, &Which { range, ..Which::default() }, READ, None)?;
        let mut sessions: BTreeMap<&str, Vec<(&str, &Id)>> = BTreeMap::new();
        for row in rows.iter().rev() {
            if let Some(session) = &row.body.session {
                sessions.entry(session).or_default().push((&row.body.kind, &row.body.id));
            }
        }
        let sessions: Vec<Vec<(&str, &Id)>> = sessions.into_values().collect();
        let kinds: Vec<Vec<&str>> =
            sessions.iter().map(|session| session.iter().map(|(kind, _)| *kind).collect()).collect();
        let found = frequent(&kinds, search).into_iter().take(ANSWERED).map(|pattern| {
            let example = pattern.held_by.first().map(|(session, places)| {
                let events = sessions.get(*session);
                places.iter().filter_map(|at| Some(events?.get(*at)?.1.clone())).collect()
            });
            Pattern {
                types: pattern.types.iter().map(|kind| (*kind).to_owned()).collect(),
                support: pattern.held_by.len() as u32,
                example: example.unwrap_or_default(),
            }
        });
        Ok(found.collect())
    }
}
