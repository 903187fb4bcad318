//! When keys were last used, as far as OBJECT IDLETIME tells it.
//!
//! Every read and every write notes it, so it must cost nothing: no lock, no memory of its own for a key, and no
//! write to shared memory but once a tick for a key that is in use. So keys share a fixed number of places, and a use
//! counts as of the end of its tick. What is told of a key is therefore never too long; it is too short by a tick, or
//! when another key of the same place was used since.
//!
//! It is this node's: reads elsewhere are not seen, as a replica's are not in Redis. It starts anew with the state,
//! whose time is then the best that is known of keys that nobody has used since.

use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

use super::prefetch::prefetch;

/// How many places there are: two megabytes.
const PLACES: usize = 1 << 18;

/// How long a tick is: well below a second, the unit of what is told. Two uses in one second may be a moment apart and
/// still have the turn of a second between them.
const TICK_MS: u64 = 100;

/// The keys' last uses.
pub struct Uses {
    /// The time of the state as it was opened or installed.
    since_ms: u64,
    /// The time at the end of the last use's tick, in ms.
    used_ms: Box<[AtomicU64]>,
}

impl Uses {
    /// None yet, in a state that has reached this time.
    #[must_use]
    pub fn new(since_ms: u64) -> Self {
        Self { since_ms, used_ms: (0..PLACES).map(|_| AtomicU64::new(0)).collect() }
    }

    /// The key of this hash is used.
    pub fn note(&self, hash: u64, now_ms: u64) {
        let now_ms = now_ms.div_ceil(TICK_MS).saturating_mul(TICK_MS);
        let place = self.place(hash);
        if place.load(Ordering::Relaxed) < now_ms {
            place.store(now_ms, Ordering::Relaxed);
        }
    }

    /// Has the processor fetch the place of the key of this hash.
    pub fn fetch(&self, hash: u64) {
        prefetch(ptr::from_ref(self.place(hash)).cast());
    }

    /// How many seconds ago that was last, at least.
    #[must_use]
    pub fn idle_seconds(&self, hash: u64, now_ms: u64) -> u64 {
        let used_ms = self.place(hash).load(Ordering::Relaxed).max(self.since_ms);
        now_ms.saturating_sub(used_ms) / 1000
    }

    fn place(&self, hash: u64) -> &AtomicU64 {
        &self.used_ms[hash as usize % PLACES]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_use_counts() {
        let uses = Uses::new(5_000);
        assert_eq!(uses.idle_seconds(1, 5_000), 0);
        assert_eq!(uses.idle_seconds(1, 25_000), 20);
        uses.note(1, 15_000);
        assert_eq!(uses.idle_seconds(1, 25_000), 10);
        assert_eq!(uses.idle_seconds(2, 25_000), 20);
        // Entries may be stamped behind what a read has seen.
        uses.note(1, 14_000);
        assert_eq!(uses.idle_seconds(1, 25_000), 10);
        assert_eq!(uses.idle_seconds(1, 14_000), 0);
    }

    #[test]
    fn a_second_has_passed_only_after_a_second() {
        let uses = Uses::new(5_000);
        uses.note(1, 5_990);
        assert_eq!(uses.idle_seconds(1, 6_010), 0);
        assert_eq!(uses.idle_seconds(1, 6_989), 0);
        assert_eq!(uses.idle_seconds(1, 7_000), 1);
        // A state that has no time yet, and then that of the world.
        let uses = Uses::new(0);
        uses.note(1, 1_795_000_000_000);
        assert_eq!(uses.idle_seconds(1, 1_795_000_003_000), 3);
        // The end of its tick is not told as the future.
        uses.note(2, 8_001);
        assert_eq!(uses.idle_seconds(2, 8_002), 0);
    }
}
