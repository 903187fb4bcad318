//! From requests to replies: which lane a command takes, and how a pipeline stays in order.
//!
//! The requests of a pipeline are taken in *runs*. Writes that stand together are proposed together; reads
//! that stand together share one read barrier; everything else runs by itself, between them. So a pipeline of
//! a hundred SETs is one round of consensus, and a reply never overtakes the one before it.
//!
//! A read that came in one piece with writes before it needs no barrier of its own: its writes were committed
//! after it had arrived, so everything acknowledged before it began stands before them in the log.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::block::Waited;
use super::outbox::Queue;
use crate::commands::server::{Said, monitor};
use crate::commands::{self, Answer, Args, Command, Flags, Host, Lane, Look, Resolved, Resolver, gate};
use crate::env::Exit;
use crate::env::observer::{Sight, Source};
use crate::error::{ClientError, Failure, Result, text};
use crate::machine::entry::GroupBuilder;
use crate::metrics::{Outcome, Tally};
use crate::node::{Answers, Barrier, Contributor, Node};
use crate::resp::{Reply, encode};
use crate::session::{Blocked, Request, Session, Unblock};
use crate::store::View;
use crate::types::Ahead;

/// Once so much is waiting to be written, it is written before more is made.
pub const OUTPUT_BYTES: usize = 1 << 20;

/// Serves one connection's requests.
pub struct Dispatcher {
    pub(super) node: Arc<Node>,
    pub session: Session,
    pub(super) outbox: Arc<Queue>,
    /// This connection, to those who gather writes, and reads.
    writes: Contributor,
    pub(super) reads: Arc<Contributor>,
    names: Resolver,
    run: Run,
    /// What this piece's own writes, once answered, allow its later reads to rely on.
    fresh: Option<Barrier>,
    pub(super) began: Duration,
    tally: Tally,
    /// Where the next reply comes from, for whoever looks on.
    pub(super) source: Option<Source>,
}

/// Requests that are served together.
#[derive(Default)]
enum Run {
    #[default]
    Nothing,
    Writes(Vec<Item>),
    Reads(Vec<Item>),
}

pub(super) struct Item {
    pub(super) resolved: Resolved,
    pub(super) argv: Vec<Bytes>,
    pub(super) db: u8,
    /// Whether the client is remembered with what this reads.
    pub(super) keeps_copies: bool,
}

impl Item {
    pub(super) fn args(&self) -> Args<'_> {
        Args::new(&self.argv, self.resolved.skip, self.db)
    }

    /// Its words, for the slow log.
    pub(super) fn said(&self) -> Said<'_> {
        Said::from(&self.argv[..])
    }
}

/// Where a finished piece of output goes before more is made.
pub trait Sink {
    /// Writes all of `out` and empties it. `false` when the connection is gone.
    async fn flush(&mut self, out: &mut BytesMut) -> bool;
    /// Ends when the client has hung up; what it sends meanwhile is kept for later.
    async fn gone(&mut self);
}

impl Dispatcher {
    #[must_use]
    pub fn new(node: Arc<Node>, session: Session, outbox: Arc<Queue>) -> Self {
        Self {
            node,
            outbox,
            writes: Contributor::of(session.id()),
            reads: Arc::new(Contributor::of(session.id())),
            session,
            names: Resolver::default(),
            run: Run::Nothing,
            fresh: None,
            began: Duration::ZERO,
            tally: Tally::default(),
            source: None,
        }
    }

    /// Serves requests that came in one piece; the replies are in `out`, or were flushed. `false` when
    /// the connection is gone.
    pub async fn serve(
        &mut self,
        requests: impl Iterator<Item = Vec<Bytes>>,
        out: &mut BytesMut,
        sink: &mut impl Sink,
    ) -> bool {
        self.fresh = None;
        self.began = self.node.env().clock.monotonic();
        for argv in requests {
            if !self.request(argv, out, sink).await {
                self.settle();
                return false;
            }
            if self.session.close {
                break;
            }
        }
        self.finish_run(out, sink).await
    }

