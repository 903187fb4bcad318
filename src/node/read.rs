//! The read barrier: what makes a read on any node see every write that was acknowledged before it began.
//!
//! Reads that wait are answered by one question to the leader: "which index have you committed, and are you
//! still the leader?" (ReadIndex). Once this node has applied the log up to that index, its own state serves
//! all of them. A question of a follower carries its last vote, which makes a quorum with the leader's in a cluster of
//! three; in a larger one it joins those of the leader's own reads, so that one round answers everybody.
//!
//! A barrier serves the reads that were waiting when it was asked for, once. One that failed is asked for
//! anew: its index would be too old for the second attempt (etcd served stale reads that way, #20418).

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Notify, oneshot, watch};

use super::applied::{AppliedWatch, Reached};
use super::clock::ClusterClock;
use super::gather::{self, Contributor, Gather};
use crate::env::Env;
use crate::error::{ClientError, text};
use crate::mutants::{Mutant, planted};
use crate::raft::wire::{Request, Response};
use crate::raft::{Consensus, Peers, View};

/// How long the leader may take to answer.
const ANSWER: Duration = Duration::from_secs(1);
/// After a failure, how long until the next attempt.
const RETRY: Duration = Duration::from_millis(20);

/// What a read may rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Barrier {
    /// Everything up to this index was committed before the read began, or concurrently with it.
    pub index: u64,
    /// The cluster's time then.
    pub clock_ms: u64,
}

/// The waiting reads of this node.
pub struct Reads {
    env: Env,
    peers: Peers,
    clock: Arc<ClusterClock>,
    applied: Arc<AppliedWatch>,
    gather_limit: Duration,
    timeout: Duration,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    local: Vec<Waiter>,
    /// Other nodes', which wait for the index only.
    remote: Vec<oneshot::Sender<Response>>,
    gather: Gather,
    gathering: bool,
}

struct Waiter {
    since: Duration,
    sender: oneshot::Sender<Result<Barrier, ClientError>>,
}

impl Reads {
    #[must_use]
    pub fn new(
        peers: Peers,
        clock: Arc<ClusterClock>,
        applied: Arc<AppliedWatch>,
        gather_limit: Duration,
        timeout: Duration,
    ) -> Self {
        let env = peers.env().clone();
        let (state, changed) = (Mutex::default(), Notify::new());
        Self { env, peers, clock, applied, gather_limit, timeout, state, changed }
    }

    /// Waits until this node's state shows everything that was acknowledged before this call.
    ///
    /// # Errors
    /// When no leader confirmed itself in time.
    pub async fn barrier(&self, contributor: &Contributor) -> Result<Barrier, ClientError> {
        if planted(Mutant::ReadWithoutBarrier) {
            let Reached { index, clock_ms } = self.applied.reached();
            return Ok(Barrier { index, clock_ms });
        }
        let (sender, receiver) = oneshot::channel();
        let since = self.env.clock.monotonic();
        let ring = {
            let mut state = self.state.lock().expect("no holder panics");
            state.local.push(Waiter { since, sender });
            state.gather.join(contributor);
            !state.gathering || state.gather.is_complete()
        };
        if ring {
            self.changed.notify_one();
        }
        receiver.await.unwrap_or(Err(text::SHUTTING_DOWN))
    }

    /// Another node asks for the index and the time.
    pub fn ask(&self) -> oneshot::Receiver<Response> {
        let (sender, receiver) = oneshot::channel();
        let ring = {
            let mut state = self.state.lock().expect("no holder panics");
            state.remote.push(sender);
            !state.gathering
        };
        if ring {
            self.changed.notify_one();
        }
        receiver
    }

    /// Asks round after round, for ever.
    pub async fn run(&self, consensus: Consensus, view: watch::Receiver<View>) {
        loop {
            self.changed.notified().await;
            while self.gather().await {
                let (local, remote) = {
                    let mut state = self.state.lock().expect("no holder panics");
                    state.gather.start();
                    (std::mem::take(&mut state.local), std::mem::take(&mut state.remote))
                };
                self.round(&consensus, &view, local, remote).await;
            }
        }
    }

