//! No key is gone before its deadline.
//!
//! Two things make that true. A key ends with an entry whose time has reached its deadline; and the cluster's time
//! runs no faster than time does. A wall clock may say how long the cluster was down only when a majority of the voters had
//! forgotten the time; if that clock was set meanwhile, the time is as wrong as it is.

use std::collections::BTreeMap;
use std::time::Duration;

use super::picture::is_quorum;
use super::{Happened, Invariant, Picture};
use crate::env::observer::{AppliedEntry, Sight};

/// How much faster than time the fastest clock of the cluster goes, in thousandths; see `campaign`.
pub const DRIFT: i128 = 50;

/// By which part of its time a leader's clock may be faster than its own, as a wall clock draws it; see `node::clock`.
const SLEW: i128 = 10_000;

#[derive(Default)]
pub struct KeysEndInTime {
    /// Whether clocks drift at all.
    drift: bool,
    /// When the next key ends, by each node's state; `None` if that is not known.
    deadlines: BTreeMap<&'static str, Option<Option<u64>>>,
    /// By how many ms the cluster's time was ahead of the world's when it began, and when that was. All nodes go on from
    /// there, each at its own rate: one that leads after a slower one is right to be ahead of what that one said.
    start: Option<(i128, Duration)>,
    /// The latest time that was stamped. Who takes the time from a wall clock may not have heard of it yet.
    latest_ms: u64,
}

impl KeysEndInTime {
    pub fn of(drift: bool) -> Self {
        Self { drift, ..Self::default() }
    }

    /// By how many ms a fast clock is ahead after so long.
    fn drifted(&self, time: Duration) -> i128 {
        let ms = i128::try_from(time.as_millis()).unwrap_or(i128::MAX / DRIFT);
        let drawn = ms / SLEW;
        drawn + if self.drift { 1 + ms * DRIFT / 1_000 } else { 0 }
    }

    /// How far ahead the time may be. Each of two was rounded down to a millisecond.
    fn most(&self, (began, since): (i128, Duration), now: Duration) -> i128 {
        began + 1 + self.drifted(now - since)
    }

    /// Whoever leads goes on from this time, which a wall clock told, or from the latest that it finds in its log. It is
    /// another only if that clock was set: a leader that was deposed unawares goes on from where all were before.
    fn take_from_wall(&mut self, clock_ms: u64, now: Duration) {
        let taken = ahead(clock_ms.max(self.latest_ms), now);
        if self.start.is_none_or(|start| taken > self.most(start, now)) {
            self.start = Some((taken, now));
        }
    }
}

/// By how many ms `clock_ms` is ahead of the world's time.
fn ahead(clock_ms: u64, now: Duration) -> i128 {
    i128::from(clock_ms) - i128::try_from(now.as_millis()).unwrap_or(i128::MAX)
}

