//! Which checker judges which keys: a kind of key is told by how its name begins.

use super::history::{History, Operation};
use super::leases::{self, Allowance};
use super::search::STATES_MAX;
use super::{Verdict, appends, locks, sets, strings};

/// What the judge of each kind says, by its name, and on how many operations: of those that go by time only as many as were
/// allowed nothing for its having jumped.
#[must_use]
pub fn verdicts(history: &History, allowance: &Allowance) -> Vec<(&'static str, usize, Verdict)> {
    let judge = |name, prefix: &str, check: &dyn Fn(&[Operation]) -> Verdict| {
        let operations = history.on_keys(prefix);
        (name, operations.len(), check(&operations))
    };
    let judge_timed = |name, prefix: &str, check: &dyn Fn(&[Operation], &Allowance) -> Verdict| {
        let operations = history.on_keys(prefix);
        (name, allowance.strict(&operations), check(&operations, allowance))
    };
    let in_strings = |operations: &[_]| strings::check(operations, STATES_MAX);
    vec![
        judge("registers", "register:", &in_strings),
        judge("counters", "counter:", &in_strings),
        judge("transactions", "account:", &in_strings),
        judge("lists", "list:", &appends::check),
        judge("sets", "set:", &sets::check),
        judge_timed("leases", "lease:", &leases::check),
        judge_timed("locks", "lock:", &locks::check),
    ]
}
