//! What the clients do: a bit of everything that has a checker.
//!
//! Few keys of each kind, so that they get in each other's way; every value is made up once, so that it says who wrote it.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::Result;
use quorate::sim::check::history::{Operation, Request, Value};

use super::client::Client;
use super::subscriber::CHANNEL;
use crate::cluster::PATIENCE;
use crate::wait_for;

const REGISTERS: usize = 4;
const COUNTERS: usize = 2;
const ACCOUNTS: usize = 3;
const LISTS: usize = 2;
/// A list that has grown so long is left alone: everybody reads all of it.
const LIST_LENGTH: usize = 50;
const SET: &str = "set:members";
const LOCK: &str = "lock:one";
/// A register that is protected by the lock's tokens.
const FENCED: &str = "lock:register";
const LOCK_TTL_MS: &str = "300";
/// The newest so many leases are looked at.
const LEASES: usize = 20;

/// Takes a lock, and draws a token if that worked.
const TAKE: &str = "if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then \
                    return redis.call('INCR', KEYS[2]) end return false";
const RENEW: &str = "if redis.call('GET', KEYS[1]) == ARGV[1] then \
                     return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end return 0";
/// Writes, unless a newer token has written.
const STORE: &str = "if tonumber(redis.call('HGET', KEYS[1], 'token') or 0) > tonumber(ARGV[1]) then return 0 end \
                     redis.call('HSET', KEYS[1], 'token', ARGV[1], 'value', ARGV[2]) return 1";

/// What the clients know in common.
#[derive(Default)]
pub(super) struct Keys {
    /// Which of its lists each place is at.
    lists: [AtomicUsize; LISTS],
    leases: Mutex<Vec<String>>,
}

/// What a client remembers between its operations.
#[derive(Default)]
struct Memory {
    registers: [Option<String>; REGISTERS],
    /// Its own newest lease.
    lease: Option<String>,
    /// A lock that it holds, or held: the holder it is and its token.
    lock: Option<(String, i64)>,
}

/// One thing after another, until it is told to stop.
pub(super) fn run(mut client: Client, keys: &Keys, stop: &AtomicBool) {
    let mut memory = Memory::default();
    while !stop.load(Ordering::Relaxed) {
        match client.dice.below(100) {
            0..30 => register(&mut client, &mut memory),
            30..42 => counter(&mut client),
            42..60 => list(&mut client, keys),
            60..70 => transaction(&mut client),
            70..78 => optimistic(&mut client),
            78..84 => set(&mut client),
            84..91 => lease(&mut client, keys, &mut memory),
            91..96 => lock(&mut client, &mut memory),
            _ => {
                let text = client.new_text();
                client.call(&["PUBLISH", CHANNEL, &text]);
            }
        }
    }
}

fn register(client: &mut Client, memory: &mut Memory) {
    let number = client.dice.below(REGISTERS);
    let key = format!("register:{number}");
    let new = client.new_text();
    let seen = &mut memory.registers[number];
    match (client.dice.below(10), seen.as_deref()) {
        (0, _) => drop(client.call(&["DEL", &key])),
        (1, _) => drop(client.call(&["SET", &key, &new, "NX"])),
        (2 | 3, Some(old)) => drop(client.call(&["SET", &key, &new, "IFEQ", old])),
        (4 | 5, _) => drop(client.call(&["SET", &key, &new])),
        _ => {
            if let Some(Value::Text(text)) = client.call(&["GET", &key]) {
                *seen = Some(text);
            }
        }
    }
}

fn counter(client: &mut Client) {
    let key = format!("counter:{}", client.dice.below(COUNTERS));
    let name = *client.dice.pick(&["GET", "INCR", "INCR"]);
    client.call(&[name, &key]);
}

/// Up to three appends and reads together, on lists of different places.
fn list(client: &mut Client, keys: &Keys) {
    let mut request = Request::default();
    for _ in 0..=client.dice.below(3) {
        let place = client.dice.below(LISTS);
        let key = format!("list:{place}:{}", keys.lists[place].load(Ordering::Relaxed));
        let text = client.new_text();
        let one = match client.dice.below(2) {
            0 => Request::of(&["RPUSH", &key, &text]),
            _ => Request::of(&["LRANGE", &key, "0", "-1"]),
        };
        request.commands.extend(one.commands);
    }
    let words = request.commands.clone();
    let Some(reply) = client.perform(request.clone()) else { return };
    for (words, reply) in words.iter().zip(request.replies(&reply).unwrap_or_default()) {
        let place = words[1].split(':').nth(1).and_then(|place| place.parse::<usize>().ok());
        let length = if let Value::List(items) = reply { items.len() } else { 0 };
        if let Some(place) = place.filter(|_| length >= LIST_LENGTH) {
            let list = words[1].split(':').nth(2).and_then(|list| list.parse().ok()).unwrap_or(0);
            // Whoever comes second finds that it has been done.
            let next = list + 1;
            let _ = keys.lists[place].compare_exchange(list, next, Ordering::Relaxed, Ordering::Relaxed);
        }
    }
}

fn account(number: usize) -> String {
    format!("account:{}", number % ACCOUNTS)
}

