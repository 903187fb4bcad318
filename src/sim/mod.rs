//! A whole cluster in one thread, decided by a seed: the real server on simulated hosts, clients that
//! remember what they saw, and everything that can happen to either.
//!
//! A run that fails says how to see it again: `SEED=7 cargo test sim`. With a seed given, only that one is
//! run, by each of the tests that choose by seed.
//!
//! Reading order: [`cluster`], [`client`], [`workload`] (what clients do), [`faults`] (what happens meanwhile),
//! [`history`] (what must be true of what they saw), [`invariants`] (what must be true inside); then the tests here,
//! and [`campaign`], which goes through many seeds.

mod campaign;
mod cases;
pub mod check;
mod client;
mod cluster;
mod faults;
mod history;
mod invariants;
mod workload;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use client::{Answer, Client};
use cluster::{Cluster, HOSTS, REQUEST_TIMEOUT};
use faults::Fault;
use redis_protocol::resp2::types::BytesFrame;
use workload::Shared;

use crate::env::Rng;
use crate::env::sim::{self, World};

/// Counters that many clients increment.
const COUNTERS: &[&str] = &["counter-a", "counter-b"];
const SECOND: Duration = Duration::from_secs(1);
/// How long a cluster may take to recover once nothing is wrong any more.
const RECOVERY: Duration = Duration::from_secs(30);

/// Somebody's chance, from the run's seed.
#[derive(Clone)]
pub struct Dice(Arc<dyn Rng>);

impl Dice {
    /// A number below `limit`.
    pub fn below(&self, limit: u64) -> u64 {
        self.0.next_u64() % limit.max(1)
    }

    /// Any number.
    pub fn next_u64(&self) -> u64 {
        self.0.next_u64()
    }
}

/// What a run is made of.
struct Plan {
    /// What may happen, in each of the sequences that go on at once.
    faults: &'static [Fault],
    sequences: usize,
    /// Whether it may happen before the cluster has formed.
    early: bool,
    /// For how much of its time a key must be there, in percent. When a quorum was down at once, the cluster's clock
    /// is set by a wall clock, and those are set at random among the faults.
    kept_percent: u32,
    /// Whether every client must be answered in time, be it with an error.
    prompt: bool,
    lasts: Duration,
    /// How long a client thinks between two requests at most, in ms.
    think_ms: u64,
}

/// Runs a cluster by a plan, and checks everything. Returns the trace's hash, and how much was answered.
fn run(seed: u64, plan: &Plan) -> Result<(u64, usize), String> {
    sim::run(seed, async |world| {
        let checked = live(&world, plan).await;
        let hash = world.trace_hash();
        checked.map(|answered| (hash, answered))
    })
}

async fn live(world: &World, plan: &Plan) -> Result<usize, String> {
    let cluster = Cluster::new(world);
    let lived = live_in(&cluster, plan).await;
    lived.map_err(|failure| format!("{failure}\n{}", cluster.diary()))
}

async fn live_in(cluster: &Cluster, plan: &Plan) -> Result<usize, String> {
    let world = cluster.world();
    cluster.start_all();
    if !plan.early {
        cluster.led(RECOVERY).await.ok_or("the cluster does not form")?;
    }
    let env = world.client_env();
    let shared = Shared::patient(plan.think_ms);
    let spawn = |task: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>| env.spawner.spawn(task);
    let client = || Client::new(cluster);
    let mut clients = Vec::new();
    for number in 0..2 {
        clients.push(spawn(Box::pin(workload::write(client(), shared.clone(), number))));
        clients.push(spawn(Box::pin(workload::increment(client(), shared.clone(), COUNTERS))));
        clients.push(spawn(Box::pin(workload::transact(client(), shared.clone()))));
        clients.push(spawn(Box::pin(workload::watch_ends(client(), shared.clone(), number))));
        clients.push(spawn(Box::pin(workload::fill(client(), shared.clone()))));
    }
    for _ in 0..3 {
        clients.push(spawn(Box::pin(workload::read(client(), shared.clone(), COUNTERS))));
    }
    let end = world.elapsed() + plan.lasts;
    let misfortunes = (0..plan.sequences).map(|_| faults::run(cluster.clone(), plan.faults, end));
    futures_util::future::join_all(misfortunes).await;
    while world.elapsed() < end && cluster.failures().is_empty() {
        env.clock.sleep(Duration::from_millis(100)).await;
    }

    if let Some(failure) = cluster.failures().first() {
        return Err(failure.clone());
    }
    // From here on all is well.
    world.heal();
    shared.end();
    let supervised = cluster.clone();
    let _supervisor = spawn(Box::pin(async move { supervised.keep_running().await }));
    let give_up = world.elapsed() + RECOVERY;
    while clients.iter().any(|client| !client.is_finished()) {
        if world.elapsed() > give_up {
            return Err("a client is not answered".into());
        }
        env.clock.sleep(Duration::from_millis(100)).await;
    }
    cluster.settle(give_up.saturating_sub(world.elapsed())).await?;
    serve(cluster).await?;
    finish(cluster, &shared, plan).await
}

