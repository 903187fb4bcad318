//! The leader dies five times under writers; what it acknowledged lives on.

#![allow(clippy::print_stdout)]

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use compat_tests::cluster::Cluster;
use compat_tests::workload::Workload;

const KILLS: usize = 5;
const WRITERS: usize = 8;

#[test]
fn no_acknowledged_write_is_lost() -> Result<()> {
    let mut cluster = Cluster::start(3)?;
    let workload = Workload::start(&cluster.addresses(), WRITERS, "kill-leader");
    let mut outages = Vec::new();
    for _ in 0..KILLS {
        workload.wait_for(500)?;
        let leader = cluster.leader()?;
        let killed = Instant::now();
        cluster.nodes[leader].kill();
        // More than can have been on its way from the dead leader.
        workload.wait_for(100)?;
        outages.push((killed, Instant::now()));
        cluster.nodes[leader].restart()?;
    }
    workload.wait_for(500)?;
    let record = workload.finish()?;

    let mut gaps: Vec<_> = outages.iter().map(|&(from, to)| record.longest_gap(from, to)).collect();
    gaps.sort();
    println!("{KILLS} x kill -9 of the leader under {WRITERS} writers: {}", record.summary());
    println!("gaps without an acknowledgement: median {:.0?} of {gaps:.0?}", gaps[KILLS / 2]);
    for node in cluster.addresses() {
        record.check(node)?;
    }
    ensure!(
        gaps[KILLS - 1] < Duration::from_secs(10),
        "the cluster was without a leader for {:?}",
        gaps[KILLS - 1]
    );
    Ok(())
}
