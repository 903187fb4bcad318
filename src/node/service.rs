//! What this node answers other nodes, besides consensus itself.

use std::sync::Arc;
use std::time::Duration;

use crate::env::BoxFuture;
use crate::machine::entry;
use crate::mutants::{Mutant, planted};
use crate::raft::wire::{Request, Response};
use crate::raft::{self, Consensus, Role, Service};

use super::clock::ClusterClock;
use super::lead::Lead;
use super::read::Reads;
use super::room::Room;

/// How long a question is waited for that is handed on to the leader.
const HANDED_ON: Duration = Duration::from_secs(60);

/// A member's answers. Cheap to clone.
#[derive(Clone)]
pub struct Member {
    pub consensus: Consensus,
    pub lead: Arc<Lead>,
    pub reads: Arc<Reads>,
    pub clock: Arc<ClusterClock>,
    pub room: Arc<Room>,
}

impl Member {
    fn leads(&self) -> bool {
        self.consensus.view().borrow().role == Role::Leader
    }

    /// The leader's answer, when this node is asked for something that only the leader can do.
    async fn hand_on(&self, request: Request) -> Response {
        let view = self.consensus.view().borrow().clone();
        let Some((leader, member)) = view.leader_member() else {
            return refused("there is no leader");
        };
        if leader == self.consensus.identity().node {
            return refused("not the leader any more");
        }
        let asked = self.consensus.peers().ask(leader, &member.peer_address, request, HANDED_ON).await;
        asked.unwrap_or_else(|error| refused(&error.to_string()))
    }

    /// A number for a new node, be it where another was.
    async fn number_for(&self, new: &raft::Member) -> Result<u64, raft::Refused> {
        let members = self.consensus.view().borrow().members.clone();
        let former = members.into_iter().find(|(_, member)| member.peer_address == new.peer_address);
        match former {
            Some((number, _)) if planted(Mutant::NumberReused) => Ok(number),
            _ => self.consensus.mint_node_id().await,
        }
    }

    /// The members that the leader takes in, takes back, and takes out. The question comes from a stranger, from this
    /// node itself, or from a member that handed it on.
    pub async fn members(self, from: u64, request: Request) -> Response {
        if !self.leads() {
            let is_handed_on = from != 0 && from != self.consensus.identity().node;
            return if is_handed_on { refused("not the leader") } else { self.hand_on(request).await };
        }
        let done = |changed: Result<(), raft::Refused>| match changed {
            Ok(()) => Response::Done,
            Err(error) => refused(&error.to_string()),
        };
        match request {
            Request::Join { member } => match self.number_for(&member).await {
                Ok(node) => Response::Joined { cluster: self.consensus.identity().cluster, node },
                Err(error) => refused(&error.to_string()),
            },
            Request::Admit { node, member } => done(self.consensus.admit(node, member).await),
            Request::Return { node, member } => {
                // Only a leader that is one yet knows who was taken out.
                if let Err(error) = self.consensus.read_index().await {
                    return refused(&error.to_string());
                }
                let is_member = self.consensus.view().borrow().members.contains_key(&node);
                if is_member { done(self.consensus.admit(node, member).await) } else { Response::Forgotten }
            }
            Request::Forget { node } => {
                tracing::info!(node, "taking a node out of the cluster");
                done(self.consensus.remove(node).await)
            }
            _ => refused("not a question for a leader"),
        }
    }
}

fn refused(reason: &str) -> Response {
    Response::Refused { reason: reason.into() }
}

fn ready(response: Response) -> BoxFuture<'static, Response> {
    Box::pin(std::future::ready(response))
}

impl Service for Member {
    fn answer(&self, from: u64, request: Request) -> BoxFuture<'static, Response> {
        let identity = self.consensus.identity();
        match request {
            Request::Propose { group } => {
                let own = entry::group_header(&group).is_ok_and(|header| header.node == from);
                if !own || !self.leads() {
                    return ready(refused("not the leader"));
                }
                self.consensus.peers().metrics().recorded.forwarded_in.increment(1);
                let answer = self.lead.enqueue(group);
                Box::pin(async move { answer.await.unwrap_or_else(|_| refused("too much is waiting")) })
            }
            Request::ReadIndex { vote } if self.leads() => {
                let member = self.clone();
                Box::pin(async move {
                    // The time first, as for this node's own reads.
                    if let (Some(vote), Some(clock_ms)) = (vote, member.clock.leader_ms())
                        && let Some(index) = member.consensus.read_index_of(from, &vote).await
                    {
                        return Response::ReadIndex { index, clock_ms };
                    }
                    member.reads.ask().await.unwrap_or_else(|_| refused("stopping"))
                })
            }
            Request::Tick { .. } if self.leads() => {
                self.lead.tick();
                ready(Response::Done)
            }
            Request::Clock => ready(Response::Clock { kept_ms: self.clock.kept_ms() }),
            Request::DiskLow => {
                self.room.hear(from);
                ready(Response::Done)
            }
            Request::Join { .. }
            | Request::Admit { .. }
            | Request::Return { .. }
            | Request::Forget { .. } => Box::pin(self.clone().members(from, request)),
            Request::Status => ready(Response::Member { cluster: identity.cluster, node: identity.node }),
            Request::Form { cluster, node } if (cluster, node) == (identity.cluster, identity.node) => {
                ready(Response::Done)
            }
            Request::Form { .. } => ready(refused("this node belongs to another cluster")),
            _ => ready(refused("not the leader")),
        }
    }
}