    /// Whether anybody waits; then only after everybody who is expected does.
    async fn gather(&self) -> bool {
        {
            let mut state = self.state.lock().expect("no holder panics");
            if state.local.is_empty() && state.remote.is_empty() {
                return false;
            }
            // Other nodes have gathered already.
            if !state.remote.is_empty() || state.gather.is_complete() || self.gather_limit.is_zero() {
                return true;
            }
            state.gathering = true;
        }
        let complete = || {
            let state = self.state.lock().expect("no holder panics");
            state.gather.is_complete() || !state.remote.is_empty()
        };
        gather::wait(&self.env, self.gather_limit, &self.changed, complete).await;
        self.state.lock().expect("no holder panics").gathering = false;
        true
    }

    async fn round(
        &self,
        consensus: &Consensus,
        view: &watch::Receiver<View>,
        mut local: Vec<Waiter>,
        remote: Vec<oneshot::Sender<Response>>,
    ) {
        let figures = &self.peers.metrics().recorded;
        figures.read_rounds.increment(1);
        figures.round_reads.record((local.len() + remote.len()) as f64);
        let view = view.borrow().clone();
        let began = self.env.clock.monotonic();
        let give_up = local.first().map_or(began, |oldest| oldest.since) + self.timeout;
        let asked = tokio::select! {
            biased;
            asked = self.ask_leader(consensus, &view) => asked,
            // A leader without a quorum would ask it for ever.
            () = self.env.clock.sleep(ANSWER.min(give_up.saturating_sub(began))) => {
                Err("no quorum has answered".into())
            }
        };
        match asked {
            Ok(barrier) => {
                let response = Response::ReadIndex { index: barrier.index, clock_ms: barrier.clock_ms };
                for asker in remote {
                    drop(asker.send(response.clone()));
                }
                tokio::select! {
                    biased;
                    () = self.applied.index(barrier.index) => {}
                    // This node was cut off meanwhile, or has much to catch up with.
                    () = self.env.clock.sleep(give_up.saturating_sub(self.env.clock.monotonic())) => {
                        return self.put_back(local).await;
                    }
                }
                figures.round_seconds.record(self.env.clock.monotonic().saturating_sub(began));
                if planted(Mutant::BarrierReused) {
                    local.append(&mut self.state.lock().expect("no holder panics").local);
                }
                for waiter in local {
                    drop(waiter.sender.send(Ok(barrier)));
                }
            }
            Err(reason) => {
                tracing::debug!(reason, "a read barrier failed");
                figures.read_rounds_failed.increment(1);
                let response = Response::Refused { reason };
                for asker in remote {
                    drop(asker.send(response.clone()));
                }
                self.put_back(local).await;
            }
        }
    }

    /// The leader's index and time. A follower's own remote askers are refused: only a leader may answer.
    async fn ask_leader(&self, consensus: &Consensus, view: &View) -> Result<Barrier, String> {
        let (leader, member) = view.leader_member().ok_or("there is no leader")?;
        if leader == self.peers.identity().node {
            // The time first: a deadline that passes while the quorum answers is then not missed late.
            let clock_ms = self.clock.leader_ms().ok_or("this node has only just become the leader")?;
            let index = consensus.read_index().await.map_err(|refused| refused.to_string())?;
            return Ok(Barrier { index, clock_ms });
        }
        let question = Request::ReadIndex { vote: consensus.last_vote() };
        let asked = self.peers.ask(leader, &member.peer_address, question, ANSWER).await;
        match asked.map_err(|error| error.to_string())? {
            Response::ReadIndex { index, clock_ms } => Ok(Barrier { index, clock_ms }),
            Response::Refused { reason } => Err(reason),
            other => Err(format!("an unexpected answer: {other:?}")),
        }
    }

    /// After a failure: those who can still wait do, for a new attempt.
    async fn put_back(&self, local: Vec<Waiter>) {
        if local.is_empty() {
            return;
        }
        self.env.clock.sleep(RETRY).await;
        let now = self.env.clock.monotonic();
        let (late, patient): (Vec<_>, Vec<_>) =
            local.into_iter().partition(|waiter| now.saturating_sub(waiter.since) > self.timeout);
        for waiter in late {
            drop(waiter.sender.send(Err(text::NO_LEADER)));
        }
        self.state.lock().expect("no holder panics").local.extend(patient);
    }
}
