//! Many clusters, each decided by a seed and through everything, on all cores; and what it adds up to.
//!
//! `cargo test` lives through [`SEEDS`] of them. `MINUTES=30 SEED=1000 cargo test --lib sim::campaign` goes on from that
//! seed for so long, and `HOURS=20` until clusters have lived for so long in their own time; `SEED=7 cargo test --lib
//! sim::campaign` is that one only.

#![allow(clippy::disallowed_methods)] // Threads, and the time they take, are outside of the simulated worlds.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::client::Answer;
use super::cluster::Cluster;
use super::faults::Fault;
use super::invariants::DRIFT;
use super::{Plan, live_in};
use crate::env::sim;

/// Seeds of every run, and how many of them are lived through twice.
const SEEDS: u64 = 120;
const TWICE: u64 = 20;
/// How long each cluster lives with faults, in simulated time.
const LASTS: Duration = Duration::from_secs(60);
/// So many hours at least, then: a seed that is lived through twice counts once.
const HOURS_MIN: u64 = 2;
const _: () = assert!(SEEDS * LASTS.as_secs() >= HOURS_MIN * 3_600);
/// When it must have ended: what heals, settles and is read at last has its limits, which are shorter.
const ENDS: Duration = Duration::from_secs(600);
/// What a run of a hundred seeds must have had at least, else it has shown nothing.
const FAULTS_MIN: u64 = 20;
const OPERATIONS_MIN: u64 = 100_000;
const JUDGED_MIN: u64 = 3_000;
/// And so many of what operations and faults are there for: a fifth of what there mostly is.
const OUTCOMES_MIN: [(&str, u64); 7] = [
    ("locks taken", 400),
    ("guarded transactions done", 500),
    ("guarded transactions given up", 20),
    ("keys ended", 1_300),
    ("snapshots installed", 90),
    ("logs truncated", 20),
    ("groups sent again", 120),
];

/// What happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub seeds: u64,
    pub twice: u64,
    pub fives: u64,
    pub lmdb: u64,
    pub drifting: u64,
    pub simulated: Duration,
    pub answered: u64,
    pub not_applied: u64,
    pub unknown: u64,
    pub silences: u64,
    /// Attempts to connect of which nothing came.
    pub unconnected: u64,
    pub faults: BTreeMap<Fault, u64>,
    /// How many operations each judge was shown.
    pub judged: BTreeMap<&'static str, u64>,
    /// What came of them, and of faults.
    pub outcomes: BTreeMap<&'static str, u64>,
}

impl Tally {
    /// Counts what became of a request.
    pub fn answer(&mut self, answer: &Answer) {
        *match answer {
            Answer::Reply(_) => &mut self.answered,
            Answer::NotApplied => &mut self.not_applied,
            Answer::Unknown => &mut self.unknown,
            Answer::Silence => &mut self.silences,
        } += 1;
    }

    fn add(&mut self, other: &Self) {
        self.seeds += other.seeds;
        self.twice += other.twice;
        self.fives += other.fives;
        self.lmdb += other.lmdb;
        self.drifting += other.drifting;
        self.simulated += other.simulated;
        self.answered += other.answered;
        self.not_applied += other.not_applied;
        self.unknown += other.unknown;
        self.silences += other.silences;
        self.unconnected += other.unconnected;
        for (fault, times) in &other.faults {
            *self.faults.entry(*fault).or_default() += times;
        }
        for (judge, operations) in &other.judged {
            *self.judged.entry(judge).or_default() += operations;
        }
        for (outcome, times) in &other.outcomes {
            *self.outcomes.entry(outcome).or_default() += times;
        }
    }

    /// An error if a client was not served. Without a fault there is no reason for that.
    pub fn check_peace(&self) -> Result<(), String> {
        let Self { not_applied, unknown, silences, unconnected, .. } = self;
        match (not_applied, unknown, silences, unconnected) {
            (0, 0, 0, 0) => Ok(()),
            _ => Err(format!("not served in peace: {self}")),
        }
    }

