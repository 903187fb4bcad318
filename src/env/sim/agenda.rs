//! Virtual time, and the one ordered list of everything that is going to happen.
//!
//! tokio's paused clock jumps from timer to timer in whole milliseconds, which would make a 200 us
//! sync and a 50 us hop cost the same. So the simulated world keeps its own list, to the
//! nanosecond: one driver task sleeps on tokio's clock until the first event is due, then runs the
//! due events one at a time, and lets every task that woke run before the next. A reply sent 50 us
//! after a delivery therefore still overtakes a message that is due 60 us after it. Between two
//! events the time is that of the earlier one; it never goes back.
//!
//! Every event of note is folded into a hash. Two runs of one seed must end with the same hash.

#![allow(clippy::disallowed_methods)] // The simulator is built on tokio's paused clock.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::Notify;

/// When an event is due, and its number among all events: a total order.
type Key = (Duration, u64);

enum Event {
    /// A [`Sleep`] ends; the waker is missing until it was first polled.
    Wake(Option<Waker>),
    /// Something the world itself does. Must not hold the world strongly, or neither is ever freed.
    Run(Box<dyn FnOnce() + Send>),
}

/// The list, the time and the trace.
pub(super) struct Agenda {
    start: tokio::time::Instant,
    state: Mutex<State>,
    /// Rung when an event comes in before all others.
    earlier: Notify,
}

struct State {
    events: BTreeMap<Key, Event>,
    numbered: u64,
    /// The time of the event whose consequences are running now.
    turn: Option<Duration>,
    hash: u64,
    kept: Option<Vec<Happening>>,
}

/// One line of the trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happening {
    pub at: Duration,
    pub what: &'static str,
    pub host: String,
    /// What distinguishes two happenings of a kind: a checksum of bytes, a number.
    pub detail: u64,
}

impl fmt::Display for Happening {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:>14?} {:<12} {} {:x}", self.at, self.what, self.host, self.detail)
    }
}

impl Agenda {
    /// An empty list whose driver is already running. Must be called inside a paused runtime.
    pub(super) fn start() -> Arc<Self> {
        let state = State {
            events: BTreeMap::new(),
            numbered: 0,
            turn: None,
            hash: fnv(FNV_OFFSET, b"quorate"),
            kept: None,
        };
        let agenda = Arc::new(Self {
            start: tokio::time::Instant::now(),
            state: Mutex::new(state),
            earlier: Notify::new(),
        });
        tokio::spawn(drive(Arc::clone(&agenda)));
        agenda
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    /// The time since the world began.
    pub(super) fn now(&self) -> Duration {
        self.now_in(&self.state())
    }

    fn now_in(&self, state: &State) -> Duration {
        let clock = self.start.elapsed();
        let first = state.events.first_key_value().map_or(clock, |((at, _), _)| *at);
        state.turn.unwrap_or(clock.min(first))
    }

    /// Runs `action` after `delay`. Among events of one instant, the one put in first goes first.
    pub(super) fn after(&self, delay: Duration, action: impl FnOnce() + Send + 'static) {
        self.put(delay, Event::Run(Box::new(action)));
    }

    /// Completes after `delay`, counted from this call.
    pub(super) fn sleep(self: &Arc<Self>, delay: Duration) -> Sleep {
        Sleep { key: self.put(delay, Event::Wake(None)), agenda: Arc::clone(self) }
    }

    fn put(&self, delay: Duration, event: Event) -> Key {
        let mut state = self.state();
        state.numbered += 1;
        let key = (self.now_in(&state).saturating_add(delay), state.numbered);
        state.events.insert(key, event);
        let first = state.events.first_key_value().is_some_and(|(first, _)| *first == key);
        drop(state);
        if first {
            self.earlier.notify_one();
        }
        key
    }

    /// Takes the first event if it is due, and moves the time to it.
    fn take_due(&self) -> Next {
        let mut state = self.state();
        let clock = self.start.elapsed();
        match state.events.first_key_value() {
            Some(((at, _), _)) if *at <= clock => {
                let ((at, _), event) = state.events.pop_first().expect("it was just looked at");
                state.turn = Some(at);
                Next::Due(event)
            }
            first => {
                let next = first.map(|((at, _), _)| *at);
                state.turn = None;
                Next::Later(next)
            }
        }
    }

    /// Folds a happening into the hash of the run.
    pub(super) fn trace(&self, what: &'static str, host: &str, detail: u64) {
        let mut state = self.state();
        let at = self.now_in(&state);
        let mut hash = fnv(state.hash, what.as_bytes());
        hash = fnv(hash, host.as_bytes());
        hash = fnv(hash, &detail.to_le_bytes());
        state.hash = fnv(hash, &at.as_nanos().to_le_bytes());
        if let Some(kept) = &mut state.kept {
            kept.push(Happening { at, what, host: host.to_owned(), detail });
        }
    }

    pub(super) fn hash(&self) -> u64 {
        self.state().hash
    }

    pub(super) fn keep_trace(&self) {
        self.state().kept.get_or_insert_default();
    }

    pub(super) fn take_trace(&self) -> Vec<Happening> {
        self.state().kept.as_mut().map(mem::take).unwrap_or_default()
    }
}

enum Next {
    Due(Event),
    Later(Option<Duration>),
}

async fn drive(agenda: Arc<Agenda>) {
    loop {
        match agenda.take_due() {
            Next::Due(event) => {
                match event {
                    Event::Wake(waker) => waker.into_iter().for_each(Waker::wake),
                    Event::Run(action) => action(),
                }
                // Comes back when no other task can run.
                tokio::task::yield_now().await;
            }
            Next::Later(Some(at)) => {
                tokio::select! {
                    biased;
                    () = agenda.earlier.notified() => {}
                    () = tokio::time::sleep_until(agenda.start + at) => {}
                }
            }
            Next::Later(None) => agenda.earlier.notified().await,
        }
    }
}

/// See [`Agenda::sleep`]. Dropping it takes its event off the list.
pub(super) struct Sleep {
    agenda: Arc<Agenda>,
    key: Key,
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        match self.agenda.state().events.get_mut(&self.key) {
            Some(Event::Wake(waker)) => {
                *waker = Some(context.waker().clone());
                Poll::Pending
            }
            _ => Poll::Ready(()),
        }
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        // Dropped after the lock: a waker may be the last to hold what it wakes.
        let event = self.agenda.state().events.remove(&self.key);
        drop(event);
    }
}

pub(super) const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a. Not the standard library's hasher: its algorithm may change with a release, and with it
/// what every seed means.
pub(super) fn fnv(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
