//! Keyspace events: a subscriber of `__keyspace@0__:key` is told of every change to the key, in the order of the changes.
//!
//! The order of the changes must be known: by their revisions where the server tells them, otherwise because no two writes to
//! the key were under way at once. Writes of unknown outcome may have an event or none. What a subscriber gets is then a
//! piece of the expected sequence: from its confirmed subscription on, and without gaps.

use std::collections::{BTreeMap, BTreeSet};

use super::Verdict;
use super::history::{Delivery, Operation, Value};

/// The channel of a key's events, without the key.
pub const CHANNEL: &str = "__keyspace@0__:";

/// Whether the events tell the writes. Subscribers in `drained` are known to have been told everything: they were
/// connected until long after the last write.
#[must_use]
pub fn check(operations: &[Operation], deliveries: &[Delivery], drained: &BTreeSet<u64>) -> Verdict {
    let mut keys: BTreeMap<&str, Key<'_>> = BTreeMap::new();
    for operation in operations {
        let [words] = operation.request.commands.as_slice() else {
            return Verdict::Undecided(format!("not a single command: {operation}"));
        };
        let words = words.iter().map(String::as_str).collect::<Vec<_>>();
        let (Some(key), Some(names)) = (words.get(1), names(&words)) else {
            return Verdict::Undecided(format!("what events that has is not known here: {operation}"));
        };
        let changes = &mut keys.entry(key).or_default().changes;
        if !operation.has_failed() && !has_no_effect(operation) {
            changes.extend(names.iter().map(|&(name, deadline)| Change { operation, name, deadline }));
        }
    }
    for delivery in deliveries {
        if let Some(key) = delivery.channel.strip_prefix(CHANNEL) {
            let subscribers = &mut keys.entry(key).or_default().subscribers;
            subscribers.entry(delivery.subscriber).or_default().push(delivery);
        }
    }
    Verdict::all(keys.into_iter().map(|(key, Key { mut changes, subscribers })| {
        if let Err(pair) = sort(&mut changes) {
            return Verdict::Undecided(format!("{key}: in which order?\n    {}\n    {}\n", pair.0, pair.1));
        }
        let checked = subscribers.iter().try_for_each(|(subscriber, received)| {
            follow(&changes, received, drained.contains(subscriber))
                .map_err(|what| format!("{key}: subscriber {subscriber} {what}"))
        });
        Verdict::from(checked)
    }))
}

/// What was done to a key, and told of it.
#[derive(Default)]
struct Key<'a> {
    changes: Vec<Change<'a>>,
    subscribers: BTreeMap<u64, Vec<&'a Delivery>>,
}

/// An event to be expected.
struct Change<'a> {
    operation: &'a Operation,
    name: &'static str,
    deadline: Deadline,
}

impl Change<'_> {
    fn is_certain(&self) -> bool {
        !self.operation.is_unknown()
    }
}

/// What a change does to the key's deadline. From a key that has one there may come an event without a command: that it
/// has expired.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Deadline {
    Set,
    Kept,
    Cleared,
}

impl Deadline {
    /// Whether the key has one then.
    fn after(self, before: bool) -> bool {
        match self {
            Self::Set => true,
            Self::Kept => before,
            Self::Cleared => false,
        }
    }
}

/// The events of a command that has an effect.
fn names(words: &[&str]) -> Option<&'static [(&'static str, Deadline)]> {
    use Deadline::{Cleared, Kept, Set};
    Some(match words {
        ["SET", _, _, "PX", _] => &[("set", Cleared), ("expire", Set)],
        ["SET", _, _] | ["SET", _, _, "NX" | "XX"] | ["SET", _, _, "IFEQ" | "IFNE", _] => &[("set", Cleared)],
        ["PEXPIRE", ..] => &[("expire", Set)],
        ["DEL", _] => &[("del", Cleared)],
        ["INCR" | "INCRBY", ..] => &[("incrby", Kept)],
        ["DECR", ..] => &[("decrby", Kept)],
        ["RPUSH", ..] => &[("rpush", Kept)],
        ["HSET", ..] => &[("hset", Kept)],
        ["GET" | "EXISTS" | "LRANGE" | "HKEYS", ..] => &[],
        _ => return None,
    })
}

