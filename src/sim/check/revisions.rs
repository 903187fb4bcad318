//! The revision oracle: where the server tells the revision that each reply was computed at, there is nothing to search.
//!
//! A write has a revision of its own, a read the one of the state that it saw. Then, in time that is linear but for sorting:
//!
//! - carried out in the order of their revisions, all operations have the replies that they had;
//! - an operation's revision is not below that of any which was over before it was sent, and a write's is above;
//! - no two writes share a revision;
//! - the log of the cluster, if it is at hand when all is over, has every acknowledged write at its revision, and nothing
//!   that was said not to be applied, nor anything that nobody asked for.
//!
//! The last point also settles what became of operations of unknown outcome. Without a log, a reply that does not fit on a key
//! that such an operation names shows nothing, and there is no verdict. It trusts the server's revisions; the black-box
//! checkers do not.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use super::Verdict;
use super::history::{Operation, Request, Value};
use super::object::{Object, Refusal};
use super::realtime::{Stamp, first_fall};

/// What the cluster has carried out, by revision: that of the last command, for a transaction.
pub type Log = BTreeMap<u64, Request>;

/// Judges all operations that carry a revision, with those that failed or are of unknown outcome.
#[must_use]
pub fn check(operations: &[Operation], log: Option<&Log>) -> Verdict {
    let mut done = Vec::new();
    for operation in operations {
        match (operation.answer(), operation.revision()) {
            (Some((reply, returned_ns)), Some(revision)) => {
                let is_write = has_effect(&operation.request, reply);
                done.push(Done { operation, reply, returned_ns, revision, is_write });
            }
            (Some(_), None) => return Verdict::Undecided(format!("without a revision: {operation}")),
            (None, _) => {}
        }
    }
    // Reads see the write of their own revision.
    done.sort_by_key(|done| (done.revision, !done.is_write, done.operation.invoked_ns));
    let settled = check_unique(&done).and_then(|()| match log {
        Some(log) => check_log(operations, &done, log),
        None => Ok(Vec::new()),
    });
    if let Err(what) = settled.and_then(|settled| check_time(&done, settled)) {
        return Verdict::Violation(what);
    }
    let unsure = operations.iter().filter(|operation| operation.is_unknown() && log.is_none());
    replay(&done, log, unsure.flat_map(|operation| operation.request.keys()).collect())
}

struct Done<'a> {
    operation: &'a Operation,
    reply: &'a Value,
    returned_ns: u64,
    revision: u64,
    is_write: bool,
}

/// Whether the reply says that something was changed.
#[must_use]
pub fn has_effect(request: &Request, reply: &Value) -> bool {
    let Some(replies) = request.replies(reply) else { return true };
    let mut commands = request.commands.iter().zip(replies);
    commands.any(|(words, reply)| match words[0].as_str() {
        "GET" | "EXISTS" | "LRANGE" | "SMEMBERS" => false,
        "SET" => *reply != Value::Nil,
        "DEL" | "DELIFEQ" | "SADD" => *reply != Value::Int(0),
        _ => true,
    })
}

fn check_unique(done: &[Done<'_>]) -> Result<(), String> {
    let writes = done.iter().filter(|done| done.is_write).collect::<Vec<_>>();
    match writes.windows(2).find(|pair| pair[0].revision == pair[1].revision) {
        Some(pair) => Err(format!(
            "two writes of one revision:\n    {}\n    {}\n",
            pair[0].operation, pair[1].operation
        )),
        None => Ok(()),
    }
}

/// Among those that are done, and those of unknown outcome that turned out to have a revision.
fn check_time<'a>(done: &[Done<'a>], settled: Vec<(&'a Operation, u64)>) -> Result<(), String> {
    let stamp = |done: &Done<'a>| {
        let (invoked_ns, returned_ns) = (done.operation.invoked_ns, done.returned_ns);
        (done.operation, Stamp { number: done.revision, invoked_ns, returned_ns, is_new: done.is_write })
    };
    let settled = settled.into_iter().map(|(operation, number)| {
        let invoked_ns = operation.invoked_ns;
        (operation, Stamp { number, invoked_ns, returned_ns: u64::MAX, is_new: true })
    });
    let (operations, stamps): (Vec<_>, Vec<_>) = done.iter().map(stamp).chain(settled).unzip();
    match first_fall(&stamps) {
        Some((earlier, later)) => {
            let (earlier, later) = (operations[earlier], operations[later]);
            Err(format!("a revision that is too low for its time:\n    {earlier}\n    {later}\n"))
        }
        None => Ok(()),
    }
}

