//! Clients that look for the leader, each in its way: as Sentinels' clients, as a cluster's, as Valkey's. First what
//! they are told, then other people's libraries that go by it while the leader is killed.

#![allow(clippy::print_stdout)]

mod fred;
mod numbers;
mod redis_rs;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use compat_tests::client::{Connection, ask, info};
use compat_tests::cluster::Cluster;
use compat_tests::oracle;
use compat_tests::program::{self, Driver, Talk};
use compat_tests::reply::Reply;
use compat_tests::{alone, free_ports, wait_for};

const MASTER: &str = "lockservice";
const PATIENCE: Duration = Duration::from_secs(30);

fn start() -> Result<Cluster> {
    Ok(start_with_sentinels()?.0)
}

/// A cluster, and where its nodes are Sentinels only.
fn start_with_sentinels() -> Result<(Cluster, [SocketAddr; 3])> {
    let mut cluster = Cluster::prepare(3)?;
    let sentinels = free_ports();
    for (node, sentinel) in cluster.nodes.iter_mut().zip(sentinels) {
        let sentinel = sentinel.to_string();
        let options =
            ["--cluster-enabled", "yes", "--sentinel-master-name", MASTER, "--sentinel-listen", &sentinel];
        node.options = options.map(str::to_owned).into();
    }
    cluster.start_all()?;
    cluster.leader()?;
    Ok((cluster, sentinels))
}

/// Whom this node takes for the master, asked as a Sentinel.
fn master(node: SocketAddr) -> Result<Option<SocketAddr>> {
    let reply = Connection::open(node)?.call(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER])?;
    let Reply::Array(words) = reply else { return Ok(None) };
    let words: Vec<String> = words.iter().map(text).collect::<Result<_>>()?;
    Ok(Some(words.join(":").parse()?))
}

fn text(reply: &Reply) -> Result<String> {
    match reply {
        Reply::Bulk(bytes) => Ok(String::from_utf8_lossy(bytes).into_owned()),
        other => anyhow::bail!("not a text: {other:?}"),
    }
}

#[test]
fn sentinels_clients_find_each_leader() -> Result<()> {
    let (mut cluster, sentinels) = start_with_sentinels()?;
    let leader = cluster.leader()?;
    let address = cluster.nodes[leader].listen;
    for sentinel in sentinels {
        ensure!(master(sentinel)? == Some(address), "{sentinel} sends clients to {:?}", master(sentinel)?);
        let role = ask(sentinel, &["ROLE"])?;
        let masters = Reply::Array(vec![Reply::Bulk(MASTER.into())]);
        ensure!(role == Reply::Array(vec![Reply::Bulk(b"sentinel".to_vec()), masters]), "{role:?}");
    }
    for node in cluster.addresses() {
        ensure!(master(node)? == Some(address), "{node} sends clients to {:?}", master(node)?);
        let role = Connection::open(node)?.call(&["ROLE"])?;
        let Reply::Array(role) = role else { anyhow::bail!("ROLE answers an array") };
        ensure!((text(&role[0])? == "master") == (node == address), "{node} is {role:?}");
    }

    let survivor = cluster.follower()?;
    let mut subscriber = cluster.nodes[survivor].connect()?;
    subscriber.set_patience(PATIENCE)?;
    subscriber.call(&["SUBSCRIBE", "+switch-master"])?;
    cluster.nodes[leader].kill();
    let Reply::Array(message) = subscriber.receive()? else { anyhow::bail!("a message is an array") };
    let message = text(message.last().context("a message has a payload")?)?;
    let words: Vec<&str> = message.split(' ').collect();
    ensure!(words[0] == MASTER && words[1..3].join(":") == address.to_string(), "{message}");
    let next: SocketAddr = words[3..].join(":").parse()?;
    println!("+switch-master {message}");

    let survivors: Vec<SocketAddr> =
        cluster.addresses().into_iter().filter(|node| *node != address).collect();
    ensure!(survivors.contains(&next), "{next} is not alive");
    for node in survivors {
        wait_for("the new leader's address", PATIENCE, || Ok((master(node)? == Some(next)).then_some(())))?;
    }
    Ok(())
}

