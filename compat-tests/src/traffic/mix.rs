//! What the clients do: a bit of everything that has a checker.
//!
//! Few keys of each kind, so that they get in each other's way; every value is made up once, so that it says who wrote it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use quorate::sim::check::history::{Request, Value};
use quorate::sim::check::locks::{RENEW, STORE, TAKE, eval};

use super::client::Client;
use super::subscriber::CHANNEL;

const REGISTERS: usize = 4;
const COUNTERS: usize = 2;
const ACCOUNTS: usize = 3;
const LISTS: usize = 2;
/// A list that has grown so long is left alone: everybody reads all of it.
const LIST_LENGTH: usize = 50;
const LOCK_TTL_MS: &str = "300";
/// The newest so many leases are looked at.
const LEASES: usize = 20;

/// What the clients of a generation know in common.
#[derive(Default)]
pub(super) struct Keys {
    /// Which of its lists each place is at.
    lists: [AtomicUsize; LISTS],
    leases: Mutex<Vec<String>>,
}

/// What a client remembers of its generation.
#[derive(Default)]
struct Memory {
    registers: [Option<String>; REGISTERS],
    /// Its own newest lease.
    lease: Option<String>,
    /// A key that only it writes, for those who are told of that.
    event: Option<String>,
    /// A lock that it holds, or held: the holder it is and its token.
    lock: Option<(String, i64)>,
}

