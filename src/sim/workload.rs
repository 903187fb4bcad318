//! What the clients do: a bit of everything that has a checker, each kind on keys that say so by their names.
//!
//! Few keys of each kind, so that clients get in each other's way; after some seconds others take their place, since what a
//! search costs grows with the requests of unknown outcome that it must think of.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::check::history::{Operation, Outcome, Request, Value};
use super::check::locks::{RENEW, STORE, TAKE, eval};
use super::recorder::{Patron, Recorder};

/// Where messages are published.
pub const CHANNEL: &str = "news";
/// The last message: whoever gets it has got everything.
pub const LAST: &str = "the end";
/// What begins the names of keys whose events somebody listens to.
pub const EVENTS: &str = "event:";
/// How long a lease or a lock lasts at most, in ms.
pub const TTL_MAX_MS: u64 = 2_700;
/// How long a lock lasts: always the same, so that to renew it never makes it shorter.
const LOCK_TTL_MS: &str = "1500";

/// How many keys of a kind there are at a time.
const REGISTERS: u64 = 3;
const COUNTERS: u64 = 2;
const ACCOUNTS: u64 = 3;
const LISTS: u64 = 2;
/// How long they are used.
const GENERATION: u64 = 5;
/// The newest so many leases are looked at.
const LEASES: usize = 20;

const LOCK: &str = "lock:one";
/// A register that is protected by the lock's tokens.
const FENCED: &str = "lock:register";

/// What all clients share. Cheap to clone.
#[derive(Clone, Default)]
pub struct Shared {
    pub recorder: Recorder,
    leases: Arc<Mutex<VecDeque<String>>>,
    over: Arc<AtomicBool>,
    /// How long a client thinks between two requests at most, in ms; see [`Shared::patient`].
    think_ms: u64,
}

impl Shared {
    /// Clients who think for so long at most.
    pub fn patient(think_ms: u64) -> Self {
        Self { think_ms, ..Self::default() }
    }

