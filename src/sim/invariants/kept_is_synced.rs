//! What a node says it keeps is on its synced disk, and still there when it starts again.

use std::collections::BTreeMap;

use super::{Happened, Invariant, Picture};
use crate::env::observer::{Ballot, Sight};

#[derive(Default)]
pub struct KeptIsSynced {
    /// How many syncs each disk had done when the log last told of one.
    syncs: BTreeMap<&'static str, u64>,
}

impl Invariant for KeptIsSynced {
    fn check(&mut self, picture: &Picture, happened: &Happened<'_>) -> Result<(), String> {
        let node = &picture.nodes[happened.host];
        match happened.sight {
            Sight::Synced(_) => {
                let before = self.syncs.insert(happened.host, happened.syncs);
                if before >= Some(happened.syncs) {
                    return Err("no disk was synced".into());
                }
            }
            Sight::EntriesKept(place) if !picture.has(&node.disk, *place) => {
                return Err(format!("the disk ends with {:?}", node.disk.last));
            }
            Sight::VoteKept(ballot) if rank(node.disk.vote) < rank(Some(*ballot)) => {
                return Err(format!("the disk has {:?}", node.disk.vote));
            }
            Sight::Opened { log, .. } => {
                if let Some(last) = node.left.last.filter(|last| !picture.has(log, *last)) {
                    return Err(format!("{last:?} was on its disk"));
                }
                if rank(node.left.vote) > rank(log.vote) {
                    return Err(format!("{:?} was on its disk", node.left.vote));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

fn rank(vote: Option<Ballot>) -> Option<(u64, bool)> {
    vote.map(|vote| (vote.term, vote.won))
}

#[cfg(test)]
mod tests {
    use super::super::script::{appended, check, cluster, judge, opened, place, synced};
    use super::*;
    use crate::env::observer::{Extent, Place};

    #[test]
    fn an_entry_kept_before_its_sync() {
        check(vec![("n1", appended(1, 1, 7)), ("n1", Sight::EntriesKept(place(1, 1)))], "kept is synced");
    }

    #[test]
    fn a_vote_kept_before_its_sync() {
        check(vec![("n1", Sight::VoteKept(Ballot { term: 1, candidate: 2, won: false }))], "kept is synced");
    }

    #[test]
    fn a_synced_entry_lost_in_a_crash() {
        check(vec![("n1", appended(1, 1, 7)), ("n1", synced(1, 1)), ("n1", opened(1))], "kept is synced");
    }

    /// A crash in the write that holds the truncation. The log may have come out of it truncated, or as it was, or without
    /// what had to stay.
    #[test]
    fn a_truncation_that_a_crash_cut() {
        let crash = |last: Place| {
            let log = Extent { last: Some(last), ..Extent::default() };
            cluster(vec![
                ("n1", appended(1, 1, 7)),
                ("n1", appended(1, 2, 7)),
                ("n1", appended(1, 3, 7)),
                ("n1", synced(1, 3)),
                ("n1", Sight::Truncated(Some(place(1, 2)))),
                ("n1", Sight::Opened { node: 1, log, applied: None }),
            ])
        };
        assert_eq!(judge(&crash(place(1, 3))), None);
        assert_eq!(judge(&crash(place(1, 2))), None);
        assert!(judge(&crash(place(1, 1))).is_some_and(|violation| violation.starts_with("kept is synced")));
    }

    #[test]
    fn a_sync_that_was_none() {
        let mut invariant = KeptIsSynced::default();
        let mut picture = Picture::default();
        let told = synced(1, 1);
        let happened = Happened { host: "n1", now: std::time::Duration::ZERO, syncs: 3, sight: &told };
        picture.show(&happened);
        assert_eq!(invariant.check(&picture, &happened), Ok(()));
        assert!(invariant.check(&picture, &happened).is_err());
    }
}
