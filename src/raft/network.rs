//! openraft's calls to other nodes.
//!
//! Each [`PeerClient`] has a connection of its own for appends (openraft makes separate clients for
//! replication, heartbeats and snapshots, so a long append never delays a heartbeat). Votes and leader
//! transfers go over the shared control connection.
//!
//! Appends are pipelined: up to [`WINDOW`] requests are on their way at once, and answers come back in
//! order. Two rules keep that safe. A stream that is dropped with answers outstanding *poisons* its
//! connection, or the next stream would read a stale answer as its own. And every answer has a deadline: a
//! follower that hangs without an error would otherwise hold back the purge of the log for ever.
//!
//! That entries are committed is a request of its own when there are none to send. While there is traffic the next entries
//! come before anybody asks, so such a notice waits a moment for them: half of all messages between nodes would be notices.
//! A follower whose own clients wait for it is told at once.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::BytesMut;
use futures_util::{Stream, StreamExt};
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{Backoff, RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendError, StreamAppendResult,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{AnyError, EntryPayload, OptionalSend, alias};

use super::link::Link;
use super::peers::Peers;
use super::snapshot::{self, SnapshotData};
use super::types::{Entry, LogId, Member, Types, Vote};
use super::wire::{self, Hello, LinkKind, Request, Response};
use crate::machine::entry;
use crate::metrics::PeerRecorded;

/// Append requests on their way to one follower.
const WINDOW: usize = 32;
/// How long a follower may take to answer an append; its disk is in that time.
const APPEND_DEADLINE: Duration = Duration::from_secs(5);
/// How long a notice waits for entries.
const NOTICE_DELAY: Duration = Duration::from_millis(1);
/// How long a vote or a transfer may take.
const CONTROL_DEADLINE: Duration = Duration::from_millis(500);

type Snapshot = alias::SnapshotOf<Types, SnapshotData>;

/// Makes clients.
pub struct Network {
    pub peers: Peers,
}

impl RaftNetworkFactory<Types> for Network {
    type Network = PeerClient;

    async fn new_client(&mut self, target: u64, node: &Member) -> PeerClient {
        let figures = self.peers.metrics().recorded.peer(target);
        let address = node.peer_address.clone().into();
        let peers = self.peers.clone();
        PeerClient { peers, figures, target, address, heartbeat: false, failing: false, link: None }
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &Member) -> PeerClient {
        PeerClient { heartbeat: true, ..self.new_client(target, node).await }
    }
}

/// A client of one other node.
pub struct PeerClient {
    peers: Peers,
    figures: Arc<PeerRecorded>,
    target: u64,
    address: Arc<str>,
    heartbeat: bool,
    /// The last attempt to reach the other node failed, which was logged.
    failing: bool,
    /// The append connection, while it is known to be in step.
    link: Option<Link>,
}

impl PeerClient {
    fn count_failure(&self) {
        self.figures.sent_failures.increment(1);
        if self.heartbeat {
            self.peers.metrics().recorded.heartbeat_send_failures.increment(1);
        }
    }

    /// Logs when the other node begins or ceases to be reachable: openraft would at each attempt.
    fn note_reached(&mut self, reached: io::Result<()>) {
        let (node, address) = (self.target, &*self.address);
        match reached {
            // Heartbeats go on when there is nothing to append, and have a connection of their own.
            _ if !self.heartbeat => return,
            Ok(()) if self.failing => tracing::info!(node, address, "a node is reachable again"),
            Err(error) if !self.failing => tracing::warn!(node, address, %error, "a node cannot be reached"),
            _ => return,
        }
        self.failing = !self.failing;
    }

    fn hello(&self, kind: LinkKind) -> Hello {
        let identity = self.peers.identity();
        Hello { kind, cluster: identity.cluster, from: identity.node, to: self.target }
    }

    async fn control(&self, request: Request) -> Result<Response, RPCError<Types>> {
        self.peers
            .ask(self.target, &self.address, request, CONTROL_DEADLINE)
            .await
            .map_err(|error| RPCError::Unreachable(Unreachable::new(&error)))
    }

    async fn ask_vote(
        &self,
        pre: bool,
        rpc: VoteRequest<Types>,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let request =
            Request::Vote { pre, vote: rpc.vote, last: rpc.last_log_id, transfer: rpc.leadership_transfer };
        match self.control(request).await? {
            Response::Vote { vote, granted, last } => Ok(VoteResponse::new(vote, last, granted)),
            other => Err(unexpected(&other)),
        }
    }
}

fn unexpected(response: &Response) -> RPCError<Types> {
    RPCError::Network(NetworkError::new(&AnyError::error(format!("an unexpected answer: {response:?}"))))
}

impl RaftNetworkV2<Types> for PeerClient {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        let input = futures_util::stream::iter([rpc]);
        let mut answers = self.stream_append(input, option).await?;
        match answers.next().await {
            Some(answer) => Ok(answer?.into()),
            None => Err(RPCError::Network(NetworkError::new(&io::Error::from(io::ErrorKind::UnexpectedEof)))),
        }
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        _option: RPCOption,
    ) -> BoxFuture<
        's,
        Result<BoxStream<'s, Result<StreamAppendResult<Types>, RPCError<Types>>>, RPCError<Types>>,
    >
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + OptionalSend + Unpin + 'static,
    {
        let appending = Appending {
            client: self,
            link: None,
            input: Some(input),
            sent: VecDeque::new(),
            last: None,
            told: None,
            wanted: None,
            notice: None,
            out: BytesMut::new(),
        };
        let answers = futures_util::stream::unfold(appending, |mut appending| async move {
            appending.next().await.map(|answer| (answer, appending))
        });
        let answers: BoxStream<'s, _> = Box::pin(answers);
        Box::pin(std::future::ready(Ok(answers)))
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<Types>,
        _option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.ask_vote(false, rpc).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<Types>,
        _option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.ask_vote(true, rpc).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let sending = async {
            let env = self.peers.env();
            let link = Link::connect(env, &self.address, self.hello(LinkKind::Snapshot)).await?;
            snapshot::send(&self.peers, link, vote, snapshot).await
        };
        tokio::select! {
            biased;
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = sending => match sent {
                Ok(vote) => Ok(SnapshotResponse::new(vote)),
                Err(error) => {
                    tracing::debug!(to = self.target, %error, "a snapshot was not delivered");
                    self.peers.metrics().recorded.snapshot_send_failures.increment(1);
                    Err(StreamingError::Unreachable(Unreachable::new(&error)))
                }
            },
        }
    }

    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<Types>,
        _option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        let request = Request::TransferLeader {
            from: *req.from_leader(),
            to: *req.to_node_id(),
            last: req.last_log_id().copied(),
        };
        match self.control(request).await? {
            Response::Done => Ok(Ok(())),
            other => Err(unexpected(&other)),
        }
    }

    fn backoff(&self) -> Option<Backoff> {
        Some(Backoff::new(std::iter::repeat(Duration::from_millis(100))))
    }
}

