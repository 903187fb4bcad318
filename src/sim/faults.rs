//! What happens to the cluster meanwhile.

use std::time::Duration;

use super::Dice;
use super::client::Client;
use super::cluster::Cluster;
use crate::env::Clock;

/// A kind of misfortune. Each lasts for a while, and is then put right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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
    /// The nodes fall into two parts, which clients reach both.
    Halves,
    /// Each node reaches only its neighbours in a ring, or in a row if there are no more than three.
    Ring,
    /// A link comes and goes.
    Flap,
    /// One node after another is cut off, and they come back in another order.
    Swizzle,
    Loss,
    Latency,
    /// A link carries some kilobytes a second.
    SlowLink,
    SlowDisk,
    /// A disk takes seconds for everything.
    StuckDisk,
    /// A disk has little room left: growth is refused.
    LowDisk,
    /// A disk has none: the node may stop.
    FullDisk,
    /// A node stands still, and goes on.
    Pause,
    PauseLeader,
    /// A sync fails, and the node stops.
    BadSync,
    /// A crash within a write, a sync or a renaming.
    CrashInWrite,
    /// The operator lets another node lead.
    HandOver,
    /// A node's disk is replaced by an empty one.
    Wipe,
    /// A node joins.
    Join,
    /// The operator takes a node out, dead or alive, which then comes back as it was, and at last with an empty disk.
    Forget,
    /// A node's wall clock is set, up to a minute forward or back.
    WallClock,
}

impl Fault {
    /// Those through which every node goes on, and every client can reach every node in time.
    pub const BETWEEN_NODES: [Self; 6] =
        [Self::Partition, Self::Cut, Self::Isolate, Self::IsolateLeader, Self::Latency, Self::SlowDisk];

    /// Those after which no node has to start again.
    pub const SURVIVED: [Self; 16] = [
        Self::Partition,
        Self::Cut,
        Self::Isolate,
        Self::IsolateLeader,
        Self::Halves,
        Self::Ring,
        Self::Flap,
        Self::Swizzle,
        Self::Loss,
        Self::Latency,
        Self::SlowLink,
        Self::SlowDisk,
        Self::LowDisk,
        Self::Pause,
        Self::PauseLeader,
        Self::WallClock,
    ];

    /// All of them.
    pub const ALL: [Self; 27] = [
        Self::Crash,
        Self::CrashLeader,
        Self::CrashAll,
        Self::Partition,
        Self::Cut,
        Self::Isolate,
        Self::IsolateLeader,
        Self::Halves,
        Self::Ring,
        Self::Flap,
        Self::Swizzle,
        Self::Loss,
        Self::Latency,
        Self::SlowLink,
        Self::SlowDisk,
        Self::StuckDisk,
        Self::LowDisk,
        Self::FullDisk,
        Self::Pause,
        Self::PauseLeader,
        Self::BadSync,
        Self::CrashInWrite,
        Self::HandOver,
        Self::Wipe,
        Self::Join,
        Self::Forget,
        Self::WallClock,
    ];
}

/// Brings one misfortune after another, until `end` of the world's time.
pub async fn run(cluster: Cluster, faults: &[Fault], end: Duration) {
    let env = cluster.world().client_env();
    let (clock, dice) = (env.clock, Dice(env.rng));
    while cluster.world().elapsed() < end && cluster.sound().is_ok() && !faults.is_empty() {
        clock.sleep(Duration::from_millis(dice.below(1_500))).await;
        let fault = faults[dice.below(faults.len() as u64) as usize];
        let lasts = Duration::from_millis(100 + dice.below(3_500));
        strike(&cluster, &dice, fault, &*clock, lasts).await;
    }
}

