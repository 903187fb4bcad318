//! Disks that fail to sync, at each of a node's first syncs.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result, ensure};

use super::{Campaign, DISK_BYTES, DISK_FAILED, Extent, Report, Rounds, agree, cluster_for};
use crate::client::ask;
use crate::cluster::Node;
use crate::lab::syscalls::FailingDisk;
use crate::lab::{Lab, syscalls};
use crate::workload::Workload;

pub const CAMPAIGN: Campaign = Campaign {
    name: "sync-error",
    about: "a node's k-th sync fails, and all after it, or the first of its state: it ends by itself, the cluster goes \
            on, and on a good disk the node comes back with all that was acknowledged",
    run,
};

const WRITERS: usize = 8;
/// How many of the first syncs are to fail. As many rounds take each; the shortest run is spread over them.
const SYNCS: usize = 50;
const ROUNDS: Rounds = Rounds { least: 4, release: SYNCS };
const WRITES: u64 = 50;
/// How often it is the state's sync that fails instead.
const STATE_EVERY: usize = 4;

fn run(extent: &mut Extent) -> Result<Report> {
    let mut lab = Lab::prepare(3, DISK_BYTES)?;
    cluster_for(&mut lab)?;
    let workload = Workload::start(&lab.cluster.addresses(), WRITERS, "sync-error");
    let mut codes: BTreeMap<i32, usize> = BTreeMap::new();
    let (mut rounds, mut states) = (0, 0);
    while extent.goes_on(rounds, &ROUNDS) {
        let step = if extent.is_short() { SYNCS / ROUNDS.least } else { 1 };
        let sync = 1 + rounds * step % SYNCS;
        let number = extent.dice.below(3);
        let launcher = lab.network.enter(number);
        let node = lab.node(number);
        node.terminate()?;
        node.launcher = [launcher.clone(), syscalls::failing_syncs(sync)].concat();
        node.start()?;
        let status = node.wait_exit().with_context(|| format!("after its sync number {sync} failed"))?;
        let code = status.code().with_context(|| format!("sync {sync}: {status}"))?;
        ensure!(DISK_FAILED.contains(&code), "sync {sync}: it ended with {code}:\n{}", node.log_tail()?);
        *codes.entry(code).or_default() += 1;
        // Two of three go on.
        workload.wait_for(WRITES)?;
        let node = lab.node(number);
        node.launcher = launcher;
        node.restart()?;
        if rounds.is_multiple_of(STATE_EVERY) {
            fail_state(lab.node(number))?;
            states += 1;
            workload.wait_for(WRITES)?;
            lab.node(number).restart()?;
        }
        rounds += 1;
    }
    workload.wait_for(WRITES)?;
    let record = workload.finish()?;
    lab.cluster.addresses().into_iter().try_for_each(|node| record.check(node))?;
    let mut report = Report::default();
    report.add("nodes whose disk failed", rounds);
    report.add("exit codes", format!("{codes:?}"));
    report.add("nodes whose state failed", format!("{states}, each with code 71"));
    report.add("writes", record.summary());
    report.add_detail("digest of all nodes", agree(&lab.cluster)?);
    Ok(report)
}

/// The state cannot be synced, while the log can.
fn fail_state(node: &mut Node) -> Result<()> {
    let state = node.data.join("state");
    let current = state.join(fs::read_to_string(state.join("CURRENT"))?.trim()).join("data.mdb");
    let disk = FailingDisk::of_file(node.pid().context("it runs")?, &current)?;
    // Whoever asks for a checkpoint gets no answer, or an error.
    let answer = ask(node.listen, &["SAVE"]);
    let status = node.wait_exit().with_context(|| format!("SAVE: {answer:?}"))?;
    drop(disk);
    ensure!(
        status.code() == Some(71),
        "the state's sync failed, and it ended with {status}:\n{}",
        node.log_tail()?
    );
    Ok(())
}
