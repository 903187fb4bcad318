//! This node's own writes: from its connections to the log, and the answers back.
//!
//! Everything waiting becomes one group. A group is sealed with a number, sent to the leader (this node or
//! another: there is one way), and kept until this node itself has applied it. The answers come from that,
//! not from the leader: so a client reads its own writes on its own node, and a reply never travels.
//!
//! When the leader changes, or says that it did not take a group, all unanswered groups are sent again, in
//! order. The machine drops what it has already applied, so a client sees a change of leaders as latency.
//! Only a client that waited longer than the request timeout gets an error, and which one depends on
//! whether its group ever left this node: if not, the command was certainly not applied.
//!
//! One group is on its way at a time, or two if the next is already large: a second round pays only when it
//! carries much (see [`super::gather`]).

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::{Notify, oneshot, watch};

use super::gather::{self, Contributor, Gather};
use super::lead::Lead;
use crate::env::Env;
use crate::error::{ClientError, text};
use crate::machine::entry::GroupBuilder;
use crate::machine::{Calls, Outcome};
use crate::mutants::{Mutant, planted};
use crate::raft::wire::{Request, Response};
use crate::raft::{Identity, Peers, View};
use crate::resp::Reply;
use crate::store::{Author, Called};

/// A group takes no further command once it is this large.
const GROUP_BYTES: usize = 1 << 20;
/// Unanswered groups at most.
const WINDOW: usize = 2;
/// A second group is sent only when it is as large as this.
const SECOND_GROUP_BYTES: usize = 32 << 10;
/// Bytes of commands that may wait; beyond, clients are told to come again.
const WAITING_BYTES_MAX: usize = 256 << 20;
/// After a refusal, how long until the groups are sent again.
const RETRY: Duration = Duration::from_millis(20);
/// How often waiting clients' time is checked, and a silent leader asked again.
const SWEEP: Duration = Duration::from_millis(100);
/// A group unanswered for so long is sent again although nobody refused it.
const SILENCE: Duration = Duration::from_secs(2);

/// The answers to the commands one connection submitted together.
#[derive(Clone, Debug)]
pub struct Answers {
    sequence: u64,
    replies: Arc<Vec<Reply>>,
    range: Range<usize>,
    /// How many local subscribers each message of the entry reached.
    receivers: Arc<Vec<i64>>,
    calls: Calls,
}

impl Answers {
    /// The replies, in order. A [`Reply::Receivers`] among them is looked up in [`Answers::receivers`].
    #[must_use]
    pub fn replies(&self) -> &[Reply] {
        &self.replies[self.range.clone()]
    }

    /// The number of the group they were in.
    #[must_use]
    pub const fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Where in the group they begin.
    #[must_use]
    pub const fn place(&self) -> usize {
        self.range.start
    }

    /// What the script that is the command at this place among them has called.
    #[must_use]
    pub fn called(&self, place: usize) -> Option<&Called> {
        let place = self.range.start + place;
        self.calls.iter().find(|(of, _)| *of == place).map(|(_, called)| called)
    }

    /// How many local subscribers each message of the entry reached.
    #[must_use]
    pub fn receivers(&self) -> &[i64] {
        &self.receivers
    }
}

/// Who waits for an answer. An error says whether the commands may have been applied.
pub type AnswerReceiver = oneshot::Receiver<Result<Answers, ClientError>>;

/// The unanswered writes of this node.
pub struct Proposals {
    env: Env,
    identity: Identity,
    boot: u64,
    peers: Peers,
    lead: Arc<Lead>,
    gather_limit: Duration,
    timeout: Duration,
    state: Mutex<State>,
    /// Rung when there is something to send, and when an answer makes room to send it.
    changed: Notify,
}

#[derive(Default)]
struct State {
    /// Full groups that wait to be sealed, and the one being filled.
    full: VecDeque<Draft>,
    open: Draft,
    waiting_bytes: usize,
    sent: VecDeque<Sent>,
    last_sequence: u64,
    gather: Gather,
    /// The sender waits for company and need not be rung before all are here.
    gathering: bool,
    /// The unanswered groups are to be sent again.
    resend: bool,
}

