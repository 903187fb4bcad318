//! When the cluster's time went ahead by a wall clock.
//!
//! It may after a majority was down, and `keys_end_in_time` sees to it that it does at no other moment. Whatever was to end
//! by itself and was there across such a moment may have ended early, if that clock had been set.

use std::time::Duration;

use super::Happened;
use crate::env::observer::Sight;

/// Each of two times was rounded down to a millisecond.
const ROUNDING: i128 = 1;

#[derive(Default)]
pub struct Jumps {
    /// By how many ms the last time that was stamped was ahead of the world's, and when that was.
    last: Option<(i128, Duration)>,
    /// By how much it was ahead when a wall clock told a later time, and when that was.
    levels: Vec<(i128, Duration)>,
    /// Between which moments it rose above one of these. A leader says what time it is to those who read before it stamps it.
    spans: Vec<(Duration, Duration)>,
}

impl Jumps {
    /// Something happened.
    pub fn see(&mut self, happened: &Happened<'_>) {
        let now = happened.now;
        let ahead =
            |clock_ms: u64| i128::from(clock_ms) - i128::try_from(now.as_millis()).unwrap_or(i128::MAX);
        match *happened.sight {
            Sight::TimeFromWall { clock_ms } => {
                if let Some((level, _)) = self.last.filter(|(last, _)| ahead(clock_ms) > last + ROUNDING) {
                    self.levels.push((level, now));
                }
            }
            Sight::Stamped { clock_ms } => {
                let stamped = ahead(clock_ms);
                if let Some((last, at)) = self.last {
                    let is_crossed = |(level, _): &&(i128, Duration)| {
                        last <= level + ROUNDING && stamped > level + ROUNDING
                    };
                    let crossed = self.levels.iter().find(is_crossed);
                    self.spans.extend(crossed.map(|(_, since)| (at.max(*since), now)));
                }
                self.last = Some((stamped, now));
            }
            _ => {}
        }
    }

    /// All of them, by the world's time.
    pub fn spans(&self) -> &[(Duration, Duration)] {
        &self.spans
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_ends_with_the_first_stamp_that_has_it() {
        let mut jumps = Jumps::default();
        let mut see = |at_ms, sight| {
            let now = Duration::from_millis(at_ms);
            jumps.see(&Happened { host: "n1", now, syncs: 0, sight: &sight });
        };
        see(0, Sight::TimeFromWall { clock_ms: 5_000 });
        see(10, Sight::Stamped { clock_ms: 5_010 });
        // A wall clock that is right.
        see(20, Sight::TimeFromWall { clock_ms: 5_021 });
        see(30, Sight::Stamped { clock_ms: 5_031 });
        // And one that is not.
        see(40, Sight::TimeFromWall { clock_ms: 9_000 });
        see(50, Sight::Stamped { clock_ms: 5_050 });
        see(60, Sight::Stamped { clock_ms: 9_020 });
        see(70, Sight::Stamped { clock_ms: 9_030 });
        let ms = Duration::from_millis;
        assert_eq!(jumps.spans(), [(ms(50), ms(60))]);
    }
}
