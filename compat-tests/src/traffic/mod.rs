//! Clients that do a bit of everything to a cluster, and write down every request and every answer, so that checkers which
//! trust nobody can judge them.
//!
//! They are judged while they go on: keys live for a [generation](recorder), and one that is over is read once more, judged
//! ([`judge`]) and forgotten, but for what it left behind ([`residue`]), which must be there at the very end.
//!
//! Whoever breaks things meanwhile says so through [`Traffic::fault`]: a fault that strikes when nobody is served, or after
//! which nobody is, is an error.

mod client;
mod judge;
mod mix;
mod recorder;
mod residue;
mod subscriber;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use quorate::sim::check::history::Value;

use crate::client::ask;
use crate::cluster::PATIENCE;
use crate::wait_for;
use client::Client;
use judge::Judge;
use recorder::{Generation, Recorder};

pub use recorder::Tally;

/// Answers after which a generation is over.
const GENERATION: u64 = 6_000;

/// A fault counts if somebody is answered within this time before it, and after it: longer than an election, on a machine that
/// has much else to do.
const NEAR: Duration = PATIENCE;

/// The numbers of clients that are not of the crowd.
const READER: usize = 1_000_000;

/// Running clients.
pub struct Traffic {
    recorder: Arc<Recorder>,
    clients: Vec<JoinHandle<()>>,
    subscribers: Vec<JoinHandle<()>>,
    keeper: JoinHandle<Result<Judge>>,
    nodes: Vec<SocketAddr>,
    start: Instant,
    faults: Mutex<BTreeMap<String, Struck>>,
    _stop: Stop,
}

/// A fault that has begun.
pub struct Begun {
    number: usize,
    class: String,
    what: String,
}

/// Nobody goes on when the traffic is gone.
struct Stop(Arc<Recorder>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.stop();
    }
}

impl Traffic {
    /// `count` clients, spread over the nodes, and a subscriber on each. Each client goes on to the next node when one
    /// does not help it.
    pub fn start(nodes: &[SocketAddr], count: usize, seed: u64) -> Result<Self> {
        wait_for("a cluster that tells of changes", PATIENCE, || {
            Ok(ask(nodes[0], &["CONFIG", "SET", "notify-keyspace-events", "KA"]).ok())
        })?;
        let recorder = Arc::new(Recorder::new());
        let start_subscriber = |(number, &node): (usize, &SocketAddr)| {
            let recorder = Arc::clone(&recorder);
            std::thread::spawn(move || subscriber::run(number, node, &recorder))
        };
        let subscribers = nodes.iter().enumerate().map(start_subscriber).collect();
        let start_client = |number| {
            let client = Client::new(number, nodes, seed, Arc::clone(&recorder));
            std::thread::spawn(move || mix::run(client))
        };
        let clients = (0..count).map(start_client).collect();
        let keeper = {
            let (nodes, recorder) = (nodes.to_vec(), Arc::clone(&recorder));
            std::thread::spawn(move || {
                let kept = keep(&nodes, &recorder);
                if let Err(error) = &kept {
                    recorder.find(format!("{error:#}"));
                }
                kept
            })
        };
        let (nodes, faults, stop) = (nodes.to_vec(), Mutex::default(), Stop(Arc::clone(&recorder)));
        Ok(Self { recorder, clients, subscribers, keeper, nodes, start: Instant::now(), faults, _stop: stop })
    }

    /// Waits until so many more requests have been answered.
    pub fn wait_for(&self, more: u64) -> Result<()> {
        let goal = self.recorder.answered() + more;
        // Longer than for a single thing: it is hundreds.
        wait_for("answers", 4 * PATIENCE, || {
            self.check()?;
            Ok((self.recorder.answered() >= goal).then_some(()))
        })
    }

    /// Does something to the servers, from the first of `during` to its end.
    pub fn fault<T>(&self, class: &str, target: &str, during: impl FnOnce() -> Result<T>) -> Result<T> {
        let begun = self.begin_fault(class, target)?;
        self.end_fault(begun, during())
    }

