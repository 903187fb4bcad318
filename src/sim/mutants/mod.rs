//! Whether anybody would notice: every bug of [`crate::mutants`] is planted, and its campaign must find it.
//!
//! `cargo test --lib sim::mutants` plants them all; with `MUTANT=AckBeforeSync` in the environment it plants that one only,
//! with `MUTANT=all` all of them, and shows what was found. A campaign is a few seeds of one [plan](plans), or a
//! [scene](scenes); it ends with the first finding, which must be of the kind that the bug is to be found by: a campaign
//! that fails for another reason has not shown that it sees this one. Some are planted a second time, for those alone who see
//! no more than clients do: else they could be blind, and the invariants would hide it. Without a bug the same campaigns find nothing, which
//! is a test as well.

#![allow(clippy::disallowed_methods)] // The time that a campaign takes is outside of the simulated worlds.

mod plans;
mod scenes;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use crate::mutants::{Mutant, plant};

/// How a seed went.
type Lived = Result<(), String>;

/// Seeds, and what is done with each.
struct Campaign {
    name: &'static str,
    live: fn(u64) -> Lived,
    seeds: u64,
}

impl Campaign {
    /// What the first seed that finds anything finds, and which it is.
    fn find(&self) -> Option<(u64, String)> {
        let asked = std::env::var("SEED").ok().map(|seed| seed.parse().expect("SEED is a number"));
        asked.map_or(1..=self.seeds, |seed: u64| seed..=seed).find_map(|seed| {
            let lived = catch_unwind(AssertUnwindSafe(|| (self.live)(seed)));
            let lived = lived.unwrap_or_else(|panic| {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text = text.or(panic.downcast_ref::<&str>().copied());
                Err(format!("panicked: {}", text.unwrap_or("without a word")))
            });
            lived.err().map(|found| (seed, found))
        })
    }
}

/// Plants `mutant`, and demands that the campaign finds something that says one of `words`.
#[track_caller]
fn check(mutant: Mutant, campaign: &Campaign, words: &[&str]) {
    let name = format!("{mutant:?}");
    let asked = std::env::var("MUTANT").ok();
    if asked.as_ref().is_some_and(|asked| asked != "all" && *asked != name) {
        return;
    }
    let start = Instant::now();
    let Some((seed, found)) = plant(mutant, || campaign.find()) else {
        panic!("{name}: {} finds nothing with {} seeds", campaign.name, campaign.seeds);
    };
    let first = found.lines().next().unwrap_or_default();
    if asked.is_some() {
        let seconds = start.elapsed().as_secs_f64();
        let shown =
            format!("\nfound {name}: {}, seed {seed}: {first:.120} ({seconds:.1} s)\n", campaign.name);
        drop(std::io::Write::write_all(&mut std::io::stderr(), shown.as_bytes()));
    }
    assert!(words.iter().any(|word| first.contains(word)), "{name}: {}, seed {seed}: {found}", campaign.name);
}

/// A test for each bug: where it is looked for, and what finds it.
macro_rules! bugs {
    ($($test:ident: $mutant:ident, $campaign:expr, $words:expr;)*) => {
        $(
            #[test]
            fn $test() {
                check(Mutant::$mutant, &$campaign, &$words);
            }
        )*

        /// Every bug that can be planted is.
        #[test]
        fn all_are_planted() {
            let planted = [$(Mutant::$mutant),*];
            for mutant in Mutant::ALL {
                assert!(planted.contains(&mutant), "nobody plants {mutant:?}");
            }
        }
    };
}

bugs! {
    ack_before_sync: AckBeforeSync, plans::CALM, ["kept is synced"];
    sync_left_out: SyncLeftOut, plans::CALM, ["kept is synced"];
    vote_before_sync: VoteBeforeSync, plans::CALM, ["kept is synced"];
    append_before_sync: AppendBeforeSync, plans::CALM, ["committed on a quorum"];
    data_before_stamp: DataBeforeStamp, scenes::POWER_CUTS, ["equal state"];
    checkpoint_in_halves: CheckpointInHalves, scenes::POWER_CUTS, ["equal state"];
    directory_not_synced: DirectoryNotSynced, scenes::POWER_CUTS, ["cannot start"];
    log_gone_too_early: LogGoneTooEarly, scenes::SLOW_CHECKPOINTS, ["cannot start"];
    snapshot_without_origins: SnapshotWithoutOrigins, scenes::SNAPSHOTS, ["equal state", "the nodes differ"];
    snapshot_without_deadlines: SnapshotWithoutDeadlines, scenes::SNAPSHOTS, ["equal state", "the nodes differ"];
    read_without_barrier: ReadWithoutBarrier, plans::CALM, ["fresh reads"];
    barrier_reused: BarrierReused, plans::SLOW, ["fresh reads"];
    leader_unconfirmed: LeaderUnconfirmed, scenes::DEPOSED, ["fresh reads"];
    repeat_applied: RepeatApplied, plans::CUTS, ["counters", "transactions", "lists", "revisions"];
    crossed_replies: CrossedReplies, plans::CALM, ["registers", "transactions", "lists", "counters", "in one piece"];
    unknown_as_refused: UnknownAsRefused, plans::CUTS, ["revisions", "counters", "registers", "transactions", "lists", "sets", "events"];
    local_expiry: LocalExpiry, plans::CALM, ["equal state"];
    leader_by_wall_clock: LeaderByWallClock, plans::CLOCKS, ["keys end in time"];
    own_chance: OwnChance, scenes::LOTS, ["the nodes differ"];
    watch_blind: WatchBlind, plans::CALM, ["transactions"];
    comparison_blind: ComparisonBlind, plans::CALM, ["registers"];
    messages_reordered: MessagesReordered, plans::CALM, ["messages", "events"];
    messages_doubled: MessagesDoubled, plans::CALM, ["messages"];
    copies_kept: CopiesKept, scenes::CUT_OFF, ["a copy is old"];
    number_reused: NumberReused, plans::NEWCOMERS, ["log reversion", "kept is synced"];
    low_disk_ignored: LowDiskIgnored, scenes::LOW_DISK, ["growth on a low disk"];
    readers_notice_no_barrier: ReadWithoutBarrier, plans::READERS, ["registers", "counters", "it does not serve"];
    leases_notice_local_expiry: LocalExpiry, plans::LEASES, ["leases"];
    writers_notice_no_sync: SyncLeftOut, plans::OUTAGES, ["registers", "counters", "do not get together"];
}

/// Without a bug there is nothing to find.
#[test]
fn without_a_bug() {
    for campaign in plans::ALL.iter().chain(&scenes::ALL) {
        assert_eq!(campaign.find(), None, "{}", campaign.name);
    }
}
