//! The order of events: servers are started, filled, and measured in turn.

use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use compat_tests::wait_for;

use crate::load::{Dialect, Grpc, Keys, Limit, Load, Resp, Tally};
use crate::measure::{self, Disk, Figures};
use crate::options::Options;
use crate::report::{CrossCheck, Report, Run, digits, thousands};
use crate::server::{self, Cluster, Entry, Node, REFERENCE, Service, Target};
use crate::workload::{self, Chance, KEYS, Mix, VALUE_BYTES, Workload};

/// A run begins with a part that is not measured: so much of its length, but not more than this.
const WARM_UP_SHARE: f64 = 0.25;
const WARM_UP_SECONDS_MAX: f64 = 1.0;

/// How a server is filled with all keys, and how long that may take.
const FILL_CONNECTIONS: usize = 50;
const FILL_PIPELINE: usize = 16;
const FILL_TIMEOUT: Duration = Duration::from_secs(120);

/// Before a run, all servers together should use less than so much of a core for a moment. They get so much
/// time to come to rest, and are then measured as they are.
const IDLE_SHARE: f64 = 0.2;
const IDLE_MOMENT: Duration = Duration::from_millis(200);
const IDLE_PATIENCE: Duration = Duration::from_secs(5);

/// Servers and what is to be done with them.
pub struct Comparison<'a> {
    options: &'a Options,
    /// The program of Quorate.
    quorate: &'a Path,
    /// Where all servers' data is, and the disk that it is on.
    directory: &'a Path,
    disk: Disk,
    /// Set when it is time to end.
    stop: &'a AtomicBool,
    clusters: Vec<Cluster>,
    seed: u64,
    progress: Progress,
}

impl<'a> Comparison<'a> {
    /// A comparison in which nothing runs yet.
    pub fn new(
        options: &'a Options,
        quorate: &'a Path,
        directory: &'a Path,
        stop: &'a AtomicBool,
    ) -> Result<Self> {
        Ok(Self {
            options,
            quorate,
            directory,
            disk: Disk::of(directory)?,
            stop,
            clusters: Vec::new(),
            seed: 0,
            progress: Progress::new(0),
        })
    }

    /// Runs everything, and then ends the servers. What fails is noted in the report, and the rest goes on.
    pub fn run(mut self, report: &mut Report) {
        let targets = self.start(report);
        let redis_benchmark = self.options.redis_benchmark && server::installed("redis-benchmark").is_some();
        if self.options.redis_benchmark && !redis_benchmark {
            note(report, "redis-benchmark is not installed".to_owned());
        }
        let pairs = self.options.pairs;
        let plans = self.options.workloads.iter().map(|&workload| {
            let suited = targets.iter().copied().filter(|target| suits(workload, target));
            (workload, suited.collect::<Vec<_>>())
        });
        let plans: Vec<_> = plans.collect();
        let runs = plans.iter().map(|(_, targets)| groups(targets, 0).concat().len() * pairs);
        self.progress = Progress::new(runs.sum());
        for (workload, mut targets) in plans {
            for pair in 0..pairs {
                for group in groups(&targets, pair) {
                    let failed = self.measure_group(workload, pair, &group, report);
                    targets.retain(|target| !failed.contains(&target.name));
                }
            }
            if redis_benchmark {
                self.cross_check(workload, &targets, report);
            }
        }
        if self.stop.load(Ordering::Relaxed) {
            note(report, "interrupted before all runs were made".to_owned());
        }
    }

