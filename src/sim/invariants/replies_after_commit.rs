//! No client is answered before what he asked for is committed, and applied by the node that answers.

use std::collections::BTreeMap;

use super::{Happened, Invariant, Picture};
use crate::env::observer::{Place, Sight};

#[derive(Default)]
pub struct RepliesAfterCommit {
    /// Which entry gave the answers to each group of a host's present life.
    outcomes: BTreeMap<&'static str, BTreeMap<u64, Place>>,
}

impl Invariant for RepliesAfterCommit {
    fn check(&mut self, picture: &Picture, happened: &Happened<'_>) -> Result<(), String> {
        let node = &picture.nodes[happened.host];
        let outcomes = self.outcomes.entry(happened.host).or_default();
        match happened.sight {
            Sight::Opened { .. } => outcomes.clear(),
            Sight::Outcome { sequence } => {
                let applied = node.applied.ok_or("nothing was applied")?;
                outcomes.entry(*sequence).or_insert(applied);
            }
            Sight::Answered { sequence } => {
                let place = outcomes.get(sequence).ok_or("an answer that no entry gave")?;
                if picture.committed.get(&place.index) != Some(&place.term) {
                    return Err(format!("{place:?} is not committed"));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::script::{check, place};
    use super::*;

    #[test]
    fn an_answer_from_nowhere() {
        check(vec![("n1", Sight::Answered { sequence: 1 })], "replies after commit");
    }

    #[test]
    fn an_answer_before_the_commit() {
        let script = vec![
            // A snapshot may hold what nobody here has seen committed.
            ("n1", Sight::Installed { place: place(1, 1), clock_ms: 1 }),
            ("n1", Sight::Outcome { sequence: 1 }),
            ("n1", Sight::Answered { sequence: 1 }),
        ];
        check(script, "replies after commit");
    }
}
