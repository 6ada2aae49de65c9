//! A key for every event out of one small secret, so that one key can be destroyed and all others stay.
//!
//! The construction is the tree of Goldreich, Goldwasser and Micali (1986), read as a puncturable function: a node's children
//! are keyed hashes of it, an event's key hangs at the leaf that the first 48 bits of its id lead to. What is kept is one
//! node, the root, however many events there are. Destroying a leaf replaces the kept node above it by the siblings along the
//! way: every other leaf can still be reached, this one by nobody. A store without erasures keeps 32 bytes a subject; each
//! erasure adds 7 kB at most (`docs/decisions/0005-a-key-for-every-event.md`).
//!
//! Nodes near the root lie above many events. They are kept in memory once they were derived, so an event costs the hashes
//! below them: nine of the twelve, and one for the key itself.

use athena_schemas::id::EventId;
use std::collections::BTreeMap;
use std::sync::OnceLock;
use zeroize::Zeroizing;

/// Bits of an event's id that say where its leaf is. Two of a million events share a leaf with a chance of 1 in 500, and it
/// matters only if one of the two is erased: then the other goes with it (1 in 280 million for each erasure).
const BITS: u32 = 48;

/// Bits above the nodes that are kept in memory: at most 4,096 of them, 160 KiB a tree in use.
const NEAR_BITS: u32 = 12;

/// How wide a tree is: what is written of one depends on it, so a tree keeps the shape it began with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    /// Bits of each step.
    step: u32,
}

impl Shape {
    /// Four children a node: 24 steps to walk, three siblings a step to keep. The first trees.
    pub(super) const NARROW: Self = Self { step: 2 };
    /// Sixteen children a node: 12 steps to walk, fifteen siblings a step to keep.
    pub(super) const WIDE: Self = Self { step: 4 };

    /// Steps from the root to a leaf.
    const fn depth(self) -> u32 {
        BITS / self.step
    }

    /// The steps that lead to the node above a leaf at a depth.
    const fn ancestor(self, leaf: u64, depth: u32) -> u64 {
        leaf >> (BITS - self.step * depth)
    }

    /// The step a leaf takes from a depth.
    const fn step(self, leaf: u64, depth: u32) -> u8 {
        (self.ancestor(leaf, depth + 1) & ((1 << self.step) - 1)) as u8
    }
}

/// An AES-256-SIV key for one event.
pub type EventKey = Zeroizing<[u8; 64]>;

type Secret = Zeroizing<[u8; 32]>;

/// Where a node is: how many steps below the root, and the steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    depth: u32,
    steps: u64,
}

/// Nodes of one depth that were derived before. They go with the tree they are of: what is left of one after a key was
/// destroyed is another tree.
#[derive(Default)]
struct Near(OnceLock<Box<[OnceLock<Secret>]>>);

impl Near {
    /// The node above a leaf, derived the first time.
    fn node(&self, leaf: u64, derive: impl FnOnce() -> Secret) -> Secret {
        let nodes = self.0.get_or_init(|| (0..1 << NEAR_BITS).map(|_| OnceLock::new()).collect());
        let at = usize::try_from(leaf >> (BITS - NEAR_BITS)).unwrap_or(usize::MAX);
        nodes.get(at).map_or_else(Secret::default, |node| node.get_or_init(derive).clone())
    }
}

/// What is left of a tree.
pub(super) struct Tree {
    shape: Shape,
    kept: BTreeMap<Place, Secret>,
    near: Near,
}

impl Clone for Tree {
    fn clone(&self) -> Self {
        Self { shape: self.shape, kept: self.kept.clone(), near: Near::default() }
    }
}

impl Tree {
    /// A whole tree over a random root.
    pub(super) fn new(shape: Shape, root: Secret) -> Self {
        Self { shape, kept: BTreeMap::from([(Place { depth: 0, steps: 0 }, root)]), near: Near::default() }
    }

    /// The key of an event; `None` where it was destroyed.
    pub(super) fn key(&self, event: EventId) -> Option<EventKey> {
        let leaf = leaf_of(event);
        let (place, secret) = self.above(leaf)?;
        let near = NEAR_BITS / self.shape.step;
        let (from, secret) = match place.depth {
            above if above < near => {
                (near, self.near.node(leaf, || self.down(leaf, secret.clone(), above, near)))
            }
            below => (below, secret.clone()),
        };
        let secret = self.down(leaf, secret, from, self.shape.depth());
        let mut key = Zeroizing::new([0; 64]);
        blake3::Hasher::new_keyed(&secret).update(b"athena event").finalize_xof().fill(key.as_mut());
        Some(key)
    }

    /// The node towards a leaf at a depth, from one above it.
    fn down(&self, leaf: u64, mut secret: Secret, from: u32, to: u32) -> Secret {
        for depth in from..to {
            // In its place: nothing of a node is left once its child is there, and only the last one has to be wiped.
            *secret = *blake3::keyed_hash(&secret, &[self.shape.step(leaf, depth)]).as_bytes();
        }
        secret
    }

