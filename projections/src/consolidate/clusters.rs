//! Groups of events that belong together: communities of the graph whose edges are shared rare words and standing beside each
//! other in a session.

use super::similar::Pair;
use crate::communities::of_weights;
use std::collections::BTreeMap;

/// What standing beside each other is worth, as a likeness.
pub const BESIDE: f32 = 0.15;
/// Least events of a cluster.
const LEAST: usize = 3;
/// A group of more events than this is taken apart again, where it has parts.
const MOST: usize = 200;

/// Events that belong together, by number, and how well they hang together.
#[derive(Debug, Clone, PartialEq)]
pub struct Cluster {
    /// Ascending.
    pub members: Vec<u32>,
    /// The mean likeness of each member to the one of the others that it is most like.
    pub cohesion: f64,
}

/// The clusters among `count` events, largest first.
pub fn clusters(alike: &[Pair], beside: &[Pair], count: usize) -> Vec<Cluster> {
    let mut weights: BTreeMap<(usize, usize), f64> = BTreeMap::new();
    for pair in alike.iter().chain(beside) {
        *weights.entry((pair.one as usize, pair.other as usize)).or_default() += f64::from(pair.likeness);
    }
    let groups = fitting(&of_weights(count, &weights), count);
    let mut members: BTreeMap<(usize, usize), Vec<u32>> = BTreeMap::new();
    for (event, group) in groups.iter().enumerate() {
        members.entry(*group).or_default().push(event as u32);
    }
    let mut closest = vec![0.0_f32; count];
    for pair in alike.iter().filter(|pair| groups.get(pair.one as usize) == groups.get(pair.other as usize)) {
        for event in [pair.one, pair.other] {
            if let Some(best) = closest.get_mut(event as usize) {
                *best = best.max(pair.likeness);
            }
        }
    }
    let mut clusters: Vec<Cluster> = members
        .into_values()
        .filter(|members| members.len() >= LEAST)
        .map(|members| {
            let sum: f64 =
                members.iter().filter_map(|event| closest.get(*event as usize)).map(|l| f64::from(*l)).sum();
            Cluster { cohesion: sum / members.len() as f64, members }
        })
        // Neighbours that share nothing are a session and no cluster.
        .filter(|cluster| cluster.cohesion > 0.0)
        .collect();
    clusters.sort_by(|a, b| b.members.len().cmp(&a.members.len()).then_with(|| a.members.cmp(&b.members)));
    clusters
}

/// The group of each event at the coarsest level at which it is no larger than [`MOST`], with that level.
fn fitting(levels: &[Vec<usize>], count: usize) -> Vec<(usize, usize)> {
    let mut found: Vec<Option<(usize, usize)>> = vec![None; count];
    for (level, groups) in levels.iter().enumerate().rev() {
        let mut sizes: BTreeMap<usize, usize> = BTreeMap::new();
        for group in groups {
            *sizes.entry(*group).or_default() += 1;
        }
        for (slot, group) in found.iter_mut().zip(groups) {
            let fits = level == 0 || sizes.get(group).is_some_and(|size| *size <= MOST);
            if slot.is_none() && fits {
                *slot = Some((level, *group));
            }
        }
    }
    found.into_iter().map(Option::unwrap_or_default).collect()
}
