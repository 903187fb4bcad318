//! When keys were last used, as far as OBJECT IDLETIME tells it.
//!
//! Every read and every write notes it, so it must cost nothing: no lock, no memory of its own for a key, and no
//! write to shared memory but once a second for a key that is in use. So keys share a fixed number of places. What is told of a
//! key is therefore never too long; it is too short when another key of the same place was used since.
//!
//! It is this node's: reads elsewhere are not seen, as a replica's are not in Redis. It starts anew with the state,
//! whose time is then the best that is known of keys that nobody has used since.

use std::sync::atomic::{AtomicU32, Ordering};

use twox_hash::XxHash3_64;

/// How many places there are: a megabyte.
const PLACES: usize = 1 << 18;

/// The keys' last uses.
pub struct Uses {
    /// The time of the state as it was opened or installed.
    since_ms: u64,
    /// Seconds since then.
    seconds: Box<[AtomicU32]>,
}

impl Uses {
    /// None yet, in a state that has reached this time.
    #[must_use]
    pub fn new(since_ms: u64) -> Self {
        Self { since_ms, seconds: (0..PLACES).map(|_| AtomicU32::new(0)).collect() }
    }

    /// The key that is stored at `address` is used.
    pub fn note(&self, address: &[u8], now_ms: u64) {
        let now = u32::try_from(now_ms.saturating_sub(self.since_ms) / 1000).unwrap_or(u32::MAX);
        let place = self.place(address);
        if place.load(Ordering::Relaxed) < now {
            place.store(now, Ordering::Relaxed);
        }
    }

    /// How many seconds ago that was last, at least.
    #[must_use]
    pub fn idle_seconds(&self, address: &[u8], now_ms: u64) -> u64 {
        let now = now_ms.saturating_sub(self.since_ms) / 1000;
        now.saturating_sub(self.place(address).load(Ordering::Relaxed).into())
    }

    fn place(&self, address: &[u8]) -> &AtomicU32 {
        &self.seconds[XxHash3_64::oneshot(address) as usize % PLACES]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_use_counts() {
        let uses = Uses::new(5_000);
        assert_eq!(uses.idle_seconds(b"a", 5_000), 0);
        assert_eq!(uses.idle_seconds(b"a", 25_000), 20);
        uses.note(b"a", 15_000);
        assert_eq!(uses.idle_seconds(b"a", 25_000), 10);
        assert_eq!(uses.idle_seconds(b"b", 25_000), 20);
        // Entries may be stamped behind what a read has seen.
        uses.note(b"a", 14_000);
        assert_eq!(uses.idle_seconds(b"a", 25_000), 10);
        assert_eq!(uses.idle_seconds(b"a", 14_000), 0);
    }
}
