//! How far this node has applied the log, for those who wait for it.

use tokio::sync::watch;

/// A place this node's state has reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reached {
    pub index: u64,
    /// The cluster's clock there.
    pub clock_ms: u64,
}

/// Publishes [`Reached`]. openraft has such a watch too, but it wakes at every turn of its loop.
pub struct AppliedWatch(watch::Sender<Reached>);

impl AppliedWatch {
    /// A node that starts here.
    #[must_use]
    pub fn new(reached: Reached) -> Self {
        Self(watch::Sender::new(reached))
    }

    /// Where it is now.
    #[must_use]
    pub fn reached(&self) -> Reached {
        *self.0.borrow()
    }

    /// An entry was applied. `clock_ms` is 0 if it did not touch the state.
    pub fn advance(&self, index: u64, clock_ms: u64) {
        self.0.send_modify(|reached| {
            reached.index = reached.index.max(index);
            reached.clock_ms = reached.clock_ms.max(clock_ms);
        });
    }

    /// Waits until the entry at `index` is applied.
    pub async fn index(&self, index: u64) {
        self.until(|reached| reached.index >= index).await;
    }

    /// Waits until the state's clock shows `clock_ms`.
    pub async fn clock(&self, clock_ms: u64) {
        self.until(|reached| reached.clock_ms >= clock_ms).await;
    }

    async fn until(&self, there: impl Fn(&Reached) -> bool) {
        if there(&self.0.borrow()) {
            return;
        }
        // The sender is `self`, so it cannot have gone.
        drop(self.0.subscribe().wait_for(|reached| there(reached)).await);
    }
}
