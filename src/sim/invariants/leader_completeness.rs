//! Whoever is elected has everything that was committed in earlier terms.

use super::{Happened, Invariant, Picture};
use crate::env::observer::{Ballot, Place, Sight};

#[derive(Default)]
pub struct LeaderCompleteness {
    /// What was committed, each further than the one before, and in which term that was seen first.
    committed: Vec<(Place, u64)>,
}

impl Invariant for LeaderCompleteness {
    fn check(&mut self, picture: &Picture, happened: &Happened<'_>) -> Result<(), String> {
        let node = &picture.nodes[happened.host];
        match *happened.sight {
            Sight::Committed(place) if self.committed.last().is_none_or(|(last, _)| *last < place) => {
                let term = node.vote.map_or(place.term, |vote| vote.term);
                self.committed.push((place, term));
            }
            Sight::Voted(Ballot { term, candidate, won: true }) if candidate == node.id => {
                let earlier = self.committed.iter().rev().find(|(_, seen)| *seen < term);
                if let Some((place, seen)) = earlier.filter(|(place, _)| !picture.has(&node.log, *place)) {
                    return Err(format!("the leader of {term} lacks {place:?}, committed in {seen}"));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::script::{appended, check, place, synced, won};
    use super::*;

    #[test]
    fn a_leader_that_lacks_what_was_committed() {
        let script = vec![
            ("n1", won(1, 1)),
            ("n2", won(1, 1)),
            ("n1", appended(1, 1, 7)),
            ("n2", appended(1, 1, 7)),
            ("n1", synced(1, 1)),
            ("n2", synced(1, 1)),
            ("n1", Sight::Committed(place(1, 1))),
            ("n2", won(2, 2)),
            ("n3", won(3, 3)),
        ];
        check(script, "leader completeness");
    }
}
