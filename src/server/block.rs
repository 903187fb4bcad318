//! A connection that waits before it goes on: for the end of a pause, or for what its command asked for.
//!
//! Meanwhile it is a connection like any other. What is sent to it unasked reaches it, CLIENT KILL ends it and
//! CLIENT UNBLOCK its wait, and when the client hangs up nobody waits for it any longer.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;

use super::dispatch::{Dispatcher, Item, Sink};
use crate::commands::Patience;
use crate::error::text;
use crate::resp::Reply;
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
                    self.outbox.take_all(out);
                }
                () = sink.gone() => break Waited::Gone,
            }
        };
        self.session.client().resume();
        waited
    }

    /// Keeps a reply back that is made already. So nothing is sent meanwhile but what was answered before; what must
    /// not overtake the reply stays behind it. `false` when the connection is gone.
    pub(super) async fn keep_back(
        &mut self,
        pause: Duration,
        out: &mut BytesMut,
        sink: &mut impl Sink,
    ) -> bool {
        if pause.is_zero() {
            return true;
        }
        if !sink.flush(out).await {
            return false;
        }
        let clock = &self.node.env().clock;
        tokio::select! {
            biased;
            () = clock.sleep(pause) => true,
            () = self.outbox.closed() => false,
            () = sink.gone() => false,
        }
    }

    /// A command that waits until it finds something: see [`crate::commands::Blocking`]. `None` when the client is gone.
    pub(super) async fn wait_for(
        &mut self,
        item: &Item,
        patience: Patience,
        out: &mut BytesMut,
        sink: &mut impl Sink,
    ) -> Option<Reply> {
        let keys = item.resolved.command.spec.keys.of(&item.argv);
        let place = self.node.waiting().join(item.db, keys);
        let clock = Arc::clone(&self.node.env().clock);
        let deadline = patience.timeout.map(|timeout| clock.monotonic().saturating_add(timeout));
        let mut waited = false;
        loop {
            // How long it waited is not how long it took.
            self.began = clock.monotonic();
            let answers = self.propose(|group| group.push_plain(item.db, &item.argv)).await;
            let reply = answers
                .map_or_else(Reply::from, |answers| answers.replies().first().cloned().unwrap_or(Reply::Nil));
            // What came while it waits is not for it if it is no list.
            let not_for_it = waited && reply == Reply::from(text::WRONG_TYPE);
            if reply != patience.empty && !not_for_it {
                if !reply.is_error() {
                    place.served();
                }
                return Some(reply);
            }
            let rung = async {
                let time_up = async {
                    match deadline {
                        Some(deadline) => clock.sleep(deadline.saturating_sub(clock.monotonic())).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    biased;
                    () = place.rung() => true,
                    () = time_up => false,
                }
            };
            match self.wait(Blocked::Command, rung, out, sink).await {
                Waited::Done(true) => waited = true,
                Waited::Done(false) | Waited::Unblocked(Unblock::Timeout) => return Some(Reply::NilArray),
                Waited::Unblocked(Unblock::Error) => return Some(text::UNBLOCKED.into()),
                Waited::Gone => return None,
            }
        }
    }

    /// Waits while CLIENT PAUSE says so. `false` when the connection is gone.
    pub(super) async fn wait_for_pause(
        &mut self,
        writes: bool,
        out: &mut BytesMut,
        sink: &mut impl Sink,
    ) -> bool {
        let node = Arc::clone(&self.node);
        let over = async move { node.pause_over(writes).await };
        let waited = self.wait(Blocked::Pause, over, out, sink).await;
        // The command begins only now.
        self.began = self.node.env().clock.monotonic();
        matches!(waited, Waited::Done(()))
    }
}
