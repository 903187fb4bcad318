//! A single copy of the data: strings, lists, sets and hashes by key, as Redis has them, one command after another; and the
//! time, which moves when it is told.

use std::collections::{BTreeMap, BTreeSet};

use super::history::{Request, Value};
use super::locks::{RENEW, STORE, TAKE};

/// What a key holds.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Item {
    Text(String),
    List(Vec<String>),
    Set(BTreeSet<String>),
    Hash(BTreeMap<String, String>),
}

/// A key's item, and when it ends, in ms.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Held {
    item: Item,
    deadline: Option<u64>,
}

/// Keys that hold something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Object {
    keys: BTreeMap<String, Held>,
    deadlines: BTreeSet<(u64, String)>,
    now_ms: u64,
}

/// Why a request has no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A guard does not hold, or a key holds something of another kind. Nothing was done.
    NotApplied,
    /// The command is not known here.
    Unheard,
}

impl Object {
    /// It is so late now, if it was not later: keys whose time is over are gone.
    pub fn advance(&mut self, now_ms: u64) {
        self.now_ms = self.now_ms.max(now_ms);
        while let Some((deadline, key)) = self.deadlines.pop_first() {
            if deadline > self.now_ms {
                self.deadlines.insert((deadline, key));
                return;
            }
            self.keys.remove(&key);
        }
    }

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
        let before = request.keys().map(|key| (key.to_owned(), self.keys.get(key).cloned()));
        let before = before.collect::<Vec<_>>();
        let replies = request.commands.iter().map(|words| self.execute(words)).collect::<Result<_, _>>();
        if replies.is_err() {
            for (key, held) in before {
                match held {
                    Some(held) => self.put(&key, held),
                    None => drop(self.take(&key)),
                }
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
            ["EXISTS", key] => Ok(Value::Int(self.keys.contains_key(*key).into())),
            ["SET", key, value, condition @ ..] => self.set(key, value, condition),
            ["DEL", key] => Ok(Value::Int(self.take(key).is_some().into())),
            ["DELIFEQ", key, old] => {
                let is_equal = self.text(key)? == Some(*old);
                if is_equal {
                    self.take(key);
                }
                Ok(Value::Int(is_equal.into()))
            }
            ["INCR", key] => self.add(key, "1", 1),
            ["DECR", key] => self.add(key, "1", -1),
            ["INCRBY", key, by] => self.add(key, by, 1),
            ["RPUSH", key, element] => {
                let Item::List(list) = self.item(key, || Item::List(Vec::new())) else {
                    return Err(Refusal::NotApplied);
                };
                list.push((*element).to_owned());
                Ok(Value::Int(list.len() as i64))
            }
            ["LRANGE", key, "0", "-1"] => match self.held(key) {
                None => Ok(Value::List(Vec::new())),
                Some(Item::List(list)) => Ok(Value::List(list.iter().map(Value::text).collect())),
                Some(_) => Err(Refusal::NotApplied),
            },
            ["SADD", key, member] => {
                let Item::Set(set) = self.item(key, || Item::Set(BTreeSet::new())) else {
                    return Err(Refusal::NotApplied);
                };
                Ok(Value::Int(set.insert((*member).to_owned()).into()))
            }
            ["SMEMBERS", key] => match self.held(key) {
                None => Ok(Value::List(Vec::new())),
                Some(Item::Set(set)) => Ok(Value::List(set.iter().map(Value::text).collect())),
                Some(_) => Err(Refusal::NotApplied),
            },
            ["PEXPIRE", key, ms] => {
                let deadline = self.now_ms + ms.parse::<u64>().map_err(|_| Refusal::Unheard)?;
                let Some(held) = self.take(key) else { return Ok(Value::Int(0)) };
                self.put(key, Held { deadline: Some(deadline), ..held });
                Ok(Value::Int(1))
            }
            ["COPY", key, other, "REPLACE"] => {
                let Some(held) = self.keys.get(*key).cloned() else { return Ok(Value::Int(0)) };
                self.put(other, held);
                Ok(Value::Int(1))
            }
            ["MOVE", key, db] => {
                let there = format!("{db}/{key}");
                if self.keys.contains_key(&there) {
                    return Ok(Value::Int(0));
                }
                let Some(held) = self.take(key) else { return Ok(Value::Int(0)) };
                self.put(&there, held);
                Ok(Value::Int(1))
            }
            ["EVAL", script, _, arguments @ ..] => self.eval(script, arguments),
            // How many listened is no matter of the data.
            ["PUBLISH", _, _] => Ok(Value::Int(0)),
            ["WATCH", ..] => Ok(Value::text("OK")),
            _ => self.run_on_hash(words),
        }
    }

