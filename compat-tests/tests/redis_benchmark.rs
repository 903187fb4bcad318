//! redis-benchmark runs to its end, through the leader and through a follower.

#![allow(clippy::print_stdout)]

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use compat_tests::cluster::{Cluster, processor_time};
use compat_tests::oracle::{self, Oracle};
use compat_tests::wait_for;

const TESTS: &str = "set,get,incr,mset";
/// Pipeline lengths, and how many requests of each kind to send.
const RUNS: [(u32, u32); 2] = [(1, 5_000), (16, 50_000)];
const PATIENCE: Duration = Duration::from_secs(120);

#[test]
fn redis_benchmark_runs_to_the_end() -> Result<()> {
    let cluster = Cluster::start(3)?;
    let pids: Vec<_> = cluster.nodes.iter().filter_map(|node| node.pid()).collect();
    run("through the leader", cluster.nodes[cluster.leader()?].listen, &pids)?;
    run("through a follower", cluster.nodes[cluster.follower()?].listen, &pids)?;
    drop(cluster);
    let oracle = Oracle::start_durable()?;
    run("redis-server, appendfsync always", oracle.address(), &[oracle.pid()])
}

/// Runs it with each pipeline length and prints what it measured, and the processor time of all nodes per
/// request.
fn run(through: &str, address: SocketAddr, pids: &[u32]) -> Result<()> {
    let used = || pids.iter().map(|&pid| processor_time(pid)).sum::<Result<Duration>>();
    for (pipeline, requests) in RUNS {
        let before = used()?;
        let figures = benchmark(address, pipeline, requests)?;
        let requests_all = requests * u32::try_from(figures.len())?;
        let each = (used()? - before) / requests_all;
        let figures: Vec<_> = figures.iter().map(|(name, rps)| format!("{name} {rps:.0}/s")).collect();
        println!("{through}, -P {pipeline}: {}; {each:.1?} of processor per request", figures.join(", "));
    }
    Ok(())
}

/// The name of each test and its requests a second.
fn benchmark(address: SocketAddr, pipeline: u32, requests: u32) -> Result<Vec<(String, f64)>> {
    let mut output = tempfile::tempfile()?;
    let mut child = oracle::program("redis-benchmark")?
        .args([
            "-h",
            &address.ip().to_string(),
            "-p",
            &address.port().to_string(),
            "-t",
            TESTS,
            "-c",
            "50",
            "--csv",
        ])
        .args(["-P", &pipeline.to_string(), "-n", &requests.to_string(), "-r", "10000"])
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output.try_clone()?)
        .spawn()
        .context("redis-benchmark comes with apt-get install redis-tools")?;
    let ended = wait_for("redis-benchmark to end", PATIENCE, || Ok(child.try_wait()?));
    if ended.is_err() {
        let _ = child.kill();
        let _ = child.wait();
    }
    let mut text = String::new();
    std::io::Seek::rewind(&mut output)?;
    std::io::Read::read_to_string(&mut output, &mut text)?;
    ensure!(ended?.success() && !text.contains("Error"), "redis-benchmark failed:\n{text}");
    let rows = text.lines().filter_map(|line| {
        let mut cells = line.split(',').map(|cell| cell.trim_matches('"'));
        Some((cells.next()?.to_owned(), cells.next()?.parse().ok()?))
    });
    let figures: Vec<_> = rows.collect();
    ensure!(figures.len() == TESTS.split(',').count(), "not all tests ran:\n{text}");
    Ok(figures)
}
