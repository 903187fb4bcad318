//! What waits to be sent to a client that did not ask for it: messages, invalidations.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};
use tokio::sync::Notify;

use super::limit::{UNLIMITED_BYTES, Unread};
use crate::config::Settings;
use crate::env::Clock;
use crate::metrics::Metrics;
use crate::session::Outbox;

/// A connection's queue. Others push, the connection's task takes.
pub struct Queue {
    frames: Mutex<Frames>,
    /// So that the way of every reply costs no lock while there is nothing.
    waiting: AtomicUsize,
    closed: AtomicBool,
    /// Rung when something was pushed, or the queue was closed.
    changed: Notify,
    clock: Arc<dyn Clock>,
    settings: Arc<Settings>,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Frames {
    queue: VecDeque<Bytes>,
    /// What must not overtake a reply.
    behind: VecDeque<Bytes>,
    /// Of both.
    bytes: usize,
    unread: Unread,
}

impl Queue {
    /// An empty queue, which closes its connection when it holds more than `settings` allow.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, settings: Arc<Settings>, metrics: Arc<Metrics>) -> Self {
        Self {
            frames: Mutex::default(),
            waiting: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            changed: Notify::new(),
            clock,
            settings,
            metrics,
        }
    }

    /// Appends to `out` what may stand before a reply.
    pub fn take(&self, out: &mut BytesMut) {
        if self.waiting.load(Ordering::Acquire) > 0 {
            let mut frames = self.frames.lock().expect("no holder panics");
            let Frames { queue, bytes, .. } = &mut *frames;
            drain(queue, bytes, out);
            self.waiting.store(frames.behind.len(), Ordering::Release);
        }
    }

    /// Appends all that waits to `out`, which has the replies to all that was asked for.
    pub fn take_all(&self, out: &mut BytesMut) {
        if self.waiting.load(Ordering::Acquire) > 0 {
            let mut frames = self.frames.lock().expect("no holder panics");
            let Frames { queue, behind, bytes, unread } = &mut *frames;
            drain(queue, bytes, out);
            drain(behind, bytes, out);
            *unread = Unread::default();
            self.waiting.store(0, Ordering::Release);
        }
    }

    /// Whether the connection is to end now.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Waits until something was pushed or the queue was closed.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Waits until the queue is closed.
    pub async fn closed(&self) {
        while !self.is_closed() {
            self.changed.notified().await;
        }
    }

    /// Closes the connection if it has been above its soft limit for too long.
    pub fn look(&self) {
        let mut frames = self.frames.lock().expect("no holder panics");
        let outgrows = self.outgrows(&mut frames);
        drop(frames);
        if outgrows {
            self.drop_client();
        }
    }

    fn outgrows(&self, frames: &mut Frames) -> bool {
        // What is hardly anything costs no look at a clock.
        frames.bytes > UNLIMITED_BYTES
            && frames.unread.outgrows(
                self.settings.output_limits().pubsub,
                frames.bytes,
                self.clock.monotonic(),
            )
    }

    fn drop_client(&self) {
        self.metrics.recorded.pubsub_dropped_clients.increment(1);
        self.close();
    }

    fn add(&self, frame: Bytes, choose: fn(&mut Frames) -> &mut VecDeque<Bytes>) -> bool {
        if self.is_closed() {
            return false;
        }
        let mut frames = self.frames.lock().expect("no holder panics");
        frames.bytes += frame.len();
        if self.outgrows(&mut frames) {
            // Nobody will be sent any of it.
            *frames = Frames::default();
            self.waiting.store(0, Ordering::Release);
            drop(frames);
            self.drop_client();
            return false;
        }
        choose(&mut frames).push_back(frame);
        self.waiting.store(frames.queue.len() + frames.behind.len(), Ordering::Release);
        drop(frames);
        self.changed.notify_one();
        true
    }
}

fn drain(queue: &mut VecDeque<Bytes>, bytes: &mut usize, out: &mut BytesMut) {
    for frame in queue.drain(..) {
        *bytes -= frame.len();
        out.extend_from_slice(&frame);
    }
}

impl Outbox for Queue {
    fn push(&self, frame: Bytes) -> bool {
        self.add(frame, |frames| &mut frames.queue)
    }

    fn push_behind(&self, frame: Bytes) -> bool {
        self.add(frame, |frames| &mut frames.behind)
    }

    fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.wake();
    }

    fn wake(&self) {
        self.changed.notify_one();
    }

    fn queued(&self) -> (usize, usize) {
        let frames = self.frames.lock().expect("no holder panics");
        (frames.queue.len() + frames.behind.len(), frames.bytes)
    }
}
