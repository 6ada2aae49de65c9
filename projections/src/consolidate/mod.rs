//! What a pass of consolidation would find, computed from the read models alone: no model, no chance, the same for the same
//! memories. The layer records it; until then it is a proposal.
//!
//! [`texts`] reads words and names once, [`similar`] finds what shares rare ones, and from there [`clusters`], [`duplicates`]
//! and [`extraction`] each answer one question; [`fading`] asks another one, of age.

pub mod clusters;
pub mod duplicates;
pub mod extraction;
pub mod fading;
pub mod similar;
#[cfg(test)]
mod tests;
pub mod texts;

use crate::items::EpisodeRow;
use crate::library::Library;
use crate::patterns::{Search as Mining, recurring};
use crate::timeline::by_session;
use athena_schemas::context::Context;
use athena_schemas::id::Id;
use athena_schemas::layers::common::Layer;
use athena_schemas::layers::consolidation::{Counts, Findings, Grouped, Linked, Strategy};
use athena_schemas::refusal::Refusal;
use similar::Pair;
use texts::Texts;

/// Most events one pass reads; the next one goes on where it stopped.
const READ: usize = 100_000;
/// Most clusters, patterns and sentences one pass records, and most members of a cluster it names.
const CLUSTERS: usize = 500;
const MEMBERS: usize = 100;
const PATTERNS: usize = 50;
const CANDIDATES: usize = 50;
/// Half an hour of silence ends a session that has no name.
const SILENCE_MS: i64 = 30 * 60 * 1_000;

impl Library {
    /// What a pass over the events since the last one, or over the last hours, would find.
    ///
    /// # Errors
    /// When the disk fails.
    pub(crate) fn findings(
        &self,
        cx: &Context,
        strategy: Strategy,
        lookback_hours: Option<u32>,
    ) -> Result<Findings, Refusal> {
        let (rows, more) = self.window(cx, lookback_hours)?;
        // A look back sees no beginning of what waits, so it does not count as having seen it.
        let upto = if lookback_hours.is_none() { rows.last().map_or(0, |row| row.head.seq) } else { 0 };
        let mut found = Findings { upto, ..Findings::default() };
        let texts = Texts::read(&self.finder.analyzer, rows.iter().map(|row| row.body.content.as_str()));
        let ids: Vec<&Id> = rows.iter().map(|row| &row.body.id).collect();
        let (patterns, sessions) = recurring(&rows, MINED, PATTERNS);
        found.patterns = patterns;
        if strategy == Strategy::Fast {
            found.links = duplicates::links(&texts, &[], duplicates::NEAR, &ids);
        } else {
            let pairs = similar::pairs(&texts);
            found.links = duplicates::links(&texts, &pairs, duplicates::NEAR, &ids);
            found.clusters = grouped(&clusters::clusters(&pairs, &follows(&rows), rows.len()), &ids);
            let taken = CANDIDATES.min(rows.len() / 4 + 1);
            found.candidates = extraction::spans(&rows, &texts, taken);
        }
        if strategy == Strategy::Thorough {
            let fading = self.fading(cx)?;
            found.faded = fading.faded;
            found.counts.weakened = fading.weakened;
        }
        found.counts = Counts {
            events: rows.len() as u32,
            sessions: sessions + silences(&rows),
            clusters: found.clusters.len() as u32,
            patterns: found.patterns.len() as u32,
            duplicates: found.links.len() as u32,
            candidates: found.candidates.len() as u32,
            faded: found.faded.len() as u32,
            more,
            ..found.counts
        };
        Ok(found)
    }

    /// The events a pass looks at, in the order they were recorded, and whether more wait.
    fn window(&self, cx: &Context, lookback_hours: Option<u32>) -> Result<(Vec<EpisodeRow>, bool), Refusal> {
        let mut rows = Vec::new();
        match lookback_hours {
            Some(hours) => {
                let since_ms = cx.now_ms.saturating_sub(u64::from(hours) * 3_600_000);
                self.items.recorded_since(cx, since_ms, &mut |row| {
                    rows.push(row);
                    rows.len() <= READ
                })?;
            }
            None => self.items.recorded_after(cx, self.insights.seen_upto(cx)?, &mut |row| {
                rows.push(row);
                rows.len() <= READ
            })?,
        }
        rows.sort_by_key(|row| row.head.seq);
        let more = rows.len() > READ;
        rows.truncate(READ);
        Ok((rows, more))
    }