/// Compares the log with what was asked and answered. Returns which operations of unknown outcome it has, and where.
fn check_log<'a>(
    operations: &'a [Operation],
    done: &[Done<'_>],
    log: &Log,
) -> Result<Vec<(&'a Operation, u64)>, String> {
    let mut explained = HashSet::new();
    for write in done.iter().filter(|done| done.is_write) {
        if log.get(&write.revision) != Some(&write.operation.request) {
            return Err(format!("an acknowledged write is not in the log:\n    {}\n", write.operation));
        }
        explained.insert(write.revision);
    }
    // The rest was asked for by somebody who does not know what became of it, each once. Of those that asked for the same,
    // the first one fits best: a later one could only have a higher revision.
    let mut unknown: HashMap<String, VecDeque<&Operation>> = HashMap::new();
    let mut sorted = operations.iter().filter(|operation| operation.is_unknown()).collect::<Vec<_>>();
    sorted.sort_by_key(|operation| operation.invoked_ns);
    for operation in sorted {
        unknown.entry(format!("{:?}", operation.request)).or_default().push_back(operation);
    }
    let mut settled = Vec::new();
    for (revision, request) in log.iter().filter(|(revision, _)| !explained.contains(revision)) {
        let asked = unknown.get_mut(&format!("{request:?}")).and_then(VecDeque::pop_front);
        let Some(asked) = asked else {
            let failed =
                operations.iter().find(|operation| operation.has_failed() && operation.request == *request);
            let asked = failed.map_or_else(|| format!("{request:?}"), Operation::to_string);
            return Err(format!(
                "the log has, at revision {revision}, what nobody can have had done:\n    {asked}\n"
            ));
        };
        settled.push((asked, *revision));
    }
    Ok(settled)
}

/// Carries everything out again. What does not fit on keys in `unsure` shows nothing.
fn replay<'a>(done: &[Done<'a>], log: Option<&Log>, mut unsure: HashSet<&'a str>) -> Verdict {
    let mut object = Object::default();
    let mut entries = log.into_iter().flatten().peekable();
    let mut undecided = None;
    for Done { operation, reply, revision, is_write, .. } in done {
        // What only the log tells of.
        let is_earlier = |entry: &(&u64, &Request)| entry.0 < revision || entry.0 == revision && !is_write;
        while let Some((_, request)) = entries.next_if(is_earlier) {
            let _ = object.serve(request);
        }
        if *is_write {
            entries.next_if(|(entry, _)| *entry == revision);
        }
        let expected = object.serve(&operation.request);
        if expected.as_ref().is_ok_and(|expected| is_same(expected, reply)) {
            continue;
        }
        let expected = match expected {
            Ok(expected) => expected.to_string(),
            Err(Refusal::NotApplied) => "a refusal".into(),
            Err(Refusal::Unheard) => {
                return Verdict::Undecided(format!("not a command known here: {operation}"));
            }
        };
        let what = format!("in the order of revisions, the reply should be {expected}:\n    {operation}\n");
        if !operation.request.keys().any(|key| unsure.contains(key)) {
            return Verdict::Violation(what);
        }
        // Nor does what it was to do to others.
        unsure.extend(operation.request.keys());
        undecided.get_or_insert(Verdict::Undecided(format!("without a log of what was carried out: {what}")));
    }
    undecided.unwrap_or(Verdict::Accepted)
}

/// A number is the same as its text: GET has the one, INCR the other.
fn is_same(expected: &Value, reply: &Value) -> bool {
    match (expected, reply) {
        (Value::Text(text), Value::Int(number)) | (Value::Int(number), Value::Text(text)) => {
            *text == number.to_string()
        }
        (Value::List(some), Value::List(others)) => {
            some.len() == others.len() && some.iter().zip(others).all(|(one, other)| is_same(one, other))
        }
        _ => expected == reply,
    }
}