    /// What it lacks of a hundred seeds, in proportion.
    fn lacks(&self) -> Vec<String> {
        // Of few seeds, too, something is wanted.
        let share = |of_hundred: u64| (of_hundred * self.seeds).div_ceil(100);
        let times = |fault: &Fault| self.faults.get(fault).copied().unwrap_or(0);
        let rare = Fault::ALL.iter().filter(|fault| times(fault) < share(FAULTS_MIN));
        let mut lacks = rare.map(|fault| format!("{fault:?} {} times", times(fault))).collect::<Vec<_>>();
        let idle = self.judged.iter().filter(|(_, operations)| **operations < share(JUDGED_MIN));
        lacks.extend(idle.map(|(judge, operations)| format!("{operations} operations on {judge}")));
        let outcome = |name: &str| self.outcomes.get(name).copied().unwrap_or(0);
        let rare = OUTCOMES_MIN.iter().filter(|(name, least)| outcome(name) < share(*least));
        lacks.extend(rare.map(|(name, _)| format!("{} {name}", outcome(name))));
        for (what, number, least) in [
            ("operations", self.answered, share(OPERATIONS_MIN)),
            ("clusters of five", self.fives, share(20)),
            ("clusters on LMDB", self.lmdb, share(5)),
            ("clusters whose clocks drift", self.drifting, share(10)),
        ] {
            if number < least {
                lacks.push(format!("{number} {what}"));
            }
        }
        lacks
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hours = self.simulated.as_secs_f64() / 3_600.0;
        writeln!(
            f,
            "{} seeds ({} twice; {} of five nodes, {} on LMDB, {} with clocks that drift), {hours:.2} cluster-hours",
            self.seeds, self.twice, self.fives, self.lmdb, self.drifting
        )?;
        writeln!(
            f,
            "operations: {} answered, {} not applied, {} unknown, {} without a word, {} without a connection",
            self.answered, self.not_applied, self.unknown, self.silences, self.unconnected
        )?;
        let judged = self.judged.iter().map(|(judge, operations)| format!("{judge} {operations}"));
        writeln!(f, "judged: {}", judged.collect::<Vec<_>>().join(", "))?;
        let outcomes = self.outcomes.iter().map(|(outcome, times)| format!("{outcome} {times}"));
        writeln!(f, "outcomes: {}", outcomes.collect::<Vec<_>>().join(", "))?;
        let faults = self.faults.iter().map(|(fault, times)| format!("{fault:?} {times}"));
        write!(f, "faults: {}", faults.collect::<Vec<_>>().join(", "))
    }
}

/// What a seed decides, besides all else.
struct Chosen {
    nodes: usize,
    lmdb: bool,
    drift: bool,
    wall_clocks: bool,
}

impl Chosen {
    fn by(seed: u64) -> Self {
        Self {
            nodes: if seed.is_multiple_of(3) { 5 } else { 3 },
            lmdb: seed % 10 == 7,
            drift: seed % 4 == 1,
            wall_clocks: seed.is_multiple_of(2),
        }
    }
}

/// Lives through one seed. Gives the hash of all that happened, and what it added up to.
fn live(seed: u64) -> Result<(u64, Tally), String> {
    let chosen = Chosen::by(seed);
    let files = chosen.lmdb.then(|| tempfile::tempdir().expect("there is room for files"));
    let faults = if chosen.wall_clocks {
        &Fault::ALL[..]
    } else {
        Fault::ALL.split_last().expect("wall clocks come last").1
    };
    let drifted =
        Duration::from_millis(super::TTL_MAX_MS) * 2 * u32::try_from(DRIFT).expect("a small number") / 1_000;
    let early = super::PEACE.early + if chosen.drift { drifted } else { Duration::ZERO };
    let plan = Plan { faults, early, lasts: LASTS, think_ms: 2_000, ..super::WAR };
    sim::run(seed, async |world| {
        if let Some(files) = &files {
            world.use_lmdb(files.path());
        }
        if chosen.drift {
            let drift = u32::try_from(DRIFT).expect("a small number");
            world.set_clock_rate("n1", 1_000 + drift);
            world.set_clock_rate("n2", 1_000 - drift);
        }
        let cluster = Cluster::of(&world, chosen.nodes, chosen.drift);
        let lived = tokio::select! {
            biased;
            lived = live_in(&cluster, &plan) => lived,
            () = world.client_env().clock.sleep(ENDS) => Err("it does not end".into()),
        };
        lived.map_err(|failure| format!("{failure}\n{}", cluster.diary()))?;
        let mut tally = cluster.tally(|tally| tally.clone());
        tally.seeds = 1;
        tally.simulated = world.elapsed();
        tally.fives = u64::from(chosen.nodes == 5);
        tally.lmdb = u64::from(chosen.lmdb);
        tally.drifting = u64::from(chosen.drift);
        for struck in cluster.hosts().iter().map(|host| world.disk_struck(host)) {
            *tally.faults.entry(Fault::BadSync).or_default() += struck.syncs;
            *tally.faults.entry(Fault::CrashInWrite).or_default() += struck.power_cuts;
        }
        Ok((world.trace_hash(), tally))
    })
}

