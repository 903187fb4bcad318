//! What a node keeps for its readers beside the state: never replicated, never stored, and out of reach
//! of a [`Txn`](super::Txn), whose commands must find the same on every node.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::lock;
use crate::env::Rng;

/// A node's memory for its readers, and their chance.
pub struct Local {
    rng: Arc<dyn Rng>,
    cursors: Mutex<Cursors>,
    /// Keys that reads looked for and found, or not, since they were last asked for.
    hits: AtomicU64,
    misses: AtomicU64,
    /// Whether clients of this node keep copies of what they read.
    copies: Arc<AtomicBool>,
    /// Whether clients of this node monitor it.
    monitored: Arc<AtomicBool>,
}

/// The keys behind the SCAN cursors given out of late.
#[derive(Default)]
struct Cursors {
    keys: BTreeMap<u64, Bytes>,
    /// Oldest first.
    order: VecDeque<u64>,
}

/// How many cursors are remembered.
const CURSORS_MAX: usize = 4096;
/// The longest key that is remembered, so that all of them take a few megabytes at most.
const CURSOR_KEY_BYTES_MAX: usize = 1024;

impl Local {
    /// An empty memory.
    pub(super) fn new(rng: Arc<dyn Rng>) -> Self {
        Self {
            rng,
            cursors: Mutex::default(),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            copies: Arc::default(),
            monitored: Arc::default(),
        }
    }

    /// Set while clients of this node keep copies of what they read: every entry applied from then on tells what
    /// it touched.
    #[must_use]
    pub const fn copies(&self) -> &Arc<AtomicBool> {
        &self.copies
    }

    pub(super) fn has_copies(&self) -> bool {
        self.copies.load(Ordering::SeqCst)
    }

    /// Set while clients of this node monitor it: scripts tell what they call.
    #[must_use]
    pub const fn monitored(&self) -> &Arc<AtomicBool> {
        &self.monitored
    }

    pub(super) fn is_monitored(&self) -> bool {
        self.monitored.load(Ordering::Relaxed)
    }

    /// A number from this node's chance.
    #[must_use]
    pub fn draw(&self) -> u64 {
        self.rng.next_u64()
    }

    /// A read looked for a key.
    pub fn looked_up(&self, found: bool) {
        let counter = if found { &self.hits } else { &self.misses };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// How many keys reads have found, and not found, since this was last asked.
    #[must_use]
    pub fn take_lookups(&self) -> (u64, u64) {
        (self.hits.swap(0, Ordering::Relaxed), self.misses.swap(0, Ordering::Relaxed))
    }

    /// Keeps what a cursor stands for. Of two keys with one cursor the smaller is kept: a scan that goes
    /// on there repeats keys, and does not miss any.
    pub fn remember_cursor(&self, cursor: u64, key: Bytes) {
        if key.len() > CURSOR_KEY_BYTES_MAX {
            return;
        }
        let mut cursors = lock(&self.cursors);
        if let Some(known) = cursors.keys.get_mut(&cursor) {
            if key < *known {
                *known = key;
            }
            return;
        }
        if cursors.order.len() == CURSORS_MAX
            && let Some(oldest) = cursors.order.pop_front()
        {
            cursors.keys.remove(&oldest);
        }
        cursors.order.push_back(cursor);
        cursors.keys.insert(cursor, key);
    }

    /// What a cursor stands for, if it is still known.
    #[must_use]
    pub fn recall_cursor(&self, cursor: u64) -> Option<Bytes> {
        lock(&self.cursors).keys.get(&cursor).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct NoChance;

    impl Rng for NoChance {
        fn next_u64(&self) -> u64 {
            unreachable!("cursors are not left to chance")
        }
    }

    #[test]
    fn the_oldest_cursors_are_forgotten() {
        let local = Local::new(Arc::new(NoChance));
        for cursor in 0..=CURSORS_MAX as u64 {
            local.remember_cursor(cursor, Bytes::from(cursor.to_string()));
        }
        assert_eq!(local.recall_cursor(0), None);
        assert_eq!(local.recall_cursor(1), Some(Bytes::from_static(b"1")));
        assert_eq!(lock(&local.cursors).keys.len(), CURSORS_MAX);
    }

    #[test]
    fn the_smaller_key_is_kept() {
        let local = Local::new(Arc::new(NoChance));
        for key in ["b", "a", "c"] {
            local.remember_cursor(7, Bytes::from(key));
        }
        assert_eq!(local.recall_cursor(7), Some(Bytes::from_static(b"a")));
    }
}
