//! Where servers run: each is started and filled, comes to rest, is measured, and ends.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::load::{Dialect, FanOut, Grpc, Keys, Limit, Load, Resp, Tally, redis_benchmark};
use crate::measure::{self, Disk, Figures, Outcome};
use crate::server::{self, Cluster, Entry, Node, Service, Target};
use crate::workload::{Chance, Command, Mix, Shape, USUAL, Workload};

/// A run begins with a part that is not measured: so much of its length, but not more than this.
const WARM_UP_SHARE: f64 = 0.25;
const WARM_UP_SECONDS_MAX: f64 = 1.0;

/// How a server is filled with all keys, and how long that may take: a time, and more for each key.
const FILL_CONNECTIONS: usize = 50;
const FILL_PIPELINE: usize = 16;
const FILL_TIMEOUT: Duration = Duration::from_secs(120);
const FILL_TIMEOUT_KEY: Duration = Duration::from_micros(200);

/// Before a run, all servers together should use less than so much of a core for a moment. They get so much
/// time to come to rest, and are then measured as they are.
const IDLE_SHARE: f64 = 0.2;
const IDLE_MOMENT: Duration = Duration::from_millis(200);
const IDLE_PATIENCE: Duration = Duration::from_secs(5);

/// What servers run under.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// How many of the machine's cores they share; all if it is not said.
    pub cores: Option<u64>,
}

/// How requests come.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// As fast as they are answered.
    Closed,
    /// So many a second.
    Open(f64),
}

/// Who puts the load on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Generator {
    #[default]
    Own,
    RedisBenchmark,
}

impl Generator {
    /// What it is called.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Own => "our own load generator",
            Self::RedisBenchmark => redis_benchmark::PROGRAM,
        }
    }

    /// Whether it can put the workload on a service.
    #[must_use]
    pub fn can(self, workload: &Workload, service: Service) -> bool {
        match self {
            Self::Own => match service {
                Service::RedisReplicas { .. } => workload.mix == Mix::Only(Command::Set),
                Service::Etcd { .. } => workload.mix.is_plain(),
                Service::Redis { .. } | Service::Quorate { .. } => true,
            },
            Self::RedisBenchmark => {
                matches!(service, Service::Redis { .. } | Service::Quorate { .. })
                    && redis_benchmark::test(workload).is_some()
            }
        }
    }
}

/// What servers need to run.
pub struct Stage<'a> {
    /// The program of Quorate.
    quorate: &'a Path,
    /// Where all servers' data is, and the disk that it is on.
    directory: &'a Path,
    disk: Disk,
    /// Set when it is time to end.
    stop: &'a AtomicBool,
    by: Generator,
    seed: u64,
}

impl<'a> Stage<'a> {
    /// A stage on which nothing runs yet, and who will put the load on.
    pub fn new(quorate: &'a Path, directory: &'a Path, stop: &'a AtomicBool, by: Generator) -> Result<Self> {
        Ok(Self { quorate, directory, disk: Disk::of(directory)?, stop, by, seed: 0 })
    }

    /// Who puts the load on.
    #[must_use]
    pub const fn by(&self) -> Generator {
        self.by
    }

    /// Starts a service with nothing in it, and fills it.
    pub fn start(&mut self, target: &Target, shape: &Shape, conditions: Conditions) -> Result<Cluster> {
        self.check_stop()?;
        let program = match target.service.foreign_program() {
            None => self.quorate.to_owned(),
            Some(name) => server::installed(name).with_context(|| format!("{name} is not installed"))?,
        };
        eprintln!("starting {}, filling it with {} keys", target.title, shape.keys);
        self.seed += 1;
        let directory = self.directory.join(format!("{}-{}", target.name, self.seed));
        let command = match conditions.cores {
            None => vec![program],
            Some(cores) => {
                let taskset = server::installed("taskset").context("taskset is not installed")?;
                vec![taskset, "-c".into(), format!("0-{}", cores - 1).into(), program]
            }
        };
        let cluster = Cluster::start(target.service, &command, &directory, self.stop)?;
        let filled = self.fill(&cluster, shape);
        filled.inspect_err(|_| eprint!("{}", cluster.log_tails())).context("filling it")?;
        Ok(cluster)
    }

    fn fill(&self, cluster: &Cluster, shape: &Shape) -> Result<()> {
        let leader = cluster.leader_first()?[0].address;
        let (mix, chance, keys) = (Mix::Only(Command::Set), Chance::new(0), Keys::From(0, shape.keys));
        let time = FILL_TIMEOUT + FILL_TIMEOUT_KEY * u32::try_from(shape.keys).unwrap_or(u32::MAX);
        let limit = Limit { time, requests: shape.keys };
        let tally = if cluster.service.speaks_resp() {
            self.pour(leader, Resp::new(mix, shape.value_bytes, chance, keys), limit)
        } else {
            self.pour(leader, Grpc::new(leader, mix, shape.value_bytes, chance, keys), limit)
        };
        let replies = tally?.replies;
        if replies.errors > 0 {
            bail!("{} of {} SETs failed: {:?}", replies.errors, shape.keys, replies.first_error);
        }
        ensure!(replies.count == shape.keys, "it takes more than {time:?}");
        Ok(())
    }

