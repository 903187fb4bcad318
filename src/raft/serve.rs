//! Answering other nodes.
//!
//! One port serves all kinds of links. Until this node is a member of a cluster only bootstrap questions
//! are answered; afterwards a caller must name our cluster and our id, or it is told what it got wrong.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use bytes::BytesMut;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use openraft::raft::{AppendEntriesRequest, TransferLeaderRequest, VoteRequest};
use tokio::sync::mpsc;

use super::link::{Link, Receiver};
use super::peers::Identity;
use super::types::Types;
use super::view::Heard;
use super::wire::{self, Hello, LinkKind, Request, Response};
use super::{Consensus, snapshot};
use crate::env::{Accepted, BoxFuture, Env, Listener, TaskHandle};
use crate::metrics::{Metrics, PeerRecorded};

/// Append requests read ahead of openraft.
const APPENDS_AHEAD: usize = 64;
/// How long what came on links that have ended may be on its way.
const LINKS_END: Duration = Duration::from_millis(500);
/// Answers that may be in the making on one control link.
const ANSWERS_MAX: usize = 4_096;

/// What the node above answers.
pub trait Service: Send + Sync {
    /// Answers a request of node `from` (0: of somebody who is not a member yet). Whatever must happen in
    /// the order of the requests happens before this returns; the future is only the answer.
    fn answer(&self, from: u64, request: Request) -> BoxFuture<'static, Response>;
}

/// The peer port of a node.
pub struct PeerServer {
    env: Env,
    phase: Arc<RwLock<Phase>>,
    accepting: TaskHandle,
}

/// What this node is to a caller.
enum Phase {
    /// Not a member yet: the service answers bootstrap questions only.
    Outside(Arc<dyn Service>),
    Member(Arc<Membership>),
}

/// What serving a member's links needs.
struct Membership {
    identity: Identity,
    consensus: Consensus,
    service: Arc<dyn Service>,
    scratch: PathBuf,
    /// Who was refused last, and why.
    refused: Mutex<Option<(u64, String)>>,
}

impl Membership {
    /// Logs a refusal, once: whoever is refused tries again at once, and for ever.
    fn note_refused(&self, from: u64, reason: &str) {
        let refused = Some((from, reason.to_owned()));
        let mut last = self.refused.lock().expect("no holder panics");
        if *last != refused {
            tracing::warn!(from, reason, "refused a peer");
            *last = refused;
        }
    }
}

impl PeerServer {
    /// Starts answering on `listener`; `outside` answers until [`PeerServer::attach`].
    #[must_use]
    pub fn start(env: &Env, listener: Box<dyn Listener>, outside: Arc<dyn Service>) -> Self {
        let phase = Arc::new(RwLock::new(Phase::Outside(outside)));
        let accepting = accept(env.clone(), listener, Arc::clone(&phase));
        let accepting = env.spawner.spawn(Box::pin(accepting));
        Self { env: env.clone(), phase, accepting }
    }

    /// From now on answers as a member. Received snapshots are written below `scratch`.
    pub fn attach(&self, consensus: Consensus, service: Arc<dyn Service>, scratch: PathBuf) {
        let identity = consensus.identity();
        let member = Membership { identity, consensus, service, scratch, refused: Mutex::default() };
        *self.phase.write().expect("no holder panics") = Phase::Member(Arc::new(member));
    }

    /// Ends all links, and waits until nothing that came on them is still on its way to consensus, which may then be
    /// stopped: openraft says at the level of errors that a message finds it stopped. A disk that hangs may keep one
    /// there; that is not waited for.
    pub async fn stop(self) {
        let Self { env, phase, accepting } = self;
        drop(accepting);
        let in_use = || match &*phase.read().expect("no holder panics") {
            Phase::Outside(_) => false,
            Phase::Member(member) => Arc::strong_count(member) > 1,
        };
        let give_up = env.clock.monotonic() + LINKS_END;
        while in_use() && env.clock.monotonic() < give_up {
            env.clock.sleep(Duration::from_millis(1)).await;
        }
    }

    /// The world this server lives in.
    #[must_use]
    pub fn env(&self) -> &Env {
        &self.env
    }
}

