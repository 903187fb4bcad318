//! Whether this node still leads, asked of as few others as make a quorum with it.
//!
//! Whoever leads later has the votes of a quorum, and any two quorums share a member. So nobody led, when this was asked, if
//! each member of a quorum says afterwards that the last vote it gave was for this leader (ReadIndex, Raft dissertation 6.4).
//! openraft would ask all voters, by heartbeats, which are answered once all that a follower has appended is on its disk.
//! Here a follower looks up its vote, and answers at once.
//!
//! openraft's lease has to hold as well, so a clock alone, or a vote alone, that goes wrong makes no read stale. When it does
//! not hold, or a quorum is silent, heartbeats are what is left.

use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use openraft::ReadPolicy;

use super::types::{Member, Vote};
use super::wire::{Request, Response};
use super::{Consensus, log_store};

/// How long those who answered last may take this time, until the others are asked, too.
const HEDGE: Duration = Duration::from_millis(3);
/// How long all may take together after that.
const PATIENCE: Duration = Duration::from_millis(250);

/// Who confirmed this node last: they are asked first.
#[derive(Default)]
pub(super) struct Confirmed(Mutex<Vec<u64>>);

/// Whether this last vote was for `leader`, which may not have known yet that it had a quorum's.
pub(super) fn confirms(last: Option<Vote>, leader: &Vote) -> bool {
    last.is_some_and(|last| last.leader_id == leader.leader_id)
}

/// What a leader knows before anybody is asked.
pub(super) struct Leased {
    /// Up to where a read must see everything.
    pub index: u64,
    /// What it leads by.
    pub vote: Vote,
}

impl Consensus {
    /// The last vote that this node gave, for itself or another, as soon as anybody may hear of it.
    #[must_use]
    pub fn last_vote(&self) -> Option<Vote> {
        log_store::last_vote(&self.wal)
    }

    /// What [`Consensus::read_index`] would say of reads that had begun on `node` before the last vote that it gave was
    /// `vote`: in a cluster of three, that is a quorum's word already. `None` where it is not.
    pub async fn read_index_of(&self, node: u64, vote: &Vote) -> Option<u64> {
        let leased = self.leased().await?;
        let (needed, others) = self.quorum()?;
        let is_quorum = needed == 1 && others.iter().any(|(other, _)| *other == node);
        (is_quorum && confirms(Some(*vote), &leased.vote)).then_some(leased.index)
    }

    /// `None` when this node does not lead, or has not heard from a quorum for longer than the lease.
    pub(super) async fn leased(&self) -> Option<Leased> {
        // The vote first: if this node is elected again meanwhile, nobody confirms the one before.
        let vote = self.last_vote()?;
        let linearizer = self.raft.get_read_linearizer(ReadPolicy::LeaseRead).await.ok()?;
        Some(Leased { index: linearizer.read_log_id().index(), vote })
    }

    /// Whether this node has voted for nobody since it voted for this leader.
    pub(super) fn confirms(&self, leader: &Vote) -> bool {
        confirms(self.last_vote(), leader)
    }

    /// Whether a quorum has voted for nobody since `vote`, which was this node's last.
    pub(super) async fn is_confirmed(&self, vote: Vote) -> bool {
        let Some((needed, others)) = self.quorum() else { return false };
        let ask = |(node, member): (u64, Member)| {
            let answer = self.peers.post(node, &member.peer_address, Request::Confirm { vote });
            async move {
                let Ok(answer) = answer else { return (node, false) };
                (node, answer.await == Ok(Response::Done))
            }
        };
        let mut others = others.into_iter();
        let mut asked = others.by_ref().take(needed).map(ask).collect::<FuturesUnordered<_>>();
        let mut confirmed = Vec::with_capacity(needed);
        let clock = &self.peers.env().clock;
        let mut late = pin!(clock.sleep(HEDGE));
        let mut all_asked = false;
        while confirmed.len() < needed {
            tokio::select! {
                biased;
                answer = asked.next() => match answer {
                    Some((node, true)) => confirmed.push(node),
                    Some((_, false)) => asked.extend(others.next().map(ask)),
                    None => return false,
                },
                () = &mut late => {
                    if all_asked {
                        return false;
                    }
                    all_asked = true;
                    asked.extend(others.by_ref().map(ask));
                    late.set(clock.sleep(PATIENCE));
                }
            }
        }
        *self.confirmed.0.lock().unwrap_or_else(PoisonError::into_inner) = confirmed;
        true
    }

    /// How many others make a quorum with this node, and who they are, those first that confirmed it last. `None` while the
    /// membership changes, or when this node does not count.
    fn quorum(&self) -> Option<(usize, Vec<(u64, Member)>)> {
        let view = super::view::of(&self.raft);
        let own = self.identity().node;
        if view.joint || !view.voters.contains(&own) {
            return None;
        }
        let needed = view.voters.len() / 2;
        let is_other = |node: &u64| *node != own && view.voters.contains(node);
        let mut others = view.members.into_iter().filter(|(node, _)| is_other(node)).collect::<Vec<_>>();
        let first = self.confirmed.0.lock().unwrap_or_else(PoisonError::into_inner);
        others.sort_by_key(|(node, _)| !first.contains(node));
        Some((needed, others))
    }
}
