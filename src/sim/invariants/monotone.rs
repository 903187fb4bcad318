//! A node's term, what it takes for committed, what it has applied and the cluster's clock never go back while it
//! runs; nor does the clock from one entry to the next.

use std::collections::BTreeMap;

use super::{Happened, Invariant, Picture};
use crate::env::observer::{Place, Sight};

#[derive(Default)]
pub struct Monotone {
    nodes: BTreeMap<&'static str, Reached>,
}

#[derive(Default)]
struct Reached {
    term: u64,
    committed: Option<Place>,
    applied: Option<Place>,
    clock_ms: u64,
}

impl Invariant for Monotone {
    fn check(&mut self, _: &Picture, happened: &Happened<'_>) -> Result<(), String> {
        let node = self.nodes.entry(happened.host).or_default();
        match happened.sight {
            Sight::Opened { log, applied, .. } => {
                // Of what is committed only some is remembered, and of the state the last checkpoint.
                let term = log.vote.map_or(0, |vote| vote.term);
                *node = Reached { term, applied: *applied, ..Reached::default() };
                Ok(())
            }
            Sight::Voted(ballot) => forward("the term", &mut node.term, ballot.term),
            Sight::Committed(place) => forward("what is committed", &mut node.committed, Some(*place)),
            Sight::Installed { place, clock_ms } => {
                forward("what is applied", &mut node.applied, Some(*place))?;
                forward("the clock", &mut node.clock_ms, *clock_ms)
            }
            Sight::Applied(entry) => {
                forward("what is applied", &mut node.applied, Some(entry.place))?;
                // An entry that does not touch the state says nothing of the time.
                let clock_ms = if entry.clock_ms == 0 { node.clock_ms } else { entry.clock_ms };
                forward("the clock", &mut node.clock_ms, clock_ms)
            }
            _ => Ok(()),
        }
    }
}

fn forward<T: Ord + std::fmt::Debug>(what: &str, reached: &mut T, now: T) -> Result<(), String> {
    if now < *reached {
        return Err(format!("{what} goes back from {reached:?} to {now:?}"));
    }
    *reached = now;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::script::{appended, applied, check, place, synced, won};
    use super::*;
    use crate::env::observer::AppliedEntry;

    #[test]
    fn a_term_that_goes_back() {
        check(vec![("n1", won(2, 2)), ("n1", won(1, 1))], "monotone");
    }

    #[test]
    fn a_commit_that_goes_back() {
        let mut script = Vec::new();
        for host in ["n1", "n2"] {
            script.extend([(host, appended(1, 1, 7)), (host, synced(1, 1))]);
        }
        script.extend([("n1", Sight::Committed(place(1, 1))), ("n1", Sight::Committed(place(0, 0)))]);
        check(script, "monotone");
    }

    #[test]
    fn a_clock_that_goes_back() {
        let mut script = Vec::new();
        for host in ["n1", "n2"] {
            script.extend([(host, appended(1, 1, 7)), (host, synced(1, 1))]);
        }
        script.extend([
            ("n1", Sight::Committed(place(1, 1))),
            ("n1", Sight::Applied(applied(0, 0))),
            ("n1", Sight::Applied(AppliedEntry { clock_ms: 999, ..applied(1, 1) })),
        ]);
        check(script, "monotone");
    }

    #[test]
    fn a_snapshot_of_the_past() {
        let mut script = Vec::new();
        for host in ["n1", "n2"] {
            script.extend([(host, appended(1, 1, 7)), (host, synced(1, 1))]);
        }
        script.extend([
            ("n1", Sight::Committed(place(1, 1))),
            ("n1", Sight::Applied(applied(0, 0))),
            ("n1", Sight::Applied(applied(1, 1))),
            ("n1", Sight::Installed { place: place(0, 0), clock_ms: 2_000 }),
        ]);
        check(script, "monotone");
    }
}
