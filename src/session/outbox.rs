//! How a connection is sent what it did not ask for.

use bytes::Bytes;

/// The sending end of a connection. The server implements it: it queues and wakes the connection's
/// task, which alone writes to the socket.
///
/// # Order
///
/// The task moves the queue into its output *before* it appends a command's reply, so that a
/// publisher who also subscribes hears its message before the count, and nothing follows the
/// confirmation of an UNSUBSCRIBE. The exception is a command that subscribes (see
/// [`Session::take_subscribed`](super::Session::take_subscribed)): its confirmation goes first.
///
/// What must not overtake a reply ([`Outbox::push_behind`]) waits apart until all that the connection is being
/// served has been replied to.
pub trait Outbox: Send + Sync {
    /// Queues a frame, without blocking. Says whether it was taken: a connection whose queue is over
    /// its limit is closed instead.
    fn push(&self, frame: Bytes) -> bool;
    /// As [`Outbox::push`], but behind the replies to all that the connection is being served.
    fn push_behind(&self, frame: Bytes) -> bool;
    /// Ends the connection, without waiting for what is queued.
    fn close(&self);
    /// Rings, so that a connection that waits looks at what has changed about it.
    fn wake(&self);
    /// What is queued: frames and bytes.
    fn queued(&self) -> (usize, usize);
}