async fn accept(env: Env, listener: Box<dyn Listener>, phase: Arc<RwLock<Phase>>) {
    // Dropping a finished handle costs nothing; dropping them all with this task ends the links.
    let mut links: Vec<TaskHandle> = Vec::new();
    loop {
        match listener.accept().await {
            Ok(accepted) => {
                links.retain(|link| !link.is_finished());
                let (owned, serving) = (env.clone(), serve(env.clone(), accepted, Arc::clone(&phase)));
                links.push(env.spawner.spawn(Box::pin(async move { super::seeded(&owned, serving).await })));
            }
            Err(error) => {
                tracing::warn!(%error, "a peer connection could not be accepted");
                env.clock.sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve(env: Env, accepted: Accepted, phase: Arc<RwLock<Phase>>) {
    let peer = accepted.peer;
    if let Err(error) = serve_link(&env, accepted.stream, &phase).await
        && error.kind() != io::ErrorKind::UnexpectedEof
    {
        tracing::debug!(peer, %error, "a peer link ended");
    }
}

async fn serve_link(env: &Env, stream: crate::env::BoxStream, phase: &RwLock<Phase>) -> io::Result<()> {
    let (mut link, hello) = Link::accept(env, stream).await?;
    let (service, member) = match &*phase.read().expect("no holder panics") {
        Phase::Outside(service) => (Arc::clone(service), None),
        Phase::Member(member) => (Arc::clone(&member.service), Some(Arc::clone(member))),
    };
    if hello.kind == LinkKind::Bootstrap {
        link.welcome(&Ok(())).await?;
        return serve_control(link, 0, None, service).await;
    }
    let Some(member) = member else {
        return link.welcome(&Err("this node is not a member of a cluster yet".into())).await;
    };
    if let Err(reason) = check(&hello, member.identity) {
        member.note_refused(hello.from, &reason);
        return link.welcome(&Err(reason)).await;
    }
    link.welcome(&Ok(())).await?;
    match hello.kind {
        LinkKind::Append => serve_append(link, hello.from, &member, env).await,
        LinkKind::Control => serve_control(link, hello.from, Some(member), service).await,
        LinkKind::Snapshot => serve_snapshot(env, link, &member).await,
        LinkKind::Bootstrap => unreachable!("served above"),
    }
}

fn check(hello: &Hello, us: Identity) -> Result<(), String> {
    if hello.cluster != us.cluster {
        return Err(format!("this node belongs to cluster {:032x}, not {:032x}", us.cluster, hello.cluster));
    }
    if hello.to != us.node {
        return Err(format!("this is node {}, not node {}", us.node, hello.to));
    }
    Ok(())
}

/// Feeds a link's requests to openraft as they come, and writes its answers as they get ready.
async fn serve_append(link: Link, from: u64, member: &Arc<Membership>, env: &Env) -> io::Result<()> {
    let consensus = &member.consensus;
    let metrics = Arc::clone(consensus.peers().metrics());
    let figures = metrics.recorded.peer(from);
    let (receiver, mut sender) = link.split();
    let (requests, queue) = mpsc::channel(APPENDS_AHEAD);
    let heard = Arc::clone(consensus.heard());
    let reading = Reading { from, heard, figures, metrics };
    let _reading = env.spawner.spawn(Box::pin(reading.run(receiver, requests)));
    // What it reads from is openraft's own task, which is a part of this link, too.
    let input = futures_util::stream::unfold((queue, Arc::clone(member)), |(mut queue, member)| async move {
        queue.recv().await.map(|request| (request, (queue, member)))
    });
    let mut answers = std::pin::pin!(consensus.raft().stream_append(input).fuse());
    let mut out = BytesMut::new();
    while let Some(answer) = answers.next().await {
        let mut ended = put_answer(&mut out, answer)?;
        while !ended && let Some(Some(answer)) = answers.next().now_or_never() {
            ended = put_answer(&mut out, answer)?;
        }
        sender.send(&mut out).await?;
        if ended {
            // openraft ends its stream at a conflict or a higher vote; the leader connects again.
            break;
        }
    }
    Ok(())
}

fn put_answer(
    out: &mut BytesMut,
    answer: Result<openraft::raft::StreamAppendResult<Types>, openraft::errors::Fatal<Types>>,
) -> io::Result<bool> {
    let answer = answer.map_err(io::Error::other)?;
    wire::put_appended(out, &answer);
    Ok(answer.is_err())
}

/// What is told of the requests of an append link as they come.
struct Reading {
    from: u64,
    heard: Arc<Heard>,
    figures: Arc<PeerRecorded>,
    metrics: Arc<Metrics>,
}

impl Reading {
    /// Whatever ends this ends the stream, and with it the link.
    async fn run(self, mut receiver: Receiver, requests: mpsc::Sender<AppendEntriesRequest<Types>>) {
        while let Ok((wire::APPEND, body)) = receiver.receive().await {
            self.heard.note(self.from);
            self.figures.received_bytes.increment(body.len() as u64);
            self.metrics.hot.peer_input_bytes.fetch_add(body.len() as u64, Ordering::Relaxed);
            let Ok(request) = wire::take_append(&body) else { return };
            if requests.send(request).await.is_err() {
                return;
            }
        }
    }
}

/// Answers numbered requests, each when its answer is ready.
async fn serve_control(
    link: Link,
    from: u64,
    member: Option<Arc<Membership>>,
    service: Arc<dyn Service>,
) -> io::Result<()> {
    let (mut receiver, mut sender) = link.split();
    let mut answers = FuturesUnordered::new();
    let mut out = BytesMut::new();
    loop {
        tokio::select! {
            biased;
            Some((number, response)) = answers.next(), if !answers.is_empty() => {
                wire::put_response(&mut out, number, &response);
                while let Some(Some((number, response))) = answers.next().now_or_never() {
                    wire::put_response(&mut out, number, &response);
                }
                sender.send(&mut out).await?;
            }
            frame = receiver.receive(), if answers.len() < ANSWERS_MAX => {
                let (wire::REQUEST, body) = frame? else {
                    return Err(wire::Malformed("not a request").into());
                };
                let (number, request) = wire::take_request(&body)?;
                let answer = answer(from, request, member.as_deref(), &*service);
                answers.push(async move { (number, answer.await) });
            }
        }
    }
}

/// Votes are openraft's; the rest is the node's.
fn answer(
    from: u64,
    request: Request,
    member: Option<&Membership>,
    service: &dyn Service,
) -> BoxFuture<'static, Response> {
    let raft = member.map(|member| member.consensus.raft().clone());
    match (request, raft) {
        (Request::Vote { pre, vote, last, transfer }, Some(raft)) => Box::pin(async move {
            let mut rpc = VoteRequest::new(vote, last);
            rpc.leadership_transfer = transfer;
            let answered = if pre { raft.pre_vote(rpc).await } else { raft.vote(rpc).await };
            match answered {
                Ok(vote) => {
                    Response::Vote { vote: vote.vote, granted: vote.vote_granted, last: vote.last_log_id }
                }
                Err(error) => Response::Refused { reason: error.to_string() },
            }
        }),
        (Request::TransferLeader { from, to, last }, Some(raft)) => Box::pin(async move {
            match raft.handle_transfer_leader(TransferLeaderRequest::new(from, to, last)).await {
                Ok(Ok(())) => Response::Done,
                Ok(Err(error)) => Response::Refused { reason: error.to_string() },
                Err(error) => Response::Refused { reason: error.to_string() },
            }
        }),
        (Request::Confirm { vote }, Some(_)) => {
            let confirms = member.is_some_and(|member| member.consensus.confirms(&vote));
            let refused = || Response::Refused { reason: "not the last that was voted for".into() };
            Box::pin(std::future::ready(if confirms { Response::Done } else { refused() }))
        }
        (request, _) => service.answer(from, request),
    }
}

async fn serve_snapshot(env: &Env, mut link: Link, member: &Membership) -> io::Result<()> {
    let metrics = member.consensus.peers().metrics();
    let received = snapshot::receive(env, metrics, &mut link, &member.scratch).await;
    let (vote, snapshot) =
        received.inspect_err(|_| metrics.recorded.snapshot_receive_failures.increment(1))?;
    let installed = member.consensus.raft().install_full_snapshot(vote, snapshot).await;
    let answer = installed.map_err(io::Error::other)?;
    snapshot::acknowledge(&mut link, &answer.vote).await
}
