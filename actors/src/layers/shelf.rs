//! What a layer remembers of its items: that they exist, in which scope, whether they are hidden, and a word of its own.
//! About 70 bytes an item; the text is the read side's.
//!
//! What is erased leaves no trace here: the state is then the one that a replay of the log comes to, in which the event that
//! made the item can no longer be read.

use athena_schemas::context::{Context, Scope};
use athena_schemas::id::Id;
use athena_schemas::layers::common::Forgetting;
use athena_schemas::refusal::Refusal;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Equality of content within a scope, as 16 bytes of BLAKE3: recognises a duplicate without keeping the text.
pub type Digest = [u8; 16];

/// The digest of content in a scope; `domain` separates layers, each part is length-prefixed.
pub fn digest(domain: &str, scope: &Scope, parts: &[&[u8]]) -> Digest {
    let mut hasher = blake3::Hasher::new_derive_key(domain);
    for field in [&scope.project, &scope.user, &scope.agent, &scope.session] {
        match field {
            Some(text) => hasher.update(&(text.len() as u64 + 1).to_le_bytes()).update(text.as_bytes()),
            None => hasher.update(&[0; 8]),
        };
    }
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
    }
    let mut out = [0; 16];
    hasher.finalize_xof().fill(&mut out);
    out
}

/// Scopes by small numbers.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(from = "Vec<Scope>", into = "Vec<Scope>")]
struct Scopes {
    by_number: Vec<Scope>,
    numbers: HashMap<Scope, u32>,
}

impl Scopes {
    fn number(&mut self, scope: &Scope) -> u32 {
        if let Some(number) = self.numbers.get(scope) {
            return *number;
        }
        let number = self.by_number.len() as u32;
        self.by_number.push(scope.clone());
        self.numbers.insert(scope.clone(), number);
        number
    }
}

impl From<Vec<Scope>> for Scopes {
    fn from(by_number: Vec<Scope>) -> Self {
        let numbers = by_number.iter().cloned().zip(0..).collect();
        Self { by_number, numbers }
    }
}

impl From<Scopes> for Vec<Scope> {
    fn from(scopes: Scopes) -> Self {
        scopes.by_number
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Slot<T> {
    scope: u32,
    hidden: bool,
    /// What recognises its like.
    seen: Option<Digest>,
    entry: T,
}

/// The items of one layer, by the number in their id.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Shelf<T> {
    scopes: Scopes,
    #[serde(deserialize_with = "at_once", bound(deserialize = "T: Deserialize<'de>"))]
    slots: BTreeMap<u128, Slot<T>>,
    /// Items by their content; several may say the same, such as one that was taken back and stored anew.
    #[serde(deserialize_with = "at_once")]
    seen: BTreeSet<(Digest, u128)>,
}

/// A tree out of a snapshot, where its entries stand in order: made in one go, not entry by entry, each of which would have to
/// find its place. Half a million items are read back with every start.
fn at_once<'de, D, C, T>(snapshot: D) -> Result<C, D::Error>
where
    D: serde::Deserializer<'de>,
    C: IntoIterator<Item = T> + FromIterator<T>,
    T: Deserialize<'de>,
{
    // In postcard a map is a row of pairs.
    Ok(Vec::<T>::deserialize(snapshot)?.into_iter().collect())
}

/// Two shelves are equal when they hold the same items; the numbers of scopes follow from the order of events.
impl<T: PartialEq> PartialEq for Shelf<T> {
    fn eq(&self, other: &Self) -> bool {
        let item = |shelf: &Self, slot: &Slot<T>| shelf.scopes.by_number.get(slot.scope as usize).cloned();
        self.seen == other.seen
            && self.slots.len() == other.slots.len()
            && self.slots.iter().zip(&other.slots).all(|((number, slot), (its_number, its))| {
                (number, slot.hidden, &slot.seen, &slot.entry)
                    == (its_number, its.hidden, &its.seen, &its.entry)
                    && item(self, slot) == item(other, its)
            })
    }
}

impl<T: Eq> Eq for Shelf<T> {}

impl<T> Default for Shelf<T> {
    fn default() -> Self {
        Self { scopes: Scopes::default(), slots: BTreeMap::new(), seen: BTreeSet::new() }
    }
}

impl<T> Shelf<T> {
    /// How many items there are, hidden ones included.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Puts an item on the shelf; `seen` is what recognises its like.
    pub fn put(&mut self, id: &Id, scope: &Scope, seen: Option<Digest>, entry: T) {
        let Some(number) = id.ulid() else { return };
        let scope = self.scopes.number(scope);
        let replaced = self.slots.insert(number, Slot { scope, hidden: false, seen, entry });
        if let Some(digest) = replaced.and_then(|slot| slot.seen) {
            self.seen.remove(&(digest, number));
        }
        if let Some(digest) = seen {
            self.seen.insert((digest, number));
        }
    }

    /// The newest item with the same content in the same scope that is still there, not hidden, and such.
    pub fn duplicate(
        &self,
        prefix: &str,
        scope: &Scope,
        digest: &Digest,
        such: impl Fn(&T) -> bool,
    ) -> Option<Id> {
        let here = self.scopes.numbers.get(scope)?;
        self.seen
            .range((*digest, 0)..=(*digest, u128::MAX))
            .rev()
            .filter_map(|(_, number)| Some((number, self.slots.get(number)?)))
            .find(|(_, slot)| slot.scope == *here && !slot.hidden && such(&slot.entry))
            .map(|(number, _)| Id::from_ulid(prefix, *number))
    }

