//! A single copy of the data: strings, lists and sets by key, as Redis has them, one command after another.

use std::collections::{BTreeMap, BTreeSet};

use super::history::{Request, Value};

/// What a key holds.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Item {
    Text(String),
    List(Vec<String>),
    Set(BTreeSet<String>),
}

/// Keys that hold something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Object(BTreeMap<String, Item>);

/// Why a request has no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A guard does not hold, or a key holds something of another kind. Nothing was done.
    NotApplied,
    /// The command is not known here.
    Unheard,
}

impl Object {
    /// Carries out all commands, or nothing.
    pub fn serve(&mut self, request: &Request) -> Result<Value, Refusal> {
        for (key, seen) in &request.guards {
            if self.run(&["GET", key])? != *seen {
                return Err(Refusal::NotApplied);
            }
        }
        if let [words] = request.commands.as_slice() {
            // A command changes nothing before it can fail.
            let reply = self.execute(words)?;
            return Ok(if request.guards.is_empty() { reply } else { Value::List(vec![reply]) });
        }
        let before = request.keys().map(|key| (key.to_owned(), self.0.get(key).cloned())).collect::<Vec<_>>();
        let replies = request.commands.iter().map(|words| self.execute(words)).collect::<Result<_, _>>();
        if replies.is_err() {
            for (key, item) in before {
                match item {
                    Some(item) => self.0.insert(key, item),
                    None => self.0.remove(&key),
                };
            }
        }
        replies.map(Value::List)
    }

    fn execute(&mut self, words: &[String]) -> Result<Value, Refusal> {
        self.run(&words.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn run(&mut self, words: &[&str]) -> Result<Value, Refusal> {
        match words {
            ["GET", key] => Ok(self.text(key)?.map_or(Value::Nil, Value::text)),
            ["EXISTS", key] => Ok(Value::Int(self.0.contains_key(*key).into())),
            ["SET", key, value, condition @ ..] => self.set(key, value, condition),
            ["DEL", key] => Ok(Value::Int(self.0.remove(*key).is_some().into())),
            ["DELIFEQ", key, old] => {
                let is_equal = self.text(key)? == Some(*old);
                if is_equal {
                    self.0.remove(*key);
                }
                Ok(Value::Int(is_equal.into()))
            }
            ["INCR", key] => self.add(key, "1", 1),
            ["DECR", key] => self.add(key, "1", -1),
            ["INCRBY", key, by] => self.add(key, by, 1),
            ["RPUSH", key, element] => {
                let item = self.0.entry((*key).to_owned()).or_insert_with(|| Item::List(Vec::new()));
                let Item::List(list) = item else { return Err(Refusal::NotApplied) };
                list.push((*element).to_owned());
                Ok(Value::Int(list.len() as i64))
            }
            ["LRANGE", key, "0", "-1"] => match self.0.get(*key) {
                None => Ok(Value::List(Vec::new())),
                Some(Item::List(list)) => Ok(Value::List(list.iter().map(Value::text).collect())),
                Some(_) => Err(Refusal::NotApplied),
            },
            ["SADD", key, member] => {
                let item = self.0.entry((*key).to_owned()).or_insert_with(|| Item::Set(BTreeSet::new()));
                let Item::Set(set) = item else { return Err(Refusal::NotApplied) };
                Ok(Value::Int(set.insert((*member).to_owned()).into()))
            }
            ["SMEMBERS", key] => match self.0.get(*key) {
                None => Ok(Value::List(Vec::new())),
                Some(Item::Set(set)) => Ok(Value::List(set.iter().map(Value::text).collect())),
                Some(_) => Err(Refusal::NotApplied),
            },
            _ => Err(Refusal::Unheard),
        }
    }

    fn text(&self, key: &str) -> Result<Option<&str>, Refusal> {
        match self.0.get(key) {
            None => Ok(None),
            Some(Item::Text(text)) => Ok(Some(text)),
            Some(_) => Err(Refusal::NotApplied),
        }
    }

    fn set(&mut self, key: &str, value: &str, condition: &[&str]) -> Result<Value, Refusal> {
        let is_met = match condition {
            [] => true,
            ["NX"] => !self.0.contains_key(key),
            ["XX"] => self.0.contains_key(key),
            ["IFEQ", old] => self.text(key)? == Some(*old),
            ["IFNE", old] => self.text(key)? != Some(*old),
            _ => return Err(Refusal::Unheard),
        };
        if !is_met {
            return Ok(Value::Nil);
        }
        self.0.insert(key.to_owned(), Item::Text(value.to_owned()));
        Ok(Value::text("OK"))
    }

    fn add(&mut self, key: &str, by: &str, sign: i64) -> Result<Value, Refusal> {
        let by = by.parse::<i64>().map_err(|_| Refusal::Unheard)?;
        let held = self.text(key)?.unwrap_or("0").parse::<i64>().map_err(|_| Refusal::NotApplied)?;
        let sum = by.checked_mul(sign).and_then(|by| held.checked_add(by)).ok_or(Refusal::NotApplied)?;
        self.0.insert(key.to_owned(), Item::Text(sum.to_string()));
        Ok(Value::Int(sum))
    }
}