/// Where groups go.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Leader {
    term: u64,
    node: u64,
    address: String,
}

fn leader_of(view: &View) -> Option<Leader> {
    let (node, member) = view.leader_member()?;
    Some(Leader { term: view.term, node, address: member.peer_address.clone() })
}

#[derive(Default)]
struct Draft {
    group: GroupBuilder,
    waiters: Vec<Waiter>,
}

impl Draft {
    /// Answers this one, and is another, which will most likely become as large.
    fn begin_next(&mut self) -> Self {
        let group = GroupBuilder::with_capacity(self.group.len());
        let waiters = Vec::with_capacity(self.waiters.len());
        std::mem::replace(self, Self { group, waiters })
    }
}

struct Waiter {
    range: Range<usize>,
    client: u64,
    since: Duration,
    sender: oneshot::Sender<Result<Answers, ClientError>>,
}

struct Sent {
    sequence: u64,
    group: Bytes,
    waiters: Vec<Waiter>,
    sealed: Duration,
    /// When it was last handed to a leader; `None` if it never left this node.
    at: Option<Duration>,
}

impl Proposals {
    #[must_use]
    pub fn new(peers: Peers, boot: u64, lead: Arc<Lead>, gather_limit: Duration, timeout: Duration) -> Self {
        let (env, identity) = (peers.env().clone(), peers.identity());
        let (state, changed) = (Mutex::default(), Notify::new());
        Self { env, identity, boot, peers, lead, gather_limit, timeout, state, changed }
    }

    /// Proposes what `fill` puts into the group, in order and together with it, behind everything
    /// submitted before.
    ///
    /// # Errors
    /// When too much is waiting already; `fill` is not called then.
    pub fn submit(
        &self,
        contributor: &Contributor,
        fill: impl FnOnce(&mut GroupBuilder),
    ) -> Result<AnswerReceiver, ClientError> {
        let (sender, receiver) = oneshot::channel();
        let since = self.env.clock.monotonic();
        let mut state = self.state.lock().expect("no holder panics");
        if state.waiting_bytes > WAITING_BYTES_MAX {
            return Err(text::OVERLOADED);
        }
        let first = state.open.group.commands() as usize;
        let bytes = state.open.group.len();
        fill(&mut state.open.group);
        let end = state.open.group.commands() as usize;
        state.waiting_bytes += state.open.group.len() - bytes;
        state.open.waiters.push(Waiter { range: first..end, client: contributor.client(), since, sender });
        state.gather.join(contributor);
        if state.open.group.len() >= GROUP_BYTES {
            let full = state.open.begin_next();
            state.full.push_back(full);
        }
        if !state.gathering || state.is_enough() {
            drop(state);
            self.changed.notify_one();
        }
        Ok(receiver)
    }

