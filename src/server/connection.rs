//! One client's connection: bytes in, bytes out.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use std::sync::atomic::Ordering;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

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
    let clock = Arc::clone(&node.env().clock);
    let outbox = Arc::new(Queue::new(clock, Arc::clone(node.settings()), Arc::clone(node.metrics())));
    let registry = Arc::clone(node.registry());
    let now = node.env().clock.monotonic();
    let client = registry.connect(
        accepted.peer,
        accepted.local,
        Arc::clone(&outbox) as Arc<dyn crate::session::Outbox>,
        now,
    );
    let authenticated = node.settings().password().is_none();
    let session = Session::new(client, registry, Arc::clone(node.hub()), authenticated);
    let mut connection = Connection {
        writer: Writer { stream: accepted.stream, outbox: Arc::clone(&outbox), node: Arc::clone(&node) },
        reader: Reader::new(),
        out: BytesMut::new(),
        dispatcher: Dispatcher::new(Arc::clone(&node), session, outbox),
        node,
    };
    connection.run().await;
}

struct Connection {
    node: Arc<Node>,
    writer: Writer,
    reader: Reader,
    out: BytesMut,
    dispatcher: Dispatcher,
}

impl Connection {
    async fn run(&mut self) {
        loop {
            self.writer.outbox.take_all(&mut self.out);
            if !self.out.is_empty() && !self.writer.flush(&mut self.out).await {
                return;
            }
            if self.dispatcher.session.close || self.writer.outbox.is_closed() {
                return;
            }
            if self.out.capacity() > OUTPUT_KEPT {
                self.out = BytesMut::new();
            }
            let idle = self.idle_timeout();
            tokio::select! {
                biased;
                () = self.writer.outbox.changed() => {}
                read = self.writer.stream.read_buf(self.reader.buffer()) => match read {
                    Ok(0) | Err(_) => return,
                    Ok(count) => {
                        let figures = &self.node.metrics().hot;
                        figures.net_input_bytes.fetch_add(count as u64, Ordering::Relaxed);
                        figures.input_waiting.note(self.reader.buffered() as u64);
                        if !self.serve_input().await {
                            return;
                        }
                    }
                },
                () = idle => return,
            }
        }
    }

    /// Serves all whole requests that have come. `false` ends the connection.
    async fn serve_input(&mut self) -> bool {
        loop {
            let (requests, end) = self.take_requests();
            let many = requests.len() > REQUESTS_FAIR;
            let mut more = false;
            if !requests.is_empty() {
                let mut wire = Wire { writer: &mut self.writer, reader: &mut self.reader, more: false };
                if !self.dispatcher.serve(requests.into_iter(), &mut self.out, &mut wire).await {
                    return false;
                }
                more = wire.more;
            }
            self.writer.outbox.take_all(&mut self.out);
            if many {
                tokio::task::yield_now().await;
            }
            match end {
                _ if self.dispatcher.session.close => return true,
                End::Input if !more => return true,
                End::Input | End::Pause => {}
                End::Violation(violation) => {
                    if let Some(error) = violation.reply() {
                        self.node.count_error(&error);
                        encode(&error.into(), self.dispatcher.session.protocol(), &mut self.out);
                    }
                    // What was asked for before is still answered.
                    self.writer.flush(&mut self.out).await;
                    return false;
                }
            }
            if self.out.len() >= OUTPUT_BYTES && !self.writer.flush(&mut self.out).await {
                return false;
            }
        }
    }

    fn take_requests(&mut self) -> (Vec<Vec<Bytes>>, End) {
        let limits = self.limits();
        let mut requests = Vec::new();
        while requests.len() < REQUESTS_MAX {
            match self.reader.next(&limits) {
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
        if self.dispatcher.session.is_authenticated() || settings.password().is_none() {
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

/// Why no more requests were taken.
enum End {
    /// All that came was taken.
    Input,
    /// There may be more.
    Pause,
    Violation(Violation),
}

/// The writing side; gives up when the connection is closed from outside.
struct Writer {
    stream: BoxStream,
    outbox: Arc<Queue>,
    node: Arc<Node>,
}

impl Writer {
    async fn flush(&mut self, out: &mut BytesMut) -> bool {
        let figures = &self.node.metrics().hot;
        figures.output_waiting.note(out.len() as u64);
        figures.net_output_bytes.fetch_add(out.len() as u64, Ordering::Relaxed);
        let mut unread = Unread::default();
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
            tokio::select! {
                biased;
                written = self.stream.write_buf(out) => if !matches!(written, Ok(1..)) {
                    break false;
                },
                () = self.outbox.closed() => break false,
                // Nothing is set up for this while the client reads.
                () = async { clock.sleep(LOOK).await } => self.outbox.look(),
            }
        };
        out.clear();
        written
    }
}

/// Both sides, while requests are served.
struct Wire<'a> {
    writer: &'a mut Writer,
    reader: &'a mut Reader,
    /// Whether something was read meanwhile.
    more: bool,
}

impl Sink for Wire<'_> {
    async fn flush(&mut self, out: &mut BytesMut) -> bool {
        self.writer.flush(out).await
    }

    async fn gone(&mut self) {
        // Beyond this it is not read, and so not known, until the wait is over.
        while self.reader.buffered() < INPUT_WHILE_WAITING {
            match self.writer.stream.read_buf(self.reader.buffer()).await {
                Ok(0) | Err(_) => return,
                Ok(count) => {
                    self.more = true;
                    let figures = &self.writer.node.metrics().hot;
                    figures.net_input_bytes.fetch_add(count as u64, Ordering::Relaxed);
                }
            }
        }
        std::future::pending().await
    }
}
