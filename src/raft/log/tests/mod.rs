//! A log in a world that steps, fails and loses power when told to.

mod crash;
mod damage;
mod disk;
mod model;
mod real;
mod usage;

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::env::{BoxFuture, BoxStream, Clock, Exit, Listener, Net, Rng, Round, Spawner, TaskHandle, Wake};
use disk::FaultyDisk;

/// The smallest segment there is: a few batches fill it.
const SEGMENT: u64 = 16 << 10;

/// A node's surroundings, without the node.
#[derive(Clone)]
struct World {
    disk: FaultyDisk,
    workers: Workers,
    rng: Arc<Chance>,
    failures: Arc<Mutex<Vec<String>>>,
}

impl World {
    fn new() -> Self {
        Self::on(FaultyDisk::default())
    }

    fn on(disk: FaultyDisk) -> Self {
        let rng = Arc::new(Chance(AtomicU64::new(1)));
        Self { disk, workers: Workers::default(), rng, failures: Arc::default() }
    }

    fn env(&self) -> Env {
        Env {
            clock: Arc::new(Still),
            rng: Arc::clone(&self.rng) as Arc<dyn Rng>,
            net: Arc::new(Still),
            disk: Arc::new(self.disk.clone()),
            spawner: Arc::new(self.workers.clone()),
            observer: None,
        }
    }

    /// Opens the log after the process that had it has ended.
    fn try_open(&self, options: &Options) -> Result<(Wal, Recovered), OpenError> {
        self.workers.kill();
        let failures = Arc::clone(&self.failures);
        let on_failure = move |error: io::Error| failures.lock().expect("kept").push(error.to_string());
        Wal::open(
            &self.env(),
            options,
            Hooks {
                on_failure: Box::new(on_failure),
                on_durable: Box::new(|_| ()),
                on_sync: Box::new(|_| ()),
            },
        )
    }

    fn open(&self) -> (Wal, Recovered) {
        self.try_open(&options()).expect("opens")
    }

    /// Lets the workers do all there is to do.
    fn run(&self) {
        while self.workers.step() {}
    }

    fn failures(&self) -> Vec<String> {
        self.failures.lock().expect("kept").clone()
    }
}

fn options() -> Options {
    Options { segment_bytes: SEGMENT, cache_bytes_max: 4 << 10, recycle_max: 2, ..Options::new("/log") }
}

fn segment_path(sequence: u64) -> PathBuf {
    options().dir.join(format!("{sequence:016x}.log"))
}

fn id(term: u64, index: u64) -> LogId {
    LogId { term, index }
}

/// An entry whose body tells where it belongs.
fn entry(term: u64, index: u64, bytes: usize) -> LogEntry {
    let body = format!("<{term}/{index}>").into_bytes().into_iter().cycle().take(bytes).collect();
    LogEntry { id: id(term, index), kind: EntryKind::Normal, body }
}

fn entries(term: u64, indexes: Range<u64>, bytes: usize) -> Vec<LogEntry> {
    indexes.map(|index| entry(term, index, bytes)).collect()
}

fn ignore() -> Done {
    Box::new(|_| ())
}

/// Everything the log has, through as many reads as it takes.
fn read_all(wal: &Wal) -> Vec<LogEntry> {
    let mut all: Vec<LogEntry> = Vec::new();
    let Some(mut next) = wal.first_index() else { return all };
    loop {
        let more = wal.read(next..u64::MAX, 1500).expect("reads");
        if more.is_empty() {
            return all;
        }
        next += more.len() as u64;
        all.extend(more);
    }
}

/// Collects what callbacks were told, in order.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<Telling>>>);

type Telling = (u64, Result<(), String>);

impl Told {
    fn done(&self, label: u64) -> Done {
        let told = Arc::clone(&self.0);
        Box::new(move |result| {
            told.lock().expect("kept").push((label, result.map_err(|error| error.to_string())));
        })
    }

