//! The gate: what a search may see, before anything is scored. Structural: no text of a query can widen it.

use super::ask::{Ask, Filters};
use super::table::{Facts, Row, Table};
use athena_schemas::context::Context;
use std::collections::HashSet;

/// What a search may see.
pub(super) struct Gate<'a> {
    table: &'a Table,
    groups: Vec<bool>,
    filters: &'a Filters,
    kind: Option<u32>,
    tags: Vec<u32>,
    sessions: Option<Vec<u32>>,
    only: Option<HashSet<Row>>,
    min_confidence: u16,
    /// Nothing is asked but the scope and the layers.
    free: bool,
    at_seq: u64,
    now_ms: i64,
    /// Documents of the groups admitted, filters apart.
    pub(super) documents: u64,
    /// Mean number of index terms of those.
    pub(super) mean_length: f32,
}

impl<'a> Gate<'a> {
    /// `None` where nothing can be seen: the scope lies outside the caller's, or a filter names what no document has.
    pub(super) fn new(table: &'a Table, cx: &Context, ask: &'a Ask) -> Option<Self> {
        let scope = cx.scope.narrow(&ask.scope)?;
        let (mut documents, mut terms) = (0, 0);
        let groups = table
            .groups()
            .map(|(group, size)| {
                let admitted = scope.covers(&group.scope)
                    && (ask.layers.is_empty() || ask.layers.contains(&group.layer));
                if admitted {
                    documents += size.documents;
                    terms += size.terms;
                }
                admitted
            })
            .collect();
        let filters = &ask.filters;
        let kind = match &filters.kind {
            Some(kind) => Some(table.kinds.find(kind)?),
            None => None,
        };
        let tags = filters.tags.iter().map(|tag| table.tags.find(tag)).collect::<Option<Vec<_>>>()?;
        let free = cx.at_seq.is_none() && *filters == Filters::default();
        Some(Self {
            free,
            table,
            groups,
            filters,
            kind,
            tags,
            sessions: filters.session.as_ref().map(|session| table.sessions_named(session)),
            only: filters.only.as_ref().map(|ids| ids.iter().filter_map(|id| table.find(id)).collect()),
            min_confidence: (filters.min_confidence.unwrap_or(0.0).clamp(0.0, 1.0) * 1000.0).round() as u16,
            at_seq: cx.at_seq.unwrap_or(u64::MAX),
            now_ms: i64::try_from(cx.now_ms).unwrap_or(i64::MAX),
            documents,
            mean_length: if documents == 0 { 1.0 } else { terms as f32 / documents as f32 },
        })
    }

    /// Whether a document is of an admitted scope and layer.
    pub(super) fn in_scope(&self, row: Row) -> bool {
        let group = self.table.groups_of().get(row as usize);
        group.and_then(|group| self.groups.get(*group as usize)).copied().unwrap_or(false)
    }

    /// Whether a document may be seen.
    pub(super) fn admits(&self, row: Row) -> bool {
        self.in_scope(row) && self.fits(row)
    }

    /// Whether a document of an admitted scope and layer meets the conditions.
    pub(super) fn fits(&self, row: Row) -> bool {
        self.free && self.table.is_ordinary(row)
            || self.table.facts(row).is_some_and(|facts| self.passes(row, facts))
    }

    fn passes(&self, row: Row, facts: &Facts) -> bool {
        let wanted = self.filters;
        let current = match wanted.valid_at {
            Some(at) => facts.valid_from <= at && at < facts.valid_to,
            None => wanted.include_superseded || (!facts.superseded && self.now_ms < facts.valid_to),
        };
        current
            && !facts.hidden
            && (!facts.faded || self.only.is_some())
            && facts.order <= self.at_seq
            && facts.confidence >= self.min_confidence
            && wanted.range.is_none_or(|(from, to)| from <= facts.at_ms && facts.at_ms < to)
            && self.kind.is_none_or(|kind| facts.kind == kind)
            && self.tags.iter().all(|tag| facts.tags.contains(tag))
            && self.sessions.as_ref().is_none_or(|sessions| sessions.contains(&facts.session))
            && self.only.as_ref().is_none_or(|only| only.contains(&row))
    }
}
