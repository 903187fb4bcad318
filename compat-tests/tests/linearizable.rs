//! A write through one node is seen by the next read through another, every time.

#![allow(clippy::print_stdout)]

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use compat_tests::cluster::Cluster;
use compat_tests::reply::Reply;

/// How many pairs of a write and a read.
const ROUNDS: usize = 600;

#[test]
fn a_write_on_one_node_is_read_at_once_from_another() -> Result<()> {
    let cluster = Cluster::start(3)?;
    let mut connections: Vec<_> = cluster.nodes.iter().map(|node| node.connect()).collect::<Result<_>>()?;
    let mut stale = 0;
    let (mut writing, mut reading) = (Duration::ZERO, Duration::ZERO);
    for round in 0..ROUNDS {
        // Every pair of two different nodes takes its turn, and one key sees all of them.
        let writer = round % 3;
        let reader = (writer + 1 + round / 3 % 2) % 3;
        let value = round.to_string();
        let start = Instant::now();
        let reply = connections[writer].call(&["SET", "linearizable", &value])?;
        let written = Instant::now();
        ensure!(reply == Reply::Status(b"OK".to_vec()), "round {round}: {reply:?}");
        let reply = connections[reader].call(&["GET", "linearizable"])?;
        writing += written - start;
        reading += written.elapsed();
        match reply {
            Reply::Bulk(read) if read == value.as_bytes() => {}
            Reply::Bulk(_) | Reply::Nil => stale += 1,
            other => anyhow::bail!("round {round}: {other:?}"),
        }
    }
    let rounds = u32::try_from(ROUNDS)?;
    println!(
        "{ROUNDS} writes read back from another node: {stale} stale; a write took {:.2?}, a read {:.2?} on average",
        writing / rounds,
        reading / rounds
    );
    ensure!(stale == 0, "{stale} stale reads");
    Ok(())
}
