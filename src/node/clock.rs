//! The cluster's clock.
//!
//! There is one, in milliseconds, and the log carries it: every entry's time is at least that of all before
//! it, and deadlines are times of this clock. A leader goes on from the last time it heard, by its own
//! *monotonic* clock. A follower sets itself by every entry: each was stamped before it came, so that the time is at least
//! what it says and what has passed since. The one that was fastest says most; as time goes on it counts for less, so that
//! no drift adds up. So a follower is never ahead of the leader (a key that ends late is a nuisance, one that ends early
//! is a lie), and behind it by what its fastest messages take, however long others have to wait until they are applied.
//!
//! Each change of leaders costs that much, and deadlines may be moments of the world outside (EXPIREAT). So a leader's
//! clock is drawn to its wall clock, but by no more than clocks of one kind differ anyway: what a wall clock shows after
//! it was set, however wrong, makes no second shorter or longer than that.
//!
//! A process that has just started does not know how long it was away. Until it is told, it *keeps* no time,
//! and stamps nothing even if it is elected; `timekeeping` finds somebody who kept it. Only if a quorum kept
//! none, because the cluster was down, does a wall clock tell how long: every entry says what that of its leader showed.
//! The cluster's time does not become that of the wall clock, which may be ahead of it, as each change of leaders costs it
//! what a message took; keys would end early by as much. In all other cases a jump of the wall clock changes no more than
//! is said above.

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
    lead: Lead,
    leading: bool,
    last: Moment,
}

/// By how much the cluster's clock leads the monotonic one.
struct Lead {
    ns: i128,
    /// When something was last heard, or a leader last looked.
    since: Duration,
}

/// The part of the time since by which what was heard before gives way to less. A message that is late says little, and
/// nobody's clock is faster than a leader's by so much.
const GIVES_WAY: i128 = 8;

/// The part of its time by which a leader's clock may be faster or slower than its monotonic one: what crystals differ by.
const SLEW: i128 = 10_000;

const NS_PER_MS: i128 = 1_000_000;

impl Lead {
    const fn new(ns: i128, since: Duration) -> Self {
        Self { ns, since }
    }

    /// An entry told so much, which is no more than there is.
    fn hear(&mut self, ns: i128, at: Duration) {
        let before = self.ns - nanos(at.saturating_sub(self.since)) / GIVES_WAY;
        *self = Self::new(ns.max(before), at.max(self.since));
    }

    /// Goes towards `ns`, as far as the time since the last look lets it.
    fn drift_to(&mut self, ns: i128, at: Duration) {
        let far = nanos(at.saturating_sub(self.since)) / SLEW;
        *self = Self::new(self.ns + (ns - self.ns).clamp(-far, far), at);
    }
}

fn nanos(time: Duration) -> i128 {
    i128::try_from(time.as_nanos()).unwrap_or(i128::MAX)
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
        let lead = Lead::new(ahead(last.clock_ms, at), at);
        let state = Mutex::new(State { lead, leading: false, last });
        Self { env, state, kept: watch::Sender::new(false) }
    }

    /// The time, in ms. Only a leader may act on it.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.look(&mut self.state.lock().expect("no holder panics"))
    }

    /// The time, in ms, if this node leads.
    #[must_use]
    pub fn leader_ms(&self) -> Option<u64> {
        let mut state = self.state.lock().expect("no holder panics");
        state.leading.then(|| self.look(&mut state))
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

    /// An entry of this moment came at `at`, by the monotonic clock, and was applied; by the leader that `lives` now, another
    /// node.
    pub fn applied(&self, moment: Moment, at: Duration, lives: bool) {
        {
            let mut state = self.state.lock().expect("no holder panics");
            state.last = moment;
            if !state.leading {
                state.lead.hear(ahead(moment.clock_ms, at), at);
            }
        }
        // An entry of an earlier leader can be applied after this node took over.
        self.advance(moment.clock_ms);
        if lives {
            self.keep();
        }
    }

    /// This node begins (or ceases) to lead.
    pub fn set_leading(&self, leading: bool) {
        let mut state = self.state.lock().expect("no holder panics");
        debug_assert!(!leading || *self.kept.borrow(), "who does not know the time does not lead");
        if leading && !state.leading {
            let at = self.env.clock.monotonic();
            let by_wall = planted(Mutant::LeaderByWallClock);
            let ns = if by_wall { ahead(self.env.clock.wall_ms(), at) } else { state.lead.ns };
            state.lead = Lead::new(ns, at);
        }
        state.leading = leading;
    }

    /// Never goes back.
    fn advance(&self, ms: u64) {
        let mut state = self.state.lock().expect("no holder panics");
        let at = self.env.clock.monotonic();
        if ahead(ms, at) > state.lead.ns {
            state.lead = Lead::new(ahead(ms, at), at);
        }
    }

    fn keep(&self) {
        if self.kept.send_if_modified(|kept| !std::mem::replace(kept, true)) {
            self.env.saw(|| Sight::TimeKept);
        }
    }

    /// What the clock shows now.
    fn look(&self, state: &mut State) -> u64 {
        let at = self.env.clock.monotonic();
        if state.leading {
            state.lead.drift_to(ahead(self.env.clock.wall_ms(), at), at);
        }
        u64::try_from((nanos(at) + state.lead.ns) / NS_PER_MS).unwrap_or_default()
    }
}

/// By how much a clock that shows `ms` leads the monotonic one that shows `at`, in ns.
fn ahead(ms: u64, at: Duration) -> i128 {
    i128::from(ms) * NS_PER_MS - nanos(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Duration = Duration::from_secs(1_000);

    fn after(ms: u64) -> Duration {
        START + Duration::from_millis(ms)
    }

    #[test]
    fn late_messages_say_little() {
        let ms = |ms| ms * NS_PER_MS;
        let mut lead = Lead::new(0, START);
        let mut check = |heard_ms, at_ms, expect_ms| {
            lead.hear(ms(heard_ms), after(at_ms));
            assert_eq!(lead.ns, ms(expect_ms), "{heard_ms} at {at_ms} ms");
        };
        check(700, 80, 700);
        check(500, 880, 600);
        check(580, 960, 590);
        check(595, 1_040, 595);
        check(100, 9_040, 100);
    }

    #[test]
    fn a_wall_clock_draws_a_leader_slowly() {
        let second = nanos(Duration::from_secs(1));
        for (wall, expect) in
            [(3_600 * second, 100_000), (-3_600 * second, -100_000), (40_000, 40_000), (0, 0)]
        {
            let mut lead = Lead::new(0, START);
            lead.drift_to(wall, after(500));
            lead.drift_to(wall, after(1_000));
            assert_eq!(lead.ns, expect, "a second drawn towards {wall} ns");
        }
    }

    #[test]
    fn a_wall_clock_tells_how_long_only() {
        let last = Moment { clock_ms: 1_000, wall_ms: 5_000 };
        assert_eq!(last.later(5_700), 1_700);
        assert_eq!(last.later(4_000), 1_000, "it was set back");
        assert_eq!(Moment { wall_ms: 0, ..last }.later(5_700), 5_700, "there is nothing to go on from");
    }
}
