//! CLIENT PAUSE: this node's clients wait before their next command runs.
//!
//! It is about one node's clients and changes nothing else: keys go on expiring, since the whole cluster
//! expires them, and the clients of other nodes are served. A planned hand-over pauses every node in turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use crate::commands::host::PauseScope;
use crate::env::Clock;

/// A pause may be longer than any timer takes.
const LOOK_AGAIN: Duration = Duration::from_secs(3600);

/// Whether clients wait, which, and until when.
pub struct Pause {
    clock: Arc<dyn Clock>,
    state: watch::Sender<Option<Paused>>,
    /// Whether there may be a pause, so that a command usually asks no lock.
    on: AtomicBool,
}

#[derive(Clone, Copy)]
struct Paused {
    scope: PauseScope,
    /// On the clock that only goes forward.
    until: Duration,
}

impl Pause {
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, state: watch::Sender::new(None), on: AtomicBool::new(false) }
    }

    /// Pauses for so long. A pause that is on becomes neither shorter nor narrower by it.
    pub fn begin(&self, scope: PauseScope, length: Duration) {
        let now = self.clock.monotonic();
        let until = now.saturating_add(length);
        self.state.send_modify(|state| {
            let running = state.filter(|paused| paused.until > now);
            *state = Some(running.map_or(Paused { scope, until }, |paused| Paused {
                scope: paused.scope.max(scope),
                until: paused.until.max(until),
            }));
            self.on.store(true, Ordering::Relaxed);
        });
    }

    /// Ends the pause at once.
    pub fn end(&self) {
        self.state.send_modify(|state| {
            *state = None;
            self.on.store(false, Ordering::Relaxed);
        });
    }

    /// Whether a command has to wait; `writes` says whether it may write.
    pub fn holds(&self, writes: bool) -> bool {
        if !self.on.load(Ordering::Relaxed) {
            return false;
        }
        let now = self.clock.monotonic();
        self.state.send_if_modified(|state| {
            if state.is_some_and(|paused| paused.until <= now) {
                *state = None;
                self.on.store(false, Ordering::Relaxed);
            }
            false
        });
        self.state.borrow().is_some_and(|paused| paused.holds(writes))
    }

    /// Waits until a command need not wait any more.
    pub async fn over(&self, writes: bool) {
        let mut state = self.state.subscribe();
        loop {
            let paused = *state.borrow_and_update();
            let now = self.clock.monotonic();
            let Some(paused) = paused.filter(|paused| paused.holds(writes) && paused.until > now) else {
                return;
            };
            tokio::select! {
                // The sender is this.
                changed = state.changed() => changed.expect("the sender lives as long as this"),
                () = self.clock.sleep((paused.until - now).min(LOOK_AGAIN)) => {}
            }
        }
    }
}

impl Paused {
    const fn holds(self, writes: bool) -> bool {
        writes || matches!(self.scope, PauseScope::All)
    }
}