    /// Starts and fills what the targets need. Returns the targets that can be measured, with the reference.
    fn start(&mut self, report: &mut Report) -> Vec<&'static Target> {
        let mut targets = vec![REFERENCE];
        targets.extend(self.options.targets.iter().filter(|target| target.name != REFERENCE.name));
        let mut tried = Vec::new();
        for target in &targets {
            // Targets that differ only in the node they talk to share their processes.
            if tried.contains(&target.service) {
                continue;
            }
            tried.push(target.service);
            if let Err(error) = self.start_service(target) {
                note(report, format!("{} could not be measured: {error:#}", target.title));
            }
        }
        targets.retain(|target| self.clusters.iter().any(|cluster| cluster.service == target.service));
        targets
    }

    fn start_service(&mut self, target: &Target) -> Result<()> {
        self.check_stop()?;
        let program = match target.service.foreign_program() {
            None => self.quorate.to_owned(),
            Some(name) => server::installed(name).with_context(|| format!("{name} is not installed"))?,
        };
        eprintln!("starting {}, filling it with {KEYS} keys", target.title);
        // A service that is started again begins with nothing.
        self.seed += 1;
        let directory = self.directory.join(format!("{}-{}", target.name, self.seed));
        let cluster = Cluster::start(target.service, &program, &directory, self.stop)?;
        let leader = cluster.leader_first()?[0].address;
        let (mix, chance, keys) = (Mix::Only(workload::Command::Set), Chance::new(0), Keys::From(0));
        let tally = if target.service.speaks_resp() {
            self.fill(leader, Resp::new(mix, chance, keys))
        } else {
            self.fill(leader, Grpc::new(leader, mix, chance, keys))
        };
        let tally = tally.inspect_err(|_| eprint!("{}", cluster.log_tails())).context("filling it")?;
        if tally.replies.errors > 0 {
            bail!("{} of {KEYS} SETs failed: {:?}", tally.replies.errors, tally.replies.first_error);
        }
        ensure!(tally.replies.count == KEYS, "filling it takes more than {FILL_TIMEOUT:?}");
        self.clusters.push(cluster);
        Ok(())
    }

    fn fill(&self, address: std::net::SocketAddr, dialect: impl Dialect) -> Result<Tally> {
        let limit = Limit { time: FILL_TIMEOUT, requests: KEYS };
        Load::connect(address, FILL_CONNECTIONS, FILL_PIPELINE, dialect)?.run(limit, self.stop)
    }

    /// Runs a workload on each target of a group. Returns the names of those that failed, which have been
    /// started anew.
    fn measure_group(
        &mut self,
        workload: &'static Workload,
        pair: usize,
        group: &[&'static Target],
        report: &mut Report,
    ) -> Vec<&'static str> {
        let mut failed = Vec::new();
        let mut runs = Vec::new();
        for &target in group {
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            let found = self.measure(workload, target);
            let what = format!("{}, pair {}: {}", workload.name, pair + 1, target.title);
            self.progress.tell(&what, &found);
            match found {
                Ok(figures) => {
                    if let Some(error) = &figures.first_error {
                        note(report, format!("{what}: {} requests failed, first: {error}", figures.errors));
                    }
                    runs.push(Run { workload, target, figures, reference: None });
                }
                Err(error) if !self.stop.load(Ordering::Relaxed) => {
                    note(report, format!("{what} failed: {error:#}"));
                    failed.push(target.name);
                    self.restart(target, report);
                }
                Err(_) => {}
            }
        }
        let reference = runs.iter().find(|run| run.target.name == REFERENCE.name);
        let reference = reference.map(|run| run.figures.clone());
        for run in runs.iter_mut().filter(|run| run.target.name != REFERENCE.name) {
            run.reference.clone_from(&reference);
        }
        report.runs.extend(runs);
        failed
    }

    fn restart(&mut self, target: &Target, report: &mut Report) {
        if let Some(position) = self.clusters.iter().position(|cluster| cluster.service == target.service) {
            let cluster = self.clusters.swap_remove(position);
            eprint!("{}", cluster.log_tails());
        }
        if let Err(error) = self.start_service(target) {
            note(report, format!("{} could not be started again: {error:#}", target.title));
        }
    }

    /// One run of a workload on a target.
    fn measure(&mut self, workload: &Workload, target: &Target) -> Result<Figures> {
        self.rest()?;
        self.seed += 1;
        let (chance, keys) = (Chance::new(self.seed), Keys::Any(Chance::new(!self.seed)));
        let (service, nodes) = (target.service, self.cluster(target)?.leader_first()?);
        let address = entry(&nodes, target).address;
        if service.speaks_resp() {
            self.measure_load(workload, service, &nodes, address, Resp::new(workload.mix, chance, keys))
        } else {
            let grpc = Grpc::new(address, workload.mix, chance, keys);
            self.measure_load(workload, service, &nodes, address, grpc)
        }
    }

    fn measure_load(
        &self,
        workload: &Workload,
        service: Service,
        nodes: &[&Node],
        address: std::net::SocketAddr,
        dialect: impl Dialect,
    ) -> Result<Figures> {
        let seconds = self.options.seconds;
        let limit = |seconds| Limit { time: Duration::from_secs_f64(seconds), requests: u64::MAX };
        let mut load = Load::connect(address, workload.connections, workload.pipeline, dialect)?;
        load.run(limit((seconds * WARM_UP_SHARE).min(WARM_UP_SECONDS_MAX)), self.stop)?;
        measure::during(service, nodes, &self.disk, || load.run(limit(seconds), self.stop))
    }

    /// Waits until no server works on anything: the checkpoint of one would be in the figures of another.
    fn rest(&self) -> Result<()> {
        let nodes = || self.clusters.iter().flat_map(|cluster| &cluster.nodes);
        let used = || nodes().filter_map(|node| measure::cpu(node.pid()).ok()).sum::<Duration>();
        let deadline = Instant::now() + IDLE_PATIENCE;
        let mut before = used();
        loop {
            self.check_stop()?;
            std::thread::sleep(IDLE_MOMENT);
            let now = used();
            if now.saturating_sub(before) < IDLE_MOMENT.mul_f64(IDLE_SHARE) || Instant::now() > deadline {
                return Ok(());
            }
            before = now;
        }
    }

    /// Puts the workload on the servers with redis-benchmark, too, where it knows the workload.
    fn cross_check(&self, workload: &'static Workload, targets: &[&'static Target], report: &mut Report) {
        let test = match workload.mix {
            Mix::Only(workload::Command::Set) => "set",
            Mix::Only(workload::Command::Get) => "get",
            _ => return,
        };
        for &target in targets.iter().filter(|target| target.service.speaks_resp()) {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let Some(Figures { throughput: ours, .. }) = report.typical(workload.name, target.name) else {
                continue;
            };
            match self.redis_benchmark(workload, test, target, ours) {
                Ok(theirs) => report.cross_checks.push(CrossCheck { workload, target, ours, theirs }),
                Err(error) => {
                    let (name, title) = (workload.name, target.title);
                    note(report, format!("{name} by redis-benchmark on {title} failed: {error:#}"));
                }
            }
        }
    }

    /// The throughput that redis-benchmark finds, with about as many requests as a run of ours has.
    fn redis_benchmark(&self, workload: &Workload, test: &str, target: &Target, ours: f64) -> Result<f64> {
        self.rest()?;
        let nodes = self.cluster(target)?.leader_first()?;
        let address = entry(&nodes, target).address;
        let seconds = self.options.seconds;
        let options = [
            ("-h", address.ip().to_string()),
            ("-p", address.port().to_string()),
            ("-c", workload.connections.to_string()),
            ("-P", workload.pipeline.to_string()),
            ("-n", format!("{:.0}", (ours * seconds).max(1_000.0))),
            ("-r", KEYS.to_string()),
            ("-d", VALUE_BYTES.to_string()),
            ("-t", test.to_owned()),
        ];
        eprintln!("redis-benchmark: {}: {}", workload.name, target.title);
        let mut child = Command::new("redis-benchmark")
            .arg("--csv")
            .args(options.iter().flat_map(|(name, value)| [*name, value.as_str()]))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting redis-benchmark")?;
        let patience = Duration::from_secs_f64(seconds * 10.0 + 30.0);
        let ended = wait_for("redis-benchmark to end", patience, || {
            self.check_stop()?;
            Ok(child.try_wait()?)
        });
        if ended.is_err() {
            child.kill()?;
            child.wait()?;
        }
        ensure!(ended?.success(), "it failed");
        let mut output = String::new();
        child.stdout.take().context("it was asked to print")?.read_to_string(&mut output)?;
        requests_per_second(&output).with_context(|| format!("no throughput in {output:?}"))
    }

    fn cluster(&self, target: &Target) -> Result<&Cluster> {
        self.clusters
            .iter()
            .find(|cluster| cluster.service == target.service)
            .context("it does not run any more")
    }

    fn check_stop(&self) -> Result<()> {
        ensure!(!self.stop.load(Ordering::Relaxed), "interrupted");
        Ok(())
    }
}

