//! Communities: groups of nodes that are linked among themselves more than to the rest.
//!
//! Louvain's local moving (Blondel et al. 2008) on modularity, then every group is split into its connected parts, which gives
//! the guarantee that Leiden was made for (Traag et al. 2019); then groups become nodes, and it goes on. Deterministic: nodes
//! in order, ties to the lower group.

use crate::network::Network;
use std::collections::{BTreeMap, HashMap};

/// Most levels, and most passes on one.
const LEVELS: usize = 10;
const PASSES: usize = 20;

/// The groups of each level, finest first: for each level the group of every node.
pub fn communities(network: &Network, takes: &dyn Fn(&crate::network::Link) -> bool) -> Vec<Vec<usize>> {
    let mut weights: BTreeMap<(usize, usize), f64> = BTreeMap::new();
    for link in network.links.iter().filter(|link| takes(link)) {
        *weights.entry((link.from.min(link.to), link.from.max(link.to))).or_default() += link.weight();
    }
    of_weights(network.nodes.len(), &weights)
}

/// The same over any undirected graph: `nodes` of them, and the weight of each edge, the smaller node first.
pub fn of_weights(nodes: usize, weights: &BTreeMap<(usize, usize), f64>) -> Vec<Vec<usize>> {
    let mut layer = Layer::new(nodes, weights);
    let mut of_node: Vec<usize> = (0..nodes).collect();
    let mut levels = Vec::new();
    for _ in 0..LEVELS {
        let groups = layer.connected(&layer.moved());
        let count = groups.iter().max().map_or(0, |most| most + 1);
        for group in &mut of_node {
            *group = groups.get(*group).copied().unwrap_or(*group);
        }
        levels.push(of_node.clone());
        if count == layer.around.len() {
            break;
        }
        layer = layer.joined(&groups, count);
    }
    levels
}

struct Layer {
    around: Vec<Vec<(usize, f64)>>,
    inner: Vec<f64>,
}

impl Layer {
    fn new(nodes: usize, weights: &BTreeMap<(usize, usize), f64>) -> Self {
        let mut layer = Self { around: vec![Vec::new(); nodes], inner: vec![0.0; nodes] };
        for ((a, b), weight) in weights {
            if a == b {
                if let Some(inner) = layer.inner.get_mut(*a) {
                    *inner += weight;
                }
                continue;
            }
            for (one, other) in [(*a, *b), (*b, *a)] {
                if let Some(around) = layer.around.get_mut(one) {
                    around.push((other, *weight));
                }
            }
        }
        layer
    }

    fn degree(&self, node: usize) -> f64 {
        let around: f64 = self.around.get(node).into_iter().flatten().map(|(_, weight)| weight).sum();
        around + 2.0 * self.inner.get(node).copied().unwrap_or(0.0)
    }

    /// Moves nodes to the neighbouring group that gains most modularity, until none moves.
    fn moved(&self) -> Vec<usize> {
        let nodes = self.around.len();
        let degrees: Vec<f64> = (0..nodes).map(|node| self.degree(node)).collect();
        let total: f64 = degrees.iter().sum::<f64>().max(f64::MIN_POSITIVE);
        let mut group: Vec<usize> = (0..nodes).collect();
        let mut mass = degrees.clone();
        for _ in 0..PASSES {
            let mut any = false;
            for node in 0..nodes {
                let own = group.get(node).copied().unwrap_or(node);
                let degree = degrees.get(node).copied().unwrap_or(0.0);
                let mut ties: BTreeMap<usize, f64> = BTreeMap::from([(own, 0.0)]);
                for (other, weight) in self.around.get(node).into_iter().flatten() {
                    *ties.entry(group.get(*other).copied().unwrap_or(*other)).or_default() += weight;
                }
                let gain = |to: usize, tie: f64| {
                    let rest = mass.get(to).copied().unwrap_or(0.0) - if to == own { degree } else { 0.0 };
                    tie - rest * degree / total
                };
                let stay = gain(own, ties.get(&own).copied().unwrap_or(0.0));
                let best = ties
                    .iter()
                    .map(|(to, tie)| (gain(*to, *tie), *to))
                    .fold((stay, own), |best, next| if next.0 > best.0 + 1e-12 { next } else { best });
                if best.1 != own {
                    any = true;
                    for (at, change) in [(own, -degree), (best.1, degree)] {
                        if let Some(mass) = mass.get_mut(at) {
                            *mass += change;
                        }
                    }
                    if let Some(group) = group.get_mut(node) {
                        *group = best.1;
                    }
                }
            }
            if !any {
                break;
            }
        }
        group
    }

    /// Splits every group into its connected parts and numbers them in order of their first node.
    fn connected(&self, group: &[usize]) -> Vec<usize> {
        let mut part = vec![usize::MAX; group.len()];
        let mut count = 0;
        for start in 0..group.len() {
            if part.get(start) != Some(&usize::MAX) {
                continue;
            }
            let mut open = vec![start];
            while let Some(node) = open.pop() {
                let Some(slot) = part.get_mut(node).filter(|slot| **slot == usize::MAX) else { continue };
                *slot = count;
                let same = |other: &usize| group.get(*other) == group.get(start);
                open.extend(
                    self.around.get(node).into_iter().flatten().map(|(other, _)| *other).filter(same),
                );
            }
            count += 1;
        }
        part
    }

    /// Groups become nodes.
    fn joined(&self, groups: &[usize], count: usize) -> Self {
        let mut inner = vec![0.0; count];
        let mut between: HashMap<(usize, usize), f64> = HashMap::new();
        for (node, around) in self.around.iter().enumerate() {
            let Some(group) = groups.get(node).copied() else { continue };
            if let Some(inner) = inner.get_mut(group) {
                *inner += self.inner.get(node).copied().unwrap_or(0.0);
            }
            for (other, weight) in around.iter().filter(|(other, _)| *other > node) {
                let Some(to) = groups.get(*other).copied() else { continue };
                if to == group {
                    if let Some(inner) = inner.get_mut(group) {
                        *inner += weight;
                    }
                } else {
                    *between.entry((group.min(to), group.max(to))).or_default() += weight;
                }
            }
        }
        let mut layer = Self::new(count, &between.into_iter().collect());
        layer.inner = inner;
        layer
    }
}
