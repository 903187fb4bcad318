//! Other people's clients, unchanged: every library takes the same steps, first with redis-server, which proves
//! that the steps are right, then with three nodes, and then it counts while the leader is killed.

#![allow(clippy::print_stdout)]

mod fred;
mod redis_cli;
mod redis_rs;

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use compat_tests::client::ask;
use compat_tests::cluster::{Cluster, PATIENCE};
use compat_tests::oracle::Oracle;
use compat_tests::program::{self, Driver, Talk};
use compat_tests::suite::source;
use compat_tests::{alone, wait_for};

/// What every library must be able to do; see README.md.
const STEPS: [&str; 6] = ["handshake", "pipeline", "transaction", "pubsub", "script", "reconnect"];

/// Increments that each count must get through before the leader is killed, and again after.
const INCREMENTS: u64 = 100;

/// What a driver works with.
struct Setting {
    protocol: u8,
    /// The node that it is connected to.
    home: SocketAddr,
    /// Another node, through which others interfere.
    other: SocketAddr,
    /// What all its keys begin with.
    prefix: String,
}

impl Setting {
    /// Starts a program of `clients/`.
    fn run(&self, mut program: Command) -> Result<Box<dyn Driver>> {
        program.args([self.protocol.to_string(), self.home.to_string(), self.other.to_string()]);
        Ok(Box::new(Talk::start(program.arg(&self.prefix))?))
    }
}

/// Runs a library with each protocol that it speaks.
fn judge(library: &str, protocols: &[u8], start: impl Fn(&Setting) -> Result<Box<dyn Driver>>) -> Result<()> {
    let _alone = alone();
    let setting =
        |protocol, home, other| Setting { protocol, home, other, prefix: format!("{library}:{protocol}") };

    let oracle = Oracle::start()?;
    for &protocol in protocols {
        take_steps(&mut *start(&setting(protocol, oracle.address(), oracle.address()))?)
            .context("with redis-server")?;
    }
    drop(oracle);

    let mut cluster = Cluster::start(3)?;
    let leader = cluster.leader()?;
    let home = cluster.nodes[cluster.follower()?].listen;
    let mut drivers = Vec::new();
    for &protocol in protocols {
        let setting = setting(protocol, home, cluster.nodes[leader].listen);
        let mut driver = start(&setting)?;
        take_steps(&mut *driver)?;
        drivers.push((setting, driver));
    }

    for (_, driver) in &mut drivers {
        driver.take("count")?;
    }
    wait_for_increments(&drivers)?;
    cluster.nodes[leader].kill();
    wait_for_increments(&drivers)?;
    for (setting, driver) in &mut drivers {
        let told = driver.take("stop").context("a surviving node's client sees no error")?;
        let (acknowledged, longest) = told.split_once(' ').context("two figures")?;
        println!(
            "{library}, RESP{}: {acknowledged} increments through a follower while the leader was killed, none lost \
             and none twice; the longest took {longest} ms",
            setting.protocol
        );
        for node in cluster.nodes.iter().filter(|node| node.pid().is_some()) {
            let counted = counter(node.listen, setting)?;
            ensure!(
                acknowledged.parse() == Ok(counted),
                "{acknowledged} increments were acknowledged, and {} has {counted}",
                node.listen
            );
        }
    }
    Ok(())
}

fn take_steps(driver: &mut dyn Driver) -> Result<()> {
    STEPS.iter().try_for_each(|step| driver.take(step).map(|_| ()))
}

/// Waits until every count has got that much further.
fn wait_for_increments(drivers: &[(Setting, Box<dyn Driver>)]) -> Result<()> {
    for (setting, _) in drivers {
        let goal = counter(setting.home, setting)? + INCREMENTS;
        wait_for("increments", PATIENCE, || Ok((counter(setting.home, setting)? >= goal).then_some(())))?;
    }
    Ok(())
}

fn counter(node: SocketAddr, setting: &Setting) -> Result<u64> {
    let reply = ask(node, &["GET", &format!("{}:count", setting.prefix)])?;
    reply.text().map_or(Ok(0), |text| Ok(std::str::from_utf8(text)?.parse()?))
}

#[test]
fn redis_py() -> Result<()> {
    judge("redis-py", &[2, 3], |setting| setting.run(program::python("redis_py.py")?))
}

#[test]
fn redis_asyncio() -> Result<()> {
    judge("redis.asyncio", &[2, 3], |setting| setting.run(program::python("redis_asyncio.py")?))
}

#[test]
fn node_redis() -> Result<()> {
    judge("node-redis", &[2, 3], |setting| setting.run(program::node("node_redis.mjs")?))
}

#[test]
fn ioredis() -> Result<()> {
    judge("ioredis", &[2, 3], |setting| setting.run(program::node("ioredis.mjs")?))
}

/// The version that Redis' own programs are made with.
#[test]
fn hiredis() -> Result<()> {
    const SOURCES: [&str; 7] =
        ["alloc.c", "async.c", "hiredis.c", "net.c", "read.c", "sds.c", "sockcompat.c"];
    let library = source::redis(Path::new(env!("CARGO_TARGET_TMPDIR")))?.join("deps/hiredis");
    let program = program::c("hiredis.c", &library, &SOURCES)?;
    judge("hiredis", &[2, 3], |setting| setting.run(Command::new(&program)))
}

#[test]
fn redis_cli() -> Result<()> {
    judge("redis-cli", &[2, 3], |setting| Ok(Box::new(redis_cli::RedisCli::new(setting)?)))
}

#[test]
fn redis_rs() -> Result<()> {
    judge("redis-rs", &[2, 3], |setting| Ok(Box::new(redis_rs::RedisRs::new(setting)?)))
}

#[test]
fn fred() -> Result<()> {
    judge("fred", &[2, 3], |setting| Ok(Box::new(fred::Fred::new(setting)?)))
}
