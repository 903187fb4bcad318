//! A node that nobody reached for long serves soon after it is reached again.

#![allow(clippy::print_stdout)]

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use compat_tests::client::ask;
use compat_tests::lab::{self, Lab};
use compat_tests::{alone, wait_for};

const DISK_BYTES: u64 = 1 << 30;
/// TCP sends again what nobody has confirmed, each time after twice as long as before: after 25 s, say, and then after 51.
const CUT: Duration = Duration::from_secs(27);
/// How soon it has to serve again.
const SOON: Duration = Duration::from_secs(5);

#[test]
fn a_follower_serves_soon_after_a_long_cut() -> Result<()> {
    let _alone = alone();
    lab::possible().context("real faults need root, and what a machine for them has")?;
    let lab = Lab::start(3, DISK_BYTES)?;
    let leader = lab.cluster.leader()?;
    let follower = (leader + 1) % 3;
    let address = lab.cluster.nodes[follower].listen;
    let writes = || ask(address, &["SET", "key", "value"]).is_ok();
    ensure!(writes(), "it does not serve");
    lab.network.isolate(follower)?;
    let cut = Instant::now();
    while cut.elapsed() < CUT {
        ensure!(!writes(), "it wrote without a quorum");
    }
    lab.network.join()?;
    let joined = Instant::now();
    wait_for("a write through the follower", Duration::from_secs(60), || Ok(writes().then_some(())))?;
    println!("cut off for {:.1?}, it served after {:.1?}", joined - cut, joined.elapsed());
    ensure!(joined.elapsed() < SOON, "it served only after {:.1?}", joined.elapsed());
    Ok(())
}
