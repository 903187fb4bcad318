//! Our load generator: one thread, one epoll, as many connections as a workload wants.
//!
//! It shares the machine with the servers, so it does as little as it can: requests are templates of bytes,
//! replies are counted by their heads, and each wake-up of a connection costs one read, one look at the clock
//! and one write.
//!
//! The loop is closed, or [open]. In the closed one, a connection sends its next requests when all replies to the
//! last ones are there. A run ends with the last reply, not with the clock, so that what the servers did and what was answered are
//! the same requests.
//!
//! Messages from one publisher to many subscribers are a load of their own: [fan_out].

mod fan_out;
mod grpc;
mod histogram;
mod open;
pub mod redis_benchmark;
mod resp;
mod template;
mod zipf;

pub use fan_out::FanOut;
pub use grpc::Grpc;
pub use histogram::Histogram;
pub use resp::Resp;
pub use template::Keys;

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

/// How long nothing may come from the server: longer than any election.
const PATIENCE: Duration = Duration::from_secs(15);

/// How often a silent run looks whether it is to go on.
const LOOK: Duration = Duration::from_millis(100);

const INPUT_BYTES: usize = 64 * 1024;

/// A protocol.
pub trait Dialect {
    /// What a connection remembers.
    type State: Default;

    /// Appends what a client says before anything else.
    fn greet(&self, wire: &mut Vec<u8>);

    /// Appends the next request.
    fn request(&mut self, state: &mut Self::State, wire: &mut Vec<u8>);

    /// Appends what a client says after each round of so many requests.
    fn end_round(&mut self, _state: &mut Self::State, _requests: u64, _wire: &mut Vec<u8>) {}

    /// Counts the replies that end in `bytes`; appends what must be said to the server besides requests.
    fn read(&mut self, state: &mut Self::State, bytes: &[u8], wire: &mut Vec<u8>) -> Result<Replies>;
}

/// Replies that came.
#[derive(Debug, Default)]
pub struct Replies {
    pub count: u64,
    /// How many of them are errors.
    pub errors: u64,
    pub first_error: Option<String>,
}

impl Replies {
    fn fail(&mut self, error: impl Into<String>) {
        self.errors += 1;
        self.first_error.get_or_insert_with(|| error.into());
    }

    fn add(&mut self, other: Self) {
        self.count += other.count;
        self.errors += other.errors;
        if let Some(error) = other.first_error {
            self.first_error.get_or_insert(error);
        }
    }
}

/// When a run stops sending: whichever comes first.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    pub time: Duration,
    pub requests: u64,
}

/// What a run was answered.
#[derive(Debug, Default)]
pub struct Tally {
    pub replies: Replies,
    /// From the first request to the last reply.
    pub elapsed: Duration,
    pub latency: Histogram,
}

/// Connections to a server, all of them idle between runs.
pub struct Load<D: Dialect> {
    epoll: OwnedFd,
    connections: Vec<Connection<D::State>>,
    dialect: D,
    pipeline: usize,
    input: Vec<u8>,
    wire: Vec<u8>,
}

struct Connection<S> {
    stream: TcpStream,
    state: S,
    /// What the socket did not take.
    unsent: Vec<u8>,
    /// Replies that are still to come, and since when.
    waiting: u64,
    sent: Instant,
    /// In an open loop: when each request was due whose reply is still to come.
    due: VecDeque<Instant>,
}

