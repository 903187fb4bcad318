//! A buffer: the changes since some checkpoint, in memory.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::ptr;
use std::sync::OnceLock;

use bytes::Bytes;
use foldhash::fast::FixedState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::TABLES;
use super::key::{Key, Located, hash_of};
use super::memory::Large;
use super::prefetch::prefetch;
use super::slab::{SMALL_MAX, Slab, Spot};
use super::value::{Change, Content, Found};

/// What a change costs beside its value: the slot, what the map keeps free, and the place in the order.
const CHANGE_BYTES: u64 = 192;

/// How many changes are fetched together where all are walked through.
const WALK_AHEAD: usize = 16;

/// A stored key and what is stored under it.
pub(super) type Changed<'a> = (&'a [u8], Option<&'a [u8]>);

/// The last change to each key that was changed.
///
/// The hash map answers the hot path, gets and overwrites, in one memory access, and most often says
/// that a key is not here at all. The ordered sets beside it make scans and sorted checkpoints possible; each is there from
/// the first scan of its table on. The order of the hash map decides nothing: only the state's hash, which is a sum, ever
/// iterates over it.
pub(super) struct Layer {
    hasher: FixedState,
    slots: HashTable<Slot, Large>,
    small: Slab,
    /// The changed keys of each table, by its number.
    order: [OnceLock<BTreeSet<Key>>; TABLES],
    /// What the changes take beside the small values: slots, keys and large values.
    other_bytes: u64,
}

/// A changed key, in a cache line.
#[repr(align(64))]
struct Slot {
    key: Key,
    change: Kept,
}

/// Where what is stored now is.
enum Kept {
    Deleted,
    Small(Spot),
    Large(Box<Bytes>),
}

impl Layer {
    /// An empty buffer, which looks for keys by this hash.
    pub fn new(hasher: FixedState) -> Self {
        let (slots, small, order) = (HashTable::new_in(Large), Slab::default(), Default::default());
        Self { hasher, slots, small, order, other_bytes: 0 }
    }

    /// An empty buffer like this one.
    pub fn emptied(&self) -> Self {
        Self::new(self.hasher.clone())
    }

    /// An empty buffer with room for as many changes as this one has, which spares it the growing.
    pub fn successor(&self) -> Self {
        Self { slots: HashTable::with_capacity_in(self.slots.len(), Large), ..self.emptied() }
    }