    /// This node has applied (or skipped, by a snapshot) a group of its own.
    pub fn finished(&self, outcome: &Outcome, receivers: &Arc<Vec<i64>>) {
        let mut state = self.state.lock().expect("no holder panics");
        match outcome {
            Outcome::Answered { sequence, replies, called } => {
                while state.sent.front().is_some_and(|sent| sent.sequence <= *sequence) {
                    let sent = state.sent.pop_front().expect("just seen");
                    state.waiting_bytes = state.waiting_bytes.saturating_sub(sent.group.len());
                    if sent.sequence == *sequence {
                        let took = self.env.clock.monotonic().saturating_sub(sent.sealed);
                        self.peers.metrics().recorded.proposal_seconds.record(took);
                        sent.answer(replies, receivers, called);
                    }
                }
            }
            Outcome::Refused { .. } => state.resend = true,
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Which boot of this node its groups are of.
    #[must_use]
    pub const fn boot(&self) -> u64 {
        self.boot
    }

    /// The client that a command came from, if it still waits for the answer.
    #[must_use]
    pub fn client(&self, author: Author) -> Option<u64> {
        let state = self.state.lock().expect("no holder panics");
        let sent = state.sent.iter().find(|sent| sent.sequence == author.sequence)?;
        sent.waiters.iter().find(|waiter| waiter.range.contains(&author.place)).map(|waiter| waiter.client)
    }

    /// How many commands wait for an answer.
    #[must_use]
    pub fn pending(&self) -> usize {
        let state = self.state.lock().expect("no holder panics");
        let waiters = state.sent.iter().flat_map(|sent| &sent.waiters);
        let drafts = state.full.iter().chain([&state.open]);
        waiters.map(|waiter| waiter.range.len()).sum::<usize>()
            + drafts.map(|draft| draft.group.commands() as usize).sum::<usize>()
    }

    /// Sends groups to whoever leads, for ever.
    pub async fn run(&self, mut view: watch::Receiver<View>) {
        let clock = Arc::clone(&self.env.clock);
        let mut refusals = FuturesUnordered::new();
        let mut leader = None;
        // Deadlines, not pauses: whatever else wakes this loop must not put them off.
        let mut retry_at = None;
        let mut sweep_at = clock.monotonic();
        loop {
            if view.has_changed().unwrap_or(true) || leader.is_none() {
                let now = leader_of(&view.borrow_and_update());
                if now != leader {
                    leader = now;
                    retry_at = None;
                    self.state.lock().expect("no holder panics").resend = true;
                }
            }
            let now = clock.monotonic();
            if now >= sweep_at {
                self.sweep(now);
                sweep_at = now + SWEEP;
            }
            if retry_at.is_some_and(|at| now >= at) {
                retry_at = None;
            }
            if let (Some(leader), None) = (&leader, retry_at) {
                self.gather(&mut view).await;
                for group in self.to_send() {
                    refusals.push(self.send(leader.node, &leader.address, group));
                }
            }
            let next = retry_at.unwrap_or(sweep_at).min(sweep_at);
            let idle = retry_at.is_none() && self.is_idle();
            tokio::select! {
                biased;
                Some(refused) = refusals.next(), if !refusals.is_empty() => {
                    let mut refused = refused;
                    while let Some(Some(another)) = refusals.next().now_or_never() {
                        refused |= another;
                    }
                    if refused {
                        self.state.lock().expect("no holder panics").resend = true;
                        retry_at = Some(clock.monotonic() + RETRY);
                    }
                }
                () = self.changed.notified() => {}
                changed = view.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    // Waiting for it has marked it as seen; the top of the loop looks.
                    view.mark_changed();
                }
                () = clock.sleep(next.saturating_sub(now)), if !idle => {}
            }
        }
    }

    /// Waits for company, if there is room for a group and somebody is expected.
    async fn gather(&self, view: &mut watch::Receiver<View>) {
        {
            let mut state = self.state.lock().expect("no holder panics");
            if !state.can_seal() || state.is_enough() || self.gather_limit.is_zero() {
                return;
            }
            state.gathering = true;
        }
        let enough = || self.state.lock().expect("no holder panics").is_enough();
        tokio::select! {
            biased;
            () = gather::wait(&self.env, self.gather_limit, &self.changed, enough) => {}
            // Seen, and left for the caller to see.
            _ = view.changed() => view.mark_changed(),
        }
        self.state.lock().expect("no holder panics").gathering = false;
    }

    /// The groups to hand to the leader now, in order: all unanswered ones if they are to be sent again, and
    /// new ones as far as there is room.
    fn to_send(&self) -> Vec<Bytes> {
        let now = self.env.clock.monotonic();
        let mut state = self.state.lock().expect("no holder panics");
        let mut groups = Vec::new();
        if std::mem::take(&mut state.resend) {
            for sent in &mut state.sent {
                sent.at = Some(now);
                groups.push(sent.group.clone());
            }
        }
        while state.can_seal() {
            groups.push(self.seal(&mut state, now));
        }
        groups
    }

    fn seal(&self, state: &mut State, now: Duration) -> Bytes {
        let draft = match state.full.pop_front() {
            Some(full) => full,
            None => {
                state.gather.start();
                state.open.begin_next()
            }
        };
        state.last_sequence += 1;
        let sequence = state.last_sequence;
        let answered = state.sent.front().map_or(sequence - 1, |sent| sent.sequence - 1);
        self.peers.metrics().recorded.entry_commands.record(f64::from(draft.group.commands()));
        let group = draft.group.seal(self.identity.node, self.boot, sequence, answered);
        let sent =
            Sent { sequence, group: group.clone(), waiters: draft.waiters, sealed: now, at: Some(now) };
        state.sent.push_back(sent);
        group
    }

    /// Hands a group over; the future says whether it was refused.
    fn send(&self, leader: u64, address: &str, group: Bytes) -> impl Future<Output = bool> + use<> {
        let answer = if leader == self.identity.node {
            Some(self.lead.enqueue(group))
        } else {
            self.peers.metrics().recorded.forwarded_out.increment(1);
            self.peers.post(leader, address, Request::Propose { group }).ok()
        };
        async move {
            match answer {
                Some(answer) => !matches!(answer.await, Ok(Response::Done)),
                None => true,
            }
        }
    }

    fn is_idle(&self) -> bool {
        let state = self.state.lock().expect("no holder panics");
        state.sent.is_empty() && state.full.is_empty() && state.open.group.is_empty()
    }

    /// Gives up on clients that waited too long, and doubts a leader that has been silent.
    fn sweep(&self, now: Duration) {
        let late = |since: Duration| now.saturating_sub(since) > self.timeout;
        let mut state = self.state.lock().expect("no holder panics");
        let state = &mut *state;
        for sent in &mut state.sent {
            // It left this node: it is sent on, and may be applied, whoever still waits for it.
            for waiter in sent.waiters.extract_if(.., |waiter| late(waiter.since)) {
                let definite = planted(Mutant::UnknownAsRefused);
                waiter.fail(if definite { text::NO_LEADER } else { text::UNKNOWN_OUTCOME });
            }
        }
        // What was never sent is dropped whole once its oldest client gives up, so that an error here
        // always means "not applied".
        for draft in state.full.iter_mut().chain([&mut state.open]) {
            if draft.waiters.first().is_some_and(|oldest| late(oldest.since)) {
                let draft = std::mem::take(draft);
                state.waiting_bytes = state.waiting_bytes.saturating_sub(draft.group.len());
                for waiter in draft.waiters {
                    waiter.fail(text::NO_LEADER);
                }
            }
        }
        state.full.retain(|draft| !draft.group.is_empty());
        let silent = state.sent.front().and_then(|sent| sent.at).is_some_and(|at| now - at > SILENCE);
        state.resend |= silent;
    }
}

impl State {
    /// Whether a group may be sealed now.
    fn can_seal(&self) -> bool {
        let next = self.full.front().map_or(self.open.group.len(), |full| full.group.len());
        let waiting = !self.full.is_empty() || !self.open.group.is_empty();
        waiting && (self.sent.is_empty() || self.sent.len() < WINDOW && next >= SECOND_GROUP_BYTES)
    }

    /// Whether a group that may be sealed need not wait for company.
    fn is_enough(&self) -> bool {
        !self.full.is_empty() || self.open.group.len() >= SECOND_GROUP_BYTES || self.gather.is_complete()
    }
}

impl Sent {
    fn answer(mut self, replies: &Arc<Vec<Reply>>, receivers: &Arc<Vec<i64>>, calls: &Calls) {
        if planted(Mutant::CrossedReplies)
            && let [first, .., last] = &mut self.waiters[..]
            && first.range.len() == last.range.len()
        {
            std::mem::swap(&mut first.sender, &mut last.sender);
        }
        for waiter in self.waiters {
            let (replies, receivers) = (Arc::clone(replies), Arc::clone(receivers));
            let calls = Arc::clone(calls);
            // The connection may be gone.
            drop(waiter.sender.send(Ok(Answers {
                sequence: self.sequence,
                replies,
                range: waiter.range,
                receivers,
                calls,
            })));
        }
    }
}

impl Waiter {
    fn fail(self, error: ClientError) {
        drop(self.sender.send(Err(error)));
    }
}
