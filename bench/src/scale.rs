//! What a large state costs: the time to start again, memory and disk, checkpoints under load, and a follower that comes with
//! nothing.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use compat_tests::client::ask;
use compat_tests::reply::Reply;
use compat_tests::wait_for;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::load::{Histogram, Keys, Limit, Load, Resp};
use crate::measure;
use crate::report::{digits, median, thousands};
use crate::server::{Cluster, Node, Service, TARGETS, Target};
use crate::stage::{Conditions, Stage};
use crate::workload::{Chance, Command, Mix, Shape, USUAL};

/// Starts that are timed, of each kind.
const STARTS: usize = 3;
/// How long a start may take, or a follower to catch up.
const PATIENCE: Duration = Duration::from_secs(600);
/// The load beside checkpoints and snapshots: SETs by so many clients.
const CONNECTIONS: usize = 20;
const RATE: f64 = 5_000.0;
/// For how long checkpoints are watched; there is one every thirty seconds, or when the buffer is full.
const WATCH: Duration = Duration::from_secs(120);
/// How finely.
const SLICE: Duration = Duration::from_millis(250);
/// The metrics of checkpoints: how many have ended, and how long they took together.
const CHECKPOINTS: &str = "quorate_disk_checkpoint_duration_seconds_count";
const CHECKPOINT_SECONDS: &str = "quorate_disk_checkpoint_duration_seconds_sum";

/// What was found, in the order of the questions: for people, and for programs.
#[derive(Default)]
pub struct Scale {
    rows: Vec<(String, String)>,
    json: Vec<(String, Value)>,
}

impl Scale {
    fn add(&mut self, name: &str, text: String, figures: Value) {
        eprintln!("{name}: {text}");
        self.rows.push((name.to_owned(), text));
        self.json.push((name.to_owned(), figures));
    }

    /// The table for people.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut text = "| | |\n| --- | --- |\n".to_owned();
        for (name, figures) in &self.rows {
            let _ = writeln!(text, "| {name} | {figures} |");
        }
        text
    }

    /// The same for programs.
    #[must_use]
    pub fn json(&self) -> Value {
        self.json.iter().cloned().collect::<serde_json::Map<_, _>>().into()
    }
}

/// Measures all of it with so many keys. What was found before a failure is kept in `scale`.
pub fn measure(stage: &mut Stage, keys: u64, scale: &mut Scale) -> Result<()> {
    let shape = Shape { keys, ..USUAL };
    {
        let cluster = stage.start(target("quorate-3")?, &USUAL, Conditions::default())?;
        memory(&cluster, &USUAL, scale)?;
    }
    {
        let mut cluster = stage.start(target("quorate-1")?, &shape, Conditions::default())?;
        restarts(&mut cluster, stage, &shape, scale)?;
    }
    let mut cluster = stage.start(target("quorate-3")?, &shape, Conditions::default())?;
    memory(&cluster, &shape, scale)?;
    checkpoints(&cluster, stage, &shape, scale)?;
    newcomer(&mut cluster, stage, &shape, scale)
}

fn target(name: &str) -> Result<&'static Target> {
    TARGETS.iter().find(|target| target.name == name).context("a known server")
}

/// What the nodes hold in memory and on disk, right after they were filled.
fn memory(cluster: &Cluster, shape: &Shape, scale: &mut Scale) -> Result<()> {
    let nodes = || cluster.nodes.iter();
    let mib = |bytes: f64| bytes / f64::from(1 << 20);
    let most = |list: Vec<f64>| list.into_iter().fold(0.0, f64::max);
    let resident = most(nodes().map(|node| measure::memory(node.pid(), "VmRSS")).collect::<Result<_>>()?);
    let own = most(nodes().map(|node| measure::memory(node.pid(), "RssAnon")).collect::<Result<_>>()?);
    let disk = most(nodes().map(|node| Ok(node.disk_bytes()? as f64)).collect::<Result<_>>()?);
    scale.add(
        &format!("a node of three with {} keys", thousands(shape.keys as f64)),
        format!(
            "RSS {:.0} MiB, {:.0} MiB of it without mapped files; {:.0} MiB on disk",
            mib(resident),
            mib(own),
            mib(disk)
        ),
        json!({ "rss_bytes": resident, "rss_anonymous_bytes": own, "disk_bytes": disk }),
    );
    Ok(())
}

