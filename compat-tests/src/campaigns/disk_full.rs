//! Disks that fill up under traffic, and are emptied.

use anyhow::{Result, ensure};

use super::{Campaign, DISK_BYTES, DISK_FAILED, Extent, Report, Rounds, agree, cluster_for};
use crate::client::ask;
use crate::cluster::PATIENCE;
use crate::lab::Lab;
use crate::reply::Reply;
use crate::wait_for;
use crate::workload::Workload;

pub const CAMPAIGN: Campaign = Campaign {
    name: "disk-full",
    about: "a node's disk, and then every disk, runs low under writers: growth is refused on all nodes, reads and DEL go \
            on, and nobody has to start again when there is room; a node without a single free block may end, and \
            the others go on",
    run,
};

const WRITERS: usize = 4;
/// One disk, and all at once.
const ROUNDS: Rounds = Rounds { least: 2, release: 20 };
const WRITES: u64 = 100;
/// What is left to live on: less than nodes want, more than they need.
const LEFT_BYTES: u64 = 96 << 20;

fn run(extent: &mut Extent) -> Result<Report> {
    let mut lab = Lab::prepare(3, DISK_BYTES)?;
    cluster_for(&mut lab)?;
    let nodes = lab.cluster.addresses();
    let workload = Workload::start(&nodes, WRITERS, "disk-full");
    let (mut rounds, mut exhausted, mut ended) = (0, 0, 0);
    while extent.goes_on(rounds, &ROUNDS) {
        workload.wait_for(WRITES)?;
        let key = format!("kept:{rounds}");
        ask(nodes[0], &["SET", &key, "here"])?;
        let full = if rounds % 2 == 1 {
            0..3
        } else {
            let one = extent.dice.below(3);
            one..one + 1
        };
        full.clone().try_for_each(|number| lab.volumes[number].fill(LEFT_BYTES))?;
        for &node in &nodes {
            wait_for(&format!("{node} to refuse growth"), PATIENCE, || {
                Ok(is_refused(ask(node, &["SET", "growth", "x"])).then_some(()))
            })?;
            ensure!(ask(node, &["GET", &key])? == Reply::Bulk(b"here".to_vec()), "{node} does not read");
            ensure!(is_refused(ask(node, &["EVAL", "return redis.call('APPEND', KEYS[1], 'x')", "1", &key])));
        }
        let deleted = ask(nodes[extent.dice.below(3)], &["DEL", &key])?;
        ensure!(deleted == Reply::Int(1), "DEL answers {deleted:?} when a disk is full");
        full.clone().try_for_each(|number| lab.volumes[number].empty())?;
        for &node in &nodes {
            wait_for(&format!("{node} to take growth again"), PATIENCE, || {
                Ok(ask(node, &["SET", "growth", "x"]).ok())
            })?;
        }
        rounds += 1;
        if rounds.is_multiple_of(2) {
            let number = extent.dice.below(3);
            ended += usize::from(exhaust(&mut lab, number, &workload)?);
            exhausted += 1;
        }
    }
    workload.wait_for(WRITES)?;
    let record = workload.finish()?;
    nodes.iter().try_for_each(|&node| record.check(node))?;
    for node in &mut lab.cluster.nodes {
        ensure!(node.is_running(), "a node ended:\n{}", node.log_tail()?);
    }
    let mut report = Report::default();
    report.add("disks filled and emptied", format!("{rounds} times, no node started again"));
    report.add("disks without a free block", format!("{exhausted}, at a checkpoint; {ended} nodes ended"));
    report.add("writes", record.summary());
    report.add_detail("digest of all nodes", agree(&lab.cluster)?);
    Ok(report)
}

/// Takes the last block of a disk, and has the node make a checkpoint. Returns whether that was its end. The others go on
/// either way, and with room it has everything.
fn exhaust(lab: &mut Lab, number: usize, workload: &Workload) -> Result<bool> {
    lab.volumes[number].fill(0)?;
    let others: Vec<_> =
        (0..3).filter(|&other| other != number).map(|other| lab.node(other).listen).collect();
    let node = lab.node(number);
    let has_ended = ask(node.listen, &["SAVE"]).is_err();
    if has_ended {
        let code = node.wait_exit()?.code();
        ensure!(
            code.is_some_and(|code| DISK_FAILED.contains(&code)),
            "it ended with {code:?}:\n{}",
            node.log_tail()?
        );
    }
    for &other in &others {
        wait_for(&format!("{other} to go on"), PATIENCE, || Ok(ask(other, &["DEL", "growth"]).ok()))?;
    }
    lab.volumes[number].empty()?;
    if has_ended {
        lab.node(number).restart()?;
    }
    workload.wait_for(WRITES)?;
    Ok(has_ended)
}

fn is_refused(reply: Result<Reply>) -> bool {
    reply.is_err_and(|error| error.to_string().contains("DISKFULL"))
}
