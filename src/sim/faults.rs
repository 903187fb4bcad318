//! What happens to the cluster meanwhile.

use std::time::Duration;

use super::Dice;
use super::cluster::{Cluster, HOSTS};

/// A kind of misfortune. Each lasts for a while, and is then put right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Crash,
    CrashLeader,
    /// A power cut of all hosts.
    CrashAll,
    /// Two nodes do not reach each other.
    Partition,
    /// One direction between two nodes.
    Cut,
    /// A node reaches no other node; clients reach it.
    Isolate,
    IsolateLeader,
    Loss,
    Latency,
    SlowDisk,
    /// A node stands still, and goes on.
    Pause,
    PauseLeader,
    /// A sync fails, and the node stops.
    BadSync,
    /// A crash within a write, a sync or a renaming.
    CrashInWrite,
    /// A node's wall clock is set, up to a minute forward or back.
    WallClock,
}

impl Fault {
    /// Those through which every node goes on, and every client can reach every node in time.
    pub const BETWEEN_NODES: [Self; 6] =
        [Self::Partition, Self::Cut, Self::Isolate, Self::IsolateLeader, Self::Latency, Self::SlowDisk];

    /// Those after which no node has to start again.
    pub const SURVIVED: [Self; 10] = [
        Self::Partition,
        Self::Cut,
        Self::Isolate,
        Self::IsolateLeader,
        Self::Loss,
        Self::Latency,
        Self::SlowDisk,
        Self::Pause,
        Self::PauseLeader,
        Self::WallClock,
    ];

    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::Crash,
        Self::CrashLeader,
        Self::CrashAll,
        Self::Partition,
        Self::Cut,
        Self::Isolate,
        Self::IsolateLeader,
        Self::Loss,
        Self::Latency,
        Self::SlowDisk,
        Self::Pause,
        Self::PauseLeader,
        Self::BadSync,
        Self::CrashInWrite,
        Self::WallClock,
    ];
}

/// Brings one misfortune after another, until `end` of the world's time.
pub async fn run(cluster: Cluster, faults: &[Fault], end: Duration) {
    let env = cluster.world().client_env();
    let (clock, dice) = (env.clock, Dice(env.rng));
    while cluster.world().elapsed() < end && !faults.is_empty() {
        clock.sleep(Duration::from_millis(dice.below(1_500))).await;
        let fault = faults[dice.below(faults.len() as u64) as usize];
        let lasts = Duration::from_millis(100 + dice.below(3_500));
        strike(&cluster, &dice, fault, &*clock, lasts).await;
    }
}

async fn strike(
    cluster: &Cluster,
    dice: &Dice,
    fault: Fault,
    clock: &dyn crate::env::Clock,
    lasts: Duration,
) {
    let world = cluster.world();
    let place = dice.below(HOSTS.len() as u64) as usize;
    let (host, other) = (HOSTS[place], HOSTS[(place + 1) % HOSTS.len()]);
    let leader = cluster.leader().unwrap_or(host);
    let isolate = |host: &str| {
        for other in HOSTS.iter().filter(|other| **other != host) {
            world.partition(host, other);
        }
    };
    let ms = Duration::from_millis;
    cluster.note(&format!("{fault:?} of {host}, or of {leader} if it leads, for {lasts:?}"));
    match fault {
        Fault::Crash => world.crash(host),
        Fault::CrashLeader => world.crash(leader),
        Fault::CrashAll => HOSTS.iter().for_each(|host| world.crash(host)),
        Fault::Partition => world.partition(host, other),
        Fault::Cut => world.cut(host, other),
        Fault::Isolate => isolate(host),
        Fault::IsolateLeader => isolate(leader),
        Fault::Loss => world.set_loss(0.02 + dice.below(10) as f64 / 100.0),
        Fault::Latency => world.set_latency(ms(1), ms(5 + dice.below(60))),
        Fault::SlowDisk => world.set_disk_latency(host, ms(1), ms(5 + dice.below(80))),
        Fault::Pause => world.pause(host),
        Fault::PauseLeader => world.pause(leader),
        Fault::BadSync => world.fail_nth_sync(host, 1 + dice.below(20)),
        Fault::CrashInWrite => world.crash_at_disk_change(host, 1 + dice.below(40)),
        Fault::WallClock => world.jump_wall_clock(host, dice.below(120_000) as i64 - 60_000),
    }
    clock.sleep(lasts).await;
    cluster.note(&format!("{fault:?} ends"));
    match fault {
        Fault::Partition | Fault::Cut => world.heal_between(host, other),
        Fault::Isolate | Fault::IsolateLeader => {
            let host = if fault == Fault::Isolate { host } else { leader };
            HOSTS.iter().filter(|other| **other != host).for_each(|other| world.heal_between(host, other));
        }
        Fault::Loss => world.set_loss(0.0),
        Fault::Latency => world.set_latency(Duration::from_micros(50), Duration::from_micros(500)),
        Fault::SlowDisk => {
            world.set_disk_latency(host, Duration::from_micros(100), Duration::from_micros(400));
        }
        Fault::Pause => world.resume(host),
        Fault::PauseLeader => world.resume(leader),
        _ => {}
    }
    // Whatever fell, by this or by something earlier that waited for its moment, gets up again.
    cluster.start_all();
}
