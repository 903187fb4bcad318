//! What the clients do.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use redis_protocol::resp2::types::BytesFrame;

use super::client::{Answer, Client, number};
use super::history::{Fate, Fleeting, History, Pair, Span};

/// What all clients share: what they saw, and which keys there are.
#[derive(Clone, Default)]
pub struct Shared {
    pub history: Arc<Mutex<History>>,
    /// The register each writer writes just now.
    current: Arc<Mutex<Vec<String>>>,
    fleeting: Arc<Mutex<Vec<String>>>,
    over: Arc<Mutex<bool>>,
    /// How long a client thinks between two requests at most, in ms; see [`Shared::patient`].
    think_ms: u64,
}

impl Shared {
    /// Clients who think for so long at most.
    pub fn patient(think_ms: u64) -> Self {
        Self { think_ms, ..Self::default() }
    }

    fn history<T>(&self, action: impl FnOnce(&mut History) -> T) -> T {
        action(&mut self.history.lock().expect("no holder panics"))
    }

    /// Tells the clients to stop.
    pub fn end(&self) {
        *self.over.lock().expect("no holder panics") = true;
    }

    fn is_over(&self) -> bool {
        *self.over.lock().expect("no holder panics")
    }
}

fn fate(answer: &Answer) -> Fate {
    match answer {
        Answer::Reply(_) => Fate::Applied,
        Answer::NotApplied => Fate::NotApplied,
        Answer::Unknown | Answer::Silence => Fate::Unknown,
    }
}

async fn think(client: &Client, shared: &Shared) {
    let pause = Duration::from_millis(client.rng().below(shared.think_ms));
    client.env().clock.sleep(pause).await;
}

/// Writes 1, 2, 3 ... to a register, now and then reading it in the same piece.
pub async fn write(mut client: Client, shared: Shared, writer: usize) {
    let mut key = String::new();
    let mut next = 0;
    for round in 0.. {
        if shared.is_over() {
            return;
        }
        if next == 0 {
            key = format!("register-{writer}-{round}");
            let mut current = shared.current.lock().expect("no holder panics");
            let places = current.len().max(writer + 1);
            current.resize(places, String::new());
            current[writer].clone_from(&key);
        }
        next += 1;
        let text = format!("{next} {}", "x".repeat(client.rng().below(600) as usize));
        let start = client.now();
        let reading = client.rng().below(4) == 0;
        let commands: &[&[&str]] = &[&["SET", &key, &text], &["GET", &key]];
        let answers = client.pipeline(&commands[..if reading { 2 } else { 1 }]).await;
        let span = Span { start, end: client.now() };
        let fate = fate(&answers[0]);
        shared.history(|history| {
            let register = history.registers.entry(key.clone()).or_default();
            register.writes.push((next, fate, span));
            if let Some(value) = answers.get(1).and_then(Answer::number) {
                register.reads.push((value, span));
            }
        });
        if reading && fate == Fate::Applied {
            let read = answers[1].number();
            assert!(
                read.is_none_or(|read| read == next),
                "{key}: {read:?} was read behind {next}, in one piece"
            );
        }
        if fate == Fate::Unknown {
            next = 0;
        }
        think(&client, &shared).await;
    }
}

/// Reads registers and counters.
pub async fn read(mut client: Client, shared: Shared, counters: &'static [&'static str]) {
    while !shared.is_over() {
        let current = shared.current.lock().expect("no holder panics").clone();
        let keys = current.iter().map(String::as_str).chain(counters.iter().copied()).collect::<Vec<_>>();
        let key = keys[client.rng().below(keys.len() as u64) as usize];
        if !key.is_empty() {
            let start = client.now();
            let answer = client.call(&["GET", key]).await;
            let span = Span { start, end: client.now() };
            if let Some(value) = answer.number() {
                shared.history(|history| {
                    if counters.contains(&key) {
                        history.counters.entry(key.into()).or_default().reads.push((value, span));
                    } else {
                        history.registers.entry(key.into()).or_default().reads.push((value, span));
                    }
                });
            }
        }
        think(&client, &shared).await;
    }
}

/// Increments counters, sometimes several times in one piece.
pub async fn increment(mut client: Client, shared: Shared, counters: &'static [&'static str]) {
    while !shared.is_over() {
        let key = counters[client.rng().below(counters.len() as u64) as usize];
        let times = 1 + client.rng().below(3) as usize;
        let command: &[&str] = &["INCR", key];
        let start = client.now();
        let answers = client.pipeline(&vec![command; times]).await;
        let span = Span { start, end: client.now() };
        let values = answers.iter().filter_map(Answer::number).collect::<Vec<_>>();
        assert!(values.is_sorted(), "{key}: {values:?} in one piece");
        shared.history(|history| {
            let counter = history.counters.entry(key.into()).or_default();
            for answer in &answers {
                match answer.number() {
                    Some(value) => counter.replies.push((value, span)),
                    None => counter.unknown += u64::from(fate(answer) == Fate::Unknown),
                }
            }
        });
        think(&client, &shared).await;
    }
}

/// Increments two keys in a transaction, and reads both in another.
pub async fn transact(mut client: Client, shared: Shared) {
    while !shared.is_over() {
        let increments: [&[&str]; 4] = [&["MULTI"], &["INCR", "left"], &["INCR", "right"], &["EXEC"]];
        let reads: [&[&str]; 4] = [&["MULTI"], &["GET", "left"], &["GET", "right"], &["EXEC"]];
        let start = client.now();
        let answers = client.pipeline(if client.rng().below(2) == 0 { &increments } else { &reads }).await;
        let span = Span { start, end: client.now() };
        if let Answer::Reply(BytesFrame::Array(values)) = &answers[3] {
            let values = [number(&values[0]), number(&values[1])];
            shared.history(|history| history.pairs.push(Pair { values, span }));
        }
        think(&client, &shared).await;
    }
}

/// Fills hashes, small ones and large ones, and lets them go in every way there is. What the clients see of them
/// is not looked at; that the nodes end in the same state is.
pub async fn fill(mut client: Client, shared: Shared) {
    let hashes = ["hash-a", "hash-b", "hash-c"];
    while !shared.is_over() {
        let dice = client.rng();
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
        client.call(&command).await;
        think(&client, &shared).await;
    }
}

/// Sets keys that end by themselves, and looks at those of late.
pub async fn watch_ends(mut client: Client, shared: Shared, watcher: usize) {
    for round in 0.. {
        if shared.is_over() {
            return;
        }
        let ttl = 200 + client.rng().below(2_500);
        let key = format!("fleeting-{watcher}-{round}");
        let start = client.now();
        let answer = client.call(&["SET", &key, "1", "PX", &ttl.to_string()]).await;
        let set = Some((fate(&answer), Span { start, end: client.now() }));
        let fleeting = Fleeting { set, ttl: Duration::from_millis(ttl), reads: Vec::new() };
        shared.history(|history| history.fleeting.insert(key.clone(), fleeting));
        shared.fleeting.lock().expect("no holder panics").push(key);
        for _ in 0..4 {
            think(&client, &shared).await;
            let key = {
                let keys = shared.fleeting.lock().expect("no holder panics");
                let late = client.rng().below(keys.len().min(40) as u64) as usize;
                keys[keys.len() - 1 - late].clone()
            };
            let start = client.now();
            if let Some(value) = client.call(&["GET", &key]).await.number() {
                let span = Span { start, end: client.now() };
                shared.history(|history| {
                    let fleeting = history.fleeting.get_mut(&key).expect("it was set");
                    fleeting.reads.push((value == 1, span));
                });
            }
        }
    }
}
