//! Hashes of this node's state, by which nodes are compared.

use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::{Contributor, Node};
use crate::commands::Hashed;
use crate::error::{Result, StoreError};
use crate::resp::Reply;

impl Node {
    /// DEBUG DIGEST: a hash of the state, with everything in it that was acknowledged before this call.
    ///
    /// # Errors
    /// When no leader confirmed itself in time, or the state cannot be read.
    pub async fn digest(&self, contributor: &Contributor, what: Hashed) -> Result<Reply> {
        self.barrier(contributor).await?;
        let pinned = self.store.pin()?;
        let result = Arc::new(Mutex::new(None));
        let to = Arc::clone(&result);
        // All of the state is read: not on a thread that serves others.
        let work = move || {
            let hash = match what {
                Hashed::Data => pinned.data_hash(),
                Hashed::Everything => pinned.hash(),
            };
            *to.lock().expect("no holder panics") = Some(hash);
        };
        self.env.spawner.blocking(Box::new(work)).await;
        let hash = result.lock().expect("no holder panics").take();
        let hash = hash.expect("it is not cancelled while it is waited for")?;
        Ok(Reply::StatusText(Bytes::from(format!("{hash:040x}"))))
    }

    /// How far this node has applied the log, and a hash of its state there: the same on all nodes. Reads the
    /// whole state; says nothing while entries are being applied.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn state_hash(&self) -> Result<(u64, u64), StoreError> {
        Ok((self.applied.reached().index, self.store.state_hash()?))
    }
}
