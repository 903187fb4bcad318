//! Writers whose every acknowledgement is a promise to check later.
//!
//! Each thread writes keys that nobody else writes, once each, and increments a shared counter in between. It
//! keeps what it was told: acknowledged, refused, or neither. Nothing is ever sent again, so afterwards all
//! that was acknowledged must be there, nothing that was refused may be, and the counter lies between what is
//! sure and what is possible.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::POLL;
use crate::client::Connection;
use crate::reply::Reply;

/// The key that all writers increment.
pub const COUNTER: &str = "workload:counter";

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Acknowledged,
    /// An error that promises that nothing happened.
    Refused,
    /// The connection broke, or the server itself does not know.
    Unknown,
}

/// Running writers.
pub struct Workload {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Record>>,
}

/// What all writers were told.
#[derive(Default)]
pub struct Record {
    /// Keys and their values that must be there.
    pub acknowledged: Vec<(String, String)>,
    /// Keys that must not be there.
    pub refused: Vec<String>,
    pub unknown: usize,
    pub increments: u64,
    pub increments_unknown: u64,
    /// When each acknowledgement came, in order.
    pub times: Vec<Instant>,
    /// Error replies, by their first word.
    pub errors: Vec<String>,
}

impl Workload {
    /// `count` writers, spread over the nodes; each moves on to the next node when its connection breaks.
    /// `prefix` keeps the keys of several workloads apart.
    #[must_use]
    pub fn start(nodes: &[SocketAddr], count: usize, prefix: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(AtomicU64::new(0));
        let threads = (0..count)
            .map(|number| {
                let writer = Writer {
                    name: format!("{prefix}:{number}"),
                    nodes: nodes.to_vec(),
                    next_node: number,
                    connection: None,
                    record: Record::default(),
                };
                let (stop, acknowledged) = (Arc::clone(&stop), Arc::clone(&acknowledged));
                std::thread::spawn(move || writer.run(&stop, &acknowledged))
            })
            .collect();
        Self { stop, acknowledged, threads }
    }

    /// How many writes were acknowledged so far.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Waits until `more` further writes are acknowledged.
    pub fn wait_for(&self, more: u64) -> Result<()> {
        let goal = self.acknowledged() + more;
        crate::wait_for("writes to be acknowledged", Duration::from_secs(30), || {
            Ok((self.acknowledged() >= goal).then_some(()))
        })
    }

    /// Ends the writers.
    pub fn finish(self) -> Result<Record> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Record::default();
        for thread in self.threads {
            let Ok(record) = thread.join() else { bail!("a writer panicked") };
            all.acknowledged.extend(record.acknowledged);
            all.refused.extend(record.refused);
            all.unknown += record.unknown;
            all.increments += record.increments;
            all.increments_unknown += record.increments_unknown;
            all.times.extend(record.times);
            all.errors.extend(record.errors);
        }
        all.times.sort();
        all.errors.sort();
        Ok(all)
    }
}

impl Record {
    /// Compares the promises with what a node has.
    pub fn check(&self, node: SocketAddr) -> Result<()> {
        self.check_keys(node)?;
        let reply = Connection::open(node)?.call(&["GET", COUNTER])?;
        let counter: u64 = match &reply {
            Reply::Nil => 0,
            reply => std::str::from_utf8(reply.text().context("the counter is a string")?)?.parse()?,
        };
        let possible = self.increments..=self.increments + self.increments_unknown;
        ensure!(possible.contains(&counter), "the counter is {counter} on {node}, possible is {possible:?}");
        Ok(())
    }

