//! How a node stays a member of its cluster, and how it learns that it is none any more.
//!
//! A node that starts tells the cluster where it is, and asks to be made a voter if it is not. One that hears of no leader
//! asks as well: it may have been taken out (CLUSTER FORGET) while it was down, or cut off, and then nobody says a word
//! to it ever again. The leader's answer ends it: a node that is no member would only look like one.

use std::path::PathBuf;
use std::time::Duration;

use super::bootstrap;
use super::identity::IdentityFile;
use crate::env::{Env, Exit};
use crate::raft::wire::{Request, Response};
use crate::raft::{Consensus, Member, Role, View, ask_stranger};

/// How long a cluster may take to admit a node; catching up is in it.
const ADMIT: Duration = Duration::from_secs(60);
/// Between two questions.
const RETRY: Duration = Duration::from_millis(200);
/// How long there is no leader before a member asks whether it is one: longer than most elections.
const SILENCE: Duration = Duration::from_secs(2);

/// A node's place in its cluster.
pub struct Belonging {
    pub env: Env,
    pub dir: PathBuf,
    pub identity: IdentityFile,
    /// All nodes it was started with.
    pub peers: Vec<String>,
    /// Where it is.
    pub member: Member,
    pub consensus: Consensus,
}

impl Belonging {
    /// Forms the cluster, if this node is to; then keeps this node a voter whose addresses all know, until consensus ends,
    /// or the process because the cluster has taken it out.
    pub async fn keep(mut self) {
        bootstrap::form(&self.env, &self.dir, &mut self.identity, &self.consensus).await;
        let others: Vec<_> =
            self.peers.iter().filter(|peer| **peer != self.member.peer_address).cloned().collect();
        let mut others = others.iter().cycle();
        let mut view = self.consensus.view();
        loop {
            let now = view.borrow_and_update().clone();
            let node = self.identity.node;
            let is_known = now.voters.contains(&node) && now.members.get(&node) == Some(&self.member);
            if is_known {
                self.note_admission();
                let is_well = now.leader.is_some() && self.identity.admitted;
                let admission = async {
                    if self.identity.admitted {
                        std::future::pending::<()>().await;
                    }
                    self.consensus.settled().await;
                };
                let silence = async {
                    if is_well {
                        std::future::pending::<()>().await;
                    }
                    self.env.clock.sleep(SILENCE).await;
                };
                tokio::select! {
                    changed = view.changed() => if changed.is_err() { return },
                    () = admission => {}
                    () = silence => if now.leader.is_none() { self.ask(&now, others.next()).await },
                }
                continue;
            }
            self.ask(&now, others.next()).await;
            tokio::select! {
                changed = view.changed() => if changed.is_err() { return },
                () = self.env.clock.sleep(RETRY) => {}
            }
        }
    }

    /// Writes down that this node is a voter, once nobody can say that it never was.
    fn note_admission(&mut self) {
        if self.identity.admitted || !self.consensus.is_settled() {
            return;
        }
        self.identity.admitted = true;
        if let Err(error) = self.identity.save(&*self.env.disk, &self.dir) {
            // The cluster may then take this node back after it has taken it out. No promise rests on it.
            tracing::warn!(%error, "the data directory does not say yet that this node is a voter");
        }
    }

    /// Asks the cluster, through this node, to have this node for a voter at its addresses.
    async fn ask(&self, now: &View, peer: Option<&String>) {
        let (node, member) = (self.identity.node, self.member.clone());
        if now.role == Role::Leader {
            if let Err(error) = self.consensus.admit(node, member).await {
                tracing::debug!(%error, "the others do not know this node's addresses yet");
            }
            return;
        }
        let Some(peer) = peer else { return };
        let request = match self.identity.admitted {
            true => Request::Return { node, member },
            false => Request::Admit { node, member },
        };
        match ask_stranger(&self.env, peer, &request, ADMIT).await {
            Ok(Response::Done) => tracing::info!("this node is a voter, and all know its addresses"),
            Ok(Response::Forgotten) => {
                tracing::error!(
                    node,
                    dir = %self.dir.display(),
                    "this node was taken out of its cluster (CLUSTER FORGET): without its data directory it can join anew"
                );
                self.env.spawner.exit(Exit::Forgotten)
            }
            other => tracing::debug!(peer, ?other, "not a voter yet"),
        }
    }
}