    /// The change to `key`, if there is one.
    pub fn get(&self, key: &Located) -> Option<Change<'_>> {
        self.find(key.hash(), key.stored()).map(|slot| self.change(slot))
    }

    /// Has the processor fetch the slot that a key of this hash is in, if it is in any.
    pub fn fetch_slot(&self, hash: u64) {
        // The map, on its way through the slots where it could be, asks for them and reads none.
        self.slots.find(hash, |slot| {
            prefetch(ptr::from_ref(slot).cast());
            false
        });
    }

    /// Has the processor fetch what a key of this hash was changed to, and says whether one seems to be here: one in nine
    /// times it is another's, whose hash is alike in the few bits that the map has at hand.
    pub fn fetch_value(&self, hash: u64) -> bool {
        let mut seen = false;
        self.slots.find(hash, |slot| {
            self.fetch_kept(slot);
            seen = true;
            false
        });
        seen
    }

    /// Changes `key`.
    pub fn set(&mut self, key: &Located, content: Option<Content<'_>>) {
        let Self { hasher, slots, small, order, other_bytes } = self;
        let found =
            slots.entry(key.hash(), |slot| slot.key == *key.stored(), |slot| hash_of(hasher, &slot.key));
        let mut slot = match found {
            Entry::Occupied(slot) => slot,
            Entry::Vacant(vacant) => {
                *other_bytes += CHANGE_BYTES + key.stored().as_bytes().len() as u64;
                if let Some(order) = order[table_of(key.stored())].get_mut() {
                    order.insert(key.stored().clone());
                }
                vacant.insert(Slot { key: key.stored().clone(), change: Kept::Deleted })
            }
        };
        let old = match std::mem::replace(&mut slot.get_mut().change, Kept::Deleted) {
            Kept::Deleted => None,
            Kept::Small(spot) => Some(spot),
            Kept::Large(bytes) => {
                *other_bytes -= bytes.len() as u64;
                None
            }
        };
        slot.get_mut().change = match content {
            Some(content) if content.len() <= SMALL_MAX => Kept::Small(small.put(content.parts(), old)),
            other => {
                old.into_iter().for_each(|spot| small.free(spot));
                match other {
                    None => Kept::Deleted,
                    Some(content) => {
                        *other_bytes += content.len() as u64;
                        Kept::Large(Box::new(content.into_bytes()))
                    }
                }
            }
        };
    }

    /// Forgets the change to `key`, as if there had been none.
    pub fn unset(&mut self, key: &Located) {
        let Ok(entry) = self.slots.find_entry(key.hash(), |slot| slot.key == *key.stored()) else { return };
        let (slot, _) = entry.remove();
        self.other_bytes -= CHANGE_BYTES + key.stored().as_bytes().len() as u64;
        match slot.change {
            Kept::Deleted => {}
            Kept::Small(spot) => self.small.free(spot),
            Kept::Large(bytes) => self.other_bytes -= bytes.len() as u64,
        }
        if let Some(order) = self.order[table_of(key.stored())].get_mut() {
            order.remove(key.stored());
        }
    }

    /// The changes to keys of a table within the bounds, in order. The bounds must not cross, nor leave the table.
    pub fn range<'a>(
        &'a self,
        table: usize,
        bounds: (Bound<&[u8]>, Bound<&[u8]>),
    ) -> impl Iterator<Item = Changed<'a>> + use<'a> {
        self.order(table).range::<[u8], _>(bounds).map(|key| self.changed(key))
    }

    /// Every change, in order.
    pub fn ordered(&self) -> impl ExactSizeIterator<Item = Changed<'_>> {
        let mut keys = (0..TABLES).flat_map(|table| self.order(table));
        let mut ahead = Vec::with_capacity(WALK_AHEAD);
        (0..self.len()).map(move |_| {
            if ahead.is_empty() {
                ahead.extend(keys.by_ref().take(WALK_AHEAD).map(|key| (key, hash_of(&self.hasher, key))));
                ahead.iter().for_each(|(_, hash)| self.fetch_slot(*hash));
                ahead.iter().for_each(|(_, hash)| {
                    self.fetch_value(*hash);
                });
                ahead.reverse();
            }
            let (key, _) = ahead.pop().expect("each change is in its table's order");
            self.changed(key)
        })
    }

    /// Every change, in no order.
    pub fn unordered(&self) -> impl Iterator<Item = (&Key, Change<'_>)> {
        self.slots.iter().map(|slot| (&slot.key, self.change(slot)))
    }

    /// How much memory the changes take.
    pub fn bytes(&self) -> u64 {
        self.small.bytes() + self.other_bytes
    }

    /// How many keys it changes.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    fn find(&self, hash: u64, key: &Key) -> Option<&Slot> {
        self.slots.find(hash, |slot| slot.key == *key)
    }

    fn change<'a>(&'a self, slot: &'a Slot) -> Change<'a> {
        match &slot.change {
            Kept::Deleted => None,
            Kept::Small(spot) => Some(Found::here(self.small.get(*spot))),
            Kept::Large(bytes) => Some(Found::shared(bytes)),
        }
    }

    fn fetch_kept(&self, slot: &Slot) {
        match &slot.change {
            Kept::Deleted => {}
            Kept::Small(spot) => self.small.fetch(*spot),
            Kept::Large(bytes) => prefetch(ptr::from_ref(&**bytes).cast()),
        }
    }

    /// The change to a key that is in an order.
    fn changed<'a>(&'a self, key: &'a Key) -> Changed<'a> {
        let slot = self.find(hash_of(&self.hasher, key), key).expect("a key in an order has a change");
        (key.as_bytes(), self.change(slot).map(Found::bytes))
    }

    fn order(&self, table: usize) -> &BTreeSet<Key> {
        let of_table = |slot: &&Slot| table_of(&slot.key) == table;
        self.order[table]
            .get_or_init(|| self.slots.iter().filter(of_table).map(|slot| slot.key.clone()).collect())
    }
}

