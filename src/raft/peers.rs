//! Questions to other nodes, over one control connection each.
//!
//! Requests carry a number and answers may come in any order, so that a slow one holds up nobody. A
//! connection that breaks fails every question it had open: whether the other side acted on them is then
//! unknown, and it is for the asker to know what that means.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::BytesMut;
use tokio::sync::{mpsc, oneshot};

use super::link::{Link, Receiver, within};
use super::wire::{self, Hello, LinkKind, Request, Response};
use crate::env::{Env, TaskHandle};
use crate::metrics::Metrics;

/// Requests that may wait for the connection to take them.
const QUEUE: usize = 1_024;

/// This node, as the others know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    pub cluster: u128,
    pub node: u64,
}

/// The control connections of this node. Cheap to clone.
#[derive(Clone)]
pub struct Peers {
    inner: Arc<Inner>,
}

struct Inner {
    env: Env,
    identity: Identity,
    metrics: Arc<Metrics>,
    connections: Mutex<BTreeMap<u64, Connection>>,
}

struct Connection {
    address: String,
    questions: mpsc::Sender<Question>,
    _task: TaskHandle,
}

struct Question {
    request: Request,
    answer: oneshot::Sender<Response>,
}

impl Peers {
    #[must_use]
    pub fn new(env: Env, identity: Identity, metrics: Arc<Metrics>) -> Self {
        Self { inner: Arc::new(Inner { env, identity, metrics, connections: Mutex::default() }) }
    }

    /// Who this node is.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.inner.identity
    }

    /// The world this node lives in.
    #[must_use]
    pub fn env(&self) -> &Env {
        &self.inner.env
    }

    /// This node's figures.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.inner.metrics
    }

    /// Asks `node`, which listens at `address`, and waits for the answer.
    ///
    /// # Errors
    /// `TimedOut` after `limit`, or when the connection cannot be made or breaks. Unless it was
    /// `NotConnected`, the other side may have received the request.
    pub async fn ask(
        &self,
        node: u64,
        address: &str,
        request: Request,
        limit: Duration,
    ) -> io::Result<Response> {
        let answer = self.post(node, address, request)?;
        let wait = async { answer.await.map_err(|_| io::ErrorKind::ConnectionAborted.into()) };
        within(&self.inner.env, limit, wait).await
    }

    /// Hands a request to the connection, after those handed to it before, and returns where its answer
    /// will come; the sender of that is dropped when the connection breaks.
    ///
    /// # Errors
    /// `WouldBlock` when too many wait already: certainly not sent.
    pub fn post(
        &self,
        node: u64,
        address: &str,
        request: Request,
    ) -> io::Result<oneshot::Receiver<Response>> {
        let (sender, receiver) = oneshot::channel();
        let mut connections = self.inner.connections.lock().expect("no holder panics");
        let usable = connections
            .get(&node)
            .is_some_and(|connection| connection.address == address && !connection.questions.is_closed());
        if !usable {
            connections.insert(node, self.open(node, address));
        }
        let connection = connections.get(&node).expect("just inserted");
        match connection.questions.try_send(Question { request, answer: sender }) {
            Ok(()) => Ok(receiver),
            Err(_) => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn open(&self, node: u64, address: &str) -> Connection {
        let (questions, queue) = mpsc::channel(QUEUE);
        let hello = Hello {
            kind: LinkKind::Control,
            cluster: self.inner.identity.cluster,
            from: self.inner.identity.node,
            to: node,
        };
        let (env, to) = (self.inner.env.clone(), address.to_owned());
        let task = self.inner.env.spawner.spawn(Box::pin(async move {
            match Link::connect(&env, &to, hello).await {
                Ok(link) => {
                    if let Err(error) = converse(link, queue).await {
                        tracing::debug!(node, address = to, %error, "control link broke");
                    }
                }
                Err(error) => tracing::debug!(node, address = to, %error, "no control link"),
            }
        }));
        Connection { address: address.to_owned(), questions, _task: task }
    }
}

/// Asks one question on a connection of its own, before there is a cluster.
///
/// # Errors
/// When the connection cannot be made, breaks, or does not answer within `limit`.
pub async fn ask_stranger(
    env: &Env,
    address: &str,
    request: &Request,
    limit: Duration,
) -> io::Result<Response> {
    let hello = Hello { kind: LinkKind::Bootstrap, cluster: 0, from: 0, to: 0 };
    let conversation = async {
        let mut link = Link::connect(env, address, hello).await?;
        let mut out = BytesMut::new();
        wire::put_request(&mut out, 0, request);
        link.send(&mut out).await?;
        let (_, body) = link.receive().await?;
        Ok(wire::take_response(&body)?.1)
    };
    within(env, limit, conversation).await
}

/// Sends questions as they come, and gives the answers back by number, until the connection breaks or
/// nobody can ask any more.
async fn converse(link: Link, mut queue: mpsc::Receiver<Question>) -> io::Result<()> {
    let (mut receiver, mut sender) = link.split();
    let mut open = BTreeMap::new();
    let mut next = 0;
    let mut out = BytesMut::new();
    loop {
        tokio::select! {
            biased;
            answer = next_answer(&mut receiver) => {
                let (number, response) = answer?;
                if let Some(asker) = open.remove(&number) {
                    // The asker may have stopped waiting.
                    drop(oneshot::Sender::send(asker, response));
                }
            }
            question = queue.recv() => {
                let Some(first) = question else { return Ok(()) };
                let mut question = Some(first);
                while let Some(Question { request, answer }) = question {
                    next += 1;
                    wire::put_request(&mut out, next, &request);
                    open.insert(next, answer);
                    question = queue.try_recv().ok();
                }
                sender.send(&mut out).await?;
            }
        }
    }
}

async fn next_answer(receiver: &mut Receiver) -> io::Result<(u64, Response)> {
    match receiver.receive().await? {
        (wire::RESPONSE, body) => Ok(wire::take_response(&body)?),
        _ => Err(wire::Malformed("not a response").into()),
    }
}
