//! One client's connection: bytes in, bytes out.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWrite as _};

use super::dispatch::{Dispatcher, OUTPUT_BYTES, Sink};
use super::limit::{LOOK, UNLIMITED_BYTES, Unread};
use super::outbox::Queue;
use crate::env::{Accepted, BoxStream};
use crate::node::Node;
use crate::resp::{Limits, Reader, Violation, encode};
use crate::session::Session;

/// Requests taken from one piece of input at a time.
const REQUESTS_MAX: usize = 1_024;
/// After more requests than this in one go, others have their turn: what neither reads nor writes awaits
/// nothing, and a client may send it faster than it is served.
const REQUESTS_FAIR: usize = 64;
/// How much is read of a client whose command waits.
const INPUT_WHILE_WAITING: usize = 64 << 10;
/// Memory that an idle connection keeps for output.
const OUTPUT_KEPT: usize = 64 << 10;

/// Serves a client until either side ends it.
pub async fn serve(node: Arc<Node>, accepted: Accepted) {
    let id = node.registry().next_id();
    Connection::new(node, accepted, Reader::new(), id).run().await;
}

/// Serves a client that came to the address at which the node is a Sentinel.
pub async fn serve_as_sentinel(node: Arc<Node>, accepted: Accepted) {
    let id = node.registry().next_id();
    let mut connection = Connection::new(node, accepted, Reader::new(), id);
    connection.dispatcher.session.ask_sentinel();
    connection.run().await;
}

/// Goes on with a client that has waited for the node to start, and with the request that it waits for.
pub async fn take_over(
    node: Arc<Node>,
    accepted: Accepted,
    reader: Reader,
    waited: Session,
    pending: Option<Vec<Bytes>>,
) {
    node.metrics().hot.connections_accepted.fetch_add(1, Ordering::Relaxed);
    let mut connection = Connection::new(node, accepted, reader, waited.id());
    connection.dispatcher.session.carry_on(waited);
    let Connection { wire, out, dispatcher, .. } = &mut connection;
    wire.more = true;
    if dispatcher.serve(pending.into_iter(), out, wire).await {
        connection.run().await;
    }
}

struct Connection {
    node: Arc<Node>,
    wire: Wire,
    out: BytesMut,
    dispatcher: Dispatcher,
}

impl Connection {
    fn new(node: Arc<Node>, accepted: Accepted, reader: Reader, id: u64) -> Self {
        let clock = Arc::clone(&node.env().clock);
        let outbox = Arc::new(Queue::new(clock, Arc::clone(node.settings()), Arc::clone(node.metrics())));
        let registry = Arc::clone(node.registry());
        let now = node.env().clock.monotonic();
        let push = Arc::clone(&outbox) as Arc<dyn crate::session::Outbox>;
        let client = registry.connect_as(id, accepted.peer, accepted.local, push, now);
        let authenticated = !node.settings().asks_password();
        let session = Session::new(client, registry, Arc::clone(node.hub()), authenticated);
        Self {
            wire: Wire {
                stream: accepted.stream,
                reader,
                outbox: Arc::clone(&outbox),
                node: Arc::clone(&node),
                ahead_bytes_max: 0,
                more: false,
            },
            out: BytesMut::new(),
            dispatcher: Dispatcher::new(Arc::clone(&node), session, outbox),
            node,
        }
    }

    async fn run(&mut self) {
        loop {
            self.wire.outbox.take_all(&mut self.out);
            if !self.out.is_empty() {
                others_first().await;
                if !self.wire.flush(&mut self.out).await {
                    return;
                }
            }
            if self.dispatcher.session.close || self.wire.outbox.is_closed() {
                return;
            }
            if self.wire.more {
                if !self.serve_input().await {
                    return;
                }
                continue;
            }
            if self.out.capacity() > OUTPUT_KEPT {
                self.out = BytesMut::new();
            }
            let idle = self.idle_timeout();
            let Wire { stream, reader, outbox, .. } = &mut self.wire;
            tokio::select! {
                biased;
                () = outbox.changed() => {}
                read = stream.read_buf(reader.buffer()) => {
                    if !self.wire.has_read(read) || !self.serve_input().await {
                        return;
                    }
                }
                () = idle => return,
            }
        }
    }

    /// Serves all whole requests that have come. `false` ends the connection.
    async fn serve_input(&mut self) -> bool {
        loop {
            self.wire.more = false;
            let (requests, end) = self.take_requests();
            let many = requests.len() > REQUESTS_FAIR;
            if !requests.is_empty()
                && !self.dispatcher.serve(requests.into_iter(), &mut self.out, &mut self.wire).await
            {
                return false;
            }
            self.wire.outbox.take_all(&mut self.out);
            if many {
                tokio::task::yield_now().await;
            }
            match end {
                _ if self.dispatcher.session.close => return true,
                End::Input if !self.wire.more => return true,
                End::Input | End::Pause => {}
                End::Violation(violation) => {
                    if let Some(error) = violation.reply() {
                        self.node.count_error(&error);
                        encode(&error.into(), self.dispatcher.session.protocol(), &mut self.out);
                    }
                    // What was asked for before is still answered.
                    self.wire.flush(&mut self.out).await;
                    return false;
                }
            }
            if self.out.len() >= OUTPUT_BYTES && !self.wire.flush(&mut self.out).await {
                return false;
            }
        }
    }