/// How long it takes from the start of a process to the first answer about a key.
fn restarts(cluster: &mut Cluster, stage: &Stage, shape: &Shape, scale: &mut Scale) -> Result<()> {
    for (name, signal) in [("a clean stop", Signal::TERM), ("kill -9", Signal::KILL)] {
        let mut times = Vec::new();
        for _ in 0..STARTS {
            stage.check_stop()?;
            let node = &mut cluster.nodes[0];
            node.start_again(signal, false)?;
            times.push(first_answer(node)?.as_secs_f64());
        }
        let (middle, longest) = (median(times.clone()), times.iter().copied().fold(0.0, f64::max));
        scale.add(
            &format!("start with {} keys, after {name}", thousands(shape.keys as f64)),
            format!(
                "{} s until a GET is answered (longest of {STARTS}: {} s)",
                digits(middle),
                digits(longest)
            ),
            json!({ "seconds": times }),
        );
    }
    Ok(())
}

/// The time until a node answers about the first key.
fn first_answer(node: &Node) -> Result<Duration> {
    let start = Instant::now();
    wait_for("the node to serve", PATIENCE, || {
        Ok(ask(node.address, &["GET", "key:000000000000"])
            .is_ok_and(|reply| reply != Reply::Nil)
            .then_some(()))
    })?;
    Ok(start.elapsed())
}

/// A steady load on all keys, so that stalls show.
struct Beside {
    load: Load<Resp>,
}

impl Beside {
    fn start(address: std::net::SocketAddr, shape: &Shape) -> Result<Self> {
        let (mix, keys) = (Mix::Only(Command::Set), Keys::of(shape, 5));
        let resp = Resp::new(mix, shape.value_bytes, Chance::new(6), keys);
        Ok(Self { load: Load::connect(address, CONNECTIONS, 1, resp)? })
    }

    fn slice(&mut self, stage: &Stage) -> Result<Histogram> {
        let limit = Limit { time: SLICE, requests: u64::MAX };
        let tally = self.load.run_at(RATE, limit, stage.stop())?;
        ensure!(tally.replies.errors == 0, "a SET failed: {:?}", tally.replies.first_error);
        Ok(tally.latency)
    }
}

/// The latency of SETs while a checkpoint runs on some node, and while none does.
fn checkpoints(cluster: &Cluster, stage: &mut Stage, shape: &Shape, scale: &mut Scale) -> Result<()> {
    let service = cluster.service;
    let mut beside = Beside::start(cluster.leader_first()?[0].address, shape)?;
    let begin = Instant::now();
    let mut slices = Vec::new();
    let mut checkpoints = Vec::new();
    let mut seen = seen_checkpoints(cluster, service)?;
    while begin.elapsed() < WATCH {
        let from = begin.elapsed();
        let latency = beside.slice(stage)?;
        let now = begin.elapsed();
        slices.push((from, now, latency));
        for (node, (count, seconds)) in seen_checkpoints(cluster, service)?.into_iter().enumerate() {
            if count > seen[node].0 {
                let took = Duration::from_secs_f64((seconds - seen[node].1).max(0.0));
                checkpoints.push((from.saturating_sub(took), now));
                seen[node] = (count, seconds);
            }
        }
    }
    let (mut during, mut idle) = (Histogram::default(), Histogram::default());
    for (from, to, latency) in &slices {
        let is_during = checkpoints.iter().any(|(begin, end)| from < end && begin < to);
        if is_during { &mut during } else { &mut idle }.add(latency);
    }
    ensure!(!checkpoints.is_empty(), "there was no checkpoint in {WATCH:?}");
    let show = |latency: &Histogram| {
        let of = |percent| digits(latency.percentile_us(percent) / 1e3);
        format!("p50 {} ms, p99 {} ms, p99.9 {} ms", of(50.0), of(99.0), of(99.9))
    };
    let ratio = during.percentile_us(99.9) / idle.percentile_us(99.9);
    scale.add(
        &format!("{} SET/s on {} keys, three nodes", thousands(RATE), thousands(shape.keys as f64)),
        format!(
            "without a checkpoint {}; while one runs ({} in {} s) {}: {} times the p99.9",
            show(&idle),
            checkpoints.len(),
            WATCH.as_secs(),
            show(&during),
            digits(ratio)
        ),
        json!({
            "checkpoints": checkpoints.len(),
            "idle_p999_us": idle.percentile_us(99.9),
            "during_p999_us": during.percentile_us(99.9),
            "idle_p99_us": idle.percentile_us(99.0),
            "during_p99_us": during.percentile_us(99.0),
        }),
    );
    Ok(())
}