#[test]
fn a_clusters_clients_find_one_shard() -> Result<()> {
    let cluster = start()?;
    let leader = cluster.nodes[cluster.leader()?].listen;
    for node in cluster.addresses() {
        let slots = Connection::open(node)?.call(&["CLUSTER", "SLOTS"])?;
        let Reply::Array(ranges) = slots else { anyhow::bail!("CLUSTER SLOTS answers an array") };
        let [Reply::Array(range)] = &ranges[..] else { anyhow::bail!("one range: {ranges:?}") };
        ensure!(range[..2] == [Reply::Int(0), Reply::Int(16383)], "{range:?}");
        let first = |member: &Reply| match member {
            Reply::Array(member) => Ok((text(&member[0])?, member[1].clone())),
            other => anyhow::bail!("not a node: {other:?}"),
        };
        let found = first(&range[2])?;
        ensure!(found == (leader.ip().to_string(), Reply::Int(leader.port().into())), "{node}: {found:?}");
        ensure!(range.len() == 5, "three nodes: {range:?}");
    }
    // redis-cli comes with the oracle.
    for node in cluster.addresses() {
        let run = |words: &[&str]| -> Result<String> {
            let port = node.port().to_string();
            let output = oracle::program("redis-cli")?.args(["-c", "-p", &port]).args(words).output()?;
            Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        };
        ensure!(run(&["SET", &format!("k{node}"), "v"])? == "OK");
        ensure!(run(&["GET", &format!("k{node}")])? == "v");
        ensure!(run(&["CLUSTER", "INFO"])?.contains("cluster_state:ok"));
        ensure!(run(&["CLUSTER", "NODES"])?.lines().count() == 3);
        ensure!(run(&["INFO", "cluster"])?.contains("cluster_enabled:1"));
    }
    Ok(())
}

#[test]
fn valkeys_clients_are_sent_to_the_leader_if_they_want() -> Result<()> {
    let cluster = start()?;
    let leader = cluster.nodes[cluster.leader()?].listen;
    let mut follower = cluster.nodes[cluster.follower()?].connect()?;
    let shown = |reply: &Reply| reply.render().join("\n");
    ensure!(shown(&follower.call(&["SET", "k", "v"])?) == "OK");
    follower.call(&["CLIENT", "CAPA", "redirect"])?;
    let redirect = format!("(error) REDIRECT {leader}");
    for command in [&["SET", "k", "w"][..], &["GET", "k"]] {
        let reply = shown(&follower.call(command)?);
        ensure!(reply == redirect, "{command:?}: {reply}");
    }
    follower.call(&["READONLY"])?;
    ensure!(shown(&follower.call(&["GET", "k"])?) == "\"v\"");
    ensure!(shown(&follower.call(&["SET", "k", "w"])?) == redirect);
    Ok(())
}

/// The replicas that `node` tells of, asked as a Sentinel: the fields of each.
fn replicas(node: SocketAddr) -> Result<Vec<BTreeMap<String, String>>> {
    let Reply::Array(replicas) = ask(node, &["SENTINEL", "REPLICAS", MASTER])? else {
        anyhow::bail!("SENTINEL REPLICAS answers an array")
    };
    let fields = |replica: &Reply| {
        let Reply::Array(words) = replica else { anyhow::bail!("not a replica: {replica:?}") };
        let words: Vec<String> = words.iter().map(text).collect::<Result<_>>()?;
        Ok(words.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect())
    };
    replicas.iter().map(fields).collect()
}

/// How many nodes `node` tells a cluster's client of.
fn nodes_of_the_shard(node: SocketAddr) -> Result<usize> {
    match ask(node, &["CLUSTER", "SLOTS"])? {
        Reply::Array(ranges) => match &ranges[..] {
            [Reply::Array(range)] => Ok(range.len() - 2),
            other => anyhow::bail!("one range: {other:?}"),
        },
        other => anyhow::bail!("not ranges: {other:?}"),
    }
}