    fn take_requests(&mut self) -> (Vec<Vec<Bytes>>, End) {
        let limits = self.limits();
        self.wire.ahead_bytes_max = limits.request_bytes_max;
        let mut requests = Vec::new();
        while requests.len() < REQUESTS_MAX {
            match self.wire.reader.next(&limits) {
                Ok(Some(argv)) => requests.push(argv),
                Ok(None) => return (requests, End::Input),
                Err(violation) => return (requests, End::Violation(violation)),
            }
            if !self.dispatcher.session.is_authenticated() {
                // How large the next may be depends on this one.
                break;
            }
        }
        (requests, End::Pause)
    }

    fn limits(&self) -> Limits {
        let settings = self.node.settings();
        if self.dispatcher.session.is_authenticated() || !settings.asks_password() {
            let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
            // What MULTI has queued is asked for, too, and not yet answered.
            let queued = self.dispatcher.session.transaction().map_or(0, |queue| queue.memory());
            let query_bytes_max = size(settings.query_bytes_max()).saturating_sub(queued);
            Limits::authenticated(size(settings.argument_bytes_max()), query_bytes_max)
        } else {
            Limits::UNAUTHENTICATED
        }
    }

    /// Ends when the client has been idle too long; never, for subscribers and where there is no limit.
    fn idle_timeout(&self) -> impl Future<Output = ()> + Send + use<> {
        let limit = self.node.settings().idle_timeout();
        let limit = limit.filter(|_| !self.dispatcher.session.subscribes());
        let sleep = limit.map(|limit: Duration| self.node.env().clock.sleep(limit));
        async move {
            match sleep {
                Some(sleep) => sleep.await,
                None => std::future::pending().await,
            }
        }
    }
}

/// Gives all others that are ready their turn. Most often many replies are ready at once, as they waited for one round, and
/// writing one wakes whoever waits for it. Where they are written one behind the other, and nothing else is done between,
/// clients in one process are still awake when the next comes, and need not be woken again for each.
async fn others_first() {
    let mut waited = false;
    poll_fn(|context| {
        if std::mem::replace(&mut waited, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Why no more requests were taken.
enum End {
    /// All that came was taken.
    Input,
    /// There may be more.
    Pause,
    Violation(Violation),
}

/// Both directions. It gives up when the connection is closed from outside.
struct Wire {
    stream: BoxStream,
    reader: Reader,
    outbox: Arc<Queue>,
    node: Arc<Node>,
    /// How much is read of a client that does not read.
    ahead_bytes_max: usize,
    /// Whether something came that nobody has looked at yet.
    more: bool,
}

/// What a client was ready for.
enum Moved {
    Written(io::Result<usize>),
    Read(io::Result<usize>),
}

/// Writes a part of `out`; reads while that has to wait, if `reads`. A client may send all its requests before it reads
/// the first reply: if nobody took them, both sides would wait for ever.
async fn exchange(stream: &mut BoxStream, reader: &mut Reader, out: &mut BytesMut, reads: bool) -> Moved {
    poll_fn(|context| {
        if let Poll::Ready(written) = Pin::new(&mut *stream).poll_write(context, out) {
            out.advance(*written.as_ref().unwrap_or(&0));
            return Poll::Ready(Moved::Written(written));
        }
        if !reads {
            return Poll::Pending;
        }
        pin!(stream.read_buf(reader.buffer())).poll(context).map(Moved::Read)
    })
    .await
}

impl Wire {
    /// Takes note of what was read. `false` at the end of what the client sends.
    fn has_read(&mut self, read: io::Result<usize>) -> bool {
        let Ok(count @ 1..) = read else { return false };
        let figures = &self.node.metrics().hot;
        figures.net_input_bytes.fetch_add(count as u64, Ordering::Relaxed);
        figures.input_waiting.note(self.reader.buffered() as u64);
        self.more = true;
        true
    }
}

impl Sink for Wire {
    async fn flush(&mut self, out: &mut BytesMut) -> bool {
        let figures = &self.node.metrics().hot;
        figures.output_waiting.note(out.len() as u64);
        figures.net_output_bytes.fetch_add(out.len() as u64, Ordering::Relaxed);
        let mut unread = Unread::default();
        let mut sends = true;
        let written = loop {
            if out.is_empty() {
                break true;
            }
            let clock = &self.node.env().clock;
            if out.len() > UNLIMITED_BYTES {
                let limit = self.node.settings().output_limits().normal;
                if unread.outgrows(limit, out.len(), clock.monotonic()) {
                    tracing::warn!(bytes = out.len(), "a client is disconnected: its replies are too many");
                    break false;
                }
            }
            let reads = sends && self.reader.buffered() < self.ahead_bytes_max;
            tokio::select! {
                biased;
                moved = exchange(&mut self.stream, &mut self.reader, out, reads) => match moved {
                    Moved::Written(Ok(1..)) => {}
                    Moved::Written(_) => break false,
                    // One that sends nothing more may still read.
                    Moved::Read(read) => sends = self.has_read(read),
                },
                () = self.outbox.closed() => break false,
                // Nothing is set up for this while the client reads.
                () = async { clock.sleep(LOOK).await } => self.outbox.look(),
            }
        };
        out.clear();
        written
    }

    async fn gone(&mut self) {
        // Beyond this it is not read, and so not known, until the wait is over.
        while self.reader.buffered() < INPUT_WHILE_WAITING {
            let read = self.stream.read_buf(self.reader.buffer()).await;
            if !self.has_read(read) {
                return;
            }
        }
        std::future::pending().await
    }
}
