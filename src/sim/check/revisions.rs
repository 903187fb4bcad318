//! The revision oracle: where the server tells the revision that each reply was computed at, there is nothing to search.
//!
//! What went through the log has a revision of its own, a read the one of the state that it saw. Then, in time that is linear
//! but for sorting:
//!
//! - carried out in the order of their revisions, all operations have the replies that they had;
//! - an operation's revision is not below that of any which was over before it was sent, and a write's is above;
//! - no two writes share a revision;
//! - the log of the cluster, if it is at hand when all is over, has every acknowledged write at its revision, and nothing
//!   that was said not to be applied, nor anything that nobody asked for; what the servers themselves note as its answers is
//!   right even where no client got to see it;
//! - a transaction was carried out only if what its connection had watched was as it had been then; and if there is a log,
//!   and all of that was there when it was watched, it was carried out if that was so. A server may take another key's
//!   coming for that of one that is not there.
//!
//! The log also settles what became of operations of unknown outcome, and what time it was: with it keys end when they must.
//! Without one, a reply that does not fit on a key that such an operation names shows nothing, and there is no verdict. It
//! trusts the server's revisions; the black-box checkers do not.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use super::Verdict;
use super::history::{Operation, Request, Value};
use super::object::{Object, Refusal};
use super::realtime::{Stamp, first_fall};

/// What the cluster has carried out, by revision: that of the last command, for a transaction.
pub type Log = BTreeMap<u64, Logged>;

/// Something in the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Logged {
    /// The time, from then on.
    pub clock_ms: u64,
    /// Absent if it only says what time it is, or was refused.
    pub request: Option<Request>,
    /// Keys that must not have changed since they were watched, else it is not carried out and its reply is nil.
    pub watched: Vec<String>,
    /// The server's own note of its reply. Where there is one, the revision is this request's alone, changed it anything or not.
    pub reply: Option<Value>,
}

impl Logged {
    /// What is at this revision, if it is this request.
    fn of<'a>(log: Option<&'a Log>, revision: u64, request: &Request) -> Option<&'a Self> {
        log?.get(&revision).filter(|logged| logged.request.as_ref() == Some(request))
    }
}