    /// Something is about to be done to the servers.
    pub fn begin_fault(&self, class: &str, target: &str) -> Result<Begun> {
        self.check()?;
        let what = format!("{class}, {target}");
        self.wait_for_newer(self.recorder.now(), &format!("an answer before: {what}"))?;
        let number = self.recorder.faults().begin_fault(self.recorder.now(), class, target);
        Ok(Begun { number, class: class.to_owned(), what })
    }

    /// It is over, and came to this.
    pub fn end_fault<T>(&self, fault: Begun, done: Result<T>) -> Result<T> {
        let Begun { number, class, what } = fault;
        let end_ns = self.recorder.now();
        self.recorder.faults().end_fault(number, end_ns);
        // What the judges have found explains all else.
        self.check()?;
        let done = done.with_context(|| what.clone())?;
        self.wait_for_newer(end_ns, &format!("an answer after: {what}"))?;
        self.faults.lock().expect("no holder panics").entry(class).or_default().times += 1;
        Ok(done)
    }

    /// Waits until somebody is answered who asked later than that.
    fn wait_for_newer(&self, ns: u64, what: &str) -> Result<()> {
        wait_for(what, NEAR, || Ok((self.recorder.newest_answered_ns() > ns).then_some(())))
    }

    /// An error that says what the judges have found so far.
    pub fn check(&self) -> Result<()> {
        self.recorder.finding().map_or(Ok(()), |what| bail!("{what}"))
    }

    /// How many requests were answered so far.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.recorder.answered()
    }

    /// Ends the clients, then reads everything once more through every node, all of which must be well.
    pub fn finish(self) -> Result<Summary> {
        let lasted = self.start.elapsed();
        let tally = self.recorder.tally();
        self.recorder.stop();
        for client in self.clients {
            ensure!(client.join().is_ok(), "a client panicked");
        }
        let Ok(judge) = self.keeper.join() else { bail!("a judge panicked") };
        let mut judge = judge?;
        for subscriber in self.subscribers {
            ensure!(subscriber.join().is_ok(), "a subscriber panicked");
        }
        judge.finish(&self.recorder)?;
        let left = read_residues(&self.nodes, &judge, &self.recorder)?;
        let surprises = self.recorder.surprises();
        ensure!(surprises.is_empty(), "errors that nothing provoked: {surprises:?}");
        let generations = judge.residues.len();
        let mut faults = self.faults.into_inner().expect("no holder panics");
        for struck in &self.recorder.faults().faults {
            let Some(class) = faults.get_mut(&struck.class) else { continue };
            let end_ns = struck.end_ns.unwrap_or(u64::MAX);
            let silences = tally.silences.iter().filter(|(from, to)| *from < end_ns && *to > struck.begin_ns);
            let longest = silences.map(|(from, to)| Duration::from_nanos(to - from)).max();
            class.silence = class.silence.max(longest.unwrap_or_default());
        }
        Ok(Summary { lasted, tally, generations, judged: judge.judged, left, faults })
    }
}

/// Opens one generation after the other, and has each judged when it is over. Ends with an error as soon as one is not
/// accepted, otherwise when the clients do.
fn keep(nodes: &[SocketAddr], recorder: &Arc<Recorder>) -> Result<Judge> {
    let mut judge = Judge::default();
    loop {
        let goal = recorder.answered() + GENERATION;
        while !recorder.is_stopped() && recorder.answered() < goal {
            std::thread::sleep(crate::POLL);
        }
        let is_last = recorder.is_stopped();
        let generation = recorder.open_next();
        wait_for("the clients to leave a generation", 2 * PATIENCE, || {
            Ok((Arc::strong_count(&generation) == 1).then_some(()))
        })?;
        if is_last {
            // Each node by itself.
            for (number, &node) in nodes.iter().enumerate() {
                read_all(number, &[node], &generation, recorder)?;
            }
        } else {
            read_all(0, nodes, &generation, recorder)?;
        }
        let mut speaker = Client::for_generation(READER, nodes, &generation, recorder);
        let last = if is_last { subscriber::OVER } else { subscriber::LAST };
        for attempt in 0.. {
            let text = format!("{}.{attempt}{last}", generation.number);
            if speaker.call(&["PUBLISH", subscriber::CHANNEL, &text]).is_some() {
                break;
            }
            ensure!(attempt < 10_000, "PUBLISH does not work");
        }
        drop(speaker);
        let number = generation.number;
        let generation = Arc::into_inner(generation).context("nobody else has it any more")?;
        judge.generation(number, generation.into_history(), recorder)?;
        if is_last {
            return Ok(judge);
        }
    }
}

