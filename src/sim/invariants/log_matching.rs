//! Two entries of one index and term are the same, and so is everything before them.

use std::collections::BTreeMap;

use super::{Happened, Invariant, Picture};
use crate::env::observer::{Place, Sight};

#[derive(Default)]
pub struct LogMatching {
    /// The end of each node's log before it grew.
    ends: BTreeMap<&'static str, Option<Place>>,
}

impl Invariant for LogMatching {
    fn check(&mut self, picture: &Picture, happened: &Happened<'_>) -> Result<(), String> {
        let end = self.ends.insert(happened.host, picture.nodes[happened.host].log.last).flatten();
        let Sight::Appended { place, checksum, .. } = happened.sight else { return Ok(()) };
        let entry = &picture.entries[&(place.term, place.index)];
        if entry.checksum != *checksum {
            return Err(format!("two entries at {place:?}"));
        }
        if entry.before != end {
            return Err(format!("{place:?} stands behind {:?} and behind {end:?}", entry.before));
        }
        let expected = end.map_or(0, |end| end.index + 1);
        if place.index != expected {
            return Err(format!("{place:?} stands behind {end:?}"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::script::{appended, check};

    #[test]
    fn two_entries_in_one_place() {
        check(vec![("n1", appended(1, 1, 7)), ("n2", appended(1, 1, 8))], "log matching");
    }

    #[test]
    fn one_entry_behind_two() {
        let script = vec![
            ("n1", appended(1, 1, 7)),
            ("n1", appended(3, 2, 7)),
            ("n2", appended(2, 1, 7)),
            ("n2", appended(3, 2, 7)),
        ];
        check(script, "log matching");
    }

    #[test]
    fn a_gap() {
        check(vec![("n1", appended(1, 2, 7))], "log matching");
    }
}
