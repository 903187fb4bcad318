//! What the HTTP port is told of a node.

use std::sync::Arc;

use super::http::{Check, HttpSource};
use crate::env::BoxFuture;
use crate::node::{Contributor, Node};
use crate::raft::Role;

/// A node, as its HTTP port sees it.
pub struct Health {
    node: Arc<Node>,
}

impl Health {
    #[must_use]
    pub const fn new(node: Arc<Node>) -> Self {
        Self { node }
    }
}

impl HttpSource for Health {
    fn metrics(&self) -> String {
        self.node.metrics().render(&self.node.snapshot())
    }

    fn live(&self) -> Result<(), String> {
        // A failed disk or consensus ends the process, so whoever answers is alive.
        Ok(())
    }

    fn ready(&self) -> BoxFuture<'_, Vec<Check>> {
        Box::pin(async {
            let view = self.node.view().borrow().clone();
            let leader = view.leader.map(|_| ()).ok_or_else(|| "there is no leader".to_owned());
            let member = if view.role == Role::Learner {
                Err("this node is still catching up".to_owned())
            } else {
                Ok(())
            };
            let barrier = self.node.barrier(&Contributor::default()).await;
            let linearizable = barrier.map(drop).map_err(|error| error.to_string());
            let growth = self.node.refuses_growth().map_or(Ok(()), |error| Err(error.to_string()));
            vec![
                ("leader", leader),
                ("voter", member),
                ("linearizable_read", linearizable),
                ("accepts_growth", growth),
            ]
        })
    }

    fn is_leader(&self) -> bool {
        self.node.view().borrow().role == Role::Leader
    }
}