#[test]
fn nobody_is_sent_to_a_node_that_is_down() -> Result<()> {
    let _alone = alone();
    let mut cluster = start()?;
    let nodes = cluster.addresses();
    let (leader, victim) = (cluster.leader()?, cluster.follower()?);
    let shown = |node: SocketAddr| -> Result<(String, usize, Option<String>)> {
        let found = replicas(node)?;
        let found = found.iter().find(|replica| replica["port"] == nodes[victim].port().to_string());
        let flags = found.context("it is a replica")?["flags"].clone();
        let followers = info(nodes[leader], "replication", "connected_slaves")?;
        Ok((flags, nodes_of_the_shard(node)?, followers))
    };
    let survivors: Vec<_> = nodes.iter().copied().filter(|node| *node != nodes[victim]).collect();
    let all_show = |flags: &str, members: usize, followers: &str| {
        let expected = (flags.to_owned(), members, Some(followers.to_owned()));
        wait_for(&format!("{expected:?}"), PATIENCE, || {
            let found = survivors.iter().map(|&node| shown(node)).collect::<Result<Vec<_>>>()?;
            Ok(found.iter().all(|found| *found == expected).then_some(()))
        })
    };
    all_show("slave", 3, "2")?;
    cluster.nodes[victim].kill();
    all_show("s_down,slave", 2, "1")?;
    cluster.nodes[victim].restart()?;
    all_show("slave", 3, "2")
}

#[test]
fn a_node_that_moved_is_told_of() -> Result<()> {
    let _alone = alone();
    let mut cluster = start()?;
    let nodes = cluster.addresses();
    let moves = [(cluster.follower()?, "follower.example"), (cluster.leader()?, "leader.example")];
    for (node, host) in moves {
        cluster.nodes[node].kill();
        let options = ["--replica-announce-ip", host, "--replica-announce-port", "7777"];
        cluster.nodes[node].options.extend(options.map(str::to_owned));
        cluster.nodes[node].restart()?;
        let moved = format!(" {host}:7777@");
        for &asked in &nodes {
            wait_for(&format!("{asked} to tell of {host}"), PATIENCE, || {
                Ok(text(&ask(asked, &["CLUSTER", "NODES"])?)?.contains(&moved).then_some(()))
            })?;
        }
    }
    // It is the cluster that knows: nobody has to be told again.
    for node in &mut cluster.nodes {
        node.kill();
    }
    cluster.start_all()?;
    for (_, host) in moves {
        for &asked in &nodes {
            let shown = text(&ask(asked, &["CLUSTER", "NODES"])?)?;
            ensure!(shown.contains(&format!(" {host}:7777@")), "{asked} tells of:\n{shown}");
        }
    }
    Ok(())
}

/// Numbers that each must have written before the leader is killed, and again after.
const NUMBERS: usize = 50;

const REDIS_RS: &str = "redis-rs-sentinel";
const FRED: &str = "fred-sentinel";

/// A client library in one of its ways to find the leader.
struct Finder {
    name: &'static str,
    program: Box<dyn Driver>,
}

impl Finder {
    fn start(name: &'static str, mut program: Command, how: &str, nodes: &[SocketAddr]) -> Result<Self> {
        program.args([how, MASTER, name]).args(nodes.iter().map(ToString::to_string));
        Self::begin(name, Box::new(Talk::start(&mut program)?))
    }

    fn begin(name: &'static str, mut program: Box<dyn Driver>) -> Result<Self> {
        program.take("work")?;
        program.take("write")?;
        Ok(Self { name, program })
    }

    /// The numbers that were written, and how often each was.
    fn written(&self, node: SocketAddr) -> Result<BTreeMap<u64, usize>> {
        let reply = ask(node, &["LRANGE", &format!("{}:numbers", self.name), "0", "-1"])?;
        let Reply::Array(numbers) = reply else { anyhow::bail!("LRANGE answers an array") };
        let mut written = BTreeMap::new();
        for number in &numbers {
            *written.entry(text(number)?.parse()?).or_default() += 1;
        }
        Ok(written)
    }