/// Two accounts written together, or all of them read.
fn transaction(client: &mut Client) {
    let first = client.dice.below(ACCOUNTS);
    let (one, other) = (account(first), account(first + 1));
    let text = client.new_text();
    if client.dice.below(2) == 0 {
        client.perform(Request::transaction(&[&["SET", &one, &text], &["SET", &other, &text]]));
    } else {
        let third = account(first + 2);
        client.perform(Request::transaction(&[&["GET", &one], &["GET", &other], &["GET", &third]]));
    }
}

/// Two accounts read, and written if they have not changed since.
fn optimistic(client: &mut Client) {
    let first = client.dice.below(ACCOUNTS);
    let (one, other) = (account(first), account(first + 1));
    if !client.watch(&[&one, &other]) {
        return;
    }
    // After anything else than a reply the connection is another one, which watches nothing.
    let Some(seen) = client.call(&["GET", &one]) else { return };
    let Some(seen_other) = client.call(&["GET", &other]) else { return };
    let text = client.new_text();
    let request = Request::transaction(&[&["SET", &one, &text], &["GET", &other]]);
    client.perform(request.guarded(&one, seen).guarded(&other, seen_other));
}

fn set(client: &mut Client) {
    let member = client.new_text();
    if client.dice.below(30) == 0 {
        client.call(&["HKEYS", SET]);
    } else {
        client.call(&["HSET", SET, &member, "1"]);
    }
}

/// Takes a lease, renews its own, or looks whether somebody's is still there.
fn lease(client: &mut Client, keys: &Keys, memory: &mut Memory) {
    let ttl_ms = (200 + client.dice.below(1_800)).to_string();
    match (client.dice.below(6), &memory.lease) {
        (0, _) | (_, None) => {
            let key = format!("lease:{}", client.new_text());
            client.call(&["SET", &key, "held", "PX", &ttl_ms]);
            keys.leases.lock().expect("no holder panics").push(key.clone());
            memory.lease = Some(key);
        }
        (1, Some(key)) => drop(client.call(&["PEXPIRE", key, &ttl_ms])),
        _ => {
            let key = {
                let leases = keys.leases.lock().expect("no holder panics");
                let newest = &leases[leases.len().saturating_sub(LEASES)..];
                newest.get(client.dice.below(newest.len().max(1))).cloned()
            };
            if let Some(key) = key {
                client.call(&["GET", &key]);
            }
        }
    }
}

/// Takes the lock, or does something under it; a holder whose time is over may not know.
fn lock(client: &mut Client, memory: &mut Memory) {
    let script = |text: &str, keys: &[&str], arguments: &[&str]| {
        let count = keys.len().to_string();
        let words = [&["EVAL", text, &count], keys, arguments].concat();
        vec![words.into_iter().map(str::to_owned).collect()]
    };
    let Some((holder, token)) = &memory.lock else {
        let holder = client.new_text();
        let wire = script(TAKE, &[LOCK, "lock:token"], &[&holder, LOCK_TTL_MS]);
        let request = Request::of(&["LOCK", LOCK, &holder, LOCK_TTL_MS]);
        if let Some(Value::Int(token)) = client.perform_as(request, &wire) {
            memory.lock = Some((holder, token));
        }
        return;
    };
    let token = token.to_string();
    match client.dice.below(8) {
        0 | 1 => {
            let wire = [["DELIFEQ", LOCK, holder].map(str::to_owned).to_vec()];
            client.perform_as(Request::of(&["UNLOCK", LOCK, holder]), &wire);
            memory.lock = None;
        }
        2 => {
            let wire = script(RENEW, &[LOCK], &[holder, LOCK_TTL_MS]);
            client.perform_as(Request::of(&["RENEW", LOCK, holder, LOCK_TTL_MS]), &wire);
        }
        _ => {
            let text = client.new_text();
            let wire = script(STORE, &[FENCED], &[&token, &text]);
            let stored = client.perform_as(Request::of(&["STORE", FENCED, &token, &text]), &wire);
            if stored == Some(Value::Int(0)) {
                memory.lock = None;
            }
        }
    }
}

/// All keys that can be read again when all is over, each with the command that does.
pub(super) fn keys(operations: &[Operation]) -> BTreeSet<Vec<String>> {
    let named = operations.iter().flat_map(|operation| operation.request.keys());
    let reads = named.filter_map(|key| {
        let words: &[&str] = match key.split(':').next()? {
            "register" | "counter" | "account" => &["GET", key],
            "list" => &["LRANGE", key, "0", "-1"],
            "set" => &["HKEYS", key],
            _ => return None,
        };
        Some(words.iter().map(|&word| word.to_owned()).collect())
    });
    reads.collect()
}

/// Reads each key once. An error if that does not work for long.
pub(super) fn read_all(client: &mut Client, keys: &BTreeSet<Vec<String>>) -> Result<()> {
    for words in keys {
        let words = words.iter().map(String::as_str).collect::<Vec<_>>();
        wait_for("a read when all is well", PATIENCE, || Ok(client.call(&words)))?;
    }
    Ok(())
}
