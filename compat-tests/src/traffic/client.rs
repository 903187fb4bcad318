//! A client that writes down what it asks and what it is told, and never asks for the same thing again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quorate::sim::check::history::{Outcome, Request, Value};

use super::recorder::{Generation, Recorder};
use crate::POLL;
use crate::client::Connection;
use crate::dice::Dice;
use crate::reply::Reply;

/// How long an answer may take. Whoever waits for a node that stands still does no work, so it is short.
const PATIENCE: Duration = Duration::from_secs(3);

/// Errors that promise that nothing was done.
const REFUSALS: [&str; 5] = ["CLUSTERDOWN", "TRYAGAIN", "OOM", "DISKFULL", "EXECABORT"];

pub(super) struct Client {
    pub number: u64,
    pub dice: Dice,
    /// What its requests belong to.
    pub generation: Arc<Generation>,
    recorder: Arc<Recorder>,
    nodes: Vec<SocketAddr>,
    next_node: usize,
    connection: Option<Connection>,
    /// How many values it has made up.
    made: u64,
}

impl Client {
    pub fn new(number: usize, nodes: &[SocketAddr], seed: u64, recorder: Arc<Recorder>) -> Self {
        let dice = Dice::new(seed.wrapping_add((number as u64).wrapping_mul(0x1234_5678_9abc_def1)));
        let (number, next_node) = (number as u64, number);
        let (nodes, generation) = (nodes.to_vec(), recorder.generation());
        Self { number, dice, generation, recorder, nodes, next_node, connection: None, made: 0 }
    }

    /// One that is not of the crowd, for an older generation.
    pub fn for_generation(
        number: usize,
        nodes: &[SocketAddr],
        generation: &Arc<Generation>,
        recorder: &Arc<Recorder>,
    ) -> Self {
        Self { generation: Arc::clone(generation), ..Self::new(number, nodes, 0, Arc::clone(recorder)) }
    }

    /// Goes on in the present generation; whether that is another one.
    pub fn keep_up(&mut self) -> bool {
        let before = std::mem::replace(&mut self.generation, self.recorder.generation());
        before.number != self.generation.number
    }

    /// Whether it is time to stop.
    pub fn is_stopped(&self) -> bool {
        self.recorder.is_stopped()
    }

    /// A text that nobody else has made up. It begins with the generation.
    pub fn new_text(&mut self) -> String {
        self.made += 1;
        format!("{}.{}.{}", self.generation.number, self.number, self.made)
    }

    /// A key of its generation.
    pub fn key(&self, kind: &str, rest: impl std::fmt::Display) -> String {
        format!("{kind}:{}:{rest}", self.generation.number)
    }

    /// One command. Its reply, if it was carried out for certain.
    pub fn call(&mut self, words: &[&str]) -> Option<Value> {
        self.perform(Request::of(words))
    }

    /// One command, or a transaction.
    pub fn perform(&mut self, request: Request) -> Option<Value> {
        let mut wire = request.commands.clone();
        if wire.len() > 1 || !request.guards.is_empty() {
            wire.insert(0, vec!["MULTI".to_owned()]);
            wire.push(vec!["EXEC".to_owned()]);
        }
        self.perform_as(request, &wire)
    }

    /// What the history knows as `request`, and the server in its own words.
    pub fn perform_as(&mut self, request: Request, wire: &[Vec<String>]) -> Option<Value> {
        let mut connection = self.connect()?;
        let node = connection.server().to_string();
        let operation = self.recorder.invoke(&self.generation, self.number, &node, request);
        let outcome = match connection.pipeline(wire) {
            Ok(replies) => self.outcome(replies.last().expect("a reply for each")),
            Err(broken) => Outcome::Info(broken.to_string()),
        };
        self.recorder.complete(&self.generation, operation, outcome.clone());
        match outcome {
            Outcome::Ok(value) => {
                self.connection = Some(connection);
                Some(value)
            }
            // A node that has no leader says so at once: do not fill the history with that.
            Outcome::Fail(_) => {
                std::thread::sleep(POLL);
                None
            }
            Outcome::Info(_) => None,
        }
    }

    /// Watches keys on the connection that the next commands use. False if that did not work.
    pub fn watch(&mut self, keys: &[&str]) -> bool {
        let Some(mut connection) = self.connect() else { return false };
        let words = [&["WATCH"], keys].concat();
        let is_watching = connection.call(&words).is_ok_and(|reply| reply.error().is_none());
        if is_watching {
            self.connection = Some(connection);
        }
        is_watching
    }

    fn connect(&mut self) -> Option<Connection> {
        if let Some(connection) = self.connection.take() {
            return Some(connection);
        }
        let node = self.nodes[self.next_node % self.nodes.len()];
        self.next_node += 1;
        let connection = Connection::open(node).and_then(|mut connection| {
            connection.set_patience(PATIENCE)?;
            Ok(connection)
        });
        if connection.is_err() {
            std::thread::sleep(POLL);
        }
        connection.ok()
    }

    fn outcome(&self, reply: &Reply) -> Outcome {
        if let Some(error) = reply.error() {
            let code = error.split(' ').next().unwrap_or_default();
            if code == "UNKNOWN" {
                return Outcome::Info(error);
            }
            if !REFUSALS.contains(&code) {
                self.recorder.be_surprised(error.clone());
            }
            return Outcome::Fail(error);
        }
        match reply {
            Reply::NilArray => Outcome::Fail("a watched key was changed".into()),
            _ => value(reply).map_or_else(
                || {
                    self.recorder.be_surprised(format!("{reply:?}"));
                    Outcome::Info("a reply that makes no sense".into())
                },
                Outcome::Ok,
            ),
        }
    }
}

fn value(reply: &Reply) -> Option<Value> {
    Some(match reply {
        Reply::Nil => Value::Nil,
        Reply::Int(number) => Value::Int(*number),
        Reply::Status(text) | Reply::Bulk(text) => Value::text(String::from_utf8(text.clone()).ok()?),
        Reply::Array(items) => Value::List(items.iter().map(value).collect::<Option<_>>()?),
        _ => return None,
    })
}
