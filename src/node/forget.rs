//! Members that are taken out of the cluster for good.

use super::Node;
use crate::error::ClientError;
use crate::raft::wire::{Request, Response};

impl Node {
    /// Has the leader take a member out: no quorum counts it any more, and it ends when it hears of that.
    ///
    /// # Errors
    /// When there is no leader, or the change is not known to be made: it can be asked for again.
    pub async fn forget(&self, node: u64) -> Result<(), ClientError> {
        let own = self.consensus.identity().node;
        match self.service.clone().members(own, Request::Forget { node }).await {
            Response::Done => Ok(()),
            Response::Refused { reason } => Err(ClientError::new(format!("ERR {reason}"))),
            other => Err(ClientError::new(format!("ERR the leader answered {other:?}"))),
        }
    }
}