/// Writes ten times and reads ten times, at any node: all of it must work, at once.
async fn serve(cluster: &Cluster) -> Result<(), String> {
    // For so long a disk that has room again may still count as low.
    cluster.world().client_env().clock.sleep(SECOND * 6).await;
    for number in 1..=10 {
        let text = number.to_string();
        let set = Client::new(cluster).call(&["SET", "in the end", &text]).await;
        let get = Client::new(cluster).call(&["GET", "in the end"]).await;
        if !set.is_reply() || get.number() != Some(number) {
            return Err(format!("it does not serve: {set:?} {get:?}"));
        }
    }
    Ok(())
}

/// Looks at everything once more, through every node, and checks what was seen.
async fn finish(cluster: &Cluster, shared: &Shared, plan: &Plan) -> Result<usize, String> {
    let world = cluster.world();
    let registers = {
        let history = shared.history.lock().expect("no holder panics");
        history.registers.keys().cloned().collect::<Vec<_>>()
    };
    for host in cluster.hosts() {
        let mut client = Client::of(cluster, host);
        let give_up = world.elapsed() + RECOVERY;
        let keys = registers.iter().map(String::as_str).chain(COUNTERS.iter().copied());
        for key in keys {
            let (start, value) = loop {
                let start = client.now();
                if let Some(value) = client.call(&["GET", key]).await.number() {
                    break (start, value);
                }
                if world.elapsed() > give_up {
                    return Err(format!("{host} does not answer any more"));
                }
            };
            let span = history::Span { start, end: client.now() };
            let mut history = shared.history.lock().expect("no holder panics");
            if let Some(register) = history.registers.get_mut(key) {
                register.reads.push((value, span));
            }
            if let Some(counter) = history.counters.get_mut(key) {
                counter.reads.push((value, span));
                counter.check_sum(value).map_err(|what| format!("{key}, on {host}: {what}"))?;
            }
        }
    }
    cluster.settle(RECOVERY).await?;
    if let Some(failure) = cluster.failures().first() {
        return Err(failure.clone());
    }
    if let Some(silence) = cluster.silences().first().filter(|_| plan.prompt) {
        return Err(silence.clone());
    }
    let history = shared.history.lock().expect("no holder panics");
    history.check(plan.kept_percent)?;
    Ok(history.answered())
}

/// Runs `plan` with each of `seeds`, or with the one that is asked for.
#[track_caller]
fn check(test: &str, seeds: std::ops::RangeInclusive<u64>, plan: &Plan) {
    let asked = std::env::var("SEED").ok().map(|seed| seed.parse().expect("SEED is a number"));
    let seeds = asked.map_or(seeds, |seed: u64| seed..=seed);
    for seed in seeds {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(seed, plan)));
        let failure = match outcome {
            Ok(Ok((_, answered))) if answered > 0 => continue,
            Ok(Ok(_)) => "nothing was answered".to_owned(),
            Ok(Err(failure)) => failure,
            Err(_) => "it panicked, see above".to_owned(),
        };
        panic!("{failure}\nSEED={seed} cargo test --lib sim::{test}");
    }
}

/// Nothing happens, and nothing is forgiven.
const PEACE: Plan = Plan {
    faults: &[],
    sequences: 2,
    early: false,
    kept_percent: 100,
    prompt: true,
    lasts: Duration::from_secs(4),
    think_ms: 100,
};

/// Everything happens.
const WAR: Plan =
    Plan { faults: &Fault::ALL, kept_percent: 0, prompt: false, lasts: Duration::from_secs(15), ..PEACE };

#[test]
fn a_cluster_in_peace() {
    check("a_cluster_in_peace", 1..=1, &PEACE);
}

#[test]
fn a_cluster_through_everything() {
    check("a_cluster_through_everything", 1..=3, &WAR);
}