/// One thing after another, until it is told to stop.
pub(super) fn run(mut client: Client) {
    let mut memory = Memory::default();
    while !client.is_stopped() {
        if client.keep_up() {
            memory = Memory::default();
        }
        match client.dice.below(100) {
            0..30 => register(&mut client, &mut memory),
            30..41 => counter(&mut client),
            41..57 => list(&mut client),
            57..66 => transaction(&mut client),
            66..74 => optimistic(&mut client),
            74..80 => set(&mut client),
            80..87 => lease(&mut client, &mut memory),
            87..91 => event(&mut client, &mut memory),
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
    let key = client.key("register", number);
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
    let number = client.dice.below(COUNTERS);
    let key = client.key("counter", number);
    let name = *client.dice.pick(&["GET", "INCR", "INCR"]);
    client.call(&[name, &key]);
}

/// Up to three appends and reads together, on lists of different places.
fn list(client: &mut Client) {
    let generation = Arc::clone(&client.generation);
    let lists = &generation.keys.lists;
    let mut request = Request::default();
    let mut which = Vec::new();
    for _ in 0..=client.dice.below(3) {
        let place = client.dice.below(LISTS);
        let list = lists[place].load(Ordering::Relaxed);
        let key = client.key("list", format!("{place}:{list}"));
        let text = client.new_text();
        let one = match client.dice.below(2) {
            0 => Request::of(&["RPUSH", &key, &text]),
            _ => Request::of(&["LRANGE", &key, "0", "-1"]),
        };
        request.commands.extend(one.commands);
        which.push((place, list));
    }
    let Some(reply) = client.perform(request.clone()) else { return };
    for ((place, list), reply) in which.into_iter().zip(request.replies(&reply).unwrap_or_default()) {
        let length = if let Value::List(items) = reply { items.len() } else { 0 };
        if length >= LIST_LENGTH {
            // Whoever comes second finds that it has been done.
            let _ = lists[place].compare_exchange(list, list + 1, Ordering::Relaxed, Ordering::Relaxed);
        }
    }
}

fn account(client: &Client, number: usize) -> String {
    client.key("account", number % ACCOUNTS)
}

/// Two accounts written together, or all of them read.
fn transaction(client: &mut Client) {
    let first = client.dice.below(ACCOUNTS);
    let (one, other) = (account(client, first), account(client, first + 1));
    let text = client.new_text();
    if client.dice.below(2) == 0 {
        client.perform(Request::transaction(&[&["SET", &one, &text], &["SET", &other, &text]]));
    } else {
        let third = account(client, first + 2);
        client.perform(Request::transaction(&[&["GET", &one], &["GET", &other], &["GET", &third]]));
    }
}

/// Two accounts read, and written if they have not changed since.
fn optimistic(client: &mut Client) {
    let first = client.dice.below(ACCOUNTS);
    let (one, other) = (account(client, first), account(client, first + 1));
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
    let (set, member) = (client.key("set", "members"), client.new_text());
    if client.dice.below(30) == 0 {
        client.call(&["HKEYS", &set]);
    } else {
        client.call(&["HSET", &set, &member, "1"]);
    }
}

/// Takes a lease, renews its own, or looks whether somebody's is still there.
fn lease(client: &mut Client, memory: &mut Memory) {
    let ttl_ms = (200 + client.dice.below(1_800)).to_string();
    let generation = Arc::clone(&client.generation);
    let leases = || generation.keys.leases.lock().expect("no holder panics");
    match (client.dice.below(6), &memory.lease) {
        (0, _) | (_, None) => {
            let text = client.new_text();
            let key = client.key("lease", text);
            let is_taken = client.call(&["SET", &key, "held", "PX", &ttl_ms]).is_some();
            leases().push(key.clone());
            memory.lease = is_taken.then_some(key);
        }
        (1, Some(key)) => {
            // Where nobody knows what became of the last write, a later one may come first.
            if client.call(&["PEXPIRE", key, &ttl_ms]).is_none() {
                memory.lease = None;
            }
        }
        _ => {
            let key = {
                let leases = leases();
                let newest = &leases[leases.len().saturating_sub(LEASES)..];
                newest.get(client.dice.below(newest.len().max(1))).cloned()
            };
            if let Some(key) = key {
                client.call(&["GET", &key]);
            }
        }
    }
}

/// Changes a key of its own in one way or another.
fn event(client: &mut Client, memory: &mut Memory) {
    let key = memory.event.take().unwrap_or_else(|| {
        let text = client.new_text();
        client.key("event", text)
    });
    let ttl_ms = (20 + client.dice.below(500)).to_string();
    let done = match client.dice.below(6) {
        0 => client.call(&["DEL", &key]),
        1 => client.call(&["SET", &key, "7"]),
        2 => client.call(&["SET", &key, "7", "PX", &ttl_ms]),
        3 => client.call(&["PEXPIRE", &key, &ttl_ms]),
        _ => client.call(&["INCR", &key]),
    };
    memory.event = done.map(|_| key);
}

/// Takes the lock, or does something under it; a holder whose time is over may not know.
fn lock(client: &mut Client, memory: &mut Memory) {
    let lock = client.key("lock", "one");
    let Some((holder, token)) = &memory.lock else {
        let (counter, holder) = (client.key("lock", "token"), client.new_text());
        let wire = eval(TAKE, &[&lock, &counter], &[&holder, LOCK_TTL_MS]);
        let request = Request::of(&["LOCK", &lock, &holder, LOCK_TTL_MS]);
        if let Some(Value::Int(token)) = client.perform_as(request, &wire) {
            memory.lock = Some((holder, token));
        }
        return;
    };
    let token = token.to_string();
    match client.dice.below(8) {
        0 | 1 => {
            let wire = [["DELIFEQ", &lock, holder].map(str::to_owned).to_vec()];
            client.perform_as(Request::of(&["UNLOCK", &lock, holder]), &wire);
            memory.lock = None;
        }
        2 => {
            let wire = eval(RENEW, &[&lock], &[holder, LOCK_TTL_MS]);
            client.perform_as(Request::of(&["RENEW", &lock, holder, LOCK_TTL_MS]), &wire);
        }
        _ => {
            // Protected by the tokens.
            let (register, text) = (client.key("lock", "register"), client.new_text());
            let wire = eval(STORE, &[&register], &[&token, &text]);
            let stored = client.perform_as(Request::of(&["STORE", &register, &token, &text]), &wire);
            if stored == Some(Value::Int(0)) {
                memory.lock = None;
            }
        }
    }
}

/// The command that reads a key when all is over, if it is of a kind that can be read then.
pub(super) fn reading(key: &str) -> Option<Vec<String>> {
    let words: &[&str] = match key.split(':').next()? {
        "register" | "counter" | "account" => &["GET", key],
        "list" => &["LRANGE", key, "0", "-1"],
        "set" => &["HKEYS", key],
        _ => return None,
    };
    Some(words.iter().map(|&word| word.to_owned()).collect())
}
