//! How far a start has come, for the clients who wait for it.

use std::sync::{Mutex, MutexGuard};

use crate::error::ClientError;

/// A node's start.
#[derive(Default)]
pub struct Progress(Mutex<Phase>);

#[derive(Default)]
enum Phase {
    /// It looks for the other nodes.
    #[default]
    Looking,
    /// These are not there yet.
    Waiting(String),
    /// It is part of a cluster, and reads what it has on its disk.
    Loading,
}

impl Progress {
    /// These nodes are not there yet; none: the others are about to form the cluster.
    pub(super) fn wait_for(&self, names: &str) {
        *self.lock() = Phase::Waiting(names.to_owned());
    }

    /// The node is part of a cluster.
    pub(super) fn load(&self) {
        *self.lock() = Phase::Loading;
    }

    /// The peer addresses of the nodes that are waited for, separated by commas.
    #[must_use]
    pub fn waiting_for(&self) -> String {
        match &*self.lock() {
            Phase::Waiting(names) => names.clone(),
            Phase::Looking | Phase::Loading => String::new(),
        }
    }

    /// Why a command cannot be served.
    #[must_use]
    pub fn error(&self) -> ClientError {
        let waits = match &*self.lock() {
            Phase::Loading => return ClientError::fixed("LOADING Redis is loading the dataset in memory"),
            Phase::Waiting(names) if !names.is_empty() => format!(", it waits for {names}"),
            Phase::Looking | Phase::Waiting(_) => String::new(),
        };
        ClientError::new(format!(
            "CLUSTERDOWN The node is not part of a cluster yet{waits}; the command was not applied"
        ))
    }

    fn lock(&self) -> MutexGuard<'_, Phase> {
        self.0.lock().expect("no holder panics")
    }
}