#[test]
fn a_cluster_that_forms_under_fire() {
    let faults = &[Fault::Crash, Fault::CrashAll, Fault::Cut, Fault::Loss, Fault::CrashInWrite];
    let plan = Plan { faults, early: true, lasts: Duration::from_secs(8), ..WAR };
    check("a_cluster_that_forms_under_fire", 1..=2, &plan);
}

#[test]
fn a_cluster_whose_nodes_survive() {
    let plan = Plan { faults: &Fault::SURVIVED, lasts: Duration::from_secs(10), prompt: false, ..PEACE };
    check("a_cluster_whose_nodes_survive", 1..=2, &plan);
}

#[test]
fn a_cluster_whose_links_fail() {
    let plan = Plan { faults: &Fault::BETWEEN_NODES, lasts: Duration::from_secs(10), ..PEACE };
    check("a_cluster_whose_links_fail", 1..=2, &plan);
}

#[test]
fn a_cluster_with_honest_wall_clocks() {
    let faults = Fault::ALL.split_last().expect("there are faults").1;
    assert!(!faults.contains(&Fault::WallClock));
    let plan = Plan { faults, kept_percent: 100, lasts: Duration::from_secs(10), ..WAR };
    check("a_cluster_with_honest_wall_clocks", 1..=2, &plan);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let plan = Plan { lasts: Duration::from_secs(4), ..WAR };
    assert_eq!(run(11, &plan), run(11, &plan));
    assert_ne!(run(11, &plan).map(|(hash, _)| hash), run(12, &plan).map(|(hash, _)| hash));
}

/// Runs `scenario` against a cluster that has just formed.
fn with_cluster<T>(seed: u64, scenario: impl AsyncFnOnce(Cluster) -> T) -> T {
    sim::run(seed, async |world| {
        let cluster = Cluster::new(&world);
        cluster.start_all();
        cluster.led(RECOVERY).await.expect("it forms");
        cluster.settle(RECOVERY).await.expect("nothing is wrong");
        scenario(cluster).await
    })
}

/// A leader's followers may have entries that its own disk never got. If it comes back before anybody misses it,
/// it must not go on leading in the same term: it would give the indexes of those entries to others.
#[test]
fn a_leader_that_comes_back_at_once_does_not_lead_on() {
    with_cluster(1, async |cluster| {
        let world = cluster.world();
        let leader = cluster.leader().expect("it has formed");
        world.set_disk_latency(leader, SECOND, SECOND);
        let mut client = Client::of(&cluster, leader);
        let writing = client.call(&["SET", "key", "lost by the leader"]);
        let clock = world.client_env().clock;
        futures_util::future::join(writing, async {
            clock.sleep(Duration::from_millis(100)).await;
            world.crash(leader);
        })
        .await;
        world.set_disk_latency(leader, Duration::ZERO, Duration::ZERO);
        cluster.start(leader);
        let mut client = Client::new(&cluster);
        while client.call(&["SET", "key", "2"]).await != Answer::Reply(BytesFrame::SimpleString("OK".into()))
        {
        }
        cluster.settle(RECOVERY).await.expect("the nodes hold the same");
    });
}

/// A node that starts again and leads asks the others for the time: its own wall clock, wrong by a minute, ends no
/// key early.
#[test]
fn a_wrong_wall_clock_ends_no_key() {
    let mut led = 0;
    for seed in 1..=6 {
        led += with_cluster(seed, async |cluster| {
            let world = cluster.world();
            let leader = cluster.leader().expect("it has formed");
            let mut others = HOSTS.into_iter().filter(|host| *host != leader);
            let (wrong, right) = (others.next().expect("two follow"), others.next().expect("two follow"));
            let mut client = Client::of(&cluster, right);
            let set = client.call(&["SET", "key", "1", "PX", "30000"]).await;
            assert!(matches!(set, Answer::Reply(_)), "{set:?}");
            world.crash(leader);
            world.crash(wrong);
            world.jump_wall_clock(wrong, 60_000);
            cluster.start(wrong);
            cluster.led(RECOVERY).await.expect("two of three go on");
            assert_eq!(client.call(&["GET", "key"]).await.number(), Some(1));
            usize::from(cluster.leader() == Some(wrong))
        });
    }
    assert!(led > 0, "the node whose clock is wrong never led");
}

