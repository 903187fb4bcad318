//! The cluster's clock.
//!
//! There is one, in milliseconds, and the log carries it: every entry's time is at least that of all before
//! it, and deadlines are times of this clock. A leader goes on from the last time it applied, by its own
//! *monotonic* clock. A follower sets itself by every entry of the living leader it applies, so that no drift
//! adds up, and is never ahead of the leader (a key that ends late is a nuisance, one that ends early is a lie).
//!
//! A process that has just started does not know how long it was away. Until it is told, it *keeps* no time,
//! and stamps nothing even if it is elected; `timekeeping` finds somebody who kept it. Only if a quorum kept
//! none, because the cluster was down, does the clock catch up with the wall, as the deadlines of Redis do.
//! In all other cases a jump of the wall clock changes nothing.

use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::watch;

use crate::env::Env;
use crate::env::observer::Sight;
use crate::mutants::{Mutant, planted};

/// This node's idea of the cluster's time.
pub struct ClusterClock {
    env: Env,
    state: Mutex<State>,
    /// Whether the time is known since this process started; once it is, it stays so.
    kept: watch::Sender<bool>,
}

struct State {
    /// The cluster's time `ms` at the moment `at` of the monotonic clock.
    ms: u64,
    at: Duration,
    leading: bool,
}

impl ClusterClock {
    /// The clock of a node whose state was left at `applied_ms`.
    #[must_use]
    pub fn new(env: Env, applied_ms: u64) -> Self {
        let at = env.clock.monotonic();
        let state = Mutex::new(State { ms: applied_ms, at, leading: false });
        Self { env, state, kept: watch::Sender::new(false) }
    }

    /// The time, in ms. Only a leader may act on it.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.elapsed(&self.state.lock().expect("no holder panics"))
    }

    /// The time, in ms, if this node leads.
    #[must_use]
    pub fn leader_ms(&self) -> Option<u64> {
        let state = self.state.lock().expect("no holder panics");
        state.leading.then(|| self.elapsed(&state))
    }

    /// The time, in ms, if it is known.
    #[must_use]
    pub fn kept_ms(&self) -> Option<u64> {
        self.kept.borrow().then(|| self.now_ms())
    }

    /// Tells whether the time is known, and when it becomes so.
    #[must_use]
    pub fn kept(&self) -> watch::Receiver<bool> {
        self.kept.subscribe()
    }

    /// Others, asked, kept the time `ms`.
    pub fn learn(&self, ms: u64) {
        self.advance(ms);
        self.keep();
    }

    /// Nobody kept the time: it goes on from the wall clock's, or from the last that is known.
    pub fn catch_up(&self) {
        self.advance(self.env.clock.wall_ms());
        self.env.saw(|| Sight::TimeFromWall { clock_ms: self.now_ms() });
        self.keep();
    }

    /// An entry stamped `ms` was applied; by the leader that `lives` now, another node.
    pub fn applied(&self, ms: u64, lives: bool) {
        {
            let mut state = self.state.lock().expect("no holder panics");
            if !state.leading && ms >= state.ms {
                state.ms = ms;
                state.at = self.env.clock.monotonic();
            }
        }
        // An entry of an earlier leader can be applied after this node took over.
        self.advance(ms);
        if lives {
            self.keep();
        }
    }

    /// This node begins (or ceases) to lead.
    pub fn set_leading(&self, leading: bool) {
        let mut state = self.state.lock().expect("no holder panics");
        debug_assert!(!leading || *self.kept.borrow(), "who does not know the time does not lead");
        if leading && !state.leading {
            let by_wall = planted(Mutant::LeaderByWallClock);
            state.ms = if by_wall { self.env.clock.wall_ms() } else { self.elapsed(&state) };
            state.at = self.env.clock.monotonic();
        }
        state.leading = leading;
    }

    /// Never goes back.
    fn advance(&self, ms: u64) {
        let mut state = self.state.lock().expect("no holder panics");
        if ms > self.elapsed(&state) {
            state.ms = ms;
            state.at = self.env.clock.monotonic();
        }
    }

    fn keep(&self) {
        if self.kept.send_if_modified(|kept| !std::mem::replace(kept, true)) {
            self.env.saw(|| Sight::TimeKept);
        }
    }

    fn elapsed(&self, state: &State) -> u64 {
        let since = self.env.clock.monotonic().saturating_sub(state.at);
        state.ms.saturating_add(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}
