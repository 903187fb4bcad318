//! Whether every disk of the cluster has room for more.
//!
//! What one node takes, all of them store: so a disk that is nearly full anywhere stops growth everywhere, as etcd's
//! NOSPACE alarm does. A node tells the others about its own disk once a round for as long as it is low. Nobody has to
//! take that back: whoever is not heard of for a few rounds has room again, or has left.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::env::Clock;
use crate::mutants::{Mutant, planted};

/// Below this much free space a disk is low. LMDB reports a full disk as an I/O error, which ends the node: growth stops
/// well before.
const LOW_BYTES: u64 = 256 << 20;

/// For how long what a node said of its disk counts: some rounds of housekeeping.
const COUNTS: Duration = Duration::from_secs(3);

/// What is known of the disks.
pub struct Room {
    clock: Arc<dyn Clock>,
    /// Looked at by every command that adds data.
    short: AtomicBool,
    own: AtomicBool,
    /// The others whose disk is low, and until when that counts, on the monotonic clock.
    others: Mutex<BTreeMap<u64, Duration>>,
}

impl Room {
    /// Nothing is known yet.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, short: AtomicBool::default(), own: AtomicBool::default(), others: Mutex::default() }
    }

    /// Whether some disk is nearly full.
    pub fn is_short(&self) -> bool {
        self.short.load(Ordering::Relaxed) && !planted(Mutant::LowDiskIgnored)
    }

    /// Takes note of what this node's disk has left. Returns whether that is too little.
    pub fn look(&self, free_bytes: u64) -> bool {
        let low = free_bytes < LOW_BYTES;
        if self.own.swap(low, Ordering::Relaxed) != low {
            if low {
                tracing::warn!(free_bytes, "the disk is nearly full: writes that add data are refused");
            } else {
                tracing::info!(free_bytes, "the disk has room again");
            }
        }
        low
    }

    /// Takes note that the disk of another node is low.
    pub fn hear(&self, node: u64) {
        let until = self.clock.monotonic() + COUNTS;
        let before = self.others.lock().expect("no holder panics").insert(node, until);
        if before.is_none() {
            tracing::warn!(node, "the disk of another node is nearly full: writes that add data are refused");
        }
        self.short.store(true, Ordering::Relaxed);
    }

    /// Forgets those who have not been heard of.
    pub fn settle(&self) {
        let now = self.clock.monotonic();
        let mut others = self.others.lock().expect("no holder panics");
        others.retain(|node, until| {
            let counts = now < *until;
            if !counts {
                tracing::info!(node, "the disk of another node is not known to be full any more");
            }
            counts
        });
        self.short.store(self.own.load(Ordering::Relaxed) || !others.is_empty(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::sim;

    #[test]
    fn one_low_disk_is_enough_until_it_is_heard_of_no_more() {
        sim::run(1, async |world| {
            let clock = world.client_env().clock;
            let room = Room::new(Arc::clone(&clock));
            let is_short = || {
                room.settle();
                room.is_short()
            };
            assert!(!room.look(LOW_BYTES) && !is_short());
            assert!(room.look(LOW_BYTES - 1) && is_short());
            assert!(!room.look(LOW_BYTES) && !is_short());
            for _ in 0..5 {
                room.hear(7);
                assert!(room.is_short(), "at once");
                clock.sleep(COUNTS / 2).await;
                assert!(is_short());
            }
            clock.sleep(COUNTS / 2).await;
            assert!(!is_short());
        });
    }
}
