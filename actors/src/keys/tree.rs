//! A key for every event out of one small secret, so that one key can be destroyed and all others stay.
//!
//! The construction is the tree of Goldreich, Goldwasser and Micali (1986), read as a puncturable function: a node's four
//! children are keyed hashes of it, an event's key hangs at the leaf that the first 48 bits of its id lead to. What is kept
//! is one node, the root, however many events there are. Destroying a leaf replaces the kept node above it by the siblings
//! along the way: every other leaf can still be reached, this one by nobody. A store without erasures keeps 32 bytes a
//! subject; each erasure adds about 2 KiB (`docs/decisions/0005-a-key-for-every-event.md`).

use athena_schemas::id::EventId;
use std::collections::BTreeMap;
use zeroize::Zeroizing;

/// Bits of an event's id that say where its leaf is. Two of a million events share a leaf with a chance of 1 in 500, and it
/// matters only if one of the two is erased: then the other goes with it (1 in 280 million for each erasure).
const BITS: u32 = 48;

/// Bits of each step: four children a node weigh steps to walk (24) against siblings to keep (three a step).
const STEP: u32 = 2;

/// Steps from the root to a leaf.
const DEPTH: u32 = BITS / STEP;

/// An AES-256-SIV key for one event.
pub type EventKey = Zeroizing<[u8; 64]>;

type Secret = Zeroizing<[u8; 32]>;

/// Where a node is: how many steps below the root, and the steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    depth: u32,
    steps: u64,
}

/// What is left of a tree.
#[derive(Clone, Default)]
pub(super) struct Tree {
    kept: BTreeMap<Place, Secret>,
}

impl Tree {
    /// A whole tree over a random root.
    pub(super) fn new(root: Secret) -> Self {
        Self { kept: BTreeMap::from([(Place { depth: 0, steps: 0 }, root)]) }
    }

    /// The key of an event; `None` where it was destroyed.
    pub(super) fn key(&self, event: EventId) -> Option<EventKey> {
        let leaf = leaf_of(event);
        let (place, secret) = self.above(leaf)?;
        let mut secret = secret.clone();
        for depth in place.depth..DEPTH {
            secret = child(&secret, step(leaf, depth));
        }
        let mut key = Zeroizing::new([0; 64]);
        blake3::Hasher::new_keyed(&secret).update(b"athena event").finalize_xof().fill(key.as_mut());
        Some(key)
    }

    /// Destroys the key of an event; `false` where it was destroyed before.
    pub(super) fn puncture(&mut self, event: EventId) -> bool {
        let leaf = leaf_of(event);
        let Some((place, _)) = self.above(leaf) else { return false };
        let Some(mut secret) = self.kept.remove(&place) else { return false };
        for depth in place.depth..DEPTH {
            let (here, wanted) = (ancestor(leaf, depth), step(leaf, depth));
            for sibling in (0..1 << STEP).filter(|sibling| *sibling != wanted) {
                let place = Place { depth: depth + 1, steps: (here << STEP) | u64::from(sibling) };
                self.kept.insert(place, child(&secret, sibling));
            }
            secret = child(&secret, wanted);
        }
        true
    }

    /// The kept node on the way to a leaf.
    fn above(&self, leaf: u64) -> Option<(Place, &Secret)> {
        (0..=DEPTH).find_map(|depth| {
            let place = Place { depth, steps: ancestor(leaf, depth) };
            self.kept.get(&place).map(|secret| (place, secret))
        })
    }

    /// As bytes, to be sealed.
    pub(super) fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(self.kept.len() * 39));
        for (place, secret) in &self.kept {
            bytes.push(place.depth as u8);
            bytes.extend(place.steps.to_le_bytes().into_iter().take(6));
            bytes.extend_from_slice(secret.as_ref());
        }
        bytes
    }

    /// Reads back what [`to_bytes`](Self::to_bytes) wrote.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut kept = BTreeMap::new();
        let (nodes, rest) = bytes.as_chunks::<39>();
        for node in nodes {
            let (depth, node) = node.split_first()?;
            let (steps, secret) = node.split_first_chunk::<6>()?;
            let mut wide = [0; 8];
            wide.iter_mut().zip(steps).for_each(|(to, from)| *to = *from);
            let place = Place { depth: u32::from(*depth), steps: u64::from_le_bytes(wide) };
            kept.insert(place, Zeroizing::new(secret.try_into().ok()?));
        }
        rest.is_empty().then_some(Self { kept })
    }
}

/// Ids are hashes, so their bits are as good as random.
fn leaf_of(event: EventId) -> u64 {
    u64::from_be_bytes(*event.0.first_chunk::<8>().unwrap_or(&[0; 8])) >> (64 - BITS)
}

/// The steps that lead to the node above a leaf at a depth.
fn ancestor(leaf: u64, depth: u32) -> u64 {
    leaf >> (BITS - STEP * depth)
}

/// The step a leaf takes from a depth.
fn step(leaf: u64, depth: u32) -> u8 {
    (ancestor(leaf, depth + 1) & ((1 << STEP) - 1)) as u8
}

fn child(secret: &Secret, step: u8) -> Secret {
    Zeroizing::new(*blake3::keyed_hash(secret, &[step]).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use athena_schemas::id::CommandId;
    use proptest::prelude::*;

    fn event(n: u32) -> EventId {
        CommandId([5; 16]).event(n)
    }

    fn tree() -> Tree {
        Tree::new(Zeroizing::new([9; 32]))
    }

    #[test]
    fn a_whole_tree_is_one_secret_and_every_event_has_a_key_of_its_own() {
        let tree = tree();
        assert_eq!(tree.to_bytes().len(), 39);
        let keys: std::collections::HashSet<Vec<u8>> =
            (0..1_000).map(|n| tree.key(event(n)).unwrap().to_vec()).collect();
        assert_eq!(keys.len(), 1_000);
    }

    #[test]
    fn what_is_left_does_not_hold_what_was_destroyed() {
        let mut punctured = tree();
        assert!(punctured.puncture(event(1)));
        assert!(!punctured.puncture(event(1)), "once");
        // No kept node lies on the way to the leaf, so nothing that is left derives it.
        assert!(punctured.above(leaf_of(event(1))).is_none());
        assert_eq!(punctured.kept.len(), 3 * DEPTH as usize);
        assert!(punctured.to_bytes().len() < 3_000);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]
        #[test]
        fn destroying_some_keys_leaves_all_others_as_they_were(gone in prop::collection::btree_set(0..200_u32, 0..40)) {
            let whole = tree();
            let mut punctured = tree();
            for n in &gone {
                prop_assert!(punctured.puncture(event(*n)));
            }
            let back = Tree::from_bytes(&punctured.to_bytes()).unwrap();
            for n in 0..200 {
                let expected = (!gone.contains(&n)).then(|| whole.key(event(n)).unwrap());
                prop_assert_eq!(&punctured.key(event(n)), &expected);
                prop_assert_eq!(&back.key(event(n)), &expected);
            }
        }
    }
}