    /// Tells the clients to stop.
    pub fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    /// Whether they are to stop.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}

/// A key of this kind, one of so many.
fn key(patron: &Patron, kind: &str, of: u64) -> String {
    format!("{kind}:{}:{}", patron.now().as_secs() / GENERATION, patron.dice().below(of))
}

/// Writes a register that nobody else writes, values long and short, now and then reading it in the same piece.
pub async fn write(mut patron: Patron, shared: Shared) {
    let mut key = String::new();
    while !shared.is_over() {
        if key.is_empty() {
            key = format!("register:own:{}", patron.text());
        }
        let text = format!("{} {}", patron.text(), "x".repeat(patron.dice().below(600) as usize));
        let written = match patron.dice().below(4) {
            0 => patron.write_and_read(&["SET", &key, &text], &["GET", &key]).await,
            1 => match patron.perform(Request::of(&["GET", &key])).await {
                Ok(value) => Outcome::Ok(value),
                // That of a read does not matter.
                Err(_) => Outcome::Fail("not read".into()),
            },
            _ => match patron.perform(Request::of(&["SET", &key, &text])).await {
                Ok(value) => Outcome::Ok(value),
                Err(outcome) => outcome,
            },
        };
        if matches!(written, Outcome::Info(_)) {
            key.clear();
        }
        patron.think(shared.think_ms).await;
    }
}

/// Registers that everybody writes, plainly and on conditions.
pub async fn compare(mut patron: Patron, shared: Shared) {
    let mut seen: Option<(String, String)> = None;
    while !shared.is_over() {
        let key = key(&patron, "register", REGISTERS);
        let new = patron.text();
        let known = seen.clone().filter(|(register, _)| *register == key);
        match (patron.dice().below(10), known) {
            (0, _) => drop(patron.call(&["DEL", &key]).await),
            (1, _) => drop(patron.call(&["SET", &key, &new, "NX"]).await),
            (2..=5, Some((_, old))) => drop(patron.call(&["SET", &key, &new, "IFEQ", &old]).await),
            (2..=4, None) => drop(patron.call(&["SET", &key, &new]).await),
            _ => {
                if let Some(Value::Text(text)) = patron.call(&["GET", &key]).await {
                    seen = Some((key, text));
                }
            }
        }
        patron.think(shared.think_ms).await;
    }
}

/// Increments counters, sometimes several times in one piece, and reads them. These are used to the end.
pub async fn count(mut patron: Patron, shared: Shared) {
    while !shared.is_over() {
        let key = format!("counter:{}", patron.dice().below(COUNTERS));
        if patron.dice().below(4) == 0 {
            patron.call(&["GET", &key]).await;
        } else {
            let times = 1 + patron.dice().below(3) as usize;
            let outcomes = patron.pipeline(vec![Request::of(&["INCR", &key]); times]).await;
            let values = outcomes.iter().filter_map(|outcome| match outcome {
                Outcome::Ok(Value::Int(value)) => Some(*value),
                _ => None,
            });
            let values = values.collect::<Vec<_>>();
            assert!(values.is_sorted(), "{key}: {values:?} in one piece");
        }
        patron.think(shared.think_ms).await;
    }
}

/// Two accounts written together, or all of them read; or two read and then written if they have not changed since.
pub async fn transact(mut patron: Patron, shared: Shared) {
    while !shared.is_over() {
        let generation = patron.now().as_secs() / GENERATION;
        let first = patron.dice().below(ACCOUNTS);
        let account = |next| format!("account:{generation}:{}", (first + next) % ACCOUNTS);
        let (one, other, third) = (account(0), account(1), account(2));
        let text = patron.text();
        match patron.dice().below(3) {
            0 => {
                let both: [&[&str]; 2] = [&["SET", &one, &text], &["SET", &other, &text]];
                drop(patron.perform(Request::transaction(&both)).await);
            }
            1 => {
                let all: [&[&str]; 3] = [&["GET", &one], &["GET", &other], &["GET", &third]];
                drop(patron.perform(Request::transaction(&all)).await);
            }
            _ => drop(watch(&mut patron, &one, &other, &text).await),
        }
        patron.think(shared.think_ms).await;
    }
}

async fn watch(patron: &mut Patron, one: &str, other: &str, text: &str) -> Option<Value> {
    if !patron.watch(&[one, other]).await {
        return None;
    }
    // After anything else than a reply the connection is another one, which watches nothing.
    let seen = patron.call(&["GET", one]).await?;
    let seen_other = patron.call(&["GET", other]).await?;
    patron.think(100).await;
    let request = Request::transaction(&[&["SET", one, text], &["GET", other]]);
    patron.perform(request.guarded(one, seen).guarded(other, seen_other)).await.ok()
}

/// Up to three appends and reads together, on several lists.
pub async fn append(mut patron: Patron, shared: Shared) {
    while !shared.is_over() {
        let mut request = Request::default();
        for _ in 0..=patron.dice().below(3) {
            let (key, text) = (key(&patron, "list", LISTS), patron.text());
            let one = match patron.dice().below(2) {
                0 => Request::of(&["RPUSH", &key, &text]),
                _ => Request::of(&["LRANGE", &key, "0", "-1"]),
            };
            request.commands.extend(one.commands);
        }
        drop(patron.perform(request).await);
        patron.think(shared.think_ms).await;
    }
}

/// Adds to a set, and now and then reads all of it.
pub async fn add(mut patron: Patron, shared: Shared) {
    while !shared.is_over() {
        let (key, member) = (format!("set:{}", patron.dice().below(2)), patron.text());
        match patron.dice().below(10) {
            0 => drop(patron.call(&["HKEYS", &key]).await),
            _ => drop(patron.call(&["HSET", &key, &member, "1"]).await),
        }
        patron.think(shared.think_ms).await;
    }
}

/// Takes leases, renews its own or gives it back, and looks whether somebody's is still there.
pub async fn lease(mut patron: Patron, shared: Shared) {
    let mut own: Option<String> = None;
    while !shared.is_over() {
        let ttl_ms = (200 + patron.dice().below(TTL_MAX_MS - 200)).to_string();
        match (patron.dice().below(8), &own) {
            (0 | 1, _) | (_, None) => {
                let key = format!("lease:{}", patron.text());
                let set = patron.perform(Request::of(&["SET", &key, "held", "PX", &ttl_ms])).await;
                let mut leases = shared.leases.lock().expect("no holder panics");
                leases.push_back(key.clone());
                if leases.len() > LEASES {
                    leases.pop_front();
                }
                own = set.is_ok().then_some(key);
            }
            (2, Some(key)) => {
                // One write at a time: after one that may still come, another lease.
                if let Err(Outcome::Info(_)) = patron.perform(Request::of(&["PEXPIRE", key, &ttl_ms])).await {
                    own = None;
                }
            }
            (3, Some(key)) => {
                patron.call(&["DEL", key]).await;
                own = None;
            }
            _ => {
                let key = {
                    let leases = shared.leases.lock().expect("no holder panics");
                    leases.get(patron.dice().below(leases.len() as u64) as usize).cloned()
                };
                if let Some(key) = key {
                    patron.call(&["GET", &key]).await;
                }
            }
        }
        patron.think(shared.think_ms).await;
    }
}

/// Takes the lock, and does something under it; a holder whose time is over may not know.
pub async fn lock(mut patron: Patron, shared: Shared) {
    // The holder it is, and its token.
    let mut held: Option<(String, String)> = None;
    while !shared.is_over() {
        match (&held, patron.dice().below(8)) {
            (None, _) => {
                let holder = patron.text();
                let wire = eval(TAKE, &[LOCK, "lock:token"], &[&holder, LOCK_TTL_MS]);
                let request = Request::of(&["LOCK", LOCK, &holder, LOCK_TTL_MS]);
                if let Ok(Value::Int(token)) = patron.perform_as(request, &wire).await {
                    held = Some((holder, token.to_string()));
                }
            }
            (Some((holder, _)), 0 | 1) => {
                let wire = [["DELIFEQ", LOCK, holder].map(str::to_owned).to_vec()];
                drop(patron.perform_as(Request::of(&["UNLOCK", LOCK, holder]), &wire).await);
                held = None;
            }
            (Some((holder, _)), 2) => {
                let wire = eval(RENEW, &[LOCK], &[holder, LOCK_TTL_MS]);
                drop(patron.perform_as(Request::of(&["RENEW", LOCK, holder, LOCK_TTL_MS]), &wire).await);
            }
            (Some((_, token)), _) => {
                let text = patron.text();
                let wire = eval(STORE, &[FENCED], &[token, &text]);
                let request = Request::of(&["STORE", FENCED, token, &text]);
                if patron.perform_as(request, &wire).await == Ok(Value::Int(0)) {
                    held = None;
                }
            }
        }
        patron.think(shared.think_ms).await;
    }
}

/// Publishes.
pub async fn publish(mut patron: Patron, shared: Shared) {
    while !shared.is_over() {
        let text = patron.text();
        patron.call(&["PUBLISH", CHANNEL, &text]).await;
        patron.think(shared.think_ms).await;
    }
}

/// Writes keys whose events are listened to, one write at a time; after one of unknown outcome, another key.
pub async fn tell(mut patron: Patron, shared: Shared) {
    while !patron.client().call(&["CONFIG", "SET", "notify-keyspace-events", "KA"]).await.is_reply() {
        patron.think(shared.think_ms).await;
    }
    let mut key = String::new();
    while !shared.is_over() {
        if key.is_empty() {
            key = format!("{EVENTS}{}", patron.text());
        }
        let request = match patron.dice().below(4) {
            0 => Request::of(&["DEL", &key]),
            1 => Request::of(&["SET", &key, "7", "PX", "400"]),
            2 => Request::of(&["PEXPIRE", &key, "700"]),
            _ => Request::of(&["SET", &key, "1"]),
        };
        if let Err(Outcome::Info(_)) = patron.perform(request).await {
            key.clear();
        }
        patron.think(shared.think_ms).await;
    }
}

/// Fills hashes, small ones and large ones, and lets them go in every way there is. What the clients see of them
/// is not looked at; that the nodes end in the same state is.
pub async fn fill(mut patron: Patron, shared: Shared) {
    let hashes = ["hash-a", "hash-b", "hash-c"];
    while !shared.is_over() {
        let dice = patron.dice();
        let place = dice.below(3) as usize;
        let (hash, other) = (hashes[place], hashes[(place + 1) % 3]);
        let size = 1 + dice.below(60);
        let numbers: Vec<String> = (0..size).map(|_| dice.below(100).to_string()).collect();
        let numbers = numbers.iter().map(String::as_str);
        let value = "x".repeat(dice.below(90) as usize);
        let command: Vec<&str> = match dice.below(8) {
            0 => vec!["DEL", hash],
            1 => vec!["MOVE", hash, "1"],
            2 => vec!["COPY", hash, other, "REPLACE"],
            3 => vec!["PEXPIRE", hash, "300"],
            4 => ["HDEL", hash].into_iter().chain(numbers).collect(),
            5 => vec!["HINCRBY", hash, "count", "1"],
            _ => ["HSET", hash].into_iter().chain(numbers.flat_map(|number| [number, &value])).collect(),
        };
        patron.client().call(&command).await;
        patron.think(shared.think_ms).await;
    }
}

/// All keys that can be read again when all is over, each with the command that does.
pub fn reads(operations: &[Operation]) -> Vec<Request> {
    let named = operations.iter().flat_map(|operation| operation.request.keys()).collect::<BTreeSet<_>>();
    let read = |key: &str| {
        Some(match key.split(':').next()? {
            "register" | "counter" | "account" => Request::of(&["GET", key]),
            "list" => Request::of(&["LRANGE", key, "0", "-1"]),
            "set" => Request::of(&["HKEYS", key]),
            _ => return None,
        })
    };
    named.into_iter().filter_map(read).collect()
}

/// Reads all of it, many at a time. An error if that does not work for `limit`.
pub async fn read_all(patron: &mut Patron, reads: &[Request], limit: Duration) -> Result<(), String> {
    let give_up = patron.now() + limit;
    for some in reads.chunks(40) {
        let is_read = |outcomes: &[Outcome]| {
            !outcomes.is_empty() && outcomes.iter().all(|outcome| matches!(outcome, Outcome::Ok(_)))
        };
        while !is_read(&patron.pipeline(some.to_vec()).await) {
            if patron.now() > give_up {
                return Err("a node does not answer any more".into());
            }
        }
    }
    Ok(())
}
