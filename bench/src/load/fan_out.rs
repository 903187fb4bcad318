//! Fan-out: one connection publishes, all others are subscribed to its channel.
//!
//! The loop is closed: the next message is published when every subscriber has the last one and PUBLISH is answered. So a
//! latency is that of one message on its way, from its publisher to one of its subscribers. The last one to be read
//! has also waited until this program had read the others.
//!
//! What a subscriber is sent is known to the byte, so it is compared, not parsed. Anything else fails the run.

use std::io::{BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use compat_tests::client::encode;
use compat_tests::reply::Reply;
use rustix::event::epoll;

use super::resp::State;
use super::{INPUT_BYTES, LOOK, Limit, PATIENCE, Tally, connect, read, wait, watch};

const CHANNEL: &str = "news";

/// A publisher and its subscribers, all of them idle between runs.
pub struct FanOut {
    epoll: OwnedFd,
    subscribers: Vec<Subscriber>,
    publisher: TcpStream,
    answer: State,
    /// What the publisher says.
    request: Vec<u8>,
    /// What each subscriber is to hear of it.
    message: Vec<u8>,
    input: Vec<u8>,
}

struct Subscriber {
    stream: TcpStream,
    heard: Heard,
}

/// How many bytes of the last message have come.
#[derive(Default)]
struct Heard(usize);

impl FanOut {
    /// Opens a publisher at one address and a subscriber at each of the others, for messages of so many bytes.
    pub fn connect(publisher: SocketAddr, subscribers: &[SocketAddr], message_bytes: usize) -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let text = "x".repeat(message_bytes);
        let subscriber = |(index, address): (usize, &SocketAddr)| {
            let mut stream = connect(*address)?;
            subscribe(&mut stream).with_context(|| format!("subscribing at {address}"))?;
            watch(&epoll, &stream, index)?;
            Ok(Subscriber { stream, heard: Heard::default() })
        };
        let subscribers = subscribers.iter().enumerate().map(subscriber).collect::<Result<Vec<_>>>()?;
        let publisher = connect(publisher)?;
        watch(&epoll, &publisher, subscribers.len())?;
        Ok(Self {
            epoll,
            subscribers,
            publisher,
            answer: State::default(),
            request: encode(&["PUBLISH", CHANNEL, &text]),
            message: encode(&["message", CHANNEL, &text]),
            input: vec![0; INPUT_BYTES],
        })
    }

    /// Publishes one message after the other up to the limit. Counts deliveries, not messages. Fails when a connection
    /// or PUBLISH does, when the server falls silent, or when `stop` is set.
    pub fn run(&mut self, limit: Limit, stop: &AtomicBool) -> Result<Tally> {
        let start = Instant::now();
        let mut last = start;
        let mut tally = Tally::default();
        for _ in 0..limit.requests {
            last = self.publish(last, &mut tally, stop)?;
            if last - start >= limit.time {
                break;
            }
        }
        tally.elapsed = last - start;
        Ok(tally)
    }

    /// Publishes a message, and waits until all have it and the publisher is answered. Returns when that was.
    fn publish(&mut self, now: Instant, tally: &mut Tally, stop: &AtomicBool) -> Result<Instant> {
        for subscriber in &mut self.subscribers {
            subscriber.heard = Heard::default();
        }
        // It fits, for all before it has been taken.
        self.publisher.write_all(&self.request).context("publishing")?;
        let (mut undelivered, mut unanswered) = (self.subscribers.len(), 1_u64);
        let mut last = now;
        let mut events = Vec::with_capacity(256);
        while undelivered > 0 || unanswered > 0 {
            wait(&self.epoll, &mut events, LOOK, stop)?;
            if events.is_empty() && last.elapsed() > PATIENCE {
                let missing = format!("{undelivered} deliveries and {unanswered} replies");
                bail!("{missing} have been waited for {PATIENCE:?} in vain");
            }
            for event in &events {
                let index = usize::try_from(event.data.u64()).expect("an index of ours");
                if let Some(subscriber) = self.subscribers.get_mut(index) {
                    let bytes = read(&mut subscriber.stream, &mut self.input)?;
                    last = Instant::now();
                    if subscriber.heard.completes(bytes, &self.message)? {
                        undelivered -= 1;
                        tally.latency.record(last - now, 1);
                        tally.replies.count += 1;
                    }
                } else {
                    let replies = self.answer.read(read(&mut self.publisher, &mut self.input)?)?;
                    last = Instant::now();
                    if let Some(error) = replies.first_error {
                        bail!("PUBLISH is answered with {error:?}");
                    }
                    let left = unanswered.checked_sub(replies.count);
                    unanswered = left.context("more replies than requests")?;
                }
            }
        }
        Ok(last)
    }
}

impl Heard {
    /// Takes what has come; returns whether it is the end of `message`. Fails if it does not belong to it.
    fn completes(&mut self, bytes: &[u8], message: &[u8]) -> Result<bool> {
        let is_due = message[self.0..].starts_with(bytes);
        ensure!(is_due, "a subscriber was not to be sent {:?}", String::from_utf8_lossy(bytes));
        self.0 += bytes.len();
        Ok(self.0 == message.len() && !bytes.is_empty())
    }
}