    fn slot(&self, cx: &Context, id: &Id) -> Option<&Slot<T>> {
        let slot = self.slots.get(&id.ulid()?)?;
        let scope = self.scopes.by_number.get(slot.scope as usize)?;
        cx.scope.covers(scope).then_some(slot)
    }

    /// An item that the caller may see and that is not hidden.
    ///
    /// # Errors
    /// When there is none. One outside the scope is refused as one that does not exist.
    pub fn get(&self, cx: &Context, id: &Id) -> Result<&T, Refusal> {
        match self.slot(cx, id) {
            Some(slot) if !slot.hidden => Ok(&slot.entry),
            _ => Err(Refusal::not_found(format!("there is no {id} in this scope"))
                .hint("recall or search names the ids there are")),
        }
    }

    /// The items among `ids` that the caller may see and whose being hidden is as asked, each once, in order.
    pub fn visible(&self, cx: &Context, ids: &[Id], hidden: bool) -> Vec<Id> {
        let mut taken = std::collections::HashSet::with_capacity(ids.len());
        ids.iter()
            .filter(|id| self.slot(cx, id).is_some_and(|slot| slot.hidden == hidden) && taken.insert(*id))
            .cloned()
            .collect()
    }

    /// The first item, by age, that the caller may see and whose entry is such.
    pub fn find(&self, cx: &Context, prefix: &str, such: impl Fn(&T) -> bool) -> Option<Id> {
        let seen = |slot: &&Slot<T>| {
            self.scopes.by_number.get(slot.scope as usize).is_some_and(|scope| cx.scope.covers(scope))
        };
        let found = self
            .slots
            .iter()
            .filter(|(_, slot)| seen(slot) && such(&slot.entry))
            .map(|(number, _)| *number)
            .min();
        found.map(|number| Id::from_ulid(prefix, number))
    }

    /// The entry of an item, for a fold.
    pub fn entry(&mut self, id: &Id) -> Option<&mut T> {
        self.slots.get_mut(&id.ulid()?).map(|slot| &mut slot.entry)
    }

    /// All entries, for a fold.
    pub fn entries(&mut self) -> impl Iterator<Item = &mut T> {
        self.slots.values_mut().map(|slot| &mut slot.entry)
    }

    /// Folds forgetting: hidden items stay on the shelf, erased ones leave it.
    pub fn forget(&mut self, ids: &[Id], mode: Forgetting) {
        let numbers = ids.iter().filter_map(Id::ulid);
        match mode {
            Forgetting::Hide => numbers.for_each(|number| self.hide(number, true)),
            Forgetting::Erase => {
                for number in numbers {
                    if let Some(digest) = self.slots.remove(&number).and_then(|slot| slot.seen) {
                        self.seen.remove(&(digest, number));
                    }
                }
            }
        }
    }

    /// Folds the end of hiding.
    pub fn restore(&mut self, ids: &[Id]) {
        ids.iter().filter_map(Id::ulid).for_each(|number| self.hide(number, false));
    }

    /// Folds that an item stands again as it stood: hidden or not, where it belonged. One that left the shelf stays away.
    pub fn revert(&mut self, id: &Id, scope: Option<&Scope>, hidden: bool) {
        let scope = scope.map(|scope| self.scopes.number(scope));
        if let Some(slot) = id.ulid().and_then(|number| self.slots.get_mut(&number)) {
            slot.hidden = hidden;
            slot.scope = scope.unwrap_or(slot.scope);
        }
    }

    fn hide(&mut self, number: u128, hidden: bool) {
        if let Some(slot) = self.slots.get_mut(&number) {
            slot.hidden = hidden;
        }
    }

    /// Folds a move to another scope.
    pub fn relocate(&mut self, ids: &[Id], to: &Scope) {
        let to = self.scopes.number(to);
        for number in ids.iter().filter_map(Id::ulid) {
            if let Some(slot) = self.slots.get_mut(&number) {
                slot.scope = to;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_tell_scopes_and_parts_apart() {
        let p = Scope::project("p");
        let user = Scope { user: Some("p".into()), ..Scope::default() };
        assert_eq!(digest("d", &p, &[b"ab"]), digest("d", &p, &[b"ab"]));
        assert_ne!(digest("d", &p, &[b"ab"]), digest("d", &user, &[b"ab"]));
        assert_ne!(digest("d", &p, &[b"ab", b""]), digest("d", &p, &[b"a", b"b"]));
        assert_ne!(digest("d", &p, &[b"ab"]), digest("e", &p, &[b"ab"]));
    }

    #[test]
    fn a_shelf_survives_its_snapshot() {
        let mut shelf = Shelf::<u8>::default();
        let id = Id::new("ep", 5, 7);
        shelf.put(&id, &Scope::project("test"), Some([1; 16]), 3);
        shelf.relocate(std::slice::from_ref(&id), &Scope::project("other"));
        let bytes = postcard::to_stdvec(&shelf).unwrap();
        let mut back: Shelf<u8> = postcard::from_bytes(&bytes).unwrap();
        assert_eq!(back, shelf);
        back.relocate(std::slice::from_ref(&id), &Scope::project("test"));
        assert_eq!(back.get(&Context::example(), &id).unwrap(), &3);
    }
}
