//! What was read from the database lately, kept to be read from memory.
//!
//! It is right for as long as the database does not change: whatever changes is in a buffer, which is asked first, until
//! the switch that ends a checkpoint. There all of it goes, with the pooled readers.

use foldhash::fast::FixedState;

use super::key::Located;
use super::layers::Layer;
use super::value::{Change, Content};

/// Values, in two parts so that the older half can go without the newer.
pub(super) struct Recent {
    newer: Layer,
    older: Layer,
    /// How large both may become together.
    bytes_max: u64,
}

impl Recent {
    /// Nothing yet.
    pub fn new(hasher: FixedState, bytes_max: u64) -> Self {
        Self { newer: Layer::new(hasher.clone()), older: Layer::new(hasher), bytes_max }
    }

    /// What the database has under `key`, if that is known.
    pub fn get(&self, key: &Located) -> Option<Change<'_>> {
        self.newer.get(key).or_else(|| self.older.get(key))
    }

    /// Keeps what the database has under `key`; what was kept before half of all else is forgotten. Not what is so large
    /// that little else could be kept.
    pub fn keep(&mut self, key: &Located, change: Change<'_>) {
        let half = self.bytes_max / 2;
        if change.map_or(0, |found| found.len() as u64) >= half / 16 {
            return;
        }
        self.newer.set(key, change.map(|found| Content::Parts([found.bytes(), &[]])));
        if self.newer.bytes() > half - half / 8 {
            let next = self.newer.emptied();
            self.older = std::mem::replace(&mut self.newer, next);
        }
    }

    /// Answers all of it, to be given back where nobody waits, and is empty.
    pub fn take(&mut self) -> Self {
        let next = || self.newer.emptied();
        let empty = Self { newer: next(), older: next(), bytes_max: self.bytes_max };
        std::mem::replace(self, empty)
    }

    /// Has the processor fetch the slots that a key of this hash has here.
    pub fn fetch_slot(&self, hash: u64) {
        self.newer.fetch_slot(hash);
        self.older.fetch_slot(hash);
    }

    /// Has it fetch the value that a key of this hash has here.
    pub fn fetch_value(&self, hash: u64) {
        if !self.newer.fetch_value(hash) {
            self.older.fetch_value(hash);
        }
    }

    /// How much memory it takes.
    pub fn bytes(&self) -> u64 {
        self.newer.bytes() + self.older.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Table;
    use super::super::value::Found;
    use super::*;

    fn key(n: u32) -> Located {
        Located::new(&FixedState::with_seed(1), Table::Keys, &n.to_be_bytes(), b"")
    }

    #[test]
    fn what_was_read_last_is_kept() {
        let mut recent = Recent::new(FixedState::with_seed(1), 64 << 10);
        let value = |n: u32| n.to_be_bytes().repeat(40);
        for n in 0..10_000_u32 {
            let stored = (!n.is_multiple_of(10)).then(|| value(n));
            recent.keep(&key(n), stored.as_deref().map(Found::here));
            assert!(recent.bytes() <= 64 << 10);
            let found = recent.get(&key(n)).expect("it was kept").map(|found| found.to_vec());
            assert_eq!(found, stored);
            // The older half of it, at least, which has room for more than that.
            let before = n.saturating_sub(50);
            assert!(recent.get(&key(before)).is_some(), "{before} after {n}");
        }
        assert!(recent.get(&key(0)).is_none());
        let taken = recent.take();
        assert!(taken.bytes() > 0 && recent.bytes() == 0);
        assert!(recent.get(&key(9_999)).is_none());
    }

    #[test]
    fn one_value_does_not_push_out_all_others() {
        let mut recent = Recent::new(FixedState::with_seed(1), 64 << 10);
        recent.keep(&key(1), Some(Found::here(b"small")));
        recent.keep(&key(2), Some(Found::here(&vec![1; 4 << 10])));
        assert!(recent.get(&key(1)).is_some());
        assert!(recent.get(&key(2)).is_none());
    }
}