/// Judges all operations that carry a revision, with those that failed or are of unknown outcome.
#[must_use]
pub fn check(operations: &[Operation], log: Option<&Log>) -> Verdict {
    let mut done = Vec::new();
    // What each connection watches, and since which revision.
    let mut watches: HashMap<u64, Vec<(&str, u64)>> = HashMap::new();
    for operation in operations {
        match (operation.answer(), operation.revision()) {
            (Some((reply, returned_ns)), Some(revision)) => {
                let watches = watches.entry(operation.client).or_default();
                let commands = &operation.request.commands;
                if commands[0][0] == "WATCH" {
                    watches.extend(commands[0][1..].iter().map(|key| (key.as_str(), revision)));
                }
                let logged = Logged::of(log, revision, &operation.request);
                let is_logged = logged.is_some_and(|logged| logged.reply.is_some());
                let is_write = is_logged || has_effect(&operation.request, reply);
                // Once that is over, nothing is watched any more.
                let is_over = commands.len() > 1 || logged.is_some_and(|logged| !logged.watched.is_empty());
                let watched = if is_over { std::mem::take(watches) } else { watches.clone() };
                done.push(Done { operation, reply, returned_ns, revision, is_write, watched });
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
    /// What its connection watches, and since which revision.
    watched: Vec<(&'a str, u64)>,
}

/// Whether the reply says that something was changed.
#[must_use]
pub fn has_effect(request: &Request, reply: &Value) -> bool {
    // A transaction that was given up did nothing.
    let Some(replies) = request.replies(reply) else { return *reply != Value::Nil };
    let mut commands = request.commands.iter().zip(replies);
    commands.any(|(words, reply)| has_changed(words, reply))
}

fn has_changed(words: &[String], reply: &Value) -> bool {
    match words[0].as_str() {
        "GET" | "EXISTS" | "LRANGE" | "SMEMBERS" | "HKEYS" | "WATCH" => false,
        "SET" => *reply != Value::Nil,
        "EVAL" => !matches!(reply, Value::Nil | Value::Int(0)),
        "DEL" | "DELIFEQ" | "SADD" | "HDEL" | "PEXPIRE" | "MOVE" | "COPY" => *reply != Value::Int(0),
        _ => true,
    }
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
        if Logged::of(Some(log), write.revision, &write.operation.request).is_none() {
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
    let requests = log.iter().filter_map(|(revision, logged)| Some((revision, logged.request.as_ref()?)));
    for (revision, request) in requests.filter(|(revision, _)| !explained.contains(revision)) {
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
    let mut replay = Replay::default();
    let mut entries = log.into_iter().flatten().peekable();
    let mut undecided = None;
    for Done { operation, reply, revision, is_write, watched, .. } in done {
        // One command has this reply for reasons of its own.
        let is_given_up = **reply == Value::Nil && operation.request.commands.len() > 1;
        // What only the log tells of.
        let is_earlier = |entry: &(&u64, &Logged)| entry.0 < revision || entry.0 == revision && !is_write;
        while let Some((revision, logged)) = entries.next_if(is_earlier) {
            if let Err(what) = replay.carry_out(*revision, logged) {
                return Verdict::Violation(what);
            }
        }
        if operation.request.commands[0][0] == "WATCH" {
            replay.watch(&operation.request.commands[0][1..], *revision);
        }
        let own = if *is_write { entries.next_if(|(entry, _)| *entry == revision) } else { None };
        let expected = match own {
            Some((_, logged)) => {
                let since = |key: &String| watched.iter().find(|(watched, _)| watched == key);
                let has_changed = |key| since(key).is_none_or(|(_, since)| replay.last_change(key) > *since);
                let is_late = logged.watched.iter().any(has_changed);
                if is_late && **reply != Value::Nil {
                    return Verdict::Violation(format!(
                        "carried out although a watched key had changed:\n    {operation}\n"
                    ));
                }
                if is_given_up && !is_late && !replay.may_have_changed(watched) {
                    return Verdict::Violation(given_up(operation));
                }
                match replay.carry_out(*revision, logged) {
                    Ok(expected) => expected.ok_or(Refusal::NotApplied),
                    Err(what) => return Verdict::Violation(what),
                }
            }
            // So was not carried out, since a watched key had changed. Without a log nobody knows all changes.
            None if is_given_up && !watched.is_empty() => {
                if log.is_some() && !replay.may_have_changed(watched) {
                    return Verdict::Violation(given_up(operation));
                }
                Ok(Value::Nil)
            }
            None => replay.object.serve(&operation.request),
        };
        if expected.as_ref().is_ok_and(|expected| is_right(&operation.request, expected, reply)) {
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
    for (revision, logged) in entries {
        if let Err(what) = replay.carry_out(*revision, logged) {
            return Verdict::Violation(what);
        }
    }
    undecided.unwrap_or(Verdict::Accepted)
}

fn given_up(operation: &Operation) -> String {
    format!("not carried out although no watched key had changed:\n    {operation}\n")
}

/// A single copy, and at which revision each key was last written.
#[derive(Default)]
struct Replay {
    object: Object,
    changes: HashMap<String, u64>,
    /// Keys that change without a command that names them first: by scripts, as others' copies, or with their time.
    fleeting: HashSet<String>,
    /// Keys that were not there when they were watched, and at which revision that was.
    absent: HashSet<(String, u64)>,
}

impl Replay {
    /// Does what the log says. The reply, if it is known here; an error if the server notes another one.
    fn carry_out(&mut self, revision: u64, logged: &Logged) -> Result<Option<Value>, String> {
        self.object.advance(logged.clock_ms);
        let Some(request) = &logged.request else { return Ok(None) };
        if logged.reply == Some(Value::Nil) && !logged.watched.is_empty() {
            return Ok(Some(Value::Nil));
        }
        let Ok(expected) = self.object.serve(request) else { return Ok(None) };
        let replies = request.replies(&expected).unwrap_or_default();
        for (words, reply) in request.commands.iter().zip(replies) {
            if !matches!((words[0].as_str(), words.len()), ("SET", 3) | ("GET" | "DEL" | "INCR", _)) {
                self.fleeting.extend(words[1..].iter().cloned());
            }
            if let (true, Some(key)) = (has_changed(words, reply), words.get(1)) {
                self.changes.insert(key.clone(), revision);
            }
        }
        match &logged.reply {
            Some(noted) if !is_right(request, &expected, noted) => Err(format!(
                "at revision {revision} a server notes {noted} as the reply, which should be {expected}: {request:?}\n"
            )),
            _ => Ok(Some(expected)),
        }
    }

    /// The revision of the last change to this key.
    fn last_change(&self, key: &str) -> u64 {
        self.changes.get(key).copied().unwrap_or(0)
    }

    /// Whether any of these keys may be another one than it was at that revision.
    fn may_have_changed(&self, watched: &[(&str, u64)]) -> bool {
        watched.iter().any(|(key, since)| {
            let is_absent = self.absent.contains(&((*key).to_owned(), *since));
            is_absent || self.last_change(key) > *since || self.fleeting.contains(*key)
        })
    }

    /// Somebody watches keys, as they are at this revision.
    fn watch(&mut self, keys: &[String], revision: u64) {
        for key in keys {
            if self.object.serve(&Request::of(&["EXISTS", key])) != Ok(Value::Int(1)) {
                self.absent.insert((key.clone(), revision));
            }
        }
    }
}

/// Whether a reply is as expected, in any order where there is none.
fn is_right(request: &Request, expected: &Value, reply: &Value) -> bool {
    match (request.commands.as_slice(), expected, reply) {
        ([words], _, Value::Int(_)) if words[0] == "PUBLISH" => true,
        ([words], Value::List(expected), Value::List(items)) if words[0] == "HKEYS" => {
            let mut items = items.iter().collect::<Vec<_>>();
            items.sort();
            expected.iter().eq(items)
        }
        _ => is_same(expected, reply),
    }
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
