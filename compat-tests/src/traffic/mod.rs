//! Clients that do a bit of everything to a cluster, and write down every request and every answer, so that checkers which
//! trust nobody can judge them afterwards.
//!
//! Whoever breaks things meanwhile says so through [`Traffic::fault`]: the faults stand in the same history, and a run in
//! which they did not happen, or to an idle cluster, is no success.

mod client;
mod mix;
mod subscriber;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::BufWriter;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use quorate::sim::check::coverage::{Counted, Coverage};
use quorate::sim::check::history::{Delivery, History, Outcome, Request};
use quorate::sim::check::leases::Allowance;
use quorate::sim::check::search::STATES_MAX;
use quorate::sim::check::{Verdict, appends, leases, locks, messages, sets, strings};

use crate::cluster::PATIENCE;
use crate::wait_for;
use client::Client;

/// A fault counts if somebody was answered so long before it and after it: longer than an election.
const NEAR: Duration = Duration::from_secs(10);

/// How long before and after a fault a cluster may be without a leader. Deadlines wait for one.
const LEADERLESS: Duration = Duration::from_secs(5);

/// By how much too early a deadline may seem to come: the nodes' clock counts milliseconds.
const EARLY_NS: u64 = 2_000_000;

/// What all clients write into.
struct Recorder {
    start: Instant,
    history: Mutex<History>,
    answered: AtomicU64,
    /// Errors that nothing here provokes.
    surprises: Mutex<BTreeSet<String>>,
}

impl Recorder {
    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).expect("a run is shorter than 500 years")
    }

    fn write<T>(&self, action: impl FnOnce(&mut History) -> T) -> T {
        action(&mut self.history.lock().expect("no holder panics"))
    }

    /// To be called before the request leaves.
    fn invoke(&self, client: u64, node: &str, request: Request) -> usize {
        let now = self.now();
        self.write(|history| history.invoke(client, node, now, request))
    }

    /// To be called when the answer is there.
    fn complete(&self, operation: usize, outcome: Outcome) {
        let now = self.now();
        if matches!(outcome, Outcome::Ok(_)) {
            self.answered.fetch_add(1, Ordering::Relaxed);
        }
        self.write(|history| history.complete(operation, now, outcome));
    }

    fn deliver(&self, subscriber: u64, channel: &str, message: Option<String>) {
        let delivery = Delivery { ns: self.now(), subscriber, channel: channel.to_owned(), message };
        self.write(|history| history.deliveries.push(delivery));
    }

    fn be_surprised(&self, error: String) {
        self.surprises.lock().expect("no holder panics").insert(error);
    }
}

/// Running clients.
pub struct Traffic {
    nodes: Vec<SocketAddr>,
    recorder: Arc<Recorder>,
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<()>>,
    subscribers: Vec<JoinHandle<()>>,
}

impl Traffic {
    /// `count` clients, spread over the nodes, and a subscriber on each. Each client goes on to the next node when one
    /// does not help it.
    #[must_use]
    pub fn start(nodes: &[SocketAddr], count: usize, seed: u64) -> Self {
        let recorder = Arc::new(Recorder {
            start: Instant::now(),
            history: Mutex::default(),
            answered: AtomicU64::new(0),
            surprises: Mutex::default(),
        });
        let stop = Arc::new(AtomicBool::new(false));
        let keys = Arc::new(mix::Keys::default());
        let start_client = |number| {
            let client = Client::new(number, nodes, seed, Arc::clone(&recorder));
            let (keys, stop) = (Arc::clone(&keys), Arc::clone(&stop));
            std::thread::spawn(move || mix::run(client, &keys, &stop))
        };
        let clients = (0..count).map(start_client).collect();
        let start_subscriber = |(number, &node): (usize, &SocketAddr)| {
            let recorder = Arc::clone(&recorder);
            std::thread::spawn(move || subscriber::run(number, node, &recorder))
        };
        let subscribers = nodes.iter().enumerate().map(start_subscriber).collect();
        Self { nodes: nodes.to_vec(), recorder, stop, clients, subscribers }
    }

    /// Waits until so many more requests have been answered.
    pub fn wait_for(&self, more: u64) -> Result<()> {
        let answered = || self.recorder.answered.load(Ordering::Relaxed);
        let goal = answered() + more;
        // Longer than for a single thing: it is hundreds.
        wait_for("answers", 4 * PATIENCE, || Ok((answered() >= goal).then_some(())))
    }