/// One pipelined stream of appends. Gives its connection back to the client when it ended in step.
struct Appending<'s, S> {
    client: &'s mut PeerClient,
    link: Option<Link>,
    input: Option<S>,
    /// What was sent and not answered: the ids that tell which answer is which.
    sent: VecDeque<Sent>,
    /// The last entry that was sent, and the last that was said to be committed.
    last: Option<LogId>,
    told: Option<LogId>,
    /// The last entry that the follower's own clients wait for.
    wanted: Option<LogId>,
    /// What is committed, to be said at this time unless entries come before.
    notice: Option<(Duration, AppendEntriesRequest<Types>)>,
    out: BytesMut,
}

struct Sent {
    at: Duration,
    last: Option<LogId>,
}

impl<S> Drop for Appending<'_, S> {
    fn drop(&mut self) {
        // With nothing outstanding the connection is in step and serves the next stream. Otherwise it
        // goes with this one.
        if self.sent.is_empty() {
            self.client.link = self.link.take();
        }
    }
}

impl<S> Appending<'_, S>
where
    S: Stream<Item = AppendEntriesRequest<Types>> + Unpin,
{
    /// The next answer; `None` when the input has ended and everything is answered, or after a failure.
    async fn next(&mut self) -> Option<Result<StreamAppendResult<Types>, RPCError<Types>>> {
        // Away while in use: whoever cancels this drops it.
        let mut link = match self.link.take().or_else(|| self.client.link.take()) {
            Some(link) => link,
            None => {
                // The request comes first: openraft's pause after a failure is in its stream of requests, and a
                // peer that refuses at once would be called in a loop without it.
                let request = next_request(&mut self.input).await?;
                match self.open(&request).await {
                    Ok(link) => {
                        self.client.note_reached(Ok(()));
                        link
                    }
                    Err(error) => {
                        self.client.count_failure();
                        self.end();
                        let unreachable = Unreachable::new(&error);
                        self.client.note_reached(Err(error));
                        return Some(Err(RPCError::Unreachable(unreachable)));
                    }
                }
            }
        };
        match self.exchange(&mut link).await {
            Ok(Some(answer)) => {
                if answer.is_ok() {
                    self.link = Some(link);
                } else {
                    self.end();
                }
                Some(Ok(answer))
            }
            Ok(None) => {
                self.link = Some(link);
                None
            }
            Err(error) => {
                self.client.figures.disconnects.increment(1);
                self.client.count_failure();
                self.end();
                Some(Err(RPCError::Network(NetworkError::new(&error))))
            }
        }
    }

    /// Nothing more is sent or expected.
    fn end(&mut self) {
        self.input = None;
        self.sent.clear();
    }

    async fn open(&mut self, first: &AppendEntriesRequest<Types>) -> io::Result<Link> {
        let hello = self.client.hello(LinkKind::Append);
        let mut link = Link::connect(self.client.peers.env(), &self.client.address, hello).await?;
        self.send(&mut link, first).await?;
        Ok(link)
    }

    async fn send(&mut self, link: &mut Link, request: &AppendEntriesRequest<Types>) -> io::Result<()> {
        let last = request.entries.last().map(|entry| entry.log_id).or(request.prev_log_id);
        let target = self.client.target;
        let wanted = request.entries.iter().rev().find(|entry| is_of(entry, target));
        self.wanted = wanted.map(|entry| entry.log_id).or(self.wanted);
        (self.last, self.told, self.notice) = (last, request.leader_commit, None);
        self.sent.push_back(Sent { at: self.client.peers.env().clock.monotonic(), last });
        wire::put_append(&mut self.out, request);
        let bytes = self.out.len() as u64;
        self.client.figures.sent_bytes.increment(bytes);
        self.client.peers.metrics().hot.peer_output_bytes.fetch_add(bytes, Ordering::Relaxed);
        link.send(&mut self.out).await
    }

    /// Whether a request says nothing but what is committed, and the follower's clients do not wait to hear it.
    fn can_wait(&self, request: &AppendEntriesRequest<Types>) -> bool {
        let is_notice = request.entries.is_empty() && self.last.is_some() && request.prev_log_id == self.last;
        is_notice && self.wanted <= self.told
    }

    async fn send_notice(&mut self, link: &mut Link) -> io::Result<()> {
        match self.notice.take() {
            Some((_, notice)) => self.send(link, &notice).await,
            None => Ok(()),
        }
    }

    /// Sends what comes and waits for one answer. Cancelling this drops the link with the stream.
    async fn exchange(&mut self, link: &mut Link) -> io::Result<Option<StreamAppendResult<Types>>> {
        let env = self.client.peers.env().clone();
        loop {
            if self.input.is_none() && self.sent.is_empty() {
                return Ok(None);
            }
            let room = self.sent.len() < WINDOW;
            let input = &mut self.input;
            tokio::select! {
                biased;
                frame = link.receive(), if !self.sent.is_empty() => {
                    let (wire::APPENDED, body) = frame? else {
                        return Err(wire::Malformed("not an append answer").into());
                    };
                    return self.answered(wire::take_appended(&body)?).map(Some);
                }
                request = next_request(input), if room && input.is_some() => match request {
                    Some(request) if self.can_wait(&request) => {
                        let due = self.notice.take().map(|(due, _)| due);
                        let due = due.unwrap_or_else(|| env.clock.monotonic() + NOTICE_DELAY);
                        self.notice = Some((due, request));
                    }
                    Some(request) => self.send(link, &request).await?,
                    None => {
                        self.input = None;
                        self.send_notice(link).await?;
                    }
                },
                () = until(&env, self.notice.as_ref().map(|(due, _)| *due)) => self.send_notice(link).await?,
                () = until(&env, self.sent.front().map(|oldest| oldest.at + APPEND_DEADLINE)) => {
                    return Err(io::ErrorKind::TimedOut.into());
                }
            }
        }
    }

    fn answered(&mut self, answer: StreamAppendResult<Types>) -> io::Result<StreamAppendResult<Types>> {
        let Some(sent) = self.sent.pop_front() else {
            return Err(wire::Malformed("an answer to nothing").into());
        };
        let elapsed = self.client.peers.env().clock.monotonic().saturating_sub(sent.at);
        self.client.figures.round_trip_seconds.record(elapsed);
        match answer {
            Ok(matched) if matched > sent.last => {
                Err(wire::Malformed("an answer beyond its question").into())
            }
            Err(StreamAppendError::Conflict(_) | StreamAppendError::HigherVote(_)) | Ok(_) => Ok(answer),
        }
    }
}

async fn next_request<S: Stream + Unpin>(input: &mut Option<S>) -> Option<S::Item> {
    match input {
        Some(input) => input.next().await,
        None => None,
    }
}

async fn until(env: &crate::env::Env, due: Option<Duration>) {
    match due {
        Some(due) => env.clock.sleep(due.saturating_sub(env.clock.monotonic())).await,
        None => std::future::pending().await,
    }
}

/// Whether an entry holds something that a node's own clients have asked for.
fn is_of(entry: &Entry, node: u64) -> bool {
    let EntryPayload::Normal(body) = &entry.payload else { return false };
    let Ok(mut groups) = entry::Entry::decode(&body.0) else { return false };
    std::iter::from_fn(|| groups.next_group().ok().flatten()).any(|(group, _)| group.node == node)
}
