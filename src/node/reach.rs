//! Which of the other nodes answer.
//!
//! Consensus has no need of this: it counts what a quorum has. But clients that read from followers, or that
//! connect to the nodes they are told of, must not be sent to one that is down; and only the leader would notice
//! that a follower is silent. So every node asks every other from time to time whether it is there. What comes of
//! it is shown (SENTINEL, CLUSTER, INFO) and decides nothing else.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join_all;

use super::Node;
use super::host::{host_and_port, port};
use crate::commands::host::Member;
use crate::env::Env;
use crate::raft::wire::{Request, Response};
use crate::raft::{Consensus, Role, View};

/// Between one round of questions and the next.
const PAUSE: Duration = Duration::from_millis(200);
/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// The nodes that did not answer when they were asked last.
#[derive(Debug, Default)]
pub struct Reach {
    silent: Mutex<BTreeSet<u64>>,
}

impl Reach {
    /// Whether the node answered when it was asked last, or was not asked yet.
    pub fn answers(&self, node: u64) -> bool {
        !self.silent.lock().expect("no holder panics").contains(&node)
    }

    /// Asks until consensus ends; at once when the leader is another, or none: the former may be down.
    pub async fn run(self: Arc<Self>, env: Env, consensus: Consensus) {
        let mut views = consensus.view();
        loop {
            let view = views.borrow_and_update().clone();
            let own = consensus.identity().node;
            let others = view.members.iter().filter(|(node, _)| **node != own);
            let asked = others.map(|(&node, member)| {
                let answer = consensus.peers().ask(node, &member.peer_address, Request::Status, PATIENCE);
                async move { (node, matches!(answer.await, Ok(Response::Member { .. }))) }
            });
            let silent = join_all(asked).await.into_iter().filter(|(_, answered)| !answered);
            let silent = silent.map(|(node, _)| node).collect::<BTreeSet<_>>();
            *self.silent.lock().expect("no holder panics") = silent;
            tokio::select! {
                changed = views.changed() => if changed.is_err() { return },
                () = env.clock.sleep(PAUSE) => {}
            }
        }
    }
}

impl Node {
    /// The nodes of the cluster, as clients are told of them.
    pub(super) fn members(&self, view: &View) -> Vec<Member> {
        let progress = self.consensus.progress();
        let own = self.consensus.identity().node;
        let members = view.members.iter().map(|(&id, member)| {
            let (host, client_port) = host_and_port(&member.client_address);
            // Only the leader hears from all.
            let known = id == own || view.role != Role::Leader || progress.matched.contains_key(&id);
            let matched = progress.matched.get(&id).copied().unwrap_or(0);
            Member {
                id,
                state: match () {
                    () if view.leader == Some(id) => "leader",
                    () if view.voters.contains(&id) => "follower",
                    () => "learner",
                },
                voter: view.voters.contains(&id),
                address: member.peer_address.clone(),
                peer_port: port(&member.peer_address),
                host,
                port: client_port,
                online: known && self.reach.answers(id),
                offset: if id == own { progress.last } else { matched },
            }
        });
        members.collect()
    }
}