    /// Does something to a node, from the first of `during` to its end; what the history knows of it.
    pub fn fault<T>(&self, class: &str, target: &str, during: impl FnOnce() -> Result<T>) -> Result<T> {
        let now = self.recorder.now();
        let fault = self.recorder.write(|history| history.begin_fault(now, class, target));
        let done = during();
        let now = self.recorder.now();
        self.recorder.write(|history| history.end_fault(fault, now));
        done
    }

    /// Ends the clients, then reads everything once more through every node, all of which must be well.
    pub fn finish(self) -> Result<Record> {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            ensure!(client.join().is_ok(), "a client panicked");
        }
        let keys = self.recorder.write(|history| mix::keys(&history.operations));
        for number in 0..self.nodes.len() {
            let mut client =
                Client::of(self.nodes[number], 1_000 + number as u64, Arc::clone(&self.recorder));
            mix::read_all(&mut client, &keys)?;
        }
        let mut last = Client::of(self.nodes[0], 2_000, Arc::clone(&self.recorder));
        ensure!(
            last.call(&["PUBLISH", subscriber::CHANNEL, subscriber::LAST]).is_some(),
            "PUBLISH does not work"
        );
        for subscriber in self.subscribers {
            ensure!(subscriber.join().is_ok(), "a subscriber panicked");
        }
        let surprises = std::mem::take(&mut *self.recorder.surprises.lock().expect("no holder panics"));
        ensure!(surprises.is_empty(), "errors that nothing provoked: {surprises:?}");
        Ok(Record { history: self.recorder.write(std::mem::take) })
    }
}

/// What all clients saw.
pub struct Record {
    pub history: History,
}

impl Record {
    /// What there was to judge.
    #[must_use]
    pub fn coverage(&self) -> Counted {
        let near_ns = nanoseconds(NEAR);
        Coverage { operations: 0, faults: Vec::new(), near_ns }.count(&self.history)
    }

    /// Has every checker judge its part. An error names the first that does not accept it, and the file in which the
    /// history was left; it also demands so many answers, and so many faults of each class with traffic around them.
    pub fn judge(&self, answers: usize, faults: &[(&'static str, usize)]) -> Result<()> {
        let near_ns = nanoseconds(NEAR);
        let coverage =
            Coverage { operations: answers, faults: faults.to_vec(), near_ns }.check(&self.history);
        let verdicts = self.verdicts().into_iter().map(|(name, _, verdict)| (name, verdict));
        for (name, verdict) in verdicts.chain([("coverage", coverage)]) {
            if let Err(what) = verdict.to_result() {
                let path = std::env::temp_dir().join(format!("quorate-history-{}.jsonl", std::process::id()));
                self.write(&path)?;
                bail!("{name}: {what}\nthe whole history is in {}", path.display());
            }
        }
        Ok(())
    }

    /// What each checker says, and on how many operations.
    #[must_use]
    pub fn verdicts(&self) -> Vec<(&'static str, usize, Verdict)> {
        let judge = |name, prefix, check: &dyn Fn(&[_]) -> Verdict| {
            let operations = self.history.on_keys(prefix);
            (name, operations.len(), check(&operations))
        };
        let in_strings = |operations: &[_]| strings::check(operations, STATES_MAX);
        let allowance = self.allowance();
        vec![
            judge("registers", "register:", &in_strings),
            judge("counters", "counter:", &in_strings),
            judge("transactions", "account:", &in_strings),
            judge("lists", "list:", &appends::check),
            judge("sets", "set:", &sets::check),
            judge("leases", "lease:", &|operations| leases::check(operations, &allowance)),
            judge("locks", "lock:", &|operations| locks::check(operations, EARLY_NS)),
            judge("messages", subscriber::CHANNEL, &|operations| {
                messages::check(operations, &self.history.deliveries)
            }),
        ]
    }

    /// Time stands still without a leader.
    fn allowance(&self) -> Allowance {
        let around = nanoseconds(LEADERLESS);
        let leaderless = self.history.faults.iter().map(|fault| {
            (fault.begin_ns.saturating_sub(around), fault.end_ns.unwrap_or(u64::MAX / 2) + around)
        });
        let mut merged: Vec<(u64, u64)> = Vec::new();
        for (from, to) in leaderless {
            match merged.last_mut().filter(|last| from <= last.1) {
                Some(last) => last.1 = last.1.max(to),
                None => merged.push((from, to)),
            }
        }
        Allowance { early_ns: EARLY_NS, late_ns: 100_000_000, leaderless: merged }
    }

    /// The history as text.
    pub fn write(&self, path: &Path) -> Result<()> {
        Ok(self.history.write(BufWriter::new(File::create(path)?))?)
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).expect("some seconds")
}
