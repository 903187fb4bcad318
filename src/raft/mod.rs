//! Consensus. The only module that names openraft.
//!
//! Reading order: [`types`] (what openraft is parameterised with, and our bytes for it), [`log`] (the
//! write-ahead log, which knows nothing of openraft), `log_store` and `state_machine` (the two storage
//! traits), [`wire`] and `link` (what nodes say to each other), `network` and `serve` (its two ends),
//! `snapshot`; and here [`Consensus`], which is all that the node above sees.
//!
//! # What only this module may know
//!
//! openraft answers a proposal in three ways, and the difference is the promise of this project: it was
//! applied; it was *not appended*, so it may be sent elsewhere; or its fate is not known. See [`Fate`].

mod confirm;
mod link;
pub mod log;
mod log_store;
mod network;
mod observed;
mod peers;
mod runtime;
mod serve;
mod snapshot;
mod state_machine;
#[cfg(test)]
mod tests;
mod types;
mod view;
pub mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ClientWriteError, InitializeError, RaftError};
use openraft::impls::ProgressResponder;
use openraft::{ChangeMembers, Config, ReadPolicy, SnapshotPolicy};
use tokio::sync::watch;

pub use log_store::{LogStore, extent};
pub use peers::{Identity, Peers, ask_stranger};
pub use serve::{PeerServer, Service};
pub use state_machine::{Listener, StateMachine};
pub use types::Member;
pub use view::{Role, View};

use crate::env::observer::{Place, Sight};
use crate::env::{Env, TaskHandle};
use crate::mutants::{Mutant, planted};
use log::Wal;
use runtime::Runtime;
use types::{Body, Types};

type Raft = openraft::Raft<Types, StateMachine>;

/// How many log entries of ours one append request may carry; bytes are limited by the reader.
const ENTRIES_PER_APPEND: u64 = 1_024;

/// Heartbeats, and how long a leader may be silent before a follower stands for election: a time chosen between
/// the two. In milliseconds.
///
/// openraft counts differently: a follower waits for the leader's lease to end, which is as long as openraft's
/// longest timeout, and then for a timeout of its own.
#[derive(Clone, Copy, Debug)]
pub struct Timers {
    pub heartbeat_ms: u64,
    pub election_min_ms: u64,
    pub election_max_ms: u64,
}

impl Timers {
    const fn lease_ms(self) -> u64 {
        self.election_max_ms / 2
    }
}

/// This node's part in consensus. Cheap to clone.
#[derive(Clone)]
pub struct Consensus {
    raft: Raft,
    peers: Peers,
    wal: Wal,
    view: watch::Receiver<View>,
    heard: Arc<view::Heard>,
    confirmed: Arc<confirm::Confirmed>,
    _watching: Arc<TaskHandle>,
}

/// The log positions of this node, and of its followers while it leads.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    pub last: u64,
    pub committed: u64,
    pub applied: u64,
    pub purged: u64,
    pub snapshot: u64,
    /// The last index known to be on each member's disk; only on the leader.
    pub matched: BTreeMap<u64, u64>,
}

/// What became of a proposal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Committed, and applied here.
    Applied,
    /// Never appended: it can be proposed again, here or elsewhere, without being applied twice.
    NotProposed,
    /// Appended, and then this node lost its leadership: it may have been, or may yet be, applied.
    Unknown,
}

/// Why a membership change was not made.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

impl Consensus {
    /// Starts consensus on what the log and the machine hold.
    ///
    /// # Errors
    /// When the timers contradict each other, or the log and the state do not fit together.
    pub async fn start(
        env: &Env,
        timers: Timers,
        peers: Peers,
        wal: Wal,
        state_machine: StateMachine,
    ) -> Result<Self, Refused> {
        let config = Config {
            cluster_name: "quorate".into(),
            heartbeat_interval: timers.heartbeat_ms,
            heartbeat_min_interval: Some(timers.heartbeat_ms),
            election_timeout_min: timers.election_min_ms.saturating_sub(timers.lease_ms()),
            election_timeout_max: timers.lease_ms(),
            max_payload_entries: ENTRIES_PER_APPEND,
            // When to snapshot and how much log to keep is the node's to decide: the default would write
            // the whole state every 5,000 entries.
            snapshot_policy: SnapshotPolicy::Never,
            max_in_snapshot_log_to_keep: u64::MAX / 2,
            purge_batch_size: 1,
            enable_pre_vote: Some(true),
            quorum_loss_probe_interval: Some(2 * timers.election_max_ms),
            // A wiped disk must be noticed, never forgiven.
            allow_log_reversion: Some(false),
            // By default a leader that restarts leads on, in the same term. But followers may have entries of
            // that term which its own disk never got, and it would give their indexes to other entries.
            enable_leader_restore: Some(false),
            install_snapshot_timeout: 600_000,
            ..Config::default()
        };
        let config = config.validate().map_err(|error| Refused(error.to_string()))?;
        let network = network::Network { peers: peers.clone() };
        let node = peers.identity().node;
        let applied = state_machine.position();
        env.saw(|| Sight::Opened {
            node,
            log: log_store::extent(&wal.state()),
            applied: applied.map(|position| Place { term: position.term, index: position.index }),
        });
        let log_store = LogStore { env: env.clone(), wal: wal.clone() };
        let starting = Raft::new(node, Arc::new(config), network, log_store, state_machine);
        let raft = seeded(env, starting).await.map_err(|error| Refused(error.to_string()))?;

        let (sender, view) = watch::channel(View::default());
        let patience = Duration::from_millis(timers.election_max_ms);
        let heard = Arc::new(view::Heard::new(env, node, patience));
        let publishing = view::publish(env.clone(), raft.clone(), Arc::clone(&heard), sender);
        let watching = env.spawner.spawn(Box::pin(publishing));
        let confirmed = Arc::default();
        Ok(Self { raft, peers, wal, view, heard, confirmed, _watching: Arc::new(watching) })
    }

