//! A whole cluster in one thread, decided by a seed: the real server on simulated hosts, clients that
//! remember what they saw, and everything that can happen to either.
//!
//! A run that fails says how to see it again: `SEED=7 cargo test sim`. With a seed given, only that one is
//! run, by each of the tests that choose by seed.
//!
//! Reading order: [`cluster`], [`client`], [`recorder`], [`workload`] (what clients do), [`subscriber`], [`faults`] (what
//! happens meanwhile), [`judge`] (what must be true of what they saw, by [`check`]), [`ledger`] (the same of every reply, by
//! where in the log it comes from), [`invariants`] (what must be true inside); then the tests here, and [`campaign`], which
//! goes through many seeds.

mod campaign;
mod cases;
pub mod check;
mod client;
mod cluster;
mod faults;
mod invariants;
mod judge;
mod ledger;
mod mutants;
mod recorder;
mod subscriber;
mod workload;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use check::leases::Allowance;
use client::{Answer, Client};
use cluster::{Cluster, HOSTS, REQUEST_TIMEOUT};
use faults::Fault;
use recorder::{Patron, nanoseconds};
use redis_protocol::resp2::types::BytesFrame;
use tokio::io::AsyncWriteExt;
use workload::{CHANNEL, LAST, Shared, TTL_MAX_MS};

use crate::env::sim::{self, World};
use crate::env::{Exit, Rng, TaskHandle};

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
    from_the_start: bool,
    /// Whether none of it makes a node stop.
    steady: bool,
    /// How much too early a key may end by the client's clock. When a quorum was down at once, the cluster's clock is set by
    /// a wall clock; if those are set at random, keys that were there then may end any time.
    early: Duration,
    /// How much too late.
    late: Duration,
    /// Which judges of what clients saw are asked; all, if none is named. Then there are no others: what happens inside of
    /// nodes is not looked at.
    only: &'static [&'static str],
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
    if plan.steady {
        cluster.stays_up();
    }
    if !plan.only.is_empty() {
        cluster.look_away();
    }
    if !plan.from_the_start {
        cluster.led(RECOVERY).await.ok_or("the cluster does not form")?;
    }
    let env = world.client_env();
    let shared = Shared::patient(plan.think_ms);
    let spawn = |task: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>| env.spawner.spawn(task);
    let mut number = 0;
    let mut clients = Vec::new();
    let mut patron = || {
        Patron::new(Client::new(cluster), shared.recorder.clone(), {
            number += 1;
            number
        })
    };
    for _ in 0..2 {
        clients.push(spawn(Box::pin(workload::write(patron(), shared.clone()))));
        clients.push(spawn(Box::pin(workload::compare(patron(), shared.clone()))));
        clients.push(spawn(Box::pin(workload::compare(patron(), shared.clone()))));
        clients.push(spawn(Box::pin(workload::count(patron(), shared.clone()))));
        clients.push(spawn(Box::pin(workload::transact(patron(), shared.clone()))));
        clients.push(spawn(Box::pin(workload::append(patron(), shared.clone()))));
        clients.push(spawn(Box::pin(workload::lease(patron(), shared.clone()))));
        clients.push(spawn(Box::pin(workload::lock(patron(), shared.clone()))));
        clients.push(spawn(Box::pin(workload::fill(patron(), shared.clone()))));
    }
    clients.push(spawn(Box::pin(workload::add(patron(), shared.clone()))));
    clients.push(spawn(Box::pin(workload::publish(patron(), shared.clone()))));
    clients.push(spawn(Box::pin(workload::tell(patron(), shared.clone()))));
    let subscribers = cluster.hosts().iter().zip(1..).map(|(host, number)| {
        spawn(Box::pin(subscriber::run(cluster.clone(), shared.clone(), host, number)))
    });
    let subscribers = subscribers.collect::<Vec<_>>();
    let end = world.elapsed() + plan.lasts;
    let misfortunes = (0..plan.sequences).map(|_| faults::run(cluster.clone(), plan.faults, end));
    futures_util::future::join_all(misfortunes).await;
    while world.elapsed() < end && cluster.sound().is_ok() {
        env.clock.sleep(Duration::from_millis(100)).await;
    }

    cluster.sound()?;
    // From here on all is well.
    world.heal();
    world.mend_disks();
    shared.end();
    let supervised = cluster.clone();
    let _supervisor = spawn(Box::pin(async move { supervised.keep_running().await }));
    let give_up = world.elapsed() + RECOVERY;
    if !ended(world, &clients, RECOVERY).await {
        return Err("a client is not answered".into());
    }
    cluster.settle(give_up.saturating_sub(world.elapsed())).await?;
    serve(cluster).await?;
    env.clock.sleep(subscriber::COMES_BACK).await;
    finish(cluster, &shared).await?;
    if !ended(world, &subscribers, RECOVERY).await {
        return Err("a subscriber never gets the last message".into());
    }
    judge(cluster, &shared, plan)
}

