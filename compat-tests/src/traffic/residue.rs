//! What a generation leaves behind: it must still be there when all is over, however many disks have lost their power
//! since. Only writes of unknown outcome may have changed it.
//!
//! So the last readings of a generation are taken for writes that were carried out, and go into the checkers again, with
//! what is unknown and with the readings of the very end.

use std::collections::{BTreeMap, HashSet};

use anyhow::Result;
use quorate::sim::check::history::{History, Operation, Request, Value};
use quorate::sim::check::search::STATES_MAX;
use quorate::sim::check::{Verdict, appends, sets, strings};

use super::judge::{accept, settled};
use super::mix;

type Check = fn(&[Operation]) -> Verdict;

/// The kinds of keys that stay, each with who judges it.
const KINDS: [(&str, Check); 5] = [
    ("register:", |operations| strings::check(operations, STATES_MAX)),
    ("counter:", |operations| strings::check(operations, STATES_MAX)),
    ("account:", |operations| strings::check(operations, STATES_MAX)),
    ("list:", appends::check),
    ("set:", sets::check),
];

/// Where what comes after the writes of a residue begins, in a time of its own.
const LATER_NS: u64 = 1 << 60;

/// What a generation has left.
pub(super) struct Residue {
    pub number: u64,
    /// What was read last, by the command that did.
    read: BTreeMap<Vec<String>, Value>,
    unknown: Vec<Operation>,
}

impl Residue {
    pub fn of(number: u64, history: &History) -> Self {
        let mut read = BTreeMap::new();
        let mut unknown = Vec::new();
        for operation in &history.operations {
            let kept = || operation.request.keys().all(|key| mix::reading(key).is_some());
            if operation.is_unknown() && kept() {
                unknown.push(operation.clone());
            }
            let [words] = operation.request.commands.as_slice() else { continue };
            let is_reading = || words.get(1).and_then(|key| mix::reading(key)).as_ref() == Some(words);
            if let Some((value, _)) = operation.answer().filter(|_| is_reading()) {
                // A later one takes its place.
                read.insert(words.clone(), value.clone());
            }
        }
        Self { number, read, unknown }
    }

    /// How to read all of it.
    pub fn readings(&self) -> impl Iterator<Item = &Vec<String>> {
        self.read.keys()
    }

    /// Judges what is read now. Each reading was made when all was over.
    pub fn check(&self, now: &BTreeMap<Vec<String>, Value>) -> Result<usize> {
        let mut operations = Vec::new();
        let mut seen = HashSet::new();
        for (words, value) in &self.read {
            let key = words[1].as_str();
            let (name, items) = match value {
                Value::Nil => continue,
                Value::List(items) => (words[0].as_str(), items.clone()),
                one => (words[0].as_str(), vec![one.clone()]),
            };
            for (place, item) in items.iter().enumerate() {
                let text = item.to_string();
                let (request, reply) = match name {
                    "GET" => (Request::of(&["SET", key, &text]), Value::text("OK")),
                    "LRANGE" => (Request::of(&["RPUSH", key, &text]), Value::Int(place as i64 + 1)),
                    _ => (Request::of(&["HSET", key, &text, "1"]), Value::Int(1)),
                };
                operations.push(settled(operations.len() as u64, request, reply));
                seen.insert(text);
            }
        }
        let settled_before = operations.len() as u64;
        for operation in &self.unknown {
            // What adds something that was seen has been carried out.
            let adds = |words: &Vec<String>| {
                matches!(words[0].as_str(), "RPUSH" | "HSET") && seen.contains(&words[2])
            };
            if !operation.request.commands.iter().any(adds) {
                operations.push(Operation { invoked_ns: 2 * settled_before, ..operation.clone() });
            }
        }
        for (at, (words, value)) in now.iter().enumerate() {
            let request = Request { guards: Vec::new(), commands: vec![words.clone()] };
            operations.push(settled(LATER_NS + at as u64, request, value.clone()));
        }
        let history = History { operations, ..History::default() };
        for (kind, check) in KINDS {
            let name = format!("what generation {} left in {kind}*", self.number);
            accept(&name, check(&history.on_keys(kind)), &history)?;
        }
        Ok(now.len())
    }
}

#[cfg(test)]
mod tests {
    use quorate::sim::check::history::Outcome;

    use super::*;

    /// Judges one key that was written, written perhaps, and read; then what is read of it later.
    fn check(written: &[&str], perhaps: &[&str], read: (&[&str], Value), later: Value) -> Result<usize> {
        let mut history = History::default();
        let ok = Outcome::Ok(Value::text("OK"));
        let outcomes =
            [(written, ok), (perhaps, Outcome::Info("closed".into())), (read.0, Outcome::Ok(read.1))];
        for (ms, (words, outcome)) in (0..).zip(outcomes) {
            let operation = history.invoke(1, "n1", ms * 1_000_000, Request::of(words));
            history.complete(operation, ms * 1_000_000 + 1, outcome);
        }
        let residue = Residue::of(0, &history);
        let words = residue.readings().next().expect("one was read").clone();
        residue.check(&BTreeMap::from([(words, later)]))
    }

    fn register(perhaps: &[&str], later: Value) -> bool {
        let key = "register:0:1";
        check(&["SET", key, "a"], perhaps, (&["GET", key], Value::text("a")), later).is_ok()
    }

    fn list(later: &[&str]) -> bool {
        let key = "list:0:0:0";
        let texts = |texts: &[&str]| Value::List(texts.iter().map(|text| Value::text(*text)).collect());
        check(
            &["RPUSH", key, "a"],
            &["RPUSH", key, "b"],
            (&["LRANGE", key, "0", "-1"], texts(&["a"])),
            texts(later),
        )
        .is_ok()
    }

    #[test]
    fn what_is_left_stays() {
        let other = &["SET", "register:0:2", "b"];
        assert!(register(other, Value::text("a")));
        assert!(!register(other, Value::Nil), "a lost write");
        assert!(!register(other, Value::text("b")), "a value from nowhere");
        assert!(list(&["a"]));
        assert!(!list(&[]), "a lost element");
    }

    #[test]
    fn what_is_unknown_may_still_happen() {
        assert!(register(&["SET", "register:0:1", "b"], Value::text("b")));
        assert!(!register(&["SET", "register:0:1", "b"], Value::Nil));
        assert!(list(&["a", "b"]));
        assert!(!list(&["b", "a"]));
        assert!(!list(&["a", "b", "b"]));
    }
}
