//! What is done to a cluster to bring a bug to light: little, so that each is found in seconds.

use std::time::Duration;

use super::{Campaign, Lived};
use crate::sim::faults::Fault;
use crate::sim::{PEACE, Plan, WAR, run};

/// Nothing happens.
pub const CALM: Campaign = Campaign { name: "calm", live: |seed| live(seed, &[]), seeds: 2 };

/// The network is slow.
pub const SLOW: Campaign =
    Campaign { name: "slow", live: |seed| live(seed, &[Fault::Latency, Fault::SlowDisk]), seeds: 2 };

/// Leaders are cut off or stand still, and clients reach them all the same.
pub const CUTS: Campaign = Campaign {
    name: "cuts",
    live: |seed| live(seed, &[Fault::IsolateLeader, Fault::PauseLeader, Fault::CrashLeader, Fault::Halves]),
    seeds: 16,
};

/// Nodes lose their disks, and others join.
pub const NEWCOMERS: Campaign = Campaign {
    name: "newcomers",
    live: |seed| live(seed, &[Fault::Wipe, Fault::Join, Fault::Latency]),
    seeds: 3,
};

/// Wall clocks jump, and leaders change.
pub const CLOCKS: Campaign =
    Campaign { name: "clocks", live: |seed| live(seed, &[Fault::WallClock, Fault::HandOver]), seeds: 3 };

/// Who judges what was written and read.
const READ: [&str; 5] = ["registers", "counters", "transactions", "lists", "sets"];

/// The network is slow, and nobody looks into the nodes: what clients read must show it.
pub const READERS: Campaign = Campaign {
    name: "readers alone, slow",
    live: |seed| {
        let faults = &[Fault::Latency, Fault::SlowDisk];
        alone(seed, faults, &READ, 100)
    },
    seeds: 4,
};

/// Wall clocks jump, and holders of leases must show it.
pub const LEASES: Campaign = Campaign {
    name: "leases alone, clocks",
    live: |seed| alone(seed, &[Fault::WallClock], &["leases"], 250),
    seeds: 4,
};

/// All nodes lose power at once, and those must show it who were answered before.
pub const OUTAGES: Campaign = Campaign {
    name: "writers alone, outages",
    live: |seed| alone(seed, &[Fault::CrashAll], &READ, 100),
    seeds: 4,
};

/// All of them.
pub const ALL: [Campaign; 8] = [CALM, SLOW, CUTS, NEWCOMERS, CLOCKS, READERS, LEASES, OUTAGES];

fn live(seed: u64, faults: &'static [Fault]) -> Lived {
    let (base, seconds, think_ms) = if faults.is_empty() { (PEACE, 2, 100) } else { (WAR, 8, 250) };
    run(seed, &Plan { faults, think_ms, lasts: Duration::from_secs(seconds), ..base }).map(drop)
}

/// Judged by some who see what clients see, and by nobody else.
fn alone(seed: u64, faults: &'static [Fault], only: &'static [&'static str], think_ms: u64) -> Lived {
    let seconds = 4 + think_ms / 100;
    run(seed, &Plan { faults, only, think_ms, lasts: Duration::from_secs(seconds), ..WAR }).map(drop)
}
