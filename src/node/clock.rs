//! The cluster's clock.
//!
//! There is one, in milliseconds, and the log carries it: every entry's time is at least that of all before
//! it, and deadlines are times of this clock. A leader goes on from the last time it applied, by its own
//! *monotonic* clock. A follower sets itself by every entry it applies, so that no drift adds up, and is
//! never ahead of the leader (a key that ends late is a nuisance, one that ends early is a lie).
//!
//! The wall clock is read in one case. A node that has just started and leads without having heard from
//! another leader cannot know how long everybody was down; there the clock catches up with the wall, as the
//! deadlines of Redis do. In all other cases a jump of the wall clock changes nothing.

use std::sync::Mutex;
use std::time::Duration;

use crate::env::Env;

/// This node's idea of the cluster's time.
pub struct ClusterClock {
    env: Env,
    state: Mutex<State>,
}

struct State {
    /// The cluster's time `ms` at the moment `at` of the monotonic clock.
    ms: u64,
    at: Duration,
    leading: bool,
    /// Set by entries of another leader since this process started.
    heard: bool,
}

impl ClusterClock {
    /// The clock of a node whose state was left at `applied_ms`.
    #[must_use]
    pub fn new(env: Env, applied_ms: u64) -> Self {
        let at = env.clock.monotonic();
        Self { env, state: Mutex::new(State { ms: applied_ms, at, leading: false, heard: false }) }
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

    /// An entry stamped `ms` was applied; `heard` if another node leads.
    pub fn applied(&self, ms: u64, heard: bool) {
        let mut state = self.state.lock().expect("no holder panics");
        state.heard |= heard;
        if !state.leading && ms >= state.ms {
            state.ms = ms;
            state.at = self.env.clock.monotonic();
        } else if ms > self.elapsed(&state) {
            // An entry of an earlier leader, applied after this node took over.
            state.ms = ms;
            state.at = self.env.clock.monotonic();
        }
    }

    /// This node begins (or ceases) to lead.
    pub fn set_leading(&self, leading: bool) {
        let mut state = self.state.lock().expect("no holder panics");
        if leading && !state.leading {
            let mut now = self.elapsed(&state);
            if !state.heard {
                now = now.max(self.env.clock.wall_ms());
                state.heard = true;
            }
            state.ms = now;
            state.at = self.env.clock.monotonic();
        }
        state.leading = leading;
    }

    fn elapsed(&self, state: &State) -> u64 {
        let since = self.env.clock.monotonic().saturating_sub(state.at);
        state.ms.saturating_add(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}
