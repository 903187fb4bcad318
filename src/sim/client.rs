//! A client: one connection at a time, to one node after another.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use redis_protocol::resp2::decode::decode_bytes_mut;
use redis_protocol::resp2::types::BytesFrame;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Dice;
use super::cluster::{Cluster, REQUEST_TIMEOUT};
use super::ledger::Account;
use crate::env::sim::Caller;
use crate::env::{BoxStream, Env};

/// How long a client waits for a connection, or for an answer: longer than a node that runs takes to say
/// that it cannot help.
const PATIENCE: Duration = Duration::from_millis(2 * REQUEST_TIMEOUT.as_millis() as u64 + 1_000);

/// What became of a request, as far as the client can know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Reply(BytesFrame),
    /// An error that promises that nothing was done, or the request never left.
    NotApplied,
    /// An error that says so, or a connection that broke.
    Unknown,
    /// Nothing at all: as unknown, and a running node must not do that.
    Silence,
}

impl Answer {
    /// Whether it is a reply.
    pub const fn is_reply(&self) -> bool {
        matches!(self, Self::Reply(_))
    }

    /// The number in a reply; 0 for a key that is not there.
    #[track_caller]
    pub fn number(&self) -> Option<u64> {
        match self {
            Self::Reply(frame) => Some(number(frame)),
            _ => None,
        }
    }
}

/// The number in a frame; 0 for nil.
#[track_caller]
pub fn number(frame: &BytesFrame) -> u64 {
    match frame {
        BytesFrame::Null => 0,
        BytesFrame::Integer(number) => u64::try_from(*number).expect("counters count up"),
        BytesFrame::BulkString(bytes) => {
            let text = std::str::from_utf8(bytes).expect("a number");
            text.split(' ').next().and_then(|number| number.parse().ok()).expect("a number")
        }
        other => panic!("{other:?} is not a number"),
    }
}

/// A client of the cluster.
pub struct Client {
    cluster: Cluster,
    env: Env,
    caller: Caller,
    rng: Dice,
    /// The node it keeps to, if it does.
    home: Option<&'static str>,
    connection: Option<Connection>,
}

struct Connection {
    host: &'static str,
    stream: BoxStream,
    received: BytesMut,
    account: Account,
}

impl Client {
    /// A client that goes to another node whenever one fails it.
    pub fn new(cluster: &Cluster) -> Self {
        let (env, caller) = cluster.world().client_env_and_caller();
        // All clients share their host's chance: they take turns in an order that the seed decides.
        let rng = Dice(Arc::clone(&env.rng));
        Self { cluster: cluster.clone(), env, caller, rng, home: None, connection: None }
    }

    /// A client of one node.
    pub fn of(cluster: &Cluster, host: &'static str) -> Self {
        Self { home: Some(host), ..Self::new(cluster) }
    }

    /// Its world.
    pub fn env(&self) -> &Env {
        &self.env
    }

    /// Its chance.
    pub fn rng(&self) -> &Dice {
        &self.rng
    }

    /// The time, on the client's clock.
    pub fn now(&self) -> Duration {
        self.env.clock.monotonic()
    }

    /// Sends one command and waits for what becomes of it.
    pub async fn call(&mut self, argv: &[&str]) -> Answer {
        self.pipeline(&[argv]).await.pop().expect("an answer for each")
    }