fn table_of(key: &Key) -> usize {
    usize::from(key.as_bytes()[0])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Table;

    #[test]
    fn a_slot_is_a_cache_line() {
        assert_eq!(size_of::<Slot>(), 64);
    }

    fn key(n: usize) -> Located {
        let table = if n.is_multiple_of(2) { Table::Keys } else { Table::Meta };
        Located::new(&FixedState::with_seed(1), table, &n.to_be_bytes(), &vec![b'k'; n % 99])
    }

    fn value(n: usize) -> Vec<u8> {
        vec![n as u8; n * 37 % 3_000]
    }

    fn set(layer: &mut Layer, n: usize, value: &[u8]) {
        let (head, tail) = value.split_at(value.len() / 3);
        layer.set(&key(n), Some(Content::Parts([head, tail])));
    }

    #[test]
    fn changes_are_found_and_are_in_order() {
        for scanned_first in [false, true] {
            let mut layer = Layer::new(FixedState::with_seed(1));
            if scanned_first {
                assert_eq!(layer.ordered().count(), 0);
            }
            for n in 0..1_000 {
                set(&mut layer, n, &value(n + 1));
                set(&mut layer, n, &value(n));
            }
            for n in (0..1_000).step_by(7) {
                layer.set(&key(n), None);
            }
            for n in (0..1_000).step_by(11) {
                layer.unset(&key(n));
            }
            let expected = |n: usize| (!n.is_multiple_of(7)).then(|| value(n));
            for n in 0..1_000 {
                let found = layer.get(&key(n)).map(|change| change.map(|found| found.to_vec()));
                assert_eq!(found, (!n.is_multiple_of(11)).then(|| expected(n)), "{n}");
                assert!(layer.fetch_value(key(n).hash()) || n.is_multiple_of(11));
            }
            let of = |rest| (rest..1_000).step_by(2).filter(|n: &usize| !n.is_multiple_of(11));
            let changed = |n: usize| (key(n).stored().as_bytes().to_vec(), expected(n));
            let all: Vec<_> =
                layer.ordered().map(|(stored, value)| (stored.to_vec(), value.map(<[u8]>::to_vec))).collect();
            assert_eq!(all, of(0).chain(of(1)).map(changed).collect::<Vec<_>>());
            assert_eq!(layer.len(), all.len());
            assert_eq!(layer.unordered().count(), all.len());
        }
    }

    #[test]
    fn what_is_overwritten_and_deleted_costs_nothing_more() {
        let mut layer = Layer::new(FixedState::with_seed(1));
        let changed = |layer: &mut Layer, len: usize| set(layer, 3, &vec![b'v'; len]);
        changed(&mut layer, 300);
        let small = layer.bytes();
        for _ in 0..1_000 {
            changed(&mut layer, 300);
            changed(&mut layer, 5_000);
        }
        assert_eq!(layer.bytes(), small + 5_000);
        layer.set(&key(3), None);
        assert_eq!(layer.bytes(), small);
    }

    #[test]
    fn a_large_value_is_shared_and_a_small_one_is_not() {
        let mut layer = Layer::new(FixedState::with_seed(1));
        for len in [10, SMALL_MAX, SMALL_MAX + 1] {
            let whole = Bytes::from(vec![1; len]);
            layer.set(&key(0), Some(Content::Whole(whole.clone())));
            let found = layer.get(&key(0)).flatten().expect("it was put").after(4).to_bytes();
            assert_eq!(found, whole[4..]);
            assert_eq!(found.as_ptr() == whole[4..].as_ptr(), len > SMALL_MAX);
        }
    }
}
