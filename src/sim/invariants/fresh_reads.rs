//! A read sees everything that any client was answered before it was asked for.

use std::collections::BTreeMap;

use super::{Happened, Invariant, Picture};
use crate::env::observer::{Place, Sight};

#[derive(Default)]
pub struct FreshReads {
    /// Which entry gave the answers to each group.
    outcomes: BTreeMap<(&'static str, u64), u64>,
    /// The highest index that anybody has been answered from.
    answered: u64,
    /// What it was when each client's read began.
    asked: BTreeMap<(&'static str, u64), u64>,
}

impl Invariant for FreshReads {
    fn check(&mut self, picture: &Picture, happened: &Happened<'_>) -> Result<(), String> {
        let host = happened.host;
        let applied = picture.nodes[host].applied.map_or(0, |place: Place| place.index);
        match *happened.sight {
            Sight::Opened { .. } => {
                self.outcomes.retain(|(on, _), _| *on != host);
                self.asked.retain(|(on, _), _| *on != host);
            }
            Sight::Outcome { sequence } => {
                self.outcomes.entry((host, sequence)).or_insert(applied);
            }
            Sight::Answered { sequence } => {
                let index = self.outcomes.get(&(host, sequence)).copied().unwrap_or(0);
                self.answered = self.answered.max(index);
            }
            Sight::ReadAsked { client } => {
                self.asked.insert((host, client), self.answered);
            }
            Sight::ReadFrom { client, index } => {
                let wanted = self.asked.get(&(host, client)).copied().unwrap_or(0);
                if index < wanted {
                    return Err(format!("{wanted} was answered from before it was asked for"));
                }
                if applied < index {
                    return Err(format!("only {applied} is applied"));
                }
                self.answered = self.answered.max(index);
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

    #[test]
    fn a_read_of_the_past() {
        let mut script = Vec::new();
        for host in ["n1", "n2"] {
            script.extend([(host, appended(1, 1, 7)), (host, synced(1, 1))]);
        }
        script.extend([
            ("n1", Sight::Committed(place(1, 1))),
            ("n1", Sight::Applied(applied(0, 0))),
            ("n1", Sight::Applied(applied(1, 1))),
            ("n1", Sight::Outcome { sequence: 1 }),
            ("n1", Sight::Answered { sequence: 1 }),
            ("n2", Sight::Applied(applied(0, 0))),
            ("n2", Sight::ReadAsked { client: 9 }),
            ("n2", Sight::ReadFrom { client: 9, index: 0 }),
        ]);
        check(script, "fresh reads");
    }

    #[test]
    fn a_read_of_what_is_not_applied() {
        let script =
            vec![("n2", Sight::ReadAsked { client: 9 }), ("n2", Sight::ReadFrom { client: 9, index: 5 })];
        check(script, "fresh reads");
    }
}
