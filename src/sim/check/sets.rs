//! Sets that only grow: nothing that was added is ever missed.
//!
//! SADD or HSET of one new member, SMEMBERS or HKEYS. Each member is added once. The check is exact without a search: reads
//! must hold each other's members in a chain, and each read all members that were known to be there before it, or before
//! the adding of anything it holds.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::Verdict;
use super::history::{Millis, Operation, Value};

/// Whether the sets are linearizable. Without a read that was sent when all adding was over, a lost member would not be
/// noticed, which is no verdict.
#[must_use]
pub fn check(operations: &[Operation]) -> Verdict {
    let mut sets: BTreeMap<&str, Set<'_>> = BTreeMap::new();
    for operation in operations {
        let [words] = operation.request.commands.as_slice() else {
            return Verdict::Undecided(format!("not a single command: {operation}"));
        };
        let words = words.iter().map(String::as_str).collect::<Vec<_>>();
        match words.as_slice() {
            ["SADD", key, member] | ["HSET", key, member, _] => {
                if sets.entry(key).or_default().adds.insert(member, operation).is_some() {
                    return Verdict::Undecided(format!("{member} is added to {key} twice"));
                }
            }
            ["SMEMBERS" | "HKEYS", key] => {
                let Some((reply, returned_ns)) = operation.answer() else { continue };
                let Some(members) = reply.texts() else {
                    return Verdict::Undecided(format!("not a reply with members: {operation}"));
                };
                let count = members.len();
                let members = members.into_iter().collect::<BTreeSet<_>>();
                if members.len() < count {
                    return Verdict::Violation(format!("{key}: a member twice:\n    {operation}\n"));
                }
                sets.entry(key).or_default().reads.push(Read { operation, returned_ns, members });
            }
            _ => return Verdict::Undecided(format!("neither adds to a set nor reads one: {operation}")),
        }
    }
    Verdict::all(sets.iter_mut().map(|(key, set)| {
        if !set.is_read_last() {
            return Verdict::Undecided(format!("{key}: no read after the last member was added"));
        }
        Verdict::from(set.check().map_err(|what| format!("{key}: {what}")))
    }))
}

struct Read<'a> {
    operation: &'a Operation,
    returned_ns: u64,
    members: BTreeSet<&'a str>,
}

#[derive(Default)]
struct Set<'a> {
    adds: HashMap<&'a str, &'a Operation>,
    reads: Vec<Read<'a>>,
}

impl Set<'_> {
    fn is_read_last(&self) -> bool {
        let last =
            self.adds.values().map(|add| add.returned.as_ref().map_or(add.invoked_ns, |end| end.ns)).max();
        last.is_none_or(|last| self.reads.iter().any(|read| read.operation.invoked_ns > last))
    }

    fn check(&mut self) -> Result<(), String> {
        // When each member was known to be there: it was answered, or seen.
        let mut known: HashMap<&str, u64> = HashMap::new();
        for (member, add) in &self.adds {
            let Some((reply, ns)) = add.answer() else { continue };
            if *reply != Value::Int(1) {
                return Err(format!("{member} was there already, though it is added once:\n    {add}\n"));
            }
            known.insert(member, ns);
        }
        for read in &self.reads {
            for member in &read.members {
                let Some(add) = self.adds.get(member) else {
                    return Err(format!("nobody added {member}:\n    {}\n", read.operation));
                };
                if add.has_failed() || add.invoked_ns > read.returned_ns {
                    return Err(format!(
                        "{member} cannot have been there:\n    {add}\n    {}\n",
                        read.operation
                    ));
                }
                let ns = known.entry(member).or_insert(read.returned_ns);
                *ns = read.returned_ns.min(*ns);
            }
        }
        self.reads.sort_by_key(|read| read.members.len());
        for pair in self.reads.windows(2) {
            if !pair[0].members.is_subset(&pair[1].members) {
                let (one, other) = (pair[0].operation, pair[1].operation);
                return Err(format!("each of these has what the other lacks:\n    {one}\n    {other}\n"));
            }
        }
        let mut times = known.values().copied().collect::<Vec<_>>();
        times.sort_unstable();
        for read in &self.reads {
            let newest = read.members.iter().map(|member| self.adds[member].invoked_ns).max();
            let horizon = newest.unwrap_or(0).max(read.operation.invoked_ns);
            let is_due = |member: &&&str| known[**member] < horizon;
            if read.members.iter().filter(is_due).count() == times.partition_point(|ns| *ns < horizon) {
                continue;
            }
            let missing =
                known.iter().filter(|(member, ns)| **ns < horizon && !read.members.contains(**member));
            let (member, ns) = missing.min().expect("the counts differ");
            let (add, since) = (self.adds[member], Millis(*ns));
            return Err(format!(
                "{member}, known to be there at {since}, is missing:\n    {add}\n    {}\n",
                read.operation
            ));
        }
        Ok(())
    }
}