    /// What forgetting by age alone would do.
    ///
    /// # Errors
    /// When the disk fails.
    pub(crate) fn faded(&self, cx: &Context) -> Result<Findings, Refusal> {
        let fading = self.fading(cx)?;
        let counts =
            Counts { weakened: fading.weakened, faded: fading.faded.len() as u32, ..Counts::default() };
        Ok(Findings { counts, faded: fading.faded, ..Findings::default() })
    }

    /// Links over everything of a layer, the newest first where there is too much.
    ///
    /// # Errors
    /// When the disk fails.
    pub(crate) fn duplicates(&self, cx: &Context, layer: Layer, least: f64) -> Result<Findings, Refusal> {
        let (mut ids, mut contents) = (Vec::new(), Vec::new());
        if layer == Layer::Semantic {
            for row in self.items.all_facts(cx)?.into_iter().filter(|row| row.current()).take(READ) {
                ids.push(row.body.id);
                contents.push(row.body.content);
            }
        } else {
            let (rows, _) = self.items.page(cx, &crate::timeline::Which::default(), READ, None)?;
            for row in rows.into_iter().rev() {
                ids.push(row.body.id);
                contents.push(row.body.content);
            }
        }
        let texts = Texts::read(&self.finder.analyzer, contents.iter().map(String::as_str));
        let ids: Vec<&Id> = ids.iter().collect();
        let mut links = duplicates::links(&texts, &similar::pairs(&texts), least, &ids);
        links.retain(|link| !self.insights.linked(&link.one, &link.other).unwrap_or(false));
        let counts = Counts {
            duplicates: links.len() as u32,
            clusters: duplicates::groups(&links),
            ..Counts::default()
        };
        Ok(Findings { counts, links, ..Findings::default() })
    }

    /// The clusters of some episodes, whole.
    pub(crate) fn clustered(&self, rows: &[EpisodeRow]) -> Vec<Grouped> {
        let texts = Texts::read(&self.finder.analyzer, rows.iter().map(|row| row.body.content.as_str()));
        let ids: Vec<&Id> = rows.iter().map(|row| &row.body.id).collect();
        grouped(&clusters::clusters(&similar::pairs(&texts), &follows(rows), rows.len()), &ids)
    }
}

/// What counts as a recurring sequence in a pass.
const MINED: Mining = Mining { min_support: 3, max_length: 6, gap: 2 };

/// Pairs of events that follow each other in a session.
fn follows(rows: &[EpisodeRow]) -> Vec<Pair> {
    let number: std::collections::HashMap<&Id, u32> =
        rows.iter().zip(0..).map(|(row, at)| (&row.body.id, at)).collect();
    let mut pairs = Vec::new();
    for session in by_session(rows) {
        for (one, other) in session.iter().zip(session.iter().skip(1)) {
            if let (Some(a), Some(b)) = (number.get(&one.body.id), number.get(&other.body.id)) {
                pairs.push(Pair { one: *a.min(b), other: *a.max(b), likeness: clusters::BESIDE });
            }
        }
    }
    pairs
}

/// How many sessions without a name there are.
fn silences(rows: &[EpisodeRow]) -> u32 {
    let mut times: Vec<i64> =
        rows.iter().filter(|row| row.body.session.is_none()).map(|row| row.body.time_ms).collect();
    times.sort_unstable();
    let gaps = times.windows(2).filter(|pair| matches!(pair, [a, b] if b - a > SILENCE_MS)).count();
    gaps as u32 + u32::from(!times.is_empty())
}

fn grouped(clusters: &[clusters::Cluster], ids: &[&Id]) -> Vec<Grouped> {
    let named = |cluster: &clusters::Cluster| Grouped {
        members: cluster
            .members
            .iter()
            .take(MEMBERS)
            .filter_map(|at| ids.get(*at as usize).map(|id| (*id).clone()))
            .collect(),
        size: cluster.members.len() as u32,
        cohesion: (cluster.cohesion * 1e3).round() as u16,
    };
    clusters.iter().take(CLUSTERS).map(named).collect()
}

/// A pair as it is recorded.
fn linked(pair: &Pair, ids: &[&Id]) -> Option<Linked> {
    Some(Linked {
        one: (*ids.get(pair.one as usize)?).clone(),
        other: (*ids.get(pair.other as usize)?).clone(),
        likeness: (f64::from(pair.likeness) * 1e3).round() as u16,
    })
}
