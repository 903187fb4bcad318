//! A connection that waits before it goes on: for the end of a pause, or for what its command asked for.
//!
//! Meanwhile it is a connection like any other. What is sent to it unasked reaches it, CLIENT KILL ends it and
//! CLIENT UNBLOCK its wait, and when the client hangs up nobody waits for it any longer.

use bytes::BytesMut;

use super::dispatch::{Dispatcher, Sink};
use crate::session::{Blocked, Unblock};

/// How a wait ended.
pub enum Waited<T> {
    Done(T),
    /// By CLIENT UNBLOCK.
    Unblocked(Unblock),
    /// With the connection.
    Gone,
}

impl Dispatcher {
    /// Waits for `done`. What was answered before is written first.
    pub(super) async fn wait<T>(
        &mut self,
        blocked: Blocked,
        done: impl Future<Output = T>,
        out: &mut BytesMut,
        sink: &mut impl Sink,
    ) -> Waited<T> {
        tokio::pin!(done);
        self.session.client().block(blocked);
        let waited = loop {
            if !out.is_empty() && !sink.flush(out).await {
                break Waited::Gone;
            }
            tokio::select! {
                biased;
                value = &mut done => break Waited::Done(value),
                () = self.outbox.changed() => {
                    if self.outbox.is_closed() {
                        break Waited::Gone;
                    }
                    if let Some(how) = self.session.client().unblocked() {
                        break Waited::Unblocked(how);
                    }
                    self.outbox.take(out);
                }
                () = sink.gone() => break Waited::Gone,
            }
        };
        self.session.client().resume();
        waited
    }

    /// Waits while CLIENT PAUSE says so. `false` when the connection is gone.
    pub(super) async fn wait_for_pause(
        &mut self,
        writes: bool,
        out: &mut BytesMut,
        sink: &mut impl Sink,
    ) -> bool {
        let node = std::sync::Arc::clone(&self.node);
        let over = async move { node.pause_over(writes).await };
        let waited = self.wait(Blocked::Pause, over, out, sink).await;
        // The command begins only now.
        self.began = self.node.env().clock.monotonic();
        matches!(waited, Waited::Done(()))
    }
}
