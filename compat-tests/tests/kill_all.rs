//! All nodes die at once, three times, under writers: nothing acknowledged is lost, no key with a deadline is
//! gone before it or there after it.

#![allow(clippy::print_stdout)]

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use compat_tests::client::Connection;
use compat_tests::cluster::Cluster;
use compat_tests::reply::Reply;
use compat_tests::wait_for;
use compat_tests::workload::Workload;
use rustix::process::Signal;

const ROUNDS: usize = 3;
const WRITERS: usize = 8;
/// How far the cluster's clock may be off after it was down: it goes on from wall clocks then.
const CLOCK_SLACK: Duration = Duration::from_millis(100);

#[test]
fn nothing_acknowledged_is_lost() -> Result<()> {
    let mut cluster = Cluster::start(3)?;
    let mut records = Vec::new();
    let mut leases = Vec::new();
    for round in 0..ROUNDS {
        let workload = Workload::start(&cluster.addresses(), WRITERS, &format!("kill-all:{round}"));
        workload.wait_for(500)?;
        let mut connection = cluster.nodes[round].connect()?;
        for (i, seconds) in [2, 3, 4, 5, 6, 8, 10, 3_600, 86_400].into_iter().enumerate() {
            let key = format!("lease:{round}:{i}");
            leases.push(Lease::take(&mut connection, key, Duration::from_secs(seconds))?);
        }
        workload.wait_for(500)?;

        for node in &cluster.nodes {
            node.signal(Signal::KILL)?;
        }
        let killed = Instant::now();
        cluster.nodes.iter_mut().for_each(|node| node.kill());
        let record = workload.finish()?;
        println!("round {}: all killed with -9: {}", round + 1, record.summary());
        records.push(record);
        cluster.start_all()?;
        println!("  all ready again after {:.1?}", killed.elapsed());

        let connection = &mut cluster.nodes[0].connect()?;
        let (mut alive, mut expired) = (0, 0);
        for lease in &leases {
            if lease.check(connection)? { alive += 1 } else { expired += 1 }
        }
        println!("  deadlines: {alive} keys still alive, {expired} expired");
    }
    // The counter is everybody's.
    let (mut sure, mut unknown) = (0, 0);
    for record in &mut records {
        sure += record.increments;
        unknown += record.increments_unknown;
        (record.increments, record.increments_unknown) = (sure, unknown);
    }
    let (last, earlier) = records.split_last().context("there were rounds")?;
    for node in cluster.addresses() {
        last.check(node)?;
        earlier.iter().try_for_each(|record| record.check_keys(node))?;
    }

    let connection = &mut cluster.nodes[1].connect()?;
    let mut latest = Duration::ZERO;
    for lease in leases.iter().filter(|lease| lease.time < Duration::from_secs(60)) {
        wait_for(&format!("{} to expire", lease.key), Duration::from_secs(20), || {
            Ok((!lease.check(connection)?).then_some(()))
        })?;
        latest = latest.max(lease.acknowledged.elapsed().saturating_sub(lease.time));
    }
    println!("all short deadlines passed; the last look came {latest:.1?} after the deadline");
    Ok(())
}

/// A key with a deadline. The cluster chose it between `sent + time` and `acknowledged + time`.
struct Lease {
    key: String,
    time: Duration,
    sent: Instant,
    acknowledged: Instant,
}

impl Lease {
    fn take(connection: &mut Connection, key: String, time: Duration) -> Result<Self> {
        let sent = Instant::now();
        let reply = connection.call(&["SET", &key, "held", "PX", &time.as_millis().to_string()])?;
        ensure!(reply == Reply::Status(b"OK".to_vec()), "{key}: {reply:?}");
        Ok(Self { key, time, sent, acknowledged: Instant::now() })
    }

    /// Whether it is there; an error if it should not be, or should be and is not, or has the wrong time
    /// left.
    fn check(&self, connection: &mut Connection) -> Result<bool> {
        let asked = Instant::now();
        let reply = connection.call(&["PTTL", &self.key])?;
        let answered = Instant::now();
        let least = self.time.saturating_sub(answered - self.sent);
        let most = self.time.saturating_sub(asked - self.acknowledged);
        match reply {
            Reply::Int(-2) => {
                ensure!(least <= CLOCK_SLACK, "{} is gone {least:?} too early", self.key);
                Ok(false)
            }
            Reply::Int(left @ 0..) => {
                let left = Duration::from_millis(left.unsigned_abs());
                ensure!(
                    left + CLOCK_SLACK >= least && left <= most + CLOCK_SLACK,
                    "{} has {left:?} left, and should have between {least:?} and {most:?}",
                    self.key
                );
                Ok(true)
            }
            other => bail!("PTTL {}: {other:?}", self.key),
        }
    }
}
