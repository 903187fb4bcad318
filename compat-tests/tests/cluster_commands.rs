//! CLUSTER's questions about keys and slots, where the nodes show themselves as a cluster: the same answers as from a
//! redis-server that has all slots.

use anyhow::{Context, Result, ensure};
use compat_tests::alone;
use compat_tests::client::{Connection, ask};
use compat_tests::cluster::Cluster;
use compat_tests::oracle::Oracle;

/// What both must answer the same, one after the other.
const SAME: &[&[&str]] = &[
    &["CLUSTER", "KEYSLOT", "foo"],
    &["CLUSTER", "KEYSLOT", ""],
    &["CLUSTER", "KEYSLOT", "{user1000}.following"],
    &["CLUSTER", "KEYSLOT", "foo{}{bar}"],
    &["CLUSTER", "KEYSLOT", "foo{{bar}}zap"],
    &["CLUSTER", "KEYSLOT", "foo{bar}{zap}"],
    &["CLUSTER", "KEYSLOT", "{unclosed"],
    &["MSET", "{tag}b", "1", "{tag}a", "2", "{tag}c", "3"],
    &["HSET", "{tag}d", "field", "value"],
    &["SET", "{other}a", "4"],
    &["CLUSTER", "COUNTKEYSINSLOT", "8338"],
    &["CLUSTER", "COUNTKEYSINSLOT", "0"],
    &["CLUSTER", "COUNTKEYSINSLOT", "16383"],
    &["CLUSTER", "COUNTKEYSINSLOT", "16384"],
    &["CLUSTER", "COUNTKEYSINSLOT", "-1"],
    &["CLUSTER", "COUNTKEYSINSLOT", "x"],
    &["CLUSTER", "COUNTKEYSINSLOT"],
    &["CLUSTER", "GETKEYSINSLOT", "8338", "100"],
    &["CLUSTER", "GETKEYSINSLOT", "8338", "0"],
    &["CLUSTER", "GETKEYSINSLOT", "0", "10"],
    &["CLUSTER", "GETKEYSINSLOT", "16384", "10"],
    &["CLUSTER", "GETKEYSINSLOT", "8338", "-1"],
    &["CLUSTER", "GETKEYSINSLOT", "8338", "x"],
    &["CLUSTER", "GETKEYSINSLOT", "8338"],
    &["DEL", "{tag}a", "{tag}d"],
    &["CLUSTER", "COUNTKEYSINSLOT", "8338"],
    &["CLUSTER", "GETKEYSINSLOT", "8338", "100"],
    &["PEXPIREAT", "{tag}b", "1"],
    &["CLUSTER", "GETKEYSINSLOT", "8338", "100"],
    &["FLUSHALL"],
    &["CLUSTER", "COUNTKEYSINSLOT", "8338"],
    &["CLUSTER", "COUNT-FAILURE-REPORTS", "nobody"],
    &["CLUSTER", "REPLICAS", "nobody"],
    &["CLUSTER", "LINKS"],
    &["CLUSTER", "NOTHING"],
    &["READONLY"],
    &["READWRITE"],
    &["ASKING"],
];

#[test]
fn slots_have_the_keys_that_they_have_in_redis() -> Result<()> {
    let _alone = alone();
    let oracle = Oracle::start_as_cluster()?;
    let mut cluster = Cluster::prepare(3)?;
    for node in &mut cluster.nodes {
        node.options = ["--cluster-enabled", "yes"].map(str::to_owned).into();
    }
    cluster.start_all()?;
    let (leader, follower) = (cluster.leader()?, cluster.follower()?);
    for node in [leader, follower] {
        let (mut ours, mut theirs) = (cluster.nodes[node].connect()?, Connection::open(oracle.address())?);
        for command in SAME {
            let sorted = |connection: &mut Connection| -> Result<Vec<String>> {
                let mut shown = connection.call(command)?.render();
                // The order of a slot's keys means nothing.
                if command.contains(&"GETKEYSINSLOT") {
                    shown
                        .iter_mut()
                        .for_each(|line| *line = line.split_once(") ").unwrap_or(("", line)).1.to_owned());
                    shown.sort_unstable();
                }
                Ok(shown)
            };
            let (found, expected) = (sorted(&mut ours)?, sorted(&mut theirs)?);
            ensure!(found == expected, "{command:?}: {found:#?}\nwhere redis-server says {expected:#?}");
        }
    }
    Ok(())
}

#[test]
fn nothing_changes_the_one_shard() -> Result<()> {
    let _alone = alone();
    let mut cluster = Cluster::prepare(1)?;
    cluster.nodes[0].options = ["--cluster-enabled", "yes"].map(str::to_owned).into();
    cluster.start_all()?;
    let node = cluster.nodes[0].listen;
    ask(node, &["SET", "k", "v"])?;
    let shown = || -> Result<Vec<String>> { Ok(ask(node, &["CLUSTER", "SLOTS"])?.render()) };
    let before = shown()?;
    let id = ask(node, &["CLUSTER", "MYID"])?;
    let id = String::from_utf8_lossy(id.text().context("an id is text")?).into_owned();
    for change in [
        &["ADDSLOTS", "1"][..],
        &["ADDSLOTSRANGE", "1", "2"],
        &["BUMPEPOCH"],
        &["DELSLOTS", "1"],
        &["DELSLOTSRANGE", "1", "2"],
        &["FAILOVER"],
        &["FLUSHSLOTS"],
        &["MEET", "127.0.0.1", "1"],
        &["REPLICATE", &id],
        &["RESET", "HARD"],
        &["SAVECONFIG"],
        &["SET-CONFIG-EPOCH", "1"],
        &["SETSLOT", "1", "STABLE"],
    ] {
        let words: Vec<&str> = ["CLUSTER"].iter().chain(change).copied().collect();
        let reply = Connection::open(node)?.call(&words)?.render().join("\n");
        ensure!(reply.starts_with("(error) ERR The slots are one shard's"), "{words:?}: {reply}");
        ensure!(shown()? == before, "{words:?} changed something");
    }
    ensure!(ask(node, &["GET", "k"])?.render() == ["\"v\""]);
    Ok(())
}
