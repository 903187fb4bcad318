//! At most one node leads in a term; and nobody votes for two in one.

use std::collections::BTreeMap;

use super::{Happened, Invariant, Picture};
use crate::env::observer::{Ballot, Sight};

#[derive(Default)]
pub struct ElectionSafety {
    /// Who won each term.
    winners: BTreeMap<u64, u64>,
    /// Whom each node told that he has its vote, by node and term.
    promised: BTreeMap<(u64, u64), u64>,
}

impl Invariant for ElectionSafety {
    fn check(&mut self, picture: &Picture, happened: &Happened<'_>) -> Result<(), String> {
        let node = picture.nodes[happened.host].id;
        match *happened.sight {
            Sight::Voted(Ballot { term, candidate, won: true }) => {
                let winner = *self.winners.entry(term).or_insert(candidate);
                if winner != candidate {
                    return Err(format!("{winner} and {candidate} lead in term {term}"));
                }
            }
            Sight::VoteKept(Ballot { term, candidate, won: false }) => {
                let first = *self.promised.entry((node, term)).or_insert(candidate);
                if first != candidate {
                    return Err(format!("{node} votes for {first} and for {candidate} in term {term}"));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::script::{check, won};
    use super::*;
    use crate::env::observer::Extent;

    #[test]
    fn two_leaders_in_a_term() {
        check(vec![("n1", won(1, 1)), ("n2", won(2, 2)), ("n3", won(2, 3))], "election safety");
    }

    #[test]
    fn two_votes_in_a_term() {
        let vote = |candidate| Ballot { term: 4, candidate, won: false };
        let synced = |candidate| Sight::Synced(Extent { vote: Some(vote(candidate)), ..Extent::default() });
        let script = vec![
            ("n1", synced(2)),
            ("n1", Sight::VoteKept(vote(2))),
            ("n1", synced(3)),
            ("n1", Sight::VoteKept(vote(3))),
        ];
        check(script, "election safety");
    }
}