    /// The same without the counter, which later workloads go on incrementing.
    pub fn check_keys(&self, node: SocketAddr) -> Result<()> {
        let mut connection = Connection::open(node)?;
        for chunk in self.acknowledged.chunks(500) {
            let gets: Vec<_> = chunk.iter().map(|(key, _)| vec!["GET", key]).collect();
            for ((key, value), reply) in chunk.iter().zip(connection.pipeline(&gets)?) {
                ensure!(
                    reply == Reply::Bulk(value.clone().into_bytes()),
                    "{key} = {value} was acknowledged, and {node} has {reply:?}"
                );
            }
        }
        for chunk in self.refused.chunks(500) {
            let gets: Vec<_> = chunk.iter().map(|key| vec!["GET", key.as_str()]).collect();
            for (key, reply) in chunk.iter().zip(connection.pipeline(&gets)?) {
                ensure!(reply == Reply::Nil, "{key} was refused, and {node} has {reply:?}");
            }
        }
        Ok(())
    }

    /// The longest time without an acknowledgement between two moments.
    #[must_use]
    pub fn longest_gap(&self, from: Instant, to: Instant) -> Duration {
        let within = self.times.iter().copied().filter(|&time| time > from && time < to);
        let mut last = from;
        let mut longest = Duration::ZERO;
        for time in within.chain([to]) {
            longest = longest.max(time - last);
            last = time;
        }
        longest
    }

    /// The counts in one line, for the test's figures.
    #[must_use]
    pub fn summary(&self) -> String {
        let mut errors = self.errors.clone();
        errors.dedup();
        let counts = errors.iter().map(|error| {
            let count = self.errors.iter().filter(|other| *other == error).count();
            format!("{count} {error}")
        });
        format!(
            "{} keys and {} increments acknowledged, {} keys refused, {} and {} of unknown fate; error replies: [{}]",
            self.acknowledged.len(),
            self.increments,
            self.refused.len(),
            self.unknown,
            self.increments_unknown,
            counts.collect::<Vec<_>>().join(", ")
        )
    }
}

struct Writer {
    name: String,
    nodes: Vec<SocketAddr>,
    next_node: usize,
    connection: Option<Connection>,
    record: Record,
}

impl Writer {
    fn run(mut self, stop: &AtomicBool, acknowledged: &AtomicU64) -> Record {
        for number in 0.. {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            // Three keys, one increment.
            let outcome = if number % 4 == 3 { self.increment() } else { self.set(number) };
            match outcome {
                Outcome::Acknowledged => {
                    self.record.times.push(Instant::now());
                    acknowledged.fetch_add(1, Ordering::Relaxed);
                }
                // A node without a leader refuses at once: do not fill the record with that.
                Outcome::Refused => std::thread::sleep(POLL),
                Outcome::Unknown => {}
            }
        }
        self.record
    }

    fn set(&mut self, number: usize) -> Outcome {
        let key = format!("{}:{number}", self.name);
        let value = format!("value-{number}");
        let outcome = self.write(&["SET", &key, &value]);
        match outcome {
            Outcome::Acknowledged => self.record.acknowledged.push((key, value)),
            Outcome::Refused => self.record.refused.push(key),
            Outcome::Unknown => self.record.unknown += 1,
        }
        outcome
    }

    fn increment(&mut self) -> Outcome {
        let outcome = self.write(&["INCR", COUNTER]);
        match outcome {
            Outcome::Acknowledged => self.record.increments += 1,
            Outcome::Refused => {}
            Outcome::Unknown => self.record.increments_unknown += 1,
        }
        outcome
    }

    fn write(&mut self, words: &[&str]) -> Outcome {
        let Some(connection) = self.connect() else {
            return Outcome::Refused;
        };
        match connection.call(words) {
            Ok(reply) => match reply.error() {
                None => Outcome::Acknowledged,
                Some(error) => {
                    let code = error.split(' ').next().unwrap_or_default().to_owned();
                    let unknown = code == "UNKNOWN";
                    self.record.errors.push(code);
                    if unknown { Outcome::Unknown } else { Outcome::Refused }
                }
            },
            Err(_broken) => {
                self.connection = None;
                Outcome::Unknown
            }
        }
    }

    fn connect(&mut self) -> Option<&mut Connection> {
        if self.connection.is_none() {
            let node = self.nodes[self.next_node % self.nodes.len()];
            self.next_node += 1;
            self.connection = Connection::open(node).ok();
        }
        self.connection.as_mut()
    }
}
