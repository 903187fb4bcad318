//! Leases as Redis' users write them: many keys with short deadlines that are renewed at random.

#![allow(clippy::print_stdout)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use compat_tests::client::{Connection, ask};
use compat_tests::cluster::Cluster;
use compat_tests::dice::Dice;
use compat_tests::reply::Reply;
use compat_tests::{alone, wait_for};

const LEASES: usize = 50_000;
/// Deadlines lie this far ahead, in ms.
const LIFE_MS: std::ops::Range<usize> = 1_000..10_000;
const HOLDERS: usize = 4;
const PIPELINE: usize = 50;
const RENEWING: Duration = Duration::from_secs(8);
const QUIET: Duration = Duration::from_secs(3);

/// 50,000 leases are taken, renewed for a while, and then let go. Other clients' writes go on; every lease ends, and
/// `expired` is told as often as a lease came to be.
#[test]
fn many_leases_do_not_stop_others() -> Result<()> {
    let _alone = alone();
    let cluster = Cluster::start(3)?;
    let nodes = cluster.addresses();
    ask(nodes[0], &["CONFIG", "SET", "notify-keyspace-events", "Exn"])?;
    let (came, ended) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut subscriber = Connection::open(nodes[cluster.follower()?])?;
    subscriber.call(&["PSUBSCRIBE", "__keyevent@0__:*"])?;
    let counting = {
        let (came, ended) = (Arc::clone(&came), Arc::clone(&ended));
        thread::spawn(move || {
            while let Ok(Reply::Array(parts)) = subscriber.receive() {
                let text = |place: usize| parts.get(place).and_then(Reply::text).unwrap_or_default();
                if text(3).starts_with(b"lease:") {
                    let count = if text(2).ends_with(b"expired") { &ended } else { &came };
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
        })
    };

    let alone_times = bystand(nodes[1], QUIET, &AtomicBool::new(false))?;
    let stop = Arc::new(AtomicBool::new(false));
    let bystander = {
        let (node, stop) = (nodes[1], Arc::clone(&stop));
        thread::spawn(move || bystand(node, Duration::from_secs(600), &stop))
    };
    let began = Instant::now();
    let holders = (0..HOLDERS).map(|holder| {
        let node = nodes[holder % nodes.len()];
        thread::spawn(move || hold(node, holder))
    });
    let mut renewals = 0;
    for holder in holders.collect::<Vec<_>>() {
        let Ok(count) = holder.join() else { bail!("a holder panicked") };
        renewals += count?;
    }
    let held = began.elapsed();
    stop.store(true, Ordering::Relaxed);
    let Ok(held_times) = bystander.join() else { bail!("the bystander panicked") };

    let stop = Arc::new(AtomicBool::new(false));
    let bystander = {
        let (node, stop) = (nodes[1], Arc::clone(&stop));
        thread::spawn(move || bystand(node, Duration::from_secs(600), &stop))
    };
    let let_go = Instant::now();
    wait_for("the last lease to end", Duration::from_secs(120), || {
        let reply = ask(nodes[0], &["INFO", "keyspace"])?;
        let text = String::from_utf8_lossy(reply.text().context("INFO answers with text")?).into_owned();
        Ok((!text.contains("expires=") || text.contains("expires=0")).then_some(()))
    })?;
    let over = let_go.elapsed();
    stop.store(true, Ordering::Relaxed);
    let Ok(ending_times) = bystander.join() else { bail!("the bystander panicked") };
    let (came_before, ended_before) = (came.load(Ordering::Relaxed), ended.load(Ordering::Relaxed));
    wait_for("the last event", Duration::from_secs(60), || {
        Ok((came.load(Ordering::Relaxed) == ended.load(Ordering::Relaxed)).then_some(()))
    })
    .with_context(|| format!("{came_before} came, {ended_before} ended"))?;

    ensure!(renewals > 0, "no lease was renewed");
    println!("writes of a bystander alone:                    {}", figures(alone_times));
    println!(
        "while {LEASES} leases were taken and {renewals} renewed in {held:.1?}: {}",
        figures(held_times?)
    );
    println!("while they ended, within {over:.1?}:               {}", figures(ending_times?));
    println!("{} leases came to be, and as many have expired", came.load(Ordering::Relaxed));
    ensure!(came.load(Ordering::Relaxed) >= LEASES as u64, "every lease came to be");
    drop(cluster);
    ensure!(counting.join().is_ok(), "the subscriber panicked");
    Ok(())
}

/// Takes a share of the leases, then renews them at random.
fn hold(node: SocketAddr, holder: usize) -> Result<usize> {
    let mut connection = Connection::open(node)?;
    let mut dice = Dice::new(holder as u64);
    let share = LEASES / HOLDERS;
    let mut taken = None;
    let mut count = 0;
    while taken.is_none_or(|taken: Instant| taken.elapsed() < RENEWING) {
        let commands = (0..PIPELINE).map(|place| {
            let lease = if count < share { count + place } else { dice.below(share) };
            let life = LIFE_MS.start + dice.below(LIFE_MS.end - LIFE_MS.start);
            let words = ["SET", &format!("lease:{holder}:{lease}"), "held", "PX", &life.to_string()];
            words.map(str::to_owned).to_vec()
        });
        for reply in connection.pipeline(&commands.collect::<Vec<_>>())? {
            ensure!(reply == Reply::Status(b"OK".to_vec()), "a renewal: {reply:?}");
        }
        count += PIPELINE;
        if count >= share {
            taken.get_or_insert_with(Instant::now);
        }
    }
    Ok(count - share)
}

/// Writes one key after another until the time is over or somebody says so; how long each took.
fn bystand(node: SocketAddr, time: Duration, stop: &AtomicBool) -> Result<Vec<Duration>> {
    let mut connection = Connection::open(node)?;
    let mut times = Vec::new();
    let began = Instant::now();
    while began.elapsed() < time && !stop.load(Ordering::Relaxed) {
        let sent = Instant::now();
        let reply = connection.call(&["SET", "bystander", "v"])?;
        ensure!(reply == Reply::Status(b"OK".to_vec()), "a bystander's write: {reply:?}");
        times.push(sent.elapsed());
    }
    Ok(times)
}

fn figures(mut times: Vec<Duration>) -> String {
    times.sort();
    let at = |part: usize| times.get(times.len() * part / 1_000).copied().unwrap_or_default();
    format!(
        "{} writes, p50 {:.1?}, p99 {:.1?}, longest {:.1?}",
        times.len(),
        at(500),
        at(990),
        times.last().copied().unwrap_or_default()
    )
}