/// A node that is left alone says so, to those who write and to those who read, whether it led or followed.
#[test]
fn without_a_quorum_clients_are_told_in_time() {
    for led in [true, false] {
        with_cluster(1, async |cluster| {
            let leader = cluster.leader().expect("it has formed");
            let left = HOSTS.into_iter().find(|host| (*host == leader) == led).expect("there are both");
            let others = HOSTS.into_iter().filter(|host| *host != left);
            others.for_each(|host| cluster.world().crash(host));
            let mut client = Client::of(&cluster, left);
            for (command, outcome) in [
                (&["SET", "key", "1"][..], Answer::Unknown),
                (&["SET", "key", "2"], Answer::NotApplied),
                (&["GET", "key"], Answer::NotApplied),
            ] {
                let start = client.now();
                assert_eq!(client.call(command).await, outcome, "{command:?}");
                let waited = client.now() - start;
                assert!(waited < REQUEST_TIMEOUT + SECOND, "{command:?}: {waited:?}");
            }
        });
    }
}

/// While a disk anywhere has little room, growth is refused and all else goes on; once there is room, everything does.
#[test]
fn a_low_disk_refuses_growth_until_there_is_room() {
    with_cluster(1, async |cluster| {
        let (world, mut client) = (cluster.world(), Client::of(&cluster, "n1"));
        let clock = world.client_env().clock;
        assert!(client.call(&["SET", "key", "1"]).await.is_reply());
        world.set_disk_capacity("n2", 100 << 20);
        clock.sleep(SECOND * 4).await;
        assert_eq!(client.call(&["SET", "key", "2"]).await, Answer::NotApplied);
        assert_eq!(client.call(&["GET", "key"]).await.number(), Some(1));
        assert_eq!(client.call(&["DEL", "key"]).await.number(), Some(1));
        world.set_disk_capacity("n2", 64 << 30);
        clock.sleep(SECOND * 6).await;
        assert!(client.call(&["SET", "key", "3"]).await.is_reply());
        assert!(cluster.failures().is_empty() && world.exited("n2").is_none());
    });
}

/// A node that nobody knew joins, and the cluster then survives the loss of another.
#[test]
fn a_node_joins() {
    with_cluster(1, async |cluster| {
        let mut client = Client::of(&cluster, "n1");
        assert!(client.call(&["SET", "key", "1"]).await.is_reply());
        assert!(cluster.grow());
        cluster.settle(RECOVERY).await.expect("it becomes a member");
        cluster.world().crash("n1");
        cluster.led(RECOVERY).await.expect("the others go on");
        assert_eq!(Client::of(&cluster, "n4").call(&["GET", "key"]).await.number(), Some(1));
    });
}

/// A node whose disk was wiped comes back in its own place: the cluster then survives the loss of another.
#[test]
fn a_wiped_node_takes_its_place_again() {
    with_cluster(1, async |cluster| {
        let mut client = Client::new(&cluster);
        assert!(matches!(client.call(&["SET", "key", "1"]).await, Answer::Reply(_)));
        for host in ["n3", "n1"] {
            cluster.world().crash(host);
            cluster.led(RECOVERY).await.expect("the others go on");
            cluster.start_wiped(host);
            cluster.settle(RECOVERY).await.expect("it takes its place");
        }
        cluster.world().crash("n2");
        cluster.led(RECOVERY).await.expect("the others go on");
        let mut client = Client::of(&cluster, "n3");
        assert_eq!(client.call(&["GET", "key"]).await.number(), Some(1));
    });
}

/// A node that was away for longer than the log reaches is sent a snapshot. It crashes at one step of its return
/// after another, and stands with the others in the end each time.
#[test]
fn a_node_crashes_at_every_step_of_catching_up() {
    with_cluster(1, async |cluster| {
        let world = cluster.world();
        let clock = world.client_env().clock;
        let mut client = Client::of(&cluster, "n1");
        let text = "x".repeat(1_000);
        for step in 1..=40 {
            world.crash("n3");
            for round in 0..20 {
                let key = format!("key-{}", round % 7);
                while !matches!(client.call(&["SET", &key, &text]).await, Answer::Reply(_)) {}
            }
            // The others make a checkpoint, and let go of their log.
            clock.sleep(SECOND * 4).await;
            cluster.start("n3");
            world.crash_at_disk_change("n3", step);
            clock.sleep(SECOND).await;
            cluster.start_all();
            let settled = cluster.settle(RECOVERY).await;
            settled.unwrap_or_else(|failure| panic!("crashed at step {step}: {failure}"));
        }
    });
}
