//! Planted bugs, to see whether the simulator would notice.
//!
//! A test that has never failed has shown nothing. Each bug here is one that a system of this kind had, or nearly had;
//! it stands in the code at the place where it would be made, as a line that asks [`planted`], and only unit tests
//! contain it: elsewhere the answer is `false` when the compiler reads it. `sim::mutants` plants one after another and
//! demands that its campaign finds it: `cargo test --lib sim::mutants`.

/// A bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// The log says that entries are durable before it has synced them.
    AckBeforeSync,
    /// It starts writing back and takes that for a sync, as hiqlite did with `MS_ASYNC`.
    SyncLeftOut,
    /// A vote is answered while it is still on its way to the disk.
    VoteBeforeSync,
    /// Appended entries are acknowledged, and counted by the leader for itself, while they are only in memory.
    AppendBeforeSync,
    /// A checkpoint's data is committed ahead of how far it reaches: after a crash entries are applied twice (etcd 3.5).
    DataBeforeStamp,
    /// A checkpoint is committed in two halves: after a crash a transaction is there in part.
    CheckpointInHalves,
    /// A file that was renamed to its place is relied upon although its directory was not synced.
    DirectoryNotSynced,
    /// A checkpoint counts as durable when it is begun, so the log behind it is let go too early (Redis-Raft #52).
    LogGoneTooEarly,
    /// A snapshot brings the data but not who was answered.
    SnapshotWithoutOrigins,
    /// A snapshot brings the keys but not when they end.
    SnapshotWithoutDeadlines,
    /// A read is served from what its node happens to have (Redis-Raft #18).
    ReadWithoutBarrier,
    /// A barrier serves reads that began after it was asked for (etcd #20418).
    BarrierReused,
    /// A leader says what is committed without asking whether it still leads (Redis-Raft #19).
    LeaderUnconfirmed,
    /// A group that is sent again is applied again (Redis-Raft #13).
    RepeatApplied,
    /// Clients of one node get each other's replies (Redis-Raft #26).
    CrossedReplies,
    /// What may have been applied is answered as if it had not been (Redis-Raft #23).
    UnknownAsRefused,
    /// Each node ends keys by its own clock (documented for Redis-Raft).
    LocalExpiry,
    /// A leader that begins goes by its wall clock.
    LeaderByWallClock,
    /// Chance in the state is each node's own.
    OwnChance,
    /// EXEC does not see that others have changed what was watched.
    WatchBlind,
    /// Who compares a value with the one that he had is not refused for its having changed: a lock is renewed or released
    /// by somebody who no longer holds it.
    ComparisonBlind,
    /// Messages of one entry reach subscribers in the wrong order.
    MessagesReordered,
    /// Messages of one entry reach subscribers twice (etcd's watch).
    MessagesDoubled,
    /// Clients that keep copies are not told that their node has no leader any more.
    CopiesKept,
    /// A node whose disk was wiped is given its former number (openraft's warning, Redis-Raft #2).
    NumberReused,
    /// Growth goes on when a disk is nearly full.
    LowDiskIgnored,
}

#[cfg(test)]
impl Mutant {
    /// All of them.
    pub const ALL: [Self; 26] = [
        Self::AckBeforeSync,
        Self::SyncLeftOut,
        Self::VoteBeforeSync,
        Self::AppendBeforeSync,
        Self::DataBeforeStamp,
        Self::CheckpointInHalves,
        Self::DirectoryNotSynced,
        Self::LogGoneTooEarly,
        Self::SnapshotWithoutOrigins,
        Self::SnapshotWithoutDeadlines,
        Self::ReadWithoutBarrier,
        Self::BarrierReused,
        Self::LeaderUnconfirmed,
        Self::RepeatApplied,
        Self::CrossedReplies,
        Self::UnknownAsRefused,
        Self::LocalExpiry,
        Self::LeaderByWallClock,
        Self::OwnChance,
        Self::WatchBlind,
        Self::ComparisonBlind,
        Self::MessagesReordered,
        Self::MessagesDoubled,
        Self::CopiesKept,
        Self::NumberReused,
        Self::LowDiskIgnored,
    ];
}

/// Whether this bug is there.
#[cfg(not(test))]
#[must_use]
pub const fn planted(_: Mutant) -> bool {
    false
}

#[cfg(test)]
pub use soil::{plant, planted};

/// A simulated world lives on one thread, and so do its bugs.
#[cfg(test)]
mod soil {
    use std::cell::Cell;

    use super::Mutant;

    thread_local! {
        static PLANTED: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    /// Whether this bug is there, in what runs on this thread.
    pub fn planted(mutant: Mutant) -> bool {
        PLANTED.get() == Some(mutant)
    }

    /// Runs something with a bug.
    pub fn plant<T>(mutant: Mutant, run: impl FnOnce() -> T) -> T {
        /// Takes the bug out again, also when `run` panics.
        struct Weeding;
        impl Drop for Weeding {
            fn drop(&mut self) {
                PLANTED.set(None);
            }
        }
        PLANTED.set(Some(mutant));
        let _weeding = Weeding;
        run()
    }
}
