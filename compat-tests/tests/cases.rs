//! Every case file, on every kind of server. `UPDATE=1` makes the oracle's test record the expectations
//! instead.

#![allow(clippy::print_stdout)]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use compat_tests::alone;
use compat_tests::case::{Case, Item, find};
use compat_tests::cluster::Cluster;
use compat_tests::oracle::Oracle;
use compat_tests::runner::{Judge, check, record};

/// What Quorate offers, and so what has a file. `client-kill.txt` is a further file of `client`.
const COMMANDS: &[(&str, &str)] = &[
    ("connection", "asking auth client command echo hello ping quit readonly readwrite reset select"),
    (
        "strings",
        "append decr decrby delex delifeq digest get getdel getex getrange getset incr incrby incrbyfloat lcs mget mset msetnx psetex \
         set setex setnx setrange strlen",
    ),
    (
        "hashes",
        "hdel hexists hget hgetall hincrby hincrbyfloat hkeys hlen hmget hmset hrandfield hscan hset hsetnx \
         hstrlen hvals",
    ),
    (
        "lists",
        "blmove blmpop blpop brpop brpoplpush lindex linsert llen lmove lmpop lpop lpos lpush lpushx lrange lrem lset \
         ltrim rpop rpoplpush rpush rpushx",
    ),
    (
        "keys",
        "copy dbsize del exists expire expireat expiretime flushall flushdb keys object persist pexpire \
         pexpireat pexpiretime pttl randomkey rename renamenx scan touch ttl type unlink",
    ),
    ("transactions", "discard exec multi unwatch watch"),
    (
        "pubsub",
        "psubscribe publish pubsub punsubscribe spublish ssubscribe subscribe sunsubscribe unsubscribe",
    ),
    ("scripting", "eval eval_ro evalsha evalsha_ro fcall fcall_ro script"),
    (
        "server",
        "acl bgrewriteaof bgsave cluster config debug failover info lastsave latency lolwut memory module monitor replicaof \
         role save sentinel shutdown slaveof slowlog time wait",
    ),
];

/// What is about no one command.
const OTHERS: &[&str] = &[
    "connection/protocol.txt",
    "connection/unknown.txt",
    "pubsub/keyspace.txt",
    "scripting/bit.txt",
    "scripting/cjson.txt",
    "scripting/cmsgpack.txt",
    "scripting/function.txt",
    "scripting/string.txt",
    "scripting/struct.txt",
];

#[test]
fn oracle() -> Result<()> {
    let _alone = alone();
    let oracle = Oracle::start()?;
    if std::env::var_os("UPDATE").is_some() {
        for path in paths()? {
            let mut case = Case::read(&path)?;
            record(&mut case, oracle.address()).with_context(|| path.display().to_string())?;
            case.write()?;
        }
    }
    check_all("redis-server", oracle.address(), Judge::Redis)
}

#[test]
fn one_node() -> Result<()> {
    let _alone = alone();
    let cluster = Cluster::single()?;
    check_all("one node", cluster.nodes[0].listen, Judge::Quorate)
}

#[test]
fn three_nodes_through_the_leader() -> Result<()> {
    let _alone = alone();
    let cluster = Cluster::start(3)?;
    check_all("the leader", cluster.nodes[cluster.leader()?].listen, Judge::Quorate)
}

#[test]
fn three_nodes_through_a_follower() -> Result<()> {
    let _alone = alone();
    let cluster = Cluster::start(3)?;
    check_all("a follower", cluster.nodes[cluster.follower()?].listen, Judge::Quorate)
}

#[test]
fn every_command_has_a_file() -> Result<()> {
    let root = root();
    let mut expected: BTreeSet<PathBuf> = OTHERS.iter().map(|name| root.join(name)).collect();
    for (group, commands) in COMMANDS {
        for command in commands.split_whitespace() {
            let path = root.join(group).join(format!("{command}.txt"));
            ensure!(path.is_file(), "{} is missing", path.display());
            expected.insert(path);
        }
    }
    for path in paths()? {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let command = name.split('-').next().unwrap_or_default();
        ensure!(
            expected.contains(&path) || expected.contains(&path.with_file_name(format!("{command}.txt"))),
            "{} belongs to no command",
            path.display()
        );
    }
    Ok(())
}

/// Runs all files and reports all that failed, not the first.
fn check_all(server: &str, address: SocketAddr, judge: Judge) -> Result<()> {
    let start = Instant::now();
    let mut failures = Vec::new();
    let (mut files, mut steps) = (0, 0);
    for path in paths()? {
        let case = Case::read(&path)?;
        files += 1;
        steps += case
            .items
            .iter()
            .filter(|item| matches!(item, Item::Step(step) if step.action.replies()))
            .count();
        failures.extend(check(&case, address, judge));
    }
    println!(
        "{server}: {steps} replies of {files} files in {:.1?}, {} not as expected",
        start.elapsed(),
        failures.len()
    );
    if !failures.is_empty() {
        bail!("{} failures\n\n{}", failures.len(), failures.join("\n\n"));
    }
    Ok(())
}

/// The files to run: all, or those whose path has `CASE` in it.
fn paths() -> Result<Vec<PathBuf>> {
    let mut paths = find(&root())?;
    if let Ok(part) = std::env::var("CASE") {
        paths.retain(|path| path.display().to_string().contains(&part));
    }
    ensure!(!paths.is_empty(), "no case files");
    Ok(paths)
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("cases")
}