/// The same, where a panic is a failure as well; with `twice`, the second time must be like the first. That shows nothing
/// new of the cluster, so it adds to no figure but its own.
fn live_and_again(twice: bool, seed: u64) -> Result<Tally, String> {
    let live = || {
        let lived = catch_unwind(AssertUnwindSafe(|| live(seed)));
        lived.unwrap_or_else(|_| Err("it panicked, see above".into()))
    };
    let (hash, mut tally) = live()?;
    if twice {
        let (again, second) = live()?;
        if (again, &second) != (hash, &tally) {
            return Err(format!("two runs differ: {hash:x} {tally:?}, {again:x} {second:?}"));
        }
        tally.twice = 1;
    }
    Ok(tally)
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

#[test]
fn campaign() {
    let (minutes, hours, asked) = (number("MINUTES"), number("HOURS"), number("SEED"));
    let started = Instant::now();
    let first = asked.unwrap_or(1);
    let last = match (minutes.or(hours), asked) {
        (Some(_), _) => u64::MAX,
        (None, Some(only)) => only,
        (None, None) => SEEDS,
    };
    let until = minutes.map(|minutes| started + Duration::from_secs(60 * minutes));
    let enough = hours.map(|hours| Duration::from_secs(3_600 * hours));
    let (next, failed) = (AtomicU64::new(first), AtomicBool::new(false));
    let whole = Mutex::new((Tally::default(), Vec::new()));
    let lived = || whole.lock().expect("no holder panics").0.simulated;
    let work = || {
        while !failed.load(Ordering::Relaxed)
            && until.is_none_or(|until| Instant::now() < until)
            && enough.is_none_or(|enough| lived() < enough)
        {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed > last {
                return;
            }
            let lived = live_and_again(last != first && seed - first < TWICE, seed);
            let (tally, failures) = &mut *whole.lock().expect("no holder panics");
            match lived {
                Ok(lived) => tally.add(&lived),
                Err(failure) => {
                    failed.store(true, Ordering::Relaxed);
                    failures.push(format!("{failure}\nSEED={seed} cargo test --lib sim::campaign"));
                }
            }
        }
    };
    let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    std::thread::scope(|scope| (0..cores).for_each(|_| drop(scope.spawn(work))));
    let (tally, failures) = whole.into_inner().expect("no holder panics");
    let took = started.elapsed();
    let lacks = if last == first { Vec::new() } else { tally.lacks() };
    let verdict = match (failures.first(), lacks.is_empty()) {
        (Some(_), _) => "FAILED".to_owned(),
        (None, false) => format!("too little coverage: {}", lacks.join(", ")),
        (None, true) => "nothing is wrong".to_owned(),
    };
    let summary = format!("{tally}\nin {:.0} s: {verdict}", took.as_secs_f64());
    // Past the harness, which keeps what tests print to itself.
    drop(std::io::Write::write_all(&mut std::io::stderr(), format!("{summary}\n").as_bytes()));
    assert!(failures.is_empty(), "{}\n{summary}", failures.join("\n"));
    assert!(lacks.is_empty(), "{summary}");
}