    /// Sends commands in one piece. An answer for each, in order.
    pub async fn pipeline(&mut self, commands: &[&[&str]]) -> Vec<Answer> {
        let Some(mut connection) = self.connection().await else {
            return vec![Answer::NotApplied; commands.len()];
        };
        let mut request = Vec::new();
        for argv in commands {
            request.extend_from_slice(format!("*{}\r\n", argv.len()).as_bytes());
            for word in *argv {
                request.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
            }
        }
        let mut answers = Vec::new();
        let invoked_ns = self.cluster.ledger().stamp(self.now());
        let exchange = async {
            if connection.stream.write_all(&request).await.is_err() {
                return false;
            }
            while answers.len() < commands.len() {
                match receive(&mut connection.stream, &mut connection.received).await {
                    Some(frame) => answers.push(interpret(frame)),
                    None => return false,
                }
            }
            true
        };
        let (whole, rest) = tokio::select! {
            biased;
            whole = exchange => (whole, Answer::Unknown),
            () = self.env.clock.sleep(PATIENCE) => (false, Answer::Silence),
        };
        if rest == Answer::Silence && !whole {
            self.cluster.fell_silent(&format!("{} says nothing to {commands:.50?}", connection.host));
        }
        let is_sound = whole && answers.iter().all(|answer| matches!(answer, Answer::Reply(_)));
        answers.resize(commands.len(), rest);
        let ledger = self.cluster.ledger();
        let returned_ns = ledger.stamp(self.now());
        ledger.note(&mut connection.account, commands, &answers, (invoked_ns, returned_ns));
        // After an error it looks elsewhere.
        if is_sound {
            self.connection = Some(connection);
        }
        self.cluster.tally(|tally| answers.iter().for_each(|answer| tally.answer(answer)));
        answers
    }

    /// What its node sends next without being asked; nothing within `patience`, or if the connection broke.
    pub async fn hear(&mut self, patience: Duration) -> Option<BytesFrame> {
        let connection = self.connection.as_mut()?;
        tokio::select! {
            biased;
            frame = receive(&mut connection.stream, &mut connection.received) => frame,
            () = self.env.clock.sleep(patience) => None,
        }
    }

    /// Connects, if it is not. The host it is connected to then; nothing if that did not work.
    pub async fn connect(&mut self) -> Option<&'static str> {
        self.connection = self.connection().await;
        self.connection.as_ref().map(|connection| connection.host)
    }

    async fn connection(&mut self) -> Option<Connection> {
        if let Some(connection) = self.connection.take() {
            return Some(connection);
        }
        let host = self.home.unwrap_or_else(|| {
            let hosts = self.cluster.hosts();
            hosts[self.rng.below(hosts.len() as u64) as usize]
        });
        let address = format!("{host}:6379");
        let stream = tokio::select! {
            biased;
            stream = self.env.net.connect(&address) => stream.ok(),
            () = self.env.clock.sleep(PATIENCE) => None,
        };
        if stream.is_none() {
            self.cluster.tally(|tally| tally.unconnected += 1);
            self.env.clock.sleep(Duration::from_millis(50 + self.rng.next_u64() % 50)).await;
        }
        let account = self.cluster.ledger().open(host, self.caller.address());
        stream.map(|stream| Connection { host, stream, received: BytesMut::new(), account })
    }
}

/// What comes next on a connection; nothing if it broke.
pub async fn receive(stream: &mut BoxStream, received: &mut BytesMut) -> Option<BytesFrame> {
    loop {
        let decoded = decode_bytes_mut(received).expect("a node speaks RESP");
        if let Some((frame, _, _)) = decoded {
            return Some(frame);
        }
        match stream.read_buf(received).await {
            Ok(0) | Err(_) => return None,
            Ok(_) => {}
        }
    }
}

/// How an operator is told that it cannot be now.
const REFUSALS: [&str; 5] = [
    "ERR FAILOVER",
    "ERR Can't forget my master!",
    "ERR I tried hard but I can't forget myself...",
    "ERR Unknown node",
    "ERR Without this node",
];

fn interpret(frame: BytesFrame) -> Answer {
    match &frame {
        BytesFrame::Error(text) => match text.split(' ').next() {
            Some("CLUSTERDOWN" | "TRYAGAIN" | "DISKFULL" | "EXECABORT") => Answer::NotApplied,
            Some("UNKNOWN") => Answer::Unknown,
            _ if REFUSALS.iter().any(|refusal| text.starts_with(refusal)) => Answer::NotApplied,
            _ => panic!("an error that nothing here provokes: {text}"),
        },
        _ => Answer::Reply(frame),
    }
}
