//! What a node believes about its cluster.
//!
//! openraft knows who leads, and keeps to it: one that hears nothing asks the others, before it stands for election,
//! whether they would vote for it (pre-vote, Raft dissertation 9.6), so that a node which is cut off raises no term.
//! It would believe in its last leader for ever. To clients that is a lie, and what they were told to keep in mind
//! grows old. So a leader that has been silent for an election timeout is no leader in the [`View`], and neither
//! is this node when it leads and no quorum answers it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use openraft::ServerState;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::Fatal;
use openraft::metrics::RaftServerMetrics;
use openraft::type_config::async_runtime::Instant;
use tokio::sync::{Notify, watch};

use super::Raft;
use super::types::{Member, Types};
use crate::env::{Env, Exit};

/// How often openraft is asked whether it still runs.
const HEALTH_CHECK: Duration = Duration::from_millis(500);

/// What this node believes about its cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    pub term: u64,
    pub role: Role,
    /// The leader, if one is known and was heard within the longest election timeout.
    pub leader: Option<u64>,
    pub members: BTreeMap<u64, Member>,
    pub voters: BTreeSet<u64>,
    /// A membership change was begun and not finished.
    pub joint: bool,
}

impl View {
    /// The leader's addresses, if it is known.
    #[must_use]
    pub fn leader_member(&self) -> Option<(u64, &Member)> {
        let leader = self.leader?;
        self.members.get(&leader).map(|member| (leader, member))
    }
}

/// What this node is in its cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    #[default]
    Learner,
    Follower,
    Candidate,
    Leader,
    Stopped,
}

impl Role {
    /// The word INFO and logs use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Learner => "learner",
            Self::Follower => "follower",
            Self::Candidate => "candidate",
            Self::Leader => "leader",
            Self::Stopped => "stopped",
        }
    }
}

/// How long ago the leader was heard.
pub(super) struct Heard {
    env: Env,
    node: u64,
    /// How long a leader may be silent.
    patience: Duration,
    leader: Mutex<Leader>,
    /// A leader that was too silent was heard.
    again: Notify,
}

/// Who was the leader when openraft was asked last.
#[derive(Default)]
struct Leader {
    node: Option<u64>,
    /// When it was heard last, or became the leader.
    heard: Duration,
    silent: bool,
}

impl Heard {
    pub(super) fn new(env: &Env, node: u64, patience: Duration) -> Self {
        Self { env: env.clone(), node, patience, leader: Mutex::default(), again: Notify::new() }
    }

    /// An append came from this node.
    pub(super) fn note(&self, from: u64) {
        let now = self.env.clock.monotonic();
        let mut leader = self.leader.lock().expect("no holder panics");
        if leader.node != Some(from) {
            return;
        }
        leader.heard = now;
        if std::mem::take(&mut leader.silent) {
            self.again.notify_one();
        }
    }

    /// For how long openraft's leader may yet be silent; `None` when it has been for too long. `answered` is how long
    /// ago a quorum answered this node, if it leads.
    fn patience_left(&self, of: Option<u64>, answered: Option<Duration>) -> Option<Duration> {
        let now = self.env.clock.monotonic();
        let mut leader = self.leader.lock().expect("no holder panics");
        if leader.node != of {
            *leader = Leader { node: of, heard: now, silent: false };
        }
        if let (true, Some(ago)) = (of == Some(self.node), answered) {
            leader.heard = leader.heard.max(now.saturating_sub(ago));
        }
        let left = self.patience.checked_sub(now.saturating_sub(leader.heard)).filter(|left| !left.is_zero());
        leader.silent = left.is_none() && of.is_some();
        left
    }
}

/// Follows openraft's state and publishes what changed of the [`View`]. When openraft stops on an error, the
/// process ends: its clients must go elsewhere.
///
/// It has a watch of everything, too, but that one wakes at every turn of its loop.
pub(super) async fn publish(env: Env, raft: Raft, heard: Arc<Heard>, sender: watch::Sender<View>) {
    let mut state = raft.server_metrics();
    let mut everything = raft.metrics();
    loop {
        let mut view = view_of(&state.borrow_watched());
        let answered = match view.voters.len() {
            // Nobody has to answer.
            0 | 1 => Some(Duration::ZERO),
            _ => everything.borrow_watched().last_quorum_acked.map(|at| at.elapsed()),
        };
        let left = heard.patience_left(view.leader, answered);
        let leads = view.leader == Some(heard.node);
        if left.is_none() {
            view.leader = None;
        }
        sender.send_if_modified(|current| {
            let changed = *current != view;
            *current = view;
            changed
        });
        let ended = tokio::select! {
            changed = state.changed() => changed.is_err(),
            () = heard.again.notified() => false,
            changed = everything.changed(), if leads && left.is_none() => changed.is_err(),
            () = env.clock.sleep(left.unwrap_or(HEALTH_CHECK).min(HEALTH_CHECK)) => false,
        };
        let running = everything.borrow_watched().running_state.clone();
        match running {
            Ok(()) if !ended => {}
            Ok(()) | Err(Fatal::Stopped) => return,
            Err(error) => {
                tracing::error!(%error, "consensus has stopped");
                env.spawner.exit(Exit::RaftFailed)
            }
        }
    }
}

/// What openraft says now, be its leader silent or not.
pub(super) fn of(raft: &Raft) -> View {
    view_of(&raft.server_metrics().borrow_watched())
}

fn view_of(state: &RaftServerMetrics<Types>) -> View {
    let membership = state.membership_config.membership();
    View {
        term: state.vote.leader_id.term,
        role: match state.state {
            ServerState::Learner => Role::Learner,
            ServerState::Follower => Role::Follower,
            ServerState::Candidate => Role::Candidate,
            ServerState::Leader => Role::Leader,
            ServerState::Shutdown => Role::Stopped,
        },
        leader: state.current_leader,
        members: membership.nodes().map(|(node, member)| (*node, member.clone())).collect(),
        voters: membership.voter_ids().collect(),
        joint: membership.get_joint_config().len() > 1,
    }
}