/// Subscribes, and waits for the confirmation.
fn subscribe(stream: &mut TcpStream) -> Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(&encode(&["SUBSCRIBE", CHANNEL]))?;
    // Nothing follows the confirmation before something is published.
    match Reply::read(&mut BufReader::new(stream))?.error() {
        Some(error) => bail!("{error}"),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Read as _};
    use std::net::TcpListener;
    use std::time::Duration;

    use super::*;

    const SUBSCRIBERS: usize = 3;

    const SUBSCRIBE: &[u8] = b"*2\r\n$9\r\nSUBSCRIBE\r\n$4\r\nnews\r\n";
    const CONFIRMATION: &[u8] = b"*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n";
    const PUBLISH: &[u8] = b"*3\r\n$7\r\nPUBLISH\r\n$4\r\nnews\r\n$5\r\nxxxxx\r\n";
    const MESSAGE: &[u8] = b"*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$5\r\nxxxxx\r\n";

    const LIMIT: Limit = Limit { time: Duration::from_secs(60), requests: 50 };

    /// What is done about a message, with the subscribers and the publisher.
    type Deliver = fn(&mut [TcpStream], &mut TcpStream) -> io::Result<()>;

    /// A server that confirms all subscriptions, and then delivers. It goes away when that fails.
    fn server(confirmation: &'static [u8], deliver: Deliver) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        std::thread::spawn(move || -> io::Result<()> {
            let mut subscribers = Vec::new();
            for _ in 0..SUBSCRIBERS {
                let (mut stream, _) = listener.accept()?;
                stream.set_nodelay(true)?;
                read_words(&mut stream, SUBSCRIBE)?;
                stream.write_all(confirmation)?;
                subscribers.push(stream);
            }
            let (mut publisher, _) = listener.accept()?;
            publisher.set_nodelay(true)?;
            loop {
                read_words(&mut publisher, PUBLISH)?;
                deliver(&mut subscribers, &mut publisher)?;
            }
        });
        address
    }

    /// Reads what a client is to say, and nothing else.
    fn read_words(stream: &mut TcpStream, words: &[u8]) -> io::Result<()> {
        let mut bytes = vec![0; words.len()];
        stream.read_exact(&mut bytes)?;
        if bytes == words { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
    }

    fn deliver(subscribers: &mut [TcpStream], publisher: &mut TcpStream) -> io::Result<()> {
        publisher.write_all(b":3\r\n")?;
        subscribers.iter_mut().try_for_each(|subscriber| subscriber.write_all(MESSAGE))
    }

    fn fan_out(deliver: Deliver) -> FanOut {
        let address = server(CONFIRMATION, deliver);
        FanOut::connect(address, &[address; SUBSCRIBERS], 5).expect("the server confirms")
    }

    fn run(deliver: Deliver) -> Result<Tally> {
        fan_out(deliver).run(LIMIT, &AtomicBool::new(false))
    }

    /// Checks that a run fails, and how.
    #[track_caller]
    fn check_failure(deliver: Deliver, expect: &str) {
        let error = run(deliver).expect_err("the server does not deliver").to_string();
        assert!(error.contains(expect), "{error}");
    }

    #[test]
    fn every_delivery_counts() {
        let mut fan_out = fan_out(deliver);
        for _ in 0..2 {
            let tally = fan_out.run(LIMIT, &AtomicBool::new(false)).expect("the server delivers");
            assert_eq!((tally.replies.count, tally.replies.errors), (150, 0));
            assert!(tally.latency.percentile_us(50.0) > 0.0);
        }
    }

    #[test]
    fn time_is_a_limit_too() {
        let limit = Limit { time: Duration::ZERO, requests: u64::MAX };
        let tally = fan_out(deliver).run(limit, &AtomicBool::new(false));
        assert_eq!(tally.expect("the server delivers").replies.count, 3);
    }

    #[test]
    fn messages_come_in_any_pieces() {
        for cut in 1..MESSAGE.len() {
            let (first, second) = MESSAGE.split_at(cut);
            let mut heard = Heard::default();
            let mut completes = |bytes| heard.completes(bytes, MESSAGE).expect("it is due");
            assert_eq!([first, second, b""].map(&mut completes), [false, true, false], "cut at {cut}");
        }
        let tally = run(|subscribers, publisher| {
            for piece in MESSAGE.chunks(7) {
                subscribers.iter_mut().try_for_each(|subscriber| subscriber.write_all(piece))?;
            }
            publisher.write_all(b":").and_then(|()| publisher.write_all(b"0\r\n"))
        });
        assert_eq!(tally.expect("the server delivers").replies.count, 150);
    }

    #[test]
    fn what_was_not_published_is_an_error() {
        for bytes in [&[MESSAGE, MESSAGE].concat(), b"-ERR no\r\n".as_slice()] {
            assert!(Heard::default().completes(bytes, MESSAGE).is_err(), "{bytes:?}");
        }
        check_failure(|subscribers, _| subscribers[1].write_all(b"+OK\r\n"), "not to be sent \"+OK");
    }

    #[test]
    fn an_error_ends_the_run() {
        check_failure(|_, publisher| publisher.write_all(b"-ERR no\r\n"), "-ERR no");
    }

    #[test]
    fn a_refused_subscription_is_an_error() {
        let address = server(b"-NOPERM no\r\n", deliver);
        assert!(FanOut::connect(address, &[address; SUBSCRIBERS], 5).is_err());
    }

    #[test]
    fn a_server_that_goes_away_is_an_error() {
        check_failure(
            |subscribers, _| {
                subscribers[0].write_all(MESSAGE)?;
                Err(io::ErrorKind::Other.into())
            },
            "the server closed a connection",
        );
    }

    #[test]
    fn a_silent_run_can_be_stopped() {
        let error = fan_out(|_, _| Ok(())).run(LIMIT, &AtomicBool::new(true));
        assert_eq!(error.expect_err("it is stopped").to_string(), "interrupted");
    }
}