async fn strike(cluster: &Cluster, dice: &Dice, fault: Fault, clock: &dyn Clock, lasts: Duration) {
    let world = cluster.world();
    let hosts = cluster.hosts();
    let place = dice.below(hosts.len() as u64) as usize;
    let (host, other) = (hosts[place], hosts[(place + 1) % hosts.len()]);
    let leader = cluster.leader().unwrap_or(host);
    let ms = Duration::from_millis;
    cluster.note(&format!("{fault:?} of {host}, or of {leader} if it leads, for {lasts:?}"));
    // What is cut, to be healed.
    let mut cuts: Vec<(&str, &str)> = Vec::new();
    let around = |host| hosts.iter().filter(move |other| **other != host).map(move |other| (host, *other));
    let pairs =
        || hosts.iter().enumerate().flat_map(|(at, one)| hosts[at + 1..].iter().map(move |two| (*one, *two)));
    let refusals = world.disk_struck(host).refusals;
    let mut struck = match fault {
        Fault::Crash | Fault::Pause => world.is_up(host),
        Fault::CrashLeader | Fault::PauseLeader => world.is_up(leader),
        Fault::CrashAll => hosts.iter().any(|host| world.is_up(host)),
        // Their moment is still to come: the world counts them then.
        Fault::BadSync | Fault::CrashInWrite => false,
        _ => true,
    };
    match fault {
        Fault::Crash => world.crash(host),
        Fault::CrashLeader => world.crash(leader),
        Fault::CrashAll => hosts.iter().for_each(|host| world.crash(host)),
        Fault::Partition => cuts.push((host, other)),
        Fault::Cut => world.cut(host, other),
        Fault::Isolate => cuts.extend(around(host)),
        Fault::IsolateLeader => cuts.extend(around(leader)),
        Fault::Halves => {
            let side = dice.next_u64();
            let of = |host: &str| side >> hosts.iter().position(|one| *one == host).unwrap_or(0) & 1;
            cuts.extend(pairs().filter(|(one, two)| of(one) != of(two)));
            struck = !cuts.is_empty();
        }
        Fault::Ring => {
            let at = |host: &str| hosts.iter().position(|one| *one == host).unwrap_or(0);
            let closed = hosts.len() > 3;
            let near = |one: &str, two: &str| {
                let apart = at(one).abs_diff(at(two));
                apart == 1 || closed && apart == hosts.len() - 1
            };
            cuts.extend(pairs().filter(|(one, two)| !near(one, two)));
        }
        Fault::Loss => world.set_loss(0.02 + dice.below(10) as f64 / 100.0),
        Fault::Latency => world.set_latency(ms(1), ms(5 + dice.below(60))),
        Fault::SlowLink => {
            let rate = Some(4_000 << dice.below(6));
            world.set_bandwidth(host, other, rate);
            world.set_bandwidth(other, host, rate);
        }
        Fault::SlowDisk => world.set_disk_latency(host, ms(1), ms(5 + dice.below(80))),
        Fault::StuckDisk => world.set_disk_latency(host, ms(500), ms(2_500)),
        Fault::LowDisk => world.set_disk_capacity(host, 100 << 20),
        Fault::FullDisk => world.disk_full(host, true),
        Fault::Pause => world.pause(host),
        Fault::PauseLeader => world.pause(leader),
        Fault::BadSync => world.fail_nth_sync(host, 1 + dice.below(20)),
        Fault::CrashInWrite => world.crash_at_disk_change(host, 1 + dice.below(40)),
        Fault::HandOver => {
            let answer = Client::of(cluster, leader).call(&["FAILOVER", "TIMEOUT", "1000"]).await;
            struck = answer.is_reply();
        }
        // A second before the first is replaced could cost what is on the two only.
        Fault::Wipe => {
            struck = cluster.check_members().is_ok();
            if struck {
                world.crash(host);
                cluster.start_wiped(host);
            }
        }
        Fault::Join => struck = cluster.check_members().is_ok() && cluster.grow(),
        Fault::Forget => {
            struck = cluster.check_members().is_ok() && host != leader;
            if struck {
                let number = cluster.number(host);
                if dice.below(2) == 0 {
                    world.crash(host);
                }
                let forget = ["CLUSTER", "FORGET", &number.to_string()];
                struck = Client::of(cluster, leader).call(&forget).await.is_reply();
            }
        }
        Fault::WallClock => world.jump_wall_clock(host, dice.below(120_000) as i64 - 60_000),
        Fault::Flap | Fault::Swizzle => {}
    }
    for (one, two) in &cuts {
        world.partition(one, two);
    }
    match fault {
        Fault::Flap => {
            for _ in 0..6 {
                world.partition(host, other);
                clock.sleep(lasts / 12).await;
                world.heal_between(host, other);
                clock.sleep(lasts / 12).await;
            }
        }
        Fault::Swizzle => {
            let chosen = hosts.iter().copied().filter(|_| dice.below(2) == 0).collect::<Vec<_>>();
            for host in &chosen {
                around(host).for_each(|(one, two)| world.partition(one, two));
                clock.sleep(lasts / 8).await;
            }
            struck = !chosen.is_empty();
            let first = dice.below(chosen.len() as u64) as usize;
            for host in chosen[first.min(chosen.len())..].iter().chain(&chosen[..first.min(chosen.len())]) {
                around(host).for_each(|(one, two)| world.heal_between(one, two));
                clock.sleep(lasts / 8).await;
            }
        }
        _ => clock.sleep(lasts).await,
    }
    if fault == Fault::FullDisk {
        struck = world.disk_struck(host).refusals > refusals;
    }
    if struck {
        cluster.tally(|tally| *tally.faults.entry(fault).or_default() += 1);
    }
    cluster.note(&format!("{fault:?} ends"));
    for (one, two) in &cuts {
        world.heal_between(one, two);
    }
    match fault {
        Fault::Cut => world.heal_between(host, other),
        Fault::Loss => world.set_loss(0.0),
        Fault::Latency => world.set_latency(Duration::from_micros(50), Duration::from_micros(500)),
        Fault::SlowLink => {
            world.set_bandwidth(host, other, None);
            world.set_bandwidth(other, host, None);
        }
        Fault::SlowDisk | Fault::StuckDisk => {
            world.set_disk_latency(host, Duration::from_micros(100), Duration::from_micros(400));
        }
        Fault::LowDisk => world.set_disk_capacity(host, 64 << 30),
        Fault::FullDisk => world.disk_full(host, false),
        Fault::Pause => world.resume(host),
        Fault::PauseLeader => world.resume(leader),
        _ => {}
    }
    // Whatever fell, by this or by something earlier that waited for its moment, gets up again.
    cluster.start_all();
}
