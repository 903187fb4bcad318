//! A buffer: the changes since some checkpoint, in memory.

use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};
use std::ops::Bound;
use std::ptr;

use bytes::Bytes;
use hashbrown::hash_map::Entry;
use hashbrown::{Equivalent, HashMap};

use super::key::Key;
use super::prefetch::prefetch;

/// What a change costs beside its bytes: the slot, the place in the order, and what both keep free.
const CHANGE_BYTES: u64 = 160;

/// A key and its change. The map does not align them, so one may lie in two cache lines.
const SLOT_BYTES: usize = size_of::<(Key, Change)>();

/// What a processor fetches at once, and how many of these of one value are worth asking for.
const LINE_BYTES: usize = 64;
const LINES_AHEAD_MAX: usize = 8;

/// The bounds of everything.
pub(super) const ALL: (Bound<&[u8]>, Bound<&[u8]>) = (Bound::Unbounded, Bound::Unbounded);

/// A change: what is now stored, or `None` when it was deleted.
pub(super) type Change = Option<Bytes>;

/// The last change to each key that was changed.
///
/// The hash map answers the hot path, gets and overwrites, in one memory access, and most often says
/// that a key is not here at all. The ordered set beside it is touched only when a key is changed for
/// the first time, and makes scans and sorted checkpoints possible. The order of the hash map decides
/// nothing: only the state's hash, which is a sum, ever iterates over it.
#[derive(Default)]
pub(super) struct Layer {
    changes: HashMap<Key, Change>,
    order: BTreeSet<Key>,
    bytes: u64,
}

impl Layer {
    /// An empty buffer with room for as many changes as `last` has, which spares it the growing.
    pub fn after(last: &Self) -> Self {
        Self { changes: HashMap::with_capacity(last.changes.len()), ..Self::default() }
    }

    /// The change to `key`, if there is one.
    pub fn get(&self, key: &Key) -> Option<&Change> {
        self.changes.get(key)
    }

    /// Has the processor fetch the slot that `key` is in, if it is in any.
    pub fn fetch_slot(&self, key: &Key) {
        self.changes.contains_key(&Near(key));
    }

    /// Has the processor fetch what `key` was changed to, and says whether it is here.
    pub fn fetch_value(&self, key: &Key) -> bool {
        let change = self.changes.get(key);
        if let Some(Some(value)) = change {
            // A read copies all of it, and a write frees it: the next value most likely lies there.
            for line in value.chunks(LINE_BYTES).take(LINES_AHEAD_MAX) {
                prefetch(line.as_ptr());
            }
        }
        change.is_some()
    }

    /// Changes `key`, and answers the change to it that there was.
    pub fn set(&mut self, key: Key, change: Change) -> Option<Change> {
        let size = bytes_of(&change);
        match self.changes.entry(key) {
            Entry::Occupied(mut entry) => {
                let old = entry.insert(change);
                self.bytes = self.bytes - bytes_of(&old) + size;
                Some(old)
            }
            Entry::Vacant(entry) => {
                self.bytes += CHANGE_BYTES + entry.key().as_bytes().len() as u64 + size;
                self.order.insert(entry.key().clone());
                entry.insert(change);
                None
            }
        }
    }

    /// Forgets the change to `key`, as if there had been none.
    pub fn unset(&mut self, key: &Key) {
        if let Some(change) = self.changes.remove(key) {
            self.bytes -= CHANGE_BYTES + key.as_bytes().len() as u64 + bytes_of(&change);
            self.order.remove(key);
        }
    }

    /// The changes to keys within the bounds, in order. The bounds must not cross.
    pub fn range<'a>(
        &'a self,
        bounds: (Bound<&[u8]>, Bound<&[u8]>),
    ) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + use<'a> {
        self.order.range::<[u8], _>(bounds).map(|key| {
            let change = self.changes.get(key).expect("a key in the order has a change");
            (key.as_bytes(), change.as_deref())
        })
    }

    /// Every change, in no order.
    pub fn unordered(&self) -> impl Iterator<Item = (&Key, &Change)> {
        self.changes.iter()
    }

    /// How much memory the changes take.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many keys it changes.
    pub fn len(&self) -> usize {
        self.changes.len()
    }
}

fn bytes_of(change: &Change) -> u64 {
    change.as_ref().map_or(0, |bytes| bytes.len() as u64)
}

/// A key that none equals: the map, on its way through the slots where it could be, asks for them and reads none.
struct Near<'k>(&'k Key);

impl Hash for Near<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl Equivalent<Key> for Near<'_> {
    fn equivalent(&self, slot: &Key) -> bool {
        let slot = ptr::from_ref(slot).cast::<u8>();
        prefetch(slot);
        prefetch(slot.wrapping_add(SLOT_BYTES - 1));
        false
    }
}
