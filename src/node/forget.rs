//! Members that are taken out of the cluster for good.

use super::Node;
use crate::error::{ClientError, text};
use crate::raft::wire::{Request, Response};

impl Node {
    /// Has the leader take a member out: no quorum counts it any more, and it ends when it hears of that.
    ///
    /// # Errors
    /// When there is no leader, or the change is not known to be made: a leader may be lost in the middle of it. It can be
    /// asked for again.
    pub async fn forget(&self, node: u64) -> Result<(), ClientError> {
        if self.consensus.view().borrow().leader.is_none() {
            return Err(text::NO_LEADER);
        }
        let own = self.consensus.identity().node;
        match self.service.clone().members(own, Request::Forget { node }).await {
            Response::Done => Ok(()),
            other => {
                tracing::warn!(node, ?other, "a node may not have been taken out of the cluster");
                Err(text::UNKNOWN_OUTCOME)
            }
        }
    }
}
