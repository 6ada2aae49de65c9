//! What says the same: the same words in the same order, or nearly the same words.

use super::linked;
use super::similar::Pair;
use super::texts::Texts;
use athena_schemas::id::Id;
use athena_schemas::layers::consolidation::Linked;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Texts at least this much alike say nearly the same, unless another threshold is asked for.
pub const NEAR: f64 = 0.85;
/// Most links one pass records.
const LINKS: usize = 5_000;

/// Links between texts that are at least this much alike, each to the earlier one, most alike first.
pub fn links(texts: &Texts, alike: &[Pair], least: f64, ids: &[&Id]) -> Vec<Linked> {
    let mut first: HashMap<u64, u32> = HashMap::new();
    let mut pairs: Vec<Pair> = Vec::new();
    let mut same: HashSet<(u32, u32)> = HashSet::new();
    for (number, digest) in texts.digests.iter().enumerate() {
        // A text without a word says nothing twice.
        if texts.of.get(number).is_none_or(Vec::is_empty) {
            continue;
        }
        let number = number as u32;
        match first.get(digest) {
            Some(one) => {
                pairs.push(Pair { one: *one, other: number, likeness: 1.0 });
                same.insert((*one, number));
            }
            None => {
                first.insert(*digest, number);
            }
        }
    }
    for pair in alike.iter().filter(|pair| !same.contains(&(pair.one, pair.other))) {
        let likeness = texts.likeness(pair.one as usize, pair.other as usize);
        if likeness >= least {
            pairs.push(Pair { likeness: likeness as f32, ..*pair });
        }
    }
    pairs.sort_by(|a, b| {
        b.likeness.total_cmp(&a.likeness).then_with(|| (a.one, a.other).cmp(&(b.one, b.other)))
    });
    pairs.truncate(LINKS);
    pairs.iter().filter_map(|pair| linked(pair, ids)).collect()
}

/// How many groups of items the links make.
pub fn groups(links: &[Linked]) -> u32 {
    let mut root: BTreeMap<&Id, &Id> = BTreeMap::new();
    fn top<'a>(root: &BTreeMap<&'a Id, &'a Id>, mut id: &'a Id) -> &'a Id {
        while let Some(up) = root.get(id).filter(|up| **up != id) {
            id = up;
        }
        id
    }
    let mut members: HashSet<&Id> = HashSet::new();
    for link in links {
        members.extend([&link.one, &link.other]);
        let (a, b) = (top(&root, &link.one), top(&root, &link.other));
        if a != b {
            root.insert(b, a);
        }
    }
    members.iter().filter(|id| top(&root, id) == **id).count() as u32
}