impl<D: Dialect> Load<D> {
    /// Opens `connections`, each of which sends up to `pipeline` requests at once.
    pub fn connect(address: SocketAddr, connections: usize, pipeline: usize, dialect: D) -> Result<Self> {
        let mut load = Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            connections: Vec::with_capacity(connections),
            dialect,
            pipeline,
            input: vec![0; INPUT_BYTES],
            wire: Vec::new(),
        };
        for index in 0..connections {
            let stream = connect(address)?;
            watch(&load.epoll, &stream, index)?;
            load.connections.push(Connection {
                stream,
                state: D::State::default(),
                unsent: Vec::new(),
                waiting: 0,
                sent: Instant::now(),
                due: VecDeque::new(),
            });
            load.wire.clear();
            load.dialect.greet(&mut load.wire);
            load.write(index)?;
        }
        Ok(load)
    }

    /// Keeps all connections busy up to the limit, then waits for the last reply. Fails when a connection
    /// does, when the server falls silent, or when `stop` is set.
    pub fn run(&mut self, limit: Limit, stop: &AtomicBool) -> Result<Tally> {
        let start = Instant::now();
        let mut tally = Tally::default();
        let mut unsent = limit.requests;
        let mut waiting = 0;
        for index in 0..self.connections.len() {
            waiting += self.send(index, &mut unsent, start)?;
        }
        let mut last = start;
        let mut events = Vec::with_capacity(256);
        while waiting > 0 {
            wait(&self.epoll, &mut events, LOOK, stop)?;
            if events.is_empty() && last.elapsed() > PATIENCE {
                bail!("{waiting} requests have waited {PATIENCE:?} in vain for their replies");
            }
            for event in &events {
                let index = usize::try_from(event.data.u64()).expect("an index of ours");
                let replies = self.receive(index)?;
                last = Instant::now();
                let connection = &mut self.connections[index];
                let left = connection.waiting.checked_sub(replies.count);
                connection.waiting = left.context("more replies than requests")?;
                waiting -= replies.count;
                tally.latency.record(last - connection.sent, replies.count);
                tally.replies.add(replies);
                if connection.waiting == 0 && last - start < limit.time {
                    waiting += self.send(index, &mut unsent, last)?;
                }
            }
        }
        tally.elapsed = last - start;
        Ok(tally)
    }

    /// Sends a connection's next requests, but not more than `unsent`; returns how many they are.
    fn send(&mut self, index: usize, unsent: &mut u64, now: Instant) -> Result<u64> {
        let count = (self.pipeline as u64).min(*unsent);
        *unsent -= count;
        self.wire.clear();
        let connection = &mut self.connections[index];
        for _ in 0..count {
            self.dialect.request(&mut connection.state, &mut self.wire);
        }
        self.dialect.end_round(&mut connection.state, count, &mut self.wire);
        connection.waiting = count;
        connection.sent = now;
        self.write(index)?;
        Ok(count)
    }

    /// Takes what is there on a connection, and gives it what it did not take before.
    fn receive(&mut self, index: usize) -> Result<Replies> {
        self.wire.clear();
        let connection = &mut self.connections[index];
        let bytes = read(&mut connection.stream, &mut self.input)?;
        let replies = self.dialect.read(&mut connection.state, bytes, &mut self.wire)?;
        if !self.wire.is_empty() || !self.connections[index].unsent.is_empty() {
            self.write(index)?;
        }
        Ok(replies)
    }

    /// Writes what is still unsent on a connection, and then what is in `wire`.
    fn write(&mut self, index: usize) -> Result<()> {
        let connection = &mut self.connections[index];
        let was_full = !connection.unsent.is_empty();
        if was_full {
            connection.unsent.extend_from_slice(&self.wire);
            std::mem::swap(&mut connection.unsent, &mut self.wire);
        }
        let written = match self.wire.is_empty() {
            true => 0,
            false => match connection.stream.write(&self.wire) {
                Err(error) if is_for_later(&error) => 0,
                result => result.context("writing requests")?,
            },
        };
        connection.unsent.clear();
        connection.unsent.extend_from_slice(&self.wire[written..]);
        let is_full = !connection.unsent.is_empty();
        if is_full != was_full {
            let wanted = if is_full { epoll::EventFlags::OUT } else { epoll::EventFlags::empty() };
            let wanted = wanted | epoll::EventFlags::IN;
            epoll::modify(&self.epoll, &connection.stream, token(index), wanted)?;
        }
        Ok(())
    }
}

fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(address).with_context(|| format!("connecting to {address}"))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// From now on, what comes on a connection is an event with its index.
fn watch(epoll: &OwnedFd, stream: &TcpStream, index: usize) -> Result<()> {
    stream.set_nonblocking(true)?;
    Ok(epoll::add(epoll, stream, token(index), epoll::EventFlags::IN)?)
}

