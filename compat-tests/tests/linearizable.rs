//! Eight clients do a bit of everything to three nodes, while leaders die and followers stand still; what they saw is judged by
//! checkers that know nothing of the server.

#![allow(clippy::print_stdout)]

use std::time::{Duration, Instant};

use anyhow::Result;
use compat_tests::cluster::Cluster;
use compat_tests::dice::Dice;
use compat_tests::traffic::Traffic;
use rustix::process::Signal;

const CLIENTS: usize = 8;
/// Rounds of a kill and a pause there are at least; more while `MINUTES` last.
const ROUNDS: usize = 2;
/// Answers before, during and after each fault.
const ANSWERS: u64 = 500;

#[test]
fn one_copy_could_have_answered_all_of_it() -> Result<()> {
    let seed = Dice::seed()?;
    let minutes = std::env::var("MINUTES").map_or(Ok(0), |minutes| minutes.parse::<u32>())?;
    let mut cluster = Cluster::start(3)?;
    let start = Instant::now();
    let traffic = Traffic::start(&cluster.addresses(), CLIENTS, seed)?;
    let mut rounds = 0;
    while rounds < ROUNDS || start.elapsed() < Duration::from_secs(60) * minutes {
        traffic.wait_for(2 * ANSWERS)?;
        let leader = cluster.leader()?;
        traffic.fault("kill", &format!("node {leader}"), || {
            cluster.nodes[leader].kill();
            traffic.wait_for(ANSWERS)?;
            cluster.nodes[leader].restart()
        })?;
        traffic.wait_for(2 * ANSWERS)?;
        let follower = cluster.follower()?;
        traffic.fault("pause", &format!("node {follower}"), || {
            cluster.nodes[follower].signal(Signal::STOP)?;
            // Long enough for those who wait for it to give up.
            traffic.wait_for(ANSWERS)?;
            cluster.nodes[follower].signal(Signal::CONT)
        })?;
        rounds += 1;
    }
    traffic.wait_for(2 * ANSWERS)?;
    let summary = traffic.finish()?;
    println!("{CLIENTS} clients, SEED={seed}: {summary}; {:?}", summary.faults);
    println!("judged: {:?}; still there: {} keys", summary.judged, summary.left);
    let rounds_answers = (1 + rounds as u64 * 6) * ANSWERS;
    summary.ensure_enough(rounds_answers, &[("kill", rounds), ("pause", rounds)])
}
