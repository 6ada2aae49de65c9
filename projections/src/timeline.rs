//! Episodes in the order of time: pages, neighbours, sessions and buckets, read from the indexes of [`Items`].

use crate::items::{EpisodeRow, Items, project_key, session_prefix, sortable};
use crate::store::{Order, StoreError};
use crate::temporal::bucket_start;
use athena_schemas::context::{Context, Scope};
use athena_schemas::id::Id;
use athena_schemas::layers::common::time;
use athena_schemas::layers::episodic::{Bucket, BucketSize};
use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

/// Which episodes.
#[derive(Debug, Clone, Default)]
pub struct Which {
    /// From the first (inclusive) to the second (exclusive), milliseconds since 1970.
    pub range: Option<(i64, i64)>,
    /// Of this type.
    pub kind: Option<String>,
    /// With all of these tags.
    pub tags: Vec<String>,
    /// Of this session.
    pub session: Option<String>,
}

impl Which {
    /// Whether an episode is one of them.
    pub fn takes(&self, row: &EpisodeRow) -> bool {
        let body = &row.body;
        self.range.is_none_or(|(from, to)| (from..to).contains(&body.time_ms))
            && self.kind.as_ref().is_none_or(|kind| *kind == body.kind)
            && self.tags.iter().all(|tag| body.tags.contains(tag))
            && self.session.as_ref().is_none_or(|session| body.session.as_ref() == Some(session))
    }

    fn bounds(&self, prefix: &[u8], before: Option<(i64, u64)>) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
        let key = |at: i64, seq: u64| [prefix, &sortable(at), &seq.to_be_bytes()].concat();
        let (from, to) = self.range.unwrap_or((i64::MIN, i64::MAX));
        let lower = Bound::Included(key(from, 0));
        let upper = match before {
            Some((at, seq)) if at < to => Bound::Excluded(key(at, seq)),
            _ if to == i64::MAX => Bound::Included(key(i64::MAX, u64::MAX)),
            _ => Bound::Excluded(key(to, 0)),
        };
        (lower, upper)
    }
}

impl Items {
    /// At most `limit` episodes, newest first, before a place in that order; and the place of the last, where there are more.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn page(
        &self,
        cx: &Context,
        which: &Which,
        limit: usize,
        before: Option<(i64, u64)>,
    ) -> Result<(Vec<EpisodeRow>, Option<(i64, u64)>), StoreError> {
        let mut rows: Vec<EpisodeRow> = Vec::new();
        for project in self.projects(&cx.scope)? {
            let (table, prefix) = match &which.session {
                Some(session) => (&self.by_session, session_prefix(project, session)),
                None => (&self.by_time, project.to_vec()),
            };
            let mut taken = 0;
            let bounds = which.bounds(&prefix, before);
            self.episodes_in(cx, table, &prefix, bounds, Order::Descending, &mut |row| {
                if which.takes(&row) {
                    rows.push(row);
                    taken += 1;
                }
                taken <= limit
            })?;
        }
        rows.sort_by_key(|row| std::cmp::Reverse((row.body.time_ms, row.head.seq)));
        let more = rows.len() > limit;
        rows.truncate(limit);
        let last = rows.last().map(|row| (row.body.time_ms, row.head.seq)).filter(|_| more);
        Ok((rows, last))
    }

    /// The episode with its neighbours in its session, in order.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn around(
        &self,
        cx: &Context,
        row: EpisodeRow,
        before: usize,
        after: usize,
    ) -> Result<Vec<EpisodeRow>, StoreError> {
        let Some(session) = row.body.session.clone() else { return Ok(vec![row]) };
        let prefix = session_prefix(project_key(&row.head.scope), &session);
        let here = [&prefix[..], &sortable(row.body.time_ms), &row.head.seq.to_be_bytes()].concat();
        let take = |bounds, order, most: usize| -> Result<Vec<EpisodeRow>, StoreError> {
            let mut rows = Vec::new();
            if most > 0 {
                self.episodes_in(cx, &self.by_session, &prefix, bounds, order, &mut |row| {
                    rows.push(row);
                    rows.len() < most
                })?;
            }
            Ok(rows)
        };
        let mut rows = take((Bound::Unbounded, Bound::Excluded(here.clone())), Order::Descending, before)?;
        rows.reverse();
        rows.push(row);
        rows.extend(take((Bound::Excluded(here), Bound::Unbounded), Order::Ascending, after)?);
        Ok(rows)
    }

    /// At most `limit` episodes of a session, in order.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn session(&self, cx: &Context, session: &str, limit: usize) -> Result<Vec<EpisodeRow>, StoreError> {
        let mut rows = Vec::new();
        for project in self.projects(&cx.scope)? {
            let open = (Bound::Unbounded, Bound::Unbounded);
            let prefix = session_prefix(project, session);
            self.episodes_in(cx, &self.by_session, &prefix, open, Order::Ascending, &mut |row| {
                rows.push(row);
                rows.len() < limit
            })?;
        }
        rows.sort_by_key(|row| (row.body.time_ms, row.head.seq));
        Ok(rows)
    }

    /// All ids of the episodes that are meant, at most `limit`.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn select(&self, cx: &Context, which: &Which, limit: usize) -> Result<Vec<Id>, StoreError> {
        Ok(self.page(cx, which, limit, None)?.0.into_iter().map(|row| row.body.id).collect())
    }
}

/// The sessions that have a name, each with its episodes in the order of time.
pub fn by_session(rows: &[EpisodeRow]) -> Vec<Vec<&EpisodeRow>> {
    let mut sessions: BTreeMap<(&Scope, &str), Vec<&EpisodeRow>> = BTreeMap::new();
    for row in rows {
        if let Some(session) = &row.body.session {
            sessions.entry((&row.head.scope, session)).or_default().push(row);
        }
    }
    let mut sessions: Vec<Vec<&EpisodeRow>> = sessions.into_values().collect();
    for session in &mut sessions {
        session.sort_by_key(|row| (row.body.time_ms, row.head.seq));
    }
    sessions
}

/// Counts rows by bucket, with the words that stand out: frequent in the bucket, rare in the whole.
pub fn buckets<'a>(
    rows: &'a [EpisodeRow],
    size: BucketSize,
    terms: impl Fn(&'a str) -> Vec<String>,
) -> Vec<Bucket> {
    let mut overall: HashMap<String, f64> = HashMap::new();
    let mut counted: BTreeMap<i64, (u32, HashMap<String, f64>)> = BTreeMap::new();
    for row in rows {
        let bucket = counted.entry(bucket_start(row.body.time_ms, size)).or_default();
        bucket.0 += 1;
        for term in terms(&row.body.content) {
            *overall.entry(term.clone()).or_default() += 1.0;
            *bucket.1.entry(term).or_default() += 1.0;
        }
    }
    let all = rows.len() as f64;
    counted
        .into_iter()
        .map(|(start, (count, words))| {
            let mut ranked: Vec<(f64, String)> = words
                .into_iter()
                .map(|(word, n)| {
                    let everywhere = overall.get(&word).copied().unwrap_or(n);
                    (n * (1.0 + all / everywhere).ln(), word)
                })
                .collect();
            ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
            let terms = ranked.into_iter().take(5).map(|(_, word)| word).collect();
            Bucket { start: time(start), count, terms }
        })
        .collect()
}
