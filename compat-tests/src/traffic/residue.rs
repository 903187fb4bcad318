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