    /// Waits until it has written more.
    fn goes_on(&self, node: SocketAddr) -> Result<()> {
        let goal = self.written(node)?.len() + NUMBERS;
        wait_for(&format!("{} to write", self.name), PATIENCE, || {
            Ok((self.written(node)?.len() >= goal).then_some(()))
        })
    }

    /// Waits until it writes on a connection to the leader itself.
    fn finds(&self, leader: SocketAddr) -> Result<()> {
        let (called, pushing) = (format!(" name={} ", self.name), " cmd=rpush ");
        wait_for(&format!("{} to find {leader}", self.name), PATIENCE, || {
            let clients = text(&ask(leader, &["CLIENT", "LIST"])?)?;
            let mut lines = clients.lines();
            Ok(lines.any(|line| line.contains(&called) && line.contains(pushing)).then_some(()))
        })
    }

    /// Every number that was acknowledged must be there once, and those of unknown fate at most once.
    fn judge(&mut self, survivors: &[SocketAddr]) -> Result<()> {
        let told = self.program.take("stop")?;
        let mut words = told.split(' ');
        let mut word = || words.next().context("three words");
        let (attempted, longest): (u64, u64) = (word()?.parse()?, word()?.parse()?);
        let unknown: Vec<u64> =
            words.next().unwrap_or_default().split(',').filter_map(|number| number.parse().ok()).collect();
        println!(
            "{}: {attempted} numbers while the leader was killed, {} of them of unknown fate; the longest pause was {longest} ms",
            self.name,
            unknown.len()
        );
        for &node in survivors {
            let written = self.written(node)?;
            let often: Vec<_> = written.iter().filter(|(_, times)| **times > 1).collect();
            let lost: Vec<_> = (0..attempted)
                .filter(|number| !unknown.contains(number) && !written.contains_key(number))
                .collect();
            ensure!(often.is_empty() && lost.is_empty(), "{}: lost {lost:?}, doubled {often:?}", self.name);
        }
        Ok(())
    }
}

#[test]
fn other_peoples_clients_follow_the_leader() -> Result<()> {
    let _alone = alone();
    let (mut cluster, sentinels) = start_with_sentinels()?;
    let nodes = cluster.addresses();
    let python = || program::python("discovery.py");
    let node = || program::node("discovery.mjs");
    let mut finders = vec![
        Finder::start("redis-py-sentinel", python()?, "sentinel", &nodes)?,
        Finder::start("redis-py-cluster", python()?, "cluster", &nodes)?,
        Finder::start("ioredis-sentinel", node()?, "ioredis-sentinel", &nodes)?,
        Finder::start("ioredis-cluster", node()?, "ioredis-cluster", &nodes)?,
        Finder::start("node-redis-sentinel", node()?, "node-redis-sentinel", &nodes)?,
        Finder::start("node-redis-cluster", node()?, "node-redis-cluster", &nodes)?,
        Finder::begin(REDIS_RS, Box::new(redis_rs::sentinel(REDIS_RS, MASTER, &sentinels)?))?,
        Finder::begin(FRED, Box::new(fred::sentinel(FRED, MASTER, &nodes)?))?,
    ];
    let leader = cluster.leader()?;
    for finder in &finders {
        finder.goes_on(nodes[leader])?;
        finder.finds(nodes[leader])?;
    }
    cluster.nodes[leader].kill();
    let next = nodes[cluster.leader()?];
    for finder in &finders {
        finder.goes_on(next)?;
        // A cluster's client that asks while there is no leader is told of any node, and is well served there.
        if finder.name.ends_with("sentinel") {
            finder.finds(next)?;
        }
    }
    let survivors: Vec<_> = nodes.iter().copied().filter(|&node| node != nodes[leader]).collect();
    finders.iter_mut().try_for_each(|finder| finder.judge(&survivors))
}