    async fn request(&mut self, argv: Vec<Bytes>, out: &mut BytesMut, sink: &mut impl Sink) -> bool {
        let admitted = self.admit(&argv);
        let resolved = match admitted {
            Ok(resolved) => resolved,
            Err((command, error)) => {
                if !self.finish_run(out, sink).await {
                    return false;
                }
                if let Some(command) = command {
                    self.record(command, Duration::ZERO, Outcome::Rejected);
                }
                let reply = gate::reject(&mut self.session, &argv, error);
                self.reply(&reply, &[], out);
                return true;
            }
        };
        // Any pause is one for writes.
        if self.node.is_paused(true) {
            let writes = self.node.may_write(resolved.command, &argv, &self.session);
            if self.node.is_paused(writes)
                && !(self.finish_run(out, sink).await && self.wait_for_pause(writes, out, sink).await)
            {
                return false;
            }
        }
        let keeps_copies = self.session.keeps_copies();
        let item = Item { resolved, argv, db: self.session.db(), keeps_copies };
        if gate::queues(resolved.command, &self.session) {
            if !self.finish_run(out, sink).await {
                return false;
            }
            let reply = self.session.queue(item.argv);
            self.reply(&reply, &[], out);
            return true;
        }
        if matches!(resolved.command.lane, Lane::Write(_) | Lane::Read(_)) {
            self.show(resolved.command, &item.argv, item.db);
        }
        if let Some(waits) = resolved.command.waits {
            if !self.finish_run(out, sink).await {
                return false;
            }
            let patience = waits(&mut item.args());
            let reply = match patience {
                Ok(patience) => self.wait_for(&item, patience, out, sink).await,
                Err(failure) => Some(self.failed(failure)),
            };
            let Some(reply) = reply else { return false };
            self.finish(item.resolved.command, &item.said(), self.took(), &reply, &[], out);
            return true;
        }
        if matches!(resolved.command.lane, Lane::Write(_) | Lane::Read(_)) {
            self.session.end_caching();
        }
        match (resolved.command.lane, &mut self.run) {
            (Lane::Write(_), Run::Writes(items)) | (Lane::Read(_), Run::Reads(items)) => items.push(item),
            (Lane::Write(_), _) => {
                let going = self.finish_run(out, sink).await;
                self.run = Run::Writes(vec![item]);
                return going;
            }
            (Lane::Read(_), _) => {
                let going = self.finish_run(out, sink).await;
                self.run = Run::Reads(vec![item]);
                return going;
            }
            (Lane::Session(_) | Lane::Node(_), _) => {
                if !self.finish_run(out, sink).await {
                    return false;
                }
                let Some(reply) = self.run_here(&item, out, sink).await else { return false };
                if item.resolved.command.spec.parent() != Some("CLIENT") {
                    self.session.end_caching();
                }
                self.finish(item.resolved.command, &item.said(), self.took(), &reply, &[], out);
                // Behind the reply, for one that monitors itself.
                self.show(item.resolved.command, &item.argv, self.session.db());
            }
        }
        true
    }

    /// What a request is, if it may run now.
    fn admit(
        &mut self,
        argv: &[Bytes],
    ) -> std::result::Result<Resolved, (Option<&'static Command>, ClientError)> {
        let resolved = self.names.resolve(argv).map_err(|error| (commands::find(&argv[0]), error))?;
        let command = resolved.command;
        self.session.begin(self.began, command.spec.name, argv);
        let settings = self.node.settings();
        let rules = gate::Rules { password: settings.asks_password(), debug: settings.debug_clients() };
        if let Some(error) = gate::refuse(command, &self.session, rules) {
            return Err((Some(command), error));
        }
        if gate::redirects(command, &self.session)
            && let Some(error) = self.node.elsewhere()
        {
            return Err((Some(command), error));
        }
        if let Some(error) = gate::lacks_room(command, argv, &self.session, || self.node.shortage()) {
            return Err((Some(command), error));
        }
        Ok(resolved)
    }

    /// Serves what stands together so far. Behind it others see this connection as it is, and all that it did is counted.
    async fn finish_run(&mut self, out: &mut BytesMut, sink: &mut impl Sink) -> bool {
        self.session.show_begun();
        let going = match std::mem::take(&mut self.run) {
            Run::Nothing => true,
            Run::Writes(items) => self.write(items, out, sink).await,
            Run::Reads(items) => self.read(&items, out, sink).await,
        };
        self.settle();
        going && (out.len() < OUTPUT_BYTES || sink.flush(out).await)
    }

