//! Members that are taken out of a cluster for good, dead or alive, and what becomes of them.

use std::fs;
use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use compat_tests::alone;
use compat_tests::client::{Connection, ask, info};
use compat_tests::cluster::{Cluster, PATIENCE};
use compat_tests::wait_for;

/// What a node ends with that its cluster has taken out.
const FORGOTTEN: i32 = 73;

/// The name by which CLUSTER FORGET knows a node.
fn name(node: SocketAddr) -> Result<String> {
    let name = ask(node, &["CLUSTER", "MYID"])?;
    Ok(String::from_utf8_lossy(name.text().context("a name is text")?).into_owned())
}

/// What this node answers.
fn forget(node: SocketAddr, name: &str) -> Result<String> {
    Ok(Connection::open(node)?.call(&["CLUSTER", "FORGET", name])?.render().join("\n"))
}

/// Waits until this node knows of so many members.
fn knows(node: SocketAddr, members: usize) -> Result<()> {
    wait_for(&format!("{node} to know of {members} members"), PATIENCE, || {
        let nodes = ask(node, &["CLUSTER", "NODES"])?;
        let nodes = String::from_utf8_lossy(nodes.text().context("a line each")?).lines().count();
        Ok((nodes == members).then_some(()))
    })
}

fn start(size: usize) -> Result<Cluster> {
    let mut cluster = Cluster::prepare(size)?;
    for node in &mut cluster.nodes {
        node.options.extend(["--cluster-enabled", "yes"].map(str::to_owned));
    }
    cluster.start_all()?;
    cluster.leader()?;
    Ok(cluster)
}

#[test]
fn a_dead_member_is_taken_out_and_its_place_is_free() -> Result<()> {
    let _alone = alone();
    let mut cluster = start(3)?;
    let nodes = cluster.addresses();
    let leader = cluster.leader()?;
    let dead = cluster.follower()?;
    let other = (0..3).find(|number| ![leader, dead].contains(number)).context("three nodes")?;
    let id = name(nodes[dead])?;
    ask(nodes[leader], &["SET", "before", "1"])?;
    cluster.nodes[dead].kill();
    // Any node can be asked.
    wait_for("the dead member to be taken out", PATIENCE, || {
        Ok((forget(nodes[other], &id)? == "OK").then_some(()))
    })?;
    for node in [leader, other] {
        knows(nodes[node], 2)?;
        ensure!(forget(nodes[node], &id)? == format!("(error) ERR Unknown node {id}"));
    }
    ask(nodes[other], &["SET", "after", "2"])?;

    // Its disk says that it is a member; the cluster knows better, now and whenever it is asked again.
    for _ in 0..2 {
        cluster.nodes[dead].start()?;
        let code = cluster.nodes[dead].wait_exit()?.code();
        ensure!(code == Some(FORGOTTEN), "it ended with {code:?}:\n{}", cluster.nodes[dead].log_tail()?);
        knows(nodes[leader], 2)?;
    }
    fs::remove_dir_all(&cluster.nodes[dead].data)?;
    cluster.nodes[dead].restart()?;
    knows(nodes[dead], 3)?;
    ensure!(name(nodes[dead])? != id, "a new node has a name of its own");
    // It counts again.
    cluster.nodes[leader].kill();
    cluster.leader()?;
    ask(nodes[dead], &["SET", "again", "3"])?;
    for (key, value) in [("before", "\"1\""), ("after", "\"2\""), ("again", "\"3\"")] {
        ensure!(ask(nodes[other], &["GET", key])?.render() == [value], "{key}");
    }
    Ok(())
}

#[test]
fn a_living_member_that_is_taken_out_ends() -> Result<()> {
    let _alone = alone();
    let mut cluster = start(3)?;
    let nodes = cluster.addresses();
    let (leader, gone) = (cluster.leader()?, cluster.follower()?);
    let id = name(nodes[gone])?;
    // Who has not heard yet that it is a member asks to become one, and is let in.
    ask(nodes[leader], &["SET", "before", "1"])?;
    ask(nodes[gone], &["GET", "before"])?;
    ensure!(forget(nodes[leader], &id)? == "OK");
    let code = cluster.nodes[gone].wait_exit()?.code();
    ensure!(code == Some(FORGOTTEN), "it ended with {code:?}:\n{}", cluster.nodes[gone].log_tail()?);
    knows(nodes[leader], 2)?;
    ask(nodes[leader], &["SET", "after", "1"])?;
    Ok(())
}

#[test]
fn nobody_is_taken_out_whom_the_cluster_needs() -> Result<()> {
    let _alone = alone();
    let mut cluster = start(3)?;
    let nodes = cluster.addresses();
    let (leader, follower) = (cluster.leader()?, cluster.follower()?);
    let other = (0..3).find(|number| ![leader, follower].contains(number)).context("three nodes")?;
    for (asked, named, answer) in [
        (leader, leader, "I tried hard but I can't forget myself..."),
        (follower, follower, "I tried hard but I can't forget myself..."),
        (follower, leader, "Can't forget my master!"),
    ] {
        let reply = forget(nodes[asked], &name(nodes[named])?)?;
        ensure!(reply == format!("(error) ERR {answer}"), "{reply}");
    }
    ensure!(forget(nodes[leader], "nobody")? == "(error) ERR Unknown node nobody");
    let id = name(nodes[follower])?;
    cluster.nodes[other].kill();
    wait_for("the silence of the dead node to be noticed", PATIENCE, || {
        let followers = info(nodes[leader], "replication", "connected_slaves")?;
        Ok((followers.as_deref() == Some("1")).then_some(()))
    })?;
    let reply = forget(nodes[leader], &id)?;
    ensure!(reply == "(error) ERR Without this node those that are reachable are no majority", "{reply}");
    knows(nodes[leader], 3)
}
