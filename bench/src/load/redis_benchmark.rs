//! redis-benchmark as the load generator: what Redis' users measure with, and nothing of ours between the servers.
//!
//! It takes more of a machine than ours does, and each of its events carries fewer replies. So servers find less to do at
//! once, and use more of the processor for an operation, all of them.

use std::io::Read as _;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use compat_tests::wait_for;

use crate::measure::Outcome;
use crate::workload::{self, Mix, Popularity, Workload};

/// The program.
pub const PROGRAM: &str = "redis-benchmark";

/// Rounds of all connections that show how fast a server is, and the requests that they should come to.
const TRIAL_ROUNDS: usize = 50;
const TRIAL_REQUESTS: (usize, usize) = (1_000, 50_000);

/// How much longer than expected a run may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// What it calls the workload, if it has that.
#[must_use]
pub fn test(workload: &Workload) -> Option<&'static str> {
    match (workload.mix, workload.shape.popularity) {
        (Mix::Only(workload::Command::Set), Popularity::Even) => Some("set"),
        (Mix::Only(workload::Command::Get), Popularity::Even) => Some("get"),
        _ => None,
    }
}

/// Requests that a server answers in about so many seconds.
pub fn requests(address: SocketAddr, workload: &Workload, seconds: f64, stop: &AtomicBool) -> Result<u64> {
    let (least, most) = TRIAL_REQUESTS;
    let trial = (TRIAL_ROUNDS * workload.connections * workload.pipeline).clamp(least, most);
    let Outcome { done, seconds: took, .. } = run(address, workload, trial as u64, stop)?;
    Ok((done / took * seconds) as u64)
}

/// Puts so many requests of a workload that it has on a server.
pub fn run(address: SocketAddr, workload: &Workload, requests: u64, stop: &AtomicBool) -> Result<Outcome> {
    let options = [
        ("-h", address.ip().to_string()),
        ("-p", address.port().to_string()),
        ("-c", workload.connections.to_string()),
        ("-P", workload.pipeline.to_string()),
        ("-n", requests.to_string()),
        ("-r", workload.shape.keys.to_string()),
        ("-d", workload.shape.value_bytes.to_string()),
        ("-t", test(workload).context("redis-benchmark has no such workload")?.to_owned()),
    ];
    let mut child = Command::new(PROGRAM)
        .arg("--csv")
        .args(options.iter().flat_map(|(name, value)| [*name, value.as_str()]))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("starting redis-benchmark")?;
    let patience = PATIENCE + Duration::from_micros(1_000).saturating_mul(u32::try_from(requests)?);
    let ended = wait_for("redis-benchmark to end", patience, || {
        ensure!(!stop.load(Ordering::Relaxed), "interrupted");
        Ok(child.try_wait()?)
    });
    if ended.is_err() {
        child.kill()?;
        child.wait()?;
    }
    ensure!(ended?.success(), "redis-benchmark failed");
    let mut told = String::new();
    child.stdout.take().context("it was asked to print")?.read_to_string(&mut told)?;
    outcome(&told, requests).with_context(|| format!("redis-benchmark told {told:?}"))
}

/// What it tells with --csv: a line of names, and one of figures. It ends at the first error.
fn outcome(csv: &str, requests: u64) -> Option<Outcome> {
    let row = |line: &str| line.split(',').map(|cell| cell.trim_matches('"').to_owned()).collect::<Vec<_>>();
    let mut lines = csv.lines().map(row);
    let (names, figures) = (lines.next()?, lines.next()?);
    let figure = |name: &str| {
        let at = names.iter().position(|known| known == name)?;
        figures.get(at)?.parse::<f64>().ok()
    };
    Some(Outcome {
        done: requests as f64,
        seconds: requests as f64 / figure("rps")?,
        p50_us: figure("p50_latency_ms")? * 1e3,
        p99_us: figure("p99_latency_ms")? * 1e3,
        p999_us: None,
        errors: 0,
        first_error: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::WORKLOADS;

    #[test]
    fn figures_are_read_by_their_names() {
        let csv = "\"test\",\"rps\",\"avg_latency_ms\",\"min_latency_ms\",\"p50_latency_ms\",\"p95_latency_ms\",\
                   \"p99_latency_ms\",\"max_latency_ms\"\n\
                   \"SET\",\"20000.00\",\"1.700\",\"0.9\",\"1.655\",\"2.1\",\"3.203\",\"9.9\"\n";
        let found = outcome(csv, 40_000).expect("it is whole");
        assert_eq!((found.done, found.seconds), (40_000.0, 2.0));
        assert_eq!((found.p50_us, found.p99_us, found.p999_us), (1_655.0, 3_203.0, None));
        assert!(outcome("Could not connect", 1).is_none());
        assert!(outcome("\"test\",\"rps\"\n\"SET\",\"20000.00\"\n", 1).is_none());
    }

    #[test]
    fn it_knows_plain_reads_and_writes() {
        let known = WORKLOADS.iter().filter(|workload| test(workload).is_some());
        assert!(known.clone().count() == 9 && known.clone().all(|known| known.name[1..].starts_with("et-c")));
    }
}
