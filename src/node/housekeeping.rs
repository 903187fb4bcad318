//! What a node does unasked: expires keys, makes checkpoints, lets the log go, watches its disk, finishes what
//! an earlier leader began.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use super::applied::AppliedWatch;
use super::clock::ClusterClock;
use super::lead::Lead;
use super::room::Room;
use crate::env::Env;
use crate::machine::Stamp;
use crate::metrics::Metrics;
use crate::raft::log::Wal;
use crate::raft::wire::Request;
use crate::raft::{Consensus, Role};
use crate::store::Store;

/// Between two looks at disk, log and membership.
const ROUND: Duration = Duration::from_secs(1);
/// How long an expiry may take to show before it is proposed again.
const TICK_PATIENCE: Duration = Duration::from_millis(100);
/// Between two entries that only expire keys: what ends close together ends with one of them, and leaves the log
/// to others.
const TICK_PAUSE: Duration = Duration::from_millis(10);
/// Between two entries that sweep what FLUSHALL or the deletion of a large collection left, when nothing else is proposed.
const SWEEP_PAUSE: Duration = Duration::from_millis(20);
/// Rounds between two foldings of the histograms.
const UPKEEP_ROUNDS: u64 = 5;

/// Keeps a node's house.
pub struct Housekeeping {
    pub env: Env,
    pub consensus: Consensus,
    pub lead: Arc<Lead>,
    pub clock: Arc<ClusterClock>,
    pub applied: Arc<AppliedWatch>,
    pub store: Arc<Store>,
    pub wal: Wal,
    pub metrics: Arc<Metrics>,
    /// Log kept for slow followers, in bytes.
    pub wal_keep_bytes: u64,
    pub checkpoint_interval: Duration,
    pub data: std::path::PathBuf,
    pub room: Arc<Room>,
    /// Whether keys are made to end on time; see [`Host::expire_actively`](crate::commands::Host).
    pub expires: Arc<AtomicBool>,
}

impl Housekeeping {
    /// Puts the time into the log whenever the next key's deadline passes, for ever. Only a leader does, and
    /// a leader that is none any more cannot commit it: so nothing expires twice, or early.
    pub async fn expire(&self, mut deadline: watch::Receiver<Option<u64>>) {
        let mut view = self.consensus.view();
        loop {
            let leads = view.borrow_and_update().role == Role::Leader;
            let next = deadline.borrow_and_update().filter(|_| self.expires.load(Ordering::Relaxed));
            let garbage = leads && !self.store.view(0).head().garbage.is_empty();
            let due = next.map(|next| Duration::from_millis(next.saturating_sub(self.clock.now_ms())));
            match due {
                Some(Duration::ZERO) if leads => {
                    // One entry expires a bounded number of keys, so the deadline may still be past after
                    // it: what is waited for is that the log moves.
                    let before = self.applied.reached().index;
                    self.lead.tick();
                    tokio::select! {
                        () = self.applied.index(before + 1) => {}
                        () = self.env.clock.sleep(TICK_PATIENCE) => {}
                    }
                    self.env.clock.sleep(TICK_PAUSE).await;
                    continue;
                }
                _ => {}
            }
            tokio::select! {
                changed = deadline.changed() => if changed.is_err() { return },
                changed = view.changed() => if changed.is_err() { return },
                () = self.env.clock.sleep(due.unwrap_or(ROUND)), if leads && due.is_some() => {}
                () = self.env.clock.sleep(SWEEP_PAUSE), if garbage => self.lead.tick(),
                // Nobody says when there is something to sweep.
                () = self.env.clock.sleep(ROUND), if leads && !garbage => {}
            }
        }
    }

    /// Everything that is looked at once a second, for ever.
    pub async fn run(&self) {
        let mut last_checkpoint = self.env.clock.monotonic();
        for round in 1u64.. {
            self.env.clock.sleep(ROUND).await;
            self.watch_disk();
            // Its failure is noticed by whoever writes next.
            self.wal.seal(Box::new(drop));
            if round % UPKEEP_ROUNDS == 0 {
                self.metrics.upkeep();
            }
            if let Err(error) = self.trim_log(&mut last_checkpoint).await {
                tracing::debug!(%error, "the log was not trimmed");
            }
            let view = self.consensus.view().borrow().clone();
            if view.role == Role::Leader && view.joint {
                match self.consensus.finish_change().await {
                    Ok(()) => tracing::info!("finished a membership change that an earlier leader began"),
                    Err(error) => tracing::debug!(%error, "a membership change is under way"),
                }
            }
        }
    }

    /// Looks whether the disk has room, and tells the others when it has not.
    fn watch_disk(&self) {
        let Ok(free_bytes) = self.env.disk.free_bytes(&self.data) else { return };
        if self.room.look(free_bytes) {
            let (own, view) = (self.consensus.identity().node, self.consensus.view().borrow().clone());
            for (&node, member) in view.members.iter().filter(|(node, _)| **node != own) {
                // It is said again in the next round.
                drop(self.consensus.peers().post(node, &member.peer_address, Request::DiskLow));
            }
        }
        self.room.settle();
    }

    /// Makes a snapshot when the last checkpoint is old, or when without one the log would grow beyond what is kept,
    /// and lets go of the log that neither a restart nor a slow follower is to be served from. openraft lets nothing go that
    /// its own snapshot does not hold; the store's checkpoints, of which many pass between two snapshots, do not count.
    async fn trim_log(&self, last_checkpoint: &mut Duration) -> Result<(), crate::raft::Refused> {
        let durable = durable_index(&self.store);
        let applied = self.applied.reached().index;
        let now = self.env.clock.monotonic();
        let old = now.saturating_sub(*last_checkpoint) >= self.checkpoint_interval;
        let surplus = self.surplus();
        if (old && applied > durable) || surplus > Some(self.consensus.progress().snapshot) {
            *last_checkpoint = now;
            self.consensus.snapshot().await?;
        } else if old {
            *last_checkpoint = now;
            self.store.rest();
        }
        let upto = surplus.map(|surplus| surplus.min(durable));
        if let Some(upto) = upto.filter(|upto| Some(*upto) >= self.wal.first_index()) {
            self.consensus.purge_log(upto).await?;
        }
        Ok(())
    }

    /// The last index of the log before what is kept for slow followers.
    fn surplus(&self) -> Option<u64> {
        let (keep, bytes) = (self.wal_keep_bytes, self.wal.bytes());
        let (first, last) = (self.wal.first_index()?, self.wal.state().last?.index);
        // Entries differ in size; over a whole log the average is near enough.
        let entries = u128::from(last.saturating_sub(first) + 1);
        let kept = entries * u128::from(keep) / u128::from(bytes.max(1));
        (bytes > keep).then(|| last.saturating_sub(u64::try_from(kept).unwrap_or(u64::MAX)))
    }
}

/// The last log index that the last checkpoint holds.
pub fn durable_index(store: &Store) -> u64 {
    let stamp = store.durable_stamp().and_then(|stamp| Stamp::decode(&stamp));
    stamp.and_then(|stamp| stamp.position).map_or(0, |position| position.index)
}
