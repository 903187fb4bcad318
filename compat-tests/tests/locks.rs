//! Other people's lock libraries, unchanged: twenty contenders for each lock on three nodes whose leader is killed.
//! The programs count what must not happen, by fencing tokens; `clients/python/locks.py` says how.

#![allow(clippy::print_stdout)]

use std::fmt;
use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use compat_tests::client::ask;
use compat_tests::cluster::{Cluster, PATIENCE};
use compat_tests::oracle::Oracle;
use compat_tests::program::{self, Driver, Talk};
use compat_tests::{alone, wait_for};

/// How often the leader is killed, at least; more often while `MINUTES` last.
const KILLS: usize = 2;

/// Sections under each lock before a kill, and after the last.
const SECTIONS: u64 = 20;

type Start = fn() -> Result<Command>;

const PYTHON: Start = || program::python("locks.py");
const NODE: Start = || program::node("locks.mjs");
const LIBRARIES: [(&str, Start); 5] = [
    ("redis-py", PYTHON),
    ("pottery", PYTHON),
    ("python-redis-lock", PYTHON),
    ("redlock", NODE),
    ("redis-semaphore", NODE),
];

/// The contenders for one library's lock.
struct Contenders {
    library: &'static str,
    program: Talk,
}

/// What they counted.
struct Figures {
    sections: u64,
    /// Pairs of tokens whose holders were inside at the same time.
    double_holders: u64,
    /// Locks that were gone while they were held, or still there after they were given back.
    lost: u64,
    /// Sections that took so long that they prove nothing.
    overstayed: u64,
    /// Calls of the library whose connection broke, or that met no leader.
    interrupted: u64,
}

impl Contenders {
    fn start(library: &'static str, start: Start, nodes: &[SocketAddr]) -> Result<Self> {
        let mut command = start()?;
        command.args([library, library]).args(nodes.iter().map(SocketAddr::to_string));
        let mut program = Talk::start(&mut command)?;
        program.take("start")?;
        Ok(Self { library, program })
    }

    /// Waits until this many further tokens were drawn.
    fn wait_for(&self, more: u64, nodes: &[SocketAddr]) -> Result<()> {
        let drawn = || {
            nodes.iter().find_map(|&node| {
                let reply = ask(node, &["GET", &format!("{}:fence", self.library)]).ok()?;
                std::str::from_utf8(reply.text().unwrap_or(b"0")).ok()?.parse::<u64>().ok()
            })
        };
        let goal = wait_for("a node that answers", PATIENCE, || Ok(drawn()))? + more;
        let what = format!("{} to be acquired and released", self.library);
        wait_for(&what, 2 * PATIENCE, || Ok(drawn().filter(|&drawn| drawn >= goal).map(|_| ())))
    }

    fn stop(mut self) -> Result<Figures> {
        let told = self.program.take("stop")?;
        let figures = told.split(' ').map(str::parse).collect::<Result<Vec<u64>, _>>()?;
        let [sections, double_holders, lost, overstayed, interrupted] =
            figures.try_into().ok().context("five figures")?;
        Ok(Figures { sections, double_holders, lost, overstayed, interrupted })
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sections, double_holders, lost, overstayed, interrupted } = self;
        write!(
            to,
            "{sections} sections, {double_holders} double holders, {lost} lost locks or releases; {overstayed} sections \
             took too long to judge, {interrupted} calls interrupted"
        )
    }
}

#[test]
fn a_lock_has_one_holder() -> Result<()> {
    let _alone = alone();
    let mut cluster = Cluster::start(3)?;
    let nodes = cluster.addresses();
    let minutes = std::env::var("MINUTES").map_or(Ok(0), |minutes| minutes.parse())?;
    let until = Instant::now() + Duration::from_secs(60 * minutes);
    let contenders: Vec<_> = LIBRARIES
        .iter()
        .map(|&(library, start)| Contenders::start(library, start, &nodes))
        .collect::<Result<_>>()?;
    let mut kills = 0;
    while kills < KILLS || Instant::now() < until {
        contenders.iter().try_for_each(|each| each.wait_for(SECTIONS, &nodes))?;
        let leader = cluster.leader()?;
        cluster.nodes[leader].kill();
        // Somebody else leads, and locks change hands, before the node is back.
        contenders.iter().try_for_each(|each| each.wait_for(1, &nodes))?;
        cluster.nodes[leader].restart()?;
        kills += 1;
    }
    contenders.iter().try_for_each(|each| each.wait_for(SECTIONS, &nodes))?;
    let mut wrong = Vec::new();
    for each in contenders {
        let library = each.library;
        let figures = each.stop().with_context(|| library)?;
        println!("{library}, {kills} x kill -9 of the leader: {figures}");
        if figures.double_holders + figures.lost > 0 || figures.overstayed * 2 > figures.sections {
            wrong.push(format!("{library}: {figures}"));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// What the contenders count they do find, when there is no lock at all.
#[test]
fn without_a_lock_there_are_double_holders() -> Result<()> {
    let _alone = alone();
    let oracle = Oracle::start()?;
    for (language, start) in [("Python", PYTHON), ("JavaScript", NODE)] {
        let contenders = Contenders::start("nothing", start, &[oracle.address()])?;
        contenders.wait_for(SECTIONS, &[oracle.address()])?;
        let figures = contenders.stop()?;
        println!("no lock, {language}: {figures}");
        ensure!(figures.double_holders > 0 && figures.lost > 0, "{language}: {figures}");
    }
    Ok(())
}

/// With redis-server, which proves that a failure with three nodes would be theirs.
#[test]
fn the_libraries_lock_redis_server() -> Result<()> {
    let _alone = alone();
    let oracle = Oracle::start()?;
    for (library, start) in LIBRARIES {
        let contenders = Contenders::start(library, start, &[oracle.address()])?;
        contenders.wait_for(SECTIONS, &[oracle.address()])?;
        let figures = contenders.stop()?;
        ensure!(figures.double_holders + figures.lost + figures.overstayed == 0, "{library}: {figures}");
    }
    Ok(())
}