    async fn write(&mut self, items: Vec<Item>, out: &mut BytesMut, sink: &mut impl Sink) -> bool {
        // What cannot be parsed is answered here, and the others go without it.
        let checks =
            items.iter().map(|item| (item.resolved.command.check)(&mut item.args())).collect::<Vec<_>>();
        let held = self.hold(&items);
        let submitted = checks.iter().any(Result::is_ok).then(|| {
            self.node.submit(&self.writes, |group| {
                for (item, _) in items.iter().zip(&checks).filter(|(_, check)| check.is_ok()) {
                    group.push_plain(item.db, &item.argv);
                }
            })
        });
        // The group has its own copy of the arguments: large ones are not kept twice while it is on its way.
        let ran = items.into_iter().map(|item| (item.resolved.command, Said::by(item.argv)));
        let ran = ran.collect::<Vec<_>>();
        let answers = match submitted {
            Some(Ok(receiver)) => Some(receiver.await.unwrap_or(Err(text::UNKNOWN_OUTCOME))),
            Some(Err(error)) => Some(Err(error)),
            None => None,
        };
        self.release(&held);
        let mut took = self.took();
        if let Some(Ok(answers)) = &answers {
            self.fresh = Some(self.node.own_writes_barrier(answers));
        }
        let mut next = 0;
        for ((command, said), check) in ran.iter().zip(checks) {
            match (check, &answers) {
                (Err(failure), _) => {
                    let reply = self.failed(failure);
                    self.finish(command, said, took, &reply, &[], out);
                }
                (Ok(()), Some(Ok(answers))) => {
                    if let Some(called) = answers.called(next) {
                        self.tell(called);
                        if !self.keep_back(called.slept, out, sink).await {
                            return false;
                        }
                        took = self.took();
                    }
                    self.source = self.node.source_of(answers, next);
                    self.finish(command, said, took, &answers.replies()[next], answers.receivers(), out);
                    next += 1;
                }
                (Ok(()), Some(Err(error))) => {
                    self.finish(command, said, took, &error.clone().into(), &[], out);
                }
                (Ok(()), None) => unreachable!("a valid command was submitted"),
            }
        }
        true
    }

    async fn read(&mut self, items: &[Item], out: &mut BytesMut, sink: &mut impl Sink) -> bool {
        let barrier = match self.fresh {
            Some(barrier) => Ok(barrier),
            None => self.node.barrier(&self.reads).await,
        };
        match barrier {
            Ok(barrier) => {
                let mut rest = items;
                while !rest.is_empty() {
                    let node = Arc::clone(&self.node);
                    let read = node.read(barrier, |view| {
                        (
                            self.read_some(rest, view),
                            view.take_called().unwrap_or_default(),
                            self.node.source_here(),
                        )
                    });
                    let (replies, source) = match read.await {
                        Ok((replies, called, source)) => {
                            self.tell(&called);
                            if !self.keep_back(called.slept, out, sink).await {
                                return false;
                            }
                            (replies, source)
                        }
                        Err(error) => (vec![error.into(); rest.len()], None),
                    };
                    let (served, left) = rest.split_at(replies.len());
                    let took = self.took();
                    for (item, reply) in served.iter().zip(&replies) {
                        self.source = source;
                        self.finish(item.resolved.command, &item.said(), took, reply, &[], out);
                    }
                    rest = left;
                    if out.len() >= OUTPUT_BYTES && !sink.flush(out).await {
                        return false;
                    }
                }
            }
            Err(error) => {
                let took = self.took();
                for item in items {
                    self.finish(item.resolved.command, &item.said(), took, &error.clone().into(), &[], out);
                }
            }
        }
        true
    }

    /// Replies to the first of `items`, and to as many more as are not too large together.
    fn read_some(&self, items: &[Item], view: &View) -> Vec<Reply> {
        let mut replies = Vec::with_capacity(items.len().min(128));
        let mut bytes = 0;
        let mut ahead = Ahead::default();
        let mut items = items.iter().map(Ok::<_, Infallible>);
        while let Ok(Some(item)) = ahead.next(view, &mut items, |item| Some((item.db, item.argv.get(1)?))) {
            let reply = self.read_one(item, view);
            bytes += size(&reply);
            replies.push(reply);
            if bytes >= OUTPUT_BYTES {
                break;
            }
        }
        replies
    }

