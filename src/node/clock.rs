//! The cluster's clock.
//!
//! There is one, in milliseconds, and the log carries it: every entry's time is at least that of all before
//! it, and deadlines are times of this clock. A leader goes on from the last time it applied, by its own
//! *monotonic* clock. A follower sets itself by every entry of the living leader it applies, so that no drift
//! adds up, and is never ahead of the leader (a key that ends late is a nuisance, one that ends early is a lie).
//!
//! A process that has just started does not know how long it was away. Until it is told, it *keeps* no time,
//! and stamps nothing even if it is elected; `timekeeping` finds somebody who kept it. Only if a quorum kept
//! none, because the cluster was down, does a wall clock tell how long: every entry says what that of its leader showed.
//! The cluster's time does not become that of the wall clock, which may be ahead of it, as each change of leaders costs it
//! what a message took; keys would end early by as much. In all other cases a jump of the wall clock changes nothing.

use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::watch;

use crate::env::Env;
use crate::env::observer::Sight;
use crate::mutants::{Mutant, planted};
use crate::store::Head;

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
    last: Moment,
}

/// A moment by two clocks, in ms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// The cluster's.
    pub clock_ms: u64,
    /// The wall clock of who led; 0 if it did not say.
    pub wall_ms: u64,
}

impl Moment {
    /// That of the last entry of a state.
    #[must_use]
    pub const fn of(head: &Head) -> Self {
        Self { clock_ms: head.clock_ms, wall_ms: head.wall_ms }
    }

    /// The cluster's time when a wall clock shows `wall_ms`. Without a moment in the past it is the wall clock's.
    fn later(self, wall_ms: u64) -> u64 {
        match self.wall_ms {
            0 => wall_ms,
            past => self.clock_ms + wall_ms.saturating_sub(past),
        }
    }
}

impl ClusterClock {
    /// The clock of a node whose state was left at this moment.
    #[must_use]
    pub fn new(env: Env, last: Moment) -> Self {
        let at = env.clock.monotonic();
        let state = Mutex::new(State { ms: last.clock_ms, at, leading: false, last });
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

    /// Nobody kept the time: a wall clock tells how long ago the last entry was.
    pub fn catch_up(&self) {
        let last = self.state.lock().expect("no holder panics").last;
        self.advance(last.later(self.env.clock.wall_ms()));
        self.env.saw(|| Sight::TimeFromWall { clock_ms: self.now_ms() });
        self.keep();
    }

    /// An entry of this moment was applied; by the leader that `lives` now, another node.
    pub fn applied(&self, moment: Moment, lives: bool) {
        let ms = moment.clock_ms;
        {
            let mut state = self.state.lock().expect("no holder panics");
            state.last = moment;
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

#[cfg(test)]
mod tests {
    use super::Moment;

    #[test]
    fn a_wall_clock_tells_how_long_only() {
        let last = Moment { clock_ms: 1_000, wall_ms: 5_000 };
        assert_eq!(last.later(5_700), 1_700);
        assert_eq!(last.later(4_000), 1_000, "it was set back");
        assert_eq!(Moment { wall_ms: 0, ..last }.later(5_700), 5_700, "there is nothing to go on from");
    }
}
