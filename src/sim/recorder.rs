//! Clients that write down what they ask and what they are told, for judges who trust nobody.
//!
//! A request that may have been carried out is never sent again, and whatever is written is written once; so that what
//! is read later says who wrote it, and when at the latest.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use redis_protocol::resp2::types::BytesFrame;

use super::Dice;
use super::check::history::{Delivery, GIVEN_UP, History, Outcome, Request, Value};
use super::client::{Answer, Client};

/// What all clients write into. Cheap to clone.
#[derive(Clone, Default)]
pub struct Recorder(Arc<Mutex<Recorded>>);

#[derive(Default)]
struct Recorded {
    history: History,
    last_ns: u64,
}

impl Recorder {
    /// Reads what is written, or writes.
    pub fn write<T>(&self, action: impl FnOnce(&mut History) -> T) -> T {
        action(&mut self.0.lock().expect("no holder panics").history)
    }

    /// A time that nothing else has: in a simulated world much can happen in no time, one thing after another.
    fn stamp(&self, now: Duration) -> u64 {
        let mut recorded = self.0.lock().expect("no holder panics");
        recorded.last_ns = nanoseconds(now).max(recorded.last_ns + 1);
        recorded.last_ns
    }

    /// A subscriber met something.
    pub fn deliver(&self, now: Duration, subscriber: u64, channel: &str, message: Option<String>) {
        let delivery = Delivery { ns: self.stamp(now), subscriber, channel: channel.to_owned(), message };
        self.write(|history| history.deliveries.push(delivery));
    }
}

/// A time as histories have it.
pub fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).expect("a run is shorter than 500 years")
}

/// A client whose operations are recorded.
pub struct Patron {
    client: Client,
    recorder: Recorder,
    number: u64,
    /// How many texts it has made up.
    made: u64,
}

impl Patron {
    /// The client with this number, which no other has.
    pub const fn new(client: Client, recorder: Recorder, number: u64) -> Self {
        Self { client, recorder, number, made: 0 }
    }

    /// Its chance.
    pub fn dice(&self) -> &Dice {
        self.client.rng()
    }

    /// What it does that nobody judges.
    pub fn client(&mut self) -> &mut Client {
        &mut self.client
    }

    /// The time.
    pub fn now(&self) -> Duration {
        self.client.now()
    }

    /// Waits for at most so many ms.
    pub async fn think(&self, most_ms: u64) {
        let pause = Duration::from_millis(self.dice().below(most_ms));
        self.client.env().clock.sleep(pause).await;
    }

    /// A text that nobody else makes up.
    pub fn text(&mut self) -> String {
        self.made += 1;
        format!("{}.{}", self.number, self.made)
    }

    /// One command. Its reply, if it was carried out for certain.
    pub async fn call(&mut self, words: &[&str]) -> Option<Value> {
        self.perform(Request::of(words)).await.ok()
    }

    /// One command, or a transaction. The reply, or what else became of it.
    pub async fn perform(&mut self, request: Request) -> Result<Value, Outcome> {
        let mut wire = request.commands.clone();
        if wire.len() > 1 || !request.guards.is_empty() {
            wire.insert(0, vec!["MULTI".to_owned()]);
            wire.push(vec!["EXEC".to_owned()]);
        }
        self.perform_as(request, &wire).await
    }

    /// What the history knows as `request`, and the server in its own words, of which the last has the reply.
    pub async fn perform_as(&mut self, request: Request, wire: &[Vec<String>]) -> Result<Value, Outcome> {
        let outcomes = self.exchange(vec![request], wire).await;
        match outcomes.into_iter().next_back() {
            Some(Outcome::Ok(value)) => Ok(value),
            other => Err(other.unwrap_or_else(|| Outcome::Fail("there is no connection".into()))),
        }
    }

    /// Several commands in one piece, each an operation of its own.
    pub async fn pipeline(&mut self, requests: Vec<Request>) -> Vec<Outcome> {
        let wire = requests.iter().map(|request| request.commands[0].clone()).collect::<Vec<_>>();
        self.exchange(requests, &wire).await
    }

