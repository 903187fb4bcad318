//! How a node that has just started learns the cluster's time.
//!
//! A follower asks the leader. A node that is elected before it knows asks the other voters, and stamps nothing
//! until a majority has answered, itself included: if fewer than a majority started again, one of those that
//! answered kept the time; if nobody did, the cluster was down.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use super::applied::AppliedWatch;
use super::clock::ClusterClock;
use crate::env::Env;
use crate::raft::wire::{Request, Response};
use crate::raft::{Consensus, Role, View};

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(1);
/// Between one attempt and the next.
const PAUSE: Duration = Duration::from_millis(20);

/// Asks until the time is known.
pub async fn run(env: Env, consensus: Consensus, clock: Arc<ClusterClock>, applied: Arc<AppliedWatch>) {
    let mut view = consensus.view();
    let mut kept = clock.kept();
    loop {
        let now = view.borrow_and_update().clone();
        tokio::select! {
            known = kept.wait_for(|kept| *kept) => {
                drop(known);
                return;
            }
            changed = view.changed() => if changed.is_err() { return },
            () = ask(&env, &consensus, &clock, &applied, &now) => {}
        }
    }
}

/// Asks once, or waits for a leader to ask.
async fn ask(env: &Env, consensus: &Consensus, clock: &ClusterClock, applied: &AppliedWatch, view: &View) {
    let own = consensus.identity().node;
    match view.leader {
        Some(leader) if leader != own => {
            if let Some(Some(ms)) = ask_node(consensus, view, leader).await {
                return clock.learn(ms);
            }
        }
        _ if view.role == Role::Leader => {
            match ask_voters(consensus, view).await {
                Some(Some(ms)) => return clock.learn(ms),
                // The last entry says most: it has to be known.
                Some(None) => {
                    if let Ok(index) = consensus.read_index().await {
                        applied.index(index).await;
                        return clock.catch_up();
                    }
                }
                None => {}
            }
        }
        _ => return std::future::pending().await,
    }
    env.clock.sleep(PAUSE).await;
}

/// What time the node kept, if it did; `None` when it does not answer.
async fn ask_node(consensus: &Consensus, view: &View, node: u64) -> Option<Option<u64>> {
    let address = &view.members.get(&node)?.peer_address;
    match consensus.peers().ask(node, address, Request::Clock, PATIENCE).await {
        Ok(Response::Clock { kept_ms }) => Some(kept_ms),
        _ => None,
    }
}

/// The latest time that one of a majority kept, if one did; `None` when no majority answers.
async fn ask_voters(consensus: &Consensus, view: &View) -> Option<Option<u64>> {
    let own = consensus.identity().node;
    let others = view.voters.iter().filter(|voter| **voter != own);
    let mut asked = others.map(|voter| ask_node(consensus, view, *voter)).collect::<FuturesUnordered<_>>();
    let (mut answered, mut latest) = (1, None);
    while answered <= view.voters.len() / 2 {
        if let Some(kept_ms) = asked.next().await? {
            answered += 1;
            latest = latest.max(kept_ms);
        }
    }
    Some(latest)
}
