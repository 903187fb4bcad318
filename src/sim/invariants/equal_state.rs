//! Nodes that have applied the same are the same.

use std::collections::BTreeMap;

use super::{Happened, Invariant, Picture};
use crate::env::observer::{AppliedEntry, Sight};

#[derive(Default)]
pub struct EqualState {
    /// What applying each index did first. The hash among it is of the whole state.
    entries: BTreeMap<u64, AppliedEntry>,
}

impl Invariant for EqualState {
    fn check(&mut self, _: &Picture, happened: &Happened<'_>) -> Result<(), String> {
        let Sight::Applied(entry) = happened.sight else { return Ok(()) };
        let first = self.entries.entry(entry.place.index).or_insert(*entry);
        if first != entry {
            return Err(format!("elsewhere it was {first:?}"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::script::{applied, check, place};
    use super::*;

    #[test]
    fn states_that_differ() {
        let hashed = |hash| Sight::Applied(AppliedEntry { state_hash: Some(hash), ..applied(0, 0) });
        let script = vec![("n1", Sight::Committed(place(0, 0))), ("n1", hashed(1)), ("n2", hashed(2))];
        check(script, "equal state");
    }

    #[test]
    fn revisions_that_differ() {
        let at = |revision| Sight::Applied(AppliedEntry { revision, ..applied(0, 0) });
        let script = vec![("n1", Sight::Committed(place(0, 0))), ("n1", at(1)), ("n3", at(2))];
        check(script, "equal state");
    }
}
