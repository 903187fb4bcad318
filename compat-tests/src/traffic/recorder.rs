//! What clients and subscribers write down.
//!
//! Keys live for a generation: some thousand requests, which have a history of their own. So a search for their order stays
//! short, a history can be judged and forgotten while the next one grows, and a run may go on for as long as one likes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use quorate::sim::check::history::{Delivery, History, Outcome, Request};

use super::mix::Keys;

/// A time without an answer that is worth noting.
const SILENCE: Duration = Duration::from_millis(50);

/// Some thousand requests, and the keys that only they use.
pub(super) struct Generation {
    pub number: u64,
    pub keys: Keys,
    history: Mutex<History>,
}

impl Generation {
    fn new(number: u64) -> Arc<Self> {
        Arc::new(Self { number, keys: Keys::default(), history: Mutex::default() })
    }

    /// Reads or writes its history.
    pub fn with<T>(&self, action: impl FnOnce(&mut History) -> T) -> T {
        action(&mut lock(&self.history))
    }

    /// Its history, when nobody uses it any more.
    pub fn into_history(self) -> History {
        self.history.into_inner().expect("no holder panics")
    }
}

/// How requests ended, and when.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub answered: u64,
    pub refused: u64,
    pub unknown: u64,
    /// When nobody was answered for a while, in the history's time.
    pub silences: Vec<(u64, u64)>,
    last_answer_ns: u64,
    /// When the newest of the requests was sent that were answered.
    newest_ns: u64,
}

impl Tally {
    /// The longest time without an answer.
    #[must_use]
    pub fn longest_silence(&self) -> Duration {
        Duration::from_nanos(self.silences.iter().map(|(from, to)| to - from).max().unwrap_or(0))
    }
}

/// What subscribers were told. Each connection is one subscriber.
#[derive(Default)]
pub(super) struct Heard {
    /// When each was told that it is subscribed to everything.
    pub confirmed: BTreeMap<u64, u64>,
    /// With the generation that they are about.
    pub deliveries: Vec<(u64, Delivery)>,
}

/// What all write into.
pub(super) struct Recorder {
    start: Instant,
    current: Mutex<Arc<Generation>>,
    stop: AtomicBool,
    tally: Mutex<Tally>,
    heard: Mutex<Heard>,
    faults: Mutex<History>,
    /// Errors that nothing here provokes.
    surprises: Mutex<BTreeSet<String>>,
    /// What a judge has found.
    finding: Mutex<Option<String>>,
}

impl Recorder {
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
            current: Mutex::new(Generation::new(0)),
            stop: AtomicBool::new(false),
            tally: Mutex::default(),
            heard: Mutex::default(),
            faults: Mutex::default(),
            surprises: Mutex::default(),
            finding: Mutex::default(),
        }
    }

    pub fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).expect("a run is shorter than 500 years")
    }

    /// The generation that new requests belong to.
    pub fn generation(&self) -> Arc<Generation> {
        Arc::clone(&lock(&self.current))
    }

    /// From now on requests belong to another generation. Returns the one before.
    pub fn open_next(&self) -> Arc<Generation> {
        let mut current = lock(&self.current);
        let next = Generation::new(current.number + 1);
        std::mem::replace(&mut current, next)
    }

    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// To be called before the request leaves.
    pub fn invoke(&self, generation: &Generation, client: u64, node: &str, request: Request) -> usize {
        // The lock first: requests stand in the order in which they were sent.
        generation.with(|history| history.invoke(client, node, self.now(), request))
    }

    /// To be called when the answer is there.
    pub fn complete(&self, generation: &Generation, operation: usize, outcome: Outcome) {
        let now = self.now();
        let tally = &mut *lock(&self.tally);
        let end = match outcome {
            Outcome::Ok(_) => &mut tally.answered,
            Outcome::Fail(_) => &mut tally.refused,
            Outcome::Info(_) => &mut tally.unknown,
        };
        *end += 1;
        let is_answer = matches!(outcome, Outcome::Ok(_));
        let invoked_ns = generation.with(|history| {
            history.complete(operation, now, outcome);
            history.operations[operation].invoked_ns
        });
        if is_answer {
            if now.saturating_sub(tally.last_answer_ns) > nanoseconds(SILENCE) {
                tally.silences.push((tally.last_answer_ns, now));
            }
            tally.last_answer_ns = tally.last_answer_ns.max(now);
            tally.newest_ns = tally.newest_ns.max(invoked_ns);
        }
    }

    pub fn tally(&self) -> Tally {
        lock(&self.tally).clone()
    }

    pub fn answered(&self) -> u64 {
        lock(&self.tally).answered
    }

    /// When the newest of the requests was sent that were answered.
    pub fn newest_answered_ns(&self) -> u64 {
        lock(&self.tally).newest_ns
    }

    pub fn heard(&self) -> MutexGuard<'_, Heard> {
        lock(&self.heard)
    }

    /// What was done to the servers, without any requests.
    pub fn faults(&self) -> MutexGuard<'_, History> {
        lock(&self.faults)
    }

    pub fn be_surprised(&self, error: String) {
        lock(&self.surprises).insert(error);
    }

    pub fn find(&self, what: String) {
        *lock(&self.finding) = Some(what);
    }

    pub fn finding(&self) -> Option<String> {
        lock(&self.finding).clone()
    }

    pub fn surprises(&self) -> BTreeSet<String> {
        lock(&self.surprises).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no holder panics")
}

pub(super) fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).expect("some seconds")
}
