//! Forgetting by age: which events have lost their strength, and which are exempt.

use crate::items::EpisodeRow;
use crate::library::Library;
use athena_schemas::context::Context;
use athena_schemas::id::Id;
use athena_schemas::refusal::Refusal;
use std::collections::HashSet;

/// Nothing younger than this fades, days.
const YOUNG_DAYS: f64 = 30.0;
/// Below this strength an event is on its way.
const WEAK: f64 = 0.3;
/// Most events that fade in one pass.
const FADED: usize = 5_000;
const DAY_MS: f64 = 86_400_000.0;

/// What has lost its strength.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Fading {
    /// Events that fade, oldest recorded first.
    pub faded: Vec<Id>,
    /// How many are on their way.
    pub weakened: u32,
}

/// 1 for what was just recorded, half after the half-life; what matters and what was useful lasts up to four times as long
/// (Ebbinghaus' curve as an exponential).
pub fn strength(age_days: f64, importance: f64, ratings: (u32, u32), half_life_days: f64) -> f64 {
    let liked = f64::from(ratings.0) - f64::from(ratings.1);
    let lasts = half_life_days * (0.5 + importance) * (1.0 + liked / 5.0).clamp(0.25, 2.7);
    0.5_f64.powf(age_days.max(0.0) / lasts)
}

impl Library {
    /// The events whose strength is gone. Age counts from when an event was recorded, so that what was imported today is young.
    ///
    /// # Errors
    /// When the disk fails.
    pub(crate) fn fading(&self, cx: &Context) -> Result<Fading, Refusal> {
        let settings = self.insights.settings(&cx.scope)?;
        let (half_life, least) =
            (f64::from(settings.half_life_days), f64::from(settings.fade_below_milli) / 1e3);
        let mut relied_on: HashSet<Id> = HashSet::new();
        for row in self.items.all_facts(cx)? {
            if row.current() {
                relied_on.extend(row.body.origin.events);
            }
        }
        let mut fading = Fading::default();
        let mut failed = None;
        self.items.recorded_after(cx, 0, &mut |row| {
            let days = cx.now_ms.saturating_sub(row.head.recorded_ms) as f64 / DAY_MS;
            if days >= YOUNG_DAYS && !exempt(&row) && !relied_on.contains(&row.body.id) {
                match self.spent(&row, days, half_life) {
                    Ok(Some(strength)) if strength < least => fading.faded.push(row.body.id),
                    Ok(Some(strength)) if strength < WEAK => fading.weakened += 1,
                    Ok(_) => {}
                    Err(error) => failed = Some(error),
                }
            }
            // Recorded in order: what comes after is younger.
            failed.is_none() && days >= YOUNG_DAYS && fading.faded.len() < FADED
        })?;
        failed.map_or(Ok(fading), Err)
    }

    /// The strength of an event; nothing where it is pinned or has faded before.
    fn spent(&self, row: &EpisodeRow, days: f64, half_life: f64) -> Result<Option<f64>, Refusal> {
        let id = &row.body.id;
        if self.insights.pinned(id)? || self.insights.faded(id)? {
            return Ok(None);
        }
        let importance = f64::from(row.body.importance) / 1e3;
        Ok(Some(strength(days, importance, self.ratings.of(id)?, half_life)))
    }
}

/// Decisions do not fade: why something was done is asked for late.
fn exempt(row: &EpisodeRow) -> bool {
    row.body.kind == "decision"
}