    /// Destroys the key of an event; `false` where it was destroyed before.
    pub(super) fn puncture(&mut self, event: EventId) -> bool {
        let (leaf, shape) = (leaf_of(event), self.shape);
        let Some((place, _)) = self.above(leaf) else { return false };
        let Some(mut secret) = self.kept.remove(&place) else { return false };
        self.near = Near::default();
        for depth in place.depth..shape.depth() {
            let (here, wanted) = (shape.ancestor(leaf, depth), shape.step(leaf, depth));
            for sibling in (0..1 << shape.step).filter(|sibling| *sibling != wanted) {
                let place = Place { depth: depth + 1, steps: (here << shape.step) | u64::from(sibling) };
                self.kept.insert(place, child(&secret, sibling));
            }
            secret = child(&secret, wanted);
        }
        true
    }

    /// The kept node on the way to a leaf.
    fn above(&self, leaf: u64) -> Option<(Place, &Secret)> {
        (0..=self.shape.depth()).find_map(|depth| {
            let place = Place { depth, steps: self.shape.ancestor(leaf, depth) };
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
    pub(super) fn from_bytes(shape: Shape, bytes: &[u8]) -> Option<Self> {
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
        rest.is_empty().then(|| Self { shape, kept, near: Near::default() })
    }
}

/// Ids are hashes, so their bits are as good as random.
fn leaf_of(event: EventId) -> u64 {
    u64::from_be_bytes(*event.0.first_chunk::<8>().unwrap_or(&[0; 8])) >> (64 - BITS)
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

    fn tree(shape: Shape) -> Tree {
        Tree::new(shape, Zeroizing::new([9; 32]))
    }

    /// The way from the root to a leaf without any shortcut.
    fn by_definition(shape: Shape, event: EventId) -> Vec<u8> {
        let leaf = leaf_of(event);
        let secret = (0..shape.depth())
            .fold(Zeroizing::new([9; 32]), |secret, depth| child(&secret, shape.step(leaf, depth)));
        let mut key = vec![0; 64];
        blake3::Hasher::new_keyed(&secret).update(b"athena event").finalize_xof().fill(&mut key);
        key
    }

    #[test]
    fn a_whole_tree_is_one_secret_and_every_event_has_a_key_of_its_own() {
        for shape in [Shape::NARROW, Shape::WIDE] {
            let tree = tree(shape);
            assert_eq!(tree.to_bytes().len(), 39);
            let keys: std::collections::HashSet<Vec<u8>> = (0..1_000)
                .map(|n| {
                    let key = tree.key(event(n)).unwrap().to_vec();
                    assert_eq!(key, by_definition(shape, event(n)));
                    key
                })
                .collect();
            assert_eq!(keys.len(), 1_000);
        }
    }

    /// What a tree makes of its root, for ever: stores written by this build must stay readable.
    #[test]
    fn both_shapes_are_frozen() {
        let hash =
            |shape| blake3::hash(tree(shape).key(event(1)).unwrap().as_ref()).to_hex()[..16].to_owned();
        assert_eq!([hash(Shape::NARROW), hash(Shape::WIDE)], ["46f9e69fbbf6029d", "17148330062856d4"]);
    }

    #[test]
    fn what_is_left_does_not_hold_what_was_destroyed() {
        for (shape, siblings) in [(Shape::NARROW, 3), (Shape::WIDE, 15)] {
            let mut punctured = tree(shape);
            assert!(punctured.key(event(1)).is_some(), "and the way to it is remembered");
            assert!(punctured.puncture(event(1)));
            assert!(!punctured.puncture(event(1)), "once");
            assert_eq!(punctured.key(event(1)), None);
            // No kept node lies on the way to the leaf, so nothing that is left derives it; nor is one remembered.
            assert!(punctured.above(leaf_of(event(1))).is_none());
            assert!(punctured.near.0.get().is_none());
            assert_eq!(punctured.kept.len(), siblings * shape.depth() as usize);
            assert!(punctured.to_bytes().len() < 7_100);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]
        #[test]
        fn destroying_some_keys_leaves_all_others_as_they_were(
            gone in prop::collection::btree_set(0..200_u32, 0..40),
            wide in any::<bool>(),
        ) {
            let shape = if wide { Shape::WIDE } else { Shape::NARROW };
            let whole = tree(shape);
            let mut punctured = tree(shape);
            for n in &gone {
                prop_assert!(punctured.puncture(event(*n)));
            }
            let back = Tree::from_bytes(shape, &punctured.to_bytes()).unwrap();
            for n in 0..200 {
                let expected = (!gone.contains(&n)).then(|| whole.key(event(n)).unwrap());
                prop_assert_eq!(&punctured.key(event(n)), &expected);
                prop_assert_eq!(&back.key(event(n)), &expected);
            }
        }
    }
}
