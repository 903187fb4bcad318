//! All nodes apply the same entries, one after another, and only what is committed.

use std::collections::BTreeMap;

use super::{Happened, Invariant, Picture};
use crate::env::observer::{Place, Sight};

#[derive(Default)]
pub struct StateMachineSafety {
    /// Term and checksum of what was applied at each index.
    entries: BTreeMap<u64, (u64, u32)>,
    applied: BTreeMap<&'static str, Option<Place>>,
}

impl Invariant for StateMachineSafety {
    fn check(&mut self, picture: &Picture, happened: &Happened<'_>) -> Result<(), String> {
        let applied = picture.nodes[happened.host].applied;
        let before = self.applied.insert(happened.host, applied).flatten();
        match happened.sight {
            Sight::Applied(entry) => {
                let place = entry.place;
                if place.index != before.map_or(0, |before| before.index + 1) {
                    return Err(format!("{place:?} is applied behind {before:?}"));
                }
                if picture.committed.get(&place.index) != Some(&place.term) {
                    return Err(format!("{place:?} is applied, and not committed"));
                }
                let found = *self.entries.entry(place.index).or_insert((place.term, entry.checksum));
                if found != (place.term, entry.checksum) {
                    return Err(format!("another entry was applied at {}: {found:?}", place.index));
                }
            }
            Sight::Installed { place, .. }
                if picture.committed.get(&place.index).is_some_and(|term| *term != place.term) =>
            {
                return Err(format!("a snapshot that ends with {place:?} is of another history"));
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
    use crate::env::observer::AppliedEntry;

    fn committed(index: u64) -> Vec<(&'static str, Sight)> {
        let mut script = Vec::new();
        for host in ["n1", "n2"] {
            script.extend((1..=index).map(|index| (host, appended(1, index, 7))));
            script.push((host, synced(1, index)));
        }
        script.extend(["n1", "n2"].map(|host| (host, Sight::Committed(place(1, index)))));
        script.extend(["n1", "n2"].map(|host| (host, Sight::Applied(applied(0, 0)))));
        script
    }

    #[test]
    fn two_entries_applied_in_one_place() {
        let mut script = committed(1);
        script.push(("n1", Sight::Applied(applied(1, 1))));
        script.push(("n2", Sight::Applied(AppliedEntry { checksum: 8, ..applied(1, 1) })));
        check(script, "state machine safety");
    }

    #[test]
    fn an_entry_left_out() {
        let mut script = committed(2);
        script.push(("n1", Sight::Applied(applied(1, 2))));
        check(script, "state machine safety");
    }

    #[test]
    fn an_entry_that_is_not_committed() {
        let mut script = committed(1);
        script.extend([
            ("n1", Sight::Applied(applied(1, 1))),
            ("n1", appended(1, 2, 7)),
            ("n1", Sight::Applied(applied(1, 2))),
        ]);
        check(script, "state machine safety");
    }
}