/// Waits for tasks to end. Whether they did, within `limit`.
async fn ended(world: &World, tasks: &[TaskHandle], limit: Duration) -> bool {
    let give_up = world.elapsed() + limit;
    let clock = world.client_env().clock;
    while tasks.iter().any(|task| !task.is_finished()) && world.elapsed() < give_up {
        clock.sleep(Duration::from_millis(100)).await;
    }
    tasks.iter().all(TaskHandle::is_finished)
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

/// Reads everything once more, through every node, and says so to the subscribers.
async fn finish(cluster: &Cluster, shared: &Shared) -> Result<(), String> {
    let reads = shared.recorder.write(|history| workload::reads(&history.operations));
    for (host, number) in cluster.hosts().iter().zip(1_000..) {
        let mut patron = Patron::new(Client::of(cluster, host), shared.recorder.clone(), number);
        let read = workload::read_all(&mut patron, &reads, RECOVERY).await;
        read.map_err(|what| format!("{host}: {what}"))?;
    }
    let mut last = Patron::new(Client::new(cluster), shared.recorder.clone(), 2_000);
    last.call(&["PUBLISH", CHANNEL, LAST]).await.ok_or("PUBLISH does not work")?;
    cluster.settle(RECOVERY).await
}

/// Whether anything that was seen, inside or outside, is wrong. Returns how many operations were answered.
fn judge(cluster: &Cluster, shared: &Shared, plan: &Plan) -> Result<usize, String> {
    cluster.sound()?;
    if let Some(silence) = cluster.silences().first().filter(|_| plan.prompt) {
        return Err(silence.clone());
    }
    if plan.faults.is_empty() {
        cluster.tally(|tally| tally.check_peace())?;
    }
    let allowance = Allowance {
        early_ns: nanoseconds(plan.early),
        late_ns: nanoseconds(plan.late),
        leaderless: Vec::new(),
        jumps: if plan.faults.contains(&Fault::WallClock) { jumps(cluster) } else { Vec::new() },
    };
    shared.recorder.write(|history| {
        for (name, operations, verdict) in judge::verdicts(history, &allowance) {
            if !plan.only.is_empty() && !plan.only.contains(&name) {
                continue;
            }
            verdict.to_result().map_err(|what| format!("{name}: {what}"))?;
            cluster.tally(|tally| *tally.judged.entry(name).or_default() += operations as u64);
        }
        let answered = history.operations.iter().filter(|operation| operation.answer().is_some()).count();
        let outcomes = cluster.outcomes().into_iter().chain(judge::outcomes(history));
        if plan.only.is_empty() {
            let judged = cluster.ledger().judge(answered);
            judged.verdict.to_result().map_err(|what| format!("revisions: {what}"))?;
            cluster.tally(|tally| {
                *tally.judged.entry("revisions").or_default() += judged.answered as u64;
                tally.outcomes.insert("groups sent again", judged.repeated);
            });
        }
        cluster.tally(|tally| tally.outcomes.extend(outcomes));
        Ok(answered)
    })
}

/// When the cluster's time went ahead by a wall clock, by the clients' clock.
fn jumps(cluster: &Cluster) -> Vec<(u64, u64)> {
    let world = cluster.world();
    let began = world.client_env().clock.monotonic().saturating_sub(world.elapsed());
    let jumps = cluster.jumps().into_iter();
    jumps.map(|(from, to)| (nanoseconds(began + from), nanoseconds(began + to))).collect()
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

/// How much too late a key may end among faults: time stands still without a leader.
const LATE: Duration = Duration::from_secs(20);

/// Nothing happens, and nothing is forgiven.
const PEACE: Plan = Plan {
    faults: &[],
    sequences: 2,
    from_the_start: false,
    steady: true,
    // The nodes' clocks count milliseconds.
    early: Duration::from_millis(2),
    late: Duration::from_millis(100),
    only: &[],
    prompt: true,
    lasts: Duration::from_secs(4),
    think_ms: 100,
};

/// Everything happens.
const WAR: Plan = Plan {
    faults: &Fault::ALL,
    steady: false,
    late: LATE,
    prompt: false,
    lasts: Duration::from_secs(15),
    ..PEACE
};

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
    let plan = Plan { faults, from_the_start: true, lasts: Duration::from_secs(8), ..WAR };
    check("a_cluster_that_forms_under_fire", 1..=2, &plan);
}

#[test]
fn a_cluster_whose_nodes_survive() {
    let plan =
        Plan { faults: &Fault::SURVIVED, lasts: Duration::from_secs(10), prompt: false, late: LATE, ..PEACE };
    check("a_cluster_whose_nodes_survive", 1..=2, &plan);
}

#[test]
fn a_cluster_whose_links_fail() {
    let plan = Plan { faults: &Fault::BETWEEN_NODES, lasts: Duration::from_secs(10), late: LATE, ..PEACE };
    check("a_cluster_whose_links_fail", 1..=2, &plan);
}

#[test]
fn a_cluster_with_honest_wall_clocks() {
    let faults = Fault::ALL.split_last().expect("there are faults").1;
    assert!(!faults.contains(&Fault::WallClock));
    let plan = Plan { faults, lasts: Duration::from_secs(10), ..WAR };
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

/// Each change of leaders costs the cluster's time what a message took. When all nodes were down, it goes on from where it
/// was, not from where their wall clocks are: keys would end early by as much.
#[test]
fn after_an_outage_no_key_ends_early() {
    const LIFE: Duration = Duration::from_secs(8);
    with_cluster(1, async |cluster| {
        let world = cluster.world();
        let clock = world.client_env().clock;
        let leader = cluster.leader().expect("it has formed");
        let slow = |latency| {
            let others = HOSTS.into_iter().filter(|host| *host != leader);
            others.for_each(|host| world.set_link_latency(leader, host, latency));
        };
        slow(Some((SECOND / 25, SECOND / 25)));
        clock.sleep(SECOND).await;
        assert!(Client::of(&cluster, leader).call(&["SET", "late", "1"]).await.is_reply());
        clock.sleep(SECOND).await;
        slow(None);
        world.crash(leader);
        cluster.led(RECOVERY).await.expect("two of three go on");
        let mut client = Client::of(&cluster, cluster.leader().expect("one leads"));
        let set = client.now();
        let life = LIFE.as_millis().to_string();
        assert!(client.call(&["SET", "key", "1", "PX", &life]).await.is_reply());
        HOSTS.into_iter().for_each(|host| world.crash(host));
        clock.sleep(SECOND).await;
        HOSTS.into_iter().for_each(|host| cluster.start(host));
        cluster.led(RECOVERY).await.expect("all are back");
        let margin = Duration::from_millis(20);
        let mut client = Client::of(&cluster, leader);
        clock.sleep((set + LIFE).saturating_sub(client.now() + margin)).await;
        assert_eq!(client.call(&["GET", "key"]).await.number(), Some(1));
        clock.sleep(margin * 2 + SECOND).await;
        assert_eq!(client.call(&["GET", "key"]).await.number(), Some(0), "it has ended");
    });
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
        let growth = client.call(&["SET", "key", "2"]).await;
        assert_eq!(growth, Answer::NotApplied, "growth on a low disk");
        assert_eq!(client.call(&["GET", "key"]).await.number(), Some(1));
        assert_eq!(client.call(&["DEL", "key"]).await.number(), Some(1));
        world.set_disk_capacity("n2", 64 << 30);
        clock.sleep(SECOND * 6).await;
        assert!(client.call(&["SET", "key", "3"]).await.is_reply());
        assert!(cluster.sound().is_ok() && world.exited("n2").is_none());
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

/// A node that was taken out of the cluster, dead or alive, ends when it hears of it, and is welcome with an empty disk.
#[test]
fn a_forgotten_node_ends_and_joins_anew() {
    with_cluster(1, async |cluster| {
        let world = cluster.world();
        let mut client = Client::of(&cluster, "n1");
        assert!(client.call(&["SET", "key", "1"]).await.is_reply());
        for crashes in [true, false] {
            let leader = cluster.led(RECOVERY).await.expect("somebody leads");
            let host = if leader == "n3" { "n2" } else { "n3" };
            let number = cluster.number(host).to_string();
            // It hears that it is a member, and writes that down.
            world.client_env().clock.sleep(SECOND).await;
            if crashes {
                world.crash(host);
            }
            let forget = Client::of(&cluster, leader).call(&["CLUSTER", "FORGET", &number]).await;
            assert!(forget.is_reply(), "{forget:?}");
            if crashes {
                cluster.start(host);
            }
            let give_up = world.elapsed() + RECOVERY;
            while world.exited(host) != Some(Exit::Forgotten) {
                assert!(world.elapsed() < give_up, "it lives on");
                world.client_env().clock.sleep(SECOND / 10).await;
            }
            assert_eq!(Client::of(&cluster, leader).call(&["GET", "key"]).await.number(), Some(1));
            cluster.start_all();
            cluster.settle(RECOVERY).await.expect("it joins anew");
            assert_ne!(cluster.number(host).to_string(), number);
        }
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

/// What was published while a node was away is in no snapshot. It must not go on as if nothing were missing.
#[test]
fn a_node_that_is_sent_a_snapshot_disconnects_its_subscribers() {
    with_cluster(1, async |cluster| {
        let world = cluster.world();
        let env = world.client_env();
        let mut stream = env.net.connect("n3:6379").await.expect("it listens");
        stream.write_all(b"*2\r\n$9\r\nSUBSCRIBE\r\n$4\r\nnews\r\n").await.expect("it is there");
        let mut received = bytes::BytesMut::new();
        client::receive(&mut stream, &mut received).await.expect("it confirms");
        let mut client = Client::of(&cluster, "n1");
        let text = "x".repeat(2_000);
        for round in 0..10 {
            world.pause("n3");
            while !client.call(&["PUBLISH", "news", &format!("missed {round}")]).await.is_reply() {}
            for _ in 0..50 {
                while !client.call(&["SET", "key", &text]).await.is_reply() {}
            }
            // Whoever led may keep its log for the one that is away; the next one makes a checkpoint and lets go of it.
            world.crash("n2");
            cluster.start("n2");
            env.clock.sleep(SECOND * 6).await;
            world.resume("n3");
            cluster.settle(RECOVERY).await.expect("it catches up");
            while !client.call(&["PUBLISH", "news", &format!("after {round}")]).await.is_reply() {}
            for message in ["missed", "after"] {
                let wanted = format!("{message} {round}");
                match client::receive(&mut stream, &mut received).await {
                    // It was sent a snapshot.
                    None => return,
                    Some(BytesFrame::Array(items)) => {
                        assert_eq!(items[2], BytesFrame::BulkString(wanted.into()));
                    }
                    Some(other) => panic!("{other:?}"),
                }
            }
        }
        panic!("it was never sent a snapshot");
    });
}