    pub(super) fn read_one(&self, item: &Item, view: &View) -> Reply {
        let Lane::Read(execute) = item.resolved.command.lane else {
            unreachable!("only reads are collected for reading");
        };
        view.set_noting_uses(!self.session.no_touch() || item.resolved.command.spec.name == "TOUCH");
        let reply = execute(&mut item.args(), view);
        self.remember(item, view);
        reply.unwrap_or_else(|failure| self.failed(failure))
    }

    /// A command about this connection or this node. `None` when the connection is gone.
    async fn run_here(&mut self, item: &Item, out: &mut BytesMut, sink: &mut impl Sink) -> Option<Reply> {
        let reply = match item.resolved.command.lane {
            Lane::Session(execute) => {
                let reply = execute(&mut item.args(), &mut self.session);
                match self.session.request.take() {
                    Some(Request::Watch(keys)) => self.watch(&keys).await,
                    Some(Request::Exec) => return self.exec(out, sink).await,
                    None => reply.unwrap_or_else(|failure| self.failed(failure)),
                }
            }
            Lane::Node(execute) => {
                let answer = execute(&mut item.args(), &mut self.session, &*self.node);
                return self.await_answer(answer, out, sink).await;
            }
            Lane::Write(_) | Lane::Read(_) => unreachable!("these have lanes of their own"),
        };
        Some(reply)
    }

    async fn await_answer(
        &mut self,
        answer: Result<Answer>,
        out: &mut BytesMut,
        sink: &mut impl Sink,
    ) -> Option<Reply> {
        let reply = match answer {
            Ok(Answer::Replicas { wanted, timeout }) => {
                let (node, reads) = (Arc::clone(&self.node), Arc::clone(&self.reads));
                let enough = async move { node.replicas(&reads, wanted, timeout).await };
                match self.wait(Blocked::Command, enough, out, sink).await {
                    Waited::Done(have) => Reply::Int(have),
                    Waited::Unblocked(Unblock::Timeout) => {
                        Reply::Int(self.node.replicas(&self.reads, 0, Duration::ZERO).await)
                    }
                    Waited::Unblocked(Unblock::Error) => text::UNBLOCKED.into(),
                    Waited::Gone => return None,
                }
            }
            answer => return self.answer(answer, out, sink).await,
        };
        Some(reply)
    }

    /// The reply where nobody else is waited for, as in a transaction. `None` when the connection is gone.
    pub(super) async fn answer(
        &mut self,
        answer: Result<Answer>,
        out: &mut BytesMut,
        sink: &mut impl Sink,
    ) -> Option<Reply> {
        Some(match answer {
            Ok(Answer::Now(reply)) => reply,
            Ok(Answer::After(pause, reply)) => {
                if !self.keep_back(pause, out, sink).await {
                    return None;
                }
                reply
            }
            Ok(Answer::Checkpoint(reply)) => {
                self.node.checkpoint().await;
                reply
            }
            Ok(Answer::Digest(what)) => {
                let digest = self.node.digest(&self.reads, what).await;
                digest.unwrap_or_else(|failure| self.failed(failure))
            }
            Ok(Answer::Look(look)) => match self.look(&look).await {
                Ok(Ok(reply)) => reply,
                Ok(Err(failure)) => self.failed(failure),
                Err(error) => error.into(),
            },
            Ok(Answer::Forget(node)) => self.node.forget(node).await.map_or_else(Reply::from, |()| Reply::Ok),
            Ok(Answer::Populate(keys)) => self.populate(&keys).await.map_or_else(Reply::from, |()| Reply::Ok),
            Ok(Answer::Replicas { .. }) => Reply::Int(self.node.acknowledging()),
            Ok(Answer::Logged { argv, then }) => self.log(&argv, &then).await,
            Err(failure) => self.failed(failure),
        })
    }

    async fn look(&self, look: &Look) -> std::result::Result<Result<Reply>, ClientError> {
        let barrier = self.node.barrier(&self.reads).await?;
        self.node.read(barrier, look).await
    }

    /// The cluster's part of a command, and behind it this node's.
    async fn log(&mut self, argv: &[Bytes], then: &[(Bytes, Bytes)]) -> Reply {
        let db = self.session.db();
        match self.propose(|group| group.push_plain(db, argv)).await {
            Ok(answers) if answers.replies().iter().any(Reply::is_error) => answers.replies()[0].clone(),
            Ok(_) => self.node.config_set(then).map_or_else(Reply::from, |()| Reply::Ok),
            Err(error) => error.into(),
        }
    }