    /// Writes a key that nobody else writes, and reads it in the same piece. That is one operation, as nobody can come
    /// between; if one of the two has no reply, only the write is remembered.
    pub async fn write_and_read(&mut self, write: &[&str], read: &[&str]) -> Outcome {
        let Some(host) = self.client.connect().await else { return Outcome::Fail("no connection".into()) };
        let start = self.recorder.stamp(self.client.now());
        let answers = self.client.pipeline(&[write, read]).await;
        let now = self.recorder.stamp(self.client.now());
        let (first, second) = (outcome(&answers[0]), outcome(&answers[1]));
        self.recorder.write(|history| match (&first, second) {
            (Outcome::Ok(written), Outcome::Ok(seen)) => {
                let both = history.invoke(self.number, host, start, Request::transaction(&[write, read]));
                history.complete(both, now, Outcome::Ok(Value::List(vec![written.clone(), seen])));
            }
            _ => {
                let only = history.invoke(self.number, host, start, Request::of(write));
                history.complete(only, now, first.clone());
            }
        });
        first
    }

    /// Sends `wire`; the last replies are those to `requests`. Nothing comes of it without a connection.
    async fn exchange(&mut self, requests: Vec<Request>, wire: &[Vec<String>]) -> Vec<Outcome> {
        let Some(host) = self.client.connect().await else { return Vec::new() };
        let now = self.recorder.stamp(self.client.now());
        let guarded = requests.iter().map(|request| !request.guards.is_empty()).collect::<Vec<_>>();
        let invoke = |request| self.recorder.write(|history| history.invoke(self.number, host, now, request));
        let operations = requests.into_iter().map(invoke).collect::<Vec<_>>();
        let words = wire.iter().map(|words| words.iter().map(String::as_str).collect::<Vec<_>>());
        let words = words.collect::<Vec<_>>();
        let commands = words.iter().map(Vec::as_slice).collect::<Vec<_>>();
        let answers = self.client.pipeline(&commands).await;
        let now = self.recorder.stamp(self.client.now());
        let of_requests = &answers[answers.len() - operations.len()..];
        let outcomes = of_requests.iter().zip(guarded).map(|(answer, guarded)| match outcome(answer) {
            Outcome::Ok(Value::Nil) if guarded => Outcome::Fail(GIVEN_UP.into()),
            outcome => outcome,
        });
        let outcomes = outcomes.collect::<Vec<_>>();
        self.recorder.write(|history| {
            for (operation, outcome) in operations.iter().zip(&outcomes) {
                history.complete(*operation, now, outcome.clone());
            }
        });
        outcomes
    }

    /// Watches keys on the connection that the next commands use. False if that did not work.
    pub async fn watch(&mut self, keys: &[&str]) -> bool {
        self.client.call(&[&["WATCH"], keys].concat()).await.is_reply()
    }
}

fn outcome(answer: &Answer) -> Outcome {
    match answer {
        Answer::Reply(frame) => Outcome::Ok(value(frame)),
        Answer::NotApplied => Outcome::Fail("an error that promises it".into()),
        Answer::Unknown => Outcome::Info("an error, or a broken connection".into()),
        Answer::Silence => Outcome::Info("silence".into()),
    }
}

/// A reply, as histories have it.
pub fn value(frame: &BytesFrame) -> Value {
    let text = |bytes: &[u8]| Value::text(String::from_utf8_lossy(bytes));
    match frame {
        BytesFrame::Null => Value::Nil,
        BytesFrame::Integer(number) => Value::Int(*number),
        BytesFrame::SimpleString(bytes) | BytesFrame::BulkString(bytes) => text(bytes),
        BytesFrame::Array(items) => Value::List(items.iter().map(value).collect()),
        BytesFrame::Error(error) => panic!("an error within a reply: {error}"),
    }
}
