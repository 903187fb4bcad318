//! What the HTTP port is told of a node.

use std::sync::{Arc, OnceLock};

use super::http::{Check, HttpSource};
use crate::env::BoxFuture;
use crate::node::{Contributor, Node};
use crate::raft::Role;

/// A node, as its HTTP port sees it: also before it is part of a cluster.
#[derive(Default)]
pub struct Health {
    node: OnceLock<Arc<Node>>,
}

impl Health {
    /// The node is part of its cluster.
    pub fn started(&self, node: Arc<Node>) {
        // Told once.
        drop(self.node.set(node));
    }
}

impl HttpSource for Health {
    fn metrics(&self) -> String {
        self.node.get().map(|node| node.metrics().render(&node.snapshot())).unwrap_or_default()
    }

    fn live(&self) -> Result<(), String> {
        // A failed disk or consensus ends the process, so whoever answers is alive.
        Ok(())
    }

    fn ready(&self) -> BoxFuture<'_, Vec<Check>> {
        Box::pin(async {
            match self.node.get() {
                Some(node) => check(node).await,
                None => vec![("member", Err("waiting for the cluster to form".to_owned()))],
            }
        })
    }

    fn is_leader(&self) -> bool {
        self.node.get().is_some_and(|node| node.view().borrow().role == Role::Leader)
    }
}

async fn check(node: &Node) -> Vec<Check> {
    let view = node.view().borrow().clone();
    let leader = view.leader.map(|_| ()).ok_or_else(|| "there is no leader".to_owned());
    let voter = match view.role {
        Role::Learner => Err("this node is still catching up".to_owned()),
        _ => Ok(()),
    };
    let barrier = node.barrier(&Contributor::default()).await;
    let growth = node.shortage().map_or(Ok(()), |shortage| Err(shortage.error().to_string()));
    vec![
        ("leader", leader),
        ("voter", voter),
        ("linearizable_read", barrier.map(drop).map_err(|error| error.to_string())),
        ("accepts_growth", growth),
    ]
}