/// Reads what a generation has written.
fn read_all(
    number: usize,
    nodes: &[SocketAddr],
    generation: &Arc<Generation>,
    recorder: &Arc<Recorder>,
) -> Result<()> {
    let readings = generation.with(|history| {
        let keys = history.operations.iter().flat_map(|operation| operation.request.keys());
        keys.filter_map(mix::reading).collect::<BTreeSet<_>>()
    });
    let mut client = Client::for_generation(READER + 1 + number, nodes, generation, recorder);
    for words in &readings {
        read(&mut client, words)?;
    }
    Ok(())
}

fn read(client: &mut Client, words: &[String]) -> Result<Value> {
    let words = words.iter().map(String::as_str).collect::<Vec<_>>();
    wait_for("a read to be answered", 2 * PATIENCE, || Ok(client.call(&words)))
}

/// Reads again what all generations have left, through one node or another.
fn read_residues(nodes: &[SocketAddr], judge: &Judge, recorder: &Arc<Recorder>) -> Result<usize> {
    let mut left = 0;
    for (number, residue) in judge.residues.iter().enumerate() {
        // A history of its own, which nobody needs.
        let generation = recorder.open_next();
        let node = nodes[number % nodes.len()];
        let mut client = Client::for_generation(READER, &[node], &generation, recorder);
        let mut now = BTreeMap::new();
        for words in residue.readings() {
            now.insert(words.clone(), read(&mut client, words)?);
        }
        left += residue.check(&now)?;
    }
    Ok(left)
}

/// What came of it: nothing wrong was found.
#[derive(Debug)]
pub struct Summary {
    /// With all clients.
    pub lasted: Duration,
    pub tally: Tally,
    pub generations: usize,
    /// How many operations each judge has accepted.
    pub judged: BTreeMap<&'static str, usize>,
    /// How many keys were there at the very end as they were left.
    pub left: usize,
    pub faults: BTreeMap<String, Struck>,
}

/// What came of faults of a class.
#[derive(Debug, Default)]
pub struct Struck {
    pub times: usize,
    /// The longest time around one of them in which nobody was answered.
    pub silence: Duration,
}

impl Summary {
    /// Answers a second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.tally.answered as f64 / self.lasted.as_secs_f64()
    }

    /// An error if there were fewer answers, or fewer faults of a class.
    pub fn ensure_enough(&self, answers: u64, faults: &[(&str, usize)]) -> Result<()> {
        ensure!(self.tally.answered >= answers, "no more than {} answers", self.tally.answered);
        for (class, least) in faults {
            let times = self.faults.get(*class).map_or(0, |struck| struck.times);
            ensure!(times >= *least, "{class} happened {times} times instead of {least}");
        }
        let empty = self.judged.iter().find(|(_, operations)| **operations == 0);
        ensure!(empty.is_none(), "nothing was judged: {empty:?}");
        Ok(())
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tally { answered, refused, unknown, .. } = &self.tally;
        let (rate, lasted) = (self.rate(), self.lasted);
        write!(
            to,
            "{answered} answers in {lasted:.1?} ({rate:.0} a second), {refused} refused, {unknown} unknown; "
        )?;
        write!(to, "the longest time without one: {:.1?}", self.tally.longest_silence())
    }
}
