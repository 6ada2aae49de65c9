//! What happened: recall, lists, sessions and times.

use super::{cursor, limit, missing, place, query};
use crate::items::{EpisodeRow, What};
use crate::library::Library;
use crate::search::{Ask, Filters, Found, Strategy};
use crate::temporal::understand;
use crate::timeline::{Which, buckets};
use athena_schemas::context::Context as Cx;
use athena_schemas::layers::common::{Hit, Layer, Paged, Range, Signals, millis, time};
use athena_schemas::layers::episodic::*;
use athena_schemas::refusal::{Code, Refusal};

/// Most events one timeline reads.
const TIMELINE: usize = 100_000;
/// Most events of a session in one answer, and neighbours of an event.
const SESSION: usize = 1_000;
const NEIGHBOURS: u32 = 100;

impl Library {
    fn recalled(
        &self,
        cx: &Cx,
        text: &str,
        filters: Filters,
        most: usize,
    ) -> Result<Vec<Hit<Episode>>, Refusal> {
        let ask = Ask {
            layers: vec![Layer::Episodic],
            filters,
            limit: most,
            strategy: Strategy::Auto,
            ..Ask::new(text)
        };
        let mut hits = Vec::new();
        for found in self.finder.search(cx, &ask)? {
            if let Some(row) = self.items.episode(cx, &found.id)? {
                hits.push(self.episode_hit(&found, &row));
            }
        }
        Ok(hits)
    }

    fn listed(&self, row: &EpisodeRow) -> Hit<Episode> {
        let found = Found {
            id: row.body.id.clone(),
            layer: Layer::Episodic,
            score: 0.0,
            signals: Signals::default(),
        };
        self.episode_hit(&found, row)
    }

    /// `before the release`: the event that the words mean best is where the range ends or begins.
    fn anchored(&self, cx: &Cx, expression: &str) -> Result<Option<(i64, i64)>, Refusal> {
        let (relation, anchor) = match expression.trim().split_once(' ') {
            Some((relation, anchor)) => (relation.to_lowercase(), anchor),
            None => return Ok(None),
        };
        if !matches!(relation.as_str(), "before" | "until" | "after" | "since") {
            return Ok(None);
        }
        let Some(hit) = self.recalled(cx, anchor, Filters::default(), 1)?.into_iter().next() else {
            return Ok(None);
        };
        let at = millis(&hit.item.time)?;
        Ok(Some(match relation.as_str() {
            "before" | "until" => (i64::MIN, at),
            "since" => (at, i64::MAX),
            _ => (at.saturating_add(1), i64::MAX),
        }))
    }
}

fn shown(range: Option<(i64, i64)>) -> Range {
    let (from, to) = range.unwrap_or((i64::MIN, i64::MAX));
    Range { from: (from != i64::MIN).then(|| time(from)), to: (to != i64::MAX).then(|| time(to)) }
}

/// Words that ask and name nothing.
fn says_nothing(text: &str) -> bool {
    const EMPTY: &[&str] = &[
        "what",
        "did",
        "do",
        "i",
        "we",
        "you",
        "happened",
        "happen",
        "was",
        "were",
        "is",
        "who",
        "the",
        "a",
        "to",
        "me",
        "us",
        "everything",
        "anything",
        "all",
        "events",
        "event",
        "show",
        "list",
        "of",
        "from",
        "in",
        "on",
    ];
    text.split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .all(|word| EMPTY.contains(&word.to_lowercase().as_str()))
}

impl Queries for Library {
    fn recall(&self, cx: &Cx, op: Recall) -> Result<Vec<Hit<Episode>>, Refusal> {
        let range = op.range.as_ref().map(Range::millis).transpose()?;
        let filters = Filters { range, kind: op.kind, tags: op.tags, ..Filters::default() };
        self.recalled(cx, query(&op.query)?, filters, limit(op.limit)?)
    }

    fn get(&self, cx: &Cx, op: Get) -> Result<Episode, Refusal> {
        Ok(self.items.episode(cx, &op.id)?.ok_or_else(|| missing(&op.id))?.item())
    }