    fn run_on_hash(&mut self, words: &[&str]) -> Result<Value, Refusal> {
        let empty = || Item::Hash(BTreeMap::new());
        match words {
            ["HSET", key, pairs @ ..] => {
                let Item::Hash(hash) = self.item(key, empty) else { return Err(Refusal::NotApplied) };
                let set = |pair: &[&str]| hash.insert(pair[0].to_owned(), pair[1].to_owned()).is_none();
                let new = pairs.chunks_exact(2).map(set).filter(|is_new| *is_new).count();
                Ok(Value::Int(new as i64))
            }
            ["HINCRBY", key, field, by] => {
                let by = by.parse::<i64>().map_err(|_| Refusal::Unheard)?;
                let Item::Hash(hash) = self.item(key, empty) else { return Err(Refusal::NotApplied) };
                let held = hash.get(*field).map_or(Ok(0), |text| text.parse::<i64>());
                let sum = held.ok().and_then(|held| held.checked_add(by)).ok_or(Refusal::NotApplied)?;
                hash.insert((*field).to_owned(), sum.to_string());
                Ok(Value::Int(sum))
            }
            ["HDEL", key, fields @ ..] => {
                let Some(held) = self.keys.get_mut(*key) else { return Ok(Value::Int(0)) };
                let Item::Hash(hash) = &mut held.item else { return Err(Refusal::NotApplied) };
                let gone = fields.iter().filter(|field| hash.remove(**field).is_some()).count();
                if hash.is_empty() {
                    self.take(key);
                }
                Ok(Value::Int(gone as i64))
            }
            ["HKEYS", key] => match self.held(key) {
                None => Ok(Value::List(Vec::new())),
                Some(Item::Hash(hash)) => Ok(Value::List(hash.keys().map(Value::text).collect())),
                Some(_) => Err(Refusal::NotApplied),
            },
            _ => Err(Refusal::Unheard),
        }
    }

    /// The scripts of a lock, told by their text.
    fn eval(&mut self, script: &str, arguments: &[&str]) -> Result<Value, Refusal> {
        match (script, arguments) {
            (TAKE, [lock, tokens, holder, ttl_ms]) => match self.set(lock, holder, &["NX", "PX", ttl_ms])? {
                Value::Nil => Ok(Value::Nil),
                _ => self.add(tokens, "1", 1),
            },
            (RENEW, [lock, holder, ttl_ms]) => match self.text(lock)? {
                Some(held) if held == *holder => self.run(&["PEXPIRE", lock, ttl_ms]),
                _ => Ok(Value::Int(0)),
            },
            (STORE, [register, token, value]) => {
                let newest = match self.held(register) {
                    Some(Item::Hash(hash)) => hash.get("token").and_then(|token| token.parse().ok()),
                    _ => None,
                };
                if newest.unwrap_or(0) > token.parse::<u64>().map_err(|_| Refusal::Unheard)? {
                    return Ok(Value::Int(0));
                }
                self.run(&["HSET", register, "token", token, "value", value])?;
                Ok(Value::Int(1))
            }
            _ => Err(Refusal::Unheard),
        }
    }

    /// What a key holds.
    fn held(&self, key: &str) -> Option<&Item> {
        self.keys.get(key).map(|held| &held.item)
    }

    /// What a key holds, to change it; if nothing, what it is to hold.
    fn item(&mut self, key: &str, new: impl FnOnce() -> Item) -> &mut Item {
        let held = self.keys.entry(key.to_owned());
        &mut held.or_insert_with(|| Held { item: new(), deadline: None }).item
    }

    fn take(&mut self, key: &str) -> Option<Held> {
        let held = self.keys.remove(key)?;
        if let Some(deadline) = held.deadline {
            self.deadlines.remove(&(deadline, key.to_owned()));
        }
        Some(held)
    }

    fn put(&mut self, key: &str, held: Held) {
        self.take(key);
        if let Some(deadline) = held.deadline {
            self.deadlines.insert((deadline, key.to_owned()));
        }
        self.keys.insert(key.to_owned(), held);
    }

    fn text(&self, key: &str) -> Result<Option<&str>, Refusal> {
        match self.held(key) {
            None => Ok(None),
            Some(Item::Text(text)) => Ok(Some(text)),
            Some(_) => Err(Refusal::NotApplied),
        }
    }

    fn set(&mut self, key: &str, value: &str, options: &[&str]) -> Result<Value, Refusal> {
        let (condition, ttl_ms) = match options {
            [condition @ .., "PX", ttl_ms] => (condition, Some(ttl_ms)),
            condition => (condition, None),
        };
        let deadline = ttl_ms.map(|ttl_ms| ttl_ms.parse::<u64>()).transpose();
        let deadline = deadline.map_err(|_| Refusal::Unheard)?.map(|ttl_ms| self.now_ms + ttl_ms);
        let is_met = match condition {
            [] => true,
            ["NX"] => !self.keys.contains_key(key),
            ["XX"] => self.keys.contains_key(key),
            ["IFEQ", old] => self.text(key)? == Some(*old),
            ["IFNE", old] => self.text(key)? != Some(*old),
            _ => return Err(Refusal::Unheard),
        };
        if !is_met {
            return Ok(Value::Nil);
        }
        self.put(key, Held { item: Item::Text(value.to_owned()), deadline });
        Ok(Value::text("OK"))
    }

    fn add(&mut self, key: &str, by: &str, sign: i64) -> Result<Value, Refusal> {
        let by = by.parse::<i64>().map_err(|_| Refusal::Unheard)?;
        let held = self.text(key)?.unwrap_or("0").parse::<i64>().map_err(|_| Refusal::NotApplied)?;
        let sum = by.checked_mul(sign).and_then(|by| held.checked_add(by)).ok_or(Refusal::NotApplied)?;
        *self.item(key, || Item::Text(String::new())) = Item::Text(sum.to_string());
        Ok(Value::Int(sum))
    }
}
