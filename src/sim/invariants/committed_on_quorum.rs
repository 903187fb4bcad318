//! Whatever anybody takes for committed is on the synced disks of a majority of the voters.
//!
//! Which voters: those of the newest change of members in the log of the leader that committed it. A node that
//! hears of it may know a newer or an older one, so a majority by any change from the entry's own on will do.

use super::picture::is_quorum;
use super::{Happened, Invariant, Picture};
use crate::env::observer::{Place, Sight};

#[derive(Default)]
pub struct CommittedOnQuorum {
    highest: Option<Place>,
}

impl Invariant for CommittedOnQuorum {
    fn check(&mut self, picture: &Picture, happened: &Happened<'_>) -> Result<(), String> {
        let Sight::Committed(place) = *happened.sight else { return Ok(()) };
        if let Some(term) = picture.committed.get(&place.index).filter(|term| **term != place.term) {
            return Err(format!("{place:?} is committed where an entry of term {term} was"));
        }
        if self.highest.is_some_and(|highest| highest >= place) {
            return Ok(());
        }
        self.highest = Some(place);
        let kept = |id: u64| picture.node(id).is_some_and(|node| picture.has(&node.disk, place));
        let lasts =
            picture.nodes.values().filter(|node| picture.has(&node.log, place)).map(|node| node.log.last);
        for last in lasts {
            for (index, voters) in picture.voters(last) {
                if is_quorum(voters, kept) {
                    return Ok(());
                }
                if index <= place.index {
                    break;
                }
            }
        }
        let having = picture.nodes.values().filter(|node| kept(node.id)).map(|node| node.id);
        Err(format!("{place:?} is on the disks of {:?} only", having.collect::<Vec<_>>()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::script::{appended, check, place, synced};
    use super::*;

    #[test]
    fn committed_by_one_disk() {
        let script = vec![
            ("n1", appended(1, 1, 7)),
            ("n2", appended(1, 1, 7)),
            ("n3", appended(1, 1, 7)),
            ("n1", synced(1, 1)),
            ("n1", Sight::Committed(place(1, 1))),
        ];
        check(script, "committed on a quorum");
    }

    #[test]
    fn committed_twice() {
        let mut script = Vec::new();
        for (host, term) in [("n1", 1), ("n2", 1), ("n3", 2)] {
            script.extend([(host, appended(term, 1, 7)), (host, synced(term, 1))]);
        }
        script.extend([("n1", Sight::Committed(place(1, 1))), ("n3", Sight::Committed(place(2, 1)))]);
        check(script, "committed on a quorum");
    }
}