    fn list_events(&self, cx: &Cx, op: ListEvents) -> Result<Paged<Episode>, Refusal> {
        let range = op.range.as_ref().map(Range::millis).transpose()?;
        let which = Which { range, kind: op.kind, tags: op.tags, session: op.session };
        let before = place::<2>(op.cursor.as_deref())?.map(|[at, seq]| (at as i64, seq as u64));
        let (rows, last) = self.items.page(cx, &which, limit(op.limit)?, before)?;
        Ok(Paged {
            items: rows.iter().map(EpisodeRow::item).collect(),
            next: last.map(|(at, seq)| cursor(&[i128::from(at), i128::from(seq)])),
        })
    }

    fn query_temporal(&self, cx: &Cx, op: QueryTemporal) -> Result<Temporal, Refusal> {
        let most = limit(op.limit)?;
        let now = match &op.now {
            Some(now) => millis(now).map_err(|refusal| refusal.at("now"))?,
            None => cx.now_ms as i64,
        };
        let understood = understand(query(&op.expr).map_err(|refusal| refusal.at("expr"))?, now);
        let (range, rest) = match understood.range {
            Some(range) => (Some(range), understood.rest),
            None => match self.anchored(cx, &op.expr)? {
                Some(range) => (Some(range), String::new()),
                None => (None, understood.rest),
            },
        };
        let hits = if says_nothing(&rest) {
            let which = Which { range, ..Which::default() };
            self.items.page(cx, &which, most, None)?.0.iter().map(|row| self.listed(row)).collect()
        } else {
            self.recalled(cx, &rest, Filters { range, ..Filters::default() }, most)?
        };
        let query = if says_nothing(&rest) { String::new() } else { rest };
        Ok(Temporal { range: shown(range), query, hits })
    }

    fn timeline(&self, cx: &Cx, op: Timeline) -> Result<Vec<Bucket>, Refusal> {
        let which = Which { range: Some(op.range.millis()?), ..Which::default() };
        let (rows, more) = self.items.page(cx, &which, TIMELINE, None)?;
        if more.is_some() {
            return Err(Refusal::new(Code::LimitExceeded, format!("more than {TIMELINE} events"))
                .at("range")
                .hint("take a shorter range"));
        }
        Ok(buckets(&rows, op.bucket, |text| {
            crate::search::text::words(text)
                .map(str::to_lowercase)
                .filter(|word| !crate::search::text::is_stop_word(word))
                .collect()
        }))
    }

    fn context(&self, cx: &Cx, op: Context) -> Result<Vec<Episode>, Refusal> {
        for (field, n) in [("before", op.before), ("after", op.after)] {
            if n > NEIGHBOURS {
                return Err(Refusal::new(
                    Code::LimitExceeded,
                    format!("{field} is {n}; at most {NEIGHBOURS}"),
                )
                .at(field));
            }
        }
        let row = self.items.episode(cx, &op.id)?.ok_or_else(|| missing(&op.id))?;
        let rows = self.items.around(cx, row, op.before as usize, op.after as usize)?;
        Ok(rows.iter().map(EpisodeRow::item).collect())
    }

    fn get_session(&self, cx: &Cx, op: GetSession) -> Result<Session, Refusal> {
        let rows = self.items.session(cx, &op.session, SESSION)?;
        let (Some(first), Some(last)) = (rows.first(), rows.last()) else {
            return Err(Refusal::not_found(format!("there is no session {:?} in this scope", op.session))
                .hint("episodic/list_events shows the sessions of events"));
        };
        Ok(Session {
            start: time(first.body.time_ms),
            end: time(last.body.time_ms),
            events: rows.iter().map(EpisodeRow::item).collect(),
            summary: None,
        })
    }

    fn stats(&self, cx: &Cx, _: Stats) -> Result<Counts, Refusal> {
        let by_type = self.items.counted(cx, What::Type)?;
        let span = self.items.span(cx)?;
        Ok(Counts {
            count: by_type.values().sum(),
            by_type,
            first: span.map(|(first, _)| time(first)),
            last: span.map(|(_, last)| time(last)),
            sessions: self.items.counted(cx, What::Session)?.len() as u64,
        })
    }
}
