//! No key is gone before its deadline.
//!
//! Two things make that true. A key ends with an entry whose time has reached its deadline; and the cluster's time
//! runs no faster than time does. It may go by a wall clock only when a majority of the voters had forgotten it,
//! and from then on it is the time of that clock.

use std::collections::BTreeMap;
use std::time::Duration;

use super::picture::is_quorum;
use super::{Happened, Invariant, Picture};
use crate::env::observer::{AppliedEntry, Sight};

/// How much faster than time the fastest clock of the cluster goes, in thousandths; see `campaign`.
pub const DRIFT: i128 = 50;

#[derive(Default)]
pub struct KeysEndInTime {
    /// Whether clocks drift at all.
    drift: bool,
    /// When the next key ends, by each node's state; `None` if that is not known.
    deadlines: BTreeMap<&'static str, Option<Option<u64>>>,
    /// By how much the cluster's time is at most ahead of the world's, in ms, and when that was seen.
    ahead: Option<(i128, Duration)>,
}

impl KeysEndInTime {
    pub fn of(drift: bool) -> Self {
        Self { drift, ..Self::default() }
    }

    /// By how many ms a fast clock is ahead after so long.
    fn drifted(&self, time: Duration) -> i128 {
        let ms = i128::try_from(time.as_millis()).unwrap_or(i128::MAX / DRIFT);
        if self.drift { 1 + ms * DRIFT / 1_000 } else { 0 }
    }
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
            Sight::TimeFromWall => {
                let node = &picture.nodes[happened.host];
                let (_, voters) = picture.voters(node.log.last).next().ok_or("nobody votes")?;
                let ignorant = |id: u64| {
                    let voter = picture.node(id);
                    voter.is_some_and(|voter| voter.ignorant_until.is_none_or(|until| until >= node.opened))
                };
                if !is_quorum(voters, ignorant) {
                    return Err("most voters kept the time".into());
                }
                self.ahead = None;
            }
            Sight::Stamped { clock_ms } => {
                let now_ms = happened.now.as_millis();
                let ahead = i128::from(clock_ms) - i128::try_from(now_ms).unwrap_or(i128::MAX);
                match self.ahead {
                    // Each of the two was rounded down to a millisecond.
                    Some((most, since)) if ahead > most + 1 + self.drifted(happened.now - since) => {
                        return Err(format!("the time is {} ms faster since {since:?}", ahead - most));
                    }
                    Some((most, _)) if ahead <= most => {}
                    _ => self.ahead = Some((ahead, happened.now)),
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

    #[test]
    fn a_wall_clock_while_others_know_the_time() {
        let log = Extent { last: Some(place(0, 0)), ..Extent::default() };
        let script = vec![
            ("n1", Sight::TimeFromWall),
            ("n1", Sight::TimeKept),
            ("n2", Sight::TimeKept),
            ("n3", Sight::TimeKept),
            ("n1", Sight::Opened { node: 1, log, applied: None }),
            ("n1", Sight::TimeFromWall),
        ];
        check(script, "keys end in time");
    }
}