/// The node of `nodes`, the leader first, to which clients of the target connect.
fn entry<'a>(nodes: &[&'a Node], target: &Target) -> &'a Node {
    match target.entry {
        Entry::Leader => nodes[0],
        Entry::Follower => nodes[1],
    }
}

fn suits(workload: &Workload, target: &Target) -> bool {
    target.service.speaks_resp() || workload.mix.is_plain()
}

/// The targets in the order in which they run, in groups of up to three: the reference stands between the two
/// that are compared with it. From pair to pair, the order in a group is turned round.
fn groups<'a>(targets: &[&'a Target], pair: usize) -> Vec<Vec<&'a Target>> {
    let (reference, others): (Vec<&Target>, Vec<&Target>) =
        targets.iter().partition(|target| target.name == REFERENCE.name);
    if others.is_empty() {
        return vec![reference];
    }
    let group = |two: &[&'a Target]| {
        let mut group = [&two[..1], &reference, &two[1..]].concat();
        if !pair.is_multiple_of(2) {
            group.reverse();
        }
        group
    };
    others.chunks(2).map(group).collect()
}

/// The second column of the second line: redis-benchmark --csv.
fn requests_per_second(csv: &str) -> Option<f64> {
    csv.lines().nth(1)?.split(',').nth(1)?.trim_matches('"').parse().ok()
}