    /// Proposes what `fill` adds, and waits for the answers; what comes behind them in this piece may rely on them.
    pub(super) async fn propose(
        &mut self,
        fill: impl FnOnce(&mut GroupBuilder),
    ) -> std::result::Result<Answers, ClientError> {
        let receiver = self.node.submit(&self.writes, fill)?;
        let answers = receiver.await.unwrap_or(Err(text::UNKNOWN_OUTCOME))?;
        self.fresh = Some(self.node.own_writes_barrier(&answers));
        self.source = self.node.source_of(&answers, 0);
        Ok(answers)
    }

    /// What a failed command answers. A failed store answers nothing: the node stops.
    pub(super) fn failed(&self, failure: Failure) -> Reply {
        match failure {
            Failure::Client(error) => error.into(),
            Failure::Store(error) => {
                tracing::error!(%error, "the state cannot be read");
                self.node.env().spawner.exit(Exit::StoreFailed)
            }
        }
    }

    /// A command has run: its figures, and its reply. How long it took includes the wait for its round, and is asked for
    /// once for all that ran in it.
    fn finish(
        &mut self,
        command: &'static Command,
        said: &Said,
        took: Duration,
        reply: &Reply,
        receivers: &[i64],
        out: &mut BytesMut,
    ) {
        self.note_slow(command, said, took);
        self.node.record_latency(command.spec.flags.has(Flags::FAST), took);
        let outcome = if reply.is_error() { Outcome::Failed } else { Outcome::Done };
        self.record(command, took, outcome);
        self.reply(reply, receivers, out);
    }

    /// Shows a command to those who monitor.
    pub(super) fn show(&self, command: &Command, argv: &[Bytes], db: u8) {
        let registry = self.session.registry();
        if registry.is_monitored() && monitor::shows(command) {
            let wall_ms = self.node.env().clock.wall_ms();
            registry.show(&monitor::line(wall_ms, db, self.session.client().address(), argv));
        }
    }

    pub(super) fn took(&self) -> Duration {
        self.node.env().clock.monotonic().saturating_sub(self.began)
    }

    pub(super) fn note_slow(&self, command: &'static Command, said: &Said, took: Duration) {
        if self.node.settings().slowlog_threshold().is_some_and(|slow| took >= slow)
            && !command.spec.flags.has(Flags::SKIP_SLOWLOG)
        {
            self.node.record_slow(said, took, self.session.client());
        }
    }

    fn record(&mut self, command: &'static Command, took: Duration, outcome: Outcome) {
        self.node.metrics().commands.tally(&mut self.tally, command.index, took, outcome);
    }

    fn settle(&mut self) {
        self.node.metrics().commands.settle(&mut self.tally);
    }

    /// Encodes a reply, behind what has been pushed to this connection meanwhile (see
    /// [`Outbox`](crate::session::Outbox)).
    fn reply(&mut self, reply: &Reply, receivers: &[i64], out: &mut BytesMut) {
        if let Reply::Error(error) = reply {
            self.node.count_error(error);
        }
        if let Some(source) = self.source.take() {
            let (address, number) = (self.session.client().address().to_owned(), self.session.replied);
            self.node.env().saw(|| Sight::Replied { address, number, source });
        }
        self.session.replied += 1;
        let first = self.session.take_subscribed();
        if !first {
            self.outbox.take(out);
        }
        if self.session.wants(reply) {
            match reply {
                Reply::Receivers(place) => {
                    encode(&Reply::Int(reached(receivers, *place)), self.session.protocol(), out);
                }
                reply => encode(reply, self.session.protocol(), out),
            }
        }
        if first {
            self.outbox.take(out);
        }
    }
}

pub(super) fn reached(receivers: &[i64], place: u32) -> i64 {
    receivers.get(place as usize).copied().unwrap_or(0)
}

/// About how large a reply is.
fn size(reply: &Reply) -> usize {
    match reply {
        Reply::Bulk(bytes)
        | Reply::Verbatim(bytes)
        | Reply::VerbatimAs(_, bytes)
        | Reply::BigNumber(bytes) => bytes.len() + 16,
        Reply::Array(replies) | Reply::Set(replies) => replies.iter().map(size).sum(),
        Reply::Map(pairs) => pairs.iter().map(|(key, value)| size(key) + size(value)).sum(),
        _ => 16,
    }
}