impl Invariant for KeysEndInTime {
    fn check(&mut self, picture: &Picture, happened: &Happened<'_>) -> Result<(), String> {
        let deadline = self.deadlines.entry(happened.host).or_default();
        match *happened.sight {
            Sight::Opened { .. } | Sight::Installed { .. } => *deadline = None,
            Sight::Applied(AppliedEntry { clock_ms, expired, next_deadline, .. }) if clock_ms > 0 => {
                let former = deadline.replace(next_deadline);
                if let Some(former) = former
                    && expired > 0
                    && former.is_none_or(|former| former > clock_ms)
                {
                    return Err(format!("{expired} keys ended, though the first was to end at {former:?}"));
                }
            }
            Sight::TimeFromWall { clock_ms } => {
                let node = &picture.nodes[happened.host];
                let (_, voters) = picture.voters(node.log.last).next().ok_or("nobody votes")?;
                let ignorant = |id: u64| {
                    let voter = picture.node(id);
                    voter.is_some_and(|voter| voter.ignorant_until.is_none_or(|until| until >= node.opened))
                };
                if !is_quorum(voters, ignorant) {
                    return Err("most voters kept the time".into());
                }
                self.take_from_wall(clock_ms, happened.now);
            }
            Sight::Stamped { clock_ms } => {
                self.latest_ms = self.latest_ms.max(clock_ms);
                let stamped = ahead(clock_ms, happened.now);
                let start = *self.start.get_or_insert((stamped, happened.now));
                if stamped > self.most(start, happened.now) {
                    let (began, since) = start;
                    return Err(format!("the time is {} ms faster since {since:?}", stamped - began));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::script::{appended, applied, check, place, synced};
    use super::*;
    use crate::env::observer::Extent;

    #[test]
    fn a_key_that_ends_early() {
        let mut script = Vec::new();
        for host in ["n1", "n2"] {
            script.extend([(host, appended(1, 1, 7)), (host, synced(1, 1))]);
        }
        let early = AppliedEntry { clock_ms: 1_499, expired: 1, ..applied(1, 1) };
        script.extend([
            ("n1", Sight::Committed(place(1, 1))),
            ("n1", Sight::Applied(AppliedEntry { next_deadline: Some(1_500), ..applied(0, 0) })),
            ("n1", Sight::Applied(early)),
        ]);
        check(script, "keys end in time");
    }

    #[test]
    fn a_clock_that_is_too_fast() {
        let stamped = |clock_ms| Sight::Stamped { clock_ms };
        check(
            vec![("n1", stamped(5_000)), ("n1", stamped(5_001)), ("n1", stamped(5_005))],
            "keys end in time",
        );
    }

    /// What is wrong with these stamps, each at its time.
    fn judge(invariant: &mut KeysEndInTime, stamps: &[(u64, u64)]) -> Result<(), String> {
        stamps.iter().try_for_each(|(at_ms, clock_ms)| {
            let sight = Sight::Stamped { clock_ms: *clock_ms };
            let now = Duration::from_millis(*at_ms);
            let happened = Happened { host: "n1", now, syncs: 0, sight: &sight };
            invariant.check(&Picture::default(), &happened)
        })
    }

    #[test]
    fn a_fast_clock_leads_again_after_a_slow_one() {
        let judge = |stamps: &[(u64, u64)]| judge(&mut KeysEndInTime::of(true), stamps);
        assert_eq!(judge(&[(0, 5_000), (1_000, 5_950), (1_001, 6_050)]), Ok(()));
        assert!(judge(&[(0, 5_000), (1_000, 5_950), (1_001, 6_060)]).is_err());
    }

    #[test]
    fn a_fast_clock_led_before_all_went_down() {
        let mut invariant = KeysEndInTime::of(true);
        assert_eq!(judge(&mut invariant, &[(0, 5_000), (1_000, 6_050)]), Ok(()));
        // A node that lags takes the time from its wall clock; then one leads that does not.
        invariant.take_from_wall(6_030, Duration::from_millis(1_030));
        assert_eq!(judge(&mut invariant, &[(1_040, 6_060)]), Ok(()));
        assert!(judge(&mut invariant, &[(1_041, 6_100)]).is_err());
    }

    #[test]
    fn a_wall_clock_that_was_set_and_one_that_was_not() {
        let mut invariant = KeysEndInTime::of(false);
        assert_eq!(judge(&mut invariant, &[(0, 5_000)]), Ok(()));
        invariant.take_from_wall(5_900, Duration::from_millis(1_000));
        assert_eq!(judge(&mut invariant, &[(1_001, 6_001)]), Ok(()), "of a leader that was deposed unawares");
        assert!(judge(&mut invariant, &[(1_001, 6_003)]).is_err());
        invariant.take_from_wall(9_000, Duration::from_millis(2_000));
        assert_eq!(judge(&mut invariant, &[(2_001, 9_001)]), Ok(()));
    }

    #[test]
    fn a_wall_clock_while_others_know_the_time() {
        let log = Extent { last: Some(place(0, 0)), ..Extent::default() };
        let script = vec![
            ("n1", Sight::TimeFromWall { clock_ms: 5_000 }),
            ("n1", Sight::TimeKept),
            ("n2", Sight::TimeKept),
            ("n3", Sight::TimeKept),
            ("n1", Sight::Opened { node: 1, log, applied: None }),
            ("n1", Sight::TimeFromWall { clock_ms: 5_000 }),
        ];
        check(script, "keys end in time");
    }
}