fn note(report: &mut Report, text: String) {
    eprintln!("{text}");
    report.notes.push(text);
}

/// What is told on the way.
struct Progress {
    begin: Instant,
    done: usize,
    all: usize,
}

impl Progress {
    fn new(all: usize) -> Self {
        Self { begin: Instant::now(), done: 0, all }
    }

    fn tell(&mut self, what: &str, found: &Result<Figures>) {
        self.done += 1;
        let left = self.begin.elapsed() / u32::try_from(self.done).unwrap_or(u32::MAX)
            * u32::try_from(self.all.saturating_sub(self.done)).unwrap_or_default();
        let (minutes, seconds) = (left.as_secs() / 60, left.as_secs() % 60);
        let found = match found {
            Ok(figures) => {
                let (throughput, p50) = (thousands(figures.throughput), digits(figures.p50_us / 1e3));
                format!("{throughput}/s, p50 {p50} ms, CPU {} us/op", digits(figures.cpu_us_sum()))
            }
            Err(error) => format!("{error:#}"),
        };
        eprintln!("[{}/{}, {minutes}:{seconds:02} left] {what}: {found}", self.done, self.all);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::TARGETS;

    #[track_caller]
    fn check(names: &[&str], pair: usize, expect: &str) {
        let targets: Vec<_> = TARGETS.iter().filter(|target| names.contains(&target.name)).collect();
        let groups = groups(&targets, pair);
        let names =
            |group: &Vec<&Target>| group.iter().map(|target| target.name).collect::<Vec<_>>().join(" ");
        assert_eq!(groups.iter().map(names).collect::<Vec<_>>().join(" | "), expect);
    }

    #[test]
    fn each_target_runs_next_to_the_reference() {
        let all = ["redis-always", "redis-memory", "quorate-1", "quorate-3"];
        check(&all, 0, "redis-memory redis-always quorate-1 | quorate-3 redis-always");
        check(&all, 1, "quorate-1 redis-always redis-memory | redis-always quorate-3");
        check(&all[..1], 1, "redis-always");
        check(&["quorate-1", "quorate-3", "etcd-3"], 0, "quorate-1 quorate-3 | etcd-3");
        check(&[], 0, "");
    }

    #[test]
    fn throughput_is_read_from_csv() {
        let csv = "\"test\",\"rps\",\"avg_latency_ms\"\n\"SET\",\"28011.20\",\"1.7\"\n";
        assert_eq!(requests_per_second(csv), Some(28_011.2));
        assert_eq!(requests_per_second("Could not connect"), None);
    }
}
