//! Power cuts: of a node, of the leader, of all nodes at once, under writers.

use anyhow::{Context, Result, bail, ensure};

use super::{Campaign, DISK_BYTES, Extent, Report, Rounds, agree, cluster_for};
use crate::lab::Lab;
use crate::lab::syscalls::LyingDisk;
use crate::lab::volume::Volume;
use crate::workload::Workload;

pub const CAMPAIGN: Campaign = Campaign {
    name: "power-cut",
    about: "file systems lose their power under writers; nothing acknowledged is lost, nothing refused is there, \
            and every node starts again by itself",
    run,
};

const WRITERS: usize = 8;
/// The least is each kind of cut twice.
const ROUNDS: Rounds = Rounds { least: 6, release: 300 };
/// Acknowledged writes between two cuts.
const WRITES: u64 = 150;

fn run(extent: &mut Extent) -> Result<Report> {
    let mut lab = Lab::prepare(3, DISK_BYTES)?;
    cluster_for(&mut lab)?;
    let workload = Workload::start(&lab.cluster.addresses(), WRITERS, "power-cut");
    let (mut of_one, mut of_leader, mut of_all) = (0, 0, 0);
    let mut rounds = 0;
    while extent.goes_on(rounds, &ROUNDS) {
        workload.wait_for(WRITES)?;
        let cut = match rounds % 3 {
            0 => {
                of_one += 1;
                vec![extent.dice.below(3)]
            }
            1 => {
                of_leader += 1;
                vec![lab.cluster.leader()?]
            }
            _ => {
                of_all += 1;
                vec![0, 1, 2]
            }
        };
        // All file systems stop before the first process does: nobody has time to save what others lost.
        cut.iter().try_for_each(|&number| lab.volumes[number].cut_power())?;
        cut.iter().try_for_each(|&number| lab.cut_power(number))?;
        if cut.len() == 1 {
            workload.wait_for(WRITES)?;
        }
        lab.cluster.start_all()?;
        rounds += 1;
    }
    workload.wait_for(WRITES)?;
    let record = workload.finish()?;
    lab.cluster.addresses().into_iter().try_for_each(|node| record.check(node))?;
    let digest = agree(&lab.cluster)?;
    let mut report = Report::default();
    report.add(
        "power cuts",
        format!(
            "{} ({of_one} of a node, {of_leader} of the leader, {of_all} of all)",
            of_one + of_leader + of_all
        ),
    );
    report.add("writes", record.summary());
    report.add_detail("digest of all nodes", digest);
    ensure!(of_one.min(of_leader).min(of_all) > 0, "not every kind of cut happened");
    Ok(report)
}

/// What the campaign would find of nodes that acknowledge what is not on their disks: here the disks lie about that. An
/// error says that it finds nothing.
pub fn finds_lost_syncs() -> Result<String> {
    let mut lab = Lab::prepare(3, DISK_BYTES)?;
    cluster_for(&mut lab)?;
    let workload = Workload::start(&lab.cluster.addresses(), WRITERS, "power-cut");
    workload.wait_for(WRITES)?;
    let pids = lab.cluster.nodes.iter().map(|node| node.pid().context("it runs"));
    let lies = pids.map(|pid| LyingDisk::of(pid?)).collect::<Result<Vec<_>>>()?;
    workload.wait_for(WRITES)?;
    lab.volumes.iter().try_for_each(Volume::cut_power)?;
    drop(lies);
    (0..3).try_for_each(|number| lab.cut_power(number))?;
    // A node may as well not start: it misses what it has voted, or its log has a hole.
    let started = lab.cluster.start_all();
    let record = workload.finish()?;
    if let Err(error) = started {
        return Ok(format!("{error:#}"));
    }
    match lab.cluster.addresses().into_iter().try_for_each(|node| record.check(node)) {
        Err(error) => Ok(format!("{error:#}")),
        Ok(()) => {
            bail!("nothing is lost without syncs, so that power cuts prove nothing: {}", record.summary())
        }
    }
}
