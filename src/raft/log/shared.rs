//! What the log's handles and its workers share: the view, the queue, and the first failure.
//!
//! A step is taken in the view and queued for the disk under one lock, so both see the same order.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock};

use bytes::Bytes;

use super::view::View;
use super::{Done, Hooks, LogEntry, LogId, LogState, Stats, SyncStats, index};

/// A step of the log's one ordered stream.
pub(super) enum Step {
    Append(Vec<LogEntry>),
    Vote(Bytes),
    Truncate(Option<LogId>),
    Purge(LogId),
    Seal,
}

/// What the handles and the workers share.
pub(super) struct Shared {
    log: Mutex<Log>,
    failure: OnceLock<(io::ErrorKind, String)>,
    hooks: Hooks,
    counters: Counters,
}

/// The readable log, and the steps that the writer has yet to take.
pub(super) struct Log {
    pub view: View,
    pub queue: Vec<(Step, Option<Done>)>,
}

#[derive(Default)]
struct Counters {
    syncs: AtomicU64,
    entries: AtomicU64,
    bytes: AtomicU64,
    sync_micros: AtomicU64,
    sync_micros_last: AtomicU64,
}

impl Shared {
    pub(super) fn new(view: View, hooks: Hooks) -> Self {
        let log = Mutex::new(Log { view, queue: Vec::new() });
        Self { log, failure: OnceLock::new(), hooks, counters: Counters::default() }
    }

    pub(super) fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().expect("nobody panics while holding the log")
    }

    /// Takes a step in the view, and queues it for the disk. Returns whether the writer must be woken: when
    /// other steps are queued already, it has been.
    pub(super) fn queue(&self, step: Step, done: Option<Done>) -> bool {
        let mut log = self.log();
        let Log { view, queue } = &mut *log;
        let LogState { purged, last, .. } = view.state;
        let step = match step {
            Step::Append(entries) => {
                entries.iter().for_each(|entry| view.append(entry.clone()));
                Step::Append(entries)
            }
            Step::Vote(vote) => {
                view.state.vote = Some(vote.clone());
                Step::Vote(vote)
            }
            Step::Truncate(kept) => {
                let kept = if index(kept) < index(purged) { purged } else { kept };
                if index(kept) >= index(last) {
                    return false;
                }
                view.truncate(kept);
                Step::Truncate(kept)
            }
            Step::Purge(upto) => {
                if index(Some(upto)) <= index(purged) {
                    return false;
                }
                view.purge(upto);
                Step::Purge(upto)
            }
            Step::Seal => Step::Seal,
        };
        queue.push((step, done));
        queue.len() == 1
    }

    pub(super) fn stats(&self) -> Stats {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            syncs: load(&self.counters.syncs),
            entries: load(&self.counters.entries),
            bytes: load(&self.counters.bytes),
            sync_micros: load(&self.counters.sync_micros),
            sync_micros_last: load(&self.counters.sync_micros_last),
        }
    }

    pub(super) fn durable(&self, state: &LogState) {
        (self.hooks.on_durable)(state);
    }

    pub(super) fn count(&self, stats: &SyncStats) {
        let micros = u64::try_from(stats.sync.as_micros()).unwrap_or(u64::MAX);
        self.counters.syncs.fetch_add(1, Ordering::Relaxed);
        self.counters.entries.fetch_add(stats.entries, Ordering::Relaxed);
        self.counters.bytes.fetch_add(stats.bytes, Ordering::Relaxed);
        self.counters.sync_micros.fetch_add(micros, Ordering::Relaxed);
        self.counters.sync_micros_last.store(micros, Ordering::Relaxed);
        (self.hooks.on_sync)(stats);
    }

    /// Latches `error`, and says so once.
    pub(super) fn fail(&self, error: io::Error) {
        if self.failure.set((error.kind(), error.to_string())).is_ok() {
            (self.hooks.on_failure)(error);
        }
    }

    pub(super) fn check(&self) -> io::Result<()> {
        match self.failure.get() {
            None => Ok(()),
            Some((kind, message)) => Err(io::Error::new(*kind, message.as_str())),
        }
    }
}