/// Waits for events, but not for longer than `pause`. Fails when `stop` is set.
fn wait(epoll: &OwnedFd, events: &mut Vec<epoll::Event>, pause: Duration, stop: &AtomicBool) -> Result<()> {
    events.clear();
    match epoll::wait(epoll, spare_capacity(events), Some(&timespec(pause))) {
        Err(error) if error != rustix::io::Errno::INTR => return Err(error.into()),
        _ => {}
    }
    if stop.load(Ordering::Relaxed) {
        bail!("interrupted");
    }
    Ok(())
}

/// What is there on a connection; nothing, if it was a false alarm.
fn read<'i>(stream: &mut TcpStream, input: &'i mut [u8]) -> Result<&'i [u8]> {
    match stream.read(input) {
        Ok(0) => bail!("the server closed a connection"),
        Ok(count) => Ok(&input[..count]),
        Err(error) if is_for_later(&error) => Ok(&[]),
        Err(error) => Err(error).context("reading replies"),
    }
}

fn token(index: usize) -> epoll::EventData {
    epoll::EventData::new_u64(index as u64)
}

fn timespec(duration: Duration) -> Timespec {
    Timespec { tv_sec: duration.as_secs().cast_signed(), tv_nsec: duration.subsec_nanos().into() }
}

fn is_for_later(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::workload::{Chance, Command, Mix};

    const SET_BYTES: usize = 300;

    /// A server that answers each SET it has read as a whole, `reply` each time; closes after `replies_max`.
    fn server(reply: &'static [u8], replies_max: usize) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("a client");
                std::thread::spawn(move || {
                    let mut request = [0; SET_BYTES];
                    for _ in 0..replies_max {
                        if stream.read_exact(&mut request).is_err() || stream.write_all(reply).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        address
    }

    fn load(address: SocketAddr) -> Load<Resp> {
        let resp = Resp::new(Mix::Only(Command::Set), 256, Chance::new(1), Keys::From(0, 100_000));
        Load::connect(address, 3, 4, resp).expect("the server listens")
    }

    const LIMIT: Limit = Limit { time: Duration::from_secs(60), requests: 50 };

    #[test]
    fn every_request_is_answered_once() {
        let mut load = load(server(b"+OK\r\n", usize::MAX));
        for _ in 0..2 {
            let tally = load.run(LIMIT, &AtomicBool::new(false)).expect("the server answers");
            assert_eq!((tally.replies.count, tally.replies.errors), (50, 0));
            assert!(tally.latency.percentile_us(50.0) > 0.0);
        }
    }

    #[test]
    fn an_open_loop_keeps_its_rate_and_counts_from_when_requests_were_due() {
        let mut load = load(server(b"+OK\r\n", usize::MAX));
        let limit = Limit { time: Duration::from_millis(500), requests: u64::MAX };
        let tally = load.run_at(400.0, limit, &AtomicBool::new(false)).expect("the server answers");
        assert_eq!((tally.replies.count, tally.replies.errors), (200, 0));
        assert!(tally.elapsed >= Duration::from_millis(490), "{:?}", tally.elapsed);
        // Faster than anybody can send: what is late was due long ago.
        let limit = Limit { time: Duration::from_micros(1), requests: u64::MAX };
        let tally = load.run_at(5e9, limit, &AtomicBool::new(false)).expect("the server answers");
        assert_eq!(tally.replies.count, 5_000);
        // The last one has waited all the time, up to the width of a bucket.
        assert!(tally.latency.percentile_us(100.0) > tally.elapsed.as_micros() as f64 * 0.9);
    }

    #[test]
    fn errors_are_counted() {
        let tally = load(server(b"-ERR no\r\n", usize::MAX)).run(LIMIT, &AtomicBool::new(false));
        let tally = tally.expect("the server answers");
        assert_eq!((tally.replies.count, tally.replies.errors), (50, 50));
        assert_eq!(tally.replies.first_error.as_deref(), Some("-ERR no"));
    }

    #[test]
    fn a_server_that_goes_away_is_an_error() {
        assert!(load(server(b"+OK\r\n", 5)).run(LIMIT, &AtomicBool::new(false)).is_err());
    }

    #[test]
    fn time_is_a_limit_too() {
        let limit = Limit { time: Duration::ZERO, requests: u64::MAX };
        let tally = load(server(b"+OK\r\n", usize::MAX)).run(limit, &AtomicBool::new(false));
        assert_eq!(tally.expect("the server answers").replies.count, 12);
    }
}