    fn all(&self) -> Vec<Telling> {
        self.0.lock().expect("kept").clone()
    }

    fn ok(&self) -> Vec<u64> {
        self.all().into_iter().filter_map(|(label, result)| result.is_ok().then_some(label)).collect()
    }
}

/// Workers that run when the test says so, or the moment they are woken.
#[derive(Clone, Default)]
struct Workers(Arc<Pool>);

#[derive(Default)]
struct Pool {
    idle: Mutex<Vec<Worker>>,
    /// A worker that another one wakes runs at once, in the middle of the other's round: as much ahead as a
    /// thread can be.
    eager: AtomicBool,
    running: AtomicBool,
}

struct Worker {
    bell: Weak<Bell>,
    round: Box<dyn FnMut() -> Round + Send>,
}

struct Bell {
    rung: AtomicBool,
    pool: Weak<Pool>,
}

impl Wake for Bell {
    fn wake(&self) {
        self.rung.store(true, Ordering::Relaxed);
        if let Some(pool) = self.pool.upgrade()
            && pool.eager.load(Ordering::Relaxed)
            && pool.running.load(Ordering::Relaxed)
        {
            pool.step();
        }
    }
}

impl Pool {
    /// One round of the worker that has waited longest; `false` if nobody was woken.
    fn step(&self) -> bool {
        let rung = |worker: &Worker| {
            worker.bell.upgrade().is_some_and(|bell| bell.rung.swap(false, Ordering::Relaxed))
        };
        let mut idle = self.idle.lock().expect("kept");
        let Some(at) = idle.iter().position(rung) else { return false };
        let mut worker = idle.remove(at);
        drop(idle);
        let nested = self.running.swap(true, Ordering::Relaxed);
        let round = (worker.round)();
        self.running.store(nested, Ordering::Relaxed);
        if round == Round::Again {
            self.idle.lock().expect("kept").push(worker);
        }
        true
    }
}

impl Workers {
    fn eager() -> Self {
        Self(Arc::new(Pool { eager: AtomicBool::new(true), ..Pool::default() }))
    }

    fn step(&self) -> bool {
        self.0.step()
    }

    fn kill(&self) {
        let ended = std::mem::take(&mut *self.0.idle.lock().expect("kept"));
        drop(ended);
    }
}

impl Spawner for Workers {
    fn spawn(&self, _task: BoxFuture<'static, ()>) -> TaskHandle {
        unreachable!("the log has no tasks")
    }

    fn worker(&self, _name: &str, round: Box<dyn FnMut() -> Round + Send>) -> WorkerHandle {
        let bell = Arc::new(Bell { rung: AtomicBool::new(false), pool: Arc::downgrade(&self.0) });
        self.0.idle.lock().expect("kept").push(Worker { bell: Arc::downgrade(&bell), round });
        WorkerHandle(bell)
    }

    fn blocking(&self, _work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        unreachable!("the log has no tasks")
    }

    fn exit(&self, _reason: Exit) -> ! {
        unreachable!("the log leaves that to its owner")
    }
}

struct Chance(AtomicU64);

impl Rng for Chance {
    fn next_u64(&self) -> u64 {
        let seed = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        let mixed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// Time does not pass and nobody is there.
struct Still;

impl Clock for Still {
    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }

    fn wall_ms(&self) -> u64 {
        0
    }

    fn sleep(&self, _duration: Duration) -> BoxFuture<'static, ()> {
        unreachable!("the log does not sleep")
    }

    fn sleep_precise(&self, _duration: Duration) -> BoxFuture<'static, ()> {
        unreachable!("the log does not sleep")
    }
}

impl Net for Still {
    fn listen<'a>(&'a self, _address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        unreachable!("the log has no peers")
    }

    fn connect<'a>(&'a self, _address: &'a str) -> BoxFuture<'a, io::Result<BoxStream>> {
        unreachable!("the log has no peers")
    }
}
