//! How long clients wait when the leader dies, is cut off, stands still, or hands over.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;

use super::{Campaign, DISK_BYTES, Extent, Report, Rounds, cluster_for};
use crate::client::{Connection, ask};
use crate::cluster::PATIENCE;
use crate::lab::Lab;
use crate::reply::Reply;
use crate::wait_for;

pub const CAMPAIGN: Campaign = Campaign {
    name: "failover",
    about: "the leader is killed, cut off, stopped, and asked to hand over; clients of the other nodes wait, see no \
            error, and no increment is lost or done twice",
    run,
};

/// Each kind once, and thirty times.
const ROUNDS: Rounds = Rounds { least: KINDS.len(), release: 30 * KINDS.len() };
/// Calls between two failovers, so that there was peace.
const CALLS: usize = 50;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Kill,
    Partition,
    Pause,
    HandOver,
}

const KINDS: [Kind; 4] = [Kind::Kill, Kind::Partition, Kind::Pause, Kind::HandOver];

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill -9",
            Self::Partition => "partition",
            Self::Pause => "SIGSTOP",
            Self::HandOver => "planned hand-over",
        }
    }
}

fn run(extent: &mut Extent) -> Result<Report> {
    let mut lab = Lab::prepare(3, DISK_BYTES)?;
    cluster_for(&mut lab)?;
    let mut waits: [Vec<Duration>; 4] = Default::default();
    let mut increments = 0;
    let mut rounds = 0;
    while extent.goes_on(rounds, &ROUNDS) {
        let kind = KINDS[rounds % KINDS.len()];
        let leader = lab.cluster.leader()?;
        let survivors: Vec<_> = (0..3).filter(|&number| number != leader).collect();
        let counters: Vec<_> =
            survivors.iter().map(|&number| Counting::start(lab.cluster.nodes[number].listen)).collect();
        counters.iter().try_for_each(|each| each.go_on(CALLS))?;
        let address = lab.cluster.nodes[leader].listen;
        match kind {
            Kind::Kill => lab.cluster.nodes[leader].kill(),
            Kind::Partition => lab.network.isolate(leader)?,
            Kind::Pause => lab.cluster.nodes[leader].signal(Signal::STOP)?,
            Kind::HandOver => {
                ask(address, &["FAILOVER"])?;
                // The answer comes before it is done.
                wait_for("another leader", PATIENCE, || Ok((lab.cluster.leader()? != leader).then_some(())))?;
            }
        }
        counters.iter().try_for_each(|each| each.go_on(CALLS))?;
        match kind {
            Kind::Kill => lab.cluster.nodes[leader].restart()?,
            Kind::Partition => lab.network.mend()?,
            Kind::Pause => lab.cluster.nodes[leader].signal(Signal::CONT)?,
            Kind::HandOver => {}
        }
        let mut longest = Duration::ZERO;
        for each in counters {
            let counted = each.stop().with_context(|| format!("{}, round {rounds}", kind.name()))?;
            increments += counted.calls;
            longest = longest.max(counted.longest);
        }
        waits[rounds % KINDS.len()].push(longest);
        lab.cluster.nodes[leader].wait_ready()?;
        rounds += 1;
    }
    for node in lab.cluster.addresses() {
        let count = ask(node, &["GET", COUNTER])?;
        ensure!(
            count == Reply::Bulk(increments.to_string().into_bytes()),
            "{increments} increments were acknowledged, and {node} has {count:?}"
        );
    }
    let mut report = Report::default();
    let mut long = Vec::new();
    for (kind, waits) in KINDS.into_iter().zip(&mut waits) {
        let waits = Waits::of(waits);
        if !waits.are_short(kind) {
            long.push(kind.name());
        }
        report.add(kind.name(), waits);
    }
    report.add("increments", format!("{increments}, each acknowledged and done once, no error"));
    ensure!(extent.is_short() || long.is_empty(), "{report}  clients waited too long: {}", long.join(", "));
    Ok(report)
}

/// What clients wait for at most when a leader is lost: in half of all cases, and in any; and when it hands over. The
/// shortest run is excused, as it has to do with whatever else a machine does.
const MEDIAN: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(3);
const PLANNED: Duration = Duration::from_millis(250);

struct Waits {
    times: usize,
    median: Duration,
    longest: Duration,
}

impl Waits {
    fn of(waits: &mut [Duration]) -> Self {
        waits.sort();
        Self { times: waits.len(), median: waits[waits.len() / 2], longest: waits[waits.len() - 1] }
    }

    fn are_short(&self, kind: Kind) -> bool {
        match kind {
            Kind::HandOver => self.longest <= PLANNED,
            _ => self.median <= MEDIAN && self.longest <= LONGEST,
        }
    }
}

impl fmt::Display for Waits {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { times, median, longest } = self;
        write!(to, "{times} times; a client waited {median:.0?} (median), {longest:.0?} (longest)")
    }
}

const COUNTER: &str = "failover:counter";

/// A client that increments without an end, on one connection to one node.
struct Counting {
    stop: Arc<AtomicBool>,
    calls: Arc<std::sync::atomic::AtomicUsize>,
    thread: JoinHandle<Result<Counted>>,
}

struct Counted {
    calls: usize,
    longest: Duration,
}

impl Counting {
    fn start(node: SocketAddr) -> Self {
        let (stop, calls) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let thread = {
            let (stop, calls) = (Arc::clone(&stop), Arc::clone(&calls));
            std::thread::spawn(move || count(node, &stop, &calls))
        };
        Self { stop, calls, thread }
    }

    /// Waits for more calls.
    fn go_on(&self, calls: usize) -> Result<()> {
        let goal = self.calls.load(Ordering::Relaxed) + calls;
        wait_for("increments", Duration::from_secs(30), || {
            let enough = self.calls.load(Ordering::Relaxed) >= goal;
            ensure!(enough || !self.thread.is_finished(), "a client gave up");
            Ok(enough.then_some(()))
        })
    }

    fn stop(self) -> Result<Counted> {
        self.stop.store(true, Ordering::Relaxed);
        match self.thread.join() {
            Ok(counted) => counted,
            Err(_) => bail!("a client panicked"),
        }
    }
}

fn count(node: SocketAddr, stop: &AtomicBool, calls: &std::sync::atomic::AtomicUsize) -> Result<Counted> {
    let mut connection = Connection::open(node)?;
    let mut longest = Duration::ZERO;
    let mut done = 0;
    while !stop.load(Ordering::Relaxed) {
        let start = Instant::now();
        let reply = connection.call(&["INCR", COUNTER])?;
        ensure!(matches!(reply, Reply::Int(_)), "INCR through {node}: {reply:?}");
        longest = longest.max(start.elapsed());
        done += 1;
        calls.store(done, Ordering::Relaxed);
    }
    Ok(Counted { calls: done, longest })
}