    fn pour(&self, address: SocketAddr, dialect: impl Dialect, limit: Limit) -> Result<Tally> {
        Load::connect(address, FILL_CONNECTIONS, FILL_PIPELINE, dialect)?.run(limit, self.stop)
    }

    /// One run of a workload on a service, to the node that the target names.
    pub fn measure(
        &mut self,
        workload: &Workload,
        target: &Target,
        cluster: &Cluster,
        seconds: f64,
        pace: Pace,
    ) -> Result<Figures> {
        self.check_stop()?;
        self.seed += 1;
        let chance = Chance::new(self.seed);
        let keys = Keys::of(&workload.shape, !self.seed);
        let (mix, value_bytes) = (workload.mix, workload.shape.value_bytes);
        let nodes = cluster.leader_first()?;
        let address = entry(&nodes, target).address;
        let run =
            Run { stage: self, workload, service: target.service, nodes: &nodes, address, seconds, pace };
        if self.by == Generator::RedisBenchmark {
            run.measure_by_redis_benchmark()
        } else if matches!(target.service, Service::RedisReplicas { .. }) {
            run.measure(Resp::new(mix, value_bytes, chance, keys).on_a_replica())
        } else if target.service.speaks_resp() {
            run.measure(Resp::new(mix, value_bytes, chance, keys))
        } else {
            run.measure(Grpc::new(address, mix, value_bytes, chance, keys))
        }
    }

    /// One run of a publisher at the node that the target names, with subscribers at all nodes in turn.
    pub fn measure_fan_out(
        &self,
        subscribers: usize,
        target: &Target,
        cluster: &Cluster,
        seconds: f64,
    ) -> Result<Figures> {
        self.check_stop()?;
        let nodes = cluster.leader_first()?;
        let publisher = entry(&nodes, target).address;
        let subscribers: Vec<_> = nodes.iter().map(|node| node.address).cycle().take(subscribers).collect();
        let mut fan_out = FanOut::connect(publisher, &subscribers, USUAL.value_bytes)?;
        self.during(target.service, &nodes, seconds, |limit| fan_out.run(limit, self.stop))
    }

    /// Puts a load on a service: for a while that is not measured, and then for so many seconds.
    fn during(
        &self,
        service: Service,
        nodes: &[&Node],
        seconds: f64,
        mut load: impl FnMut(Limit) -> Result<Tally>,
    ) -> Result<Figures> {
        let mut load = |seconds| load(Limit { time: Duration::from_secs_f64(seconds), requests: u64::MAX });
        load((seconds * WARM_UP_SHARE).min(WARM_UP_SECONDS_MAX))?;
        measure::during(service, nodes, &self.disk, || load(seconds).map(Outcome::from))
    }

    /// Waits until no server works on anything: the checkpoint of one would be in the figures of another.
    pub fn rest<'c>(&self, clusters: impl Iterator<Item = &'c Cluster> + Clone) -> Result<()> {
        let nodes = || clusters.clone().flat_map(|cluster| &cluster.nodes);
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

    /// Set when it is time to end.
    #[must_use]
    pub const fn stop(&self) -> &AtomicBool {
        self.stop
    }

    /// Whether it is time to end.
    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// An error when it is time to end.
    pub fn check_stop(&self) -> Result<()> {
        ensure!(!self.is_stopped(), "interrupted");
        Ok(())
    }
}

/// All there is to a run but its dialect.
struct Run<'a> {
    stage: &'a Stage<'a>,
    workload: &'a Workload,
    service: Service,
    nodes: &'a [&'a Node],
    address: SocketAddr,
    seconds: f64,
    pace: Pace,
}

impl Run<'_> {
    fn measure(&self, dialect: impl Dialect) -> Result<Figures> {
        let Self { stage, workload, .. } = self;
        let mut load = Load::connect(self.address, workload.connections, workload.pipeline, dialect)?;
        stage.during(self.service, self.nodes, self.seconds, |limit| match self.pace {
            Pace::Closed => load.run(limit, stage.stop),
            Pace::Open(rate) => load.run_at(rate, limit, stage.stop),
        })
    }

    fn measure_by_redis_benchmark(&self) -> Result<Figures> {
        let Self { stage, workload, address, seconds, .. } = self;
        ensure!(matches!(self.pace, Pace::Closed), "redis-benchmark knows no steady rate");
        let requests = redis_benchmark::requests(*address, workload, *seconds, stage.stop)?;
        measure::during(self.service, self.nodes, &stage.disk, || {
            redis_benchmark::run(*address, workload, requests, stage.stop)
        })
    }
}

/// The node of `nodes`, the leader first, to which clients of the target connect.
#[must_use]
pub fn entry<'a>(nodes: &[&'a Node], target: &Target) -> &'a Node {
    match target.entry {
        Entry::Leader => nodes[0],
        Entry::Follower => nodes[1],
    }
}