    fn raft(&self) -> &Raft {
        &self.raft
    }

    /// The leader's silence, which its link breaks.
    fn heard(&self) -> &Arc<view::Heard> {
        &self.heard
    }

    /// The connections to other nodes.
    #[must_use]
    pub fn peers(&self) -> &Peers {
        &self.peers
    }

    /// Who this node is.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.peers.identity()
    }

    /// What this node believes about its cluster, and its changes.
    #[must_use]
    pub fn view(&self) -> watch::Receiver<View> {
        self.view.clone()
    }

    /// Log positions, for people. Not for the hot path.
    #[must_use]
    pub fn progress(&self) -> Progress {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let index = |id: &Option<types::LogId>| id.map_or(0, |id| id.index);
        let replication = metrics.replication.iter().flatten();
        Progress {
            last: metrics.last_log_index.unwrap_or(0),
            committed: index(&metrics.local_committed),
            applied: index(&metrics.last_applied),
            purged: index(&metrics.purged),
            snapshot: index(&metrics.snapshot),
            matched: replication.map(|(node, matched)| (*node, index(matched))).collect(),
        }
    }

    /// Proposes an entry. The first future ends when openraft has taken it, in the order of the calls; the
    /// second when its fate is known.
    pub async fn propose(&self, body: Bytes) -> impl Future<Output = Fate> + Send + use<> {
        let (responder, outcome) = ProgressResponder::complete_only();
        let taken = self.raft.client_write_ff(Body(body), Some(responder)).await;
        async move {
            if taken.is_err() {
                return Fate::NotProposed;
            }
            match outcome.await {
                Ok(Ok(_)) => Fate::Applied,
                Ok(Err(ClientWriteError::ForwardToLeader(_))) => Fate::NotProposed,
                Ok(Err(_)) | Err(_) => Fate::Unknown,
            }
        }
    }

    /// Confirms with a quorum that this node leads, and returns the index up to which a linearizable read
    /// that began before this call must see everything (ReadIndex, Raft dissertation 6.4). The answer must
    /// never serve a read that began later, nor a second attempt of one.
    ///
    /// # Errors
    /// When this node does not lead, or a quorum does not answer.
    pub async fn read_index(&self) -> Result<u64, Refused> {
        if planted(Mutant::LeaderUnconfirmed) {
            return Ok(self.progress().committed);
        }
        if let Some(leased) = self.leased().await
            && self.is_confirmed(leased.vote).await
        {
            return Ok(leased.index);
        }
        let linearizer = self.raft.get_read_linearizer(ReadPolicy::ReadIndex).await;
        linearizer
            .map(|linearizer| linearizer.read_log_id().index())
            .map_err(|error| Refused(error.to_string()))
    }

    /// Makes a new cluster of these members. On a node that has a log already this does nothing.
    ///
    /// # Errors
    /// When this node is not one of them.
    pub async fn initialize(&self, members: BTreeMap<u64, Member>) -> Result<(), Refused> {
        match self.raft.initialize(members).await {
            Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
            Err(error) => Err(Refused(error.to_string())),
        }
    }

    /// A number that no node of this cluster has or ever had: the index of an entry committed for it, beyond
    /// the numbers that the first nodes gave each other.
    ///
    /// # Errors
    /// When this node does not lead, or lost its leadership meanwhile.
    pub async fn mint_node_id(&self) -> Result<u64, Refused> {
        let highest = self.view.borrow().members.keys().max().copied();
        loop {
            let written = self.raft.write_blank().await.map_err(|error| Refused(error.to_string()))?;
            if Some(written.log_id.index) > highest {
                return Ok(written.log_id.index);
            }
        }
    }

    /// Catches `node` up as a learner, then makes it a voter in place of whoever was at its address before: one
    /// that lost its disk comes back under a new number, and the old one would count in every quorum for ever.
    /// A voter whose clients reach it at another address than before is told of to all.
    /// Does nothing more than is still to be done, so it can be called again after a failure.
    ///
    /// # Errors
    /// When this node does not lead, or another change is under way.
    pub async fn admit(&self, node: u64, member: Member) -> Result<(), Refused> {
        let refused = |error: RaftError<Types, ClientWriteError<Types>>| Refused(error.to_string());
        let view = self.view.borrow().clone();
        if view.voters.contains(&node) {
            let known = view.members.get(&node);
            if known == Some(&member) {
                return Ok(());
            }
            // Two nodes that went by one number at two addresses could vote twice.
            if known.is_some_and(|known| known.peer_address != member.peer_address) {
                return Err(Refused(format!("node {node} is at another peer address")));
            }
            let change = ChangeMembers::SetNodes(BTreeMap::from([(node, member)]));
            self.raft.change_membership(change, false).await.map_err(refused)?;
            return Ok(());
        }
        let former = view
            .members
            .iter()
            .filter(|(id, former)| **id != node && former.peer_address == member.peer_address);
        let (voters, learners) = former.map(|(id, _)| *id).partition(|id| view.voters.contains(id));
        if !view.members.contains_key(&node) {
            self.raft.add_learner(node, member, true).await.map_err(refused)?;
        }
        let change = ChangeMembers::Batch(vec![
            ChangeMembers::AddVoterIds(BTreeSet::from([node])),
            ChangeMembers::RemoveVoters(voters),
            ChangeMembers::RemoveNodes(learners),
        ]);
        self.raft.change_membership(change, false).await.map_err(refused)?;
        Ok(())
    }

    /// Takes a member out for good: no quorum counts it any more.
    ///
    /// # Errors
    /// When this node does not lead, or another change is under way.
    pub async fn remove(&self, node: u64) -> Result<(), Refused> {
        let only = BTreeSet::from([node]);
        let change = match self.view.borrow().voters.contains(&node) {
            true => ChangeMembers::RemoveVoters(only),
            false => ChangeMembers::RemoveNodes(only),
        };
        let changed = self.raft.change_membership(change, false).await;
        changed.map(drop).map_err(|error| Refused(error.to_string()))
    }

    /// Whether this node is a voter by a membership that it has applied, and which therefore nobody takes back but by
    /// another.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let membership = &metrics.membership_config;
        let is_applied = membership.log_id().as_ref() <= metrics.last_applied.as_ref();
        is_applied && membership.voter_ids().any(|voter| voter == self.identity().node)
    }

    /// Waits until this node is settled, as long as it takes.
    pub async fn settled(&self) {
        let mut metrics = self.raft.metrics();
        while !self.is_settled() {
            if metrics.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Finishes a membership change that an earlier leader left half done.
    ///
    /// # Errors
    /// When this node does not lead, or another change is under way.
    pub async fn finish_change(&self) -> Result<(), Refused> {
        let nothing = ChangeMembers::AddVoterIds(BTreeSet::new());
        let changed = self.raft.change_membership(nothing, false).await;
        changed.map(drop).map_err(|error| Refused(error.to_string()))
    }

    /// Asks `to` to take over. Proposals and reads are refused from then on, and there is no way back but
    /// an election.
    ///
    /// # Errors
    /// When consensus has stopped.
    pub async fn transfer_leader(&self, to: u64) -> Result<(), Refused> {
        self.raft.trigger().transfer_leader(to).await.map_err(|error| Refused(error.to_string()))
    }

    /// Makes a checkpoint and records it as the snapshot that the log may be purged up to.
    ///
    /// # Errors
    /// When consensus has stopped.
    pub async fn snapshot(&self) -> Result<(), Refused> {
        self.raft.trigger().snapshot().await.map_err(|error| Refused(error.to_string()))
    }

    /// Lets the log go up to `index`, as far as the snapshot and the followers allow.
    ///
    /// # Errors
    /// When consensus has stopped.
    pub async fn purge_log(&self, index: u64) -> Result<(), Refused> {
        self.raft.trigger().purge_log(index).await.map_err(|error| Refused(error.to_string()))
    }

    /// Ends consensus on this node.
    pub async fn stop(&self) {
        // The only failure is that its task had ended already.
        drop(self.raft.shutdown().await);
    }
}

/// Runs something in which openraft may start tasks or draw lots, from a seed of this node's.
async fn seeded<F: Future>(env: &Env, future: F) -> F::Output {
    Runtime::scope(env.rng.next_u64(), future).await
}