fn seen_checkpoints(cluster: &Cluster, service: Service) -> Result<Vec<(f64, f64)>> {
    let figure = |node: &Node, name: &str| Ok::<_, anyhow::Error>(node.metric(service, name)?.unwrap_or(0.0));
    cluster
        .nodes
        .iter()
        .map(|node| Ok((figure(node, CHECKPOINTS)?, figure(node, CHECKPOINT_SECONDS)?)))
        .collect()
}

/// A follower comes back with an empty disk, under load: how long it takes to have everything, and what clients notice.
fn newcomer(cluster: &mut Cluster, stage: &mut Stage, shape: &Shape, scale: &mut Scale) -> Result<()> {
    let (leader, follower) = {
        let nodes = cluster.leader_first()?;
        (nodes[0].address, nodes[1].address)
    };
    let service = cluster.service;
    let mut beside = Beside::start(leader, shape)?;
    let mut before = Histogram::default();
    for _ in 0..20 {
        before.add(&beside.slice(stage)?);
    }
    let node = cluster.nodes.iter_mut().find(|node| node.address == follower).context("it is one of them")?;
    node.start_again(Signal::KILL, true)?;
    let start = Instant::now();
    let mut during = Histogram::default();
    let mut own: f64 = 0.0;
    while !node.is_ready(service) {
        ensure!(start.elapsed() < PATIENCE, "it is not ready after {PATIENCE:?}");
        during.add(&beside.slice(stage)?);
        own = own.max(measure::memory(node.pid(), "RssAnon")?);
    }
    let took = start.elapsed();
    let of = |latency: &Histogram, percent| digits(latency.percentile_us(percent) / 1e3);
    let memory = measure::memory(node.pid(), "VmHWM")?;
    scale.add(
        &format!("an empty follower of {} keys", thousands(shape.keys as f64)),
        format!(
            "has them after {} s and serves, beside {} SET/s: p99 {} ms and p99.9 {} ms meanwhile, {} and {} before; its peak \
             RSS {:.0} MiB, without mapped files {:.0} MiB",
            digits(took.as_secs_f64()),
            thousands(RATE),
            of(&during, 99.0),
            of(&during, 99.9),
            of(&before, 99.0),
            of(&before, 99.9),
            memory / f64::from(1 << 20),
            own / f64::from(1 << 20)
        ),
        json!({
            "peak_rss_anonymous_bytes": own,
            "seconds": took.as_secs_f64(),
            "during_p99_us": during.percentile_us(99.0),
            "during_p999_us": during.percentile_us(99.9),
            "before_p999_us": before.percentile_us(99.9),
            "peak_rss_bytes": memory,
        }),
    );
    Ok(())
}