fn has_no_effect(operation: &Operation) -> bool {
    let name = operation.request.commands[0][0].as_str();
    let reply = operation.answer().map(|(value, _)| value);
    match name {
        "SET" => reply == Some(&Value::Nil),
        "DEL" | "PEXPIRE" => reply == Some(&Value::Int(0)),
        _ => false,
    }
}

/// Into the order of the changes. An error names two writes of which nobody can say it.
fn sort<'a>(changes: &mut [Change<'a>]) -> Result<(), (&'a Operation, &'a Operation)> {
    if changes.iter().all(|change| change.operation.revision().is_some()) {
        changes.sort_by_key(|change| change.operation.revision());
        return Ok(());
    }
    changes.sort_by_key(|change| change.operation.invoked_ns);
    for pair in changes.windows(2) {
        let (one, other) = (pair[0].operation, pair[1].operation);
        // One of unknown outcome is given up before its client's next write, and takes effect before it or never.
        let is_over = one.is_before(other) || one.is_unknown() && one.client == other.client;
        if !std::ptr::eq(one, other) && !is_over {
            return Err((one, other));
        }
    }
    Ok(())
}

/// Goes through what a subscriber received, keeping all places where it may stand among the changes, each with whether
/// the key has a deadline there.
fn follow(changes: &[Change<'_>], received: &[&Delivery], is_drained: bool) -> Result<(), String> {
    let Some(first) = received.first().filter(|first| first.message.is_none()) else {
        return Err("got an event before its subscription was confirmed".into());
    };
    // It may have missed what was under way when it came, or over.
    let latest = changes.iter().position(|change| change.operation.invoked_ns > first.ns);
    let latest = latest.unwrap_or(changes.len());
    // Whether the key may have a deadline at each of these places; it may also have expired.
    let had = changes[..latest].iter().scan(false, |may, change| {
        *may = change.deadline.after(*may) || !change.is_certain() && *may;
        Some(*may)
    });
    let mut places = (0..=latest).map(|place| (place, false)).collect::<BTreeSet<_>>();
    places.extend(had.enumerate().filter(|(_, may)| *may).map(|(place, _)| (place + 1, true)));
    let mut got = Vec::new();
    for delivery in received {
        let Some(message) = delivery.message.as_deref() else { continue };
        let mut next = BTreeSet::new();
        for &(place, has_deadline) in &places {
            if message == "expired" {
                if has_deadline {
                    next.insert((place, false));
                }
                continue;
            }
            for (at, change) in changes.iter().enumerate().skip(place) {
                if change.name == message && change.operation.invoked_ns <= delivery.ns {
                    next.insert((at + 1, change.deadline.after(has_deadline)));
                }
                if change.is_certain() {
                    break;
                }
            }
        }
        got.push(message);
        if next.is_empty() {
            let expected = places.iter().filter_map(|(place, _)| changes.get(*place)).next_back();
            let expected = expected.map_or("nothing".into(), |change| change.operation.to_string());
            let behind = got[got.len().saturating_sub(5)..].join(" ");
            return Err(format!("got ... {behind}, but the next should tell of\n    {expected}\n"));
        }
        places = next;
    }
    let rest = |(place, _): &(usize, bool)| !changes[*place..].iter().any(Change::is_certain);
    if is_drained && !places.iter().any(rest) {
        let place = places.last().map_or(0, |(place, _)| *place);
        let missed = changes[place..].iter().find(|change| change.is_certain());
        return Err(
            missed.map_or(String::new(), |change| format!("was never told of\n    {}\n", change.operation))
        );
    }
    Ok(())
}
